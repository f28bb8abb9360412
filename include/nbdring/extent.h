/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Extents: what a layer says about ranges of its disk.
 *
 * The answer to NR_EXTENTS is a list of consecutive ranges that starts at the
 * request's offset.  It need not reach the end of what was asked: a layer may
 * stop early (the client asks again), but a successful answer holds at least
 * one extent.  Equal neighbours are merged as they are added.
 *
 * The memory of the list belongs to whoever made the request; one worker uses
 * it at a time.
 */
#ifndef NBDRING_EXTENT_H
#define NBDRING_EXTENT_H

#include <stdbool.h>
#include <stdint.h>

#pragma GCC visibility push(default) /* what modules call */

/* Status of base:allocation (protocol, "base:allocation metadata context"). */
#define NR_EXTENT_HOLE (1u << 0) /* not allocated; writing may fail with ENOSPC */
#define NR_EXTENT_ZERO (1u << 1) /* reads as zeroes */

struct nr_extent {
	uint64_t length; /* bytes, never 0 */
	uint64_t status; /* NR_EXTENT_* for base:allocation; else what the context says */
};

struct nr_extents {
	uint64_t start;    /* offset of the first extent, bytes */
	uint64_t end;      /* the list never reaches beyond this offset */
	uint64_t next;     /* where the next extent begins; start <= next <= end */
	uint32_t count;    /* extents in the list */
	uint32_t capacity; /* room in `extent` */
	struct nr_extent *extent;
};

/*
 * Add LENGTH bytes of STATUS at list->next; what lies beyond list->end is cut
 * off.  Returns false when the list takes no more (full, or `end` reached):
 * the layer stops then and finishes with success.
 */
bool nr_extents_add(struct nr_extents *list, uint64_t length, uint64_t status);

#pragma GCC visibility pop

#endif
