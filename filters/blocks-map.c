/* SPDX-License-Identifier: BSD-3-Clause */
/* See blocks-map.h. */
#include "filters/blocks-map.h"

#include <errno.h>
#include <stdlib.h>

#include "filters/cells.h"
#include "nbdring/checked.h"

#define HEADERS_BYTES 128u /* of a span of zeroes, whatever the format */

static uint64_t grains_of(uint64_t length)
{
	return length / NR_GRAIN_BYTES + (length % NR_GRAIN_BYTES != 0);
}

void nr_blocks_know(struct nr_blocks *b, uint64_t n, bool zero)
{
	uint64_t grain = b->grains + n;

	if (grain >= b->zeroes.room && grain < NR_GRAINS_MAX)
		(void)nr_zeroes_reserve(&b->zeroes, nr_max(4096, 2 * b->zeroes.room));
	nr_zeroes_set(&b->zeroes, grain, 1, zero ? NR_GRAIN_ZERO : NR_GRAIN_DATA);
}

int nr_blocks_add(struct nr_blocks *b, uint64_t length, uint64_t in, uint64_t in_length,
		  uint64_t extra)
{
	uint64_t size;

	if (length == 0)
		return 0;
	if (!nr_add(b->size, length, &size) || size > NR_SIZE_MAX)
		return -EFBIG;
	if (b->span_count == NR_SPANS_MAX)
		return -E2BIG;
	/* One more than are added: the end. */
	if (b->span_count + 1 >= b->span_room) {
		size_t room = b->span_room ? 2 * b->span_room : 64;
		struct nr_span *more = realloc(b->span, room * sizeof(*more));

		if (!more)
			return -ENOMEM;
		b->span = more;
		b->span_room = room;
	}
	b->span[b->span_count++] = (struct nr_span){ b->size, in, in_length, extra, b->grains };
	b->grains += grains_of(length);
	b->longest = nr_max(b->longest, length);
	b->size = size;
	b->span[b->span_count] = (struct nr_span){ .out = size };
	return 0;
}

/* Spans and cells. */

size_t nr_blocks_span_of(const struct nr_blocks *b, uint64_t offset)
{
	size_t low = 0, high = b->span_count;

	while (high - low > 1) {
		size_t middle = low + (high - low) / 2;

		if (b->span[middle].out <= offset)
			low = middle;
		else
			high = middle;
	}
	return low;
}

uint64_t nr_blocks_span_end(const struct nr_blocks *b, size_t span)
{
	return b->span[span + 1].out;
}

bool nr_blocks_is_whole(const struct nr_blocks *b, size_t span)
{
	return nr_blocks_span_end(b, span) - b->span[span].out <= b->whole_max;
}

/* Where the cell of OFFSET begins, and *END. */
uint64_t nr_blocks_cell_of(const struct nr_blocks *b, size_t span, uint64_t offset, uint64_t *end)
{
	uint64_t start = b->span[span].out;

	*end = nr_blocks_span_end(b, span);
	if (nr_blocks_is_whole(b, span))
		return start;
	start += nr_round_down(offset - start, NR_CELL_BYTES);
	*end = nr_min(*end, start + NR_CELL_BYTES);
	return start;
}

/* What is known. */

/* Of OFFSET, which is in SPAN; *TO is where that ends: with the span, or at END. */
enum nr_grain nr_blocks_known_at(const struct nr_blocks *b, size_t span, uint64_t offset,
				 uint64_t end, uint64_t *to)
{
	const struct nr_span *s = &b->span[span];
	uint64_t first = (offset - s->out) / NR_GRAIN_BYTES, count;
	enum nr_grain grain;

	end = nr_min(end, nr_blocks_span_end(b, span));
	if (s->in_length == 0) {
		*to = end;
		return NR_GRAIN_ZERO;
	}
	grain = nr_zeroes_run(&b->zeroes, s->grain + first, grains_of(end - s->out) - first,
			      &count);
	*to = nr_min(end, s->out + (first + count) * NR_GRAIN_BYTES);
	return grain;
}

/* Where what is known to be zeroes from OFFSET on ends: OFFSET if it is not, at most END. */
uint64_t nr_blocks_skip_zeroes(const struct nr_blocks *b, uint64_t offset, uint64_t end)
{
	size_t span = nr_blocks_span_of(b, offset);

	for (unsigned i = 0; i < NR_BLOCKS_STEPS_MAX && offset < end; i++) {
		uint64_t to;

		if (nr_blocks_known_at(b, span, offset, end, &to) != NR_GRAIN_ZERO)
			break;
		offset = to;
		span += to == nr_blocks_span_end(b, span);
	}
	return offset;
}

/* Is it to be decoded only to see whether it is zeroes? */
bool nr_blocks_is_worth_it(const struct nr_blocks *b, size_t span)
{
	const struct nr_span *s = &b->span[span];
	uint64_t length = nr_blocks_span_end(b, span) - s->out;

	return b->codec->zero_ratio && nr_blocks_is_whole(b, span) && s->in_length < length / 8 &&
	       s->in_length <= length / b->codec->zero_ratio + HEADERS_BYTES &&
	       s->grain + grains_of(length) <= b->zeroes.room;
}

/* A cell is decoded. */
void nr_blocks_remember(struct nr_blocks *b, size_t span, const struct nr_cell *cell)
{
	const struct nr_span *s = &b->span[span];
	uint64_t first = s->grain + (cell->start - s->out) / NR_GRAIN_BYTES;

	for (uint64_t at = 0, i = 0; at < cell->length; at += cell->grain, i++)
		nr_zeroes_set(&b->zeroes, first + at / NR_GRAIN_BYTES,
			      grains_of(nr_min(cell->grain, cell->length - at)),
			      nr_cell_grain_is_zero(cell, i) ? NR_GRAIN_ZERO : NR_GRAIN_DATA);
}

/* It cannot be: what was not known before is data, as far as anybody can tell. */
void nr_blocks_doubt(struct nr_blocks *b, size_t span, const struct nr_cell *cell)
{
	uint64_t at = cell->start, end = cell->start + cell->length, to;
	const struct nr_span *s = &b->span[span];

	for (; at < end; at = to)
		if (nr_blocks_known_at(b, span, at, end, &to) == NR_GRAIN_UNKNOWN)
			nr_zeroes_set(&b->zeroes, s->grain + (at - s->out) / NR_GRAIN_BYTES,
				      grains_of(to - at), NR_GRAIN_DATA);
}
