/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The backend `mirror` and its parts: the table of ranges, the file of the bitmap, what is
 * found at the start.  Legs that fail, differ and come back are in test-mirror-legs.c;
 * clients that work meanwhile, and servers that are killed, in tests/hostile.
 */
#include "tests/unit/mirror-test.h"

#include <errno.h>

#include "backends/mirror-bitmap.h"
#include "backends/mirror-ranges.h"

/* ---- ranges ------------------------------------------------------------ */

struct write {
	struct nr_mirror_range range;
	bool held;
};

/* Whoever may go on is found by looking at what it waits for. */
static void test_ranges_are_in_order_where_they_overlap(void **state)
{
	enum { COUNT = 200 };
	static struct write writes[COUNT];
	static struct nr_mirror_ranges ranges;
	static struct nr_layer layer;
	uint64_t seed = layer_seed(5);

	/* Nothing is resumed here that waits for one other alone: it is removed last. */
	memset(&ranges, 0, sizeof(ranges));
	for (unsigned i = 0; i < COUNT; i++) {
		uint64_t length = 1 + layer_random_below(&seed, i % 10 ? 100000 : 8 * MIB);
		unsigned waits = 0;

		writes[i].range.start = layer_random_below(&seed, 100 * MIB);
		writes[i].range.end = writes[i].range.start + length;
		for (unsigned j = 0; j < i; j++)
			waits += writes[j].range.start < writes[i].range.end &&
				 writes[i].range.start < writes[j].range.end;
		writes[i].held = nr_mirror_ranges_add(&ranges, &writes[i].range);
		assert_int_equal(writes[i].held, waits == 0);
		assert_int_equal(writes[i].range.waits, waits);
	}
	assert_int_equal(ranges.count, COUNT);
	/* From the last on, so that none has anybody waiting for it. */
	for (unsigned i = COUNT; i-- > 0;) {
		writes[i].range.waits = 0;
		nr_mirror_ranges_remove(&ranges, &writes[i].range, &layer);
	}
	assert_int_equal(ranges.count, 0);
}

/* ---- the file of the bitmap -------------------------------------------- */

static struct nr_bitmap_header sample_header(void)
{
	return (struct nr_bitmap_header){ .size = UINT64_C(5000) * MIB + 1,
					  .region = MIB,
					  .legs = 2,
					  .name = { nr_bitmap_hash("a"), nr_bitmap_hash("b") },
					  .out = { false, true } };
}

static void make_bitmap(uint8_t data[3 * NR_BITMAP_BLOCK])
{
	struct nr_bitmap_header header = sample_header();
	uint64_t words[NR_BITMAP_WORDS] = { 5 };

	nr_bitmap_put_header(data, &header);
	nr_bitmap_put_bits(data + NR_BITMAP_BLOCK, 1, words);
	words[0] = 0x80;
	nr_bitmap_put_bits(data + 2 * NR_BITMAP_BLOCK, 2, words);
}

static void test_bitmap_says_what_was_put_in(void **state)
{
	struct nr_bitmap_header wanted = sample_header(), header;
	uint8_t data[3 * NR_BITMAP_BLOCK];
	struct nr_error error;
	uint64_t *bits;

	make_bitmap(data);
	assert_int_equal(nr_bitmap_parse(data, sizeof(data), &header, &bits, &error), 0);
	assert_int_equal(header.size, wanted.size);
	assert_int_equal(header.region, MIB);
	assert_int_equal(header.legs, 2);
	assert_int_equal(header.name[1], wanted.name[1]);
	assert_true(!header.out[0] && header.out[1]);
	assert_int_equal(bits[0], 5);
	assert_int_equal(bits[NR_BITMAP_WORDS], 0x80);
	free(bits);
}

static void test_bitmap_with_any_bit_changed_is_refused(void **state)
{
	uint8_t data[3 * NR_BITMAP_BLOCK];
	struct nr_bitmap_header header;
	struct nr_error error;
	uint64_t *bits;

	make_bitmap(data);
	for (size_t bit = 0; bit < sizeof(data) * 8; bit++) {
		data[bit / 8] ^= (uint8_t)(1 << bit % 8);
		assert_true(nr_bitmap_parse(data, sizeof(data), &header, &bits, &error) < 0);
		data[bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
	for (size_t length = 0; length < sizeof(data); length++)
		assert_true(nr_bitmap_parse(data, length, &header, &bits, &error) < 0);
}

static void test_bitmap_of_others_is_refused_and_left_alone(void **state)
{
	static const struct {
		const char *name, *text;
		size_t length;
		uint8_t byte;
	} files[] = {
		{ "foreign", "no bitmap of a mirror", 4096, 'x' },
		{ "short", "no bitmap of a mirror", 100, 0 },
	};
	struct nr_error error;
	uint8_t *before, *after, data[3 * NR_BITMAP_BLOCK];

	for (unsigned i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
		uint64_t size;

		make_file(files[i].name, files[i].length, files[i].byte);
		size = read_file(files[i].name, &before);
		assert_true(layer_test_refused(&options, &error,
					       "mirror leg='memory 2M' leg='memory 2M' bitmap=%s",
					       path(files[i].name)) < 0);
		assert_non_null(strstr(error.text, files[i].text));
		assert_non_null(strstr(error.text, "left as it is"));
		assert_int_equal(read_file(files[i].name, &after), size);
		assert_memory_equal(before, after, size);
		free(before);
		free(after);
	}
	make_bitmap(data);
	write_file("truncated", data, 2 * NR_BITMAP_BLOCK);
	assert_true(layer_test_refused(&options, &error,
				       "mirror leg='memory 2M' leg='memory 2M' bitmap=%s",
				       path("truncated")) < 0);
	assert_non_null(strstr(error.text, "it has 1024 bytes, not 1536"));
	write_file("larger", data, sizeof(data));
	assert_true(layer_test_refused(&options, &error,
				       "mirror leg='memory 2M' leg='memory 2M' bitmap=%s",
				       path("larger")) < 0);
	assert_non_null(strstr(error.text, "mirror of 5242880001 bytes, this one has 2097152"));
}

/* A header of zeroes, and behind it zeroes, a block of bits, or something else. */
static void test_bitmap_that_was_never_finished_is_made_anew(void **state)
{
	uint8_t data[3 * NR_BITMAP_BLOCK], *made;
	struct nr_error error;

	for (unsigned i = 0; i < 4; i++) {
		struct layer_test *t;

		make_bitmap(data);
		memset(data, 0, i < 2 ? sizeof(data) : NR_BITMAP_BLOCK);
		data[NR_BITMAP_BLOCK] ^= i == 3;
		write_file("begun", data, i == 0 ? 0 : sizeof(data));
		if (i == 3) {
			assert_true(layer_test_refused(
					    &options, &error,
					    "mirror leg='memory 2M' leg='memory 2M' bitmap=%s",
					    path("begun")) < 0);
			assert_non_null(strstr(error.text, "left as it is"));
			continue;
		}
		t = layer_test_open(&options, "mirror leg='memory 2M' leg='memory 2M' bitmap=%s",
				    path("begun"));
		layer_test_close(t);
		assert_int_equal(read_file("begun", &made), 2 * NR_BITMAP_BLOCK);
		assert_memory_equal(made, "NBDRMIR1", 8);
		free(made);
	}
}

static void test_bitmap_has_one_user(void **state)
{
	struct nr_error error;
	struct layer_test *t = layer_test_open(
		&options, "mirror leg='memory 2M' leg='memory 2M' bitmap=%s", path("one"));

	assert_int_equal(layer_test_refused(&options, &error,
					    "mirror leg='memory 2M' leg='memory 2M' bitmap=%s",
					    path("one")),
			 -EBUSY);
	assert_non_null(strstr(error.text, "another server"));
	layer_test_close(t);
	t = layer_test_open(&options, "mirror leg='memory 2M' leg='memory 2M' bitmap=%s",
			    path("one"));
	layer_test_close(t);
}

/* ---- requests ---------------------------------------------------------- */

static void test_random_requests(void **state)
{
	static const char *const plans[] = {
		"mirror leg='memory 700k' leg='memory 700k'",
		"mirror leg='--filter=short memory 1M window=50us' leg='memory 1M' "
		"leg='--filter=short memory 1M window=80us'",
		"mirror region=64k leg='memory 400k' leg='--filter=noextents memory 500k'",
		"stripe chunk=4k leg='mirror leg=\"memory 300k\" leg=\"memory 300k\"' "
		"leg='mirror leg=\"memory 300k\" leg=\"memory 300k\"'",
	};

	for (unsigned i = 0; i < sizeof(plans) / sizeof(plans[0]); i++) {
		struct layer_model model = {
			.seed = layer_seed(30 + i),
			.requests = 1500,
			.length_max = 300 * KIB,
			.check_extents = true,
		};
		struct layer_test *t = layer_test_open(&options, "%s", plans[i]);

		layer_model_run(layer_client(t, 0), &model);
		layer_test_close(t);
	}
}

static void test_all_legs_get_what_is_written(void **state)
{
	struct layer_model model = { .seed = layer_seed(40),
				     .requests = 800,
				     .length_max = 300 * KIB };
	struct layer_test *t;

	make_file("a", 2 * MIB, 0);
	make_file("b", 2 * MIB, 0);
	make_file("c", 2 * MIB, 0);
	t = layer_test_open(&options,
			    "mirror leg='file %s' leg='file %s' leg='--filter=short file %s "
			    "window=100us' bitmap=%s assume-same=true",
			    path("a"), path("b"), path("c"), path("map-all"));
	layer_model_run(layer_client(t, 0), &model);
	assert_int_equal(layer_flush(layer_client(t, 0)), 0);
	layer_test_close(t);
	assert_true(same_files("a", "b"));
	assert_true(same_files("a", "c"));
}

/* Sixty writes of the same bytes at once, to legs that finish them in orders of their own. */
static void test_overlapping_writes_reach_all_legs_in_one_order(void **state)
{
	enum { COUNT = 60 };
	struct nr_request *req[COUNT];
	uint64_t seed = layer_seed(50);
	struct layer_test *t;
	struct layer_client *c;

	make_file("a", MIB, 0);
	make_file("b", MIB, 0);
	t = layer_test_open(&options,
			    "mirror leg='--filter=short file %s window=300us seed=1' "
			    "leg='--filter=short file %s window=300us seed=2'",
			    path("a"), path("b"));
	c = layer_client(t, 0);
	for (unsigned round = 0; round < 20; round++) {
		for (unsigned i = 0; i < COUNT; i++) {
			uint64_t length = 512 * (1 + layer_random_below(&seed, 60));
			uint8_t *data = malloc(length);

			assert_non_null(data);
			memset(data, (int)(round * COUNT + i), length);
			req[i] = layer_start(c, NR_WRITE, 0, 512 * layer_random_below(&seed, 100),
					     length, data, NULL);
			free(data);
		}
		for (unsigned i = 0; i < COUNT; i++) {
			assert_int_equal(layer_wait(c, req[i]), 0);
			layer_end(c, req[i]);
		}
	}
	layer_test_close(t);
	assert_true(same_files("a", "b"));
}

/* ---- what is found at the start ---------------------------------------- */

static void test_first_leg_is_copied_when_the_bitmap_is_new(void **state)
{
	struct layer_test *t;
	struct layer_client *c;

	make_file("a", 2 * MIB, 7);
	make_file("b", 2 * MIB, 9);
	(void)unlink(path("map"));
	t = layer_test_open(&options, "mirror leg='file %s' leg='file %s' bitmap=%s status=%s",
			    path("a"), path("b"), path("map"), path("status"));
	c = layer_client(t, 0);
	assert_true(layer_is(c, 0, 2 * MIB, 7));
	wait_for_status(c, "\"leg\": 2", "stale", 0);
	layer_test_close(t);
	assert_true(same_files("a", "b"));
}

static double seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void test_copying_keeps_to_its_rate(void **state)
{
	double began = seconds();
	struct layer_test *t;
	struct layer_client *c;

	make_file("a", 3 * MIB, 7);
	make_file("b", 3 * MIB, 9);
	(void)unlink(path("map"));
	t = layer_test_open(&options,
			    "mirror leg='file %s' leg='file %s' bitmap=%s status=%s resync-rate=2M",
			    path("a"), path("b"), path("map"), path("status"));
	c = layer_client(t, 0);
	/* Clients are not held up by it. */
	assert_true(layer_is(c, 0, 3 * MIB, 7));
	wait_for_status(c, "\"leg\": 2", "stale", 0);
	assert_true(seconds() - began > 1.2);
	layer_test_close(t);
	assert_true(same_files("a", "b"));
}

/* As a crash leaves it: what the bitmap names is made the same, and nothing else. */
static void test_only_what_the_bitmap_names_is_copied(void **state)
{
	struct nr_bitmap_header header = { .size = 8 * MIB, .region = MIB, .legs = 2 };
	struct layer_options read_only = options;
	uint64_t words[NR_BITMAP_WORDS] = { 1u << 2 | 1u << 5 };
	uint8_t data[2 * NR_BITMAP_BLOCK];
	char leg[2][160];
	struct layer_test *t;
	struct layer_client *c;

	read_only.read_only = true;
	make_file("a", 8 * MIB, 7);
	make_file("b", 8 * MIB, 9);
	snprintf(leg[0], sizeof(leg[0]), "file %s", path("a"));
	snprintf(leg[1], sizeof(leg[1]), "file %s", path("b"));
	header.name[0] = nr_bitmap_hash(leg[0]);
	header.name[1] = nr_bitmap_hash(leg[1]);
	/* The first leg has missed them. */
	header.out[0] = true;
	nr_bitmap_put_header(data, &header);
	nr_bitmap_put_bits(data + NR_BITMAP_BLOCK, 1, words);
	write_file("map", data, sizeof(data));
	/* Read-only, it is believed, but nothing is copied. */
	t = layer_test_open(&read_only, "mirror leg='%s' leg='%s' bitmap=%s", leg[0], leg[1],
			    path("map"));
	for (unsigned i = 0; i < 4; i++)
		assert_true(layer_is(layer_client(t, 0), 2 * MIB, MIB, 9));
	layer_test_close(t);
	assert_true(file_is("a", 2 * MIB, MIB, 7));
	t = layer_test_open(&options, "mirror leg='%s' leg='%s' bitmap=%s status=%s", leg[0],
			    leg[1], path("map"), path("status"));
	c = layer_client(t, 0);
	for (unsigned i = 0; i < 4; i++)
		assert_true(layer_is(c, 2 * MIB, MIB, 9));
	wait_for_status(c, "\"leg\": 1", "stale", 0);
	assert_int_equal(status("{", "copied_bytes"), 2 * MIB);
	layer_test_close(t);
	assert_true(file_is("a", 0, 2 * MIB, 7) && file_is("a", 2 * MIB, MIB, 9));
	assert_true(file_is("a", 3 * MIB, 2 * MIB, 7) && file_is("a", 5 * MIB, MIB, 9));
	assert_true(file_is("b", 0, 8 * MIB, 9));
}

/* A leg that the bitmap does not know gets everything, also if the rest is clean. */
static void test_another_leg_gets_everything(void **state)
{
	struct layer_test *t;
	struct layer_client *c;

	make_file("a", 2 * MIB, 7);
	make_file("b", 2 * MIB, 7);
	make_file("c", 2 * MIB, 1);
	(void)unlink(path("map"));
	t = layer_test_open(&options, "mirror leg='file %s' leg='file %s' bitmap=%s assume-same=1",
			    path("a"), path("b"), path("map"));
	layer_test_close(t);
	/* In front, where it would be the one to copy from. */
	t = layer_test_open(&options, "mirror leg='file %s' leg='file %s' bitmap=%s status=%s",
			    path("c"), path("b"), path("map"), path("status"));
	c = layer_client(t, 0);
	assert_true(layer_is(c, 0, 2 * MIB, 7));
	wait_for_status(c, "\"leg\": 1", "stale", 0);
	layer_test_close(t);
	assert_true(same_files("b", "c"));
}

static void test_refusals_say_what(void **state)
{
	static const struct {
		const char *plan, *text;
	} refused[] = {
		{ "mirror leg='memory 1M'", "two legs" },
		{ "mirror min-legs=3 leg='memory 1M' leg='memory 1M'", "min-legs=3" },
		{ "mirror region=100k leg='memory 1M' leg='memory 1M'", "power of two" },
		{ "mirror region=64k leg='null 4E' leg='null 4E'", "too many" },
		{ "mirror leg='memory 1M' leg='pattern 1M'", "leg 2 is read-only" },
		{ "mirror leg='memory 1M' leg='memory 1M' bitmap=/nowhere/map", "/nowhere/map" },
		{ "mirror leg='memory 1M' leg='memory 1M' status=/nowhere/it", "/nowhere/it" },
	};

	for (unsigned i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
		struct nr_error error;

		assert_true(layer_test_refused(&options, &error, "%s", refused[i].plan) < 0);
		if (!strstr(error.text, refused[i].text))
			fail_msg("%s: %s", refused[i].plan, error.text);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ranges_are_in_order_where_they_overlap),
		cmocka_unit_test(test_bitmap_says_what_was_put_in),
		cmocka_unit_test(test_bitmap_with_any_bit_changed_is_refused),
		cmocka_unit_test(test_bitmap_of_others_is_refused_and_left_alone),
		cmocka_unit_test(test_bitmap_that_was_never_finished_is_made_anew),
		cmocka_unit_test(test_bitmap_has_one_user),
		cmocka_unit_test(test_random_requests),
		cmocka_unit_test(test_all_legs_get_what_is_written),
		cmocka_unit_test(test_overlapping_writes_reach_all_legs_in_one_order),
		cmocka_unit_test(test_first_leg_is_copied_when_the_bitmap_is_new),
		cmocka_unit_test(test_copying_keeps_to_its_rate),
		cmocka_unit_test(test_only_what_the_bitmap_names_is_copied),
		cmocka_unit_test(test_another_leg_gets_everything),
		cmocka_unit_test(test_refusals_say_what),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
