/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * error, delay and short: requests fail, wait and come back as the parameters say,
 * and the same seed gives the same run.
 */
#include "layer-test.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "filters/filters.h"
#include "filters/random.h"
#include "filters/value.h"

static const struct layer_options with_ring = { .ring = true };

/* Values. */

static double probability(const char *text)
{
	struct nr_error error = { 0 };
	double chance = -1;

	if (nr_value_probability("rate", text, &chance, &error))
		assert_true(error.code == -EINVAL && strstr(error.text, "rate: "));
	return chance;
}

static void test_probabilities_as_people_write_them(void **state)
{
	static const char *const wrong[] = { "",    "%",    "x",    "-1",   "101%", "1.1",
					     "nan", "inf",  "0x1",  "1:0",  "1:",   "2:1",
					     "1%%", "10 %", "+0.1", "1e99", ":",    "1/-2" };

	assert_true(probability("0") == 0 && probability("0%") == 0);
	assert_true(probability("1") == 1 && probability("100%") == 1);
	assert_true(probability("0.5") == 0.5 && probability("50%") == 0.5);
	assert_true(probability("1:4") == 0.25 && probability("1/4") == 0.25);
	assert_true(probability("1e-8") == 1e-8 && probability(".25") == 0.25);
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		assert_true(probability(wrong[i]) == -1);
}

/* The count is the server's: it goes on over all exports, and when one is opened again. */
static void test_errors_are_counted_for_all_exports_together(void **state)
{
	const char *plan = "error error-after=2 error-count=1 | memory 1M";
	struct layer_options beside = { .beside = layer_test_open(NULL, "%s", plan) };
	struct layer_test *b = layer_test_open(&beside, "%s", plan);
	uint8_t data[512];

	assert_int_equal(layer_read(layer_client(beside.beside, 0), 0, 512, data), 0);
	assert_int_equal(layer_read(layer_client(b, 0), 0, 512, data), 0);
	layer_test_close(b);
	b = layer_test_open(&beside, "%s", plan);
	assert_int_equal(layer_read(layer_client(b, 0), 0, 512, data), -EIO);
	assert_int_equal(layer_read(layer_client(b, 0), 0, 512, data), 0);
	assert_int_equal(layer_read(layer_client(beside.beside, 0), 0, 512, data), 0);
	layer_test_close(b);
	layer_test_close(beside.beside);
}

static uint64_t duration(const char *text)
{
	struct nr_error error = { 0 };
	uint64_t nanoseconds = UINT64_MAX;

	if (nr_value_duration("wait", text, &nanoseconds, &error))
		assert_true(error.code == -EINVAL && strstr(error.text, "wait: "));
	return nanoseconds;
}

static void test_durations_as_people_write_them(void **state)
{
	static const char *const wrong[] = { "",    "ms", "-1",         "1m",  "1 s",
					     "nan", "0x", "1000000001", "1e99" };

	assert_int_equal(duration("0"), 0);
	assert_int_equal(duration("2"), 2 * NR_SECOND);
	assert_int_equal(duration("2s"), 2 * NR_SECOND);
	assert_int_equal(duration("0.5"), NR_SECOND / 2);
	assert_int_equal(duration("100ms"), NR_SECOND / 10);
	assert_int_equal(duration("20us"), 20000);
	assert_int_equal(duration("20\u00b5s"), 20000);
	assert_int_equal(duration("1.5\u03bcs"), 1500);
	assert_int_equal(duration("7ns"), 7);
	assert_int_equal(duration("1000000000"), 1000000000 * NR_SECOND);
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		assert_true(duration(wrong[i]) == UINT64_MAX);
}

static void test_chance_is_even_and_repeats(void **state)
{
	unsigned hits = 0;

	for (uint64_t i = 0; i < 100000; i++) {
		assert_true(nr_random_at(7, i) == nr_random_at(7, i));
		assert_true(nr_random_below(nr_random_at(7, i), 10) < 10);
		assert_false(nr_random_hit(nr_random_at(7, i), 0));
		assert_true(nr_random_hit(nr_random_at(7, i), 1));
		hits += nr_random_hit(nr_random_at(7, i), 0.1);
	}
	assert_in_range(hits, 9700, 10300);
	assert_true(nr_random_hit(UINT64_MAX, 1));
	assert_int_equal(nr_random_below(UINT64_MAX, UINT64_MAX), UINT64_MAX - 1);
	assert_int_equal(nr_random_below(UINT64_MAX, 0), 0);
}

/* error. */

static int read_one(struct layer_client *c)
{
	uint8_t byte;

	return layer_read(c, 0, 1, &byte);
}

static int write_one(struct layer_client *c)
{
	return layer_write(c, 0, 1, "x", 0);
}

static void test_without_a_rate_nothing_fails(void **state)
{
	struct layer_test *t = layer_test_open(NULL, "error error=ENOSPC | memory 64k");
	struct layer_model model = { .seed = 1, .requests = 500, .check_extents = true };

	layer_model_run(layer_client(t, 0), &model);
	layer_test_close(t);
}

static void test_each_operation_fails_by_its_own_rule(void **state)
{
	struct layer_test *t = layer_test_open(
		NULL, "error error=ENOSPC error-pwrite-rate=100%% error-zero-rate=1 "
		      "error-zero=ENOTSUP error-flush=EPERM error-flush-rate=1:1 | memory 64k");
	struct layer_client *c = layer_client(t, 0);

	assert_int_equal(read_one(c), 0);
	assert_int_equal(write_one(c), -ENOSPC);
	assert_int_equal(layer_zero(c, 0, 10, 0), -ENOTSUP);
	assert_int_equal(layer_flush(c), -EPERM);
	assert_int_equal(layer_trim(c, 0, 10, 0), 0);
	assert_int_equal(layer_cache(c, 0, 10), 0);
	assert_string_equal(layer_map(c, 0, 65536), "65536:hole,zero");
	layer_test_close(t);
}

static void test_one_rule_for_all_operations(void **state)
{
	struct layer_test *t = layer_test_open(
		NULL, "error error=ESHUTDOWN error-rate=100%% error-cache-rate=0 | memory 64k");
	struct layer_client *c = layer_client(t, 0);
	struct nr_extent extent[1];
	struct nr_extents list = { .extent = extent, .capacity = 1 };

	assert_int_equal(read_one(c), -ESHUTDOWN);
	assert_int_equal(write_one(c), -ESHUTDOWN);
	assert_int_equal(layer_zero(c, 0, 10, 0), -ESHUTDOWN);
	assert_int_equal(layer_trim(c, 0, 10, 0), -ESHUTDOWN);
	assert_int_equal(layer_flush(c), -ESHUTDOWN);
	assert_int_equal(layer_resize(c, 4096), -ESHUTDOWN);
	assert_int_equal(layer_extents(c, 0, 10, 0, &list), -ESHUTDOWN);
	assert_int_equal(layer_cache(c, 0, 10), 0);
	layer_test_close(t);
}

static void test_errors_begin_after_so_many_and_end_after_so_many(void **state)
{
	struct layer_test *t = layer_test_open(
		NULL, "error error-after=3 error-count=2 error-pwrite-rate=0 | memory 64k");
	struct layer_client *c = layer_client(t, 0);

	for (unsigned i = 1; i <= 20; i++) {
		assert_int_equal(write_one(c), 0); /* cannot fail, does not count */
		assert_int_equal(read_one(c), i == 4 || i == 5 ? -EIO : 0);
	}
	layer_test_close(t);
}

/* Which of 200 reads fail, as a text of 0 and 1. */
static void pattern(const char *plan, char text[201])
{
	struct layer_test *t = layer_test_open(NULL, "%s", plan);

	for (unsigned i = 0; i < 200; i++)
		text[i] = read_one(layer_client(t, 0)) ? '1' : '0';
	text[200] = '\0';
	layer_test_close(t);
}

static void test_the_same_seed_gives_the_same_errors(void **state)
{
	char first[201], again[201], other[201];

	pattern("error error-rate=30% seed=5 | memory 64k", first);
	pattern("error error-rate=30% seed=5 | memory 64k", again);
	pattern("error error-rate=30% seed=6 | memory 64k", other);
	assert_string_equal(first, again);
	assert_string_not_equal(first, other);
	assert_true(strchr(first, '0') && strchr(first, '1'));
}

static void test_twice_in_one_stack_each_has_its_own_settings(void **state)
{
	struct layer_test *t =
		layer_test_open(NULL, "error error=EPERM error-pread-rate=1 | "
				      "error error=ENOMEM error-pwrite-rate=1 | memory 64k");

	assert_int_equal(read_one(layer_client(t, 0)), -EPERM);
	assert_int_equal(write_one(layer_client(t, 0)), -ENOMEM);
	layer_test_close(t);
}

static bool comes_true(struct layer_client *c, int error)
{
	for (unsigned i = 0; i < 500; i++) {
		if (read_one(c) == error)
			return true;
		usleep(10000);
	}
	return false;
}

static void test_errors_come_and_go_with_the_file(void **state)
{
	char path[] = "/tmp/nbdring-error-XXXXXX";
	int fd = mkstemp(path);
	struct layer_test *t;

	assert_true(fd >= 0);
	close(fd);
	t = layer_test_open(NULL, "error error-rate=100%% error-file=%s | memory 64k", path);
	assert_int_equal(read_one(layer_client(t, 0)), -EIO);
	unlink(path);
	assert_true(comes_true(layer_client(t, 0), 0));
	fd = open(path, O_CREAT | O_WRONLY, 0600);
	assert_true(fd >= 0);
	close(fd);
	assert_true(comes_true(layer_client(t, 0), -EIO));
	unlink(path);
	layer_test_close(t);
}

static void test_wrong_parameters_of_error(void **state)
{
	struct nr_error error;

	assert_int_equal(layer_test_refused(NULL, &error, "error error-rate=2 | memory 1M"),
			 -EINVAL);
	assert_non_null(strstr(error.text, "error-rate: '2'"));
	layer_test_refused(NULL, &error, "error error-trim-rate=often | memory 1M");
	assert_non_null(strstr(error.text, "error-trim-rate: 'often'"));
	layer_test_refused(NULL, &error, "error error-pread=ENOTSUP | memory 1M");
	assert_non_null(strstr(error.text, "error-pread"));
	layer_test_refused(NULL, &error, "error error=EWHAT | memory 1M");
	assert_non_null(strstr(error.text, "ENOSPC"));
	layer_test_refused(NULL, &error, "error error-count=0 | memory 1M");
	assert_non_null(strstr(error.text, "error-count"));
}

/* delay. */

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void test_delays_are_of_their_operations(void **state)
{
	struct layer_test *t = layer_test_open(
		&with_ring, "delay wdelay=60ms delay-trim=0 rdelay=0.12 delay-flush=60ms | "
			    "memory 64k");
	struct layer_client *c = layer_client(t, 0);
	double begin = now();

	assert_int_equal(layer_trim(c, 0, 100, 0), 0);
	assert_int_equal(layer_cache(c, 0, 100), 0);
	assert_string_equal(layer_map(c, 0, 65536), "65536:hole,zero");
	assert_true(now() - begin < 0.06);
	begin = now();
	assert_int_equal(read_one(c), 0);
	assert_true(now() - begin >= 0.12);
	begin = now();
	assert_int_equal(write_one(c), 0);
	assert_true(now() - begin >= 0.06);
	begin = now();
	assert_int_equal(layer_zero(c, 0, 100, 0), 0);
	assert_true(now() - begin >= 0.06);
	begin = now();
	assert_int_equal(layer_flush(c), 0);
	assert_true(now() - begin >= 0.06);
	layer_test_close(t);
}

static void test_requests_wait_side_by_side(void **state)
{
	struct layer_test *t = layer_test_open(&with_ring, "delay rdelay=100ms | memory 64k");
	struct layer_client *c = layer_client(t, 0);
	struct nr_request *req[20];
	double begin = now();

	for (unsigned i = 0; i < 20; i++)
		req[i] = layer_start(c, NR_READ, 0, i, 1, NULL, NULL);
	for (unsigned i = 0; i < 20; i++) {
		assert_int_equal(layer_wait(c, req[i]), 0);
		layer_end(c, req[i]);
	}
	assert_true(now() - begin >= 0.1);
	assert_true(now() - begin < 1.5);
	layer_test_close(t);
}

static void test_fast_zeroes_can_be_refused_at_once(void **state)
{
	struct layer_test *t =
		layer_test_open(&with_ring, "delay wdelay=50ms delay-fast-zero=no | memory 64k");
	struct layer_client *c = layer_client(t, 0);
	double begin = now();

	assert_int_equal(layer_zero(c, 0, 100, NR_FAST_ZERO), -ENOTSUP);
	assert_true(now() - begin < 0.05);
	assert_int_equal(layer_zero(c, 0, 100, 0), 0);
	layer_test_close(t);
	t = layer_test_open(&with_ring, "delay wdelay=50ms | memory 64k");
	begin = now();
	assert_int_equal(layer_zero(layer_client(t, 0), 0, 100, NR_FAST_ZERO), 0);
	assert_true(now() - begin >= 0.05);
	layer_test_close(t);
}

/* The server keeps these times; what it is told is the sum of all such filters. */
static void test_coming_and_going_take_as_long_as_all_filters_say(void **state)
{
	struct layer_test *t = layer_test_open(NULL, "delay delay-open=80ms delay-close=1 | "
						     "delay delay-open=1s | memory 64k");
	struct nr_session session = { .id = 1, .export_name = "", .peer = "test" };
	struct nr_error error;

	session.admit_after = 5; /* of another try */
	assert_int_equal(nr_stack_admit(layer_test_stack(t), &session, &error), 0);
	assert_int_equal(session.admit_after, 1080000000);
	assert_int_equal(session.leave_after, 1000000000);
	nr_stack_leave(layer_test_stack(t), &session);
	layer_test_close(t);
}

static void test_wrong_parameters_of_delay(void **state)
{
	struct nr_error error;

	layer_test_refused(NULL, &error, "delay rdelay=1 delay-read=1 | memory 1M");
	assert_non_null(strstr(error.text, "rdelay and delay-read"));
	layer_test_refused(NULL, &error, "delay wdelay=soon | memory 1M");
	assert_non_null(strstr(error.text, "wdelay: 'soon'"));
	layer_test_refused(NULL, &error, "delay delay-open=-1 | memory 1M");
	assert_non_null(strstr(error.text, "delay-open: '-1'"));
	layer_test_refused(NULL, &error, "delay delay-close=1e20 | memory 1M");
	assert_non_null(strstr(error.text, "delay-close: '1e20'"));
}

/* short. */

static void order_of_answers(const char *plan, unsigned order[32])
{
	struct layer_test *t = layer_test_open(&with_ring, "%s", plan);
	struct layer_client *c = layer_client(t, 0);
	struct nr_request *req[32];
	bool seen[32] = { false };
	unsigned count = 0;

	for (unsigned i = 0; i < 32; i++)
		req[i] = layer_start(c, NR_READ, 0, i, 1, NULL, NULL);
	while (count < 32) {
		layer_turn(c);
		for (unsigned i = 0; i < 32; i++) {
			if (seen[i] || !layer_finished(req[i]))
				continue;
			seen[i] = true;
			order[count++] = i;
		}
	}
	for (unsigned i = 0; i < 32; i++) {
		assert_int_equal(layer_wait(c, req[i]), 0);
		layer_end(c, req[i]);
	}
	layer_test_close(t);
}

static void test_answers_come_in_another_order(void **state)
{
	unsigned order[32], kept = 0;

	order_of_answers("short window=50ms seed=3 | memory 64k", order);
	for (unsigned i = 0; i < 32; i++)
		kept += order[i] == i;
	assert_true(kept < 32);
	order_of_answers("short window=0 | memory 64k", order);
	for (unsigned i = 0; i < 32; i++)
		assert_int_equal(order[i], i);
}

static void test_late_answers_are_right(void **state)
{
	struct layer_test *t =
		layer_test_open(&with_ring, "short window=200us | short window=100us | memory 64k");
	struct layer_model model = { .seed = layer_seed(4),
				     .requests = 1500,
				     .check_extents = true };

	layer_model_run(layer_client(t, 0), &model);
	layer_test_close(t);
}

static void test_errors_come_through_late(void **state)
{
	struct layer_test *t = layer_test_open(
		&with_ring, "short window=1ms | error error-pread-rate=1 | memory 64k");

	assert_int_equal(read_one(layer_client(t, 0)), -EIO);
	assert_int_equal(write_one(layer_client(t, 0)), 0);
	layer_test_close(t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_probabilities_as_people_write_them),
		cmocka_unit_test(test_errors_are_counted_for_all_exports_together),
		cmocka_unit_test(test_durations_as_people_write_them),
		cmocka_unit_test(test_chance_is_even_and_repeats),
		cmocka_unit_test(test_without_a_rate_nothing_fails),
		cmocka_unit_test(test_each_operation_fails_by_its_own_rule),
		cmocka_unit_test(test_one_rule_for_all_operations),
		cmocka_unit_test(test_errors_begin_after_so_many_and_end_after_so_many),
		cmocka_unit_test(test_the_same_seed_gives_the_same_errors),
		cmocka_unit_test(test_twice_in_one_stack_each_has_its_own_settings),
		cmocka_unit_test(test_errors_come_and_go_with_the_file),
		cmocka_unit_test(test_wrong_parameters_of_error),
		cmocka_unit_test(test_delays_are_of_their_operations),
		cmocka_unit_test(test_requests_wait_side_by_side),
		cmocka_unit_test(test_fast_zeroes_can_be_refused_at_once),
		cmocka_unit_test(test_coming_and_going_take_as_long_as_all_filters_say),
		cmocka_unit_test(test_wrong_parameters_of_delay),
		cmocka_unit_test(test_answers_come_in_another_order),
		cmocka_unit_test(test_late_answers_are_right),
		cmocka_unit_test(test_errors_come_through_late),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
