/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The layer the core puts above any layer that answered EMULATE for something.
 * Above it, everything emulated looks native.
 */
#ifndef SRC_STACK_EMULATE_H
#define SRC_STACK_EMULATE_H

#include "nbdring/layer.h"

extern const struct nr_layer_type nr_emulate_type;

#endif
