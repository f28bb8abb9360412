/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The filter `cow`: reads, and the allocation map.
 *
 * What is in the base alone passes by.  Everything else is put together from parts, in
 * order, by moving segments: nothing is copied.  A few parts are under way at a time,
 * however many there are.
 *
 * The map of the disk is that of the base where that is what clients read, and that of
 * the store where it has data: there, a block may have been zeroed in part.
 */
#include <errno.h>

#include "filters/cow.h"
#include "nbdring/checked.h"

#define LIST_BYTES 4096u /* of a list for one child */

static nr_cow_step read_on, extents_on;

/* The state from byte AT on, and in *STOP the byte it is valid up to, END at the latest. */
static enum nr_cow_block run_at(const struct cow *c, const struct nr_cow_state *s, uint64_t at,
				uint64_t end, uint64_t *stop)
{
	uint64_t behind;
	enum nr_cow_block state = nr_cow_map_run(&s->overlay->map, at >> c->shift,
						 nr_cow_block_behind(c, end), &behind);

	*stop = nr_min(end, nr_cow_start_of(c, behind));
	return state;
}

static bool reads_as_zeroes(enum nr_cow_block state)
{
	return state == NR_COW_ZERO || state == NR_COW_HOLE;
}

/* A child for [AT, AT + LENGTH) of where STATE says. */
static struct nr_request *child_for(struct nr_layer *layer, struct nr_request *req,
				    struct nr_cow_state *s, enum nr_cow_block state, uint64_t at,
				    uint64_t length)
{
	if (state == NR_COW_BASE)
		return nr_child(layer, req, req->operation, at, length);
	return nr_cow_store_child(layer, req, s, req->operation, at, length);
}

static void send_child(struct nr_layer *layer, enum nr_cow_block state, struct nr_request *child)
{
	struct cow *c = layer->instance;

	if (state == NR_COW_BASE)
		nr_pass(layer, child);
	else
		nr_enter(c->store, child);
}

/* Reads. */

/* PART is the next one of the answer. */
static int take_part(struct nr_request *req, struct nr_cow_part *part)
{
	struct nr_request *child = part->child;
	bool fits;

	if (child && child->error)
		return nr_cow_read_error(child->error);
	fits = child ? nr_answer_part(req, child, 0, part->length)
		     : nr_answer_hole(req, part->length);
	return fits ? 0 : -ENOMEM;
}

static void parts_back(struct nr_layer *layer, struct nr_request *req, struct nr_cow_state *s)
{
	int error = 0;

	for (unsigned i = 0; i < s->parts; i++) {
		struct nr_cow_part *part = &s->part[i];
		int part_error = error ? 0 : take_part(req, part);

		error = error ? error : part_error;
		if (part->child)
			nr_child_release(part->child);
	}
	if (error || s->at == req->offset + req->length)
		nr_finish(layer, req, error);
	else
		read_on(layer, req, s);
}

static void part_back(struct nr_layer *layer, struct nr_request *req, struct nr_cow_state *s,
		      struct nr_request *child)
{
	if (--s->under_way == 0)
		parts_back(layer, req, s);
}

static void read_on(struct nr_layer *layer, struct nr_request *req, struct nr_cow_state *s)
{
	const struct cow *c = layer->instance;
	uint64_t end = req->offset + req->length, stop;

	s->parts = s->under_way = 0;
	s->child_done = part_back;
	while (s->at < end && s->parts < NR_COW_PARTS) {
		enum nr_cow_block state = run_at(c, s, s->at, end, &stop);
		struct nr_cow_part part = { .length = stop - s->at };

		if (!reads_as_zeroes(state)) {
			part.child = child_for(layer, req, s, state, s->at, part.length);
			if (!part.child)
				break; /* the others first */
			s->under_way++;
			send_child(layer, state, part.child);
		}
		s->part[s->parts++] = part;
		s->at = stop;
	}
	if (s->under_way)
		return;
	if (s->parts)
		parts_back(layer, req, s);
	else if (!nr_cow_wait(layer, req, s, read_on))
		nr_finish(layer, req, -ENOMEM);
}

void nr_cow_read(struct nr_layer *layer, struct nr_request *req, struct nr_cow_state *s)
{
	const struct cow *c = layer->instance;
	uint64_t end = req->offset + req->length, stop;

	if (run_at(c, s, req->offset, end, &stop) == NR_COW_BASE && stop == end &&
	    nr_cow_base_has(layer, req->offset, req->length)) {
		nr_pass(layer, req);
		return;
	}
	s->at = req->offset;
	read_on(layer, req, s);
}

/* The allocation map. */

static void extents_end(struct nr_layer *layer, struct nr_request *req, struct nr_cow_state *s,
			int error)
{
	nr_cow_fetch_end(s);
	/* What is known is an answer, too. */
	nr_finish(layer, req, req->extents->count ? 0 : error);
}

static void list_back(struct nr_layer *layer, struct nr_request *req, struct nr_cow_state *s,
		      struct nr_request *child)
{
	int error = child->error;
	bool more = !error && s->list.count > 0;

	for (uint32_t i = 0; more && i < s->list.count; i++)
		more = nr_extents_add(req->extents, s->list.extent[i].length,
				      s->list.extent[i].status);
	nr_child_release(child);
	if (more && !(req->flags & NR_REQ_ONE))
		extents_on(layer, req, s);
	else
		extents_end(layer, req, s, error);
}

/* Ask base or store for the map of [AT, STOP); false: no memory. */
static bool ask(struct nr_layer *layer, struct nr_request *req, struct nr_cow_state *s,
		enum nr_cow_block state, uint64_t at, uint64_t stop)
{
	struct nr_request *child;
	uint64_t start = state == NR_COW_BASE ? at : s->overlay->start + at;

	if (!s->fetch.buffer)
		s->fetch.buffer = nr_buffer_get(req->worker, LIST_BYTES, &s->fetch.data);
	if (!s->fetch.buffer)
		return false;
	child = child_for(layer, req, s, state, at, stop - at);
	if (!child)
		return false;
	s->list = (struct nr_extents){ .start = start,
				       .next = start,
				       .end = start + (stop - at),
				       .capacity = LIST_BYTES / sizeof(struct nr_extent),
				       .extent = (struct nr_extent *)(void *)s->fetch.data };
	child->extents = &s->list;
	child->flags = req->flags;
	s->child_done = list_back;
	send_child(layer, state, child);
	return true;
}

/* Does whoever is below have a map of [AT, STOP)?  Where the base has ended it has not. */
static bool has_map(const struct nr_layer *layer, enum nr_cow_block state, uint64_t at,
		    uint64_t stop)
{
	const struct cow *c = layer->instance;
	const struct nr_traits *t =
		state == NR_COW_BASE ? &layer->below->traits : nr_substack_traits(c->store);

	return t->support[NR_CAP_EXTENTS] != NR_NONE &&
	       (state != NR_COW_BASE || nr_cow_base_has(layer, at, stop - at));
}

static void extents_on(struct nr_layer *layer, struct nr_request *req, struct nr_cow_state *s)
{
	const struct cow *c = layer->instance;
	struct nr_extents *list = req->extents;
	bool more = true;

	while (more && list->next < list->end) {
		uint64_t at = list->next, stop;
		enum nr_cow_block state = run_at(c, s, at, list->end, &stop);
		uint64_t status = state == NR_COW_HOLE   ? NR_EXTENT_HOLE | NR_EXTENT_ZERO
				  : state == NR_COW_ZERO ? NR_EXTENT_ZERO
							 : 0;

		if (!reads_as_zeroes(state) && has_map(layer, state, at, stop)) {
			if (ask(layer, req, s, state, at, stop))
				return;
			if (list->count)
				break;
			if (nr_cow_wait(layer, req, s, extents_on))
				return;
			extents_end(layer, req, s, -ENOMEM);
			return;
		}
		more = nr_extents_add(list, stop - at, status) && !(req->flags & NR_REQ_ONE);
	}
	extents_end(layer, req, s, 0);
}

void nr_cow_extents(struct nr_layer *layer, struct nr_request *req, struct nr_cow_state *s)
{
	const struct cow *c = layer->instance;
	uint64_t end = req->offset + req->length, stop;

	if (run_at(c, s, req->offset, end, &stop) == NR_COW_BASE && stop == end &&
	    has_map(layer, NR_COW_BASE, req->offset, end)) {
		nr_pass(layer, req);
		return;
	}
	extents_on(layer, req, s);
}
