/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The filter `map`: bytes are where the ranges say, requests across ranges arrive whole
 * and in order, and tables that do not add up are refused.
 */
#include "layer-test.h"

#include <errno.h>
#include <setjmp.h>
#include <unistd.h>

#include <cmocka.h>

#include "filters/filters.h"
#include "filters/map-table.h"

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

/* Fails what touches byte 5000; everything else ends a turn later. */
static void moody_submit(struct nr_layer *layer, struct nr_request *req)
{
	nr_resume(layer, req);
}

static void moody_resume(struct nr_layer *layer, struct nr_request *req)
{
	if (req->operation != NR_FLUSH && req->offset <= 5000 && 5000 - req->offset < req->length)
		nr_finish(layer, req, -EIO);
	else
		nr_pass(layer, req);
}

static const struct nr_layer_type moody = {
	.abi = NR_LAYER_ABI,
	.name = "moody",
	.summary = "fails at byte 5000",
	.kind = NR_FILTER,
	.submit = moody_submit,
	.resume = moody_resume,
};

static const struct nr_layer_type *const types[] = { &strict, &moody, NULL };
static const struct layer_options with_types = { .types = types };

static void expect_words(struct layer_client *c, uint64_t offset, unsigned count,
			 const uint64_t *words)
{
	uint8_t data[64];

	assert_int_equal(layer_read(c, offset, count * 8, data), 0);
	for (unsigned i = 0; i < count; i++) {
		uint64_t word = 0;

		for (unsigned j = 0; j < 8; j++)
			word = word << 8 | data[i * 8 + j];
		assert_int_equal(word, words[i]);
	}
}

static void test_sectors_change_places(void **state)
{
	struct layer_test *t = layer_test_open(NULL, "map map=0-511:512 map=1s+1s:0 | pattern 1M");
	struct layer_client *c = layer_client(t, 0);

	assert_int_equal(layer_test_size(t), 1048576);
	expect_words(c, 0, 1, (uint64_t[]){ 512 });
	expect_words(c, 504, 2, (uint64_t[]){ 1016, 0 });
	expect_words(c, 1016, 2, (uint64_t[]){ 504, 1024 });
	layer_test_close(t);
}

static void test_pieces_of_a_large_disk(void **state)
{
	struct layer_test *t = layer_test_open(
		NULL, "map map-size=24 map=16+8:1T map=0+8:4E map=8+8:0 | pattern 8191P");
	struct layer_client *c = layer_client(t, 0);

	assert_int_equal(layer_test_size(t), 24);
	expect_words(c, 0, 3, (uint64_t[]){ UINT64_C(4) << 60, 0, UINT64_C(1) << 40 });
	layer_test_close(t);
}

/* A map-file that exchanges COUNT blocks of BYTES for each other in reverse order. */
static void write_reverse(char path[32], unsigned count, unsigned bytes)
{
	FILE *file;
	int fd;

	snprintf(path, 32, "/tmp/nbdring.XXXXXX");
	fd = mkstemp(path);
	LAYER_CHECK(fd >= 0);
	file = fdopen(fd, "w");
	LAYER_CHECK(file);
	fprintf(file, "# reverse\n\n");
	for (unsigned i = 0; i < count; i++)
		fprintf(file, "  %u+%u:%u # block %u\n", i * bytes, bytes, (count - 1 - i) * bytes,
			i);
	LAYER_CHECK(fclose(file) == 0);
}

static void test_many_ranges_in_one_request(void **state)
{
	struct layer_test *t;
	struct layer_client *c;
	struct nr_request *req;
	uint8_t data[8192], back[8192];
	char path[32];

	write_reverse(path, 128, 64);
	t = layer_test_open(NULL, "map map-file=%s | map map-file=%s | memory 8k", path, path);
	unlink(path);
	c = layer_client(t, 0);
	for (unsigned i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)(i / 64);
	assert_int_equal(layer_write(c, 0, sizeof(data), data, NR_FUA), 0);
	assert_int_equal(layer_read(c, 0, sizeof(back), back), 0);
	assert_memory_equal(data, back, sizeof(data));
	assert_int_equal(layer_cache(c, 0, 8192), 0);
	assert_int_equal(layer_zero(c, 100, 8000, NR_FUA), 0);
	assert_true(layer_is(c, 100, 8000, 0));
	assert_true(layer_is(c, 8128, 64, 127));
	assert_int_equal(layer_trim(c, 0, 8192, 0), 0);
	assert_int_equal(layer_flush(c), 0);
	assert_string_equal(layer_map(c, 100, 8000), "8000:hole,zero");
	req = layer_start(c, NR_READ, 0, 1, 8190, NULL, NULL);
	assert_int_equal(layer_wait(c, req), 0);
	layer_end(c, req);
	layer_test_close(t);
}

static void test_more_ranges_in_one_read_than_an_answer_has_segments(void **state)
{
	enum { COUNT = 2 * NR_SEGMENTS_MAX + 1, BYTES = 8 };
	struct layer_test *t;
	struct layer_client *c;
	uint8_t data[COUNT * BYTES], back[COUNT * BYTES];
	char path[32];

	write_reverse(path, COUNT, BYTES);
	t = layer_test_open(NULL, "map map-file=%s | memory %u", path, COUNT * BYTES);
	unlink(path);
	c = layer_client(t, 0);
	for (unsigned i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)(i * 7 / 5);
	assert_int_equal(layer_write(c, 0, sizeof(data), data, 0), 0);
	assert_int_equal(layer_read(c, 0, sizeof(back), back), 0);
	assert_memory_equal(data, back, sizeof(data));
	layer_test_close(t);
}

static void test_the_map_of_holes_moves_too(void **state)
{
	struct layer_test *t =
		layer_test_open(NULL, "map map=0+64k:64k map=64k+64k:0 | memory 192k");
	struct layer_client *c = layer_client(t, 0);

	assert_int_equal(layer_fill(c, 0, 65536, 1), 0);
	assert_string_equal(layer_map(c, 1000, 100000), "64536:data 35464:hole,zero");
	layer_test_close(t);
}

static void test_a_fast_zero_over_several_ranges_changes_nothing(void **state)
{
	/* The inner map refuses what goes over the end of one of its ranges. */
	struct layer_test *t = layer_test_open(NULL, "map map=0+4k:4k map=4k+4k:0 | "
						     "map map=0+2k:2k map=2k+2k:0 | memory 16k");
	struct layer_client *c = layer_client(t, 0);

	assert_int_equal(layer_fill(c, 0, 16384, 1), 0);
	assert_int_equal(layer_zero(c, 0, 8192, NR_FAST_ZERO), -ENOTSUP);
	assert_int_equal(layer_zero(c, 4096, 4096, NR_FAST_ZERO), -ENOTSUP);
	assert_true(layer_is(c, 0, 16384, 1));
	assert_int_equal(layer_zero(c, 0, 4096, NR_FAST_ZERO), 0);
	assert_true(layer_is(c, 0, 4096, 0));
	assert_true(layer_is(c, 4096, 12288, 1));
	layer_test_close(t);
}

static void test_an_error_in_one_part_is_an_error(void **state)
{
	struct layer_test *t =
		layer_test_open(&with_types, "map map=0+4k:4k map=4k+4k:0 | moody | memory 16k");
	struct layer_client *c = layer_client(t, 0);
	uint8_t data[8192];

	assert_int_equal(layer_read(c, 0, 8192, data), -EIO);
	assert_int_equal(layer_fill(c, 0, 8192, 1), -EIO);
	assert_int_equal(layer_trim(c, 900, 8000, 0), -EIO);
	assert_int_equal(layer_read(c, 1000, 8192, data), 0);
	layer_test_close(t);
}

static void test_few_requests_are_enough(void **state)
{
	struct layer_options options = { .slots_max = 2 };
	struct layer_test *t;
	struct layer_client *c;
	uint8_t data[1024];
	char path[32];

	/* One child at a time is left, then none. */
	write_reverse(path, 16, 64);
	t = layer_test_open(&options, "map map-file=%s | memory 1k", path);
	c = layer_client(t, 0);
	assert_int_equal(layer_fill(c, 0, 1024, 3), 0);
	assert_true(layer_is(c, 0, 1024, 3));
	layer_test_close(t);
	options.slots_max = 1;
	t = layer_test_open(&options, "map map-file=%s | memory 1k", path);
	c = layer_client(t, 0);
	assert_int_equal(layer_read(c, 0, 1024, data), -ENOMEM);
	assert_int_equal(layer_read(c, 0, 64, data), 0);
	layer_test_close(t);
	unlink(path);
}

static void expect_refused(const char *settings, const char *word)
{
	struct nr_error error;

	layer_test_refused(&with_types, &error, "map %s | memory 1M", settings);
	if (!strstr(error.text, word))
		fail_msg("'%s' is not in: %s", word, error.text);
}

static void test_maps_that_do_not_add_up(void **state)
{
	expect_refused("map=0-511:0 map=511-600:0", "overlap");
	expect_refused("map=1M+1:0", "map-size=1048577");
	expect_refused("map=0+2:1048575", "beyond the end of the disk below");
	expect_refused("map-size=2M", "byte 1048576 leads nowhere");
	expect_refused("map-size=2M map=1M+1k:0", "byte 1049600 leads nowhere");
	expect_refused("map-size=3M map=2M+1M:0", "byte 1048576 leads nowhere");
	expect_refused("map-file=/nonexistent", "/nonexistent");
	expect_refused("map-file=/", "/");
	expect_refused("map=10+512:0 | strict", "512-byte blocks");
	expect_refused("map-size=1000 | strict", "map-size=512");
}

static void test_texts_that_are_no_range(void **state)
{
	static const char *const wrong[] = {
		"",
		":",
		"1-2",
		"1-2:",
		"1-2:x",
		"-2:3",
		"2-1:3",
		"1+0:3",
		"1-2:3x",
		"1--2:3",
		"1-2:3:4",
		"1 -2:3",
		"0x1-2:3",
		"1.5K-2K:3",
		"1-2:-3",
		"+1+2:3",
		"1KK+2:3",
		"9223372036854775807+1:0",
		"0+9223372036854775808:0",
		"0+1:9223372036854775807",
		"0-9223372036854775807:0",
		"99999999999999999999+1:0",
		"16E+1:0",
		"8E+1:0",
		"0+1:8E",
		"1+9223372036854775807:0",
		"0+1:1\x80",
		"\xff",
	};
	static const char nul[] = "0+1:1\0";
	struct nr_map_table table = { 0 };
	struct nr_error error;

	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		if (!nr_map_table_add(&table, wrong[i], strlen(wrong[i]), &error))
			fail_msg("'%s' was taken", wrong[i]);
	assert_int_equal(nr_map_table_add(&table, nul, sizeof(nul) - 1, &error), -EINVAL);
	assert_int_equal(nr_map_table_add(&table, NULL, 0, &error), -EINVAL);
	assert_int_equal(nr_map_table_add_lines(&table, NULL, 0, &error), 0);
	assert_int_equal(table.count, 0);
	assert_int_equal(nr_map_table_add(&table, "0-9223372036854775806:0", 23, &error), 0);
	assert_int_equal(nr_map_table_add_lines(&table, "1-2:3\n#\n\n 4-x\n", 15, &error), -EINVAL);
	assert_int_equal(strncmp(error.text, "line 4: '4-x'", 13), 0);
	/* All of 2^63-1 bytes, and once more at its last byte. */
	assert_int_equal(nr_map_table_add(&table, "9223372036854775806+1:0", 23, &error), 0);
	assert_int_equal(nr_map_table_sort(&table, &error), -EINVAL);
	nr_map_table_free(&table);
	/* Lines as other systems end them, and one that does not end. */
	assert_int_equal(nr_map_table_add_lines(&table, "0+1:1\r\n\f\n1+1:0", 14, &error), 0);
	assert_int_equal(table.count, 2);
	assert_int_equal(nr_map_table_sort(&table, &error), 0);
	assert_int_equal(nr_map_table_check(&table, 2, 2, 1, &error), 0);
	assert_int_equal(nr_map_table_check(&table, 2, 1, 1, &error), -EINVAL);
	assert_int_equal(nr_map_table_check(&table, 2, 2, 2, &error), -EINVAL);
	assert_int_equal(nr_map_table_check(&table, 1, 2, 1, &error), -EINVAL);
	nr_map_table_free(&table);
}

static void test_random_requests_match_plain_memory(void **state)
{
	struct layer_test *t;
	char path[32];
	const struct layer_model model = { .seed = layer_seed(304),
					   .requests = 3000,
					   .check_extents = true };

	write_reverse(path, 100, 3001);
	t = layer_test_open(
		NULL, "map map-file=%s | map map=0+7:90000 map=90000+7:0 | memory 310000", path);
	unlink(path);
	layer_model_run(layer_client(t, 0), &model);
	layer_test_close(t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sectors_change_places),
		cmocka_unit_test(test_pieces_of_a_large_disk),
		cmocka_unit_test(test_many_ranges_in_one_request),
		cmocka_unit_test(test_more_ranges_in_one_read_than_an_answer_has_segments),
		cmocka_unit_test(test_the_map_of_holes_moves_too),
		cmocka_unit_test(test_a_fast_zero_over_several_ranges_changes_nothing),
		cmocka_unit_test(test_an_error_in_one_part_is_an_error),
		cmocka_unit_test(test_few_requests_are_enough),
		cmocka_unit_test(test_maps_that_do_not_add_up),
		cmocka_unit_test(test_texts_that_are_no_range),
		cmocka_unit_test(test_random_requests_match_plain_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
