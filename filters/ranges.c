/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * See ranges.h.
 *
 * A batch holds parts in the order of the disk, holes among them.  When all children of
 * a batch are back its parts are answered in that order and the next batch sets out, so
 * a request has at most NR_RANGES_BATCH children however finely it is cut.
 *
 * A question for extents is answered from the table alone as far as holes go; inside a
 * range the disk below is asked, and the answer ends where the range does.
 */
#include "filters/ranges.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "filters/window.h"
#include "nbdring/checked.h"

int nr_ranges_add(struct nr_ranges *ranges, uint64_t offset, uint64_t length, uint64_t below)
{
	struct nr_range *last = ranges->count ? &ranges->range[ranges->count - 1] : NULL;

	if (!nr_in_range(offset, length, NR_SIZE_MAX) || !nr_in_range(below, length, NR_SIZE_MAX))
		return -EINVAL;
	if (last && offset < last->offset + last->length)
		return -EINVAL;
	if (length == 0)
		return 0;
	if (last && offset == last->offset + last->length && below == last->below + last->length) {
		last->length += length;
		return 0;
	}
	if (ranges->count == NR_RANGES_MAX)
		return -E2BIG;
	if (ranges->count == ranges->room) {
		size_t room = ranges->room ? 2 * ranges->room : 64;
		struct nr_range *more = realloc(ranges->range, room * sizeof(*more));

		if (!more)
			return -ENOMEM;
		ranges->range = more;
		ranges->room = room;
	}
	assert(ranges->range);
	ranges->range[ranges->count++] = (struct nr_range){ offset, length, below };
	return 0;
}

void nr_ranges_free(struct nr_ranges *ranges)
{
	free(ranges->range);
	*ranges = (struct nr_ranges){ .range = NULL };
}

int nr_ranges_describe(const struct nr_ranges *ranges, uint64_t size, struct nr_traits *t,
		       struct nr_error *error)
{
	uint64_t odd = size;

	for (size_t i = 0; i < ranges->count; i++) {
		const struct nr_range *r = &ranges->range[i];

		if (!nr_in_range(r->below, r->length, t->size))
			return nr_error_set(error, -EINVAL,
					    "byte %" PRIu64 " and what follows is missing: the "
					    "disk below ends too early, after %" PRIu64 " bytes",
					    r->offset, t->size);
		odd |= r->offset | r->length | r->below;
	}
	if (!nr_is_aligned(odd, t->block_min))
		return nr_error_set(error, -EINVAL,
				    "this does not fit the %u-byte blocks below; put "
				    "--filter=blocksize below",
				    t->block_min);
	t->size = size;
	t->read_only = true;
	t->support[NR_CAP_RESIZE] = NR_NONE;
	t->support[NR_CAP_EXTENTS] = NR_NATIVE;
	return 0;
}

/* The range that OFFSET lies in, or the first behind it; NULL: there is none. */
static const struct nr_range *find(const struct nr_ranges *ranges, uint64_t offset)
{
	size_t low = 0, high = ranges->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;
		const struct nr_range *r = &ranges->range[middle];

		if (r->offset + r->length <= offset)
			low = middle + 1;
		else
			high = middle;
	}
	return low < ranges->count ? &ranges->range[low] : NULL;
}

/*
 * What is at OFFSET: *LENGTH bytes, LIMIT at most, and true and *BELOW for bytes of the
 * disk below, false for a hole.
 */
static bool look_up(const struct nr_ranges *ranges, uint64_t offset, uint64_t limit,
		    uint64_t *length, uint64_t *below)
{
	const struct nr_range *r = find(ranges, offset);

	if (!r || r->offset > offset) {
		*length = r ? nr_min(limit, r->offset - offset) : limit;
		return false;
	}
	*length = nr_min(limit, r->length - (offset - r->offset));
	*below = r->below + (offset - r->offset);
	return true;
}

/* Extents. */

static void submit_extents(struct nr_layer *layer, const struct nr_ranges *ranges,
			   struct nr_request *req, struct nr_ranges_state *s)
{
	bool more = true;

	while (req->extents->next < req->offset + req->length && more) {
		uint64_t at = req->extents->next, length, below;

		if (look_up(ranges, at, req->offset + req->length - at, &length, &below)) {
			if (at > req->offset)
				break; /* the client asks again from here */
			if (req->metadata ||
			    layer->below->traits.support[NR_CAP_EXTENTS] == NR_NATIVE) {
				s->shift = below - at;
				s->next = req->length;
				req->length = length;
				req->extents->end = at + length;
				nr_window_enter(req, s->shift);
				nr_pass(layer, req);
				return;
			}
			more = nr_extents_add(req->extents, length, 0);
		} else {
			/* Of what is not below, other contexts say nothing. */
			more = nr_extents_add(req->extents, length,
					      req->metadata ? 0 : NR_EXTENT_HOLE | NR_EXTENT_ZERO);
		}
	}
	nr_finish(layer, req, 0);
}

/* Reads. */

static int start_part(struct nr_layer *layer, const struct nr_ranges *ranges,
		      struct nr_request *req, struct nr_ranges_state *s)
{
	struct nr_ranges_part *part = &s->part[s->count];
	uint64_t left = req->offset + req->length - s->next, below;

	part->child = NULL;
	if (look_up(ranges, s->next, left, &part->length, &below)) {
		part->child = nr_child(layer, req, req->operation, below, part->length);
		if (!part->child)
			return -ENOMEM;
		s->left++;
		nr_pass(layer, part->child);
	}
	s->next += part->length;
	s->count++;
	return 0;
}

/* What a child has read becomes the parent's. */
static bool take_answer(struct nr_request *req, struct nr_request *child)
{
	bool taken = true;

	for (uint32_t i = 0; i < child->segment_count && taken; i++) {
		struct nr_segment *s = &child->segments[i];

		taken = s->data ? nr_answer_data(req, s->data, s->length, s->owner)
				: nr_answer_hole(req, s->length);
		s->owner = NULL;
	}
	return taken;
}

static void end_batch(struct nr_request *req, struct nr_ranges_state *s)
{
	for (uint32_t i = 0; i < s->count; i++) {
		struct nr_ranges_part *part = &s->part[i];
		bool taken = true;

		if (req->operation == NR_READ && !s->error)
			taken = part->child ? take_answer(req, part->child)
					    : nr_answer_hole(req, part->length);
		if (!taken)
			s->error = -EIO;
		if (part->child)
			nr_child_release(part->child);
	}
	s->count = 0;
}

/* Batch after batch, until one has children to wait for. */
static void go_on(struct nr_layer *layer, const struct nr_ranges *ranges, struct nr_request *req,
		  struct nr_ranges_state *s)
{
	while (!s->error && s->next < req->offset + req->length) {
		int err = 0;

		while (s->count < NR_RANGES_BATCH && s->next < req->offset + req->length && !err)
			err = start_part(layer, ranges, req, s);
		if (s->left)
			return; /* child_done goes on */
		if (s->count == 0)
			s->error = err;
		end_batch(req, s);
	}
	nr_finish(layer, req, s->error);
}

void nr_ranges_child_done(struct nr_layer *layer, const struct nr_ranges *ranges,
			  struct nr_request *child)
{
	struct nr_request *req = nr_child_parent(child);
	struct nr_ranges_state *s = nr_scratch(layer, req);

	if (child->error && !s->error)
		s->error = child->error;
	if (--s->left)
		return;
	end_batch(req, s);
	go_on(layer, ranges, req, s);
}

void nr_ranges_submit(struct nr_layer *layer, const struct nr_ranges *ranges,
		      struct nr_request *req)
{
	struct nr_ranges_state *s = nr_scratch(layer, req);
	uint64_t length, below;

	if (req->operation == NR_EXTENTS) {
		submit_extents(layer, ranges, req, s);
		return;
	}
	if (req->operation != NR_READ && req->operation != NR_CACHE) {
		nr_pass(layer, req);
		return;
	}
	if (look_up(ranges, req->offset, req->length, &length, &below) && length == req->length) {
		s->shift = below - req->offset;
		s->next = req->length;
		nr_window_enter(req, s->shift);
		nr_pass(layer, req);
		return;
	}
	s->count = s->left = 0;
	s->error = 0;
	s->next = req->offset;
	go_on(layer, ranges, req, s);
}

void nr_ranges_done(struct nr_layer *layer, struct nr_request *req)
{
	const struct nr_ranges_state *s = nr_scratch(layer, req);

	if (req->operation == NR_READ || req->operation == NR_CACHE ||
	    req->operation == NR_EXTENTS) {
		nr_window_leave(req, s->shift);
		req->length = s->next;
		if (req->operation == NR_EXTENTS)
			req->extents->end = req->offset + req->length;
	}
	nr_finish(layer, req, req->error);
}
