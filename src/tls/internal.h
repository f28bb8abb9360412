/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the files of this folder share; nobody else includes it.
 */
#ifndef SRC_TLS_INTERNAL_H
#define SRC_TLS_INTERNAL_H

#include <gnutls/gnutls.h>
#include <stdatomic.h>
#include <stdint.h>

#include "nbdring/layer.h"
#include "src/tls/credentials.h"

/* One line of a file of pre-shared keys. */
struct nr_tls_psk {
	char name[NR_TLS_PSK_NAME_MAX + 1];
	uint8_t key[NR_TLS_PSK_KEY_MAX];
	unsigned key_bytes;
};

struct nr_tls_credentials {
	atomic_uint references;
	enum nr_tls_side side;
	bool verify_peer;
	gnutls_certificate_credentials_t certificates; /* NULL: none */
	gnutls_psk_server_credentials_t psk_server;    /* NULL: none */
	gnutls_psk_client_credentials_t psk_client;    /* NULL: none */
	struct nr_tls_psk *psk;                        /* by name */
	size_t psk_count;
	gnutls_priority_t priority;
	bool library_records;
	uint64_t rekey_after;
	/* Server: resumption ends with the credentials, so that nobody outlives a revocation. */
	gnutls_datum_t ticket_key;
	char warning[256]; /* "": none */
};

/* files.c */

/*
 * The whole of a file, with a NUL behind it; SIZE may be NULL.  *MEMORY is to be given
 * back with nr_tls_file_free, which wipes it.
 */
int nr_tls_file_read(const char *path, uint8_t **memory, size_t *size, struct nr_error *error);
void nr_tls_file_free(uint8_t *memory, size_t size);

/* Secrets that everybody may read: a sentence into the credentials' warning. */
void nr_tls_file_check_secret(struct nr_tls_credentials *credentials, const char *path);

/* Fill `psk` from a file, sorted. */
int nr_tls_psk_read(struct nr_tls_credentials *credentials, const char *path,
		    struct nr_error *error);
/* The key of NAME, LENGTH bytes without NUL; NULL: there is none. */
const struct nr_tls_psk *nr_tls_psk_find(const struct nr_tls_credentials *credentials,
					 const void *name, size_t length);

/* peer.c */

/* Who the other side of an open session is; NULL: no memory.  One free(3). */
struct nr_tls_peer *nr_tls_peer_create(gnutls_session_t session, enum nr_tls_side side);

/*
 * TEXT, LENGTH bytes, with control characters and what is no UTF-8 (and, if asked for, the
 * backslash) as \XX.  Returns what it takes with its NUL; INTO NULL: only that.
 */
size_t nr_tls_clean(char *into, const uint8_t *text, size_t length, bool backslash);

#endif
