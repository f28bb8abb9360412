/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The filter `swab`: words come and go in the other order, holes stay holes, and a
 * disk read through it twice is the disk itself.
 */
#include "layer-test.h"

#include <errno.h>
#include <setjmp.h>

#include <cmocka.h>

#include "filters/filters.h"

static const uint8_t straight[8] = { 0, 1, 2, 3, 4, 5, 6, 7 };

static void expect_order(unsigned bits, const char *order)
{
	struct layer_test *t = layer_test_open(
		NULL, "truncate truncate=4096 | swab swab-bits=%u | memory 1M", bits);
	struct layer_test *bare;
	struct layer_client *c = layer_client(t, 0);
	uint8_t data[8];

	assert_int_equal(layer_write(c, 16, 8, straight, 0), 0);
	assert_int_equal(layer_read(c, 16, 8, data), 0);
	assert_memory_equal(data, straight, 8);
	layer_test_close(t);

	/* The pattern is numbers of eight bytes: 0x0001020304050607 is at that offset. */
	bare = layer_test_open(NULL, "swab swab-bits=%u | pattern 9223372036854775807", bits);
	assert_int_equal(layer_read(layer_client(bare, 0), 0x0001020304050600, 8, data), 0);
	for (unsigned i = 0; i < 8; i++)
		assert_int_equal(data[i], order[i] == '7' ? 0 : order[i] - '0');
	layer_test_close(bare);
}

static void test_the_order_of_bytes(void **state)
{
	expect_order(8, "01234567");
	expect_order(16, "10325476");
	expect_order(32, "32107654");
	expect_order(64, "76543210");
}

static void test_what_is_written_is_swapped_below(void **state)
{
	/* Two of the same are none. */
	struct layer_test *t =
		layer_test_open(NULL, "swab swab-bits=64 | swab swab-bits=32 | swab | memory 64k");
	struct layer_client *c = layer_client(t, 0);
	uint8_t data[8];

	assert_int_equal(layer_write(c, 8, 8, straight, NR_FUA), 0);
	assert_int_equal(layer_read(c, 8, 8, data), 0);
	assert_memory_equal(data, straight, 8);
	layer_test_close(t);
}

static void test_words_are_the_smallest_blocks(void **state)
{
	struct layer_test *t = layer_test_open(NULL, "swab swab-bits=64 | memory 1003");
	struct layer_client *c = layer_client(t, 0);

	assert_int_equal(layer_test_size(t), 1000);
	assert_int_equal(layer_test_traits(t)->block_min, 8);
	assert_int_equal(layer_fill(c, 4, 8, 1), -EINVAL);
	assert_int_equal(layer_fill(c, 992, 8, 1), 0);
	assert_int_equal(layer_resize(c, 2001), -EINVAL);
	assert_int_equal(layer_resize(c, 2000), 0);
	layer_test_close(t);
}

static void test_holes_stay_holes(void **state)
{
	struct layer_test *t = layer_test_open(NULL, "swab | memory 1M");
	struct layer_client *c = layer_client(t, 0);
	struct nr_request *req;

	assert_int_equal(layer_write(c, 65536, 8, straight, 0), 0);
	assert_string_equal(layer_map(c, 0, 131072), "65536:hole,zero 4096:data 61440:hole,zero");
	req = layer_start(c, NR_READ, 0, 0, 131072, NULL, NULL);
	assert_int_equal(layer_wait(c, req), 0);
	assert_null(req->segments[0].data);
	assert_int_equal(req->segments[0].length, 65536);
	layer_end(c, req);
	layer_test_close(t);
}

/* Holes and data of three bytes each, in turn; the data is 1, 1, 1. */

static int crumbs_describe(struct nr_layer *layer, struct nr_traits *t, struct nr_error *error)
{
	t->size = 600;
	t->support[NR_CAP_EXTENTS] = NR_NATIVE;
	return 0;
}

static void crumbs_submit(struct nr_layer *layer, struct nr_request *req)
{
	static uint8_t ones[] = { 1, 1, 1 };
	uint64_t at = req->offset, end = req->offset + req->length;

	while (at < end) {
		uint64_t part = 3 - at % 3;
		bool data = at / 3 % 2;

		if (part > end - at)
			part = end - at;
		if (req->operation == NR_EXTENTS)
			nr_extents_add(req->extents, part, data ? 0 : NR_EXTENT_ZERO);
		else if (data)
			nr_answer_data(req, ones, part, NULL);
		else
			nr_answer_hole(req, part);
		at += part;
	}
	nr_finish(layer, req, 0);
}

static const struct nr_layer_type crumbs = {
	.abi = NR_LAYER_ABI,
	.name = "crumbs",
	.summary = "holes and data in turn",
	.kind = NR_BACKEND,
	.describe = crumbs_describe,
	.submit = crumbs_submit,
};

static void test_holes_that_cut_words_are_data(void **state)
{
	static const struct nr_layer_type *const types[] = { &crumbs, NULL };
	const struct layer_options options = { .types = types };
	struct layer_test *t = layer_test_open(&options, "swab swab-bits=32 | crumbs");
	struct layer_client *c = layer_client(t, 0);
	uint8_t data[12];

	/* Below: 0 0 0 1  1 1 0 0  0 1 1 1 */
	assert_int_equal(layer_read(c, 0, 12, data), 0);
	assert_memory_equal(data, "\1\0\0\0\0\0\1\1\1\1\1\0", 12);
	assert_string_equal(layer_map(c, 0, 12), "12:data");
	assert_int_equal(layer_read(c, 4, 4, data), 0);
	assert_memory_equal(data, "\0\0\1\1", 4);
	layer_test_close(t);
}

static void test_random_requests_match_plain_memory(void **state)
{
	const struct layer_options in_pieces = { .segment_bytes = 7 };
	struct layer_test *t = layer_test_open(
		&in_pieces,
		"swab swab-bits=64 | offset offset=1 | swab swab-bits=8 | memory 300000");
	const struct layer_model model = { .seed = layer_seed(303),
					   .requests = 3000,
					   .check_extents = true };

	layer_model_run(layer_client(t, 0), &model);
	layer_test_close(t);
}

static void test_other_sizes_of_words_are_refused(void **state)
{
	struct nr_error error;

	layer_test_refused(NULL, &error, "swab swab-bits=24 | memory 1M");
	assert_non_null(strstr(error.text, "swab-bits"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_order_of_bytes),
		cmocka_unit_test(test_what_is_written_is_swapped_below),
		cmocka_unit_test(test_words_are_the_smallest_blocks),
		cmocka_unit_test(test_holes_stay_holes),
		cmocka_unit_test(test_holes_that_cut_words_are_data),
		cmocka_unit_test(test_random_requests_match_plain_memory),
		cmocka_unit_test(test_other_sizes_of_words_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
