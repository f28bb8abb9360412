/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the tests of the masking filters stand on: layers that see what arrives
 * below a filter, and a disk that can do nothing but read and write.
 */
#ifndef TESTS_UNIT_MASKING_TEST_H
#define TESTS_UNIT_MASKING_TEST_H

#include "tests/unit/layer-test.h"

/* What came down to the last `tally` of the process, one worker only. */
static struct {
	unsigned count[NR_OPERATION_COUNT];
	uint32_t flags[NR_OPERATION_COUNT]; /* of the last one */
	bool flush_fails;
} seen;

static inline void tally_submit(struct nr_layer *layer, struct nr_request *req)
{
	seen.count[req->operation]++;
	seen.flags[req->operation] = req->flags;
	if (req->operation == NR_FLUSH && seen.flush_fails)
		nr_finish(layer, req, -5);
	else
		nr_pass(layer, req);
}

static const struct nr_layer_type tally = {
	.abi = NR_LAYER_ABI,
	.name = "tally",
	.summary = "counts what comes by",
	.kind = NR_FILTER,
	.submit = tally_submit,
};

static inline int bare_describe(struct nr_layer *layer, struct nr_traits *t, struct nr_error *error)
{
	memset(t->support, NR_NONE, sizeof(t->support));
	t->multi_conn = false;
	return 0;
}

static const struct nr_layer_type bare = {
	.abi = NR_LAYER_ABI,
	.name = "bare",
	.summary = "reads and writes, nothing else",
	.kind = NR_FILTER,
	.describe = bare_describe,
	.submit = tally_submit,
};

static inline int blocks_describe(struct nr_layer *layer, struct nr_traits *t,
				  struct nr_error *error)
{
	t->block_min = 512;
	t->block_max = 8192;
	return 0;
}

static const struct nr_layer_type blocks = {
	.abi = NR_LAYER_ABI,
	.name = "blocks",
	.summary = "takes blocks of 512 bytes, at most 16 of them",
	.kind = NR_FILTER,
	.describe = blocks_describe,
	.submit = tally_submit,
};

static const struct nr_layer_type *const masking_types[] = { &tally, &bare, &blocks, NULL };
static const struct layer_options masking_options = { .types = masking_types };

static inline void forget_seen(void)
{
	memset(&seen, 0, sizeof(seen));
}

static inline unsigned support_of(struct layer_test *t, enum nr_capability capability)
{
	return layer_test_traits(t)->support[capability];
}

/* Random requests through PLAN do what they do without it. */
static inline void is_transparent(const char *plan)
{
	struct layer_test *t = layer_test_open(&masking_options, "%s", plan);
	const struct layer_model model = { .seed = layer_seed(30), .requests = 1500 };

	layer_model_run(layer_client(t, 0), &model);
	layer_test_close(t);
}

#endif
