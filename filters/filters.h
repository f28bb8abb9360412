/* SPDX-License-Identifier: BSD-3-Clause */
/* The filters that are built in, one declaration each. */
#ifndef FILTERS_FILTERS_H
#define FILTERS_FILTERS_H

#include "nbdring/layer.h"

/* Not in the table: the core puts it on top of stacks that need alignment. */
extern const struct nr_layer_type nr_blocksize_type;

extern const struct nr_layer_type nr_nofilter_type;

#endif
