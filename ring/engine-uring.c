/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The engine on io_uring: the data path.
 *
 * Starting an operation writes one submission entry and nothing else.  A turn
 * makes one io_uring_enter that hands over all of them, runs what the kernel
 * deferred to this thread, and sleeps if asked to; then it reports every
 * completion that is in the queue.  With nothing to hand over and completions
 * already there it makes no system call at all.
 *
 * The entry into the kernel is made here rather than by liburing's submit
 * functions: the flags that go with it (registered descriptor, NO_IOWAIT) are
 * the same for every liburing, and whether a call is needed is seen here only.
 * Set-up, registration and the layout of the queues are liburing's.
 *
 * user_data carries the completion's address with a tag in its low bits; one
 * function encodes, one decodes.  A completion may be reused while a
 * cancellation of its former use is still queued: entries are carried out in
 * order, so the cancellation comes before the new use and misses.
 *
 * An owner that looks for a while before it sleeps (spin_ns) sees what is in a socket
 * sooner by receiving than by being told through the ring.  So one receive at a time may
 * be kept `aside`: it is tried whenever the owner looks, and goes to the kernel like any
 * other before the owner sleeps or is in a turn that does not look.
 *
 * Invariants: `under_way` counts operations with a completion to come, the
 * engine's own read of the eventfd not among them.  That read is armed whenever
 * the owner sleeps.
 *
 * Threads: wake from any; everything else from the owner.
 */
#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "ring/uring.h"

#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

/* So many operations are worth a call of their own, so that a device has work; … */
#define HASTE_FIRST 4u

/* The kernel cuts longer transfers; a multiple of every block size. */
#define TRANSFER_MAX 0x7ff00000u

#define SPIN_LOOKS 4u  /* between two looks at the clock */
#define SPIN_MISSES 4u /* in vain in a row, after which … */
#define SPIN_SKIPS 16u /* … so many sleeps come without looking */

/* The engine's bits of nr_completion.flags; they outlive one operation. */
enum {
	MORE_LIKELY = NR_ATTEMPT_KEPT_A, /* the last receive left something behind */
	NO_WAITALL = NR_ATTEMPT_KEPT_B,  /* this socket does not know MSG_WAITALL */
};

/* ---- user_data --------------------------------------------------------- */

enum tag {
	TAG_OPERATION = 0,
	TAG_CANCEL = 1,
	TAG_WAKE = 2,
	TAG_MASK = 7,
};

static_assert(sizeof(((struct nr_completion *)NULL)->u.time) == sizeof(struct __kernel_timespec),
	      "the kernel reads the time where it stands");
static_assert(_Alignof(struct nr_completion) > TAG_MASK, "the tag lies in bits the address leaves");

static inline uint64_t encode(const void *address, enum tag tag)
{
	assert(((uintptr_t)address & TAG_MASK) == 0);
	return (uintptr_t)address | (uint64_t)tag;
}

static inline enum tag decode(uint64_t user_data, struct nr_completion **c)
{
	*c = (struct nr_completion *)(uintptr_t)(user_data & ~(uint64_t)TAG_MASK);
	return (enum tag)(user_data & TAG_MASK);
}

/* ---- submission entries ------------------------------------------------ */

/* The next free entry, blank; NULL when the queue is full. */
static inline struct io_uring_sqe *take_entry(struct nr_engine *e)
{
	struct io_uring_sq *sq = &e->uring.sq;
	struct io_uring_sqe *sqe;

	/* The kernel takes entries only inside our own system calls: no barrier. */
	if (unlikely(sq->sqe_tail - *sq->khead >= sq->ring_entries))
		return NULL;
	sqe = &sq->sqes[sq->sqe_tail++ & sq->ring_mask];
	memset(sqe, 0, sizeof(*sqe));
	return sqe;
}

static inline void set_descriptor(const struct nr_engine *e, struct io_uring_sqe *sqe, int fd)
{
	sqe->fd = fd;
	if ((unsigned)fd < e->slots.fds && e->slots.of_fd[fd] != NR_NO_SLOT) {
		sqe->fd = e->slots.of_fd[fd];
		sqe->flags |= IOSQE_FIXED_FILE;
	}
}

static inline void set_buffer(struct io_uring_sqe *sqe, const void *address, size_t length)
{
	sqe->addr = (uintptr_t)address;
	sqe->len = length < TRANSFER_MAX ? (uint32_t)length : TRANSFER_MAX;
}

static inline void set_message(struct io_uring_sqe *sqe, struct nr_completion *c)
{
	struct msghdr *header = &c->u.io.more.header;

	memset(header, 0, sizeof(*header));
	header->msg_iov = c->u.io.vector;
	header->msg_iovlen = c->count;
	sqe->addr = (uintptr_t)header;
	sqe->len = 1;
}

static inline uint32_t poll_mask(uint32_t events)
{
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
	return events << 16 | events >> 16;
#else
	return events;
#endif
}

static inline void prepare_recv(struct io_uring_sqe *sqe, struct nr_completion *c)
{
	if (c->u.io.vector) {
		sqe->opcode = IORING_OP_RECVMSG;
		set_message(sqe, c);
	} else {
		sqe->opcode = IORING_OP_RECV;
		set_buffer(sqe, c->u.io.single.iov_base, c->u.io.single.iov_len);
	}
	/* Trying at once is worth it only when something is likely to be there. */
	if (!(c->flags & MORE_LIKELY))
		sqe->ioprio = IORING_RECVSEND_POLL_FIRST;
}

static inline void prepare_send(const struct nr_engine *e, struct io_uring_sqe *sqe,
				struct nr_completion *c)
{
	sqe->msg_flags = MSG_NOSIGNAL;
	if (likely(!(c->flags & NO_WAITALL)))
		sqe->msg_flags |= MSG_WAITALL;
	if (!c->u.io.vector) {
		sqe->opcode = IORING_OP_SEND;
		set_buffer(sqe, c->u.io.single.iov_base, c->u.io.single.iov_len);
	} else if (e->send_vectorized) {
		sqe->opcode = IORING_OP_SEND;
		sqe->ioprio = NR_SEND_VECTORIZED;
		sqe->addr = (uintptr_t)c->u.io.vector;
		sqe->len = c->count;
	} else {
		sqe->opcode = IORING_OP_SENDMSG;
		set_message(sqe, c);
	}
}

static inline bool is_pinned(const struct nr_engine *e, const struct iovec *v)
{
	uintptr_t from = (uintptr_t)v->iov_base - e->pinned_base;

	return from < e->pinned_bytes && v->iov_len <= e->pinned_bytes - from;
}

static bool all_pinned(const struct nr_engine *e, const struct nr_completion *c)
{
	if (!e->fixed_vectors)
		return false;
	for (uint32_t i = 0; i < c->count; i++)
		if (!is_pinned(e, &c->u.io.vector[i]))
			return false;
	return true;
}

static inline void prepare_transfer(const struct nr_engine *e, struct io_uring_sqe *sqe,
				    struct nr_completion *c)
{
	bool write = c->operation == NR_RING_WRITE;

	sqe->off = c->offset + c->progress;
	sqe->rw_flags = (__kernel_rwf_t)c->rw_flags;
	/* The arena is the only registered buffer, so its index is 0. */
	if (!c->u.io.vector) {
		set_buffer(sqe, c->u.io.single.iov_base, c->u.io.single.iov_len);
		if (is_pinned(e, &c->u.io.single))
			sqe->opcode = write ? IORING_OP_WRITE_FIXED : IORING_OP_READ_FIXED;
		else
			sqe->opcode = write ? IORING_OP_WRITE : IORING_OP_READ;
		return;
	}
	sqe->addr = (uintptr_t)c->u.io.vector;
	sqe->len = c->count;
	if (all_pinned(e, c))
		sqe->opcode = write ? NR_OP_WRITEV_FIXED : NR_OP_READV_FIXED;
	else
		sqe->opcode = write ? IORING_OP_WRITEV : IORING_OP_READV;
}

static inline void prepare_accept(struct io_uring_sqe *sqe)
{
	sqe->opcode = IORING_OP_ACCEPT;
	sqe->accept_flags = SOCK_CLOEXEC;
}

static inline void prepare_connect(struct io_uring_sqe *sqe, const struct nr_completion *c)
{
	sqe->opcode = IORING_OP_CONNECT;
	sqe->addr = (uintptr_t)c->u.connect.address;
	sqe->off = c->u.connect.length;
}

static inline void prepare_fallocate(struct io_uring_sqe *sqe, const struct nr_completion *c)
{
	sqe->opcode = IORING_OP_FALLOCATE;
	sqe->off = c->offset;
	sqe->addr = c->u.range.length;
	sqe->len = (uint32_t)c->u.range.mode;
}

static inline void prepare_discard(struct io_uring_sqe *sqe, const struct nr_completion *c)
{
	sqe->opcode = IORING_OP_URING_CMD;
	sqe->cmd_op = NR_BLOCK_URING_CMD_DISCARD;
	sqe->addr = c->offset;
	sqe->addr3 = c->u.range.length;
}

static inline void prepare_timer(struct io_uring_sqe *sqe, const void *timespec)
{
	sqe->opcode = IORING_OP_TIMEOUT;
	sqe->fd = -1;
	sqe->flags = 0;
	sqe->addr = (uintptr_t)timespec;
	sqe->len = 1;
}

/* Instead of the operation: wait until trying it again makes sense. */
static void prepare_wait(const struct nr_engine *e, struct io_uring_sqe *sqe,
			 const struct nr_completion *c)
{
	switch (c->operation) {
	case NR_RING_RECV:
	case NR_RING_ACCEPT:
		sqe->opcode = IORING_OP_POLL_ADD;
		sqe->poll32_events = poll_mask(POLLIN);
		break;
	case NR_RING_SEND:
	case NR_RING_SHARE:
	case NR_RING_CONNECT:
		sqe->opcode = IORING_OP_POLL_ADD;
		sqe->poll32_events = poll_mask(POLLOUT);
		break;
	default:
		prepare_timer(sqe, &e->pause);
	}
}

static inline void prepare(const struct nr_engine *e, struct io_uring_sqe *sqe,
			   struct nr_completion *c)
{
	switch ((enum nr_ring_operation)c->operation) {
	case NR_RING_RECV:
		prepare_recv(sqe, c);
		break;
	case NR_RING_SEND:
		prepare_send(e, sqe, c);
		break;
	case NR_RING_READ:
	case NR_RING_WRITE:
		prepare_transfer(e, sqe, c);
		break;
	case NR_RING_ACCEPT:
		prepare_accept(sqe);
		break;
	case NR_RING_CONNECT:
		prepare_connect(sqe, c);
		break;
	case NR_RING_FSYNC:
		sqe->opcode = IORING_OP_FSYNC;
		sqe->fsync_flags = c->u.range.mode ? IORING_FSYNC_DATASYNC : 0;
		break;
	case NR_RING_FALLOCATE:
		prepare_fallocate(sqe, c);
		break;
	case NR_RING_DISCARD:
		prepare_discard(sqe, c);
		break;
	case NR_RING_POLL:
		sqe->opcode = IORING_OP_POLL_ADD;
		sqe->poll32_events = poll_mask(c->count);
		break;
	case NR_RING_TIMEOUT:
		prepare_timer(sqe, &c->u.time);
		break;
	case NR_RING_SHARE:
	case NR_RING_IDLE:
		assert(!"an operation of the kernel's ring is described");
	}
}

static bool write_entry(struct nr_engine *e, struct nr_completion *c)
{
	struct io_uring_sqe *sqe = take_entry(e);

	if (unlikely(!sqe))
		return false;
	set_descriptor(e, sqe, c->fd);
	sqe->user_data = encode(c, TAG_OPERATION);
	if (likely(!(c->flags & (NR_ATTEMPT_WAIT | NR_ATTEMPT_BLOCKING)))) {
		prepare(e, sqe, c);
	} else if (c->flags & NR_ATTEMPT_WAIT) {
		prepare_wait(e, sqe, c);
	} else {
		prepare(e, sqe, c);
		sqe->flags |= IOSQE_ASYNC;
	}
	return true;
}

static inline bool may_stay_aside(const struct nr_engine *e, const struct nr_completion *c)
{
	return e->spin_ns && !e->aside && c->operation == NR_RING_RECV && !c->u.io.vector &&
	       !(c->flags & NR_ATTEMPT_WAIT);
}

static bool uring_start(struct nr_engine *e, struct nr_completion *c)
{
	if (c->operation == NR_RING_SHARE && !(c->flags & NR_ATTEMPT_WAIT))
		nr_uring_share_queue(&e->share, c);
	else if (may_stay_aside(e, c))
		e->aside = c;
	else if (unlikely(!write_entry(e, c)))
		return false;
	e->under_way++;
	return true;
}

/* The receive that was kept aside, if any, goes to the kernel; false: no entry for it now. */
static bool give_aside(struct nr_engine *e)
{
	if (likely(!e->aside))
		return true;
	if (!write_entry(e, e->aside))
		return false;
	e->aside = NULL;
	return true;
}

/*
 * The operation's own completion comes in any case, and says how it ended; the
 * cancellation itself has something to say only when it found nothing.
 */
static bool uring_cancel(struct nr_engine *e, struct nr_completion *c)
{
	struct io_uring_sqe *sqe;

	if (unlikely(c == e->aside) && !give_aside(e))
		return false;
	sqe = take_entry(e);
	if (!sqe)
		return false;
	sqe->opcode = IORING_OP_ASYNC_CANCEL;
	sqe->fd = -1;
	sqe->flags = IOSQE_CQE_SKIP_SUCCESS;
	sqe->addr = encode(c, TAG_OPERATION);
	sqe->user_data = encode(c, TAG_CANCEL);
	return true;
}

/* ---- the way into the kernel ------------------------------------------- */

/* Shows the kernel all entries written so far; returns how many it has to take. */
static inline unsigned publish(struct nr_engine *e)
{
	struct io_uring_sq *sq = &e->uring.sq;

	sq->sqe_head = sq->sqe_tail;
	io_uring_smp_store_release(sq->ktail, sq->sqe_tail);
	return sq->sqe_tail - *sq->khead;
}

static inline bool have_completions(const struct nr_engine *e)
{
	const struct io_uring_cq *cq = &e->uring.cq;

	return io_uring_smp_load_acquire(cq->ktail) != *cq->khead;
}

/* Did the kernel put something aside that only a call brings out? */
static inline bool kernel_has_more(const struct nr_engine *e)
{
	return IO_URING_READ_ONCE(*e->uring.sq.kflags) &
	       (IORING_SQ_CQ_OVERFLOW | IORING_SQ_TASKRUN);
}

/*
 * The kernel is short of memory for requests, or wants its overflowing
 * completions taken first.  What was published stays published; fetch what is
 * done and leave the rest to the next turn, not faster than the system recovers.
 */
static void back_off(struct nr_engine *e)
{
	int result = io_uring_enter((unsigned)e->enter_fd, 0, 0,
				    e->enter_flags | IORING_ENTER_GETEVENTS, NULL);

	(void)result;
	if (!have_completions(e))
		(void)poll(NULL, 0, 1);
}

static void enter(struct nr_engine *e, unsigned submit, unsigned minimum)
{
	int result = io_uring_enter((unsigned)e->enter_fd, submit, minimum,
				    e->enter_flags | IORING_ENTER_GETEVENTS, NULL);

	if (likely(result >= 0))
		return;
	switch (-result) {
	case EINTR:
		break;
	case EAGAIN:
	case EBUSY:
	case ENOMEM:
		back_off(e);
		break;
	default:
		/* EBADR: the kernel had no memory to keep a completion and lost it. */
		nr_uring_fatal("io_uring_enter", result);
	}
}

/*
 * By the time these are done, twice as many are prepared: few calls, and a device that
 * waits for none but the first.  What the kernel does not take now stays published.
 */
static void uring_hasten(struct nr_engine *e)
{
	if (++e->hastened < e->haste || unlikely(!e->begun))
		return;
	e->hastened = 0;
	e->haste *= 2;
	(void)io_uring_enter((unsigned)e->enter_fd, publish(e), 0, e->enter_flags, NULL);
}

/* ---- completions ------------------------------------------------------- */

static inline int64_t outcome(struct nr_completion *c, const struct io_uring_cqe *cqe)
{
	int32_t result = cqe->res;

	switch (c->operation) {
	case NR_RING_RECV:
		if (c->flags & NR_ATTEMPT_WAIT)
			break;
		c->flags &= (uint8_t)~MORE_LIKELY;
		if (cqe->flags & IORING_CQE_F_SOCK_NONEMPTY)
			c->flags |= MORE_LIKELY;
		break;
	case NR_RING_SEND:
		/* Kernel TLS refuses the flag; ring.c goes on after short sends. */
		if (unlikely(result == -EOPNOTSUPP) && !(c->flags & NO_WAITALL)) {
			c->flags |= NO_WAITALL;
			return -EINTR;
		}
		break;
	case NR_RING_DISCARD:
		if (result == -ENOTTY || result == -ENOSYS)
			return -EOPNOTSUPP;
		break;
	default:
		break;
	}
	return result;
}

static inline void report(struct nr_engine *e, const struct io_uring_cqe *cqe)
{
	struct nr_completion *c;

	switch (decode(cqe->user_data, &c)) {
	case TAG_OPERATION:
		e->under_way--;
		nr_ring_attempt_done(e->ring, c, outcome(c, cqe));
		break;
	case TAG_WAKE:
		e->wake_armed = false;
		break;
	case TAG_CANCEL:
		if (cqe->res == -ENOENT)
			nr_ring_cancel_missed(e->ring, c);
		break;
	case TAG_MASK:
		break;
	}
}

/* Keeps the eventfd read; false when there is no entry for it just now. */
static bool arm_wake(struct nr_engine *e)
{
	struct io_uring_sqe *sqe;

	if (likely(e->wake_armed))
		return true;
	sqe = take_entry(e);
	if (!sqe)
		return false;
	sqe->opcode = IORING_OP_READ;
	sqe->fd = e->wake_fd;
	sqe->addr = (uintptr_t)&e->wake_count;
	sqe->len = sizeof(e->wake_count);
	sqe->user_data = encode(NULL, TAG_WAKE);
	e->wake_armed = true;
	return true;
}

static uint64_t uring_now(struct nr_engine *e)
{
	struct timespec now;

	(void)e;
	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* Nothing of the kernel's: the other half of the processor may have this one's time. */
static inline void relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ volatile("yield");
#endif
}

/* Has the receive that is kept aside come to something?  It is reported in this turn then. */
static bool try_aside(struct nr_engine *e)
{
	struct nr_completion *c = e->aside;
	ssize_t got;

	if (!c)
		return false;
	got = recv(c->fd, c->u.io.single.iov_base, c->u.io.single.iov_len, MSG_DONTWAIT);
	if (got < 0 && (errno == EAGAIN || errno == EINTR))
		return false;
	c->flags &= (uint8_t)~MORE_LIKELY;
	c->result = got < 0 ? -errno : got;
	e->received = c;
	e->aside = NULL;
	return true;
}

/* Is anything there, in the queue, behind it, or in the socket of the receive kept aside? */
static bool look(struct nr_engine *e)
{
	if (try_aside(e))
		return true;
	for (unsigned i = 0; i < SPIN_LOOKS; i++) {
		if (have_completions(e) || kernel_has_more(e))
			return true;
		relax();
	}
	return false;
}

/*
 * Look for a while instead of sleeping: who is asked again at once saves falling asleep
 * and being woken.  When it was in vain some times in a row, the requests come further
 * apart than that, and it is tried now and then only (spin_due).
 */
static bool spin(struct nr_engine *e)
{
	uint64_t until = uring_now(e) + e->spin_ns;

	do {
		if (look(e)) {
			e->spin_misses = 0;
			return true;
		}
	} while (uring_now(e) < until);
	if (++e->spin_misses >= SPIN_MISSES)
		e->spin_skips = SPIN_SKIPS;
	return false;
}

/* Instead of a sleep that is due. */
static bool spin_due(struct nr_engine *e)
{
	if (e->spin_ns == 0)
		return false;
	if (e->spin_skips == 0)
		return true;
	e->spin_skips--;
	return false;
}

/* Submits and looks; true when there is something to report, false when to sleep. */
static bool submit_and_look(struct nr_engine *e, unsigned submit)
{
	if (submit > 0)
		enter(e, submit, 0);
	if (!have_completions(e))
		return spin(e);
	/* No time to look for long: this one would otherwise wait for a quiet turn. */
	(void)try_aside(e);
	return true;
}

static void report_shared(struct nr_engine *e)
{
	struct nr_completion *c;

	while ((c = e->share.made)) {
		e->share.made = c->u.io.more.share.behind;
		e->under_way--;
		nr_ring_attempt_done(e->ring, c, c->result);
	}
}

static void report_received(struct nr_engine *e)
{
	struct nr_completion *c = e->received;

	e->received = NULL;
	e->under_way--;
	nr_ring_attempt_done(e->ring, c, c->result);
}

static void uring_turn(struct nr_engine *e, bool wait)
{
	struct io_uring_cq *cq = &e->uring.cq;
	unsigned submit, head, tail;
	bool looks;

	if (unlikely(!e->begun))
		nr_uring_begin(e);
	if (unlikely(e->share.queued)) {
		nr_uring_share_attempt(&e->share);
		wait = false;
	}
	/* Without the read nobody could wake us: submit only, sleep next time. */
	if (unlikely(!arm_wake(e)))
		wait = false;
	looks = wait && spin_due(e);
	if (!looks && unlikely(!give_aside(e)))
		wait = false;
	submit = publish(e);
	e->hastened = 0;
	e->haste = HASTE_FIRST;
	if (looks) {
		wait = !submit_and_look(e, submit);
		if (wait && !give_aside(e))
			wait = false;
		submit = wait ? publish(e) : 0;
	}
	if (have_completions(e))
		wait = false;
	if (submit > 0 || wait || kernel_has_more(e))
		enter(e, submit, wait);

	/* What comes while `done` functions run is for the next turn. */
	head = *cq->khead;
	tail = io_uring_smp_load_acquire(cq->ktail);
	for (; head != tail; head++)
		report(e, &cq->cqes[head & cq->ring_mask]);
	io_uring_smp_store_release(cq->khead, tail);
	if (unlikely(e->share.made))
		report_shared(e);
	if (e->received)
		report_received(e);
}

/* Forgets all completions that are there. */
static void discard_completions(struct nr_engine *e)
{
	struct io_uring_cq *cq = &e->uring.cq;
	unsigned head = *cq->khead, tail = io_uring_smp_load_acquire(cq->ktail);
	struct nr_completion *c;

	for (; head != tail; head++) {
		enum tag tag = decode(cq->cqes[head & cq->ring_mask].user_data, &c);

		if (tag == TAG_OPERATION)
			e->under_way--;
		else if (tag == TAG_WAKE)
			e->wake_armed = false;
	}
	io_uring_smp_store_release(cq->khead, tail);
}

void nr_uring_drain(struct nr_engine *e)
{
	struct io_uring_sqe *sqe;

	e->under_way -= nr_uring_share_forget(&e->share);
	e->under_way -= e->aside != NULL;
	e->aside = NULL;
	for (bool again = false; e->under_way > 0 || e->wake_armed; again = true) {
		/* What one pass did not find is on its way, or a disk works on it. */
		if (again)
			(void)poll(NULL, 0, 1);
		sqe = take_entry(e);
		if (sqe) {
			sqe->opcode = IORING_OP_ASYNC_CANCEL;
			sqe->fd = -1;
			sqe->cancel_flags = IORING_ASYNC_CANCEL_ALL | IORING_ASYNC_CANCEL_ANY;
			sqe->user_data = encode(NULL, TAG_CANCEL);
		}
		enter(e, publish(e), 0);
		discard_completions(e);
	}
}

static void uring_wake(struct nr_engine *e)
{
	/* Fails only when the counter is full, and then the reader is awake. */
	(void)eventfd_write(e->wake_fd, 1);
}

const struct nr_engine_type nr_engine_uring = {
	.name = "uring",
	.create = nr_uring_create,
	.destroy = nr_uring_destroy,
	.pin = nr_uring_pin,
	.start = uring_start,
	.cancel = uring_cancel,
	.hasten = uring_hasten,
	.turn = uring_turn,
	.wake = uring_wake,
	.adopt = nr_uring_adopt,
	.forget = nr_uring_forget,
	.now = uring_now,
};
