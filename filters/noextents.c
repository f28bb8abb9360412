/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A disk without a map: every range is said to be data.
 *
 * Only a trait: the core answers questions about extents itself, so the layers
 * below never see one.
 */
#include "filters/filters.h"

static int noextents_describe(struct nr_layer *layer, struct nr_traits *t, struct nr_error *error)
{
	t->support[NR_CAP_EXTENTS] = NR_EMULATE;
	t->context_count = 0;
	return 0;
}

const struct nr_layer_type nr_noextents_type = {
	.abi = NR_LAYER_ABI,
	.name = "noextents",
	.summary = "hides where the holes are: everything is said to be data",
	.kind = NR_FILTER,
	.placement = NR_SPREAD,
	.describe = noextents_describe,
};
