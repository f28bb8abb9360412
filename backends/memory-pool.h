/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The blocks of a RAM disk: 64 KiB of zeroed memory each, counted.
 *
 * See memory-pool.c for why they are as they are.
 */
#ifndef BACKENDS_MEMORY_POOL_H
#define BACKENDS_MEMORY_POOL_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <urcu/list.h>

#include "backends/memory-rcu.h"
#include "nbdring/request.h"

#define NR_MEMORY_BLOCK_SHIFT 16
#define NR_MEMORY_BLOCK_BYTES (1u << NR_MEMORY_BLOCK_SHIFT)
#define NR_MEMORY_PAGE_SHIFT 12
#define NR_MEMORY_PAGE_BYTES (1u << NR_MEMORY_PAGE_SHIFT)
#define NR_MEMORY_BLOCK_PAGES (NR_MEMORY_BLOCK_BYTES / NR_MEMORY_PAGE_BYTES)

/*
 * The state of a block in one word, so that it changes as a whole.  From the
 * lowest bit: references (the tree's is one, each segment under way one); which
 * pages hold data (a page whose bit is clear is all zeroes in memory, or being
 * written to); whether the block was dropped from the tree (what is written to
 * it then is lost); how many writes there were, which may wrap.
 */
#define NR_MEMORY_REFERENCE UINT64_C(1)
#define NR_MEMORY_REFERENCES UINT64_C(0xfffffff)
#define NR_MEMORY_PAGES_SHIFT 28
#define NR_MEMORY_PAGES (UINT64_C(0xffff) << NR_MEMORY_PAGES_SHIFT)
#define NR_MEMORY_DROPPED (UINT64_C(1) << 44)
#define NR_MEMORY_WRITTEN (UINT64_C(1) << 45)

/* All that a read touches besides the tree. */
struct nr_memory_block {
	struct nr_buffer buffer; /* first: segments know the block by it */
	_Atomic uint64_t state;
	uint8_t *data; /* NR_MEMORY_BLOCK_BYTES */
};

/* Someone who is told when dropped blocks have become free. */
struct nr_memory_waiter {
	struct nr_memory_waiter *next;
	void (*wake)(struct nr_memory_waiter *waiter); /* any thread; may not block */
};

struct nr_memory_pool {
	pthread_mutex_t lock;
	struct cds_list_head slabs; /* all */
	struct cds_list_head roomy; /* those with a free block */
	uint64_t used;              /* blocks handed out and not free again */
	uint64_t limbo;             /* of these: dropped, waiting for a grace period */
	uint64_t granted;           /* bytes that may be mapped without looking for room */
	struct nr_memory_waiter *waiters;
};

void nr_memory_pool_init(struct nr_memory_pool *pool);
/* Gives back all memory, also of blocks in the tree.  No grace period may be under way. */
void nr_memory_pool_fini(struct nr_memory_pool *pool);

/*
 * A block with one reference, all zeroes.  -ENOSPC: there is no memory.  -EAGAIN:
 * there is none now, but blocks are on their way back; WAITER is woken then.
 */
int nr_memory_pool_get(struct nr_memory_pool *pool, struct nr_memory_waiter *waiter,
		       struct nr_memory_block **block);

/* Blocks handed out and not free again: in the tree, in limbo, held by segments. */
uint64_t nr_memory_pool_used(struct nr_memory_pool *pool);

/* The block behind BLOCK in a chain of dropped ones, or NULL: to read and to set. */
struct nr_memory_block **nr_memory_pool_next(struct nr_memory_block *block);

/* Free a chain of blocks that nobody refers to any more.  Makes system calls. */
void nr_memory_pool_put(struct nr_memory_pool *pool, struct nr_memory_block *chain);

/*
 * A chain of COUNT blocks just taken out of the tree: give the tree's references
 * back after a grace period.
 */
void nr_memory_pool_retire(struct nr_memory_pool *pool, struct nr_memory_block *chain,
			   uint64_t count);

/* The bits of the pages that LENGTH bytes (not 0) from FROM on lie in, wholly or in part. */
static inline uint64_t nr_memory_pages(uint64_t from, uint64_t length)
{
	unsigned first = (unsigned)(from >> NR_MEMORY_PAGE_SHIFT);
	unsigned last = (unsigned)((from + length - 1) >> NR_MEMORY_PAGE_SHIFT);

	return ((UINT64_C(2) << last) - (UINT64_C(1) << first)) << NR_MEMORY_PAGES_SHIFT;
}

#endif
