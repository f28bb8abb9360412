/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The filter `truncate`: another size for the disk below.
 *
 * A smaller size hides the end.  A larger one adds a tail that is not there: it reads
 * as zeroes, takes writes of zeroes, and refuses others with ENOSPC before anything
 * of them is written.
 *
 * Requests inside the disk below pass untouched, those in the tail are answered here.
 * One across the seam goes down as its first part, in place, and its rest is answered
 * on the way up.  A write across it takes its first part along in a buffer, because
 * the list of segments is not ours to cut.  Where the seam is depends on the size
 * below at the moment, so each request remembers where it was cut.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "filters/filters.h"
#include "nbdring/checked.h"

struct truncate {
	uint64_t size; /* bytes; 0: that of the disk below */
	uint64_t round_up;
	uint64_t round_down;
};

struct state {
	uint64_t length;          /* of the request as it came; 0: it was not cut */
	struct nr_buffer *buffer; /* write: the first part, or NULL */
	struct nr_segment *segments;
	uint32_t segment_count;
	struct nr_segment segment;
};

static const struct nr_param params[] = {
	{ .name = "truncate",
	  .type = NR_PARAM_SIZE,
	  .offset = offsetof(struct truncate, size),
	  .min = 1,
	  .value = "SIZE",
	  .help = "the size, smaller or larger than that below" },
	{ .name = "round-up",
	  .type = NR_PARAM_SIZE,
	  .offset = offsetof(struct truncate, round_up),
	  .min = 1,
	  .value = "BYTES",
	  .help = "round the size up to a multiple of this" },
	{ .name = "round-down",
	  .type = NR_PARAM_SIZE,
	  .offset = offsetof(struct truncate, round_down),
	  .min = 1,
	  .value = "BYTES",
	  .help = "round the size down to a multiple of this" },
	{ .name = NULL },
};

static int check(struct nr_layer *layer, struct nr_error *error)
{
	const struct truncate *f = layer->instance;

	if (f->round_up && f->round_down)
		return nr_error_set(error, -EINVAL,
				    "round-up= and round-down= contradict each other; write one");
	return 0;
}

static int new_size(const struct truncate *f, uint64_t below, uint64_t *size,
		    struct nr_error *error)
{
	*size = f->size ? f->size : below;
	if (f->round_up && *size % f->round_up &&
	    (!nr_add(*size, f->round_up - *size % f->round_up, size) || *size > NR_SIZE_MAX))
		return nr_error_set(error, -EFBIG,
				    "rounded up to a multiple of %" PRIu64 ", the size is over "
				    "2^63-1 bytes",
				    f->round_up);
	if (f->round_down)
		*size -= *size % f->round_down;
	return 0;
}

static int describe(struct nr_layer *layer, struct nr_traits *t, struct nr_error *error)
{
	const struct truncate *f = layer->instance;
	uint64_t size, near;
	int err = new_size(f, t->size, &size, error);

	if (err)
		return err;
	/* Only a size that is made here has to fit; one that is passed on may be as it is. */
	near = nr_round_down(size, t->block_min);
	if (size != t->size && size != near)
		return nr_error_set(error, -EINVAL,
				    "a size of %" PRIu64 " is not a multiple of the %u-byte blocks "
				    "below; use truncate=%" PRIu64 " or put --filter=blocksize "
				    "below",
				    size, t->block_min, near ? near : t->block_min);
	if (size > t->size && !nr_is_aligned(t->size, t->block_min))
		return nr_error_set(error, -EINVAL,
				    "the disk below ends with a part of a block (%" PRIu64
				    " bytes in blocks of %u) and cannot get a tail; use "
				    "round-down=%u",
				    t->size, t->block_min, t->block_min);
	t->size = size;
	t->support[NR_CAP_RESIZE] = NR_NONE;
	return 0;
}

static bool is_zero(const uint8_t *data, uint64_t length)
{
	return length == 0 || (data[0] == 0 && memcmp(data, data + 1, length - 1) == 0);
}

/* Is a write all zeroes from byte FROM on? */
static bool ends_in_zeroes(const struct nr_request *req, uint64_t from)
{
	for (uint32_t i = 0; i < req->segment_count; i++) {
		const struct nr_segment *s = &req->segments[i];
		uint64_t skip = nr_min(from, s->length);

		from -= skip;
		if (s->data && !is_zero(s->data + skip, s->length - skip))
			return false;
	}
	return true;
}

/*
 * The tail in the map: a hole.  Other contexts have nothing to say of what is not there,
 * which is what none of their bits means.
 */
static void add_tail(struct nr_request *req, uint64_t length)
{
	nr_extents_add(req->extents, length, req->metadata ? 0 : NR_EXTENT_HOLE | NR_EXTENT_ZERO);
}

/* All of it is in the tail. */
static void answer_tail(struct nr_layer *layer, struct nr_request *req)
{
	int error = 0;

	if (req->operation == NR_READ && !nr_answer_hole(req, req->length))
		error = -EIO;
	else if (req->operation == NR_WRITE && !ends_in_zeroes(req, 0))
		error = -ENOSPC;
	else if (req->operation == NR_EXTENTS)
		add_tail(req, req->length);
	nr_finish(layer, req, error);
}

static int cut_write(struct nr_request *req, struct state *s, uint64_t head)
{
	uint8_t *data;

	if (!ends_in_zeroes(req, head))
		return -ENOSPC;
	s->buffer = nr_buffer_get(req->worker, head, &data);
	if (!s->buffer)
		return -ENOMEM;
	nr_request_copy_out(req, 0, head, data);
	s->segments = req->segments;
	s->segment_count = req->segment_count;
	s->segment = (struct nr_segment){ data, head, NULL };
	req->segments = &s->segment;
	req->segment_count = 1;
	return 0;
}

static void submit(struct nr_layer *layer, struct nr_request *req)
{
	struct state *s = nr_scratch(layer, req);
	uint64_t below = nr_layer_size(layer->below);
	int error = 0;

	s->length = 0;
	s->buffer = NULL;
	if (req->operation == NR_FLUSH || nr_in_range(req->offset, req->length, below)) {
		nr_pass(layer, req);
		return;
	}
	if (req->offset >= below) {
		answer_tail(layer, req);
		return;
	}
	if (req->operation == NR_WRITE)
		error = cut_write(req, s, below - req->offset);
	if (error) {
		nr_finish(layer, req, error);
		return;
	}
	s->length = req->length;
	req->length = below - req->offset;
	if (req->operation == NR_EXTENTS)
		req->extents->end = below;
	nr_pass(layer, req);
}

/* The first part is done: put back what was cut off, and answer it. */
static void done(struct nr_layer *layer, struct nr_request *req)
{
	struct state *s = nr_scratch(layer, req);
	uint64_t rest = s->length - req->length, seam = req->offset + req->length;
	int error = req->error;

	if (s->length == 0) {
		nr_finish(layer, req, error);
		return;
	}
	req->length = s->length;
	if (s->buffer) {
		req->segments = s->segments;
		req->segment_count = s->segment_count;
		s->buffer->release(s->buffer);
	}
	if (req->operation == NR_READ && !error && !nr_answer_hole(req, rest))
		error = -EIO;
	if (req->operation == NR_EXTENTS) {
		req->extents->end = seam + rest;
		if (!error && req->extents->next == seam)
			add_tail(req, rest);
	}
	nr_finish(layer, req, error);
}

const struct nr_layer_type nr_truncate_type = {
	.abi = NR_LAYER_ABI,
	.name = "truncate",
	.summary = "gives the disk below another size",
	.kind = NR_FILTER,
	.placement = NR_SPREAD,
	.params = params,
	.instance_size = sizeof(struct truncate),
	.request_size = sizeof(struct state),
	.check = check,
	.describe = describe,
	.submit = submit,
	.done = done,
	.contexts_pass = true,
	.data_passes = true,
};
