/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The verdicts of a layer (pass, finish), children, and answers.
 *
 * nr_pass is the choke point: every request that enters a layer goes through
 * `admissible`, so layers see legal requests only, whatever the layer above
 * did.  nr_finish asserts that a request is finished by the layer that has it,
 * once.
 */
#include <assert.h>
#include <errno.h>
#include <string.h>

#include "nbdring/checked.h"
#include "nbdring/layer.h"
#include "src/stack/stack.h"
#include "src/stack/worker.h"

/* What a layer must offer to be sent an operation; a row per operation. */
static const struct {
	int16_t capability; /* enum nr_capability, or -1 */
	bool writes;
	bool ranged;   /* offset and length name a part of the disk */
	bool transfer; /* carries data: aligned to block_min and bounded by block_max */
} operations[NR_OPERATION_COUNT] = {
	[NR_READ] = { -1, false, true, true },
	[NR_WRITE] = { -1, true, true, true },
	[NR_FLUSH] = { NR_CAP_FLUSH, false, false, false },
	[NR_TRIM] = { NR_CAP_TRIM, true, true, false },
	[NR_ZERO] = { NR_CAP_ZERO, true, true, false },
	[NR_CACHE] = { NR_CAP_CACHE, false, true, false },
	[NR_EXTENTS] = { NR_CAP_EXTENTS, false, true, false },
	[NR_RESIZE] = { NR_CAP_RESIZE, true, false, false },
};

static int admissible(const struct nr_layer *layer, const struct nr_request *req)
{
	const struct nr_traits *traits = &layer->traits;
	unsigned operation = req->operation;

	if (operation >= NR_OPERATION_COUNT)
		return -EINVAL;
	if (operations[operation].writes && traits->read_only)
		return -EROFS;
	if (operations[operation].capability >= 0 &&
	    traits->support[operations[operation].capability] == NR_NONE)
		return -EINVAL;
	if ((req->flags & NR_FUA) && traits->support[NR_CAP_FUA] == NR_NONE)
		return -EINVAL;
	if ((req->flags & NR_FAST_ZERO) && traits->support[NR_CAP_FAST_ZERO] == NR_NONE)
		return -ENOTSUP;
	if (operation == NR_RESIZE && req->offset > NR_SIZE_MAX)
		return -ENOSPC;
	if (operation == NR_EXTENTS && req->metadata > traits->context_count)
		return -EINVAL;
	if (!operations[operation].ranged)
		return 0;
	if (req->length == 0 || !nr_in_range(req->offset, req->length, nr_layer_size(layer)))
		return operations[operation].writes ? -ENOSPC : -EINVAL;
	if (!nr_is_aligned(req->offset | req->length, traits->block_min))
		return -EINVAL;
	if (operations[operation].transfer && req->length > traits->block_max)
		return -EINVAL;
	return 0;
}

uint64_t nr_layer_size(const struct nr_layer *layer)
{
	return atomic_load_explicit(&layer->internal.size, memory_order_relaxed);
}

static void send_down(struct nr_layer *to, struct nr_request *req)
{
	int error = admissible(to, req);

	req->internal.at = to;
	req->internal.state = NR_REQUEST_DOWN;
	if (error)
		nr_finish(to, req, error);
	else
		to->type->submit(to, req);
}

void nr_pass(struct nr_layer *layer, struct nr_request *req)
{
	assert(layer->internal.submit_to);
	assert(req->internal.at == layer);
	send_down(layer->internal.submit_to, req);
}

void nr_stack_enter(struct nr_layer *top, struct nr_request *req)
{
	assert(req->internal.state == NR_REQUEST_IDLE);
	send_down(top->type->submit ? top : top->internal.submit_to, req);
}

void nr_finish(struct nr_layer *layer, struct nr_request *req, int error)
{
	struct nr_worker *worker = req->worker;

	assert(req->internal.state == NR_REQUEST_DOWN);
	assert(req->internal.at == layer);
	if (error == 0 && req->operation == NR_READ && req->internal.answered != req->length)
		error = -EIO;
	if (error && req->operation == NR_READ)
		nr_answer_clear(req);
	if (error && !req->internal.failed_at)
		req->internal.failed_at = layer;
	req->error = error;
	req->internal.at = layer->internal.done_to;
	req->internal.state = NR_REQUEST_READY;
	req->internal.next = NULL;
	*worker->ready_tail = req;
	worker->ready_tail = &req->internal.next;
}

void *nr_scratch(const struct nr_layer *layer, struct nr_request *req)
{
	return (char *)(req + 1) + layer->internal.scratch_offset;
}

static struct nr_request *new_child(struct nr_layer *layer, struct nr_stack *stack,
				    struct nr_request *parent, enum nr_operation operation,
				    uint64_t offset, uint64_t length)
{
	struct nr_request *child = nr_request_get(parent->worker, stack, 0);

	if (!child)
		return NULL;
	assert(layer->type->child_done);
	child->operation = operation;
	child->offset = offset;
	child->length = length;
	if (operation == NR_EXTENTS && parent->operation == NR_EXTENTS)
		child->metadata = parent->metadata;
	child->session = parent->session;
	child->internal.parent = parent;
	child->internal.owner = layer;
	child->internal.at = layer;
	return child;
}

struct nr_request *nr_child(struct nr_layer *layer, struct nr_request *parent,
			    enum nr_operation operation, uint64_t offset, uint64_t length)
{
	return new_child(layer, parent->internal.stack, parent, operation, offset, length);
}

struct nr_request *nr_child_in(struct nr_layer *layer, struct nr_stack *substack,
			       struct nr_request *parent, enum nr_operation operation,
			       uint64_t offset, uint64_t length)
{
	return new_child(layer, substack, parent, operation, offset, length);
}

void nr_enter(struct nr_stack *substack, struct nr_request *child)
{
	nr_stack_submit(substack, child);
}

struct nr_request *nr_child_parent(const struct nr_request *child)
{
	return child->internal.parent;
}

struct nr_request *nr_background(struct nr_layer *layer, struct nr_worker *worker,
				 enum nr_operation operation, uint64_t offset, uint64_t length)
{
	struct nr_stack *stack = layer->internal.stack;
	struct nr_keeper *keeper = nr_stack_keeper(stack);
	struct nr_request *req;

	assert(layer->type->child_done);
	if (worker->no_background || (keeper && !keeper->keep(keeper)))
		return NULL;
	req = nr_request_get(worker, stack, 0);
	if (!req) {
		if (keeper)
			keeper->let_go(keeper, worker);
		return NULL;
	}
	req->operation = operation;
	req->offset = offset;
	req->length = length;
	req->internal.owner = layer;
	req->internal.at = layer;
	return req;
}

void nr_child_release(struct nr_request *child)
{
	struct nr_worker *worker = child->worker;
	struct nr_keeper *keeper = NULL;

	/* Its parent's answer needs what it has: released with that. */
	if (child->internal.lent_count) {
		child->internal.given_back = true;
		return;
	}
	if (!child->internal.parent)
		keeper = nr_stack_keeper(child->internal.stack);
	nr_request_release(child, 0);
	/* Last: the stack may be closed from here on. */
	if (keeper)
		keeper->let_go(keeper, worker);
}

/* Answers. */

/*
 * Behind the NR_SEGMENTS_MAX segments of an answer that has outgrown the inline ones:
 * when those are used up as well, what came so far is copied to one place, and what
 * follows too.  So an answer in very many pieces costs a copy, and no layer need care.
 */
struct gathering {
	uint8_t *data; /* of the only segment; NULL: nothing is gathered */
	uint64_t room;
};

/* NULL while the segments are the inline ones. */
static struct gathering *gathering_of(const struct nr_request *req)
{
	if (!req->internal.segment_memory)
		return NULL;
	return (struct gathering *)(void *)(req->segments + NR_SEGMENTS_MAX);
}

static bool more_room(struct nr_request *req)
{
	size_t bytes = NR_SEGMENTS_MAX * sizeof(struct nr_segment) + sizeof(struct gathering);
	struct nr_segment *bigger;
	struct nr_buffer *owner;
	uint8_t *data;

	if (req->internal.segment_memory)
		return false;
	owner = nr_buffer_get(req->worker, bytes, &data);
	if (!owner)
		return false;
	assert(req->segments);
	bigger = (struct nr_segment *)(void *)data;
	memcpy(bigger, req->segments, req->segment_count * sizeof(*bigger));
	req->internal.segment_memory = owner;
	req->internal.segment_room = NR_SEGMENTS_MAX;
	req->segments = bigger;
	*gathering_of(req) = (struct gathering){ .data = NULL };
	return true;
}

static void release_segments(struct nr_request *req)
{
	for (uint32_t i = 0; i < req->segment_count; i++)
		if (req->segments[i].owner)
			req->segments[i].owner->release(req->segments[i].owner);
	req->segment_count = 0;
}

static bool is_pipe(const struct nr_buffer *owner)
{
	return owner && owner->kind == NR_BUFFER_PIPE;
}

static bool has_pipe(const struct nr_request *req)
{
	for (uint32_t i = 0; i < req->segment_count; i++)
		if (is_pipe(req->segments[i].owner))
			return true;
	return false;
}

/*
 * One segment of all the answer so far, with room for the rest.  What is in a pipe is
 * not in memory, and stays a segment of its own.
 */
static bool gather(struct nr_request *req)
{
	struct gathering *g = gathering_of(req);
	struct nr_buffer *owner;
	uint8_t *data;

	if (!g || req->length > NR_TRANSFER_MAX || has_pipe(req))
		return false;
	owner = nr_buffer_get(req->worker, req->length, &data);
	if (!owner)
		return false;
	nr_request_copy_out(req, 0, req->internal.answered, data);
	release_segments(req);
	req->segments[req->segment_count++] =
		(struct nr_segment){ data, req->internal.answered, owner };
	*g = (struct gathering){ data, req->length };
	return true;
}

/* Behind what was gathered, if it was and it fits; OWNER may go then. */
static bool add_gathered(struct nr_request *req, const void *data, uint64_t length,
			 struct nr_buffer *owner)
{
	struct gathering *g = gathering_of(req);

	if (!g || !g->data || length > g->room - req->internal.answered || is_pipe(owner))
		return false;
	assert(req->segment_count == 1);
	assert(req->segments[0].data == g->data);
	assert(req->segments[0].length == req->internal.answered);
	if (data)
		memcpy(g->data + req->internal.answered, data, length);
	else
		memset(g->data + req->internal.answered, 0, length);
	req->segments[0].length += length;
	req->internal.answered += length;
	if (owner)
		owner->release(owner);
	return true;
}

/* What is in the list is no longer what was gathered alone. */
static void end_gathering(struct nr_request *req)
{
	struct gathering *g = gathering_of(req);

	if (g)
		g->data = NULL;
}

static bool answer(struct nr_request *req, void *data, uint64_t length, struct nr_buffer *owner)
{
	assert(req->operation == NR_READ);
	if (length == 0 || length > req->length - req->internal.answered)
		return false;
	if (req->segment_count == req->internal.segment_room && !more_room(req) && !gather(req))
		return false;
	if (add_gathered(req, data, length, owner))
		return true;
	assert(req->segments);
	end_gathering(req);
	req->segments[req->segment_count++] = (struct nr_segment){ data, length, owner };
	req->internal.answered += length;
	return true;
}

bool nr_answer_data(struct nr_request *req, void *data, uint64_t length, struct nr_buffer *owner)
{
	if (answer(req, data, length, owner))
		return true;
	if (owner)
		owner->release(owner);
	return false;
}

/* Where the bytes of a pipe are not: nobody looks there. */
static uint8_t in_a_pipe;

bool nr_takes_pipe(const struct nr_request *req)
{
	return req->internal.takes_pipe;
}

bool nr_answer_pipe(struct nr_request *req, uint64_t length, struct nr_buffer *pipe)
{
	assert(pipe->kind == NR_BUFFER_PIPE);
	assert(req->internal.takes_pipe);
	return nr_answer_data(req, &in_a_pipe, length, pipe);
}

bool nr_answer_hole(struct nr_request *req, uint64_t length)
{
	struct nr_segment *last =
		req->segment_count ? &req->segments[req->segment_count - 1] : NULL;

	if (last && !last->data && length <= req->length - req->internal.answered) {
		last->length += length;
		req->internal.answered += length;
		return true;
	}
	return answer(req, NULL, length, NULL);
}

/* A piece that was lent to the parent is no longer needed there. */
static void lent_back(struct nr_buffer *lent)
{
	struct nr_request *child =
		(struct nr_request *)((char *)lent - offsetof(struct nr_request, internal.lent));

	assert(child->internal.lent_count > 0);
	if (--child->internal.lent_count == 0 && child->internal.given_back)
		nr_request_release(child, 0);
}

/* What may be done with all of CHILD's answer, as one owner stands for all of its. */
static struct nr_buffer *lend(struct nr_request *child)
{
	struct nr_buffer *lent = &child->internal.lent;

	if (child->internal.lent_count++)
		return lent;
	*lent = (struct nr_buffer){ .release = lent_back, .kind = NR_BUFFER_LASTING };
	for (uint32_t i = 0; i < child->segment_count; i++) {
		const struct nr_buffer *owner = child->segments[i].owner;

		assert(!is_pipe(owner));
		if (child->segments[i].data && (!owner || owner->kind != NR_BUFFER_LASTING))
			lent->kind = NR_BUFFER_PLAIN;
	}
	return lent;
}

bool nr_answer_part(struct nr_request *req, struct nr_request *child, uint64_t from,
		    uint64_t length)
{
	const struct nr_segment *segment = child->segments;

	assert(child->internal.parent == req);
	assert(nr_in_range(from, length, child->internal.answered));
	for (; length && from >= segment->length; segment++)
		from -= segment->length;
	for (; length; segment++) {
		uint64_t part = nr_min(segment->length - from, length);
		bool fits = segment->data
				    ? nr_answer_data(req, segment->data + from, part, lend(child))
				    : nr_answer_hole(req, part);

		if (!fits)
			return false;
		length -= part;
		from = 0;
	}
	return true;
}

static void drop_segment(struct nr_request *req, uint32_t index)
{
	struct nr_segment *segment = &req->segments[index];

	if (segment->owner)
		segment->owner->release(segment->owner);
	req->segment_count--;
	memmove(segment, segment + 1, (req->segment_count - index) * sizeof(*segment));
}

void nr_answer_cut(struct nr_request *req, uint64_t from, uint64_t length)
{
	uint64_t left = length;
	uint32_t i = 0;

	assert(nr_in_range(from, length, req->internal.answered));
	end_gathering(req);
	while (i < req->segment_count) {
		struct nr_segment *segment = &req->segments[i];
		uint64_t skip = nr_min(from, segment->length);

		from -= skip;
		segment->length -= skip;
		if (segment->data)
			segment->data += skip;
		segment->length = nr_min(segment->length, left);
		left -= segment->length;
		if (segment->length == 0)
			drop_segment(req, i);
		else
			i++;
	}
	assert(left == 0);
	req->internal.answered = length;
}

void nr_answer_clear(struct nr_request *req)
{
	if (req->internal.answered) {
		release_segments(req);
		req->internal.answered = 0;
	}
	if (req->internal.segment_memory) {
		req->internal.segment_memory->release(req->internal.segment_memory);
		req->internal.segment_memory = NULL;
		req->internal.segment_room = NR_SEGMENTS_INLINE;
		req->segments = req->internal.inline_segment;
	}
}

void nr_request_copy_out(const struct nr_request *req, uint64_t from, uint64_t length, void *to)
{
	uint8_t *out = to;

	for (uint32_t i = 0; i < req->segment_count && length; i++) {
		const struct nr_segment *segment = &req->segments[i];
		uint64_t part;

		if (from >= segment->length) {
			from -= segment->length;
			continue;
		}
		part = nr_min(segment->length - from, length);
		if (segment->data)
			memcpy(out, segment->data + from, part);
		else
			memset(out, 0, part);
		out += part;
		length -= part;
		from = 0;
	}
	assert(length == 0);
}
