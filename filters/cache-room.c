/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * How much room the cache takes in its store.
 *
 * Blocks are thrown out from the high mark down to the low one, a few with each block that
 * comes, and the store is told to give their room back (a file: it gets holes) by a
 * background request, one run of slots at a time; until then nobody takes those slots.
 *
 * When the store's disk is full, the cache does two things.  For a second it takes no more
 * room: new blocks replace old ones.  And for a minute it makes do with a part less than it
 * has, of which the room is given back, so that there is some for whoever else needs it, and
 * for itself when blocks move.  Each time that it is full again it becomes smaller.
 */
#include <errno.h>
#include <string.h>

#include "filters/cache.h"

#define RECLAIMED_AT_ONCE 4u
#define GIVEN_AT_ONCE (UINT64_C(64) << 20) /* bytes */
#define FULL_NS UINT64_C(1000000000)
#define SMALLER_NS UINT64_C(60000000000)
#define SMALLER_BY 16u /* a sixteenth */

/* Giving back. */

static void give_next(struct nr_layer *layer)
{
	struct nr_cache *c = nr_cache_of(layer);
	struct nr_request *giver = c->giver, *child = NULL;
	uint32_t most = (uint32_t)(GIVEN_AT_ONCE >> c->shift), count;
	uint32_t slot = nr_cache_next_left(&c->map, c->giving, most, &count);

	if (slot == NR_NO_SLOT)
		slot = nr_cache_next_left(&c->map, 0, most, &count);
	if (slot != NR_NO_SLOT)
		child = nr_child_in(layer, c->store, giver, NR_TRIM, nr_cache_slot_offset(c, slot),
				    (uint64_t)count << c->shift);
	if (!child) {
		c->giver = NULL;
		nr_child_release(giver); /* the export may be closed from here on */
		return;
	}
	c->giving = slot;
	nr_enter(c->store, child);
}

void nr_cache_room_child(struct nr_layer *layer, struct nr_request *child)
{
	struct nr_cache *c = nr_cache_of(layer);
	uint32_t count = (uint32_t)(child->length >> c->shift);

	/* If it went wrong, the room is taken for longer. */
	if (!child->error)
		nr_count_add(&c->figures.given_back, count);
	nr_child_release(child);
	nr_cache_given_back(&c->map, c->giving, count);
	c->giving += count;
	give_next(layer);
}

void nr_cache_give_back(struct nr_layer *layer, struct nr_worker *worker)
{
	struct nr_cache *c = nr_cache_of(layer);
	struct nr_cache_state_of_request *s;

	if (c->map.left == 0 || c->giver)
		return;
	c->giver = nr_background(layer, worker, NR_FLUSH, 0, 0);
	if (!c->giver)
		return;
	s = nr_scratch(layer, c->giver);
	s->stage = NR_STAGE_ROOM;
	give_next(layer);
}

/* Taking. */

/* From the high mark down to the low one, a little with each block that comes. */
static void reclaim(struct nr_cache *c, uint64_t now)
{
	uint32_t high = c->high_slots, low = c->low_slots;

	if (now && now < c->smaller_until) {
		high = nr_min(high, c->smaller);
		low = nr_min(low, c->smaller);
	}
	c->reclaims |= c->map.used > high;
	for (unsigned i = 0; i < RECLAIMED_AT_ONCE && c->reclaims; i++) {
		if (c->map.used <= low)
			c->reclaims = false;
		else if (!nr_cache_evict(&c->map))
			break;
	}
}

uint32_t nr_cache_take_slot(struct nr_layer *layer, struct nr_worker *worker, uint64_t block)
{
	struct nr_cache *c = nr_cache_of(layer);
	uint64_t now = c->full_until ? nr_now(worker) : 0; /* 0: it was never full */

	if (!nr_cache_is_whole(c, block))
		return NR_NO_SLOT;
	reclaim(c, now);
	nr_cache_give_back(layer, worker);
	return nr_cache_take(&c->map, block, now < c->full_until);
}

/* When it fails. */

static void become_smaller(struct nr_cache *c, uint64_t now)
{
	uint32_t used = c->map.used;

	c->smaller = used - used / SMALLER_BY - (used > 0);
	c->smaller_until = now + SMALLER_NS;
}

void nr_cache_store_failed(struct nr_layer *layer, struct nr_worker *worker, int error)
{
	struct nr_cache *c = nr_cache_of(layer);
	uint64_t now = nr_now(worker);

	nr_count_add(&c->figures.store_errors, 1);
	if (now >= c->full_until && error == -ENOSPC && c->map.gives)
		become_smaller(c, now);
	if (now >= c->full_until)
		nr_layer_log(layer, NR_LAYER_WARNING, "the store: %s; %s", strerror(-error),
			     error == -ENOSPC ? "the cache does not grow"
					      : "the cache is passed by");
	c->full_until = now + FULL_NS;
}
