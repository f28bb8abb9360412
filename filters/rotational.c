/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Says that the disk spins, or that it does not.  Only a trait: clients may order
 * their requests by it, nothing in the server does.
 */
#include <stddef.h>

#include "filters/filters.h"

struct rotational {
	bool rotational;
};

static const struct nr_param params[] = {
	{
		.name = "rotational",
		.type = NR_PARAM_BOOL,
		.offset = offsetof(struct rotational, rotational),
		.fallback = "true",
		.value = "BOOL",
		.help = "Whether clients are told that the disk spins",
	},
	{ .name = NULL },
};

static int rotational_describe(struct nr_layer *layer, struct nr_traits *t, struct nr_error *error)
{
	struct rotational *r = layer->instance;

	t->rotational = r->rotational;
	return 0;
}

const struct nr_layer_type nr_rotational_type = {
	.abi = NR_LAYER_ABI,
	.name = "rotational",
	.summary = "tells clients that the disk spins, or does not",
	.kind = NR_FILTER,
	.placement = NR_SPREAD,
	.params = params,
	.instance_size = sizeof(struct rotational),
	.describe = rotational_describe,
};
