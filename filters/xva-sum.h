/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Checksums of the chunks of an XVA, and chunks as spans of blocks.h: "unpacked" by
 * copying, and right at their end or damaged.
 */
#ifndef FILTERS_XVA_SUM_H
#define FILTERS_XVA_SUM_H

#include "filters/blocks.h"

enum nr_xva_sum_kind { NR_XVA_NO_SUM, NR_XVA_SHA1, NR_XVA_XXH64, NR_XVA_SUM_KINDS };

/* Of a chunk. */
struct nr_xva_sum {
	uint8_t kind;      /* enum nr_xva_sum_kind */
	uint8_t value[20]; /* the longest; shorter ones end in zeroes */
};

/* All zeroes is an empty one. */
struct nr_xva_sums {
	struct nr_layer *layer;  /* who says so if one is wrong; NULL: nobody */
	_Atomic(uint64_t) *said; /* of which chunk it has, last: where it begins */
	struct nr_xva_sum *sum;  /* of the span with that number in `extra` */
	size_t count, room;
};

/* For a further span; -ENOMEM. */
int nr_xva_sums_add(struct nr_xva_sums *sums);
void nr_xva_sums_free(struct nr_xva_sums *sums);

/* What a file with this SUFFIX is; NR_XVA_NO_SUM: something else. */
enum nr_xva_sum_kind nr_xva_sum_kind(const char *suffix);
/* The TEXT of such a file into SUM; false: it is no checksum. */
bool nr_xva_sum_parse(const char *text, enum nr_xva_sum_kind kind, struct nr_xva_sum *sum);

/* Its context are the struct nr_xva_sums. */
extern const struct nr_codec nr_xva_codec;

#endif
