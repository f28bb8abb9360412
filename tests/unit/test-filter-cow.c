/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The filter `cow`, over a base that nobody may write to, whose reads can be counted, kept
 * waiting and made to fail.
 */
#include "layer-test.h"

#include <errno.h>
#include <setjmp.h>

#include <cmocka.h>

#include "filter-table.h"
#include "filters/cow-map.h"
#include "nbdring/checked.h"

#define KIB UINT64_C(1024)
#define MIB (KIB * KIB)

/* The base: each byte says where it is; what lies in the hole is zero. */
static struct {
	uint64_t size, hole_from, hole_to;
	uint32_t block_min, block_max;
	unsigned reads;
	uint64_t bytes;
	int error;  /* of all reads */
	bool holds; /* reads wait until they are let go */
	struct nr_request *held[64];
	unsigned held_count;
	struct nr_layer *layer;
} base;

static uint8_t base_byte(uint64_t at)
{
	if (at >= base.hole_from && at < base.hole_to)
		return 0;
	return (uint8_t)(1 + (at ^ at >> 8 ^ at >> 16) % 255);
}

static int base_describe(struct nr_layer *layer, struct nr_traits *t, struct nr_error *error)
{
	base.layer = layer;
	t->size = base.size;
	t->block_min = base.block_min ? base.block_min : 1;
	t->block_max = base.block_max ? base.block_max : NR_TRANSFER_MAX;
	t->support[NR_CAP_EXTENTS] = NR_NATIVE;
	t->support[NR_CAP_CACHE] = NR_NATIVE;
	t->support[NR_CAP_TRIM] = t->support[NR_CAP_ZERO] = NR_NATIVE;
	return 0;
}

static void base_extents(struct nr_request *req)
{
	struct nr_extents *list = req->extents;
	bool more = true;

	while (more && list->next < list->end) {
		bool hole = list->next >= base.hole_from && list->next < base.hole_to;
		uint64_t end = hole ? base.hole_to : list->end;

		if (!hole && list->next < base.hole_from)
			end = base.hole_from;
		more = nr_extents_add(list, end - list->next,
				      hole ? NR_EXTENT_HOLE | NR_EXTENT_ZERO : 0);
	}
}

static void base_answer(struct nr_layer *layer, struct nr_request *req)
{
	struct nr_buffer *buffer;
	uint8_t *data;

	if (base.error) {
		nr_finish(layer, req, base.error);
		return;
	}
	if (req->offset >= base.hole_from && req->offset + req->length <= base.hole_to) {
		nr_answer_hole(req, req->length);
		nr_finish(layer, req, 0);
		return;
	}
	buffer = nr_buffer_get(req->worker, req->length, &data);
	LAYER_CHECK(buffer);
	for (uint64_t i = 0; i < req->length; i++)
		data[i] = base_byte(req->offset + i);
	LAYER_CHECK(nr_answer_data(req, data, req->length, buffer));
	nr_finish(layer, req, 0);
}

static void base_submit(struct nr_layer *layer, struct nr_request *req)
{
	LAYER_CHECK(req->operation == NR_READ || req->operation == NR_EXTENTS ||
		    req->operation == NR_CACHE);
	if (req->operation == NR_EXTENTS)
		base_extents(req);
	if (req->operation != NR_READ) {
		nr_finish(layer, req, 0);
		return;
	}
	base.reads++;
	base.bytes += req->length;
	if (!base.holds) {
		base_answer(layer, req);
		return;
	}
	LAYER_CHECK(base.held_count < sizeof(base.held) / sizeof(base.held[0]));
	base.held[base.held_count++] = req;
}

/* Let what is held go, and hold nothing any more. */
static void base_let_go(void)
{
	base.holds = false;
	for (unsigned i = 0; i < base.held_count; i++)
		nr_resume(base.layer, base.held[i]);
	base.held_count = 0;
}

static const struct nr_layer_type base_type = {
	.abi = NR_LAYER_ABI,
	.name = "base",
	.summary = "may not be written to",
	.kind = NR_BACKEND,
	.placement = NR_SPREAD,
	.describe = base_describe,
	.submit = base_submit,
	.resume = base_answer,
};

static struct layer_test *open_over(uint64_t size, const char *parameters)
{
	static const struct nr_layer_type *const types[] = { &base_type, NULL };
	struct layer_options options = { 0 };

	filter_table_options(&options);
	options.ring = false;
	options.types = types;
	base.size = size;
	return layer_test_open(&options, "cow cow-store=memory %s | base", parameters);
}

static int set_up(void **state)
{
	memset(&base, 0, sizeof(base));
	return 0;
}

/* Does [FROM, TO) read as it is in the base? */
static bool is_base(struct layer_client *c, uint64_t from, uint64_t to)
{
	uint8_t *data = malloc(to - from);
	bool same = true;

	assert_non_null(data);
	assert_int_equal(layer_read(c, from, to - from, data), 0);
	for (uint64_t i = 0; i < to - from && same; i++)
		same = data[i] == base_byte(from + i);
	free(data);
	return same;
}

/* ---- what is read ------------------------------------------------------ */

static void test_it_is_a_disk_that_keeps_what_is_written(void **state)
{
	static const char *const parameters[] = {
		"",
		"cow-block-size=4k",
		"cow-block-size=1M",
		"cow-on-read=true",
		"cow-block-size=4k cow-on-read=true cow-on-cache=true",
	};

	for (unsigned i = 0; i < sizeof(parameters) / sizeof(parameters[0]); i++) {
		struct layer_model model = { .seed = layer_seed(i + 1),
					     .requests = 3000,
					     .length_max = i % 2 ? 20000 : 200000,
					     .check_extents = true };
		struct layer_test *t;

		base.hole_from = 500000;
		base.hole_to = 900000;
		base.block_max = i == 3 ? 4608 : 0;
		t = open_over(2 * MIB + 12345 * i, parameters[i]);
		assert_true(is_base(layer_client(t, 0), 0, base.size));
		layer_model_run(layer_client(t, 0), &model);
		layer_test_close(t);
	}
}

static void test_blocks_of_the_base_are_kept_to(void **state)
{
	struct layer_model model = { .seed = layer_seed(1), .requests = 1000 };
	struct layer_test *t;

	base.block_min = 512;
	base.block_max = 8192;
	t = open_over(MIB + 512, "");
	assert_int_equal(layer_test_traits(t)->block_min, 512);
	layer_model_run(layer_client(t, 0), &model);
	layer_test_close(t);
}

static void test_untouched_blocks_come_from_the_base_and_others_do_not(void **state)
{
	struct layer_test *t = open_over(MIB, "");
	struct layer_client *c = layer_client(t, 0);

	assert_int_equal(layer_fill(c, 64 * KIB, 64 * KIB, 0xaa), 0);
	assert_int_equal(base.reads, 0);
	assert_true(layer_is(c, 64 * KIB, 64 * KIB, 0xaa));
	assert_int_equal(base.reads, 0);
	assert_true(is_base(c, 0, 64 * KIB));
	assert_true(is_base(c, 128 * KIB, MIB));
	/* A part of a block: the rest is copied, once. */
	base.bytes = 0;
	assert_int_equal(layer_fill(c, 200 * KIB, 512, 0xbb), 0);
	assert_int_equal(base.bytes, 64 * KIB);
	assert_int_equal(layer_fill(c, 201 * KIB, 512, 0xcc), 0);
	assert_int_equal(base.bytes, 64 * KIB);
	assert_true(is_base(c, 192 * KIB, 200 * KIB));
	assert_true(layer_is(c, 200 * KIB, 512, 0xbb));
	assert_int_equal(base.bytes, 64 * KIB);
	layer_test_close(t);
}

/* ---- the allocation map ------------------------------------------------ */

static void test_the_map_tells_base_and_overlay_apart(void **state)
{
	struct layer_test *t;
	struct layer_client *c;

	base.hole_from = 512 * KIB;
	base.hole_to = MIB;
	t = open_over(MIB, "");
	c = layer_client(t, 0);
	assert_string_equal(layer_map(c, 0, MIB), "524288:data 524288:hole,zero");
	assert_int_equal(layer_fill(c, 640 * KIB, 64 * KIB, 1), 0);
	assert_int_equal(layer_trim(c, 64 * KIB, 64 * KIB, 0), 0);
	assert_int_equal(layer_zero(c, 256 * KIB, 64 * KIB, 0), 0);
	assert_int_equal(layer_zero(c, 384 * KIB, 64 * KIB, NR_NO_HOLE), 0);
	assert_string_equal(layer_map(c, 0, MIB),
			    "65536:data 65536:hole,zero 131072:data 65536:hole,zero 65536:data "
			    "65536:zero 65536:data 131072:hole,zero 65536:data 327680:hole,zero");
	/* What was zeroed inside a block is known, too. */
	assert_int_equal(layer_zero(c, 644 * KIB, 8 * KIB, 0), 0);
	assert_string_equal(layer_map(c, 640 * KIB, 64 * KIB),
			    "4096:data 8192:hole,zero 53248:data");
	layer_test_close(t);
}

static void test_trimming_and_zeroing_take_no_data(void **state)
{
	struct layer_test *t = open_over(MIB, "");
	struct layer_client *c = layer_client(t, 0);

	assert_int_equal(layer_zero(c, 0, MIB, NR_FAST_ZERO), 0);
	assert_true(layer_is(c, 0, MIB, 0));
	assert_int_equal(layer_trim(c, 0, MIB, 0), 0);
	assert_int_equal(base.reads, 0);
	/* A part of a hole is written without the base. */
	assert_int_equal(layer_fill(c, 1000, 1000, 7), 0);
	assert_true(layer_is(c, 0, 1000, 0));
	assert_true(layer_is(c, 1000, 1000, 7));
	assert_true(layer_is(c, 2000, MIB - 2000, 0));
	assert_int_equal(base.reads, 0);
	layer_test_close(t);
}

static void test_a_fast_zero_that_has_to_copy_is_refused(void **state)
{
	struct layer_test *t = open_over(MIB, "");
	struct layer_client *c = layer_client(t, 0);

	assert_int_equal(layer_zero(c, 512, 1024, NR_FAST_ZERO), -ENOTSUP);
	assert_true(is_base(c, 0, MIB));
	assert_int_equal(layer_zero(c, 512, 1024, 0), 0);
	assert_true(layer_is(c, 512, 1024, 0));
	assert_true(is_base(c, 0, 512));
	assert_true(is_base(c, 1536, MIB));
	layer_test_close(t);
}

static void test_a_trim_leaves_parts_of_blocks_alone(void **state)
{
	struct layer_test *t = open_over(MIB + 100, "");
	struct layer_client *c = layer_client(t, 0);

	assert_int_equal(layer_trim(c, 512, 100 * KIB, 0), 0);
	assert_true(is_base(c, 0, 64 * KIB));
	assert_int_equal(layer_trim(c, 60 * KIB, 70 * KIB, 0), 0);
	assert_true(is_base(c, 0, 64 * KIB));
	assert_true(layer_is(c, 64 * KIB, 64 * KIB, 0));
	assert_true(is_base(c, 128 * KIB, MIB + 100));
	/* The last block is a whole one, however short. */
	assert_int_equal(layer_trim(c, MIB, 100, 0), 0);
	assert_true(layer_is(c, MIB, 100, 0));
	layer_test_close(t);
}

/* ---- copying while others write ---------------------------------------- */

/* Start a write of LENGTH times BYTE; the data lives in the request. */
static struct nr_request *start_fill(struct layer_client *c, uint64_t offset, uint64_t length,
				     uint8_t byte)
{
	uint8_t *data = malloc(length);
	struct nr_request *req;

	assert_non_null(data);
	memset(data, byte, length);
	req = layer_start(c, NR_WRITE, 0, offset, length, data, NULL);
	free(data);
	return req;
}

static void finish(struct layer_client *c, struct nr_request *req)
{
	assert_int_equal(layer_wait(c, req), 0);
	layer_end(c, req);
}

static void turns(struct layer_client *c)
{
	for (unsigned i = 0; i < 20; i++)
		layer_turn(c);
}

static void test_parts_of_one_block_written_at_once_are_all_there(void **state)
{
	struct nr_request *req[32];
	struct layer_test *t = open_over(MIB, "");
	struct layer_client *c = layer_client(t, 0);

	base.holds = true;
	for (unsigned i = 0; i < 32; i++)
		req[i] = start_fill(c, 2048 * i, 1024, (uint8_t)(i + 1));
	turns(c);
	/* One copies, the others wait for it and then need not. */
	assert_int_equal(base.held_count, 1);
	base_let_go();
	for (unsigned i = 0; i < 32; i++)
		finish(c, req[i]);
	assert_int_equal(base.reads, 1);
	for (unsigned i = 0; i < 32; i++) {
		assert_true(layer_is(c, 2048 * i, 1024, (uint8_t)(i + 1)));
		assert_true(is_base(c, 2048 * i + 1024, 2048 * i + 2048));
	}
	layer_test_close(t);
}

static void test_a_copy_does_not_undo_what_is_acknowledged_meanwhile(void **state)
{
	static const enum nr_operation operations[] = { NR_WRITE, NR_ZERO, NR_TRIM };

	for (unsigned i = 0; i < 3; i++) {
		struct layer_test *t = open_over(MIB, "");
		struct layer_client *c = layer_client(t, 0);
		static const uint8_t ones[64 * KIB] = { [0 ... 64 * KIB - 1] = 1 };
		struct nr_request *part, *whole;

		base.holds = true;
		part = start_fill(c, 100, 100, 0xee);
		whole = layer_start(c, operations[i], 0, 0, 64 * KIB, ones, NULL);
		turns(c);
		base_let_go();
		finish(c, whole);
		finish(c, part);
		/* What the copy brought is gone; the part may have come first or last. */
		assert_true(layer_is(c, 200, 64 * KIB - 200, operations[i] == NR_WRITE));
		layer_test_close(t);
	}
}

static void test_a_reading_copy_does_not_undo_a_write(void **state)
{
	struct layer_test *t = open_over(MIB, "cow-on-read=true");
	struct layer_client *c = layer_client(t, 0);
	struct nr_request *read, *write;

	base.holds = true;
	read = layer_start(c, NR_READ, 0, 0, 64 * KIB, NULL, NULL);
	write = start_fill(c, 0, 64 * KIB, 0x77);
	turns(c);
	base_let_go();
	finish(c, read);
	finish(c, write);
	assert_true(layer_is(c, 0, 64 * KIB, 0x77));
	layer_test_close(t);
}

/* ---- cow-on-read, cow-on-cache ----------------------------------------- */

static void test_what_was_read_is_not_read_from_the_base_again(void **state)
{
	struct layer_test *t = open_over(4 * MIB, "cow-on-read=true");
	struct layer_client *c = layer_client(t, 0);

	assert_true(is_base(c, 1000, 3 * MIB));
	assert_int_equal(base.bytes, 3 * MIB);
	assert_true(is_base(c, 0, 3 * MIB));
	assert_int_equal(base.bytes, 3 * MIB);
	layer_test_close(t);
}

static void test_holes_of_the_base_are_not_copied(void **state)
{
	struct layer_test *t;
	struct layer_client *c;

	base.hole_from = 0;
	base.hole_to = MIB;
	t = open_over(2 * MIB, "cow-on-read=true");
	c = layer_client(t, 0);
	assert_true(layer_is(c, 0, MIB, 0));
	assert_string_equal(layer_map(c, 0, MIB), "1048576:hole,zero");
	layer_test_close(t);
}

static void test_cache_requests_copy_if_they_are_told_to(void **state)
{
	struct layer_test *t = open_over(MIB, "cow-on-cache=true");
	struct layer_client *c = layer_client(t, 0);

	assert_int_equal(layer_cache(c, 0, MIB), 0);
	assert_int_equal(base.bytes, MIB);
	assert_true(is_base(c, 0, MIB));
	assert_int_equal(base.bytes, MIB);
	layer_test_close(t);

	t = open_over(MIB, "");
	base.bytes = 0;
	assert_int_equal(layer_cache(layer_client(t, 0), 0, MIB), 0);
	assert_int_equal(base.bytes, 0);
	layer_test_close(t);
}

/* ---- errors ------------------------------------------------------------ */

static void test_a_base_that_fails_costs_nothing_but_the_request(void **state)
{
	struct layer_test *t = open_over(MIB, "");
	struct layer_client *c = layer_client(t, 0);
	char byte;

	base.error = -EIO;
	assert_int_equal(layer_fill(c, 100, 100, 1), -EIO);
	assert_int_equal(layer_zero(c, 100, 100, 0), -EIO);
	assert_int_equal(layer_read(c, 0, 1, &byte), -EIO);
	assert_int_equal(layer_fill(c, 64 * KIB, 64 * KIB, 2), 0);
	assert_true(layer_is(c, 64 * KIB, 64 * KIB, 2));
	base.error = 0;
	assert_true(is_base(c, 0, 64 * KIB));
	assert_int_equal(layer_fill(c, 100, 100, 1), 0);
	assert_true(layer_is(c, 100, 100, 1));
	assert_true(is_base(c, 200, 64 * KIB));
	layer_test_close(t);
}

static void test_parameters_that_make_no_sense_are_refused(void **state)
{
	static const struct {
		const char *parameters, *says;
	} rows[] = {
		{ "cow-block-size=5000", "power of two" },
		{ "cow-block-size=2k", "4" },
		{ "cow-block-size=2M", "1" },
		{ "cow-on-read=perhaps", "cow-on-read" },
		{ "cow-store=paper", "memory" },
	};
	struct layer_options options = { 0 };
	struct nr_error error;

	filter_table_options(&options);
	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		assert_true(layer_test_refused(&options, &error, "cow %s | memory 1M",
					       rows[i].parameters) < 0);
		assert_non_null(strstr(error.text, rows[i].says));
	}
}

/* ---- the block map ----------------------------------------------------- */

/* Random changes of a map of PAGES pages, against plain memory. */
static void compare_map(uint64_t blocks, bool kept, uint64_t seed)
{
	uint8_t *plain = calloc(1, blocks);
	struct nr_cow_map map;

	assert_non_null(plain);
	nr_cow_map_init(&map, blocks, kept);
	for (unsigned i = 0; i < 300; i++) {
		uint64_t from = layer_random_below(&seed, blocks);
		uint64_t most = i % 3 ? 100 : blocks, stop;
		uint64_t end = nr_min(blocks, from + 1 + layer_random_below(&seed, most));
		enum nr_cow_block state =
			i % 4 ? NR_COW_HOLE : (enum nr_cow_block)(1 + layer_random_below(&seed, 3));
		int error;

		if (i % 5 == 0)
			from = nr_round_down(from, 512) / 512 * NR_COW_PAGE_BLOCKS % blocks;
		end = nr_max(end, from + 1);
		for (uint64_t at = from; at < end;) {
			at = nr_cow_map_set(&map, at, end, state, &error);
			assert_int_equal(error, 0);
		}
		memset(plain + from, (int)state, end - from);
		for (uint64_t at = 0; at < blocks; at = stop) {
			assert_int_equal(nr_cow_map_run(&map, at, blocks, &stop), plain[at]);
			assert_true(stop > at && stop <= blocks);
			for (uint64_t b = at; b < stop; b++)
				if (plain[b] != plain[at])
					fail_msg("block %u is not as the others", (unsigned)b);
		}
	}
	nr_cow_map_fini(&map);
	free(plain);
}

static void test_the_block_map_is_a_map_of_blocks(void **state)
{
	uint64_t seed = layer_seed(1);

	compare_map(1, false, seed);
	compare_map(NR_COW_PAGE_BLOCKS, false, seed);
	compare_map(3 * NR_COW_PAGE_BLOCKS - 1, true, seed);
	compare_map(40 * NR_COW_PAGE_BLOCKS + 77, false, seed);
	compare_map(600 * NR_COW_PAGE_BLOCKS, false, seed);
}

static void test_the_largest_disk_is_trimmed_at_once(void **state)
{
	uint64_t blocks = UINT64_C(1) << 51, stop;
	struct nr_cow_map map;
	unsigned calls = 0;
	int error;

	nr_cow_map_init(&map, blocks, false);
	for (uint64_t at = 1; at < blocks - 1; calls++)
		at = nr_cow_map_set(&map, at, blocks - 1, NR_COW_HOLE, &error);
	assert_true(calls < 100);
	assert_int_equal(nr_cow_map_get(&map, 0), NR_COW_BASE);
	assert_int_equal(nr_cow_map_get(&map, blocks / 3), NR_COW_HOLE);
	assert_int_equal(nr_cow_map_get(&map, blocks - 1), NR_COW_BASE);
	assert_int_equal(nr_cow_map_set(&map, blocks / 3, blocks / 3 + 1, NR_COW_DATA, &error),
			 blocks / 3 + 1);
	assert_int_equal(nr_cow_map_run(&map, blocks / 3 - 5, blocks, &stop), NR_COW_HOLE);
	assert_int_equal(stop, blocks / 3);
	nr_cow_map_fini(&map);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup(name, set_up)
	const struct CMUnitTest tests[] = {
		TEST(test_it_is_a_disk_that_keeps_what_is_written),
		TEST(test_blocks_of_the_base_are_kept_to),
		TEST(test_untouched_blocks_come_from_the_base_and_others_do_not),
		TEST(test_the_map_tells_base_and_overlay_apart),
		TEST(test_trimming_and_zeroing_take_no_data),
		TEST(test_a_fast_zero_that_has_to_copy_is_refused),
		TEST(test_a_trim_leaves_parts_of_blocks_alone),
		TEST(test_parts_of_one_block_written_at_once_are_all_there),
		TEST(test_a_copy_does_not_undo_what_is_acknowledged_meanwhile),
		TEST(test_a_reading_copy_does_not_undo_a_write),
		TEST(test_what_was_read_is_not_read_from_the_base_again),
		TEST(test_holes_of_the_base_are_not_copied),
		TEST(test_cache_requests_copy_if_they_are_told_to),
		TEST(test_a_base_that_fails_costs_nothing_but_the_request),
		TEST(test_parameters_that_make_no_sense_are_refused),
		TEST(test_the_block_map_is_a_map_of_blocks),
		TEST(test_the_largest_disk_is_trimmed_at_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
