/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * xor: every byte of the disk is stored xored with a key.
 *
 * The worked example of docs/layers/writing.md, and the module that the tests load:
 * a whole filter in one file, with a parameter, buffers of its own in both
 * directions, and everything put back on the way up.
 */
#include <errno.h>

#include "nbdring/checked.h"
#include "nbdring/layer.h"

struct xor { uint64_t key; };

/* What is put away while a write is below. */
struct scratch {
	struct nr_segment *segments;
	uint32_t count;
	struct nr_segment ours;
};

static const struct nr_param params[] = {
	{
		.name = "key",
		.type = NR_PARAM_UINT,
		.offset = offsetof(struct xor, key),
		.fallback = "90",
		.max = 255,
		.value = "N",
		.help = "what each byte is xored with",
	},
	{ .name = NULL },
};

/* A hole below would read as key bytes: nothing here may be called zero. */
static int describe(struct nr_layer *layer, struct nr_traits *t, struct nr_error *error)
{
	t->support[NR_CAP_ZERO] = NR_EMULATE;
	t->support[NR_CAP_FAST_ZERO] = NR_NONE;
	t->support[NR_CAP_TRIM] = NR_EMULATE;
	t->support[NR_CAP_EXTENTS] = NR_EMULATE;
	return 0;
}

/* The bytes of REQ, xored, in memory of our own; NULL: there is none. */
static struct nr_buffer *xored(struct nr_layer *layer, struct nr_request *req, uint8_t **data)
{
	const struct xor *xor = layer->instance;
	struct nr_buffer *buffer = nr_buffer_get(req->worker, req->length, data);

	if (!buffer)
		return NULL;
	nr_request_copy_out(req, 0, req->length, *data);
	for (uint64_t i = 0; i < req->length; i++)
		(*data)[i] ^= (uint8_t) xor->key;
	return buffer;
}

static void submit(struct nr_layer *layer, struct nr_request *req)
{
	struct scratch *s = nr_scratch(layer, req);
	uint8_t *data;

	if (req->operation == NR_WRITE) {
		struct nr_buffer *buffer = xored(layer, req, &data);

		if (!buffer) {
			nr_finish(layer, req, -ENOMEM);
			return;
		}
		s->segments = req->segments;
		s->count = req->segment_count;
		s->ours = (struct nr_segment){ data, req->length, buffer };
		req->segments = &s->ours;
		req->segment_count = 1;
	}
	nr_pass(layer, req);
}

static void done(struct nr_layer *layer, struct nr_request *req)
{
	struct scratch *s = nr_scratch(layer, req);
	uint8_t *data;

	if (req->operation == NR_WRITE) {
		s->ours.owner->release(s->ours.owner);
		req->segments = s->segments;
		req->segment_count = s->count;
	} else if (req->operation == NR_READ && !req->error) {
		struct nr_buffer *buffer = xored(layer, req, &data);

		if (!buffer) {
			nr_finish(layer, req, -ENOMEM);
			return;
		}
		nr_answer_clear(req);
		nr_answer_data(req, data, req->length, buffer);
	}
	nr_finish(layer, req, req->error);
}

static const struct nr_layer_type xor_type = {
	.abi = NR_LAYER_ABI,
	.name = "xor",
	.summary = "stores every byte xored with a key",
	.kind = NR_FILTER,
	.placement = NR_SPREAD,
	.params = params,
	.instance_size = sizeof(struct xor),
	.request_size = sizeof(struct scratch),
	.describe = describe,
	.submit = submit,
	.done = done,
};

__attribute__((visibility("default"))) const struct nr_layer_type *nbdring_layer(void);

const struct nr_layer_type *nbdring_layer(void)
{
	return &xor_type;
}
