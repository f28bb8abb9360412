/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The filter `readahead`, over a disk in memory that says what it was asked for, that can
 * keep reads waiting, and that can fail.
 */
#include <errno.h>

#include "nbdring/checked.h"
#include "tests/unit/session-test.h"

#define KIB UINT64_C(1024)
#define MIB (KIB * KIB)
#define SIZE_MAX_TEST (8 * MIB)

static struct {
	uint64_t size;
	uint8_t *memory;
	unsigned reads;
	uint64_t bytes, bad_from, bad_to;
	bool holds;
	struct nr_request *held[256];
	unsigned held_count;
	struct nr_layer *layer;
} tape;

static int tape_describe(struct nr_layer *layer, struct nr_traits *t, struct nr_error *error)
{
	tape.layer = layer;
	t->size = tape.size;
	t->multi_conn = true;
	t->support[NR_CAP_TRIM] = t->support[NR_CAP_ZERO] = NR_NATIVE;
	return 0;
}

static bool is_bad(const struct nr_request *req)
{
	return req->offset < tape.bad_to && req->offset + req->length > tape.bad_from;
}

/* The content is that of now, also for a read that is held. */
static void tape_answer(struct nr_request *req)
{
	struct nr_buffer *buffer;
	uint8_t *data;

	if (is_bad(req))
		return;
	buffer = nr_buffer_get(req->worker, req->length, &data);
	LAYER_CHECK(buffer);
	memcpy(data, tape.memory + req->offset, req->length);
	LAYER_CHECK(nr_answer_data(req, data, req->length, buffer));
}

static void tape_end(struct nr_layer *layer, struct nr_request *req)
{
	nr_finish(layer, req, req->operation == NR_READ && is_bad(req) ? -EIO : 0);
}

static void tape_submit(struct nr_layer *layer, struct nr_request *req)
{
	if (req->operation == NR_WRITE)
		nr_request_copy_out(req, 0, req->length, tape.memory + req->offset);
	else if (req->operation != NR_READ)
		memset(tape.memory + req->offset, 0, req->length);
	if (req->operation == NR_READ) {
		tape.reads++;
		tape.bytes += req->length;
		tape_answer(req);
	}
	if (req->operation != NR_READ || !tape.holds) {
		tape_end(layer, req);
		return;
	}
	LAYER_CHECK(tape.held_count < 256);
	tape.held[tape.held_count++] = req;
}

static void let_go(void)
{
	tape.holds = false;
	for (unsigned i = 0; i < tape.held_count; i++)
		nr_resume(tape.layer, tape.held[i]);
	tape.held_count = 0;
}

static const struct nr_layer_type tape_type = {
	.abi = NR_LAYER_ABI,
	.name = "tape",
	.summary = "says what it was asked for",
	.kind = NR_BACKEND,
	.placement = NR_SPREAD,
	.describe = tape_describe,
	.submit = tape_submit,
	.resume = tape_end,
};

static struct layer_test *open_tape(uint64_t size, const char *parameters)
{
	static const struct nr_layer_type *const types[] = { &tape_type, NULL };
	struct layer_options options = { .types = types };

	tape.size = size;
	for (uint64_t i = 0; i < size; i++)
		tape.memory[i] = (uint8_t)(1 + (i ^ i >> 8 ^ i >> 16) % 255);
	return layer_test_open(&options, "readahead %s | tape", parameters);
}

static int begin(void **state)
{
	memset(&tape, 0, sizeof(tape));
	tape.memory = malloc(SIZE_MAX_TEST);
	return tape.memory ? 0 : -1;
}

static int end(void **state)
{
	free(tape.memory);
	return 0;
}

/* All have left: what the filter does of its own ends by itself. */
static void close_tape(struct layer_test *t)
{
	struct nr_worker *worker = layer_client_worker(layer_client(t, 0));

	for (double start = seconds(); worker->slots_used && seconds() - start < 10;)
		nr_worker_run(worker);
	assert_int_equal(worker->slots_used, 0);
	layer_test_close(t);
}

static struct nr_request *start(struct layer_test *t, struct nr_session *session,
				enum nr_operation operation, uint64_t offset, uint64_t length)
{
	static uint8_t data[MIB] = { [0 ... MIB - 1] = 0xdd };
	struct nr_request *req =
		nr_request_get(layer_client_worker(layer_client(t, 0)), layer_test_stack(t), 16);

	assert_non_null(req);
	*(bool *)((char *)req - 16) = false;
	req->operation = operation;
	req->offset = offset;
	req->length = length;
	req->session = session;
	req->internal.finished = came_back;
	if (operation == NR_WRITE) {
		req->segments[0] = (struct nr_segment){ data, length, NULL };
		req->segment_count = 1;
	}
	nr_stack_submit(layer_test_stack(t), req);
	return req;
}

/* Wait for a read: its error, and 1 if the bytes are not those of the disk now. */
static int end_read(struct nr_request *req)
{
	static uint8_t data[MIB];
	int result;

	while (!is_back(req))
		nr_worker_run(req->worker);
	result = req->error;
	if (!result) {
		nr_request_copy_out(req, 0, req->length, data);
		result = memcmp(data, tape.memory + req->offset, req->length) != 0;
	}
	nr_request_release(req, 16);
	return result;
}

static int read_at(struct layer_test *t, struct nr_session *session, uint64_t offset,
		   uint64_t length)
{
	return end_read(start(t, session, NR_READ, offset, length));
}

static void settle(struct layer_test *t)
{
	for (unsigned i = 0; i < 50; i++)
		layer_turn(layer_client(t, 0));
}

/* ---- who is read ahead of ---------------------------------------------- */

static void test_who_reads_in_order_is_read_ahead_of(void **state)
{
	struct layer_test *t = open_tape(8 * MIB - 1234, "");
	struct nr_session s = unix_session();

	assert_int_equal(admit(t, &s), 0);
	for (uint64_t at = 0; at < tape.size; at += 4096)
		assert_int_equal(read_at(t, &s, at, nr_min(4096, tape.size - at)), 0);
	/* Large pieces, and nothing twice. */
	assert_true(tape.reads < 40);
	assert_true(tape.bytes < tape.size + 100 * KIB);
	leave(t, &s);
	close_tape(t);
}

static void test_who_reads_anywhere_costs_what_it_asks_for(void **state)
{
	struct layer_test *t = open_tape(8 * MIB, "");
	struct nr_session s = unix_session();
	uint64_t seed = layer_seed(1), bytes = 0;

	assert_int_equal(admit(t, &s), 0);
	for (unsigned i = 0; i < 2000; i++) {
		/* Never where the last one ended. */
		uint64_t at = layer_random_below(&seed, 800) * 8192 + i % 2 * 512;

		assert_int_equal(read_at(t, &s, at, 4096), 0);
		bytes += 4096;
	}
	assert_int_equal(tape.reads, 2000);
	assert_int_equal(tape.bytes, bytes);
	leave(t, &s);
	close_tape(t);
}

static void test_the_window_grows_and_has_an_end(void **state)
{
	struct layer_test *t = open_tape(8 * MIB, "readahead-window=2M");
	struct nr_session s = unix_session();
	uint64_t before = 0, most = 0;

	assert_int_equal(admit(t, &s), 0);
	for (uint64_t at = 0; at < 5 * MIB; at += 64 * KIB) {
		assert_int_equal(read_at(t, &s, at, 64 * KIB), 0);
		settle(t);
		if (at == 128 * KIB)
			before = tape.bytes - at;
		most = nr_max(most, tape.bytes - nr_min(tape.bytes, at));
	}
	assert_true(before > 0 && before < MIB);
	assert_true(most > MIB && most <= 2 * MIB + 512 * KIB);
	leave(t, &s);
	close_tape(t);
}

static void test_a_read_waits_for_what_is_on_its_way(void **state)
{
	struct layer_test *t = open_tape(4 * MIB, "");
	struct nr_session s = unix_session();
	struct nr_request *one, *two;
	unsigned reads;

	assert_int_equal(admit(t, &s), 0);
	assert_int_equal(read_at(t, &s, 0, 4096), 0);
	tape.holds = true;
	one = start(t, &s, NR_READ, 4096, 4096);
	settle(t);
	two = start(t, &s, NR_READ, 8192, 300 * KIB);
	settle(t);
	reads = tape.reads;
	settle(t);
	assert_int_equal(tape.reads, reads);
	assert_false(is_back(two));
	let_go();
	assert_int_equal(end_read(one), 0);
	assert_int_equal(end_read(two), 0);
	leave(t, &s);
	close_tape(t);
}

/* ---- what is read is right --------------------------------------------- */

static void test_what_anybody_writes_is_read(void **state)
{
	static const enum nr_operation operations[] = { NR_WRITE, NR_ZERO, NR_TRIM };

	for (unsigned i = 0; i < 3; i++) {
		struct layer_test *t = open_tape(4 * MIB, "");
		struct nr_session reader = unix_session(), writer = unix_session();

		assert_int_equal(admit(t, &reader), 0);
		assert_int_equal(admit(t, &writer), 0);
		for (uint64_t at = 0; at < 64 * KIB; at += 4096)
			assert_int_equal(read_at(t, &reader, at, 4096), 0);
		settle(t);
		assert_true(tape.bytes > 300 * KIB);
		assert_int_equal(wait_for(start(t, &writer, operations[i], 70 * KIB, 8 * KIB)), 0);
		for (uint64_t at = 64 * KIB; at < MIB; at += 4096)
			assert_int_equal(read_at(t, &reader, at, 4096), 0);
		leave(t, &reader);
		leave(t, &writer);
		close_tape(t);
	}
}

static void test_what_is_written_while_a_piece_comes_is_read(void **state)
{
	struct layer_test *t = open_tape(4 * MIB, "");
	struct nr_session s = unix_session();
	struct nr_request *first, *read;

	assert_int_equal(admit(t, &s), 0);
	assert_int_equal(read_at(t, &s, 0, 4096), 0);
	tape.holds = true;
	first = start(t, &s, NR_READ, 4096, 4096);
	settle(t);
	/* The pieces on their way have the old content. */
	assert_true(tape.held_count > 1);
	assert_int_equal(wait_for(start(t, &s, NR_WRITE, 100 * KIB, 4096)), 0);
	tape.holds = false;
	read = start(t, &s, NR_READ, 100 * KIB, 4096);
	let_go();
	assert_int_equal(end_read(read), 0);
	assert_int_equal(end_read(first), 0);
	assert_int_equal(read_at(t, &s, 100 * KIB, 4096), 0);
	leave(t, &s);
	close_tape(t);
}

static void test_mixed_reads_and_writes_are_those_of_the_disk(void **state)
{
	uint64_t seed = layer_seed(7), at[3] = { 0 };
	struct layer_test *t = open_tape(4 * MIB + 513, "readahead-memory=3M");
	struct nr_session s[3] = { unix_session(), unix_session(), unix_session() };

	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(admit(t, &s[i]), 0);
	for (unsigned i = 0; i < 20000; i++) {
		unsigned who = (unsigned)layer_random_below(&seed, 3);
		uint64_t length = 1 + layer_random_below(&seed, i % 7 ? 9000 : 300000);

		if (layer_random_below(&seed, 50) == 0 || at[who] >= tape.size)
			at[who] = layer_random_below(&seed, tape.size);
		length = nr_min(length, tape.size - at[who]);
		if (layer_random_below(&seed, 20) == 0) {
			uint64_t where = layer_random_below(&seed, tape.size - length + 1);

			wait_for(start(t, &s[who], i % 2 ? NR_WRITE : NR_ZERO, where, length));
			continue;
		}
		assert_int_equal(read_at(t, &s[who], at[who], length), 0);
		at[who] += length;
		layer_turn(layer_client(t, 0));
	}
	for (unsigned i = 0; i < 3; i++)
		leave(t, &s[i]);
	close_tape(t);
}

/* ---- what goes wrong --------------------------------------------------- */

static void test_only_what_cannot_be_read_fails(void **state)
{
	struct layer_test *t = open_tape(4 * MIB, "");
	struct nr_session s = unix_session();

	assert_int_equal(admit(t, &s), 0);
	tape.bad_from = MIB + 5000;
	tape.bad_to = MIB + 6000;
	for (uint64_t at = 0; at < 4 * MIB; at += 4096) {
		bool bad = at < tape.bad_to && at + 4096 > tape.bad_from;

		assert_int_equal(read_at(t, &s, at, 4096), bad ? -EIO : 0);
	}
	leave(t, &s);
	close_tape(t);
}

static void test_memory_has_a_limit_for_all_together(void **state)
{
	struct layer_test *t = open_tape(8 * MIB, "readahead-memory=1M");
	struct nr_session s[8];

	tape.holds = false;
	for (unsigned i = 0; i < 8; i++) {
		s[i] = unix_session();
		assert_int_equal(admit(t, &s[i]), 0);
		for (uint64_t at = 0; at < 16 * KIB; at += 4096)
			assert_int_equal(read_at(t, &s[i], at, 4096), 0);
		settle(t);
	}
	/* What the clients asked for, and so much. */
	assert_true(tape.bytes <= MIB + 8 * 16 * KIB);
	for (unsigned i = 0; i < 8; i++)
		leave(t, &s[i]);
	close_tape(t);
}

static void test_a_client_may_leave_with_pieces_on_their_way(void **state)
{
	struct layer_test *t = open_tape(4 * MIB, "");
	struct nr_session s = unix_session();

	assert_int_equal(admit(t, &s), 0);
	for (uint64_t at = 0; at < 8192; at += 4096)
		assert_int_equal(read_at(t, &s, at, 4096), 0);
	tape.holds = true;
	for (uint64_t at = 8192; at < 16384; at += 4096) {
		struct nr_request *req = start(t, &s, NR_READ, at, 4096);

		if (!tape.held_count)
			assert_int_equal(end_read(req), 0);
		else {
			let_go();
			assert_int_equal(end_read(req), 0);
			tape.holds = true;
		}
	}
	leave(t, &s);
	let_go();
	close_tape(t);
}

static void test_who_rests_gives_memory_back(void **state)
{
	struct layer_test *t = open_tape(4 * MIB, "");
	struct nr_session s = unix_session();
	struct nr_worker *worker = layer_client_worker(layer_client(t, 0));
	double began;
	unsigned reads;

	assert_int_equal(admit(t, &s), 0);
	for (uint64_t at = 0; at < 16 * KIB; at += 4096)
		assert_int_equal(read_at(t, &s, at, 4096), 0);
	settle(t);
	/* The request that looks for it is the only one left, and goes. */
	for (began = seconds(); worker->slots_used && seconds() - began < 30;)
		nr_worker_run(worker);
	assert_int_equal(worker->slots_used, 0);
	reads = tape.reads;
	for (uint64_t at = 16 * KIB; at < MIB; at += 4096)
		assert_int_equal(read_at(t, &s, at, 4096), 0);
	assert_true(tape.reads > reads && tape.reads < reads + 20);
	leave(t, &s);
	close_tape(t);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)
	const struct CMUnitTest tests[] = {
		TEST(test_who_reads_in_order_is_read_ahead_of),
		TEST(test_who_reads_anywhere_costs_what_it_asks_for),
		TEST(test_the_window_grows_and_has_an_end),
		TEST(test_a_read_waits_for_what_is_on_its_way),
		TEST(test_what_anybody_writes_is_read),
		TEST(test_what_is_written_while_a_piece_comes_is_read),
		TEST(test_mixed_reads_and_writes_are_those_of_the_disk),
		TEST(test_only_what_cannot_be_read_fails),
		TEST(test_memory_has_a_limit_for_all_together),
		TEST(test_a_client_may_leave_with_pieces_on_their_way),
		TEST(test_who_rests_gives_memory_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
