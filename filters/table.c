/* SPDX-License-Identifier: BSD-3-Clause */
#include "filters/table.h"

#include <stddef.h>

#include "filters/filters.h"

const struct nr_layer_type *const nr_filters[] = {
	&nr_nofilter_type,
	NULL,
};
