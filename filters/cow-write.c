/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The filter `cow`: what changes the disk.
 *
 * A request goes through its range in pieces.  A block of the base that is covered in
 * part is a piece of its own: it is fetched, changed in memory and written to the store
 * as a whole.  What lies between is one piece, which goes to the store as it is.  So
 * there are three at most, and one in all ordinary cases.
 *
 * Zeroing lets the store make holes, and says in the map that there is nothing; so does
 * trimming, for the whole blocks in its range.
 *
 * What was written in part because of an error is in the overlay, if the block reads out
 * of it; else the block is what it was.
 */
#include <errno.h>
#include <string.h>

#include "filters/cow.h"
#include "nbdring/checked.h"

static nr_cow_step next_piece, begin_held;

void nr_cow_unlock(struct nr_layer *layer, struct nr_cow_state *s)
{
	struct cow *c = layer->instance;

	if (s->locked)
		nr_rangelock_give(&c->lock, &s->ticket);
	s->locked = false;
}

static void take_lock(struct nr_layer *layer, struct nr_request *req, struct nr_cow_state *s)
{
	struct cow *c = layer->instance;

	if (!nr_rangelock_take(&c->lock, &s->ticket))
		return;
	s->locked = true;
	s->then_held(layer, req, s);
}

/* Each block is a region of the lock. */
#define REGION_SHIFT 20
#define REGIONS_MASK ((UINT64_C(1) << 20) - 1)

void nr_cow_lock(struct nr_layer *layer, struct nr_request *req, struct nr_cow_state *s,
		 uint64_t from, uint64_t to, bool exclusive, nr_cow_step *go_on)
{
	const struct cow *c = layer->instance;
	uint64_t first = (s->overlay->start + from) >> c->shift;
	uint64_t count = nr_min(nr_cow_block_behind(c, to) - (from >> c->shift), REGIONS_MASK);

	nr_range_ticket_init(&s->ticket, layer, req, (first & REGIONS_MASK) << REGION_SHIFT,
			     count << REGION_SHIFT, exclusive);
	s->then_held = go_on;
	s->go_on = take_lock;
	take_lock(layer, req, s);
}

void nr_cow_end(struct nr_layer *layer, struct nr_request *req, struct nr_cow_state *s, int error)
{
	nr_cow_fetch_end(s);
	nr_cow_unlock(layer, s);
	if (!error && (req->flags & NR_FUA))
		nr_cow_flush(layer, req, s);
	else
		nr_finish(layer, req, error);
}

/* Is the block at OFFSET one of the base, of which [FROM, TO) is a part? */
static bool needs_base(const struct cow *c, const struct nr_cow_state *s, uint64_t block,
		       uint64_t from, uint64_t to)
{
	if (from <= nr_cow_start_of(c, block) && to >= nr_cow_start_of(c, block + 1))
		return false;
	return nr_cow_map_get(&s->overlay->map, block) == NR_COW_BASE;
}

/* Is there a block that has to be filled up? */
static bool fills_up(const struct cow *c, const struct nr_cow_state *s)
{
	uint64_t first = s->begin >> c->shift, last = (s->end - 1) >> c->shift;

	return needs_base(c, s, first, s->begin, s->end) ||
	       (last != first && needs_base(c, s, last, s->begin, s->end));
}

/* Marking: what the store has, the map says from now on. */

static enum nr_cow_block state_after(const struct nr_cow_state *s)
{
	if (s->operation == NR_WRITE)
		return NR_COW_DATA;
	return s->flags & NR_NO_HOLE ? NR_COW_ZERO : NR_COW_HOLE;
}

/* As much as is to be done at a time. */
static void mark_on(struct nr_layer *layer, struct nr_request *req, struct nr_cow_state *s)
{
	int error = 0;

	if (s->mark < s->mark_end)
		s->mark = nr_cow_map_set(&s->overlay->map, s->mark, s->mark_end, state_after(s),
					 &error);
	if (error) {
		nr_cow_end(layer, req, s, error);
	} else if (s->mark < s->mark_end) {
		s->go_on = mark_on;
		nr_resume(layer, req);
	} else {
		s->at = s->stop;
		next_piece(layer, req, s);
	}
}

/* A block of which a part was zeroed: a hole is one still, of others the store knows. */
static int mark_part(struct nr_cow_state *s, uint64_t block)
{
	int error = 0;

	if ((s->flags & NR_NO_HOLE) || nr_cow_map_get(&s->overlay->map, block) != NR_COW_HOLE)
		(void)nr_cow_map_set(&s->overlay->map, block, block + 1, NR_COW_DATA, &error);
	return error;
}

/* [at, stop) is in the store. */
static void mark_piece(struct nr_layer *layer, struct nr_request *req, struct nr_cow_state *s)
{
	const struct cow *c = layer->instance;
	int error = 0;

	s->mark = s->at >> c->shift;
	s->mark_end = nr_cow_block_behind(c, s->stop);
	if (s->operation == NR_ZERO && s->at > nr_cow_start_of(c, s->mark))
		error = mark_part(s, s->mark++);
	if (!error && s->operation == NR_ZERO && s->mark < s->mark_end &&
	    s->stop < nr_cow_start_of(c, s->mark_end))
		error = mark_part(s, --s->mark_end);
	if (error)
		nr_cow_end(layer, req, s, error);
	else
		mark_on(layer, req, s);
}

/*
 * Writing [at, stop) failed, perhaps in the middle.  What read as zeroes out of the
 * overlay reads as what is there now, not the one today and the other tomorrow.
 */
static void mark_damage(const struct cow *c, struct nr_cow_state *s)
{
	uint64_t block = s->at >> c->shift, end = nr_cow_block_behind(c, s->stop), stop;

	for (; block < end; block = stop) {
		enum nr_cow_block state = nr_cow_map_run(&s->overlay->map, block, end, &stop);
		int error;

		if (state == NR_COW_ZERO || state == NR_COW_HOLE)
			(void)nr_cow_map_set(&s->overlay->map, block, stop, NR_COW_DATA, &error);
	}
}

/* Pieces for the store. */

static void piece_back(struct nr_layer *layer, struct nr_request *req, struct nr_cow_state *s,
		       struct nr_request *child)
{
	int error = child->error;

	nr_child_release(child);
	nr_cow_fetch_end(s);
	if (!error) {
		mark_piece(layer, req, s);
		return;
	}
	if (s->operation == NR_WRITE)
		mark_damage(layer->instance, s);
	nr_cow_end(layer, req, s, error);
}

/*
 * Let CHILD have the part of REQ's data that begins at byte FROM, as it lies in memory.
 * False: it lies in too many parts.
 */
static bool share_data(const struct nr_request *req, uint64_t from, struct nr_request *child)
{
	uint64_t left = child->length;

	if (from == 0 && left == req->length) {
		child->segments = req->segments;
		child->segment_count = req->segment_count;
		return true;
	}
	for (const struct nr_segment *whole = req->segments; left; whole++) {
		uint64_t part;

		if (from >= whole->length) {
			from -= whole->length;
			continue;
		}
		if (child->segment_count == NR_SEGMENTS_INLINE)
			return false;
		part = nr_min(whole->length - from, left);
		child->segments[child->segment_count++] =
			(struct nr_segment){ whole->data + from, part, NULL };
		left -= part;
		from = 0;
	}
	return true;
}

static void use_buffer(const struct nr_cow_state *s, struct nr_request *child)
{
	child->segments[0] = (struct nr_segment){ s->fetch.data, child->length, NULL };
	child->segment_count = 1;
}

/* The data of the piece, copied if need be; false: no memory. */
static bool attach_data(const struct nr_request *req, struct nr_cow_state *s,
			struct nr_request *child)
{
	uint64_t from = s->at - req->offset;

	if (share_data(req, from, child))
		return true;
	s->fetch.buffer = nr_buffer_get(req->worker, child->length, &s->fetch.data);
	if (!s->fetch.buffer)
		return false;
	nr_request_copy_out(req, from, child->length, s->fetch.data);
	use_buffer(s, child);
	return true;
}

static void send_piece(struct nr_layer *layer, struct nr_request *req, struct nr_cow_state *s)
{
	struct cow *c = layer->instance;
	struct nr_request *child =
		nr_cow_store_child(layer, req, s, s->operation, s->at, s->stop - s->at);

	if (child && s->operation == NR_WRITE && !attach_data(req, s, child)) {
		nr_child_release(child);
		child = NULL;
	}
	if (!child) {
		if (!nr_cow_wait(layer, req, s, send_piece))
			nr_cow_end(layer, req, s, -ENOMEM);
		return;
	}
	child->flags = s->flags & (NR_NO_HOLE | NR_FAST_ZERO);
	s->child_done = piece_back;
	nr_enter(c->store, child);
}

/* A block of the base, [fetch.from, fetch.to), is in memory: change it and store it. */
static void block_back(struct nr_layer *layer, struct nr_request *req, struct nr_cow_state *s,
		       struct nr_request *child)
{
	const struct cow *c = layer->instance;
	uint64_t block = s->at >> c->shift;
	int error = child->error;

	nr_child_release(child);
	nr_cow_fetch_end(s);
	if (!error)
		(void)nr_cow_map_set(&s->overlay->map, block, block + 1, NR_COW_DATA, &error);
	if (error) {
		nr_cow_end(layer, req, s, error);
		return;
	}
	s->at = s->stop;
	next_piece(layer, req, s);
}

static void send_block(struct nr_layer *layer, struct nr_request *req, struct nr_cow_state *s)
{
	struct cow *c = layer->instance;
	struct nr_request *child = nr_cow_store_child(layer, req, s, NR_WRITE, s->fetch.from,
						      s->fetch.to - s->fetch.from);

	if (!child) {
		if (!nr_cow_wait(layer, req, s, send_block))
			nr_cow_end(layer, req, s, -ENOMEM);
		return;
	}
	use_buffer(s, child);
	s->child_done = block_back;
	nr_enter(c->store, child);
}

static void block_fetched(struct nr_layer *layer, struct nr_request *req, struct nr_cow_state *s)
{
	uint8_t *part;

	if (s->error) {
		nr_cow_end(layer, req, s, s->error);
		return;
	}
	part = s->fetch.data + (s->at - s->fetch.from);
	if (s->operation == NR_WRITE)
		nr_request_copy_out(req, s->at - req->offset, s->stop - s->at, part);
	else
		memset(part, 0, s->stop - s->at);
	send_block(layer, req, s);
}

static void next_piece(struct nr_layer *layer, struct nr_request *req, struct nr_cow_state *s)
{
	const struct cow *c = layer->instance;
	uint64_t end = s->end, block = s->at >> c->shift, last = (end - 1) >> c->shift;

	if (s->at == end) {
		nr_cow_end(layer, req, s, 0);
	} else if (needs_base(c, s, block, s->at, end)) {
		s->stop = nr_min(end, nr_cow_start_of(c, block + 1));
		nr_cow_fetch(layer, req, s, nr_cow_start_of(c, block),
			     nr_cow_start_of(c, block + 1), block_fetched);
	} else {
		s->stop = end;
		if (last != block && needs_base(c, s, last, s->at, end))
			s->stop = nr_cow_start_of(c, last);
		send_piece(layer, req, s);
	}
}

/* Beginning. */

static void begin(struct nr_layer *layer, struct nr_request *req, struct nr_cow_state *s)
{
	const struct cow *c = layer->instance;

	nr_cow_lock(layer, req, s, nr_cow_start_of(c, s->begin >> c->shift),
		    nr_cow_start_of(c, nr_cow_block_behind(c, s->end)), fills_up(c, s), begin_held);
}

static void begin_held(struct nr_layer *layer, struct nr_request *req, struct nr_cow_state *s)
{
	const struct cow *c = layer->instance;
	bool fills = fills_up(c, s);

	/* Who had the block before has filled it up: those that waited go on together. */
	if (s->ticket.exclusive && !fills) {
		nr_cow_unlock(layer, s);
		begin(layer, req, s);
	} else if (fills && (s->flags & NR_FAST_ZERO)) {
		nr_cow_end(layer, req, s, -ENOTSUP);
	} else {
		s->at = s->begin;
		next_piece(layer, req, s);
	}
}

void nr_cow_write(struct nr_layer *layer, struct nr_request *req, struct nr_cow_state *s)
{
	const struct cow *c = layer->instance;

	s->begin = req->offset;
	s->end = req->offset + req->length;
	s->operation = req->operation;
	s->flags = req->flags;
	if (req->operation == NR_TRIM) {
		/* Whole blocks; what is left at the ends may stay as it is. */
		s->begin = nr_cow_start_of(c, nr_cow_block_behind(c, s->begin));
		if (s->end != c->size)
			s->end = nr_cow_start_of(c, s->end >> c->shift);
		s->operation = NR_ZERO;
		s->flags = 0;
		if (s->begin >= s->end) {
			nr_finish(layer, req, 0);
			return;
		}
	}
	begin(layer, req, s);
}

/* Clearing. */

static void cleared(struct nr_layer *layer, struct nr_request *req, struct nr_cow_state *s,
		    struct nr_request *child)
{
	nr_child_release(child);
	/* If it failed, the room is taken for longer; what is read does not depend on it. */
	atomic_store(&s->overlay->use, NR_COW_FREE);
	nr_child_release(req);
}

void nr_cow_clear(struct nr_layer *layer, struct nr_request *req, struct nr_cow_state *s)
{
	struct cow *c = layer->instance;
	struct nr_request *child = nr_cow_store_child(layer, req, s, NR_ZERO, 0, c->size);

	if (!child) {
		atomic_store(&s->overlay->use, NR_COW_FREE);
		nr_child_release(req);
		return;
	}
	s->child_done = cleared;
	nr_enter(c->store, child);
}
