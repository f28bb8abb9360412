/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Which block lies where on a RAM disk: a radix tree from block number to block.
 *
 * See memory-tree.c for its shape and who may do what when.
 */
#ifndef BACKENDS_MEMORY_TREE_H
#define BACKENDS_MEMORY_TREE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "backends/memory-pool.h"

struct nr_memory_node;

struct nr_memory_tree {
	_Atomic(struct nr_memory_node *) root; /* NULL: no block at all */
	pthread_mutex_t lock;                  /* whoever changes the tree */
	struct nr_memory_pool *pool;
	struct nr_memory_node *dead; /* taken out, not retired yet */
	uint64_t blocks;             /* in the tree */
	uint64_t nodes;              /* in the tree */
	bool retired;                /* something ever was: a callback may be under way */
};

void nr_memory_tree_init(struct nr_memory_tree *tree, struct nr_memory_pool *pool);
/* Frees the nodes; blocks are the pool's.  Waits for grace periods.  May block. */
void nr_memory_tree_fini(struct nr_memory_tree *tree);

/* The block at INDEX, or NULL.  Inside nr_memory_enter, until nr_memory_leave. */
struct nr_memory_block *nr_memory_tree_find(struct nr_memory_tree *tree, uint64_t index);

/*
 * The first block at *INDEX or after and before END, and *INDEX moves there;
 * NULL: none, and *INDEX is END.  Takes time for what is there, not for what is
 * absent.  Inside nr_memory_enter, or with the lock.
 */
struct nr_memory_block *nr_memory_tree_next(struct nr_memory_tree *tree, uint64_t *index,
					    uint64_t end);

/*
 * The block at INDEX, put there if there is none.  Inside nr_memory_enter.
 * Errors as of nr_memory_pool_get.
 */
int nr_memory_tree_add(struct nr_memory_tree *tree, uint64_t index, struct nr_memory_waiter *waiter,
		       struct nr_memory_block **block);

/*
 * Drop the blocks from *INDEX up to END, at most MAX of them; *INDEX moves to
 * where it stopped.  Returns true when END is reached.
 */
bool nr_memory_tree_drop(struct nr_memory_tree *tree, uint64_t *index, uint64_t end, uint64_t max);

/*
 * Drop BLOCK at INDEX if it is still there and none of its pages holds data;
 * false: it stays, or someone else dropped it.  Inside nr_memory_enter.
 */
bool nr_memory_tree_drop_empty(struct nr_memory_tree *tree, uint64_t index,
			       struct nr_memory_block *block);

#endif
