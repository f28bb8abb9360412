/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * See xxh64.h.  Four lanes take eight bytes each of a stripe of 32; at the end they
 * become one, which takes what is left, and is stirred.
 */
#include "filters/xxh64.h"

#include <endian.h>
#include <string.h>

#define STRIPE 32u

static const uint64_t prime[] = { UINT64_C(0x9e3779b185ebca87), UINT64_C(0xc2b2ae3d27d4eb4f),
				  UINT64_C(0x165667b19e3779f9), UINT64_C(0x85ebca77c2b2ae63),
				  UINT64_C(0x27d4eb2f165667c5) };

static uint64_t rotate(uint64_t n, unsigned bits)
{
	return n << bits | n >> (64 - bits);
}

static uint64_t get64(const uint8_t *p)
{
	uint64_t n;

	memcpy(&n, p, sizeof(n));
	return le64toh(n);
}

static uint64_t get32(const uint8_t *p)
{
	uint32_t n;

	memcpy(&n, p, sizeof(n));
	return le32toh(n);
}

static uint64_t round_of(uint64_t lane, uint64_t input)
{
	return rotate(lane + input * prime[1], 31) * prime[0];
}

static uint64_t merge(uint64_t all, uint64_t lane)
{
	return (all ^ round_of(0, lane)) * prime[0] + prime[3];
}

void nr_xxh64_begin(struct nr_xxh64 *x)
{
	*x = (struct nr_xxh64){ .lane = { prime[0] + prime[1], prime[1], 0, 0 - prime[0] } };
}

static const uint8_t *take_stripes(struct nr_xxh64 *x, const uint8_t *data, size_t count)
{
	uint64_t a = x->lane[0], b = x->lane[1], c = x->lane[2], d = x->lane[3];

	for (; count > 0; count--, data += STRIPE) {
		a = round_of(a, get64(data));
		b = round_of(b, get64(data + 8));
		c = round_of(c, get64(data + 16));
		d = round_of(d, get64(data + 24));
	}
	x->lane[0] = a;
	x->lane[1] = b;
	x->lane[2] = c;
	x->lane[3] = d;
	return data;
}

void nr_xxh64_add(struct nr_xxh64 *x, const void *data, size_t length)
{
	const uint8_t *p = data;
	size_t had = x->length % STRIPE, missing = STRIPE - had;

	x->length += length;
	if (had && length >= missing) {
		memcpy(x->rest + had, p, missing);
		take_stripes(x, x->rest, 1);
		p += missing;
		length -= missing;
		had = 0;
	}
	if (had == 0) {
		p = take_stripes(x, p, length / STRIPE);
		length %= STRIPE;
	}
	if (length > 0)
		memcpy(x->rest + had, p, length);
}

/* The last bytes, fewer than a stripe. */
static uint64_t take_rest(uint64_t all, const uint8_t *p, size_t length)
{
	for (; length >= 8; length -= 8, p += 8)
		all = rotate(all ^ round_of(0, get64(p)), 27) * prime[0] + prime[3];
	if (length >= 4) {
		all = rotate(all ^ get32(p) * prime[0], 23) * prime[1] + prime[2];
		length -= 4;
		p += 4;
	}
	for (; length > 0; length--, p++)
		all = rotate(all ^ *p * prime[4], 11) * prime[0];
	return all;
}

uint64_t nr_xxh64_value(const struct nr_xxh64 *x)
{
	uint64_t all = prime[4];

	if (x->length >= STRIPE) {
		all = rotate(x->lane[0], 1) + rotate(x->lane[1], 7) + rotate(x->lane[2], 12) +
		      rotate(x->lane[3], 18);
		for (unsigned i = 0; i < 4; i++)
			all = merge(all, x->lane[i]);
	}
	all = take_rest(all + x->length, x->rest, x->length % STRIPE);
	all = (all ^ all >> 33) * prime[1];
	all = (all ^ all >> 29) * prime[2];
	return all ^ all >> 32;
}
