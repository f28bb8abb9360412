/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Buffers for layers: a counted handle on a block of the worker's arena.
 *
 * Handles are kept in a list of the worker and made in handfuls, so that in
 * steady state nothing is allocated.  A worker without a ring (tests of layers
 * that do no I/O) takes the memory from the heap instead.
 */
#include <assert.h>
#include <stdlib.h>

#include "nbdring/checked.h"
#include "ring/arena.h"
#include "src/stack/worker.h"

#define HANDFUL 64

struct nr_handle {
	struct nr_buffer buffer; /* first: layers know the handle by it */
	struct nr_worker *worker;
	struct nr_handle *next; /* free ones */
	void *block;
	uint32_t references;
};

struct nr_handles {
	struct nr_handles *next;
	struct nr_handle handle[HANDFUL];
};

static bool more_handles(struct nr_worker *worker)
{
	struct nr_handles *handful = calloc(1, sizeof(*handful));

	if (!handful)
		return false;
	handful->next = worker->handles;
	worker->handles = handful;
	for (unsigned i = 0; i < HANDFUL; i++) {
		handful->handle[i].next = worker->free_handles;
		worker->free_handles = &handful->handle[i];
	}
	return true;
}

void nr_worker_free_handles(struct nr_worker *worker)
{
	while (worker->handles) {
		struct nr_handles *handful = worker->handles;

		worker->handles = handful->next;
		free(handful);
	}
	worker->free_handles = NULL;
}

static void release(struct nr_buffer *buffer)
{
	struct nr_handle *handle = (struct nr_handle *)buffer;
	struct nr_worker *worker = handle->worker;

	assert(handle->references > 0);
	if (--handle->references)
		return;
	if (worker->ring)
		nr_arena_release(nr_ring_arena(worker->ring), handle->block);
	else
		free(handle->block);
	handle->next = worker->free_handles;
	worker->free_handles = handle;
}

struct nr_buffer *nr_buffer_get(struct nr_worker *worker, uint64_t length, uint8_t **data)
{
	struct nr_handle *handle;
	void *block;

	assert(length > 0);
	assert(length <= NR_TRANSFER_MAX);
	if (!worker->free_handles && !more_handles(worker))
		return NULL;
	if (worker->ring)
		block = nr_arena_get(nr_ring_arena(worker->ring), length, NR_BLOCK_LAYER);
	else
		block = aligned_alloc(4096, nr_round_down(length + 4095, 4096));
	if (!block)
		return NULL;
	handle = worker->free_handles;
	worker->free_handles = handle->next;
	*handle = (struct nr_handle){
		.buffer.release = release, .worker = worker, .block = block, .references = 1
	};
	*data = block;
	return &handle->buffer;
}

void nr_buffer_retain(struct nr_buffer *buffer)
{
	struct nr_handle *handle = (struct nr_handle *)buffer;

	assert(handle->references > 0);
	handle->references++;
}
