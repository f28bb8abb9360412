/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/unit/flat-disk.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "nbdring/checked.h"
#include "tests/unit/layer-test.h"

#define TRIMMED 0x5a /* what is trimmed reads as this */

struct flat {
	uint64_t size, min, max, cut, have; /* parameters */
	uint8_t *memory;
};

/* A part of an answer. */
struct copy {
	struct nr_buffer buffer;
	uint8_t data[];
};

#define ROW(field, standard)                                                                   \
	{                                                                                      \
		.name = #field, .type = NR_PARAM_UINT, .offset = offsetof(struct flat, field), \
		.fallback = standard, .help = "see flat-disk.h",                               \
	}

static const struct nr_param params[] = {
	ROW(size, "65536"), ROW(min, "1"),  ROW(max, "1048576"),
	ROW(cut, "0"),      ROW(have, "0"), { .name = NULL },
};

static int flat_open(struct nr_layer *layer, struct nr_error *error)
{
	struct flat *f = layer->instance;

	LAYER_CHECK(f->size > 0 && f->size % f->min == 0);
	f->memory = calloc(1, f->size);
	LAYER_CHECK(f->memory);
	return 0;
}

static void flat_close(struct nr_layer *layer)
{
	struct flat *f = layer->instance;

	free(f->memory);
}

static int flat_describe(struct nr_layer *layer, struct nr_traits *t, struct nr_error *error)
{
	const struct flat *f = layer->instance;
	uint64_t have = f->have;

	t->size = f->size;
	t->block_min = (uint32_t)f->min;
	t->block_preferred = (uint32_t)nr_max(f->min, 4096);
	t->block_max = (uint32_t)f->max;
	for (unsigned i = 0; i < NR_CAP_COUNT; i++, have /= 3)
		t->support[i] = have % 3;
	/* The rules of traits (nbdring/limits.h). */
	t->support[NR_CAP_RESIZE] = NR_NONE;
	if (t->support[NR_CAP_FUA] == NR_EMULATE && t->support[NR_CAP_FLUSH] == NR_NONE)
		t->support[NR_CAP_FUA] = NR_NONE;
	if (t->support[NR_CAP_ZERO] != NR_NATIVE || t->support[NR_CAP_FAST_ZERO] == NR_EMULATE)
		t->support[NR_CAP_FAST_ZERO] = NR_NONE;
	return 0;
}

/* Is REQ what the contract promises? */
static void check_legal(const struct nr_layer *layer, const struct nr_request *req)
{
	static const enum nr_capability needs[NR_OPERATION_COUNT] = {
		[NR_FLUSH] = NR_CAP_FLUSH,     [NR_TRIM] = NR_CAP_TRIM,
		[NR_ZERO] = NR_CAP_ZERO,       [NR_CACHE] = NR_CAP_CACHE,
		[NR_EXTENTS] = NR_CAP_EXTENTS, [NR_RESIZE] = NR_CAP_RESIZE,
	};
	const struct nr_traits *t = &layer->traits;
	uint64_t bytes = 0;

	LAYER_CHECK(req->operation < NR_OPERATION_COUNT);
	if (req->operation != NR_READ && req->operation != NR_WRITE)
		LAYER_CHECK(t->support[needs[req->operation]] == NR_NATIVE);
	if (req->flags & NR_FUA)
		LAYER_CHECK(t->support[NR_CAP_FUA] == NR_NATIVE);
	if (req->flags & NR_FAST_ZERO)
		LAYER_CHECK(t->support[NR_CAP_FAST_ZERO] == NR_NATIVE);
	if (req->operation == NR_FLUSH) {
		LAYER_CHECK(req->offset == 0 && req->length == 0);
		return;
	}
	LAYER_CHECK(req->length > 0);
	LAYER_CHECK(nr_in_range(req->offset, req->length, t->size));
	LAYER_CHECK(nr_is_aligned(req->offset | req->length, t->block_min));
	if (req->operation != NR_READ && req->operation != NR_WRITE)
		return;
	LAYER_CHECK(req->length <= t->block_max);
	for (uint32_t i = 0; i < req->segment_count; i++)
		bytes += req->segments[i].length;
	LAYER_CHECK(bytes == (req->operation == NR_WRITE ? req->length : 0));
}

static bool is_zero(const uint8_t *data, uint64_t length)
{
	return data[0] == 0 && memcmp(data, data + 1, length - 1) == 0;
}

static void release(struct nr_buffer *buffer)
{
	free(buffer); /* it is the first member */
}

static void answer(const struct flat *f, struct nr_request *req)
{
	uint64_t part = f->cut ? f->cut : req->length;

	while ((req->length + part - 1) / part > NR_SEGMENTS_MAX)
		part *= 2;
	for (uint64_t at = 0; at < req->length; at += part) {
		const uint8_t *from = f->memory + req->offset + at;
		uint64_t length = nr_min(part, req->length - at);
		struct copy *copy;

		if (f->cut && is_zero(from, length)) {
			LAYER_CHECK(nr_answer_hole(req, length));
			continue;
		}
		copy = malloc(sizeof(*copy) + length);
		LAYER_CHECK(copy);
		copy->buffer.release = release;
		memcpy(copy->data, from, length);
		LAYER_CHECK(nr_answer_data(req, copy->data, length, &copy->buffer));
	}
}

static void extents(const struct flat *f, struct nr_request *req)
{
	uint64_t end = req->offset + req->length;

	for (uint64_t at = req->offset, next; at < end; at = next) {
		const uint8_t *from = f->memory + at;

		next = nr_min(nr_round_down(at, 512) + 512, end);
		if (!nr_extents_add(req->extents, next - at,
				    is_zero(from, next - at) ? NR_EXTENT_HOLE | NR_EXTENT_ZERO : 0))
			break;
	}
}

static void flat_submit(struct nr_layer *layer, struct nr_request *req)
{
	struct flat *f = layer->instance;

	check_legal(layer, req);
	if (req->operation == NR_READ)
		answer(f, req);
	else if (req->operation == NR_WRITE)
		nr_request_copy_out(req, 0, req->length, f->memory + req->offset);
	else if (req->operation == NR_ZERO)
		memset(f->memory + req->offset, 0, req->length);
	else if (req->operation == NR_TRIM)
		memset(f->memory + req->offset, TRIMMED, req->length);
	else if (req->operation == NR_EXTENTS)
		extents(f, req);
	nr_finish(layer, req, 0);
}

const struct nr_layer_type flat_disk_type = {
	.abi = NR_LAYER_ABI,
	.name = "flat",
	.summary = "memory with any traits",
	.kind = NR_BACKEND,
	.placement = NR_SPREAD,
	.params = params,
	.instance_size = sizeof(struct flat),
	.open = flat_open,
	.describe = flat_describe,
	.submit = flat_submit,
	.close = flat_close,
};
