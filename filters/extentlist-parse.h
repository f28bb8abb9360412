/* SPDX-License-Identifier: BSD-3-Clause */
/* The text of an extent list, taken apart.  No files here, so that it can be fuzzed. */
#ifndef FILTERS_EXTENTLIST_PARSE_H
#define FILTERS_EXTENTLIST_PARSE_H

#include <stddef.h>
#include <stdint.h>

#include "nbdring/error.h"

struct nr_listed_extent {
	uint64_t offset, length; /* bytes; length is not 0, the end at most 2^63-1 */
	uint64_t status;         /* NR_EXTENT_* */
	unsigned line;           /* where it stands, from 1 */
};

struct nr_extentlist {
	size_t count;
	struct nr_listed_extent *extent; /* ascending, without overlap */
};

/*
 * Parse the LENGTH bytes at TEXT, which need not end with a NUL: a line per
 * extent, "OFFSET LENGTH [TYPE]", empty lines and comments from # on.  On failure
 * LIST is empty and the error names the line.  Any thread.
 */
int nr_extentlist_parse(struct nr_extentlist *list, const char *text, size_t length,
			struct nr_error *error);
void nr_extentlist_free(struct nr_extentlist *list);

#endif
