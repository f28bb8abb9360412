/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Arithmetic on offsets and lengths that cannot wrap.
 *
 * Offsets and lengths are 64-bit everywhere inside the server; 32-bit exists
 * on the wire only.  Every addition or rounding of values that came from a
 * client, a file or a parameter goes through these helpers.
 */
#ifndef NBDRING_CHECKED_H
#define NBDRING_CHECKED_H

#include <stdbool.h>
#include <stdint.h>

/* Largest size of an export: what off_t can address. */
#define NR_SIZE_MAX INT64_MAX

/* *SUM = A + B; false when that does not fit (then *SUM is not to be used). */
static inline bool nr_add(uint64_t a, uint64_t b, uint64_t *sum)
{
	return !__builtin_add_overflow(a, b, sum);
}

/* *PRODUCT = A * B; false when that does not fit. */
static inline bool nr_mul(uint64_t a, uint64_t b, uint64_t *product)
{
	return !__builtin_mul_overflow(a, b, product);
}

/* Is [OFFSET, OFFSET + LENGTH) inside [0, SIZE)?  Never overflows. */
static inline bool nr_in_range(uint64_t offset, uint64_t length, uint64_t size)
{
	return offset <= size && length <= size - offset;
}

static inline bool nr_is_power_of_2(uint64_t n)
{
	return n != 0 && (n & (n - 1)) == 0;
}

/* N rounded down to a multiple of ALIGN (a power of two). */
static inline uint64_t nr_round_down(uint64_t n, uint64_t align)
{
	return n & ~(align - 1);
}

/* *UP = N rounded up to a multiple of ALIGN (a power of two); false if it does not fit. */
static inline bool nr_round_up(uint64_t n, uint64_t align, uint64_t *up)
{
	if (!nr_add(n, align - 1, up))
		return false;
	*up = nr_round_down(*up, align);
	return true;
}

static inline bool nr_is_aligned(uint64_t n, uint64_t align)
{
	return (n & (align - 1)) == 0;
}

static inline uint64_t nr_min(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static inline uint64_t nr_max(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

#endif
