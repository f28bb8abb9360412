/* SPDX-License-Identifier: BSD-3-Clause */
/* The backend `pattern`: every eight bytes hold their offset, and cannot be changed. */
#include "tests/unit/layer-test.h"

#include <errno.h>
#include <setjmp.h>

#include <cmocka.h>

#include "nbdring/checked.h"

/* The byte at OFFSET, by the definition rather than by words. */
static uint8_t expected(uint64_t offset)
{
	return (uint8_t)((offset & ~UINT64_C(7)) >> (8 * (7 - (offset & 7))));
}

static bool right(struct layer_client *c, uint64_t offset, uint64_t length)
{
	uint8_t *data = malloc(length);
	bool is = true;

	LAYER_CHECK(data);
	LAYER_CHECK(layer_read(c, offset, length, data) == 0);
	for (uint64_t i = 0; i < length && is; i++)
		is = data[i] == expected(offset + i);
	free(data);
	return is;
}

static void is_read_only(void **state)
{
	struct layer_test *t = layer_test_open(NULL, "pattern 1M");
	const struct nr_traits *traits = layer_test_traits(t);

	assert_int_equal(layer_test_size(t), 1 << 20);
	assert_true(traits->read_only);
	assert_true(traits->multi_conn);
	assert_int_equal(traits->support[NR_CAP_CACHE], NR_NATIVE);
	assert_int_equal(traits->support[NR_CAP_FLUSH], NR_NONE);
	assert_int_equal(layer_fill(layer_client(t, 0), 0, 8, 0), -EROFS);
	assert_string_equal(layer_map(layer_client(t, 0), 0, 1 << 20), "1048576:data");
	layer_test_close(t);
}

static void needs_a_size(void **state)
{
	struct nr_error error;

	assert_true(layer_test_refused(NULL, &error, "pattern") < 0);
	assert_non_null(strstr(error.text, "size"));
}

static void words_hold_their_offset(void **state)
{
	struct layer_test *t = layer_test_open(NULL, "pattern size=8M");
	struct layer_client *c = layer_client(t, 0);
	static const uint8_t words[] = {
		0, 0, 0, 0, 0, 0, 0x12, 0x38, 0, 0, 0, 0, 0, 0, 0x12, 0x40
	};
	uint8_t data[16];

	assert_int_equal(layer_read(c, 0x1238, 16, data), 0);
	assert_memory_equal(data, words, 16);
	assert_true(right(c, 0, 8 << 20));
	layer_test_close(t);
}

static void any_offset_and_length_will_do(void **state)
{
	struct layer_test *t = layer_test_open(NULL, "pattern size=70001");
	struct layer_client *c = layer_client(t, 0);

	for (uint64_t offset = 65520; offset < 65552; offset++)
		for (uint64_t length = 1; length < 40; length++)
			assert_true(right(c, offset, length));
	/* The last number is cut off. */
	assert_true(right(c, 69990, 11));
	layer_test_close(t);
}

static void reaches_the_largest_size(void **state)
{
	struct layer_test *t =
		layer_test_open(NULL, "pattern %llu", (unsigned long long)NR_SIZE_MAX);
	struct layer_client *c = layer_client(t, 0);

	assert_true(right(c, NR_SIZE_MAX - 100, 100));
	assert_true(right(c, NR_SIZE_MAX - NR_TRANSFER_MAX, NR_TRANSFER_MAX));
	assert_string_equal(layer_map(c, 0, NR_SIZE_MAX), "9223372036854775807:data");
	layer_test_close(t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(is_read_only),
		cmocka_unit_test(needs_a_size),
		cmocka_unit_test(words_hold_their_offset),
		cmocka_unit_test(any_offset_and_length_will_do),
		cmocka_unit_test(reaches_the_largest_size),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
