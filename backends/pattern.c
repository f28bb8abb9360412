/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The backend `pattern`: a read-only disk on which every eight bytes, from a
 * multiple of eight on, hold their own offset as a 64-bit big-endian number.
 * Whoever reads it can tell of every byte whether it is the right one, which is
 * what tests of filters and clients want.
 *
 * Each answer is made in a buffer of the worker.  No state but the size, which
 * never changes: any number of workers.
 */
#include <endian.h>
#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "backends/backends.h"
#include "nbdring/checked.h"

#define WORD sizeof(uint64_t)

struct pattern {
	uint64_t size; /* bytes */
};

static const struct nr_param pattern_params[] = {
	{
		.name = "size",
		.type = NR_PARAM_SIZE,
		.flags = NR_PARAM_REQUIRED | NR_PARAM_MAIN,
		.offset = offsetof(struct pattern, size),
		.max = NR_SIZE_MAX,
		.value = "SIZE",
		.help = "Size of the disk",
		.manual =
			"The size of the disk that clients see, up to 2^63-1 bytes.  If it is not\n"
			"a multiple of 8, the last number is cut off.\n\n"
			"C<size=> may be left out: C<nbdring pattern 1G>.",
	},
	{ .name = NULL },
};

static int pattern_describe(struct nr_layer *layer, struct nr_traits *traits,
			    struct nr_error *error)
{
	const struct pattern *pattern = layer->instance;

	traits->size = pattern->size;
	traits->read_only = true;
	traits->multi_conn = true;
	traits->support[NR_CAP_CACHE] = NR_NATIVE;
	traits->support[NR_CAP_EXTENTS] = NR_NATIVE;
	return 0;
}

/* Bytes [FROM, FROM + LENGTH) of the word that starts at OFFSET. */
static void fill_part(uint8_t *to, uint64_t offset, size_t from, size_t length)
{
	uint64_t word = htobe64(offset);

	memcpy(to, (const uint8_t *)&word + from, length);
}

static void fill(uint8_t *to, uint64_t offset, uint64_t length)
{
	size_t inside = offset % WORD;

	if (inside) {
		size_t part = nr_min(WORD - inside, length);

		fill_part(to, offset - inside, inside, part);
		to += part;
		offset += part;
		length -= part;
	}
	for (; length >= WORD; to += WORD, offset += WORD, length -= WORD)
		fill_part(to, offset, 0, WORD);
	if (length)
		fill_part(to, offset, 0, length);
}

static int pattern_read(struct nr_request *req)
{
	struct nr_buffer *buffer;
	uint8_t *data;

	buffer = nr_buffer_get(req->worker, req->length, &data);
	if (!buffer)
		return -ENOMEM;
	fill(data, req->offset, req->length);
	/* Cannot fail: one segment that covers an empty answer. */
	nr_answer_data(req, data, req->length, buffer);
	return 0;
}

static void pattern_submit(struct nr_layer *layer, struct nr_request *req)
{
	int error = 0;

	if (req->operation == NR_READ)
		error = pattern_read(req);
	else if (req->operation == NR_EXTENTS)
		nr_extents_add(req->extents, req->length, 0);
	nr_finish(layer, req, error);
}

const struct nr_layer_type nr_pattern_type = {
	.abi = NR_LAYER_ABI,
	.name = "pattern",
	.summary = "read-only disk on which each word holds its own offset",
	.kind = NR_BACKEND,
	.placement = NR_SPREAD,
	.params = pattern_params,
	.instance_size = sizeof(struct pattern),
	.describe = pattern_describe,
	.submit = pattern_submit,
};
