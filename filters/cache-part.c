/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The parts of a request, each a child or a few: to the store, to the layer below, or to
 * one after the other.
 *
 * A part holds its slots: those it reads are pinned, those it writes pinned and counted,
 * those it has taken are READING.  Data is not copied where it lies in one piece that
 * the store takes; answers of a store in memory point into its slots, and a lease keeps
 * these from being given to another block until the bytes have left.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "filters/cache.h"

#define LEASES_AT_ONCE 64u

/* Leases. */

struct nr_cache_lease {
	struct nr_buffer buffer; /* first: it is known by it */
	struct nr_cache *cache;
	struct nr_buffer *inner; /* the store's */
	struct nr_cache_lease *next;
	uint32_t slot, count;
};

struct nr_cache_leases {
	struct nr_cache_leases *next;
	struct nr_cache_lease lease[LEASES_AT_ONCE];
};

static void give_back(struct nr_buffer *buffer)
{
	struct nr_cache_lease *lease = (struct nr_cache_lease *)buffer;
	struct nr_cache *c = lease->cache;

	if (lease->inner)
		lease->inner->release(lease->inner);
	for (uint32_t i = 0; i < lease->count; i++)
		nr_cache_unpin(&c->map, lease->slot + i);
	lease->next = c->free_leases;
	c->free_leases = lease;
}

static bool more_leases(struct nr_cache *c)
{
	struct nr_cache_leases *more = calloc(1, sizeof(*more));

	if (!more)
		return false;
	more->next = c->leases;
	c->leases = more;
	for (unsigned i = 0; i < LEASES_AT_ONCE; i++) {
		more->lease[i].next = c->free_leases;
		c->free_leases = &more->lease[i];
	}
	return true;
}

void nr_cache_free_leases(struct nr_cache *c)
{
	while (c->leases) {
		struct nr_cache_leases *leases = c->leases;

		c->leases = leases->next;
		free(leases);
	}
	c->free_leases = NULL;
}

static bool can_pin(const struct nr_cache *c, uint32_t slot, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++)
		if (c->map.slot[slot + i].pins == UINT16_MAX)
			return false;
	return true;
}

static void pin(struct nr_cache *c, uint32_t slot, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++)
		c->map.slot[slot + i].pins++;
}

static void unpin(struct nr_cache *c, uint32_t slot, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++)
		nr_cache_unpin(&c->map, slot + i);
}

struct nr_buffer *nr_cache_lease(struct nr_cache *c, struct nr_buffer *inner, uint32_t slot,
				 uint32_t count)
{
	struct nr_cache_lease *lease;

	if (!can_pin(c, slot, count) || (!c->free_leases && !more_leases(c)))
		return NULL;
	lease = c->free_leases;
	c->free_leases = lease->next;
	*lease = (struct nr_cache_lease){ .buffer.release = give_back,
					  .cache = c,
					  .inner = inner,
					  .slot = slot,
					  .count = count };
	pin(c, slot, count);
	return &lease->buffer;
}

/* Parts. */

struct nr_cache_part *nr_cache_part_add(struct nr_cache_state_of_request *s,
					enum nr_cache_part_kind kind, uint64_t offset,
					uint64_t length)
{
	struct nr_cache_part *part;

	if (s->parts == NR_CACHE_PARTS)
		return NULL;
	part = &s->part[s->parts++];
	*part = (struct nr_cache_part){ .kind = kind, .offset = offset, .length = length };
	return part;
}

void nr_cache_part_forget(struct nr_cache *c, struct nr_cache_part *part)
{
	if (part->pinned)
		unpin(c, part->slot, part->count);
	part->pinned = false;
	if (part->answer)
		nr_child_release(part->answer);
	if (part->buffer)
		part->buffer->release(part->buffer);
	part->answer = NULL;
	part->buffer = NULL;
}

/* The blocks that the part has taken are in the cache, or are not. */
static void let_go_of_new(struct nr_layer *layer, struct nr_cache_part *part,
			  enum nr_cache_state state)
{
	struct nr_cache *c = nr_cache_of(layer);

	for (uint32_t i = 0; i < part->count; i++) {
		uint32_t slot = nr_cache_find(&c->map, part->first + i);

		if (slot != NR_NO_SLOT && nr_cache_state_of(&c->map, slot) == NR_CACHE_READING) {
			bool keep = !part->error && nr_cache_is_whole(c, part->first + i);

			if (keep && state == NR_CACHE_DIRTY)
				nr_cache_note_dirty(c, slot);
			if (keep)
				nr_cache_set(&c->map, slot, state);
			else
				nr_cache_drop(&c->map, slot);
		}
		nr_cache_wake(layer, part->first + i);
	}
}

static void let_go_of_written(struct nr_layer *layer, struct nr_request *req,
			      struct nr_cache_part *part)
{
	struct nr_cache *c = nr_cache_of(layer);
	struct nr_cache_state_of_request *s = nr_scratch(layer, req);

	for (uint32_t i = 0; i < part->count; i++) {
		uint32_t slot = part->slot + i;
		struct nr_cache_slot *entry = &c->map.slot[slot];

		assert(entry->writers > 0);
		entry->writers--;
		if (entry->state == NR_CACHE_CLEAN && part->error) {
			nr_cache_drop(&c->map, slot);
		} else if (entry->state == NR_CACHE_CLEAN && s->stage == NR_STAGE_STORE) {
			nr_cache_note_dirty(c, slot);
			nr_cache_set(&c->map, slot, NR_CACHE_DIRTY);
		}
		nr_cache_unpin(&c->map, slot);
		nr_cache_wake(layer, part->first + i);
	}
}

static void over(struct nr_layer *layer, struct nr_request *req, struct nr_cache_part *part)
{
	struct nr_cache_state_of_request *s = nr_scratch(layer, req);

	nr_cache_of(layer)->becoming -= part->becoming;
	part->becoming = 0;
	switch (part->kind) {
	case NR_PART_HIT:
	case NR_PART_BYPASS:
	case NR_PART_BELOW:
		break;
	case NR_PART_FILL:
		let_go_of_new(layer, part, NR_CACHE_CLEAN);
		break;
	case NR_PART_NEW:
	case NR_PART_MERGE:
		let_go_of_new(layer, part,
			      s->stage == NR_STAGE_STORE ? NR_CACHE_DIRTY : NR_CACHE_CLEAN);
		break;
	case NR_PART_STORE:
		let_go_of_written(layer, req, part);
		break;
	}
	part->over = true;
	s->under_way--;
}

/* Children. */

static struct nr_request *store_child(struct nr_cache *c, struct nr_request *req,
				      enum nr_operation operation, uint32_t slot, uint64_t within,
				      uint64_t length)
{
	return nr_child_in(c->layer, c->store, req, operation,
			   nr_cache_slot_offset(c, slot) + within, length);
}

/* [FROM, FROM + LENGTH) of REQ's data in one piece that may be written anywhere. */
static bool one_piece(struct nr_request *req, uint64_t from, uint64_t length, uint64_t align,
		      struct nr_cache_part *part)
{
	for (uint32_t i = 0; i < req->segment_count; i++) {
		const struct nr_segment *segment = &req->segments[i];

		if (from >= segment->length) {
			from -= segment->length;
			continue;
		}
		if (segment->length - from < length || !segment->data ||
		    !nr_is_aligned((uintptr_t)(segment->data + from), align))
			break;
		part->data = segment->data + from;
		return true;
	}
	return false;
}

static bool gather(struct nr_request *req, uint64_t from, uint64_t length, uint64_t align,
		   struct nr_cache_part *part)
{
	if (one_piece(req, from, length, align, part))
		return true;
	part->buffer = nr_buffer_get(req->worker, length, &part->data);
	if (!part->buffer)
		return false;
	nr_request_copy_out(req, from, length, part->data);
	return true;
}

static void send_write(struct nr_layer *layer, struct nr_cache_part *part, struct nr_request *child,
		       uint8_t *data)
{
	struct nr_cache *c = nr_cache_of(layer);

	child->segments[0] = (struct nr_segment){ data, child->length, NULL };
	child->segment_count = 1;
	part->under_way++;
	nr_enter(c->store, child);
}

/* Slots of the part that lie one behind the other, from block INDEX of it on. */
static uint32_t run_of_slots(struct nr_cache *c, const struct nr_cache_part *part, uint32_t index,
			     uint32_t *slot)
{
	uint32_t most = nr_substack_traits(c->store)->block_max >> c->shift, count = 1;

	*slot = nr_cache_find(&c->map, part->first + index);
	assert(*slot != NR_NO_SLOT);
	while (index + count < part->count && count < most &&
	       nr_cache_find(&c->map, part->first + index + count) == *slot + count)
		count++;
	return count;
}

/* The blocks of the part, which are at part->data, into their slots. */
static void write_blocks(struct nr_layer *layer, struct nr_request *req, struct nr_cache_part *part)
{
	struct nr_cache *c = nr_cache_of(layer);
	uint32_t index = 0;

	while (index < part->count && !part->error) {
		uint32_t slot, count = run_of_slots(c, part, index, &slot);
		struct nr_request *child =
			store_child(c, req, NR_WRITE, slot, 0, (uint64_t)count << c->shift);

		if (child)
			send_write(layer, part, child, part->data + ((uint64_t)index << c->shift));
		else
			part->error = -ENOMEM;
		index += count;
	}
	if (part->under_way == 0)
		over(layer, req, part);
}

/* What the part needs of the blocks below, a piece: all of it, unless that is too long. */
static bool read_below(struct nr_layer *layer, struct nr_request *req, struct nr_cache_part *part)
{
	struct nr_cache *c = nr_cache_of(layer);
	uint64_t start = part->first << c->shift, length = (uint64_t)part->count << c->shift;
	uint64_t piece = nr_min(length - part->read, layer->below->traits.block_max);
	struct nr_request *child;

	if ((piece < length || part->kind == NR_PART_MERGE) && !part->buffer) {
		part->buffer = nr_buffer_get(req->worker, length, &part->data);
		if (!part->buffer)
			return false;
	}
	child = nr_child(layer, req, NR_READ, start + part->read, piece);
	if (!child)
		return false;
	part->read += piece;
	part->child = child;
	part->under_way++;
	nr_pass(layer, child);
	return true;
}

/* The next piece; false: all have come. */
static bool next_piece(struct nr_layer *layer, struct nr_request *req, struct nr_cache_part *part)
{
	struct nr_cache *c = nr_cache_of(layer);

	if (part->read == (uint64_t)part->count << c->shift)
		return false;
	if (!read_below(layer, req, part)) {
		part->error = -ENOMEM;
		part->unread = true;
		over(layer, req, part);
	}
	return true;
}

/* A piece has come from below; when it is the last one, on to the store. */
static void came_from_below(struct nr_layer *layer, struct nr_request *req,
			    struct nr_cache_part *part, struct nr_request *child)
{
	struct nr_cache *c = nr_cache_of(layer);
	uint64_t start = part->first << c->shift, length = (uint64_t)part->count << c->shift;

	if (part->error) {
		nr_child_release(child);
		over(layer, req, part);
		return;
	}
	if (part->buffer) {
		nr_request_copy_out(child, 0, child->length, part->data + (child->offset - start));
		nr_child_release(child);
		if (next_piece(layer, req, part))
			return;
	} else {
		part->answer = child;
		if (!gather(child, 0, length, nr_substack_traits(c->store)->memory_align, part)) {
			part->error = -ENOMEM;
			over(layer, req, part);
			return;
		}
	}
	if (part->kind == NR_PART_MERGE)
		nr_request_copy_out(req, part->offset - req->offset, part->length,
				    part->data + (part->offset - start));
	write_blocks(layer, req, part);
}

static bool start_hit(struct nr_layer *layer, struct nr_request *req, struct nr_cache_part *part)
{
	struct nr_cache *c = nr_cache_of(layer);
	struct nr_request *child;

	if (!can_pin(c, part->slot, part->count))
		return false;
	child = store_child(c, req, NR_READ, part->slot, part->offset & (c->block - 1),
			    part->length);
	if (!child)
		return false;
	pin(c, part->slot, part->count);
	part->pinned = true;
	part->child = child;
	part->under_way++;
	nr_enter(c->store, child);
	return true;
}

static bool start_below(struct nr_layer *layer, struct nr_request *req, struct nr_cache_part *part)
{
	struct nr_request *child;

	if (part->kind == NR_PART_BELOW && !gather(req, part->offset - req->offset, part->length,
						   layer->below->traits.memory_align, part))
		return false;
	child = nr_child(layer, req, part->kind == NR_PART_BELOW ? NR_WRITE : NR_READ, part->offset,
			 part->length);
	if (!child)
		return false;
	if (part->kind == NR_PART_BELOW) {
		if (layer->below->traits.support[NR_CAP_FUA] != NR_NONE)
			child->flags = req->flags & NR_FUA;
		child->segments[0] = (struct nr_segment){ part->data, part->length, NULL };
		child->segment_count = 1;
	}
	part->child = child;
	part->under_way++;
	nr_pass(layer, child);
	return true;
}

static bool can_write(const struct nr_cache *c, const struct nr_cache_part *part)
{
	for (uint32_t i = 0; i < part->count; i++)
		if (c->map.slot[part->slot + i].writers == UINT8_MAX)
			return false;
	return can_pin(c, part->slot, part->count);
}

/* The client's bytes into slots that have blocks. */
static bool start_store(struct nr_layer *layer, struct nr_request *req, struct nr_cache_part *part)
{
	struct nr_cache *c = nr_cache_of(layer);
	struct nr_request *child;

	if (!can_write(c, part) || !gather(req, part->offset - req->offset, part->length,
					   nr_substack_traits(c->store)->memory_align, part))
		return false;
	child = store_child(c, req, NR_WRITE, part->slot, part->offset & (c->block - 1),
			    part->length);
	if (!child)
		return false;
	for (uint32_t i = 0; i < part->count; i++) {
		struct nr_cache_slot *slot = &c->map.slot[part->slot + i];

		slot->writers++;
		slot->pins++;
		if (slot->state == NR_CACHE_WRITING)
			nr_cache_set(&c->map, part->slot + i, NR_CACHE_DIRTY_AGAIN);
	}
	send_write(layer, part, child, part->data);
	return true;
}

/* Whole blocks of the client's into slots that were taken for them. */
static bool start_new(struct nr_layer *layer, struct nr_request *req, struct nr_cache_part *part)
{
	struct nr_cache *c = nr_cache_of(layer);
	struct nr_cache_state_of_request *s = nr_scratch(layer, req);

	if (!gather(req, part->offset - req->offset, part->length,
		    nr_substack_traits(c->store)->memory_align, part))
		return false;
	s->under_way++; /* write_blocks may be over at once */
	write_blocks(layer, req, part);
	return true;
}

bool nr_cache_part_start(struct nr_layer *layer, struct nr_request *req, struct nr_cache_part *part)
{
	struct nr_cache_state_of_request *s = nr_scratch(layer, req);
	bool started = false;

	switch (part->kind) {
	case NR_PART_HIT:
		started = start_hit(layer, req, part);
		break;
	case NR_PART_FILL:
	case NR_PART_MERGE:
		started = read_below(layer, req, part);
		break;
	case NR_PART_BYPASS:
	case NR_PART_BELOW:
		started = start_below(layer, req, part);
		break;
	case NR_PART_STORE:
		started = start_store(layer, req, part);
		break;
	case NR_PART_NEW:
		if (start_new(layer, req, part))
			return true;
		break;
	}
	if (started) {
		s->under_way++;
		return true;
	}
	nr_cache_of(layer)->becoming -= part->becoming;
	if (part->kind == NR_PART_FILL || part->kind == NR_PART_MERGE ||
	    part->kind == NR_PART_NEW) {
		part->error = -ENOMEM;
		let_go_of_new(layer, part, NR_CACHE_CLEAN);
	}
	nr_cache_part_forget(nr_cache_of(layer), part);
	s->parts--;
	return false;
}

struct nr_cache_part *nr_cache_part_of(const struct nr_cache *c,
				       struct nr_cache_state_of_request *s,
				       const struct nr_request *child)
{
	uint32_t slot;
	uint64_t block;

	for (unsigned i = 0; i < s->parts; i++)
		if (s->part[i].child == child)
			return &s->part[i];
	/* One of several that write to the store: the slots are the parts' own. */
	slot = (uint32_t)((child->offset - c->store_start) >> c->shift);
	block = nr_cache_block_of(&c->map, slot);
	for (unsigned i = 0; i < s->parts; i++)
		if (!s->part[i].child && !s->part[i].over && block >= s->part[i].first &&
		    block - s->part[i].first < s->part[i].count)
			return &s->part[i];
	assert(false);
	return NULL;
}

void nr_cache_part_child(struct nr_layer *layer, struct nr_request *req, struct nr_cache_part *part,
			 struct nr_request *child)
{
	bool reading = child->operation == NR_READ;

	part->child = NULL;
	part->under_way--;
	if (child->error && !part->error)
		part->error = child->error;
	if (child->error && reading)
		part->unread = true;
	if (child->error && !reading && part->kind != NR_PART_BELOW)
		nr_cache_store_failed(layer, req->worker, child->error);
	if (part->kind == NR_PART_HIT || part->kind == NR_PART_BYPASS) {
		part->answer = child;
		over(layer, req, part);
	} else if (reading) {
		came_from_below(layer, req, part, child);
	} else {
		nr_child_release(child);
		if (part->under_way == 0)
			over(layer, req, part);
	}
}

/* Answers. */

static bool answer_segment(struct nr_cache *c, struct nr_request *req, struct nr_cache_part *part,
			   const struct nr_segment *segment, uint64_t from)
{
	uint64_t start = (part->offset & (c->block - 1)) + from;
	uint32_t first = part->slot + (uint32_t)(start >> c->shift);
	uint32_t last = part->slot + (uint32_t)((start + segment->length - 1) >> c->shift);
	struct nr_buffer *lease;

	if (!segment->data)
		return nr_answer_hole(req, segment->length);
	if (part->kind != NR_PART_HIT || !c->lends)
		return nr_answer_data(req, segment->data, segment->length, segment->owner);
	lease = nr_cache_lease(c, segment->owner, first, last - first + 1);
	if (lease)
		return nr_answer_data(req, segment->data, segment->length, lease);
	if (segment->owner)
		segment->owner->release(segment->owner);
	return false;
}

static int move_answer(struct nr_cache *c, struct nr_request *req, struct nr_cache_part *part)
{
	struct nr_request *child = part->answer;
	uint64_t from = 0;
	bool fits = true;

	for (uint32_t i = 0; i < child->segment_count; i++) {
		fits &= answer_segment(c, req, part, &child->segments[i], from);
		from += child->segments[i].length;
	}
	child->segment_count = 0; /* their references have been given away */
	return fits ? 0 : -ENOMEM;
}

int nr_cache_part_answer(struct nr_layer *layer, struct nr_request *req, struct nr_cache_part *part)
{
	struct nr_cache *c = nr_cache_of(layer);
	uint64_t before = part->offset - (part->first << c->shift);
	struct nr_buffer *buffer;

	if (part->kind == NR_PART_FILL && part->answer) {
		nr_answer_cut(part->answer, before, part->length);
		return move_answer(c, req, part);
	}
	if (part->kind == NR_PART_FILL) {
		buffer = part->buffer;
		part->buffer = NULL;
		return nr_answer_data(req, part->data + before, part->length, buffer) ? 0 : -ENOMEM;
	}
	return move_answer(c, req, part);
}

void nr_cache_parts_clear(struct nr_cache *c, struct nr_cache_state_of_request *s)
{
	for (unsigned i = 0; i < s->parts; i++)
		nr_cache_part_forget(c, &s->part[i]);
	s->parts = 0;
}

void nr_cache_park(struct nr_layer *layer, struct nr_request *req, enum nr_cache_plan plan)
{
	struct nr_cache_state_of_request *s = nr_scratch(layer, req);

	assert(s->parts == 0);
	if (plan == NR_PLAN_WAIT)
		nr_cache_wait(layer, req, s->waits_for);
	else
		nr_cache_retry(layer, req);
}
