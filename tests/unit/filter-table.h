/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What tests that go through all filters know of each: how to put it into a plan, and
 * what it does to the disk.  A filter that is not here fails those tests, which is the
 * reminder to add it.
 */
#ifndef TESTS_UNIT_FILTER_TABLE_H
#define TESTS_UNIT_FILTER_TABLE_H

#include "layer-test.h"

/* What tests may expect of it, with the parameters that the table gives it. */
enum filter_effect {
	TRANSPARENT, /* the disk is what it was; capabilities may be masked */
	REFUSES,     /* what is read is what was there; what is written is refused */
	APART,       /* another disk, and only of a file that is made for it: has its own tests */
};

struct filter_row {
	const char *name;
	const char *parameters; /* without spaces around; see filter_plan */
	enum filter_effect effect;
	const char *below; /* has to be right below it; NULL: nothing */
	bool exact;        /* filter_plan has to know the exact size below */
	bool small;        /* not for disks of over 2 TiB */
	uint64_t size_min; /* of the disk below, bytes */
};

/* The first row of NAME.  Ends the process with a message when there is none. */
const struct filter_row *filter_row(const char *name);

/*
 * All rows: a filter has further ones for modes that any disk can be opened in.  NULL
 * behind the last.
 */
const struct filter_row *filter_row_at(size_t index);

/*
 * The filter, and what has to be below it, as text for layer_test_open, over a disk of
 * SIZE bytes which is all zeroes: "NAME PARAMETERS" or "NAME PARAMETERS | BELOW".  Its
 * own memory until the next call.  Files that it names exist until the end, or until
 * filter_table_clear.
 */
const char *filter_plan(const struct filter_row *row, uint64_t size);

/* Removes those files, for who makes up very many plans. */
void filter_table_clear(void);

/* Types and surroundings that those plans need. */
void filter_table_options(struct layer_options *options);

#endif
