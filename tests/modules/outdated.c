/* SPDX-License-Identifier: BSD-3-Clause */
/* A module that was built for another version of the contract: must be refused. */
#include <stddef.h>

#include "nbdring/layer.h"

static const struct nr_layer_type outdated = {
	.abi = NR_LAYER_ABI + 1,
	.name = "outdated",
	.summary = "was built for another server",
	.kind = NR_FILTER,
};

__attribute__((visibility("default"))) const struct nr_layer_type *nbdring_layer(void);

const struct nr_layer_type *nbdring_layer(void)
{
	return &outdated;
}
