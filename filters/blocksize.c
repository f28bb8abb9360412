/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Strict below, loose above: byte access to a disk of blocks.
 *
 * Aligned requests pass untouched.  Others are rounded out and cut back (read,
 * cache, extents), rounded in (trim), or become a read of the blocks at the ends,
 * a change in memory and a write (write, zero).
 *
 * A read-change-write must not undo what someone else writes to the same blocks
 * meanwhile, so it holds its range exclusively (rangelock.h), and whole-block
 * writes hold theirs shared.
 *
 * An unaligned write is one buffer that covers its blocks: the first and last
 * block are read into it by child requests, the data is copied over them, and the
 * request itself goes down with that buffer.  An unaligned zero is at most three
 * steps: a write like that for the first block, a zero of whole blocks, a write
 * for the last.
 */
#include <assert.h>
#include <errno.h>
#include <string.h>

#include "filters/filters.h"
#include "filters/rangelock.h"
#include "nbdring/checked.h"

struct blocksize {
	uint32_t block; /* of the layer below, bytes */
	struct nr_rangelock lock;
};

enum kind {
	KIND_PASS,    /* nothing of ours */
	KIND_LOCKED,  /* whole blocks; holds the lock shared */
	KIND_ROUNDED, /* read, cache, extents rounded out; trim rounded in */
	KIND_WRITE,   /* read the ends, change, write */
	KIND_ZERO,    /* in steps */
};

struct state {
	enum kind kind;
	bool locked;
	bool began;              /* the lock was taken and the first step begun */
	uint8_t reads;           /* children under way */
	int error;               /* the first of a child */
	uint64_t offset, length; /* as asked */
	uint64_t position;       /* zero: done up to here */
	enum nr_operation operation;
	uint32_t flags;
	struct nr_range_ticket ticket;
	struct nr_buffer *buffer; /* whole blocks around what is written */
	uint8_t *data;
	uint64_t from, to;           /* of the disk, what `buffer` covers */
	struct nr_segment *segments; /* of the write, as given */
	uint32_t segment_count;
	struct nr_segment segment; /* of the write, as passed down */
};

static void step(struct nr_layer *layer, struct nr_request *req, struct state *s);

static int open_lock(struct nr_layer *layer, struct nr_error *error)
{
	struct blocksize *b = layer->instance;

	nr_rangelock_init(&b->lock);
	return 0;
}

static void close_lock(struct nr_layer *layer)
{
	struct blocksize *b = layer->instance;

	nr_rangelock_fini(&b->lock);
}

static int describe(struct nr_layer *layer, struct nr_traits *t, struct nr_error *error)
{
	struct blocksize *b = layer->instance;

	b->block = layer->below->traits.block_min;
	t->block_min = 1;
	return 0;
}

static uint64_t block_start(const struct blocksize *b, uint64_t offset)
{
	return nr_round_down(offset, b->block);
}

/* Cannot overflow: the end of a request is at most 2^63-1. */
static uint64_t block_end(const struct blocksize *b, uint64_t offset)
{
	return nr_round_down(offset + b->block - 1, b->block);
}

/* The end of everything: gives back what is held and goes up. */
static void finish(struct nr_layer *layer, struct nr_request *req, struct state *s, int error)
{
	struct blocksize *b = layer->instance;

	if (s->buffer) {
		s->buffer->release(s->buffer);
		s->buffer = NULL;
	}
	if (s->locked)
		nr_rangelock_give(&b->lock, &s->ticket);
	s->locked = false;
	nr_finish(layer, req, error);
}

static void put_back(struct nr_request *req, const struct state *s)
{
	req->operation = s->operation;
	req->flags = s->flags;
	req->offset = s->offset;
	req->length = s->length;
	if (s->segments) {
		req->segments = s->segments;
		req->segment_count = s->segment_count;
	}
}

/* Rounding. */

static void submit_rounded(struct nr_layer *layer, struct nr_request *req, struct state *s)
{
	struct blocksize *b = layer->instance;
	uint64_t from = block_start(b, req->offset), to = block_end(b, req->offset + req->length);

	if (req->operation == NR_TRIM) {
		from = block_end(b, req->offset);
		to = block_start(b, req->offset + req->length);
		if (from >= to) {
			nr_finish(layer, req, 0); /* not a whole block in it */
			return;
		}
	}
	s->kind = KIND_ROUNDED;
	req->offset = from;
	req->length = to - from;
	if (req->operation == NR_EXTENTS) {
		req->extents->start = req->extents->next = from;
		req->extents->end = to;
	}
	nr_pass(layer, req);
}

/* The list begins before and may end behind what was asked. */
static void cut_extents(struct nr_extents *list, uint64_t from, uint64_t to)
{
	uint64_t head = from - list->start;

	assert(list->count == 0 || list->extent[0].length > head);
	list->start = from;
	list->end = to;
	if (list->count == 0)
		return;
	list->extent[0].length -= head;
	while (list->next > to) {
		struct nr_extent *last = &list->extent[list->count - 1];
		uint64_t over = nr_min(list->next - to, last->length);

		last->length -= over;
		list->next -= over;
		if (last->length == 0)
			list->count--;
	}
}

static void done_rounded(struct nr_layer *layer, struct nr_request *req, struct state *s)
{
	uint64_t from = req->offset;

	put_back(req, s);
	if (req->operation == NR_EXTENTS && !req->error)
		cut_extents(req->extents, s->offset, s->offset + s->length);
	if (req->operation == NR_READ && !req->error)
		nr_answer_cut(req, s->offset - from, s->length);
	finish(layer, req, s, req->error);
}

/* Reading the ends into the buffer. */

static int get_buffer(struct nr_layer *layer, struct nr_request *req, struct state *s)
{
	if (s->to - s->from > layer->below->traits.block_max)
		return -EINVAL;
	s->buffer = nr_buffer_get(req->worker, s->to - s->from, &s->data);
	return s->buffer ? 0 : -ENOMEM;
}

static void read_block(struct nr_layer *layer, struct nr_request *req, struct state *s,
		       uint64_t offset)
{
	struct blocksize *b = layer->instance;
	struct nr_request *child = nr_child(layer, req, NR_READ, offset, b->block);

	if (!child) {
		s->error = -ENOMEM;
		return;
	}
	s->reads++;
	nr_pass(layer, child);
}

/*
 * Read the first and the last block of [from, to) where what is written,
 * [START, END), covers only part of them.
 */
static void read_ends(struct nr_layer *layer, struct nr_request *req, struct state *s,
		      uint64_t start, uint64_t end)
{
	struct blocksize *b = layer->instance;
	bool first = start > s->from, last = end < s->to;

	if (first)
		read_block(layer, req, s, s->from);
	if (last && !(first && s->to - s->from == b->block))
		read_block(layer, req, s, s->to - b->block);
	if (s->reads == 0)
		step(layer, req, s); /* no memory for even one */
}

static void child_done(struct nr_layer *layer, struct nr_request *child)
{
	struct nr_request *req = nr_child_parent(child);
	struct state *s = nr_scratch(layer, req);

	if (child->error)
		s->error = child->error;
	else
		nr_request_copy_out(child, 0, child->length, s->data + (child->offset - s->from));
	nr_child_release(child);
	if (--s->reads == 0)
		step(layer, req, s);
}

/* Writes. */

static void write_buffer(struct nr_layer *layer, struct nr_request *req, struct state *s)
{
	s->segments = req->segments;
	s->segment_count = req->segment_count;
	s->segment = (struct nr_segment){ s->data, s->to - s->from, NULL };
	req->operation = NR_WRITE;
	req->segments = &s->segment;
	req->segment_count = 1;
	req->offset = s->from;
	req->length = s->to - s->from;
	nr_pass(layer, req);
}

static void begin_write(struct nr_layer *layer, struct nr_request *req, struct state *s)
{
	struct blocksize *b = layer->instance;
	int err;

	s->from = block_start(b, s->offset);
	s->to = block_end(b, s->offset + s->length);
	err = get_buffer(layer, req, s);
	if (err)
		finish(layer, req, s, err);
	else
		read_ends(layer, req, s, s->offset, s->offset + s->length);
}

/* Zeroes: where the step that begins at `position` ends. */

static uint64_t zero_step_end(const struct blocksize *b, const struct state *s)
{
	uint64_t end = s->offset + s->length, whole = block_start(b, end);

	if (nr_is_aligned(s->position, b->block) && whole > s->position)
		return whole;
	return nr_min(end, block_start(b, s->position) + b->block);
}

static void begin_zero_step(struct nr_layer *layer, struct nr_request *req, struct state *s)
{
	struct blocksize *b = layer->instance;
	uint64_t end = zero_step_end(b, s);
	int err;

	req->operation = NR_ZERO;
	req->flags = s->flags;
	req->offset = s->position;
	req->length = end - s->position;
	if (nr_is_aligned(req->offset | req->length, b->block)) {
		s->position = end;
		nr_pass(layer, req);
		return;
	}
	s->from = block_start(b, s->position);
	s->to = s->from + b->block;
	err = get_buffer(layer, req, s);
	if (err) {
		put_back(req, s);
		finish(layer, req, s, err);
		return;
	}
	read_ends(layer, req, s, s->position, end);
}

/* The ends have been read: change the buffer and write it. */
static void step(struct nr_layer *layer, struct nr_request *req, struct state *s)
{
	struct blocksize *b = layer->instance;

	if (s->error) {
		put_back(req, s);
		finish(layer, req, s, s->error);
	} else if (s->kind == KIND_WRITE) {
		nr_request_copy_out(req, 0, s->length, s->data + (s->offset - s->from));
		write_buffer(layer, req, s);
	} else {
		uint64_t end = zero_step_end(b, s);

		memset(s->data + (s->position - s->from), 0, end - s->position);
		s->position = end;
		req->flags = s->flags & NR_FUA;
		write_buffer(layer, req, s);
	}
}

static void done_zero_step(struct nr_layer *layer, struct nr_request *req, struct state *s)
{
	int error = req->error;

	put_back(req, s);
	if (s->buffer) {
		s->buffer->release(s->buffer);
		s->buffer = NULL;
	}
	if (error || s->position == s->offset + s->length)
		finish(layer, req, s, error);
	else
		begin_zero_step(layer, req, s);
}

/* Slots. */

/* The lock is held: begin what it was taken for. */
static void begin_locked(struct nr_layer *layer, struct nr_request *req, struct state *s)
{
	s->locked = true;
	if (s->kind == KIND_LOCKED)
		nr_pass(layer, req);
	else if (s->kind == KIND_WRITE)
		begin_write(layer, req, s);
	else
		begin_zero_step(layer, req, s);
}

static void take_lock(struct nr_layer *layer, struct nr_request *req)
{
	struct blocksize *b = layer->instance;
	struct state *s = nr_scratch(layer, req);

	if (nr_rangelock_take(&b->lock, &s->ticket))
		begin_locked(layer, req, s);
}

static bool changes(const struct nr_request *req)
{
	return req->operation == NR_WRITE || req->operation == NR_ZERO || req->operation == NR_TRIM;
}

static void submit(struct nr_layer *layer, struct nr_request *req)
{
	struct blocksize *b = layer->instance;
	struct state *s = nr_scratch(layer, req);
	bool aligned = nr_is_aligned(req->offset | req->length, b->block);

	s->kind = KIND_PASS;
	s->locked = false;
	s->buffer = NULL;
	if (req->operation == NR_FLUSH || req->operation == NR_RESIZE ||
	    (aligned && !changes(req))) {
		nr_pass(layer, req);
		return;
	}
	s->reads = 0;
	s->error = 0;
	s->operation = req->operation;
	s->flags = req->flags;
	s->offset = s->position = req->offset;
	s->length = req->length;
	s->segments = NULL;
	if (!aligned && req->operation != NR_WRITE && req->operation != NR_ZERO) {
		submit_rounded(layer, req, s);
	} else if (!aligned && (req->flags & NR_FAST_ZERO)) {
		nr_finish(layer, req, -ENOTSUP); /* reading first is not faster */
	} else {
		s->kind = aligned                      ? KIND_LOCKED
			  : req->operation == NR_WRITE ? KIND_WRITE
						       : KIND_ZERO;
		nr_range_ticket_init(&s->ticket, layer, req, req->offset, req->length, !aligned);
		take_lock(layer, req);
	}
}

static void done(struct nr_layer *layer, struct nr_request *req)
{
	struct state *s = nr_scratch(layer, req);

	switch (s->kind) {
	case KIND_PASS:
		nr_finish(layer, req, req->error);
		break;
	case KIND_ROUNDED:
		done_rounded(layer, req, s);
		break;
	case KIND_ZERO:
		done_zero_step(layer, req, s);
		break;
	case KIND_LOCKED:
	case KIND_WRITE:
		put_back(req, s);
		finish(layer, req, s, req->error);
		break;
	}
}

const struct nr_layer_type nr_blocksize_type = {
	.abi = NR_LAYER_ABI,
	.name = "blocksize",
	.summary = "byte access to disks that want whole blocks",
	.kind = NR_FILTER,
	.placement = NR_SPREAD,
	.instance_size = sizeof(struct blocksize),
	.request_size = sizeof(struct state),
	.open = open_lock,
	.describe = describe,
	.submit = submit,
	.done = done,
	.child_done = child_done,
	.resume = take_lock,
	.close = close_lock,
};
