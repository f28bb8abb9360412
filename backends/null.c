/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The backend `null`: a disk that forgets everything.  What is written is
 * swallowed, what is read is zeroes.  It costs next to nothing, so what a
 * benchmark on it measures is the server.
 *
 * No state but the size, which never changes: any number of workers.
 */
#include <stddef.h>

#include "backends/backends.h"
#include "nbdring/checked.h"

struct null {
	uint64_t size; /* bytes */
};

static const struct nr_param null_params[] = {
	{
		.name = "size",
		.type = NR_PARAM_SIZE,
		.flags = NR_PARAM_MAIN,
		.offset = offsetof(struct null, size),
		.fallback = "0",
		.max = NR_SIZE_MAX,
		.value = "SIZE",
		.help = "Size of the disk",
		.manual = "The size of the disk that clients see, up to 2^63-1 bytes.\n\n"
			  "C<size=> may be left out: C<nbdring null 1G>.",
	},
	{ .name = NULL },
};

static int null_describe(struct nr_layer *layer, struct nr_traits *traits, struct nr_error *error)
{
	const struct null *null = layer->instance;

	traits->size = null->size;
	traits->multi_conn = true;
	for (unsigned i = 0; i < NR_CAP_COUNT; i++)
		traits->support[i] = NR_NATIVE;
	traits->support[NR_CAP_RESIZE] = NR_NONE;
	return 0;
}

static void null_submit(struct nr_layer *layer, struct nr_request *req)
{
	/* Both cannot fail: an empty answer has room for one hole. */
	if (req->operation == NR_READ)
		nr_answer_hole(req, req->length);
	else if (req->operation == NR_EXTENTS)
		nr_extents_add(req->extents, req->length, NR_EXTENT_HOLE | NR_EXTENT_ZERO);
	nr_finish(layer, req, 0);
}

const struct nr_layer_type nr_null_type = {
	.abi = NR_LAYER_ABI,
	.name = "null",
	.summary = "swallows writes, reads zeroes",
	.kind = NR_BACKEND,
	.placement = NR_SPREAD,
	.params = null_params,
	.instance_size = sizeof(struct null),
	.describe = null_describe,
	.submit = null_submit,
};
