/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What is in a cache: which block is in which slot of the store, and in what state.
 *
 * Arrays, made once: slots, a hash from block numbers to slots by open addressing, a bit
 * per slot for what has to be written back, and the policy's.  At most 32 bytes per
 * slot (asserted in cache-map.c).  The memory is reserved, and taken as it is used.
 *
 * One thread.  Nothing here does I/O or knows of requests.
 */
#ifndef FILTERS_CACHE_MAP_H
#define FILTERS_CACHE_MAP_H

#include <stdbool.h>
#include <stdint.h>

#include "filters/cache-policy.h"
#include "nbdring/figure.h"

/*
 * The life of a slot.
 *
 *	EMPTY     -> READING                   it was taken for a block
 *	READING   -> CLEAN, DIRTY, EMPTY       the block has arrived, from below or from a
 *	                                       client; or did not
 *	CLEAN     -> DIRTY                     a client has written
 *	DIRTY     -> WRITING, DIRTY_AGAIN      it is being written below; the latter if a
 *	                                       client's write is under way
 *	WRITING   -> CLEAN, DIRTY              written; or that failed
 *	WRITING   -> DIRTY_AGAIN               a client writes meanwhile
 *	DIRTY_AGAIN -> DIRTY                   it has to be written once more
 *	CLEAN, DIRTY -> EVICTING               no block's any more, but still read from
 *	EVICTING  -> EMPTY, LEFT               the last reader has gone
 *	LEFT      -> EMPTY                     the store has given its room back; only
 *	                                       if it is to (`gives`)
 */
enum nr_cache_state {
	NR_CACHE_EMPTY,
	NR_CACHE_READING,
	NR_CACHE_CLEAN,
	NR_CACHE_DIRTY,
	NR_CACHE_WRITING,
	NR_CACHE_DIRTY_AGAIN,
	NR_CACHE_EVICTING,
	NR_CACHE_LEFT,
};

struct nr_cache_slot {
	uint32_t low;       /* block number, bits 0 to 31; EMPTY: the next one */
	uint32_t high : 24; /* bits 32 to 55 */
	uint32_t state : 8; /* enum nr_cache_state */
	uint16_t pins;      /* who reads from the slot or writes into it, and answers in it */
	uint8_t writers;    /* of them: clients' writes */
	uint8_t dirtied;    /* when it became dirty, in ticks */
};

struct nr_cache_map {
	uint32_t slots;
	uint32_t used;  /* neither EMPTY nor LEFT */
	uint32_t dirty; /* DIRTY, WRITING, DIRTY_AGAIN */
	uint32_t fresh; /* from here on none was ever used */
	uint32_t free;  /* the first of those that were used; NR_NO_SLOT: none */
	uint32_t hash_size;
	struct nr_cache_slot *slot;
	uint32_t *hash;       /* slot + 1; 0: nothing */
	uint64_t *dirty_bits; /* DIRTY, WRITING, DIRTY_AGAIN */
	uint64_t *left_bits;  /* LEFT */
	uint32_t left;        /* so many are */
	bool gives;           /* slots that get empty are LEFT first */
	struct nr_policy policy;
	/* For other threads: `used` and `dirty` as they are, and more. */
	nr_count used_now, dirty_now, dirty_most, evictions;
};

bool nr_cache_map_init(struct nr_cache_map *map, const struct nr_policy_type *policy,
		       uint32_t slots);
void nr_cache_map_fini(struct nr_cache_map *map);

/* The slot of BLOCK, or NR_NO_SLOT. */
uint32_t nr_cache_find(const struct nr_cache_map *map, uint64_t block);

/*
 * A slot for BLOCK, which has none: READING.  An empty one, unless ONLY_REPLACE, or that
 * of a block thrown out for it.  NR_NO_SLOT: none may go now.
 */
uint32_t nr_cache_take(struct nr_cache_map *map, uint64_t block, bool only_replace);

/*
 * BLOCK, which has no slot, is in SLOT, which is above all that were used: after a
 * restart, in ascending order.
 */
void nr_cache_restore(struct nr_cache_map *map, uint32_t slot, uint64_t block,
		      enum nr_cache_state state);

/* Throw out one block, by policy; false: none may go now. */
bool nr_cache_evict(struct nr_cache_map *map);

/* BLOCK of SLOT is no longer cached; EMPTY at once, or when nobody reads from it. */
void nr_cache_drop(struct nr_cache_map *map, uint32_t slot);

/* READING, CLEAN, DIRTY, WRITING, DIRTY_AGAIN; keeps the bits and counts. */
void nr_cache_set(struct nr_cache_map *map, uint32_t slot, enum nr_cache_state state);

void nr_cache_unpin(struct nr_cache_map *map, uint32_t slot);

/*
 * A run of slots that are LEFT: the first from FROM on, and in *COUNT how many, MOST at the
 * most; or NR_NO_SLOT.  And: their room has been given back.
 */
uint32_t nr_cache_next_left(const struct nr_cache_map *map, uint32_t from, uint32_t most,
			    uint32_t *count);
void nr_cache_given_back(struct nr_cache_map *map, uint32_t slot, uint32_t count);

/* The first dirty slot from FROM on, or NR_NO_SLOT. */
uint32_t nr_cache_next_dirty(const struct nr_cache_map *map, uint32_t from);

static inline uint64_t nr_cache_block_of(const struct nr_cache_map *map, uint32_t slot)
{
	return (uint64_t)map->slot[slot].high << 32 | map->slot[slot].low;
}

static inline enum nr_cache_state nr_cache_state_of(const struct nr_cache_map *map, uint32_t slot)
{
	return (enum nr_cache_state)map->slot[slot].state;
}

#endif
