/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What one client, one connection and one worker may take, in one place.
 * docs/operations.md has the table for people.
 */
#ifndef SRC_SERVER_LIMITS_H
#define SRC_SERVER_LIMITS_H

#include "nbdring/limits.h"

/*
 * Requests of one connection under way.  At the limit the connection is not
 * read until one is answered.  The kernel's client has 128.
 */
#define NR_CONNECTION_REQUESTS_MAX 256u

/*
 * Bytes of one connection under way (data of reads not sent yet, data of writes
 * not finished yet).  At the limit the connection is not read.  One request may
 * go beyond it, when it is the only one.
 */
#define NR_CONNECTION_BYTES_MAX (16u * 1024 * 1024)

/*
 * A connection that has nothing under way gets so much from a reserve when the
 * worker's memory is used up, so that no number of bytes held by a few others
 * stops it.
 */
#define NR_FIRST_BYTES (128u * 1024)

/*
 * A request longer than NR_TRANSFER_MAX goes down in pieces of that size; this
 * many of them at a time.
 */
#define NR_PIECES_MAX 4u

/* Receive windows double when a receive fills them and halve when little comes. */
#define NR_WINDOW_MIN (4u * 1024)
#define NR_WINDOW_MAX (256u * 1024)

/*
 * A write that does not fit into what is left of a window and is longer than this
 * gets memory of its own, into which the rest is received directly.
 */
#define NR_DIRECT_RECEIVE_MIN (16u * 1024)

/* One gather send: entries, and bytes after which no further reply is begun. */
#define NR_SEND_ENTRIES_MAX 384u
#define NR_SEND_BYTES (1024u * 1024)

/* Memory for the entries and headers of a send; less while only negotiating. */
#define NR_SENDER_BYTES (16u * 1024)
#define NR_SENDER_HANDSHAKE_BYTES (4u * 1024)

/*
 * Blocks of ciphertext, of a connection with TLS.  The smaller one for output has room
 * for a record; with the larger one the cost of a send is spread over 15 of them.
 */
#define NR_CIPHER_OUTPUT_MIN (32u * 1024)
#define NR_CIPHER_MAX (256u * 1024)
/* … and for the messages of its handshake. */
#define NR_CIPHER_HANDSHAKE (8u * 1024)

/* Extents in one answer to BLOCK_STATUS; the client asks again for the rest. */
#define NR_EXTENTS_ANSWER_MAX 2000u

/* A connection silent for this long gives its receive window back. */
#define NR_IDLE_NS UINT64_C(1000000000)

/* How long a client in the middle of negotiation may go on when the server stops. */
#define NR_STOP_HANDSHAKE_NS UINT64_C(1000000000)
#define NR_STOP_GRACE_SECONDS 10u

/*
 * While others wait for memory: how long a client may take to fetch one send, or to
 * deliver one piece of a write, that memory is held for.  (1 MiB each, at most.)
 */
#define NR_HELD_UP_SECONDS 10u

/* Connections are looked after so often; what follows is measured in these. */
#define NR_SWEEP_NS UINT64_C(1000000000)

/* How long a client that has said goodbye may take to fetch its last replies. */
#define NR_DRAIN_NS UINT64_C(60000000000)

/* How long a client may take for its negotiation, unless the server is told otherwise. */
#define NR_HANDSHAKE_SECONDS 60u

/* Threads for opening exports and other calls that block. */
#define NR_OFFLOAD_THREADS 16u

#endif
