/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The threads of nr_compute: one pool for the process, one thread for each processor,
 * there while some stack has a layer that computes.
 */
#ifndef SRC_STACK_COMPUTE_H
#define SRC_STACK_COMPUTE_H

#include <stddef.h>

#include "nbdring/error.h"

/* What the core puts in front of the scratch of a layer that computes, bytes. */
size_t nr_compute_bytes(void);

/* A share of the pool, and giving it back; may block; never on a worker. */
int nr_compute_acquire(struct nr_error *error);
void nr_compute_release(void);

#endif
