/* SPDX-License-Identifier: BSD-3-Clause */
/* All filters that are built in, in the order of the manual; NULL ends the table. */
#ifndef FILTERS_TABLE_H
#define FILTERS_TABLE_H

#include "nbdring/layer.h"

extern const struct nr_layer_type *const nr_filters[];

#endif
