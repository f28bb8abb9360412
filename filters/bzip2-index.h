/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Where the blocks of a bzip2 file are (packed-index.h).  A span is a block; its first and
 * last byte are shared with what is before and behind it.
 */
#ifndef FILTERS_BZIP2_INDEX_H
#define FILTERS_BZIP2_INDEX_H

#include "filters/packed-index.h"

/* nr_index_state.bits: bits of the first byte that come before, and of the last behind. */
#define NR_BZIP2_BEFORE(bits) ((bits)&7u)
#define NR_BZIP2_BEHIND(bits) ((bits) >> 3)
#define NR_BZIP2_BITS_MAX 63u

/*
 * Find the blocks of the file below LAYER, and unpack all of them on the threads of
 * nr_compute.  Fills INDEX and adds the spans to BLOCKS.  MAX: refuse files that unpack to
 * more bytes than this.
 */
int nr_bzip2_index_make(struct nr_layer *layer, struct nr_index *index, struct nr_blocks *blocks,
			uint64_t max, struct nr_error *error);

#endif
