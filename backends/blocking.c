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
 * The state below is not a setting and belongs to no layer.
 */
#include "backends/blocking.h"

#include <assert.h>
#include <errno.h>

#include "ring/offload-shared.h"

/* Calls in progress at a time, not CPUs in use: most of them wait for a disk. */
#define THREADS_MAX 32

static struct nr_offload_shared threads = NR_OFFLOAD_SHARED_INIT;

int nr_blocking_acquire(struct nr_error *error)
{
	if (nr_offload_shared_acquire(&threads, THREADS_MAX))
		return 0;
	return nr_error_system(error, -ENOMEM, "threads for blocking calls");
}

void nr_blocking_release(void)
{
	nr_offload_shared_release(&threads);
}

void nr_blocking_submit(struct nr_job *job)
{
	assert(threads.pool);
	nr_offload_submit(threads.pool, job);
}
