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
#define FAREWELL_STEPS 200u /* of 10 ms that a program has to end by itself */

struct dialling {
	struct nr_patience patience;
	struct nr_client_handshake *handshake;
	int fd;
	uint8_t bytes[RECEIVE_BYTES];
	size_t begin, end; /* of `bytes` that are not fed yet */
};

void nr_dialled_init(struct nr_dialled *dialled)
{
	*dialled = (struct nr_dialled){ .fd = -1 };
}

static int send_all(struct dialling *d, const uint8_t *data, size_t length)
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

static int receive_some(struct dialling *d)
{
	for (;;) {
		ssize_t got = recv(d->fd, d->bytes, sizeof(d->bytes), 0);
		int err;

		if (got > 0) {
			d->begin = 0;
			d->end = (size_t)got;
			return 0;
		}
		if (got == 0)
			return -ECONNRESET;
		if (errno != EAGAIN && errno != EINTR)
			return -errno;
		err = nr_patience_poll(&d->patience, d->fd, POLLIN);
		if (err)
			return err;
	}
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

static int negotiate(struct dialling *d, struct nr_dialled *out, struct nr_error *error)
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

int nr_dial(const struct nr_remote *remote, const struct nr_client_wish *wish,
	    unsigned milliseconds, const atomic_bool *stop, struct nr_dialled *out,
	    struct nr_error *error)
{
	struct nr_client_wish mine = *wish;
	struct dialling *d = calloc(1, sizeof(*d));
	int err;

	nr_dialled_init(out);
	if (!d)
		return nr_error_system(error, -ENOMEM, "connecting");
	mine.tls = remote->tls;
	if (!mine.export_name)
		mine.export_name = remote->export_name;
	d->patience = (struct nr_patience){ deadline(milliseconds), stop };
	d->handshake = nr_client_handshake_create(&mine);
	err = d->handshake ? nr_reach(remote, &d->patience, &out->fd, &out->child, error)
			   : nr_error_system(error, -ENOMEM, "connecting");
	if (!err) {
		d->fd = out->fd;
		err = negotiate(d, out, error);
		if (err)
			nr_error_prefix(error, "%s", remote->shown);
		else
			(void)fcntl(d->fd, F_SETFL, fcntl(d->fd, F_GETFL) & ~O_NONBLOCK);
		/* Of a list nothing is left; DISC has no place in negotiation. */
		if (err || wish->listed) {
			close(out->fd);
			out->fd = -1;
			nr_dialled_close(out);
		}
	}
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

void nr_dialled_close(struct nr_dialled *dialled)
{
	if (dialled->fd >= 0) {
		uint8_t goodbye[NR_CLIENT_REQUEST_MAX];
		size_t length = nr_client_encode_goodbye(goodbye, dialled->agreement.reply_style);

		(void)send(dialled->fd, goodbye, length, MSG_NOSIGNAL | MSG_DONTWAIT);
		close(dialled->fd);
	}
	if (dialled->child > 0)
		await(dialled->child);
	nr_dialled_init(dialled);
}
