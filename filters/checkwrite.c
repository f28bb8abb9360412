/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Writes become comparisons with what is there already; what is below is only read.
 *
 * A write is compared with one read of the same range.  A trim or zero must find
 * zeroes, and may be as long as the disk: the map below says which parts are zero
 * without reading, the others are read one piece after the other.  One request never
 * has more than one child under way.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "filters/filters.h"
#include "nbdring/checked.h"

#define EXTENTS_AT_ONCE 8

struct state {
	uint64_t position;   /* trim, zero: known to be zero up to here */
	uint64_t data_until; /* … to be looked at from there up to here */
	struct nr_extents list;
	struct nr_extent extent[EXTENTS_AT_ONCE];
};

static int describe(struct nr_layer *layer, struct nr_traits *t, struct nr_error *error)
{
	t->read_only = false;
	t->memory_align = 1;
	t->support[NR_CAP_FLUSH] = NR_NATIVE;
	t->support[NR_CAP_FUA] = NR_NATIVE;
	t->support[NR_CAP_TRIM] = NR_NATIVE;
	t->support[NR_CAP_ZERO] = NR_NATIVE;
	t->support[NR_CAP_FAST_ZERO] = NR_NONE; /* reading is not fast */
	t->support[NR_CAP_RESIZE] = NR_NONE;
	return 0;
}

static void send_child(struct nr_layer *layer, struct nr_request *req, enum nr_operation operation,
		       uint64_t offset, uint64_t length, struct nr_extents *list)
{
	struct nr_request *child = nr_child(layer, req, operation, offset, length);

	if (!child) {
		nr_finish(layer, req, -ENOMEM);
		return;
	}
	child->extents = list;
	nr_pass(layer, child);
}

/* Trim and zero: look at what comes next, or end well. */
static void next(struct nr_layer *layer, struct nr_request *req)
{
	struct state *s = nr_scratch(layer, req);
	uint64_t end = req->offset + req->length;

	if (s->position >= end) {
		nr_finish(layer, req, 0);
	} else if (s->position < s->data_until) {
		send_child(layer, req, NR_READ, s->position,
			   nr_min(s->data_until - s->position, layer->below->traits.block_max),
			   NULL);
	} else if (layer->below->traits.support[NR_CAP_EXTENTS] == NR_NONE) {
		s->data_until = end;
		next(layer, req);
	} else {
		s->list = (struct nr_extents){ .start = s->position,
					       .next = s->position,
					       .end = end,
					       .capacity = EXTENTS_AT_ONCE,
					       .extent = s->extent };
		send_child(layer, req, NR_EXTENTS, s->position, end - s->position, &s->list);
	}
}

/*
 * What the map says: pass over zeroes, read up to the end of the first data.  The map
 * may be finer than the blocks that can be read.
 */
static void use_map(struct nr_layer *layer, struct nr_request *req, struct state *s)
{
	uint32_t block = layer->below->traits.block_min;
	uint64_t end = req->offset + req->length, at = s->position;

	for (uint32_t i = 0; i < s->list.count; i++) {
		at += s->list.extent[i].length;
		if (!(s->list.extent[i].status & NR_EXTENT_ZERO))
			break;
		s->position = nr_round_down(at, block);
	}
	if (at > s->position && !nr_round_up(at, block, &s->data_until))
		s->data_until = end;
	/* A map that says nothing is no reason to ask for ever. */
	if (at == s->list.start)
		s->data_until = end;
	s->data_until = nr_min(s->data_until, end);
	next(layer, req);
}

/* A cursor over segments. */
struct view {
	const struct nr_segment *segment;
	uint64_t used;
};

static uint64_t left_in(const struct view *v)
{
	return v->segment->length - v->used;
}

static void advance(struct view *v, uint64_t bytes)
{
	v->used += bytes;
	if (v->used == v->segment->length) {
		v->segment++;
		v->used = 0;
	}
}

static bool is_zero(const uint8_t *data, uint64_t length)
{
	return length == 0 || (data[0] == 0 && memcmp(data, data + 1, length - 1) == 0);
}

static bool same_data(const struct nr_request *a, const struct nr_request *b)
{
	struct view x = { .segment = a->segments }, y = { .segment = b->segments };
	uint64_t left = a->length;

	while (left > 0) {
		uint64_t part = nr_min(left_in(&x), left_in(&y));
		const uint8_t *p = x.segment->data ? x.segment->data + x.used : NULL;
		const uint8_t *q = y.segment->data ? y.segment->data + y.used : NULL;

		if (p && q ? memcmp(p, q, part) != 0
			   : (p && !is_zero(p, part)) || (q && !is_zero(q, part)))
			return false;
		advance(&x, part);
		advance(&y, part);
		left -= part;
	}
	return true;
}

static bool all_zero(const struct nr_request *req)
{
	for (uint32_t i = 0; i < req->segment_count; i++)
		if (req->segments[i].data &&
		    !is_zero(req->segments[i].data, req->segments[i].length))
			return false;
	return true;
}

static void child_done(struct nr_layer *layer, struct nr_request *child)
{
	struct nr_request *req = nr_child_parent(child);
	struct state *s = nr_scratch(layer, req);
	enum nr_operation operation = child->operation;
	int error = child->error;

	if (!error && operation == NR_READ) {
		bool same = req->operation == NR_WRITE ? same_data(req, child) : all_zero(child);

		error = same ? 0 : -EIO;
		if (!same)
			nr_layer_log(layer, NR_LAYER_WARNING,
				     "of %" PRIu64 " bytes at %" PRIu64 ", not all are what was "
				     "to be written",
				     child->length, child->offset);
		s->position = child->offset + child->length;
	}
	nr_child_release(child);
	if (error || req->operation == NR_WRITE)
		nr_finish(layer, req, error);
	else if (operation == NR_EXTENTS)
		use_map(layer, req, s);
	else
		next(layer, req);
}

static void submit(struct nr_layer *layer, struct nr_request *req)
{
	struct state *s = nr_scratch(layer, req);

	if (req->operation == NR_WRITE) {
		send_child(layer, req, NR_READ, req->offset, req->length, NULL);
	} else if (req->operation == NR_TRIM || req->operation == NR_ZERO) {
		s->position = s->data_until = req->offset;
		next(layer, req);
	} else if (req->operation == NR_FLUSH) {
		nr_finish(layer, req, 0); /* nothing was written */
	} else {
		nr_pass(layer, req);
	}
}

const struct nr_layer_type nr_checkwrite_type = {
	.abi = NR_LAYER_ABI,
	.name = "checkwrite",
	.summary = "compares what is written with what is there",
	.kind = NR_FILTER,
	.placement = NR_SPREAD,
	.request_size = sizeof(struct state),
	.describe = describe,
	.submit = submit,
	.contexts_pass = true,
	.child_done = child_done,
};
