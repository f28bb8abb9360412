/* SPDX-License-Identifier: BSD-3-Clause */
/* The threads are ended without the lock, so whoever comes meanwhile has new ones. */
#include "ring/offload-shared.h"

#include <assert.h>

bool nr_offload_shared_acquire(struct nr_offload_shared *shared, unsigned threads)
{
	bool there;

	(void)pthread_mutex_lock(&shared->lock);
	if (shared->shares == 0)
		shared->pool = nr_offload_create(threads);
	there = shared->pool;
	shared->shares += there;
	(void)pthread_mutex_unlock(&shared->lock);
	return there;
}

void nr_offload_shared_release(struct nr_offload_shared *shared)
{
	struct nr_offload *last = NULL;

	(void)pthread_mutex_lock(&shared->lock);
	assert(shared->shares > 0);
	if (--shared->shares == 0) {
		last = shared->pool;
		shared->pool = NULL;
	}
	(void)pthread_mutex_unlock(&shared->lock);
	nr_offload_destroy(last);
}
