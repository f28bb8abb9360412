/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Emulation, in one place: what a layer cannot do itself is built from what it
 * can.
 *
 *   flush    nothing to make stable: answered at once
 *   fua      the request without the flag, then a flush
 *   trim     allowed to do nothing (protocol, NBD_CMD_TRIM): answered at once
 *   zero     writes of zeroes, one piece after the other
 *   cache    reads whose data is dropped, one piece after the other
 *   extents  everything is data
 *
 * The request itself is used for the steps: its fields are put away in the
 * scratch and put back before it goes on up.  One request never has more than
 * one step under way, so a zero of 2^63 bytes holds no more than a small one.
 */
#include "src/stack/emulate.h"

#include <assert.h>
#include <errno.h>

#include "nbdring/checked.h"

/*
 * Never written to: the kernel backs it with its page of zeroes, so it costs
 * address space only.
 */
static uint8_t zeroes[NR_TRANSFER_MAX] __attribute__((aligned(4096)));

enum stage {
	STAGE_NONE,   /* not ours: passing by */
	STAGE_STABLE, /* the request without FUA is under way; a flush follows */
	STAGE_FLUSH,  /* that flush is under way */
	STAGE_PIECES, /* pieces of zero or cache are under way */
};

struct emulation {
	enum stage stage;
	enum nr_operation operation; /* as it came */
	uint32_t flags;
	uint64_t offset, length;
	uint64_t next; /* where the next piece begins */
};

static uint8_t below(const struct nr_layer *layer, enum nr_capability capability)
{
	return layer->below->traits.support[capability];
}

static int describe(struct nr_layer *layer, struct nr_traits *t, struct nr_error *error)
{
	if (t->support[NR_CAP_FUA] == NR_EMULATE && t->support[NR_CAP_FLUSH] == NR_NONE)
		return nr_error_set(error, -EINVAL, "fua cannot be emulated without flush");
	for (unsigned i = 0; i < NR_CAP_COUNT; i++)
		if (t->support[i] == NR_EMULATE)
			t->support[i] = NR_NATIVE;
	return 0;
}

static void put_away(struct emulation *e, const struct nr_request *req, enum stage stage)
{
	e->stage = stage;
	e->operation = req->operation;
	e->flags = req->flags;
	e->offset = req->offset;
	e->length = req->length;
	e->next = req->offset;
}

static void put_back(const struct emulation *e, struct nr_request *req)
{
	req->operation = e->operation;
	req->flags = e->flags;
	req->offset = e->offset;
	req->length = e->length;
	if (e->stage == STAGE_PIECES)
		req->segment_count = 0;
}

/* The next piece of zero or cache as a write or read; or the end. */
static void next_piece(struct nr_layer *layer, struct nr_request *req, struct emulation *e)
{
	uint64_t left = e->offset + e->length - e->next;

	if (req->session && req->session->gone) {
		put_back(e, req);
		nr_finish(layer, req, -ESHUTDOWN);
		return;
	}
	req->offset = e->next;
	req->length = nr_min(left, layer->below->traits.block_max);
	req->flags = 0;
	e->next += req->length;
	if (e->operation == NR_ZERO) {
		req->operation = NR_WRITE;
		req->segments[0] = (struct nr_segment){ zeroes, req->length, NULL };
		req->segment_count = 1;
	} else {
		req->operation = NR_READ;
	}
	nr_pass(layer, req);
}

static void pass_without_fua(struct nr_layer *layer, struct nr_request *req, struct emulation *e)
{
	put_away(e, req, STAGE_STABLE);
	req->flags &= ~NR_FUA;
	nr_pass(layer, req);
}

static void extents(struct nr_layer *layer, struct nr_request *req)
{
	nr_extents_add(req->extents, req->length, 0);
	nr_finish(layer, req, 0);
}

static void submit(struct nr_layer *layer, struct nr_request *req)
{
	struct emulation *e = nr_scratch(layer, req);

	e->stage = STAGE_NONE;
	if (req->operation == NR_FLUSH && below(layer, NR_CAP_FLUSH) == NR_EMULATE) {
		nr_finish(layer, req, 0);
	} else if (req->operation == NR_TRIM && below(layer, NR_CAP_TRIM) == NR_EMULATE) {
		nr_finish(layer, req, 0);
	} else if (req->operation == NR_EXTENTS && req->metadata == 0 &&
		   below(layer, NR_CAP_EXTENTS) == NR_EMULATE) {
		extents(layer, req);
	} else if ((req->operation == NR_ZERO && below(layer, NR_CAP_ZERO) == NR_EMULATE) ||
		   (req->operation == NR_CACHE && below(layer, NR_CAP_CACHE) == NR_EMULATE)) {
		put_away(e, req, STAGE_PIECES);
		next_piece(layer, req, e);
	} else if ((req->flags & NR_FUA) && below(layer, NR_CAP_FUA) == NR_EMULATE) {
		pass_without_fua(layer, req, e);
	} else {
		nr_pass(layer, req);
	}
}

/* The last piece is written, or the request without FUA is done: is a flush owed? */
static void flush_or_finish(struct nr_layer *layer, struct nr_request *req, struct emulation *e)
{
	if (!(e->flags & NR_FUA) || below(layer, NR_CAP_FLUSH) != NR_NATIVE) {
		put_back(e, req);
		nr_finish(layer, req, 0);
		return;
	}
	put_back(e, req);
	e->stage = STAGE_FLUSH;
	req->operation = NR_FLUSH;
	req->flags = 0;
	req->offset = 0;
	req->length = 0;
	nr_pass(layer, req);
}

static void done(struct nr_layer *layer, struct nr_request *req)
{
	struct emulation *e = nr_scratch(layer, req);

	if (e->stage == STAGE_NONE) {
		nr_finish(layer, req, req->error);
		return;
	}
	if (e->stage == STAGE_PIECES && e->operation == NR_CACHE)
		nr_answer_clear(req);
	if (req->error || e->stage == STAGE_FLUSH) {
		put_back(e, req);
		nr_finish(layer, req, req->error);
	} else if (e->stage == STAGE_PIECES && e->next < e->offset + e->length) {
		next_piece(layer, req, e);
	} else {
		flush_or_finish(layer, req, e);
	}
}

const struct nr_layer_type nr_emulate_type = {
	.abi = NR_LAYER_ABI,
	.name = "emulate",
	.summary = "builds what the layer below lacks from what it has",
	.kind = NR_FILTER,
	.placement = NR_SPREAD,
	.request_size = sizeof(struct emulation),
	.describe = describe,
	.submit = submit,
	.done = done,
	.contexts_pass = true,
	.data_passes = true,
};
