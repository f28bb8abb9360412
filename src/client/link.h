/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A connection to a remote, on one worker's ring, that comes back when it breaks.
 *
 * A link belongs to the worker of the first request it is given.  Requests go out in
 * the order in which they come, as many as are there in one send; answers are taken
 * from a window of the worker's arena, and the data of reads goes up as segments that
 * point into it, without a copy.
 *
 * When a connection breaks, everything that had no answer waits and is sent again on
 * the next one: asked again, a read reads, and a write, trim or zero that was carried
 * out already does the same once more.  Whoever owns the link hears of the break first
 * (`broken`), and decides what becomes of writes that were answered but not made
 * stable.  A request that has seen NR_LINK_BREAKS_MAX breaks is not sent again: it may
 * be what breaks them.
 *
 * Invariant: a link without requests is quiet: no operation, job or timer of it is
 * under way, and it holds no memory of the arena.  So it needs no worker to be closed.
 * The price is that a break of an idle connection is found out by the next request.
 *
 * Reaching and negotiating run on a thread that may block; all else on the worker.
 */
#ifndef SRC_CLIENT_LINK_H
#define SRC_CLIENT_LINK_H

#include "nbdring/layer.h"
#include "ring/offload.h"
#include "ring/ring.h"
#include "src/client/dial.h"
#include "src/protocol/client-reply.h"

#define NR_LINK_REQUESTS_MAX 128u /* under way on one connection */
#define NR_LINK_BREAKS_MAX 5u

struct nr_link;

/* One request on its way: in the request's scratch.  Its fields are the link's. */
struct nr_link_op {
	struct nr_request *req;
	struct nr_client_request wire;
	struct nr_link_op *next, *prev;
	uint64_t placed;         /* READ: bytes of the answer that are in order */
	struct nr_buffer *whole; /* READ: pieces came out of order and are put together here */
	uint8_t *whole_data;
	struct nr_buffer *marks; /* … and here is a bit for each byte that has come */
	uint8_t *marks_data;
	struct nr_buffer *flat; /* WRITE: its data in one place, where that is needed */
	uint8_t *flat_data;
	int error;
	uint16_t slot;
	uint8_t breaks;
	bool sending;  /* the kernel may be reading its data */
	bool answered; /* … and the answer is there already */
};

/* What all links of one owner have in common; read-only. */
struct nr_link_settings {
	struct nr_call call;   /* how to come to the remote */
	uint64_t retry_ns;     /* how long requests wait for a remote that is gone; 0: they fail */
	uint64_t pause_ns;     /* before the second attempt; doubled each time … */
	uint64_t pause_max_ns; /* … up to this */
	uint64_t timeout_ns;   /* a remote that owes answers and is silent for so long is gone; 0:
			      * it may take its time */

	/* OP has ended; the link does not touch it any more. */
	void (*finished)(struct nr_link *link, struct nr_link_op *op, int error);
	/* A connection was lost; before any request of it is sent again. */
	void (*broken)(struct nr_link *link);
	/* After that: is OP, which has no answer, to be sent again?  If not, it ends with -EIO. */
	bool (*again)(struct nr_link *link, const struct nr_link_op *op);
	/* Is the remote of this new connection the one there was?  Refused: not used. */
	int (*accept)(struct nr_link *link, const struct nr_client_agreement *agreement,
		      struct nr_error *error);
	/* Let a thread that may block do JOB. */
	void (*submit_job)(struct nr_job *job);
};

/* NULL when memory is short.  SETTINGS stay the owner's, LAYER is for its log. */
struct nr_link *nr_link_create(struct nr_layer *layer, const struct nr_link_settings *settings);

/* The link is quiet.  Takes leave of the remote; may block.  NULL is allowed. */
void nr_link_destroy(struct nr_link *link);

/*
 * Use a connection that is there; the link takes it over.  Before the first request; any
 * thread.
 */
void nr_link_give(struct nr_link *link, const struct nr_dialled *dialled);

/* Writes that were answered on this link, for its owner to count; the link does not look. */
struct nr_link_account {
	uint64_t acked;   /* all so far */
	uint64_t settled; /* of them: stable, or given up */
};
struct nr_link_account *nr_link_account(struct nr_link *link);

struct nr_layer *nr_link_layer(const struct nr_link *link);

/* Requests that have not ended: of several links, use the one with the fewest. */
unsigned nr_link_load(const struct nr_link *link);

/*
 * Start REQ, whose scratch OP is, as WIRE says.  `finished` follows, never from inside
 * this call.  The worker's thread.
 */
void nr_link_submit(struct nr_link *link, struct nr_link_op *op, struct nr_request *req,
		    const struct nr_client_request *wire);

#endif
