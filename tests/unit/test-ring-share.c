/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Sends by reference: what arrives is what was there, in order, however full the
 * socket is, and pages that were dropped after the send still arrive.
 */
#include "test-ring-common.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>

#define PARTS 9

/* Memory as a RAM disk has it. */
static unsigned char *pages(size_t bytes)
{
	unsigned char *memory =
		mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	assert_true(memory != MAP_FAILED);
	return memory;
}

/* Turns until END bytes of the pattern have come in over FD, from GOT on. */
static void take_pattern(struct nr_ring *ring, int fd, size_t got, size_t end)
{
	char *window = malloc(65536);
	struct operation in;

	operation_init(&in);
	while (got < end) {
		int64_t n;

		nr_ring_recv(ring, &in.c, fd, window, end - got < 65536 ? end - got : 65536);
		n = operation_wait(ring, &in);
		assert_true(n > 0);
		check_pattern(window, (size_t)n, got);
		got += (size_t)n;
	}
	free(window);
}

static void make_tcp_pair(int pair[2])
{
	struct sockaddr_in address = { .sin_family = AF_INET,
				       .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t length = sizeof(address);
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_int_equal(bind(listener, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(listen(listener, 1), 0);
	assert_int_equal(getsockname(listener, (struct sockaddr *)&address, &length), 0);
	pair[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(connect(pair[0], (struct sockaddr *)&address, sizeof(address)), 0);
	pair[1] = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	assert_true(pair[1] >= 0);
	close(listener);
}

/* A pipe with LENGTH bytes of the pattern from POSITION on. */
static void fill_pipe(int ends[2], size_t length, size_t position)
{
	char *data = malloc(length);

	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	assert_true(fcntl(ends[1], F_SETPIPE_SZ, length) > 0);
	fill_pattern(data, length, position);
	assert_int_equal(write(ends[1], data, length), length);
	free(data);
}

/* Parts of all kinds, in turn and at odd places, through a socket with little room. */
static void mixture(struct nr_ring *ring, const int pair[2], int send_buffer)
{
	static const size_t length[PARTS] = { 20, 70001, 16, 65536, 1, 262144, 33, 131072, 9000 };
	static const uint8_t kinds[PARTS] = { NR_SEND_COPY, NR_SEND_SHARE, NR_SEND_COPY,
					      NR_SEND_PIPE, NR_SEND_COPY,  NR_SEND_SHARE,
					      NR_SEND_PIPE, NR_SEND_PIPE,  NR_SEND_SHARE };
	struct iovec vector[PARTS];
	unsigned char *memory;
	struct operation out;
	size_t total = 0;
	int pipes[PARTS][2];

	if (send_buffer)
		assert_int_equal(setsockopt(pair[1], SOL_SOCKET, SO_SNDBUF, &send_buffer,
					    sizeof(send_buffer)),
				 0);
	for (unsigned i = 0; i < PARTS; i++)
		total += length[i];
	memory = pages(total);
	fill_pattern(memory, total, 0);
	total = 0;
	for (unsigned i = 0; i < PARTS; i++) {
		vector[i] = (struct iovec){ memory + total, length[i] };
		if (kinds[i] == NR_SEND_PIPE) {
			fill_pipe(pipes[i], length[i], total);
			vector[i].iov_base = (void *)(intptr_t)pipes[i][0];
			memset(memory + total, 0, length[i]);
		}
		total += length[i];
	}
	operation_init(&out);
	nr_ring_send_shared(ring, &out.c, pair[1], vector, kinds, PARTS);
	take_pattern(ring, pair[0], 0, total);
	assert_int_equal(operation_wait(ring, &out), total);
	for (unsigned i = 0; i < PARTS; i++)
		if (kinds[i] == NR_SEND_PIPE)
			close_both(pipes[i]);
	munmap(memory, total);
	close_both(pair);
}

static void parts_of_all_kinds_arrive_in_order(void **state)
{
	int pair[2];

	make_pair(pair);
	mixture(*state, pair, 0);
	make_tcp_pair(pair);
	mixture(*state, pair, 0);
}

static void a_full_socket_is_waited_for(void **state)
{
	int pair[2];

	make_pair(pair);
	mixture(*state, pair, 4096);
	make_tcp_pair(pair);
	mixture(*state, pair, 4096);
}

static void a_small_pipe_is_enough(void **state)
{
	const size_t length = 4 * MIB;
	unsigned char *memory = pages(length);
	struct iovec part = { memory, length };
	const uint8_t kind = NR_SEND_SHARE;
	struct operation out;
	int pair[2];

	make_pair(pair);
	fill_pattern(memory, length, 0);
	operation_init(&out);
	nr_ring_send_shared(*state, &out.c, pair[1], &part, &kind, 1);
	take_pattern(*state, pair[0], 0, length);
	assert_int_equal(operation_wait(*state, &out), length);
	close_both(pair);
	munmap(memory, length);
}

/* What is done to the memory after the send does not reach the peer. */
static void change_after_the_send(struct nr_ring *ring, uint8_t kind)
{
	const size_t length = 64 * 1024;
	unsigned char *memory = pages(length);
	struct iovec part = { memory, length };
	struct operation out;
	int pair[2];

	make_pair(pair);
	fill_pattern(memory, length, 0);
	operation_init(&out);
	nr_ring_send_shared(ring, &out.c, pair[1], &part, &kind, 1);
	assert_int_equal(operation_wait(ring, &out), length);
	if (kind == NR_SEND_SHARE)
		assert_int_equal(madvise(memory, length, MADV_DONTNEED), 0);
	memset(memory, 0xee, length);
	take_pattern(ring, pair[0], 0, length);
	close_both(pair);
	munmap(memory, length);
}

/* The peer has references to the pages: it gets them after we have dropped ours. */
static void dropped_pages_still_arrive(void **state)
{
	change_after_the_send(*state, NR_SEND_SHARE);
}

static void copied_parts_are_ours_again_after_the_send(void **state)
{
	change_after_the_send(*state, NR_SEND_COPY);
}

static void the_socket_blocks_as_before(void **state)
{
	unsigned char *memory = pages(4096);
	struct iovec part = { memory, 4096 };
	const uint8_t kind = NR_SEND_SHARE;
	struct operation out;
	int pair[2];

	make_pair(pair);
	operation_init(&out);
	nr_ring_send_shared(*state, &out.c, pair[1], &part, &kind, 1);
	assert_int_equal(operation_wait(*state, &out), 4096);
	assert_int_equal(fcntl(pair[1], F_GETFL) & O_NONBLOCK, 0);
	close_both(pair);
	munmap(memory, 4096);
}

static void a_peer_that_is_gone_is_an_error_without_a_signal(void **state)
{
	unsigned char *memory = pages(8192);
	struct iovec part = { memory, 8192 };
	const uint8_t kind = NR_SEND_SHARE;
	struct operation out;
	int pair[2];

	signal(SIGPIPE, SIG_DFL);
	make_pair(pair);
	close(pair[0]);
	operation_init(&out);
	nr_ring_send_shared(*state, &out.c, pair[1], &part, &kind, 1);
	assert_int_equal(operation_wait(*state, &out), -EPIPE);
	close(pair[1]);
	munmap(memory, 8192);
}

/* While it waits for room, and when nothing was tried yet. */
static void a_send_can_be_cancelled(void **state)
{
	const size_t length = 4 * MIB;
	unsigned char *memory = pages(length);
	const uint8_t kind = NR_SEND_SHARE;

	for (unsigned turns = 0; turns < 4; turns++) {
		struct iovec part = { memory, length };
		struct operation out;
		int pair[2];

		make_pair(pair);
		operation_init(&out);
		nr_ring_send_shared(*state, &out.c, pair[1], &part, &kind, 1);
		for (unsigned i = 0; i < turns; i++)
			nr_ring_turn(*state, false);
		nr_ring_cancel(*state, &out.c);
		assert_int_equal(operation_wait(*state, &out), -ECANCELED);
		close_both(pair);
	}
	munmap(memory, length);
}

/* A full queue holds them back with others behind them: nobody is lost. */
static void sends_among_operations_held_back(void **state)
{
	enum { COUNT = 1000, SENDS = 10 };
	const uint8_t kind = NR_SEND_SHARE;
	struct nr_ring *ring = *state;
	struct operation *polls = calloc(COUNT, sizeof(*polls)), sends[SENDS];
	unsigned char *memory = pages(SENDS * 4096);
	struct iovec parts[SENDS];
	int pair[2], other[2];

	make_pair(pair);
	make_pair(other);
	fill_pattern(memory, SENDS * 4096, 0);
	for (unsigned i = 0; i < COUNT; i++) {
		operation_init(&polls[i]);
		nr_ring_poll(ring, &polls[i].c, other[0], POLLIN);
		if (i % (COUNT / SENDS) == COUNT / SENDS - 1) {
			unsigned n = i / (COUNT / SENDS);

			parts[n] = (struct iovec){ memory + (size_t)n * 4096, 4096 };
			operation_init(&sends[n]);
			nr_ring_send_shared(ring, &sends[n].c, pair[1], &parts[n], &kind, 1);
		}
	}
	take_pattern(ring, pair[0], 0, SENDS * 4096);
	for (unsigned i = 0; i < SENDS; i++)
		assert_int_equal(operation_wait(ring, &sends[i]), 4096);
	/* Cancelled or not: those behind them are still known. */
	for (unsigned i = 1; i < COUNT; i += 2)
		nr_ring_cancel(ring, &polls[i].c);
	assert_int_equal(write(other[1], "x", 1), 1);
	for (unsigned i = 0; i < COUNT; i++)
		assert_int_equal(operation_wait(ring, &polls[i]), i % 2 ? polls[i].result : POLLIN);
	assert_int_equal(nr_ring_in_flight(ring), 0);
	free(polls);
	munmap(memory, SENDS * 4096);
	close_both(pair);
	close_both(other);
}

/* The ring and the engine both keep a line of operations; neither may break the other's. */
static void one_of_many_can_be_cancelled(void **state)
{
	enum { SENDS = 8 };
	const size_t length = 64 * 1024;
	unsigned char *memory = pages(length);
	const uint8_t kind = NR_SEND_SHARE;
	struct operation out[SENDS];
	struct iovec part[SENDS];
	int pair[SENDS][2];

	for (unsigned gone = 0; gone < SENDS; gone++) {
		for (unsigned i = 0; i < SENDS; i++) {
			make_pair(pair[i]);
			part[i] = (struct iovec){ memory, length };
			operation_init(&out[i]);
			nr_ring_send_shared(*state, &out[i].c, pair[i][1], &part[i], &kind, 1);
		}
		nr_ring_cancel(*state, &out[gone].c);
		nr_ring_cancel(*state, &out[SENDS - 1 - gone].c);
		for (unsigned i = 0; i < SENDS; i++) {
			int64_t result = operation_wait(*state, &out[i]);

			/* It may have been faster. */
			assert_true(result == (int64_t)length || result == -ECANCELED);
			close_both(pair[i]);
		}
	}
	munmap(memory, length);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		ring_test(parts_of_all_kinds_arrive_in_order),
		ring_test(a_full_socket_is_waited_for),
		ring_test(a_small_pipe_is_enough),
		ring_test(dropped_pages_still_arrive),
		ring_test(copied_parts_are_ours_again_after_the_send),
		ring_test(the_socket_blocks_as_before),
		ring_test(a_peer_that_is_gone_is_an_error_without_a_signal),
		ring_test(a_send_can_be_cancelled),
		ring_test(one_of_many_can_be_cancelled),
		ring_test(sends_among_operations_held_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
