/* SPDX-License-Identifier: BSD-3-Clause */
/* See peek.h. */
#include "filters/peek.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "nbdring/checked.h"

struct nr_peek *nr_peek_create(struct nr_layer *layer, struct nr_error *error)
{
	struct nr_peek *p = calloc(1, sizeof(*p));

	if (!p) {
		nr_error_system(error, -ENOMEM, "the headers of the file");
		return NULL;
	}
	p->layer = layer;
	p->size = nr_layer_size(layer->below);
	p->error = error;
	return p;
}

int nr_peek_cut_off(struct nr_peek *p)
{
	return nr_error_set(p->error, -EINVAL, "the file is cut off");
}

int nr_peek(struct nr_peek *p, uint64_t offset, size_t length, const uint8_t **bytes)
{
	int err = 0;

	assert(length <= NR_PEEK_BYTES);
	if (!nr_in_range(offset, length, p->size))
		return nr_peek_cut_off(p);
	if (offset < p->at || offset + length > p->at + p->length) {
		p->at = offset;
		p->length = (size_t)nr_min(NR_PEEK_BYTES, p->size - offset);
		err = nr_read_below(p->layer, offset, p->length, p->piece, p->error);
		if (err)
			p->length = 0;
	}
	*bytes = p->piece + (offset - p->at);
	return err;
}
