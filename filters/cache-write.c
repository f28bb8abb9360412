/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Writes.
 *
 * writeback and unsafe: into the store, and the blocks are dirty.  What would have to be
 * cached and cannot be (too much is dirty, no slot may go, the end of the disk) goes
 * below instead, as with writethrough.
 *
 * writethrough: below first, then into the store what is there, or is to be.
 *
 * A store that fails costs nothing but its use: blocks that are nowhere else are written
 * back, all of the request is dropped from the cache and written below.
 *
 * Also here: what follows when zero, trim and resize have settled their range.
 */
#include <assert.h>
#include <errno.h>

#include "filters/cache.h"

void nr_cache_begin_write(struct nr_layer *layer, struct nr_request *req)
{
	struct nr_cache *c = nr_cache_of(layer);
	struct nr_cache_state_of_request *s = nr_scratch(layer, req);

	s->stage = c->mode == NR_CACHE_WRITETHROUGH ? NR_STAGE_SETTLE : NR_STAGE_STORE;
	s->stable = c->mode == NR_CACHE_WRITEBACK && (req->flags & NR_FUA);
	s->at = s->from = req->offset;
	s->end = req->offset + req->length;
	nr_cache_step(layer, req);
}

static enum nr_cache_plan begin(struct nr_layer *layer, struct nr_request *req,
				struct nr_cache_part *part)
{
	struct nr_cache_state_of_request *s = nr_scratch(layer, req);
	uint64_t end = part->offset + part->length;

	nr_cache_of(layer)->becoming += part->becoming;
	if (!nr_cache_part_start(layer, req, part))
		return NR_PLAN_RETRY;
	s->at = end;
	return NR_PLAN_GO;
}

static bool may_be_dirty(const struct nr_cache *c, uint32_t more)
{
	return (uint64_t)c->map.dirty + c->becoming + more <= c->dirty_limit;
}

/* Slots from SLOT on that the blocks from FIRST on lie in, and that can be written into. */
static uint32_t run_there(const struct nr_cache *c, const struct nr_cache_state_of_request *s,
			  uint64_t first, uint32_t slot)
{
	uint64_t most = nr_substack_traits(c->store)->block_max >> c->shift;
	uint64_t last = (s->end - 1) >> c->shift;
	uint32_t count = 1;

	while (first + count <= last && count < most &&
	       nr_cache_find(&c->map, first + count) == slot + count &&
	       nr_cache_state_of(&c->map, slot + count) == nr_cache_state_of(&c->map, slot))
		count++;
	return count;
}

static enum nr_cache_plan plan_there(struct nr_layer *layer, struct nr_request *req,
				     struct nr_cache_state_of_request *s, uint32_t slot)
{
	struct nr_cache *c = nr_cache_of(layer);
	uint64_t first = s->at >> c->shift;
	bool clean = nr_cache_state_of(&c->map, slot) == NR_CACHE_CLEAN;
	uint32_t count = run_there(c, s, first, slot);
	struct nr_cache_part *part;

	if (s->stage == NR_STAGE_STORE && clean && !may_be_dirty(c, count))
		return NR_PLAN_BELOW;
	part = nr_cache_part_add(s, NR_PART_STORE, s->at,
				 nr_min(s->end, (first + count) << c->shift) - s->at);
	if (!part)
		return NR_PLAN_FULL;
	part->first = first;
	part->slot = slot;
	part->count = count;
	part->becoming = s->stage == NR_STAGE_STORE && clean ? count : 0;
	for (uint32_t i = 0; i < count; i++)
		c->map.policy.type->use(&c->map.policy, slot + i);
	return begin(layer, req, part);
}

/* How many whole blocks from FIRST on can be new in the cache. */
static uint32_t take_whole(struct nr_layer *layer, struct nr_request *req, uint64_t first)
{
	struct nr_cache *c = nr_cache_of(layer);
	const struct nr_cache_state_of_request *s = nr_scratch(layer, req);
	bool dirty = s->stage == NR_STAGE_STORE;
	uint64_t end = s->end >> c->shift;
	uint32_t taken = 0;

	while (first + taken < end && (!dirty || may_be_dirty(c, taken + 1)) &&
	       nr_cache_find(&c->map, first + taken) == NR_NO_SLOT &&
	       !(dirty && nr_cache_overlap(c, first + taken, first + taken)) &&
	       nr_cache_take_slot(layer, req->worker, first + taken) != NR_NO_SLOT)
		taken++;
	return taken;
}

static enum nr_cache_plan plan_new(struct nr_layer *layer, struct nr_request *req,
				   struct nr_cache_state_of_request *s)
{
	struct nr_cache *c = nr_cache_of(layer);
	uint64_t first = s->at >> c->shift, start = first << c->shift;
	bool whole = start == s->at && s->end - start >= c->block;
	struct nr_cache_part *part;

	part = nr_cache_part_add(s, whole ? NR_PART_NEW : NR_PART_MERGE, s->at, 0);
	if (!part)
		return NR_PLAN_FULL;
	part->first = first;
	if (whole)
		part->count = take_whole(layer, req, first);
	else if (may_be_dirty(c, 1))
		part->count = nr_cache_take_slot(layer, req->worker, first) != NR_NO_SLOT;
	if (!part->count) {
		s->parts--;
		return NR_PLAN_BELOW;
	}
	part->length = nr_min(s->end, (first + part->count) << c->shift) - s->at;
	part->becoming = s->stage == NR_STAGE_STORE ? part->count : 0;
	nr_count_add(&c->figures.stored, part->count);
	return begin(layer, req, part);
}

static enum nr_cache_plan plan_store(struct nr_layer *layer, struct nr_request *req,
				     struct nr_cache_state_of_request *s)
{
	struct nr_cache *c = nr_cache_of(layer);
	uint64_t block = s->at >> c->shift;
	uint32_t slot = nr_cache_find(&c->map, block);
	const struct nr_cache_range *range = nr_cache_overlap(c, block, block);

	if (range || (slot != NR_NO_SLOT && nr_cache_state_of(&c->map, slot) == NR_CACHE_READING)) {
		s->waits_for = range ? range->first : block;
		return NR_PLAN_WAIT;
	}
	if (slot != NR_NO_SLOT)
		return plan_there(layer, req, s, slot);
	return c->on_write ? plan_new(layer, req, s) : NR_PLAN_BELOW;
}

/* It is below: what is in the cache, or is to be there, follows. */
static enum nr_cache_plan plan_update(struct nr_layer *layer, struct nr_request *req,
				      struct nr_cache_state_of_request *s)
{
	struct nr_cache *c = nr_cache_of(layer);
	uint64_t block = s->at >> c->shift, start = block << c->shift;
	uint32_t slot = nr_cache_find(&c->map, block);
	enum nr_cache_plan next = NR_PLAN_BELOW;

	if (slot != NR_NO_SLOT)
		return plan_there(layer, req, s, slot);
	if (c->on_write && start == s->at && s->end - start >= c->block)
		next = plan_new(layer, req, s);
	if (next != NR_PLAN_BELOW)
		return next;
	s->at = nr_min(s->end, start + c->block);
	return NR_PLAN_GO;
}

/* All is in the store or below. */
static void written(struct nr_layer *layer, struct nr_request *req)
{
	struct nr_cache_state_of_request *s = nr_scratch(layer, req);

	nr_cache_leave_range(layer, req);
	if (!s->stable) {
		nr_cache_finish(layer, req, 0);
		return;
	}
	s->stage = NR_STAGE_DIRTY;
	s->cursor = req->offset >> nr_cache_of(layer)->shift;
	s->failures = nr_cache_of(layer)->failures;
	s->job = 0;
	nr_cache_step(layer, req);
}

void nr_cache_write(struct nr_layer *layer, struct nr_request *req)
{
	struct nr_cache_state_of_request *s = nr_scratch(layer, req);
	enum nr_cache_plan next = NR_PLAN_GO;

	while (s->at < s->end && next == NR_PLAN_GO)
		next = s->stage == NR_STAGE_STORE ? plan_store(layer, req, s)
						  : plan_update(layer, req, s);
	if (s->under_way)
		return;
	if (s->parts) {
		nr_cache_write_over(layer, req);
	} else if (s->at == s->end) {
		written(layer, req);
	} else if (next == NR_PLAN_BELOW) {
		s->stage = NR_STAGE_SETTLE;
		s->from = s->at;
		nr_cache_step(layer, req);
	} else {
		nr_cache_park(layer, req, next);
	}
}

/* What is below is not known any more: it is not in the cache either. */
static void forget_range(struct nr_cache *c, const struct nr_cache_state_of_request *s)
{
	for (uint64_t block = s->range.first; block <= s->range.last; block++) {
		uint32_t slot = nr_cache_find(&c->map, block);

		if (slot != NR_NO_SLOT)
			nr_cache_drop(&c->map, slot);
	}
}

void nr_cache_write_over(struct nr_layer *layer, struct nr_request *req)
{
	struct nr_cache *c = nr_cache_of(layer);
	struct nr_cache_state_of_request *s = nr_scratch(layer, req);
	int error = 0;

	for (unsigned i = 0; i < s->parts; i++)
		if (!error)
			error = s->part[i].error;
	nr_cache_parts_clear(c, s);
	if (s->stage == NR_STAGE_STORE) {
		nr_cache_pump(layer, req->worker);
		if (error) {
			s->stage = NR_STAGE_SETTLE;
			s->drops = true;
			s->from = req->offset;
		}
	} else if (s->stage == NR_STAGE_BELOW && error) {
		forget_range(c, s);
		nr_cache_finish(layer, req, error);
		return;
	} else if (s->stage == NR_STAGE_BELOW) {
		s->stage = NR_STAGE_UPDATE;
		s->at = s->drops ? s->end : s->from;
	}
	nr_cache_step(layer, req);
}

void nr_cache_settled(struct nr_layer *layer, struct nr_request *req)
{
	struct nr_cache_state_of_request *s = nr_scratch(layer, req);
	struct nr_cache_part *part;

	if (req->operation != NR_WRITE) {
		s->stage = NR_STAGE_BELOW;
		if (layer->below->traits.support[NR_CAP_FUA] == NR_NONE)
			req->flags &= ~NR_FUA;
		nr_pass(layer, req);
		return;
	}
	part = nr_cache_part_add(s, NR_PART_BELOW, s->from, s->end - s->from);
	assert(part);
	s->stage = NR_STAGE_BELOW;
	if (nr_cache_part_start(layer, req, part))
		return;
	s->stage = NR_STAGE_SETTLE; /* it is settled, and stays so */
	nr_cache_retry(layer, req);
}
