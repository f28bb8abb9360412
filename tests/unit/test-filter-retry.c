/* SPDX-License-Identifier: BSD-3-Clause */
/* retry-request: what fails now and then goes well, what fails for a reason fails. */
#include "tests/unit/layer-test.h"

#include <errno.h>
#include <setjmp.h>

#include <cmocka.h>

#define RETRY "retry-request retry-request-retries=2 retry-request-delay=1ms"

static void a_request_that_fails_is_tried_again(void **state)
{
	struct layer_test *t =
		layer_test_open(NULL, RETRY " | error error-rate=1 error-count=2 | memory 1M");
	struct layer_client *c = layer_client(t, 0);

	assert_int_equal(layer_fill(c, 0, 65536, 0x5a), 0);
	assert_true(layer_is(c, 0, 65536, 0x5a));
	layer_test_close(t);
}

static void but_not_for_ever(void **state)
{
	struct layer_test *t =
		layer_test_open(NULL, RETRY " | error error-rate=1 error-count=3 | memory 1M");
	struct layer_client *c = layer_client(t, 0);
	uint8_t data[512];

	assert_int_equal(layer_read(c, 0, sizeof(data), data), -EIO);
	assert_int_equal(layer_read(c, 0, sizeof(data), data), 0);
	layer_test_close(t);
}

static void every_operation_is(void **state)
{
	struct layer_test *t = layer_test_open(
		NULL, "retry-request retry-request-retries=1000 retry-request-delay=10us | "
		      "error error-rate=0.5 error-flush-rate=0 | memory 1M");
	const struct layer_model model = {
		.seed = layer_seed(7), .requests = 500, .trim_zeroes = true, .check_extents = true
	};

	layer_model_run(layer_client(t, 0), &model);
	layer_test_close(t);
}

static void what_is_refused_for_what_it_is_is_not(void **state)
{
	static const char *const errors[] = { "EPERM", "ENOSPC", "EINVAL", "ENOTSUP" };
	static const int codes[] = { -EPERM, -ENOSPC, -EINVAL, -ENOTSUP };

	for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++) {
		struct layer_test *t = layer_test_open(
			NULL, RETRY " | error error=%s error-rate=1 error-count=1 | memory 1M",
			errors[i]);

		assert_int_equal(layer_fill(layer_client(t, 0), 0, 512, 1), codes[i]);
		layer_test_close(t);
	}
}

/* A backend whose first flush fails, as of a disk that has lost writes. */
static unsigned flushes;

static int lossy_describe(struct nr_layer *layer, struct nr_traits *traits, struct nr_error *error)
{
	traits->size = 4096;
	traits->support[NR_CAP_FLUSH] = NR_NATIVE;
	return 0;
}

static void lossy_submit(struct nr_layer *layer, struct nr_request *req)
{
	nr_finish(layer, req, flushes++ ? 0 : -EIO);
}

static const struct nr_layer_type lossy_type = {
	.abi = NR_LAYER_ABI,
	.name = "lossy",
	.summary = "loses what was written before its first flush",
	.kind = NR_BACKEND,
	.describe = lossy_describe,
	.submit = lossy_submit,
};

static void a_flush_that_tells_of_a_loss_is_heard(void **state)
{
	const struct nr_layer_type *const types[] = { &lossy_type, NULL };
	const struct layer_options options = { .types = types };
	struct layer_test *t = layer_test_open(&options, RETRY " | lossy");

	flushes = 0;
	assert_int_equal(layer_flush(layer_client(t, 0)), -EIO);
	assert_int_equal(flushes, 1);
	layer_test_close(t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_request_that_fails_is_tried_again),
		cmocka_unit_test(but_not_for_ever),
		cmocka_unit_test(every_operation_is),
		cmocka_unit_test(what_is_refused_for_what_it_is_is_not),
		cmocka_unit_test(a_flush_that_tells_of_a_loss_is_heard),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
