/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The pool of threads for calls that block.
 *
 * A worker must never wait, yet some things offer nothing but waiting: opening
 * a file, a library without an asynchronous interface, decompressing a large
 * block.  They become jobs here; the answer returns to the worker as a message
 * of its ring.
 *
 * Threads come when a job finds none idle and go when there has been no work
 * for ten seconds, so a server that needs none has none.
 *
 * Invariants (all under `lock`): a queued job is matched by an idle thread, by
 * a thread being made, or the limit is reached; `alive` counts threads from
 * before their making until they are about to end.
 *
 * How threads end: one that ends leaves its handle in `ended` and joins the one
 * that stood there before.  So at most one ended thread is ever left unjoined,
 * nobody waits for it but its successor, and destroying the pool joins the last.
 *
 * Threads: everything here may be called from any thread, except destroy, which
 * must be the last call.
 */
#include "ring/offload.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <time.h>

#define IDLE_SECONDS 10

struct nr_offload {
	pthread_mutex_t lock;
	pthread_cond_t work;   /* a job was queued, or the pool is stopping */
	pthread_cond_t nobody; /* the last thread is about to end */
	struct nr_job *first, *last;
	unsigned queued;
	unsigned idle; /* waiting on `work` */
	unsigned alive;
	unsigned limit;
	bool stopping;
	bool have_ended;
	pthread_t ended; /* the thread that ended last, not joined yet */
};

static void queue_push(struct nr_offload *pool, struct nr_job *job)
{
	job->next = NULL;
	if (pool->last)
		pool->last->next = job;
	else
		pool->first = job;
	pool->last = job;
	pool->queued++;
}

static struct nr_job *queue_pop(struct nr_offload *pool)
{
	struct nr_job *job = pool->first;

	assert(job);
	pool->first = job->next;
	if (!pool->first)
		pool->last = NULL;
	pool->queued--;
	return job;
}

static void deliver_done(struct nr_ring *ring, struct nr_message *message)
{
	struct nr_job *job;

	(void)ring;
	job = (struct nr_job *)((char *)message - offsetof(struct nr_job, message));
	job->done(job);
}

static void run_job(struct nr_job *job)
{
	struct nr_ring *home = job->home;

	job->run(job);
	if (!home)
		return;
	/* From the post on the job belongs to its owner again. */
	job->message.deliver = deliver_done;
	nr_ring_post(home, &job->message);
}

/* Sleeps until there is a job; false when the thread is to end. */
static bool wait_for_work(struct nr_offload *pool)
{
	struct timespec until;
	int error = 0;

	if (pool->queued > 0)
		return true;
	(void)clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += IDLE_SECONDS;
	pool->idle++;
	while (pool->queued == 0 && !pool->stopping && error == 0)
		error = pthread_cond_timedwait(&pool->work, &pool->lock, &until);
	pool->idle--;
	return pool->queued > 0;
}

static void *thread_main(void *argument)
{
	struct nr_offload *pool = argument;
	pthread_t before;
	bool have_before;

	(void)pthread_mutex_lock(&pool->lock);
	while (wait_for_work(pool)) {
		struct nr_job *job = queue_pop(pool);

		(void)pthread_mutex_unlock(&pool->lock);
		run_job(job);
		(void)pthread_mutex_lock(&pool->lock);
	}
	before = pool->ended;
	have_before = pool->have_ended;
	pool->ended = pthread_self();
	pool->have_ended = true;
	assert(pool->alive > 0);
	if (--pool->alive == 0)
		(void)pthread_cond_signal(&pool->nobody);
	(void)pthread_mutex_unlock(&pool->lock);
	if (have_before)
		(void)pthread_join(before, NULL);
	return NULL;
}

/* Signals are for the threads that expect them: the pool's get none. */
static int start_thread(struct nr_offload *pool)
{
	sigset_t all, before;
	pthread_t thread;
	int error;

	(void)sigfillset(&all);
	(void)pthread_sigmask(SIG_SETMASK, &all, &before);
	error = pthread_create(&thread, NULL, thread_main, pool);
	(void)pthread_sigmask(SIG_SETMASK, &before, NULL);
	return error;
}

struct nr_offload *nr_offload_create(unsigned threads)
{
	struct nr_offload *pool;
	pthread_condattr_t attributes;

	assert(threads >= 1);
	pool = calloc(1, sizeof(*pool));
	if (!pool)
		return NULL;
	pool->limit = threads;
	(void)pthread_mutex_init(&pool->lock, NULL);
	(void)pthread_cond_init(&pool->nobody, NULL);
	(void)pthread_condattr_init(&attributes);
	/* Idle time must not depend on somebody setting the clock. */
	(void)pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
	(void)pthread_cond_init(&pool->work, &attributes);
	(void)pthread_condattr_destroy(&attributes);
	return pool;
}

/*
 * No thread could be made.  If others live they will come to the queue; if
 * there is none, the caller's thread runs what is queued: slow, but the system
 * has no threads left and nothing gets lost.
 */
static void run_without_threads(struct nr_offload *pool)
{
	(void)pthread_mutex_lock(&pool->lock);
	pool->alive--;
	while (pool->alive == 0 && pool->queued > 0) {
		struct nr_job *job = queue_pop(pool);

		(void)pthread_mutex_unlock(&pool->lock);
		run_job(job);
		(void)pthread_mutex_lock(&pool->lock);
	}
	(void)pthread_mutex_unlock(&pool->lock);
}

void nr_offload_submit(struct nr_offload *pool, struct nr_job *job)
{
	bool grow;

	assert(job->run);
	assert(job->done || !job->home);
	(void)pthread_mutex_lock(&pool->lock);
	assert(!pool->stopping);
	queue_push(pool, job);
	/* Idle threads may be on their way to jobs queued before this one. */
	grow = pool->queued > pool->idle && pool->alive < pool->limit;
	if (grow)
		pool->alive++;
	else if (pool->idle > 0)
		(void)pthread_cond_signal(&pool->work);
	(void)pthread_mutex_unlock(&pool->lock);
	if (grow && start_thread(pool) != 0)
		run_without_threads(pool);
}

void nr_offload_destroy(struct nr_offload *pool)
{
	if (!pool)
		return;
	(void)pthread_mutex_lock(&pool->lock);
	pool->stopping = true;
	(void)pthread_cond_broadcast(&pool->work);
	while (pool->alive > 0)
		(void)pthread_cond_wait(&pool->nobody, &pool->lock);
	assert(pool->queued == 0);
	(void)pthread_mutex_unlock(&pool->lock);
	if (pool->have_ended)
		(void)pthread_join(pool->ended, NULL);
	(void)pthread_cond_destroy(&pool->work);
	(void)pthread_cond_destroy(&pool->nobody);
	(void)pthread_mutex_destroy(&pool->lock);
	free(pool);
}

unsigned nr_offload_threads(const struct nr_offload *pool)
{
	/* The lock is the only part that changes. */
	struct nr_offload *p = (struct nr_offload *)pool;
	unsigned alive;

	(void)pthread_mutex_lock(&p->lock);
	alive = p->alive;
	(void)pthread_mutex_unlock(&p->lock);
	return alive;
}
