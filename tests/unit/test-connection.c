/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Connections that end, or wait, at inconvenient moments, over socket pairs:
 *
 *   - a client breaks a rule while pieces of its read are being sent, or are kept
 *     for a reply that will not be sent
 *   - a client sends options without end and reads no answer
 *   - all pieces of a write finish in the turn in which it ran out of pieces
 *   - patience is kept after a time of idleness, too
 *   - memory held by those who do not read is got back for those who wait
 *   - a layer lets a client wait before it is in, or before it is let go, and the
 *     client goes away, or the server stops
 */
#undef NDEBUG
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "nbdring/layer.h"
#include "src/protocol/wire.h"
#include "src/server/limits.h"
#include "src/server/server.h"

#define SIZE (UINT64_C(64) << 20)
#define MIB (1024u * 1024)
#define HANGS_MS 60000

/* A disk of one byte value that answers at once. */

static uint32_t block_max = NR_TRANSFER_MAX;
static uint8_t content[NR_TRANSFER_MAX];

static int describe(struct nr_layer *layer, struct nr_traits *t, struct nr_error *error)
{
	t->size = SIZE;
	t->block_max = block_max;
	return 0;
}

static void submit(struct nr_layer *layer, struct nr_request *req)
{
	if (req->operation == NR_READ)
		nr_answer_data(req, content, req->length, NULL);
	nr_finish(layer, req, 0);
}

static const struct nr_layer_type constant = {
	.abi = NR_LAYER_ABI,
	.name = "constant",
	.summary = "always the same",
	.kind = NR_BACKEND,
	.placement = NR_SPREAD,
	.describe = describe,
	.submit = submit,
};

/* A filter that lets clients wait, and counts them. */

static _Atomic uint64_t admit_after, leave_after;
static atomic_uint came, left;

static int admit(struct nr_layer *layer, struct nr_session *session, struct nr_error *error)
{
	session->admit_after += admit_after;
	session->leave_after += leave_after;
	atomic_fetch_add(&came, 1);
	return 0;
}

static void leave(struct nr_layer *layer, struct nr_session *session)
{
	atomic_fetch_add(&left, 1);
}

static const struct nr_layer_type host = {
	.abi = NR_LAYER_ABI,
	.name = "host",
	.summary = "lets clients wait",
	.kind = NR_FILTER,
	.placement = NR_SPREAD,
	.admit = admit,
	.leave = leave,
};

static struct nr_plan_layer layers[] = { { .type = &constant }, { .type = &host } };
static struct nr_plan plan = { .layers = layers, .layer_count = 2, .worker_count = 1 };

static struct nr_server *start(unsigned grace_seconds)
{
	struct nr_server_config config = { .plan = &plan,
					   .handshake = { .flags_mask = 0xffff },
					   .workers = 1,
					   .grace_seconds = grace_seconds };
	struct nr_error error = { 0 };
	struct nr_server *server;

	memset(content, 0x5a, sizeof(content));
	if (nr_server_create(&server, &config, &error))
		fail_msg("%s", error.text);
	assert_int_equal(nr_server_start(server, &error), 0);
	return server;
}

static void end(struct nr_server *server)
{
	nr_server_stop(server);
	assert_int_equal(nr_server_wait(server), 0);
	nr_server_destroy(server);
}

/* A client. */

static int connect_to(struct nr_server *server)
{
	struct nr_error error;
	int fd[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd), 0);
	assert_int_equal(nr_server_serve(server, fd[1], &error), 0);
	return fd[0];
}

static void send_all(int fd, const void *data, size_t length)
{
	for (size_t done = 0; done < length;) {
		ssize_t part = send(fd, (const char *)data + done, length - done, MSG_NOSIGNAL);

		assert_true(part > 0);
		done += (size_t)part;
	}
}

static void receive_all(int fd, void *data, size_t length)
{
	struct pollfd readable = { .fd = fd, .events = POLLIN };

	for (size_t done = 0; done < length;) {
		ssize_t part;

		assert_int_equal(poll(&readable, 1, HANGS_MS), 1);
		part = recv(fd, (char *)data + done, length - done, 0);
		assert_true(part > 0);
		done += (size_t)part;
	}
}

static void send_request(int fd, uint16_t command, uint32_t length)
{
	uint8_t out[NBD_REQUEST_BYTES], *p = out;

	p = nbd_put32(p, NBD_REQUEST_MAGIC);
	p = nbd_put16(p, 0);
	p = nbd_put16(p, command);
	p = nbd_put64(p, 0);
	p = nbd_put64(p, 0);
	nbd_put32(p, length);
	send_all(fd, out, sizeof(out));
}

static uint8_t *put_option(uint8_t *p, uint32_t option)
{
	p = nbd_put64(p, NBD_IHAVEOPT);
	p = nbd_put32(p, option);
	return nbd_put32(p, 0);
}

static void negotiate(int fd, bool structured)
{
	uint8_t out[64], in[18 + 20 + 10], *p = out;

	p = nbd_put32(p, NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES);
	if (structured)
		p = put_option(p, NBD_OPT_STRUCTURED_REPLY);
	p = put_option(p, NBD_OPT_EXPORT_NAME);
	send_all(fd, out, (size_t)(p - out));
	receive_all(fd, in, structured ? 18 + 20 + 10 : 18 + 10);
}

static void take_simple_reply(int fd, uint32_t length)
{
	uint8_t *in = malloc(16 + length);

	assert_non_null(in);
	receive_all(fd, in, 16 + length);
	assert_int_equal(nbd_get32(in), NBD_SIMPLE_REPLY_MAGIC);
	assert_int_equal(nbd_get32(in + 4), 0);
	free(in);
}

static void assert_serves(struct nr_server *server)
{
	int fd = connect_to(server);

	negotiate(fd, false);
	send_request(fd, NBD_CMD_READ, 512);
	take_simple_reply(fd, 512);
	close(fd);
}

static void pause_ms(unsigned ms)
{
	struct timespec t = { ms / 1000, (long)(ms % 1000) * 1000000 };

	nanosleep(&t, NULL);
}

/* The tests. */

/* Of a long read one piece is being sent, others and the closing chunk wait. */
static void test_a_breach_while_pieces_are_being_sent(void **state)
{
	struct nr_server *server = start(10);
	struct pollfd readable = { .events = POLLIN };
	int fd = connect_to(server);

	negotiate(fd, true);
	send_request(fd, NBD_CMD_READ, 4 * MIB);
	readable.fd = fd;
	assert_int_equal(poll(&readable, 1, HANGS_MS), 1);
	send_all(fd, "this is no request at all .....", 32);
	pause_ms(50);
	assert_serves(server);
	end(server); /* waits until nothing is under way */
	close(fd);
}

/* Simple replies: the pieces are kept until the last one is there. */
static void test_a_breach_behind_a_collected_read(void **state)
{
	struct nr_server *server = start(10);
	uint8_t both[NBD_REQUEST_BYTES + 32] = { 0 };
	int fd = connect_to(server);

	negotiate(fd, false);
	nbd_put32(both, NBD_REQUEST_MAGIC);
	nbd_put32(both + 24, 4 * MIB);
	send_all(fd, both, sizeof(both));
	assert_serves(server);
	end(server);
	close(fd);
}

static void test_options_without_end(void **state)
{
	struct nr_server *server = start(1);
	struct pollfd writable = { .events = POLLOUT };
	static uint8_t out[4096];
	int fd = connect_to(server);
	size_t said = 0;
	ssize_t part = 4;

	writable.fd = fd;
	nbd_put32(out, NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES);
	send_all(fd, out, 4);
	for (uint8_t *p = out; p < out + sizeof(out);)
		p = put_option(p, 0x7777);
	assert_int_equal(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
	/* Until the server has stopped listening for a while. */
	while (part > 0 || poll(&writable, 1, 300) == 1) {
		part = send(fd, out, sizeof(out), MSG_NOSIGNAL);
		said += part > 0 ? (size_t)part : 0;
		assert_true(said < 64 * MIB);
	}
	assert_serves(server);
	end(server);
	close(fd);
}

static void test_pieces_that_finish_in_the_turn_that_waits_for_them(void **state)
{
	struct nr_server *server;
	uint8_t *data = calloc(1, MIB);
	int fd;

	block_max = 512; /* many more pieces in a window than there may be at a time */
	server = start(10);
	fd = connect_to(server);
	negotiate(fd, false);
	send_request(fd, NBD_CMD_WRITE, MIB);
	send_all(fd, data, MIB);
	take_simple_reply(fd, 0);
	end(server);
	close(fd);
	free(data);
	block_max = NR_TRANSFER_MAX;
}

static void test_patience_after_idleness(void **state)
{
	struct nr_server *server = start(1);
	int fd = connect_to(server);

	negotiate(fd, false);
	send_request(fd, NBD_CMD_READ, 512);
	take_simple_reply(fd, 512);
	pause_ms(4500); /* all has been given back, and nothing ticks */
	for (unsigned i = 0; i < 4; i++)
		send_request(fd, NBD_CMD_READ, 4 * MIB);
	pause_ms(100);
	end(server); /* after the grace, not never */
	close(fd);
}

static void test_memory_held_by_those_who_do_not_read(void **state)
{
	struct nr_server *server = start(1);
	int greedy[11], fd = connect_to(server);

	negotiate(fd, false);
	for (unsigned i = 0; i < 11; i++) {
		greedy[i] = connect_to(server);
		negotiate(greedy[i], false);
		for (unsigned j = 0; j < 4; j++)
			send_request(greedy[i], NBD_CMD_READ, 4 * MIB);
	}
	pause_ms(300);
	/* A small request has a reserve … */
	send_request(fd, NBD_CMD_READ, NR_FIRST_BYTES);
	take_simple_reply(fd, NR_FIRST_BYTES);
	/* … a large one waits until somebody has tried the server's patience. */
	send_request(fd, NBD_CMD_READ, 4 * MIB);
	take_simple_reply(fd, 4 * MIB);
	for (unsigned i = 0; i < 11; i++)
		close(greedy[i]);
	end(server);
	close(fd);
}

#define HOUR (UINT64_C(3600) * 1000000000)

static int let_them_wait(uint64_t before, uint64_t after)
{
	admit_after = before;
	leave_after = after;
	atomic_store(&came, 0);
	atomic_store(&left, 0);
	return 0;
}

static int nobody_waits(void **state)
{
	return let_them_wait(0, 0);
}

static void becomes(atomic_uint *count, unsigned value)
{
	for (unsigned i = 0; atomic_load(count) != value && i < HANGS_MS; i++)
		pause_ms(1);
	assert_int_equal(atomic_load(count), value);
}

static void ask_to_come_in(int fd)
{
	uint8_t out[64], greeting[18], *p = out;

	p = nbd_put32(p, NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES);
	p = put_option(p, NBD_OPT_EXPORT_NAME);
	send_all(fd, out, (size_t)(p - out));
	receive_all(fd, greeting, sizeof(greeting));
}

static bool hears_something(int fd, int milliseconds)
{
	struct pollfd readable = { .fd = fd, .events = POLLIN };

	return poll(&readable, 1, milliseconds) == 1;
}

static double seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void test_coming_in_takes_its_time(void **state)
{
	struct nr_server *server = start(10);
	int fd = connect_to(server);
	double begin = seconds();
	uint8_t in[10];

	let_them_wait(300000000, 0);
	ask_to_come_in(fd);
	send_request(fd, NBD_CMD_READ, 512); /* in advance; it waits, too */
	receive_all(fd, in, sizeof(in));
	assert_true(seconds() - begin >= 0.3);
	take_simple_reply(fd, 512);
	end(server);
	close(fd);
}

/* More of them than there are threads; the worker and the threads are free for others. */
static void test_those_who_wait_to_come_in_hold_up_nobody(void **state)
{
	struct nr_server *server = start(10);
	int waiting[3 * NR_OFFLOAD_THREADS];
	uint8_t in[10];

	let_them_wait(HOUR, 0);
	for (unsigned i = 0; i < 3 * NR_OFFLOAD_THREADS; i++) {
		waiting[i] = connect_to(server);
		ask_to_come_in(waiting[i]);
	}
	becomes(&came, 3 * NR_OFFLOAD_THREADS);
	admit_after = 0;
	assert_serves(server);
	assert_false(hears_something(waiting[0], 0));
	end(server); /* does not take an hour */
	assert_int_equal(atomic_load(&left), 3 * NR_OFFLOAD_THREADS + 1);
	for (unsigned i = 0; i < 3 * NR_OFFLOAD_THREADS; i++) {
		receive_all(waiting[i], in, sizeof(in)); /* they were let in at last */
		close(waiting[i]);
	}
}

static void test_one_who_goes_away_before_it_is_in_is_gone_at_once(void **state)
{
	struct nr_server *server = start(10);
	int fd = connect_to(server), other = connect_to(server);

	let_them_wait(HOUR, HOUR);
	ask_to_come_in(fd);
	ask_to_come_in(other);
	becomes(&came, 2);
	close(fd);
	becomes(&left, 1);
	/* Whoever writes no more will ask for nothing. */
	assert_int_equal(shutdown(other, SHUT_WR), 0);
	becomes(&left, 2);
	close(other);
	end(server);
}

static void test_leaving_takes_its_time(void **state)
{
	struct nr_server *server = start(10);
	int fd = connect_to(server);
	double begin;
	uint8_t byte;

	let_them_wait(0, 300000000);
	negotiate(fd, false);
	begin = seconds();
	send_request(fd, NBD_CMD_DISC, 0);
	assert_int_equal(shutdown(fd, SHUT_WR), 0); /* as libnbd does; it reads on */
	assert_true(hears_something(fd, HANGS_MS));
	assert_int_equal(recv(fd, &byte, 1, 0), 0);
	assert_true(seconds() - begin >= 0.3);
	becomes(&left, 1);
	end(server);
	close(fd);
}

static void test_only_goodbyes_take_time_and_not_when_the_server_stops(void **state)
{
	struct nr_server *server = start(3600);
	int rude = connect_to(server), polite = connect_to(server), gone = connect_to(server);

	let_them_wait(0, HOUR);
	negotiate(gone, false);
	negotiate(rude, false);
	negotiate(polite, false);
	close(rude);
	becomes(&left, 1);
	send_request(polite, NBD_CMD_DISC, 0);
	send_request(gone, NBD_CMD_DISC, 0);
	close(gone);
	assert_false(hears_something(polite, 300));
	assert_int_equal(atomic_load(&left), 1);
	end(server);
	assert_int_equal(atomic_load(&left), 3);
	close(polite);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_breach_while_pieces_are_being_sent),
		cmocka_unit_test(test_a_breach_behind_a_collected_read),
		cmocka_unit_test(test_options_without_end),
		cmocka_unit_test(test_pieces_that_finish_in_the_turn_that_waits_for_them),
		cmocka_unit_test(test_patience_after_idleness),
		cmocka_unit_test(test_memory_held_by_those_who_do_not_read),
		cmocka_unit_test_teardown(test_coming_in_takes_its_time, nobody_waits),
		cmocka_unit_test_teardown(test_those_who_wait_to_come_in_hold_up_nobody,
					  nobody_waits),
		cmocka_unit_test_teardown(test_one_who_goes_away_before_it_is_in_is_gone_at_once,
					  nobody_waits),
		cmocka_unit_test_teardown(test_leaving_takes_its_time, nobody_waits),
		cmocka_unit_test_teardown(
			test_only_goodbyes_take_time_and_not_when_the_server_stops, nobody_waits),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
