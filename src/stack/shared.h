/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the stacks opened from one plan share: a block of memory for each layer of
 * the plan that asks for one (nr_shared_data), and the instances that were started
 * for the server as a whole (type->start).
 *
 * Whoever opens a plan more than once makes it, puts it into the plan, and gives it
 * back when the last of those stacks is closed.
 */
#ifndef SRC_STACK_SHARED_H
#define SRC_STACK_SHARED_H

#include "src/stack/stack.h"

/* For PLAN's layers as they are now, which are started.  May block. */
int nr_shared_create(struct nr_shared **shared, const struct nr_plan *plan, struct nr_error *error);
void nr_shared_destroy(struct nr_shared *shared); /* may block; NULL is allowed */

/* The block of the layer of this INDEX in the plan; NULL: it asked for none. */
void *nr_shared_block(const struct nr_shared *shared, size_t index);

#endif
