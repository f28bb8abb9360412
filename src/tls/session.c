/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A session is GnuTLS's with two functions of ours below it: it pulls ciphertext from
 * the memory that the caller has given for the time of the call (and, before it, from
 * what was stashed), and pushes ciphertext into memory that the caller has given, or,
 * where that is full or there is none, into the output that waits.  A pull that finds
 * nothing says EAGAIN; a push never does, so GnuTLS never has anything half sent.
 */
#include "src/tls/session.h"

#include <assert.h>
#include <errno.h>
#include <gnutls/x509.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "nbdring/checked.h"
#include "src/tls/internal.h"

/* [begin, end) is in use. */
struct bytes {
	uint8_t *at;
	size_t begin, end, capacity;
};

struct nr_tls_session {
	gnutls_session_t tls;
	struct nr_tls_credentials *credentials;
	enum nr_tls_state state;
	bool said_bye;

	/* What a certificate has to be for; the library looks at it later. */
	gnutls_typed_vdata_st needs[2];
	char *host;

	/* For the time of a call. */
	const uint8_t *in;
	size_t in_left;
	uint8_t *out; /* NULL: none */
	size_t out_used, out_room;

	struct bytes stash;  /* ciphertext that came before `in` */
	struct bytes output; /* ciphertext that waits */

	struct nr_tls_peer *peer;
	char description[64];
	char reason[256];
};

/* Bytes. */

static bool append(struct bytes *b, const void *data, size_t length, size_t most)
{
	size_t used = b->end - b->begin;

	if (length > most || used > most - length)
		return false;
	if (b->begin) {
		memmove(b->at, b->at + b->begin, used);
		b->begin = 0;
		b->end = used;
	}
	if (b->capacity - used < length) {
		size_t capacity = nr_max(used + length, 2 * b->capacity);
		uint8_t *at = realloc(b->at, capacity);

		if (!at)
			return false;
		b->at = at;
		b->capacity = capacity;
	}
	if (length)
		memcpy(b->at + b->end, data, length);
	b->end += length;
	return true;
}

/* The first LENGTH bytes are not needed any more; empty, it holds no memory. */
static void drop(struct bytes *b, size_t length)
{
	b->begin += length;
	if (b->begin < b->end)
		return;
	free(b->at);
	*b = (struct bytes){ NULL, 0, 0, 0 };
}

/* What GnuTLS calls. */

static ssize_t pull(gnutls_transport_ptr_t context, void *into, size_t size)
{
	struct nr_tls_session *s = context;
	size_t length;

	if (s->stash.end > s->stash.begin) {
		length = nr_min(size, s->stash.end - s->stash.begin);
		memcpy(into, s->stash.at + s->stash.begin, length);
		drop(&s->stash, length);
		return (ssize_t)length;
	}
	length = nr_min(size, s->in_left);
	if (!length) {
		gnutls_transport_set_errno(s->tls, EAGAIN);
		return -1;
	}
	memcpy(into, s->in, length);
	s->in += length;
	s->in_left -= length;
	return (ssize_t)length;
}

static int pull_timeout(gnutls_transport_ptr_t context, unsigned milliseconds)
{
	const struct nr_tls_session *s = context;

	return s->in_left > 0 || s->stash.end > s->stash.begin;
}

static ssize_t push(gnutls_transport_ptr_t context, const giovec_t *vector, int count)
{
	struct nr_tls_session *s = context;
	size_t total = 0;

	for (int i = 0; i < count; i++)
		total += vector[i].iov_len;
	/* In order: once something has to wait, so has everything behind it. */
	if (s->out && s->output.end == s->output.begin && s->out_room - s->out_used >= total) {
		for (int i = 0; i < count; i++) {
			memcpy(s->out + s->out_used, vector[i].iov_base, vector[i].iov_len);
			s->out_used += vector[i].iov_len;
		}
		return (ssize_t)total;
	}
	for (int i = 0; i < count; i++) {
		if (!append(&s->output, vector[i].iov_base, vector[i].iov_len, NR_TLS_OUTPUT_MAX)) {
			gnutls_transport_set_errno(s->tls, ENOBUFS);
			return -1;
		}
	}
	return (ssize_t)total;
}

/* Ciphertext not looked at yet. */
static size_t input_left(const struct nr_tls_session *s)
{
	return s->in_left + (s->stash.end - s->stash.begin);
}

/* Making and ending. */

static int use_certificates(struct nr_tls_session *s, const char *host)
{
	const struct nr_tls_credentials *c = s->credentials;
	bool server = c->side == NR_TLS_SERVER;
	const char *purpose = server ? GNUTLS_KP_TLS_WWW_CLIENT : GNUTLS_KP_TLS_WWW_SERVER;

	if (gnutls_credentials_set(s->tls, GNUTLS_CRD_CERTIFICATE, c->certificates) < 0)
		return -ENOMEM;
	gnutls_certificate_server_set_request(
		s->tls, server && c->verify_peer ? GNUTLS_CERT_REQUIRE : GNUTLS_CERT_IGNORE);
	if (host) {
		s->host = strdup(host);
		if (!s->host)
			return -ENOMEM;
	}
	s->needs[0] = (gnutls_typed_vdata_st){ GNUTLS_DT_KEY_PURPOSE_OID,
					       (unsigned char *)(uintptr_t)purpose, 0 };
	s->needs[1] =
		(gnutls_typed_vdata_st){ GNUTLS_DT_DNS_HOSTNAME, (unsigned char *)s->host, 0 };
	if (c->verify_peer)
		gnutls_session_set_verify_cert2(s->tls, s->needs, host ? 2 : 1, 0);
	return 0;
}

static int set_up(struct nr_tls_session *s, const char *host)
{
	const struct nr_tls_credentials *c = s->credentials;
	/* A client shows what it has, so that the server can say what is wrong with it. */
	unsigned flags =
		c->side == NR_TLS_SERVER ? GNUTLS_SERVER : GNUTLS_CLIENT | GNUTLS_FORCE_CLIENT_CERT;

	if (gnutls_init(&s->tls, flags | GNUTLS_NONBLOCK | GNUTLS_NO_SIGNAL) < 0 ||
	    gnutls_priority_set(s->tls, c->priority) < 0)
		return -ENOMEM;
	gnutls_session_set_ptr(s->tls, s->credentials);
	gnutls_transport_set_ptr(s->tls, s);
	gnutls_transport_set_pull_function(s->tls, pull);
	gnutls_transport_set_pull_timeout_function(s->tls, pull_timeout);
	gnutls_transport_set_vec_push_function(s->tls, push);
	gnutls_handshake_set_timeout(s->tls, GNUTLS_INDEFINITE_TIMEOUT);
	if (c->certificates && use_certificates(s, host))
		return -ENOMEM;
	if (c->psk_server && gnutls_credentials_set(s->tls, GNUTLS_CRD_PSK, c->psk_server) < 0)
		return -ENOMEM;
	if (c->psk_client && gnutls_credentials_set(s->tls, GNUTLS_CRD_PSK, c->psk_client) < 0)
		return -ENOMEM;
	if (c->side == NR_TLS_SERVER)
		return gnutls_session_ticket_enable_server(s->tls, &c->ticket_key) < 0 ? -ENOMEM
										       : 0;
	if (host && strspn(host, "0123456789.:abcdefABCDEF") != strlen(host))
		gnutls_server_name_set(s->tls, GNUTLS_NAME_DNS, host, strlen(host));
	return 0;
}

struct nr_tls_session *nr_tls_session_create(struct nr_tls_credentials *credentials,
					     const char *host)
{
	struct nr_tls_session *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	nr_tls_credentials_retain(credentials);
	s->credentials = credentials;
	if (set_up(s, host)) {
		nr_tls_session_destroy(s);
		return NULL;
	}
	if (credentials->side == NR_TLS_CLIENT)
		nr_tls_handshake(s, NULL, 0);
	return s;
}

void nr_tls_session_destroy(struct nr_tls_session *s)
{
	if (!s)
		return;
	if (s->tls)
		gnutls_deinit(s->tls);
	free(s->stash.at);
	free(s->output.at);
	free(s->peer);
	free(s->host);
	nr_tls_credentials_release(s->credentials);
	free(s);
}

enum nr_tls_state nr_tls_state(const struct nr_tls_session *s)
{
	return s->state;
}

const char *nr_tls_reason(const struct nr_tls_session *s)
{
	assert(s->state == NR_TLS_FAILED);
	return s->reason;
}

/* Failing. */

static void set_reason(struct nr_tls_session *s, const char *what, const char *why)
{
	size_t length = strlen(why);

	while (length && (why[length - 1] == '.' || why[length - 1] == ' '))
		length--;
	snprintf(s->reason, sizeof(s->reason), "TLS: %s%.*s", what, (int)length, why);
}

static void explain_certificate(struct nr_tls_session *s)
{
	unsigned status = gnutls_session_get_verify_cert_status(s->tls);
	gnutls_datum_t text = { NULL, 0 };

	if (gnutls_certificate_verification_status_print(status, GNUTLS_CRT_X509, &text, 0) < 0)
		set_reason(s, "the peer's certificate is not trusted", "");
	else
		set_reason(s, "", (const char *)text.data);
	gnutls_free(text.data);
}

/* CODE of GnuTLS ends the session; the peer is told by an alert. */
static void fail(struct nr_tls_session *s, int code)
{
	const char *alert;

	assert(code < 0);
	if (s->state == NR_TLS_FAILED)
		return;
	switch (code) {
	case GNUTLS_E_CERTIFICATE_VERIFICATION_ERROR:
		explain_certificate(s);
		break;
	case GNUTLS_E_FATAL_ALERT_RECEIVED:
		alert = gnutls_alert_get_name(gnutls_alert_get(s->tls));
		set_reason(s, "the peer ends it: ", alert ? alert : "unknown alert");
		break;
	case GNUTLS_E_REHANDSHAKE:
		set_reason(s, "renegotiation is not allowed", "");
		break;
	default:
		set_reason(s, "", gnutls_strerror(code));
	}
	s->state = NR_TLS_FAILED;
	s->out = NULL;
	/* It says nothing about errors that have no alert, and fails where nothing can be sent. */
	if (code == GNUTLS_E_REHANDSHAKE)
		(void)gnutls_alert_send(s->tls, GNUTLS_AL_FATAL, GNUTLS_A_NO_RENEGOTIATION);
	else if (code != GNUTLS_E_FATAL_ALERT_RECEIVED)
		(void)gnutls_alert_send_appropriate(s->tls, code);
}

/*
 * Go on after CODE?  Some codes only tell that no data came of what was taken in: BEFORE
 * is what was there to take, and less must be left now.
 */
static bool goes_on(struct nr_tls_session *s, int code, size_t before)
{
	switch (code) {
	case GNUTLS_E_AGAIN:
	case GNUTLS_E_INTERRUPTED:
	case GNUTLS_E_WARNING_ALERT_RECEIVED:
		return input_left(s) < before;
	default:
		fail(s, code);
		return false;
	}
}

/* The handshake. */

static void become_open(struct nr_tls_session *s)
{
	s->peer = nr_tls_peer_create(s->tls, s->credentials->side);
	if (!s->peer) {
		fail(s, GNUTLS_E_MEMORY_ERROR);
		return;
	}
	s->state = NR_TLS_OPEN;
	snprintf(s->description, sizeof(s->description), "%s %s",
		 gnutls_protocol_get_name(gnutls_protocol_get_version(s->tls)),
		 gnutls_cipher_get_name(gnutls_cipher_get(s->tls)));
}

enum nr_tls_state nr_tls_handshake(struct nr_tls_session *s, const uint8_t *data, size_t length)
{
	size_t before;
	int code;

	assert(s->state == NR_TLS_HANDSHAKING);
	s->in = data;
	s->in_left = length;
	do {
		before = input_left(s);
		code = gnutls_handshake(s->tls);
	} while (code < 0 && goes_on(s, code, before));
	if (code >= 0)
		become_open(s);
	if (s->state == NR_TLS_OPEN && s->in_left && !nr_tls_stash(s, s->in, s->in_left))
		fail(s, GNUTLS_E_MEMORY_ERROR);
	s->in_left = 0;
	return s->state;
}

const struct nr_tls_peer *nr_tls_peer(const struct nr_tls_session *s)
{
	return s->peer;
}

const char *nr_tls_description(const struct nr_tls_session *s)
{
	return s->description;
}

bool nr_tls_resumed(const struct nr_tls_session *s)
{
	return gnutls_session_is_resumed(s->tls);
}

/* Ciphertext in. */

/* Some plaintext into ROOM bytes at INTO; 0: there is none now. */
static size_t decrypt_some(struct nr_tls_session *s, uint8_t *into, size_t room)
{
	ssize_t got;
	size_t before;

	do {
		before = input_left(s);
		got = gnutls_record_recv(s->tls, into, room);
	} while (got < 0 && goes_on(s, (int)got, before));
	if (got == 0)
		s->state = NR_TLS_CLOSED;
	return got > 0 ? (size_t)got : 0;
}

size_t nr_tls_decrypt(struct nr_tls_session *s, const uint8_t *data, size_t length, size_t *used,
		      const struct iovec *into, unsigned count)
{
	size_t total = 0;

	s->in = data;
	s->in_left = length;
	for (unsigned i = 0; i < count; i++) {
		uint8_t *at = into[i].iov_base;
		size_t left = into[i].iov_len, got = 1;

		while (left && got && s->state == NR_TLS_OPEN) {
			got = decrypt_some(s, at, left);
			at += got;
			left -= got;
			total += got;
		}
		if (left)
			break;
	}
	if (s->state != NR_TLS_OPEN)
		s->in_left = 0;
	*used = length - s->in_left;
	s->in_left = 0;
	return total;
}

bool nr_tls_pending(const struct nr_tls_session *s)
{
	return s->state == NR_TLS_OPEN &&
	       (s->stash.end > s->stash.begin || gnutls_record_check_pending(s->tls) > 0);
}

bool nr_tls_stash(struct nr_tls_session *s, const uint8_t *data, size_t length)
{
	return append(&s->stash, data, length, SIZE_MAX);
}

/* Plaintext in. */

/*
 * What the next record holds: a part of an entry where it lies, if that fills it, or
 * several parts put together in RECORD.
 */
static size_t next_record(const struct iovec *from, unsigned count, struct nr_tls_cursor at,
			  uint8_t record[NR_TLS_RECORD_MAX], const uint8_t **data)
{
	size_t left = from[at.entry].iov_len - at.taken, collected = 0;

	*data = (const uint8_t *)from[at.entry].iov_base + at.taken;
	if (left >= NR_TLS_RECORD_MAX || at.entry + 1 == count)
		return nr_min(left, NR_TLS_RECORD_MAX);
	for (; at.entry < count && collected < NR_TLS_RECORD_MAX; at.entry++, at.taken = 0) {
		size_t part =
			nr_min(from[at.entry].iov_len - at.taken, NR_TLS_RECORD_MAX - collected);

		if (part)
			memcpy(record + collected,
			       (const uint8_t *)from[at.entry].iov_base + at.taken, part);
		collected += part;
	}
	*data = record;
	return collected;
}

static void advance(const struct iovec *from, unsigned count, struct nr_tls_cursor *cursor,
		    size_t bytes)
{
	while (cursor->entry < count) {
		size_t left = from[cursor->entry].iov_len - cursor->taken;

		if (bytes < left) {
			cursor->taken += bytes;
			return;
		}
		bytes -= left;
		cursor->entry++;
		cursor->taken = 0;
	}
	assert(bytes == 0);
}

size_t nr_tls_encrypt(struct nr_tls_session *s, const struct iovec *from, unsigned count,
		      struct nr_tls_cursor *cursor, uint8_t *into, size_t room)
{
	uint8_t record[NR_TLS_RECORD_MAX];
	size_t waiting = nr_min(room, s->output.end - s->output.begin);

	assert(!count || (s->state != NR_TLS_HANDSHAKING && !s->said_bye));
	if (waiting) {
		memcpy(into, s->output.at + s->output.begin, waiting);
		drop(&s->output, waiting);
	}
	s->out = into;
	s->out_used = waiting;
	s->out_room = room;
	advance(from, count, cursor, 0);
	while (cursor->entry < count && s->state != NR_TLS_FAILED &&
	       s->output.end == s->output.begin &&
	       room - s->out_used >= NR_TLS_RECORD_MAX + NR_TLS_OVERHEAD_MAX) {
		const uint8_t *data;
		size_t length = next_record(from, count, *cursor, record, &data);
		ssize_t sent = gnutls_record_send(s->tls, data, length);

		if (sent > 0)
			advance(from, count, cursor, (size_t)sent);
		else
			fail(s, sent < 0 ? (int)sent : GNUTLS_E_INTERNAL_ERROR);
	}
	s->out = NULL;
	return s->out_used;
}

/* What waits to be sent. */

const uint8_t *nr_tls_output(const struct nr_tls_session *s, size_t *length)
{
	*length = s->output.end - s->output.begin;
	return *length ? s->output.at + s->output.begin : NULL;
}

void nr_tls_sent(struct nr_tls_session *s, size_t length)
{
	assert(length <= s->output.end - s->output.begin);
	drop(&s->output, length);
}

void nr_tls_bye(struct nr_tls_session *s)
{
	if (s->said_bye || s->state == NR_TLS_HANDSHAKING || s->state == NR_TLS_FAILED)
		return;
	s->said_bye = true;
	(void)gnutls_bye(s->tls, GNUTLS_SHUT_WR);
}
