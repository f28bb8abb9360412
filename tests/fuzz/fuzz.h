/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the fuzz targets share: an input read front to back, copies of exactly the
 * size, so that one byte too far is seen, and what must be true of every refusal.
 *
 * A target is one function, LLVMFuzzerTestOneInput.  libFuzzer calls it with inputs
 * that it makes up (scripts/fuzz), replay.c with those that were kept (the test suite).
 * It must come to the same end with the same input every time, and leave nothing behind.
 * What is not true ends the process by assert.
 */
#ifndef TESTS_FUZZ_FUZZ_H
#define TESTS_FUZZ_FUZZ_H

#undef NDEBUG
#include <assert.h>
#include <ctype.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "nbdring/error.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct fuzz_input {
	const uint8_t *at;
	size_t left; /* bytes */
};

/* COUNT (up to 8) bytes as a number, big-endian; zeroes behind the end of the input. */
static inline uint64_t fuzz_take(struct fuzz_input *input, unsigned count)
{
	uint64_t number = 0;

	while (count-- > 0) {
		number <<= 8;
		if (input->left > 0) {
			number |= *input->at++;
			input->left--;
		}
	}
	return number;
}

/* SIZE bytes of DATA in memory of just that size (1 byte if it is 0); free() it. */
static inline void *fuzz_copy(const void *data, size_t size)
{
	void *copy = malloc(size ? size : 1);

	assert(copy);
	if (size)
		memcpy(copy, data, size);
	return copy;
}

/* The bytes up to the first NUL, as a string; free() it. */
static inline char *fuzz_string(const uint8_t *data, size_t size)
{
	size_t length = strnlen((const char *)data, size);
	char *copy = malloc(length + 1);

	assert(copy);
	if (length)
		memcpy(copy, data, length);
	copy[length] = '\0';
	return copy;
}

/* A refusal has a code and says why in one line that is safe to show. */
static inline void fuzz_check_error(const struct nr_error *error)
{
	assert(error->code < 0);
	assert(error->text[0]);
	assert(memchr(error->text, '\0', sizeof(error->text)));
	for (const char *p = error->text; *p; p++)
		assert(!iscntrl((unsigned char)*p));
}

#endif
