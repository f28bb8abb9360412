/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * From the text of an extent list to a sorted table.
 *
 * The text may be anything: every number is checked, every sentence names the
 * line, and what is shown of a word is short and printable.
 */
#include "filters/extentlist-parse.h"

#include <ctype.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "nbdring/checked.h"
#include "nbdring/extent.h"

#define SHOWN_MAX 40u /* bytes of a word in a sentence */
#define FIELDS_MAX 3u /* on a line */

struct word {
	const char *text;
	size_t length;
};

/* A word for a sentence: its beginning, with ? for what cannot be printed. */
static const char *shown(struct word word, char out[SHOWN_MAX + 1])
{
	size_t length = nr_min(word.length, SHOWN_MAX);

	for (size_t i = 0; i < length; i++)
		out[i] = isprint((unsigned char)word.text[i]) ? word.text[i] : '?';
	out[length] = '\0';
	return out;
}

/* The power of two that a suffix stands for, -1 for none; `s` is for sectors. */
static int suffix_shift(char suffix)
{
	switch (tolower((unsigned char)suffix)) {
	case 'b':
		return 0;
	case 's':
		return 9;
	case 'k':
		return 10;
	case 'm':
		return 20;
	case 'g':
		return 30;
	case 't':
		return 40;
	case 'p':
		return 50;
	case 'e':
		return 60;
	default:
		return -1;
	}
}

/* A number of bytes with or without a suffix, at most NR_SIZE_MAX. */
static bool parse_size(struct word word, uint64_t *bytes)
{
	uint64_t sum = 0;
	size_t i = 0;
	int shift = 0;

	for (; i < word.length && isdigit((unsigned char)word.text[i]); i++)
		if (!nr_mul(sum, 10, &sum) || !nr_add(sum, (uint64_t)(word.text[i] - '0'), &sum))
			return false;
	if (i == 0)
		return false;
	if (i < word.length)
		shift = suffix_shift(word.text[i++]);
	if (i != word.length || shift < 0 || !nr_mul(sum, UINT64_C(1) << shift, &sum))
		return false;
	*bytes = sum;
	return sum <= NR_SIZE_MAX;
}

static bool is_word(struct word word, const char *text)
{
	return strlen(text) == word.length && memcmp(text, word.text, word.length) == 0;
}

/* A number from 0 to 3, or names with commas between them. */
static bool parse_type(struct word word, uint64_t *status)
{
	uint64_t number;

	*status = 0;
	if (word.length > 0 && isdigit((unsigned char)word.text[0])) {
		if (!isdigit((unsigned char)word.text[word.length - 1]) ||
		    !parse_size(word, &number))
			return false;
		*status = number;
		return number <= (NR_EXTENT_HOLE | NR_EXTENT_ZERO);
	}
	for (;;) {
		const char *comma = memchr(word.text, ',', word.length);
		size_t length = comma ? (size_t)(comma - word.text) : word.length;
		struct word name = { word.text, length };

		if (is_word(name, "hole"))
			*status |= NR_EXTENT_HOLE;
		else if (is_word(name, "zero"))
			*status |= NR_EXTENT_ZERO;
		else
			return false;
		if (!comma)
			return true;
		word.text += length + 1;
		word.length -= length + 1;
	}
}

/* The words of a line, up to a comment; one more than FIELDS_MAX when there are more. */
static size_t split(struct word line, struct word field[FIELDS_MAX + 1])
{
	size_t count = 0, i = 0;

	while (count <= FIELDS_MAX) {
		size_t from;

		while (i < line.length && isspace((unsigned char)line.text[i]))
			i++;
		if (i == line.length || line.text[i] == '#')
			break;
		from = i;
		while (i < line.length && !isspace((unsigned char)line.text[i]) &&
		       line.text[i] != '#')
			i++;
		field[count++] = (struct word){ line.text + from, i - from };
	}
	return count;
}

/* 1: OUT is filled in, 0: nothing on this line, or negative errno. */
static int parse_line(struct word line, struct nr_listed_extent *out, struct nr_error *error)
{
	struct word field[FIELDS_MAX + 1];
	size_t count = split(line, field);
	char text[SHOWN_MAX + 1];

	if (count == 0)
		return 0;
	if (count < 2 || count > FIELDS_MAX)
		return nr_error_set(error, -EINVAL,
				    "line %u has %s; write OFFSET LENGTH, or OFFSET LENGTH TYPE",
				    out->line, count < 2 ? "one word only" : "too many words");
	for (unsigned i = 0; i < 2; i++)
		if (!parse_size(field[i], i ? &out->length : &out->offset))
			return nr_error_set(
				error, -EINVAL,
				"line %u: the %s '%s' is no number of bytes from 0 to "
				"2^63-1; write digits, with K, M, G, T, P, E or s behind "
				"them if you like",
				out->line, i ? "length" : "offset", shown(field[i], text));
	out->status = 0;
	if (count == FIELDS_MAX && !parse_type(field[2], &out->status))
		return nr_error_set(error, -EINVAL,
				    "line %u: the type '%s' is unknown; it can be hole, zero, "
				    "hole,zero or a number from 0 to 3",
				    out->line, shown(field[2], text));
	if (out->length > NR_SIZE_MAX - out->offset)
		return nr_error_set(error, -EINVAL, "line %u: the extent ends beyond 2^63-1 bytes",
				    out->line);
	return out->length > 0;
}

static int append(struct nr_extentlist *list, size_t *room, const struct nr_listed_extent *extent,
		  struct nr_error *error)
{
	if (list->count == *room) {
		size_t more = *room ? 2 * *room : 64;
		void *grown = reallocarray(list->extent, more, sizeof(*list->extent));

		if (!grown)
			return nr_error_system(error, -ENOMEM, "line %u", extent->line);
		list->extent = grown;
		*room = more;
	}
	list->extent[list->count++] = *extent;
	return 0;
}

static int by_offset(const void *a, const void *b)
{
	const struct nr_listed_extent *x = a, *y = b;

	return x->offset < y->offset ? -1 : x->offset > y->offset;
}

/* Two extents that say something about the same byte contradict each other. */
static int sort(struct nr_extentlist *list, struct nr_error *error)
{
	if (list->count > 0)
		qsort(list->extent, list->count, sizeof(*list->extent), by_offset);
	for (size_t i = 1; i < list->count; i++) {
		const struct nr_listed_extent *a = &list->extent[i - 1], *b = &list->extent[i];

		if (b->offset - a->offset < a->length)
			return nr_error_set(error, -EINVAL,
					    "the extents of lines %u and %u overlap",
					    a->line < b->line ? a->line : b->line,
					    a->line < b->line ? b->line : a->line);
	}
	return 0;
}

int nr_extentlist_parse(struct nr_extentlist *list, const char *text, size_t length,
			struct nr_error *error)
{
	size_t room = 0, at = 0;
	unsigned lines = 0;
	int err = 0;

	*list = (struct nr_extentlist){ .count = 0 };
	while (at < length && !err) {
		const char *newline = memchr(text + at, '\n', length - at);
		size_t end = newline ? (size_t)(newline - text) : length;
		struct nr_listed_extent extent = { .line = ++lines };
		int found = parse_line((struct word){ text + at, end - at }, &extent, error);

		err = found > 0 ? append(list, &room, &extent, error) : found;
		at = end + 1;
	}
	if (!err)
		err = sort(list, error);
	if (err)
		nr_extentlist_free(list);
	return err;
}

void nr_extentlist_free(struct nr_extentlist *list)
{
	free(list->extent);
	*list = (struct nr_extentlist){ .count = 0 };
}
