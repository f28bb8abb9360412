/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Mapfiles of GNU ddrescue: which parts of a disk were read and which were not.
 *
 * Text in, sorted ranges out.  Comments begin with '#'; the first line is the state
 * of the rescue, the others are blocks "position size status", in ascending order.
 * Blocks with the status '+' were rescued.
 */
#ifndef FILTERS_DDRESCUE_MAP_H
#define FILTERS_DDRESCUE_MAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "nbdring/error.h"

struct nr_ddrescue_range {
	uint64_t start, end; /* bytes; start < end */
};

/* What was rescued: ascending, neighbours are merged. */
struct nr_ddrescue_map {
	struct nr_ddrescue_range *range;
	size_t count;
};

/*
 * TEXT of LENGTH bytes, any bytes.  On failure MAP holds nothing, and the sentence
 * names the line.  Pure but for the memory.
 */
int nr_ddrescue_parse(struct nr_ddrescue_map *map, const char *text, size_t length,
		      struct nr_error *error);
void nr_ddrescue_free(struct nr_ddrescue_map *map);

/*
 * Are the bytes from OFFSET on rescued, and up to where is it so?  *END is where the
 * answer changes, UINT64_MAX if it does not.
 */
bool nr_ddrescue_rescued(const struct nr_ddrescue_map *map, uint64_t offset, uint64_t *end);

#endif
