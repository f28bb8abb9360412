/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Whose parameter is which word?  Plans built from command lines, with layers
 * that exist only here.
 */
#undef NDEBUG
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "src/cli/layers.h"

static const struct nr_param file_params[] = {
	{ .name = "file", .type = NR_PARAM_PATH, .flags = NR_PARAM_MAIN, .help = "x" },
	{ .name = "cache", .type = NR_PARAM_STRING, .help = "x" },
	{ .name = NULL },
};

static const struct nr_param split_params[] = {
	{ .name = "file", .type = NR_PARAM_PATHS, .flags = NR_PARAM_MAIN, .help = "x" },
	{ .name = NULL },
};

static const struct nr_param offset_params[] = {
	{ .name = "offset", .type = NR_PARAM_SIZE, .help = "x" },
	{ .name = "range", .type = NR_PARAM_SIZE, .help = "x" },
	{ .name = NULL },
};

static const struct nr_param cow_params[] = {
	{ .name = "cache", .type = NR_PARAM_STRING, .help = "x" },
	{ .name = "rule", .type = NR_PARAM_LIST, .help = "x" },
	{ .name = NULL },
};

static const struct nr_layer_type file = { .name = "file",
					   .kind = NR_BACKEND,
					   .params = file_params };
static const struct nr_layer_type split = { .name = "split",
					    .kind = NR_BACKEND,
					    .params = split_params };
static const struct nr_layer_type null = { .name = "null", .kind = NR_BACKEND };
static const struct nr_layer_type offset = { .name = "offset",
					     .kind = NR_FILTER,
					     .params = offset_params };
static const struct nr_layer_type cow = { .name = "cow", .kind = NR_FILTER, .params = cow_params };
static const struct nr_layer_type plain = { .name = "plain", .kind = NR_FILTER };

static const struct nr_layer_type *const backends[] = { &file, &split, &null, NULL };
static const struct nr_layer_type *const filters[] = { &offset, &cow, &plain, NULL };
static const struct nr_catalog catalog = { .backends = backends, .filters = filters };

#define WORDS_MAX 16

/* The words up to "--" are filters, those behind it the rest of a command line. */
static int plan_words(struct nr_plan *plan, struct nr_error *error, const char *const *given)
{
	const char *named[WORDS_MAX], *words[WORDS_MAX];
	struct nr_strings filter_list = { .item = named }, word_list = { .item = words };

	while (strcmp(*given, "--") != 0)
		named[filter_list.count++] = *given++;
	for (given++; *given; given++)
		words[word_list.count++] = *given;
	memset(error, 0, sizeof(*error));
	return nr_layers_plan(plan, &catalog, &filter_list, &word_list, error);
}

#define PLAN(...) plan_words(&plan, &error, (const char *const[]){ __VA_ARGS__, NULL })

static void has(const struct nr_plan_layer *layer, size_t index, const char *name,
		const char *value)
{
	assert_true(index < layer->setting_count);
	assert_string_equal(layer->settings[index].name, name);
	assert_string_equal(layer->settings[index].value, value);
}

static void backend_alone(void **state)
{
	struct nr_plan plan;
	struct nr_error error;

	assert_int_equal(PLAN("--", "null"), 0);
	assert_int_equal(plan.layer_count, 1);
	assert_ptr_equal(plan.layers[0].type, &null);
	assert_int_equal(plan.layers[0].setting_count, 0);
	nr_layers_free(&plan);
}

/* The first filter named is next to the client, so last in the plan. */
static void filters_in_order(void **state)
{
	struct nr_plan plan;
	struct nr_error error;

	assert_int_equal(PLAN("offset", "cow", "--", "file", "disk.img"), 0);
	assert_int_equal(plan.layer_count, 3);
	assert_ptr_equal(plan.layers[0].type, &file);
	assert_ptr_equal(plan.layers[1].type, &cow);
	assert_ptr_equal(plan.layers[2].type, &offset);
	nr_layers_free(&plan);
}

static void bare_words(void **state)
{
	struct nr_plan plan;
	struct nr_error error;

	assert_int_equal(PLAN("--", "file", "disk.img"), 0);
	has(&plan.layers[0], 0, "file", "disk.img");
	nr_layers_free(&plan);

	/* Not of the form key=value: these begin with no letter, or have other signs in the key. */
	assert_int_equal(PLAN("--", "split", "./a=b", "1=2", "a b=c", "=", "", "grün=1"), 0);
	assert_int_equal(plan.layers[0].setting_count, 6);
	has(&plan.layers[0], 0, "file", "./a=b");
	has(&plan.layers[0], 1, "file", "1=2");
	has(&plan.layers[0], 2, "file", "a b=c");
	has(&plan.layers[0], 3, "file", "=");
	has(&plan.layers[0], 4, "file", "");
	has(&plan.layers[0], 5, "file", "grün=1");
	nr_layers_free(&plan);

	assert_int_equal(PLAN("--", "null", "word"), -EINVAL);
	assert_string_equal(error.text, "null: the word 'word' means nothing here; parameters are "
					"written key=value");
	nr_layers_free(&plan);
}

static void key_form(void **state)
{
	assert_int_equal(nr_layers_key_length("a="), 1);
	assert_int_equal(nr_layers_key_length("error-rate=1"), 10);
	assert_int_equal(nr_layers_key_length("A.b_c-9=x=y"), 7);
	assert_int_equal(nr_layers_key_length("a"), 0);
	assert_int_equal(nr_layers_key_length(""), 0);
	assert_int_equal(nr_layers_key_length("="), 0);
	assert_int_equal(nr_layers_key_length("-a=1"), 0);
	assert_int_equal(nr_layers_key_length("9a=1"), 0);
	assert_int_equal(nr_layers_key_length("a/b=1"), 0);
}

static void values_may_hold_anything(void **state)
{
	struct nr_plan plan;
	struct nr_error error;

	assert_int_equal(PLAN("--", "file", "file=a=b c=d", "cache="), 0);
	has(&plan.layers[0], 0, "file", "a=b c=d");
	has(&plan.layers[0], 1, "cache", "");
	nr_layers_free(&plan);
}

/* A key goes to the outermost layer that takes it. */
static void keys_find_their_layer(void **state)
{
	struct nr_plan plan;
	struct nr_error error;

	assert_int_equal(
		PLAN("cow", "offset", "--", "file", "disk.img", "range=2", "cache=x", "offset=1"),
		0);
	has(&plan.layers[2], 0, "cache", "x");
	has(&plan.layers[1], 0, "range", "2");
	has(&plan.layers[1], 1, "offset", "1");
	assert_int_equal(plan.layers[0].setting_count, 1);
	nr_layers_free(&plan);
}

/* The next one that takes the key gets it when the outer one has it already. */
static void one_filter_twice(void **state)
{
	struct nr_plan plan;
	struct nr_error error;

	assert_int_equal(PLAN("offset", "plain", "offset", "cow", "--", "file", "d", "offset=1",
			      "offset=2", "range=3", "cache=outer", "cache=inner"),
			 0);
	has(&plan.layers[4], 0, "offset", "1");
	has(&plan.layers[4], 1, "range", "3");
	has(&plan.layers[2], 0, "offset", "2");
	has(&plan.layers[1], 0, "cache", "outer");
	has(&plan.layers[0], 1, "cache", "inner");
	nr_layers_free(&plan);
}

/* One too many is kept, so that what checks values can name both. */
static void given_too_often(void **state)
{
	struct nr_plan plan;
	struct nr_error error;

	assert_int_equal(PLAN("offset", "--", "file", "d", "offset=1", "offset=2"), 0);
	has(&plan.layers[1], 0, "offset", "1");
	has(&plan.layers[1], 1, "offset", "2");
	nr_layers_free(&plan);
}

static void lists_stay_with_one_layer(void **state)
{
	struct nr_plan plan;
	struct nr_error error;

	assert_int_equal(PLAN("cow", "cow", "--", "null", "rule=1", "rule=2"), 0);
	assert_int_equal(plan.layers[2].setting_count, 2);
	assert_int_equal(plan.layers[1].setting_count, 0);
	nr_layers_free(&plan);
}

static void refusals(void **state)
{
	struct nr_plan plan;
	struct nr_error error;

#define REFUSED(err, sentence, ...)                        \
	do {                                               \
		assert_int_equal(PLAN(__VA_ARGS__), err);  \
		assert_string_equal(error.text, sentence); \
		nr_layers_free(&plan);                     \
	} while (0)

	{
		const char *none[] = { "--", NULL };

		assert_int_equal(plan_words(&plan, &error, none), -EINVAL);
		assert_string_equal(error.text,
				    "no backend is named; write for example nbdring file disk.img "
				    "(nbdring --list shows what there is)");
		nr_layers_free(&plan);
	}
	REFUSED(-ENOENT, "there is no backend 'fil'; did you mean 'file'?", "--", "fil", "x");
	REFUSED(-ENOENT, "there is no backend 'qcow2'; nbdring --list shows what there is", "--",
		"qcow2");
	REFUSED(-ENOENT, "there is no filter 'ofset'; did you mean 'offset'?", "ofset", "--",
		"null");
	REFUSED(-ENOENT, "cow is a filter, not a backend; write --filter=cow BACKEND", "--", "cow");
	REFUSED(-ENOENT, "null is a backend, not a filter; write null without --filter=", "null",
		"--", "file");
	REFUSED(-ENOENT,
		"there is no backend '/dev/null'; to serve the file of this name write nbdring "
		"file /dev/null",
		"--", "/dev/null");
	REFUSED(-EINVAL, "file: there is no parameter 'cahce'; did you mean 'cache' of file?", "--",
		"file", "cahce=none");
	REFUSED(-EINVAL,
		"file: no layer here takes a parameter 'ofset'; did you mean 'offset' of "
		"offset?",
		"offset", "--", "file", "x", "ofset=1");
	REFUSED(-EINVAL, "file: there is no parameter 'zzz'; add --help to see what there is", "--",
		"file", "zzz=1");
#undef REFUSED
}

/* A file whose name looks like key=value. */
static void file_named_like_a_key(void **state)
{
	struct nr_plan plan;
	struct nr_error error;
	char folder[] = "/tmp/nbdring-unit-XXXXXX", here[4096];
	int fd;

	assert_non_null(getcwd(here, sizeof(here)));
	assert_non_null(mkdtemp(folder));
	assert_int_equal(chdir(folder), 0);
	fd = open("zzz=1", O_WRONLY | O_CREAT, 0600);
	assert_true(fd >= 0);
	close(fd);
	assert_int_equal(PLAN("--", "file", "zzz=1"), -EINVAL);
	assert_string_equal(error.text, "file: there is no parameter 'zzz'; for the file of this "
					"name write ./zzz=1");
	nr_layers_free(&plan);
	unlink("zzz=1");
	assert_int_equal(chdir(here), 0);
	rmdir(folder);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(backend_alone),
		cmocka_unit_test(filters_in_order),
		cmocka_unit_test(bare_words),
		cmocka_unit_test(key_form),
		cmocka_unit_test(values_may_hold_anything),
		cmocka_unit_test(keys_find_their_layer),
		cmocka_unit_test(one_filter_twice),
		cmocka_unit_test(given_too_often),
		cmocka_unit_test(lists_stay_with_one_layer),
		cmocka_unit_test(refusals),
		cmocka_unit_test(file_named_like_a_key),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
