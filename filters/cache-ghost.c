/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * An entry: bit 0 the list, bits 1 to 15 the fingerprint, bits 16 to 31 the stamp.
 * Stamps count in steps of capacity / 2^13 and wrap after eight capacities; by then a
 * set has been written over, but for one in many millions.  0 is an empty entry.
 */
#include "filters/cache-ghost.h"

#include <assert.h>

#define WAYS 8u
#define STAMPS_PER_CAPACITY 8192u

uint32_t nr_ghost_room(uint32_t capacity)
{
	return (capacity + WAYS - 1) / WAYS * WAYS;
}

void nr_ghosts_init(struct nr_ghosts *ghosts, uint32_t *entry, uint32_t capacity)
{
	assert(capacity > 0);
	*ghosts = (struct nr_ghosts){
		.entry = entry,
		.sets = nr_ghost_room(capacity) / WAYS,
		.capacity = capacity,
	};
}

static uint32_t *set_of(const struct nr_ghosts *ghosts, uint64_t block, uint32_t *print)
{
	uint64_t hash = block * UINT64_C(0xd6e8feb86659fd93);
	uint64_t set;

	hash ^= hash >> 32;
	hash *= UINT64_C(0xd6e8feb86659fd93);
	set = (hash >> 32) * ghosts->sets >> 32;
	*print = ((uint32_t)hash & 0x7fff) << 1;
	return ghosts->entry + set * WAYS;
}

/* Of now.  Never such that an entry would be 0: the first capacity starts at one. */
static uint16_t stamp_of(const struct nr_ghosts *ghosts)
{
	uint64_t step = ghosts->capacity / STAMPS_PER_CAPACITY + 1;

	return (uint16_t)(ghosts->clock / step + 1);
}

/* In stamps; how many there are in a capacity. */
static uint16_t oldest_age(const struct nr_ghosts *ghosts)
{
	uint64_t step = ghosts->capacity / STAMPS_PER_CAPACITY + 1;

	return (uint16_t)(ghosts->capacity / step + 1);
}

static uint16_t age_of(const struct nr_ghosts *ghosts, uint32_t entry)
{
	return (uint16_t)(stamp_of(ghosts) - (uint16_t)(entry >> 16));
}

static void forget(struct nr_ghosts *ghosts, uint32_t *entry)
{
	unsigned list = *entry & 1;

	if (*entry && ghosts->count[list])
		ghosts->count[list]--;
	*entry = 0;
}

void nr_ghost_add(struct nr_ghosts *ghosts, uint64_t block, unsigned list)
{
	uint32_t print, *set = set_of(ghosts, block, &print), *oldest = set;

	for (unsigned i = 0; i < WAYS && *oldest; i++)
		if (set[i] == 0 || age_of(ghosts, set[i]) > age_of(ghosts, *oldest))
			oldest = &set[i];
	forget(ghosts, oldest);
	*oldest = (uint32_t)stamp_of(ghosts) << 16 | print | list;
	/* A stamp of 0 may make a valid entry look empty: it is forgotten, no more. */
	if (*oldest)
		ghosts->count[list]++;
	ghosts->clock++;
}

int nr_ghost_take(struct nr_ghosts *ghosts, uint64_t block)
{
	uint32_t print, *set = set_of(ghosts, block, &print);

	for (unsigned i = 0; i < WAYS; i++) {
		int list = (int)(set[i] & 1);

		if (set[i] == 0 || (set[i] & 0xfffe) != print)
			continue;
		if (age_of(ghosts, set[i]) > oldest_age(ghosts))
			list = -1;
		forget(ghosts, &set[i]);
		return list;
	}
	return -1;
}
