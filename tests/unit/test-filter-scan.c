/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The filter `scan`: which pieces of the disk it has prefetched and when, over a
 * backend that writes them down, and that nothing a client sees depends on it.
 */
#include "layer-test.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdatomic.h>
#include <time.h>

#include <cmocka.h>

#define PIECES_MAX 4096

/* A backend that knows what it was asked to prefetch. */
static struct {
	uint64_t size;
	uint32_t block_min;
	bool cannot, fails, holds; /* holds: keeps a piece until it is let go */
	_Atomic(struct nr_request *) held;
	atomic_uint count, under_way, most;
	uint64_t offset[PIECES_MAX], length[PIECES_MAX];
} tape;

static int tape_describe(struct nr_layer *layer, struct nr_traits *t, struct nr_error *error)
{
	t->size = tape.size;
	t->block_min = tape.block_min;
	t->support[NR_CAP_CACHE] = tape.cannot ? NR_NONE : NR_NATIVE;
	return 0;
}

static void tape_end(struct nr_layer *layer, struct nr_request *req)
{
	atomic_fetch_sub(&tape.under_way, 1);
	nr_finish(layer, req, tape.fails ? -EIO : 0);
}

static void tape_submit(struct nr_layer *layer, struct nr_request *req)
{
	unsigned now;

	if (req->operation == NR_READ)
		nr_answer_hole(req, req->length);
	if (req->operation != NR_CACHE) {
		nr_finish(layer, req, 0);
		return;
	}
	now = atomic_fetch_add(&tape.under_way, 1) + 1;
	if (now > atomic_load(&tape.most))
		atomic_store(&tape.most, now);
	now = atomic_fetch_add(&tape.count, 1);
	if (now < PIECES_MAX) {
		tape.offset[now] = req->offset;
		tape.length[now] = req->length;
	}
	if (tape.holds)
		atomic_store(&tape.held, req);
	else
		tape_end(layer, req);
}

static const struct nr_layer_type tape_type = {
	.abi = NR_LAYER_ABI,
	.name = "tape",
	.summary = "knows what was prefetched",
	.kind = NR_BACKEND,
	.describe = tape_describe,
	.submit = tape_submit,
	.resume = tape_end,
};

static const struct nr_layer_type *const types[] = { &tape_type, NULL };
static const struct layer_options options = { .types = types };

static void new_tape(uint64_t size)
{
	memset(&tape, 0, sizeof(tape));
	tape.size = size;
	tape.block_min = 1;
}

static void turn(struct layer_client *c, unsigned times)
{
	while (times--)
		layer_turn(c);
}

static void let_go(void)
{
	struct nr_request *req = atomic_exchange(&tape.held, NULL);

	assert_non_null(req);
	nr_resume(req->internal.at, req);
}

static void expect_piece(unsigned index, uint64_t offset, uint64_t length)
{
	assert_true(tape.count > index);
	assert_int_equal(tape.offset[index], offset);
	assert_int_equal(tape.length[index], length);
}

static void test_the_whole_disk_is_scanned_once_in_order(void **state)
{
	struct layer_test *t;
	struct layer_client *c;
	uint8_t byte;

	new_tape(10 * 4096 + 100);
	t = layer_test_open(&options, "scan scan-size=4k | tape");
	c = layer_client(t, 0);
	turn(c, 10);
	assert_int_equal(tape.count, 0);
	assert_int_equal(layer_read(c, 0, 1, &byte), 0);
	turn(c, 50);
	assert_int_equal(tape.count, 11);
	for (unsigned i = 0; i < 10; i++)
		expect_piece(i, i * 4096, 4096);
	expect_piece(10, 40960, 100);
	assert_int_equal(layer_read(c, 0, 1, &byte), 0);
	turn(c, 50);
	assert_int_equal(tape.count, 11);
	assert_int_equal(tape.most, 1);
	layer_test_close(t);
}

static void test_any_request_begins_the_scan(void **state)
{
	struct layer_test *t;

	new_tape(8 << 20);
	t = layer_test_open(&options, "scan | tape");
	assert_int_equal(layer_cache(layer_client(t, 0), 5, 1), 0);
	turn(layer_client(t, 0), 20);
	assert_int_equal(tape.count, 5);
	expect_piece(0, 5, 1);
	expect_piece(1, 0, 2 << 20);
	expect_piece(4, 6 << 20, 2 << 20);
	layer_test_close(t);
}

static void read_ahead_of_it(const char *parameters, uint64_t second)
{
	struct layer_test *t;
	struct layer_client *c;
	uint8_t byte;

	new_tape(1 << 20);
	tape.holds = true;
	t = layer_test_open(&options, "scan scan-size=4k %s | tape", parameters);
	c = layer_client(t, 0);
	assert_int_equal(layer_read(c, 0, 1, &byte), 0);
	turn(c, 5);
	expect_piece(0, 0, 4096);
	/* A request passes by a piece that takes long. */
	assert_int_equal(layer_read(c, 10 * 4096 + 99, 1, &byte), 0);
	assert_int_equal(tape.count, 1);
	let_go();
	turn(c, 5);
	assert_int_equal(tape.count, 2);
	expect_piece(1, second, 4096);
	/* Behind the scan: no reason to go back. */
	assert_int_equal(layer_read(c, 50, 1, &byte), 0);
	tape.holds = false;
	let_go();
	turn(c, 600);
	expect_piece(2, second + 4096, 4096);
	assert_int_equal(tape.offset[tape.count - 1], (1 << 20) - 4096);
	layer_test_close(t);
}

static void test_it_stays_ahead_of_the_client(void **state)
{
	read_ahead_of_it("", 10 * 4096);
}

static void test_it_can_be_told_not_to_skip(void **state)
{
	read_ahead_of_it("scan-ahead=false", 4096);
}

static void test_it_starts_over_after_a_second_at_the_earliest(void **state)
{
	const struct timespec pause = { .tv_nsec = 10 * 1000000 };
	struct layer_test *t;
	struct layer_client *c;
	uint64_t began;
	uint8_t byte;

	new_tape(4 * 4096);
	t = layer_test_open(&options, "scan scan-size=4k scan-forever=true | tape");
	c = layer_client(t, 0);
	began = nr_now(layer_client_worker(c));
	assert_int_equal(layer_read(c, 0, 1, &byte), 0);
	turn(c, 10);
	assert_int_equal(tape.count, 4);
	while (tape.count == 4) {
		assert_int_equal(layer_read(c, 0, 1, &byte), 0);
		turn(c, 10);
		nanosleep(&pause, NULL);
	}
	assert_true(nr_now(layer_client_worker(c)) - began >= UINT64_C(1000000000));
	turn(c, 10);
	assert_int_equal(tape.count, 8);
	expect_piece(4, 0, 4096);
	layer_test_close(t);
}

static void come_and_go(const char *parameters, unsigned expected)
{
	struct nr_session first = { .id = 1 }, second = { .id = 2 };
	struct layer_test *t;
	struct layer_client *c;
	struct nr_error error;
	uint8_t byte;

	new_tape(4 * 4096);
	t = layer_test_open(&options, "scan scan-size=4k %s | tape", parameters);
	c = layer_client(t, 0);
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(nr_stack_admit(layer_test_stack(t), &first, &error), 0);
		assert_int_equal(layer_read(c, 0, 1, &byte), 0);
		turn(c, 10);
		/* Not the first client: no new beginning. */
		assert_int_equal(nr_stack_admit(layer_test_stack(t), &second, &error), 0);
		assert_int_equal(layer_read(c, 0, 1, &byte), 0);
		turn(c, 10);
		nr_stack_leave(layer_test_stack(t), &first);
		nr_stack_leave(layer_test_stack(t), &second);
	}
	assert_int_equal(tape.count, expected);
	layer_test_close(t);
}

static void test_the_clock_goes_on_or_begins_again(void **state)
{
	come_and_go("", 4);
	come_and_go("scan-clock=false", 8);
}

static void test_pieces_that_fail_are_left_out(void **state)
{
	struct layer_test *t;
	uint8_t byte;

	new_tape(4 * 4096);
	tape.fails = true;
	t = layer_test_open(&options, "scan scan-size=4k | tape");
	assert_int_equal(layer_read(layer_client(t, 0), 0, 1, &byte), 0);
	turn(layer_client(t, 0), 10);
	assert_int_equal(tape.count, 4);
	layer_test_close(t);
}

static void test_without_memory_it_goes_on_later(void **state)
{
	struct layer_options tight = { .types = types, .slots_max = 1 };
	struct layer_test *t;
	struct layer_client *c;
	uint8_t byte;

	new_tape(4 * 4096);
	t = layer_test_open(&tight, "scan scan-size=4k | tape");
	c = layer_client(t, 0);
	assert_int_equal(layer_read(c, 0, 1, &byte), 0);
	turn(c, 10);
	assert_int_equal(tape.count, 0);
	layer_client_worker(c)->slots_max = 8;
	assert_int_equal(layer_read(c, 0, 1, &byte), 0);
	turn(c, 10);
	assert_int_equal(tape.count, 4);
	layer_test_close(t);
}

static void test_twice_in_a_stack_each_scans(void **state)
{
	struct layer_test *t;

	new_tape(8 * 4096);
	t = layer_test_open(&options, "scan scan-size=4k | scan scan-size=8k | tape");
	assert_int_equal(layer_flush(layer_client(t, 0)), -EINVAL);
	assert_int_equal(layer_cache(layer_client(t, 0), 0, 4096), 0);
	turn(layer_client(t, 0), 50);
	assert_int_equal(tape.count, 1 + 8 + 4);
	layer_test_close(t);
}

static void test_it_ends_when_the_stack_is_closed(void **state)
{
	struct layer_test *t;

	new_tape(INT64_MAX);
	t = layer_test_open(&options, "scan scan-size=512 | tape");
	assert_int_equal(layer_cache(layer_client(t, 0), 0, 1), 0);
	turn(layer_client(t, 0), 100);
	assert_true(tape.count >= 90);
	layer_test_close(t);
}

static void test_what_cannot_be_is_refused(void **state)
{
	struct nr_error error;

	new_tape(1 << 20);
	layer_test_refused(&options, &error, "scan scan-size=3000 | tape");
	assert_non_null(strstr(error.text, "scan-size=3000 is not a power of two"));
	assert_non_null(strstr(error.text, "use scan-size=4096"));
	layer_test_refused(&options, &error, "scan scan-size=33554431 | tape");
	assert_non_null(strstr(error.text, "use scan-size=33554432"));
	layer_test_refused(&options, &error, "scan scan-size=256 | tape");
	layer_test_refused(&options, &error, "scan scan-size=64M | tape");
	tape.block_min = 4096;
	layer_test_refused(&options, &error, "scan scan-size=512 | tape");
	assert_non_null(strstr(error.text, "use scan-size=4096"));
	layer_test_close(layer_test_open(&options, "scan scan-size=4k | tape"));
	tape.cannot = true;
	assert_int_equal(layer_test_refused(&options, &error, "scan | tape"), -ENOTSUP);
	assert_non_null(strstr(error.text, "'tape' below cannot prefetch"));
}

static void test_prefetching_by_reading(void **state)
{
	const struct layer_options ring = { .ring = true };
	struct layer_test *t = layer_test_open(
		&ring, "scan scan-size=64k | nocache cachemode=emulate | memory 1000001");
	const struct layer_model model = { .seed = layer_seed(411),
					   .requests = 3000,
					   .check_extents = true };

	layer_model_run(layer_client(t, 0), &model);
	layer_test_close(t);
}

/* Several workers. */

#define WORKERS 4

static void *read_randomly(void *argument)
{
	struct layer_client *c = argument;
	uint64_t random = nr_worker_index(layer_client_worker(c));
	uint8_t data[512];

	for (unsigned i = 0; i < 3000; i++) {
		LAYER_CHECK(layer_read(c, layer_random_below(&random, 1 << 19), 512, data) == 0);
		layer_turn(c);
	}
	return NULL;
}

static void test_workers_share_one_scan(void **state)
{
	const struct layer_options spread = { .types = types, .workers = WORKERS };
	struct layer_test *t;
	pthread_t thread[WORKERS];

	new_tape(1 << 20);
	t = layer_test_open(&spread, "scan scan-size=512 | tape");
	for (unsigned i = 0; i < WORKERS; i++)
		pthread_create(&thread[i], NULL, read_randomly, layer_client(t, i));
	for (unsigned i = 0; i < WORKERS; i++)
		pthread_join(thread[i], NULL);
	for (unsigned i = 0; i < WORKERS; i++)
		turn(layer_client(t, i), 3000);
	layer_test_close(t);
	assert_int_equal(tape.most, 1);
	assert_true(tape.count > 0 && tape.count <= 2048 + 1);
	for (unsigned i = 1; i < tape.count; i++)
		assert_true(tape.offset[i] >= tape.offset[i - 1] + tape.length[i - 1]);
	assert_int_equal(tape.offset[tape.count - 1], (1 << 20) - 512);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_whole_disk_is_scanned_once_in_order),
		cmocka_unit_test(test_any_request_begins_the_scan),
		cmocka_unit_test(test_it_stays_ahead_of_the_client),
		cmocka_unit_test(test_it_can_be_told_not_to_skip),
		cmocka_unit_test(test_it_starts_over_after_a_second_at_the_earliest),
		cmocka_unit_test(test_the_clock_goes_on_or_begins_again),
		cmocka_unit_test(test_pieces_that_fail_are_left_out),
		cmocka_unit_test(test_without_memory_it_goes_on_later),
		cmocka_unit_test(test_twice_in_a_stack_each_scans),
		cmocka_unit_test(test_it_ends_when_the_stack_is_closed),
		cmocka_unit_test(test_what_cannot_be_is_refused),
		cmocka_unit_test(test_prefetching_by_reading),
		cmocka_unit_test(test_workers_share_one_scan),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
