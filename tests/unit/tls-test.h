/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the tests of TLS share: certificates made once per program, two sessions back to
 * back in memory, and a client of GnuTLS itself for what ours does not do.
 */
#ifndef TESTS_UNIT_TLS_TEST_H
#define TESTS_UNIT_TLS_TEST_H

#undef NDEBUG
#include <errno.h>
#include <gnutls/gnutls.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "src/tls/session.h"

/* Certificates: tests/make-certificates.sh says what is in which folder. */

static char tls_folder[64];

static inline int tls_make_folder(void **state)
{
	char command[256];

	snprintf(tls_folder, sizeof(tls_folder), "/tmp/nbdring-tls.XXXXXX");
	if (!mkdtemp(tls_folder))
		return -1;
	snprintf(command, sizeof(command), "bash '%s' %s", TLS_MAKE_CERTIFICATES, tls_folder);
	return system(command);
}

static inline int tls_remove_folder(void **state)
{
	char command[128];

	snprintf(command, sizeof(command), "rm -rf %s", tls_folder);
	return system(command);
}

/* A path in that folder; holds until the fourth call after this one. */
static inline const char *tls_path(const char *name)
{
	static char paths[4][128];
	static unsigned turn;
	char *path = paths[turn++ % 4];

	snprintf(path, sizeof(paths[0]), "%s/%s", tls_folder, name);
	return path;
}

static inline struct nr_tls_credentials *tls_load(const struct nr_tls_config *config)
{
	struct nr_tls_credentials *credentials;
	struct nr_error error = { 0 };
	struct nr_tls_config all = *config;

	/* Every test of these is made twice. */
	if (getenv("NBDRING_TLS_LIBRARY_RECORDS"))
		all.library_records = true;
	if (nr_tls_credentials_load(&credentials, &all, &error))
		fail_msg("%s", error.text);
	return credentials;
}

/* A side with the certificates of FOLDER, which verifies the other one. */
static inline struct nr_tls_credentials *tls_x509(enum nr_tls_side side, const char *folder)
{
	return tls_load(&(struct nr_tls_config){
		.side = side, .directory = tls_path(folder), .verify_peer = true });
}

/* Two sessions. */

struct tls_pair {
	struct nr_tls_session *server, *client;
};

/* Takes over the credentials. */
static inline struct tls_pair tls_pair(struct nr_tls_credentials *server,
				       struct nr_tls_credentials *client, const char *host)
{
	struct tls_pair pair = { nr_tls_session_create(server, NULL),
				 nr_tls_session_create(client, host) };

	assert_non_null(pair.server);
	assert_non_null(pair.client);
	nr_tls_credentials_release(server);
	nr_tls_credentials_release(client);
	return pair;
}

static inline void tls_pair_end(struct tls_pair *pair)
{
	nr_tls_session_destroy(pair->server);
	nr_tls_session_destroy(pair->client);
}

/* Whatever FROM has to say, in pieces of at most PIECE bytes, to TO.  False: nothing. */
static inline bool tls_carry(struct nr_tls_session *from, struct nr_tls_session *to, size_t piece)
{
	size_t length;
	const uint8_t *output = nr_tls_output(from, &length);
	uint8_t *copy = malloc(length ? length : 1);

	assert_non_null(copy);
	if (length)
		memcpy(copy, output, length);
	nr_tls_sent(from, length);
	for (size_t done = 0; done < length;) {
		size_t part = length - done < piece ? length - done : piece, used;

		if (nr_tls_state(to) == NR_TLS_HANDSHAKING)
			nr_tls_handshake(to, copy + done, part);
		else if (nr_tls_state(to) == NR_TLS_OPEN)
			assert_int_equal(nr_tls_decrypt(to, copy + done, part, &used,
							&(struct iovec){ (uint8_t[16]){ 0 }, 16 },
							1),
					 0);
		done += part;
	}
	free(copy);
	return length > 0;
}

/* Let both talk until neither has anything to say. */
static inline void tls_talk(struct tls_pair *pair, size_t piece)
{
	while (tls_carry(pair->client, pair->server, piece) ||
	       tls_carry(pair->server, pair->client, piece))
		;
}

/* A client of GnuTLS, which talks to SERVER at once from within its own calls. */

struct tls_raw {
	gnutls_session_t session;
	gnutls_certificate_credentials_t trust;
	struct nr_tls_session *server;
	uint8_t received[65536]; /* plaintext that the server has got */
	size_t received_bytes;
	const uint8_t *pending; /* ciphertext that is pulled first */
	size_t pending_bytes;
};

static inline ssize_t tls_raw_push(gnutls_transport_ptr_t context, const void *data, size_t size)
{
	struct tls_raw *raw = context;
	struct iovec into = { raw->received + raw->received_bytes,
			      sizeof(raw->received) - raw->received_bytes };
	size_t used;

	if (nr_tls_state(raw->server) == NR_TLS_HANDSHAKING)
		nr_tls_handshake(raw->server, data, size);
	else if (nr_tls_state(raw->server) == NR_TLS_OPEN)
		raw->received_bytes += nr_tls_decrypt(raw->server, data, size, &used, &into, 1);
	return (ssize_t)size;
}

static inline ssize_t tls_raw_pull(gnutls_transport_ptr_t context, void *into, size_t size)
{
	struct tls_raw *raw = context;
	size_t length = raw->pending_bytes;
	const uint8_t *output = raw->pending;

	if (length) {
		length = length < size ? length : size;
		memcpy(into, output, length);
		raw->pending += length;
		raw->pending_bytes -= length;
		return (ssize_t)length;
	}
	output = nr_tls_output(raw->server, &length);
	if (!length) {
		gnutls_transport_set_errno(raw->session, EAGAIN);
		return -1;
	}
	if (length > size)
		length = size;
	memcpy(into, output, length);
	nr_tls_sent(raw->server, length);
	return (ssize_t)length;
}

static inline void tls_raw_begin(struct tls_raw *raw, struct nr_tls_session *server,
				 const char *priority)
{
	*raw = (struct tls_raw){ .server = server };
	assert_int_equal(gnutls_init(&raw->session, GNUTLS_CLIENT | GNUTLS_NONBLOCK), 0);
	assert_int_equal(gnutls_certificate_allocate_credentials(&raw->trust), 0);
	assert_int_equal(gnutls_credentials_set(raw->session, GNUTLS_CRD_CERTIFICATE, raw->trust),
			 0);
	assert_int_equal(gnutls_priority_set_direct(raw->session, priority, NULL), 0);
	gnutls_transport_set_ptr(raw->session, raw);
	gnutls_transport_set_push_function(raw->session, tls_raw_push);
	gnutls_transport_set_pull_function(raw->session, tls_raw_pull);
}

static inline void tls_raw_end(struct tls_raw *raw)
{
	gnutls_deinit(raw->session);
	gnutls_certificate_free_credentials(raw->trust);
}

#endif
