/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What is remembered of grains of zeroes: the same as in a plain array, whatever is set
 * and asked in whatever order; and memory for no more than is promised.
 */
#undef NDEBUG

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "filters/zeroes.h"

#define GRAINS 1000u

static unsigned below(unsigned limit)
{
	return (unsigned)rand() % limit;
}

static void runs_are_those_of_an_array(void **state)
{
	uint8_t expected[GRAINS] = { NR_GRAIN_UNKNOWN };
	struct nr_zeroes zeroes = { .word = NULL };

	srand(1);
	assert_true(nr_zeroes_reserve(&zeroes, GRAINS / 2));
	for (unsigned i = 0; i < 20000; i++) {
		unsigned first = below(GRAINS), count = 1 + below(1 + below(GRAINS - first));
		uint64_t run;

		if (i == 500) /* more room, and nothing is forgotten */
			assert_true(nr_zeroes_reserve(&zeroes, GRAINS));
		if (i % 2) {
			enum nr_grain grain = (enum nr_grain)below(3);

			nr_zeroes_set(&zeroes, first, count, grain);
			for (unsigned k = first; k < first + count && k < zeroes.room; k++)
				expected[k] = (uint8_t)grain;
			continue;
		}
		assert_int_equal(nr_zeroes_run(&zeroes, first, count, &run), expected[first]);
		assert_in_range(run, 1, count);
		for (unsigned k = first; k < first + run; k++)
			assert_int_equal(expected[k], expected[first]);
		/* What has no room is unknown like what comes before it, but may be told apart. */
		if (run < count && first + run < zeroes.room)
			assert_int_not_equal(expected[first + run], expected[first]);
	}
	nr_zeroes_free(&zeroes);
}

static void words_that_are_full_are_one_run(void **state)
{
	struct nr_zeroes zeroes = { .word = NULL };
	uint64_t count;

	assert_true(nr_zeroes_reserve(&zeroes, 640));
	nr_zeroes_set(&zeroes, 0, 640, NR_GRAIN_ZERO);
	assert_int_equal(nr_zeroes_run(&zeroes, 0, 640, &count), NR_GRAIN_ZERO);
	assert_int_equal(count, 640);
	assert_int_equal(nr_zeroes_run(&zeroes, 64, 64, &count), NR_GRAIN_ZERO);
	assert_int_equal(count, 64);
	nr_zeroes_set(&zeroes, 63, 1, NR_GRAIN_DATA);
	assert_int_equal(nr_zeroes_run(&zeroes, 1, 639, &count), NR_GRAIN_ZERO);
	assert_int_equal(count, 62);
	nr_zeroes_free(&zeroes);
}

static void what_has_no_room_is_unknown(void **state)
{
	struct nr_zeroes zeroes = { .word = NULL };
	uint64_t count;

	assert_int_equal(nr_zeroes_run(&zeroes, 7, 5, &count), NR_GRAIN_UNKNOWN);
	assert_int_equal(count, 5);
	nr_zeroes_set(&zeroes, 7, 5, NR_GRAIN_ZERO);
	assert_int_equal(nr_zeroes_run(&zeroes, 7, 5, &count), NR_GRAIN_UNKNOWN);
	/* A disk of 2^63 bytes has no more memory than one of 4 TiB. */
	assert_true(nr_zeroes_reserve(&zeroes, UINT64_MAX / NR_GRAIN_BYTES));
	assert_int_equal(zeroes.room, NR_GRAINS_MAX);
	nr_zeroes_set(&zeroes, NR_GRAINS_MAX - 1, UINT64_MAX - NR_GRAINS_MAX, NR_GRAIN_ZERO);
	assert_int_equal(nr_zeroes_run(&zeroes, NR_GRAINS_MAX - 1, UINT64_MAX, &count),
			 NR_GRAIN_ZERO);
	assert_int_equal(count, 1);
	assert_int_equal(nr_zeroes_run(&zeroes, NR_GRAINS_MAX, 9, &count), NR_GRAIN_UNKNOWN);
	nr_zeroes_free(&zeroes);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(runs_are_those_of_an_array),
		cmocka_unit_test(words_that_are_full_are_one_run),
		cmocka_unit_test(what_has_no_room_is_unknown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
