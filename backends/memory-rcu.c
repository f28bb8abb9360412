/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The parts of memory-rcu.h that are not for the data path.
 *
 * All burials of the process take place on one thread, liburcu's default one, in
 * the order of their retirement.  That is what makes a barrier simple: retire
 * something, and wait for its burial.
 */
#include "backends/memory-rcu.h"

#include <pthread.h>
#include <stdbool.h>

#ifdef NR_MEMORY_TSAN
char nr_memory_grace;
#endif

struct barrier {
	struct rcu_head rcu;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool reached;
};

void nr_memory_prepare(void)
{
	urcu_bp_get_default_call_rcu_data();
}

static void reach(struct rcu_head *head)
{
	struct barrier *barrier = caa_container_of(head, struct barrier, rcu);

	NR_MEMORY_AFTER_GRACE();
	pthread_mutex_lock(&barrier->lock);
	barrier->reached = true;
	pthread_cond_signal(&barrier->changed);
	pthread_mutex_unlock(&barrier->lock);
}

void nr_memory_barrier(void)
{
	struct barrier barrier = { .reached = false };

	pthread_mutex_init(&barrier.lock, NULL);
	pthread_cond_init(&barrier.changed, NULL);
	nr_memory_retire(&barrier.rcu, reach);
	pthread_mutex_lock(&barrier.lock);
	while (!barrier.reached)
		pthread_cond_wait(&barrier.changed, &barrier.lock);
	pthread_mutex_unlock(&barrier.lock);
	pthread_cond_destroy(&barrier.changed);
	pthread_mutex_destroy(&barrier.lock);
}
