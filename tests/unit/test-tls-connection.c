/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Connections with TLS, over socket pairs, with a client that decides what is in one
 * piece of ciphertext:
 *
 *   - requests that come together with the option that enters move with the connection
 *     to another worker
 *   - a layer sees who the client is
 *   - a refused write, and a large one that dribbles in, leave the stream in step
 *   - a client that goes away, or sends anything but TLS, at any moment of the handshake
 *   - data, key updates and goodbyes mixed; a server that stops says goodbye
 */
#include <poll.h>
#include <stdatomic.h>
#include <sys/socket.h>

#include "tests/unit/tls-test.h"

#include "nbdring/checked.h"
#include "nbdring/layer.h"
#include "src/protocol/wire.h"
#include "src/server/limits.h"
#include "src/server/server.h"

#define SIZE (UINT64_C(8) << 20)
#define MIB (1024u * 1024)
#define HANGS_MS 60000

/* A disk of one worker that remembers what was written. */

static uint8_t content[SIZE];
static char seen_identity[64];
static atomic_uint admitted, left;

static int describe(struct nr_layer *layer, struct nr_traits *t, struct nr_error *error)
{
	t->size = SIZE;
	t->block_max = NR_TRANSFER_MAX;
	return 0;
}

static int admit(struct nr_layer *layer, struct nr_session *session, struct nr_error *error)
{
	snprintf(seen_identity, sizeof(seen_identity), "%s",
		 session->tls && session->tls->psk_identity ? session->tls->psk_identity : "?");
	atomic_fetch_add(&admitted, 1);
	return 0;
}

static void leave(struct nr_layer *layer, struct nr_session *session)
{
	/* Still there. */
	if (session->tls && strcmp(session->tls->psk_identity, seen_identity) == 0)
		atomic_fetch_add(&left, 1);
}

static void submit(struct nr_layer *layer, struct nr_request *req)
{
	if (req->operation == NR_READ)
		nr_answer_data(req, content + req->offset, req->length, NULL);
	else if (req->operation == NR_WRITE)
		nr_request_copy_out(req, 0, req->length, content + req->offset);
	nr_finish(layer, req, 0);
}

static struct nr_layer_type disk = {
	.abi = NR_LAYER_ABI,
	.name = "disk",
	.summary = "for tests",
	.kind = NR_BACKEND,
	.placement = NR_SPREAD,
	.describe = describe,
	.admit = admit,
	.leave = leave,
	.submit = submit,
};

static struct nr_plan_layer layers[] = { { .type = &disk } };

static unsigned patience; /* seconds for negotiation; 0: as usual */

struct host {
	struct nr_plan plan;
	struct nr_tls_store *store;
	struct nr_server *server;
};

static void start(struct host *host, unsigned workers, enum nr_tls_mode mode)
{
	struct nr_server_config config = { .plan = &host->plan,
					   .handshake = { .flags_mask = 0xffff, .tls = mode },
					   .workers = workers,
					   .handshake_seconds = patience,
					   .grace_seconds = 10 };
	struct nr_error error = { 0 };

	*host = (struct host){
		.plan = { .layers = layers, .layer_count = 1, .worker_count = workers }
	};
	host->store = nr_tls_store_create(tls_load(&(struct nr_tls_config){
		.side = NR_TLS_SERVER, .psk_file = tls_path("good/keys.psk") }));
	assert_non_null(host->store);
	config.tls = host->store;
	if (nr_server_create(&host->server, &config, &error))
		fail_msg("%s", error.text);
	assert_int_equal(nr_server_start(host->server, &error), 0);
}

static void end(struct host *host)
{
	nr_server_stop(host->server);
	assert_int_equal(nr_server_wait(host->server), 0);
	nr_server_destroy(host->server);
	nr_tls_store_destroy(host->store);
}

/* A client. */

struct client {
	int fd;
	struct nr_tls_session *tls; /* NULL: not yet */
	uint8_t cipher[65536];      /* received, not decrypted yet */
	size_t head, tail;
};

static void wire_send(struct client *c, const void *data, size_t length, size_t piece)
{
	for (size_t done = 0; done < length;) {
		size_t most = length - done < piece ? length - done : piece;
		ssize_t part = send(c->fd, (const char *)data + done, most, MSG_NOSIGNAL);

		assert_true(part > 0);
		done += (size_t)part;
	}
}

/* Bytes of the socket, as many as there are; 0: the end. */
static size_t wire_receive(struct client *c, void *data, size_t length)
{
	struct pollfd readable = { .fd = c->fd, .events = POLLIN };
	ssize_t part;

	assert_int_equal(poll(&readable, 1, HANGS_MS), 1);
	part = recv(c->fd, data, length, 0);
	return part > 0 ? (size_t)part : 0;
}

/* All of it in records of its own, cut into pieces. */
static void say(struct client *c, const void *data, size_t length, size_t piece)
{
	struct iovec from = { (void *)(uintptr_t)data, length };
	struct nr_tls_cursor cursor = { 0, 0 };
	static uint8_t cipher[400000];

	if (!c->tls) {
		wire_send(c, data, length, piece);
		return;
	}
	while (cursor.entry < 1) {
		size_t made = nr_tls_encrypt(c->tls, &from, 1, &cursor, cipher, sizeof(cipher));

		assert_true(made > 0);
		wire_send(c, cipher, made, piece);
	}
}

/* Two records, sent at once. */
static void say_both(struct client *c, const void *one, size_t length, const void *other,
		     size_t other_length)
{
	static uint8_t cipher[100000];
	struct nr_tls_cursor cursor = { 0, 0 };
	size_t made = nr_tls_encrypt(c->tls, &(struct iovec){ (void *)(uintptr_t)one, length }, 1,
				     &cursor, cipher, sizeof(cipher));

	cursor = (struct nr_tls_cursor){ 0, 0 };
	made += nr_tls_encrypt(c->tls, &(struct iovec){ (void *)(uintptr_t)other, other_length }, 1,
			       &cursor, cipher + made, sizeof(cipher) - made);
	wire_send(c, cipher, made, SIZE_MAX);
}

/* True: LENGTH bytes have come.  False: the server has said goodbye before. */
static bool hear(struct client *c, void *data, size_t length)
{
	for (size_t done = 0, used; done < length; c->head += used) {
		struct iovec into = { (char *)data + done, length - done };

		used = 0;
		if (!c->tls) {
			size_t part = wire_receive(c, into.iov_base, into.iov_len);

			assert_true(part > 0);
			done += part;
			continue;
		}
		if (c->head == c->tail && !nr_tls_pending(c->tls)) {
			c->head = 0;
			c->tail = wire_receive(c, c->cipher, sizeof(c->cipher));
			assert_true(c->tail > 0);
		}
		done += nr_tls_decrypt(c->tls, c->cipher + c->head, c->tail - c->head, &used, &into,
				       1);
		if (nr_tls_state(c->tls) == NR_TLS_CLOSED)
			return false;
		assert_int_equal(nr_tls_state(c->tls), NR_TLS_OPEN);
	}
	return true;
}

static void connect_to(struct client *c, struct host *host)
{
	struct nr_error error;
	int fd[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd), 0);
	assert_int_equal(nr_server_serve(host->server, fd[1], &error), 0);
	*c = (struct client){ .fd = fd[0] };
}

static uint8_t *put_option(uint8_t *p, uint32_t option, uint32_t length)
{
	p = nbd_put64(p, NBD_IHAVEOPT);
	p = nbd_put32(p, option);
	return nbd_put32(p, length);
}

static void ask_for_tls(struct client *c)
{
	uint8_t out[20], in[38];

	nbd_put32(out, NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES);
	put_option(out + 4, NBD_OPT_STARTTLS, 0);
	say(c, out, sizeof(out), SIZE_MAX);
	hear(c, in, sizeof(in));
	assert_int_equal(nbd_get32(in + 18 + 12), NBD_REP_ACK);
}

static struct nr_tls_session *new_session(void)
{
	struct nr_tls_credentials *credentials =
		tls_load(&(struct nr_tls_config){ .side = NR_TLS_CLIENT,
						  .psk_file = tls_path("good/keys.psk"),
						  .psk_name = "alice" });
	struct nr_tls_session *session = nr_tls_session_create(credentials, NULL);

	nr_tls_credentials_release(credentials);
	assert_non_null(session);
	return session;
}

/* What waits to be sent. */
static void flush_output(struct client *c, struct nr_tls_session *session, size_t piece)
{
	size_t length;
	const uint8_t *output = nr_tls_output(session, &length);

	if (length)
		wire_send(c, output, length, piece);
	nr_tls_sent(session, length);
}

/* The handshake, all but the client's last words, which go out with what it says next. */
static void begin_tls(struct client *c, size_t piece)
{
	struct nr_tls_session *session = new_session();

	ask_for_tls(c);
	while (nr_tls_state(session) == NR_TLS_HANDSHAKING) {
		uint8_t in[4096];
		size_t part;

		flush_output(c, session, piece);
		part = wire_receive(c, in, sizeof(in));
		assert_true(part > 0);
		nr_tls_handshake(session, in, part);
	}
	assert_int_equal(nr_tls_state(session), NR_TLS_OPEN);
	c->tls = session;
}

static void hang_up(struct client *c)
{
	close(c->fd);
	nr_tls_session_destroy(c->tls);
}

static uint8_t *put_request(uint8_t *p, uint16_t command, uint64_t cookie, uint64_t offset,
			    uint32_t length)
{
	p = nbd_put32(p, NBD_REQUEST_MAGIC);
	p = nbd_put16(p, 0);
	p = nbd_put16(p, command);
	p = nbd_put64(p, cookie);
	p = nbd_put64(p, offset);
	return nbd_put32(p, length);
}

static void hear_reply(struct client *c, uint64_t cookie, uint32_t error, uint32_t length)
{
	uint8_t header[16];
	uint8_t *data = malloc(length + 1);

	assert_non_null(data);
	assert_true(hear(c, header, sizeof(header)));
	assert_int_equal(nbd_get32(header), NBD_SIMPLE_REPLY_MAGIC);
	assert_int_equal(nbd_get32(header + 4), error);
	assert_true(nbd_get64(header + 8) == cookie);
	if (!error && length)
		assert_true(hear(c, data, length));
	free(data);
}

/* EXPORT_NAME and requests, in one piece with the end of the TLS handshake. */
static void enter(struct client *c)
{
	uint8_t out[200], in[10], *p = out;

	p = put_option(p, NBD_OPT_EXPORT_NAME, 0);
	p = put_request(p, NBD_CMD_READ, 1, 0, 512);
	p = put_request(p, NBD_CMD_READ, 2, 512, 100000);
	say(c, out, (size_t)(p - out), SIZE_MAX);
	assert_true(hear(c, in, sizeof(in)));
	assert_true(nbd_get64(in) == SIZE);
	hear_reply(c, 1, 0, 512);
	hear_reply(c, 2, 0, 100000);
}

static void assert_serves(struct host *host)
{
	static struct client c;

	connect_to(&c, host);
	begin_tls(&c, SIZE_MAX);
	enter(&c);
	hang_up(&c);
}

/* The tests. */

static void requests_behind_the_handshake_move_along(void **state)
{
	static struct client c[4];
	struct host host;

	atomic_store(&left, 0);
	disk.placement = NR_HOME;
	start(&host, 2, NR_TLS_REQUIRED);
	/* Some of them are on the other worker. */
	for (unsigned i = 0; i < 4; i++) {
		connect_to(&c[i], &host);
		begin_tls(&c[i], i % 2 ? 3 : SIZE_MAX);
	}
	for (unsigned i = 0; i < 4; i++)
		enter(&c[i]);
	assert_string_equal(seen_identity, "alice");
	for (unsigned i = 0; i < 4; i++)
		hang_up(&c[i]);
	end(&host);
	assert_int_equal(atomic_load(&left), 4);
	disk.placement = NR_SPREAD;
}

/*
 * More than the window holds, and the beginning of a further record: plaintext, what the
 * library has, and ciphertext go along.
 */
static void what_is_not_decrypted_yet_moves_along(void **state)
{
	static struct client c[4];
	static uint8_t first[16 + NBD_REQUEST_BYTES + 6000], second[4 * NBD_REQUEST_BYTES];
	struct host host;
	uint8_t *p;

	disk.placement = NR_HOME;
	start(&host, 2, NR_TLS_REQUIRED);
	p = put_option(first, NBD_OPT_EXPORT_NAME, 0);
	memset(put_request(p, NBD_CMD_WRITE, 1, 0, 6000), 0x77, 6000);
	p = second;
	for (unsigned i = 2; i < 6; i++)
		p = put_request(p, NBD_CMD_READ, i, 0, 512);
	for (unsigned i = 0; i < 4; i++) {
		uint8_t in[10];

		connect_to(&c[i], &host);
		begin_tls(&c[i], SIZE_MAX);
		flush_output(&c[i], c[i].tls, SIZE_MAX);
		say_both(&c[i], first, sizeof(first), second, sizeof(second));
		assert_true(hear(&c[i], in, sizeof(in)));
		hear_reply(&c[i], 1, 0, 0);
		for (unsigned k = 2; k < 6; k++)
			hear_reply(&c[i], k, 0, 512);
	}
	for (unsigned i = 0; i < 4; i++)
		hang_up(&c[i]);
	end(&host);
	disk.placement = NR_SPREAD;
}

/* Whatever the pieces: all that was written is read, and what was refused is skipped. */
static void writes_of_any_kind_leave_the_stream_in_step(void **state)
{
	static const size_t pieces[] = { 11, 1000, 16406, SIZE_MAX };
	static uint8_t data[3 * MIB], back[3 * MIB];
	static struct client c;
	struct host host;

	start(&host, 1, NR_TLS_REQUIRED);
	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)(i * 31 + (i >> 12));
	for (size_t i = 0; i < sizeof(pieces) / sizeof(pieces[0]); i++) {
		uint8_t out[100];
		size_t length = i ? 3 * MIB - 17 : 200000, done = 0;

		memset(content, 0, sizeof(content));
		connect_to(&c, &host);
		begin_tls(&c, SIZE_MAX);
		enter(&c);
		/* Past the end: refused, with its data. */
		say(&c, out, (size_t)(put_request(out, NBD_CMD_WRITE, 3, SIZE - 5, 70000) - out),
		    pieces[i]);
		say(&c, data, 70000, pieces[i]);
		hear_reply(&c, 3, NBD_ENOSPC, 0);
		say(&c, out,
		    (size_t)(put_request(out, NBD_CMD_WRITE, 4, 5, (uint32_t)length) - out),
		    pieces[i]);
		/* Its data with other requests' records between the parts of it. */
		for (size_t part = 1; done < length; done += part, part = part * 3 + 1) {
			if (part > length - done)
				part = length - done;
			say(&c, data + done, part, pieces[i]);
		}
		hear_reply(&c, 4, 0, 0);
		say(&c, out, (size_t)(put_request(out, NBD_CMD_READ, 5, 5, (uint32_t)length) - out),
		    pieces[i]);
		hear(&c, back, 16);
		assert_true(hear(&c, back, length));
		assert_memory_equal(back, data, length);
		hang_up(&c);
	}
	end(&host);
}

/* Small writes, many in one record, records across receives. */
static void many_small_requests_in_a_record(void **state)
{
	static uint8_t out[600 * (NBD_REQUEST_BYTES + 64)];
	static struct client c;
	struct host host;
	uint8_t *p = out;

	start(&host, 1, NR_TLS_REQUIRED);
	connect_to(&c, &host);
	begin_tls(&c, SIZE_MAX);
	enter(&c);
	for (unsigned i = 0; i < 600; i++) {
		p = put_request(p, NBD_CMD_WRITE, i, i * 64, 64);
		memset(p, (int)i, 64);
		p += 64;
	}
	say(&c, out, (size_t)(p - out), 5000);
	for (unsigned i = 0; i < 600; i++)
		hear_reply(&c, i, 0, 0);
	for (unsigned i = 0; i < 600; i++)
		assert_int_equal(content[i * 64 + 63], (uint8_t)i);
	hang_up(&c);
	end(&host);
}

/* At each point of the handshake: after N bytes of what a client says. */
static void clients_that_vanish_in_the_handshake(void **state)
{
	static const size_t after[] = { 0, 1, 5, 100, SIZE_MAX };
	struct host host;

	start(&host, 1, NR_TLS_OFFERED);
	for (size_t i = 0; i < sizeof(after) / sizeof(after[0]); i++) {
		static struct client c;
		struct nr_tls_session *session = new_session();
		size_t length;
		const uint8_t *hello;

		connect_to(&c, &host);
		ask_for_tls(&c);
		hello = nr_tls_output(session, &length);
		wire_send(&c, hello, length < after[i] ? length : after[i], SIZE_MAX);
		hang_up(&c);
		nr_tls_session_destroy(session);
	}
	assert_serves(&host);
	end(&host);
}

/* Half of what it should say, and then nothing. */
static void a_client_that_stalls_in_the_handshake(void **state)
{
	static struct client c;
	struct nr_tls_session *session = new_session();
	struct host host;
	size_t length;
	const uint8_t *hello;
	uint8_t byte;

	patience = 1;
	start(&host, 1, NR_TLS_REQUIRED);
	connect_to(&c, &host);
	ask_for_tls(&c);
	hello = nr_tls_output(session, &length);
	wire_send(&c, hello, length / 2, SIZE_MAX);
	assert_int_equal(wire_receive(&c, &byte, 1), 0);
	hang_up(&c);
	nr_tls_session_destroy(session);
	end(&host);
	patience = 0;
}

/* No answer but an alert, and the end. */
static void garbage_instead_of_tls(void **state)
{
	struct host host;

	start(&host, 1, NR_TLS_OFFERED);
	for (unsigned i = 0; i < 20; i++) {
		/* A record of a handshake that holds the start of a ClientHello. */
		static const uint8_t hello[] = { 0x16, 3, 1, 3, 0, 1, 0, 2, 0xfc, 3, 3 };
		static struct client c;
		uint8_t words[1000], in[1000];
		size_t heard = 0, part;

		for (size_t k = 0; k < sizeof(words); k++)
			words[k] = (uint8_t)(rand() >> 7);
		if (i % 2)
			memcpy(words, hello, sizeof(hello));
		if (i == 2)
			put_option(words, NBD_OPT_LIST, 0);
		connect_to(&c, &host);
		ask_for_tls(&c);
		/* It may hang up at any byte. */
		for (size_t k = 0, most = i % 3 ? 1000 : 7; k < sizeof(words); k += most)
			(void)!send(c.fd, words + k, nr_min(most, sizeof(words) - k), MSG_NOSIGNAL);
		/* Some of it looks like the beginning of something long. */
		shutdown(c.fd, SHUT_WR);
		while (heard < sizeof(in) &&
		       (part = wire_receive(&c, in + heard, sizeof(in) - heard)) > 0)
			heard += part;
		/* An alert of seven bytes at most. */
		assert_true(heard <= 7);
		hang_up(&c);
	}
	assert_serves(&host);
	end(&host);
}

/* DISC: what was asked is answered, then the server says goodbye.  So does one that stops. */
static void the_server_says_goodbye(void **state)
{
	struct host host;

	for (unsigned stop = 0; stop < 2; stop++) {
		static struct client c;
		uint8_t out[100], byte, *p = out;

		start(&host, 1, NR_TLS_REQUIRED);
		connect_to(&c, &host);
		begin_tls(&c, SIZE_MAX);
		enter(&c);
		p = put_request(p, NBD_CMD_READ, 3, 0, MIB);
		if (!stop)
			p = put_request(p, NBD_CMD_DISC, 4, 0, 0);
		say(&c, out, (size_t)(p - out), SIZE_MAX);
		if (stop)
			nr_server_stop(host.server);
		else
			hear_reply(&c, 3, 0, MIB);
		while (hear(&c, &byte, 1))
			;
		assert_int_equal(nr_tls_state(c.tls), NR_TLS_CLOSED);
		hang_up(&c);
		end(&host);
	}
}

/* A client that closes its side of TLS has said all that it has to say. */
static void a_client_may_say_goodbye_to_tls_alone(void **state)
{
	static struct client c;
	struct host host;
	uint8_t out[100], byte;

	start(&host, 1, NR_TLS_REQUIRED);
	connect_to(&c, &host);
	begin_tls(&c, SIZE_MAX);
	enter(&c);
	say(&c, out, (size_t)(put_request(out, NBD_CMD_READ, 3, 0, MIB) - out), SIZE_MAX);
	nr_tls_bye(c.tls);
	flush_output(&c, c.tls, SIZE_MAX);
	hear_reply(&c, 3, 0, MIB);
	assert_false(hear(&c, &byte, 1));
	hang_up(&c);
	end(&host);
}

/* Nobody notices: its blocks went back meanwhile. */
static void an_idle_connection_goes_on(void **state)
{
	static struct client c;
	struct host host;
	uint8_t out[100];

	start(&host, 1, NR_TLS_REQUIRED);
	connect_to(&c, &host);
	begin_tls(&c, SIZE_MAX);
	enter(&c);
	for (unsigned i = 0; i < 2; i++) {
		struct pollfd silent = { .fd = c.fd, .events = POLLIN };

		assert_int_equal(poll(&silent, 1, 2500), 0);
		say(&c, out, (size_t)(put_request(out, NBD_CMD_READ, 3, 0, 70000) - out), 1);
		hear_reply(&c, 3, 0, 70000);
	}
	hang_up(&c);
	end(&host);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(requests_behind_the_handshake_move_along),
		cmocka_unit_test(what_is_not_decrypted_yet_moves_along),
		cmocka_unit_test(writes_of_any_kind_leave_the_stream_in_step),
		cmocka_unit_test(many_small_requests_in_a_record),
		cmocka_unit_test(clients_that_vanish_in_the_handshake),
		cmocka_unit_test(a_client_that_stalls_in_the_handshake),
		cmocka_unit_test(garbage_instead_of_tls),
		cmocka_unit_test(the_server_says_goodbye),
		cmocka_unit_test(a_client_may_say_goodbye_to_tls_alone),
		cmocka_unit_test(an_idle_connection_goes_on),
	};

	return cmocka_run_group_tests(tests, tls_make_folder, tls_remove_folder);
}
