/* SPDX-License-Identifier: BSD-3-Clause */
/* The backend `null`: zeroes out, nothing kept. */
#include "tests/unit/layer-test.h"

#include <errno.h>
#include <setjmp.h>

#include <cmocka.h>

#include "nbdring/checked.h"

static void offers_everything_but_resize(void **state)
{
	struct layer_test *t = layer_test_open(NULL, "null 1G");
	const struct nr_traits *traits = layer_test_traits(t);

	assert_int_equal(layer_test_size(t), 1 << 30);
	assert_int_equal(traits->block_min, 1);
	assert_int_equal(traits->memory_align, 1);
	assert_true(traits->multi_conn);
	assert_false(traits->read_only);
	for (unsigned i = 0; i < NR_CAP_COUNT; i++)
		assert_int_equal(traits->support[i], i == NR_CAP_RESIZE ? NR_NONE : NR_NATIVE);
	layer_test_close(t);
}

static void size_defaults_to_zero(void **state)
{
	struct layer_test *t = layer_test_open(NULL, "null");

	assert_int_equal(layer_test_size(t), 0);
	assert_int_equal(layer_flush(layer_client(t, 0)), 0);
	layer_test_close(t);
}

static void refuses_sizes_over_the_limit(void **state)
{
	struct nr_error error;

	assert_true(layer_test_refused(NULL, &error, "null 8E") < 0);
	assert_true(layer_test_refused(NULL, &error, "null size=wide") < 0);
	assert_true(layer_test_refused(NULL, &error, "null 1M colour=red") < 0);
}

static void swallows_writes_and_reads_zeroes(void **state)
{
	struct layer_test *t = layer_test_open(NULL, "null size=4M");
	struct layer_client *c = layer_client(t, 0);

	assert_int_equal(layer_fill(c, 0, 2 << 20, 0xaa), 0);
	assert_true(layer_is(c, 0, 4 << 20, 0));
	assert_int_equal(layer_trim(c, 5, 1000, NR_FUA), 0);
	assert_int_equal(layer_zero(c, 5, 1000, NR_FUA | NR_NO_HOLE | NR_FAST_ZERO), 0);
	assert_int_equal(layer_cache(c, 0, 4 << 20), 0);
	assert_int_equal(layer_flush(c), 0);
	assert_string_equal(layer_map(c, 7, 100000), "100000:hole,zero");
	layer_test_close(t);
}

static void a_read_is_one_hole(void **state)
{
	struct layer_test *t = layer_test_open(NULL, "null size=4M");
	struct layer_client *c = layer_client(t, 0);
	struct nr_request *req = layer_start(c, NR_READ, 0, 1, NR_TRANSFER_MAX, NULL, NULL);

	assert_int_equal(layer_wait(c, req), 0);
	assert_int_equal(req->segment_count, 1);
	assert_null(req->segments[0].data);
	assert_null(req->segments[0].owner);
	layer_end(c, req);
	layer_test_close(t);
}

static void reaches_the_largest_size(void **state)
{
	struct layer_test *t = layer_test_open(NULL, "null %llu", (unsigned long long)NR_SIZE_MAX);
	struct layer_client *c = layer_client(t, 0);
	char byte = 1;

	assert_int_equal(layer_test_size(t), NR_SIZE_MAX);
	assert_int_equal(layer_write(c, NR_SIZE_MAX - 1, 1, &byte, 0), 0);
	assert_true(layer_is(c, NR_SIZE_MAX - 4096, 4096, 0));
	assert_int_equal(layer_zero(c, 0, NR_SIZE_MAX, 0), 0);
	assert_string_equal(layer_map(c, 0, NR_SIZE_MAX), "9223372036854775807:hole,zero");
	assert_true(layer_write(c, NR_SIZE_MAX, 1, &byte, 0) < 0);
	layer_test_close(t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(offers_everything_but_resize),
		cmocka_unit_test(size_defaults_to_zero),
		cmocka_unit_test(refuses_sizes_over_the_limit),
		cmocka_unit_test(swallows_writes_and_reads_zeroes),
		cmocka_unit_test(a_read_is_one_hole),
		cmocka_unit_test(reaches_the_largest_size),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
