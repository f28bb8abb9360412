/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A ring that looks for a while before it sleeps tries receives itself.  Whatever it
 * does meanwhile, each ends as it would without that.
 */
#include "test-ring-common.h"

#include <errno.h>
#include <pthread.h>

#define SPIN_NS 20000u

static int setup(void **state)
{
	*state = ring_new_spinning(64, SPIN_NS);
	return 0;
}

struct late {
	int fd;
	useconds_t after;
};

static void *write_late(void *argument)
{
	const struct late *late = argument;

	usleep(late->after);
	assert_int_equal(write(late->fd, "late", 4), 4);
	return NULL;
}

/* At once, about when it looks, and when it has long been asleep. */
static void what_comes_sooner_or_later_is_received(void **state)
{
	static const useconds_t after[] = { 0, 10, 100, 1000, 50000, 50000, 50000, 0, 10 };
	struct nr_ring *ring = *state;
	struct operation in;
	char data[8];
	int pair[2];

	make_pair(pair);
	operation_init(&in);
	for (size_t i = 0; i < sizeof(after) / sizeof(after[0]); i++) {
		struct late late = { pair[1], after[i] };
		pthread_t thread;

		nr_ring_recv(ring, &in.c, pair[0], data, sizeof(data));
		assert_int_equal(pthread_create(&thread, NULL, write_late, &late), 0);
		assert_int_equal(operation_wait(ring, &in), 4);
		assert_memory_equal(data, "late", 4);
		pthread_join(thread, NULL);
	}
	close_both(pair);
}

static void turns_that_do_not_wait_receive_too(void **state)
{
	struct nr_ring *ring = *state;
	struct operation in;
	char data[8];
	int pair[2];

	make_pair(pair);
	operation_init(&in);
	nr_ring_recv(ring, &in.c, pair[0], data, sizeof(data));
	nr_ring_turn(ring, false);
	assert_int_equal(in.ended, 0);
	assert_int_equal(write(pair[1], "x", 1), 1);
	for (int i = 0; i < 1000 && !in.ended; i++)
		nr_ring_turn(ring, false);
	assert_int_equal(in.ended, 1);
	assert_int_equal(in.result, 1);
	close_both(pair);
}

/* A timer that ends in each turn, so that no turn ever has to look for long. */
static void again(struct nr_ring *ring, struct nr_completion *c)
{
	((struct operation *)c)->ended++;
	nr_ring_timeout(ring, c, 0);
}

static void a_busy_ring_receives_from_all(void **state)
{
	enum { COUNT = 5 };
	struct nr_ring *ring = *state;
	struct operation busy, in[COUNT];
	char data[COUNT];
	int pairs[COUNT][2];
	unsigned ended = 0;

	operation_init(&busy);
	busy.c.done = again;
	nr_ring_timeout(ring, &busy.c, 0);
	for (unsigned i = 0; i < COUNT; i++) {
		make_pair(pairs[i]);
		operation_init(&in[i]);
		nr_ring_recv(ring, &in[i].c, pairs[i][0], &data[i], 1);
	}
	for (unsigned i = 0; i < COUNT; i++)
		assert_int_equal(write(pairs[i][1], &(char){ (char)('a' + i) }, 1), 1);
	for (unsigned turn = 0; turn < 1000 && ended < COUNT; turn++) {
		nr_ring_turn(ring, true);
		ended = 0;
		for (unsigned i = 0; i < COUNT; i++)
			ended += in[i].ended;
	}
	assert_int_equal(ended, COUNT);
	assert_memory_equal(data, "abcde", COUNT);
	busy.c.done = operation_done;
	busy.ended = 0;
	(void)operation_wait(ring, &busy);
	for (unsigned i = 0; i < COUNT; i++)
		close_both(pairs[i]);
}

static void the_end_and_errors_are_told(void **state)
{
	struct nr_ring *ring = *state;
	struct operation in;
	char byte;
	int pair[2], ends[2];

	make_pair(pair);
	operation_init(&in);
	close(pair[1]);
	nr_ring_recv(ring, &in.c, pair[0], &byte, 1);
	assert_int_equal(operation_wait(ring, &in), 0);
	close(pair[0]);
	nr_ring_recv(ring, &in.c, pair[0], &byte, 1);
	assert_int_equal(operation_wait(ring, &in), -EBADF);
	assert_int_equal(pipe(ends), 0);
	nr_ring_recv(ring, &in.c, ends[0], &byte, 1);
	assert_int_equal(operation_wait(ring, &in), -ENOTSOCK);
	close_both(ends);
}

static void receives_can_be_cancelled(void **state)
{
	struct nr_ring *ring = *state;
	struct operation in[2];
	char data[2];
	int pairs[2][2];

	/* One that the ring tries itself, and one that the kernel has. */
	for (int i = 0; i < 2; i++) {
		make_pair(pairs[i]);
		operation_init(&in[i]);
		nr_ring_recv(ring, &in[i].c, pairs[i][0], &data[i], 1);
	}
	for (int i = 0; i < 2; i++)
		nr_ring_cancel(ring, &in[i].c);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(operation_wait(ring, &in[i]), -ECANCELED);
		nr_ring_recv(ring, &in[i].c, pairs[i][0], &data[i], 1);
		assert_int_equal(write(pairs[i][1], "y", 1), 1);
		assert_int_equal(operation_wait(ring, &in[i]), 1);
		close_both(pairs[i]);
	}
}

static void destroy_takes_back_a_receive(void **state)
{
	struct nr_ring *ring = ring_new_spinning(64, SPIN_NS);
	struct operation in;
	char byte;
	int pair[2];

	(void)state;
	make_pair(pair);
	operation_init(&in);
	nr_ring_turn(ring, false);
	nr_ring_recv(ring, &in.c, pair[0], &byte, 1);
	nr_ring_destroy(ring);
	assert_int_equal(in.ended, 0);
	close_both(pair);
}

#define spin_test(f) cmocka_unit_test_setup_teardown(f, setup, ring_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		spin_test(what_comes_sooner_or_later_is_received),
		spin_test(turns_that_do_not_wait_receive_too),
		spin_test(a_busy_ring_receives_from_all),
		spin_test(the_end_and_errors_are_told),
		spin_test(receives_can_be_cancelled),
		cmocka_unit_test(destroy_takes_back_a_receive),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
