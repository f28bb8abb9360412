/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The front of the reactor: what is the same whatever carries out operations.
 *
 * A completion goes through few states.  It is IDLE until one of the starting
 * functions (operations.c) describes an operation in it.  Then it is UNDER_WAY
 * in the engine, or HELD when the engine's queue was full (in order; offered
 * again in every turn), or READY when its result is known without the engine.
 * `done` is called with the completion IDLE again, so that it can be started at
 * once.
 *
 * The engine reports raw outcomes of single attempts.  Here, and nowhere else,
 * a short transfer goes on, EINTR starts again, EAGAIN waits and starts again,
 * and a cancelled operation does not.
 *
 * Cost: the common way of an operation is straight: describe, one call of the
 * engine, later one switch and `done`.  No lock, no allocation, no clock.
 *
 * Messages from other threads come through an inbox (inbox.h), which also knows
 * whether the owner sleeps and has to be woken.
 *
 * Threads: nr_ring_post from any; everything else from the owner.
 */
#include "ring/front.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "ring/arena.h"

#define MIB ((size_t)1024 * 1024)
#define ARENA_BYTES (256 * MIB)
#define ARENA_BYTES_MIN (64 * MIB) /* less could hang: the longest request would fill it */
#define ARENA_GRAIN (2 * MIB)
#define PINNED_BYTES (32 * MIB)
#define ENTRIES 256u
#define TRIES_MAX 250u    /* of a file that says EAGAIN, a millisecond apart */
#define CANCELS_MAX 250u  /* of one completion, a turn apart */
#define DIRECT_GRAIN 512u /* O_DIRECT transfers in multiples of at least this */
#define ATTENTION_FLAGS (NR_ATTEMPT_WAIT | CANCEL_WANTED | CANCEL_GIVEN)

/* ---- queues ------------------------------------------------------------ */

static struct nr_completion *queue_pop(struct nr_queue *queue)
{
	struct nr_completion *c = queue->first;

	if (c) {
		queue->first = c->next;
		if (!queue->first)
			queue->last = NULL;
	}
	return c;
}

static void queue_prepend(struct nr_queue *queue, struct nr_completion *c)
{
	c->next = queue->first;
	queue->first = c;
	if (!queue->last)
		queue->last = c;
}

/* Quick when C is near the front. */
static bool queue_remove(struct nr_queue *queue, const struct nr_completion *c)
{
	struct nr_completion **link = &queue->first, *before = NULL;

	while (*link && *link != c) {
		before = *link;
		link = &before->next;
	}
	if (!*link)
		return false;
	*link = c->next;
	if (queue->last == c)
		queue->last = before;
	return true;
}

/* ---- finishing --------------------------------------------------------- */

static inline void finish(struct nr_ring *ring, struct nr_completion *c, int64_t result)
{
	assert(ring->in_flight > 0);
	ring->in_flight--;
	c->result = result;
	c->rw_flags = 0;
	c->flags &= (uint8_t)~NR_ATTEMPT_BLOCKING;
	c->operation = NR_RING_IDLE;
	c->state = IDLE;
	c->done(ring, c);
}

/* Takes BYTES off the front of what is left; true when nothing is left. */
static inline bool consume(struct nr_completion *c, uint64_t bytes)
{
	struct iovec *v = c->u.io.vector;

	c->progress += bytes;
	if (!v) {
		struct iovec *single = &c->u.io.single;

		assert(bytes <= single->iov_len);
		single->iov_base = (char *)single->iov_base + bytes;
		single->iov_len -= bytes;
		return single->iov_len == 0;
	}
	while (c->count > 0 && bytes >= v->iov_len) {
		bytes -= v->iov_len;
		v++;
		c->count--;
	}
	if (c->operation == NR_RING_SHARE)
		c->u.io.more.share.kinds += v - c->u.io.vector;
	c->u.io.vector = v;
	if (c->count == 0) {
		assert(bytes == 0);
		return true;
	}
	if (c->operation != NR_RING_SHARE || *c->u.io.more.share.kinds != NR_SEND_PIPE)
		v->iov_base = (char *)v->iov_base + bytes;
	v->iov_len -= bytes;
	return false;
}

/* A transfer of which something is left after an attempt that moved BYTES. */
static void continue_transfer(struct nr_ring *ring, struct nr_completion *c, int64_t bytes)
{
	if (bytes == 0) {
		/* Nothing more comes: the end of the file, or a device that is odd. */
		finish(ring, c, c->operation == NR_RING_READ ? (int64_t)c->progress : -EIO);
		return;
	}
	if (c->flags & CANCEL_ASKED) {
		finish(ring, c, -ECANCELED);
		return;
	}
	c->flags &= (uint8_t)~NR_ATTEMPT_BLOCKING;
	c->tries = 0;
	nr_front_launch(ring, c);
}

static inline void succeed(struct nr_ring *ring, struct nr_completion *c, int64_t result)
{
	switch (c->operation) {
	case NR_RING_SEND:
	case NR_RING_SHARE:
	case NR_RING_READ:
	case NR_RING_WRITE:
		if (likely(consume(c, (uint64_t)result)))
			finish(ring, c, (int64_t)c->progress);
		else
			continue_transfer(ring, c, result);
		break;
	default:
		finish(ring, c, result);
	}
}

/* C ends: there is nothing to cancel any more. */
static void drop_cancel(struct nr_ring *ring, struct nr_completion *c)
{
	bool found = queue_remove(c->flags & CANCEL_WANTED ? &ring->wanted : &ring->given, c);

	assert(found);
	c->flags &= (uint8_t) ~(CANCEL_WANTED | CANCEL_GIVEN);
}

/*
 * EAGAIN.  A socket is waited for until it is ready.  A file that cannot be
 * waited for is tried again where it may block, then now and then for a while,
 * so that a shortage passes and a device that always says so does not hang its
 * client for ever.
 */
static bool try_later(struct nr_ring *ring, struct nr_completion *c)
{
	switch (c->operation) {
	case NR_RING_RECV:
	case NR_RING_SEND:
	case NR_RING_SHARE:
	case NR_RING_ACCEPT:
	case NR_RING_CONNECT:
		c->flags |= NR_ATTEMPT_WAIT;
		break;
	case NR_RING_POLL:
	case NR_RING_TIMEOUT:
		return false;
	default:
		/* RWF_NOWAIT asked for just this answer. */
		if (c->rw_flags & RWF_NOWAIT || c->tries >= TRIES_MAX)
			return false;
		if (c->tries++ > 0)
			c->flags |= NR_ATTEMPT_WAIT;
		c->flags |= NR_ATTEMPT_BLOCKING;
	}
	nr_front_launch(ring, c);
	return true;
}

/* Does RESULT, an error, mean that C is to be started again?  Then it was. */
static bool started_again(struct nr_ring *ring, struct nr_completion *c, int64_t result)
{
	bool connecting = c->operation == NR_RING_CONNECT;

	switch (result) {
	case -EINTR:
		c->flags |= RESTARTED;
		nr_front_launch(ring, c);
		return true;
	case -EAGAIN:
		return try_later(ring, c);
	case -ECONNABORTED:
		/* The peer gave up before it was accepted; the next one may be there. */
		if (c->operation != NR_RING_ACCEPT)
			return false;
		nr_front_launch(ring, c);
		return true;
	case -EALREADY:
	case -EINPROGRESS:
		if (!connecting)
			return false;
		c->flags |= RESTARTED | NR_ATTEMPT_WAIT;
		nr_front_launch(ring, c);
		return true;
	default:
		return false;
	}
}

static void fail(struct nr_ring *ring, struct nr_completion *c, int64_t result)
{
	if (c->flags & CANCEL_ASKED) {
		if (result == -EINTR || result == -EAGAIN)
			result = -ECANCELED;
	} else if (started_again(ring, c, result)) {
		return;
	}
	if (result == -EISCONN && c->operation == NR_RING_CONNECT && c->flags & RESTARTED)
		result = 0;
	/*
	 * The tail of a file opened with O_DIRECT: what came ends off the grain,
	 * so the file ends there, and going on from there is refused.
	 */
	if (result == -EINVAL && c->operation == NR_RING_READ && c->progress % DIRECT_GRAIN != 0)
		result = (int64_t)c->progress;
	finish(ring, c, result);
}

/* What waiting after an EAGAIN came to. */
static void waited(struct nr_ring *ring, struct nr_completion *c, int64_t result)
{
	c->flags &= (uint8_t)~NR_ATTEMPT_WAIT;
	if (c->flags & CANCEL_ASKED)
		finish(ring, c, -ECANCELED);
	else if (result >= 0 || result == -ETIME || result == -EINTR)
		nr_front_launch(ring, c);
	else
		finish(ring, c, result);
}

void nr_ring_attempt_done(struct nr_ring *ring, struct nr_completion *c, int64_t result)
{
	assert(c->state == UNDER_WAY);
	if (unlikely(c->flags & ATTENTION_FLAGS)) {
		if (c->flags & (CANCEL_WANTED | CANCEL_GIVEN))
			drop_cancel(ring, c);
		if (c->flags & NR_ATTEMPT_WAIT) {
			waited(ring, c, result);
			return;
		}
	}
	if (likely(result >= 0))
		succeed(ring, c, result);
	else
		fail(ring, c, result);
}

/* ---- cancelling -------------------------------------------------------- */

static void give_cancel(struct nr_ring *ring, struct nr_completion *c)
{
	if (!ring->wanted.first && ring->type->cancel(ring->engine, c)) {
		nr_queue_append(&ring->given, c);
		c->flags |= CANCEL_GIVEN;
	} else {
		nr_queue_append(&ring->wanted, c);
		c->flags |= CANCEL_WANTED;
	}
}

void nr_ring_cancel(struct nr_ring *ring, struct nr_completion *c)
{
	if (c->flags & CANCEL_ASKED)
		return;
	switch ((enum nr_completion_state)c->state) {
	case IDLE:
	case READY:
		return;
	case HELD:
		ring->held_cancelled++;
		break;
	case UNDER_WAY:
		c->tries = 0;
		give_cancel(ring, c);
		break;
	}
	c->flags |= CANCEL_ASKED;
}

/*
 * An operation on its way from one state to another inside the kernel is not
 * found.  Try again next turn, as long as it is not done; not for ever, as
 * what a disk is working on is not found either.  (Linux takes a connect to a
 * Unix socket with a full backlog through 128 such states.)
 */
void nr_ring_cancel_missed(struct nr_ring *ring, struct nr_completion *c)
{
	/* C may be gone: nothing of it is looked at until it was found. */
	if (!queue_remove(&ring->given, c))
		return;
	c->flags &= (uint8_t)~CANCEL_GIVEN;
	if (c->tries++ < CANCELS_MAX) {
		nr_queue_append(&ring->wanted, c);
		c->flags |= CANCEL_WANTED;
	}
}

bool nr_completion_busy(const struct nr_completion *c)
{
	return c->state != IDLE;
}

/* One pass for any number of cancelled completions that are held back. */
static void sweep_held(struct nr_ring *ring)
{
	struct nr_queue all = ring->held;
	struct nr_completion *c;

	if (likely(ring->held_cancelled == 0))
		return;
	ring->held = (struct nr_queue){ 0 };
	while ((c = queue_pop(&all))) {
		if (c->flags & CANCEL_ASKED) {
			ring->held_cancelled--;
			nr_front_ready(ring, c, -ECANCELED);
		} else {
			nr_queue_append(&ring->held, c);
		}
	}
	assert(ring->held_cancelled == 0);
}

/* ---- messages ---------------------------------------------------------- */

void nr_ring_post(struct nr_ring *ring, struct nr_message *m)
{
	assert(m->deliver);
	if (nr_inbox_push(&ring->inbox, m))
		ring->type->wake(ring->engine);
}

/* Delivers what is there at the call; true when there was something. */
static bool deliver_messages(struct nr_ring *ring)
{
	struct nr_message *m = nr_inbox_take(&ring->inbox), *next;
	bool any = m;

	for (; m; m = next) {
		next = m->next;
		m->deliver(ring, m);
	}
	return any;
}

/* ---- the turn ---------------------------------------------------------- */

static bool deliver_ready(struct nr_ring *ring)
{
	struct nr_queue now = ring->ready;
	struct nr_completion *c;

	if (likely(!now.first))
		return false;
	ring->ready = (struct nr_queue){ 0 };
	while ((c = queue_pop(&now)))
		finish(ring, c, c->result);
	return true;
}

/* What is under way may be in a queue of the engine: ours lets go of it before. */
static void start_held(struct nr_ring *ring)
{
	struct nr_completion *c;

	/* What was cancelled: not before the sweep of the next turn. */
	while ((c = ring->held.first) && !(c->flags & CANCEL_ASKED)) {
		(void)queue_pop(&ring->held);
		c->state = UNDER_WAY;
		if (!ring->type->start(ring->engine, c)) {
			c->state = HELD;
			queue_prepend(&ring->held, c);
			return;
		}
	}
}

static void start_cancels(struct nr_ring *ring)
{
	struct nr_completion *c;

	while ((c = ring->wanted.first) && ring->type->cancel(ring->engine, c)) {
		(void)queue_pop(&ring->wanted);
		nr_queue_append(&ring->given, c);
		c->flags ^= CANCEL_WANTED | CANCEL_GIVEN;
	}
}

void nr_ring_defer(struct nr_ring *ring, struct nr_deferred *d)
{
	if (d->waiting)
		return;
	d->waiting = true;
	d->next = ring->deferred;
	ring->deferred = d;
}

static void run_deferred(struct nr_ring *ring)
{
	struct nr_deferred *d = ring->deferred;

	/* What defers itself again does so for the turn after. */
	ring->deferred = NULL;
	while (d) {
		struct nr_deferred *next = d->next;

		d->waiting = false;
		d->run(ring, d);
		d = next;
	}
}

void nr_ring_turn(struct nr_ring *ring, bool wait)
{
	assert(!ring->turning);
	ring->turning = true;
	if (ring->deferred)
		run_deferred(ring);
	sweep_held(ring);
	if (deliver_ready(ring))
		wait = false;
	if (deliver_messages(ring))
		wait = false;
	start_cancels(ring);
	start_held(ring);
	if (ring->held.first || ring->ready.first || ring->wanted.first || ring->deferred)
		wait = false;
	if (wait)
		wait = nr_inbox_sleep(&ring->inbox);
	ring->type->turn(ring->engine, wait);
	(void)deliver_messages(ring);
	ring->turning = false;
}

/* ---- making ------------------------------------------------------------ */

static const struct nr_engine_type *find_engine(const char *name)
{
	if (!name)
		return nr_engines[0];
	for (size_t i = 0; nr_engines[i]; i++)
		if (strcmp(nr_engines[i]->name, name) == 0)
			return nr_engines[i];
	return NULL;
}

/* The arena as large as wanted, or as address space allows. */
static int make_arena(struct nr_ring *ring, const struct nr_ring_options *options,
		      struct nr_error *error)
{
	size_t bytes = (options->arena_bytes + ARENA_GRAIN - 1) / ARENA_GRAIN * ARENA_GRAIN;
	size_t pinned = options->pinned_bytes / ARENA_GRAIN * ARENA_GRAIN;

	while (!(ring->arena = nr_arena_create(bytes))) {
		if (bytes <= ARENA_BYTES_MIN)
			return nr_error_set(error, -ENOMEM,
					    "no address space for the buffers of a worker; see the "
					    "limit of ulimit -v");
		bytes = bytes / 2 / ARENA_GRAIN * ARENA_GRAIN;
	}
	if (pinned > bytes)
		pinned = bytes;
	if (pinned > 0)
		pinned = ring->type->pin(ring->engine, nr_arena_base(ring->arena), pinned);
	nr_arena_set_pinned(ring->arena, pinned);
	ring->report.registered_bytes = pinned;
	return 0;
}

int nr_ring_create(struct nr_ring **ring, const struct nr_ring_options *options,
		   struct nr_error *error)
{
	struct nr_ring_options filled = *options;
	const struct nr_engine_type *type = find_engine(options->engine);
	struct nr_ring *r;
	int result;

	if (!type)
		return nr_error_set(error, -EINVAL, "there is no ring engine named \"%s\"",
				    options->engine);
	if (filled.entries == 0)
		filled.entries = ENTRIES;
	if (filled.arena_bytes == 0)
		filled.arena_bytes = ARENA_BYTES;
	if (filled.pinned_bytes == 0)
		filled.pinned_bytes = PINNED_BYTES;

	r = aligned_alloc(_Alignof(struct nr_ring), sizeof(*r));
	if (!r)
		return nr_error_set(error, -ENOMEM, "not enough memory for a ring");
	memset(r, 0, sizeof(*r));
	nr_inbox_init(&r->inbox);
	r->type = type;
	r->report.engine = type->name;
	result = type->create(&r->engine, r, &filled, &r->report, error);
	if (result < 0) {
		free(r);
		return result;
	}
	result = make_arena(r, &filled, error);
	if (result < 0) {
		nr_ring_destroy(r);
		return result;
	}
	*ring = r;
	return 0;
}

void nr_ring_destroy(struct nr_ring *ring)
{
	if (!ring)
		return;
	/* The engine first: it waits until the kernel lets go of all memory. */
	ring->type->destroy(ring->engine);
	nr_arena_destroy(ring->arena);
	free(ring);
}

/* ---- the rest ---------------------------------------------------------- */

const struct nr_ring_report *nr_ring_report(const struct nr_ring *ring)
{
	return &ring->report;
}

struct nr_arena *nr_ring_arena(struct nr_ring *ring)
{
	return ring->arena;
}

void nr_ring_set_context(struct nr_ring *ring, void *context)
{
	ring->context = context;
}

void *nr_ring_context(const struct nr_ring *ring)
{
	return ring->context;
}

unsigned nr_ring_in_flight(const struct nr_ring *ring)
{
	return ring->in_flight - nr_completion_busy(&ring->timer);
}

void nr_ring_hasten(struct nr_ring *ring)
{
	ring->type->hasten(ring->engine);
}

void nr_ring_adopt(struct nr_ring *ring, int fd)
{
	ring->type->adopt(ring->engine, fd);
}

void nr_ring_forget(struct nr_ring *ring, int fd)
{
	ring->type->forget(ring->engine, fd);
}

uint64_t nr_ring_now(struct nr_ring *ring)
{
	return ring->type->now(ring->engine);
}
