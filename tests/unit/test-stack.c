/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The stack: what layers and the server rely on when requests move.
 *
 * The layers here are small ones of the test's own, so that each rule of
 * include/nbdring/layer.h is seen by itself: a recording backend that finishes at
 * once, filters that shift, split, park, and backends that lack something.
 */
#include "layer-test.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdatomic.h>

#include <cmocka.h>

#include "filters/filters.h"
#include "nbdring/checked.h"

/* What the backend was asked, in order. */

struct seen {
	enum nr_operation operation;
	uint32_t flags;
	uint64_t offset, length;
	uint32_t metadata;
};

static struct {
	struct seen seen[4096];
	unsigned count;
	int fail_operation; /* -1: none */
	int error;
	unsigned short_answer; /* bytes missing from answers to reads */
	bool in_submit;
	unsigned done_in_submit; /* `done` slots that ran inside a submit */
	struct nr_traits traits;
} tape;

static void rewind_tape(void)
{
	memset(&tape, 0, sizeof(tape));
	tape.fail_operation = -1;
	tape.traits.size = 8 * 1024 * 1024;
	tape.traits.block_min = 1;
	tape.traits.block_preferred = 4096;
	tape.traits.block_max = NR_TRANSFER_MAX;
	tape.traits.memory_align = 1;
	memset(tape.traits.support, NR_NATIVE, sizeof(tape.traits.support));
}

static int recorder_describe(struct nr_layer *layer, struct nr_traits *t, struct nr_error *error)
{
	*t = tape.traits;
	return 0;
}

static void recorder_submit(struct nr_layer *layer, struct nr_request *req)
{
	tape.in_submit = true;
	if (tape.count < 4096)
		tape.seen[tape.count++] = (struct seen){ req->operation, req->flags, req->offset,
							 req->length, req->metadata };
	if (req->operation == NR_READ)
		nr_answer_hole(req, req->length - tape.short_answer);
	if (req->operation == NR_EXTENTS)
		nr_extents_add(req->extents, req->length, NR_EXTENT_HOLE);
	nr_finish(layer, req, (int)req->operation == tape.fail_operation ? tape.error : 0);
	tape.in_submit = false;
}

static const struct nr_layer_type recorder = {
	.abi = NR_LAYER_ABI,
	.name = "recorder",
	.summary = "remembers what it is asked",
	.kind = NR_BACKEND,
	.describe = recorder_describe,
	.submit = recorder_submit,
};

/* A filter with a parameter that changes requests in place and puts them back. */

struct shift {
	uint64_t by;
};

static const struct nr_param shift_params[] = {
	{ .name = "by",
	  .type = NR_PARAM_SIZE,
	  .flags = NR_PARAM_REQUIRED,
	  .offset = offsetof(struct shift, by),
	  .max = NR_SIZE_MAX,
	  .value = "SIZE",
	  .help = "how far" },
	{ .name = NULL },
};

static int shift_describe(struct nr_layer *layer, struct nr_traits *t, struct nr_error *error)
{
	const struct shift *shift = layer->instance;

	if (t->size < shift->by)
		return nr_error_set(error, -EINVAL, "the disk is shorter than by=");
	t->size -= shift->by;
	return 0;
}

static void shift_submit(struct nr_layer *layer, struct nr_request *req)
{
	const struct shift *shift = layer->instance;

	*(uint64_t *)nr_scratch(layer, req) = req->offset;
	req->offset += shift->by;
	nr_pass(layer, req);
}

static void shift_done(struct nr_layer *layer, struct nr_request *req)
{
	if (tape.in_submit)
		tape.done_in_submit++;
	req->offset = *(uint64_t *)nr_scratch(layer, req);
	nr_finish(layer, req, req->error);
}

static const struct nr_layer_type shifter = {
	.abi = NR_LAYER_ABI,
	.name = "shift",
	.summary = "moves requests",
	.kind = NR_FILTER,
	.params = shift_params,
	.instance_size = sizeof(struct shift),
	.request_size = sizeof(uint64_t),
	.describe = shift_describe,
	.submit = shift_submit,
	.done = shift_done,
};

/* A filter that writes the halves of a write as two children. */

struct halves {
	unsigned left;
	int error;
};

static void halve_submit(struct nr_layer *layer, struct nr_request *req)
{
	struct halves *halves = nr_scratch(layer, req);
	uint64_t half = req->length / 2;

	if (req->operation != NR_TRIM) {
		nr_pass(layer, req);
		return;
	}
	*halves = (struct halves){ 0, 0 };
	for (unsigned i = 0; i < 2; i++) {
		struct nr_request *child =
			nr_child(layer, req, NR_TRIM, req->offset + i * half, half);

		if (!child) {
			halves->error = -ENOMEM;
			continue;
		}
		halves->left++;
		nr_pass(layer, child);
	}
	if (!halves->left)
		nr_finish(layer, req, halves->error);
}

static void halve_child_done(struct nr_layer *layer, struct nr_request *child)
{
	struct nr_request *req = nr_child_parent(child);
	struct halves *halves = nr_scratch(layer, req);

	if (child->error)
		halves->error = child->error;
	nr_child_release(child);
	if (--halves->left == 0)
		nr_finish(layer, req, halves->error);
}

static const struct nr_layer_type halver = {
	.abi = NR_LAYER_ABI,
	.name = "halve",
	.summary = "splits trims in two",
	.kind = NR_FILTER,
	.request_size = sizeof(struct halves),
	.submit = halve_submit,
	.child_done = halve_child_done,
};

/* A filter that parks each request with a thread, which resumes it. */

static struct {
	struct nr_layer *layer;
	struct nr_request *req;
	atomic_bool resumed_on_worker;
	pthread_t thread, worker;
} parking;

static void *resume_from_thread(void *unused)
{
	nr_resume(parking.layer, parking.req);
	return NULL;
}

static void park_submit(struct nr_layer *layer, struct nr_request *req)
{
	parking.layer = layer;
	parking.req = req;
	parking.worker = pthread_self();
	pthread_create(&parking.thread, NULL, resume_from_thread, NULL);
}

static void park_resume(struct nr_layer *layer, struct nr_request *req)
{
	pthread_join(parking.thread, NULL);
	atomic_store(&parking.resumed_on_worker, pthread_equal(pthread_self(), parking.worker));
	nr_pass(layer, req);
}

static const struct nr_layer_type parker = {
	.abi = NR_LAYER_ABI,
	.name = "park",
	.summary = "has a thread think about it",
	.kind = NR_FILTER,
	.submit = park_submit,
	.resume = park_resume,
};

static const struct nr_layer_type outdated = {
	.abi = NR_LAYER_ABI + 1,
	.name = "outdated",
	.summary = "built for another server",
	.kind = NR_FILTER,
};

static const struct nr_layer_type glutton = {
	.abi = NR_LAYER_ABI,
	.name = "glutton",
	.summary = "wants too much scratch",
	.kind = NR_FILTER,
	.request_size = 3000,
};

static const struct nr_layer_type *const types[] = { &recorder, &shifter, &halver, &parker,
						     &outdated, &glutton, NULL };
static const struct layer_options options = { .types = types };

static int setup(void **state)
{
	rewind_tape();
	return 0;
}

/* ---- moving ---- */

static void test_completions_never_run_inside_submit(void **state)
{
	struct layer_test *t = layer_test_open(&options, "shift by=1 | shift by=2 | recorder");
	struct layer_client *c = layer_client(t, 0);
	struct nr_request *req[64];

	for (unsigned i = 0; i < 64; i++)
		req[i] = layer_start(c, NR_TRIM, 0, i, 1, NULL, NULL);
	for (unsigned i = 0; i < 64; i++)
		assert_false(layer_finished(req[i])); /* the backend has answered, nobody is told */
	for (unsigned i = 0; i < 64; i++) {
		assert_int_equal(layer_wait(c, req[i]), 0);
		assert_int_equal(req[i]->offset, i); /* each filter has put back its change */
		layer_end(c, req[i]);
	}
	assert_int_equal(tape.done_in_submit, 0);
	assert_int_equal(tape.seen[5].offset, 5 + 3);
	layer_test_close(t);
}

static void test_a_deep_stack_does_not_recurse_on_the_way_up(void **state)
{
	struct layer_test *t = layer_test_open(
		&options, "shift by=1 | nofilter | shift by=1 | nofilter | shift by=1 | nofilter | "
			  "shift by=1 | nofilter | shift by=1 | recorder");
	struct layer_client *c = layer_client(t, 0);

	assert_int_equal(layer_trim(c, 100, 1, 0), 0);
	assert_int_equal(tape.seen[0].offset, 105);
	assert_int_equal(tape.done_in_submit, 0);
	layer_test_close(t);
}

static void test_the_same_filter_twice_keeps_two_states(void **state)
{
	struct layer_test *a = layer_test_open(&options, "shift by=10 | shift by=100 | recorder");
	struct layer_test *b = layer_test_open(&options, "shift by=7 | recorder");

	assert_int_equal(layer_trim(layer_client(a, 0), 0, 1, 0), 0);
	assert_int_equal(layer_trim(layer_client(b, 0), 0, 1, 0), 0);
	assert_int_equal(tape.seen[0].offset, 110);
	assert_int_equal(tape.seen[1].offset, 7);
	assert_int_equal(layer_test_size(a), 8 * 1024 * 1024 - 110);
	layer_test_close(a);
	layer_test_close(b);
}

static void test_a_parked_request_resumes_on_its_worker(void **state)
{
	const struct layer_options with_ring = { .types = types, .ring = true };
	struct layer_test *t = layer_test_open(&with_ring, "park | recorder");

	assert_int_equal(layer_trim(layer_client(t, 0), 0, 1, 0), 0);
	assert_true(atomic_load(&parking.resumed_on_worker));
	layer_test_close(t);
}

static void test_children_end_their_parent_once(void **state)
{
	struct layer_test *t = layer_test_open(&options, "halve | shift by=8 | recorder");
	struct layer_client *c = layer_client(t, 0);

	assert_int_equal(layer_trim(c, 0, 100, 0), 0);
	assert_int_equal(tape.count, 2);
	assert_int_equal(tape.seen[1].offset, 58);
	assert_int_equal(tape.seen[1].length, 50);
	layer_test_close(t);
}

static void test_the_error_of_a_child_reaches_the_client(void **state)
{
	struct layer_test *t = layer_test_open(&options, "shift by=1 | halve | recorder");

	tape.fail_operation = NR_TRIM;
	tape.error = -EIO;
	assert_int_equal(layer_trim(layer_client(t, 0), 0, 100, 0), -EIO);
	layer_test_close(t);
}

static void test_an_exhausted_pool_is_an_error_and_no_leak(void **state)
{
	const struct layer_options tiny = { .types = types, .slots_max = 2 };
	struct layer_test *t = layer_test_open(&tiny, "halve | recorder");
	struct layer_client *c = layer_client(t, 0);

	for (unsigned i = 0; i < 10; i++)
		assert_int_equal(layer_trim(c, 0, 100, 0), -ENOMEM);
	assert_int_equal(tape.count, 10); /* there was room for one of two children */
	assert_int_equal(layer_client_worker(c)->slots_used, 0);
	layer_test_close(t);
}

/* ---- the choke point ---- */

static void test_layers_see_legal_requests_only(void **state)
{
	struct layer_test *t;
	struct layer_client *c;
	uint8_t data[1024] = { 0 };

	tape.traits.block_min = 512;
	tape.traits.block_max = 65536;
	t = layer_test_open(&options, "recorder");
	c = layer_client(t, 0);
	assert_int_equal(layer_read(c, 1, 512, data), -EINVAL);
	assert_int_equal(layer_read(c, 0, 511, data), -EINVAL);
	assert_int_equal(layer_read(c, 8 * 1024 * 1024, 512, data), -EINVAL);
	assert_int_equal(layer_write(c, 8 * 1024 * 1024 - 512, 1024, data, 0), -ENOSPC);
	assert_int_equal(layer_trim(c, UINT64_MAX - 511, 1024, 0), -ENOSPC);
	assert_int_equal(tape.count, 0);
	assert_int_equal(layer_read(c, 8 * 1024 * 1024 - 512, 512, data), 0);
	assert_int_equal(tape.count, 1);
	layer_test_close(t);
}

static void test_a_filter_cannot_pass_what_the_layer_below_does_not_take(void **state)
{
	struct layer_test *t;

	tape.traits.block_min = 512;
	t = layer_test_open(&options, "shift by=100 | recorder");
	assert_int_equal(layer_trim(layer_client(t, 0), 0, 512, 0), -EINVAL);
	assert_int_equal(tape.count, 0);
	layer_test_close(t);
}

static void test_what_is_not_offered_is_refused(void **state)
{
	struct layer_test *t;
	struct layer_client *c;
	uint8_t byte = 0;

	tape.traits.support[NR_CAP_TRIM] = NR_NONE;
	tape.traits.support[NR_CAP_FUA] = NR_NONE;
	tape.traits.support[NR_CAP_FAST_ZERO] = NR_NONE;
	t = layer_test_open(&options, "recorder");
	c = layer_client(t, 0);
	assert_int_equal(layer_trim(c, 0, 1, 0), -EINVAL);
	assert_int_equal(layer_write(c, 0, 1, &byte, NR_FUA), -EINVAL);
	assert_int_equal(layer_zero(c, 0, 1, NR_FAST_ZERO), -ENOTSUP);
	assert_int_equal(tape.count, 0);
	layer_test_close(t);
}

static void test_a_read_only_layer_is_not_written_to(void **state)
{
	struct layer_test *t;
	struct layer_client *c;
	uint8_t byte = 0;

	tape.traits.read_only = true;
	t = layer_test_open(&options, "recorder");
	c = layer_client(t, 0);
	assert_int_equal(layer_write(c, 0, 1, &byte, 0), -EROFS);
	assert_int_equal(layer_trim(c, 0, 1, 0), -EROFS);
	assert_int_equal(layer_zero(c, 0, 1, 0), -EROFS);
	assert_int_equal(layer_resize(c, 1), -EROFS);
	assert_int_equal(tape.count, 0);
	layer_test_close(t);
}

static void test_an_answer_that_is_too_short_is_an_error(void **state)
{
	struct layer_test *t = layer_test_open(&options, "recorder");
	uint8_t data[100];

	tape.short_answer = 1;
	assert_int_equal(layer_read(layer_client(t, 0), 0, 100, data), -EIO);
	layer_test_close(t);
}

/* ---- emulation ---- */

static void test_fua_is_emulated_by_a_flush_after_the_write(void **state)
{
	struct layer_test *t;
	struct layer_client *c;
	uint8_t byte = 1;

	tape.traits.support[NR_CAP_FUA] = NR_EMULATE;
	t = layer_test_open(&options, "shift by=4 | recorder");
	c = layer_client(t, 0);
	assert_int_equal(layer_write(c, 5, 1, &byte, NR_FUA), 0);
	assert_int_equal(tape.count, 2);
	assert_int_equal(tape.seen[0].operation, NR_WRITE);
	assert_int_equal(tape.seen[0].offset, 9);
	assert_int_equal(tape.seen[0].flags, 0);
	assert_int_equal(tape.seen[1].operation, NR_FLUSH);
	assert_int_equal(layer_write(c, 5, 1, &byte, 0), 0);
	assert_int_equal(tape.count, 3); /* without the flag: no flush */
	layer_test_close(t);
}

static void test_emulated_fua_fails_with_its_flush(void **state)
{
	struct layer_test *t;
	uint8_t byte = 1;

	tape.traits.support[NR_CAP_FUA] = NR_EMULATE;
	tape.fail_operation = NR_FLUSH;
	tape.error = -EIO;
	t = layer_test_open(&options, "recorder");
	assert_int_equal(layer_write(layer_client(t, 0), 5, 1, &byte, NR_FUA), -EIO);
	layer_test_close(t);
}

static void test_zero_is_emulated_by_bounded_writes(void **state)
{
	struct layer_test *t;
	uint64_t next = 1000;

	tape.traits.support[NR_CAP_ZERO] = NR_EMULATE;
	tape.traits.support[NR_CAP_FAST_ZERO] = NR_NONE;
	tape.traits.block_max = 65536;
	t = layer_test_open(&options, "recorder");
	assert_int_equal(layer_zero(layer_client(t, 0), 1000, 200000, NR_FUA), 0);
	assert_int_equal(tape.count, 5);
	for (unsigned i = 0; i < 4; i++) {
		assert_int_equal(tape.seen[i].operation, NR_WRITE);
		assert_int_equal(tape.seen[i].offset, next);
		assert_true(tape.seen[i].length <= 65536);
		next += tape.seen[i].length;
	}
	assert_int_equal(next, 201000);
	layer_test_close(t);
}

static void test_cache_is_emulated_by_reads(void **state)
{
	struct layer_test *t;

	tape.traits.support[NR_CAP_CACHE] = NR_EMULATE;
	t = layer_test_open(&options, "recorder");
	assert_int_equal(layer_cache(layer_client(t, 0), 0, 3 * NR_TRANSFER_MAX), 0);
	assert_int_equal(tape.count, 3);
	assert_int_equal(tape.seen[2].operation, NR_READ);
	layer_test_close(t);
}

static void test_trim_flush_and_extents_are_emulated_without_the_layer(void **state)
{
	struct layer_test *t;
	struct layer_client *c;

	tape.traits.support[NR_CAP_TRIM] = NR_EMULATE;
	tape.traits.support[NR_CAP_FLUSH] = NR_EMULATE;
	tape.traits.support[NR_CAP_EXTENTS] = NR_EMULATE;
	t = layer_test_open(&options, "recorder");
	c = layer_client(t, 0);
	assert_int_equal(layer_trim(c, 0, 100, 0), 0);
	assert_int_equal(layer_flush(c), 0);
	assert_string_equal(layer_map(c, 0, 4096), "4096:data");
	assert_int_equal(tape.count, 0);
	layer_test_close(t);
}

/* ---- metadata contexts ---- */

static const char *const own_contexts[] = { "x:first", "x:second" };

static void asked(struct nr_request *req)
{
	/* ask_for sees the state. */
}

static int ask_for(struct layer_client *c, uint32_t metadata)
{
	struct nr_extent room[8];
	struct nr_extents list = { .extent = room, .capacity = 8, .end = 4096 };
	struct nr_request *req =
		nr_request_get(layer_client_worker(c), layer_test_stack(layer_client_test(c)), 0);
	int error;

	assert_non_null(req);
	req->operation = NR_EXTENTS;
	req->length = 4096;
	req->extents = &list;
	req->metadata = metadata;
	req->internal.finished = asked;
	nr_stack_submit(layer_test_stack(layer_client_test(c)), req);
	while (req->internal.state != NR_REQUEST_IDLE)
		layer_turn(c);
	error = req->error;
	nr_request_release(req, 0);
	return error;
}

static void test_contexts_are_those_of_the_backend_where_filters_let_them_pass(void **state)
{
	struct layer_test *t;

	tape.traits.contexts = own_contexts;
	tape.traits.context_count = 2;
	t = layer_test_open(&options, "offset offset=4096 | recorder");
	assert_int_equal(layer_test_traits(t)->context_count, 2);
	assert_int_equal(ask_for(layer_client(t, 0), 2), 0);
	assert_int_equal(tape.seen[0].metadata, 2);
	assert_int_equal(tape.seen[0].offset, 4096);
	assert_int_equal(ask_for(layer_client(t, 0), 3), -EINVAL);
	assert_int_equal(tape.count, 1);
	layer_test_close(t);

	/* One that looks at requests and says nothing, and one that has no map. */
	t = layer_test_open(&options, "shift by=512 | recorder");
	assert_int_equal(layer_test_traits(t)->context_count, 0);
	assert_int_equal(ask_for(layer_client(t, 0), 1), -EINVAL);
	layer_test_close(t);
	t = layer_test_open(&options, "noextents | recorder");
	assert_int_equal(layer_test_traits(t)->context_count, 0);
	layer_test_close(t);
}

static void test_contexts_that_are_none_are_not_opened(void **state)
{
	static const char *const bad[][2] = { { "x:a", "x:a" }, { "x:a", "b" }, { ":b", "x:a" } };
	static const char *many[NR_CONTEXTS_LISTED_MAX + 1];
	struct nr_error error;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		tape.traits.contexts = bad[i];
		tape.traits.context_count = 2;
		assert_int_equal(layer_test_refused(&options, &error, "recorder"), -EINVAL);
	}
	tape.traits.contexts = many;
	tape.traits.context_count = NR_CONTEXTS_LISTED_MAX + 1;
	assert_int_equal(layer_test_refused(&options, &error, "recorder"), -E2BIG);
}

/* ---- opening ---- */

static void refuse(const char *plan, const char *word)
{
	struct nr_error error = { 0 };

	assert_true(layer_test_refused(&options, &error, "%s", plan) < 0);
	if (!strstr(error.text, word))
		fail_msg("'%s' does not mention '%s'", error.text, word);
}

static void test_a_layer_that_describes_nonsense_is_not_opened(void **state)
{
	tape.traits.block_min = 3;
	refuse("recorder", "power of two");
	rewind_tape();
	tape.traits.block_max = 2 * NR_TRANSFER_MAX;
	refuse("recorder", "maximum block size");
	rewind_tape();
	tape.traits.size = UINT64_C(1) << 63;
	refuse("recorder", "2^63-1");
	rewind_tape();
	tape.traits.support[NR_CAP_RESIZE] = NR_EMULATE;
	refuse("recorder", "resize");
	rewind_tape();
	tape.traits.support[NR_CAP_ZERO] = NR_NONE;
	refuse("recorder", "fast zero");
}

static void test_errors_of_opening_name_the_layer(void **state)
{
	refuse("shift by=1G | recorder", "shift: the disk is shorter than by=");
	refuse("outdated | recorder", "version");
	refuse("shift | recorder", "by");
	refuse("glutton | glutton | recorder", "fewer filters");
}

static void test_a_new_size_shows_through_filters(void **state)
{
	struct layer_test *t = layer_test_open(&options, "shift by=1M | nofilter | memory 4M");
	struct layer_client *c = layer_client(t, 0);

	assert_int_equal(layer_test_size(t), 3 << 20);
	assert_int_equal(layer_resize(c, 2 << 20), 0);
	assert_int_equal(layer_test_size(t), 2 << 20); /* the filter moves the end, too */
	assert_int_equal(layer_trim(c, 2 << 20, 1, 0), -ENOSPC);
	layer_test_close(t);
}

/* ---- lists ---- */

static void test_extents_merge_and_stop_at_the_end(void **state)
{
	struct nr_extent extent[2];
	struct nr_extents list = {
		.start = 100, .end = 1000, .next = 100, .capacity = 2, .extent = extent
	};

	assert_true(nr_extents_add(&list, 50, 0));
	assert_true(nr_extents_add(&list, 50, 0));
	assert_int_equal(list.count, 1);
	assert_true(nr_extents_add(&list, 100, NR_EXTENT_HOLE));
	assert_false(nr_extents_add(&list, 100, 0)); /* no room for a third */
	assert_false(nr_extents_add(&list, UINT64_MAX, NR_EXTENT_HOLE));
	assert_int_equal(list.next, 1000);
	assert_int_equal(extent[1].length, 800);
}

/* Writes are cut for the sake of the backend only where nobody sees it. */
static void test_filters_see_writes_as_they_were_made(void **state)
{
	struct layer_test *t = layer_test_open(NULL, "memory 1M");

	assert_int_equal(layer_test_traits(t)->write_piece, 256 * 1024);
	layer_test_close(t);
	t = layer_test_open(NULL, "nofilter | memory 1M");
	assert_int_equal(layer_test_traits(t)->write_piece, 256 * 1024);
	layer_test_close(t);
	t = layer_test_open(NULL, "count | memory 1M");
	assert_int_equal(layer_test_traits(t)->write_piece, 0);
	layer_test_close(t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_completions_never_run_inside_submit, setup),
		cmocka_unit_test_setup(test_a_deep_stack_does_not_recurse_on_the_way_up, setup),
		cmocka_unit_test_setup(test_the_same_filter_twice_keeps_two_states, setup),
		cmocka_unit_test_setup(test_a_parked_request_resumes_on_its_worker, setup),
		cmocka_unit_test_setup(test_children_end_their_parent_once, setup),
		cmocka_unit_test_setup(test_the_error_of_a_child_reaches_the_client, setup),
		cmocka_unit_test_setup(test_an_exhausted_pool_is_an_error_and_no_leak, setup),
		cmocka_unit_test_setup(test_layers_see_legal_requests_only, setup),
		cmocka_unit_test_setup(test_a_filter_cannot_pass_what_the_layer_below_does_not_take,
				       setup),
		cmocka_unit_test_setup(test_what_is_not_offered_is_refused, setup),
		cmocka_unit_test_setup(test_a_read_only_layer_is_not_written_to, setup),
		cmocka_unit_test_setup(test_an_answer_that_is_too_short_is_an_error, setup),
		cmocka_unit_test_setup(test_fua_is_emulated_by_a_flush_after_the_write, setup),
		cmocka_unit_test_setup(test_emulated_fua_fails_with_its_flush, setup),
		cmocka_unit_test_setup(test_zero_is_emulated_by_bounded_writes, setup),
		cmocka_unit_test_setup(test_cache_is_emulated_by_reads, setup),
		cmocka_unit_test_setup(test_trim_flush_and_extents_are_emulated_without_the_layer,
				       setup),
		cmocka_unit_test_setup(
			test_contexts_are_those_of_the_backend_where_filters_let_them_pass, setup),
		cmocka_unit_test_setup(test_contexts_that_are_none_are_not_opened, setup),
		cmocka_unit_test_setup(test_a_layer_that_describes_nonsense_is_not_opened, setup),
		cmocka_unit_test_setup(test_errors_of_opening_name_the_layer, setup),
		cmocka_unit_test_setup(test_a_new_size_shows_through_filters, setup),
		cmocka_unit_test_setup(test_extents_merge_and_stop_at_the_end, setup),
		cmocka_unit_test(test_filters_see_writes_as_they_were_made),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
