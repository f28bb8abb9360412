/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The text comes from a file that anybody may have written, so nothing in it is
 * trusted: numbers are checked for overflow, blocks for order, and what a line holds
 * beyond what is known of it is refused.
 */
#include "filters/ddrescue-map.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "nbdring/checked.h"

struct parser {
	struct nr_ddrescue_map *map;
	size_t room;
	unsigned long line;
	bool status_seen; /* the first line, of the rescue's state */
	uint64_t end;     /* of the last block */
	struct nr_error *error;
};

/* A line, without its comment. */
struct words {
	const char *at, *end;
};

static bool is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r';
}

/* The next word; empty at the end of the line. */
static struct words take_word(struct words *line)
{
	struct words word;

	while (line->at < line->end && is_blank(*line->at))
		line->at++;
	word.at = line->at;
	while (line->at < line->end && !is_blank(*line->at))
		line->at++;
	word.end = line->at;
	return word;
}

/* A number as in C: decimal, 0x… or 0…; the whole word. */
static bool take_number(struct words *line, uint64_t *number)
{
	struct words word = take_word(line);
	unsigned base = 10;

	if (word.end - word.at > 2 && word.at[0] == '0' && (word.at[1] | 32) == 'x') {
		base = 16;
		word.at += 2;
	} else if (word.end - word.at > 1 && word.at[0] == '0') {
		base = 8;
	}
	if (word.at == word.end)
		return false;
	for (*number = 0; word.at < word.end; word.at++) {
		char c = *word.at;
		unsigned digit = base;

		if (c >= '0' && c <= '9')
			digit = (unsigned)(c - '0');
		else if ((c | 32) >= 'a' && (c | 32) <= 'f')
			digit = (unsigned)((c | 32) - 'a') + 10;
		if (digit >= base || !nr_mul(*number, base, number) ||
		    !nr_add(*number, digit, number))
			return false;
	}
	return true;
}

/* One of the characters KNOWN as a word of its own; '\0' if it is none. */
static char take_status(struct words *line, const char *known)
{
	struct words word = take_word(line);

	if (word.end - word.at != 1 || *word.at == '\0' || !strchr(known, *word.at))
		return '\0';
	return *word.at;
}

static bool ends_here(struct words *line)
{
	struct words word = take_word(line);

	return word.at == word.end;
}

static int refuse(const struct parser *p, const char *what)
{
	return nr_error_set(p->error, -EINVAL, "line %lu: %s", p->line, what);
}

static int parse_status(struct parser *p, struct words line)
{
	uint64_t number;

	p->status_seen = true;
	/* Versions of ddrescue before 1.20 do not write the pass. */
	if (take_number(&line, &number) && take_status(&line, "?*/-FG+") &&
	    (ends_here(&(struct words){ line.at, line.end }) || take_number(&line, &number)) &&
	    ends_here(&line))
		return 0;
	return refuse(p, "the state of the rescue must be a position, one of ? * / - F G +, and "
			 "the number of the pass");
}

static int add_range(struct parser *p, uint64_t start, uint64_t end)
{
	struct nr_ddrescue_map *map = p->map;

	if (map->count && map->range[map->count - 1].end == start) {
		map->range[map->count - 1].end = end;
		return 0;
	}
	if (map->count == p->room) {
		size_t room = p->room ? p->room * 2 : 64;
		struct nr_ddrescue_range *more = realloc(map->range, room * sizeof(*more));

		if (!more)
			return nr_error_system(p->error, -ENOMEM, "line %lu", p->line);
		map->range = more;
		p->room = room;
	}
	map->range[map->count++] = (struct nr_ddrescue_range){ start, end };
	return 0;
}

static int parse_block(struct parser *p, struct words line)
{
	uint64_t start, size, end;
	char status;

	if (!take_number(&line, &start) || !take_number(&line, &size))
		return refuse(p, "a block must begin with two numbers, its position and size");
	status = take_status(&line, "?*/-+");
	if (!status || !ends_here(&line))
		return refuse(p, "a block must end with one of ? * / - +");
	if (!nr_add(start, size, &end) || end > NR_SIZE_MAX)
		return refuse(p, "the block ends after 2^63-1 bytes");
	if (start < p->end)
		return refuse(p, "the block begins before the end of the one above it");
	p->end = end;
	return status == '+' && size ? add_range(p, start, end) : 0;
}

static int parse_line(struct parser *p, struct words line)
{
	/* A comment: '#' where a word could begin. */
	for (const char *c = line.at; c < line.end; c++) {
		if (*c == '#' && (c == line.at || is_blank(c[-1]))) {
			line.end = c;
			break;
		}
	}
	if (ends_here(&(struct words){ line.at, line.end }))
		return 0;
	if (!p->status_seen)
		return parse_status(p, line);
	return parse_block(p, line);
}

int nr_ddrescue_parse(struct nr_ddrescue_map *map, const char *text, size_t length,
		      struct nr_error *error)
{
	struct parser p = { .map = map, .error = error };
	const char *end = length ? text + length : text; /* an empty file is nowhere */
	int err = 0;

	*map = (struct nr_ddrescue_map){ 0 };
	while (text < end && !err) {
		const char *stop = memchr(text, '\n', (size_t)(end - text));

		if (!stop)
			stop = end;
		p.line++;
		err = parse_line(&p, (struct words){ text, stop });
		text = stop < end ? stop + 1 : end;
	}
	if (!err && !p.status_seen)
		err = nr_error_set(error, -EINVAL, "there is nothing in it");
	if (err)
		nr_ddrescue_free(map);
	return err;
}

void nr_ddrescue_free(struct nr_ddrescue_map *map)
{
	free(map->range);
	*map = (struct nr_ddrescue_map){ 0 };
}

bool nr_ddrescue_rescued(const struct nr_ddrescue_map *map, uint64_t offset, uint64_t *end)
{
	size_t low = 0, high = map->count;

	/* The first range that ends behind OFFSET. */
	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (map->range[middle].end > offset)
			high = middle;
		else
			low = middle + 1;
	}
	if (low == map->count) {
		*end = UINT64_MAX;
		return false;
	}
	if (map->range[low].start > offset) {
		*end = map->range[low].start;
		return false;
	}
	*end = map->range[low].end;
	return true;
}
