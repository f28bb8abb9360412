/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * retry: a disk that fails is opened anew under a stack that stays open.  With nothing in
 * flight, with nothing lost unsaid, and only if it is still the disk that it was.
 */
#include "tests/unit/session-test.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>

#include "nbdring/checked.h"

#define SIZE UINT64_C(1048576)
#define RETRY "retry retry-delay=1ms retry-exponential=no"

/* What is outside: the disk, and what befalls it. */
static struct {
	uint8_t bytes[SIZE];
	atomic_bool broken;    /* requests fail until it is opened again */
	atomic_bool away;      /* it cannot be opened */
	atomic_bool read_only; /* it can be opened for reading only */
	atomic_bool lossy;     /* flushes fail */
	atomic_bool no_trim;
	_Atomic uint64_t size;
	_Atomic uint32_t block;
	atomic_uint opened, closed, failed, flushed, in_flight;
	atomic_uint breaks_after; /* so many requests; 0: never */
} outside;

/* The backend: it must never be asked for anything while it is closed. */

struct source {
	uint64_t mark; /* a parameter */
	bool is_open;
	bool read_only;
};

static const struct nr_param source_params[] = {
	{ .name = "mark",
	  .type = NR_PARAM_UINT,
	  .offset = offsetof(struct source, mark),
	  .fallback = "7",
	  .max = 100,
	  .help = "a number" },
	{ .name = NULL },
};

static int source_open(struct nr_layer *layer, struct nr_error *error)
{
	struct source *s = layer->instance;

	LAYER_CHECK(s->mark == 7 && !s->is_open); /* as the parameters have made it */
	if (atomic_load(&outside.away))
		return nr_error_set(error, -ENODEV, "it is away");
	s->is_open = true;
	s->mark = 99;
	s->read_only = layer->read_only || atomic_load(&outside.read_only);
	atomic_store(&outside.broken, false);
	atomic_fetch_add(&outside.opened, 1);
	return 0;
}

static void source_close(struct nr_layer *layer)
{
	struct source *s = layer->instance;

	LAYER_CHECK(s->is_open && atomic_load(&outside.in_flight) == 0);
	s->is_open = false;
	atomic_fetch_add(&outside.closed, 1);
}

static int source_describe(struct nr_layer *layer, struct nr_traits *t, struct nr_error *error)
{
	const struct source *s = layer->instance;

	t->size = atomic_load(&outside.size);
	t->block_min = atomic_load(&outside.block);
	t->read_only = s->read_only;
	t->support[NR_CAP_FLUSH] = NR_NATIVE;
	if (s->read_only)
		return 0;
	t->support[NR_CAP_FUA] = NR_NATIVE;
	t->support[NR_CAP_TRIM] = atomic_load(&outside.no_trim) ? NR_NONE : NR_NATIVE;
	t->support[NR_CAP_ZERO] = NR_EMULATE;
	return 0;
}

static int source_refresh(struct nr_layer *layer, uint64_t *size, struct nr_error *error)
{
	const struct source *s = layer->instance;

	LAYER_CHECK(s->is_open);
	*size = atomic_load(&outside.size);
	return 0;
}

static int carry_out(struct nr_request *req)
{
	struct nr_buffer *buffer;
	uint8_t *data;

	if (req->operation == NR_READ) {
		buffer = nr_buffer_get(req->worker, req->length, &data);
		if (!buffer)
			return -ENOMEM;
		memcpy(data, outside.bytes + req->offset, req->length);
		return nr_answer_data(req, data, req->length, buffer) ? 0 : -ENOMEM;
	}
	if (req->operation == NR_WRITE)
		nr_request_copy_out(req, 0, req->length, outside.bytes + req->offset);
	if (req->operation == NR_FLUSH) {
		atomic_fetch_add(&outside.flushed, 1);
		return atomic_load(&outside.lossy) ? -EIO : 0;
	}
	return 0;
}

static void source_submit(struct nr_layer *layer, struct nr_request *req)
{
	const struct source *s = layer->instance;

	LAYER_CHECK(s->is_open);
	atomic_fetch_add(&outside.in_flight, 1);
	nr_sleep(layer, req, 20000); /* so that some are in flight */
}

static void source_resume(struct nr_layer *layer, struct nr_request *req)
{
	const struct source *s = layer->instance;
	unsigned left = atomic_load(&outside.breaks_after);
	int err;

	LAYER_CHECK(s->is_open);
	if (left && atomic_compare_exchange_strong(&outside.breaks_after, &left, left - 1) &&
	    left == 1)
		atomic_store(&outside.broken, true);
	err = atomic_load(&outside.broken) && req->operation != NR_FLUSH ? -EIO : carry_out(req);
	if (err)
		atomic_fetch_add(&outside.failed, 1);
	atomic_fetch_sub(&outside.in_flight, 1);
	nr_finish(layer, req, err);
}

static const struct nr_layer_type source_type = {
	.abi = NR_LAYER_ABI,
	.name = "source",
	.summary = "goes away and comes back",
	.kind = NR_BACKEND,
	.params = source_params,
	.instance_size = sizeof(struct source),
	.open = source_open,
	.describe = source_describe,
	.refresh = source_refresh,
	.submit = source_submit,
	.resume = source_resume,
	.close = source_close,
	.reopens = true,
};

static struct layer_test *open_stack(unsigned workers, bool read_only, const char *plan)
{
	static const struct nr_layer_type *const types[] = { &source_type, NULL };
	const struct layer_options options = {
		.types = types, .ring = true, .workers = workers, .read_only = read_only
	};

	memset(&outside, 0, sizeof(outside));
	atomic_store(&outside.size, SIZE);
	atomic_store(&outside.block, 1);
	return layer_test_open(&options, "%s", plan);
}

/* Each opening has had its closing. */
static void close_stack(struct layer_test *t)
{
	layer_test_close(t);
	assert_int_equal(atomic_load(&outside.opened), atomic_load(&outside.closed));
}

static void a_disk_that_fails_is_opened_anew(void **state)
{
	struct layer_test *t = open_stack(1, false, RETRY " | source");
	struct layer_client *c = layer_client(t, 0);

	for (unsigned i = 1; i <= 3; i++) {
		atomic_store(&outside.broken, true);
		assert_int_equal(layer_fill(c, i * 4096, 4096, 0x50), 0);
		assert_int_equal(atomic_load(&outside.opened), 1 + 2 * i - 1);
		atomic_store(&outside.broken, true);
		assert_true(layer_is(c, i * 4096, 4096, 0x50));
		assert_int_equal(atomic_load(&outside.opened), 1 + 2 * i);
	}
	close_stack(t);
}

static void the_layers_between_stay_as_they_are(void **state)
{
	struct layer_test *t = open_stack(
		1, false, RETRY " | blocksize minblock=512 maxdata=4k | offset offset=4k | source");
	struct layer_client *c = layer_client(t, 0);
	const struct layer_model model = { .seed = layer_seed(3), .requests = 300 };

	for (unsigned i = 0; i < 10; i++) {
		atomic_store(&outside.breaks_after, 5);
		assert_int_equal(layer_fill(c, 100, 60000, (uint8_t)i), 0);
		assert_true(layer_is(c, 100, 60000, (uint8_t)i));
	}
	assert_true(atomic_load(&outside.opened) > 1);
	layer_model_run(c, &model);
	close_stack(t);
}

static void it_fails_when_it_stays_away_and_comes_back_later(void **state)
{
	struct layer_test *t = open_stack(1, false, RETRY " retries=3 | source");
	struct layer_client *c = layer_client(t, 0);
	struct nr_error error = { 0 };
	uint8_t data[512];

	atomic_store(&outside.away, true);
	atomic_store(&outside.broken, true);
	assert_int_equal(layer_read(c, 0, sizeof(data), data), -EIO);
	assert_int_equal(atomic_load(&outside.failed), 1); /* a closed disk is not asked */
	assert_int_equal(atomic_load(&outside.closed), 1);
	/* A client that comes meanwhile finds it as it was. */
	atomic_store(&outside.size, 2 * SIZE);
	assert_int_equal(nr_stack_refresh(layer_test_stack(t), &error), 0);
	assert_int_equal(layer_test_size(t), SIZE);
	atomic_store(&outside.size, SIZE);
	assert_int_equal(layer_read(c, 0, sizeof(data), data), -EIO);
	assert_int_equal(layer_flush(c), 0); /* nothing was written */
	atomic_store(&outside.away, false);
	assert_int_equal(layer_read(c, 0, sizeof(data), data), 0);
	atomic_store(&outside.away, true);
	atomic_store(&outside.broken, true);
	assert_int_equal(layer_read(c, 0, sizeof(data), data), -EIO);
	close_stack(t); /* while it is away */
}

static void without_tries_nothing_is_closed(void **state)
{
	struct layer_test *t = open_stack(1, false, RETRY " retries=0 | source");
	uint8_t data[512];

	atomic_store(&outside.broken, true);
	assert_int_equal(layer_read(layer_client(t, 0), 0, sizeof(data), data), -EIO);
	assert_int_equal(atomic_load(&outside.opened), 1);
	close_stack(t);
}

/* The disk has changed while it was closed: reads fail until it is as it was. */
static void expect_refused_until(struct layer_test *t, void (*restore)(void))
{
	struct layer_client *c = layer_client(t, 0);
	uint8_t data[512];

	atomic_store(&outside.broken, true);
	assert_int_equal(layer_read(c, 0, sizeof(data), data), -EIO);
	assert_int_equal(layer_read(c, 0, sizeof(data), data), -EIO);
	assert_int_equal(layer_test_size(t), SIZE);
	restore();
	assert_int_equal(layer_read(c, 0, sizeof(data), data), 0);
}

static void restore(void)
{
	atomic_store(&outside.size, SIZE);
	atomic_store(&outside.block, 1);
	atomic_store(&outside.no_trim, false);
	atomic_store(&outside.read_only, false);
}

static void a_disk_that_is_less_than_it_was_is_not_taken(void **state)
{
	struct layer_test *t = open_stack(1, false, RETRY " retries=1 | source");

	atomic_store(&outside.size, SIZE - 1);
	expect_refused_until(t, restore);
	atomic_store(&outside.block, 512);
	expect_refused_until(t, restore);
	atomic_store(&outside.no_trim, true);
	expect_refused_until(t, restore);
	atomic_store(&outside.read_only, true);
	expect_refused_until(t, restore);
	close_stack(t);
}

static void one_that_has_grown_has_the_new_size(void **state)
{
	struct layer_test *t = open_stack(1, false, "offset offset=4096 | " RETRY " | source");
	uint8_t data[512];

	atomic_store(&outside.size, SIZE + 4096);
	atomic_store(&outside.broken, true);
	assert_int_equal(layer_read(layer_client(t, 0), 0, sizeof(data), data), 0);
	assert_int_equal(layer_test_size(t), SIZE);
	close_stack(t);
}

static void for_reading_only_if_asked(void **state)
{
	struct layer_test *t = open_stack(1, false, RETRY " retry-readonly=yes | source");
	struct layer_client *c = layer_client(t, 0);
	uint8_t data[512];

	assert_int_equal(layer_fill(c, 0, 512, 1), 0);
	atomic_store(&outside.broken, true);
	assert_int_equal(layer_read(c, 0, sizeof(data), data), 0);
	assert_int_equal(layer_fill(c, 0, 512, 2), -EROFS);
	assert_int_equal(layer_zero(c, 0, 512, 0), -EROFS);
	assert_int_equal(layer_trim(c, 0, 512, 0), -EROFS);
	assert_int_equal(layer_flush(c), 0);
	assert_true(layer_is(c, 0, 512, 1));
	close_stack(t);
}

static int flush_of(struct layer_test *t, struct nr_session *session)
{
	struct nr_request *req = start_as(t, 0, session, NR_FLUSH, 0);

	while (!is_back(req))
		layer_turn(layer_client(t, 0));
	return wait_for(req);
}

static void what_was_written_is_flushed_before_it_is_closed(void **state)
{
	struct layer_test *t = open_stack(1, false, RETRY " | source");
	struct layer_client *c = layer_client(t, 0);

	assert_int_equal(layer_fill(c, 0, 512, 1), 0);
	atomic_store(&outside.broken, true);
	assert_true(layer_is(c, 0, 512, 1));
	assert_int_equal(atomic_load(&outside.flushed), 1);
	assert_int_equal(layer_flush(c), 0);
	/* Nothing written since: nothing to flush. */
	atomic_store(&outside.broken, true);
	assert_true(layer_is(c, 0, 512, 1));
	assert_int_equal(atomic_load(&outside.flushed), 2);
	close_stack(t);
}

static void each_client_is_told_once_of_writes_that_may_be_lost(void **state)
{
	struct layer_test *t = open_stack(1, false, RETRY " | source");
	struct layer_client *c = layer_client(t, 0);
	struct nr_session one = unix_session(), two = unix_session(), late = unix_session();

	assert_int_equal(admit(t, &one), 0);
	assert_int_equal(admit(t, &two), 0);
	assert_int_equal(layer_fill(c, 0, 512, 1), 0);
	atomic_store(&outside.lossy, true);
	atomic_store(&outside.broken, true);
	assert_true(layer_is(c, 0, 512, 1));
	atomic_store(&outside.lossy, false);
	assert_int_equal(admit(t, &late), 0);
	assert_int_equal(flush_of(t, &one), -EIO);
	assert_int_equal(flush_of(t, &one), 0);
	assert_int_equal(flush_of(t, &two), -EIO);
	assert_int_equal(flush_of(t, &two), 0);
	assert_int_equal(flush_of(t, &late), 0);
	/* The server's own, before it closes. */
	assert_int_equal(layer_flush(c), -EIO);
	assert_int_equal(layer_flush(c), 0);
	leave(t, &one);
	leave(t, &two);
	leave(t, &late);
	close_stack(t);
}

static void a_flush_and_what_may_hide_one_are_not_tried_again(void **state)
{
	struct layer_test *t = open_stack(1, false, RETRY " | source");
	struct layer_client *c = layer_client(t, 0);
	uint8_t data[512] = { 0 };

	atomic_store(&outside.lossy, true);
	assert_int_equal(layer_flush(c), -EIO);
	atomic_store(&outside.broken, true);
	assert_int_equal(layer_write(c, 0, sizeof(data), data, NR_FUA), -EIO);
	assert_int_equal(atomic_load(&outside.opened), 1);
	close_stack(t);
}

static void turn_for(struct layer_client *c, double time)
{
	double end = seconds() + time;

	while (seconds() < end)
		layer_turn(c);
}

static void what_failed_together_is_helped_by_one_opening(void **state)
{
	struct layer_test *t =
		open_stack(1, false, "retry retry-delay=60ms retry-exponential=no | source");
	struct layer_client *c = layer_client(t, 0);
	struct nr_request *first, *second;

	atomic_store(&outside.broken, true);
	first = layer_start(c, NR_READ, 0, 0, 512, NULL, NULL);
	turn_for(c, 0.02);
	second = layer_start(c, NR_READ, 0, 0, 512, NULL, NULL);
	assert_int_equal(layer_wait(c, first), 0);
	assert_int_equal(layer_wait(c, second), 0);
	assert_int_equal(atomic_load(&outside.opened), 2);
	layer_end(c, first);
	layer_end(c, second);
	close_stack(t);
}

/* Several workers, each with requests under way, and a disk that breaks all the time. */

#define THREADS 4
#define ROUNDS 150
#define AT_ONCE 8

static void *keep_busy(void *argument)
{
	struct layer_client *c = argument;
	unsigned self = nr_worker_index(layer_client_worker(c));
	uint64_t base = self * (SIZE / THREADS);
	uint8_t data[AT_ONCE][512];
	struct nr_request *req[AT_ONCE];

	for (unsigned round = 0; round < ROUNDS; round++) {
		for (unsigned i = 0; i < AT_ONCE; i++) {
			memset(data[i], (int)(round + i), sizeof(data[i]));
			req[i] = layer_start(c, NR_WRITE, 0, base + i * 512, 512, data[i], NULL);
		}
		if (round % 10 == self)
			atomic_store(&outside.breaks_after, 3);
		for (unsigned i = 0; i < AT_ONCE; i++) {
			LAYER_CHECK(layer_wait(c, req[i]) == 0);
			layer_end(c, req[i]);
		}
		for (unsigned i = 0; i < AT_ONCE; i++)
			LAYER_CHECK(layer_is(c, base + i * 512, 512, (uint8_t)(round + i)));
	}
	return NULL;
}

static void nothing_is_in_flight_while_it_is_closed(void **state)
{
	struct layer_test *t = open_stack(THREADS, false, RETRY " retries=1000 | source");
	pthread_t thread[THREADS];

	for (unsigned i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&thread[i], NULL, keep_busy, layer_client(t, i)),
				 0);
	for (unsigned i = 0; i < THREADS; i++)
		assert_int_equal(pthread_join(thread[i], NULL), 0);
	assert_true(atomic_load(&outside.opened) > 5);
	close_stack(t);
}

static void a_disk_that_is_nowhere_else_is_not_closed(void **state)
{
	const struct layer_options options = { .ring = true };
	struct layer_test *t = layer_test_open(
		&options, RETRY " | error error-rate=1 error-after=2 error-count=2 | memory 1M");
	struct layer_client *c = layer_client(t, 0);

	assert_int_equal(layer_fill(c, 0, 65536, 0x5a), 0);
	assert_true(layer_is(c, 0, 65536, 0x5a));
	layer_test_close(t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_disk_that_fails_is_opened_anew),
		cmocka_unit_test(the_layers_between_stay_as_they_are),
		cmocka_unit_test(it_fails_when_it_stays_away_and_comes_back_later),
		cmocka_unit_test(without_tries_nothing_is_closed),
		cmocka_unit_test(a_disk_that_is_less_than_it_was_is_not_taken),
		cmocka_unit_test(one_that_has_grown_has_the_new_size),
		cmocka_unit_test(for_reading_only_if_asked),
		cmocka_unit_test(what_was_written_is_flushed_before_it_is_closed),
		cmocka_unit_test(each_client_is_told_once_of_writes_that_may_be_lost),
		cmocka_unit_test(a_flush_and_what_may_hide_one_are_not_tried_again),
		cmocka_unit_test(what_failed_together_is_helped_by_one_opening),
		cmocka_unit_test(nothing_is_in_flight_while_it_is_closed),
		cmocka_unit_test(a_disk_that_is_nowhere_else_is_not_closed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
