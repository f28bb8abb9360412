/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Which range of a disk is which range of the disk below, for the filter `map`.
 *
 * Text becomes ranges, one per line or parameter:
 *
 *	START-END:DEST        bytes START to END, both included, are those from DEST on
 *	START+LENGTH:DEST     the same with a length
 *
 * Numbers are bytes, with K, M, G, T, P, E (powers of 1024), s (512) or b behind them
 * where wanted.  What no range names stays where it is.
 *
 * Pure: no I/O, no state but the table.  Read-only once nr_map_table_sort was called.
 */
#ifndef FILTERS_MAP_TABLE_H
#define FILTERS_MAP_TABLE_H

#include <stddef.h>
#include <stdint.h>

#include "nbdring/error.h"

struct nr_map_range {
	uint64_t start, length; /* bytes; length is never 0 */
	uint64_t dest;
};

/* All zeroes is an empty one. */
struct nr_map_table {
	struct nr_map_range *range;
	size_t count, room;
};

void nr_map_table_free(struct nr_map_table *table);

/* Add what one range in words says. */
int nr_map_table_add(struct nr_map_table *table, const char *text, size_t length,
		     struct nr_error *error);

/* Add a file of them: a range per line, spaces around it, # begins a comment. */
int nr_map_table_add_lines(struct nr_map_table *table, const char *text, size_t length,
			   struct nr_error *error);

/* Put them in order; -EINVAL if two of them overlap. */
int nr_map_table_sort(struct nr_map_table *table, struct nr_error *error);

/*
 * Does every byte of a disk of SIZE bytes lead to one of the BELOW bytes there are, and
 * every range keep to blocks of BLOCK bytes (a power of two)?
 */
int nr_map_table_check(const struct nr_map_table *table, uint64_t size, uint64_t below,
		       uint32_t block, struct nr_error *error);

/*
 * Where the byte at OFFSET is below.  *RUN: so many bytes from it on follow each other
 * there.
 */
uint64_t nr_map_table_find(const struct nr_map_table *table, uint64_t offset, uint64_t *run);

#endif
