/* SPDX-License-Identifier: BSD-3-Clause */
/* All backends that are built in, in the order of the manual; NULL ends the table. */
#ifndef BACKENDS_TABLE_H
#define BACKENDS_TABLE_H

#include "nbdring/layer.h"

extern const struct nr_layer_type *const nr_backends[];

#endif
