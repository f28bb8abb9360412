/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The exports of the server: which names there are, and the opened stack behind
 * each name in use.
 *
 * A plan with one disk has one export, opened at start and kept.  A plan with
 * many opens each when its first client comes and closes it after its last.
 * Opening may block, so it happens on an offload thread; a connection asks with a
 * ticket and is answered on its own shard.
 */
#ifndef SRC_SERVER_EXPORTS_H
#define SRC_SERVER_EXPORTS_H

#include "ring/offload.h"
#include "src/protocol/handshake.h"
#include "src/server/access.h"
#include "src/stack/stack.h"

struct nr_export;
struct nr_exports;
struct nr_server;
struct nr_shard;
struct nr_worker;

/* A question of a connection; the connection owns it until `answered`. */
struct nr_ticket {
	void (*answered)(struct nr_ticket *ticket); /* on the ring of `shard` */
	struct nr_shard *shard;
	struct nr_session *session; /* who asks */
	char *name;                 /* which export; the ticket's, freed by nr_ticket_clear */
	enum nr_export_purpose purpose;
	bool listing;  /* not one export, but all their names */
	bool describe; /* … or one, and what it is described as */

	/* The answer. */
	struct nr_export *export; /* GO granted: one reference; else NULL */
	struct nr_export_info info;
	/* Metadata contexts that block status can be asked for, base:allocation first. */
	char *contexts[NR_CONTEXTS_MAX];
	unsigned context_count;
	char *description;     /* NULL: none; the ticket's */
	uint32_t refusal;      /* 0, or NBD_REP_ERR_* */
	struct nr_error error; /* when refused: why */
	char **names;          /* listing: name, description or NULL, in turn */
	size_t name_count;     /* pairs */
	size_t name_room;

	/* What the rules of access say. */
	enum nr_access_verdict verdict;
	char access[192]; /* for the log; "": there are no rules */

	struct nr_job job;          /* private */
	struct nr_exports *exports; /* private */
};

/* Checks PLAN; opens the one export of a plan that has one. */
int nr_exports_create(struct nr_exports **exports, struct nr_server *server,
		      const struct nr_plan *plan, struct nr_offload *offload,
		      struct nr_error *error);
/* No export may be in use.  Closes what is open; may block. */
void nr_exports_destroy(struct nr_exports *exports);

/* Ask; any shard. */
void nr_exports_ask(struct nr_exports *exports, struct nr_ticket *ticket);
void nr_ticket_clear(struct nr_ticket *ticket);

/*
 * A granted export is given back, on WORKER's thread, when its connection is over
 * and nothing of it is in flight.  The last one out lets it be flushed and closed.
 */
void nr_export_leave(struct nr_export *export, struct nr_session *session,
		     struct nr_worker *worker);

/* How many are open, or being opened or closed.  Any thread. */
unsigned nr_exports_count(struct nr_exports *exports);
/* Has the plan many disks, each of which is opened for its first client? */
bool nr_exports_many(const struct nr_exports *exports);

struct nr_stack *nr_export_stack(const struct nr_export *export);
/* The shard its connections have to live on, or -1: any. */
int nr_export_home(const struct nr_export *export);

/*
 * For the end, when no connection is left: flush every export that is still open
 * through WORKER (on its thread); `done` is called there with the first error.
 */
void nr_exports_flush(struct nr_exports *exports, struct nr_worker *worker,
		      void (*done)(void *context, int error), void *context);

#endif
