/* SPDX-License-Identifier: BSD-3-Clause */
/* The filter that does nothing: every slot is empty, so the core never visits it. */
#include "filters/filters.h"

const struct nr_layer_type nr_nofilter_type = {
	.abi = NR_LAYER_ABI,
	.name = "nofilter",
	.summary = "does nothing, at no cost",
	.kind = NR_FILTER,
	.placement = NR_SPREAD,
};
