/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A read-only disk that is put together from ranges of the disk below, with holes
 * between them: sparse members of archives, disks that are stored in pieces.
 *
 * The table is made in `open` and never changes.  A read in one range moves there and
 * back in place; one in a hole is answered at once; any other becomes children, a batch
 * at a time.  A layer hands its submit, done and child_done over to the functions of
 * that name, with its table; its scratch is struct nr_ranges_state.
 */
#ifndef FILTERS_RANGES_H
#define FILTERS_RANGES_H

#include "nbdring/layer.h"

#define NR_RANGES_BATCH 8u
#define NR_RANGES_MAX ((size_t)1 << 22) /* entries of a table, 24 bytes each */

struct nr_range {
	uint64_t offset; /* of the disk above */
	uint64_t length; /* never 0 */
	uint64_t below;  /* where the bytes are on the disk below */
};

/* All zeroes is an empty one. */
struct nr_ranges {
	struct nr_range *range;
	size_t count, room;
};

struct nr_ranges_part {
	struct nr_request *child; /* NULL: a hole */
	uint64_t length;
};

struct nr_ranges_state {
	uint64_t shift; /* in one range: how far it is moved, modulo 2^64 */
	uint64_t next;  /* in several: what lies before this offset is under way or done */
	uint32_t count; /* parts in the batch */
	uint32_t left;  /* of them under way */
	int error;      /* the first of a part */
	struct nr_ranges_part part[NR_RANGES_BATCH];
};

/*
 * Behind the last one, in order of offset; neighbours that are neighbours below, too,
 * become one.  A length of 0 is nothing.  -EINVAL: it overlaps the last one or an end
 * is over 2^63-1; -E2BIG: more than NR_RANGES_MAX; -ENOMEM.
 */
int nr_ranges_add(struct nr_ranges *ranges, uint64_t offset, uint64_t length, uint64_t below);
void nr_ranges_free(struct nr_ranges *ranges);

/*
 * Does the table fit what is below: a disk of T->size bytes and its blocks?  Then T
 * becomes that of a read-only disk of SIZE bytes.
 */
int nr_ranges_describe(const struct nr_ranges *ranges, uint64_t size, struct nr_traits *t,
		       struct nr_error *error);

void nr_ranges_submit(struct nr_layer *layer, const struct nr_ranges *ranges,
		      struct nr_request *req);
void nr_ranges_done(struct nr_layer *layer, struct nr_request *req);
void nr_ranges_child_done(struct nr_layer *layer, const struct nr_ranges *ranges,
			  struct nr_request *child);

#endif
