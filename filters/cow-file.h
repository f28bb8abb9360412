/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The filter `cow`: the file of an overlay that stays.
 *
 *	head (store-file.h), of which its own are
 *	  [16..23] size of the disk        [24..31] pages of the block map
 *	  [32..39] where the data begins   [40..43] size of a block
 *	  [44..47] 1: it was closed in order, 0: it is open, or was not
 *	places for the pages of the block map, two for each
 *	data: the store, from `data` on
 *
 * A page that has changed is written to the one of its places that holds the older
 * version, so a power cut in the middle of that leaves the other one:
 *	[0..7] version, from 1 on; the place is that number modulo 2
 *	[8..15] index of the page   [16..19] CRC-32C, with zeroes here   [20..31] zeroes
 *	[32..] two bits for each block, the first one lowest (enum nr_cow_block)
 */
#ifndef FILTERS_COW_FILE_H
#define FILTERS_COW_FILE_H

#include "filters/cow-map.h"
#include "filters/store-file.h"

#define NR_COW_PLACE_BYTES 4096u
#define NR_COW_BLOCKS_MAX (UINT64_C(1) << 32) /* of a disk with an overlay in a file */

struct nr_cow_head {
	uint64_t size, pages, data;
	uint32_t block;
	bool clean;
};

extern const struct nr_store_kind nr_cow_kind;

/* What HEAD has to say of a disk of SIZE bytes in blocks of BLOCK. */
void nr_cow_head_fill(struct nr_cow_head *head, uint64_t size, uint32_t block);
void nr_cow_head_write(const struct nr_cow_head *head, uint8_t *bytes);

/* From NR_STORE_HEAD_BYTES at BYTES, of a file that is LENGTH bytes long. */
int nr_cow_head_read(struct nr_cow_head *head, const uint8_t *bytes, uint64_t length,
		     const char *shown, struct nr_error *error);

/* Where version VERSION of page INDEX is, or belongs. */
uint64_t nr_cow_place_at(uint64_t index, uint64_t version);

/* The place of PAGE with what is in `copy`, as its next version. */
void nr_cow_place_write(const struct nr_cow_page *page, uint8_t *place);

/*
 * Page INDEX of MAP from its two places at PLACES, one behind the other.  CLEAN: none of
 * them may be damaged; otherwise one may, which was being written: *TORN is its number,
 * or -1.
 */
int nr_cow_place_read(struct nr_cow_map *map, uint64_t index, const uint8_t *places, bool clean,
		      int *torn, const char *shown, struct nr_error *error);

#endif
