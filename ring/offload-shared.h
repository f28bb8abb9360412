/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A pool of threads that several owners have in common: made with the first share, gone
 * with the last.  For pools of the process, of which there is one of a kind because
 * threads are a resource of the machine.
 */
#ifndef RING_OFFLOAD_SHARED_H
#define RING_OFFLOAD_SHARED_H

#include <pthread.h>
#include <stdbool.h>

#include "ring/offload.h"

/*
 * A holder of a share may read `pool` without the lock, because it does not change while
 * there is one; submit to it with nr_offload_submit.
 */
struct nr_offload_shared {
	pthread_mutex_t lock; /* guards the two below */
	struct nr_offload *pool;
	unsigned shares;
};

#define NR_OFFLOAD_SHARED_INIT                     \
	{                                          \
		PTHREAD_MUTEX_INITIALIZER, NULL, 0 \
	}

/* Take a share; the first one makes THREADS (>= 1).  False: no memory.  Any thread. */
bool nr_offload_shared_acquire(struct nr_offload_shared *shared, unsigned threads);

/*
 * Give a share back; the last one ends the threads, and waits for that.  No job of the
 * caller's may be under way.  Any thread but a worker.
 */
void nr_offload_shared_release(struct nr_offload_shared *shared);

#endif
