/* SPDX-License-Identifier: BSD-3-Clause */
/* The filter rate and its buckets. */
#include "session-test.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>

#include "filters/filters.h"
#include "filters/rate-bucket.h"

static const struct layer_options options = { .workers = 2 };

/* Buckets. */

#define SECOND UINT64_C(1000000000)

static void bucket_gives_the_burst_at_once_and_the_rest_in_time(void **state)
{
	struct nr_bucket b = { 0 };
	uint64_t now = 1000 * SECOND;

	/* 1000 bits a second, two seconds' worth at hand. */
	assert_true(nr_bucket_take(&b, now, 1000, 1000, 2 * SECOND) <= now);
	assert_true(nr_bucket_take(&b, now, 1000, 1000, 2 * SECOND) <= now);
	assert_int_equal(nr_bucket_take(&b, now, 500, 1000, 2 * SECOND), now + SECOND / 2);
	assert_int_equal(nr_bucket_take(&b, now, 500, 1000, 2 * SECOND), now + SECOND);
	/* After a long pause it is full, and not fuller. */
	now += 3600 * SECOND;
	assert_int_equal(nr_bucket_take(&b, now, 3000, 1000, 2 * SECOND), now + SECOND);
}

static void bucket_follows_a_new_rate(void **state)
{
	struct nr_bucket b = { 0 };
	uint64_t now = 1000 * SECOND, until;

	until = nr_bucket_take(&b, now, 8 << 20, 1, 1); /* months */
	assert_true(until > now + 8000000 * SECOND);
	assert_true(nr_bucket_rescale(until, now, 1, 8 << 20) <= now + 2 * SECOND);
	assert_int_equal(nr_bucket_rescale(until, now, 1, 0), now);
	assert_int_equal(nr_bucket_rescale(until, now, 7, 7), until);
	/* What was run up is converted, too. */
	assert_true(nr_bucket_take(&b, now, 8, 8 << 20, 1) <= now + 2 * SECOND);
	/* Nothing wraps. */
	for (unsigned i = 0; i < 3000; i++)
		until = nr_bucket_take(&b, now, UINT64_MAX, 1, 1);
	assert_true(until > now);
	assert_true(nr_bucket_rescale(until, now, INT64_MAX, 1) > now);
}

struct takers {
	struct nr_bucket bucket;
};

static void *take_thousand(void *context)
{
	struct takers *takers = context;

	for (unsigned i = 0; i < 10000; i++)
		nr_bucket_take(&takers->bucket, SECOND, 1000, 1000, SECOND);
	return NULL;
}

static void bucket_counts_every_taker(void **state)
{
	struct takers takers = { 0 };
	pthread_t thread[8];

	for (unsigned i = 0; i < 8; i++)
		assert_int_equal(pthread_create(&thread[i], NULL, take_thousand, &takers), 0);
	for (unsigned i = 0; i < 8; i++)
		pthread_join(thread[i], NULL);
	assert_int_equal(takers.bucket.full_at, 80001 * SECOND);
}

/* rate */

static void rate_slows_down_all_clients_of_an_export(void **state)
{
	/* A mebibyte a second, of which 0.1 s at hand. */
	struct layer_test *t = layer_test_open(&options, "rate rate=8M burstiness=0.1 | memory 4M");
	struct nr_session a = unix_session(), b = unix_session();
	double start = seconds();

	assert_int_equal(admit(t, &a), 0);
	assert_int_equal(admit(t, &b), 0);
	assert_int_equal(ask(t, 0, &a, NR_WRITE, 256 << 10), 0);
	assert_int_equal(ask(t, 1, &b, NR_WRITE, 256 << 10), 0);
	assert_true(seconds() - start >= 0.38);
	/* Reading has a bucket of its own. */
	start = seconds();
	assert_int_equal(ask(t, 0, &a, NR_READ, 64 << 10), 0);
	assert_int_equal(layer_zero(layer_client(t, 0), 0, 4 << 20, 0), 0);
	assert_int_equal(layer_trim(layer_client(t, 0), 0, 4 << 20, 0), 0);
	assert_int_equal(layer_flush(layer_client(t, 0)), 0);
	assert_true(seconds() - start < 0.3);
	leave(t, &a);
	leave(t, &b);
	layer_test_close(t);
}

/*
 * rate= is for all exports together, export-rate= for each: half a second's worth is at
 * hand, and is taken from one export before another one asks for as much.
 */
static void rate_is_for_the_server_and_export_rate_for_each(void **state)
{
	static const struct {
		const char *plan;
		bool together;
	} rows[] = {
		{ "rate rate=8k burstiness=0.5 | memory 1M", true },
		{ "rate export-rate=8k burstiness=0.5 | memory 1M", false },
		{ "rate rate=8G | rate rate=8k burstiness=0.5 | memory 1M", true },
		{ "rate | rate export-rate=8k burstiness=0.5 | memory 1M", false },
	};

	for (unsigned i = 0; i < 4; i++) {
		struct layer_options beside = options;
		struct nr_request *req;
		struct layer_test *b;

		beside.beside = layer_test_open(&options, "%s", rows[i].plan);
		b = layer_test_open(&beside, "%s", rows[i].plan);
		assert_int_equal(ask(beside.beside, 0, NULL, NR_READ, 512), 0);
		req = start_as(b, 0, NULL, NR_READ, 512);
		nr_worker_run(req->worker);
		assert_int_equal(is_back(req), !rows[i].together);
		assert_int_equal(wait_for(req), 0);
		layer_test_close(b);
		layer_test_close(beside.beside);
	}
}

/* An export that is opened later begins with the rate that the server has by then. */
static void a_later_export_begins_with_the_rate_of_the_server(void **state)
{
	struct layer_options beside = options;
	struct nr_request *req;
	struct layer_test *b;

	write_file("rate", "8G");
	beside.beside =
		layer_test_open(&options, "rate rate=1 rate-file=%s/rate | memory 1M", here);
	remove_file("rate");
	b = layer_test_open(&beside, "rate rate=1 rate-file=%s/rate | memory 1M", here);
	req = start_as(b, 0, NULL, NR_READ, 512);
	nr_worker_run(req->worker);
	assert_true(is_back(req));
	assert_int_equal(wait_for(req), 0);
	layer_test_close(b);
	layer_test_close(beside.beside);
}

/* What was said, one line after the other. */
static char said[4096];
static pthread_mutex_t saying = PTHREAD_MUTEX_INITIALIZER;

static void write_down(const struct nr_layer *layer, enum nr_layer_log_level level,
		       const char *line)
{
	size_t used;

	pthread_mutex_lock(&saying);
	used = strlen(said);
	snprintf(said + used, sizeof(said) - used, "%u %s\n", (unsigned)level, line);
	pthread_mutex_unlock(&saying);
}

static bool was_said(const char *what)
{
	bool found;

	pthread_mutex_lock(&saying);
	found = strstr(said, what) != NULL;
	pthread_mutex_unlock(&saying);
	return found;
}

static void becomes_said(const char *what)
{
	for (unsigned i = 0; !was_said(what) && i < 20000; i++)
		usleep(1000);
	if (!was_said(what))
		fail_msg("'%s' was not said, but: %s", what, said);
}

static void a_file_that_holds_no_rate_any_more_is_told_once(void **state)
{
	static const struct nr_surroundings surroundings = { .log = write_down };
	const struct layer_options speaking = { .surroundings = &surroundings,
						.export_name = "disk" };
	struct layer_test *t;

	write_file("rate", "8G");
	write_file("own", "8G");
	t = layer_test_open(&speaking, "rate rate-file=%s/rate export-rate-file=%s/own | memory 1M",
			    here, here);
	assert_string_equal(said, "");
	write_file("rate", "fast");
	becomes_said("1 rate: rate-file=");
	assert_true(was_said("does not hold a rate; 8589934592 bits per second stay in force"));
	write_file("own", "16G");
	becomes_said("2 export 'disk': rate: export-rate-file=");
	assert_true(was_said(": 17179869184 bits per second now\n"));
	write_file("rate", "1G");
	becomes_said(": 1073741824 bits per second now\n");
	layer_test_close(t);
	/* It was seen several times meanwhile. */
	assert_null(strstr(strstr(said, "does not hold") + 1, "does not hold"));
	remove_file("rate");
	remove_file("own");
}

static void connection_rate_is_for_each_client(void **state)
{
	struct layer_test *t =
		layer_test_open(&options, "rate connection-rate=8M burstiness=0.25 | memory 4M");
	struct nr_session a = unix_session(), b = unix_session();
	double start = seconds();

	assert_int_equal(admit(t, &a), 0);
	assert_int_equal(admit(t, &b), 0);
	assert_int_equal(ask(t, 0, &a, NR_READ, 250 << 10), 0);
	assert_int_equal(ask(t, 1, &b, NR_READ, 250 << 10), 0);
	/* The server's own requests are nobody's. */
	assert_int_equal(ask(t, 0, NULL, NR_READ, 1 << 20), 0);
	assert_true(seconds() - start < 0.2);
	assert_int_equal(ask(t, 0, &a, NR_READ, 256 << 10), 0);
	assert_true(seconds() - start >= 0.2);
	leave(t, &a);
	leave(t, &b);
	layer_test_close(t);
}

static void sleepers_profit_from_a_new_rate(void **state)
{
	for (unsigned i = 0; i < 2; i++) {
		struct nr_session s = unix_session();
		struct layer_test *t;
		struct nr_request *req;
		struct layer_client *c;
		double start;

		write_file("rate", "1\n"); /* a bit per second */
		t = i ? layer_test_open(
				&options,
				"rate connection-rate-file=%s/rate burstiness=0.001 | memory 4M",
				here)
		      : layer_test_open(
				&options,
				"rate rate=1G rate-file=%s/rate burstiness=0.001 | memory 4M",
				here);
		c = layer_client(t, 0);
		assert_int_equal(admit(t, &s), 0);
		req = start_as(t, 0, &s, NR_READ, 1 << 20);
		for (start = seconds(); seconds() - start < 0.7;)
			layer_turn(c);
		assert_false(is_back(req));
		write_file("rate", "8G");
		assert_int_equal(wait_for(req), 0);
		assert_true(seconds() - start < 5);
		/* What was run up does not follow the next one. */
		assert_int_equal(ask(t, 0, &s, NR_READ, 1 << 20), 0);
		write_file("rate", "nonsense");
		assert_int_equal(ask(t, 0, &s, NR_READ, 1 << 20), 0);
		assert_true(seconds() - start < 6);
		leave(t, &s);
		layer_test_close(t);
		remove_file("rate");
	}
}

static void rate_parameters_that_cannot_be(void **state)
{
	struct nr_error error;

	layer_test_refused(&options, &error, "rate burstiness=0 | memory 1M");
	assert_non_null(strstr(error.text, "burstiness=0"));
	layer_test_refused(&options, &error, "rate burstiness=soon | memory 1M");
	layer_test_refused(&options, &error, "rate rate=fast | memory 1M");
	write_file("rate", "fast");
	layer_test_refused(&options, &error, "rate rate-file=%s/rate | memory 1M", here);
	assert_non_null(strstr(error.text, "does not hold a rate"));
	remove_file("rate");
	layer_test_refused(&options, &error, "rate rate-file=%s | memory 1M", here);
}

static void fast_rates_change_nothing(void **state)
{
	struct layer_model model = { .seed = layer_seed(3),
				     .requests = 2000,
				     .length_max = 128 << 10,
				     .trim_zeroes = true,
				     .check_extents = true };
	struct layer_test *t = layer_test_open(
		&options, "rate rate=1T | time-limit | limit | ip | exportname | exitwhen | "
			  "rate rate=8G burstiness=0.0001 | memory 1M");

	layer_model_run(layer_client(t, 0), &model);
	layer_test_close(t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bucket_gives_the_burst_at_once_and_the_rest_in_time),
		cmocka_unit_test(bucket_follows_a_new_rate),
		cmocka_unit_test(bucket_counts_every_taker),
		cmocka_unit_test(rate_slows_down_all_clients_of_an_export),
		cmocka_unit_test(rate_is_for_the_server_and_export_rate_for_each),
		cmocka_unit_test(a_later_export_begins_with_the_rate_of_the_server),
		cmocka_unit_test(a_file_that_holds_no_rate_any_more_is_told_once),
		cmocka_unit_test(connection_rate_is_for_each_client),
		cmocka_unit_test(sleepers_profit_from_a_new_rate),
		cmocka_unit_test(rate_parameters_that_cannot_be),
		cmocka_unit_test(fast_rates_change_nothing),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
