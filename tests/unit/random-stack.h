/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Stacks that nobody thought of: filters drawn by lot, with parameters drawn by lot,
 * and requests drawn by lot through all of it, which must do what plain memory does.
 * Every transparent filter of filter-table.h is among them, in each of its modes.
 * What is not true ends the process.
 *
 * test-filter-random.c draws by a seed, tests/fuzz/fuzz-stack.c by what a fuzzer makes
 * up.
 */
#ifndef TESTS_UNIT_RANDOM_STACK_H
#define TESTS_UNIT_RANDOM_STACK_H

#include "tests/unit/layer-test.h"

enum random_bottom {
	RANDOM_OVER_MEMORY, /* the backend memory */
	RANDOM_OVER_FLAT,   /* flat-disk.h with traits by lot, mostly small: fast */
};

/* One stack and its requests.  The plan is written to SAY before it is opened; NULL: not. */
void random_stack_run(struct layer_choices *choices, enum random_bottom bottom, FILE *say);

#endif
