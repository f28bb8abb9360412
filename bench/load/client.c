/*
 * The blocking part of an NBD client: connect, greeting, options, GO (EXPORT_NAME for
 * servers without GO), goodbye. It runs before and after the measured time, so it is plain
 * and sequential; the socket then goes to the ring. Every wait has a limit, so that a
 * server that stops answering ends in a sentence and not in a hang.
 *
 * Errors are returned, not fatal: in idle mode "no more connections" is a result.
 */
#include "bench/load/client.h"

#include "bench/load/tls.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#define PATIENCE_SECONDS 20

/* The most of an option reply that is kept; the rest is read and dropped. */
#define REPLY_KEEP 256U

struct option_reply {
	uint32_t type;
	uint32_t length; /* kept bytes */
	uint8_t data[REPLY_KEEP];
};

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

static bool recv_all(int fd, void *data, size_t length, struct client_error *error)
{
	uint8_t *at = data;

	while (length) {
		ssize_t n = recv(fd, at, length, MSG_WAITALL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return fail_errno(error, "receiving");
		if (n == 0)
			return fail(error, "receiving", "the server closed the connection");
		at += n;
		length -= (size_t)n;
	}
	return true;
}

static bool recv_drop(int fd, uint64_t length, struct client_error *error)
{
	uint8_t sink[4096];

	while (length) {
		size_t n = length < sizeof(sink) ? (size_t)length : sizeof(sink);

		if (!recv_all(fd, sink, n, error))
			return false;
		length -= n;
	}
	return true;
}

static bool send_option(int fd, uint32_t option, const void *data, uint32_t length,
			struct client_error *error)
{
	uint8_t header[16];

	put64(header, WIRE_IHAVEOPT);
	put32(header + 8, option);
	put32(header + 12, length);
	return send_all(fd, header, sizeof(header), error) && send_all(fd, data, length, error);
}

static bool recv_option_reply(int fd, struct option_reply *reply, struct client_error *error)
{
	uint8_t header[20];
	uint32_t length;

	if (!recv_all(fd, header, sizeof(header), error))
		return false;
	if (get64(header) != WIRE_OPTION_REPLY)
		return fail(error, "handshake", "an option reply has the wrong magic");
	reply->type = get32(header + 12);
	length = get32(header + 16);
	reply->length = length < REPLY_KEEP ? length : REPLY_KEEP;
	return recv_all(fd, reply->data, reply->length, error) &&
	       recv_drop(fd, length - reply->length, error);
}

/* Sends an option without data; *accepted says whether the server acknowledged it. */
static bool ask(int fd, uint32_t option, bool *accepted, struct client_error *error)
{
	struct option_reply reply;

	if (!send_option(fd, option, NULL, 0, error) || !recv_option_reply(fd, &reply, error))
		return false;
	*accepted = reply.type == WIRE_REP_ACK;
	return true;
}

static bool agree_on_replies(struct client *c, enum reply_style wanted, struct client_error *error)
{
	bool accepted = false;

	c->style = REPLY_SIMPLE;
	if (wanted == REPLY_SIMPLE)
		return true;
	if (wanted == REPLY_EXTENDED) {
		if (!ask(c->fd, WIRE_OPT_EXTENDED_HEADERS, &accepted, error))
			return false;
		c->style = REPLY_EXTENDED;
		return accepted || fail(error, "handshake", "the server has no extended headers");
	}
	if (!ask(c->fd, WIRE_OPT_STRUCTURED_REPLY, &accepted, error))
		return false;
	if (accepted)
		c->style = REPLY_STRUCTURED;
	return accepted || wanted == REPLY_BEST ||
	       fail(error, "handshake", "the server has no structured replies");
}

static void take_info(struct client *c, const struct option_reply *reply, bool *have_size)
{
	if (reply->length >= 12 && get16(reply->data) == WIRE_INFO_EXPORT) {
		c->size = get64(reply->data + 2);
		c->flags = get16(reply->data + 10);
		*have_size = true;
	} else if (reply->length >= 14 && get16(reply->data) == WIRE_INFO_BLOCK_SIZE) {
		c->block_min = get32(reply->data + 2);
		c->payload_max = get32(reply->data + 10);
	}
}

static bool export_name(struct client *c, const char *name, bool no_zeroes,
			struct client_error *error)
{
	uint8_t answer[10];

	if (!send_option(c->fd, WIRE_OPT_EXPORT_NAME, name, (uint32_t)strlen(name), error) ||
	    !recv_all(c->fd, answer, sizeof(answer), error))
		return false;
	c->size = get64(answer);
	c->flags = get16(answer + 8);
	return no_zeroes || recv_drop(c->fd, 124, error);
}

static bool fail_go(const char *name, const struct option_reply *reply, struct client_error *error)
{
	char why[160];

	snprintf(why, sizeof(why), "refused with reply %#x%s%.*s", reply->type,
		 reply->length ? ": " : "", (int)(reply->length < 100 ? reply->length : 100),
		 (const char *)reply->data);
	snprintf(error->text, sizeof(error->text), "export \"%.60s\": %s", name, why);
	return false;
}

static bool go(struct client *c, const char *name, bool no_zeroes, struct client_error *error)
{
	uint8_t request[4 + WIRE_NAME_MAX + 4];
	uint32_t length = (uint32_t)strnlen(name, WIRE_NAME_MAX);
	struct option_reply reply;
	bool have_size = false;

	put32(request, length);
	memcpy(request + 4, name, length);
	put16(request + 4 + length, 1);
	put16(request + 6 + length, WIRE_INFO_BLOCK_SIZE);
	if (!send_option(c->fd, WIRE_OPT_GO, request, length + 8, error))
		return false;
	for (;;) {
		if (!recv_option_reply(c->fd, &reply, error))
			return false;
		if (reply.type == WIRE_REP_UNSUP)
			return export_name(c, name, no_zeroes, error);
		if (reply.type == WIRE_REP_ACK)
			return have_size || fail(error, "handshake", "GO told no size");
		if (reply.type != WIRE_REP_INFO)
			return fail_go(name, &reply, error);
		take_info(c, &reply, &have_size);
	}
}

/* From here on all is said through TLS. */
static bool go_over_to_tls(struct client *c, const char *priority, struct client_error *error)
{
	bool accepted;
	const char *why;
	int fd;

	if (!ask(c->fd, WIRE_OPT_STARTTLS, &accepted, error))
		return false;
	if (!accepted)
		return fail(error, "TLS", "the server has none");
	fd = tls_open(c->fd, priority, &why);
	if (fd < 0)
		return fail(error, "TLS", why);
	c->fd = fd;
	return true;
}

static bool handshake(struct client *c, const char *name, const struct options *o,
		      struct client_error *error)
{
	uint8_t greeting[18];
	uint8_t flags[4];
	unsigned server;

	if (!recv_all(c->fd, greeting, sizeof(greeting), error))
		return false;
	if (get64(greeting) != WIRE_GREETING || get64(greeting + 8) != WIRE_IHAVEOPT)
		return fail(error, "handshake", "this is not a newstyle NBD server");
	server = get16(greeting + 16);
	put32(flags, server & (WIRE_FIXED_NEWSTYLE | WIRE_NO_ZEROES));
	if (!send_all(c->fd, flags, sizeof(flags), error))
		return false;
	if (!(server & WIRE_FIXED_NEWSTYLE)) {
		c->style = REPLY_SIMPLE;
		return export_name(c, name, server & WIRE_NO_ZEROES, error);
	}
	return (!o->tls || go_over_to_tls(c, o->tls, error)) &&
	       agree_on_replies(c, o->replies, error) &&
	       go(c, name, server & WIRE_NO_ZEROES, error);
}

static void set_patience(int fd, time_t seconds)
{
	struct timeval limit = { .tv_sec = seconds };

	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
}

/* False: the name is longer than the protocol allows. */
static bool choose_export(char name[WIRE_NAME_MAX + 1], unsigned index, const struct target *t,
			  const struct options *o)
{
	const char *given = o->export_name ? o->export_name : t->export_name;
	int length;

	if (o->exports)
		length = snprintf(name, WIRE_NAME_MAX + 1, "%s%u", given, index % o->exports);
	else
		length = snprintf(name, WIRE_NAME_MAX + 1, "%s", given);
	return length <= WIRE_NAME_MAX;
}

bool client_open(struct client *c, unsigned index, const struct target *t, const struct options *o,
		 struct client_error *error)
{
	char name[WIRE_NAME_MAX + 1];
	int on = 1;

	*c = (struct client){ .block_min = 1, .payload_max = UINT32_MAX };
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

size_t client_request(enum reply_style style, uint8_t *to, unsigned command, unsigned flags,
		      uint64_t cookie, uint64_t offset, uint32_t length)
{
	bool extended = style == REPLY_EXTENDED;

	if (extended && command == WIRE_CMD_WRITE)
		flags |= WIRE_CMD_FLAG_PAYLOAD_LEN;
	put32(to, extended ? WIRE_EXTENDED_REQUEST : WIRE_REQUEST);
	put16(to + 4, (uint16_t)flags);
	put16(to + 6, (uint16_t)command);
	put64(to + 8, cookie);
	put64(to + 16, offset);
	if (extended) {
		put64(to + 24, length);
		return WIRE_EXTENDED_REQUEST_SIZE;
	}
	put32(to + 24, length);
	return WIRE_REQUEST_SIZE;
}

/* Reads chunks until the last one of the answer. */
static bool recv_chunks(struct client *c, struct client_error *error)
{
	uint8_t header[WIRE_EXTENDED_REPLY_SIZE];
	bool extended = c->style == REPLY_EXTENDED;
	size_t size = extended ? WIRE_EXTENDED_REPLY_SIZE : WIRE_STRUCTURED_REPLY_SIZE;

	do {
		if (!recv_all(c->fd, header, size, error))
			return false;
		if (get16(header + 6) & WIRE_CHUNK_ERROR_BIT)
			return fail(error, "reading", "the server answered with an error");
		if (!recv_drop(c->fd, extended ? get64(header + 24) : get32(header + 16), error))
			return false;
	} while (!(get16(header + 4) & WIRE_CHUNK_DONE));
	return true;
}

bool client_read_once(struct client *c, uint64_t offset, uint32_t length,
		      struct client_error *error)
{
	uint8_t request[WIRE_EXTENDED_REQUEST_SIZE];
	uint8_t reply[WIRE_SIMPLE_REPLY_SIZE];
	size_t size = client_request(c->style, request, WIRE_CMD_READ, 0, 0, offset, length);
	bool done;

	set_patience(c->fd, PATIENCE_SECONDS);
	done = send_all(c->fd, request, size, error);
	if (c->style != REPLY_SIMPLE) {
		done = done && recv_chunks(c, error);
	} else {
		done = done && recv_all(c->fd, reply, sizeof(reply), error);
		if (done && get32(reply + 4))
			done = fail(error, "reading", "the server answered with an error");
		done = done && recv_drop(c->fd, length, error);
	}
	set_patience(c->fd, 0);
	return done;
}

void client_close(struct client *c)
{
	uint8_t request[WIRE_EXTENDED_REQUEST_SIZE];
	struct client_error ignored;
	size_t size = client_request(c->style, request, WIRE_CMD_DISC, 0, 0, 0, 0);

	(void)send_all(c->fd, request, size, &ignored);
	close(c->fd);
}
