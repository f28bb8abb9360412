/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Where inflating a gzip file can begin (packed-index.h): the state of the decoder every
 * few MiB, which is what is needed of the last 32 KiB it has put out (gzip-window.h) and
 * how many bits of a byte are used.
 */
#ifndef FILTERS_GZIP_INDEX_H
#define FILTERS_GZIP_INDEX_H

#include "filters/gzip-window.h"
#include "filters/packed-index.h"

#define NR_GZIP_SPAN ((uint64_t)2 << 20) /* output from one state to the next, at least */

/*
 * Inflate the file below LAYER.  Fills INDEX and adds the spans to BLOCKS.  MAX: refuse
 * to inflate more bytes than this.  A state without a window is where a member begins;
 * the bits of the others are how many of the byte where the span begins belong to it, 0: all.
 */
int nr_gzip_index_make(struct nr_layer *layer, struct nr_index *index, struct nr_blocks *blocks,
		       uint64_t max, struct nr_error *error);

#endif
