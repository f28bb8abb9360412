/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Looking at headers all over the file below, while a disk is opened: a few bytes here and
 * there, mostly in order, which are read in larger pieces.
 */
#ifndef FILTERS_PEEK_H
#define FILTERS_PEEK_H

#include "nbdring/layer.h"

#define NR_PEEK_BYTES 65536u

struct nr_peek {
	struct nr_layer *layer;
	uint64_t size; /* of the file below, bytes */
	struct nr_error *error;

	uint64_t at; /* what is in `piece` */
	size_t length;
	uint8_t piece[NR_PEEK_BYTES];
};

/* To be freed with free(); NULL and a sentence: no memory. */
struct nr_peek *nr_peek_create(struct nr_layer *layer, struct nr_error *error);

/*
 * LENGTH bytes, NR_PEEK_BYTES at most, at OFFSET, which are there until the next call.
 * Negative errno and a sentence: they are behind the end, or cannot be read.
 */
int nr_peek(struct nr_peek *p, uint64_t offset, size_t length, const uint8_t **bytes);

/* The sentence for a file that ends too early; -EINVAL. */
int nr_peek_cut_off(struct nr_peek *p);

#endif
