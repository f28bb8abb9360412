/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The masking filters that know places of the disk: `protect` and `extentlist`.
 */
#include "tests/unit/masking-test.h"

#include <errno.h>
#include <setjmp.h>
#include <unistd.h>

#include <cmocka.h>

#include "filters/extentlist-parse.h"

static char list_file[64];

static int set_up(void **state)
{
	int fd;

	snprintf(list_file, sizeof(list_file), "test-extentlist-XXXXXX");
	fd = mkstemp(list_file);
	return fd >= 0 ? close(fd) : -1;
}

static int tear_down(void **state)
{
	return unlink(list_file);
}

/* protect */

static struct layer_test *protected_disk(const char *parameters, const char *below)
{
	struct layer_test *t =
		layer_test_open(&masking_options, "protect %s | %s | memory 1M", parameters, below);

	forget_seen();
	return t;
}

static void test_protect_keeps_both_ends_and_nothing_else(void **state)
{
	struct layer_test *t = protected_disk("protect=1000-1999", "tally");
	struct layer_client *c = layer_client(t, 0);

	assert_int_equal(layer_fill(c, 999, 1, 1), 0);
	assert_int_equal(layer_fill(c, 1000, 1, 1), -EPERM);
	assert_int_equal(layer_fill(c, 1999, 1, 1), -EPERM);
	assert_int_equal(layer_fill(c, 2000, 1, 1), 0);
	assert_int_equal(layer_fill(c, 0, 65536, 1), -EPERM); /* and nothing of it is written */
	assert_true(layer_is(c, 0, 999, 0));
	assert_true(layer_is(c, 1000, 1000, 0));
	assert_int_equal(layer_trim(c, 0, 1001, 0), -EPERM);
	assert_int_equal(layer_trim(c, 2000, 1000, 0), 0);
	assert_int_equal(support_of(t, NR_CAP_RESIZE), NR_NONE);
	layer_test_close(t);
}

static void test_protect_lets_through_what_changes_nothing(void **state)
{
	struct layer_test *t = protected_disk("protect=1000-1999 protect=5000-", "tally");
	struct layer_client *c = layer_client(t, 0);
	uint8_t data[8192] = { 0 };

	memset(data, 7, 1000);
	memset(data + 2000, 8, 3000);
	assert_int_equal(layer_write(c, 0, sizeof(data), data, 0), 0);
	assert_true(layer_is(c, 0, 1000, 7));
	assert_true(layer_is(c, 2000, 3000, 8));
	data[1999] = 1;
	assert_int_equal(layer_write(c, 0, sizeof(data), data, 0), -EPERM);
	data[1999] = 0;
	data[8191] = 1;
	assert_int_equal(layer_write(c, 0, sizeof(data), data, 0), -EPERM);
	assert_int_equal(layer_zero(c, 900, 9000, 0), 0);
	assert_int_equal(layer_zero(c, 900, 9000, NR_FAST_ZERO), -ENOTSUP);
	assert_true(layer_is(c, 900, 9000, 0));
	layer_test_close(t);
}

static void test_protect_inverted_leaves_only_the_range(void **state)
{
	struct layer_test *t = protected_disk("protect=~1000-1999", "tally");
	struct layer_client *c = layer_client(t, 0);

	assert_int_equal(layer_fill(c, 1000, 1000, 1), 0);
	assert_int_equal(layer_fill(c, 999, 1, 1), -EPERM);
	assert_int_equal(layer_fill(c, 2000, 1, 1), -EPERM);
	assert_int_equal(layer_fill(c, 1048575, 1, 1), -EPERM);
	assert_int_equal(layer_zero(c, 0, 1048576, 0), 0);
	layer_test_close(t);
	t = protected_disk("protect=~-", "tally");
	assert_int_equal(layer_fill(layer_client(t, 0), 0, 1048576, 1), 0);
	layer_test_close(t);
}

static void test_protect_reads_the_protected_blocks_only(void **state)
{
	struct layer_test *t = protected_disk(
		"protect=1000-1001 protect=1023-40000 protect=0x186a0-0303241", "blocks");
	struct layer_client *c = layer_client(t, 0);

	assert_int_equal(layer_fill(c, 65536, 512, 1), 0);
	assert_int_equal(seen.count[NR_READ], 0);
	/* 512; 512 to 40448 in pieces of 8192; the block of byte 100000, which is not 0. */
	assert_int_equal(layer_zero(c, 0, 524288, 0), 0);
	assert_int_equal(seen.count[NR_READ], 1 + 5 + 1);
	assert_true(layer_is(c, 65536, 512, 0));
	layer_test_close(t);
}

static void test_protect_numbers_overlaps_and_two_of_them(void **state)
{
	struct layer_test *t = layer_test_open(
		&masking_options,
		"protect protect=0x10-020 | protect protect=-7 protect=4-9 protect=~-99 | "
		"memory 200");
	struct layer_client *c = layer_client(t, 0);

	for (unsigned i = 0; i < 200; i++) {
		bool protected = i <= 9 || i == 16 || i >= 100;

		assert_int_equal(layer_fill(c, i, 1, 1), protected ? -EPERM : 0);
	}
	layer_test_close(t);
}

static void protect_refused(const char *value, const char *expected)
{
	struct nr_error error;

	layer_test_refused(NULL, &error, "protect protect=%s | memory 1M", value);
	assert_non_null(strstr(error.text, expected));
	assert_non_null(strstr(error.text, value));
}

static void test_protect_refuses_what_is_no_range(void **state)
{
	static const char *const wrong[] = { "",     "1",     "~",    "x-1",  "1-y",
					     "1--2", "1-2-3", "-1-2", "0x-1", "1-0xfg",
					     "+1-2", "09-1",  "1-2K" };
	struct nr_error error;

	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		protect_refused(wrong[i], "is not a range; write START-END");
	protect_refused("0-9223372036854775808", "is not a range");
	protect_refused("0-99999999999999999999999", "is not a range");
	protect_refused("20-10", "ends before it starts; write 10-20");
	layer_test_refused(NULL, &error, "protect | memory 1M");
	assert_non_null(strstr(error.text, "protect is missing"));
}

static void test_protect_away_from_ranges_changes_nothing(void **state)
{
	is_transparent("protect protect=2097152- | memory 1M");
}

/* extentlist */

static struct layer_test *listed_disk(const char *text, const char *below)
{
	FILE *file = fopen(list_file, "w");

	assert_non_null(file);
	assert_true(fputs(text, file) >= 0);
	assert_int_equal(fclose(file), 0);
	return below ? layer_test_open(&masking_options, "extentlist extentlist=%s | %s", list_file,
				       below)
		     : NULL;
}

static void test_extentlist_answers_with_holes_in_the_gaps(void **state)
{
	struct layer_test *t = listed_disk("# a map\n"
					   "512K 64K zero\n"
					   "\n"
					   "0 1K\n"
					   "1K 1K 0 # the same\n"
					   "4K 4096b hole\r\n"
					   "16s 1s hole,zero\n"
					   "1024K 0",
					   "tally | memory 1M");
	struct layer_client *c = layer_client(t, 0);

	assert_string_equal(layer_map(c, 0, 1048576),
			    "2048:data 2048:hole,zero 4096:hole 516096:hole,zero 65536:zero "
			    "458752:hole,zero");
	assert_string_equal(layer_map(c, 1, 1), "1:data");
	assert_string_equal(layer_map(c, 1000, 100), "100:data");
	assert_string_equal(layer_map(c, 2047, 2), "1:data 1:hole,zero");
	assert_string_equal(layer_map(c, 1048575, 1), "1:hole,zero");
	assert_int_equal(seen.count[NR_EXTENTS], 0);
	layer_test_close(t);
}

static void test_extentlist_with_little_room_and_one_extent(void **state)
{
	struct layer_test *t = listed_disk("0 1\n2 1\n4 1\n", "memory 10");
	struct layer_client *c = layer_client(t, 0);
	struct nr_extent extent[2];
	struct nr_extents list = { .extent = extent, .capacity = 2 };

	assert_int_equal(layer_extents(c, 0, 10, 0, &list), 0);
	assert_int_equal(list.count, 2);
	assert_int_equal(list.next, 2);
	list.capacity = 1;
	assert_int_equal(layer_extents(c, 3, 7, NR_REQ_ONE, &list), 0);
	assert_int_equal(list.next, 4);
	layer_test_close(t);
}

static void test_extentlist_empty_is_one_hole(void **state)
{
	struct layer_test *t = listed_disk("", "bare | memory 1M");

	assert_string_equal(layer_map(layer_client(t, 0), 0, 1048576), "1048576:hole,zero");
	layer_test_close(t);
}

static void test_extentlist_changes_no_data(void **state)
{
	char plan[200];

	listed_disk("0 1K\n1M 0\n", NULL);
	snprintf(plan, sizeof(plan),
		 "extentlist extentlist=%s | extentlist extentlist=%s | "
		 "memory 1M",
		 list_file, list_file);
	is_transparent(plan);
}

static void list_refused(const char *text, const char *expected)
{
	struct nr_error error;

	listed_disk(text, NULL);
	layer_test_refused(&masking_options, &error,
			   "extentlist extentlist=%s | blocks | memory 1M", list_file);
	if (!strstr(error.text, expected))
		fprintf(stderr, "%s\n", error.text);
	assert_non_null(strstr(error.text, expected));
	assert_non_null(strstr(error.text, list_file));
}

static void test_extentlist_refuses_lies(void **state)
{
	struct nr_error error;

	list_refused("0 512\n\n512 1024\n1024 512\n", "the extents of lines 3 and 4 overlap");
	list_refused("1024 512\n0 1M\n", "the extents of lines 1 and 2 overlap");
	list_refused("0 512\n0 512\n", "overlap");
	list_refused("512K 513K", "line 1 ends at 1049600, beyond the end of the disk at 1048576");
	list_refused("0 100", "line 1 is not made of the 512-byte blocks below");
	list_refused("0", "line 1 has one word only");
	list_refused("\n0 1 2 3", "line 2 has too many words");
	list_refused("x 1", "the offset 'x' is no number");
	list_refused("1 -1", "the length '-1' is no number");
	list_refused("1 1KK", "the length '1KK'");
	list_refused("8E 1", "the offset '8E'");
	list_refused("18446744073709551617 1", "the offset '18446744073709551617'");
	list_refused("0 1 holes", "the type 'holes' is unknown");
	list_refused("0 1 4", "the type '4'");
	list_refused("0 1 hole,", "the type 'hole,'");
	list_refused("0 1 \x01\xff", "the type '\?\?'");
	list_refused("7E 2E", "ends beyond 2^63-1");
	assert_int_equal(layer_test_refused(NULL, &error,
					    "extentlist extentlist=/does/not/exist | memory 1M"),
			 -ENOENT);
	layer_test_refused(NULL, &error, "extentlist extentlist=/ | memory 1M");
	layer_test_refused(NULL, &error, "extentlist extentlist=/dev/zero | memory 1M");
}

static void test_extentlist_parser_takes_any_bytes(void **state)
{
	static const char bytes[] = "0 1\0\n5 1 hole\n";
	struct nr_extentlist list;
	struct nr_error error;

	assert_int_equal(nr_extentlist_parse(&list, bytes, sizeof(bytes) - 1, &error), -EINVAL);
	assert_null(list.extent);
	assert_int_equal(nr_extentlist_parse(&list, NULL, 0, &error), 0);
	assert_int_equal(list.count, 0);
	assert_int_equal(nr_extentlist_parse(&list, "7 1", 2, &error), -EINVAL);
	nr_extentlist_free(&list);
	/* The end of all, a line that does not end, and lines as other systems end them. */
	assert_int_equal(nr_extentlist_parse(&list, "0 9223372036854775807", 21, &error), 0);
	assert_int_equal(list.count, 1);
	nr_extentlist_free(&list);
	assert_int_equal(nr_extentlist_parse(&list, "9223372036854775807 0\r\n1 1\r\n", 28, &error),
			 0);
	assert_int_equal(list.count, 1);
	nr_extentlist_free(&list);
	assert_int_equal(nr_extentlist_parse(&list, "9223372036854775807 1", 21, &error), -EINVAL);
	assert_int_equal(nr_extentlist_parse(&list, "9223372036854775806 1\n0 9223372036854775807",
					     43, &error),
			 -EINVAL);
	assert_non_null(strstr(error.text, "lines 1 and 2 overlap"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_protect_keeps_both_ends_and_nothing_else),
		cmocka_unit_test(test_protect_lets_through_what_changes_nothing),
		cmocka_unit_test(test_protect_inverted_leaves_only_the_range),
		cmocka_unit_test(test_protect_reads_the_protected_blocks_only),
		cmocka_unit_test(test_protect_numbers_overlaps_and_two_of_them),
		cmocka_unit_test(test_protect_refuses_what_is_no_range),
		cmocka_unit_test(test_protect_away_from_ranges_changes_nothing),
		cmocka_unit_test(test_extentlist_answers_with_holes_in_the_gaps),
		cmocka_unit_test(test_extentlist_with_little_room_and_one_extent),
		cmocka_unit_test(test_extentlist_empty_is_one_hole),
		cmocka_unit_test(test_extentlist_changes_no_data),
		cmocka_unit_test(test_extentlist_refuses_lies),
		cmocka_unit_test(test_extentlist_parser_takes_any_bytes),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
