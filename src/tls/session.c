/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A session is GnuTLS's with two functions of ours below it: it pulls ciphertext from
 * the memory that the caller has given for the time of the call (and, before it, from
 * what was stashed), and pushes ciphertext into memory that the caller has given, or,
 * where that is full or there is none, into the output that waits.  A pull that finds
 * nothing says EAGAIN; a push never does, so GnuTLS never has anything half sent.
 *
 * Records of data do not take this way, if their cipher is known in record.c: `records`
 * opens them where they were received, and seals them where they are sent from.  Every
 * other record goes to the library whole, and what the library wants to say is said by it.
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
#include "src/tls/record.h"

/* Every peer takes records with so much data (RFC 8449). */
#define SMALLEST_LIMIT 64u

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

	struct nr_tls_records records;
	struct bytes plain;       /* data of an opened record that there was no room for */
	size_t longest;           /* data in a record that the library has let pass */
	size_t limit;             /* … and the most that the peer has asked for, once known */
	bool library_has_to_send; /* it may want to say something in front of the next record */
	bool library_has_to_read; /* … and know whether data may come now */

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
	s->longest = SMALLEST_LIMIT;
	s->limit = NR_TLS_RECORD_MAX;
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
	nr_tls_records_end(&s->records);
	if (s->tls)
		gnutls_deinit(s->tls);
	free(s->stash.at);
	free(s->output.at);
	free(s->plain.at);
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

/* From here on the library opens and seals all records. */
static void leave_to_library(struct nr_tls_session *s)
{
	if (!s->records.suite)
		return;
	nr_tls_records_give(&s->records, s->tls);
	nr_tls_records_end(&s->records);
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
	leave_to_library(s);
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
	if (!s->credentials->library_records)
		nr_tls_records_begin(&s->records, s->tls);
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

/* Memory that plaintext goes to, piece by piece. */
struct target {
	const struct iovec *piece;
	unsigned pieces;
	size_t taken; /* of the first of them */
	size_t total;
};

/* The room in the first piece that has any; 0: all is full. */
static size_t room_in(struct target *t)
{
	while (t->pieces && t->taken == t->piece->iov_len) {
		t->piece++;
		t->pieces--;
		t->taken = 0;
	}
	return t->pieces ? t->piece->iov_len - t->taken : 0;
}

static uint8_t *next_of(const struct target *t)
{
	return (uint8_t *)t->piece->iov_base + t->taken;
}

static void fill(struct target *t, size_t bytes)
{
	t->taken += bytes;
	t->total += bytes;
}

/* Some plaintext from the library; false: there is none now. */
static bool decrypt_some(struct nr_tls_session *s, struct target *to)
{
	ssize_t got;
	size_t before;

	do {
		before = input_left(s);
		got = gnutls_record_recv(s->tls, next_of(to), room_in(to));
	} while (got < 0 && goes_on(s, (int)got, before));
	if (got == 0)
		s->state = NR_TLS_CLOSED;
	if (got > 0)
		fill(to, (size_t)got);
	return got > 0;
}

/*
 * A whole record, LENGTH bytes, is for the library.  So are those behind it, until one is
 * data to the library, too: it may be in the middle of a message, where none is allowed.
 */
static void hand_over(struct nr_tls_session *s, const uint8_t *record, size_t length,
		      struct target *to)
{
	const uint8_t *in = s->in;
	size_t in_left = s->in_left;
	struct bytes stash = s->stash;

	nr_tls_records_give(&s->records, s->tls);
	s->in = record;
	s->in_left = length;
	s->stash = (struct bytes){ NULL, 0, 0, 0 };
	s->library_has_to_read = !decrypt_some(s, to);
	if (s->state == NR_TLS_OPEN && s->in_left)
		fail(s, GNUTLS_E_UNEXPECTED_PACKET);
	s->in = in;
	s->in_left = in_left;
	s->stash = stash;
	s->library_has_to_send = true;
	if (s->records.suite)
		nr_tls_records_take(&s->records, s->tls);
}

/* Until the stash has WANTED bytes; false: there are not that many, or there is no memory. */
static bool add_to_stash(struct nr_tls_session *s, size_t wanted)
{
	size_t have = s->stash.end - s->stash.begin;
	size_t part = wanted > have ? nr_min(wanted - have, s->in_left) : 0;

	if (part && !nr_tls_stash(s, s->in, part)) {
		fail(s, GNUTLS_E_MEMORY_ERROR);
		return false;
	}
	if (part) /* or there may be no input, not even an address */
		s->in += part;
	s->in_left -= part;
	return have + part >= wanted;
}

/*
 * The next record, if all of it is there: where it lies, and its LENGTH.  A part of one
 * goes to the stash.
 */
static const uint8_t *whole_record(struct nr_tls_session *s, size_t *length)
{
	bool stashed = s->stash.end > s->stash.begin;
	const uint8_t *header = s->in;

	if (stashed || s->in_left < NR_TLS_HEADER) {
		stashed = true;
		if (!add_to_stash(s, NR_TLS_HEADER))
			return NULL;
		header = s->stash.at + s->stash.begin;
	}
	*length = nr_tls_record_bytes(header);
	if (*length > NR_TLS_HEADER + NR_TLS_BODY_MAX) {
		fail(s, GNUTLS_E_RECORD_OVERFLOW);
		return NULL;
	}
	if (!stashed && s->in_left >= *length)
		return header;
	return add_to_stash(s, *length) ? s->stash.at + s->stash.begin : NULL;
}

/* Open RECORD where there is not room enough for type and padding, too. */
static ssize_t open_aside(struct nr_tls_session *s, const uint8_t *record, size_t length,
			  struct target *to)
{
	uint8_t aside[NR_TLS_BODY_MAX + NR_TLS_HEADER];
	ssize_t got = nr_tls_record_open(&s->records, record, length, aside, sizeof(aside));
	size_t done = 0, part;

	while (got > 0 && done < (size_t)got && room_in(to) > 0) {
		part = nr_min(room_in(to), (size_t)got - done);
		memcpy(next_of(to), aside + done, part);
		fill(to, part);
		done += part;
	}
	if (got > 0 && !append(&s->plain, aside + done, (size_t)got - done, sizeof(aside)))
		fail(s, GNUTLS_E_MEMORY_ERROR);
	return got;
}

static void open_record(struct nr_tls_session *s, const uint8_t *record, size_t length,
			struct target *to)
{
	size_t room = room_in(to);
	ssize_t got = -1;

	if (!s->library_has_to_read && room < length)
		got = open_aside(s, record, length, to);
	else if (!s->library_has_to_read)
		got = nr_tls_record_open(&s->records, record, length, next_of(to), room);
	if (got < 0)
		hand_over(s, record, length, to);
	else if (room >= length)
		fill(to, (size_t)got);
}

/* The next record; false: not all of it is there, or the session is not open any more. */
static bool take_record(struct nr_tls_session *s, struct target *to)
{
	size_t length = 0;
	const uint8_t *record = whole_record(s, &length);

	if (!record)
		return false;
	if (record == s->in) {
		s->in += length;
		s->in_left -= length;
		open_record(s, record, length, to);
	} else {
		open_record(s, record, length, to);
		drop(&s->stash, length);
	}
	return s->state == NR_TLS_OPEN;
}

/* What was opened before and had to wait for room. */
static void take_waiting(struct nr_tls_session *s, struct target *to)
{
	size_t part, room;

	while (s->plain.end > s->plain.begin && (room = room_in(to)) > 0) {
		part = nr_min(room, s->plain.end - s->plain.begin);
		memcpy(next_of(to), s->plain.at + s->plain.begin, part);
		fill(to, part);
		drop(&s->plain, part);
	}
}

size_t nr_tls_decrypt(struct nr_tls_session *s, const uint8_t *data, size_t length, size_t *used,
		      const struct iovec *into, unsigned count)
{
	struct target to = { into, count, 0, 0 };
	bool more = true;

	s->in = data;
	s->in_left = length;
	take_waiting(s, &to);
	while (more && room_in(&to) > 0 && s->state == NR_TLS_OPEN) {
		if (s->records.suite && !gnutls_record_check_pending(s->tls))
			more = take_record(s, &to);
		else
			more = decrypt_some(s, &to);
	}
	if (s->state != NR_TLS_OPEN)
		s->in_left = 0;
	*used = length - s->in_left;
	s->in_left = 0;
	return to.total;
}

/* Can a record be taken from the stash? */
static bool stash_has_record(const struct nr_tls_session *s)
{
	size_t have = s->stash.end - s->stash.begin, length;

	if (!s->records.suite || have < NR_TLS_HEADER)
		return !s->records.suite && have > 0;
	length = nr_tls_record_bytes(s->stash.at + s->stash.begin);
	return have >= length || length > NR_TLS_HEADER + NR_TLS_BODY_MAX;
}

bool nr_tls_pending(const struct nr_tls_session *s)
{
	return s->state == NR_TLS_OPEN && (stash_has_record(s) || s->plain.end > s->plain.begin ||
					   gnutls_record_check_pending(s->tls) > 0);
}

bool nr_tls_stash(struct nr_tls_session *s, const uint8_t *data, size_t length)
{
	return append(&s->stash, data, length, SIZE_MAX);
}

/* Plaintext in. */

/* With the byte that TLS 1.3 puts behind the data. */
#define SCRATCH (NR_TLS_RECORD_MAX + 1)

/*
 * What the next record holds, at most MOST bytes: a part of an entry where it lies, if that
 * fills it and need not be followed by anything, or several parts put together in SCRATCH.
 */
static size_t next_record(const struct iovec *from, unsigned count, struct nr_tls_cursor at,
			  size_t most, bool follows, uint8_t scratch[SCRATCH], uint8_t **data)
{
	size_t left = from[at.entry].iov_len - at.taken, collected = 0;

	*data = (uint8_t *)from[at.entry].iov_base + at.taken;
	if (!follows && (left >= most || at.entry + 1 == count))
		return nr_min(left, most);
	for (; at.entry < count && collected < most; at.entry++, at.taken = 0) {
		size_t part = nr_min(from[at.entry].iov_len - at.taken, most - collected);

		if (part)
			memcpy(scratch + collected,
			       (const uint8_t *)from[at.entry].iov_base + at.taken, part);
		collected += part;
	}
	*data = scratch;
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

/* A record by the library; returns the bytes of DATA that are in it, 0: none. */
static size_t send_by_library(struct nr_tls_session *s, const uint8_t *data, size_t length)
{
	bool ours = s->records.suite;
	ssize_t sent;

	if (ours)
		nr_tls_records_give(&s->records, s->tls);
	sent = gnutls_record_send(s->tls, data, length);
	if (sent <= 0) {
		if (ours)
			nr_tls_records_take(&s->records, s->tls);
		fail(s, sent < 0 ? (int)sent : GNUTLS_E_INTERNAL_ERROR);
		return 0;
	}
	s->longest = nr_max(s->longest, (size_t)sent);
	if ((size_t)sent < length)
		s->limit = (size_t)sent;
	s->library_has_to_send = false;
	if (ours)
		nr_tls_records_take(&s->records, s->tls);
	return (size_t)sent;
}

/* A key has done its part.  What follows is encrypted with the next one. */
static void renew_key(struct nr_tls_session *s)
{
	int code;

	nr_tls_records_give(&s->records, s->tls);
	code = gnutls_session_key_update(s->tls, 0);
	nr_tls_records_take(&s->records, s->tls);
	if (code < 0)
		fail(s, code);
}

/*
 * The next record: by ourselves if the library has nothing to say first, and if it is
 * known that the peer takes one of that length: how long they may be is agreed on without
 * our being told, and shows when the library sends one.
 */
static size_t send_record(struct nr_tls_session *s, uint8_t *data, size_t length)
{
	size_t made;

	if (!s->records.suite || s->library_has_to_send || length > s->longest)
		return send_by_library(s, data, length);
	made = nr_tls_record_seal(&s->records, data, length, s->out + s->out_used,
				  s->out_room - s->out_used);
	if (!made) {
		fail(s, GNUTLS_E_ENCRYPTION_FAILED);
		return 0;
	}
	s->out_used += made;
	return length;
}

size_t nr_tls_encrypt(struct nr_tls_session *s, const struct iovec *from, unsigned count,
		      struct nr_tls_cursor *cursor, uint8_t *into, size_t room)
{
	uint8_t scratch[SCRATCH];
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
		uint8_t *data;
		size_t length;

		if (s->records.suite && s->records.type_inside &&
		    s->records.out.sequence >= s->credentials->rekey_after) {
			renew_key(s);
			continue;
		}
		length = next_record(from, count, *cursor, s->limit, s->records.type_inside,
				     scratch, &data);
		advance(from, count, cursor, send_record(s, data, length));
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
	leave_to_library(s);
	(void)gnutls_bye(s->tls, GNUTLS_SHUT_WR);
}
