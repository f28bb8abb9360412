/* SPDX-License-Identifier: BSD-3-Clause */
/* The backends that are built in, one line each; table.c lists them. */
#ifndef BACKENDS_BACKENDS_H
#define BACKENDS_BACKENDS_H

#include "nbdring/layer.h"

extern const struct nr_layer_type nr_concat_type;
extern const struct nr_layer_type nr_file_type;
extern const struct nr_layer_type nr_full_type;
extern const struct nr_layer_type nr_memory_type;
extern const struct nr_layer_type nr_mirror_type;
extern const struct nr_layer_type nr_nbd_type;
extern const struct nr_layer_type nr_null_type;
extern const struct nr_layer_type nr_pattern_type;
extern const struct nr_layer_type nr_split_type;
extern const struct nr_layer_type nr_stripe_type;

#endif
