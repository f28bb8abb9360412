/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Records of application data, opened and sealed without the library's record layer: its
 * ciphers are used directly, with the keys that it has agreed on.
 *
 * This is what a kernel does that takes TLS over, and it is done in the same way: the
 * library gives keys and sequence numbers (take), gets the numbers back (give) before it
 * is to read or write a record itself, and gives all anew afterwards, as keys may have
 * changed by then.  Only one of the two counts at any time; a number that both use for
 * records of theirs would give the plaintext of both away, so give and take come in pairs.
 *
 * Here is only what is done for every record that is as it should be.  Whatever else
 * arrives (alerts, key updates, tickets, records that are forged, too long, empty or only
 * padding) is not touched and left to the library, which knows what to say to it.
 *
 * Belongs to a session, and to the thread that has it.
 */
#ifndef SRC_TLS_RECORD_H
#define SRC_TLS_RECORD_H

#include <gnutls/gnutls.h>
#include <gnutls/crypto.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define NR_TLS_HEADER 5u
#define NR_TLS_NONCE 12u

/* No body of a record is longer than this, whatever cipher and version. */
#define NR_TLS_BODY_MAX (16384u + 2048u)

struct nr_tls_suite;

struct nr_tls_direction {
	gnutls_aead_cipher_hd_t cipher;
	uint8_t iv[NR_TLS_NONCE];
	uint64_t sequence; /* of the next record */
};

struct nr_tls_records {
	const struct nr_tls_suite *suite; /* NULL: the library opens and seals all records */
	bool type_inside;                 /* TLS 1.3: what is encrypted ends with its type */
	bool lent;                        /* given, and not taken again yet */
	struct nr_tls_direction in, out;
};

/*
 * TLS is open: take over, if its version and cipher are known; `suite` tells.  R is zero,
 * or was ended.
 */
void nr_tls_records_begin(struct nr_tls_records *r, gnutls_session_t tls);

/* The library counts from here on, if it does not yet. */
void nr_tls_records_give(struct nr_tls_records *r, gnutls_session_t tls);
/* We do again; where that fails, the library does for good. */
void nr_tls_records_take(struct nr_tls_records *r, gnutls_session_t tls);

/* Keys are wiped.  Who goes on with the library has given first. */
void nr_tls_records_end(struct nr_tls_records *r);

/* How long the record is that begins with HEADER, NR_TLS_HEADER bytes. */
size_t nr_tls_record_bytes(const uint8_t *header);

/*
 * A whole record, LENGTH bytes, into INTO; ROOM of LENGTH is always enough.  Returns the
 * bytes of data; -1: it is for the library.  What was written behind the data, or if there
 * is none, means nothing.
 */
ssize_t nr_tls_record_open(struct nr_tls_records *r, const uint8_t *record, size_t length,
			   uint8_t *into, size_t room);

/*
 * A record with LENGTH bytes of DATA, 1 to NR_TLS_RECORD_MAX, to INTO, ROOM bytes.  One
 * byte behind the data is used.  Returns the bytes of the record; 0: it cannot be done.
 */
size_t nr_tls_record_seal(struct nr_tls_records *r, uint8_t *data, size_t length, uint8_t *into,
			  size_t room);

#endif
