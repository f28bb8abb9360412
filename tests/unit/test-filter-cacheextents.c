/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The filter `cacheextents`: how often the disk below is asked, and that what it says is
 * never out of date.
 */
#include "layer-test.h"

#include <errno.h>
#include <setjmp.h>

#include <cmocka.h>

#include "filter-table.h"
#include "nbdring/checked.h"

#define KIB UINT64_C(1024)
#define MIB (KIB * KIB)
#define GIB (KIB * MIB)

/* A filter that counts questions, and can keep one back. */
static struct {
	unsigned questions;
	int error;
	bool holds;
	struct nr_request *held;
	struct nr_layer *layer;
} noted;

static void note_submit(struct nr_layer *layer, struct nr_request *req)
{
	noted.layer = layer;
	if (req->operation == NR_EXTENTS)
		noted.questions++;
	if (req->operation == NR_EXTENTS && noted.error)
		nr_finish(layer, req, noted.error);
	else
		nr_pass(layer, req);
}

/* Answers are kept back, not questions: they are of before what happens meanwhile. */
static void note_done(struct nr_layer *layer, struct nr_request *req)
{
	if (req->operation == NR_EXTENTS && noted.holds)
		noted.held = req;
	else
		nr_finish(layer, req, req->error);
}

static void note_resume(struct nr_layer *layer, struct nr_request *req)
{
	nr_finish(layer, req, req->error);
}

static const struct nr_layer_type note_type = {
	.abi = NR_LAYER_ABI,
	.name = "note",
	.summary = "counts questions",
	.kind = NR_FILTER,
	.placement = NR_SPREAD,
	.submit = note_submit,
	.done = note_done,
	.resume = note_resume,
};

static struct layer_test *open_disk(const char *plan)
{
	static const struct nr_layer_type *const types[] = { &note_type, NULL };
	struct layer_options options = { .types = types };

	memset(&noted, 0, sizeof(noted));
	return layer_test_open(&options, "%s", plan);
}

/* A block of data in each of COUNT pieces of STRIDE bytes. */
static void fill(struct layer_client *c, unsigned count, uint64_t stride)
{
	for (unsigned i = 0; i < count; i++)
		assert_int_equal(layer_fill(c, i * stride, 4096, 1), 0);
}

/* One extent after the other, as some clients ask; their number. */
static unsigned walk(struct layer_client *c, uint64_t size)
{
	struct nr_extent extent[4];
	unsigned count = 0;

	for (uint64_t at = 0; at < size; count++) {
		struct nr_extents list = { .extent = extent, .capacity = 4 };

		assert_int_equal(layer_extents(c, at, size - at, NR_REQ_ONE, &list), 0);
		assert_int_equal(list.count, 1);
		at = list.next;
	}
	return count;
}

static void test_one_extent_at_a_time_is_few_questions(void **state)
{
	struct layer_test *t = open_disk("cacheextents | note | memory 1G");
	struct layer_client *c = layer_client(t, 0);

	fill(c, 500, 2 * MIB);
	assert_true(walk(c, GIB) >= 999);
	assert_true(noted.questions <= 4);
	noted.questions = 0;
	assert_true(walk(c, GIB) >= 999);
	assert_int_equal(noted.questions, 0);
	layer_test_close(t);
}

static void test_an_answer_is_the_one_without_the_filter(void **state)
{
	struct layer_test *t = open_disk("cacheextents | note | memory 64M");
	struct layer_test *bare = open_disk("memory 64M");
	struct layer_client *c = layer_client(t, 0), *b = layer_client(bare, 0);
	uint64_t seed = layer_seed(1);

	for (unsigned i = 0; i < 20; i++) {
		uint64_t at = layer_random_below(&seed, 1000) * 64 * KIB;

		assert_int_equal(layer_fill(c, at, 70 * KIB, 1), 0);
		assert_int_equal(layer_fill(b, at, 70 * KIB, 1), 0);
	}
	for (unsigned i = 0; i < 200; i++) {
		uint64_t at = layer_random_below(&seed, 64 * MIB - 1);
		uint64_t length = 1 + layer_random_below(&seed, 64 * MIB - at);
		char *map = strdup(layer_map(c, at, length));

		assert_string_equal(map, layer_map(b, at, length));
		free(map);
	}
	assert_true(noted.questions < 50);
	layer_test_close(t);
	layer_test_close(bare);
}

static void test_changes_are_seen_at_once(void **state)
{
	struct layer_test *t = open_disk("cacheextents | note | memory 64M");
	struct layer_client *c = layer_client(t, 0);

	assert_string_equal(layer_map(c, 0, 64 * MIB), "67108864:hole,zero");
	assert_int_equal(layer_fill(c, 32 * MIB, MIB, 1), 0);
	assert_string_equal(layer_map(c, 0, 64 * MIB),
			    "33554432:hole,zero 1048576:data 32505856:hole,zero");
	assert_int_equal(layer_trim(c, 32 * MIB, MIB, 0), 0);
	assert_string_equal(layer_map(c, 0, 64 * MIB), "67108864:hole,zero");
	assert_int_equal(layer_fill(c, MIB, 3 * MIB, 1), 0);
	assert_string_equal(layer_map(c, MIB, 3 * MIB), "3145728:data");
	assert_int_equal(layer_zero(c, 2 * MIB, MIB, 0), 0);
	assert_string_equal(layer_map(c, MIB, 3 * MIB),
			    "1048576:data 1048576:hole,zero 1048576:data");
	layer_test_close(t);
}

static void test_an_answer_that_a_write_overtook_is_not_kept(void **state)
{
	struct layer_test *t = open_disk("cacheextents | note | memory 64M");
	struct layer_client *c = layer_client(t, 0);
	struct nr_extent extent[8];
	struct nr_extents list = { .extent = extent, .capacity = 8 };
	struct nr_request *question;

	noted.holds = true;
	question = layer_start(c, NR_EXTENTS, 0, 0, 64 * MIB, NULL, &list);
	while (!noted.held)
		layer_turn(c);
	assert_int_equal(layer_fill(c, 5 * MIB, MIB, 1), 0);
	noted.holds = false;
	nr_resume(noted.layer, noted.held);
	assert_int_equal(layer_wait(c, question), 0);
	layer_end(c, question);
	assert_string_equal(layer_map(c, 0, 64 * MIB),
			    "5242880:hole,zero 1048576:data 60817408:hole,zero");
	layer_test_close(t);
}

static void test_a_question_that_fails_is_asked_again(void **state)
{
	struct layer_test *t = open_disk("cacheextents | note | memory 64M");
	struct layer_client *c = layer_client(t, 0);
	struct nr_extent extent[8];
	struct nr_extents list = { .extent = extent, .capacity = 8 };

	noted.error = -EIO;
	assert_int_equal(layer_extents(c, 0, MIB, 0, &list), -EIO);
	noted.error = 0;
	assert_string_equal(layer_map(c, 0, MIB), "1048576:hole,zero");
	layer_test_close(t);
}

static void test_a_map_that_is_too_long_is_not_remembered_for_ever(void **state)
{
	/* More extents than are kept, on a disk of 2^63 - 1 bytes. */
	struct layer_test *t = open_disk("cacheextents | note | memory 9223372036854775807");
	struct layer_client *c = layer_client(t, 0);

	fill(c, 40000, 128 * KIB);
	assert_true(walk(c, 40000 * 128 * KIB) >= 79999);
	assert_true(noted.questions < 200);
	assert_string_equal(layer_map(c, 0, 128 * KIB), "4096:data 126976:hole,zero");
	layer_test_close(t);
}

static void test_a_disk_that_is_written_to_is_one_that_keeps_it(void **state)
{
	struct layer_model model = { .seed = layer_seed(3),
				     .requests = 5000,
				     .check_extents = true };
	struct layer_test *t = open_disk("cacheextents | note | memory 3000001");

	layer_model_run(layer_client(t, 0), &model);
	layer_test_close(t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_one_extent_at_a_time_is_few_questions),
		cmocka_unit_test(test_an_answer_is_the_one_without_the_filter),
		cmocka_unit_test(test_changes_are_seen_at_once),
		cmocka_unit_test(test_an_answer_that_a_write_overtook_is_not_kept),
		cmocka_unit_test(test_a_question_that_fails_is_asked_again),
		cmocka_unit_test(test_a_map_that_is_too_long_is_not_remembered_for_ever),
		cmocka_unit_test(test_a_disk_that_is_written_to_is_one_that_keeps_it),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
