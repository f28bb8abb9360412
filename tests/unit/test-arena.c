/* SPDX-License-Identifier: BSD-3-Clause */
/* The buddy allocator: alignment, splitting, merging, counting, giving back. */
#undef NDEBUG

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "ring/arena.h"

#define MIB ((size_t)1024 * 1024)

static void blocks_are_aligned_to_their_size(void **state)
{
	struct nr_arena *a = nr_arena_create(4 * MIB);
	static const size_t lengths[] = { 1,     4095,  4096,   4097,    8192, 12289,
					  65536, 65537, 262144, MIB - 1, MIB };

	(void)state;
	assert_int_equal((uintptr_t)nr_arena_base(a) % (2 * MIB), 0);
	assert_int_equal(nr_arena_capacity(a), 4 * MIB);
	for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
		char *block = nr_arena_get(a, lengths[i], NR_BLOCK_LAYER);
		size_t size = nr_arena_block_size(a, block);

		assert_true(size >= lengths[i]);
		assert_true(size == NR_ARENA_BLOCK_MIN || size / 2 < lengths[i]);
		assert_int_equal((uintptr_t)block % size, 0);
		memset(block, 0x55, size);
		assert_int_equal(nr_arena_used(a), size);
		nr_arena_release(a, block);
		assert_int_equal(nr_arena_used(a), 0);
	}
	nr_arena_destroy(a);
	nr_arena_destroy(NULL);
}

static void it_can_be_filled_and_is_whole_again(void **state)
{
	struct nr_arena *a = nr_arena_create(4 * MIB);
	char *blocks[1024];

	(void)state;
	for (int round = 0; round < 3; round++) {
		for (int i = 0; i < 1024; i++) {
			blocks[i] = nr_arena_get(a, 4096, NR_BLOCK_LAYER);
			assert_non_null(blocks[i]);
		}
		assert_null(nr_arena_get(a, 1, NR_BLOCK_LAYER));
		assert_int_equal(nr_arena_used(a), 4 * MIB);
		/* Every second one free: nothing larger than a page. */
		for (int i = 0; i < 1024; i += 2)
			nr_arena_release(a, blocks[i]);
		assert_null(nr_arena_get(a, 4097, NR_BLOCK_LAYER));
		for (int i = 1; i < 1024; i += 2)
			nr_arena_release(a, blocks[i]);
		for (int i = 0; i < 4; i++) {
			blocks[i] = nr_arena_get(a, MIB, NR_BLOCK_LAYER);
			assert_non_null(blocks[i]);
		}
		assert_null(nr_arena_get(a, 1, NR_BLOCK_LAYER));
		for (int i = 0; i < 4; i++)
			nr_arena_release(a, blocks[i]);
	}
	nr_arena_destroy(a);
}

struct held {
	unsigned char *block;
	size_t length;
	unsigned char mark;
};

/* Random taking and giving back against a model: no two blocks overlap. */
static void random_use_never_overlaps(void **state)
{
	enum { slots = 300, steps = 60000 };
	struct nr_arena *a = nr_arena_create(16 * MIB);
	struct held held[slots] = { 0 };
	size_t used = 0;
	unsigned seed = 12345;

	(void)state;
	nr_arena_set_pinned(a, 4 * MIB);
	for (int step = 0; step < steps; step++) {
		struct held *h = &held[rand_r(&seed) % slots];

		if (h->block) {
			assert_int_equal(h->block[0], h->mark);
			assert_int_equal(h->block[h->length - 1], h->mark);
			assert_int_equal(h->block[h->length / 2], h->mark);
			used -= nr_arena_block_size(a, h->block);
			nr_arena_release(a, h->block);
			h->block = NULL;
		} else {
			h->length = (size_t)1 << (rand_r(&seed) % 20);
			h->length += (size_t)rand_r(&seed) % h->length;
			if (h->length > NR_ARENA_BLOCK_MAX)
				h->length = NR_ARENA_BLOCK_MAX;
			h->block = nr_arena_get(a, h->length, NR_BLOCK_LAYER);
			if (!h->block)
				continue;
			h->mark = (unsigned char)rand_r(&seed);
			h->block[0] = h->block[h->length / 2] = h->block[h->length - 1] = h->mark;
			used += nr_arena_block_size(a, h->block);
			assert_ptr_equal(nr_arena_block_of(a, h->block + h->length - 1), h->block);
		}
		assert_int_equal(nr_arena_used(a), used);
	}
	for (int i = 0; i < slots; i++)
		if (held[i].block)
			nr_arena_release(a, held[i].block);
	assert_int_equal(nr_arena_used(a), 0);
	nr_arena_destroy(a);
}

static void references_keep_a_block(void **state)
{
	struct nr_arena *a = nr_arena_create(2 * MIB);
	char *block = nr_arena_get(a, 100, NR_BLOCK_RECEIVE);

	(void)state;
	nr_arena_retain(a, block);
	nr_arena_retain(a, block);
	nr_arena_hand_over(a, block, NR_BLOCK_RECEIVE, NR_BLOCK_KERNEL);
	nr_arena_hand_over(a, block, NR_BLOCK_KERNEL, NR_BLOCK_LAYER);
	nr_arena_release(a, block);
	nr_arena_release(a, block);
	assert_int_equal(nr_arena_used(a), 4096);
	nr_arena_release(a, block);
	assert_int_equal(nr_arena_used(a), 0);
	nr_arena_destroy(a);
}

static void a_pointer_inside_finds_its_block(void **state)
{
	struct nr_arena *a = nr_arena_create(4 * MIB);
	char *large = nr_arena_get(a, MIB, NR_BLOCK_LAYER);
	char *small = nr_arena_get(a, 4096, NR_BLOCK_LAYER);
	char *middle = nr_arena_get(a, 65536, NR_BLOCK_LAYER);

	(void)state;
	assert_ptr_equal(nr_arena_block_of(a, large), large);
	assert_ptr_equal(nr_arena_block_of(a, large + MIB - 1), large);
	assert_ptr_equal(nr_arena_block_of(a, large + 123456), large);
	assert_ptr_equal(nr_arena_block_of(a, small + 4095), small);
	assert_ptr_equal(nr_arena_block_of(a, middle + 40000), middle);
	nr_arena_release(a, large);
	nr_arena_release(a, small);
	nr_arena_release(a, middle);
	nr_arena_destroy(a);
}

static void the_pinned_part_is_preferred(void **state)
{
	struct nr_arena *a = nr_arena_create(8 * MIB);
	char *base = nr_arena_base(a), *pinned[2], *plain, *again;

	(void)state;
	nr_arena_set_pinned(a, 2 * MIB);
	pinned[0] = nr_arena_get(a, MIB, NR_BLOCK_LAYER);
	pinned[1] = nr_arena_get(a, MIB, NR_BLOCK_LAYER);
	plain = nr_arena_get(a, 4096, NR_BLOCK_LAYER);
	assert_true(pinned[0] < base + 2 * MIB);
	assert_true(pinned[1] < base + 2 * MIB);
	assert_true(plain >= base + 2 * MIB);
	nr_arena_release(a, pinned[0]);
	again = nr_arena_get(a, 4096, NR_BLOCK_LAYER);
	assert_true(again < base + 2 * MIB);
	nr_arena_release(a, again);
	nr_arena_release(a, pinned[1]);
	nr_arena_release(a, plain);
	/* Nothing registered after all. */
	nr_arena_set_pinned(a, 0);
	plain = nr_arena_get(a, MIB, NR_BLOCK_LAYER);
	assert_non_null(plain);
	nr_arena_release(a, plain);
	nr_arena_destroy(a);
}

static size_t resident(char *base, size_t bytes)
{
	size_t pages = bytes / (size_t)sysconf(_SC_PAGESIZE), count = 0;
	unsigned char *in = malloc(pages);

	assert_int_equal(mincore(base, bytes, in), 0);
	for (size_t i = 0; i < pages; i++)
		count += in[i] & 1;
	free(in);
	return count * (size_t)sysconf(_SC_PAGESIZE);
}

static void a_burst_does_not_stay_resident(void **state)
{
	struct nr_arena *a = nr_arena_create(64 * MIB);
	char *base = nr_arena_base(a), *blocks[64];

	(void)state;
	assert_int_equal(resident(base, 64 * MIB), 0);
	nr_arena_set_pinned(a, 4 * MIB);
	for (int i = 0; i < 64; i++) {
		blocks[i] = nr_arena_get(a, MIB, NR_BLOCK_LAYER);
		memset(blocks[i], 1, MIB);
	}
	assert_int_equal(resident(base, 64 * MIB), 64 * MIB);
	for (int i = 0; i < 64; i++)
		nr_arena_release(a, blocks[i]);
	/* What is registered stays, and some to be ready for the next one. */
	assert_true(resident(base, 64 * MIB) >= 4 * MIB);
	assert_true(resident(base, 64 * MIB) <= 16 * MIB);
	/* The next burst works on what was given back. */
	for (int i = 0; i < 64; i++) {
		blocks[i] = nr_arena_get(a, MIB, NR_BLOCK_LAYER);
		memset(blocks[i], 2, MIB);
	}
	for (int i = 63; i >= 0; i--)
		nr_arena_release(a, blocks[i]);
	assert_true(resident(base, 64 * MIB) <= 16 * MIB);
	nr_arena_destroy(a);
}

static void a_load_that_swings_costs_no_page_faults(void **state)
{
	struct nr_arena *a = nr_arena_create(64 * MIB);
	char *base = nr_arena_base(a), *blocks[6];

	(void)state;
	for (int round = 0; round < 20; round++) {
		for (int i = 0; i < 6; i++) {
			blocks[i] = nr_arena_get(a, MIB, NR_BLOCK_LAYER);
			memset(blocks[i], 1, MIB);
		}
		for (int i = 0; i < 6; i++)
			nr_arena_release(a, blocks[i]);
		assert_int_equal(resident(base, 64 * MIB), 6 * MIB);
	}
	nr_arena_destroy(a);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(blocks_are_aligned_to_their_size),
		cmocka_unit_test(it_can_be_filled_and_is_whole_again),
		cmocka_unit_test(random_use_never_overlaps),
		cmocka_unit_test(references_keep_a_block),
		cmocka_unit_test(a_pointer_inside_finds_its_block),
		cmocka_unit_test(the_pinned_part_is_preferred),
		cmocka_unit_test(a_burst_does_not_stay_resident),
		cmocka_unit_test(a_load_that_swings_costs_no_page_faults),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
