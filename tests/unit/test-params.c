/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Parameter tables at work: what is stored, what is refused and in which words,
 * and what help and manual make of the rows.
 */
#undef NDEBUG
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "src/stack/params.h"

struct thing {
	const char *text;
	const char *path;
	uint64_t size;
	uint64_t count;
	uint64_t free_size;
	bool quick;
	unsigned mode;
	struct nr_strings words;
	struct nr_strings paths;
};

static const char *const modes[] = { "writeback", "none", "dontcache", NULL };

static const struct nr_param table[] = {
	{ .name = "path",
	  .type = NR_PARAM_PATH,
	  .flags = NR_PARAM_MAIN | NR_PARAM_REQUIRED,
	  .offset = offsetof(struct thing, path),
	  .value = "PATH",
	  .help = "the file to serve" },
	{ .name = "text",
	  .type = NR_PARAM_STRING,
	  .offset = offsetof(struct thing, text),
	  .value = "TEXT",
	  .help = "a <text> of any kind" },
	{ .name = "size",
	  .type = NR_PARAM_SIZE,
	  .offset = offsetof(struct thing, size),
	  .fallback = "64K",
	  .min = 512,
	  .max = 1 << 20,
	  .value = "SIZE",
	  .help = "how much",
	  .manual = "How I<much>." },
	{ .name = "free-size",
	  .type = NR_PARAM_SIZE,
	  .offset = offsetof(struct thing, free_size),
	  .min = 1,
	  .value = "SIZE",
	  .help = "how much, without an end" },
	{ .name = "count",
	  .type = NR_PARAM_UINT,
	  .offset = offsetof(struct thing, count),
	  .fallback = "3",
	  .min = 1,
	  .max = 10,
	  .value = "NUMBER",
	  .help = "how often" },
	{ .name = "quick",
	  .type = NR_PARAM_BOOL,
	  .offset = offsetof(struct thing, quick),
	  .fallback = "false",
	  .value = "BOOL",
	  .help = "whether to hurry" },
	{ .name = "cache",
	  .type = NR_PARAM_CHOICE,
	  .offset = offsetof(struct thing, mode),
	  .fallback = "writeback",
	  .choices = modes,
	  .value = "MODE",
	  .help = "which way" },
	{ .name = "word",
	  .type = NR_PARAM_LIST,
	  .offset = offsetof(struct thing, words),
	  .value = "WORD",
	  .help = "a word" },
	{ .name = "also",
	  .type = NR_PARAM_PATHS,
	  .offset = offsetof(struct thing, paths),
	  .value = "PATH",
	  .help = "another file" },
	{ .name = NULL },
};

/* Apply N settings, given as name, value, name, value. */
static int apply(struct thing *thing, struct nr_param_memory *memory, struct nr_error *error,
		 size_t n, const struct nr_setting *settings)
{
	memset(thing, 0, sizeof(*thing));
	memset(memory, 0, sizeof(*memory));
	memset(error, 0, sizeof(*error));
	return nr_params_apply(table, "thing", thing, settings, n, memory, error);
}

#define SETTINGS(...)               \
	(const struct nr_setting[]) \
	{                           \
		__VA_ARGS__         \
	}
#define COUNT(...) (sizeof(SETTINGS(__VA_ARGS__)) / sizeof(struct nr_setting))
#define APPLY(...) apply(&thing, &memory, &error, COUNT(__VA_ARGS__), SETTINGS(__VA_ARGS__))

static void defaults(void **state)
{
	struct nr_param_memory memory;
	struct nr_error error;
	struct thing thing;

	assert_int_equal(APPLY({ "path", "/disk.img" }), 0);
	assert_string_equal(thing.path, "/disk.img");
	assert_null(thing.text);
	assert_int_equal(thing.size, 65536);
	assert_int_equal(thing.count, 3);
	assert_int_equal(thing.free_size, 0);
	assert_false(thing.quick);
	assert_int_equal(thing.mode, 0);
	assert_int_equal(thing.words.count, 0);
	assert_int_equal(thing.paths.count, 0);
	nr_param_memory_free(&memory);
	/* Giving it back twice does no harm. */
	nr_param_memory_free(&memory);
}

static void every_type(void **state)
{
	struct nr_param_memory memory;
	struct nr_error error;
	struct thing thing;

	assert_int_equal(APPLY({ "path", "/a" }, { "text", "t = u" }, { "size", "1M" },
			       { "count", "10" }, { "quick", "on" }, { "cache", "dontcache" },
			       { "free-size", "7E" }, { "word", "one" }, { "also", "/b" },
			       { "word", "two" }, { "word", "one" }, { "also", "c" }),
			 0);
	assert_string_equal(thing.text, "t = u");
	assert_int_equal(thing.size, 1 << 20);
	assert_int_equal(thing.count, 10);
	assert_true(thing.quick);
	assert_int_equal(thing.mode, 2);
	assert_int_equal(thing.free_size, UINT64_C(7) << 60);
	assert_int_equal(thing.words.count, 3);
	assert_string_equal(thing.words.item[0], "one");
	assert_string_equal(thing.words.item[1], "two");
	assert_string_equal(thing.words.item[2], "one");
	assert_int_equal(thing.paths.count, 2);
	assert_string_equal(thing.paths.item[0], "/b");
	assert_int_equal(thing.paths.item[1][0], '/');
	nr_param_memory_free(&memory);
}

/* A daemon leaves its folder: relative paths are made absolute at once. */
static void paths_become_absolute(void **state)
{
	struct nr_param_memory memory;
	struct nr_error error;
	struct thing thing;
	char here[4096], expected[5000];

	assert_non_null(getcwd(here, sizeof(here)));
	snprintf(expected, sizeof(expected), "%s/some/disk.img", here);
	assert_int_equal(APPLY({ "path", "some/disk.img" }), 0);
	assert_string_equal(thing.path, expected);
	nr_param_memory_free(&memory);

	assert_int_equal(chdir("/"), 0);
	assert_int_equal(APPLY({ "path", "disk.img" }), 0);
	assert_string_equal(thing.path, "/disk.img");
	nr_param_memory_free(&memory);
	assert_int_equal(chdir(here), 0);
}

/* The settings may go after the call. */
static void strings_are_copies(void **state)
{
	struct nr_param_memory memory;
	struct nr_error error;
	struct thing thing;
	char path[] = "/a", word[] = "b";

	assert_int_equal(APPLY({ "path", path }, { "word", word }), 0);
	memset(path, 'x', sizeof(path) - 1);
	memset(word, 'x', sizeof(word) - 1);
	assert_string_equal(thing.path, "/a");
	assert_string_equal(thing.words.item[0], "b");
	nr_param_memory_free(&memory);
}

static void says(const struct nr_error *error, const char *sentence)
{
	assert_int_equal(error->code, -EINVAL);
	assert_string_equal(error->text, sentence);
}

static void refusals(void **state)
{
	struct nr_param_memory memory;
	struct nr_error error;
	struct thing thing;

#define REFUSED(sentence, ...)                                 \
	do {                                                   \
		assert_int_equal(APPLY(__VA_ARGS__), -EINVAL); \
		says(&error, sentence);                        \
		nr_param_memory_free(&memory);                 \
	} while (0)

	REFUSED("thing: its parameter path is missing; write thing PATH, or thing path=PATH",
		{ "size", "512" });
	REFUSED("thing: there is no parameter 'siz'; did you mean 'size'?", { "path", "/a" },
		{ "siz", "512" });
	REFUSED("thing: there is no parameter 'zzz'; it takes path, text, size, free-size, count, "
		"quick, cache, word, also",
		{ "zzz", "1" });
	REFUSED("thing: size is given twice, as 1K and as 2K; give it once", { "path", "/a" },
		{ "size", "1K" }, { "size", "2K" });
	REFUSED("thing: size=ten is not possible: write a number of bytes, or one with K, M, G, T, "
		"P or E behind it, from 512 to 1M",
		{ "path", "/a" }, { "size", "ten" });
	REFUSED("thing: size=511 is not possible: it can be from 512 to 1M", { "path", "/a" },
		{ "size", "511" });
	REFUSED("thing: size=1025K is not possible: it can be from 512 to 1M", { "path", "/a" },
		{ "size", "1025K" });
	REFUSED("thing: free-size=0 is not possible: it can be from 1 to 9223372036854775807",
		{ "path", "/a" }, { "free-size", "0" });
	REFUSED("thing: free-size=8E is not possible: it can be from 1 to 9223372036854775807",
		{ "path", "/a" }, { "free-size", "8E" });
	REFUSED("thing: count=11 is not possible: it can be from 1 to 10", { "path", "/a" },
		{ "count", "11" });
	REFUSED("thing: count=1K is not possible: write a number, from 1 to 10", { "path", "/a" },
		{ "count", "1K" });
	REFUSED("thing: quick=maybe is not possible: write true or false (or on and off, yes and "
		"no)",
		{ "path", "/a" }, { "quick", "maybe" });
	REFUSED("thing: cache=writeback2 is not possible: it can be writeback, none or dontcache; "
		"did you mean writeback?",
		{ "path", "/a" }, { "cache", "writeback2" });
	REFUSED("thing: cache=zzz is not possible: it can be writeback, none or dontcache",
		{ "path", "/a" }, { "cache", "zzz" });
	REFUSED("thing: path= is not possible: write the path of a file", { "path", "" });
	REFUSED("thing: also= is not possible: write the path of a file", { "path", "/a" },
		{ "also", "" });
#undef REFUSED
}

/* A value of any length leaves room for what is to be said about it. */
static void long_values_are_cut(void **state)
{
	struct nr_param_memory memory;
	struct nr_error error;
	struct thing thing;
	char value[5000];

	memset(value, '9', sizeof(value) - 1);
	value[sizeof(value) - 1] = '\0';
	assert_int_equal(APPLY({ "path", "/a" }, { "size", value }), -EINVAL);
	assert_non_null(strstr(error.text, "from 512 to 1M"));
	nr_param_memory_free(&memory);
	assert_int_equal(APPLY({ "path", "/a" }, { value, "1" }), -EINVAL);
	assert_non_null(strstr(error.text, "it takes path"));
	nr_param_memory_free(&memory);
}

static void no_table(void **state)
{
	struct nr_param_memory memory = { .block = NULL };
	const struct nr_setting setting = { "a", "b" };
	struct nr_error error;

	assert_int_equal(nr_params_apply(NULL, "null", NULL, NULL, 0, &memory, &error), 0);
	assert_int_equal(nr_params_apply(NULL, "null", NULL, &setting, 1, &memory, &error),
			 -EINVAL);
	says(&error, "null: there is no parameter 'a', it takes none");
	assert_null(nr_params_main(NULL));
	assert_ptr_equal(nr_params_main(table), &table[0]);
	nr_param_memory_free(&memory);
}

/* A layer that is wrong in its own table is refused, not trusted. */
static void wrong_default(void **state)
{
	static const struct nr_param wrong[] = {
		{ .name = "n", .type = NR_PARAM_UINT, .fallback = "0", .min = 1, .help = "n" },
		{ .name = NULL },
	};
	struct nr_param_memory memory = { .block = NULL };
	struct nr_error error;
	uint64_t instance = 0;

	assert_int_equal(nr_params_apply(wrong, "wrong", &instance, NULL, 0, &memory, &error),
			 -EINVAL);
	nr_param_memory_free(&memory);
}

static char *printed(void (*print)(FILE *to, const struct nr_param *rows))
{
	char *text = NULL;
	size_t length;
	FILE *to = open_memstream(&text, &length);

	assert_non_null(to);
	print(to, table);
	assert_int_equal(fclose(to), 0);
	return text;
}

static void help(void **state)
{
	char *text = printed(nr_params_help);

	for (const struct nr_param *row = table; row->name; row++) {
		assert_non_null(strstr(text, row->name));
		assert_non_null(strstr(text, row->help));
	}
	assert_non_null(strstr(text, "  [path=]PATH             the file to serve (required)\n"));
	assert_non_null(strstr(text, "how much (from 512 to 1M; default 64K)"));
	assert_non_null(strstr(text, "at least 1"));
	assert_non_null(strstr(text, "writeback, none or dontcache"));
	assert_non_null(strstr(text, "may be given more than once"));
	/* No line is wider than a terminal. */
	for (char *line = text; *line; line += strcspn(line, "\n") + 1)
		assert_true(strcspn(line, "\n") <= 80);
	free(text);
}

static void manual(void **state)
{
	char *text = printed(nr_params_manual);

	assert_non_null(strstr(text, "=over 4\n"));
	assert_non_null(strstr(text, "=item [B<path=>]I<PATH>\n"));
	assert_non_null(strstr(text, "=item B<cache=>I<MODE>\n"));
	/* Where the row has a manual of its own, that and not the help. */
	assert_non_null(strstr(text, "How I<much>.\n"));
	assert_null(strstr(text, "how much.\n"));
	/* Help is plain text: its brackets are no markup. */
	assert_non_null(strstr(text, "a E<lt>textE<gt> of any kind.\n"));
	assert_non_null(strstr(text, "=back\n"));
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(defaults),
		cmocka_unit_test(every_type),
		cmocka_unit_test(paths_become_absolute),
		cmocka_unit_test(strings_are_copies),
		cmocka_unit_test(refusals),
		cmocka_unit_test(long_values_are_cut),
		cmocka_unit_test(no_table),
		cmocka_unit_test(wrong_default),
		cmocka_unit_test(help),
		cmocka_unit_test(manual),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
