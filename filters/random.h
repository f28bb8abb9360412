/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Chance that can be repeated: the same seed gives the same numbers.
 *
 * A number is a function of the seed and of an index (splitmix64), so there is no
 * state to share between workers: a filter counts its requests with an atomic and
 * draws the number of that count.  With one connection and one request at a time a
 * run repeats exactly; with several the same numbers are drawn, by whichever request
 * comes in that order.
 */
#ifndef FILTERS_RANDOM_H
#define FILTERS_RANDOM_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* The number INDEX (from 0) of the sequence that SEED begins. */
static inline uint64_t nr_random_at(uint64_t seed, uint64_t index)
{
	uint64_t z = seed + (index + 1) * UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

/* The next one of a sequence that several threads draw from. */
static inline uint64_t nr_random_next(uint64_t seed, _Atomic uint64_t *drawn)
{
	return nr_random_at(seed, atomic_fetch_add_explicit(drawn, 1, memory_order_relaxed));
}

/* NUMBER brought to 0 … 1, 1 excluded. */
static inline double nr_random_unit(uint64_t number)
{
	return (double)(number >> 11) * 0x1p-53;
}

/* Does NUMBER say yes where that has the probability CHANCE (0 to 1)? */
static inline bool nr_random_hit(uint64_t number, double chance)
{
	return nr_random_unit(number) < chance;
}

/* NUMBER brought to 0 … LIMIT - 1; LIMIT 0 gives 0. */
static inline uint64_t nr_random_below(uint64_t number, uint64_t limit)
{
	return (uint64_t)(((unsigned __int128)number * limit) >> 64);
}

#endif
