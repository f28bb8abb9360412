/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The filter `offset`: a stretch of a disk is a disk, wherever it begins, twice in
 * one stack as well; what does not fit is refused with the value that would.
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

static void test_bytes_are_where_they_belong(void **state)
{
	struct layer_test *t = layer_test_open(NULL, "offset offset=1000 range=50000 | pattern 1M");
	struct layer_client *c = layer_client(t, 0);
	uint8_t word[8];

	assert_int_equal(layer_test_size(t), 50000);
	assert_int_equal(layer_read(c, 24, 8, word), 0);
	assert_memory_equal(word, "\0\0\0\0\0\0\x04\0", 8);
	assert_int_equal(layer_read(c, 49999, 1, word), 0);
	assert_int_equal(layer_read(c, 49999, 2, word), -EINVAL);
	layer_test_close(t);
}

static void test_every_operation_stays_inside(void **state)
{
	struct layer_test *t = layer_test_open(
		NULL, "offset offset=64k range=64k | offset offset=64k | memory 1M");
	struct layer_client *c = layer_client(t, 0);

	assert_int_equal(layer_fill(c, 0, 65536, 1), 0);
	assert_string_equal(layer_map(c, 0, 65536), "65536:data");
	assert_int_equal(layer_zero(c, 0, 4096, NR_FUA), 0);
	assert_int_equal(layer_trim(c, 61440, 4096, 0), 0);
	assert_int_equal(layer_cache(c, 0, 65536), 0);
	assert_int_equal(layer_flush(c), 0);
	assert_string_equal(layer_map(c, 100, 65436), "3996:hole,zero 57344:data 4096:hole,zero");
	assert_int_equal(layer_fill(c, 65535, 2, 1), -ENOSPC);
	layer_test_close(t);
}

static void test_without_range_it_follows_the_end(void **state)
{
	struct layer_test *t = layer_test_open(NULL, "offset offset=4096 | memory 1M");
	struct layer_client *c = layer_client(t, 0);

	assert_int_equal(layer_test_size(t), 1048576 - 4096);
	assert_int_equal(layer_resize(c, 8192), 0);
	assert_int_equal(layer_test_size(t), 8192);
	assert_int_equal(layer_fill(c, 8191, 1, 1), 0);
	assert_int_equal(layer_resize(c, INT64_MAX), -ENOSPC);
	layer_test_close(t);
}

static void test_with_range_the_size_is_fixed(void **state)
{
	struct layer_test *t = layer_test_open(NULL, "offset range=4096 | memory 1M");

	assert_int_equal(layer_test_traits(t)->support[NR_CAP_RESIZE], NR_NONE);
	layer_test_close(t);
}

static void test_the_end_of_the_largest_disk(void **state)
{
	struct layer_test *t = layer_test_open(
		NULL, "offset offset=9223372036854775800 | memory %s", "9223372036854775807");
	struct layer_client *c = layer_client(t, 0);

	assert_int_equal(layer_test_size(t), 7);
	assert_int_equal(layer_fill(c, 6, 1, 9), 0);
	assert_true(layer_is(c, 6, 1, 9));
	assert_int_equal(layer_fill(c, 7, 1, 9), -ENOSPC);
	layer_test_close(t);
}

static void test_beyond_the_end_is_refused(void **state)
{
	struct nr_error error;

	layer_test_refused(NULL, &error, "offset offset=2M | memory 1M");
	assert_non_null(strstr(error.text, "offset=2097152"));
	assert_non_null(strstr(error.text, "1048576 bytes"));
	layer_test_refused(NULL, &error, "offset offset=1M range=1 | memory 1M");
	layer_test_refused(NULL, &error, "offset offset=1 range=9223372036854775807 | memory 1M");
	layer_test_refused(NULL, &error, "offset range=0 | memory 1M");
}

static void test_what_does_not_fit_the_blocks_is_refused(void **state)
{
	struct nr_error error;

	layer_test_refused(&with_strict, &error, "offset offset=1000 | strict | memory 1M");
	assert_string_equal(error.text, "offset: offset=1000 is not a multiple of the 512-byte "
					"blocks below; use offset=512 or put --filter=blocksize "
					"below");
	layer_test_refused(&with_strict, &error, "offset range=100 | strict | memory 1M");
	assert_non_null(strstr(error.text, "range=512"));
	layer_test_close(layer_test_open(&with_strict, "offset offset=1024 | strict | memory 1M"));
}

static void test_random_requests_match_plain_memory(void **state)
{
	struct layer_test *t = layer_test_open(
		NULL, "offset offset=777 range=300001 | offset offset=1 | memory 1M");
	const struct layer_model model = { .seed = layer_seed(301),
					   .requests = 3000,
					   .check_extents = true };

	layer_model_run(layer_client(t, 0), &model);
	layer_test_close(t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bytes_are_where_they_belong),
		cmocka_unit_test(test_every_operation_stays_inside),
		cmocka_unit_test(test_without_range_it_follows_the_end),
		cmocka_unit_test(test_with_range_the_size_is_fixed),
		cmocka_unit_test(test_the_end_of_the_largest_disk),
		cmocka_unit_test(test_beyond_the_end_is_refused),
		cmocka_unit_test(test_what_does_not_fit_the_blocks_is_refused),
		cmocka_unit_test(test_random_requests_match_plain_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
