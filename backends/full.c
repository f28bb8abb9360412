/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The backend `full`: a thin-provisioned disk whose host has run out of space.
 * It reads zeroes; whatever would need space, and trim and zero too, fails with
 * ENOSPC.  For testing what clients do then.
 *
 * No state but the size, which never changes: any number of workers.
 */
#include <errno.h>
#include <stddef.h>

#include "backends/backends.h"
#include "nbdring/checked.h"

struct full {
	uint64_t size; /* bytes */
};

static const struct nr_param full_params[] = {
	{
		.name = "size",
		.type = NR_PARAM_SIZE,
		.flags = NR_PARAM_REQUIRED | NR_PARAM_MAIN,
		.offset = offsetof(struct full, size),
		.max = NR_SIZE_MAX,
		.value = "SIZE",
		.help = "Size of the disk",
		.manual = "The size of the disk that clients see, up to 2^63-1 bytes.\n\n"
			  "C<size=> may be left out: C<nbdring full 1G>.",
	},
	{ .name = NULL },
};

static int full_describe(struct nr_layer *layer, struct nr_traits *traits, struct nr_error *error)
{
	const struct full *full = layer->instance;

	traits->size = full->size;
	traits->multi_conn = true; /* no write ever succeeds that could be seen too late */
	traits->support[NR_CAP_TRIM] = NR_NATIVE;
	traits->support[NR_CAP_ZERO] = NR_NATIVE;
	traits->support[NR_CAP_FAST_ZERO] = NR_NATIVE; /* fails fast */
	traits->support[NR_CAP_CACHE] = NR_NATIVE;
	traits->support[NR_CAP_EXTENTS] = NR_NATIVE;
	return 0;
}

static void full_submit(struct nr_layer *layer, struct nr_request *req)
{
	int error = 0;

	/* Neither can fail: an empty answer has room for one hole. */
	if (req->operation == NR_READ)
		nr_answer_hole(req, req->length);
	else if (req->operation == NR_EXTENTS)
		nr_extents_add(req->extents, req->length, NR_EXTENT_HOLE | NR_EXTENT_ZERO);
	else if (req->operation != NR_CACHE)
		error = -ENOSPC;
	nr_finish(layer, req, error);
}

const struct nr_layer_type nr_full_type = {
	.abi = NR_LAYER_ABI,
	.name = "full",
	.summary = "always full: reads zeroes, fails every write",
	.kind = NR_BACKEND,
	.placement = NR_SPREAD,
	.params = full_params,
	.instance_size = sizeof(struct full),
	.describe = full_describe,
	.submit = full_submit,
};
