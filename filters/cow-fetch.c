/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The filter `cow`: blocks out of the base.
 *
 * What is fetched is one piece of memory, read with as many requests, one after the
 * other, as the layer below needs for that.  A base that has a hole there is not copied by
 * cow-on-read: a hole is answered as quickly as the overlay would, and takes no room.
 */
#include <errno.h>
#include <string.h>

#include "filters/cow.h"
#include "nbdring/checked.h"

static nr_cow_step next_piece, populate_on;

void nr_cow_fetch_end(struct nr_cow_state *s)
{
	if (s->fetch.buffer)
		s->fetch.buffer->release(s->fetch.buffer);
	s->fetch.buffer = NULL;
}

static void fetch_over(struct nr_layer *layer, struct nr_request *req, struct nr_cow_state *s,
		       int error)
{
	s->error = error;
	s->fetch.then(layer, req, s);
}

static void piece_back(struct nr_layer *layer, struct nr_request *req, struct nr_cow_state *s,
		       struct nr_request *child)
{
	int error = nr_cow_read_error(child->error);

	if (!error) {
		nr_request_copy_out(child, 0, child->length,
				    s->fetch.data + (child->offset - s->fetch.from));
		for (uint32_t i = 0; i < child->segment_count; i++)
			s->fetch.zeroes &= !child->segments[i].data;
		s->fetch.at = child->offset + child->length;
	}
	nr_child_release(child);
	if (error || s->fetch.at == s->fetch.to)
		fetch_over(layer, req, s, error);
	else
		next_piece(layer, req, s);
}

static void next_piece(struct nr_layer *layer, struct nr_request *req, struct nr_cow_state *s)
{
	uint64_t length = nr_min(s->fetch.to - s->fetch.at, layer->below->traits.block_max);
	struct nr_request *child = NULL;

	if (!s->fetch.buffer)
		s->fetch.buffer =
			nr_buffer_get(req->worker, s->fetch.to - s->fetch.from, &s->fetch.data);
	if (s->fetch.buffer)
		child = nr_child(layer, req, NR_READ, s->fetch.at, length);
	if (!child) {
		nr_cow_fetch_end(s);
		s->fetch.at = s->fetch.from;
		if (!nr_cow_wait(layer, req, s, next_piece))
			fetch_over(layer, req, s, -ENOMEM);
		return;
	}
	s->child_done = piece_back;
	nr_pass(layer, child);
}

void nr_cow_fetch(struct nr_layer *layer, struct nr_request *req, struct nr_cow_state *s,
		  uint64_t from, uint64_t to, nr_cow_step *then)
{
	s->fetch.from = s->fetch.at = from;
	s->fetch.to = to;
	s->fetch.zeroes = true;
	s->fetch.then = then;
	next_piece(layer, req, s);
}

/* cow-on-read, cow-on-cache. */

static void populated(struct nr_layer *layer, struct nr_request *req, struct nr_cow_state *s)
{
	nr_cow_fetch_end(s);
	nr_cow_unlock(layer, s);
	s->at = req->offset;
	s->error = 0;
	s->then(layer, req, s);
}

static void stored(struct nr_layer *layer, struct nr_request *req, struct nr_cow_state *s,
		   struct nr_request *child)
{
	const struct cow *c = layer->instance;
	int error = child->error;

	nr_child_release(child);
	if (!error)
		(void)nr_cow_map_set(&s->overlay->map, s->fetch.from >> c->shift,
				     nr_cow_block_behind(c, s->fetch.to), NR_COW_DATA, &error);
	if (error) {
		populated(layer, req, s);
		return;
	}
	nr_cow_fetch_end(s);
	nr_cow_unlock(layer, s);
	populate_on(layer, req, s);
}

static void store_fetched(struct nr_layer *layer, struct nr_request *req, struct nr_cow_state *s)
{
	struct cow *c = layer->instance;
	struct nr_request *child = NULL;

	s->at = s->fetch.to;
	if (!s->error && s->fetch.zeroes) {
		nr_cow_fetch_end(s);
		nr_cow_unlock(layer, s);
		populate_on(layer, req, s);
		return;
	}
	if (!s->error)
		child = nr_cow_store_child(layer, req, s, NR_WRITE, s->fetch.from,
					   s->fetch.to - s->fetch.from);
	if (!child) {
		populated(layer, req, s);
		return;
	}
	child->segments[0] = (struct nr_segment){ s->fetch.data, child->length, NULL };
	child->segment_count = 1;
	s->child_done = stored;
	nr_enter(c->store, child);
}

/* The blocks that were wanted are held: are they still in the base? */
static void fetch_held(struct nr_layer *layer, struct nr_request *req, struct nr_cow_state *s)
{
	const struct cow *c = layer->instance;
	uint64_t block = s->at >> c->shift, stop;

	if (nr_cow_map_run(&s->overlay->map, block, nr_cow_block_behind(c, s->stop), &stop) !=
	    NR_COW_BASE) {
		nr_cow_unlock(layer, s);
		populate_on(layer, req, s);
		return;
	}
	nr_cow_fetch(layer, req, s, nr_cow_start_of(c, block), nr_cow_start_of(c, stop),
		     store_fetched);
}

static void populate_on(struct nr_layer *layer, struct nr_request *req, struct nr_cow_state *s)
{
	const struct cow *c = layer->instance;
	uint64_t end = nr_cow_block_behind(c, req->offset + req->length);
	uint64_t most = nr_max(NR_TRANSFER_MAX >> c->shift, 1), block = s->at >> c->shift, stop;

	while (block < end && s->at < c->size &&
	       nr_cow_map_run(&s->overlay->map, block, end, &stop) != NR_COW_BASE) {
		block = stop;
		s->at = nr_cow_start_of(c, block);
	}
	if (block >= end || s->at >= c->size || (req->session && req->session->gone)) {
		populated(layer, req, s);
		return;
	}
	s->at = nr_cow_start_of(c, block);
	s->stop = nr_cow_start_of(c, nr_min(stop, block + most));
	nr_cow_lock(layer, req, s, s->at, s->stop, true, fetch_held);
}

void nr_cow_populate(struct nr_layer *layer, struct nr_request *req, struct nr_cow_state *s,
		     nr_cow_step *then)
{
	s->then = then;
	s->at = req->offset;
	populate_on(layer, req, s);
}
