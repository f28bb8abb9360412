/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Fuzz target: a stack of filters, and requests through it.
 *
 * The input is a row of choices (tests/unit/random-stack.h): first the backend's
 * traits, the filters and their parameters, then the requests.  The disk must stay what
 * an array of bytes would be, and no layer may send down what the one below does not
 * take.  NBDRING_FUZZ_SAY=1 in the environment prints the stack, to see what an input
 * that failed was about.
 */
#include "tests/fuzz/fuzz.h"
#include "tests/unit/random-stack.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct layer_choices choices = { .bytes = data, .count = size };

	/* No bytes would mean the seed. */
	if (size > 0)
		random_stack_run(&choices, RANDOM_OVER_FLAT,
				 getenv("NBDRING_FUZZ_SAY") ? stderr : NULL);
	return 0;
}
