/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Metadata contexts of the disk below: which filters do not offer them, and what those
 * that do say of a disk that is another stretch, or another order, of what is
 * below, or that is made of several.
 */
#include "layer-test.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdio.h>

#include <cmocka.h>

#include "backends/table.h"
#include "filter-table.h"
#include "filters/table.h"
#include "nbdring/checked.h"
#include "src/cli/words.h"

#define SIZE UINT64_C(1048576)

/*
 * Filters that end contexts, and why is in the page of each.  All others pass them on; one
 * that is new and cannot belongs here.
 */
static const struct {
	const char *name;
	const char *unless; /* in its parameters; NULL: always */
} ends[] = {
	{ "cache", "writethrough" },
	{ "cow", NULL },
	{ "bzip2", NULL },
	{ "gzip", NULL },
	{ "lz4", NULL },
	{ "noextents", NULL },
	{ "xz", NULL },
	{ "zstd", NULL },
};

static bool ends_contexts(const struct filter_row *row)
{
	for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++)
		if (strcmp(ends[i].name, row->name) == 0)
			return !ends[i].unless || !strstr(row->parameters, ends[i].unless);
	return false;
}

/*
 * marked, a filter: x:five says 5 everywhere; x:places says how many times 64 KiB into the
 * disk a byte lies; x:odd says 1 of the first three bytes and 2 of the others.  With
 * turned=true they are listed in another order, with one more among them.
 */
struct marked {
	bool turned;
};

static const struct nr_param marked_params[] = {
	{ .name = "turned",
	  .type = NR_PARAM_BOOL,
	  .offset = offsetof(struct marked, turned),
	  .fallback = "false",
	  .value = "BOOL",
	  .help = "another order" },
	{ .name = NULL },
};

static const char *const names[] = { "x:five", "x:places", "x:odd" };
static const char *const turned_names[] = { "x:odd", "x:own", "x:places", "x:five" };

static int mark(struct nr_layer *layer, struct nr_traits *t, struct nr_error *error)
{
	const struct marked *m = layer->instance;

	t->contexts = m->turned ? turned_names : names;
	t->context_count = m->turned ? 4 : 3;
	return 0;
}

static void marked_submit(struct nr_layer *layer, struct nr_request *req)
{
	const struct nr_extents *list = req->extents;
	const char *name;
	bool more = true;

	if (req->operation != NR_EXTENTS || !req->metadata) {
		nr_pass(layer, req);
		return;
	}
	name = layer->traits.contexts[req->metadata - 1];
	while (more && list->next < req->offset + req->length) {
		uint64_t length = 65536 - list->next % 65536, status = 5;

		if (strcmp(name, "x:places") == 0) {
			status = list->next / 65536;
		} else if (strcmp(name, "x:odd") == 0) {
			status = list->next < 3 ? 1 : 2;
			length = list->next < 3 ? 3 - list->next : length;
		}
		more = nr_extents_add(req->extents, length, status);
	}
	nr_finish(layer, req, 0);
}

static const struct nr_layer_type marked_type = {
	.abi = NR_LAYER_ABI,
	.name = "marked",
	.summary = "has metadata contexts",
	.kind = NR_FILTER,
	.placement = NR_SPREAD,
	.params = marked_params,
	.instance_size = sizeof(struct marked),
	.describe = mark,
	.submit = marked_submit,
	.contexts_pass = true,
};

#define TYPES_MAX 256

static struct layer_options options;

static int setup(void **state)
{
	static const struct nr_layer_type *types[8], *filters[TYPES_MAX];
	static const struct nr_catalog catalog = { nr_backends, filters };
	size_t count = 0;

	filter_table_options(&options);
	while (options.types[count]) {
		types[count] = options.types[count];
		count++;
	}
	types[count] = &marked_type;
	options.types = types;
	/* For legs, too. */
	for (count = 0; nr_filters[count]; count++)
		filters[count] = nr_filters[count];
	LAYER_CHECK(count + 1 < TYPES_MAX);
	filters[count] = &marked_type;
	nr_words_set_catalog(&catalog);
	return 0;
}

/* The number of the context NAME; 0: it is not offered. */
static uint32_t number_of(struct layer_test *t, const char *name)
{
	const struct nr_traits *traits = layer_test_traits(t);

	for (uint32_t i = 0; i < traits->context_count; i++)
		if (strcmp(traits->contexts[i], name) == 0)
			return i + 1;
	return 0;
}

static void ended(struct nr_request *req)
{
	/* Who asks sees the state. */
}

static void ask(struct layer_client *c, uint32_t metadata, uint64_t offset, uint64_t length,
		uint32_t flags, struct nr_extents *list)
{
	struct nr_stack *stack = layer_test_stack(layer_client_test(c));
	struct nr_request *req = nr_request_get(layer_client_worker(c), stack, 0);

	assert_non_null(req);
	list->start = list->next = offset;
	list->end = offset + length;
	list->count = 0;
	req->operation = NR_EXTENTS;
	req->flags = flags;
	req->offset = offset;
	req->length = length;
	req->extents = list;
	req->metadata = metadata;
	req->internal.finished = ended;
	nr_stack_submit(stack, req);
	while (req->internal.state != NR_REQUEST_IDLE)
		layer_turn(c);
	assert_int_equal(req->error, 0);
	assert_true(list->count > 0);
	assert_int_equal(list->start, offset);
	assert_int_equal(list->end, offset + length);
	nr_request_release(req, 0);
}

/* What the context NAME says of all of the disk, asked for until it is complete. */
static const char *told(struct layer_test *t, const char *name, uint32_t flags)
{
	static char text[4096];
	struct nr_extent room[64] = { { 0 } };
	struct nr_extents list = { .extent = room, .capacity = flags ? 2 : 64 };
	uint64_t at = 0, size = layer_test_size(t), length = 0, status = 0;
	uint32_t metadata = number_of(t, name);
	size_t used = 0;

	if (!metadata)
		return "none";
	while (at < size) {
		ask(layer_client(t, 0), metadata, at, size - at, flags, &list);
		for (uint32_t i = 0; i < list.count; i++) {
			if (length && room[i].status != status) {
				used += (size_t)snprintf(text + used, sizeof(text) - used,
							 "%" PRIu64 ":%" PRIu64 " ", length,
							 status);
				LAYER_CHECK(used < sizeof(text));
				length = 0;
			}
			length += room[i].length;
			status = room[i].status;
		}
		at = list.next;
	}
	snprintf(text + used, sizeof(text) - used, "%" PRIu64 ":%" PRIu64, length, status);
	return text;
}

static void test_filters_pass_the_contexts_below_on_but_for_those_that_say_why_not(void **state)
{
	for (size_t i = 0; filter_row_at(i); i++) {
		const struct filter_row *row = filter_row_at(i);
		struct layer_test *t;
		char expected[64];

		if (row->effect == APART)
			continue;
		fprintf(stderr, "%s %s\n", row->name, row->parameters);
		t = layer_test_open(&options, "%s | marked | memory %" PRIu64,
				    filter_plan(row, SIZE), SIZE);
		snprintf(expected, sizeof(expected), "%" PRIu64 ":5", layer_test_size(t));
		assert_string_equal(told(t, "x:five", 0), ends_contexts(row) ? "none" : expected);
		layer_test_close(t);
	}
}

static void test_filters_that_are_made_for_files_of_their_own_say_the_same(void **state)
{
	for (const struct nr_layer_type *const *type = nr_filters; *type; type++) {
		const struct filter_row *row = filter_row((*type)->name);
		bool looks = (*type)->submit || (*type)->done;

		if (row->effect == APART)
			assert_int_equal(ends_contexts(row), looks && !(*type)->contexts_pass);
	}
}

static void test_contexts_move_with_the_addresses(void **state)
{
	static const struct {
		const char *plan, *context, *told;
	} cases[] = {
		{ "marked | memory 256k", "x:places", "65536:0 65536:1 65536:2 65536:3" },
		{ "offset offset=64k range=96k | marked | memory 256k", "x:places",
		  "65536:1 32768:2" },
		{ "truncate truncate=64k | marked | memory 256k", "x:places", "65536:0" },
		{ "truncate truncate=1M | marked | memory 256k", "x:five", "262144:5 786432:0" },
		{ "map map=0+64k:128k map=64k+32k:32k | marked | memory 256k", "x:places",
		  "65536:2 32768:0 32768:1 65536:2 65536:3" },
		{ "swab swab-bits=64 | marked | memory 4k", "x:odd", "8:3 4088:2" },
		{ "concat leg='--filter=marked memory 128k' leg='--filter=marked memory 64k turned=true'",
		  "x:places", "65536:0 65536:1 65536:0" },
		{ "concat leg='--filter=marked memory 64k turned=true' leg='--filter=marked memory 64k'",
		  "x:five", "131072:5" },
		{ "concat leg='--filter=marked memory 64k turned=true' leg='--filter=marked memory 64k'",
		  "x:own", "none" },
		{ "concat leg='--filter=marked memory 64k' leg='memory 64k'", "x:five", "none" },
		{ "stripe leg='--filter=marked memory 128k' leg='--filter=marked memory 128k turned=true' "
		  "chunk=64k",
		  "x:places", "131072:0 131072:1" },
		{ "mirror leg='--filter=marked memory 64k' leg='--filter=marked memory 64k'",
		  "x:five", "none" },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct layer_test *t = layer_test_open(&options, "%s", cases[i].plan);

		assert_string_equal(told(t, cases[i].context, 0), cases[i].told);
		assert_string_equal(told(t, cases[i].context, NR_REQ_ONE), cases[i].told);
		layer_test_close(t);
	}
}

static void test_a_map_of_its_own_leaves_other_contexts_alone(void **state)
{
	const struct filter_row *row = filter_row("extentlist");
	struct layer_test *t = layer_test_open(&options, "%s | marked | memory %" PRIu64,
					       filter_plan(row, SIZE / 2), SIZE);

	assert_string_equal(layer_map(layer_client(t, 0), 0, SIZE), "524288:data 524288:hole,zero");
	assert_string_equal(told(t, "x:five", 0), "1048576:5");
	layer_test_close(t);
	t = layer_test_open(&options, "cacheextents | marked | memory %" PRIu64, SIZE);
	assert_string_equal(layer_map(layer_client(t, 0), 0, SIZE), "1048576:hole,zero");
	assert_string_equal(told(t, "x:five", 0), "1048576:5");
	assert_string_equal(layer_map(layer_client(t, 0), 0, SIZE), "1048576:hole,zero");
	layer_test_close(t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
			test_filters_pass_the_contexts_below_on_but_for_those_that_say_why_not),
		cmocka_unit_test(test_filters_that_are_made_for_files_of_their_own_say_the_same),
		cmocka_unit_test(test_contexts_move_with_the_addresses),
		cmocka_unit_test(test_a_map_of_its_own_leaves_other_contexts_alone),
	};

	return cmocka_run_group_tests(tests, setup, NULL);
}
