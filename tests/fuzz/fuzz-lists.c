/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Fuzz target: lists and maps that files hold.
 *
 * Byte 0 chooses the format (extent list, map, ddrescue's mapfile), the rest is the
 * text.  What is accepted must be in order, without overlap, within 2^63-1 bytes, be
 * found again by the functions that requests use, and come out the same when it is
 * written down and parsed once more; what is refused must say why.
 */
#include <inttypes.h>
#include <stdio.h>

#include "filters/ddrescue-map.h"
#include "filters/extentlist-parse.h"
#include "filters/map-table.h"
#include "nbdring/checked.h"
#include "tests/fuzz/fuzz.h"

/* Text in memory that is a file's. */
struct text {
	char *text;
	size_t length;
	FILE *to;
};

static FILE *begin(struct text *t)
{
	t->to = open_memstream(&t->text, &t->length);
	assert(t->to);
	return t->to;
}

static void end(struct text *t)
{
	assert(fclose(t->to) == 0);
}

/* Extent lists. */

static void check_extents(const struct nr_extentlist *list)
{
	uint64_t at = 0;

	for (size_t i = 0; i < list->count; i++) {
		const struct nr_listed_extent *x = &list->extent[i];

		assert(x->length > 0);
		assert(x->offset >= at);
		assert(nr_in_range(x->offset, x->length, NR_SIZE_MAX));
		assert(x->status <= 3);
		assert(x->line > 0);
		at = x->offset + x->length;
	}
}

static void check_extents_again(const struct nr_extentlist *list)
{
	struct nr_extentlist again;
	struct text t;
	FILE *to = begin(&t);

	for (size_t i = 0; i < list->count; i++)
		fprintf(to, "%" PRIu64 "\t%" PRIu64 " %" PRIu64 "\n", list->extent[i].offset,
			list->extent[i].length, list->extent[i].status);
	end(&t);
	assert(nr_extentlist_parse(&again, t.text, t.length, NULL) == 0);
	assert(again.count == list->count);
	for (size_t i = 0; i < list->count; i++) {
		assert(again.extent[i].offset == list->extent[i].offset);
		assert(again.extent[i].length == list->extent[i].length);
		assert(again.extent[i].status == list->extent[i].status);
	}
	nr_extentlist_free(&again);
	free(t.text);
}

static void try_extents(const char *text, size_t length)
{
	struct nr_extentlist list;
	struct nr_error error = { 0 };

	if (nr_extentlist_parse(&list, text, length, &error)) {
		fuzz_check_error(&error);
		assert(list.count == 0);
		assert(!list.extent);
		return;
	}
	check_extents(&list);
	check_extents_again(&list);
	nr_extentlist_free(&list);
}

/* Maps. */

static void check_ranges(const struct nr_map_table *table)
{
	uint64_t at = 0;

	for (size_t i = 0; i < table->count; i++) {
		const struct nr_map_range *r = &table->range[i];

		assert(r->length > 0);
		assert(r->start >= at);
		assert(nr_in_range(r->start, r->length, NR_SIZE_MAX));
		assert(nr_in_range(r->dest, r->length, NR_SIZE_MAX));
		at = r->start + r->length;
	}
}

/* Where OFFSET leads, looked up the slow way. */
static uint64_t plain_find(const struct nr_map_table *table, uint64_t offset)
{
	for (size_t i = 0; i < table->count; i++)
		if (offset >= table->range[i].start &&
		    offset - table->range[i].start < table->range[i].length)
			return table->range[i].dest + (offset - table->range[i].start);
	return offset;
}

static void check_find(const struct nr_map_table *table, uint64_t offset)
{
	uint64_t run = 0, found = nr_map_table_find(table, offset, &run);

	assert(found == plain_find(table, offset));
	assert(run > 0);
	/* The last byte of the run follows the first, and the one behind begins something new. */
	if (run <= NR_SIZE_MAX - offset)
		assert(plain_find(table, offset + run - 1) == found + run - 1);
}

/* A table that fits a disk leads each of its bytes to one that there is. */
static void check_fit(const struct nr_map_table *table)
{
	uint64_t size = 0, below = 0;
	struct nr_error error = { 0 };

	for (size_t i = 0; i < table->count; i++) {
		size = nr_max(size, table->range[i].start + table->range[i].length);
		below = nr_max(below, table->range[i].dest + table->range[i].length);
	}
	if (nr_map_table_check(table, size, below, 512, &error)) {
		fuzz_check_error(&error);
		return;
	}
	for (size_t i = 0; i < table->count; i++) {
		const struct nr_map_range *r = &table->range[i];

		assert(nr_is_aligned(r->start | r->length | r->dest, 512));
		assert(plain_find(table, r->start) < below);
		if (r->start > 0)
			assert(plain_find(table, r->start - 1) < below);
	}
}

static void check_ranges_again(const struct nr_map_table *table)
{
	struct nr_map_table again = { 0 };
	struct text t;
	FILE *to = begin(&t);

	for (size_t i = 0; i < table->count; i++) {
		const struct nr_map_range *r = &table->range[i];

		if (i % 2)
			fprintf(to, "%" PRIu64 "-%" PRIu64 ":%" PRIu64 "\n", r->start,
				r->start + r->length - 1, r->dest);
		else
			fprintf(to, " %" PRIu64 "+%" PRIu64 "b:%" PRIu64 " # as above\n", r->start,
				r->length, r->dest);
	}
	end(&t);
	assert(nr_map_table_add_lines(&again, t.text, t.length, NULL) == 0);
	assert(nr_map_table_sort(&again, NULL) == 0);
	assert(again.count == table->count);
	assert(table->count == 0 ||
	       memcmp(again.range, table->range, table->count * sizeof(*table->range)) == 0);
	nr_map_table_free(&again);
	free(t.text);
}

static void try_map(const char *text, size_t length)
{
	struct nr_map_table table = { 0 };
	struct nr_error error = { 0 };

	if (nr_map_table_add_lines(&table, text, length, &error) ||
	    nr_map_table_sort(&table, &error)) {
		fuzz_check_error(&error);
	} else {
		check_ranges(&table);
		check_ranges_again(&table);
		check_fit(&table);
		check_find(&table, 0);
		for (size_t i = 0; i < table.count; i++) {
			check_find(&table, table.range[i].start);
			check_find(&table, table.range[i].start + table.range[i].length - 1);
			check_find(&table, table.range[i].start + table.range[i].length);
		}
	}
	nr_map_table_free(&table);
}

/* Mapfiles. */

static void check_rescued(const struct nr_ddrescue_map *map)
{
	uint64_t before = 0, until;

	for (size_t i = 0; i < map->count; i++) {
		const struct nr_ddrescue_range *r = &map->range[i];

		/* Neighbours are one. */
		assert(i == 0 ? r->start >= before : r->start > before);
		assert(r->start < r->end);
		assert(r->end <= NR_SIZE_MAX);
		if (r->start > before) {
			assert(!nr_ddrescue_rescued(map, before, &until));
			assert(until == r->start);
		}
		assert(nr_ddrescue_rescued(map, r->start, &until));
		assert(until == r->end);
		assert(nr_ddrescue_rescued(map, r->end - 1, &until));
		assert(until == r->end);
		before = r->end;
	}
	assert(!nr_ddrescue_rescued(map, before, &until));
	assert(until == UINT64_MAX);
}

static void check_rescued_again(const struct nr_ddrescue_map *map)
{
	struct nr_ddrescue_map again;
	struct text t;
	FILE *to = begin(&t);

	fprintf(to, "# Mapfile.\n0x0 ? 1\n");
	for (size_t i = 0; i < map->count; i++)
		fprintf(to, "0x%" PRIx64 " %" PRIu64 " +\r\n", map->range[i].start,
			map->range[i].end - map->range[i].start);
	end(&t);
	assert(nr_ddrescue_parse(&again, t.text, t.length, NULL) == 0);
	assert(again.count == map->count);
	assert(map->count == 0 ||
	       memcmp(again.range, map->range, map->count * sizeof(*map->range)) == 0);
	nr_ddrescue_free(&again);
	free(t.text);
}

static void try_mapfile(const char *text, size_t length)
{
	struct nr_ddrescue_map map;
	struct nr_error error = { 0 };

	if (nr_ddrescue_parse(&map, text, length, &error)) {
		fuzz_check_error(&error);
		assert(map.count == 0);
		assert(!map.range);
		return;
	}
	check_rescued(&map);
	check_rescued_again(&map);
	nr_ddrescue_free(&map);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static void (*const formats[])(const char *text, size_t length) = { try_extents, try_map,
									    try_mapfile };
	char *text;

	if (size < 1)
		return 0;
	text = fuzz_copy(data + 1, size - 1);
	formats[data[0] % (sizeof(formats) / sizeof(formats[0]))](text, size - 1);
	free(text);
	return 0;
}
