/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Where inflating a gzip file can begin: the state of the decoder every few MiB, which
 * is the last 32 KiB it has put out (packed again) and how many bits of a byte are used.
 *
 * It is made by inflating all of the file once, which also checks it.  It can be put
 * into a file and had from there.
 */
#ifndef FILTERS_GZIP_INDEX_H
#define FILTERS_GZIP_INDEX_H

#include "filters/blocks.h"

#define NR_GZIP_SPAN ((uint64_t)4 << 20) /* output from one state to the next, at least */

struct nr_gzip_state {
	uint8_t *window; /* packed; NULL: a member begins here */
	uint32_t packed; /* bytes */
	uint32_t length; /* unpacked, 1 to 32768 */
	uint32_t bits;   /* of the byte where the span begins that belong to it, 0: all */
};

/* The state of a span is state[span->extra]. */
struct nr_gzip_index {
	struct nr_gzip_state *state;
	size_t count, room;
	uint64_t bytes; /* of packed windows */
};

/*
 * Inflate the file below LAYER.  Fills INDEX and adds the spans to BLOCKS.  MAX: refuse
 * to inflate more bytes than this.
 */
int nr_gzip_index_make(struct nr_layer *layer, struct nr_gzip_index *index,
		       struct nr_blocks *blocks, uint64_t max, struct nr_error *error);
void nr_gzip_index_free(struct nr_gzip_index *index);

/*
 * From the file PATH, if it was saved for the file below: else -ESTALE, or what went
 * wrong, with a sentence, and nothing is left in INDEX and BLOCKS.
 */
int nr_gzip_index_load(struct nr_layer *layer, struct nr_gzip_index *index,
		       struct nr_blocks *blocks, const char *path, struct nr_error *error);
int nr_gzip_index_save(struct nr_layer *layer, const struct nr_gzip_index *index,
		       const struct nr_blocks *blocks, const char *path, struct nr_error *error);

/* Add a state (WINDOW is copied, packed) or a member (LENGTH 0); where it is in INDEX. */
int nr_gzip_index_add(struct nr_gzip_index *index, const uint8_t *window, uint32_t length,
		      uint32_t bits, size_t *where);

#endif
