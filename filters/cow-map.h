/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The block map of an overlay: where the content of each block is.
 *
 * Two bits per block, in pages of NR_COW_PAGE_BLOCKS blocks.  A page is made when the
 * first of its blocks changes, and the tree over the pages grows with them, so that a
 * map of any size costs nothing until it is written to: then about 4 KiB for each GiB
 * touched, with blocks of 64 KiB (8 KiB if the map is kept in a file).  Where all of a
 * large range becomes a hole, the tree remembers that without pages.
 *
 * Any thread reads and changes the map at any time; nothing is ever taken out, so there
 * is nothing to wait for.  Who changes the same block at the same time is settled by
 * whoever uses the map (filters/rangelock.h).
 *
 * For maps that are kept in a file, pages that have changed since they were last asked
 * for are in a list.
 */
#ifndef FILTERS_COW_MAP_H
#define FILTERS_COW_MAP_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum nr_cow_block {
	NR_COW_BASE, /* in the base */
	NR_COW_DATA, /* in the overlay */
	NR_COW_ZERO, /* zeroes; the overlay has room for it, and zeroes there */
	NR_COW_HOLE, /* zeroes; the overlay has nothing there, and reads as zeroes */
};

#define NR_COW_PAGE_WORDS 508u
#define NR_COW_WORD_BLOCKS 32u
#define NR_COW_PAGE_BLOCKS (NR_COW_PAGE_WORDS * NR_COW_WORD_BLOCKS)

struct nr_cow_page {
	_Atomic uint64_t word[NR_COW_PAGE_WORDS];
	/* Only of maps that are kept in a file: */
	uint64_t index;
	_Atomic bool listed;       /* in the list of changed pages */
	struct nr_cow_page *next;  /* there */
	struct nr_cow_page *taken; /* the next one in a list that was asked for */
	uint64_t version;          /* of what is in the file; 0: nothing is */
	uint64_t copy[];           /* NR_COW_PAGE_WORDS, as they were when last asked for */
};

struct nr_cow_map {
	uint64_t blocks, pages;
	unsigned height; /* levels of nodes over the pages; at least 1 */
	bool kept;       /* in a file */
	_Atomic(void *) root;
	_Atomic(struct nr_cow_page *) changed;
};

/* All blocks are in the base.  KEPT: changes are listed. */
void nr_cow_map_init(struct nr_cow_map *map, uint64_t blocks, bool kept);
void nr_cow_map_fini(struct nr_cow_map *map);

enum nr_cow_block nr_cow_map_get(const struct nr_cow_map *map, uint64_t block);

/*
 * The state of BLOCK, and in *STOP where those that follow it are in another, END at
 * the latest.  After many pages it stops earlier, so that no call takes long.
 */
enum nr_cow_block nr_cow_map_run(const struct nr_cow_map *map, uint64_t block, uint64_t end,
				 uint64_t *stop);

/*
 * Blocks from FROM to END are STATE from now on.  Returns how far it came: END, or less
 * when memory is short (*ERROR is -ENOMEM) or because it has done enough for a while
 * (*ERROR is 0: call again with that).
 */
uint64_t nr_cow_map_set(struct nr_cow_map *map, uint64_t from, uint64_t end,
			enum nr_cow_block state, int *error);

/*
 * Pages that have changed since the last call, linked by `taken`, with what they hold now
 * in `copy`.  One caller at a time.
 */
struct nr_cow_page *nr_cow_map_take_changed(struct nr_cow_map *map);

/* PAGE has changed; or it could not be stored, and is still to be. */
void nr_cow_map_give_back(struct nr_cow_map *map, struct nr_cow_page *page);

/* While nobody uses the map: page INDEX, made if it is not there; NULL: no memory. */
struct nr_cow_page *nr_cow_map_page(struct nr_cow_map *map, uint64_t index);

#endif
