/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Requests of the backend `nbd` (nbd.h): from the contract's to the protocol's, and the
 * account of what a lost remote may have lost.
 *
 * A remote without extended headers counts in 32 bits: longer trims, zeroes and hints
 * go in pieces, one after the other, and a map is asked for in part, which its asker
 * has to expect anyway.
 */
#include <assert.h>
#include <errno.h>
#include <inttypes.h>

#include "backends/nbd.h"
#include "nbdring/checked.h"

#define PIECE_MAX (UINT64_C(1) << 30)

static const uint16_t commands[NR_OPERATION_COUNT] = {
	[NR_READ] = NBD_CMD_READ,
	[NR_WRITE] = NBD_CMD_WRITE,
	[NR_FLUSH] = NBD_CMD_FLUSH,
	[NR_TRIM] = NBD_CMD_TRIM,
	[NR_ZERO] = NBD_CMD_WRITE_ZEROES,
	[NR_CACHE] = NBD_CMD_CACHE,
	[NR_EXTENTS] = NBD_CMD_BLOCK_STATUS,
	[NR_RESIZE] = NBD_CMD_RESIZE,
};

static const struct {
	uint32_t flag;
	uint16_t nbd;
} flags[] = {
	{ NR_FUA, NBD_CMD_FLAG_FUA },
	{ NR_NO_HOLE, NBD_CMD_FLAG_NO_HOLE },
	{ NR_FAST_ZERO, NBD_CMD_FLAG_FAST_ZERO },
	{ NR_REQ_ONE, NBD_CMD_FLAG_REQ_ONE },
};

static uint16_t flags_of(const struct nr_request *req)
{
	uint16_t nbd = 0;

	for (size_t i = 0; i < sizeof(flags) / sizeof(flags[0]); i++)
		if (req->flags & flags[i].flag)
			nbd |= flags[i].nbd;
	return nbd;
}

/* ---- what may be lost -------------------------------------------------- */

static bool owes(struct nr_link *link)
{
	const struct nr_link_account *account = nr_link_account(link);

	return account->acked != account->settled;
}

static struct nr_nbd_group *group_of(const struct nr_nbd *nbd, const struct nr_request *req)
{
	unsigned index = nbd->home ? 0 : nr_worker_index(req->worker);

	assert(index < nbd->group_count);
	return &nbd->groups[index];
}

void nr_nbd_broken(struct nr_link *link)
{
	struct nr_layer *layer = nr_link_layer(link);
	struct nr_nbd *nbd = layer->instance;
	struct nr_link_account *account = nr_link_account(link);

	if (!owes(link))
		return;
	atomic_fetch_add(&nbd->lost, 1);
	nr_layer_log(layer, NR_LAYER_ERROR,
		     "%" PRIu64 " writes were answered but not flushed and may be lost with it: "
		     "the next flush of each client fails",
		     account->acked - account->settled);
	account->settled = account->acked;
}

/* A flush that covers what is lost fails, whether or not the remote comes back. */
bool nr_nbd_again(struct nr_link *link, const struct nr_link_op *link_op)
{
	const struct nr_nbd *nbd = nr_link_layer(link)->instance;
	const struct nr_nbd_op *op = (const struct nr_nbd_op *)link_op;

	return link_op->req->operation != NR_FLUSH || op->lost == atomic_load(&nbd->lost);
}

/* Is there a loss that this client has not been told of?  Then it is told now. */
static bool report_loss(struct nr_nbd *nbd, struct nr_layer *layer, struct nr_request *req)
{
	struct nr_nbd_session *session = nr_session_data(layer, req->session);
	uint64_t lost = atomic_load(&nbd->lost);

	if (!session)
		return atomic_exchange(&nbd->reported, lost) != lost;
	if (session->reported == lost)
		return false;
	session->reported = lost;
	atomic_store(&nbd->reported, lost);
	return true;
}

/* ---- down -------------------------------------------------------------- */

static struct nr_link *choose(const struct nr_nbd *nbd, struct nr_layer *layer,
			      const struct nr_request *req)
{
	const struct nr_nbd_session *session = nr_session_data(layer, req->session);
	const struct nr_nbd_group *group = group_of(nbd, req);
	struct nr_link *best = group->links[0];

	if (session && session->link)
		return session->link;
	for (unsigned i = 1; i < group->count; i++)
		if (nr_link_load(group->links[i]) < nr_link_load(best))
			best = group->links[i];
	return best;
}

static bool is_cut(const struct nr_nbd *nbd, enum nr_operation operation)
{
	return nbd->agreement.reply_style != NR_REPLY_EXTENDED && operation != NR_RESIZE;
}

/* The next piece of the request that OP is the scratch of. */
static void send_piece(struct nr_nbd *nbd, struct nr_link *link, struct nr_nbd_op *op,
		       struct nr_request *req)
{
	struct nr_client_request wire = {
		.command = commands[req->operation],
		.flags = flags_of(req),
		.offset = req->offset + op->done,
		.length = req->length - op->done,
		.context = nbd->context_index[req->metadata],
	};

	if (is_cut(nbd, req->operation))
		wire.length = nr_min(wire.length, PIECE_MAX);
	op->piece = wire.length;
	nr_link_submit(link, &op->op, req, &wire);
}

/* The first link from op->next on whose writes are not stable; NULL: none. */
static struct nr_link *owing(struct nr_nbd_op *op, const struct nr_nbd_group *group)
{
	while (op->next < group->count) {
		struct nr_link *link = group->links[op->next++];

		if (owes(link))
			return link;
	}
	return NULL;
}

static void flush(struct nr_nbd *nbd, struct nr_link *link, struct nr_nbd_op *op,
		  struct nr_request *req)
{
	op->acked = nr_link_account(link)->acked;
	send_piece(nbd, link, op, req);
}

static void begin_flush(struct nr_nbd *nbd, struct nr_layer *layer, struct nr_nbd_op *op,
			struct nr_request *req)
{
	const struct nr_nbd_session *session = nr_session_data(layer, req->session);
	const struct nr_nbd_group *group = group_of(nbd, req);
	struct nr_link *link;

	op->next = session && session->link ? group->count : 0;
	op->lost = atomic_load(&nbd->lost);
	if (report_loss(nbd, layer, req)) {
		nr_finish(layer, req, -EIO);
		return;
	}
	link = owing(op, group);
	if (link)
		flush(nbd, link, op, req);
	else if (req->session)
		flush(nbd, choose(nbd, layer, req), op, req);
	else /* the server's own, at the end: a remote that owes nothing is not waited for */
		nr_finish(layer, req, 0);
}

void nr_nbd_submit(struct nr_nbd *nbd, struct nr_request *req)
{
	struct nr_layer *layer = nbd->layer;
	struct nr_nbd_op *op = nr_scratch(layer, req);
	bool changes = req->operation == NR_WRITE || req->operation == NR_TRIM ||
		       req->operation == NR_ZERO;

	op->done = 0;
	op->counts = nbd->counts && changes && !(req->flags & NR_FUA);
	if (req->operation == NR_FLUSH)
		begin_flush(nbd, layer, op, req);
	else
		send_piece(nbd, choose(nbd, layer, req), op, req);
}

/* ---- up ---------------------------------------------------------------- */

/* A flush of one link has ended: the next, or the end. */
static void flushed(struct nr_nbd *nbd, struct nr_link *link, struct nr_nbd_op *op, int error)
{
	struct nr_layer *layer = nbd->layer;
	struct nr_request *req = op->op.req;
	struct nr_link_account *account = nr_link_account(link);
	struct nr_link *next;

	/* It may have been sent again, to a remote that knows nothing of those writes. */
	if (atomic_load(&nbd->lost) != op->lost) {
		(void)report_loss(nbd, layer, req);
		error = -EIO;
	}
	if (!error)
		account->settled = nr_max(account->settled, op->acked);
	next = error ? NULL : owing(op, group_of(nbd, req));
	if (next)
		flush(nbd, next, op, req);
	else
		nr_finish(layer, req, error);
}

static void resized(struct nr_nbd *nbd, struct nr_layer *layer, const struct nr_request *req)
{
	atomic_store(&nbd->size, req->offset);
	nr_layer_resized(layer, req->offset);
}

void nr_nbd_finished(struct nr_link *link, struct nr_link_op *link_op, int error)
{
	struct nr_layer *layer = nr_link_layer(link);
	struct nr_nbd *nbd = layer->instance;
	struct nr_nbd_op *op = (struct nr_nbd_op *)link_op; /* its first member */
	struct nr_request *req = link_op->req;

	if (req->operation == NR_FLUSH) {
		flushed(nbd, link, op, error);
		return;
	}
	if (!error && op->counts)
		nr_link_account(link)->acked++;
	op->done += op->piece;
	if (!error && op->done < req->length && req->operation != NR_EXTENTS) {
		send_piece(nbd, link, op, req);
		return;
	}
	if (!error && req->operation == NR_RESIZE)
		resized(nbd, layer, req);
	nr_finish(layer, req, error);
}
