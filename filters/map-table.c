/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A sorted array and binary search.  Ranges end below 2^63, which is checked as they
 * are added, so that sums of their numbers fit ever after.
 */
#include "filters/map-table.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "nbdring/checked.h"

#define SHOWN 80 /* bytes of a wrong text that go into the error */

struct text {
	const char *at, *end;
};

void nr_map_table_free(struct nr_map_table *table)
{
	free(table->range);
	*table = (struct nr_map_table){ 0 };
}

/* The power of two that a letter stands for; -1: none. */
static int suffix_shift(char letter)
{
	static const char letters[] = "bkmgtpe";
	const char *found;

	if (letter == 's')
		return 9;
	if (letter == '\0')
		return -1;
	found = strchr(letters, tolower((unsigned char)letter));
	return found ? 10 * (int)(found - letters) : -1;
}

static bool take_number(struct text *t, uint64_t *number)
{
	const char *begin = t->at;
	int shift;

	*number = 0;
	for (; t->at < t->end && isdigit((unsigned char)*t->at); t->at++)
		if (!nr_mul(*number, 10, number) ||
		    !nr_add(*number, (uint64_t)(*t->at - '0'), number))
			return false;
	if (t->at == begin)
		return false;
	shift = t->at < t->end ? suffix_shift(*t->at) : -1;
	if (shift < 0)
		return *number <= NR_SIZE_MAX;
	t->at++;
	return nr_mul(*number, UINT64_C(1) << shift, number) && *number <= NR_SIZE_MAX;
}

static bool take_char(struct text *t, char wanted)
{
	if (t->at == t->end || *t->at != wanted)
		return false;
	t->at++;
	return true;
}

static bool take_range(struct text *t, struct nr_map_range *r)
{
	uint64_t last, end;

	if (!take_number(t, &r->start))
		return false;
	if (take_char(t, '-')) {
		if (!take_number(t, &last) || last < r->start)
			return false;
		r->length = last - r->start + 1; /* both are below 2^63 */
	} else if (!take_char(t, '+') || !take_number(t, &r->length) || r->length == 0) {
		return false;
	}
	if (!take_char(t, ':') || !take_number(t, &r->dest) || t->at != t->end)
		return false;
	return nr_add(r->start, r->length, &end) && end <= NR_SIZE_MAX &&
	       nr_add(r->dest, r->length, &end) && end <= NR_SIZE_MAX;
}

int nr_map_table_add(struct nr_map_table *table, const char *text, size_t length,
		     struct nr_error *error)
{
	struct text t = { text, length ? text + length : text }; /* nothing may be nowhere */
	struct nr_map_range range;

	if (!take_range(&t, &range))
		return nr_error_set(error, -EINVAL,
				    "'%.*s' is not possible: write START-END:DEST or "
				    "START+LENGTH:DEST, in bytes, up to 2^63-1",
				    (int)nr_min(length, SHOWN), text);
	if (table->count == table->room) {
		size_t room = table->room ? 2 * table->room : 16;
		struct nr_map_range *more = realloc(table->range, room * sizeof(*more));

		if (!more)
			return nr_error_system(error, -ENOMEM, "reading the map");
		table->range = more;
		table->room = room;
	}
	table->range[table->count++] = range;
	return 0;
}

static struct text trimmed(const char *from, const char *to)
{
	const char *comment = memchr(from, '#', (size_t)(to - from));

	if (comment)
		to = comment;
	while (from < to && isspace((unsigned char)*from))
		from++;
	while (from < to && isspace((unsigned char)to[-1]))
		to--;
	return (struct text){ from, to };
}

int nr_map_table_add_lines(struct nr_map_table *table, const char *text, size_t length,
			   struct nr_error *error)
{
	const char *at = text, *end = length ? text + length : text;

	for (unsigned line = 1; at < end; line++) {
		const char *next = memchr(at, '\n', (size_t)(end - at));
		struct text t = trimmed(at, next ? next : end);
		int err = 0;

		if (t.at < t.end)
			err = nr_map_table_add(table, t.at, (size_t)(t.end - t.at), error);
		if (err) {
			nr_error_prefix(error, "line %u", line);
			return err;
		}
		at = next ? next + 1 : end;
	}
	return 0;
}

static int by_start(const void *a, const void *b)
{
	const struct nr_map_range *x = a, *y = b;

	return (x->start > y->start) - (x->start < y->start);
}

int nr_map_table_sort(struct nr_map_table *table, struct nr_error *error)
{
	if (table->count)
		qsort(table->range, table->count, sizeof(*table->range), by_start);
	for (size_t i = 1; i < table->count; i++) {
		const struct nr_map_range *a = &table->range[i - 1], *b = &table->range[i];

		if (a->start + a->length > b->start)
			return nr_error_set(error, -EINVAL,
					    "the ranges that begin at %" PRIu64 " and %" PRIu64
					    " overlap",
					    a->start, b->start);
	}
	return 0;
}

static int check_range(const struct nr_map_range *r, uint64_t size, uint64_t below, uint32_t block,
		       struct nr_error *error)
{
	if (!nr_in_range(r->start, r->length, size))
		return nr_error_set(error, -EINVAL,
				    "%" PRIu64 "+%" PRIu64 ":%" PRIu64 " reaches beyond the end "
				    "of the disk, which has %" PRIu64
				    " bytes; use map-size=%" PRIu64,
				    r->start, r->length, r->dest, size, r->start + r->length);
	if (!nr_in_range(r->dest, r->length, below))
		return nr_error_set(error, -EINVAL,
				    "%" PRIu64 "+%" PRIu64 ":%" PRIu64 " leads beyond the end of "
				    "the disk below, which has %" PRIu64 " bytes",
				    r->start, r->length, r->dest, below);
	if (!nr_is_aligned(r->start | r->length | r->dest, block))
		return nr_error_set(error, -EINVAL,
				    "%" PRIu64 "+%" PRIu64 ":%" PRIu64 " is not in multiples of "
				    "the %u-byte blocks below; use those or put "
				    "--filter=blocksize below",
				    r->start, r->length, r->dest, block);
	return 0;
}

/* Bytes up to END that no range names stay where they are: is there something? */
static int check_gap(uint64_t start, uint64_t end, uint64_t below, struct nr_error *error)
{
	if (start >= end || end <= below)
		return 0;
	return nr_error_set(error, -EINVAL,
			    "byte %" PRIu64 " leads nowhere: no range names it, and the disk below "
			    "has %" PRIu64 " bytes",
			    nr_max(start, below), below);
}

int nr_map_table_check(const struct nr_map_table *table, uint64_t size, uint64_t below,
		       uint32_t block, struct nr_error *error)
{
	uint64_t at = 0;

	for (size_t i = 0; i < table->count; i++) {
		const struct nr_map_range *r = &table->range[i];
		int err = check_gap(at, r->start, below, error);

		if (!err)
			err = check_range(r, size, below, block, error);
		if (err)
			return err;
		at = r->start + r->length;
	}
	return check_gap(at, size, below, error);
}

uint64_t nr_map_table_find(const struct nr_map_table *table, uint64_t offset, uint64_t *run)
{
	size_t low = 0, high = table->count; /* ranges before `low` begin at or before OFFSET */

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (table->range[middle].start <= offset)
			low = middle + 1;
		else
			high = middle;
	}
	if (low > 0) {
		const struct nr_map_range *r = &table->range[low - 1];

		if (offset - r->start < r->length) {
			*run = r->length - (offset - r->start);
			return r->dest + (offset - r->start);
		}
	}
	*run = (low < table->count ? table->range[low].start : UINT64_MAX) - offset;
	return offset;
}
