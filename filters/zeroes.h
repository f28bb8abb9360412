/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What is known of grains of a disk: that they are zeroes, or that they are not.
 *
 * Two bits for each grain of NR_GRAIN_BYTES: 4 MiB for a TiB.  Grains from
 * NR_GRAINS_MAX on are never known.  One thread at a time.
 */
#ifndef FILTERS_ZEROES_H
#define FILTERS_ZEROES_H

#include <stdbool.h>
#include <stdint.h>

#define NR_GRAIN_BYTES ((uint64_t)65536)
#define NR_GRAINS_MAX ((uint64_t)1 << 26) /* 16 MiB of memory, 4 TiB of disk */

enum nr_grain { NR_GRAIN_UNKNOWN, NR_GRAIN_DATA, NR_GRAIN_ZERO };

/* All zeroes is an empty one. */
struct nr_zeroes {
	uint64_t *word; /* pairs, for 64 grains each: those known, and those that are zeroes */
	uint64_t room;  /* grains; a multiple of 64 */
};

/* Room for GRAINS, of which no more than NR_GRAINS_MAX count.  False: memory is short. */
bool nr_zeroes_reserve(struct nr_zeroes *zeroes, uint64_t grains);
void nr_zeroes_free(struct nr_zeroes *zeroes);

/* COUNT grains from FIRST on; those without room stay unknown. */
void nr_zeroes_set(struct nr_zeroes *zeroes, uint64_t first, uint64_t count, enum nr_grain grain);

/* What grain FIRST is, and in *COUNT (1 to LIMIT) how many from there on are the same. */
enum nr_grain nr_zeroes_run(const struct nr_zeroes *zeroes, uint64_t first, uint64_t limit,
			    uint64_t *count);

#endif
