/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * One pool of threads for the blocking calls of all backends.
 *
 * There is one per process and not one per export because the threads are a
 * resource of the machine: a thousand exports that are asked for their
 * allocation map at once should queue, not start sixteen thousand threads.
 * The price is that many calls stuck on one dead file server can hold up those
 * of other exports; what goes this way (maps, prefetching, resizing, discard on
 * old kernels) is never in the way of reads and writes.
 *
 * The state below is not a setting and belongs to no layer: it is made with the
 * first share and gone with the last.  `lock` guards it; a holder of a share may
 * read `pool` without, because it does not change while there is one.
 */
#include "backends/blocking.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>

/* Calls in progress at a time, not CPUs in use: most of them wait for a disk. */
#define THREADS_MAX 32

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct nr_offload *pool;
static unsigned shares;

int nr_blocking_acquire(struct nr_error *error)
{
	int err = 0;

	(void)pthread_mutex_lock(&lock);
	if (shares == 0)
		pool = nr_offload_create(THREADS_MAX);
	if (pool)
		shares++;
	else
		err = nr_error_system(error, -ENOMEM, "threads for blocking calls");
	(void)pthread_mutex_unlock(&lock);
	return err;
}

void nr_blocking_release(void)
{
	struct nr_offload *last = NULL;

	(void)pthread_mutex_lock(&lock);
	assert(shares > 0);
	if (--shares == 0) {
		last = pool;
		pool = NULL;
	}
	(void)pthread_mutex_unlock(&lock);
	nr_offload_destroy(last);
}

void nr_blocking_submit(struct nr_job *job)
{
	assert(pool);
	nr_offload_submit(pool, job);
}
