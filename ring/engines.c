/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Which engines there are.  A file of its own, so that a program with a list of its
 * own (the simulation) is linked without those it does not use.
 */
#include "ring/engine.h"

#include <stddef.h>

const struct nr_engine_type *const nr_engines[] = {
	&nr_engine_uring,
	NULL,
};
