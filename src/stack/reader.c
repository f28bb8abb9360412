/* SPDX-License-Identifier: BSD-3-Clause */
/* See reader.h. */
#include "src/stack/reader.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "nbdring/checked.h"
#include "src/stack/worker.h"

#define ARENA_BYTES ((size_t)8 * 1024 * 1024)

struct nr_reader {
	struct nr_ring *ring;
	struct nr_worker worker;
};

int nr_reader_create(struct nr_reader **out, unsigned worker_count, struct nr_error *error)
{
	struct nr_ring_options options = { .arena_bytes = ARENA_BYTES, .pinned_bytes = 4096 };
	struct nr_reader *reader = calloc(1, sizeof(*reader));
	int err;

	if (!reader)
		return nr_error_system(error, -ENOMEM, "no memory to read the disk below");
	err = nr_ring_create(&reader->ring, &options, error);
	if (err) {
		free(reader);
		return err;
	}
	nr_worker_init(&reader->worker, reader->ring, 0, worker_count);
	reader->worker.no_background = true;
	*out = reader;
	return 0;
}

void nr_reader_destroy(struct nr_reader *reader)
{
	if (!reader)
		return;
	nr_worker_fini(&reader->worker);
	nr_ring_destroy(reader->ring);
	free(reader);
}

static void finished(struct nr_request *req)
{
	/* wait_for sees the state. */
}

static int wait_for(struct nr_worker *worker, struct nr_request *req)
{
	nr_worker_run(worker);
	while (req->internal.state != NR_REQUEST_IDLE) {
		nr_ring_turn(worker->ring, !worker->ready);
		nr_worker_run(worker);
	}
	return req->error;
}

/* One read of whole blocks, of which [OFFSET, OFFSET + LENGTH) is wanted. */
static int read_part(struct nr_worker *worker, struct nr_layer *from, uint64_t offset,
		     uint64_t length, void *data)
{
	uint32_t block = from->traits.block_min;
	uint64_t start = nr_round_down(offset, block), end;
	struct nr_request *req;
	int err;

	if (!nr_round_up(offset + length, block, &end))
		return -EINVAL;
	req = nr_request_get(worker, from->internal.stack, 0);
	if (!req)
		return -ENOMEM;
	req->operation = NR_READ;
	req->offset = start;
	req->length = end - start;
	req->internal.finished = finished;
	nr_stack_enter(from, req);
	err = wait_for(worker, req);
	if (!err)
		nr_request_copy_out(req, offset - start, length, data);
	nr_request_release(req, 0);
	return err;
}

int nr_reader_read(struct nr_reader *reader, struct nr_layer *from, uint64_t offset,
		   uint64_t length, void *data)
{
	int err = 0;

	while (length > 0 && !err) {
		uint64_t most = from->traits.block_max - (offset & (from->traits.block_min - 1));
		uint64_t part = nr_min(length, most);

		err = read_part(&reader->worker, from, offset, part, data);
		offset += part;
		length -= part;
		data = (char *)data + part;
	}
	return err;
}

int nr_read_below(struct nr_layer *layer, uint64_t offset, uint64_t length, void *data,
		  struct nr_error *error)
{
	struct nr_layer *from = layer->below;
	struct nr_reader *own = NULL, **reader = nr_stack_reader(layer->internal.stack);
	int err = 0;

	if (!nr_in_range(offset, length, nr_layer_size(from)))
		return nr_error_set(error, -EINVAL, "the disk below ends too early");
	if (!reader)
		reader = &own;
	if (!*reader)
		err = nr_reader_create(reader, layer->worker_count, error);
	if (err)
		return err;
	assert(*reader);
	err = nr_reader_read(*reader, from, offset, length, data);
	nr_reader_destroy(own);
	if (err)
		nr_error_system(error, err, "the disk below cannot be read");
	return err;
}
