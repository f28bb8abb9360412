/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The filter blocksize, byte access over a disk of blocks: unaligned clients get
 * what a disk of bytes would give them, also when several write to the same blocks
 * at once.
 *
 * The disk is memory that insists on blocks: the test's own filter raises the
 * minimum of what is below, so anything unaligned that reaches it is refused by
 * the choke point and shows as an error here.
 */
#include "layer-test.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>

#include <cmocka.h>

#include "filters/filters.h"

static int strict_describe(struct nr_layer *layer, struct nr_traits *t, struct nr_error *error)
{
	t->block_min = 4096;
	return 0;
}

static void strict_submit(struct nr_layer *layer, struct nr_request *req)
{
	nr_pass(layer, req);
}

static const struct nr_layer_type strict = {
	.abi = NR_LAYER_ABI,
	.name = "strict",
	.summary = "takes blocks of 4096 bytes only",
	.kind = NR_FILTER,
	.describe = strict_describe,
	.submit = strict_submit,
};

/*
 * Holds back every request until the worker has nothing else to do, so that
 * read-change-writes of one worker really overlap.
 */
static void slow_submit(struct nr_layer *layer, struct nr_request *req)
{
	nr_resume(layer, req);
}

static void slow_resume(struct nr_layer *layer, struct nr_request *req)
{
	nr_pass(layer, req);
}

static const struct nr_layer_type slow = {
	.abi = NR_LAYER_ABI,
	.name = "slow",
	.summary = "passes requests on a turn later",
	.kind = NR_FILTER,
	.submit = slow_submit,
	.resume = slow_resume,
};

static const struct nr_layer_type *const types[] = { &strict, &slow, NULL };

static struct layer_test *open_disk(unsigned workers)
{
	const struct layer_options options = { .types = types,
					       .workers = workers,
					       .aligner = &nr_blocksize_type };

	return layer_test_open(&options, "strict | slow | memory 4M");
}

static void test_the_advertised_minimum_stays_the_true_one(void **state)
{
	struct layer_test *t = open_disk(1);

	assert_int_equal(layer_test_traits(t)->block_min, 4096);
	layer_test_close(t);
}

static void test_unaligned_writes_change_only_their_bytes(void **state)
{
	struct layer_test *t = open_disk(1);
	struct layer_client *c = layer_client(t, 0);

	assert_int_equal(layer_fill(c, 0, 65536, 0xaa), 0);
	assert_int_equal(layer_fill(c, 4095, 1, 1), 0);     /* the end of a block */
	assert_int_equal(layer_fill(c, 8190, 4, 2), 0);     /* across two */
	assert_int_equal(layer_fill(c, 16384, 5000, 3), 0); /* aligned start */
	assert_int_equal(layer_fill(c, 30000, 2768, 4), 0); /* aligned end */
	assert_true(layer_is(c, 0, 4095, 0xaa));
	assert_true(layer_is(c, 4095, 1, 1));
	assert_true(layer_is(c, 4096, 4094, 0xaa));
	assert_true(layer_is(c, 8190, 4, 2));
	assert_true(layer_is(c, 16384, 5000, 3));
	assert_true(layer_is(c, 21384, 30000 - 21384, 0xaa));
	assert_true(layer_is(c, 30000, 2768, 4));
	assert_true(layer_is(c, 32768, 32768, 0xaa));
	layer_test_close(t);
}

static void test_unaligned_zero_and_trim(void **state)
{
	struct layer_test *t = open_disk(1);
	struct layer_client *c = layer_client(t, 0);

	assert_int_equal(layer_fill(c, 0, 65536, 0xaa), 0);
	assert_int_equal(layer_zero(c, 100, 50000, 0), 0);
	assert_true(layer_is(c, 0, 100, 0xaa));
	assert_true(layer_is(c, 100, 50000, 0));
	assert_true(layer_is(c, 50100, 65536 - 50100, 0xaa));
	assert_int_equal(layer_zero(c, 60000, 10, 0), 0);
	assert_true(layer_is(c, 60000, 10, 0));
	assert_true(layer_is(c, 60010, 100, 0xaa));
	assert_int_equal(layer_zero(c, 1, 10, NR_FAST_ZERO), -ENOTSUP);
	/* A trim reaches no byte that was not named. */
	assert_int_equal(layer_trim(c, 53000, 3000, 0), 0);
	assert_int_equal(layer_trim(c, 61000, 100, 0), 0);
	assert_true(layer_is(c, 60010, 65536 - 60010, 0xaa));
	layer_test_close(t);
}

static void test_the_map_of_an_unaligned_range(void **state)
{
	struct layer_test *t = open_disk(1);
	struct layer_client *c = layer_client(t, 0);

	assert_int_equal(layer_fill(c, 0, 65536, 1), 0);
	assert_string_equal(layer_map(c, 1000, 100), "100:data");
	assert_string_equal(layer_map(c, 65000, 1000), "536:data 464:hole,zero");
	assert_string_equal(layer_map(c, 65537, 1), "1:hole,zero");
	layer_test_close(t);
}

static void test_overlapping_writes_lose_nothing(void **state)
{
	struct layer_test *t = open_disk(1);
	struct layer_client *c = layer_client(t, 0);
	struct nr_request *req[256];
	uint8_t data[256];

	/* 256 bytes of one block, each written by a request of its own, all at once. */
	for (unsigned i = 0; i < 256; i++) {
		data[i] = (uint8_t)i;
		req[i] = layer_start(c, NR_WRITE, 0, 1000 + i, 1, &data[i], NULL);
	}
	for (unsigned i = 0; i < 256; i++) {
		assert_int_equal(layer_wait(c, req[i]), 0);
		layer_end(c, req[i]);
	}
	for (unsigned i = 0; i < 256; i++)
		assert_true(layer_is(c, 1000 + i, 1, (uint8_t)i));
	layer_test_close(t);
}

/* Two workers write bytes and blocks to the same two blocks for a while. */

struct writer {
	struct layer_client *client;
	unsigned first;
};

#define ROUNDS 2000

static void *write_own_bytes(void *argument)
{
	struct writer *w = argument;

	for (unsigned round = 1; round <= ROUNDS; round++) {
		uint8_t byte = (uint8_t)round;

		for (unsigned at = w->first; at < 8192; at += 1024 + 512)
			LAYER_CHECK(layer_write(w->client, at, 1, &byte, 0) == 0);
		for (unsigned at = w->first; at < 8192; at += 1024 + 512)
			LAYER_CHECK(layer_is(w->client, at, 1, byte));
	}
	return NULL;
}

static void test_workers_do_not_undo_each_others_bytes(void **state)
{
	struct layer_test *t = open_disk(2);
	struct writer writer[2];
	pthread_t thread[2];

	for (unsigned i = 0; i < 2; i++) {
		writer[i] = (struct writer){ layer_client(t, i), i * 7 };
		assert_int_equal(pthread_create(&thread[i], NULL, write_own_bytes, &writer[i]), 0);
	}
	for (unsigned i = 0; i < 2; i++)
		pthread_join(thread[i], NULL);
	layer_test_close(t);
}

static void test_random_requests_match_plain_memory(void **state)
{
	struct layer_test *t = open_disk(1);
	const struct layer_model model = { .seed = layer_seed(20),
					   .requests = 3000,
					   .check_extents = true };

	layer_model_run(layer_client(t, 0), &model);
	layer_test_close(t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_advertised_minimum_stays_the_true_one),
		cmocka_unit_test(test_unaligned_writes_change_only_their_bytes),
		cmocka_unit_test(test_unaligned_zero_and_trim),
		cmocka_unit_test(test_the_map_of_an_unaligned_range),
		cmocka_unit_test(test_overlapping_writes_lose_nothing),
		cmocka_unit_test(test_workers_do_not_undo_each_others_bytes),
		cmocka_unit_test(test_random_requests_match_plain_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
