/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Random stacks (random-stack.h) by seeds.
 *
 * Each stack has a seed, printed before it is used.  NBDRING_TEST_SEED=that makes
 * the same stack, and the same requests, the first of the run.
 * NBDRING_TEST_SECONDS is how long it goes on (3).
 */
#include "random-stack.h"

#include <inttypes.h>
#include <setjmp.h>
#include <time.h>

#include <cmocka.h>

static double seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void test_random_stacks_are_plain_memory(void **state)
{
	const char *text = getenv("NBDRING_TEST_SECONDS");
	double end = seconds() + (text ? strtod(text, NULL) : 3);
	uint64_t seed = layer_seed((uint64_t)time(NULL) * 1000000);

	do {
		struct layer_choices choices = { .seed = seed };

		fprintf(stderr, "NBDRING_TEST_SEED=%" PRIu64 " ", seed++);
		random_stack_run(&choices, RANDOM_OVER_MEMORY, stderr);
	} while (seconds() < end);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_random_stacks_are_plain_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
