/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The cells of blocks.h: decoded memory that is kept as long as there is room for it.
 *
 * A cell is made empty, filled by whoever made it, published, found by others, and goes
 * when room is wanted for another, the one longest unused first.  Answers that point
 * into it keep its memory until they are sent.  One thread at a time.
 */
#ifndef FILTERS_CELLS_H
#define FILTERS_CELLS_H

#include "nbdring/layer.h"

#define NR_CELL_GRAINS 1024u /* parts of a cell that are known to be zero or not */
#define NR_CELL_BUCKETS 4096u

struct nr_cells;

struct nr_cell {
	struct nr_buffer buffer; /* first: answers know the cell by it */
	struct nr_cells *cells;
	uint64_t start, length; /* of the disk, bytes */
	uint8_t *data;          /* NULL: it is all zeroes */
	size_t mapped;          /* bytes of memory */
	unsigned references;    /* of answers */
	bool ready;             /* published */
	bool gone;              /* out of the table; freed with the last reference */
	uint64_t grain;         /* bytes; NR_GRAIN_BYTES times a power of two */
	uint64_t zero[NR_CELL_GRAINS / 64];
	struct nr_cell *chain;         /* in a bucket */
	struct nr_cell *older, *newer; /* by use; ready ones only */
};

struct nr_cells {
	uint64_t max;    /* bytes */
	uint64_t used;   /* of all cells there are, gone ones with references too */
	uint64_t pinned; /* of those with references */
	struct nr_cell *oldest, *newest;
	struct nr_cell *bucket[NR_CELL_BUCKETS];
};

/* The cell that begins at START, ready or being filled; NULL: none. */
struct nr_cell *nr_cells_find(struct nr_cells *cells, uint64_t start);
/* An empty one; NULL when there is no room. */
struct nr_cell *nr_cells_make(struct nr_cells *cells, uint64_t start, uint64_t length);
/* Find out which parts are zeroes; any thread, before it is published. */
void nr_cell_find_zeroes(struct nr_cell *cell);
bool nr_cell_grain_is_zero(const struct nr_cell *cell, uint64_t grain);
void nr_cells_publish(struct nr_cell *cell);
/* It could not be filled. */
void nr_cells_drop(struct nr_cell *cell);
void nr_cells_free(struct nr_cells *cells);

/*
 * Answer REQ, a read, with LENGTH bytes from byte FROM of the cell, which is ready, on.
 * False: memory is short.
 */
bool nr_cell_answer(struct nr_cell *cell, struct nr_request *req, uint64_t from, uint64_t length);

#endif
