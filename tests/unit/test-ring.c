/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The reactor on sockets, timers and polls: results, short transfers,
 * cancelling, a full queue, and what `done` may do.
 */
#include "test-ring-common.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <sys/un.h>

#include "ring/engine.h"

#define MILLISECOND 1000000u
#define LONG_TIME (3600u * 1000000000ull)

/* ---- receive and send -------------------------------------------------- */

static void recv_completes_with_what_has_arrived(void **state)
{
	struct nr_ring *ring = *state;
	struct operation in;
	char data[64];
	int pair[2];

	make_pair(pair);
	operation_init(&in);
	nr_ring_recv(ring, &in.c, pair[0], data, sizeof(data));
	assert_true(nr_completion_busy(&in.c));
	assert_int_equal(nr_ring_in_flight(ring), 1);
	nr_ring_turn(ring, false);
	assert_int_equal(in.ended, 0);
	assert_int_equal(write(pair[1], "hello", 5), 5);
	assert_int_equal(operation_wait(ring, &in), 5);
	assert_memory_equal(data, "hello", 5);
	close_both(pair);
}

static void recv_of_a_closed_peer_is_zero(void **state)
{
	struct nr_ring *ring = *state;
	struct operation in;
	char byte;
	int pair[2];

	make_pair(pair);
	operation_init(&in);
	nr_ring_recv(ring, &in.c, pair[0], &byte, 1);
	nr_ring_turn(ring, false);
	close(pair[1]);
	assert_int_equal(operation_wait(ring, &in), 0);
	close(pair[0]);
}

static void recv_vec_scatters(void **state)
{
	struct nr_ring *ring = *state;
	struct operation in;
	char head[4], body[8];
	struct iovec parts[] = { { head, sizeof(head) }, { body, sizeof(body) } };
	int pair[2];

	make_pair(pair);
	operation_init(&in);
	nr_ring_recv_vec(ring, &in.c, pair[0], parts, 2);
	assert_int_equal(write(pair[1], "headbody", 8), 8);
	assert_int_equal(operation_wait(ring, &in), 8);
	assert_memory_equal(head, "head", 4);
	assert_memory_equal(body, "body", 4);
	close_both(pair);
}

static void recv_works_on_a_nonblocking_socket(void **state)
{
	struct nr_ring *ring = *state;
	struct operation in;
	char data[8];
	int pair[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
	operation_init(&in);
	for (int i = 0; i < 3; i++) {
		nr_ring_recv(ring, &in.c, pair[0], data, sizeof(data));
		nr_ring_turn(ring, false);
		nr_ring_turn(ring, false);
		assert_int_equal(in.ended, 0);
		assert_int_equal(write(pair[1], "x", 1), 1);
		assert_int_equal(operation_wait(ring, &in), 1);
	}
	close_both(pair);
}

/* Many parts through a small socket buffer; KEPT are flags set before the start. */
static void gather(struct nr_ring *ring, uint8_t kept)
{
	enum { parts = 1000 };
	struct operation out, in;
	struct iovec *vector = calloc(parts, sizeof(*vector));
	size_t total = 0, got = 0;
	int size = 4096;
	char *data, *window = malloc(65536);
	int pair[2];

	make_pair(pair);
	assert_int_equal(setsockopt(pair[1], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size)), 0);
	for (size_t i = 0; i < parts; i++)
		total += i % 7 == 3 ? 0 : i * 3 + 1;
	data = malloc(total);
	fill_pattern(data, total, 0);
	for (size_t i = 0, at = 0; i < parts; i++) {
		vector[i].iov_base = data + at;
		vector[i].iov_len = i % 7 == 3 ? 0 : i * 3 + 1;
		at += vector[i].iov_len;
	}
	operation_init(&out);
	operation_init(&in);
	out.c.flags = kept;
	nr_ring_send_vec(ring, &out.c, pair[1], vector, parts);
	while (got < total) {
		int64_t n;

		nr_ring_recv(ring, &in.c, pair[0], window, 65536);
		n = operation_wait(ring, &in);
		assert_true(n > 0);
		check_pattern(window, (size_t)n, got);
		got += (size_t)n;
	}
	assert_int_equal(operation_wait(ring, &out), total);
	close_both(pair);
	free(window);
	free(data);
	free(vector);
}

static void send_gathers_many_parts(void **state)
{
	gather(*state, 0);
}

static void short_sends_are_continued(void **state)
{
	/* Makes the engine leave out MSG_WAITALL, so that the kernel sends short. */
	gather(*state, NR_ATTEMPT_KEPT_B);
}

static void send_to_a_closed_peer_is_an_error_without_a_signal(void **state)
{
	struct nr_ring *ring = *state;
	struct operation out;
	char letter = 'x';
	struct iovec part = { &letter, 1 };
	int pair[2];

	make_pair(pair);
	close(pair[0]);
	operation_init(&out);
	nr_ring_send_vec(ring, &out.c, pair[1], &part, 1);
	assert_int_equal(operation_wait(ring, &out), -EPIPE);
	close(pair[1]);
}

static void empty_transfers_end_at_once(void **state)
{
	struct nr_ring *ring = *state;
	struct iovec nothing[2] = { { NULL, 0 }, { NULL, 0 } };
	struct operation o;
	int pair[2];

	make_pair(pair);
	operation_init(&o);
	nr_ring_send_vec(ring, &o.c, pair[0], NULL, 0);
	assert_int_equal(o.ended, 0); /* not from inside the start */
	assert_int_equal(operation_wait(ring, &o), 0);
	nr_ring_send_vec(ring, &o.c, pair[0], nothing, 1);
	assert_int_equal(operation_wait(ring, &o), 0);
	nr_ring_send_vec(ring, &o.c, pair[0], nothing, 2);
	assert_int_equal(operation_wait(ring, &o), 0);
	close_both(pair);
}

static void wrong_descriptors_are_errors(void **state)
{
	struct nr_ring *ring = *state;
	struct operation o;
	char byte;

	operation_init(&o);
	nr_ring_recv(ring, &o.c, 1 << 20, &byte, 1);
	assert_int_equal(operation_wait(ring, &o), -EBADF);
	nr_ring_poll(ring, &o.c, -1, POLLIN);
	assert_int_equal(operation_wait(ring, &o), -EBADF);
}

/* ---- accept and connect ------------------------------------------------ */

static int listen_tcp(struct sockaddr_in *address, int flags)
{
	socklen_t length = sizeof(*address);
	int fd = socket(AF_INET, SOCK_STREAM | flags, 0);

	memset(address, 0, sizeof(*address));
	address->sin_family = AF_INET;
	address->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	assert_int_equal(bind(fd, (struct sockaddr *)address, length), 0);
	assert_int_equal(listen(fd, 16), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)address, &length), 0);
	return fd;
}

static void accept_meets_connect(struct nr_ring *ring, int flags)
{
	struct sockaddr_in address;
	int listener = listen_tcp(&address, flags);
	struct operation server, client;

	operation_init(&server);
	operation_init(&client);
	for (int i = 0; i < 3; i++) {
		int near = socket(AF_INET, SOCK_STREAM | flags, 0), far;

		nr_ring_accept(ring, &server.c, listener);
		nr_ring_turn(ring, false);
		nr_ring_turn(ring, false);
		nr_ring_connect(ring, &client.c, near, (struct sockaddr *)&address,
				sizeof(address));
		assert_int_equal(operation_wait(ring, &client), 0);
		far = (int)operation_wait(ring, &server);
		assert_true(far >= 0);
		assert_true(fcntl(far, F_GETFD) & FD_CLOEXEC);
		assert_int_equal(write(far, "x", 1), 1);
		close(far);
		close(near);
	}
	close(listener);
}

static void accept_and_connect(void **state)
{
	accept_meets_connect(*state, 0);
}

static void accept_and_connect_on_nonblocking_sockets(void **state)
{
	accept_meets_connect(*state, SOCK_NONBLOCK);
}

static void refused_connect_is_an_error(void **state)
{
	struct nr_ring *ring = *state;
	struct sockaddr_in address;
	struct operation o;
	int fd = listen_tcp(&address, 0);

	close(fd);
	fd = socket(AF_INET, SOCK_STREAM, 0);
	operation_init(&o);
	nr_ring_connect(ring, &o.c, fd, (struct sockaddr *)&address, sizeof(address));
	assert_int_equal(operation_wait(ring, &o), -ECONNREFUSED);
	close(fd);
}

/* ---- poll and time ----------------------------------------------------- */

static void poll_tells_what_came(void **state)
{
	struct nr_ring *ring = *state;
	struct operation o;
	int pair[2];

	make_pair(pair);
	operation_init(&o);
	nr_ring_poll(ring, &o.c, pair[0], POLLOUT);
	assert_int_equal(operation_wait(ring, &o), POLLOUT);
	nr_ring_poll(ring, &o.c, pair[0], POLLIN);
	nr_ring_turn(ring, false);
	assert_int_equal(o.ended, 0);
	assert_int_equal(write(pair[1], "x", 1), 1);
	assert_int_equal(operation_wait(ring, &o), POLLIN);
	close_both(pair);
}

static void timeout_takes_its_time(void **state)
{
	struct nr_ring *ring = *state;
	uint64_t before = nr_ring_now(ring);
	struct operation o;

	operation_init(&o);
	nr_ring_timeout(ring, &o.c, 20 * MILLISECOND);
	assert_int_equal(operation_wait(ring, &o), -ETIME);
	assert_true(nr_ring_now(ring) - before >= 20 * MILLISECOND);
	nr_ring_timeout(ring, &o.c, 0);
	assert_int_equal(operation_wait(ring, &o), -ETIME);
}

/* ---- cancelling -------------------------------------------------------- */

static void cancel_ends_waiting_operations(void **state)
{
	struct nr_ring *ring = *state;
	struct operation o[5];
	struct sockaddr_in address;
	int listener = listen_tcp(&address, 0), pair[2], tube[2];
	char *much = calloc(1, 4 * MIB), byte, more;
	struct iovec parts[2] = { { much, 2 * MIB }, { much, 2 * MIB } };

	make_pair(pair);
	assert_int_equal(pipe(tube), 0);
	for (int turns = 0; turns < 3; turns++) {
		for (int i = 0; i < 5; i++)
			operation_init(&o[i]);
		nr_ring_recv(ring, &o[0].c, pair[0], &byte, 1);
		nr_ring_accept(ring, &o[1].c, listener);
		nr_ring_poll(ring, &o[2].c, pair[0], POLLIN);
		nr_ring_timeout(ring, &o[3].c, LONG_TIME);
		nr_ring_read(ring, &o[4].c, tube[0], &more, 1, 0);
		/* At once, in the next turn, later. */
		for (int i = 0; i < turns; i++)
			nr_ring_turn(ring, false);
		for (int i = 0; i < 5; i++) {
			nr_ring_cancel(ring, &o[i].c);
			nr_ring_cancel(ring, &o[i].c);
			assert_int_equal(o[i].ended, 0);
		}
		for (int i = 0; i < 5; i++)
			assert_int_equal(operation_wait(ring, &o[i]), -ECANCELED);
	}
	operation_init(&o[0]);
	nr_ring_send_vec(ring, &o[0].c, pair[0], parts, 2);
	nr_ring_turn(ring, false);
	nr_ring_turn(ring, false);
	assert_int_equal(o[0].ended, 0);
	nr_ring_cancel(ring, &o[0].c);
	assert_int_equal(operation_wait(ring, &o[0]), -ECANCELED);
	close_both(pair);
	close_both(tube);
	close(listener);
	free(much);
}

/* A connect to a Unix socket whose backlog is full waits in a kernel thread. */
static void cancel_ends_a_connect(void **state)
{
	struct nr_ring *ring = *state;
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int listener = socket(AF_UNIX, SOCK_STREAM, 0), first, second;
	socklen_t length = sizeof(address);
	struct operation o;

	/* Only the family: the kernel chooses an abstract name. */
	assert_int_equal(bind(listener, (struct sockaddr *)&address, sizeof(sa_family_t)), 0);
	assert_int_equal(getsockname(listener, (struct sockaddr *)&address, &length), 0);
	assert_int_equal(listen(listener, 0), 0);
	first = socket(AF_UNIX, SOCK_STREAM, 0);
	second = socket(AF_UNIX, SOCK_STREAM, 0);
	assert_int_equal(connect(first, (struct sockaddr *)&address, length), 0);
	operation_init(&o);
	nr_ring_connect(ring, &o.c, second, (struct sockaddr *)&address, length);
	nr_ring_turn(ring, false);
	usleep(10000);
	nr_ring_turn(ring, false);
	assert_int_equal(o.ended, 0);
	nr_ring_cancel(ring, &o.c);
	assert_int_equal(operation_wait(ring, &o), -ECANCELED);
	close(first);
	close(second);
	close(listener);
}

static void cancel_of_what_is_not_under_way_does_nothing(void **state)
{
	struct nr_ring *ring = *state;
	struct operation o;

	operation_init(&o);
	nr_ring_cancel(ring, &o.c);
	nr_ring_turn(ring, false);
	assert_int_equal(o.ended, 0);
	nr_ring_timeout(ring, &o.c, MILLISECOND);
	assert_int_equal(operation_wait(ring, &o), -ETIME);
}

static void cancel_does_not_reach_the_next_use(void **state)
{
	struct nr_ring *ring = *state;
	struct operation o;
	char byte;
	int pair[2];

	make_pair(pair);
	operation_init(&o);
	for (int i = 0; i < 100; i++) {
		nr_ring_recv(ring, &o.c, pair[0], &byte, 1);
		nr_ring_turn(ring, false);
		/* It completes, and only then the cancellation is handed over. */
		assert_int_equal(write(pair[1], "x", 1), 1);
		nr_ring_cancel(ring, &o.c);
		(void)operation_wait(ring, &o);
	}
	nr_ring_timeout(ring, &o.c, 5 * MILLISECOND);
	assert_int_equal(operation_wait(ring, &o), -ETIME);
	close_both(pair);
}

/* ---- a full queue ------------------------------------------------------ */

#define MANY 10000

static void many_operations_at_once(void **state)
{
	struct nr_ring *ring = *state;
	struct operation *o = calloc(MANY, sizeof(*o));
	int pair[2];

	/* All of them complete at the same moment: more than the kernel's queue holds. */
	make_pair(pair);
	for (int i = 0; i < MANY; i++) {
		operation_init(&o[i]);
		nr_ring_poll(ring, &o[i].c, pair[0], POLLIN);
	}
	assert_int_equal(nr_ring_in_flight(ring), MANY);
	for (int i = 0; i < MANY; i++)
		nr_ring_turn(ring, false);
	for (int i = 0; i < MANY; i++)
		assert_int_equal(o[i].ended, 0);
	assert_int_equal(write(pair[1], "x", 1), 1);
	while (nr_ring_in_flight(ring) > 0)
		nr_ring_turn(ring, true);
	for (int i = 0; i < MANY; i++) {
		assert_int_equal(o[i].ended, 1);
		assert_int_equal(o[i].result, POLLIN);
	}
	close_both(pair);
	free(o);
}

static void held_back_operations_keep_their_order(void **state)
{
	struct nr_ring *ring = *state;
	struct operation *o = calloc(MANY, sizeof(*o));
	unsigned char *data = malloc(MANY), *sent = malloc(MANY);
	struct iovec *part = calloc(MANY, sizeof(*part));
	int pair[2], size = (int)MIB;
	size_t got = 0;

	make_pair(pair);
	(void)setsockopt(pair[1], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	fill_pattern(sent, MANY, 0);
	/* One byte each: the receiver sees the order in which they were issued. */
	for (int i = 0; i < MANY; i++) {
		operation_init(&o[i]);
		part[i].iov_base = &sent[i];
		part[i].iov_len = 1;
		nr_ring_send_vec(ring, &o[i].c, pair[1], &part[i], 1);
	}
	while (nr_ring_in_flight(ring) > 0) {
		ssize_t n;

		nr_ring_turn(ring, false);
		n = recv(pair[0], data + got, MANY - got, MSG_DONTWAIT);
		if (n > 0)
			got += (size_t)n;
	}
	while (got < MANY)
		got += (size_t)recv(pair[0], data + got, MANY - got, 0);
	check_pattern(data, MANY, 0);
	close_both(pair);
	free(part);
	free(sent);
	free(data);
	free(o);
}

static void held_back_operations_can_be_cancelled(void **state)
{
	struct nr_ring *ring = *state;
	struct operation *o = calloc(MANY, sizeof(*o));
	unsigned turns = 0;

	for (int i = 0; i < MANY; i++) {
		operation_init(&o[i]);
		nr_ring_timeout(ring, &o[i].c, LONG_TIME);
	}
	for (int i = 0; i < MANY; i++)
		nr_ring_cancel(ring, &o[i].c);
	while (nr_ring_in_flight(ring) > 0) {
		nr_ring_turn(ring, true);
		turns++;
	}
	for (int i = 0; i < MANY; i++)
		assert_int_equal(o[i].result, -ECANCELED);
	/* Those held back never went to the kernel. */
	assert_true(turns < 20);
	free(o);
}

static void cancelling_more_than_the_queue_holds(void **state)
{
	struct nr_ring *ring = *state;
	struct operation *o = calloc(MANY, sizeof(*o));
	int pair[2];
	char byte;

	make_pair(pair);
	for (int i = 0; i < MANY; i++) {
		operation_init(&o[i]);
		if (i % 2)
			nr_ring_timeout(ring, &o[i].c, LONG_TIME);
		else
			nr_ring_recv(ring, &o[i].c, pair[0], &byte, 1);
	}
	for (int i = 0; i < MANY; i++)
		nr_ring_turn(ring, false);
	for (int i = 0; i < MANY; i++)
		nr_ring_cancel(ring, &o[i].c);
	/* Ends half of them while the wishes to cancel still queue. */
	close(pair[1]);
	while (nr_ring_in_flight(ring) > 0)
		nr_ring_turn(ring, true);
	for (int i = 0; i < MANY; i++) {
		assert_int_equal(o[i].ended, 1);
		assert_true(o[i].result == -ECANCELED || (i % 2 == 0 && o[i].result == 0));
	}
	close(pair[0]);
	free(o);
}

/* ---- what `done` may do ------------------------------------------------ */

struct chain {
	struct nr_completion c;
	struct nr_completion *victim;
	struct operation *child;
	unsigned left;
	char byte;
	int fd;
};

static void chain_done(struct nr_ring *ring, struct nr_completion *c)
{
	struct chain *chain = (struct chain *)c;

	assert_int_equal(c->result, -ETIME);
	assert_false(nr_completion_busy(c));
	if (chain->victim)
		nr_ring_cancel(ring, chain->victim);
	chain->victim = NULL;
	if (chain->child)
		nr_ring_timeout(ring, &chain->child->c, 0);
	chain->child = NULL;
	if (chain->left-- > 1)
		nr_ring_timeout(ring, c, 0);
}

static void done_may_start_cancel_and_reuse(void **state)
{
	struct nr_ring *ring = *state;
	struct operation victim, child;
	struct chain chain = { .c.done = chain_done, .left = 1000 };

	operation_init(&victim);
	operation_init(&child);
	chain.victim = &victim.c;
	chain.child = &child;
	nr_ring_timeout(ring, &victim.c, LONG_TIME);
	nr_ring_timeout(ring, &chain.c, 0);
	assert_int_equal(operation_wait(ring, &child), -ETIME);
	assert_int_equal(operation_wait(ring, &victim), -ECANCELED);
	while (nr_ring_in_flight(ring) > 0)
		nr_ring_turn(ring, true);
	assert_int_equal(chain.left, 0);
}

static void ready_done(struct nr_ring *ring, struct nr_completion *c)
{
	struct chain *chain = (struct chain *)c;

	assert_int_equal(c->result, 0);
	if (--chain->left > 0)
		nr_ring_read(ring, c, chain->fd, &chain->byte, 0, 0);
}

static void results_known_at_once_do_not_recurse(void **state)
{
	struct nr_ring *ring = *state;
	struct chain chain = { .c.done = ready_done, .left = 100 };
	unsigned turns = 0;

	nr_ring_read(ring, &chain.c, 0, &chain.byte, 0, 0);
	while (chain.left > 0) {
		nr_ring_turn(ring, true); /* must not sleep */
		turns++;
	}
	assert_int_equal(turns, 100);
}

/* ---- adopted descriptors ----------------------------------------------- */

static void adopted_descriptors_work_and_close(void **state)
{
	struct nr_ring *ring = *state;
	struct operation idle, in, out;
	int still[2], pair[2];
	char byte, got;

	make_pair(still);
	nr_ring_adopt(ring, still[0]);
	operation_init(&idle);
	nr_ring_recv(ring, &idle.c, still[0], &byte, 1);
	nr_ring_turn(ring, false);
	for (int i = 0; i < 200; i++) {
		char letter = 'y';
		struct iovec part = { &letter, 1 };

		make_pair(pair);
		nr_ring_adopt(ring, pair[0]);
		if (i % 2)
			nr_ring_adopt(ring, pair[0]);
		operation_init(&in);
		operation_init(&out);
		nr_ring_recv(ring, &in.c, pair[0], &got, 1);
		nr_ring_send_vec(ring, &out.c, pair[0], &part, 1);
		assert_int_equal(write(pair[1], "x", 1), 1);
		assert_int_equal(operation_wait(ring, &in), 1);
		assert_int_equal(operation_wait(ring, &out), 1);
		nr_ring_forget(ring, pair[0]);
		nr_ring_forget(ring, pair[0]);
		close(pair[0]);
		/* The other end sees the close, though an older receive waits on. */
		assert_int_equal(recv(pair[1], &got, 1, 0), 1);
		assert_int_equal(recv(pair[1], &got, 1, MSG_DONTWAIT), 0);
		close(pair[1]);
	}
	nr_ring_cancel(ring, &idle.c);
	assert_int_equal(operation_wait(ring, &idle), -ECANCELED);
	nr_ring_forget(ring, still[0]);
	close_both(still);
}

static void adopting_more_than_there_are_slots(void **state)
{
	struct nr_ring *ring = *state;
	enum { count = 400 };
	int pairs[count][2];
	struct operation o;
	char byte;

	for (int i = 0; i < count; i++) {
		make_pair(pairs[i]);
		nr_ring_adopt(ring, pairs[i][0]);
	}
	operation_init(&o);
	for (int i = 0; i < count; i++) {
		nr_ring_recv(ring, &o.c, pairs[i][0], &byte, 1);
		assert_int_equal(write(pairs[i][1], "x", 1), 1);
		assert_int_equal(operation_wait(ring, &o), 1);
		nr_ring_forget(ring, pairs[i][0]);
		close_both(pairs[i]);
	}
}

/* ---- set-up ------------------------------------------------------------ */

static void report_says_what_was_found(void **state)
{
	struct nr_ring *ring = *state;
	const struct nr_ring_report *report = nr_ring_report(ring);
	int context;

	assert_string_equal(report->engine, "uring");
	assert_non_null(strstr(report->flags, "CQSIZE"));
	assert_true(report->registered_bytes <= 4 * MIB);
	assert_int_equal(nr_arena_capacity(nr_ring_arena(ring)), 16 * MIB);
	nr_ring_set_context(ring, &context);
	assert_ptr_equal(nr_ring_context(ring), &context);
}

static void unknown_engine_is_an_error(void **state)
{
	struct nr_ring_options options = { .engine = "steam" };
	struct nr_error error = { 0 };
	struct nr_ring *ring = NULL;

	(void)state;
	assert_int_equal(nr_ring_create(&ring, &options, &error), -EINVAL);
	assert_non_null(strstr(error.text, "steam"));
	assert_null(ring);
	nr_ring_destroy(NULL);
}

static void destroy_takes_back_what_is_under_way(void **state)
{
	struct nr_ring *ring = ring_new(8);
	struct operation o[100];
	char byte;
	int pair[2];

	(void)state;
	make_pair(pair);
	for (int i = 0; i < 100; i++) {
		operation_init(&o[i]);
		nr_ring_recv(ring, &o[i].c, pair[0], &byte, 1);
		if (i % 10 == 0)
			nr_ring_turn(ring, false);
	}
	nr_ring_destroy(ring);
	for (int i = 0; i < 100; i++)
		assert_int_equal(o[i].ended, 0);
	close_both(pair);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		ring_test(recv_completes_with_what_has_arrived),
		ring_test(recv_of_a_closed_peer_is_zero),
		ring_test(recv_vec_scatters),
		ring_test(recv_works_on_a_nonblocking_socket),
		ring_test(send_gathers_many_parts),
		ring_test(short_sends_are_continued),
		ring_test(send_to_a_closed_peer_is_an_error_without_a_signal),
		ring_test(empty_transfers_end_at_once),
		ring_test(wrong_descriptors_are_errors),
		ring_test(accept_and_connect),
		ring_test(accept_and_connect_on_nonblocking_sockets),
		ring_test(refused_connect_is_an_error),
		ring_test(poll_tells_what_came),
		ring_test(timeout_takes_its_time),
		ring_test(cancel_ends_waiting_operations),
		ring_test(cancel_ends_a_connect),
		ring_test(cancel_of_what_is_not_under_way_does_nothing),
		ring_test(cancel_does_not_reach_the_next_use),
		ring_test(many_operations_at_once),
		ring_test(held_back_operations_keep_their_order),
		ring_test(held_back_operations_can_be_cancelled),
		ring_test(cancelling_more_than_the_queue_holds),
		ring_test(done_may_start_cancel_and_reuse),
		ring_test(results_known_at_once_do_not_recurse),
		ring_test(adopted_descriptors_work_and_close),
		ring_test(adopting_more_than_there_are_slots),
		ring_test(report_says_what_was_found),
		cmocka_unit_test(unknown_engine_is_an_error),
		cmocka_unit_test(destroy_takes_back_what_is_under_way),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
