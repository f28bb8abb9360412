/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The backend `mirror` with legs that fail, differ, come back, and are not there at the
 * start.
 */
#include "tests/unit/mirror-test.h"

#include <errno.h>

/* ---- legs that fail ---------------------------------------------------- */

static struct layer_test *failing_leg(const char *error)
{
	make_file("a", 4 * MIB, 0);
	make_file("b", 4 * MIB, 0);
	(void)unlink(path("fail"));
	(void)unlink(path("map"));
	return layer_test_open(&options,
			       "mirror leg='file %s' leg='--filter=error file %s error=%s "
			       "error-rate=1 error-file=%s' region=64k probe=1 quiet=1 "
			       "bitmap=%s status=%s assume-same=true",
			       path("a"), path("b"), error, path("fail"), path("map"),
			       path("status"));
}

static void switch_faults(bool on)
{
	struct timespec pause = { 0, 250000000 };

	if (on)
		make_file("fail", 0, 0);
	else
		assert_int_equal(unlink(path("fail")), 0);
	/* Files are looked at ten times a second. */
	nanosleep(&pause, NULL);
}

static void test_a_leg_goes_and_comes_back(void **state)
{
	static const char *const errors[] = { "EIO", "ESHUTDOWN", "ENOSPC" };

	for (unsigned i = 0; i < 3; i++) {
		struct layer_test *t = failing_leg(errors[i]);
		struct layer_client *c = layer_client(t, 0);

		assert_int_equal(layer_fill(c, 0, MIB, 1), 0);
		assert_int_equal(layer_flush(c), 0);
		switch_faults(true);
		assert_int_equal(layer_fill(c, 64 * KIB, 128 * KIB, 2), 0);
		assert_true(file_is("b", 64 * KIB, 128 * KIB, 1));
		/* Reads never come from the leg that is out. */
		for (unsigned j = 0; j < 8; j++)
			assert_true(layer_is(c, 64 * KIB, 128 * KIB, 2));
		assert_int_equal(layer_flush(c), 0);
		wait_for_status(c, "\"leg\": 2", "stale", 16);
		switch_faults(false);
		wait_for_status(c, "\"leg\": 2", "stale", 0);
		/* Only what was intended: that mebibyte. */
		assert_int_equal(status("{", "copied_bytes"), MIB);
		assert_int_equal(layer_fill(c, 3 * MIB, 4096, 3), 0);
		layer_test_close(t);
		assert_true(same_files("a", "b"));
	}
}

static void test_without_enough_legs_writes_fail(void **state)
{
	struct layer_test *t;
	struct layer_client *c;

	make_file("a", MIB, 0);
	make_file("b", MIB, 0);
	(void)unlink(path("fail"));
	t = layer_test_open(&options,
			    "mirror min-legs=2 leg='file %s' leg='--filter=error file %s error=EIO "
			    "error-rate=1 error-file=%s'",
			    path("a"), path("b"), path("fail"));
	c = layer_client(t, 0);
	assert_int_equal(layer_fill(c, 0, 4096, 1), 0);
	switch_faults(true);
	assert_int_equal(layer_fill(c, 0, 4096, 2), -EIO);
	assert_int_equal(layer_fill(c, 8192, 4096, 2), -EIO);
	assert_int_equal(layer_flush(c), -EIO);
	/* It was begun before it was known. */
	assert_true(layer_is(c, 0, 4096, 2));
	assert_true(layer_is(c, 8192, 4096, 0));
	layer_test_close(t);
}

/* What fails on all legs is the client's to know, and takes none of them out. */
static void test_what_fails_on_all_legs_fails(void **state)
{
	struct layer_test *t;
	struct layer_client *c;

	make_file("a", MIB, 1);
	make_file("b", MIB, 1);
	(void)unlink(path("fail"));
	t = layer_test_open(
		&options,
		"mirror status=%s leg='--filter=error file %s error=ENOSPC error-rate=1 "
		"error-file=%s' leg='--filter=error file %s error=ENOSPC error-rate=1 "
		"error-file=%s'",
		path("status"), path("a"), path("fail"), path("b"), path("fail"));
	c = layer_client(t, 0);
	switch_faults(true);
	assert_int_equal(layer_fill(c, 0, 4096, 2), -ENOSPC);
	assert_int_equal(layer_flush(c), -ENOSPC);
	switch_faults(false);
	assert_true(layer_is(c, 0, MIB, 1));
	assert_int_equal(layer_fill(c, 0, 4096, 3), 0);
	assert_int_equal(layer_flush(c), 0);
	wait_for_status(c, "\"leg\": 2", "stale", 0);
	layer_test_close(t);
	assert_true(same_files("a", "b"));
}

/* The first leg fails before the other one has a copy: that one has nothing to offer. */
static void test_a_leg_without_a_copy_does_not_take_the_place_of_the_first(void **state)
{
	uint8_t data[4096];
	struct layer_test *t;
	struct layer_client *c;

	make_file("a", 2 * MIB, 7);
	make_file("b", 2 * MIB, 9);
	(void)unlink(path("map"));
	(void)unlink(path("fail"));
	t = layer_test_open(&options,
			    "mirror leg='--filter=error file %s error=EIO error-rate=1 "
			    "error-file=%s' leg='file %s' bitmap=%s resync-rate=2M",
			    path("a"), path("fail"), path("b"), path("map"));
	c = layer_client(t, 0);
	switch_faults(true);
	assert_int_equal(layer_fill(c, 0, 4096, 1), -EIO);
	assert_int_equal(layer_read(c, MIB, sizeof(data), data), -EIO);
	switch_faults(false);
	assert_true(layer_is(c, MIB, 4096, 7));
	layer_test_close(t);
}

static void test_a_read_that_fails_is_answered_by_another_leg_and_repaired(void **state)
{
	struct layer_test *t;
	struct layer_client *c;

	make_file("a", MIB, 7);
	make_file("b", MIB, 7);
	(void)unlink(path("fail"));
	t = layer_test_open(&options,
			    "mirror status=%s leg='file %s' leg='--filter=error file %s "
			    "error-pread=EIO error-pread-rate=1 error-pread-file=%s'",
			    path("status"), path("a"), path("b"), path("fail"));
	c = layer_client(t, 0);
	switch_faults(true);
	for (unsigned i = 0; i < 8; i++)
		assert_true(layer_is(c, 8192 * i, 4096, 7));
	wait_for_status(c, "\"leg\": 2", "reread", 1);
	/* It could be written: the region was copied. */
	wait_for_status(c, "{", "copied_regions", 1);
	assert_int_equal(status("\"leg\": 2", "stale"), 0);
	layer_test_close(t);
}

/* ---- figures ----------------------------------------------------------- */

struct wanted {
	const char *name;
	uint64_t value;
};

static void look_at_figure(void *context, const struct nr_layer *layer, const struct nr_figure *row,
			   uint64_t value)
{
	struct wanted *wanted = context;

	if (strcmp(row->name, wanted->name) == 0)
		wanted->value = value;
}

static uint64_t figure(struct layer_test *t, const char *name)
{
	struct wanted wanted = { name, UINT64_MAX };

	nr_figures(nr_stack_top(layer_test_stack(t)), look_at_figure, &wanted);
	return wanted.value;
}

/* ---- legs that differ ----------------------------------------------------- */

/* SIZE bytes at FROM of a leg's file become BYTE. */
static void damage(const char *name, uint64_t from, uint64_t size, uint8_t byte)
{
	uint8_t *data;
	uint64_t bytes = read_file(name, &data);

	assert_true(from + size <= bytes);
	memset(data + from, byte, size);
	write_file(name, data, bytes);
	free(data);
}

static void scrub(struct layer_client *c, uint64_t run)
{
	make_file("scrub", 0, 0);
	wait_for_status(c, "{", "completed", run);
}

/* Three legs, of which each has been damaged, the third in the place of the second, too. */
static struct layer_test *three_legs(const char *repair)
{
	make_file("a", 2 * MIB, 7);
	make_file("b", 2 * MIB, 7);
	make_file("c", 2 * MIB, 7);
	damage("a", 64 * KIB, 4096, 1);
	damage("a", 68 * KIB + 5, 1, 1);
	damage("b", 80 * KIB, 512, 2);
	damage("b", MIB, 1, 2);
	damage("c", MIB, 1, 3);
	damage("c", MIB + 300 * KIB, 1, 3);
	(void)unlink(path("map"));
	return layer_test_open(&options,
			       "mirror leg='file %s' leg='file %s' leg='file %s' status=%s "
			       "scrub-file=%s bitmap=%s assume-same=true region=64k quiet=1 %s",
			       path("a"), path("b"), path("c"), path("status"), path("scrub"),
			       path("map"), repair);
}

static void test_scrub_writes_what_most_legs_have_and_reports_the_rest(void **state)
{
	struct layer_test *t = three_legs("");
	struct layer_client *c = layer_client(t, 0);

	assert_true(layer_is(c, 512 * KIB, 4096, 7));
	scrub(c, 1);
	assert_int_equal(status("{", "differences"), 5);
	assert_int_equal(status("{", "undecided"), 1);
	assert_int_equal(figure(t, "undecided"), 1);
	scrub(c, 2);
	assert_int_equal(status("{", "differences"), 1);
	assert_int_equal(status("{", "undecided"), 1);
	/* What was written is intended until it is stable. */
	wait_for_status(c, "{", "intended", 0);
	layer_test_close(t);
	assert_true(file_is("a", 0, 2 * MIB, 7));
	assert_true(file_is("b", 0, MIB, 7) && file_is("c", 0, MIB, 7));
	assert_true(file_is("b", MIB + 1, MIB - 1, 7) && file_is("c", MIB + 1, MIB - 1, 7));
	/* One against one against one. */
	assert_true(file_is("b", MIB, 1, 2) && file_is("c", MIB, 1, 3));
}

static void test_scrub_believes_the_first_leg_or_changes_nothing_if_told_so(void **state)
{
	struct layer_test *t = three_legs("scrub-repair=never");

	assert_true(layer_is(layer_client(t, 0), 512 * KIB, 4096, 7));
	scrub(layer_client(t, 0), 1);
	assert_int_equal(status("{", "differences"), 5);
	assert_int_equal(status("{", "undecided"), 5);
	layer_test_close(t);
	assert_true(file_is("a", 64 * KIB, 4096, 1) && file_is("c", MIB + 300 * KIB, 1, 3));
	t = three_legs("scrub-repair=first");
	assert_true(layer_is(layer_client(t, 0), 512 * KIB, 4096, 7));
	scrub(layer_client(t, 0), 1);
	assert_int_equal(status("{", "differences"), 5);
	assert_int_equal(status("{", "undecided"), 0);
	layer_test_close(t);
	assert_true(file_is("a", 0, 2 * MIB, 7));
	assert_true(same_files("a", "b") && same_files("a", "c"));
}

static void test_scrub_of_two_legs_reports_and_does_not_guess(void **state)
{
	struct layer_test *t;
	struct layer_client *c;

	make_file("a", MIB, 7);
	make_file("b", MIB, 7);
	damage("b", 5, 1, 8);
	t = layer_test_open(&options, "mirror leg='file %s' leg='file %s' status=%s scrub-file=%s",
			    path("a"), path("b"), path("status"), path("scrub"));
	c = layer_client(t, 0);
	assert_true(layer_is(c, 64 * KIB, 4096, 7));
	scrub(c, 1);
	assert_int_equal(status("{", "differences"), 1);
	assert_int_equal(status("{", "undecided"), 1);
	layer_test_close(t);
	assert_true(file_is("a", 0, MIB, 7) && file_is("b", 5, 1, 8));
}

/* A block that one leg cannot read, and another has wrong. */
static void test_scrub_gives_a_leg_that_cannot_read_what_most_others_have(void **state)
{
	struct layer_test *t;
	struct layer_client *c;

	make_file("a", MIB, 7);
	make_file("b", MIB, 7);
	make_file("c", MIB, 7);
	damage("b", 300 * KIB, 4096, 1);
	make_file("fail", 0, 0);
	t = layer_test_open(&options,
			    "mirror leg='file %s' leg='--filter=error file %s error-pread=EIO "
			    "error-pread-rate=1 error-pread-file=%s' leg='file %s' status=%s "
			    "scrub=start",
			    path("a"), path("b"), path("fail"), path("c"), path("status"));
	c = layer_client(t, 0);
	assert_int_equal(layer_flush(c), 0);
	wait_for_status(c, "{", "completed", 1);
	assert_int_equal(status("{", "undecided"), 0);
	layer_test_close(t);
	assert_true(same_files("a", "b") && same_files("a", "c"));
}

static void test_scrub_finds_and_repairs(void **state)
{
	struct layer_test *t;
	struct layer_client *c;
	uint8_t *data;

	make_file("a", 4 * MIB, 7);
	make_file("b", 4 * MIB, 7);
	(void)read_file("b", &data);
	data[3 * MIB + 5] = 8;
	write_file("b", data, 4 * MIB);
	free(data);
	t = layer_test_open(&options,
			    "mirror leg='file %s' leg='file %s' status=%s scrub-file=%s "
			    "scrub-repair=first",
			    path("a"), path("b"), path("status"), path("scrub"));
	c = layer_client(t, 0);
	assert_true(layer_is(c, 0, 4096, 7));
	make_file("scrub", 0, 0);
	wait_for_status(c, "{", "completed", 1);
	assert_int_equal(status("{", "differences"), 1);
	assert_true(access(path("scrub"), F_OK) < 0);
	wait_for_status(c, "\"leg\": 2", "stale", 0);
	make_file("scrub", 0, 0);
	wait_for_status(c, "{", "completed", 2);
	assert_int_equal(status("{", "differences"), 0);
	layer_test_close(t);
	assert_true(same_files("a", "b"));
}

/* ---- legs that are not there at the start ------------------------------ */

static const char both_legs[] = "mirror leg='file %s' leg='file %s' bitmap=%s status=%s region=64k "
				"probe=1 quiet=1 assume-same=true";

static struct layer_test *open_both(void)
{
	return layer_test_open(&options, both_legs, path("a"), path("b"), path("map"),
			       path("status"));
}

static void move(const char *from, const char *to)
{
	assert_int_equal(rename(path(from), path(to)), 0);
}

static void test_a_leg_that_is_not_there_at_the_start_gets_what_it_missed_when_it_comes(
	void **state)
{
	struct layer_test *t;
	struct layer_client *c;

	make_file("a", 8 * MIB, 7);
	make_file("b", 8 * MIB, 7);
	(void)unlink(path("map"));
	layer_test_close(open_both());
	move("b", "b-away");
	t = open_both();
	c = layer_client(t, 0);
	assert_int_equal(figure(t, "legs_in"), 1);
	assert_int_equal(figure(t, "legs_absent"), 1);
	/* The bitmap knew it, so nothing is stale until something is written. */
	assert_int_equal(status("\"leg\": 2", "stale"), 0);
	assert_int_equal(layer_fill(c, MIB, 128 * KIB, 2), 0);
	assert_int_equal(layer_flush(c), 0);
	assert_true(layer_is(c, MIB, 128 * KIB, 2));
	wait_for_status(c, "absent", "stale", 2);
	move("b-away", "b");
	wait_for_status(c, "\"leg\": 2", "stale", 0);
	assert_int_equal(status("{", "copied_bytes"), 128 * KIB);
	wait_for_status(c, "{", "intended", 0);
	assert_int_equal(figure(t, "legs_in"), 2);
	assert_int_equal(figure(t, "legs_absent"), 0);
	assert_int_equal(figure(t, "copied_bytes"), 128 * KIB);
	assert_int_equal(layer_fill(c, 2 * MIB, 4096, 3), 0);
	layer_test_close(t);
	assert_true(same_files("a", "b"));
	assert_true(file_is("b", MIB, 128 * KIB, 2));
}

/* Also across servers: what was missed in one is known in the next. */
static void test_what_an_absent_leg_has_missed_is_remembered(void **state)
{
	struct nr_error error;
	struct layer_test *t;
	struct layer_client *c;

	make_file("a", 8 * MIB, 7);
	make_file("b", 8 * MIB, 7);
	(void)unlink(path("map"));
	layer_test_close(open_both());
	move("b", "b-away");
	t = open_both();
	assert_int_equal(layer_fill(layer_client(t, 0), 0, 64 * KIB, 2), 0);
	layer_test_close(t);
	/* The one that has missed something is no mirror of what there was. */
	move("a", "a-away");
	move("b-away", "b");
	assert_true(layer_test_refused(&options, &error, both_legs, path("a"), path("b"),
				       path("map"), path("status")) < 0);
	assert_non_null(strstr(error.text, "none is here"));
	assert_true(file_is("b", 0, 8 * MIB, 7));
	move("a-away", "a");
	t = open_both();
	c = layer_client(t, 0);
	assert_true(layer_is(c, 0, 64 * KIB, 2));
	wait_for_status(c, "\"leg\": 2", "stale", 0);
	assert_int_equal(status("{", "copied_bytes"), 64 * KIB);
	layer_test_close(t);
	assert_true(same_files("a", "b"));
}

static void test_without_a_bitmap_a_leg_that_comes_late_gets_everything(void **state)
{
	struct layer_test *t;
	struct layer_client *c;

	make_file("a", 2 * MIB, 7);
	(void)unlink(path("b"));
	t = layer_test_open(&options, "mirror leg='file %s' leg='file %s' status=%s probe=1",
			    path("b"), path("a"), path("status"));
	c = layer_client(t, 0);
	assert_true(layer_is(c, 0, 2 * MIB, 7));
	wait_for_status(c, "absent", "stale", 2);
	/* One that is too small is not taken, one that has the size is. */
	make_file("b", MIB, 9);
	await_line(c, "it has 1048576 bytes, the mirror has 2097152");
	assert_true(file_is("b", 0, MIB, 9));
	(void)unlink(path("b"));
	make_file("b-new", 2 * MIB, 9);
	move("b-new", "b");
	wait_for_status(c, "\"leg\": 1", "stale", 0);
	layer_test_close(t);
	assert_true(same_files("a", "b"));
}

static void test_a_mirror_does_not_start_without_what_it_needs(void **state)
{
	struct nr_error error;

	make_file("a", MIB, 7);
	(void)unlink(path("b"));
	(void)unlink(path("map"));
	/* Not enough legs. */
	assert_true(layer_test_refused(&options, &error,
				       "mirror min-legs=2 leg='file %s' leg='file %s'", path("a"),
				       path("b")) < 0);
	assert_non_null(strstr(error.text, "leg 2: "));
	/* Words that can never be opened. */
	assert_true(layer_test_refused(&options, &error, "mirror leg='file %s' leg='flie %s'",
				       path("a"), path("b")) < 0);
	assert_non_null(strstr(error.text, "flie"));
	assert_true(layer_test_refused(&options, &error, "mirror leg='file %s' leg='memory'",
				       path("a")) < 0);
	/* What a new bitmap would call right. */
	assert_true(layer_test_refused(&options, &error,
				       "mirror leg='file %s' leg='file %s' bitmap=%s", path("b"),
				       path("a"), path("map")) < 0);
	assert_non_null(strstr(error.text, "leg 1"));
	assert_true(access(path("map"), F_OK) < 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_leg_goes_and_comes_back),
		cmocka_unit_test(test_without_enough_legs_writes_fail),
		cmocka_unit_test(test_what_fails_on_all_legs_fails),
		cmocka_unit_test(test_a_leg_without_a_copy_does_not_take_the_place_of_the_first),
		cmocka_unit_test(test_a_read_that_fails_is_answered_by_another_leg_and_repaired),
		cmocka_unit_test(test_scrub_finds_and_repairs),
		cmocka_unit_test(test_scrub_writes_what_most_legs_have_and_reports_the_rest),
		cmocka_unit_test(test_scrub_believes_the_first_leg_or_changes_nothing_if_told_so),
		cmocka_unit_test(test_scrub_of_two_legs_reports_and_does_not_guess),
		cmocka_unit_test(test_scrub_gives_a_leg_that_cannot_read_what_most_others_have),
		cmocka_unit_test(
			test_a_leg_that_is_not_there_at_the_start_gets_what_it_missed_when_it_comes),
		cmocka_unit_test(test_what_an_absent_leg_has_missed_is_remembered),
		cmocka_unit_test(test_without_a_bitmap_a_leg_that_comes_late_gets_everything),
		cmocka_unit_test(test_a_mirror_does_not_start_without_what_it_needs),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
