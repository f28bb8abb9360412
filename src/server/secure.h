/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * TLS between a connection and its socket: ciphertext is received into a block of the
 * arena and decrypted into the window, or where a payload belongs; what would be one
 * gather send is encrypted into a block and sent from there.
 *
 *   socket --recv--> input block --decrypt--> window, payload --> receive.c
 *   send.c --entries--> encrypt --> output block --send--> socket
 *
 * The handshake computes for up to milliseconds, so where a worker has other connections
 * its steps run on threads of their own (nr_server_tls_threads); while one does, nothing
 * else touches the session.
 *
 * A part of the connection, and of its thread.  An idle connection holds no block.
 */
#ifndef SRC_SERVER_SECURE_H
#define SRC_SERVER_SECURE_H

#include "ring/offload.h"
#include "src/server/connection.h"
#include "src/tls/session.h"

struct nr_secure {
	struct nr_connection *connection;
	struct nr_tls_session *session;
	struct nr_job step;
	bool stepping; /* the session is another thread's */
	bool said_bye;

	/* Ciphertext received: blocks of the arena, NULL: none held. */
	uint8_t *input;
	uint32_t input_size, input_head, input_tail;

	/* Ciphertext to be sent. */
	uint8_t *output;             /* the usual block, held while there is a sender */
	uint8_t *large;              /* a larger one for the send under way; NULL: none */
	struct iovec sending;        /* in one of the two */
	struct nr_tls_cursor cursor; /* in the entries of this send */
};

/* C goes over to TLS; nothing of it is being sent or received.  False: no memory. */
bool nr_secure_begin(struct nr_connection *c);
/* Nothing is under way.  C need not have TLS. */
void nr_secure_end(struct nr_connection *c);

/* Is a step of the handshake under way?  C need not have TLS. */
bool nr_secure_busy(const struct nr_connection *c);
/* Does the TLS handshake wait for the client? */
bool nr_secure_wants_input(const struct nr_connection *c);
/*
 * What can be done for the TLS handshake now.  True: it is over, and the session is
 * open; the connection may have been dropped otherwise.
 */
bool nr_secure_advance(struct nr_connection *c);
/* The session has failed: tell the client, as far as that is possible at once, and drop C. */
void nr_secure_fail(struct nr_connection *c);

/* Receiving. */

/* Start to receive ciphertext for ROOM bytes of plaintext.  False: C is starved. */
bool nr_secure_receive(struct nr_connection *c, uint64_t room);
void nr_secure_received(struct nr_connection *c, uint32_t bytes);
/* Has something arrived that may be decrypted? */
bool nr_secure_pending(const struct nr_connection *c);
/* As nr_tls_decrypt.  Nothing is being received. */
size_t nr_secure_decrypt(struct nr_connection *c, const struct iovec *into, unsigned count);
/* Give the block back, if nothing is in it. */
void nr_secure_release_input(struct nr_connection *c);
/* C moves to another shard: take everything out of the arena.  False: no memory. */
bool nr_secure_pack(struct nr_connection *c);

/* Sending. */

/* Have a block to encrypt into.  False: C is starved. */
bool nr_secure_prepare(struct nr_connection *c);
/* Anything of the session's own to be sent: handshake, tickets, goodbye? */
bool nr_secure_waiting(const struct nr_connection *c);
/* Begin with the first of new entries. */
void nr_secure_rewind(struct nr_connection *c);
/* Is any of COUNT entries, or of the session's own words, not sent yet? */
bool nr_secure_more(const struct nr_connection *c, unsigned count);
/*
 * Encrypt and send the next part of COUNT entries, BYTES in all.  False: the session
 * has failed, and nothing is being sent.
 */
bool nr_secure_send(struct nr_connection *c, struct nr_completion *completion,
		    const struct iovec *from, unsigned count, uint64_t bytes);
/* All of it has been sent; C need not have TLS. */
void nr_secure_sent(struct nr_connection *c);
/* C need not have TLS. */
void nr_secure_release_output(struct nr_connection *c);

/* The last word of a session, made once.  True: it waits to be sent, or is being sent. */
bool nr_secure_bye(struct nr_connection *c);

#endif
