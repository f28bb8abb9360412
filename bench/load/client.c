/*
 * The blocking part of an NBD client: connect, negotiate, goodbye. What is said and what is
 * understood is up to the client's side of src/protocol; here are the socket and patience.
 * It runs before and after the measured time, so it is plain and sequential; the socket
 * then goes to the ring. Every wait has a limit, so that a server that stops answering ends
 * in a sentence and not in a hang.
 *
 * Errors are returned, not fatal: in idle mode "no more connections" is a result.
 */
#include "bench/load/client.h"

#include "bench/load/tls.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#define PATIENCE_SECONDS 20

/* What is asked for at most; REPLY_BEST is what most clients have. */
static uint8_t style_wanted(enum reply_style replies)
{
	static const uint8_t styles[] = { [REPLY_BEST] = NR_REPLY_STRUCTURED,
					  [REPLY_SIMPLE] = NR_REPLY_SIMPLE,
					  [REPLY_STRUCTURED] = NR_REPLY_STRUCTURED,
					  [REPLY_EXTENDED] = NR_REPLY_EXTENDED };

	return styles[replies];
}

static bool fail(struct client_error *error, const char *what, const char *why)
{
	snprintf(error->text, sizeof(error->text), "%s: %s", what, why);
	return false;
}

static bool fail_errno(struct client_error *error, const char *what)
{
	if (errno == EAGAIN)
		return fail(error, what, "the server does not answer");
	return fail(error, what, strerror(errno));
}

static bool send_all(int fd, const void *data, size_t length, struct client_error *error)
{
	const uint8_t *at = data;

	while (length) {
		ssize_t n = send(fd, at, length, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return fail_errno(error, "sending");
		at += n;
		length -= (size_t)n;
	}
	return true;
}

/* What has arrived, ROOM bytes at most. */
static bool recv_some(int fd, uint8_t *data, size_t room, size_t *got, struct client_error *error)
{
	ssize_t n;

	do
		n = recv(fd, data, room, 0);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return fail_errno(error, "receiving");
	if (n == 0)
		return fail(error, "receiving", "the server closed the connection");
	*got = (size_t)n;
	return true;
}

static bool send_output(const struct client *c, struct nr_client_handshake *h,
			struct client_error *error)
{
	size_t length;
	const uint8_t *output = nr_client_handshake_output(h, &length);

	if (!send_all(c->fd, output, length, error))
		return false;
	nr_client_handshake_sent(h, length);
	return true;
}

/* From here on all is said through TLS. */
static bool go_over_to_tls(struct client *c, const char *priority, struct client_error *error)
{
	const char *why;
	int fd = tls_open(c->fd, priority, &why);

	if (fd < 0)
		return fail(error, "TLS", why);
	c->fd = fd;
	return true;
}

/* Until transmission begins. */
static bool negotiate(struct client *c, struct nr_client_handshake *h, const struct options *o,
		      struct client_error *error)
{
	enum nr_client_state state = NR_CLIENT_MORE;
	uint8_t bytes[4096];
	size_t have = 0, used;

	while (state == NR_CLIENT_MORE) {
		if (!send_output(c, h, error) ||
		    !recv_some(c->fd, bytes, sizeof(bytes), &have, error))
			return false;
		state = nr_client_handshake_feed(h, bytes, have, &used);
		if (state == NR_CLIENT_TLS) {
			if (!send_output(c, h, error) || !go_over_to_tls(c, o->tls, error))
				return false;
			state = nr_client_handshake_secured(h);
		}
	}
	if (state != NR_CLIENT_READY)
		return fail(error, "handshake", nr_client_handshake_reason(h));
	c->agreement = *nr_client_handshake_agreement(h);
	return send_output(c, h, error);
}

/* What was insisted on has to be what there is. */
static bool check_replies(const struct client *c, const struct options *o,
			  struct client_error *error)
{
	if (o->replies == REPLY_BEST || c->agreement.reply_style == style_wanted(o->replies))
		return true;
	return fail(error, "handshake",
		    o->replies == REPLY_EXTENDED ? "the server has no extended headers"
						 : "the server has no structured replies");
}

static bool handshake(struct client *c, const char *name, const struct options *o,
		      struct client_error *error)
{
	const struct nr_client_wish wish = {
		.export_name = name,
		.tls = o->tls ? NR_CLIENT_TLS_REQUIRE : NR_CLIENT_TLS_OFF,
		.best_style = style_wanted(o->replies),
	};
	struct nr_client_handshake *h = nr_client_handshake_create(&wish);
	bool good;

	if (!h)
		return fail(error, "handshake", "out of memory");
	good = negotiate(c, h, o, error) && check_replies(c, o, error);
	nr_client_handshake_destroy(h);
	return good;
}

static void set_patience(int fd, time_t seconds)
{
	struct timeval limit = { .tv_sec = seconds };

	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
}

/* False: the name is longer than the protocol allows. */
static bool choose_export(char name[NBD_STRING_MAX + 1], unsigned index, const struct target *t,
			  const struct options *o)
{
	const char *given = o->export_name ? o->export_name : t->export_name;
	int length;

	if (o->exports)
		length = snprintf(name, NBD_STRING_MAX + 1, "%s%u", given, index % o->exports);
	else
		length = snprintf(name, NBD_STRING_MAX + 1, "%s", given);
	return length <= (int)NBD_STRING_MAX;
}

bool client_open(struct client *c, unsigned index, const struct target *t, const struct options *o,
		 struct client_error *error)
{
	char name[NBD_STRING_MAX + 1];
	int on = 1;

	*c = (struct client){ .fd = -1 };
	c->fd = socket(t->address.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (c->fd < 0)
		return fail_errno(error, "socket");
	set_patience(c->fd, PATIENCE_SECONDS);
	if (t->address.ss_family != AF_UNIX)
		setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	if (connect(c->fd, (const struct sockaddr *)&t->address, t->length) < 0)
		fail_errno(error, "connecting");
	else if (!choose_export(name, index, t, o))
		fail(error, "export", "the name is too long");
	else if (handshake(c, name, o, error)) {
		set_patience(c->fd, 0);
		return true;
	}
	close(c->fd);
	return false;
}

/*
 * Takes one chunk of REQUEST's answer out of what has arrived: *USED bytes, 0: it is not all
 * there, and *PAYLOAD are to follow. *DONE: it is the last.
 */
static bool take_chunk(const struct client *c, struct nr_client_request *request,
		       const uint8_t *bytes, size_t have, size_t *used, uint64_t *payload,
		       bool *done, struct client_error *error)
{
	struct nr_client_chunk chunk;
	const char *why = NULL;
	enum nr_client_parsed parsed =
		nr_client_parse(c->agreement.reply_style, bytes, have, &chunk, used, &why);

	if (parsed == NR_CLIENT_PARSE_MORE)
		return true;
	if (parsed == NR_CLIENT_PARSE_CHUNK)
		why = chunk.cookie ? "an answer to what was not asked"
				   : nr_client_judge(&c->agreement, request, &chunk);
	if (!why && request->error)
		why = "the server answered with an error";
	if (why)
		return fail(error, "reading", why);
	*payload = chunk.payload;
	*done = chunk.done;
	return true;
}

/* All of the answer; what it says is dropped. */
static bool recv_answer(const struct client *c, struct nr_client_request *request,
			struct client_error *error)
{
	uint8_t bytes[2 * NR_CLIENT_HEADER_MAX];
	uint64_t drop = 0; /* of what has been said, not yet arrived */
	size_t at = 0, end = 0;
	bool done = false;

	while (!done || drop) {
		size_t used = 0, got;

		if (drop) {
			used = drop < end - at ? (size_t)drop : end - at;
			drop -= used;
		} else if (!take_chunk(c, request, bytes + at, end - at, &used, &drop, &done,
				       error)) {
			return false;
		}
		at += used;
		if (used)
			continue;
		end -= at;
		memmove(bytes, bytes + at, end);
		at = 0;
		if (!recv_some(c->fd, bytes + end, sizeof(bytes) - end, &got, error))
			return false;
		end += got;
	}
	return true;
}

bool client_read_once(struct client *c, uint64_t offset, uint32_t length,
		      struct client_error *error)
{
	struct nr_client_request read = { .command = NBD_CMD_READ,
					  .offset = offset,
					  .length = length };
	uint8_t request[NR_CLIENT_REQUEST_MAX];
	size_t size = nr_client_encode(request, c->agreement.reply_style, 0, &read);
	bool done;

	set_patience(c->fd, PATIENCE_SECONDS);
	done = send_all(c->fd, request, size, error) && recv_answer(c, &read, error);
	set_patience(c->fd, 0);
	return done;
}

void client_close(struct client *c)
{
	uint8_t goodbye[NR_CLIENT_REQUEST_MAX];
	struct client_error ignored;
	size_t size = nr_client_encode_goodbye(goodbye, c->agreement.reply_style);

	(void)send_all(c->fd, goodbye, size, &ignored);
	close(c->fd);
}
