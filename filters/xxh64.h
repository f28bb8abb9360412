/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * XXH64 with seed 0, the checksum of zstd's frames and tables and of XCP-ng's chunks: of
 * bytes that come in pieces.  Not against those who mean harm.
 */
#ifndef FILTERS_XXH64_H
#define FILTERS_XXH64_H

#include <stddef.h>
#include <stdint.h>

struct nr_xxh64 {
	uint64_t lane[4];
	uint64_t length;  /* so far, bytes */
	uint8_t rest[32]; /* what is not a whole stripe, length % 32 bytes */
};

void nr_xxh64_begin(struct nr_xxh64 *x);
void nr_xxh64_add(struct nr_xxh64 *x, const void *data, size_t length);
uint64_t nr_xxh64_value(const struct nr_xxh64 *x);

#endif
