/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The filter `count`: how many bytes were read, written, zeroed and trimmed, said
 * in one line on standard error when the server ends, all exports together.
 *
 * Each worker counts for itself, in a cache line of its own; only `stop` reads
 * what all of them counted.  Requests that failed are not counted.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "filters/filters.h"

struct counters {
	uint64_t bytes[NR_OPERATION_COUNT];
} __attribute__((aligned(64)));

/* Of all exports. */
struct count {
	struct counters *worker; /* layer->worker_count of them; set at the start */
};

static int count_start(struct nr_layer *layer, struct nr_error *error)
{
	struct count *count = nr_shared_data(layer);
	void *memory;

	if (posix_memalign(&memory, 64, layer->worker_count * sizeof(struct counters)))
		return nr_error_system(error, -ENOMEM, "%u counters", layer->worker_count);
	count->worker = memory;
	for (unsigned i = 0; i < layer->worker_count; i++)
		count->worker[i] = (struct counters){ 0 };
	return 0;
}

static void count_done(struct nr_layer *layer, struct nr_request *req)
{
	const struct count *count = nr_shared_data(layer);

	if (!req->error)
		count->worker[nr_worker_index(req->worker)].bytes[req->operation] += req->length;
	nr_finish(layer, req, req->error);
}

static uint64_t total(const struct nr_layer *layer, enum nr_operation operation)
{
	const struct count *count = nr_shared_data(layer);
	uint64_t sum = 0;

	for (unsigned i = 0; i < layer->worker_count; i++)
		sum += count->worker[i].bytes[operation];
	return sum;
}

static void count_stop(struct nr_layer *layer)
{
	const struct count *count = nr_shared_data(layer);

	fprintf(stderr,
		"count bytes: read %" PRIu64 ", written %" PRIu64 ", zeroed %" PRIu64
		", trimmed %" PRIu64 "\n",
		total(layer, NR_READ), total(layer, NR_WRITE), total(layer, NR_ZERO),
		total(layer, NR_TRIM));
	free(count->worker);
}

const struct nr_layer_type nr_count_type = {
	.abi = NR_LAYER_ABI,
	.name = "count",
	.summary = "counts bytes read, written, zeroed and trimmed",
	.kind = NR_FILTER,
	.placement = NR_SPREAD,
	.shared_size = sizeof(struct count),
	.start = count_start,
	.stop = count_stop,
	.done = count_done,
	.contexts_pass = true,
	.data_passes = true,
};
