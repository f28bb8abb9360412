/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Ranges that are being written, so that those which overlap are written one after the
 * other, in the order in which they came: legs would differ otherwise.
 *
 * A range waits for every earlier one that it overlaps, and for no other; so whoever is
 * first never waits, and there is no circle.  One worker uses a table.
 *
 * Ranges of up to a mebibyte, which is what writes are, are kept by where they begin: a
 * new one is compared with those that begin in the same mebibyte or next to it.
 */
#ifndef BACKENDS_MIRROR_RANGES_H
#define BACKENDS_MIRROR_RANGES_H

#include "nbdring/layer.h"

#define NR_MIRROR_BUCKETS 64u

/* In the scratch of a request. */
struct nr_mirror_range {
	uint64_t start, end; /* bytes */
	uint64_t order;      /* later ones have more */
	unsigned waits;      /* for so many earlier ones */
	struct nr_mirror_range *next, **at;
	struct nr_request *req;
};

struct nr_mirror_ranges {
	uint64_t order;
	uint64_t count;
	struct nr_mirror_range *bucket[NR_MIRROR_BUCKETS + 1]; /* the last: longer ones */
};

/* Put RANGE, with start, end and req set, into the table.  True: it need not wait. */
bool nr_mirror_ranges_add(struct nr_mirror_ranges *ranges, struct nr_mirror_range *range);

/*
 * It is over.  Those that waited for it alone are resumed (nr_resume), each in LAYER, which
 * has them.
 */
void nr_mirror_ranges_remove(struct nr_mirror_ranges *ranges, struct nr_mirror_range *range,
			     struct nr_layer *layer);

#endif
