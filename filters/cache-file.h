/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The file of a cache that outlives the server (cache-file).
 *
 *	[0, 4096)        a head (store-file.h)
 *	[4096, …)        a table: 8 bytes per slot, zero for an empty one; rounded up to 4096
 *	[start, …)       the slots
 *
 * An entry of the table: the number of the slot's block plus one, shifted left by one;
 * bit 0: it is not written below yet.  The head's own part, from byte 16 on:
 *
 *	[16..19] 1: in use, the table is of no meaning
 *	[20..23] bytes of a block
 *	[24..31] slots
 *	[32..39] bytes of the disk
 *	[40..43] CRC-32C of the table
 *	[44]     1: the identity of the disk is known (layer.h, nr_identity_below) …
 *	[48..79] … and this is it
 *
 * The table is only written when the export is closed, and is valid until the file is used
 * again: a server that did not end in order leaves a file that says "in use", whose blocks
 * the next one does not trust.  It need not: what was flushed is below.
 */
#ifndef FILTERS_CACHE_FILE_H
#define FILTERS_CACHE_FILE_H

#include "filters/cache-map.h"
#include "filters/store-file.h"
#include "nbdring/layer.h"

struct nr_cache_file {
	bool in_use;
	uint32_t block;
	uint64_t slots, size;
	uint32_t table_crc;
	bool identified;
	uint8_t identity[NR_IDENTITY_BYTES];
};

extern const struct nr_store_kind nr_cache_kind;

/* Bytes of the table, and where the slots begin. */
uint64_t nr_cache_file_table_bytes(uint64_t slots);
uint64_t nr_cache_file_start(uint64_t slots, uint32_t block);

void nr_cache_file_make_head(const struct nr_cache_file *file, uint8_t *head);

/* What HEAD says, of a file of LENGTH bytes that is called SHOWN. */
int nr_cache_file_read_head(const uint8_t *head, uint64_t length, const char *shown,
			    struct nr_cache_file *file, struct nr_error *error);

/* MAP as a table, of nr_cache_file_table_bytes. */
void nr_cache_file_make_table(const struct nr_cache_map *map, uint8_t *table);

/*
 * A table, which goes with FILE, into MAP, which is empty and has as many slots.
 * Whatever it holds, MAP is sound afterwards, but of no meaning on failure.
 */
int nr_cache_file_read_table(const struct nr_cache_file *file, const uint8_t *table,
			     const char *shown, struct nr_cache_map *map, struct nr_error *error);

#endif
