/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The engine "sim".  See engine.h.
 *
 * Lists: an operation is in `queue` (started, not handed over yet), in `flying`
 * (a device has it), or in `outcomes` (to be reported).  Cancellations go through
 * `queue` too, in order with the operations, and find an operation in any of its
 * stages, or not at all: then, and by chance when it is on its way, the ring hears
 * that nothing was found.
 */
#undef NDEBUG
#include "tests/sim/engine.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "ring/arena.h"
#include "ring/front.h"

#define PAUSE_NS SIM_MILLISECOND /* before a file is tried again */
#define STAMP_WHOLE 4096u        /* so much memory is looked at as a whole, … */
#define STAMP_LINES 32u          /* … and of more, so many lines, first and last among them */
#define LINE 64u

struct list {
	struct sim_op *first, **tail;
};

struct nr_engine {
	struct nr_ring *ring;
	struct list queue, flying, outcomes;
	unsigned queued, entries;
	bool driven;
};

unsigned sim_engine_entries = 256;
bool sim_engine_discard;
uint64_t sim_operations;

/* ---- lists ------------------------------------------------------------- */

static void list_init(struct list *list)
{
	list->first = NULL;
	list->tail = &list->first;
}

static void list_append(struct list *list, struct sim_op *op)
{
	op->next = NULL;
	op->link = list->tail;
	*list->tail = op;
	list->tail = &op->next;
}

static void list_remove(struct list *list, struct sim_op *op)
{
	*op->link = op->next;
	if (op->next)
		op->next->link = op->link;
	else
		list->tail = op->link;
}

static struct sim_op *list_find(const struct list *list, const struct nr_completion *c)
{
	struct sim_op *op = list->first;

	while (op && (op->c != c || op->missed))
		op = op->next;
	return op;
}

/* ---- an operation's memory --------------------------------------------- */

static unsigned vectors(const struct sim_op *op, const struct iovec **vector)
{
	struct nr_completion *c = op->c;

	*vector = c->u.io.vector ? c->u.io.vector : &c->u.io.single;
	return c->count;
}

static uint64_t total(const struct sim_op *op)
{
	const struct iovec *v;
	unsigned count = vectors(op, &v);
	uint64_t sum = 0;

	for (unsigned i = 0; i < count; i++)
		sum += v[i].iov_len;
	return sum;
}

uint64_t sim_op_left(const struct sim_op *op)
{
	return total(op) - op->moved;
}

/* Copies in or out; GIVE: into the operation's memory. */
static void copy(const struct sim_op *op, uint64_t from, uint8_t *data, uint64_t length, bool give)
{
	const struct iovec *v;
	unsigned count = vectors(op, &v);

	for (unsigned i = 0; i < count && length; i++) {
		uint64_t part;

		if (from >= v[i].iov_len) {
			from -= v[i].iov_len;
			continue;
		}
		part = v[i].iov_len - from < length ? v[i].iov_len - from : length;
		if (give)
			memcpy((uint8_t *)v[i].iov_base + from, data, part);
		else
			memcpy(data, (const uint8_t *)v[i].iov_base + from, part);
		data += part;
		length -= part;
		from = 0;
	}
	assert(length == 0);
}

void sim_op_peek(const struct sim_op *op, uint64_t from, void *to, uint64_t length)
{
	copy(op, from, to, length, false);
}

static bool is_source(const struct sim_op *op)
{
	return op->operation == NR_RING_SEND || op->operation == NR_RING_SHARE ||
	       op->operation == NR_RING_WRITE;
}

static bool has_memory(const struct sim_op *op)
{
	return is_source(op) || op->operation == NR_RING_RECV || op->operation == NR_RING_READ;
}

static uint64_t stamp_part(uint64_t hash, const uint8_t *data, size_t length)
{
	if (length <= STAMP_WHOLE)
		return sim_hash_bytes(hash, data, length);
	for (unsigned i = 0; i < STAMP_LINES; i++)
		hash = sim_hash_bytes(hash, data + (length - LINE) / (STAMP_LINES - 1) * i, LINE);
	return hash;
}

/*
 * What the memory looks like, as far as it lies in the arena; and that the arena has
 * given it to somebody.  (Elsewhere are the blocks of the backend `memory`, which a
 * write may change while a read of them is being sent.)
 */
static uint64_t stamp(const struct sim_op *op)
{
	const struct nr_arena *arena = nr_ring_arena(op->engine->ring);
	uintptr_t base = (uintptr_t)nr_arena_base(arena);
	const struct iovec *v;
	unsigned count = vectors(op, &v);
	uint64_t hash = 1;

	for (unsigned i = 0; i < count; i++) {
		const uint8_t *data = v[i].iov_base;

		if (!v[i].iov_len || (uintptr_t)data - base >= nr_arena_capacity(arena))
			continue;
		assert(nr_arena_block_of(arena, data) ==
		       nr_arena_block_of(arena, data + v[i].iov_len - 1));
		hash = stamp_part(hash, data, v[i].iov_len);
	}
	return hash;
}

static void check(const struct sim_op *op, const char *when)
{
	if (stamp(op) != op->stamp)
		sim_fail("memory of %s was changed by somebody else (%s)",
			 is_source(op) ? "what is being sent or written"
				       : "what is being received or read",
			 when);
}

void sim_op_take(struct sim_op *op, void *to, uint64_t length)
{
	/* It is looked at again in the end: not for every small part. */
	if (op->moved == 0 || sim_one_in(16))
		check(op, "when it was taken");
	copy(op, op->moved, to, length, false);
	op->moved += length;
}

void sim_op_give(struct sim_op *op, const void *from, uint64_t length)
{
	check(op, "before it was filled");
	copy(op, op->moved, (uint8_t *)(uintptr_t)from, length, true);
	op->moved += length;
	op->stamp = stamp(op);
}

/* ---- starting ---------------------------------------------------------- */

static bool sim_start(struct nr_engine *e, struct nr_completion *c)
{
	struct sim_op *op;

	if (e->queued >= e->entries)
		return false;
	op = sim_alloc(sizeof(*op));
	op->engine = e;
	op->c = c;
	op->operation = c->operation;
	op->waiting = c->flags & NR_ATTEMPT_WAIT;
	list_append(&e->queue, op);
	e->queued++;
	if (has_memory(op) && !op->waiting)
		op->stamp = stamp(op);
	return true;
}

static bool sim_cancel(struct nr_engine *e, struct nr_completion *c)
{
	struct sim_op *op;

	if (e->queued >= e->entries)
		return false;
	op = sim_alloc(sizeof(*op));
	op->engine = e;
	op->c = c;
	op->missed = true;
	list_append(&e->queue, op);
	e->queued++;
	return true;
}

void sim_op_done(struct sim_op *op, int64_t result)
{
	struct nr_engine *e = op->engine;

	assert(!sim_scheduled(&op->event));
	op->device = NULL;
	op->cancel = NULL;
	op->result = result;
	list_remove(&e->flying, op);
	list_append(&e->outcomes, op);
}

/* ---- what needs no device ---------------------------------------------- */

static void time_over(struct sim_event *event)
{
	sim_op_done((struct sim_op *)event, -ETIME);
}

static bool cancel_timer(struct sim_op *op)
{
	sim_unschedule(&op->event);
	return true;
}

static void start_timer(struct sim_op *op, uint64_t nanoseconds)
{
	op->event.fire = time_over;
	op->event.name = "timeout";
	op->cancel = cancel_timer;
	sim_schedule(&op->event, nanoseconds);
}

/* ---- the turn ---------------------------------------------------------- */

static bool on_socket(uint8_t operation)
{
	return operation == NR_RING_RECV || operation == NR_RING_SEND ||
	       operation == NR_RING_SHARE || operation == NR_RING_ACCEPT ||
	       operation == NR_RING_CONNECT || operation == NR_RING_POLL;
}

static bool may_be_interrupted(const struct sim_op *op)
{
	return op->operation != NR_RING_TIMEOUT && op->operation != NR_RING_POLL && !op->waiting;
}

static void hand_over(struct nr_engine *e, struct sim_op *op)
{
	list_append(&e->flying, op);
	sim_operations++;
	sim_note("start", op->operation, (uint64_t)op->c->fd);
	if (may_be_interrupted(op) && sim_one_in(sim_faults.interrupted)) {
		bool again = op->c->flags & NR_ATTEMPT_BLOCKING || sim_one_in(2);

		sim_op_done(op, again ? -EINTR : -EAGAIN);
	} else if (op->operation == NR_RING_TIMEOUT) {
		start_timer(op, op->c->offset);
	} else if (on_socket(op->operation)) {
		sim_socket_start(op);
	} else if (op->waiting) {
		start_timer(op, PAUSE_NS);
	} else {
		sim_disk_start(op);
	}
}

/* A cancellation reaches the kernel: OP, its entry, reports that nothing was found, or goes. */
static void look_for(struct nr_engine *e, struct sim_op *op)
{
	struct sim_op *found = list_find(&e->flying, op->c);

	if (found && found->cancel && !sim_one_in(sim_faults.cancel_lost) && found->cancel(found)) {
		sim_note("cancelled", found->operation, 0);
		sim_op_done(found, -ECANCELED);
		free(op);
		return;
	}
	sim_note("cancel missed", found != NULL, 0);
	list_append(&e->outcomes, op);
}

static void submit(struct nr_engine *e)
{
	struct sim_op *op;

	while ((op = e->queue.first)) {
		list_remove(&e->queue, op);
		e->queued--;
		if (op->missed)
			look_for(e, op);
		else
			hand_over(e, op);
	}
}

static void sim_hasten(struct nr_engine *e)
{
	if (sim_one_in(2))
		submit(e);
}

static void report(struct nr_engine *e, struct sim_op *op)
{
	struct nr_completion *c = op->c;
	int64_t result = op->result;
	bool missed = op->missed;

	if (!missed) {
		sim_note("done", op->operation, (uint64_t)result);
		if (has_memory(op) && !op->waiting)
			check(op, "before the outcome was reported");
	}
	free(op);
	if (missed)
		nr_ring_cancel_missed(e->ring, c);
	else
		nr_ring_attempt_done(e->ring, c, result);
}

static void sim_turn(struct nr_engine *e, bool wait)
{
	struct sim_op *last, *op;

	submit(e);
	while (wait && !e->driven && !e->outcomes.first)
		if (!sim_fire_next())
			sim_fail("a ring waits for what will never come");
	/* What comes while `done` functions run is for the next turn. */
	if (!e->outcomes.first)
		return;
	last = (struct sim_op *)((char *)e->outcomes.tail - offsetof(struct sim_op, next));
	do {
		op = e->outcomes.first;
		list_remove(&e->outcomes, op);
		report(e, op);
	} while (op != last);
}

static void sim_wake(struct nr_engine *e)
{
	/* Who drives the owner looks into the inbox: sim_ring_has_work. */
	(void)e;
}

bool sim_ring_has_work(struct nr_ring *ring)
{
	const struct nr_engine *e = ring->engine;

	return e->queue.first || e->outcomes.first || ring->held.first || ring->ready.first ||
	       ring->wanted.first || atomic_load_explicit(&ring->inbox.top, memory_order_relaxed);
}

void sim_ring_is_driven(struct nr_ring *ring)
{
	ring->engine->driven = true;
}

/* ---- making ------------------------------------------------------------ */

static int sim_create(struct nr_engine **engine, struct nr_ring *ring,
		      const struct nr_ring_options *options, struct nr_ring_report *filled,
		      struct nr_error *error)
{
	struct nr_engine *e = sim_alloc(sizeof(*e));

	(void)options;
	(void)error;
	e->ring = ring;
	e->entries = sim_engine_entries;
	list_init(&e->queue);
	list_init(&e->flying);
	list_init(&e->outcomes);
	filled->flags = "";
	filled->discard = sim_engine_discard;
	*engine = e;
	return 0;
}

/* Timeouts may be under way, nothing else: everything else is waited for by its owner. */
static void sim_destroy(struct nr_engine *e)
{
	struct sim_op *op;

	while ((op = e->queue.first)) {
		list_remove(&e->queue, op);
		free(op);
	}
	while ((op = e->outcomes.first)) {
		list_remove(&e->outcomes, op);
		free(op);
	}
	while ((op = e->flying.first)) {
		if (op->operation != NR_RING_TIMEOUT && op->operation != NR_RING_ACCEPT)
			sim_fail("a ring ends with operation %u under way", op->operation);
		if (op->cancel)
			(void)op->cancel(op);
		list_remove(&e->flying, op);
		free(op);
	}
	free(e);
}

static size_t sim_pin(struct nr_engine *e, void *memory, size_t bytes)
{
	(void)e;
	(void)memory;
	return bytes;
}

static uint64_t sim_engine_now(struct nr_engine *e)
{
	(void)e;
	return sim_now();
}

/* sockets.c */
void sim_socket_adopt(struct nr_engine *e, int fd);
void sim_socket_forget(struct nr_engine *e, int fd);

const struct nr_engine_type nr_engine_sim = {
	.name = "sim",
	.create = sim_create,
	.destroy = sim_destroy,
	.pin = sim_pin,
	.start = sim_start,
	.cancel = sim_cancel,
	.hasten = sim_hasten,
	.turn = sim_turn,
	.wake = sim_wake,
	.adopt = sim_socket_adopt,
	.forget = sim_socket_forget,
	.now = sim_engine_now,
};

const struct nr_engine_type *const nr_engines[] = { &nr_engine_sim, NULL };
