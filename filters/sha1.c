/* SPDX-License-Identifier: BSD-3-Clause */
/* See sha1.h. */
#include "filters/sha1.h"

#include <endian.h>
#include <string.h>

#define BLOCK 64u

static uint32_t rotate(uint32_t n, unsigned bits)
{
	return n << bits | n >> (32 - bits);
}

void nr_sha1_begin(struct nr_sha1 *s)
{
	*s = (struct nr_sha1){ .state = { 0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476,
					  0xc3d2e1f0 } };
}

static void take_block(struct nr_sha1 *s, const uint8_t *block)
{
	uint32_t a = s->state[0], b = s->state[1], c = s->state[2], d = s->state[3],
		 e = s->state[4], w[80];

	memcpy(w, block, BLOCK);
	for (unsigned i = 0; i < 16; i++)
		w[i] = be32toh(w[i]);
	for (unsigned i = 16; i < 80; i++)
		w[i] = rotate(w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16], 1);
	for (unsigned i = 0; i < 80; i++) {
		uint32_t f = i < 20   ? ((b & c) | (~b & d)) + 0x5a827999
			     : i < 40 ? (b ^ c ^ d) + 0x6ed9eba1
			     : i < 60 ? ((b & c) | (b & d) | (c & d)) + 0x8f1bbcdc
				      : (b ^ c ^ d) + 0xca62c1d6;
		uint32_t next = rotate(a, 5) + f + e + w[i];

		e = d;
		d = c;
		c = rotate(b, 30);
		b = a;
		a = next;
	}
	s->state[0] += a;
	s->state[1] += b;
	s->state[2] += c;
	s->state[3] += d;
	s->state[4] += e;
}

void nr_sha1_add(struct nr_sha1 *s, const void *data, size_t length)
{
	const uint8_t *p = data;
	size_t had = s->length % BLOCK;

	s->length += length;
	while (length > 0) {
		size_t part = length < BLOCK - had ? length : BLOCK - had;

		if (part == BLOCK) {
			take_block(s, p);
		} else {
			memcpy(s->rest + had, p, part);
			had += part;
			if (had == BLOCK)
				take_block(s, s->rest);
			had %= BLOCK;
		}
		p += part;
		length -= part;
	}
}

void nr_sha1_value(struct nr_sha1 *s, uint8_t value[NR_SHA1_BYTES])
{
	static const uint8_t padding[BLOCK] = { 0x80 };
	uint64_t bits = htobe64(s->length * 8);
	uint32_t word;

	nr_sha1_add(s, padding, 1 + (2 * BLOCK - 9 - s->length % BLOCK) % BLOCK);
	nr_sha1_add(s, &bits, sizeof(bits));
	for (unsigned i = 0; i < 5; i++) {
		word = htobe32(s->state[i]);
		memcpy(value + 4 * i, &word, sizeof(word));
	}
}
