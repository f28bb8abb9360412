/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The reactor: one per worker thread, the only way a worker does I/O.
 *
 * The caller owns a struct nr_completion for each operation under way, starts
 * the operation with one of the functions below, and gets `done` called from a
 * later nr_ring_turn, never from inside the start.  The ring allocates nothing
 * per operation and has no opinion about what the operations are for.
 *
 * Handled here, once: EINTR and EAGAIN (started again), short reads, writes
 * and sends (continued), a full submission queue (held back in order).
 *
 * What the kernel offers is behind the engine seam (engine.h).  This header
 * promises nothing that only io_uring can do.
 *
 * Unless a function says otherwise, only the thread that owns the ring (the
 * one that calls nr_ring_turn) may call it.
 */
#ifndef RING_RING_H
#define RING_RING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "nbdring/error.h"

struct nr_arena;
struct nr_completion;
struct nr_deferred;
struct nr_message;
struct nr_pulse;
struct nr_ring;

typedef void nr_completion_fn(struct nr_ring *ring, struct nr_completion *c);
typedef void nr_message_fn(struct nr_ring *ring, struct nr_message *m);
typedef void nr_deferred_fn(struct nr_ring *ring, struct nr_deferred *d);
typedef void nr_pulse_fn(struct nr_ring *ring, struct nr_pulse *pulse);

enum nr_ring_operation {
	NR_RING_IDLE = 0, /* not under way */
	NR_RING_RECV,
	NR_RING_SEND,
	NR_RING_SHARE,
	NR_RING_ACCEPT,
	NR_RING_CONNECT,
	NR_RING_READ,
	NR_RING_WRITE,
	NR_RING_FSYNC,
	NR_RING_FALLOCATE,
	NR_RING_DISCARD,
	NR_RING_POLL,
	NR_RING_TIMEOUT,
};

/*
 * One operation under way.  The caller sets `done` (and finds its own struct
 * with container_of); everything below `result` is the ring's until `done` is
 * called.  Zero it before the first use.
 */
struct nr_completion {
	nr_completion_fn *done;
	int64_t result; /* bytes, a descriptor (accept), poll events, 0; or negative errno */

	struct nr_completion *next; /* held back, or ready */
	uint64_t offset;            /* file position; timeout: nanoseconds */
	uint64_t progress;          /* bytes done so far */
	union {
		struct {
			struct iovec *vector; /* moves on as parts are done; NULL: `single` */
			struct iovec single;
			union {
				struct msghdr header;
				struct {
					const uint8_t *kinds; /* of each entry left */
					/* In the engine's queue, while `next` may be in another. */
					struct nr_completion *behind;
				} share;
			} more;
		} io;
		struct {
			const struct sockaddr *address;
			socklen_t length;
		} connect;
		struct {
			uint64_t length;
			int mode;
		} range;
		struct {
			int64_t seconds, nanoseconds; /* laid out as the kernel's timespec */
		} time;
	} u;
	int fd;
	uint32_t count;    /* iovecs left; poll: events wanted */
	uint32_t rw_flags; /* RWF_… of a read or write */
	uint8_t operation; /* enum nr_ring_operation */
	uint8_t state;     /* private to ring.c */
	uint8_t flags;     /* private to ring.c and the engine: enum nr_attempt_flag */
	uint8_t tries;     /* attempts in a row that met EAGAIN */
};

/* A message to a ring, from any thread.  The sender owns it until `deliver` is called. */
struct nr_message {
	nr_message_fn *deliver;
	struct nr_message *next;
};

/*
 * Something to be done once, before the ring next enters the kernel: what gathers the
 * work of a whole turn into one operation.  Zero it before the first use.
 */
struct nr_deferred {
	nr_deferred_fn *run;
	struct nr_deferred *next;
	bool waiting; /* set from nr_ring_defer until `run` is called */
};

/*
 * Something that is looked after now and then while it has work.  Zero it before the
 * first use, and set `beat`.
 */
struct nr_pulse {
	nr_pulse_fn *beat;
	struct nr_pulse *next, **link;
};

struct nr_ring_options {
	unsigned entries;    /* submission queue, power of two; 0: 256 */
	size_t arena_bytes;  /* memory of the arena, 0: 256 MiB; touched only as it is used */
	size_t pinned_bytes; /* how much of it to register and keep, 0: 32 MiB */
	uint32_t spin_ns;    /* look for so long before sleeping; 0: sleep at once */
	const char *engine;  /* NULL: the product's; "sim": the deterministic one */
};

/* What the set-up ladder came to; for --dump-config and the log. */
struct nr_ring_report {
	const char *engine;      /* "uring" */
	const char *flags;       /* "SINGLE_ISSUER|DEFER_TASKRUN|…" */
	size_t registered_bytes; /* of the arena */
	bool discard;            /* block discard by the ring */
	bool fixed_files;
	bool restricted; /* the kernel refuses what the engine does not use (opening files, …) */
	bool share_unix; /* nr_ring_send_shared never waits for the peer of a Unix socket */
};

/*
 * Make a ring for the calling thread.  *RING is to be given back with
 * nr_ring_destroy.  Errors: -EPERM or -ENOSYS with a sentence that names what
 * forbids io_uring (kernel.io_uring_disabled, a seccomp filter, a kernel
 * without it) and the remedy; -ENOMEM.
 *
 * The thread that calls nr_ring_turn first becomes the owner, with SIGPIPE blocked;
 * creating in one thread and running in another is allowed.
 */
int nr_ring_create(struct nr_ring **ring, const struct nr_ring_options *options,
		   struct nr_error *error);

/*
 * Nothing may be under way any more, no block of the arena in use, and every
 * nr_ring_post have returned.  Should something be under way all the same, it
 * is cancelled and waited for, and its `done` is not called.  The owner, or
 * anybody when the owner's thread has ended.  NULL is allowed.
 */
void nr_ring_destroy(struct nr_ring *ring);

const struct nr_ring_report *nr_ring_report(const struct nr_ring *ring);
struct nr_arena *nr_ring_arena(struct nr_ring *ring);

/* The caller's pointer, for completions that need their worker. */
void nr_ring_set_context(struct nr_ring *ring, void *context);
void *nr_ring_context(const struct nr_ring *ring);

/*
 * Hand everything started so far to the kernel, wait for at least one
 * completion or message (WAIT) or only look (not WAIT), and call `done` and
 * `deliver` for all that is there.  One system call in the usual case, none when
 * there is nothing to hand over and nothing new.  A signal ends the waiting, and
 * so may trouble in the kernel: a turn can come back with nothing done.  Turns
 * do not nest.
 */
void nr_ring_turn(struct nr_ring *ring, bool wait);

/*
 * Let the next nr_ring_turn call D->run before anything else; nothing when D waits
 * already.  What `run` starts goes to the kernel in that same turn.  It is for starting
 * operations: a turn that was told to wait does so after it.
 */
void nr_ring_defer(struct nr_ring *ring, struct nr_deferred *d);

/*
 * From now on call PULSE->beat every NR_PULSE_NS, the first time after that or less; no
 * more after leaving.  One timer of the ring beats for all, so that joining and leaving
 * can be done with every request.  `beat` may leave; it may start and cancel operations.
 */
#define NR_PULSE_NS 500000000u
void nr_ring_pulse_join(struct nr_ring *ring, struct nr_pulse *pulse);
void nr_ring_pulse_leave(struct nr_pulse *pulse);

/* Operations started and not done yet. */
unsigned nr_ring_in_flight(const struct nr_ring *ring);

/*
 * Deliver M on RING's thread in one of its next turns.  Any thread; lock-free,
 * never blocks; messages of one sender arrive in order.
 */
void nr_ring_post(struct nr_ring *ring, struct nr_message *m);

/*
 * Descriptors that stay for long (sockets of connections) may be adopted: the
 * ring then refers to them by a slot of its own where the kernel offers that.
 * An adopted descriptor must be forgotten before it is closed.  Adopting never
 * fails: where it cannot be done the descriptor is simply used as it is.
 */
void nr_ring_adopt(struct nr_ring *ring, int fd);
void nr_ring_forget(struct nr_ring *ring, int fd);

/*
 * Sockets.  recv completes with what has arrived (at least one byte; 0: the
 * peer closed).  send completes with all bytes sent, or an error.  The iovec
 * array of a recv_vec or send_vec must stay until `done` and is changed.
 * At most IOV_MAX (1024) entries.  Sends never raise SIGPIPE.
 */
void nr_ring_recv(struct nr_ring *ring, struct nr_completion *c, int fd, void *data, size_t length);
void nr_ring_recv_vec(struct nr_ring *ring, struct nr_completion *c, int fd, struct iovec *vector,
		      unsigned count);
void nr_ring_send_vec(struct nr_ring *ring, struct nr_completion *c, int fd, struct iovec *vector,
		      unsigned count);

/*
 * A send_vec in which the bytes of some entries are not copied: the peer, or the
 * network card, reads the very pages, and may do so long after `done`.  KINDS has
 * one byte for each entry and must stay until `done`.
 *
 * Worth it from about NR_RING_SHARE_MIN bytes an entry on (over TCP from
 * NR_RING_SHARE_TCP_MIN).  Where the kernel does not let NR_SEND_SHARE be done, it is
 * done as NR_SEND_COPY.  Over a Unix socket the peer can make this thread wait, unless
 * nr_ring_report()->share_unix.
 */
enum nr_send_kind {
	NR_SEND_COPY,
	/*
	 * Memory whose pages are never given to other data, only dropped (munmap,
	 * MADV_DONTNEED).  What is written to them meanwhile, the peer may see.
	 */
	NR_SEND_SHARE,
	/*
	 * iov_base is not an address but the descriptor of a pipe ((void *)(intptr_t)fd)
	 * that holds iov_len bytes; they are taken out of it.
	 */
	NR_SEND_PIPE,
};
#define NR_RING_SHARE_MIN 8192u
#define NR_RING_SHARE_TCP_MIN 32768u
void nr_ring_send_shared(struct nr_ring *ring, struct nr_completion *c, int fd,
			 struct iovec *vector, const uint8_t *kinds, unsigned count);

/* result: the new descriptor, close-on-exec. */
void nr_ring_accept(struct nr_ring *ring, struct nr_completion *c, int fd);

/* ADDRESS must stay until done. */
void nr_ring_connect(struct nr_ring *ring, struct nr_completion *c, int fd,
		     const struct sockaddr *address, socklen_t length);

/*
 * Files.  Short transfers are continued; the result is LENGTH, less when a
 * read met the end of the file, or negative errno.  Data inside the arena's
 * registered part is transferred without being pinned anew.
 */
void nr_ring_read(struct nr_ring *ring, struct nr_completion *c, int fd, void *data, size_t length,
		  uint64_t offset);
void nr_ring_write(struct nr_ring *ring, struct nr_completion *c, int fd, const void *data,
		   size_t length, uint64_t offset);
void nr_ring_read_vec(struct nr_ring *ring, struct nr_completion *c, int fd, struct iovec *vector,
		      unsigned count, uint64_t offset);
void nr_ring_write_vec(struct nr_ring *ring, struct nr_completion *c, int fd, struct iovec *vector,
		       unsigned count, uint64_t offset);

/*
 * Operations are handed over at the end of a turn, all in one go.  For a device that
 * means to do nothing until the last of them is prepared.  Called after each start of an
 * operation that a device could begin with, this hands over what was started so far once
 * that is worth a system call: after a few of them, then after twice as many, and so on
 * in each turn.  What the kernel merges only while it waits together (parts of one
 * stretch) is better not hastened.  `done` is called from a turn, as ever.
 */
void nr_ring_hasten(struct nr_ring *ring);

/*
 * A flag for the next start of a read or write on C, set before it is started
 * and cleared when it is done: RWF_DSYNC, RWF_DONTCACHE, … (preadv2(2)).
 */
void nr_completion_set_rw_flags(struct nr_completion *c, uint32_t rwf);

/*
 * The same for a write that is known to block (a buffered one, on most file systems): it
 * is not tried before it is given to a thread of the kernel, and waits for no other
 * write to get there.
 */
void nr_completion_set_blocking(struct nr_completion *c);

/* fdatasync (DATA_ONLY) or fsync. */
void nr_ring_fsync(struct nr_ring *ring, struct nr_completion *c, int fd, bool data_only);
void nr_ring_fallocate(struct nr_ring *ring, struct nr_completion *c, int fd, int mode,
		       uint64_t offset, uint64_t length);
/* Discard on a block device; only where nr_ring_report()->discard. -EOPNOTSUPP otherwise. */
void nr_ring_discard(struct nr_ring *ring, struct nr_completion *c, int fd, uint64_t offset,
		     uint64_t length);

/* result: the events that came (POLLIN …), once. */
void nr_ring_poll(struct nr_ring *ring, struct nr_completion *c, int fd, unsigned events);

/* result: -ETIME when the time has passed. */
void nr_ring_timeout(struct nr_ring *ring, struct nr_completion *c, uint64_t nanoseconds);

/*
 * Ask for C to end early.  Its `done` is called as ever: with -ECANCELED, or
 * with its own result when that was faster.  Does nothing when C is not under
 * way.
 */
void nr_ring_cancel(struct nr_ring *ring, struct nr_completion *c);

/* Is C under way? */
bool nr_completion_busy(const struct nr_completion *c);

/* Monotonic time of this ring in nanoseconds (the simulated one in "sim"). */
uint64_t nr_ring_now(struct nr_ring *ring);

#endif
