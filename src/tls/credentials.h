/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Who we are and whom we trust: certificates, pre-shared keys, and what is
 * acceptable as TLS.
 *
 * Credentials are read from files once and never change afterwards, so any number of
 * sessions on any thread may use them.  They are counted: each session holds a
 * reference, and who reads the files again (SIGHUP) puts the new ones into the same
 * nr_tls_store.  Sessions that exist keep what they began with.
 *
 * Files of a directory, in the layout that nbdkit, qemu and libvirt use (PEM):
 *   server: server-cert.pem server-key.pem; ca-cert.pem and ca-crl.pem if they exist
 *   client: ca-cert.pem if it exists, else what the system trusts; client-cert.pem and
 *           client-key.pem if they exist
 * A file of pre-shared keys has a line NAME:HEX for each, as psktool writes them.
 *
 * Without GnuTLS (none.c) nr_tls_library is NULL and loading fails with a sentence.
 */
#ifndef SRC_TLS_CREDENTIALS_H
#define SRC_TLS_CREDENTIALS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "nbdring/error.h"

enum nr_tls_side { NR_TLS_SERVER, NR_TLS_CLIENT };

struct nr_tls_config {
	enum nr_tls_side side;
	const char *directory; /* of certificates; NULL: none */
	const char *psk_file;  /* NULL: no pre-shared keys */
	const char *psk_name;  /* client: which line of psk_file */
	/*
	 * Server: clients must show a certificate that a CA in ca-cert.pem has signed, or
	 * use a pre-shared key.  Client: so must the server, for the host's name.
	 */
	bool verify_peer;
	const char *priority; /* GnuTLS's priority string; NULL: TLS 1.2 and newer */
	/* Leave all records to the library, also those that we could open and seal. */
	bool library_records;
	/* TLS 1.3: a new key after so many records; 0: NR_TLS_REKEY_AFTER. */
	uint64_t rekey_after;
};

/* What RFC 8446, 5.5, allows one key of AES-GCM, in full records, is some more than this. */
#define NR_TLS_REKEY_AFTER (UINT64_C(1) << 24)

/* What GnuTLS counts as one byte string of a key file; names and keys longer are refused. */
#define NR_TLS_PSK_NAME_MAX 128
#define NR_TLS_PSK_KEY_MAX 64

struct nr_tls_credentials;

/*
 * Read the files.  On success *CREDENTIALS has one reference.  What is missing, cannot
 * be read, does not fit together, or has expired, is an error with a sentence that
 * names the file.  May block.
 */
int nr_tls_credentials_load(struct nr_tls_credentials **credentials,
			    const struct nr_tls_config *config, struct nr_error *error);
void nr_tls_credentials_retain(struct nr_tls_credentials *credentials);
void nr_tls_credentials_release(struct nr_tls_credentials *credentials); /* NULL is allowed */

/* What is wrong but no reason not to go on, as one sentence; NULL: nothing. */
const char *nr_tls_credentials_warning(const struct nr_tls_credentials *credentials);

/* "GnuTLS 3.7.9"; NULL: built without TLS. */
const char *nr_tls_library(void);

/*
 * The ciphers whose records of data are opened and sealed here rather than by the library,
 * by their names in TEXT.
 */
void nr_tls_records_ciphers(char *text, size_t size);

/*
 * Where the credentials for new sessions are.  A short lock is held while the pointer
 * is read, once per session.
 */
struct nr_tls_store;

/* Takes over the reference.  NULL when memory is short. */
struct nr_tls_store *nr_tls_store_create(struct nr_tls_credentials *credentials);
void nr_tls_store_destroy(struct nr_tls_store *store); /* NULL is allowed */

/* Any thread; the caller gets a reference. */
struct nr_tls_credentials *nr_tls_store_get(struct nr_tls_store *store);
/* Any thread; takes over the reference, gives back that to the old ones. */
void nr_tls_store_put(struct nr_tls_store *store, struct nr_tls_credentials *credentials);

#endif
