/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Filters that take something away from clients: what is offered above them, and
 * what arrives below.
 */
#include "tests/unit/masking-test.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

static char here[64];

static int set_up(void **state)
{
	snprintf(here, sizeof(here), "test-masking-XXXXXX");
	forget_seen();
	return mkdtemp(here) ? 0 : -1;
}

static int tear_down(void **state)
{
	return rmdir(here);
}

/* readonly */

static void make(const char *name)
{
	char path[128];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", here, name);
	fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	(void)close(fd);
}

static void take_away(const char *name)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/%s", here, name);
	assert_int_equal(unlink(path), 0);
}

/* Does a write come to end with ERROR, within seconds? */
static bool comes_to(struct layer_client *c, int error)
{
	const struct timespec pause = { .tv_nsec = 10000000 };

	for (unsigned i = 0; i < 1000; i++) {
		if (layer_fill(c, 0, 1, 1) == error)
			return true;
		nanosleep(&pause, NULL);
	}
	return false;
}

static void test_readonly_without_a_file_is_always(void **state)
{
	struct layer_test *t = layer_test_open(NULL, "readonly | memory 1M");
	struct layer_client *c = layer_client(t, 0);

	assert_true(layer_test_traits(t)->read_only);
	assert_int_equal(layer_fill(c, 0, 10, 1), -EROFS);
	assert_true(layer_is(c, 0, 100, 0));
	layer_test_close(t);
}

static void test_readonly_while_the_file_exists(void **state)
{
	struct layer_test *t;
	struct layer_client *c;

	make("flag");
	t = layer_test_open(NULL, "readonly readonly-file=%s/flag | memory 1M", here);
	c = layer_client(t, 0);
	assert_false(layer_test_traits(t)->read_only);
	assert_int_equal(layer_fill(c, 0, 10, 1), -EROFS); /* from the first request on */
	assert_int_equal(layer_zero(c, 0, 10, 0), -EROFS);
	assert_int_equal(layer_trim(c, 0, 10, 0), -EROFS);
	assert_int_equal(layer_resize(c, 4096), -EROFS);
	assert_true(layer_is(c, 0, 100, 0));
	assert_int_equal(layer_flush(c), 0);
	take_away("flag");
	assert_true(comes_to(c, 0));
	assert_int_equal(layer_zero(c, 0, 10, 0), 0);
	make("flag");
	assert_true(comes_to(c, -EROFS));
	take_away("flag");
	layer_test_close(t);
}

static void test_readonly_twice_and_on_two_exports(void **state)
{
	struct layer_test *t = layer_test_open(
		NULL, "readonly readonly-file=%s/a | readonly readonly-file=%s/b | memory 1M", here,
		here);
	struct layer_test *other =
		layer_test_open(NULL, "readonly readonly-file=%s/c | memory 1M", here);

	assert_int_equal(layer_fill(layer_client(t, 0), 0, 1, 1), 0);
	make("b");
	assert_true(comes_to(layer_client(t, 0), -EROFS));
	assert_int_equal(layer_fill(layer_client(other, 0), 0, 1, 1), 0);
	make("a");
	take_away("b");
	assert_true(comes_to(layer_client(t, 0), -EROFS));
	layer_test_close(t);
	make("c");
	assert_true(comes_to(layer_client(other, 0), -EROFS));
	layer_test_close(other);
	take_away("a");
	take_away("c");
}

/* mask */

static void test_mask_takes_away_what_it_names(void **state)
{
	static const char *const names[] = { "flush",     "fua",   "trim",    "zero",
					     "fast-zero", "cache", "extents", "resize" };

	for (unsigned i = 0; i < NR_CAP_COUNT; i++) {
		struct layer_test *t =
			layer_test_open(&masking_options, "mask mask=%s | memory 1M", names[i]);

		for (unsigned j = 0; j < NR_CAP_COUNT; j++) {
			bool gone = i == j || (i == NR_CAP_ZERO && j == NR_CAP_FAST_ZERO);

			assert_int_equal(support_of(t, j), gone ? NR_NONE : NR_NATIVE);
		}
		assert_true(layer_test_traits(t)->multi_conn);
		layer_test_close(t);
	}
}

static void test_mask_takes_flags_and_lists(void **state)
{
	struct layer_test *t = layer_test_open(
		NULL, "mask mask=write | mask mask=rotational,multi-conn mask=flush | rotational | "
		      "memory 1M");

	assert_false(layer_test_traits(t)->rotational);
	assert_false(layer_test_traits(t)->multi_conn);
	assert_true(layer_test_traits(t)->read_only);
	assert_int_equal(support_of(t, NR_CAP_FLUSH), NR_NONE);
	assert_int_equal(support_of(t, NR_CAP_TRIM), NR_NATIVE);
	layer_test_close(t);
	is_transparent("mask mask=flush,fua | mask mask=extents,cache | memory 1M");
}

static void mask_refused(const char *value, const char *expected)
{
	struct nr_error error;

	layer_test_refused(NULL, &error, "mask mask=%s | memory 1M", value);
	if (!strstr(error.text, expected))
		fprintf(stderr, "%s\n", error.text);
	assert_non_null(strstr(error.text, expected));
	assert_non_null(strstr(error.text, "multi-conn, rotational, write"));
}

static void test_mask_suggests_names(void **state)
{
	mask_refused("flsh", "mask=flsh names nothing that can be masked; did you mean flush?");
	mask_refused("trim,multiconn,zero", "did you mean multi-conn?");
	mask_refused("fastzero", "did you mean fast-zero?");
	mask_refused("extent", "did you mean extents?");
	mask_refused("qqq", "mask=qqq names nothing that can be masked; it can be flush, fua");
	mask_refused("", "mask= names");
	mask_refused("fua,", "mask= names");
}

/* noextents, rotational, nocache */

static void test_noextents_says_everything_is_data(void **state)
{
	struct layer_test *t = layer_test_open(&masking_options, "noextents | tally | memory 1M");
	struct layer_client *c = layer_client(t, 0);

	assert_string_equal(layer_map(c, 0, 1048576), "1048576:data");
	assert_string_equal(layer_map(c, 1234, 1), "1:data");
	assert_int_equal(seen.count[NR_EXTENTS], 0);
	layer_test_close(t);
	is_transparent("noextents | noextents | memory 1M");
}

static void test_rotational_sets_the_flag(void **state)
{
	struct layer_test *t = layer_test_open(NULL, "rotational | memory 1M");

	assert_true(layer_test_traits(t)->rotational);
	layer_test_close(t);
	t = layer_test_open(NULL, "rotational rotational=no | rotational rotational=yes | "
				  "memory 1M");
	assert_false(layer_test_traits(t)->rotational);
	layer_test_close(t);
}

static void test_nocache_modes(void **state)
{
	static const struct {
		const char *mode;
		unsigned support, reads;
	} cases[] = {
		{ "cachemode=none", NR_NONE, 0 },
		{ "cachemode=emulate", NR_NATIVE, 1 },
		{ "cachemode=nop", NR_NATIVE, 0 },
	};

	for (unsigned i = 0; i < 3; i++) {
		struct layer_test *t = layer_test_open(
			&masking_options, "nocache %s | tally | memory 1M", cases[i].mode);
		struct layer_client *c = layer_client(t, 0);

		forget_seen();
		assert_int_equal(support_of(t, NR_CAP_CACHE), cases[i].support);
		if (cases[i].support != NR_NONE)
			assert_int_equal(layer_cache(c, 0, 65536), 0);
		assert_int_equal(seen.count[NR_READ], cases[i].reads);
		assert_int_equal(seen.count[NR_CACHE], 0);
		layer_test_close(t);
	}
	is_transparent("nocache cachemode=emulate | nocache cachemode=nop | memory 1M");
}

/* fua */

static void write_zero_trim(struct layer_client *c, uint32_t flags)
{
	forget_seen();
	assert_int_equal(layer_write(c, 0, 4, "data", flags), 0);
	assert_int_equal(layer_zero(c, 0, 4, flags), 0);
	assert_int_equal(layer_trim(c, 0, 4, flags), 0);
}

static void all_had(uint32_t flags)
{
	assert_int_equal(seen.flags[NR_WRITE], flags);
	assert_int_equal(seen.flags[NR_ZERO], flags);
	assert_int_equal(seen.flags[NR_TRIM], flags);
}

static void test_fua_none_is_not_offered(void **state)
{
	struct layer_test *t = layer_test_open(&masking_options, "fua | tally | memory 1M");

	assert_int_equal(support_of(t, NR_CAP_FUA), NR_NONE);
	assert_int_equal(support_of(t, NR_CAP_FLUSH), NR_NATIVE);
	layer_test_close(t);
}

static void test_fua_emulate_flushes(void **state)
{
	struct layer_test *t =
		layer_test_open(&masking_options, "fua fuamode=emulate | tally | memory 1M");
	struct layer_client *c = layer_client(t, 0);

	write_zero_trim(c, NR_FUA);
	all_had(0);
	assert_int_equal(seen.count[NR_FLUSH], 3);
	write_zero_trim(c, 0);
	assert_int_equal(seen.count[NR_FLUSH], 0);
	layer_test_close(t);
}

static void test_fua_native_and_pass_let_it_through(void **state)
{
	static const char *const modes[] = { "native", "pass" };

	for (unsigned i = 0; i < 2; i++) {
		struct layer_test *t = layer_test_open(
			&masking_options, "fua fuamode=%s | tally | memory 1M", modes[i]);
		struct layer_client *c = layer_client(t, 0);

		write_zero_trim(c, NR_FUA);
		all_had(NR_FUA);
		write_zero_trim(c, 0);
		all_had(0);
		assert_int_equal(layer_flush(c), 0);
		assert_int_equal(seen.count[NR_FLUSH], 1);
		layer_test_close(t);
	}
}

static void test_fua_force_adds_it_and_needs_no_flush(void **state)
{
	struct layer_test *t =
		layer_test_open(&masking_options, "fua fuamode=force | tally | memory 1M");
	struct layer_client *c = layer_client(t, 0);
	struct nr_request *req;

	write_zero_trim(c, 0);
	all_had(NR_FUA);
	assert_int_equal(layer_flush(c), 0);
	assert_int_equal(seen.count[NR_FLUSH], 0);
	assert_true(layer_is(c, 0, 4, 0));
	assert_int_equal(seen.flags[NR_READ], 0);
	/* The flags are as they were when the request is back. */
	req = layer_start(c, NR_WRITE, 0, 0, 1, "x", NULL);
	assert_int_equal(layer_wait(c, req), 0);
	assert_int_equal(req->flags, 0);
	layer_end(c, req);
	layer_test_close(t);
}

static void test_fua_discard_drops_both(void **state)
{
	struct layer_test *t =
		layer_test_open(&masking_options, "fua fuamode=discard | bare | memory 1M");
	struct layer_client *c = layer_client(t, 0);

	assert_int_equal(support_of(t, NR_CAP_FUA), NR_NATIVE);
	forget_seen();
	assert_int_equal(layer_write(c, 0, 4, "data", NR_FUA), 0);
	assert_int_equal(layer_flush(c), 0);
	assert_int_equal(seen.flags[NR_WRITE], 0);
	assert_int_equal(seen.count[NR_FLUSH], 0);
	layer_test_close(t);
}

static void test_fua_says_what_is_missing_below(void **state)
{
	const struct layer_options read_only = { .types = masking_types, .read_only = true };
	struct nr_error error;

	layer_test_refused(&masking_options, &error, "fua fuamode=emulate | bare | memory 1M");
	assert_non_null(strstr(error.text, "fua: fuamode=emulate needs flush"));
	layer_test_refused(&masking_options, &error, "fua fuamode=native | bare | memory 1M");
	assert_non_null(strstr(error.text, "fua: fuamode=native needs FUA"));
	layer_test_refused(&masking_options, &error, "fua fuamode=force | bare | memory 1M");
	assert_non_null(strstr(error.text, "fua: fuamode=force needs FUA"));
	layer_test_refused(NULL, &error, "fua fuamode=forced | memory 1M");
	assert_non_null(strstr(error.text, "did you mean force?"));
	layer_test_close(layer_test_open(&read_only, "fua fuamode=emulate | bare | memory 1M"));
}

static void test_fua_changes_no_data(void **state)
{
	is_transparent("fua fuamode=none | memory 1M");
	is_transparent("fua fuamode=emulate | fua fuamode=emulate | memory 1M");
	is_transparent("fua fuamode=force | fua fuamode=force | memory 1M");
	is_transparent("fua fuamode=discard | fua fuamode=native | memory 1M");
}

/* nozero */

static void test_nozero_none_is_not_offered(void **state)
{
	struct layer_test *t = layer_test_open(NULL, "nozero fastzeromode=slow | memory 1M");

	assert_int_equal(support_of(t, NR_CAP_ZERO), NR_NONE);
	assert_int_equal(support_of(t, NR_CAP_FAST_ZERO), NR_NONE);
	layer_test_close(t);
}

static void test_nozero_emulate_writes_pieces(void **state)
{
	struct layer_test *t =
		layer_test_open(&masking_options, "nozero zeromode=emulate | blocks | memory 1M");
	struct layer_client *c = layer_client(t, 0);
	struct nr_request *req;

	assert_int_equal(layer_fill(c, 0, 65536, 1), 0);
	forget_seen();
	req = layer_start(c, NR_ZERO, NR_FUA | NR_NO_HOLE, 512, 20480, NULL, NULL);
	assert_int_equal(layer_wait(c, req), 0);
	assert_int_equal(req->operation, NR_ZERO);
	assert_int_equal(req->flags, NR_FUA | NR_NO_HOLE);
	assert_int_equal(req->offset, 512);
	assert_int_equal(req->length, 20480);
	layer_end(c, req);
	assert_int_equal(seen.count[NR_ZERO], 0);
	assert_int_equal(seen.count[NR_WRITE], 3); /* 8192, 8192, 4096 */
	assert_int_equal(seen.flags[NR_WRITE], NR_FUA);
	assert_true(layer_is(c, 0, 512, 1));
	assert_true(layer_is(c, 512, 20480, 0));
	assert_true(layer_is(c, 20992, 1024, 1));
	assert_int_equal(layer_zero(c, 0, 512, NR_FAST_ZERO), -ENOTSUP);
	layer_test_close(t);
}

static void test_nozero_notrim_keeps_ranges_allocated(void **state)
{
	struct layer_test *t =
		layer_test_open(&masking_options, "nozero zeromode=notrim | tally | memory 1M");
	struct layer_client *c = layer_client(t, 0);

	assert_int_equal(layer_zero(c, 0, 4096, 0), 0);
	assert_int_equal(seen.flags[NR_ZERO], NR_NO_HOLE);
	assert_int_equal(layer_zero(c, 0, 4096, NR_FAST_ZERO | NR_FUA), 0);
	assert_int_equal(seen.flags[NR_ZERO], NR_NO_HOLE | NR_FAST_ZERO | NR_FUA);
	layer_test_close(t);
}

static void test_nozero_fast_modes(void **state)
{
	static const struct {
		const char *mode;
		unsigned support;
		int error;
	} cases[] = {
		{ "default", NR_NATIVE, 0 },
		{ "none", NR_NONE, -ENOTSUP },
		{ "slow", NR_NATIVE, -ENOTSUP },
		{ "ignore", NR_NATIVE, 0 },
	};

	for (unsigned i = 0; i < 4; i++) {
		struct layer_test *t = layer_test_open(
			&masking_options,
			"nozero zeromode=plugin fastzeromode=%s | tally | memory 1M",
			cases[i].mode);
		struct layer_client *c = layer_client(t, 0);

		forget_seen();
		assert_int_equal(support_of(t, NR_CAP_FAST_ZERO), cases[i].support);
		assert_int_equal(layer_zero(c, 0, 4096, NR_FAST_ZERO), cases[i].error);
		assert_int_equal(seen.flags[NR_ZERO], i == 0 ? NR_FAST_ZERO : 0);
		assert_int_equal(layer_zero(c, 0, 4096, 0), 0);
		layer_test_close(t);
	}
}

static void test_nozero_says_what_is_missing_below(void **state)
{
	struct nr_error error;

	layer_test_refused(&masking_options, &error, "nozero zeromode=notrim | bare | memory 1M");
	assert_non_null(strstr(error.text, "nozero: zeromode=notrim needs zeroing"));
	layer_test_refused(&masking_options, &error, "nozero zeromode=plugin | bare | memory 1M");
	assert_non_null(strstr(error.text, "nozero: zeromode=plugin needs zeroing"));
}

static void test_nozero_changes_no_data(void **state)
{
	is_transparent("nozero | memory 1M");
	is_transparent("nozero zeromode=emulate | blocks | memory 1M");
	is_transparent("nozero zeromode=emulate fastzeromode=ignore | bare | memory 1M");
	is_transparent("nozero zeromode=notrim | nozero zeromode=plugin | memory 1M");
}

/* discard */

static void test_discard_ignore_gives_nothing_back(void **state)
{
	struct layer_test *t = layer_test_open(&masking_options, "discard | tally | memory 1M");
	struct layer_client *c = layer_client(t, 0);

	forget_seen();
	assert_int_equal(layer_fill(c, 0, 65536, 1), 0);
	assert_int_equal(layer_trim(c, 0, 65536, NR_FUA), 0);
	assert_int_equal(seen.count[NR_TRIM], 0);
	assert_true(layer_is(c, 0, 65536, 1));
	/* To zero is another matter. */
	assert_int_equal(layer_zero(c, 0, 4096, NR_FUA), 0);
	assert_int_equal(seen.flags[NR_ZERO], NR_FUA);
	layer_test_close(t);
	/* Not even those below need to be able to. */
	t = layer_test_open(&masking_options, "discard | bare | memory 1M");
	assert_int_equal(support_of(t, NR_CAP_TRIM), NR_NATIVE);
	assert_int_equal(layer_trim(layer_client(t, 0), 0, 4096, 0), 0);
	layer_test_close(t);
}

static void test_discard_unmap_passes(void **state)
{
	struct layer_test *t =
		layer_test_open(&masking_options, "discard discard=unmap | tally | memory 1M");
	struct layer_client *c = layer_client(t, 0);

	forget_seen();
	assert_int_equal(layer_trim(c, 0, 4096, 0), 0);
	assert_int_equal(layer_zero(c, 0, 4096, 0), 0);
	assert_int_equal(seen.count[NR_TRIM], 1);
	assert_int_equal(seen.flags[NR_ZERO], 0);
	layer_test_close(t);
}

/* Also in several segments; and only if the last byte is zero, too. */
static void test_discard_detects_zeroes(void **state)
{
	static const struct {
		const char *parameters;
		bool detects;
		uint32_t flags;
	} cases[] = {
		{ "", false, 0 },
		{ "detect-zeroes=on", true, NR_NO_HOLE },
		{ "discard=unmap detect-zeroes=on", true, NR_NO_HOLE },
		{ "discard=unmap detect-zeroes=unmap", true, 0 },
	};
	static uint8_t data[4096];

	for (unsigned i = 0; i < 4; i++) {
		const struct layer_options options = { .types = masking_types,
						       .segment_bytes = i % 2 ? 1000 : 0 };
		struct layer_test *t = layer_test_open(&options, "discard %s | tally | memory 1M",
						       cases[i].parameters);
		struct layer_client *c = layer_client(t, 0);
		struct nr_request *req;

		assert_int_equal(layer_fill(c, 0, 65536, 1), 0);
		forget_seen();
		memset(data, 0, sizeof(data));
		req = layer_start(c, NR_WRITE, NR_FUA, 4096, 4096, data, NULL);
		assert_int_equal(layer_wait(c, req), 0);
		assert_int_equal(req->operation, NR_WRITE);
		assert_int_equal(req->flags, NR_FUA);
		assert_int_equal(req->segment_count, i % 2 ? 5 : 1);
		layer_end(c, req);
		assert_int_equal(seen.count[NR_ZERO], cases[i].detects);
		assert_int_equal(seen.count[NR_WRITE], !cases[i].detects);
		if (cases[i].detects)
			assert_int_equal(seen.flags[NR_ZERO], cases[i].flags | NR_FUA);
		assert_true(layer_is(c, 0, 4096, 1));
		assert_true(layer_is(c, 4096, 4096, 0));
		/* One byte that is not zero, wherever it is. */
		for (unsigned at = 0; at < 4096; at += at == 15 ? 4080 : 15) {
			forget_seen();
			data[at] = 1;
			assert_int_equal(layer_write(c, 0, at + 1, data, 0), 0);
			assert_int_equal(seen.count[NR_WRITE], 1);
			data[at] = 0;
		}
		layer_test_close(t);
	}
}

static void test_discard_writes_where_zeroing_is_written_anyway(void **state)
{
	struct layer_test *t =
		layer_test_open(&masking_options, "discard detect-zeroes=on | bare | memory 1M");
	struct layer_client *c = layer_client(t, 0);

	forget_seen();
	assert_int_equal(layer_fill(c, 0, 4096, 0), 0);
	assert_int_equal(seen.count[NR_WRITE], 1);
	layer_test_close(t);
}

static void test_discard_says_what_contradicts(void **state)
{
	struct nr_error error;

	layer_test_refused(&masking_options, &error, "discard detect-zeroes=unmap | memory 1M");
	assert_non_null(strstr(error.text, "detect-zeroes=unmap makes holes, which discard=ignore "
					   "forbids"));
}

static void test_discard_changes_no_data(void **state)
{
	is_transparent("discard discard=unmap detect-zeroes=unmap | memory 1M");
	is_transparent("discard detect-zeroes=on | blocks | memory 1M");
	is_transparent(
		"discard detect-zeroes=on | discard discard=on detect-zeroes=on | memory 1M");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_readonly_without_a_file_is_always),
		cmocka_unit_test(test_readonly_while_the_file_exists),
		cmocka_unit_test(test_readonly_twice_and_on_two_exports),
		cmocka_unit_test(test_mask_takes_away_what_it_names),
		cmocka_unit_test(test_mask_takes_flags_and_lists),
		cmocka_unit_test(test_mask_suggests_names),
		cmocka_unit_test(test_noextents_says_everything_is_data),
		cmocka_unit_test(test_rotational_sets_the_flag),
		cmocka_unit_test(test_nocache_modes),
		cmocka_unit_test(test_fua_none_is_not_offered),
		cmocka_unit_test(test_fua_emulate_flushes),
		cmocka_unit_test(test_fua_native_and_pass_let_it_through),
		cmocka_unit_test(test_fua_force_adds_it_and_needs_no_flush),
		cmocka_unit_test(test_fua_discard_drops_both),
		cmocka_unit_test(test_fua_says_what_is_missing_below),
		cmocka_unit_test(test_fua_changes_no_data),
		cmocka_unit_test(test_nozero_none_is_not_offered),
		cmocka_unit_test(test_nozero_emulate_writes_pieces),
		cmocka_unit_test(test_nozero_notrim_keeps_ranges_allocated),
		cmocka_unit_test(test_nozero_fast_modes),
		cmocka_unit_test(test_nozero_says_what_is_missing_below),
		cmocka_unit_test(test_nozero_changes_no_data),
		cmocka_unit_test(test_discard_ignore_gives_nothing_back),
		cmocka_unit_test(test_discard_unmap_passes),
		cmocka_unit_test(test_discard_detects_zeroes),
		cmocka_unit_test(test_discard_writes_where_zeroing_is_written_anyway),
		cmocka_unit_test(test_discard_says_what_contradicts),
		cmocka_unit_test(test_discard_changes_no_data),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
