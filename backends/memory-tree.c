/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A radix tree of 64 slots per node: a leaf spans 4 MiB of the disk, two levels
 * 256 MiB, three 16 GiB, four 1 TiB, eight all of 2^63 bytes.  With more slots a
 * node the tree is less deep, but where every leaf has few blocks it is spread over
 * more memory, and misses of the cache cost more than levels.
 *
 * The tree is as deep as the highest block in it asks for, whatever the size of
 * the disk, so a disk of 2^63-1 bytes opens at once and is as fast as a small
 * one as long as it is used like one.  No node is empty: with its last block it
 * goes, and so does a root with nothing but a node in its first slot, so the tree
 * never costs more than what is stored now deserves.
 *
 * A block that is alone in the range of a slot hangs there itself, up to 16 GiB
 * of it, without the nodes that would lead on to it alone; they are made when it
 * gets a neighbour.  Each of them would be a cache miss for every read of a disk
 * that is large and sparsely used: 23 % of the time of 4 KiB reads from 4096 places
 * of 64 TiB, and 5 % as it is now.
 *
 * Readers (find, next) hold no lock: they stand inside nr_memory_enter, load
 * slots with acquire, and what they reach stays until they leave, because nodes
 * and blocks that are taken out are freed after a grace period.  A reader may
 * miss a block that is added, or find one that is dropped, while it looks; both
 * are answers that were right at a time within its request.
 *
 * Changes take `lock`, for tens of nanoseconds per block.  A block is first
 * marked as dropped, then taken out: whoever has written into it and sees the
 * mark writes again (memory.c).
 */
#include "backends/memory-tree.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "nbdring/checked.h"

#define NODE_SHIFT 6
#define NODE_SLOTS (1u << NODE_SHIFT)
#define DEPTH_MAX 8                  /* of 47 bits */
#define HANG_SHIFT (3u * NODE_SHIFT) /* slots that span so much at most have blocks of their own */

static_assert(DEPTH_MAX * NODE_SHIFT + NR_MEMORY_BLOCK_SHIFT >= 63, "all of NR_SIZE_MAX");

/*
 * What is in a slot: 0, or a node, or a block and where in the range of the slot it
 * belongs, in one word, so that readers see both or neither.  Bit 0 says that it is a
 * block; the bits of its number that the way to the slot does not tell lie where the
 * address of a block has none: below its alignment, and above the 48 bits that Linux
 * gives to processes which do not ask for more.
 */
#define IS_BLOCK UINT64_C(1)
#define LOW_BITS 4u /* bits 1 to 4 */
#define LOW_MASK ((UINT64_C(1) << LOW_BITS) - 1)
#define HIGH_SHIFT 48u
#define ADDRESS_MASK (((UINT64_C(1) << HIGH_SHIFT) - 1) & ~(LOW_MASK << 1 | IS_BLOCK))

static_assert(HANG_SHIFT <= LOW_BITS + 64 - HIGH_SHIFT, "numbers fit beside addresses");
static_assert(sizeof(struct nr_memory_block) % (2u << LOW_BITS) == 0, "blocks are aligned");

struct nr_memory_node {
	unsigned shift;              /* a slot spans 1 << shift blocks; 0: a leaf */
	unsigned used;               /* slots that are not NULL; with the lock */
	struct nr_memory_node *next; /* in a chain of dead ones */
	struct rcu_head rcu;         /* the first of a chain */
	_Atomic uint64_t slot[NODE_SLOTS] __attribute__((aligned(64)));
};

static uint64_t load(const struct nr_memory_node *node, unsigned slot)
{
	return atomic_load_explicit(&node->slot[slot], memory_order_acquire);
}

static void store(struct nr_memory_node *node, unsigned slot, uint64_t word)
{
	atomic_store_explicit(&node->slot[slot], word, memory_order_release);
}

static bool is_node(uint64_t word)
{
	return word && !(word & IS_BLOCK);
}

static struct nr_memory_node *node_in(uint64_t word)
{
	return (struct nr_memory_node *)(uintptr_t)word;
}

static uint64_t word_of_node(const struct nr_memory_node *node)
{
	return (uintptr_t)node;
}

/* The bits of INDEX below SHIFT, as they lie in a word. */
static uint64_t number_bits(uint64_t index, unsigned shift)
{
	uint64_t number = index & ((UINT64_C(1) << shift) - 1);

	return (number & LOW_MASK) << 1 | (number >> LOW_BITS) << HIGH_SHIFT;
}

static uint64_t number_in(uint64_t word)
{
	return (word >> 1 & LOW_MASK) | word >> HIGH_SHIFT << LOW_BITS;
}

static struct nr_memory_block *block_in(uint64_t word)
{
	return (struct nr_memory_block *)(uintptr_t)(word & ADDRESS_MASK);
}

/* BLOCK, number INDEX, for a slot of a node of SHIFT. */
static uint64_t word_of_block(const struct nr_memory_block *block, uint64_t index, unsigned shift)
{
	uint64_t address = (uintptr_t)block;

	assert(shift <= HANG_SHIFT);
	assert((address & ~ADDRESS_MASK) == 0);
	return address | number_bits(index, shift) | IS_BLOCK;
}

/* Is the block INDEX in WORD, the one on its way that is no node? */
static bool is_block(uint64_t word, uint64_t index, unsigned shift)
{
	return (word & ~ADDRESS_MASK) == (number_bits(index, shift) | IS_BLOCK);
}

static struct nr_memory_node *load_root(const struct nr_memory_tree *tree)
{
	return atomic_load_explicit(&tree->root, memory_order_acquire);
}

static void store_root(struct nr_memory_tree *tree, struct nr_memory_node *node)
{
	atomic_store_explicit(&tree->root, node, memory_order_release);
}

static unsigned slot_of(uint64_t index, unsigned shift)
{
	return (unsigned)(index >> shift) & (NODE_SLOTS - 1);
}

static bool spans(const struct nr_memory_node *root, uint64_t index)
{
	return root && index >> root->shift < NODE_SLOTS;
}

void nr_memory_tree_init(struct nr_memory_tree *tree, struct nr_memory_pool *pool)
{
	pthread_mutexattr_t attributes;

	pthread_mutexattr_init(&attributes);
	pthread_mutexattr_settype(&attributes, PTHREAD_MUTEX_ADAPTIVE_NP);
	pthread_mutex_init(&tree->lock, &attributes);
	pthread_mutexattr_destroy(&attributes);
	atomic_init(&tree->root, NULL);
	tree->pool = pool;
	nr_memory_prepare();
}

/* At most DEPTH_MAX deep. */
static void free_nodes(struct nr_memory_node *node)
{
	for (unsigned i = 0; node && node->shift && i < NODE_SLOTS; i++)
		if (is_node(load(node, i)))
			free_nodes(node_in(load(node, i)));
	free(node);
}

void nr_memory_tree_fini(struct nr_memory_tree *tree)
{
	if (tree->retired)
		nr_memory_barrier();
	free_nodes(load_root(tree));
	pthread_mutex_destroy(&tree->lock);
}

/* Readers. */

struct nr_memory_block *nr_memory_tree_find(struct nr_memory_tree *tree, uint64_t index)
{
	const struct nr_memory_node *node = load_root(tree);
	unsigned shift;
	uint64_t word;

	if (!spans(node, index))
		return NULL;
	for (shift = node->shift; is_node(word = load(node, slot_of(index, shift)));
	     shift -= NODE_SHIFT)
		node = node_in(word);
	return is_block(word, index, shift) ? block_in(word) : NULL;
}

struct nr_memory_block *nr_memory_tree_next(struct nr_memory_tree *tree, uint64_t *index,
					    uint64_t end)
{
	const struct nr_memory_node *root = load_root(tree), *node = root;
	uint64_t at = *index;

	while (at < end && spans(root, at)) {
		unsigned slot = slot_of(at, node->shift);
		uint64_t word = load(node, slot);

		if (is_node(word)) {
			node = node_in(word);
			continue;
		}
		if (word) {
			uint64_t there =
				nr_round_down(at, UINT64_C(1) << node->shift) | number_in(word);

			if (there >= end)
				break;
			if (there >= at) {
				*index = there;
				return block_in(word);
			}
		}
		/* To the start of the next slot in use, or out of this node. */
		while (++slot < NODE_SLOTS && !load(node, slot))
			;
		at = nr_round_down(at, (uint64_t)NODE_SLOTS << node->shift) +
		     ((uint64_t)slot << node->shift);
		if (slot == NODE_SLOTS)
			node = root;
	}
	*index = end;
	return NULL;
}

/* Changes, with the lock. */

static struct nr_memory_node *new_node(struct nr_memory_tree *tree, unsigned shift)
{
	struct nr_memory_node *node = aligned_alloc(_Alignof(struct nr_memory_node), sizeof(*node));

	if (!node)
		return NULL;
	node->shift = shift;
	node->used = 0;
	for (unsigned i = 0; i < NODE_SLOTS; i++)
		atomic_init(&node->slot[i], 0);
	tree->nodes++;
	return node;
}

static void kill_node(struct nr_memory_tree *tree, struct nr_memory_node *node)
{
	tree->nodes--;
	node->next = tree->dead;
	tree->dead = node;
}

/* Make the root span INDEX. */
static bool raise_root(struct nr_memory_tree *tree, uint64_t index)
{
	struct nr_memory_node *root = load_root(tree), *above;
	unsigned shift = 0;

	if (!root) {
		while (index >> shift >= NODE_SLOTS)
			shift += NODE_SHIFT;
		root = new_node(tree, shift);
		if (!root)
			return false;
		store_root(tree, root);
	}
	for (; !spans(root, index); root = above) {
		above = new_node(tree, root->shift + NODE_SHIFT);
		if (!above)
			return false;
		above->used = 1;
		store(above, 0, word_of_node(root));
		store_root(tree, above);
	}
	return true;
}

/*
 * Take out what INDEX no longer needs: nodes on the way to it that are empty,
 * roots that only lead to their first slot.
 */
static void prune(struct nr_memory_tree *tree, uint64_t index)
{
	struct nr_memory_node *path[DEPTH_MAX + 1], *node = load_root(tree);
	unsigned depth = 0;
	uint64_t word = spans(node, index) ? word_of_node(node) : 0;

	while (is_node(word)) {
		node = path[depth++] = node_in(word);
		word = load(node, slot_of(index, node->shift));
	}
	while (depth > 0 && path[depth - 1]->used == 0) {
		node = path[--depth];
		if (depth > 0) {
			store(path[depth - 1], slot_of(index, path[depth - 1]->shift), 0);
			path[depth - 1]->used--;
		} else {
			store_root(tree, NULL);
		}
		kill_node(tree, node);
	}
	for (node = load_root(tree); node && node->used == 1 && is_node(load(node, 0));) {
		struct nr_memory_node *dead = node;

		node = node_in(load(node, 0));
		store_root(tree, node);
		kill_node(tree, dead);
	}
}

/* A node below SLOT of NODE, with the block in it that hung there, if there was one. */
static struct nr_memory_node *branch(struct nr_memory_tree *tree, struct nr_memory_node *node,
				     unsigned slot)
{
	struct nr_memory_node *child = new_node(tree, node->shift - NODE_SHIFT);
	uint64_t word = load(node, slot), number = number_in(word);

	if (!child)
		return NULL;
	if (word) {
		store(child, slot_of(number, child->shift),
		      word_of_block(block_in(word), number, child->shift));
		child->used = 1;
	} else {
		node->used++;
	}
	store(node, slot, word_of_node(child));
	return child;
}

/* The node in a slot of which the block INDEX is or may be; NULL when memory is short. */
static struct nr_memory_node *home_of(struct nr_memory_tree *tree, uint64_t index)
{
	struct nr_memory_node *node;

	if (!raise_root(tree, index))
		goto fail;
	node = load_root(tree);
	for (;;) {
		unsigned slot = slot_of(index, node->shift);
		uint64_t word = load(node, slot);

		if (word ? is_block(word, index, node->shift) : node->shift <= HANG_SHIFT)
			return node;
		node = is_node(word) ? node_in(word) : branch(tree, node, slot);
		if (!node)
			goto fail;
	}
fail:
	prune(tree, index);
	return NULL;
}

/* Take the block at INDEX, which is there, out. */
static void take_out(struct nr_memory_tree *tree, uint64_t index)
{
	struct nr_memory_node *node = load_root(tree);
	uint64_t word;

	while (is_node(word = load(node, slot_of(index, node->shift))))
		node = node_in(word);
	assert(is_block(word, index, node->shift));
	store(node, slot_of(index, node->shift), 0);
	assert(node->used > 0);
	node->used--;
	tree->blocks--;
	if (node->used == 0)
		prune(tree, index);
}

/* liburcu's thread, after a grace period. */
static void bury_nodes(struct rcu_head *head)
{
	struct nr_memory_node *node = caa_container_of(head, struct nr_memory_node, rcu);

	NR_MEMORY_AFTER_GRACE();
	while (node) {
		struct nr_memory_node *next = node->next;

		free(node);
		node = next;
	}
}

/* End of a change: unlock, then hand over what was taken out. */
static void unlock(struct nr_memory_tree *tree, struct nr_memory_block *chain, uint64_t count)
{
	struct nr_memory_node *dead = tree->dead;

	tree->dead = NULL;
	if (dead || chain)
		tree->retired = true;
	pthread_mutex_unlock(&tree->lock);
	nr_memory_pool_retire(tree->pool, chain, count);
	if (dead)
		nr_memory_retire(&dead->rcu, bury_nodes);
}

int nr_memory_tree_add(struct nr_memory_tree *tree, uint64_t index, struct nr_memory_waiter *waiter,
		       struct nr_memory_block **out)
{
	struct nr_memory_block *fresh, *block = NULL;
	struct nr_memory_node *home;
	uint64_t word = 0;
	int err;

	/* Outside the lock, where a system call may be needed. */
	err = nr_memory_pool_get(tree->pool, waiter, &fresh);
	if (err == -ENOSPC) {
		/* The last block may have gone to someone who put it right here. */
		*out = nr_memory_tree_find(tree, index);
		return *out ? 0 : err;
	}
	if (err)
		return err;
	pthread_mutex_lock(&tree->lock);
	home = home_of(tree, index);
	if (home)
		word = load(home, slot_of(index, home->shift));
	if (word) {
		block = block_in(word);
	} else if (home) {
		block = fresh;
		fresh = NULL;
		home->used++;
		tree->blocks++;
		store(home, slot_of(index, home->shift), word_of_block(block, index, home->shift));
	}
	unlock(tree, NULL, 0);
	if (fresh) {
		/* Someone was faster, or there is no memory for nodes. */
		*nr_memory_pool_next(fresh) = NULL;
		nr_memory_pool_put(tree->pool, fresh);
	}
	*out = block;
	return block ? 0 : -ENOSPC;
}

bool nr_memory_tree_drop(struct nr_memory_tree *tree, uint64_t *index, uint64_t end, uint64_t max)
{
	struct nr_memory_block *block, *chain = NULL, **tail = &chain;
	uint64_t count = 0;

	pthread_mutex_lock(&tree->lock);
	while (count < max && (block = nr_memory_tree_next(tree, index, end))) {
		atomic_fetch_or_explicit(&block->state, NR_MEMORY_DROPPED, memory_order_acq_rel);
		take_out(tree, *index);
		*tail = block;
		tail = nr_memory_pool_next(block);
		count++;
		(*index)++;
	}
	*tail = NULL;
	unlock(tree, chain, count);
	return *index >= end;
}

bool nr_memory_tree_drop_empty(struct nr_memory_tree *tree, uint64_t index,
			       struct nr_memory_block *block)
{
	uint64_t state;
	bool dropped = false;

	pthread_mutex_lock(&tree->lock);
	state = atomic_load_explicit(&block->state, memory_order_acquire);
	while (!(state & (NR_MEMORY_DROPPED | NR_MEMORY_PAGES)) && !dropped)
		dropped = atomic_compare_exchange_weak_explicit(
			&block->state, &state, state | NR_MEMORY_DROPPED, memory_order_acq_rel,
			memory_order_acquire);
	if (dropped) {
		assert(nr_memory_tree_find(tree, index) == block);
		take_out(tree, index);
		*nr_memory_pool_next(block) = NULL;
	}
	unlock(tree, dropped ? block : NULL, dropped);
	return dropped;
}
