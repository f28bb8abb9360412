/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The filter `offset`: a stretch of the disk below as a disk of its own.
 *
 * Requests go down by so many bytes and come up by as many, in place, so there is
 * no state per request and any number of workers may be at it.  Without range= the
 * stretch ends where the disk below ends, and follows it when that grows.
 */
#include <errno.h>
#include <inttypes.h>

#include "filters/filters.h"
#include "filters/window.h"
#include "nbdring/checked.h"

struct offset {
	uint64_t offset; /* where the stretch begins, bytes */
	uint64_t range;  /* its length; 0: up to the end */
};

static const struct nr_param params[] = {
	{ .name = "offset",
	  .type = NR_PARAM_SIZE,
	  .offset = offsetof(struct offset, offset),
	  .fallback = "0",
	  .value = "OFFSET",
	  .help = "where the stretch begins" },
	{ .name = "range",
	  .type = NR_PARAM_SIZE,
	  .offset = offsetof(struct offset, range),
	  .min = 1,
	  .value = "LENGTH",
	  .help = "how long the stretch is",
	  .manual = "How long the stretch is. It must not reach beyond the end of the disk "
		    "below. Without this it goes up to that end, wherever it is." },
	{ .name = NULL },
};

/* Requests above are aligned; they stay so if VALUE is. */
static int check_alignment(const char *name, uint64_t value, uint32_t block, struct nr_error *error)
{
	uint64_t below = nr_round_down(value, block);

	if (below == value)
		return 0;
	return nr_error_set(error, -EINVAL,
			    "%s=%" PRIu64 " is not a multiple of the %u-byte blocks below; use "
			    "%s=%" PRIu64 " or put --filter=blocksize below",
			    name, value, block, name, below ? below : block);
}

static int describe(struct nr_layer *layer, struct nr_traits *t, struct nr_error *error)
{
	const struct offset *o = layer->instance;
	int err;

	if (o->offset > t->size)
		return nr_error_set(error, -EINVAL,
				    "offset=%" PRIu64 " lies beyond the end of the disk below, "
				    "which has %" PRIu64 " bytes",
				    o->offset, t->size);
	if (o->range > t->size - o->offset)
		return nr_error_set(error, -EINVAL,
				    "range=%" PRIu64 " from offset=%" PRIu64 " on reaches beyond "
				    "the end of the disk below, which has %" PRIu64 " bytes",
				    o->range, o->offset, t->size);
	err = check_alignment("offset", o->offset, t->block_min, error);
	if (!err && o->range)
		err = check_alignment("range", o->range, t->block_min, error);
	if (err)
		return err;
	t->size = o->range ? o->range : t->size - o->offset;
	if (o->range)
		t->support[NR_CAP_RESIZE] = NR_NONE;
	return 0;
}

static void submit(struct nr_layer *layer, struct nr_request *req)
{
	const struct offset *o = layer->instance;

	if (req->operation == NR_RESIZE) {
		/* Both are below 2^63; the choke point below refuses a sum that is not. */
		req->offset += o->offset;
	} else {
		nr_window_enter(req, o->offset);
	}
	nr_pass(layer, req);
}

static void done(struct nr_layer *layer, struct nr_request *req)
{
	const struct offset *o = layer->instance;

	if (req->operation == NR_RESIZE)
		req->offset -= o->offset;
	else
		nr_window_leave(req, o->offset);
	nr_finish(layer, req, req->error);
}

const struct nr_layer_type nr_offset_type = {
	.abi = NR_LAYER_ABI,
	.name = "offset",
	.summary = "serves a stretch of the disk below",
	.kind = NR_FILTER,
	.placement = NR_SPREAD,
	.params = params,
	.instance_size = sizeof(struct offset),
	.describe = describe,
	.submit = submit,
	.done = done,
	.contexts_pass = true,
	.data_passes = true,
};
