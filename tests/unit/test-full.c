/* SPDX-License-Identifier: BSD-3-Clause */
/* The backend `full`: zeroes out, ENOSPC for whatever goes in. */
#include "tests/unit/layer-test.h"

#include <errno.h>
#include <setjmp.h>

#include <cmocka.h>

#include "nbdring/checked.h"

static void offers_what_nbdkit_offers(void **state)
{
	struct layer_test *t = layer_test_open(NULL, "full 1M");
	const struct nr_traits *traits = layer_test_traits(t);

	assert_int_equal(layer_test_size(t), 1 << 20);
	assert_true(traits->multi_conn);
	assert_false(traits->read_only);
	assert_int_equal(traits->support[NR_CAP_FLUSH], NR_NONE);
	assert_int_equal(traits->support[NR_CAP_FUA], NR_NONE);
	assert_int_equal(traits->support[NR_CAP_TRIM], NR_NATIVE);
	assert_int_equal(traits->support[NR_CAP_ZERO], NR_NATIVE);
	assert_int_equal(traits->support[NR_CAP_FAST_ZERO], NR_NATIVE);
	assert_int_equal(traits->support[NR_CAP_CACHE], NR_NATIVE);
	assert_int_equal(traits->support[NR_CAP_EXTENTS], NR_NATIVE);
	assert_int_equal(traits->support[NR_CAP_RESIZE], NR_NONE);
	layer_test_close(t);
}

static void needs_a_size(void **state)
{
	struct nr_error error;

	assert_true(layer_test_refused(NULL, &error, "full") < 0);
	assert_non_null(strstr(error.text, "size"));
	assert_true(layer_test_refused(NULL, &error, "full 9223372036854775808") < 0);
}

static void has_no_space(void **state)
{
	struct layer_test *t = layer_test_open(NULL, "full size=1M");
	struct layer_client *c = layer_client(t, 0);

	assert_int_equal(layer_fill(c, 0, 4096, 0xaa), -ENOSPC);
	assert_int_equal(layer_fill(c, 1048575, 1, 0), -ENOSPC);
	assert_int_equal(layer_trim(c, 0, 1048576, 0), -ENOSPC);
	assert_int_equal(layer_zero(c, 0, 4096, 0), -ENOSPC);
	assert_int_equal(layer_zero(c, 0, 4096, NR_FAST_ZERO | NR_NO_HOLE), -ENOSPC);
	layer_test_close(t);
}

static void reads_zeroes(void **state)
{
	struct layer_test *t = layer_test_open(NULL, "full %llu", (unsigned long long)NR_SIZE_MAX);
	struct layer_client *c = layer_client(t, 0);

	assert_true(layer_is(c, 3, 100000, 0));
	assert_true(layer_is(c, NR_SIZE_MAX - 1, 1, 0));
	assert_int_equal(layer_cache(c, 0, NR_SIZE_MAX), 0);
	assert_string_equal(layer_map(c, 0, NR_SIZE_MAX), "9223372036854775807:hole,zero");
	layer_test_close(t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(offers_what_nbdkit_offers),
		cmocka_unit_test(needs_a_size),
		cmocka_unit_test(has_no_space),
		cmocka_unit_test(reads_zeroes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
