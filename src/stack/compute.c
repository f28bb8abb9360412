/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Computations of layers, on threads of their own.
 *
 * There is one pool per process and not one per export, because processors are a
 * resource of the machine: a hundred exports that decompress at once should queue, not
 * start a thread each.  For the same reason it is not the pool of calls that block,
 * which has more threads than there are processors.
 *
 * The state below is not a setting and belongs to no layer.
 *
 * The job lies in front of the layer's scratch.  From nr_resume on the request, and the
 * job with it, are the worker's again, so that call is the last that the thread does.
 */
#include "src/stack/compute.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>

#include "nbdring/layer.h"
#include "ring/offload-shared.h"

#define THREADS_MAX 64

struct computation {
	struct nr_job job;
	struct nr_layer *layer;
	struct nr_request *req;
	nr_compute_fn *compute;
};

static struct nr_offload_shared threads = NR_OFFLOAD_SHARED_INIT;

size_t nr_compute_bytes(void)
{
	return (sizeof(struct computation) + 15) & ~(size_t)15;
}

static unsigned processors(void)
{
	cpu_set_t set;
	int count = sched_getaffinity(0, sizeof(set), &set) == 0 ? CPU_COUNT(&set) : 1;

	return count < 1 ? 1 : count > THREADS_MAX ? THREADS_MAX : (unsigned)count;
}

int nr_compute_acquire(struct nr_error *error)
{
	if (nr_offload_shared_acquire(&threads, processors()))
		return 0;
	return nr_error_system(error, -ENOMEM, "threads for computing");
}

void nr_compute_release(void)
{
	nr_offload_shared_release(&threads);
}

static void run(struct nr_job *job)
{
	struct computation *c = (struct computation *)job;

	c->compute(c->layer, c->req);
	nr_resume(c->layer, c->req);
}

void nr_compute(struct nr_layer *layer, struct nr_request *req, nr_compute_fn *compute)
{
	struct computation *c = (void *)((char *)nr_scratch(layer, req) - nr_compute_bytes());

	assert(layer->type->computes);
	assert(layer->type->resume);
	*c = (struct computation){ .job.run = run, .layer = layer, .req = req, .compute = compute };
	nr_offload_submit(threads.pool, &c->job);
}

/* Computations that somebody waits for. */
struct batch {
	void (*compute)(void *context, size_t n);
	void *context;
	size_t count;
	pthread_mutex_t lock; /* guards the two below */
	pthread_cond_t over;
	size_t next;
	unsigned running; /* jobs that are not over */
};

struct share {
	struct nr_job job;
	struct batch *batch;
};

static void run_share(struct nr_job *job)
{
	struct batch *b = ((struct share *)job)->batch;

	pthread_mutex_lock(&b->lock);
	while (b->next < b->count) {
		size_t n = b->next++;

		pthread_mutex_unlock(&b->lock);
		b->compute(b->context, n);
		pthread_mutex_lock(&b->lock);
	}
	/* The batch is gone as soon as the last one has let go of the lock. */
	if (--b->running == 0)
		pthread_cond_signal(&b->over);
	pthread_mutex_unlock(&b->lock);
}

void nr_compute_each(struct nr_layer *layer, void (*compute)(void *context, size_t n),
		     void *context, size_t count)
{
	struct share share[THREADS_MAX];
	struct batch b = {
		.compute = compute,
		.context = context,
		.count = count,
		.lock = PTHREAD_MUTEX_INITIALIZER,
		.over = PTHREAD_COND_INITIALIZER,
		.running = processors(),
	};
	unsigned shares = b.running;

	assert(layer->type->computes);
	for (unsigned i = 0; i < shares; i++) {
		share[i] = (struct share){ .job.run = run_share, .batch = &b };
		nr_offload_submit(threads.pool, &share[i].job);
	}
	pthread_mutex_lock(&b.lock);
	while (b.running > 0)
		pthread_cond_wait(&b.over, &b.lock);
	pthread_mutex_unlock(&b.lock);
}
