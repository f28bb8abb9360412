/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * One TLS session: ciphertext in, plaintext out, and the other way round.
 *
 * Sans-I/O: no descriptor, no ring.  The owner gives what has arrived to
 * nr_tls_handshake, and when the session is open to nr_tls_decrypt; it sends what
 * nr_tls_encrypt has made, and what waits in nr_tls_output: the messages of the
 * handshake, alerts, answers to key updates.  Output leaves before anything that is
 * encrypted later: nr_tls_encrypt takes it along.
 *
 *   HANDSHAKING --nr_tls_handshake--> OPEN --nr_tls_bye or the peer's--> CLOSED
 *        |                             |
 *        +--- the peer breaks a rule --+---> FAILED: nr_tls_reason, an alert in the output
 *
 * Work is bounded by the bytes that are put in: each byte is looked at twice at most, and what a
 * peer may say beside its data (key updates, empty records) is limited by the library.
 * Memory: some 20 KiB in the handshake, up to a record (16 KiB) of a message that has
 * come in part, NR_TLS_OUTPUT_MAX of output.
 *
 * One thread at a time; nr_tls_handshake computes for up to milliseconds.
 */
#ifndef SRC_TLS_SESSION_H
#define SRC_TLS_SESSION_H

#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "nbdring/layer.h"
#include "src/tls/credentials.h"

/* The most plaintext in a record, and how much longer its ciphertext can be. */
#define NR_TLS_RECORD_MAX 16384u
#define NR_TLS_OVERHEAD_MAX 512u

/* Output that may wait: a flight of the handshake with a long chain of certificates. */
#define NR_TLS_OUTPUT_MAX (256u * 1024)

struct nr_tls_session;

enum nr_tls_state {
	NR_TLS_HANDSHAKING,
	NR_TLS_OPEN,
	NR_TLS_CLOSED, /* the peer sends nothing more: it has said so */
	NR_TLS_FAILED,
};

/*
 * HOST (client): the name that the server's certificate must be for, where that is
 * verified; NULL on the server's side.  The session holds a reference to CREDENTIALS.
 * A client's first message is in the output at once.  NULL: no memory.
 */
struct nr_tls_session *nr_tls_session_create(struct nr_tls_credentials *credentials,
					     const char *host);
void nr_tls_session_destroy(struct nr_tls_session *session); /* NULL is allowed */

enum nr_tls_state nr_tls_state(const struct nr_tls_session *session);

/* State FAILED: one phrase for the log. */
const char *nr_tls_reason(const struct nr_tls_session *session);

/*
 * State HANDSHAKING: go on with LENGTH bytes of DATA, all of which are taken (what is
 * behind the handshake is kept for nr_tls_decrypt).  Returns the state.
 */
enum nr_tls_state nr_tls_handshake(struct nr_tls_session *session, const uint8_t *data,
				   size_t length);

/* States OPEN and CLOSED: whom we talk to, and how ("TLS1.3 AES-128-GCM"). */
const struct nr_tls_peer *nr_tls_peer(const struct nr_tls_session *session);
const char *nr_tls_description(const struct nr_tls_session *session);
/* Is this the continuation of an earlier session, without certificates being shown? */
bool nr_tls_resumed(const struct nr_tls_session *session);

/*
 * State OPEN: take ciphertext from DATA (*USED says how much) and fill INTO, COUNT
 * pieces of memory one after the other, with plaintext.  Returns the bytes of plaintext.
 * Less ciphertext is taken than there is only when the memory is full, or the session
 * is not open any more.  LENGTH may be 0 (DATA is not looked at): plaintext that is
 * there already.
 */
size_t nr_tls_decrypt(struct nr_tls_session *session, const uint8_t *data, size_t length,
		      size_t *used, const struct iovec *into, unsigned count);

/* Is there anything that nr_tls_decrypt can work on without new ciphertext? */
bool nr_tls_pending(const struct nr_tls_session *session);

/* Keep LENGTH bytes of ciphertext for the next nr_tls_decrypt.  False: no memory. */
bool nr_tls_stash(struct nr_tls_session *session, const uint8_t *data, size_t length);

/* A position in plaintext that is being encrypted; zero is the beginning. */
struct nr_tls_cursor {
	unsigned entry;
	size_t taken; /* bytes of that entry */
};

/*
 * States OPEN and CLOSED, or COUNT 0: put the output that waits and then records of the plaintext
 * FROM, COUNT entries, from CURSOR on, into ROOM bytes at INTO.  Returns the bytes of
 * ciphertext; CURSOR moves on.  ROOM of NR_TLS_RECORD_MAX + NR_TLS_OVERHEAD_MAX is
 * always enough for some.  0 with plaintext left: the session has failed.
 *
 * Short entries are collected until they fill a record.
 */
size_t nr_tls_encrypt(struct nr_tls_session *session, const struct iovec *from, unsigned count,
		      struct nr_tls_cursor *cursor, uint8_t *into, size_t room);

/* What to send: the pointer holds until the next call that changes the session. */
const uint8_t *nr_tls_output(const struct nr_tls_session *session, size_t *length);
void nr_tls_sent(struct nr_tls_session *session, size_t length); /* drop this much of it */

/* Say goodbye (close_notify): it is in the output.  Nothing is encrypted afterwards. */
void nr_tls_bye(struct nr_tls_session *session);

#endif
