/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The server as a whole: one table of exports, worker threads, listeners.
 *
 * Life: nr_server_create (checks the plan, opens what can be opened), listeners
 * are added, nr_server_start (threads run, clients are accepted), nr_server_stop
 * (may be called from a signal's handling in the main thread), nr_server_wait,
 * nr_server_destroy.  All from the main thread.
 */
#ifndef SRC_SERVER_SERVER_H
#define SRC_SERVER_SERVER_H

#include <stdbool.h>
#include <stdint.h>

#include "nbdring/error.h"
#include "ring/ring.h"
#include "src/protocol/handshake.h"
#include "src/server/access.h"
#include "src/server/gate.h"
#include "src/stack/stack.h"
#include "src/tls/credentials.h"

struct nr_server;

/* What `handshake_seconds` is for as long as they like. */
#define NR_HANDSHAKE_UNLIMITED UINT32_MAX

/* Probes of a TCP connection on which nothing happens; idle 0: none. */
struct nr_keepalive {
	unsigned idle;     /* seconds before the first */
	unsigned interval; /* seconds between them */
	unsigned count;    /* without an answer, after which the client is gone */
};

struct nr_server_config {
	const struct nr_plan *plan; /* the caller's; outlives the server */
	struct nr_handshake_config handshake;
	/* Needed unless handshake.tls is NR_TLS_OFF; the caller's; outlives the server. */
	struct nr_tls_store *tls;
	unsigned workers;       /* 0: one per CPU */
	uint32_t spin_ns;       /* how long a worker looks before it sleeps */
	unsigned grace_seconds; /* how long stop waits for clients that do not
					       * take their replies; 0: 10 */
	bool single;            /* -s: stop when the first connection has ended */
	struct nr_gate_limits limits;
	struct nr_keepalive keepalive;
	unsigned handshake_seconds; /* how long clients may negotiate; 0: 60 */
	bool exit_last;             /* end when the last client that was served has left */

	/*
	 * Called by nr_server_create when the rings and their memory are there, before a
	 * layer is started or opened and before there is any thread: to give up rights that
	 * are not needed from here on.  NULL: nothing to be done.
	 */
	int (*settle)(void *context, struct nr_error *error);
	void *settle_context;
};

/* How many workers there will be for the option's value; a plan has to say so too. */
unsigned nr_server_workers(unsigned wanted);

/* PLAN's worker_count must be nr_server_workers(config->workers). */
int nr_server_create(struct nr_server **server, const struct nr_server_config *config,
		     struct nr_error *error);

/*
 * Accept on FD, a listening stream socket; the server owns it from now on.
 * DESCRIPTION is for logs.
 */
int nr_server_listen(struct nr_server *server, int fd, const char *description,
		     struct nr_error *error);
/* Serve one client on FD, a connected stream socket (after start). */
int nr_server_serve(struct nr_server *server, int fd, struct nr_error *error);

/*
 * From now on clients who negotiate are let in by ACCESS; those who are in stay.  NULL,
 * as at first: everybody is.  The server takes a reference of its own.  Any thread.
 */
void nr_server_set_access(struct nr_server *server, struct nr_access *access);

int nr_server_start(struct nr_server *server, struct nr_error *error);

/*
 * No new clients; requests under way are finished, then connections are
 * closed, exports flushed and closed.  Returns at once.
 */
void nr_server_stop(struct nr_server *server);
/*
 * A descriptor that becomes readable when the server has nothing more to do (single,
 * exit_last), and is to be stopped.
 */
int nr_server_ended_fd(const struct nr_server *server);
/* For how long there has been no client, ns; 0: there is one.  Any thread. */
uint64_t nr_server_empty_ns(const struct nr_server *server);
/*
 * Do the workers turn?  Each is sent a message, if it has none to answer, and answers from
 * its ring.  False when one owes the answer to an older one than PATIENCE_NS.  While the
 * threads run; one thread.
 */
bool nr_server_turns(struct nr_server *server, uint64_t patience_ns);

/* Connections, and exports that are open or being opened or closed.  Any thread. */
unsigned nr_server_count_clients(const struct nr_server *server);
unsigned nr_server_count_exports(struct nr_server *server);
/* Are exports opened when clients come for them, rather than at the start? */
bool nr_server_opens_later(const struct nr_server *server);

/* Until all threads have ended.  Returns 0, or -errno if a flush at the end failed. */
int nr_server_wait(struct nr_server *server);
void nr_server_destroy(struct nr_server *server);

/* What the ring set-up came to, for --dump-config. */
const struct nr_ring_report *nr_server_ring_report(const struct nr_server *server);

#endif
