/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Computations of layers, on threads of their own.
 *
 * There is one pool per process and not one per export, because processors are a
 * resource of the machine: a hundred exports that decompress at once should queue, not
 * start a thread each.  For the same reason it is not the pool of calls that block,
 * which has more threads than there are processors.
 *
 * The state below is not a setting and belongs to no layer: it is made with the first
 * share and gone with the last.  `lock` guards it; a holder of a share may read `pool`
 * without, because it does not change while there is one.
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
#include "ring/offload.h"

#define THREADS_MAX 64

struct computation {
	struct nr_job job;
	struct nr_layer *layer;
	struct nr_request *req;
	nr_compute_fn *compute;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct nr_offload *pool;
static unsigned shares;

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
	int err = 0;

	(void)pthread_mutex_lock(&lock);
	if (shares == 0)
		pool = nr_offload_create(processors());
	if (pool)
		shares++;
	else
		err = nr_error_system(error, -ENOMEM, "threads for computing");
	(void)pthread_mutex_unlock(&lock);
	return err;
}

void nr_compute_release(void)
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
	nr_offload_submit(pool, &c->job);
}
