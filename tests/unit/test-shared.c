/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What a layer has for the server as a whole: memory that the instances of one use of
 * it share, whichever exports they are of, and a start and an end.
 */
#include "layer-test.h"

#include <errno.h>
#include <setjmp.h>

#include <cmocka.h>

#include "backends/table.h"
#include "filters/table.h"
#include "src/cli/words.h"

/* A filter that writes down what is done to it, each use for itself. */

struct common {
	char done[64];
};

struct diary {
	const char *own; /* words of a stack of its own, or NULL */
	struct nr_stack *stack;
	bool refuse, refuse_open;
};

static struct common *seen[8];
static unsigned seen_count;
static char last_stopped[64];

static const struct nr_param diary_params[] = {
	{ .name = "own",
	  .type = NR_PARAM_STRING,
	  .offset = offsetof(struct diary, own),
	  .value = "WORDS" },
	{ .name = "refuse",
	  .type = NR_PARAM_BOOL,
	  .offset = offsetof(struct diary, refuse),
	  .fallback = "no",
	  .value = "BOOL" },
	{ .name = "refuse-open",
	  .type = NR_PARAM_BOOL,
	  .offset = offsetof(struct diary, refuse_open),
	  .fallback = "no",
	  .value = "BOOL" },
	{ .name = NULL },
};

static void write_down(struct nr_layer *layer, const char *what)
{
	struct common *common = nr_shared_data(layer);
	size_t length;

	assert_non_null(common);
	assert_int_equal((uintptr_t)common % 16, 0);
	length = strlen(common->done);
	snprintf(common->done + length, sizeof(common->done) - length, "%s", what);
}

static int diary_start(struct nr_layer *layer, struct nr_error *error)
{
	struct common *common = nr_shared_data(layer);
	struct diary *diary = layer->instance;

	assert_string_equal(common->done, "");
	if (diary->refuse)
		return nr_error_set(error, -EBUSY, "not today");
	write_down(layer, "start ");
	return 0;
}

static int diary_open(struct nr_layer *layer, struct nr_error *error)
{
	struct diary *diary = layer->instance;

	if (diary->refuse_open)
		return nr_error_set(error, -EBUSY, "not this one");
	write_down(layer, "open ");
	assert_true(seen_count < 8);
	seen[seen_count++] = nr_shared_data(layer);
	if (diary->own)
		diary->stack = nr_substack_open(layer, diary->own, error);
	return diary->own && !diary->stack ? error->code : 0;
}

static void diary_close(struct nr_layer *layer)
{
	struct diary *diary = layer->instance;

	nr_substack_close(diary->stack);
	write_down(layer, "close ");
}

static void diary_stop(struct nr_layer *layer)
{
	struct common *common = nr_shared_data(layer);

	write_down(layer, "stop");
	memcpy(last_stopped, common->done, sizeof(last_stopped));
}

static void diary_submit(struct nr_layer *layer, struct nr_request *req)
{
	nr_pass(layer, req);
}

static const struct nr_layer_type diary_type = {
	.abi = NR_LAYER_ABI,
	.name = "diary",
	.summary = "writes down what is done to it",
	.kind = NR_FILTER,
	.params = diary_params,
	.instance_size = sizeof(struct diary),
	.shared_size = sizeof(struct common),
	.start = diary_start,
	.open = diary_open,
	.submit = diary_submit,
	.close = diary_close,
	.stop = diary_stop,
};

static const struct nr_layer_type *const types[] = { &diary_type, NULL };
static const struct nr_catalog catalog = { nr_backends, types };
static const struct nr_surroundings surroundings = { .parse = nr_words_parse,
						     .forget = nr_words_forget };
static const struct layer_options options = { .types = types, .surroundings = &surroundings };

static int set_up(void **state)
{
	nr_words_set_catalog(&catalog);
	seen_count = 0;
	last_stopped[0] = '\0';
	return 0;
}

static void each_use_has_its_own_and_all_exports_have_that(void **state)
{
	const char *plan = "diary | diary | memory 1M";
	struct layer_options beside = options;
	struct layer_test *b, *c;

	beside.beside = layer_test_open(&options, "%s", plan);
	b = layer_test_open(&beside, "%s", plan);
	assert_int_equal(seen_count, 4);
	assert_ptr_not_equal(seen[0], seen[1]); /* twice in one stack */
	assert_ptr_equal(seen[0], seen[2]);
	assert_ptr_equal(seen[1], seen[3]);
	/* One export is closed and opened again; what is shared stays. */
	layer_test_close(b);
	c = layer_test_open(&beside, "%s", plan);
	assert_ptr_equal(seen[4], seen[0]);
	assert_string_equal(seen[0]->done, "start open open close open ");
	layer_test_close(c);
	layer_test_close(beside.beside);
	assert_string_equal(last_stopped, "start open open close open close close stop");
}

static void a_stack_within_a_stack_has_its_own_as_long_as_it_lives(void **state)
{
	static struct nr_setting own = { "own", "--filter=diary memory 1M" };
	static struct nr_setting size = { "size", "1M" };
	struct nr_plan_layer layers[] = { { NULL, &size, 1 }, { &diary_type, &own, 1 } };
	struct nr_plan plan = {
		.layers = layers, .layer_count = 2, .worker_count = 1, .surroundings = &surroundings
	};
	struct nr_stack *stack;
	struct nr_error error;

	for (unsigned i = 0; nr_backends[i]; i++)
		if (strcmp(nr_backends[i]->name, "memory") == 0)
			layers[0].type = nr_backends[i];
	if (nr_stack_open(&stack, &plan, "", &error))
		fail_msg("%s", error.text);
	assert_int_equal(seen_count, 2);
	assert_ptr_not_equal(seen[0], seen[1]);
	assert_string_equal(seen[0]->done, "start open ");
	assert_string_equal(seen[1]->done, "start open ");
	nr_stack_close(stack);
	assert_string_equal(last_stopped, "start open close stop");
}

static void nothing_stays_when_one_of_them_cannot_start_or_open(void **state)
{
	struct nr_error error;

	assert_int_equal(
		layer_test_refused(&options, &error, "diary refuse=yes | diary | memory 1M"),
		-EBUSY);
	assert_string_equal(error.text, "diary: not today");
	assert_string_equal(last_stopped, "start stop");
	assert_int_equal(seen_count, 0);
	assert_int_equal(
		layer_test_refused(&options, &error, "diary refuse-open=yes | diary | memory 1M"),
		-EBUSY);
	assert_string_equal(error.text, "diary: not this one");
	/* The lower one is stopped last. */
	assert_string_equal(last_stopped, "start open close stop");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(each_use_has_its_own_and_all_exports_have_that, set_up),
		cmocka_unit_test_setup(a_stack_within_a_stack_has_its_own_as_long_as_it_lives,
				       set_up),
		cmocka_unit_test_setup(nothing_stays_when_one_of_them_cannot_start_or_open, set_up),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
