/* What is written, and whether what is read is that. See content.c. */
#ifndef BENCH_LOAD_CONTENT_H
#define BENCH_LOAD_CONTENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct content {
	uint64_t seed;
	unsigned zeroes; /* percent of it */
};

/* A fast, well mixed 64-bit permutation; also the core of the random numbers. */
static inline uint64_t mix64(uint64_t x)
{
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
	return x ^ (x >> 31);
}

/* Fills `length` bytes with what belongs at `offset` of the export. */
void content_fill(const struct content *c, uint64_t offset, uint8_t *to, size_t length);

/* Whether the bytes are what belongs at `offset`. */
bool content_matches(const struct content *c, uint64_t offset, const uint8_t *bytes, size_t length);

/* Whether nothing but zeroes belongs there, so that a hole is right. */
bool content_is_zero(const struct content *c, uint64_t offset, uint64_t length);

#endif
