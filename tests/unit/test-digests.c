/* SPDX-License-Identifier: BSD-3-Clause */
/* SHA-1 and XXH64: of known texts, and the same however the bytes come in pieces. */
#undef NDEBUG

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "filters/sha1.h"
#include "filters/xxh64.h"

static uint64_t xxh64_of(const void *data, size_t length, size_t piece)
{
	struct nr_xxh64 x;

	nr_xxh64_begin(&x);
	for (size_t at = 0; at < length; at += piece)
		nr_xxh64_add(&x, (const uint8_t *)data + at,
			     piece < length - at ? piece : length - at);
	return nr_xxh64_value(&x);
}

static const char *sha1_of(const void *data, size_t length, size_t piece)
{
	static char text[2 * NR_SHA1_BYTES + 1];
	uint8_t value[NR_SHA1_BYTES];
	struct nr_sha1 s;

	nr_sha1_begin(&s);
	for (size_t at = 0; at < length; at += piece)
		nr_sha1_add(&s, (const uint8_t *)data + at,
			    piece < length - at ? piece : length - at);
	nr_sha1_value(&s, value);
	for (unsigned i = 0; i < NR_SHA1_BYTES; i++)
		(void)snprintf(text + 2 * i, 3, "%02x", value[i]);
	return text;
}

static void known_texts(void **state)
{
	static const char spam[] = "Nobody inspects the spammish repetition";
	char *million = malloc(1000000);

	assert_non_null(million);
	memset(million, 'a', 1000000);
	assert_true(xxh64_of("", 0, 1) == UINT64_C(0xef46db3751d8e999));
	assert_true(xxh64_of("abc", 3, 3) == UINT64_C(0x44bc2cf5ad770999));
	assert_true(xxh64_of(spam, strlen(spam), 40) == UINT64_C(0xfbcea83c8a378bf1));
	assert_string_equal(sha1_of("", 0, 1), "da39a3ee5e6b4b0d3255bfef95601890afd80709");
	assert_string_equal(sha1_of("abc", 3, 3), "a9993e364706816aba3e25717850c26c9cd0d89d");
	assert_string_equal(sha1_of(million, 1000000, 4099),
			    "34aa973cd4c4daa4f61eeb2bdbad27316534016f");
	free(million);
}

static void pieces_make_no_difference(void **state)
{
	uint8_t data[300];
	char whole[2 * NR_SHA1_BYTES + 1];

	for (unsigned i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)(i * 131 + i / 7);
	for (size_t length = 0; length <= sizeof(data); length++) {
		uint64_t sum = xxh64_of(data, length, sizeof(data));

		(void)snprintf(whole, sizeof(whole), "%s", sha1_of(data, length, sizeof(data)));
		for (size_t piece = 1; piece < 70; piece += 3) {
			assert_true(xxh64_of(data, length, piece) == sum);
			assert_string_equal(sha1_of(data, length, piece), whole);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(known_texts),
		cmocka_unit_test(pieces_make_no_difference),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
