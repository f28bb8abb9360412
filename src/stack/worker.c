/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Request memory and the loop that moves requests.
 *
 * Request memory comes in four sizes, from slabs that are made when a pool runs
 * dry and kept: in steady state nothing is allocated.  After a rush they go back
 * to the system as soon as no request is left.
 * A request always returns to the worker it came from.
 *
 * Layers never call each other's callers: nr_finish puts a request at the end
 * of the done-queue, and nr_worker_run, called by the owner of the thread
 * between turns of the ring, takes it from there.  That is what keeps the stack
 * flat however fast a backend answers.
 */
#include "src/stack/worker.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "src/stack/stack.h"

#define SLAB_BYTES 65536u
#define SLABS_KEPT 16u
#define SLOT_BYTES_MIN 512u

struct nr_slab {
	struct nr_slab *next;
	unsigned char slot[] __attribute__((aligned(64)));
};

static void wake_delivered(struct nr_ring *ring, struct nr_message *message);

void nr_worker_init(struct nr_worker *worker, struct nr_ring *ring, unsigned index, unsigned count)
{
	memset(worker, 0, sizeof(*worker));
	worker->ring = ring;
	worker->index = index;
	worker->count = count;
	worker->ready_tail = &worker->ready;
	worker->slots_max = UINT64_MAX;
	worker->wake.deliver = wake_delivered;
	atomic_init(&worker->resumed, NULL);
	atomic_init(&worker->woken, false);
}

static void free_slabs(struct nr_worker *worker)
{
	while (worker->slabs) {
		struct nr_slab *slab = worker->slabs;

		worker->slabs = slab->next;
		munmap(slab, SLAB_BYTES);
	}
	worker->slab_count = 0;
	memset(worker->free, 0, sizeof(worker->free));
}

void nr_worker_trim(struct nr_worker *worker)
{
	if (worker->slots_used)
		return;
	nr_worker_close_pipes(worker);
	if (worker->slab_count > SLABS_KEPT)
		free_slabs(worker);
}

void nr_worker_fini(struct nr_worker *worker)
{
	assert(worker->slots_used == 0);
	free_slabs(worker);
	nr_worker_close_pipes(worker);
	assert(worker->pipe_count == 0);
	nr_worker_free_handles(worker);
	assert(worker->sleeper_count == 0);
	free(worker->sleepers);
	worker->sleepers = NULL;
}

struct nr_ring *nr_worker_ring(struct nr_worker *worker)
{
	return worker->ring;
}

unsigned nr_worker_index(const struct nr_worker *worker)
{
	return worker->index;
}

unsigned nr_worker_count(const struct nr_worker *worker)
{
	return worker->count;
}

/* Slots: the caller's header, the request, the layers' scratch. */

static struct nr_request *slot_request(void *slot, size_t header)
{
	return (struct nr_request *)((char *)slot + header);
}

static bool grow(struct nr_worker *worker, unsigned class)
{
	size_t bytes = SLOT_BYTES_MIN << class;
	struct nr_slab *slab =
		mmap(NULL, SLAB_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	unsigned char *slot;

	if (slab == MAP_FAILED)
		return false;
	slab->next = worker->slabs;
	worker->slabs = slab;
	worker->slab_count++;
	for (slot = slab->slot; slot + bytes <= (unsigned char *)slab + SLAB_BYTES; slot += bytes) {
		struct nr_request *req = slot_request(slot, 0);

		req->internal.next = worker->free[class];
		worker->free[class] = req;
	}
	return true;
}

struct nr_request *nr_request_get(struct nr_worker *worker, struct nr_stack *stack, size_t header)
{
	size_t bytes = nr_stack_request_bytes(stack, header);
	struct nr_request *req;
	unsigned class = 0;
	void *slot;

	while (SLOT_BYTES_MIN << class < bytes)
		class ++;
	assert(class < NR_SLOT_CLASSES);
	if (worker->slots_used >= worker->slots_max)
		return NULL;
	if (!worker->free[class] && !grow(worker, class))
		return NULL;
	slot = worker->free[class];
	worker->free[class] = ((struct nr_request *)slot)->internal.next;
	worker->slots_used++;

	req = slot_request(slot, header);
	memset(req, 0, sizeof(*req));
	req->worker = worker;
	req->segments = req->internal.inline_segment;
	req->internal.segment_room = NR_SEGMENTS_INLINE;
	req->internal.stack = stack;
	req->internal.slot_class = (uint16_t) class;
	req->internal.state = NR_REQUEST_IDLE;
	return req;
}

void nr_request_release(struct nr_request *req, size_t header)
{
	struct nr_worker *worker = req->worker;
	unsigned class = req->internal.slot_class;
	struct nr_request *slot;

	assert(req->internal.state == NR_REQUEST_IDLE);
	nr_answer_clear(req);
	req->internal.state = NR_REQUEST_FREE;
	slot = (struct nr_request *)((char *)req - header);
	slot->internal.next = worker->free[class];
	worker->free[class] = slot;
	worker->slots_used--;
}

/* Resuming: any thread puts requests on a stack, one message wakes the worker. */

static void take_resumed(struct nr_worker *worker)
{
	struct nr_request *newest, *oldest = NULL;

	newest = atomic_exchange_explicit(&worker->resumed, NULL, memory_order_acquire);
	while (newest) {
		struct nr_request *next = newest->internal.next;

		newest->internal.next = oldest;
		oldest = newest;
		newest = next;
	}
	while (oldest) {
		struct nr_request *req = oldest;
		struct nr_layer *layer = req->internal.at;

		oldest = req->internal.next;
		layer->type->resume(layer, req);
	}
}

static void wake_delivered(struct nr_ring *ring, struct nr_message *message)
{
	struct nr_worker *worker =
		(struct nr_worker *)((char *)message - offsetof(struct nr_worker, wake));

	/* Cleared first: who comes after this has its own message. */
	atomic_store(&worker->woken, false);
	take_resumed(worker);
}

void nr_resume(struct nr_layer *layer, struct nr_request *req)
{
	struct nr_worker *worker = req->worker;
	struct nr_request *head = atomic_load_explicit(&worker->resumed, memory_order_relaxed);

	assert(req->internal.at == layer);
	assert(layer->type->resume);
	do {
		req->internal.next = head;
	} while (!atomic_compare_exchange_weak_explicit(
		&worker->resumed, &head, req, memory_order_release, memory_order_relaxed));
	if (worker->ring && !atomic_exchange(&worker->woken, true))
		nr_ring_post(worker->ring, &worker->wake);
}

static void step_up(struct nr_request *req)
{
	struct nr_layer *to = req->internal.at;
	struct nr_layer *owner = req->internal.owner;

	/* A child in a stack of its own comes back when it is at that stack's top. */
	if (owner && (!to || (to->internal.stack == owner->internal.stack &&
			      to->internal.depth >= owner->internal.depth))) {
		req->internal.at = owner;
		req->internal.state = NR_REQUEST_IDLE;
		owner->type->child_done(owner, req);
	} else if (to) {
		req->internal.state = NR_REQUEST_DOWN;
		to->type->done(to, req);
	} else {
		req->internal.state = NR_REQUEST_IDLE;
		req->internal.finished(req);
	}
}

void nr_worker_run(struct nr_worker *worker)
{
	if (!worker->ring) {
		take_resumed(worker);
		if (worker->sleeper_count)
			nr_worker_wake_sleepers(worker);
	}
	for (unsigned steps = 0; worker->ready && steps < NR_WORKER_STEPS; steps++) {
		struct nr_request *req = worker->ready;

		worker->ready = req->internal.next;
		if (!worker->ready)
			worker->ready_tail = &worker->ready;
		worker->moved++;
		step_up(req);
	}
}
