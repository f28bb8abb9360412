/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What a layer may do while it is being opened: read what is below it, and open a
 * stack of its own.
 *
 * Opening happens on threads that may block and that have no ring, so reading makes
 * a small one for the occasion.
 */
#include <assert.h>
#include <errno.h>
#include <string.h>

#include "nbdring/checked.h"
#include "src/stack/stack.h"
#include "src/stack/worker.h"

#define ARENA_BYTES ((size_t)8 * 1024 * 1024)

/* Reading. */

static void finished(struct nr_request *req)
{
	/* nr_read_below sees the state. */
}

static int wait_for(struct nr_worker *worker, struct nr_request *req)
{
	nr_worker_run(worker);
	while (req->internal.state != NR_REQUEST_IDLE) {
		nr_ring_turn(worker->ring, !worker->ready);
		nr_worker_run(worker);
	}
	return req->error;
}

/* One read of whole blocks, of which [OFFSET, OFFSET + LENGTH) is wanted. */
static int read_part(struct nr_worker *worker, struct nr_layer *from, uint64_t offset,
		     uint64_t length, void *data)
{
	uint32_t block = from->traits.block_min;
	uint64_t start = nr_round_down(offset, block), end;
	struct nr_request *req;
	int err;

	if (!nr_round_up(offset + length, block, &end))
		return -EINVAL;
	req = nr_request_get(worker, from->internal.stack, 0);
	if (!req)
		return -ENOMEM;
	req->operation = NR_READ;
	req->offset = start;
	req->length = end - start;
	req->internal.finished = finished;
	nr_stack_enter(from, req);
	err = wait_for(worker, req);
	if (!err)
		nr_request_copy_out(req, offset - start, length, data);
	nr_request_release(req, 0);
	return err;
}

int nr_read_below(struct nr_layer *layer, uint64_t offset, uint64_t length, void *data,
		  struct nr_error *error)
{
	struct nr_ring_options options = { .arena_bytes = ARENA_BYTES, .pinned_bytes = 4096 };
	struct nr_layer *from = layer->below;
	struct nr_worker worker;
	struct nr_ring *ring;
	int err;

	if (!nr_in_range(offset, length, nr_layer_size(from)))
		return nr_error_set(error, -EINVAL, "the disk below ends too early");
	err = nr_ring_create(&ring, &options, error);
	if (err)
		return err;
	nr_worker_init(&worker, ring, 0, layer->worker_count);
	while (length > 0 && !err) {
		uint64_t most = from->traits.block_max - (offset & (from->traits.block_min - 1));
		uint64_t part = nr_min(length, most);

		err = read_part(&worker, from, offset, part, data);
		offset += part;
		length -= part;
		data = (char *)data + part;
	}
	nr_worker_fini(&worker);
	nr_ring_destroy(ring);
	if (err)
		nr_error_system(error, err, "the disk below cannot be read");
	return err;
}

/* Stacks within stacks. */

struct nr_stack *nr_substack_open(struct nr_layer *layer, const char *words, struct nr_error *error)
{
	const struct nr_plan *outer = layer->internal.plan;
	const struct nr_surroundings *surroundings = outer->surroundings;
	struct nr_plan plan = { .read_only = outer->read_only,
				.worker_count = outer->worker_count,
				.aligner = outer->aligner,
				.surroundings = surroundings };
	struct nr_plan_memory *memory = NULL;
	struct nr_stack *stack = NULL;
	int err;

	if (!surroundings || !surroundings->parse) {
		nr_error_set(error, -ENOTSUP, "a stack within a stack is not possible here");
		return NULL;
	}
	err = surroundings->parse(words, &plan, &memory, error);
	if (!err)
		err = nr_stack_open(&stack, &plan, layer->export_name, error);
	surroundings->forget(memory);
	if (err)
		return NULL;
	nr_stack_set_outer(stack, layer->internal.stack);
	if (nr_stack_placement(stack) == NR_HOME)
		nr_stack_needs_home(layer->internal.stack);
	return stack;
}

void nr_substack_close(struct nr_stack *substack)
{
	nr_stack_close(substack);
}

const struct nr_traits *nr_substack_traits(const struct nr_stack *substack)
{
	return nr_stack_traits(substack);
}
