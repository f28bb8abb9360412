/*
 * Content that can be checked: each 8-byte word of the export has one right value, derived
 * from its offset and the seed. A block in the wrong place, torn, or from another seed is
 * seen; writing twice changes nothing, so requests may overlap. A zero byte now and then
 * belongs there, a zero word in practice only where the content says so: whole pieces of
 * 64 KiB, as many as were asked for. So holes do not pass as data, nor data as holes.
 */
#include "bench/load/content.h"

#include <string.h>

#define PIECE_SHIFT 16

static uint64_t word_at(const struct content *c, uint64_t index)
{
	uint64_t piece = index >> (PIECE_SHIFT - 3);

	if (c->zeroes && mix64(piece + ~c->seed) % 100 < c->zeroes)
		return 0;
	return mix64(index * 0x9e3779b97f4a7c15ULL + c->seed);
}

/* Bytes of the word that holds `offset`, from `offset` to its end, at most `length`. */
static size_t piece(const struct content *c, uint64_t offset, size_t length, uint8_t word[8],
		    const uint8_t **from)
{
	uint64_t value = word_at(c, offset / 8);
	size_t skip = offset % 8;

	memcpy(word, &value, sizeof(value));
	*from = word + skip;
	return length < 8 - skip ? length : 8 - skip;
}

void content_fill(const struct content *c, uint64_t offset, uint8_t *to, size_t length)
{
	while (length) {
		uint8_t word[8];
		const uint8_t *from;
		size_t n = piece(c, offset, length, word, &from);

		memcpy(to, from, n);
		to += n;
		offset += n;
		length -= n;
	}
}

bool content_matches(const struct content *c, uint64_t offset, const uint8_t *bytes, size_t length)
{
	while (length) {
		uint8_t word[8];
		const uint8_t *from;
		size_t n = piece(c, offset, length, word, &from);

		if (memcmp(bytes, from, n) != 0)
			return false;
		bytes += n;
		offset += n;
		length -= n;
	}
	return true;
}

bool content_is_zero(const struct content *c, uint64_t offset, uint64_t length)
{
	static const uint8_t zeroes[8];

	while (length) {
		size_t n = length < sizeof(zeroes) ? (size_t)length : sizeof(zeroes);

		if (!content_matches(c, offset, zeroes, n))
			return false;
		offset += n;
		length -= n;
	}
	return true;
}
