/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the parts of the server ask of the whole.  Any thread, unless said
 * otherwise.
 */
#ifndef SRC_SERVER_SERVER_INTERNAL_H
#define SRC_SERVER_SERVER_INTERNAL_H

#include "src/server/exports.h"
#include "src/server/server.h"
#include "src/server/shard.h"

const struct nr_server_config *nr_server_config(const struct nr_server *server);
const struct nr_handshake_config *nr_server_handshake_config(const struct nr_server *server);
struct nr_tls_store *nr_server_tls(const struct nr_server *server); /* NULL: TLS is off */
/* For steps of TLS handshakes; as many threads as there are shards. */
struct nr_offload *nr_server_tls_threads(struct nr_server *server);
uint32_t nr_server_spin_ns(const struct nr_server *server);
struct nr_gate *nr_server_gate(struct nr_server *server);
struct nr_exports *nr_server_exports(struct nr_server *server);
/* The rules in force, a reference for the caller; NULL: there are none. */
struct nr_access *nr_server_access(struct nr_server *server);
bool nr_server_can_tls(const struct nr_server *server);
struct nr_shard *nr_server_shard(struct nr_server *server, unsigned index);

/*
 * Let the listeners accept: the first thing nr_server_start does.  Who drives the
 * shards without threads (nr_shard_turn) calls this instead.  Main thread.
 */
void nr_server_accept(struct nr_server *server);
uint64_t nr_server_next_session(struct nr_server *server);

/*
 * Serve FD, just accepted and let in by the gate, on the shard with the fewest
 * connections; FROM is the shard of the calling thread.
 */
void nr_server_place(struct nr_server *server, struct nr_shard *from, int fd);

/*
 * The server counts what has to end before its threads may: connections from
 * accept to close, exports being closed, layers' background requests.
 */
void nr_server_hold(struct nr_server *server);
void nr_server_let_go(struct nr_server *server);

/* Has nr_server_stop been called? */
bool nr_server_is_stopping(const struct nr_server *server);

/* A connection has negotiated. */
void nr_server_negotiated(struct nr_server *server);
/* A connection is no more, after it had negotiated or before; its hold is let go. */
void nr_server_departed(struct nr_server *server, bool had_negotiated, bool single);

#endif
