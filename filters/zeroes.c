/* SPDX-License-Identifier: BSD-3-Clause */
/* See zeroes.h. */
#include "filters/zeroes.h"

#include <stdlib.h>
#include <string.h>

#include "nbdring/checked.h"

#define WORD 64u

bool nr_zeroes_reserve(struct nr_zeroes *zeroes, uint64_t grains)
{
	uint64_t room = nr_round_down(nr_min(grains, NR_GRAINS_MAX) + WORD - 1, WORD), *more;
	size_t had = (size_t)zeroes->room / WORD * 2, words = (size_t)room / WORD * 2;

	if (room <= zeroes->room)
		return true;
	/* Fresh memory of the system costs nothing before it is written to. */
	more = calloc(words, sizeof(*more));
	if (!more)
		return false;
	if (had)
		memcpy(more, zeroes->word, had * sizeof(*more));
	free(zeroes->word);
	zeroes->word = more;
	zeroes->room = room;
	return true;
}

void nr_zeroes_free(struct nr_zeroes *zeroes)
{
	free(zeroes->word);
	*zeroes = (struct nr_zeroes){ .word = NULL };
}

/* COUNT bits (1 to 64) from bit FIRST on. */
static uint64_t mask_of(uint64_t first, uint64_t count)
{
	return (count == WORD ? UINT64_MAX : (UINT64_C(1) << count) - 1) << first;
}

void nr_zeroes_set(struct nr_zeroes *zeroes, uint64_t first, uint64_t count, enum nr_grain grain)
{
	uint64_t end = first < zeroes->room ? first + nr_min(count, zeroes->room - first) : first;

	while (first < end) {
		uint64_t bit = first % WORD, now = nr_min(end - first, WORD - bit);
		uint64_t *known = &zeroes->word[first / WORD * 2], *zero = known + 1;
		uint64_t mask = mask_of(bit, now);

		*known = grain == NR_GRAIN_UNKNOWN ? *known & ~mask : *known | mask;
		*zero = grain == NR_GRAIN_ZERO ? *zero | mask : *zero & ~mask;
		first += now;
	}
}

/* Bit I: whether the Ith grain of the words at WORD is a GRAIN. */
static uint64_t matches(const uint64_t *word, enum nr_grain grain)
{
	return grain == NR_GRAIN_UNKNOWN ? ~word[0]
	       : grain == NR_GRAIN_ZERO  ? word[0] & word[1]
					 : word[0] & ~word[1];
}

static enum nr_grain look_up(const struct nr_zeroes *zeroes, uint64_t at)
{
	const uint64_t *word = &zeroes->word[at / WORD * 2];
	uint64_t mask = mask_of(at % WORD, 1);

	return !(word[0] & mask)  ? NR_GRAIN_UNKNOWN
	       : (word[1] & mask) ? NR_GRAIN_ZERO
				  : NR_GRAIN_DATA;
}

enum nr_grain nr_zeroes_run(const struct nr_zeroes *zeroes, uint64_t first, uint64_t limit,
			    uint64_t *count)
{
	uint64_t end, at = first;
	enum nr_grain grain;

	*count = limit;
	if (first >= zeroes->room)
		return NR_GRAIN_UNKNOWN;
	end = first + nr_min(limit, zeroes->room - first);
	grain = look_up(zeroes, first);
	while (at < end) {
		uint64_t other = ~matches(&zeroes->word[at / WORD * 2], grain) >> at % WORD;

		if (other) {
			at += (unsigned)__builtin_ctzll(other);
			break;
		}
		at = nr_round_down(at, WORD) + WORD;
	}
	*count = nr_min(at, end) - first;
	return grain;
}
