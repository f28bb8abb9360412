/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Unpacking one block of a bzip2 file by itself.
 *
 * A block begins and ends at any bit.  It is put into a stream of its own: a header, its
 * bits moved to a byte's beginning, the mark of a stream's end, and the checksum of the
 * stream, which is that of its only block.
 */
#ifndef FILTERS_BZIP2_BLOCK_H
#define FILTERS_BZIP2_BLOCK_H

#include "filters/blocks.h"

#define NR_BZIP2_BEGIN UINT64_C(0x314159265359) /* how a block begins, 48 bits */
#define NR_BZIP2_END UINT64_C(0x177245385090)   /* how a stream ends; its checksum follows */
#define NR_BZIP2_MARK_BITS 48u
#define NR_BZIP2_BLOCK_MAX ((uint64_t)4 << 20) /* of the file, bytes; more than any has */

struct nr_bzip2_decoder;

/*
 * For a block of BITS bits, that of its first byte from SKIP (0 to 7) on.  NULL: no memory.
 */
struct nr_bzip2_decoder *nr_bzip2_begin(unsigned skip, uint64_t bits);
/* As nr_codec.step; the end is when all of it is used up and its checksum is right. */
int nr_bzip2_step(struct nr_bzip2_decoder *d, struct nr_codec_io *io);
/* The block's checksum, when all of it has been read. */
uint32_t nr_bzip2_sum(const struct nr_bzip2_decoder *d);
void nr_bzip2_free(struct nr_bzip2_decoder *d);

#endif
