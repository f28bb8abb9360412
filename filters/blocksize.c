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
 *
 * A request that is longer than what is below may be given at once (blocksize-split.c)
 * becomes pieces: children that go through all of the above as if they had come
 * from above.  What is written here about a request is true for a piece, too; only
 * its end is another (`end`), and it takes its data from its parent.
 *
 * The core uses this filter without parameters, as the aligner on top of a stack:
 * whole blocks cost it a few comparisons then.
 */
#include "filters/blocksize.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stddef.h>
#include <string.h>

#include "filters/filters.h"
#include "nbdring/checked.h"

#define MEMORY_WAIT_NS 1000000u /* between two looks for memory … */
#define MEMORY_WAITS 30000u     /* … of which there are so many: 30 s */

static void step(struct nr_layer *layer, struct nr_request *req, struct state *s);

static const struct nr_param params[] = {
	{ .name = "minblock",
	  .type = NR_PARAM_SIZE,
	  .offset = offsetof(struct blocksize, minblock),
	  .min = 1,
	  .max = NR_BLOCK_MIN_MAX,
	  .value = "SIZE",
	  .help = "Smallest block and alignment that is passed on",
	  .manual = "The smallest block, and the alignment, of what is passed on: a power of two\n"
		    "up to 64K.  The default is what the layer below asks for, and if that is\n"
		    "more than this parameter says, it counts.  If the disk is no multiple of it\n"
		    "long, the rest at its end is left out (use the filter C<truncate> to round\n"
		    "up instead)." },
	{ .name = "maxdata",
	  .type = NR_PARAM_SIZE,
	  .offset = offsetof(struct blocksize, maxdata),
	  .min = 1,
	  .max = UINT32_MAX,
	  .value = "SIZE",
	  .help = "Longest read or write that is passed on",
	  .manual = "The longest read or write that is passed on, a multiple of C<minblock>.\n"
		    "Longer ones are cut.  The default is the most that the layer below takes." },
	{ .name = "maxlen",
	  .type = NR_PARAM_SIZE,
	  .offset = offsetof(struct blocksize, maxlen),
	  .min = 1,
	  .max = NR_SIZE_MAX,
	  .value = "SIZE",
	  .help = "Longest trim, zero or cache request that is passed on",
	  .manual = "The longest request without data (trim, zero, cache, and questions for\n"
		    "the allocation map) that is passed on, a multiple of C<minblock>.  Longer\n"
		    "ones are cut.  The default is no limit." },
	{ .name = NULL },
};

static int check(struct nr_layer *layer, struct nr_error *error)
{
	const struct blocksize *b = layer->instance;

	if (b->minblock && !nr_is_power_of_2(b->minblock))
		return nr_error_set(error, -EINVAL,
				    "minblock: %" PRIu64 " is not a power of two from 1 to %u",
				    b->minblock, NR_BLOCK_MIN_MAX);
	if (b->minblock && b->maxdata % b->minblock != 0)
		return nr_error_set(error, -EINVAL,
				    "maxdata: %" PRIu64 " is not a multiple of minblock, %" PRIu64,
				    b->maxdata, b->minblock);
	if (b->minblock && b->maxlen % b->minblock != 0)
		return nr_error_set(error, -EINVAL,
				    "maxlen: %" PRIu64 " is not a multiple of minblock, %" PRIu64,
				    b->maxlen, b->minblock);
	return 0;
}

/* NAME=VALUE must hold at least one block, and whole ones. */
static int check_limit(const struct blocksize *b, const char *name, uint64_t value,
		       struct nr_error *error)
{
	if (value == 0 || nr_is_aligned(value, b->block))
		return 0;
	return nr_error_set(error, -EINVAL,
			    "%s: %" PRIu64 " is not a multiple of the %u-byte blocks below; use a "
			    "multiple of %u",
			    name, value, b->block, b->block);
}

static int open_layer(struct nr_layer *layer, struct nr_error *error)
{
	struct blocksize *b = layer->instance;
	const struct nr_traits *below = &layer->below->traits;
	uint64_t data = below->block_max, length = b->maxlen ? b->maxlen : UINT64_MAX;
	int err;

	b->block = (uint32_t)nr_max(below->block_min, b->minblock);
	err = check_limit(b, "maxdata", b->maxdata, error);
	if (!err)
		err = check_limit(b, "maxlen", b->maxlen, error);
	if (err)
		return err;
	if (b->maxdata)
		data = nr_min(data, b->maxdata);
	data = nr_round_down(data, b->block);
	if (data == 0)
		return nr_error_set(error, -EINVAL,
				    "minblock: %u is more than the %u bytes that the layer below "
				    "takes at once; use minblock=%u or less",
				    b->block, below->block_max, below->block_min);
	/* Where there is a choice, pieces of aligned memory are aligned. */
	if (data > below->memory_align)
		data = nr_round_down(data, nr_max(b->block, below->memory_align));
	for (unsigned i = 0; i < NR_OPERATION_COUNT; i++)
		b->limit[i] = i == NR_READ || i == NR_WRITE ? data : length;
	b->limit[NR_FLUSH] = b->limit[NR_RESIZE] = UINT64_MAX;
	nr_rangelock_init(&b->lock);
	return 0;
}

static void close_layer(struct nr_layer *layer)
{
	struct blocksize *b = layer->instance;

	nr_rangelock_fini(&b->lock);
}

static int describe(struct nr_layer *layer, struct nr_traits *t, struct nr_error *error)
{
	const struct blocksize *b = layer->instance;

	t->size = nr_round_down(t->size, b->block);
	t->block_min = 1;
	t->block_preferred = (uint32_t)nr_max(t->block_preferred, b->block);
	t->block_max = NR_TRANSFER_MAX;
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

static void end(struct nr_layer *layer, struct nr_request *req, struct state *s, int error)
{
	if (s->role == ROLE_PIECE)
		nr_blocksize_piece_over(layer, req, error);
	else
		nr_finish(layer, req, error);
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
	end(layer, req, s, error);
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
			end(layer, req, s, 0); /* not a whole block in it */
			return;
		}
	}
	s->kind = KIND_ROUNDED;
	req->offset = from;
	req->length = to - from;
	nr_pass(layer, req);
}

/*
 * A map may end early, so a long question is not split but shortened.  It is
 * rounded to what the layer below needs, not to `minblock`.
 */
static void submit_extents(struct nr_layer *layer, struct nr_request *req, struct state *s)
{
	struct blocksize *b = layer->instance;
	uint32_t block = layer->below->traits.block_min;
	uint64_t from = nr_round_down(req->offset, block);
	uint64_t to = nr_round_down(req->offset + req->length + block - 1, block);

	to = from + nr_min(to - from, b->limit[NR_EXTENTS]);
	s->kind = KIND_ROUNDED;
	req->offset = from;
	req->length = to - from;
	req->extents->start = req->extents->next = from;
	req->extents->end = to;
	nr_pass(layer, req);
}

/* The list begins before and may end behind what was asked: make it [FROM, TO). */
static void cut_extents(struct nr_extents *list, uint64_t from, uint64_t to)
{
	uint64_t head = from - list->start;
	uint32_t gone = 0, kept = 0;

	while (gone < list->count && list->extent[gone].length <= head)
		head -= list->extent[gone++].length;
	list->start = list->next = from;
	list->end = to;
	for (uint32_t i = gone; i < list->count && list->next < to; i++) {
		struct nr_extent extent = list->extent[i];

		extent.length = nr_min(extent.length - head, to - list->next);
		head = 0;
		list->next += extent.length;
		list->extent[kept++] = extent;
	}
	list->count = kept;
	/* Only the bytes before were described: nothing is known of the first block. */
	if (kept == 0)
		nr_extents_add(list, to - from, 0);
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

bool nr_blocksize_wait(struct nr_layer *layer, struct nr_request *req, struct state *s)
{
	if (s->waits >= MEMORY_WAITS)
		return false;
	s->waits++;
	nr_sleep(layer, req, MEMORY_WAIT_NS);
	return true;
}

/* False: what was begun is begun again when there is memory, or REQ is finished. */
static bool get_buffer(struct nr_layer *layer, struct nr_request *req, struct state *s)
{
	assert(s->to - s->from <= NR_TRANSFER_MAX);
	s->buffer = nr_buffer_get(req->worker, s->to - s->from, &s->data);
	if (s->buffer)
		return true;
	if (!nr_blocksize_wait(layer, req, s)) {
		put_back(req, s);
		finish(layer, req, s, -ENOMEM);
	}
	return false;
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
	((struct state *)nr_scratch(layer, child))->role = ROLE_READ;
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
		step(layer, req, s); /* nothing to read, or no memory for even one */
}

static void block_read(struct nr_layer *layer, struct nr_request *child)
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

	s->from = block_start(b, s->offset);
	s->to = block_end(b, s->offset + s->length);
	if (get_buffer(layer, req, s))
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
	if (get_buffer(layer, req, s))
		read_ends(layer, req, s, s->position, end);
}

/* What is to be written, into its place in the buffer. */
static void copy_data(struct nr_layer *layer, struct nr_request *req, struct state *s)
{
	const struct nr_request *source = req;
	uint64_t from = 0;

	if (s->role == ROLE_PIECE) {
		source = nr_child_parent(req);
		from = s->offset - source->offset;
	}
	nr_request_copy_out(source, from, s->length, s->data + (s->offset - s->from));
}

/* The ends have been read: change the buffer and write it. */
static void step(struct nr_layer *layer, struct nr_request *req, struct state *s)
{
	struct blocksize *b = layer->instance;

	if (s->error) {
		put_back(req, s);
		finish(layer, req, s, s->error);
	} else if (s->kind == KIND_WRITE) {
		copy_data(layer, req, s);
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

/* What it was parked for is there: the lock, or perhaps memory. */
static void resume(struct nr_layer *layer, struct nr_request *req)
{
	struct state *s = nr_scratch(layer, req);

	if (s->kind == KIND_SPLIT)
		nr_blocksize_split(layer, req, s);
	else if (s->locked)
		begin_locked(layer, req, s);
	else
		take_lock(layer, req);
}

static bool changes(const struct nr_request *req)
{
	return req->operation == NR_WRITE || req->operation == NR_ZERO || req->operation == NR_TRIM;
}

/*
 * Is it longer than what may go down at once?  Unaligned ones grow to whole blocks.
 */
static bool is_long(const struct blocksize *b, const struct nr_request *req, bool aligned)
{
	uint64_t limit = b->limit[req->operation];

	if (aligned || limit == UINT64_MAX)
		return req->length > limit;
	return block_end(b, req->offset + req->length) - block_start(b, req->offset) > limit;
}

/* A request, or a piece, that may go down at once when it is made to fit. */
void nr_blocksize_fit(struct nr_layer *layer, struct nr_request *req, struct state *s)
{
	struct blocksize *b = layer->instance;
	bool aligned = nr_is_aligned(req->offset | req->length, b->block);

	s->locked = false;
	s->buffer = NULL;
	s->reads = 0;
	s->waits = 0;
	s->error = 0;
	s->operation = req->operation;
	s->flags = req->flags;
	s->offset = s->position = req->offset;
	s->length = req->length;
	s->segments = NULL;
	if (aligned && (!changes(req) || b->block == 1) && !s->copy) {
		s->kind = KIND_PASS;
		nr_pass(layer, req);
	} else if (!aligned && req->operation != NR_WRITE && req->operation != NR_ZERO) {
		submit_rounded(layer, req, s);
	} else {
		s->kind = aligned && !s->copy          ? KIND_LOCKED
			  : req->operation == NR_WRITE ? KIND_WRITE
						       : KIND_ZERO;
		nr_range_ticket_init(&s->ticket, layer, req, req->offset, req->length, !aligned);
		take_lock(layer, req);
	}
}

static void submit(struct nr_layer *layer, struct nr_request *req)
{
	struct blocksize *b = layer->instance;
	struct state *s = nr_scratch(layer, req);
	bool aligned = nr_is_aligned(req->offset | req->length, b->block);
	bool fast = req->flags & NR_FAST_ZERO;

	s->role = ROLE_REQUEST;
	s->kind = KIND_PASS;
	if (req->operation == NR_FLUSH || req->operation == NR_RESIZE ||
	    (aligned && req->length <= b->limit[req->operation] &&
	     (!changes(req) || b->block == 1))) {
		nr_pass(layer, req);
		return;
	}
	s->copy = false;
	if (req->operation == NR_EXTENTS) {
		s->offset = req->offset;
		s->length = req->length;
		s->operation = NR_EXTENTS;
		s->flags = req->flags;
		s->segments = NULL;
		s->locked = false;
		s->buffer = NULL;
		submit_extents(layer, req, s);
	} else if (fast && (!aligned || is_long(b, req, aligned))) {
		/* Reading first is not faster; of pieces, one could be refused after others. */
		nr_finish(layer, req, -ENOTSUP);
	} else if (is_long(b, req, aligned)) {
		s->kind = KIND_SPLIT;
		s->waits = 0;
		nr_blocksize_split(layer, req, s);
	} else {
		nr_blocksize_fit(layer, req, s);
	}
}

/* A request is back from below, or a piece. */
static void back(struct nr_layer *layer, struct nr_request *req, struct state *s)
{
	switch (s->kind) {
	case KIND_PASS:
		end(layer, req, s, req->error);
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
	case KIND_SPLIT: /* never goes down itself */
		assert(false);
		break;
	}
}

static void done(struct nr_layer *layer, struct nr_request *req)
{
	back(layer, req, nr_scratch(layer, req));
}

static void child_done(struct nr_layer *layer, struct nr_request *child)
{
	struct state *s = nr_scratch(layer, child);

	if (s->role == ROLE_READ)
		block_read(layer, child);
	else
		back(layer, child, s);
}

const struct nr_layer_type nr_blocksize_type = {
	.abi = NR_LAYER_ABI,
	.name = "blocksize",
	.summary = "byte access to disks that want whole blocks",
	.kind = NR_FILTER,
	.placement = NR_SPREAD,
	.params = params,
	.instance_size = sizeof(struct blocksize),
	.request_size = sizeof(struct state),
	.check = check,
	.open = open_layer,
	.describe = describe,
	.submit = submit,
	.done = done,
	.contexts_pass = true,
	.child_done = child_done,
	.resume = resume,
	.close = close_layer,
};
