/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Sizes, numbers, switches and nearly-right names as people type them.
 */
#undef NDEBUG
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "src/stack/params-text.h"
#include "src/stack/params.h"

static void good_sizes(void **state)
{
	static const struct {
		const char *text;
		uint64_t bytes;
	} cases[] = {
		{ "0", 0 },
		{ "512", 512 },
		{ "7b", 7 },
		{ "7B", 7 },
		{ "1k", 1024 },
		{ "1K", 1024 },
		{ "3s", 1536 },
		{ "3S", 1536 },
		{ "1M", 1048576 },
		{ "1m", 1048576 },
		{ "1G", UINT64_C(1) << 30 },
		{ "2T", UINT64_C(2) << 40 },
		{ "2p", UINT64_C(2) << 50 },
		{ "7E", UINT64_C(7) << 60 },
		{ "1.5G", UINT64_C(3) << 29 },
		{ "0.5K", 512 },
		{ "1.5s", 768 },
		/* A fraction that is no whole number of bytes is rounded down. */
		{ "0.1K", 102 },
		{ "0.0009765625K", 1 },
		{ "7.99999999999999999999E", UINT64_C(9223372036854775807) },
		{ "9223372036854775807", INT64_MAX },
		{ "007", 7 },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		uint64_t bytes = ~UINT64_C(0);

		print_message("%s\n", cases[i].text);
		assert_int_equal(nr_parse_size(cases[i].text, &bytes), 0);
		assert_int_equal(bytes, cases[i].bytes);
	}
}

static void bad_sizes(void **state)
{
	static const struct {
		const char *text;
		int err;
	} cases[] = {
		{ "", -EINVAL },
		{ "-1", -EINVAL },
		{ "+1", -EINVAL },
		{ " 1", -EINVAL },
		{ "1 ", -EINVAL },
		{ "K", -EINVAL },
		{ ".5K", -EINVAL },
		{ "1.K", -EINVAL },
		/* Half a byte. */
		{ "1.5", -EINVAL },
		{ "1.5b", -EINVAL },
		{ "1.5.5K", -EINVAL },
		{ "1Q", -EINVAL },
		{ "1KB", -EINVAL },
		{ "0x10", -EINVAL },
		{ "8E", -ERANGE },
		{ "9223372036854775808", -ERANGE },
		{ "18446744073709551616", -ERANGE },
		{ "99999999999999999999999999K", -ERANGE },
		/* What is no size at all is not "too large" either. */
		{ "99999999999999999999999999Q", -EINVAL },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		uint64_t bytes = 42;

		print_message("%s\n", cases[i].text);
		assert_int_equal(nr_parse_size(cases[i].text, &bytes), cases[i].err);
		assert_int_equal(bytes, 42);
	}
}

static void numbers(void **state)
{
	uint64_t value;

	assert_int_equal(nr_parse_uint("0", &value), 0);
	assert_int_equal(value, 0);
	assert_int_equal(nr_parse_uint("18446744073709551615", &value), 0);
	assert_true(value == UINT64_MAX);
	assert_int_equal(nr_parse_uint("0xfF", &value), 0);
	assert_int_equal(value, 255);
	assert_int_equal(nr_parse_uint("18446744073709551616", &value), -ERANGE);
	assert_int_equal(nr_parse_uint("0x10000000000000000", &value), -ERANGE);
	assert_int_equal(nr_parse_uint("", &value), -EINVAL);
	assert_int_equal(nr_parse_uint("0x", &value), -EINVAL);
	assert_int_equal(nr_parse_uint("-1", &value), -EINVAL);
	assert_int_equal(nr_parse_uint("1K", &value), -EINVAL);
	assert_int_equal(nr_parse_uint("ff", &value), -EINVAL);
	/* Not changed by any of those that failed. */
	assert_int_equal(value, 255);
}

static void switches(void **state)
{
	static const char *const yes[] = { "true", "on", "yes", "1", "t", "y", "TRUE", "On" };
	static const char *const no[] = { "false", "off", "no", "0", "f", "n", "False", "OFF" };
	static const char *const neither[] = { "", "2", "tru", "yess", "o" };
	bool value;

	for (size_t i = 0; i < sizeof(yes) / sizeof(yes[0]); i++) {
		value = false;
		assert_int_equal(nr_parse_bool(yes[i], &value), 0);
		assert_true(value);
	}
	for (size_t i = 0; i < sizeof(no) / sizeof(no[0]); i++) {
		value = true;
		assert_int_equal(nr_parse_bool(no[i], &value), 0);
		assert_false(value);
	}
	for (size_t i = 0; i < sizeof(neither) / sizeof(neither[0]); i++)
		assert_int_equal(nr_parse_bool(neither[i], &value), -EINVAL);
}

static void sizes_in_words(void **state)
{
	char text[NR_SIZE_TEXT_MAX];

	assert_string_equal(nr_size_text(0, text), "0");
	assert_string_equal(nr_size_text(1, text), "1");
	assert_string_equal(nr_size_text(1000, text), "1000");
	assert_string_equal(nr_size_text(1024, text), "1K");
	assert_string_equal(nr_size_text(1536, text), "1536");
	assert_string_equal(nr_size_text(UINT64_C(1) << 60, text), "1E");
	assert_string_equal(nr_size_text(UINT64_C(8) << 60, text), "8E");
	assert_string_equal(nr_size_text(INT64_MAX, text), "9223372036854775807");
	assert_string_equal(nr_size_text(UINT64_MAX, text), "18446744073709551615");
}

static const char *word_at(void *context, size_t index)
{
	const char *const *words = context;

	return words[index];
}

static const char *nearest(const char *wrong, const char *const *words)
{
	return nr_nearest(wrong, word_at, (void *)words);
}

static void nearest_names(void **state)
{
	static const char *const layers[] = { "file", "memory", "null", "pattern", "split", NULL };
	static const char *const none[] = { NULL };
	static const char *const letters[] = { "a", NULL };
	char long_name[200];

	assert_string_equal(nearest("fil", layers), "file");
	assert_string_equal(nearest("flie", layers), "file");
	assert_string_equal(nearest("filee", layers), "file");
	assert_string_equal(nearest("File", layers), "file");
	assert_string_equal(nearest("memroy", layers), "memory");
	assert_string_equal(nearest("patterns", layers), "pattern");
	assert_null(nearest("qcow2", layers));
	assert_null(nearest("", layers));
	assert_null(nearest("fil", none));
	/* One letter for another is a guess, not a suggestion. */
	assert_null(nearest("b", letters));
	/* Far too long to be a slip. */
	memset(long_name, 'x', sizeof(long_name) - 1);
	long_name[sizeof(long_name) - 1] = '\0';
	assert_null(nearest(long_name, layers));
}

/* Of two that are possible the nearer one, and of equals the first. */
static void nearest_of_several(void **state)
{
	static const char *const words[] = { "offsets", "offset", "offset2", NULL };
	static const char *const equals[] = { "cat", "car", NULL };

	assert_string_equal(nearest("ofset", words), "offset");
	assert_string_equal(nearest("offsets", words), "offsets");
	assert_string_equal(nearest("caz", equals), "cat");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(good_sizes),
		cmocka_unit_test(bad_sizes),
		cmocka_unit_test(numbers),
		cmocka_unit_test(switches),
		cmocka_unit_test(sizes_in_words),
		cmocka_unit_test(nearest_names),
		cmocka_unit_test(nearest_of_several),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
