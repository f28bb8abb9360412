/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Ghosts: blocks that were thrown out of a cache lately, remembered by number.
 *
 * Four bytes each, for as many blocks as the cache has slots.  They are fingerprints in
 * sets of eight, so one in some thousand questions finds a ghost that is another
 * block's; that costs a little of the hit ratio and nothing else.  Each remembers the
 * list it was in, and when it came, in parts of the capacity: who is older than
 * `capacity` others is forgotten.
 */
#ifndef FILTERS_CACHE_GHOST_H
#define FILTERS_CACHE_GHOST_H

#include <stdbool.h>
#include <stdint.h>

#define NR_GHOST_BYTES sizeof(uint32_t)

struct nr_ghosts {
	uint32_t *entry;
	uint32_t sets;
	uint32_t capacity;
	uint64_t clock;    /* ghosts that have come */
	uint32_t count[2]; /* per list, about */
};

/* ENTRY: nr_ghost_room(capacity) entries, zeroed; the caller's. */
void nr_ghosts_init(struct nr_ghosts *ghosts, uint32_t *entry, uint32_t capacity);
uint32_t nr_ghost_room(uint32_t capacity);

void nr_ghost_add(struct nr_ghosts *ghosts, uint64_t block, unsigned list);
/* Forget BLOCK: which list it was in, or -1 when it is no ghost. */
int nr_ghost_take(struct nr_ghosts *ghosts, uint64_t block);

#endif
