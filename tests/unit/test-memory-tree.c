/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The tree of a RAM disk by itself: it agrees with a list, takes no more nodes than what
 * is in it deserves, and readers find what is there while its neighbours come and go.
 */
#include "tests/unit/layer-test.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdatomic.h>

#include <cmocka.h>

#include "backends/memory-tree.h"

static void emptied_trees_have_no_nodes(void **state)
{
	static struct nr_memory_pool pool;
	static struct nr_memory_tree tree;
	uint64_t index[512], random = layer_seed(1), first;
	struct nr_memory_waiter waiter = { 0 };
	struct nr_memory_block *block;

	nr_memory_pool_init(&pool);
	nr_memory_tree_init(&tree, &pool);
	for (unsigned round = 0; round < 20; round++) {
		nr_memory_enter();
		for (unsigned i = 0; i < 512; i++) {
			/* Anything from one leaf to all of 2^47 blocks. */
			index[i] = layer_random_below(&random, UINT64_C(1) << (9 + 2 * round));
			assert_int_equal(nr_memory_tree_add(&tree, index[i], &waiter, &block), 0);
		}
		for (unsigned i = 0; i < 512; i++)
			assert_non_null(nr_memory_tree_find(&tree, index[i]));
		first = 0;
		assert_non_null(nr_memory_tree_next(&tree, &first, UINT64_MAX));
		nr_memory_leave();
		for (unsigned i = 0; i < 512; i += 2) {
			uint64_t from = index[i];

			nr_memory_tree_drop(&tree, &from, from + 1, 1);
		}
		assert_true(tree.blocks <= 256 && tree.blocks > 0);
		nr_memory_enter();
		for (unsigned i = 0; i < 512; i++) {
			block = nr_memory_tree_find(&tree, index[i]);
			if (block)
				assert_true(nr_memory_tree_drop_empty(&tree, index[i], block));
		}
		nr_memory_leave();
		assert_int_equal(tree.blocks, 0);
		assert_int_equal(tree.nodes, 0);
		assert_null(atomic_load(&tree.root));
		nr_memory_barrier();
		assert_int_equal(nr_memory_pool_used(&pool), 0);
	}
	nr_memory_tree_fini(&tree);
	nr_memory_pool_fini(&pool);
}

#define PLACES 300u

/* In handfuls of neighbours, of far neighbours, alone, and some twice. */
static void choose_places(uint64_t *place, uint64_t *random)
{
	for (unsigned i = 0; i < PLACES; i++) {
		uint64_t shift = 9 * layer_random_below(random, 5);
		uint64_t base = layer_random_below(random, 4) << shift;

		place[i] = base + layer_random_below(random, 3);
	}
}

/* The first of the PLACES that is at FROM or after and in the tree; UINT64_MAX: none. */
static uint64_t first_place(const uint64_t *place, const bool *there, uint64_t from)
{
	uint64_t first = UINT64_MAX;

	for (unsigned i = 0; i < PLACES; i++)
		if (there[i] && place[i] >= from && place[i] < first)
			first = place[i];
	return first;
}

static void check_tree(struct nr_memory_tree *tree, const uint64_t *place, const bool *there)
{
	uint64_t at = 0;

	nr_memory_enter();
	for (unsigned i = 0; i < PLACES; i++)
		assert_true(!nr_memory_tree_find(tree, place[i]) == !there[i]);
	for (;; at++) {
		uint64_t expected = first_place(place, there, at);
		struct nr_memory_block *block = nr_memory_tree_next(tree, &at, UINT64_MAX);

		assert_int_equal(at, expected);
		if (!block)
			break;
		assert_ptr_equal(block, nr_memory_tree_find(tree, at));
	}
	nr_memory_leave();
}

static void the_tree_finds_what_is_in_it_and_nothing_else(void **state)
{
	static struct nr_memory_pool pool;
	static struct nr_memory_tree tree;
	uint64_t place[PLACES], random = layer_seed(3);
	struct nr_memory_waiter waiter = { 0 };
	struct nr_memory_block *block;

	nr_memory_pool_init(&pool);
	nr_memory_tree_init(&tree, &pool);
	for (unsigned round = 0; round < 10; round++) {
		bool there[PLACES] = { false };

		choose_places(place, &random);
		for (unsigned turn = 0; turn < 2000; turn++) {
			unsigned i = (unsigned)layer_random_below(&random, PLACES);
			uint64_t at = place[i];
			/* First more and more of them, then fewer and fewer. */
			bool add = layer_random_below(&random, 2000) > turn;

			nr_memory_enter();
			if (add)
				assert_int_equal(nr_memory_tree_add(&tree, at, &waiter, &block), 0);
			else
				nr_memory_tree_drop(&tree, &at, at + 1, 1);
			nr_memory_leave();
			for (unsigned j = 0; j < PLACES; j++)
				if (place[j] == place[i])
					there[j] = add;
			if (turn % 50 == 0)
				check_tree(&tree, place, there);
		}
		for (uint64_t at = 0; !nr_memory_tree_drop(&tree, &at, UINT64_MAX, 7);)
			;
		assert_int_equal(tree.nodes, 0);
	}
	nr_memory_tree_fini(&tree);
	nr_memory_pool_fini(&pool);
}

static void lone_blocks_need_no_nodes_of_their_own(void **state)
{
	static struct nr_memory_pool pool;
	static struct nr_memory_tree tree;
	struct nr_memory_waiter waiter = { 0 };
	struct nr_memory_block *block;
	uint64_t at = 0;

	nr_memory_pool_init(&pool);
	nr_memory_tree_init(&tree, &pool);
	nr_memory_enter();
	/* 1024 blocks, 16 GiB apart: 16 nodes of 1 TiB, one above, three from a small start. */
	for (uint64_t i = 0; i < 1024; i++)
		assert_int_equal(nr_memory_tree_add(&tree, i << 18, &waiter, &block), 0);
	nr_memory_leave();
	assert_int_equal(tree.nodes, 20);
	while (!nr_memory_tree_drop(&tree, &at, UINT64_MAX, 1000))
		;
	assert_int_equal(tree.nodes, 0);
	nr_memory_tree_fini(&tree);
	nr_memory_pool_fini(&pool);
}

/* Threads. */

struct neighbours {
	struct nr_memory_tree *tree;
	struct nr_memory_block *block; /* at FIXED */
	_Atomic bool over;
};

#define FIXED UINT64_C(5)

static void *look_for_fixed(void *argument)
{
	struct neighbours *n = argument;

	while (!atomic_load(&n->over)) {
		uint64_t at = 0;

		nr_memory_enter();
		LAYER_CHECK(nr_memory_tree_find(n->tree, FIXED) == n->block);
		LAYER_CHECK(!nr_memory_tree_find(n->tree, FIXED + 3));
		while (nr_memory_tree_next(n->tree, &at, UINT64_MAX) && at < FIXED)
			at++;
		LAYER_CHECK(at == FIXED);
		nr_memory_leave();
	}
	return NULL;
}

/* Neighbours at every distance: the block hangs higher and lower in turn. */
static void a_block_is_found_while_neighbours_come_and_go(void **state)
{
	static struct nr_memory_pool pool;
	static struct nr_memory_tree tree;
	struct neighbours n = { .tree = &tree };
	struct nr_memory_waiter waiter = { 0 };
	struct nr_memory_block *block;
	pthread_t reader;

	nr_memory_pool_init(&pool);
	nr_memory_tree_init(&tree, &pool);
	for (unsigned round = 0; round < 300; round++) {
		nr_memory_enter();
		assert_int_equal(nr_memory_tree_add(&tree, UINT64_C(1) << 40, &waiter, &block), 0);
		assert_int_equal(nr_memory_tree_add(&tree, FIXED, &waiter, &n.block), 0);
		nr_memory_leave();
		atomic_store(&n.over, false);
		LAYER_CHECK(pthread_create(&reader, NULL, look_for_fixed, &n) == 0);
		for (unsigned i = 0; i < 47; i++) {
			uint64_t at = FIXED ^ UINT64_C(1) << (round % 2 ? i : 46 - i);
			uint64_t from = at;

			nr_memory_enter();
			assert_int_equal(nr_memory_tree_add(&tree, at, &waiter, &block), 0);
			nr_memory_leave();
			if (i % 3)
				nr_memory_tree_drop(&tree, &from, from + 1, 1);
		}
		atomic_store(&n.over, true);
		LAYER_CHECK(pthread_join(reader, NULL) == 0);
		for (uint64_t at = 0; !nr_memory_tree_drop(&tree, &at, UINT64_MAX, 100);)
			;
		nr_memory_barrier();
	}
	assert_int_equal(tree.nodes, 0);
	nr_memory_tree_fini(&tree);
	nr_memory_pool_fini(&pool);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(emptied_trees_have_no_nodes),
		cmocka_unit_test(the_tree_finds_what_is_in_it_and_nothing_else),
		cmocka_unit_test(lone_blocks_need_no_nodes_of_their_own),
		cmocka_unit_test(a_block_is_found_while_neighbours_come_and_go),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
