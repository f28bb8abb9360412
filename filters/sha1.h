/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * SHA-1 (FIPS 180-4), the checksum of XenServer's chunks: of bytes that come in pieces.
 * Good for finding damage, no longer against those who mean harm.
 */
#ifndef FILTERS_SHA1_H
#define FILTERS_SHA1_H

#include <stddef.h>
#include <stdint.h>

#define NR_SHA1_BYTES 20u

struct nr_sha1 {
	uint32_t state[5];
	uint64_t length;  /* so far, bytes */
	uint8_t rest[64]; /* what is not a whole block, length % 64 bytes */
};

void nr_sha1_begin(struct nr_sha1 *s);
void nr_sha1_add(struct nr_sha1 *s, const void *data, size_t length);
/* Ends it. */
void nr_sha1_value(struct nr_sha1 *s, uint8_t value[NR_SHA1_BYTES]);

#endif
