/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Two functions of ring/ as the server calls them here (--wrap): arenas are as large
 * as the seed says, and memory that was given back is filled with garbage, so that
 * nobody finds in it what was there before.
 */
#include <string.h>

#include "ring/arena.h"
#include "ring/ring.h"
#include "tests/sim/scenario.h"

#define GARBAGE 0xdb

size_t sim_arena_bytes;

int __real_nr_ring_create(struct nr_ring **ring, const struct nr_ring_options *options,
			  struct nr_error *error);
int __wrap_nr_ring_create(struct nr_ring **ring, const struct nr_ring_options *options,
			  struct nr_error *error);
int __wrap_nr_ring_create(struct nr_ring **ring, const struct nr_ring_options *options,
			  struct nr_error *error)
{
	struct nr_ring_options ours = *options;

	ours.engine = "sim";
	if (ours.arena_bytes == 0)
		ours.arena_bytes = sim_arena_bytes;
	return __real_nr_ring_create(ring, &ours, error);
}

void __real_nr_arena_release(struct nr_arena *arena, void *block);
void __wrap_nr_arena_release(struct nr_arena *arena, void *block);
void __wrap_nr_arena_release(struct nr_arena *arena, void *block)
{
	if (nr_arena_references(arena, block) == 1)
		memset(block, GARBAGE, nr_arena_block_size(arena, block));
	__real_nr_arena_release(arena, block);
}
