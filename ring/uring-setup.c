/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Setting up the io_uring engine: the ladder, the probes, the registrations.
 *
 * What a kernel offers is found out by asking for it or by trying it, never by
 * its version: distributions take features back, sandboxes take them away.  A
 * ring is asked for with the best flags first and with weaker ones below; a
 * feature with neither a flag nor a probe bit is tried on a small ring that is
 * thrown away.  Every later step that fails only clears what depends on it.
 *
 * The ring is made disabled, so that the thread which makes it (with the
 * privileges of start-up) need not be the one that runs it; the owner enables
 * it in its first turn and registers what belongs to a thread.
 *
 * Threads: create, pin and, before the first turn, adopt and forget from the
 * making thread; begin, adopt and forget from the owner; destroy from either,
 * when the owner makes no more turns.
 */
#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "ring/refusal.h"
#include "ring/uring.h"

#define MIB ((size_t)1024 * 1024)
#define PIN_GRAIN (2 * MIB)
#define PIN_MAX (1024 * MIB) /* the kernel's limit of one buffer */
#define ENTRIES_MIN 32u
#define COMPLETIONS_MIN 4096u
#define SLOTS_MAX 16384u
#define PAUSE_NANOSECONDS 1000000

/* For memory that is given back late. */
#define PATIENCE 40
#define PATIENCE_MILLISECONDS 10

struct rung {
	unsigned flags;
	const char *name;
};

static const struct rung ladder[] = {
	{ IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_TASKRUN_FLAG |
		  IORING_SETUP_SUBMIT_ALL,
	  "SINGLE_ISSUER|DEFER_TASKRUN|TASKRUN_FLAG|SUBMIT_ALL|CQSIZE" },
	{ IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG | IORING_SETUP_SUBMIT_ALL,
	  "COOP_TASKRUN|TASKRUN_FLAG|SUBMIT_ALL|CQSIZE" },
	{ 0, "CQSIZE" },
};

/* Without these there is no data path; all are there since Linux 5.19. */
static const uint8_t needed_operations[] = {
	IORING_OP_READV,       IORING_OP_WRITEV,   IORING_OP_FSYNC,   IORING_OP_READ_FIXED,
	IORING_OP_WRITE_FIXED, IORING_OP_POLL_ADD, IORING_OP_SENDMSG, IORING_OP_RECVMSG,
	IORING_OP_TIMEOUT,     IORING_OP_ACCEPT,   IORING_OP_CONNECT, IORING_OP_ASYNC_CANCEL,
	IORING_OP_FALLOCATE,   IORING_OP_READ,     IORING_OP_WRITE,   IORING_OP_SEND,
	IORING_OP_RECV,
};

#define NEEDED_FEATURES                                                           \
	(IORING_FEAT_NODROP | IORING_FEAT_SUBMIT_STABLE | IORING_FEAT_FAST_POLL | \
	 IORING_FEAT_CQE_SKIP)

_Noreturn void nr_uring_fatal(const char *what, int code)
{
	(void)fprintf(stderr, "nbdring: %s failed: %s; cannot go on\n", what, strerror(-code));
	abort();
}

/* ---- the ladder -------------------------------------------------------- */

static int try_size(struct nr_engine *e, unsigned flags, unsigned entries, unsigned completions)
{
	struct io_uring_params params = {
		.flags = flags | IORING_SETUP_R_DISABLED | IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP,
		.cq_entries = completions,
	};

	return io_uring_queue_init_params(entries, &e->uring, &params);
}

/*
 * Some kernels charge a ring's own memory to RLIMIT_MEMLOCK: then a smaller one
 * has to do.  What a ring or a process that just ended was charged for comes
 * back with a delay, so a quick restart may meet a limit that is no more.
 */
static int try_rung(struct nr_engine *e, unsigned flags, unsigned entries)
{
	unsigned completions = entries * 2 < COMPLETIONS_MIN ? COMPLETIONS_MIN : entries * 2;
	int result = try_size(e, flags, entries, completions);

	for (int i = 0; result == -ENOMEM && i < PATIENCE; i++) {
		if (i > 0)
			(void)poll(NULL, 0, PATIENCE_MILLISECONDS);
		for (unsigned n = entries; result == -ENOMEM && n >= ENTRIES_MIN; n /= 2)
			result = try_size(e, flags, n, n * 4);
	}
	return result;
}

static int climb(struct nr_engine *e, unsigned entries, const struct rung **rung)
{
	int result = -EINVAL;

	for (size_t i = 0; i < sizeof(ladder) / sizeof(ladder[0]) && result == -EINVAL; i++) {
		*rung = &ladder[i];
		result = try_rung(e, ladder[i].flags, entries);
	}
	return result;
}

/* ---- probes ------------------------------------------------------------ */

static int probe_operations(struct nr_engine *e, struct nr_ring_report *report)
{
	struct io_uring_probe *probe = io_uring_get_probe_ring(&e->uring);

	if (!probe)
		return -EINVAL;
	for (size_t i = 0; i < sizeof(needed_operations); i++) {
		if (!io_uring_opcode_supported(probe, needed_operations[i])) {
			io_uring_free_probe(probe);
			return -EINVAL;
		}
	}
	e->fixed_vectors = io_uring_opcode_supported(probe, NR_OP_READV_FIXED) &&
			   io_uring_opcode_supported(probe, NR_OP_WRITEV_FIXED);
	/*
	 * Block devices take commands since the release that also brought the
	 * feature bit below.  Where a device refuses all the same, the operation
	 * says -EOPNOTSUPP, which callers meet anyhow: few devices can discard.
	 */
	report->discard = io_uring_opcode_supported(probe, IORING_OP_URING_CMD) &&
			  e->uring.features & NR_FEAT_MIN_TIMEOUT;
	io_uring_free_probe(probe);
	return 0;
}

/* Runs the one entry that was prepared on RING; its result. */
static int run_one(struct io_uring *ring)
{
	struct io_uring_cqe *cqe;
	int result = io_uring_submit_and_wait(ring, 1);

	if (result < 0)
		return result;
	result = io_uring_peek_cqe(ring, &cqe);
	if (result < 0)
		return result;
	result = cqe->res;
	io_uring_cqe_seen(ring, cqe);
	return result;
}

static bool try_send_vectorized(struct io_uring *ring, const int pair[2])
{
	struct iovec parts[2] = {
		{ .iov_base = (char[]){ 'a' }, .iov_len = 1 },
		{ .iov_base = (char[]){ 'b' }, .iov_len = 1 },
	};
	struct io_uring_sqe *sqe = io_uring_get_sqe(ring);
	char got[2];

	if (!sqe)
		return false;
	io_uring_prep_send(sqe, pair[0], parts, 2, MSG_WAITALL | MSG_NOSIGNAL);
	sqe->ioprio = NR_SEND_VECTORIZED;
	if (run_one(ring) < 1)
		return false;
	return recv(pair[1], got, sizeof(got), MSG_DONTWAIT) == 2 && got[0] == 'a' && got[1] == 'b';
}

/*
 * Does a socket close when it is forgotten, though another fixed file is in
 * use?  Kernels before 6.13 let go of fixed files in order: one receive that
 * waits on an idle connection would keep every connection that ended later.
 * There, fixed files are not worth it.
 */
static bool try_fixed_files(struct io_uring *ring, const int busy[2], int brief[2])
{
	struct io_uring_sqe *sqe;
	int table[2] = { busy[0], brief[0] };
	int none = -1;
	char byte;

	if (io_uring_register_files_sparse(ring, 2) < 0 ||
	    io_uring_register_files_update(ring, 0, table, 2) != 2)
		return false;
	sqe = io_uring_get_sqe(ring);
	if (!sqe)
		return false;
	io_uring_prep_recv(sqe, 0, &byte, 1, 0);
	sqe->flags |= IOSQE_FIXED_FILE;
	if (io_uring_submit(ring) != 1)
		return false;
	if (io_uring_register_files_update(ring, 1, &none, 1) != 1)
		return false;
	(void)close(brief[0]);
	brief[0] = -1;
	return recv(brief[1], &byte, 1, MSG_DONTWAIT) == 0;
}

static void close_pair(const int pair[2])
{
	for (int i = 0; i < 2; i++)
		if (pair[i] >= 0)
			(void)close(pair[i]);
}

/* Enabling by the plain call: liburing 2.3 declares a function but does not export it. */
static int enable(struct io_uring *ring)
{
	return io_uring_register((unsigned)ring->ring_fd, IORING_REGISTER_ENABLE_RINGS, NULL, 0);
}

static int try_nop(struct io_uring *ring)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(ring);

	if (!sqe)
		return -EINVAL;
	io_uring_prep_nop(sqe);
	return run_one(ring);
}

/*
 * On a small ring with the FLAGS of the real one: whether rings can be used at
 * all here (a filter may let them be made and then forbid the rest; the owner's
 * first turn would be too late to find out), and what has no probe bit.
 */
static int rehearse(struct nr_engine *e, unsigned flags, bool *fixed_files)
{
	int busy[2] = { -1, -1 }, brief[2] = { -1, -1 };
	struct io_uring_params params = { .flags = flags | IORING_SETUP_R_DISABLED };
	struct io_uring ring;
	int result = io_uring_queue_init_params(4, &ring, &params);

	if (result < 0)
		return result;
	result = enable(&ring);
	if (result == 0)
		result = try_nop(&ring);
	if (result == 0 && socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, busy) == 0 &&
	    socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, brief) == 0) {
		e->send_vectorized = try_send_vectorized(&ring, busy);
		*fixed_files = try_fixed_files(&ring, busy, brief);
	}
	io_uring_queue_exit(&ring);
	close_pair(busy);
	close_pair(brief);
	return result;
}

/* ---- fixed files ------------------------------------------------------- */

static bool make_table(struct nr_engine *e)
{
	struct rlimit limit;
	unsigned table = SLOTS_MAX;

	if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < table)
		table = (unsigned)limit.rlim_cur;
	if (table == 0 || io_uring_register_files_sparse(&e->uring, table) < 0)
		return false;
	e->slots.table = table;
	return true;
}

/* Makes of_fd long enough for FD. */
static bool reach(struct nr_slots *slots, unsigned fd)
{
	unsigned fds = slots->fds ? slots->fds : 64;
	uint16_t *of_fd;

	if (fd < slots->fds)
		return true;
	while (fds <= fd)
		fds *= 2;
	of_fd = realloc(slots->of_fd, fds * sizeof(*of_fd));
	if (!of_fd)
		return false;
	for (unsigned i = slots->fds; i < fds; i++)
		of_fd[i] = NR_NO_SLOT;
	slots->of_fd = of_fd;
	slots->fds = fds;
	return true;
}

static bool put_free(struct nr_slots *slots, uint16_t slot)
{
	if (slots->free_count == slots->free_size) {
		unsigned size = slots->free_size ? slots->free_size * 2 : 64;
		uint16_t *grown = realloc(slots->free, size * sizeof(*grown));

		/* The slot is lost to the table, nothing else. */
		if (!grown)
			return false;
		slots->free = grown;
		slots->free_size = size;
	}
	slots->free[slots->free_count++] = slot;
	return true;
}

static uint16_t take_slot(struct nr_slots *slots)
{
	if (slots->free_count > 0)
		return slots->free[--slots->free_count];
	if (slots->unused < slots->table)
		return (uint16_t)slots->unused++;
	return NR_NO_SLOT;
}

void nr_uring_adopt(struct nr_engine *e, int fd)
{
	struct nr_slots *slots = &e->slots;
	uint16_t slot;

	assert(fd >= 0);
	if (slots->table == 0 || !reach(slots, (unsigned)fd))
		return;
	/* Twice is no harm: the slot is made to hold what FD is now. */
	slot = slots->of_fd[fd];
	if (slot == NR_NO_SLOT)
		slot = take_slot(slots);
	if (slot == NR_NO_SLOT)
		return;
	slots->of_fd[fd] = NR_NO_SLOT;
	if (io_uring_register_files_update(&e->uring, slot, &fd, 1) == 1)
		slots->of_fd[fd] = slot;
	else
		(void)put_free(slots, slot);
}

void nr_uring_forget(struct nr_engine *e, int fd)
{
	struct nr_slots *slots = &e->slots;
	int none = -1;
	uint16_t slot;

	assert(fd >= 0);
	if ((unsigned)fd >= slots->fds || slots->of_fd[fd] == NR_NO_SLOT)
		return;
	slot = slots->of_fd[fd];
	slots->of_fd[fd] = NR_NO_SLOT;
	if (io_uring_register_files_update(&e->uring, slot, &none, 1) == 1)
		(void)put_free(slots, slot);
}

/* ---- the arena --------------------------------------------------------- */

size_t nr_uring_pin(struct nr_engine *e, void *memory, size_t bytes)
{
	size_t wanted = bytes;
	int result = -ENOMEM;

	if (bytes > PIN_MAX)
		bytes = PIN_MAX;
	for (; bytes >= PIN_GRAIN; bytes = bytes / 2 / PIN_GRAIN * PIN_GRAIN) {
		struct iovec range = { .iov_base = memory, .iov_len = bytes };

		result = io_uring_register_buffers(&e->uring, &range, 1);
		if (result != -ENOMEM)
			break;
	}
	if (result < 0)
		bytes = 0;
	/* A refused attempt leaves pages behind that it had brought in. */
	if (bytes < wanted)
		(void)madvise((char *)memory + bytes, wanted - bytes, MADV_DONTNEED);
	e->pinned_base = (uintptr_t)memory;
	e->pinned_bytes = bytes;
	return bytes;
}

/* ---- making and ending ------------------------------------------------- */

/* liburing may have made the queue without the index array, or with it. */
static void fill_index(struct nr_engine *e)
{
	struct io_uring_sq *sq = &e->uring.sq;

	if (e->uring.flags & NR_SETUP_NO_SQARRAY || !sq->array)
		return;
	for (unsigned i = 0; i < sq->ring_entries; i++)
		sq->array[i] = i;
}

static int examine(struct nr_engine *e, unsigned flags, struct nr_ring_report *report)
{
	bool fixed_files = false;
	int result;

	if ((e->uring.features & NEEDED_FEATURES) != NEEDED_FEATURES)
		return -EINVAL;
	result = rehearse(e, flags, &fixed_files);
	if (result < 0)
		return result;
	result = probe_operations(e, report);
	if (result < 0)
		return result;
	if (e->uring.features & NR_FEAT_NO_IOWAIT)
		e->enter_flags |= NR_ENTER_NO_IOWAIT;
	report->fixed_files = fixed_files && make_table(e);
	report->restricted = nr_uring_restrict(e, report->discard);
	return 0;
}

static int set_up(struct nr_engine *e, unsigned entries, struct nr_ring_report *report)
{
	const struct rung *rung = NULL;
	int result = climb(e, entries, &rung);

	if (result < 0)
		return result;
	fill_index(e);
	e->enter_fd = e->uring.ring_fd;
	report->flags = rung->name;
	result = examine(e, rung->flags, report);
	if (result < 0)
		io_uring_queue_exit(&e->uring);
	return result;
}

int nr_uring_create(struct nr_engine **engine, struct nr_ring *ring,
		    const struct nr_ring_options *options, struct nr_ring_report *report,
		    struct nr_error *error)
{
	struct nr_engine *e = calloc(1, sizeof(*e));
	int result;

	if (!e)
		return nr_error_set(error, -ENOMEM, "not enough memory for a ring");
	e->ring = ring;
	e->pause.tv_nsec = PAUSE_NANOSECONDS;
	e->spin_ns = options->spin_ns;
	/* Not EFD_NONBLOCK: the ring's read would end with EAGAIN and not wait. */
	e->wake_fd = eventfd(0, EFD_CLOEXEC);
	if (e->wake_fd < 0) {
		result = nr_error_system(error, -errno, "cannot make an eventfd for a ring");
		free(e);
		return result;
	}
	result = set_up(e, options->entries, report);
	if (result < 0) {
		result = nr_refusal(error, result);
		(void)close(e->wake_fd);
		free(e);
		return result;
	}
	nr_uring_share_init(&e->share);
	report->share_unix = nr_uring_share_unix();
	*engine = e;
	return 0;
}

/*
 * Calls that block are made by kernel threads of the ring, which come and go as
 * they are needed.  A disk that stalls keeps one for each of its files or requests:
 * there have to be some left for the other disks of this worker.
 */
static void bound_workers(struct nr_engine *e)
{
	/* For files; for everything else. */
	unsigned workers[2] = { 64, 16 };

	(void)io_uring_register_iowq_max_workers(&e->uring, workers);
}

void nr_uring_begin(struct nr_engine *e)
{
	struct io_uring_rsrc_update self = {
		.offset = UINT32_MAX, /* any place */
		.data = (uint64_t)e->uring.ring_fd,
	};
	int result = enable(&e->uring);

	if (result < 0)
		nr_uring_fatal("enabling a ring", result);
	e->owner = (pid_t)syscall(SYS_gettid);
	e->begun = true;
	/*
	 * The registered descriptor belongs to this thread.  liburing is not told:
	 * destroying from another thread must not take a place in that one's table.
	 */
	if (io_uring_register((unsigned)e->uring.ring_fd, IORING_REGISTER_RING_FDS, &self, 1) ==
	    1) {
		e->enter_fd = (int)self.offset;
		e->enter_flags |= IORING_ENTER_REGISTERED_RING;
	}
	bound_workers(e);
	nr_uring_share_begin();
}

void nr_uring_destroy(struct nr_engine *e)
{
	struct io_uring_rsrc_update self = { .offset = (uint32_t)e->enter_fd };

	/*
	 * When the owner is gone, the kernel has cancelled all that it had started,
	 * and nobody else could.
	 */
	if (e->begun && e->owner == (pid_t)syscall(SYS_gettid)) {
		nr_uring_drain(e);
		if (e->enter_flags & IORING_ENTER_REGISTERED_RING)
			(void)io_uring_register((unsigned)e->uring.ring_fd,
						IORING_UNREGISTER_RING_FDS, &self, 1);
	}
	io_uring_queue_exit(&e->uring);
	nr_uring_share_fini(&e->share);
	(void)close(e->wake_fd);
	free(e->slots.of_fd);
	free(e->slots.free);
	free(e);
}
