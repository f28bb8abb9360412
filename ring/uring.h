/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The io_uring engine from inside: what its operation (engine-uring.c), its
 * set-up (uring-setup.c, uring-restrict.c) and sends by reference (uring-share.c) have
 * in common.  Private to the four.
 */
#ifndef RING_URING_H
#define RING_URING_H

#include <liburing.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "ring/engine.h"

/*
 * The kernel interface where it is newer than the oldest headers we build with
 * (Linux 6.0, liburing 2.3).  Whether the running kernel has these is probed.
 */
#define NR_OP_READV_FIXED 60u              /* 6.15 */
#define NR_OP_WRITEV_FIXED 61u             /* 6.15 */
#define NR_ENTER_NO_IOWAIT (1u << 7)       /* 6.15 */
#define NR_FEAT_MIN_TIMEOUT (1u << 15)     /* 6.12 */
#define NR_FEAT_NO_IOWAIT (1u << 17)       /* 6.15 */
#define NR_SETUP_NO_SQARRAY (1u << 16)     /* 6.6 */
#define NR_SEND_VECTORIZED (1u << 5)       /* 6.17; in sqe->ioprio */
#define NR_BLOCK_URING_CMD_DISCARD 0x1200u /* 6.12; _IO(0x12, 0) */

#define NR_NO_SLOT UINT16_MAX

/* Fixed files: which slot of the ring's table stands for which descriptor. */
struct nr_slots {
	uint16_t *of_fd; /* NR_NO_SLOT: not adopted */
	unsigned fds;    /* entries of of_fd */
	unsigned table;  /* slots the kernel's table has; 0: no table */
	unsigned unused; /* slots from here on were never used */
	uint16_t *free;  /* slots that were given back */
	unsigned free_count, free_size;
};

/* Sends of pages by reference (uring-share.c). */
struct nr_share {
	struct nr_completion *queued, **last; /* to be attempted in the next turn, in order */
	struct nr_completion *made;           /* attempted, to be reported in this turn */
	int pipe[2];                          /* empty between two attempts; -1: none yet */
	int sink;                             /* where a pipe is emptied to */
	bool refused;                         /* it cannot be done here: copy */
};

struct nr_engine {
	struct io_uring uring;
	struct nr_ring *ring;

	/* For io_uring_enter: the registered descriptor and what goes with it. */
	int enter_fd;
	unsigned enter_flags;

	unsigned under_way; /* operations whose completion has not come */

	/* nr_ring_hasten: calls since the last handing over, and at how many is the next. */
	unsigned hastened, haste;

	/* The registered part of the arena; 0 bytes: none. */
	uintptr_t pinned_base;
	size_t pinned_bytes;

	struct nr_slots slots;
	struct nr_share share;

	int wake_fd; /* eventfd */
	bool wake_armed;
	uint64_t wake_count; /* what the kernel reads from it; of no interest */

	bool begun; /* the owner made its first turn */
	bool fixed_vectors;
	bool send_vectorized;
	pid_t owner;

	struct __kernel_timespec pause; /* before a file is tried again */

	uint32_t spin_ns;                 /* 0: sleep at once */
	unsigned spin_misses, spin_skips; /* in vain, in a row; sleeps to come without looking */
	struct nr_completion *aside;      /* a receive that the owner tries itself as it looks */
	struct nr_completion *received;   /* that came to something: to be reported in this turn */
};

/* uring-setup.c */
int nr_uring_create(struct nr_engine **engine, struct nr_ring *ring,
		    const struct nr_ring_options *options, struct nr_ring_report *report,
		    struct nr_error *error);
void nr_uring_destroy(struct nr_engine *e);
size_t nr_uring_pin(struct nr_engine *e, void *memory, size_t bytes);
void nr_uring_adopt(struct nr_engine *e, int fd);
void nr_uring_forget(struct nr_engine *e, int fd);

/* What can only be done by the owner: enables the ring. */
void nr_uring_begin(struct nr_engine *e);

/* Ends the process: the kernel broke what was probed, and requests are lost. */
_Noreturn void nr_uring_fatal(const char *what, int code);

/*
 * uring-restrict.c: once enabled, the ring does nothing but what the engine uses.
 * False: the kernel would not have it.
 */
bool nr_uring_restrict(struct nr_engine *e, bool discard);

/* uring-share.c */
void nr_uring_share_init(struct nr_share *share);
/* May Unix sockets be sent pages without waiting for their peers? */
bool nr_uring_share_unix(void);
void nr_uring_share_begin(void); /* the owner's thread */
void nr_uring_share_fini(struct nr_share *share);

/* An attempt on C is to be made in the next turn. */
void nr_uring_share_queue(struct nr_share *share, struct nr_completion *c);

/* No attempt is to be made on those that were queued; how many those are. */
unsigned nr_uring_share_forget(struct nr_share *share);

/* Makes all attempts that are queued: they are in `made` then, with their raw outcomes. */
void nr_uring_share_attempt(struct nr_share *share);

/* engine-uring.c */

/* Cancels everything and waits for it, calling nobody.  Owner only. */
void nr_uring_drain(struct nr_engine *e);

#endif
