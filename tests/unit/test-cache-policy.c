/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Replacement policies: what goes, and how many requests find their block.  Prints a
 * table of hit ratios on traces that are made up from fixed seeds, so that every run
 * prints the same one.
 */
#include "layer-test.h"

#include <inttypes.h>
#include <math.h>
#include <setjmp.h>

#include <cmocka.h>

#include "filters/cache-map.h"

#define BLOCKS 100000u
#define REQUESTS 1000000u

static const struct nr_policy_type *const policies[] = { &nr_policy_lru, &nr_policy_arc,
							 &nr_policy_s3_fifo };

/* One request for BLOCK, as the filter makes it; was it there? */
static bool ask(struct nr_cache_map *map, uint64_t block)
{
	uint32_t slot = nr_cache_find(map, block);

	if (slot != NR_NO_SLOT) {
		map->policy.type->use(&map->policy, slot);
		return true;
	}
	slot = nr_cache_take(map, block, false);
	assert_int_not_equal(slot, NR_NO_SLOT);
	nr_cache_set(map, slot, NR_CACHE_CLEAN);
	return false;
}

/* Traces. */

/* Block numbers by Zipf's law with exponent 0.9, the frequent ones anywhere on the disk. */
static uint32_t *make_zipf(void)
{
	double *sum = malloc(BLOCKS * sizeof(*sum)), all = 0;
	uint32_t *trace = malloc(REQUESTS * sizeof(*trace)), *place = malloc(BLOCKS * 4);
	uint64_t random = 1;

	assert_true(sum && trace && place);
	for (uint32_t i = 0; i < BLOCKS; i++) {
		sum[i] = all += 1 / pow(i + 1, 0.9);
		place[i] = i;
	}
	for (uint32_t i = BLOCKS - 1; i > 0; i--) {
		uint32_t other = (uint32_t)layer_random_below(&random, i + 1), was = place[i];

		place[i] = place[other];
		place[other] = was;
	}
	for (uint32_t i = 0; i < REQUESTS; i++) {
		double at = (double)(layer_random(&random) >> 11) / 9007199254740992.0 * all;
		uint32_t low = 0, high = BLOCKS - 1;

		while (low < high) {
			uint32_t middle = (low + high) / 2;

			if (sum[middle] < at)
				low = middle + 1;
			else
				high = middle;
		}
		trace[i] = place[low];
	}
	free(sum);
	free(place);
	return trace;
}

/*
 * Every 200000 requests somebody reads 50000 blocks of another part of the disk once, two
 * for each request of the others.
 */
static double run(const struct nr_policy_type *policy, const uint32_t *trace, uint32_t slots,
		  bool scans)
{
	struct nr_cache_map map;
	uint64_t hits = 0, scan = 0;

	assert_true(nr_cache_map_init(&map, policy, slots));
	for (uint32_t i = 0; i < REQUESTS; i++) {
		hits += ask(&map, trace[i]);
		for (unsigned k = 0; scans && i % 200000 < 25000 && k < 2; k++)
			(void)ask(&map, BLOCKS + scan++ % (4 * BLOCKS));
	}
	nr_cache_map_fini(&map);
	return 100.0 * (double)hits / REQUESTS;
}

static void test_hit_ratios(void **state)
{
	static const unsigned percent[] = { 1, 5, 10, 25 };
	uint32_t *trace = make_zipf();

	fprintf(stderr, "cache of the disk |  zipf: lru     arc s3-fifo |  with scans: lru     arc "
			"s3-fifo\n");
	for (unsigned i = 0; i < 4; i++) {
		double ratio[2][3];

		for (unsigned k = 0; k < 6; k++)
			ratio[k / 3][k % 3] =
				run(policies[k % 3], trace, BLOCKS / 100 * percent[i], k >= 3);
		fprintf(stderr, "%15u %% | %9.2f %7.2f %7.2f | %16.2f %7.2f %7.2f\n", percent[i],
			ratio[0][0], ratio[0][1], ratio[0][2], ratio[1][0], ratio[1][1],
			ratio[1][2]);
		/* What these two are for. */
		assert_true(ratio[0][1] > ratio[0][0] && ratio[0][2] > ratio[0][0]);
		assert_true(ratio[1][1] > ratio[1][0] && ratio[1][2] > ratio[1][0]);
	}
	free(trace);
}

static void test_lru_throws_out_what_was_not_used_for_longest(void **state)
{
	struct nr_cache_map map;

	assert_true(nr_cache_map_init(&map, &nr_policy_lru, 3));
	assert_false(ask(&map, 1));
	assert_false(ask(&map, 2));
	assert_false(ask(&map, 3));
	assert_true(ask(&map, 1));
	assert_false(ask(&map, 4));
	assert_true(ask(&map, 1));
	assert_true(ask(&map, 3));
	assert_int_equal(nr_cache_find(&map, 2), NR_NO_SLOT);
	nr_cache_map_fini(&map);
}

static void test_one_scan_does_not_throw_out_what_is_used_again(void **state)
{
	for (unsigned p = 1; p < 3; p++) {
		struct nr_cache_map map;
		unsigned left = 0;

		assert_true(nr_cache_map_init(&map, policies[p], 1000));
		for (unsigned round = 0; round < 3; round++)
			for (uint64_t block = 0; block < 500; block++)
				(void)ask(&map, block);
		for (uint64_t block = 0; block < 100000; block++)
			(void)ask(&map, 1000 + block);
		for (uint64_t block = 0; block < 500; block++)
			left += nr_cache_find(&map, block) != NR_NO_SLOT;
		/* A ghost that looks like another one may cost a few. */
		assert_true(left >= 490);
		nr_cache_map_fini(&map);
	}
}

/* Dirty ones and those in use stay; when there are no others there is no slot. */
static void test_only_what_may_go_goes(void **state)
{
	for (unsigned p = 0; p < 3; p++) {
		struct nr_cache_map map;

		assert_true(nr_cache_map_init(&map, policies[p], 16));
		for (uint64_t block = 0; block < 16; block++)
			(void)ask(&map, block);
		for (uint64_t block = 0; block < 16; block++) {
			uint32_t slot = nr_cache_find(&map, block);

			if (block % 2)
				nr_cache_set(&map, slot, NR_CACHE_DIRTY);
			else if (block)
				map.slot[slot].pins = 1;
		}
		assert_int_not_equal(nr_cache_take(&map, 100, false), NR_NO_SLOT);
		assert_int_equal(nr_cache_find(&map, 0), NR_NO_SLOT);
		assert_int_equal(nr_cache_take(&map, 101, false), NR_NO_SLOT);
		assert_int_equal(map.dirty, 8);
		nr_cache_map_fini(&map);
	}
}

/* The hash against a plain table, through takes and drops in any order. */
static void test_what_is_where(void **state)
{
	for (unsigned p = 0; p < 3; p++) {
		struct nr_cache_map map;
		uint32_t where[2000];
		uint64_t random = p;

		memset(where, 0xff, sizeof(where));
		assert_true(nr_cache_map_init(&map, policies[p], 257));
		for (unsigned i = 0; i < 20000; i++) {
			uint64_t block = layer_random_below(&random, 2000);
			uint64_t number = block << 37 | block; /* up to 2^48 */
			uint32_t slot = nr_cache_find(&map, number);

			assert_int_equal(slot, where[block]);
			if (slot != NR_NO_SLOT && layer_random_below(&random, 3) == 0) {
				nr_cache_drop(&map, slot);
				where[block] = NR_NO_SLOT;
			} else if (slot == NR_NO_SLOT) {
				slot = nr_cache_take(&map, number, false);
				assert_int_not_equal(slot, NR_NO_SLOT);
				for (unsigned k = 0; k < 2000; k++)
					if (where[k] == slot)
						where[k] = NR_NO_SLOT;
				where[block] = slot;
				nr_cache_set(&map, slot, NR_CACHE_CLEAN);
			}
		}
		nr_cache_map_fini(&map);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_lru_throws_out_what_was_not_used_for_longest),
		cmocka_unit_test(test_one_scan_does_not_throw_out_what_is_used_again),
		cmocka_unit_test(test_only_what_may_go_goes),
		cmocka_unit_test(test_what_is_where),
		cmocka_unit_test(test_hit_ratios),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
