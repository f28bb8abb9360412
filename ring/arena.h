/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The arena: all bulk memory of one worker.
 *
 * One range of address space, aligned to 2 MiB, its first part registered with
 * the ring (so that O_DIRECT I/O need not pin pages per request), the rest
 * plain and touched only under load.  Blocks are powers of two from 4 KiB to
 * 1 MiB, each aligned to its own size, found by a buddy allocator in
 * the registered part first.  Blocks of the plain part go back to the system
 * when they have been free together for long enough to make 2 MiB.
 *
 * A block is counted: it starts with one reference and is free when the last
 * one is given back.  In debug builds free blocks are poisoned and every
 * hand-over asserts the owner.
 *
 * Belongs to the ring's thread; no function may be called from another.
 */
#ifndef RING_ARENA_H
#define RING_ARENA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NR_ARENA_BLOCK_MIN 4096u
#define NR_ARENA_BLOCK_MAX (1024u * 1024)

struct nr_arena;

/* Who may touch a block just now; asserted at each change. */
enum nr_block_owner {
	NR_BLOCK_FREE,
	NR_BLOCK_RECEIVE, /* a connection's receive window */
	NR_BLOCK_LAYER,   /* a layer fills or reads it */
	NR_BLOCK_KERNEL,  /* part of an operation under way */
};

/* Memory of BYTES in all (multiple of 2 MiB); NULL when the system has none. */
struct nr_arena *nr_arena_create(size_t bytes);
void nr_arena_destroy(struct nr_arena *arena); /* all blocks must be free; NULL allowed */

void *nr_arena_base(const struct nr_arena *arena);

/* The first BYTES are registered: prefer them. */
void nr_arena_set_pinned(struct nr_arena *arena, size_t bytes);

/*
 * A block of at least LENGTH bytes (1 to NR_ARENA_BLOCK_MAX) with one
 * reference, or NULL when the arena is full.
 */
void *nr_arena_get(struct nr_arena *arena, size_t length, enum nr_block_owner owner);

/* BLOCK is the pointer nr_arena_get returned. */
void nr_arena_retain(struct nr_arena *arena, void *block);
void nr_arena_release(struct nr_arena *arena, void *block);
void nr_arena_hand_over(struct nr_arena *arena, void *block, enum nr_block_owner from,
			enum nr_block_owner to);
size_t nr_arena_block_size(const struct nr_arena *arena, const void *block);
uint32_t nr_arena_references(const struct nr_arena *arena, const void *block);

/* A pointer anywhere inside the arena -> the start of its block in use. */
void *nr_arena_block_of(const struct nr_arena *arena, const void *inside);

size_t nr_arena_capacity(const struct nr_arena *arena); /* bytes */
size_t nr_arena_used(const struct nr_arena *arena);     /* bytes in blocks not free */

#endif
