/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The server with layers of the test's own, over socket pairs: what no client
 * can see from outside.
 *
 *   - connections to an export that has a home move to its worker, with the
 *     requests that were sent along with the last option
 *   - what is open is flushed when the server ends, and an error of that flush
 *     is not lost
 *   - a client that does not take its replies does not keep the server
 */
#undef NDEBUG
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "nbdring/layer.h"
#include "src/protocol/wire.h"
#include "src/server/server.h"

/* A backend that notes on which thread it is used. */

static struct {
	atomic_uint reads, strangers, flushes;
	atomic_uintptr_t home; /* the first thread seen */
	int flush_error;
	uint64_t read_length;
} noted;

static int describe(struct nr_layer *layer, struct nr_traits *t, struct nr_error *error)
{
	t->size = 64 * 1024 * 1024;
	t->support[NR_CAP_FLUSH] = NR_NATIVE;
	return 0;
}

static void submit(struct nr_layer *layer, struct nr_request *req)
{
	uintptr_t expected = 0, self = (uintptr_t)pthread_self();

	if (req->operation == NR_FLUSH) {
		atomic_fetch_add(&noted.flushes, 1);
		nr_finish(layer, req, noted.flush_error);
		return;
	}
	if (!atomic_compare_exchange_strong(&noted.home, &expected, self) && expected != self)
		atomic_fetch_add(&noted.strangers, 1);
	atomic_fetch_add(&noted.reads, 1);
	if (req->operation == NR_READ)
		nr_answer_hole(req, req->length);
	nr_finish(layer, req, 0);
}

static const struct nr_layer_type at_home = {
	.abi = NR_LAYER_ABI,
	.name = "at-home",
	.summary = "used by one worker",
	.kind = NR_BACKEND,
	.placement = NR_HOME,
	.describe = describe,
	.submit = submit,
};

static struct nr_plan_layer layers[] = { { .type = &at_home } };
static struct nr_plan plan = { .layers = layers, .layer_count = 1, .worker_count = 3 };

static struct nr_server *start(unsigned grace_seconds)
{
	struct nr_server_config config = { .plan = &plan,
					   .handshake = { .flags_mask = 0xffff },
					   .workers = 3,
					   .grace_seconds = grace_seconds };
	struct nr_error error = { 0 };
	struct nr_server *server;

	memset(&noted, 0, sizeof(noted));
	if (nr_server_create(&server, &config, &error))
		fail_msg("%s", error.text);
	assert_int_equal(nr_server_start(server, &error), 0);
	return server;
}

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
	assert_int_equal(send(fd, data, length, MSG_NOSIGNAL), (ssize_t)length);
}

static void receive_all(int fd, void *data, size_t length)
{
	/* MSG_WAITALL would end early when the kernel has work for this thread. */
	for (size_t done = 0; done < length;) {
		ssize_t part = recv(fd, (char *)data + done, length - done, 0);

		assert_true(part > 0);
		done += (size_t)part;
	}
}

static uint8_t *put_request(uint8_t *p, uint16_t command, uint64_t cookie, uint32_t length)
{
	p = nbd_put32(p, NBD_REQUEST_MAGIC);
	p = nbd_put16(p, 0);
	p = nbd_put16(p, command);
	p = nbd_put64(p, cookie);
	p = nbd_put64(p, 0);
	return nbd_put32(p, length);
}

/* Flags, EXPORT_NAME and READS requests in one go; then the answer to EXPORT_NAME. */
static void negotiate(int fd, unsigned reads, uint32_t length)
{
	uint8_t out[4096], in[18 + 10], *p = out;

	p = nbd_put32(p, NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES);
	p = nbd_put64(p, NBD_IHAVEOPT);
	p = nbd_put32(p, NBD_OPT_EXPORT_NAME);
	p = nbd_put32(p, 0);
	for (unsigned i = 0; i < reads; i++)
		p = put_request(p, NBD_CMD_READ, i, length);
	send_all(fd, out, (size_t)(p - out));
	receive_all(fd, in, sizeof(in));
	assert_int_equal(nbd_get64(in), NBD_MAGIC);
	assert_int_equal(nbd_get64(in + 18), 64 * 1024 * 1024);
}

static void take_replies(int fd, unsigned reads, uint32_t length)
{
	uint8_t *in = malloc(16 + length);

	for (unsigned i = 0; i < reads; i++) {
		receive_all(fd, in, 16 + length);
		assert_int_equal(nbd_get32(in), NBD_SIMPLE_REPLY_MAGIC);
		assert_int_equal(nbd_get32(in + 4), 0);
		assert_int_equal(in[16 + length - 1], 0);
	}
	free(in);
}

static int end(struct nr_server *server)
{
	int err;

	nr_server_stop(server);
	err = nr_server_wait(server);
	nr_server_destroy(server);
	return err;
}

static void test_connections_move_to_the_home_of_their_export(void **state)
{
	struct nr_server *server = start(10);
	int fd[9];

	for (unsigned i = 0; i < 9; i++)
		fd[i] = connect_to(server); /* spread over three workers */
	for (unsigned i = 0; i < 9; i++)
		negotiate(fd[i], 20, 512);
	for (unsigned i = 0; i < 9; i++)
		take_replies(fd[i], 20, 512);
	for (unsigned i = 0; i < 9; i++)
		close(fd[i]);
	assert_int_equal(end(server), 0);
	assert_int_equal(noted.reads, 180);
	assert_int_equal(noted.strangers, 0);
}

static void test_open_exports_are_flushed_at_the_end(void **state)
{
	struct nr_server *server = start(10);
	int fd = connect_to(server);

	negotiate(fd, 1, 512);
	take_replies(fd, 1, 512);
	noted.flush_error = -EIO;
	assert_int_equal(end(server), -EIO);
	assert_int_equal(noted.flushes, 1);
	close(fd);
}

static void test_stopping_does_not_wait_for_those_who_do_not_read(void **state)
{
	struct nr_server *server = start(1);
	int fd = connect_to(server);

	/* Far more than a socket buffer holds, and never fetched. */
	negotiate(fd, 100, 8 * 1024 * 1024);
	assert_int_equal(end(server), 0);
	close(fd);
}

/* Clients take an answer that comes while they are still sending for one to nothing. */
static void test_a_refused_write_is_answered_when_its_data_has_come(void **state)
{
	struct nr_server *server = start(10);
	int fd = connect_to(server);
	uint8_t header[28], reply[16], *data = calloc(1, 1 << 20);
	struct pollfd readable = { .fd = fd, .events = POLLIN };

	negotiate(fd, 0, 0);
	put_request(header, NBD_CMD_WRITE, 77, 1 << 20);
	nbd_put64(header + 16, 64 * 1024 * 1024); /* past the end */
	send_all(fd, header, sizeof(header));
	send_all(fd, data, 4096);
	assert_int_equal(poll(&readable, 1, 200), 0);
	for (size_t sent = 4096; sent < 1 << 20;) {
		ssize_t part = send(fd, data + sent, (1 << 20) - sent, MSG_NOSIGNAL);

		assert_true(part > 0);
		sent += (size_t)part;
	}
	receive_all(fd, reply, sizeof(reply));
	assert_int_equal(nbd_get32(reply + 4), NBD_ENOSPC);
	assert_int_equal(nbd_get64(reply + 8), 77);
	free(data);
	close(fd);
	assert_int_equal(end(server), 0);
}

static void test_stopping_ends_negotiations(void **state)
{
	struct nr_server *server = start(10);
	int fd = connect_to(server);
	uint8_t greeting[18];

	receive_all(fd, greeting, sizeof(greeting));
	assert_int_equal(end(server), 0);
	assert_int_equal(recv(fd, greeting, 1, 0), 0);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_connections_move_to_the_home_of_their_export),
		cmocka_unit_test(test_open_exports_are_flushed_at_the_end),
		cmocka_unit_test(test_stopping_does_not_wait_for_those_who_do_not_read),
		cmocka_unit_test(test_a_refused_write_is_answered_when_its_data_has_come),
		cmocka_unit_test(test_stopping_ends_negotiations),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
