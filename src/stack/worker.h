/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The thread a request lives on, as the stack sees it: a ring, a queue of
 * requests on their way, and pools of request memory.
 *
 * The owner of the thread (src/server/worker.c, or a test) makes one, gives it
 * to each request, and calls nr_worker_run after each turn of the ring.
 */
#ifndef SRC_STACK_WORKER_H
#define SRC_STACK_WORKER_H

#include <stdatomic.h>

#include "nbdring/layer.h"
#include "ring/ring.h"

#define NR_WORKER_STEPS 4096
#define NR_SLOT_CLASSES 4 /* request memory of 512, 1024, 2048 and 4096 bytes */

/* Where a request is in its life; asserted at every change of hands. */
enum nr_request_state {
	NR_REQUEST_FREE,  /* in the pool */
	NR_REQUEST_IDLE,  /* someone's, not in a stack */
	NR_REQUEST_DOWN,  /* a layer has it: submit, parked, or done */
	NR_REQUEST_READY, /* in the done-queue */
};

struct nr_handle;
struct nr_handles;
struct nr_pipe;
struct nr_slab;
struct nr_sleeper;

struct nr_worker {
	struct nr_ring *ring;
	unsigned index;
	unsigned count;           /* workers of the server */
	bool no_background;       /* it ends when its one request has (reader.c) */
	struct nr_request *ready; /* the done-queue, oldest first */
	struct nr_request **ready_tail;
	_Atomic(struct nr_request *) resumed; /* from any thread, newest first */
	atomic_bool woken;                    /* `wake` is under way */
	struct nr_message wake;
	struct nr_request *free[NR_SLOT_CLASSES];
	struct nr_slab *slabs;
	unsigned slab_count;
	struct nr_handle *free_handles; /* of buffers; see buffer.c */
	struct nr_handles *handles;
	struct nr_pipe *free_pipes;  /* see pipe.c */
	unsigned pipe_count;         /* in use and free */
	struct nr_sleeper *sleepers; /* a heap; see sleep.c */
	size_t sleeper_count, sleeper_room;
	struct nr_completion alarm;
	uint64_t alarm_at;
	uint64_t slots_used; /* requests that exist now */
	uint64_t slots_max;  /* at most so many; nr_request_get fails beyond */
	uint64_t moved;      /* steps taken by nr_worker_run; a counter */
};

/* RING stays the caller's. */
void nr_worker_init(struct nr_worker *worker, struct nr_ring *ring, unsigned index, unsigned count);
void nr_worker_fini(struct nr_worker *worker); /* no request may exist any more */

/*
 * Move requests up and down until none is ready, or for NR_WORKER_STEPS steps: then
 * some are left in worker->ready, and the caller does what else there is to do before
 * it calls again.  The worker's thread.
 */
void nr_worker_run(struct nr_worker *worker);

/*
 * Memory for a request of STACK, with HEADER bytes of the caller's in front of
 * struct nr_request (0: none).  NULL when slots_max is reached or memory is
 * short.  Fields are set for an empty request.
 */
struct nr_request *nr_request_get(struct nr_worker *worker, struct nr_stack *stack, size_t header);
/* Gives the answer's buffers and the memory back. */
void nr_request_release(struct nr_request *req, size_t header);

/* Give memory back that a rush of requests has left; when there is none under way. */
void nr_worker_trim(struct nr_worker *worker);

/* For nr_worker_trim and nr_worker_fini: close the pipes that nobody uses. */
void nr_worker_close_pipes(struct nr_worker *worker);

/* For workers without a ring: resume those whose time has come. */
void nr_worker_wake_sleepers(struct nr_worker *worker);

/* For nr_worker_fini: the memory of buffer handles; none may be in use. */
void nr_worker_free_handles(struct nr_worker *worker);

#endif
