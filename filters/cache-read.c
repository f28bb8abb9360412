/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Reads: a part for each run of blocks that are in the store one behind the other, and
 * for each run that is not there.  Those go through the store if they are to be cached
 * and there is room, else past it.  Who finds a block being read waits for it.
 *
 * What cannot be read from the store is read from below, if it is there, too.
 */
#include <errno.h>

#include "filters/cache.h"
#include "filters/flagfile.h"

#define TRIES_MAX 4u
#define SKIP_MAX 4096u /* blocks that a request to prefetch passes over in one go */

static uint64_t min3(uint64_t a, uint64_t b, uint64_t c)
{
	return nr_min(nr_min(a, b), c);
}

static void use(struct nr_cache *c, uint32_t slot, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++)
		c->map.policy.type->use(&c->map.policy, slot + i);
}

static enum nr_cache_plan begin(struct nr_layer *layer, struct nr_request *req,
				struct nr_cache_part *part)
{
	struct nr_cache_state_of_request *s = nr_scratch(layer, req);
	uint64_t end = part->offset + part->length;

	if (!nr_cache_part_start(layer, req, part))
		return NR_PLAN_RETRY;
	s->at = end;
	return NR_PLAN_GO;
}

/* From s->at on, which is in SLOT. */
static enum nr_cache_plan plan_hit(struct nr_layer *layer, struct nr_request *req,
				   struct nr_cache_state_of_request *s, uint32_t slot)
{
	struct nr_cache *c = nr_cache_of(layer);
	uint64_t first = s->at >> c->shift, last = (s->end - 1) >> c->shift;
	uint64_t most = nr_substack_traits(c->store)->block_max >> c->shift;
	struct nr_cache_part *part;
	uint32_t count = 1;

	while (first + count <= last && count < most && slot + count < c->map.slots &&
	       nr_cache_find(&c->map, first + count) == slot + count &&
	       nr_cache_state_of(&c->map, slot + count) != NR_CACHE_READING)
		count++;
	part = nr_cache_part_add(s, NR_PART_HIT, s->at,
				 nr_min(s->end, (first + count) << c->shift) - s->at);
	if (!part)
		return NR_PLAN_FULL;
	part->first = first;
	part->slot = slot;
	part->count = count;
	nr_count_add(&c->figures.hits, count);
	use(c, slot, count);
	return begin(layer, req, part);
}

/* Slots for as many of the COUNT blocks from FIRST on as there are. */
static uint32_t take_slots(struct nr_layer *layer, struct nr_request *req, uint64_t first,
			   uint64_t count)
{
	struct nr_cache *c = nr_cache_of(layer);
	uint64_t most = nr_max(layer->below->traits.block_max >> c->shift, 1);
	uint32_t taken = 0;

	count = nr_min(count, most);
	while (taken < count && nr_cache_take_slot(layer, req->worker, first + taken) != NR_NO_SLOT)
		taken++;
	return taken;
}

/* How many of the blocks from FIRST to LAST are not there, one behind the other. */
static uint64_t missing(const struct nr_cache *c, uint64_t first, uint64_t last)
{
	uint64_t count = 1;

	last = nr_min(last, first + (NR_TRANSFER_MAX >> c->shift));
	while (first + count <= last && nr_cache_find(&c->map, first + count) == NR_NO_SLOT)
		count++;
	return count;
}

static bool fills(const struct nr_cache *c)
{
	return c->on_read_flag ? nr_flagfile_set(c->on_read_flag) : c->on_read;
}

static enum nr_cache_plan plan_miss(struct nr_layer *layer, struct nr_request *req,
				    struct nr_cache_state_of_request *s)
{
	struct nr_cache *c = nr_cache_of(layer);
	uint64_t first = s->at >> c->shift, last = (s->end - 1) >> c->shift;
	uint64_t count = missing(c, first, last);
	bool fill = (fills(c) || req->operation == NR_CACHE) && !s->has_failed &&
		    !nr_cache_overlap(c, first, first + count - 1);
	struct nr_cache_part *part;
	uint32_t taken = 0;

	part = nr_cache_part_add(s, NR_PART_FILL, s->at, 0);
	if (!part)
		return NR_PLAN_FULL;
	if (fill)
		taken = take_slots(layer, req, first, count);
	if (!taken && req->operation == NR_CACHE) {
		s->parts--; /* no room, so it is no hint of use */
		s->at = nr_min(s->end, (first + count) << c->shift);
		return NR_PLAN_GO;
	}
	if (taken)
		count = taken;
	else
		part->kind = NR_PART_BYPASS;
	part->first = first;
	part->count = taken;
	part->length = min3(s->end - s->at, ((first + count) << c->shift) - s->at,
			    taken ? UINT64_MAX : layer->below->traits.block_max);
	nr_count_add(&c->figures.misses, count);
	nr_count_add(taken ? &c->figures.filled : &c->figures.bypassed, count);
	return begin(layer, req, part);
}

static enum nr_cache_plan plan(struct nr_layer *layer, struct nr_request *req,
			       struct nr_cache_state_of_request *s)
{
	struct nr_cache *c = nr_cache_of(layer);
	uint64_t block = s->at >> c->shift;
	uint32_t slot = nr_cache_find(&c->map, block);

	if (slot == NR_NO_SLOT)
		return plan_miss(layer, req, s);
	s->waits_for = block;
	if (nr_cache_state_of(&c->map, slot) == NR_CACHE_READING && req->operation == NR_READ)
		return NR_PLAN_WAIT;
	if (req->operation == NR_READ)
		return plan_hit(layer, req, s, slot);
	s->at = nr_min(s->end, (block + 1) << c->shift); /* it is there, or soon is */
	return NR_PLAN_GO;
}

void nr_cache_read(struct nr_layer *layer, struct nr_request *req)
{
	struct nr_cache *c = nr_cache_of(layer);
	struct nr_cache_state_of_request *s = nr_scratch(layer, req);
	enum nr_cache_plan next = NR_PLAN_GO;

	for (unsigned i = 0; i < SKIP_MAX && s->at < s->end && next == NR_PLAN_GO; i++)
		next = plan(layer, req, s);
	if (s->under_way)
		return;
	if (s->parts)
		nr_cache_read_over(layer, req);
	else if (s->at == s->end || s->error)
		nr_cache_finish(layer, req, s->error);
	else if (next == NR_PLAN_GO)
		nr_resume(c->layer, req);
	else
		nr_cache_park(layer, req, next);
}

/* A part failed: can it be had in another way?  Then from there on all is done again. */
static void part_failed(struct nr_layer *layer, struct nr_request *req,
			struct nr_cache_state_of_request *s, struct nr_cache_part *part)
{
	struct nr_cache *c = nr_cache_of(layer);

	s->at = part->offset;
	if (part->kind == NR_PART_BYPASS || ++s->tries > TRIES_MAX) {
		s->error = part->error;
		return;
	}
	s->has_failed = true; /* not into the store again */
	if (part->kind != NR_PART_HIT)
		return;
	nr_cache_store_failed(layer, req->worker, part->error);
	for (uint32_t i = 0; i < part->count; i++) {
		uint32_t slot = nr_cache_find(&c->map, part->first + i);
		struct nr_cache_slot *entry;

		if (slot != part->slot + i)
			continue; /* gone meanwhile */
		entry = &c->map.slot[slot];
		if (entry->state != NR_CACHE_CLEAN)
			s->error = part->error; /* nowhere else */
		else if (entry->writers == 0)
			nr_cache_drop(&c->map, slot);
	}
}

void nr_cache_read_over(struct nr_layer *layer, struct nr_request *req)
{
	struct nr_cache *c = nr_cache_of(layer);
	struct nr_cache_state_of_request *s = nr_scratch(layer, req);

	for (unsigned i = 0; i < s->parts && !s->error; i++) {
		struct nr_cache_part *part = &s->part[i];
		bool failed = part->error && (part->kind != NR_PART_FILL || part->unread);

		if (failed && req->operation == NR_READ) {
			part_failed(layer, req, s, part);
			break;
		}
		if (req->operation == NR_READ && !failed)
			s->error = nr_cache_part_answer(layer, req, part);
	}
	nr_cache_parts_clear(c, s);
	if (s->error)
		nr_cache_finish(layer, req, s->error);
	else
		nr_cache_step(layer, req);
}
