/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Chance, from one 64-bit seed: xoshiro256** started by splitmix64.  Integers
 * only, so that every machine draws the same.
 */
#ifndef TESTS_SIM_RANDOM_H
#define TESTS_SIM_RANDOM_H

#include <stdint.h>

struct sim_random {
	uint64_t s[4];
};

static inline uint64_t sim_splitmix(uint64_t *state)
{
	uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	return z ^ z >> 31;
}

static inline void sim_random_start(struct sim_random *r, uint64_t seed)
{
	for (unsigned i = 0; i < 4; i++)
		r->s[i] = sim_splitmix(&seed);
}

static inline uint64_t sim_random_rotate(uint64_t x, unsigned by)
{
	return x << by | x >> (64 - by);
}

static inline uint64_t sim_random_next(struct sim_random *r)
{
	uint64_t *s = r->s, result = sim_random_rotate(s[1] * 5, 7) * 9, t = s[1] << 17;

	s[2] ^= s[0];
	s[3] ^= s[1];
	s[1] ^= s[2];
	s[0] ^= s[3];
	s[2] ^= t;
	s[3] = sim_random_rotate(s[3], 45);
	return result;
}

#endif
