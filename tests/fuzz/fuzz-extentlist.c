/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Fuzz target: the text of an extent list.
 *
 * Whatever is accepted must be a sorted table without overlap that ends within
 * 2^63-1 bytes, and must come out the same when it is written down and parsed
 * again; whatever is refused must say why in one printable sentence.
 *
 *   clang -g -D_GNU_SOURCE -fsanitize=fuzzer,address,undefined -I. -Iinclude \
 *           tests/fuzz/fuzz-extentlist.c filters/extentlist-parse.c src/stack/error.c
 */
#undef NDEBUG
#include <assert.h>
#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "filters/extentlist-parse.h"
#include "nbdring/checked.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_table(const struct nr_extentlist *list)
{
	uint64_t end = 0;

	for (size_t i = 0; i < list->count; i++) {
		const struct nr_listed_extent *x = &list->extent[i];

		assert(x->length > 0);
		assert(x->offset >= end);
		assert(nr_in_range(x->offset, x->length, NR_SIZE_MAX));
		assert(x->status <= 3);
		assert(x->line > 0);
		end = x->offset + x->length;
	}
}

static void check_again(const struct nr_extentlist *list)
{
	struct nr_extentlist again;
	char *text = NULL;
	size_t length = 0;
	FILE *out = open_memstream(&text, &length);

	assert(out);
	for (size_t i = 0; i < list->count; i++)
		fprintf(out, "%" PRIu64 "\t%" PRIu64 " %" PRIu64 "\n", list->extent[i].offset,
			list->extent[i].length, list->extent[i].status);
	assert(fclose(out) == 0);
	assert(nr_extentlist_parse(&again, text, length, NULL) == 0);
	assert(again.count == list->count);
	for (size_t i = 0; i < list->count; i++) {
		assert(again.extent[i].offset == list->extent[i].offset);
		assert(again.extent[i].length == list->extent[i].length);
		assert(again.extent[i].status == list->extent[i].status);
	}
	nr_extentlist_free(&again);
	free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct nr_extentlist list;
	struct nr_error error = { 0 };
	char *copy = malloc(size ? size : 1);

	/* Memory of exactly the size, so that one byte too far is seen. */
	assert(copy);
	memcpy(copy, data, size);
	if (nr_extentlist_parse(&list, copy, size, &error) == 0) {
		check_table(&list);
		check_again(&list);
		nr_extentlist_free(&list);
	} else {
		assert(error.code < 0);
		assert(error.text[0]);
		for (const char *p = error.text; *p; p++)
			assert(isprint((unsigned char)*p));
		assert(list.count == 0);
		assert(!list.extent);
	}
	free(copy);
	return 0;
}
