/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The filter `truncate`: sizes, and what a tail that is not there does with each kind
 * of request, in it and across its seam.
 */
#include "layer-test.h"

#include <errno.h>
#include <setjmp.h>

#include <cmocka.h>

#include "filters/filters.h"

static int strict_describe(struct nr_layer *layer, struct nr_traits *t, struct nr_error *error)
{
	t->block_min = 512;
	return 0;
}

static const struct nr_layer_type strict = {
	.abi = NR_LAYER_ABI,
	.name = "strict",
	.summary = "takes blocks of 512 bytes only",
	.kind = NR_FILTER,
	.describe = strict_describe,
};

static const struct nr_layer_type *const types[] = { &strict, NULL };
static const struct layer_options with_strict = { .types = types };

static void expect_size(const char *settings, uint64_t below, uint64_t size)
{
	struct layer_test *t =
		layer_test_open(NULL, "truncate %s | memory %llu", settings, (long long)below);

	assert_int_equal(layer_test_size(t), size);
	assert_int_equal(layer_test_traits(t)->support[NR_CAP_RESIZE], NR_NONE);
	layer_test_close(t);
}

static void test_sizes(void **state)
{
	expect_size("", 1000, 1000);
	expect_size("truncate=500", 1000, 500);
	expect_size("truncate=5000", 1000, 5000);
	expect_size("round-up=512", 1000, 1024);
	expect_size("round-up=512", 1024, 1024);
	expect_size("round-up=1000", 1024, 2000);
	expect_size("round-down=512", 1000, 512);
	expect_size("round-down=512", 1024, 1024);
	expect_size("round-down=2048", 1024, 0);
	expect_size("round-up=512", 0, 0);
	expect_size("truncate=700 round-up=512", 10, 1024);
	expect_size("truncate=700 round-down=512", 10, 512);
	expect_size("truncate=9223372036854775807", 10, INT64_MAX);
}

static void test_sizes_that_are_refused(void **state)
{
	struct nr_error error;

	layer_test_refused(NULL, &error, "truncate truncate=0 | memory 1000");
	layer_test_refused(NULL, &error, "truncate round-up=0 | memory 1000");
	layer_test_refused(NULL, &error, "truncate round-up=4k round-down=4k | memory 1000");
	assert_non_null(strstr(error.text, "contradict"));
	layer_test_refused(NULL, &error,
			   "truncate truncate=9223372036854775807 round-up=4k | memory 1000");
	assert_non_null(strstr(error.text, "2^63-1"));
	layer_test_refused(NULL, &error,
			   "truncate round-up=9223372036854775807 | offset offset=1 "
			   "| truncate truncate=9223372036854775807 round-up=4k | "
			   "memory 10");
	layer_test_refused(&with_strict, &error, "truncate truncate=1000 | strict | memory 1M");
	assert_non_null(strstr(error.text, "truncate=512"));
	layer_test_refused(&with_strict, &error, "truncate round-up=1024 | strict | memory 1000");
	assert_non_null(strstr(error.text, "round-down=512"));
}

static void test_a_hidden_end_stays_as_it_is(void **state)
{
	struct layer_test *t = layer_test_open(NULL, "truncate truncate=100 | memory 1M");
	struct layer_client *c = layer_client(t, 0);

	assert_int_equal(layer_fill(c, 0, 100, 1), 0);
	assert_int_equal(layer_fill(c, 99, 2, 1), -ENOSPC);
	assert_int_equal(layer_read(c, 100, 1, (uint8_t[1]){ 0 }), -EINVAL);
	assert_string_equal(layer_map(c, 0, 100), "100:data");
	layer_test_close(t);
}

static void test_the_tail(void **state)
{
	struct layer_test *t = layer_test_open(NULL, "truncate truncate=64k | memory 10000");
	struct layer_client *c = layer_client(t, 0);

	assert_true(layer_is(c, 10000, 50000, 0));
	assert_int_equal(layer_fill(c, 10000, 50000, 0), 0);
	assert_int_equal(layer_fill(c, 65535, 1, 1), -ENOSPC);
	assert_int_equal(layer_zero(c, 10000, 50000, NR_FUA | NR_NO_HOLE), 0);
	assert_int_equal(layer_trim(c, 10000, 50000, 0), 0);
	assert_int_equal(layer_cache(c, 10000, 50000), 0);
	assert_string_equal(layer_map(c, 10000, 50000), "50000:hole,zero");
	assert_int_equal(layer_flush(c), 0);
	assert_int_equal(layer_fill(c, 65535, 2, 0), -ENOSPC);
	layer_test_close(t);
}

static void test_across_the_seam(void **state)
{
	const struct layer_options in_pieces = { .segment_bytes = 3 };
	struct layer_test *t = layer_test_open(&in_pieces, "truncate truncate=64k | memory 10000");
	struct layer_client *c = layer_client(t, 0);
	uint8_t data[200];

	memset(data, 0, sizeof(data));
	memset(data, 5, 100);
	assert_int_equal(layer_write(c, 9900, 200, data, NR_FUA), 0);
	assert_true(layer_is(c, 9900, 100, 5));
	assert_true(layer_is(c, 10000, 100, 0));
	memset(data, 6, 101);
	assert_int_equal(layer_write(c, 9900, 200, data, 0), -ENOSPC);
	data[100] = 0;
	data[199] = 1;
	assert_int_equal(layer_write(c, 9900, 200, data, 0), -ENOSPC);
	assert_true(layer_is(c, 9900, 100, 5)); /* nothing of them was written */
	memset(data, 9, sizeof(data));
	assert_int_equal(layer_read(c, 9900, 200, data), 0);
	assert_int_equal(data[99], 5);
	assert_int_equal(data[100], 0);
	assert_int_equal(data[199], 0);
	assert_int_equal(layer_fill(c, 0, 10000, 1), 0);
	assert_string_equal(layer_map(c, 1000, 20000), "9000:data 11000:hole,zero");
	assert_int_equal(layer_cache(c, 9000, 2000), 0);
	assert_int_equal(layer_zero(c, 9990, 20, 0), 0);
	assert_true(layer_is(c, 9990, 20, 0));
	assert_true(layer_is(c, 0, 9990, 1));
	assert_int_equal(layer_trim(c, 0, 65536, 0), 0);
	layer_test_close(t);
}

/* Fails everything. */
static void broken_submit(struct nr_layer *layer, struct nr_request *req)
{
	nr_finish(layer, req, -EIO);
}

static const struct nr_layer_type broken = {
	.abi = NR_LAYER_ABI,
	.name = "broken",
	.summary = "fails every request",
	.kind = NR_FILTER,
	.submit = broken_submit,
};

static void test_errors_below_are_errors_above(void **state)
{
	static const struct nr_layer_type *const broken_types[] = { &broken, NULL };
	const struct layer_options options = { .types = broken_types };
	struct layer_test *t =
		layer_test_open(&options, "truncate truncate=64k | broken | memory 10000");
	struct layer_client *c = layer_client(t, 0);
	struct nr_extent extent[4];
	struct nr_extents list = { .extent = extent, .capacity = 4 };
	uint8_t data[200];

	assert_int_equal(layer_read(c, 9900, 200, data), -EIO);
	assert_int_equal(layer_fill(c, 9900, 200, 0), -EIO);
	assert_int_equal(layer_zero(c, 9900, 200, 0), -EIO);
	assert_int_equal(layer_extents(c, 9900, 200, 0, &list), -EIO);
	assert_int_equal(layer_read(c, 10000, 200, data), 0);
	layer_test_close(t);
}

static void test_a_tail_of_a_tail(void **state)
{
	struct layer_test *t = layer_test_open(
		NULL, "truncate round-up=1M | truncate truncate=9 | memory 9223372036854775807");
	struct layer_client *c = layer_client(t, 0);

	assert_int_equal(layer_fill(c, 0, 1048576, 0), 0);
	assert_true(layer_is(c, 0, 1048576, 0));
	layer_test_close(t);
}

static void test_random_requests_match_plain_memory(void **state)
{
	struct layer_test *t = layer_test_open(
		NULL, "truncate truncate=200001 | truncate truncate=300001 | memory 1M");
	const struct layer_model model = { .seed = layer_seed(302),
					   .requests = 3000,
					   .check_extents = true };

	layer_model_run(layer_client(t, 0), &model);
	layer_test_close(t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sizes),
		cmocka_unit_test(test_sizes_that_are_refused),
		cmocka_unit_test(test_a_hidden_end_stays_as_it_is),
		cmocka_unit_test(test_the_tail),
		cmocka_unit_test(test_across_the_seam),
		cmocka_unit_test(test_errors_below_are_errors_above),
		cmocka_unit_test(test_a_tail_of_a_tail),
		cmocka_unit_test(test_random_requests_match_plain_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
