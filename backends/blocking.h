/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The threads on which backends make calls that may block: one pool for the
 * whole process, there as long as some backend needs it.
 *
 * A backend takes a share when it opens and gives it back when it closes; in
 * between it may submit jobs from any of its workers.
 */
#ifndef BACKENDS_BLOCKING_H
#define BACKENDS_BLOCKING_H

#include "nbdring/error.h"
#include "ring/offload.h"

/* Take a share.  Any thread; may block. */
int nr_blocking_acquire(struct nr_error *error);

/*
 * Give a share back; the last one ends the threads, and waits for that.  No job
 * of the caller's may be under way.  Any thread but a worker.
 */
void nr_blocking_release(void);

/* As nr_offload_submit; the caller holds a share.  Any thread, never blocks. */
void nr_blocking_submit(struct nr_job *job);

#endif
