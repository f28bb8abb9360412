/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The backends `concat` and `stripe`: whatever the legs are, the whole is a disk like any
 * other, and it lies on them as the manual says.
 */
#include "tests/unit/layer-test.h"

#include <errno.h>
#include <setjmp.h>

#include <cmocka.h>

#include "tests/unit/filter-table.h"

#define KIB 1024u
#define MIB (1024u * 1024u)

static struct layer_options options;

static int set_up(void **state)
{
	filter_table_options(&options);
	options.ring = false;
	return 0;
}

static void run_model(const char *plan, uint64_t seed, uint64_t segment_bytes)
{
	struct layer_options with = options;
	struct layer_model model = {
		.seed = layer_seed(seed),
		.requests = 1500,
		.length_max = 300 * KIB,
		.check_extents = true,
	};
	struct layer_test *t;

	with.segment_bytes = segment_bytes;
	t = layer_test_open(&with, "%s", plan);
	layer_model_run(layer_client(t, 0), &model);
	layer_test_close(t);
}

static void test_random_requests(void **state)
{
	static const char *const plans[] = {
		"concat leg='memory 100001' leg='memory 1' leg='memory 0' leg='memory 700007' leg='memory 200k'",
		"concat leg='memory 512k' leg='--filter=short memory 400k window=50us' leg='memory 3'",
		"concat leg='memory 100k' leg='--filter=blocksize-policy memory 300k "
		"blocksize-minimum=1024' leg='memory 5k'",
		"stripe chunk=512 leg='memory 100001' leg='memory 100000' leg='memory 99999'",
		"stripe chunk=4k leg='memory 300k' leg='memory 300k'",
		"stripe chunk=64k leg='memory 512k' leg='--filter=short memory 512k window=50us' "
		"leg='--filter=short memory 512k window=80us'",
		"stripe chunk=1M leg='memory 1M' leg='memory 1M'",
		"stripe chunk=16k leg='memory 900k'",
		"stripe chunk=8k leg='stripe chunk=512 leg=\"memory 200k\" leg=\"memory 200k\"' "
		"leg='concat \"memory 300k\" \"memory 100k\"'",
	};
	static const uint64_t segments[] = { 0, 3000, 512 };

	for (unsigned i = 0; i < sizeof(plans) / sizeof(plans[0]); i++)
		for (unsigned s = 0; s < 3; s++)
			run_model(plans[i], 100 * i + s, segments[s]);
}

static void test_sizes(void **state)
{
	static const struct {
		const char *plan;
		uint64_t size;
	} sizes[] = {
		{ "concat leg='memory 10' leg='memory 0' leg='memory 20'", 30 },
		{ "concat leg='memory 0' leg='memory 0'", 0 },
		{ "concat leg='null 4E' leg='null 3E'", UINT64_C(7) << 60 },
		/* Whole chunks of the smallest leg, and as much of the others. */
		{ "stripe chunk=4k leg='memory 10000' leg='memory 1M'", 16384 },
		{ "stripe chunk=4k leg='memory 100' leg='memory 1M'", 0 },
		{ "stripe leg='memory 64k' leg='memory 64k' leg='memory 64k'", 196608 },
	};

	for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		struct layer_test *t = layer_test_open(&options, "%s", sizes[i].plan);

		assert_int_equal(layer_test_size(t), sizes[i].size);
		assert_int_equal(layer_flush(layer_client(t, 0)), 0);
		layer_test_close(t);
	}
}

/* The backend `pattern` tells where in a leg a byte lies. */
static void test_chunks_go_to_the_legs_in_turn(void **state)
{
	struct layer_test *t = layer_test_open(
		&options,
		"stripe chunk=512 leg='pattern 64k' leg='--filter=offset pattern 1M offset=512k'"
		" leg='pattern 64k'");
	struct layer_client *c = layer_client(t, 0);
	uint8_t data[8192];

	assert_true(layer_test_traits(t)->read_only);
	assert_int_equal(layer_read(c, 512 * 7 + 8, 4096, data), 0);
	for (unsigned at = 0; at + 8 <= 4096; at += 8) {
		uint64_t offset = 512 * 7 + 8 + at, chunk = offset / 512, number = 0;
		uint64_t expected = chunk / 3 * 512 + offset % 512;

		if (chunk % 3 == 1)
			expected += 512 * KIB;
		for (unsigned i = 0; i < 8; i++)
			number = number << 8 | data[at + i];
		assert_int_equal(number, expected);
	}
	layer_test_close(t);
}

static void test_one_leg_begins_where_the_last_ended(void **state)
{
	struct layer_test *t =
		layer_test_open(&options, "concat leg='pattern 24' leg='pattern 16'");
	uint8_t data[24];

	assert_int_equal(layer_read(layer_client(t, 0), 16, 24, data), 0);
	assert_memory_equal(data,
			    "\0\0\0\0\0\0\0\20"
			    "\0\0\0\0\0\0\0\0"
			    "\0\0\0\0\0\0\0\10",
			    24);
	layer_test_close(t);
}

/* What memory answers with are its own pages, and they are passed on as they are. */
static void test_reads_are_not_copied(void **state)
{
	static const char *const plans[] = {
		"concat leg='memory 128k' leg='memory 128k'",
		"stripe chunk=16k leg='memory 128k' leg='memory 128k'"
	};

	for (unsigned i = 0; i < 2; i++) {
		struct layer_test *t = layer_test_open(&options, "%s", plans[i]);
		struct layer_client *c = layer_client(t, 0);
		const struct nr_segment *segment;
		struct nr_request *req, *again;
		uint8_t *first;

		assert_int_equal(layer_fill(c, 0, 256 * KIB, 7), 0);
		req = layer_start(c, NR_READ, 0, 0, 256 * KIB, NULL, NULL);
		assert_int_equal(layer_wait(c, req), 0);
		for (uint32_t s = 0; s < req->segment_count; s++) {
			segment = &req->segments[s];
			assert_int_equal(segment->owner->kind, NR_BUFFER_LASTING);
			assert_true(segment->data[0] == 7 &&
				    segment->data[segment->length - 1] == 7);
		}
		first = req->segments[0].data;
		again = layer_start(c, NR_READ, 0, 0, 4096, NULL, NULL);
		assert_int_equal(layer_wait(c, again), 0);
		assert_ptr_equal(again->segments[0].data, first);
		/* In the other order than they came. */
		layer_end(c, req);
		layer_end(c, again);
		layer_test_close(t);
	}
}

static void test_maps(void **state)
{
	struct layer_test *t;
	struct layer_client *c;

	t = layer_test_open(&options, "concat leg='memory 128k' leg='null 64k' leg='memory 128k'");
	c = layer_client(t, 0);
	assert_int_equal(layer_fill(c, 64 * KIB, 64 * KIB, 1), 0);
	assert_int_equal(layer_fill(c, 192 * KIB, 64 * KIB, 1), 0);
	assert_string_equal(
		layer_map(c, 0, 320 * KIB),
		"65536:hole,zero 65536:data 65536:hole,zero 65536:data 65536:hole,zero");
	layer_test_close(t);
	t = layer_test_open(&options, "stripe chunk=64k leg='memory 256k' leg='memory 256k'");
	c = layer_client(t, 0);
	assert_int_equal(layer_fill(c, 128 * KIB, 192 * KIB, 1), 0);
	assert_string_equal(layer_map(c, 0, 512 * KIB),
			    "131072:hole,zero 196608:data 196608:hole,zero");
	assert_string_equal(layer_map(c, 100 * KIB, 100 * KIB), "28672:hole,zero 73728:data");
	layer_test_close(t);
}

/* Millions of chunks are not looked at one by one. */
static void test_map_of_a_large_hole_is_one_answer(void **state)
{
	struct nr_extent extent[8];
	struct nr_extents list = { .capacity = 8, .extent = extent };
	struct layer_test *t = layer_test_open(
		&options,
		"stripe chunk=4k leg='null 1P' leg='null 1P' leg='null 1P' leg='null 1P'");

	assert_int_equal(
		layer_extents(layer_client(t, 0), 4096 * 3 + 512, UINT64_C(1) << 51, 0, &list), 0);
	assert_int_equal(list.count, 1);
	assert_int_equal(extent[0].length, UINT64_C(1) << 51);
	layer_test_close(t);
}

/* Legs that say different things: the answer is short, but right, and work is bounded. */
static void test_map_of_legs_that_differ(void **state)
{
	struct nr_extent extent[4000];
	struct nr_extents list = { .capacity = 4000, .extent = extent };
	struct layer_test *t = layer_test_open(
		&options, "stripe chunk=4k leg='null 1P' leg='--filter=noextents null 1P'");

	assert_int_equal(layer_extents(layer_client(t, 0), 0, UINT64_C(1) << 50, 0, &list), 0);
	assert_in_range(list.count, 100, 4000);
	for (uint32_t i = 0; i < list.count; i++) {
		assert_int_equal(extent[i].length, 4096);
		assert_int_equal(extent[i].status, i % 2 ? 0 : NR_EXTENT_HOLE | NR_EXTENT_ZERO);
	}
	layer_test_close(t);
}

static void test_fast_zero_is_all_or_nothing(void **state)
{
	static const char *const plans[] = { "concat leg='memory 64k' leg='memory 64k'",
					     "stripe chunk=64k leg='memory 64k' leg='memory 64k'" };

	for (unsigned i = 0; i < 2; i++) {
		struct layer_test *t = layer_test_open(&options, "%s", plans[i]);
		struct layer_client *c = layer_client(t, 0);

		assert_int_equal(layer_fill(c, 0, 128 * KIB, 3), 0);
		assert_int_equal(layer_zero(c, 60 * KIB, 8 * KIB, NR_FAST_ZERO), -ENOTSUP);
		assert_true(layer_is(c, 0, 128 * KIB, 3));
		assert_int_equal(layer_zero(c, 60 * KIB, 8 * KIB, 0), 0);
		assert_true(layer_is(c, 60 * KIB, 8 * KIB, 0));
		assert_int_equal(layer_zero(c, 0, 64 * KIB, NR_FAST_ZERO), 0);
		assert_true(layer_is(c, 0, 68 * KIB, 0) && layer_is(c, 68 * KIB, 60 * KIB, 3));
		layer_test_close(t);
	}
}

static void test_an_error_of_one_leg_is_the_request_s(void **state)
{
	static const char *const plans[] = {
		"concat leg='memory 64k' leg='--filter=error memory 64k "
		"error=ENOSPC error-rate=1'",
		"stripe chunk=64k leg='memory 64k' leg='--filter=error memory "
		"64k error=ENOSPC error-rate=1'"
	};

	for (unsigned i = 0; i < 2; i++) {
		struct layer_test *t = layer_test_open(&options, "%s", plans[i]);
		struct layer_client *c = layer_client(t, 0);
		uint8_t data[128 * KIB] = { 0 };

		assert_int_equal(layer_read(c, 0, 64 * KIB, data), 0);
		assert_int_equal(layer_read(c, 0, 128 * KIB, data), -ENOSPC);
		assert_int_equal(layer_write(c, 65535, 2, data, 0), -ENOSPC);
		assert_int_equal(layer_write(c, 100, 2, data, 0), 0);
		assert_int_equal(layer_flush(c), -ENOSPC);
		layer_test_close(t);
	}
}

/* A pool that is too small: requests fail or work, and nothing of them stays. */
static void test_short_of_requests(void **state)
{
	static const char *const plans[] = {
		"concat leg='memory 8k' leg='memory 8k' leg='memory 8k'",
		"stripe chunk=512 leg='memory 8k' leg='memory 8k' leg='memory 8k'"
	};

	for (unsigned i = 0; i < 2; i++) {
		for (uint64_t slots = 1; slots <= 5; slots++) {
			struct layer_options few = options;
			struct layer_test *t;
			struct layer_client *c;
			int error;

			few.slots_max = slots;
			t = layer_test_open(&few, "%s", plans[i]);
			c = layer_client(t, 0);
			error = layer_fill(c, 0, 24 * KIB, 1);
			assert_int_equal(error, slots < 4 ? -ENOMEM : 0);
			error = layer_flush(c);
			assert_int_equal(error, slots < 4 ? -ENOMEM : 0);
			layer_test_close(t);
		}
	}
}

static void test_refusals_say_what(void **state)
{
	static const struct {
		const char *plan, *text;
	} refused[] = {
		{ "concat", "leg" },
		{ "concat leg='memory 1M' leg='memroy 1M'", "leg 2: " },
		{ "concat leg='null 7E' leg='null 7E'", "2^63" },
		{ "concat leg='memory 1000' leg='--filter=blocksize-policy memory 8k "
		  "blocksize-minimum=1024'",
		  "leg 1 has 1000 bytes, which is no multiple of 1024" },
		{ "stripe chunk=3000 leg='memory 1M'", "power of two" },
		{ "stripe chunk=256 leg='memory 1M'", "chunk" },
		{ "stripe chunk=512 leg='memory 1M' leg='--filter=blocksize-policy memory 1M "
		  "blocksize-minimum=4096'",
		  "smallest block" },
		{ "stripe leg='null 7E' leg='null 7E'", "2^63" },
	};

	for (unsigned i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
		struct nr_error error;

		assert_true(layer_test_refused(&options, &error, "%s", refused[i].plan) < 0);
		if (!strstr(error.text, refused[i].text))
			fail_msg("%s: %s", refused[i].plan, error.text);
	}
}

static void test_whole_is_what_all_legs_can(void **state)
{
	struct layer_test *t = layer_test_open(
		&options, "stripe leg='memory 1M' leg='--filter=mask memory 1M mask=fua' "
			  "leg='--filter=rotational memory 1M'");

	assert_int_equal(layer_test_traits(t)->support[NR_CAP_FUA], NR_NONE);
	assert_int_equal(layer_test_traits(t)->support[NR_CAP_FLUSH], NR_NATIVE);
	assert_int_equal(layer_test_traits(t)->support[NR_CAP_RESIZE], NR_NONE);
	assert_true(layer_test_traits(t)->rotational);
	assert_true(layer_test_traits(t)->multi_conn);
	assert_false(layer_test_traits(t)->read_only);
	layer_test_close(t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_random_requests),
		cmocka_unit_test(test_sizes),
		cmocka_unit_test(test_chunks_go_to_the_legs_in_turn),
		cmocka_unit_test(test_one_leg_begins_where_the_last_ended),
		cmocka_unit_test(test_reads_are_not_copied),
		cmocka_unit_test(test_maps),
		cmocka_unit_test(test_map_of_a_large_hole_is_one_answer),
		cmocka_unit_test(test_map_of_legs_that_differ),
		cmocka_unit_test(test_fast_zero_is_all_or_nothing),
		cmocka_unit_test(test_an_error_of_one_leg_is_the_request_s),
		cmocka_unit_test(test_short_of_requests),
		cmocka_unit_test(test_refusals_say_what),
		cmocka_unit_test(test_whole_is_what_all_legs_can),
	};

	return cmocka_run_group_tests(tests, set_up, NULL);
}
