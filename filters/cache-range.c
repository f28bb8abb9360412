/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Requests that change what is below themselves (writes past the store, zero, trim,
 * resize) own a range of blocks while they do so.
 *
 * A range is entered when no other one overlaps, and settled block by block: nobody
 * fills a slot in it, nobody writes into one, and nothing of it is being written back.
 * From then on it stays so: who comes later and would take a slot in the range, or write
 * into one, waits for its end; who reads goes past.  What is in the cache is left as it
 * is, clean, or dropped.
 *
 * There are as many ranges as such requests under way, so they are searched one by one.
 */
#include <assert.h>
#include <errno.h>

#include "filters/cache.h"

#define STEPS_MAX 4096u /* slots looked at in one go */

/* Waiting. */

static struct nr_request **queue_of(struct nr_cache *c, uint64_t block)
{
	return &c->queue[block % NR_CACHE_QUEUES];
}

void nr_cache_wait(struct nr_layer *layer, struct nr_request *req, uint64_t block)
{
	struct nr_cache_state_of_request *s = nr_scratch(layer, req);
	struct nr_request **queue = queue_of(nr_cache_of(layer), block);

	s->waits_for = block;
	s->waiter = *queue;
	*queue = req;
}

void nr_cache_wake(struct nr_layer *layer, uint64_t block)
{
	struct nr_request **at = queue_of(nr_cache_of(layer), block);

	while (*at) {
		struct nr_request *req = *at;
		struct nr_cache_state_of_request *s = nr_scratch(layer, req);

		if (s->waits_for == block) {
			*at = s->waiter;
			nr_resume(layer, req);
		} else {
			at = &s->waiter;
		}
	}
}

/* Ranges. */

const struct nr_cache_range *nr_cache_overlap(const struct nr_cache *c, uint64_t first,
					      uint64_t last)
{
	const struct nr_cache_range *range = c->ranges;

	while (range && (range->last < first || last < range->first))
		range = range->next;
	return range;
}

static void enter(struct nr_cache *c, struct nr_cache_range *range)
{
	range->previous = NULL;
	range->next = c->ranges;
	if (range->next)
		range->next->previous = range;
	c->ranges = range;
}

void nr_cache_leave_range(struct nr_layer *layer, struct nr_request *req)
{
	struct nr_cache *c = nr_cache_of(layer);
	struct nr_cache_state_of_request *s = nr_scratch(layer, req);
	struct nr_cache_range *range = &s->range;

	if (!s->ranged)
		return;
	s->ranged = false;
	if (range->next)
		range->next->previous = range->previous;
	if (range->previous)
		range->previous->next = range->next;
	else
		c->ranges = range->next;
	nr_cache_wake(layer, range->first);
}

/*
 * Is BLOCK behind the new end?  Zero and trim do not decide like that about what is dirty:
 * they may be refused or fail, and a trim may do nothing; then what was there before the
 * block was written would be read again.
 */
static bool is_cut_off(const struct nr_cache *c, const struct nr_request *req, uint64_t block)
{
	return req->operation == NR_RESIZE && block << c->shift >= req->offset;
}

/* False: REQ waits, or is finished. */
static bool settle_slot(struct nr_layer *layer, struct nr_request *req, uint32_t slot)
{
	struct nr_cache *c = nr_cache_of(layer);
	struct nr_cache_state_of_request *s = nr_scratch(layer, req);
	uint64_t block = nr_cache_block_of(&c->map, slot);
	enum nr_cache_state state = nr_cache_state_of(&c->map, slot);

	if (state == NR_CACHE_READING || c->map.slot[slot].writers) {
		nr_cache_wait(layer, req, block);
		return false;
	}
	if (state == NR_CACHE_WRITING || state == NR_CACHE_DIRTY_AGAIN) {
		nr_cache_wait_for_job(layer, req);
		return false;
	}
	if (state == NR_CACHE_DIRTY && !(s->drops && is_cut_off(c, req, block))) {
		if (c->failures > s->failures)
			nr_cache_finish(layer, req, c->error);
		else if (nr_cache_write_back(layer, req, slot))
			nr_cache_wait_for_job(layer, req);
		else
			nr_cache_retry(layer, req);
		return false;
	}
	if (s->drops)
		nr_cache_drop(&c->map, slot);
	return true;
}

/* The slot to look at for s->cursor: of a block of the range, or one of all slots. */
static uint32_t slot_at(const struct nr_cache *c, const struct nr_cache_state_of_request *s)
{
	uint32_t slot = (uint32_t)s->cursor;
	enum nr_cache_state state;
	uint64_t block;

	if (s->by_block)
		return nr_cache_find(&c->map, s->range.first + s->cursor);
	state = nr_cache_state_of(&c->map, slot);
	block = nr_cache_block_of(&c->map, slot);
	if (state == NR_CACHE_EMPTY || state == NR_CACHE_EVICTING || state == NR_CACHE_LEFT ||
	    block < s->range.first || block > s->range.last)
		return NR_NO_SLOT;
	return slot;
}

static bool enter_range(struct nr_layer *layer, struct nr_request *req)
{
	struct nr_cache *c = nr_cache_of(layer);
	struct nr_cache_state_of_request *s = nr_scratch(layer, req);
	const struct nr_cache_range *other;

	s->range.first = s->from >> c->shift;
	s->range.last = (s->end - 1) >> c->shift;
	other = nr_cache_overlap(c, s->range.first, s->range.last);
	if (other) {
		nr_cache_wait(layer, req, other->first);
		return false;
	}
	enter(c, &s->range);
	s->ranged = true;
	s->cursor = 0;
	s->by_block = s->range.last - s->range.first < c->map.fresh;
	s->failures = c->failures;
	return true;
}

void nr_cache_settle(struct nr_layer *layer, struct nr_request *req)
{
	struct nr_cache *c = nr_cache_of(layer);
	struct nr_cache_state_of_request *s = nr_scratch(layer, req);
	uint64_t count, end;

	if (!s->ranged && !enter_range(layer, req))
		return;
	count = s->range.last - s->range.first + 1;
	end = s->by_block ? count : c->map.fresh;
	for (unsigned i = 0; s->cursor < end; i++, s->cursor++) {
		uint32_t slot;

		if (i == STEPS_MAX) {
			nr_resume(layer, req);
			return;
		}
		slot = slot_at(c, s);
		if (slot != NR_NO_SLOT && !settle_slot(layer, req, slot))
			return;
	}
	nr_cache_settled(layer, req);
}
