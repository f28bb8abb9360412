/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Inside of blocks.h: where spans and cells are, and what is known of their grains.
 * Pure; one thread at a time.
 */
#ifndef FILTERS_BLOCKS_MAP_H
#define FILTERS_BLOCKS_MAP_H

#include "filters/blocks.h"

#define NR_BLOCKS_STEPS_MAX 4096u /* runs of grains that one request looks at in a row */

struct nr_cell;

/* The span that OFFSET is in. */
size_t nr_blocks_span_of(const struct nr_blocks *b, uint64_t offset);
uint64_t nr_blocks_span_end(const struct nr_blocks *b, size_t span);
/* Is it one cell? */
bool nr_blocks_is_whole(const struct nr_blocks *b, size_t span);
/* Where the cell of OFFSET, which is in SPAN, begins, and *END. */
uint64_t nr_blocks_cell_of(const struct nr_blocks *b, size_t span, uint64_t offset, uint64_t *end);

/*
 * What is known of OFFSET, which is in SPAN; *TO is where that ends: with the span, or at
 * END.
 */
enum nr_grain nr_blocks_known_at(const struct nr_blocks *b, size_t span, uint64_t offset,
				 uint64_t end, uint64_t *to);
/* Where what is known to be zeroes from OFFSET on ends: OFFSET if it is not, at most END. */
uint64_t nr_blocks_skip_zeroes(const struct nr_blocks *b, uint64_t offset, uint64_t end);
/* Is SPAN to be decoded only to see whether it is zeroes? */
bool nr_blocks_is_worth_it(const struct nr_blocks *b, size_t span);

/* A cell of SPAN is decoded. */
void nr_blocks_remember(struct nr_blocks *b, size_t span, const struct nr_cell *cell);
/* It cannot be: what was not known before is data, as far as anybody can tell. */
void nr_blocks_doubt(struct nr_blocks *b, size_t span, const struct nr_cell *cell);

#endif
