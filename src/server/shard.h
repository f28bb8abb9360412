/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A shard: one worker thread of the server, its ring, and the connections that
 * live on it.  Shards share nothing; what one wants of another it sends as a
 * message.
 *
 * One turn: take what the ring has, let the connections it concerned read their
 * requests, move all requests, then build one send per connection.
 */
#ifndef SRC_SERVER_SHARD_H
#define SRC_SERVER_SHARD_H

#include <pthread.h>
#include <stdatomic.h>

#include "ring/arena.h"
#include "ring/ring.h"
#include "src/stack/worker.h"

struct nr_connection;
struct nr_server;

struct nr_shard {
	struct nr_worker worker;
	struct nr_ring *ring;
	struct nr_arena *arena;
	struct nr_server *server;
	pthread_t thread;

	struct nr_connection *connections; /* all of this shard */
	struct nr_connection *active;      /* something to do before the next wait */
	struct nr_connection **active_tail;
	struct nr_connection *starved; /* waiting for memory, oldest first */
	struct nr_connection **starved_tail;
	atomic_uint connection_count; /* read by whoever places new connections */

	uint64_t memory_used; /* charged by connections, bytes */
	uint64_t memory_max;
	uint64_t memory_reserve;   /* beyond that, for those who hold nothing */
	bool relieved;             /* in this tick somebody was dropped for memory's sake */
	struct nr_completion tick; /* once a second while there is something to sweep */
	uint64_t now;              /* of the last tick, nanoseconds */

	struct nr_message ping_message;
	atomic_bool ping_owed; /* the message is the worker's until this is false */
	uint64_t ping_sent;    /* CLOCK_MONOTONIC, nanoseconds; of the thread that pings */

	struct nr_message stop_message;
	bool stopping;
	uint64_t stop_handshake_at; /* when patience with those who negotiate ends, */
	uint64_t stop_drain_at;     /* and with those who are owed replies */
	bool ended;                 /* leave the loop */
};

/* Make the ring; the thread is started by nr_shard_start. */
int nr_shard_init(struct nr_shard *shard, struct nr_server *server, unsigned index, unsigned count,
		  struct nr_error *error);
int nr_shard_start(struct nr_shard *shard, struct nr_error *error);
void nr_shard_fini(struct nr_shard *shard);

/* What the thread does until `ended`; for who drives a shard without one, too. */
void nr_shard_turn(struct nr_shard *shard);

/*
 * Bytes of request data are charged here; false: wait (nr_shard_starve).  FIRST:
 * the connection has none yet; a small request may then use the reserve.
 */
bool nr_shard_charge(struct nr_shard *shard, uint64_t bytes, bool first);
void nr_shard_uncharge(struct nr_shard *shard, uint64_t bytes);
void nr_shard_starve(struct nr_shard *shard, struct nr_connection *connection);

/* Connections are to be swept in a second, and on as long as one of them asks for it. */
void nr_shard_want_tick(struct nr_shard *shard);

/* CONNECTION has something to do before the next wait. */
void nr_shard_activate(struct nr_shard *shard, struct nr_connection *connection);

/* A connection has joined, or has left and is about to be freed. */
void nr_shard_add(struct nr_shard *shard, struct nr_connection *connection);
void nr_shard_remove(struct nr_shard *shard, struct nr_connection *connection);

#endif
