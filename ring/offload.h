/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Threads for what blocks: opening files, libraries without an asynchronous
 * interface, long computations.
 *
 * Threads are made when a job finds none idle, up to a limit; further jobs
 * wait in order.  A thread without work for ten seconds ends.  When a job has
 * run, `done` is called on the ring it came from, as a message.
 */
#ifndef RING_OFFLOAD_H
#define RING_OFFLOAD_H

#include "ring/ring.h"

struct nr_offload;

/*
 * The caller owns a job until `done` is called.  One with no home is its own again
 * before `run` returns: that says so itself to whom it may concern.
 */
struct nr_job {
	void (*run)(struct nr_job *job);  /* on a thread of the pool; may block */
	void (*done)(struct nr_job *job); /* on the home ring's thread */
	struct nr_ring *home;             /* NULL: nobody is told, and `done` is not called */
	struct nr_message message;        /* private */
	struct nr_job *next;              /* private */
};

/* At most THREADS (>= 1) at a time. NULL when memory is short. */
struct nr_offload *nr_offload_create(unsigned threads);

/* Waits for the jobs under way; those not begun are run too.  NULL is allowed. */
void nr_offload_destroy(struct nr_offload *pool);

/* Any thread.  Takes a short lock; never waits for a job. */
void nr_offload_submit(struct nr_offload *pool, struct nr_job *job);

unsigned nr_offload_threads(const struct nr_offload *pool); /* alive now */

#endif
