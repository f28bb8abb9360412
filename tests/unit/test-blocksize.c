/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Byte access over a disk of blocks: unaligned clients get what a disk of bytes
 * would give them, also when several write to the same blocks at once.
 *
 * The disk is memory that insists on blocks: the test's own filter raises the
 * minimum of what is below, so anything unaligned that reaches it is refused by
 * the choke point and shows as an error here.
 */
#include "layer-test.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>

#include <cmocka.h>

#include "filters/filters.h"

static int strict_describe(struct nr_layer *layer, struct nr_traits *t, struct nr_error *error)
{
	t->block_min = 4096;
	return 0;
}

static void strict_submit(struct nr_layer *layer, struct nr_request *req)
{
	nr_pass(layer, req);
}

static const struct nr_layer_type strict = {
	.abi = NR_LAYER_ABI,
	.name = "strict",
	.summary = "takes blocks of 4096 bytes only",
	.kind = NR_FILTER,
	.describe = strict_describe,
	.submit = strict_submit,
};

/*
 * Holds back every request until the worker has nothing else to do, so that
 * read-change-writes of one worker really overlap.
 */
static void slow_submit(struct nr_layer *layer, struct nr_request *req)
{
	nr_resume(layer, req);
}

static void slow_resume(struct nr_layer *layer, struct nr_request *req)
{
	nr_pass(layer, req);
}

static const struct nr_layer_type slow = {
	.abi = NR_LAYER_ABI,
	.name = "slow",
	.summary = "passes requests on a turn later",
	.kind = NR_FILTER,
	.submit = slow_submit,
	.resume = slow_resume,
};

static const struct nr_layer_type *const types[] = { &strict, &slow, NULL };

static struct layer_test *open_disk(unsigned workers)
{
	const struct layer_options options = { .types = types,
					       .workers = workers,
					       .aligner = &nr_blocksize_type };

	return layer_test_open(&options, "strict | slow | memory 4M");
}

static void test_the_advertised_minimum_stays_the_true_one(void **state)
{
	struct layer_test *t = open_disk(1);

	assert_int_equal(layer_test_traits(t)->block_min, 4096);
	layer_test_close(t);
}

static void test_unaligned_writes_change_only_their_bytes(void **state)
{
	struct layer_test *t = open_disk(1);
	struct layer_client *c = layer_client(t, 0);

	assert_int_equal(layer_fill(c, 0, 65536, 0xaa), 0);
	assert_int_equal(layer_fill(c, 4095, 1, 1), 0);     /* the end of a block */
	assert_int_equal(layer_fill(c, 8190, 4, 2), 0);     /* across two */
	assert_int_equal(layer_fill(c, 16384, 5000, 3), 0); /* aligned start */
	assert_int_equal(layer_fill(c, 30000, 2768, 4), 0); /* aligned end */
	assert_true(layer_is(c, 0, 4095, 0xaa));
	assert_true(layer_is(c, 4095, 1, 1));
	assert_true(layer_is(c, 4096, 4094, 0xaa));
	assert_true(layer_is(c, 8190, 4, 2));
	assert_true(layer_is(c, 16384, 5000, 3));
	assert_true(layer_is(c, 21384, 30000 - 21384, 0xaa));
	assert_true(layer_is(c, 30000, 2768, 4));
	assert_true(layer_is(c, 32768, 32768, 0xaa));
	layer_test_close(t);
}

static void test_unaligned_zero_and_trim(void **state)
{
	struct layer_test *t = open_disk(1);
	struct layer_client *c = layer_client(t, 0);

	assert_int_equal(layer_fill(c, 0, 65536, 0xaa), 0);
	assert_int_equal(layer_zero(c, 100, 50000, 0), 0);
	assert_true(layer_is(c, 0, 100, 0xaa));
	assert_true(layer_is(c, 100, 50000, 0));
	assert_true(layer_is(c, 50100, 65536 - 50100, 0xaa));
	assert_int_equal(layer_zero(c, 60000, 10, 0), 0);
	assert_true(layer_is(c, 60000, 10, 0));
	assert_true(layer_is(c, 60010, 100, 0xaa));
	assert_int_equal(layer_zero(c, 1, 10, NR_FAST_ZERO), -ENOTSUP);
	/* A trim reaches no byte that was not named. */
	assert_int_equal(layer_trim(c, 53000, 3000, 0), 0);
	assert_int_equal(layer_trim(c, 61000, 100, 0), 0);
	assert_true(layer_is(c, 60010, 65536 - 60010, 0xaa));
	layer_test_close(t);
}

static void test_a_fast_zero_that_would_be_cut_is_refused(void **state)
{
	struct layer_test *t = layer_test_open(NULL, "blocksize maxlen=4096 | memory 64k");
	struct layer_client *c = layer_client(t, 0);

	assert_int_equal(layer_fill(c, 0, 65536, 1), 0);
	assert_int_equal(layer_zero(c, 0, 8192, NR_FAST_ZERO), -ENOTSUP);
	assert_true(layer_is(c, 0, 65536, 1));
	assert_int_equal(layer_zero(c, 0, 4096, NR_FAST_ZERO), 0);
	assert_int_equal(layer_zero(c, 8192, 8192, 0), 0);
	assert_true(layer_is(c, 4096, 4096, 1));
	layer_test_close(t);
}

static void test_the_map_of_an_unaligned_range(void **state)
{
	struct layer_test *t = open_disk(1);
	struct layer_client *c = layer_client(t, 0);

	assert_int_equal(layer_fill(c, 0, 65536, 1), 0);
	assert_string_equal(layer_map(c, 1000, 100), "100:data");
	assert_string_equal(layer_map(c, 65000, 1000), "536:data 464:hole,zero");
	assert_string_equal(layer_map(c, 65537, 1), "1:hole,zero");
	layer_test_close(t);
}

static void test_overlapping_writes_lose_nothing(void **state)
{
	struct layer_test *t = open_disk(1);
	struct layer_client *c = layer_client(t, 0);
	struct nr_request *req[256];
	uint8_t data[256];

	/* 256 bytes of one block, each written by a request of its own, all at once. */
	for (unsigned i = 0; i < 256; i++) {
		data[i] = (uint8_t)i;
		req[i] = layer_start(c, NR_WRITE, 0, 1000 + i, 1, &data[i], NULL);
	}
	for (unsigned i = 0; i < 256; i++) {
		assert_int_equal(layer_wait(c, req[i]), 0);
		layer_end(c, req[i]);
	}
	for (unsigned i = 0; i < 256; i++)
		assert_true(layer_is(c, 1000 + i, 1, (uint8_t)i));
	layer_test_close(t);
}

/* Two workers write bytes and blocks to the same two blocks for a while. */

struct writer {
	struct layer_client *client;
	unsigned first;
};

#define ROUNDS 2000

static void *write_own_bytes(void *argument)
{
	struct writer *w = argument;

	for (unsigned round = 1; round <= ROUNDS; round++) {
		uint8_t byte = (uint8_t)round;

		for (unsigned at = w->first; at < 8192; at += 1024 + 512)
			LAYER_CHECK(layer_write(w->client, at, 1, &byte, 0) == 0);
		for (unsigned at = w->first; at < 8192; at += 1024 + 512)
			LAYER_CHECK(layer_is(w->client, at, 1, byte));
	}
	return NULL;
}

static void test_workers_do_not_undo_each_others_bytes(void **state)
{
	struct layer_test *t = open_disk(2);
	struct writer writer[2];
	pthread_t thread[2];

	for (unsigned i = 0; i < 2; i++) {
		writer[i] = (struct writer){ layer_client(t, i), i * 7 };
		assert_int_equal(pthread_create(&thread[i], NULL, write_own_bytes, &writer[i]), 0);
	}
	for (unsigned i = 0; i < 2; i++)
		pthread_join(thread[i], NULL);
	layer_test_close(t);
}

static void test_random_requests_match_plain_memory(void **state)
{
	struct layer_test *t = open_disk(1);
	const struct layer_model model = { .seed = layer_seed(20),
					   .requests = 3000,
					   .check_extents = true };

	layer_model_run(layer_client(t, 0), &model);
	layer_test_close(t);
}

/* Cutting. */

/* Takes little at once; whatever is longer or not aligned is refused by the choke point. */
static int narrow_describe(struct nr_layer *layer, struct nr_traits *t, struct nr_error *error)
{
	t->block_min = 512;
	t->block_max = 3 * 512;
	t->memory_align = 512;
	return 0;
}

/* The choke point does not look at memory. */
static void narrow_submit(struct nr_layer *layer, struct nr_request *req)
{
	if (req->operation == NR_WRITE)
		for (uint32_t i = 0; i < req->segment_count; i++)
			LAYER_CHECK(((uintptr_t)req->segments[i].data & 511) == 0);
	nr_pass(layer, req);
}

static const struct nr_layer_type narrow = {
	.abi = NR_LAYER_ABI,
	.name = "narrow",
	.summary = "takes at most three blocks at once",
	.kind = NR_FILTER,
	.describe = narrow_describe,
	.submit = narrow_submit,
};

/* Counts what reaches it; fails writes that cover a byte of its choice. */
struct watch {
	uint64_t bad; /* offset */
	uint64_t longest[NR_OPERATION_COUNT];
	unsigned requests, now, most;
};

static const struct nr_param watch_params[] = {
	{ .name = "bad",
	  .type = NR_PARAM_UINT,
	  .offset = offsetof(struct watch, bad),
	  .fallback = "9223372036854775807",
	  .value = "OFFSET",
	  .help = "where it fails" },
	{ .name = NULL },
};

static struct watch *watching; /* the instance of the test that runs */

static int watch_open(struct nr_layer *layer, struct nr_error *error)
{
	watching = layer->instance;
	return 0;
}

static void watch_submit(struct nr_layer *layer, struct nr_request *req)
{
	struct watch *w = layer->instance;

	w->requests++;
	w->now++;
	w->most = w->now > w->most ? w->now : w->most;
	if (req->length > w->longest[req->operation])
		w->longest[req->operation] = req->length;
	if (w->bad >= req->offset && w->bad - req->offset < req->length)
		nr_finish(layer, req, -EIO);
	else
		nr_pass(layer, req);
}

static void watch_done(struct nr_layer *layer, struct nr_request *req)
{
	watching->now--;
	nr_finish(layer, req, req->error);
}

/* Of the requests that `watch` failed, `done` of the layer itself is not told. */
static void unwatch_done(struct nr_layer *layer, struct nr_request *req)
{
	if (req->error)
		watching->now--;
	nr_finish(layer, req, req->error);
}

static const struct nr_layer_type watch = {
	.abi = NR_LAYER_ABI,
	.name = "watch",
	.summary = "counts requests",
	.kind = NR_FILTER,
	.params = watch_params,
	.instance_size = sizeof(struct watch),
	.open = watch_open,
	.submit = watch_submit,
	.done = watch_done,
};

static const struct nr_layer_type unwatch = {
	.abi = NR_LAYER_ABI,
	.name = "unwatch",
	.summary = "stands above watch",
	.kind = NR_FILTER,
	.done = unwatch_done,
};

static const struct nr_layer_type *const split_types[] = {
	&nr_blocksize_type, &strict, &slow, &narrow, &watch, &unwatch, NULL
};

static const struct layer_options split_options = { .types = split_types };

static void test_random_requests_through_narrow_layers(void **state)
{
	static const char *const plans[] = {
		"blocksize maxdata=4k | memory 1M",
		"blocksize maxdata=96k maxlen=96k minblock=32k | memory 1M",
		"blocksize minblock=64k maxdata=64k maxlen=128k | memory 1M",
		"blocksize maxdata=1 maxlen=1 | memory 3k",
		"blocksize | narrow | slow | memory 1M",
		"blocksize maxlen=1k | narrow | memory 1M",
		"blocksize maxdata=5k minblock=1k | narrow | slow | memory 1M",
		"blocksize maxdata=512 | blocksize minblock=4k maxdata=8k | memory 1M",
		"blocksize | strict | slow | memory 1M",
	};

	for (size_t i = 0; i < sizeof(plans) / sizeof(plans[0]); i++) {
		for (unsigned segment = 0; segment < 3; segment++) {
			const struct layer_options options = { .types = split_types,
							       .segment_bytes = segment * 1300 };
			const struct layer_model model = { .seed = layer_seed(40 + i),
							   .requests = 400,
							   .length_max = 300000,
							   .check_extents = true };
			struct layer_test *t = layer_test_open(&options, "%s", plans[i]);

			assert_int_equal(layer_test_traits(t)->block_min, 1);
			assert_int_equal(layer_test_traits(t)->block_max, NR_TRANSFER_MAX);
			layer_model_run(layer_client(t, 0), &model);
			layer_test_close(t);
		}
	}
}

static void test_limits_are_kept_and_pieces_are_few(void **state)
{
	struct layer_test *t = layer_test_open(
		&split_options,
		"blocksize minblock=4k maxdata=64k maxlen=128k | watch | slow | memory 16M");
	struct layer_client *c = layer_client(t, 0);

	assert_int_equal(layer_fill(c, 100, 1000000, 5), 0);
	assert_int_equal(watching->longest[NR_WRITE], 65536);
	assert_true(layer_is(c, 100, 1000000, 5));
	assert_int_equal(watching->longest[NR_READ], 65536);
	assert_int_equal(layer_zero(c, 5000, 1000000, 0), 0);
	assert_int_equal(watching->longest[NR_ZERO], 131072);
	assert_int_equal(layer_trim(c, 100, 8000000, 0), 0);
	assert_int_equal(watching->longest[NR_TRIM], 131072);
	assert_int_equal(layer_cache(c, 100, 8000000), 0);
	assert_int_equal(watching->longest[NR_CACHE], 131072);
	/* A trim leaves the rest of its first block alone. */
	assert_string_equal(layer_map(c, 100, 1000000), "3996:data 996004:hole,zero");
	assert_int_equal(watching->longest[NR_EXTENTS], 131072);
	assert_in_range(watching->most, 2, 16);
	layer_test_close(t);
}

static void test_aligned_requests_are_not_cut_in_vain(void **state)
{
	struct layer_test *t =
		layer_test_open(&split_options, "blocksize maxdata=64k | watch | memory 1M");
	struct layer_client *c = layer_client(t, 0);

	assert_int_equal(layer_fill(c, 1000, 65536, 5), 0);
	assert_int_equal(watching->requests, 1);
	assert_true(layer_is(c, 1000, 65536, 5));
	assert_int_equal(watching->requests, 2);
	assert_int_equal(layer_zero(c, 1, 1000000, 0), 0);
	assert_int_equal(watching->requests, 3);
	layer_test_close(t);
}

static void test_the_first_failed_piece_fails_the_request(void **state)
{
	struct layer_test *t = layer_test_open(
		&split_options,
		"blocksize maxdata=4k minblock=512 | unwatch | watch bad=100000 | slow | memory 1M");
	struct layer_client *c = layer_client(t, 0);
	uint8_t data[200];
	unsigned before;

	assert_int_equal(layer_fill(c, 0, 90000, 1), 0);
	assert_int_equal(layer_fill(c, 50001, 100000, 2), -EIO);
	before = watching->requests;
	assert_int_equal(layer_fill(c, 99999, 1000000 - 99999, 2), -EIO);
	assert_true(watching->requests - before < 30); /* the rest is not tried */
	assert_int_equal(layer_read(c, 99900, sizeof(data), data), -EIO);
	assert_int_equal(layer_zero(c, 99999, 2, 0), -EIO);
	assert_true(layer_is(c, 0, 50000, 1));
	layer_test_close(t);
}

static void test_few_slots_are_enough(void **state)
{
	struct layer_options options = split_options;
	struct layer_test *t;
	uint8_t *data = malloc(1 << 20);

	assert_non_null(data);
	memset(data, 7, 1 << 20);
	/* The request, a piece, a block that it reads: the rest waits. */
	for (options.slots_max = 3; options.slots_max < 8; options.slots_max++) {
		t = layer_test_open(&options,
				    "blocksize minblock=512 maxdata=4k | slow | memory 1M");
		assert_int_equal(layer_read(layer_client(t, 0), 100, 1000000, data), 0);
		layer_test_close(t);
	}
	/* With none for a piece, it is an error. */
	options.slots_max = 1;
	t = layer_test_open(&options, "blocksize minblock=512 maxdata=4k | slow | memory 1M");
	assert_int_equal(layer_read(layer_client(t, 0), 100, 1000000, data), -ENOMEM);
	assert_int_equal(layer_fill(layer_client(t, 0), 100, 1, 1), -ENOMEM);
	assert_int_equal(layer_fill(layer_client(t, 0), 512, 512, 1), 0);
	layer_test_close(t);
	free(data);
}

static void test_the_end_that_is_no_block_is_left_out(void **state)
{
	struct layer_test *t =
		layer_test_open(&split_options, "blocksize minblock=4k | memory 10000");

	assert_int_equal(layer_test_size(t), 8192);
	assert_int_equal(layer_fill(layer_client(t, 0), 8191, 1, 1), 0);
	assert_int_equal(layer_fill(layer_client(t, 0), 8191, 2, 1), -ENOSPC);
	layer_test_close(t);
}

static void test_impossible_sizes_are_refused(void **state)
{
	struct nr_error error;

	layer_test_refused(&split_options, &error, "blocksize minblock=1000 | memory 1M");
	assert_string_equal(error.text,
			    "blocksize: minblock: 1000 is not a power of two from 1 to 65536");
	layer_test_refused(&split_options, &error, "blocksize minblock=128k | memory 1M");
	assert_non_null(strstr(error.text, "minblock"));
	layer_test_refused(&split_options, &error, "blocksize minblock=4k maxdata=6k | memory 1M");
	assert_string_equal(error.text,
			    "blocksize: maxdata: 6144 is not a multiple of minblock, 4096");
	layer_test_refused(&split_options, &error, "blocksize maxlen=1000 | strict | memory 1M");
	assert_string_equal(error.text,
			    "blocksize: maxlen: 1000 is not a multiple of the 4096-byte "
			    "blocks below; use a multiple of 4096");
	layer_test_refused(&split_options, &error, "blocksize minblock=4k | narrow | memory 1M");
	assert_string_equal(error.text,
			    "blocksize: minblock: 4096 is more than the 1536 bytes that the layer "
			    "below takes at once; use minblock=512 or less");
}

/* blocksize-policy. */

static void test_policy_sets_what_clients_are_told(void **state)
{
	struct layer_test *t = layer_test_open(
		NULL, "blocksize-policy blocksize-minimum=4k blocksize-preferred=32k "
		      "blocksize-maximum=256k blocksize-error-policy=error | memory 1025k");
	const struct nr_traits *traits = layer_test_traits(t);

	assert_int_equal(traits->block_min, 4096);
	assert_int_equal(traits->block_preferred, 32768);
	assert_int_equal(traits->block_max, 262144);
	assert_int_equal(traits->advertised_max, 262144);
	assert_true(traits->refuse_unfit);
	assert_int_equal(layer_test_size(t), 1 << 20);
	layer_test_close(t);
}

static void test_policy_helps_or_refuses_the_unaligned(void **state)
{
	struct layer_options options = { .aligner = &nr_blocksize_type };
	struct layer_test *t = layer_test_open(
		&options,
		"blocksize-policy blocksize-minimum=4k blocksize-maximum=32M | memory 1M");

	assert_int_equal(layer_test_traits(t)->advertised_max, 32 << 20);
	assert_int_equal(layer_fill(layer_client(t, 0), 1, 5000, 3), 0);
	assert_true(layer_is(layer_client(t, 0), 1, 5000, 3));
	layer_test_close(t);
	/* Nothing that aligns: not even a layer above gets anything else through. */
	t = layer_test_open(NULL, "blocksize-policy blocksize-minimum=4k "
				  "blocksize-error-policy=error | memory 1M");
	{
		uint8_t byte = 1;

		assert_int_equal(layer_write(layer_client(t, 0), 1, 1, &byte, 0), -EINVAL);
	}
	layer_test_close(t);
}

static void test_policy_refuses_what_cannot_be(void **state)
{
	static const struct {
		const char *plan, *text;
	} wrong[] = {
		{ "blocksize-minimum=3000 | memory 1M",
		  "blocksize-minimum: 3000 is not a power of two from 1 to 65536" },
		{ "blocksize-preferred=3000 | memory 1M", "blocksize-preferred: 3000 is not" },
		{ "blocksize-minimum=4k blocksize-preferred=512 | memory 1M",
		  "blocksize-preferred: 512 is less than blocksize-minimum, 4096" },
		{ "blocksize-minimum=4k blocksize-maximum=6k | memory 1M",
		  "blocksize-maximum: 6144 is not a multiple of blocksize-minimum, 4096" },
		{ "blocksize-preferred=4k blocksize-maximum=2k | memory 1M",
		  "blocksize-maximum: 2048 is less than blocksize-preferred, 4096" },
		{ "blocksize-maximum=64M | memory 1M", "blocksize-maximum" },
		{ "blocksize-error-policy=maybe | memory 1M", "blocksize-error-policy" },
		{ "blocksize-minimum=512 | strict | memory 1M",
		  "blocksize-policy: blocksize-minimum: 512 is less than the 4096-byte blocks "
		  "below; use blocksize-minimum=4096 or put --filter=blocksize below" },
		{ "blocksize-minimum=4k | narrow | memory 1M", "put --filter=blocksize below" },
		{ "blocksize-maximum=5000 | strict | memory 1M",
		  "not a multiple of the 4096-byte blocks below" },
	};
	struct nr_error error;

	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		layer_test_refused(&split_options, &error, "blocksize-policy %s", wrong[i].plan);
		if (!strstr(error.text, wrong[i].text))
			fail_msg("'%s' is not in '%s'", wrong[i].text, error.text);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_fast_zero_that_would_be_cut_is_refused),
		cmocka_unit_test(test_the_advertised_minimum_stays_the_true_one),
		cmocka_unit_test(test_unaligned_writes_change_only_their_bytes),
		cmocka_unit_test(test_unaligned_zero_and_trim),
		cmocka_unit_test(test_the_map_of_an_unaligned_range),
		cmocka_unit_test(test_overlapping_writes_lose_nothing),
		cmocka_unit_test(test_workers_do_not_undo_each_others_bytes),
		cmocka_unit_test(test_random_requests_match_plain_memory),
		cmocka_unit_test(test_random_requests_through_narrow_layers),
		cmocka_unit_test(test_limits_are_kept_and_pieces_are_few),
		cmocka_unit_test(test_aligned_requests_are_not_cut_in_vain),
		cmocka_unit_test(test_the_first_failed_piece_fails_the_request),
		cmocka_unit_test(test_few_slots_are_enough),
		cmocka_unit_test(test_the_end_that_is_no_block_is_left_out),
		cmocka_unit_test(test_impossible_sizes_are_refused),
		cmocka_unit_test(test_policy_sets_what_clients_are_told),
		cmocka_unit_test(test_policy_helps_or_refuses_the_unaligned),
		cmocka_unit_test(test_policy_refuses_what_cannot_be),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
