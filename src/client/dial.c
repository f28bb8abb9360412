/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Dialling (dial.h): the negotiation core driven by plain calls.
 *
 * The whole of it is under one deadline, so a remote that says nothing, or one byte a
 * second, holds its thread no longer than that.
 */
#include "src/client/dial.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "src/client/reach.h"
#include "src/protocol/client-reply.h"

#define RECEIVE_BYTES 4096u
#define CIPHER_BYTES (NR_TLS_RECORD_MAX + NR_TLS_OVERHEAD_MAX)
#define FAREWELL_STEPS 200u /* of 10 ms that a program has to end by itself */

struct dialling {
	struct nr_patience patience;
	struct nr_client_handshake *handshake;
	struct nr_tls_session *tls; /* NULL: not yet, or never */
	int fd;
	uint8_t bytes[RECEIVE_BYTES];
	size_t begin, end; /* of `bytes` that are not fed yet */
	uint8_t cipher[CIPHER_BYTES];
};

void nr_dialled_init(struct nr_dialled *dialled)
{
	*dialled = (struct nr_dialled){ .fd = -1 };
}

/* ---- bytes ------------------------------------------------------------- */

static int send_plain(struct dialling *d, const uint8_t *data, size_t length)
{
	while (length) {
		ssize_t sent = send(d->fd, data, length, MSG_NOSIGNAL);
		int err;

		if (sent > 0) {
			data += sent;
			length -= (size_t)sent;
			continue;
		}
		if (errno != EAGAIN && errno != EINTR)
			return -errno;
		err = nr_patience_poll(&d->patience, d->fd, POLLOUT);
		if (err)
			return err;
	}
	return 0;
}

static int send_all(struct dialling *d, const uint8_t *data, size_t length)
{
	const struct iovec from = { (void *)(uintptr_t)data, length };
	struct nr_tls_cursor cursor = { 0 };

	if (!d->tls)
		return send_plain(d, data, length);
	while (cursor.entry == 0 && length) {
		size_t bytes =
			nr_tls_encrypt(d->tls, &from, 1, &cursor, d->cipher, sizeof(d->cipher));
		int err = bytes ? send_plain(d, d->cipher, bytes) : -EPROTO;

		if (err)
			return err;
	}
	return 0;
}

/* Bytes as they come, at most ROOM: how many, or negative errno. */
static ssize_t receive_plain(struct dialling *d, uint8_t *into, size_t room)
{
	for (;;) {
		ssize_t got = recv(d->fd, into, room, 0);
		int err;

		if (got > 0)
			return got;
		if (got == 0)
			return -ECONNRESET;
		if (errno != EAGAIN && errno != EINTR)
			return -errno;
		err = nr_patience_poll(&d->patience, d->fd, POLLIN);
		if (err)
			return err;
	}
}

static int receive_some(struct dialling *d)
{
	const struct iovec into = { d->bytes, sizeof(d->bytes) };
	size_t have = 0, used = 0;

	d->begin = d->end = 0;
	while (d->end == 0) {
		ssize_t got = 0;

		if (!d->tls) {
			got = receive_plain(d, d->bytes, sizeof(d->bytes));
			d->end = got > 0 ? (size_t)got : 0;
		} else if (used == have && !nr_tls_pending(d->tls)) {
			got = receive_plain(d, d->cipher, sizeof(d->cipher));
			have = got > 0 ? (size_t)got : 0;
			used = 0;
		}
		if (got < 0)
			return (int)got;
		if (d->tls) {
			size_t taken = 0;

			d->end = nr_tls_decrypt(d->tls, d->cipher + used, have - used, &taken,
						&into, 1);
			used += taken;
			if (d->end == 0 && nr_tls_state(d->tls) != NR_TLS_OPEN)
				return -ECONNRESET;
		}
	}
	return used < have && !nr_tls_stash(d->tls, d->cipher + used, have - used) ? -ENOMEM : 0;
}

static int send_output(struct dialling *d)
{
	size_t length;
	const uint8_t *output = nr_client_handshake_output(d->handshake, &length);
	int err = send_all(d, output, length);

	if (!err)
		nr_client_handshake_sent(d->handshake, length);
	return err;
}

/* What went wrong on the way, in words. */
static int troubled(int err, struct nr_error *error)
{
	switch (err) {
	case -ETIMEDOUT:
		return nr_error_set(error, err, "the server does not answer in time");
	case -ECANCELED:
		return nr_error_set(error, err, "nobody waits for it any more");
	case -ECONNRESET:
		return nr_error_set(error, err, "the server closes the connection");
	default:
		return nr_error_system(error, err, "the connection");
	}
}

/* ---- TLS --------------------------------------------------------------- */

static const char *host_of(const struct nr_remote *remote)
{
	if (remote->tls_hostname)
		return remote->tls_hostname;
	return remote->kind == NR_REMOTE_TCP ? remote->host : "localhost";
}

int nr_dial_credentials(const struct nr_remote *remote, struct nr_tls_credentials **credentials,
			struct nr_error *error)
{
	const struct nr_tls_config config = {
		.side = NR_TLS_CLIENT,
		.directory = remote->tls_certificates,
		.psk_file = remote->tls_psk_file,
		.psk_name = remote->tls_username,
		.verify_peer = remote->tls_verify_peer,
	};

	*credentials = NULL;
	if (remote->tls == NR_CLIENT_TLS_OFF)
		return 0;
	return nr_tls_credentials_load(credentials, &config, error);
}

static int send_tls_output(struct dialling *d)
{
	size_t length;
	const uint8_t *output = nr_tls_output(d->tls, &length);
	int err = length ? send_plain(d, output, length) : 0;

	if (!err)
		nr_tls_sent(d->tls, length);
	return err;
}

/* What is left of `bytes` is TLS already. */
static int secure(struct dialling *d, const struct nr_call *call, struct nr_error *error)
{
	enum nr_tls_state state;
	int err;

	d->tls = nr_tls_session_create(call->credentials, host_of(call->remote));
	if (!d->tls)
		return nr_error_system(error, -ENOMEM, "TLS");
	state = nr_tls_state(d->tls);
	while (state == NR_TLS_HANDSHAKING) {
		ssize_t got = (ssize_t)(d->end - d->begin);

		err = send_tls_output(d);
		if (!err && got == 0) {
			got = receive_plain(d, d->bytes, sizeof(d->bytes));
			d->begin = 0;
			err = got < 0 ? (int)got : 0;
		}
		if (err) {
			troubled(err, error);
			return nr_error_prefix(error, "TLS");
		}
		state = nr_tls_handshake(d->tls, d->bytes + d->begin, (size_t)got);
		d->begin = d->end = 0;
	}
	err = send_tls_output(d);
	if (state != NR_TLS_OPEN)
		return nr_error_set(error, -EACCES, "%s",
				    state == NR_TLS_FAILED ? nr_tls_reason(d->tls)
							   : "TLS: the server hangs up");
	return err ? troubled(err, error) : 0;
}

/* ---- negotiation ------------------------------------------------------- */

static int negotiate(struct dialling *d, const struct nr_call *call, struct nr_dialled *out,
		     struct nr_error *error)
{
	enum nr_client_state state = NR_CLIENT_MORE;

	while (state == NR_CLIENT_MORE) {
		size_t used;
		int err = send_output(d);

		if (!err && d->begin == d->end)
			err = receive_some(d);
		if (err)
			return troubled(err, error);
		state = nr_client_handshake_feed(d->handshake, d->bytes + d->begin,
						 d->end - d->begin, &used);
		d->begin += used;
		if (state == NR_CLIENT_TLS) {
			err = send_output(d);
			err = err ? troubled(err, error) : secure(d, call, error);
			if (err)
				return err;
			state = nr_client_handshake_secured(d->handshake);
		}
	}
	if (state == NR_CLIENT_FAILED)
		return nr_error_set(error, nr_client_handshake_error(d->handshake), "%s",
				    nr_client_handshake_reason(d->handshake));
	(void)send_output(d);
	if (state == NR_CLIENT_LISTED)
		return 0;
	if (d->begin < d->end)
		return nr_error_set(error, -EPROTO, "the server answers before it is asked");
	out->agreement = *nr_client_handshake_agreement(d->handshake);
	return 0;
}

static uint64_t deadline(unsigned milliseconds)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec +
	       (uint64_t)milliseconds * 1000000;
}

static int dial(struct dialling *d, const struct nr_call *call, struct nr_dialled *out,
		struct nr_error *error)
{
	int err = nr_reach(call->remote, &d->patience, &out->fd, &out->child, error);

	if (err)
		return err;
	d->fd = out->fd;
	err = negotiate(d, call, out, error);
	out->tls = d->tls;
	if (err)
		nr_error_prefix(error, "%s", call->remote->shown);
	else
		(void)fcntl(d->fd, F_SETFL, fcntl(d->fd, F_GETFL) & ~O_NONBLOCK);
	/* Of a list nothing is left; DISC has no place in negotiation. */
	if (err || call->wish.listed) {
		close(out->fd);
		out->fd = -1;
		nr_dialled_close(out);
	}
	return err;
}

int nr_dial(const struct nr_call *call, struct nr_dialled *out, struct nr_error *error)
{
	struct nr_client_wish wish = call->wish;
	struct dialling *d = calloc(1, sizeof(*d));
	int err;

	nr_dialled_init(out);
	if (!d)
		return nr_error_system(error, -ENOMEM, "connecting");
	wish.tls = call->credentials ? call->remote->tls : NR_CLIENT_TLS_OFF;
	if (!wish.export_name)
		wish.export_name = call->remote->export_name;
	d->patience = (struct nr_patience){ deadline(call->milliseconds), call->stop };
	d->handshake = nr_client_handshake_create(&wish);
	err = d->handshake ? dial(d, call, out, error)
			   : nr_error_system(error, -ENOMEM, "connecting");
	nr_client_handshake_destroy(d->handshake);
	free(d);
	return err;
}

/* The program ends when its connection does; one that does not is helped. */
static void await(pid_t child)
{
	const struct timespec step = { .tv_nsec = 10000000 };

	for (unsigned i = 0; i < FAREWELL_STEPS; i++) {
		if (waitpid(child, NULL, WNOHANG) != 0)
			return;
		if (i == FAREWELL_STEPS / 2)
			(void)kill(child, SIGTERM);
		nanosleep(&step, NULL);
	}
	(void)kill(child, SIGKILL);
	while (waitpid(child, NULL, 0) < 0 && errno == EINTR)
		;
}

static void say_goodbye_by_tls(struct nr_dialled *dialled, uint8_t *goodbye, size_t length)
{
	const struct iovec from = { goodbye, length };
	struct nr_tls_cursor cursor = { 0 };
	uint8_t cipher[CIPHER_BYTES];
	const uint8_t *bye;
	size_t bytes = 0;

	if (nr_tls_state(dialled->tls) == NR_TLS_OPEN)
		bytes = nr_tls_encrypt(dialled->tls, &from, 1, &cursor, cipher, sizeof(cipher));
	if (!bytes)
		return;
	(void)send(dialled->fd, cipher, bytes, MSG_NOSIGNAL | MSG_DONTWAIT);
	nr_tls_bye(dialled->tls);
	bye = nr_tls_output(dialled->tls, &bytes);
	(void)send(dialled->fd, bye, bytes, MSG_NOSIGNAL | MSG_DONTWAIT);
}

void nr_dialled_close(struct nr_dialled *dialled)
{
	if (dialled->fd >= 0) {
		uint8_t goodbye[NR_CLIENT_REQUEST_MAX];
		size_t length = nr_client_encode_goodbye(goodbye, dialled->agreement.reply_style);

		if (dialled->tls)
			say_goodbye_by_tls(dialled, goodbye, length);
		else
			(void)send(dialled->fd, goodbye, length, MSG_NOSIGNAL | MSG_DONTWAIT);
		close(dialled->fd);
	}
	nr_tls_session_destroy(dialled->tls);
	if (dialled->child > 0)
		await(dialled->child);
	nr_dialled_init(dialled);
}
