/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Where unpacking an lz4 file can begin (packed-index.h): at a block that needs nothing of
 * what comes before, or at any with the last 64 KiB before it for a window.
 *
 * A span is one block or several that follow each other, with their headers and checksums;
 * in a legacy frame it is one block without its header.  What a frame has around its
 * blocks belongs to no span.
 */
#ifndef FILTERS_LZ4_INDEX_H
#define FILTERS_LZ4_INDEX_H

#include "filters/packed-index.h"

/* nr_index_state.bits: how the span's frame is made. */
#define NR_LZ4_SIZE_ID 7u /* of the longest block, 4 (64 KiB) to 7 (4 MiB); 0: a legacy frame */
#define NR_LZ4_CHECKED 8u /* blocks have checksums */
#define NR_LZ4_LINKED 16u /* blocks refer to what comes before them */
#define NR_LZ4_BITS_MAX 31u

#define NR_LZ4_WINDOW 65536u
#define NR_LZ4_LEGACY_BLOCK ((uint32_t)8 << 20)

/*
 * Find the blocks of the file below LAYER.  Fills INDEX and adds the spans to BLOCKS.
 * MAX: refuse files that unpack to more bytes than this.
 */
int nr_lz4_index_make(struct nr_layer *layer, struct nr_index *index, struct nr_blocks *blocks,
		      uint64_t max, struct nr_error *error);

#endif
