/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * evil, ddrescue and checkwrite: what is read is wrong where it should be, what was
 * not rescued fails, and what is written is compared.
 */
#include "layer-test.h"

#include <errno.h>
#include <setjmp.h>
#include <unistd.h>

#include <cmocka.h>

#include "filters/ddrescue-map.h"
#include "filters/filters.h"

#define DISK 1048576u

static uint8_t before[DISK], after[DISK];

/* A disk that is all 0xa5 but for what the filter does. */
static struct layer_test *open_evil(const char *parameters)
{
	struct layer_test *t = layer_test_open(NULL, "evil %s | memory 1M", parameters);

	assert_int_equal(layer_fill(layer_client(t, 0), 0, DISK, 0xa5), 0);
	return t;
}

static unsigned bits_off(const uint8_t *data, size_t length, uint8_t right)
{
	unsigned count = 0;

	for (size_t i = 0; i < length; i++)
		count += (unsigned)__builtin_popcount(data[i] ^ right);
	return count;
}

/* evil. */

static void test_stuck_bits_are_a_property_of_the_disk(void **state)
{
	struct layer_test *t = open_evil("evil-probability=0.001 evil-seed=9");
	struct layer_client *c = layer_client(t, 0);
	uint64_t random = layer_seed(1);
	unsigned wrong;

	assert_int_equal(layer_read(c, 0, DISK, before), 0);
	/* 8388608 bits, one in a thousand stuck, half of them at what they should be. */
	wrong = bits_off(before, DISK, 0xa5);
	assert_in_range(wrong, 3900, 4500);
	/* Wherever a read begins, the same bits are wrong. */
	for (unsigned i = 0; i < 500; i++) {
		uint64_t offset = layer_random_below(&random, DISK - 1);
		uint64_t length = 1 + layer_random_below(&random, DISK - offset) % 20000;

		if (length > DISK - offset)
			length = DISK - offset;
		assert_int_equal(layer_read(c, offset, length, after), 0);
		assert_memory_equal(after, before + offset, length);
	}
	/* And they stay what they are whatever is written. */
	assert_int_equal(layer_fill(c, 0, DISK, 0x5a), 0);
	assert_int_equal(layer_read(c, 0, DISK, after), 0);
	for (unsigned i = 0; i < DISK; i++)
		assert_int_equal((before[i] ^ 0xa5) & (after[i] ^ 0x5a), 0);
	assert_in_range(bits_off(after, DISK, 0x5a), 3900, 4500);
	layer_test_close(t);
	t = open_evil("evil-probability=0.001 evil-seed=9 evil-mode=stuck-bits");
	assert_int_equal(layer_read(layer_client(t, 0), 0, DISK, after), 0);
	assert_memory_equal(before, after, DISK);
	layer_test_close(t);
	t = open_evil("evil-probability=0.001 evil-seed=10");
	assert_int_equal(layer_read(layer_client(t, 0), 0, DISK, after), 0);
	assert_memory_not_equal(before, after, DISK);
	layer_test_close(t);
}

static void test_stuck_wires_are_a_property_of_the_way(void **state)
{
	struct layer_test *t = open_evil("evil=stuck-wires evil-probability=1:1000");
	struct layer_client *c = layer_client(t, 0);

	assert_int_equal(layer_read(c, 0, 8192, before), 0);
	assert_in_range(bits_off(before, 8192, 0xa5), 15, 60);
	for (uint64_t offset = 1; offset < DISK - 8192; offset += 77777) {
		assert_int_equal(layer_read(c, offset, 8192, after), 0);
		assert_memory_equal(after, before, 8192);
	}
	layer_test_close(t);
}

static void test_cosmic_rays_hit_something_else_each_time(void **state)
{
	struct layer_test *t = open_evil("evil=cosmic-rays evil-probability=0.01%");
	struct layer_client *c = layer_client(t, 0);

	assert_int_equal(layer_read(c, 0, DISK, before), 0);
	assert_in_range(bits_off(before, DISK, 0xa5), 700, 980);
	assert_int_equal(layer_read(c, 0, DISK, after), 0);
	assert_in_range(bits_off(after, DISK, 0xa5), 700, 980);
	assert_memory_not_equal(before, after, DISK);
	layer_test_close(t);
	/* The same run again. */
	t = open_evil("evil=cosmic-rays evil-probability=0.01%");
	assert_int_equal(layer_read(layer_client(t, 0), 0, DISK, after), 0);
	assert_memory_equal(before, after, DISK);
	layer_test_close(t);
}

static void test_a_bit_can_be_stuck_now_and_then(void **state)
{
	struct layer_test *t = open_evil("evil-probability=0.001 evil-stuck-probability=0.5");
	struct layer_client *c = layer_client(t, 0);

	assert_int_equal(layer_read(c, 0, DISK, before), 0);
	assert_in_range(bits_off(before, DISK, 0xa5), 1900, 2300);
	assert_int_equal(layer_read(c, 0, DISK, after), 0);
	assert_memory_not_equal(before, after, DISK);
	layer_test_close(t);
}

static void test_the_disk_itself_stays_right(void **state)
{
	struct layer_test *t =
		layer_test_open(NULL, "evil evil=cosmic-rays evil-probability=1 | memory 1M");
	struct layer_client *c = layer_client(t, 0);

	assert_int_equal(layer_fill(c, 0, 65536, 0xa5), 0);
	/* Every bit is flipped, each time from the right one. */
	for (unsigned i = 0; i < 3; i++) {
		assert_true(layer_is(c, 0, 65536, 0x5a));
		assert_true(layer_is(c, 12345, 1, 0x5a));
	}
	/* A hole has no bits. */
	assert_true(layer_is(c, 65536, 65536, 0));
	assert_int_equal(layer_read(c, 65000, 1000, after), 0);
	assert_int_equal(bits_off(after, 536, 0x5a), 0);
	assert_int_equal(bits_off(after + 536, 464, 0), 0);
	layer_test_close(t);
}

static void test_without_bad_bits_it_is_transparent(void **state)
{
	struct layer_test *t = layer_test_open(
		NULL, "evil evil-probability=0 | evil evil-probability=1e-300 | memory 64k");
	struct layer_model model = { .seed = layer_seed(3),
				     .requests = 1000,
				     .check_extents = true };

	layer_model_run(layer_client(t, 0), &model);
	layer_test_close(t);
}

static void test_wrong_parameters_of_evil(void **state)
{
	struct nr_error error;

	layer_test_refused(NULL, &error, "evil evil=bad | memory 1M");
	assert_non_null(strstr(error.text, "cosmic-rays"));
	layer_test_refused(NULL, &error, "evil evil-probability=7 | memory 1M");
	assert_non_null(strstr(error.text, "evil-probability: '7'"));
	layer_test_refused(NULL, &error, "evil evil=cosmic-rays evil-mode=stuck-wires | memory 1M");
	assert_non_null(strstr(error.text, "evil-mode"));
}

/* ddrescue. */

static int parse(const char *text, struct nr_ddrescue_map *map, struct nr_error *error)
{
	/* Exactly the bytes, so that reading beyond them is found. */
	size_t length = strlen(text);
	char *copy = malloc(length ? length : 1);
	int err;

	assert_non_null(copy);
	for (size_t i = 0; i < length; i++)
		copy[i] = text[i]; /* without the NUL, so that a reader past the end is seen */
	memset(error, 0, sizeof(*error));
	err = nr_ddrescue_parse(map, copy, length, error);
	free(copy);
	return err;
}

static void test_a_mapfile(void **state)
{
	struct nr_ddrescue_map map;
	struct nr_error error;
	uint64_t end;

	assert_int_equal(parse("# Mapfile. Created by GNU ddrescue version 1.26\n"
			       "# current_pos  current_status  current_pass\n"
			       "0x00120000     ?               1\n"
			       "#      pos        size  status\r\n"
			       "0x00000000  0x00001000  +\n"
			       "0x00001000  0x00000200  -  # broken\n"
			       "\n"
			       "4608\t512 +\r\n"
			       "012000 0x400 +\n"
			       "0x1800 0x100 *\n"
			       "0x1900 0x100 /\n"
			       "0x1A00 0x7fffffffffffE5ff ?",
			       &map, &error),
			 0);
	assert_int_equal(map.count, 2);
	assert_true(nr_ddrescue_rescued(&map, 0, &end) && end == 4096);
	assert_true(nr_ddrescue_rescued(&map, 4095, &end) && end == 4096);
	assert_true(!nr_ddrescue_rescued(&map, 4096, &end) && end == 4608);
	assert_true(nr_ddrescue_rescued(&map, 4608, &end) && end == 0x1800);
	assert_true(!nr_ddrescue_rescued(&map, 0x1800, &end) && end == UINT64_MAX);
	nr_ddrescue_free(&map);
	/* Nothing rescued at all, as old versions wrote it. */
	assert_int_equal(parse("0 ?\n", &map, &error), 0);
	assert_true(!nr_ddrescue_rescued(&map, 0, &end) && end == UINT64_MAX);
	nr_ddrescue_free(&map);
}

static void test_mapfiles_that_lie_are_refused(void **state)
{
	static const struct {
		const char *text, *line;
	} wrong[] = {
		{ "", "nothing" },
		{ "# only a comment\n", "nothing" },
		{ "\n\n0 ? 1 2\n", "line 3" },
		{ "what is this", "line 1" },
		{ "0 + 1\n0 512\n", "line 2" },
		{ "0 + 1\n0 512 ++\n", "line 2" },
		{ "0 + 1\n0 512 F\n", "line 2" },
		{ "0 + 1\n0 512 + more\n", "line 2" },
		{ "0 + 1\n0 -512 +\n", "line 2" },
		{ "0 + 1\n0 0x +\n", "line 2" },
		{ "0 + 1\n08 1 +\n", "line 2" },
		{ "0 + 1\n0 512 +\n511 1 +\n", "line 3" },
		{ "0 + 1\n512 512 +\n0 512 +\n", "line 3" },
		{ "0 + 1\n0 0x8000000000000000 +\n", "line 2" },
		{ "0 + 1\n0xffffffffffffffff 1 +\n", "line 2" },
		{ "0 + 1\n0 99999999999999999999 +\n", "line 2" },
		{ "0 + 1\n0 512 \x80\n", "line 2" },
	};
	struct nr_ddrescue_map map;
	struct nr_error error;

	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		assert_int_equal(parse(wrong[i].text, &map, &error), -EINVAL);
		assert_non_null(strstr(error.text, wrong[i].line));
		assert_null(map.range);
	}
	assert_int_equal(nr_ddrescue_parse(&map, "0 + 1\n0 1 \0\n", 12, &error), -EINVAL);
	assert_int_equal(nr_ddrescue_parse(&map, "0 + 1\n0 1\0 +\n", 13, &error), -EINVAL);
	assert_int_equal(nr_ddrescue_parse(&map, NULL, 0, &error), -EINVAL);
	/* The end of all, a line that does not end, and lines as other systems end them. */
	assert_int_equal(parse("0 + 1\r\n0 0x7fffffffffffffff +", &map, &error), 0);
	assert_int_equal(map.count, 1);
	assert_int_equal(map.range[0].end, INT64_MAX);
	nr_ddrescue_free(&map);
	assert_int_equal(
		parse("0 + 1\n0x7fffffffffffffff 0 +\n0x7fffffffffffffff 1 +", &map, &error),
		-EINVAL);
	assert_non_null(strstr(error.text, "line 3"));
}

static void test_any_bytes_are_no_danger_to_the_parser(void **state)
{
	static const char letters[] = "0123456789xXaF+-?*/ \t\n\r#G";
	uint64_t random = layer_seed(5);

	for (unsigned i = 0; i < 20000; i++) {
		struct nr_ddrescue_map map;
		struct nr_error error;
		size_t length = layer_random_below(&random, 80);
		char *text = malloc(length + 1);

		assert_non_null(text);
		for (size_t j = 0; j < length; j++)
			text[j] = letters[layer_random_below(&random, sizeof(letters))];
		if (nr_ddrescue_parse(&map, text, length, &error) == 0) {
			for (size_t j = 0; j < map.count; j++) {
				assert_true(map.range[j].start < map.range[j].end);
				assert_true(j == 0 || map.range[j - 1].end < map.range[j].start);
			}
			nr_ddrescue_free(&map);
		}
		free(text);
	}
}

static void write_map(char *path, const char *text)
{
	int fd = mkstemp(path);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	close(fd);
}

static void test_what_was_not_rescued_fails(void **state)
{
	char path[] = "/tmp/nbdring-map-XXXXXX";
	struct layer_test *t;
	struct layer_client *c;

	write_map(path, "0 + 1\n0 65536 +\n65536 512 -\n66048 131072 +\n0x80000 4096 +\n");
	t = layer_test_open(NULL, "ddrescue ddrescue-mapfile=%s | memory 1M", path);
	unlink(path);
	c = layer_client(t, 0);
	assert_true(layer_test_traits(t)->read_only);
	assert_int_equal(layer_read(c, 0, 65536, before), 0);
	assert_int_equal(layer_read(c, 0, 65537, before), -EIO);
	assert_int_equal(layer_read(c, 65536, 1, before), -EIO);
	assert_int_equal(layer_read(c, 66047, 2, before), -EIO);
	assert_int_equal(layer_read(c, 66048, 131072, before), 0);
	assert_int_equal(layer_cache(c, 66048, 131072), 0);
	assert_int_equal(layer_cache(c, 66048, 131073), -EIO);
	assert_int_equal(layer_read(c, DISK - 1, 1, before), -EIO);
	assert_int_equal(layer_write(c, 0, 1, "x", 0), -EROFS);
	/* The map sends readers to where it fails. */
	assert_string_equal(layer_map(c, 0, DISK),
			    "65536:hole,zero 512:data 131072:hole,zero 327168:data 4096:hole,zero "
			    "520192:data");
	assert_string_equal(layer_map(c, 65537, 10), "10:data");
	layer_test_close(t);
}

static void test_a_map_of_another_disk_is_refused(void **state)
{
	char path[] = "/tmp/nbdring-map-XXXXXX";
	struct nr_error error;

	write_map(path, "0 + 1\n0 65536 +\n");
	assert_int_equal(layer_test_refused(NULL, &error,
					    "ddrescue ddrescue-mapfile=%s | memory 65535", path),
			 -EINVAL);
	assert_non_null(strstr(error.text, "another disk"));
	unlink(path);
	assert_int_equal(
		layer_test_refused(NULL, &error, "ddrescue ddrescue-mapfile=%s | memory 1M", path),
		-ENOENT);
	layer_test_refused(NULL, &error, "ddrescue ddrescue-mapfile=/ | memory 1M");
	layer_test_refused(NULL, &error, "ddrescue | memory 1M");
	assert_non_null(strstr(error.text, "ddrescue-mapfile"));
}

/* checkwrite: over the backend pattern, whose content is known. */

static void test_only_what_is_there_can_be_written(void **state)
{
	const struct layer_options pieces = { .segment_bytes = 700 };
	struct layer_test *t = layer_test_open(&pieces, "checkwrite | pattern 1M");
	struct layer_client *c = layer_client(t, 0);
	uint64_t random = layer_seed(6);

	assert_false(layer_test_traits(t)->read_only);
	assert_int_equal(layer_read(c, 0, DISK, before), 0);
	for (unsigned i = 0; i < 300; i++) {
		uint64_t offset = layer_random_below(&random, DISK - 1);
		uint64_t length = 1 + layer_random_below(&random, DISK - offset) % 9000;

		if (length > DISK - offset)
			length = DISK - offset;
		assert_int_equal(layer_write(c, offset, length, before + offset, NR_FUA), 0);
		memcpy(after, before + offset, length);
		after[layer_random_below(&random, length)] ^= 1;
		assert_int_equal(layer_write(c, offset, length, after, 0), -EIO);
	}
	assert_int_equal(layer_zero(c, 8, 8, 0), -EIO);
	assert_int_equal(layer_trim(c, 0, DISK, 0), -EIO);
	assert_int_equal(layer_flush(c), 0);
	assert_int_equal(layer_read(c, 0, DISK, after), 0);
	assert_memory_equal(before, after, DISK);
	layer_test_close(t);
}

static void test_zeroes_are_found_without_reading(void **state)
{
	struct layer_test *t = layer_test_open(NULL, "checkwrite | memory 9223372036854775807");
	struct layer_client *c = layer_client(t, 0);
	uint8_t *zeroes = calloc(1, 65536);

	assert_non_null(zeroes);
	assert_int_equal(layer_trim(c, 0, INT64_MAX, 0), 0);
	assert_int_equal(layer_zero(c, 1, INT64_MAX - 1, NR_NO_HOLE), 0);
	assert_int_equal(layer_write(c, 12345, 65536, zeroes, 0), 0);
	assert_int_equal(layer_fill(c, 12345, 10, 1), -EIO);
	free(zeroes);
	layer_test_close(t);
}

static int blocks_describe(struct nr_layer *layer, struct nr_traits *t, struct nr_error *error)
{
	t->block_min = 4096;
	t->block_max = 8192;
	return 0;
}

static void pass(struct nr_layer *layer, struct nr_request *req)
{
	nr_pass(layer, req);
}

/* A map as fine as nobody needs: 1000 bytes zero, 1000 data, and so on. */
static void blocks_submit(struct nr_layer *layer, struct nr_request *req)
{
	uint64_t at = req->offset;

	if (req->operation != NR_EXTENTS) {
		pass(layer, req);
		return;
	}
	while (nr_extents_add(req->extents, 1000 - at % 1000,
			      at / 1000 % 2 ? 0 : NR_EXTENT_ZERO | NR_EXTENT_HOLE))
		at += 1000 - at % 1000;
	nr_finish(layer, req, 0);
}

static const struct nr_layer_type blocks = {
	.abi = NR_LAYER_ABI,
	.name = "blocks",
	.summary = "blocks of 4096 bytes and a map of fragments",
	.kind = NR_FILTER,
	.describe = blocks_describe,
	.submit = blocks_submit,
};

static void test_a_map_finer_than_blocks(void **state)
{
	static const struct nr_layer_type *const types[] = { &blocks, NULL };
	const struct layer_options options = { .types = types };
	struct layer_test *t = layer_test_open(&options, "checkwrite | blocks | memory 1M");
	struct layer_client *c = layer_client(t, 0);

	assert_int_equal(layer_zero(c, 0, DISK, 0), 0);
	assert_int_equal(layer_trim(c, 8192, 40960, 0), 0);
	layer_test_close(t);
	/* No map at all. */
	t = layer_test_open(NULL, "checkwrite | pattern 4096");
	assert_int_equal(layer_zero(layer_client(t, 0), 0, 4096, 0), -EIO);
	layer_test_close(t);
}

static void test_checkwrite_twice(void **state)
{
	struct layer_test *t = layer_test_open(NULL, "checkwrite | checkwrite | memory 64k");
	struct layer_client *c = layer_client(t, 0);

	assert_int_equal(layer_fill(c, 0, 65536, 0), 0);
	assert_int_equal(layer_fill(c, 0, 1, 1), -EIO);
	assert_int_equal(layer_zero(c, 0, 65536, 0), 0);
	layer_test_close(t);
}

static void test_a_failing_disk_shows_through_checkwrite(void **state)
{
	struct layer_test *t =
		layer_test_open(NULL, "checkwrite | error error=ENOMEM error-rate=1 | memory 64k");
	struct layer_client *c = layer_client(t, 0);

	assert_int_equal(layer_fill(c, 0, 10, 0), -ENOMEM);
	assert_int_equal(layer_zero(c, 0, 10, 0), -ENOMEM);
	layer_test_close(t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_stuck_bits_are_a_property_of_the_disk),
		cmocka_unit_test(test_stuck_wires_are_a_property_of_the_way),
		cmocka_unit_test(test_cosmic_rays_hit_something_else_each_time),
		cmocka_unit_test(test_a_bit_can_be_stuck_now_and_then),
		cmocka_unit_test(test_the_disk_itself_stays_right),
		cmocka_unit_test(test_without_bad_bits_it_is_transparent),
		cmocka_unit_test(test_wrong_parameters_of_evil),
		cmocka_unit_test(test_a_mapfile),
		cmocka_unit_test(test_mapfiles_that_lie_are_refused),
		cmocka_unit_test(test_any_bytes_are_no_danger_to_the_parser),
		cmocka_unit_test(test_what_was_not_rescued_fails),
		cmocka_unit_test(test_a_map_of_another_disk_is_refused),
		cmocka_unit_test(test_only_what_is_there_can_be_written),
		cmocka_unit_test(test_zeroes_are_found_without_reading),
		cmocka_unit_test(test_a_map_finer_than_blocks),
		cmocka_unit_test(test_checkwrite_twice),
		cmocka_unit_test(test_a_failing_disk_shows_through_checkwrite),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
