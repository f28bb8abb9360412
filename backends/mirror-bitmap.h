/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The file of a mirror's write-intent bitmap: which regions may differ between the legs,
 * and which legs have missed writes.
 *
 * It is made of blocks of 512 bytes, each of which a disk writes whole or not at all, and
 * each with a checksum.  All numbers are little-endian.
 *
 *   block 0   [0..7]     "NBDRMIR1"
 *             [8..15]    bytes of the disk
 *             [16..23]   bytes of a region, a power of two
 *             [24..27]   legs, 1 to NR_MIRROR_LEGS_MAX
 *             [28..31]   0
 *             [32..]     for each leg 16 bytes: [0..7] what it is called (nr_bitmap_hash of
 *                        its words), [8] 1 if it is out: it has missed writes; zeroes
 *             [508..511] CRC-32 of the 508 bytes before
 *   block 1…  [0..503]   4032 bits, from the lowest of byte 0 on, one for each region
 *             [504..507] the number of the block
 *             [508..511] CRC-32 of the 508 bytes before
 *
 * Here is what the bytes mean; reading and writing is the business of mirror-intent.c.
 */
#ifndef BACKENDS_MIRROR_BITMAP_H
#define BACKENDS_MIRROR_BITMAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "nbdring/error.h"

#define NR_MIRROR_LEGS_MAX 16u
#define NR_BITMAP_BLOCK 512u
#define NR_BITMAP_BITS 4032u /* of a block */
#define NR_BITMAP_WORDS (NR_BITMAP_BITS / 64)
#define NR_BITMAP_REGIONS_MAX (UINT64_C(1) << 24)
#define NR_BITMAP_REGION_MIN 65536u
#define NR_BITMAP_REGION_MAX (UINT64_C(1) << 40)

struct nr_bitmap_header {
	uint64_t size, region; /* bytes */
	uint32_t legs;
	uint64_t name[NR_MIRROR_LEGS_MAX];
	bool out[NR_MIRROR_LEGS_MAX];
};

/* Of the words that a leg was given by. */
uint64_t nr_bitmap_hash(const char *words);

uint64_t nr_bitmap_regions(uint64_t size, uint64_t region);
/* Blocks of the file, the header among them. */
uint64_t nr_bitmap_blocks(uint64_t regions);

/* BLOCK gets NR_BITMAP_BLOCK bytes. */
void nr_bitmap_put_header(uint8_t *block, const struct nr_bitmap_header *header);
void nr_bitmap_put_bits(uint8_t *block, uint32_t number, const uint64_t words[NR_BITMAP_WORDS]);

/* Put the checksum of a block right. */
void nr_bitmap_seal(uint8_t *block);

/* Is it a header, and a sane one?  BYTES is the length of the whole file. */
int nr_bitmap_get_header(const uint8_t *block, uint64_t bytes, struct nr_bitmap_header *header,
			 struct nr_error *error);
/* Bits for regions that there are not (REGIONS counts those of this block) are an error. */
int nr_bitmap_get_bits(const uint8_t *block, uint32_t number, uint64_t regions,
		       uint64_t words[NR_BITMAP_WORDS], struct nr_error *error);

/*
 * Is it what a power cut may have left of a file that was being made?  That gets its
 * length first, then its bits, and its header when all of them are stable.
 */
bool nr_bitmap_is_unfinished(const uint8_t *data, uint64_t bytes);

/* A whole file of BYTES at DATA; BITS has room for all regions, in words of whole blocks. */
int nr_bitmap_parse(const uint8_t *data, uint64_t bytes, struct nr_bitmap_header *header,
		    uint64_t **bits, struct nr_error *error);

#endif
