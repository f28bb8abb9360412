/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The server without TLS: there are no credentials, so nothing else is ever called.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "src/tls/session.h"

int nr_tls_credentials_load(struct nr_tls_credentials **credentials,
			    const struct nr_tls_config *config, struct nr_error *error)
{
	return nr_error_set(error, -ENOSYS, "this server was built without TLS");
}

const char *nr_tls_library(void)
{
	return NULL;
}

void nr_tls_store_destroy(struct nr_tls_store *store)
{
	assert(!store);
}

void nr_tls_session_destroy(struct nr_tls_session *session)
{
	assert(!session);
}

void nr_tls_credentials_release(struct nr_tls_credentials *credentials)
{
	assert(!credentials);
}

/* Whoever gets here has credentials or a session, and there are none. */

void nr_tls_credentials_retain(struct nr_tls_credentials *credentials)
{
	abort();
}

const char *nr_tls_credentials_warning(const struct nr_tls_credentials *credentials)
{
	abort();
}

struct nr_tls_store *nr_tls_store_create(struct nr_tls_credentials *credentials)
{
	abort();
}

struct nr_tls_credentials *nr_tls_store_get(struct nr_tls_store *store)
{
	abort();
}

void nr_tls_store_put(struct nr_tls_store *store, struct nr_tls_credentials *credentials)
{
	abort();
}

void nr_tls_records_ciphers(char *text, size_t size)
{
	abort();
}

struct nr_tls_session *nr_tls_session_create(struct nr_tls_credentials *credentials,
					     const char *host)
{
	abort();
}

enum nr_tls_state nr_tls_state(const struct nr_tls_session *session)
{
	abort();
}

const char *nr_tls_reason(const struct nr_tls_session *session)
{
	abort();
}

enum nr_tls_state nr_tls_handshake(struct nr_tls_session *session, const uint8_t *data,
				   size_t length)
{
	abort();
}

const struct nr_tls_peer *nr_tls_peer(const struct nr_tls_session *session)
{
	abort();
}

const char *nr_tls_description(const struct nr_tls_session *session)
{
	abort();
}

bool nr_tls_resumed(const struct nr_tls_session *session)
{
	abort();
}

size_t nr_tls_decrypt(struct nr_tls_session *session, const uint8_t *data, size_t length,
		      size_t *used, const struct iovec *into, unsigned count)
{
	abort();
}

bool nr_tls_pending(const struct nr_tls_session *session)
{
	abort();
}

bool nr_tls_stash(struct nr_tls_session *session, const uint8_t *data, size_t length)
{
	abort();
}

size_t nr_tls_encrypt(struct nr_tls_session *session, const struct iovec *from, unsigned count,
		      struct nr_tls_cursor *cursor, uint8_t *into, size_t room)
{
	abort();
}

const uint8_t *nr_tls_output(const struct nr_tls_session *session, size_t *length)
{
	abort();
}

void nr_tls_sent(struct nr_tls_session *session, size_t length)
{
	abort();
}

void nr_tls_bye(struct nr_tls_session *session)
{
	abort();
}
