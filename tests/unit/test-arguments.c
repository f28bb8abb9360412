/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Words from files: what a line means, where in the command line the words go, and how
 * faults are located.
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

#include "src/cli/arguments.h"
#include "src/cli/options.h"

static char folder[] = "/tmp/nbdring-unit-XXXXXX";

static int enter_folder(void **state)
{
	return mkdtemp(folder) && chdir(folder) == 0 ? 0 : -1;
}

static int remove_folder(void **state)
{
	return chdir("/") == 0 ? rmdir(folder) : -1;
}

static void write_file(const char *path, const char *text)
{
	FILE *file = fopen(path, "w");

	assert_non_null(file);
	assert_true(fputs(text, file) >= 0);
	assert_int_equal(fclose(file), 0);
}

/* The words of TEXT, each in <>, and " !" with the line of what is no word. */
static const char *words_of(const char *text)
{
	static char result[1000];
	char *copy = strdup(text), *at = copy, *word;
	const char *problem;
	unsigned line = 1;
	size_t used = 0;

	result[0] = '\0';
	while ((word = nr_arguments_next(&at, &line, &problem)) != NULL)
		used += (size_t)snprintf(result + used, sizeof(result) - used, "<%s>", word);
	if (problem)
		snprintf(result + used, sizeof(result) - used, " !%u", line);
	free(copy);
	return result;
}

static void what_a_line_means(void **state)
{
	static const char *const cases[][2] = {
		{ "", "" },
		{ " \t\r\n\n", "" },
		{ "one", "<one>" },
		{ "one two\nthree\r\n", "<one><two><three>" },
		{ "# nothing\n a # more\nb#c #", "<a><b#c>" },
		{ "'a b' \"c d\" e' 'f\"\"", "<a b><c d><e f>" },
		{ "'' \"\"", "<><>" },
		{ "'\\\"#$x' \"'\\\"\\\\\\n$x\"", "<\\\"#$x><'\"\\\\n$x>" },
		{ "a\\ b \\#c \\'d \\\\", "<a b><#c><'d><\\>" },
		{ "a\\\nb \\\n c", "<ab><c>" },
		{ "file=/x y=1", "<file=/x><y=1>" },
		{ "a\n'b\nc'", "<a> !2" },
		{ "\n\"b", " !2" },
		{ "a b\\", "<a> !1" },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		assert_string_equal(words_of(cases[i][0]), cases[i][1]);
}

static int parse(struct nr_options *options, struct nr_error *error, const char *const *words)
{
	char *argv[20] = { (char[]){ "nbdring" } };
	int argc = 1;

	while (*words)
		argv[argc++] = (char *)*words++;
	memset(error, 0, sizeof(*error));
	return nr_options_parse(options, argc, argv, error);
}

#define PARSE(...) parse(&options, &error, (const char *const[]){ __VA_ARGS__, NULL })

/* In the place of @PATH, and of another file in a file. */
static void where_words_go(void **state)
{
	struct nr_options options;
	struct nr_error error;

	write_file("outer", "--filter=b @inner\n--filter=d\n");
	write_file("inner", "--filter=c\nfile 'a disk'");
	assert_int_equal(PARSE("--filter=a", "@outer", "--filter=e", "x=1"), 0);
	assert_int_equal(options.filters.count, 5);
	for (size_t i = 0; i < 5; i++)
		assert_int_equal(options.filters.item[i][0], 'a' + (int)i);
	assert_int_equal(options.words.count, 3);
	assert_string_equal(options.words.item[0], "file");
	assert_string_equal(options.words.item[1], "a disk");
	assert_string_equal(options.words.item[2], "x=1");
	nr_options_free(&options);
	unlink("outer");
	unlink("inner");
}

/* What is no file of words, though it begins with @. */
static void other_uses_of_at(void **state)
{
	struct nr_options options;
	struct nr_error error;

	write_file("file", "-U @in-file\n--unix\n@next-line\n");
	assert_int_equal(PARSE("-U", "@one", "-U@two", "--unix=@three", "--unix", "@four",
			       "--exportn", "@five", "-fU", "@six", "@file", "--vsock", "@", "x=@y",
			       "--", "@none"),
			 0);
	assert_string_equal(options.export_name, "@five");
	assert_int_equal(options.unix_paths.count, 7);
	assert_string_equal(options.unix_paths.item[0], "@one");
	assert_string_equal(options.unix_paths.item[4], "@six");
	assert_string_equal(options.unix_paths.item[6], "@next-line");
	assert_int_equal(options.words.count, 3);
	assert_string_equal(options.words.item[0], "@");
	assert_string_equal(options.words.item[2], "@none");
	nr_options_free(&options);
	unlink("file");
}

static void faults(void **state)
{
	struct nr_options options;
	struct nr_error error;
	FILE *file;

#define REFUSED(sentence, ...)                               \
	do {                                                 \
		assert_int_not_equal(PARSE(__VA_ARGS__), 0); \
		assert_string_equal(error.text, sentence);   \
		nr_options_free(&options);                   \
	} while (0)

	write_file("good", "memory 1M\n");
	write_file("bad", "\n-U x\n  --readnly\n");
	REFUSED("bad:3: there is no option --readnly; did you mean --readonly?", "@good", "@bad");
	write_file("bad", "# why\n-U 'x\n");
	REFUSED("bad:2: a quote is not closed on this line", "@bad");
	write_file("outer", "@good\n@bad\n");
	REFUSED("outer:2: bad:2: a quote is not closed on this line", "@outer");
	write_file("bad", "-t\nmany");
	REFUSED("bad:2: --threads=many is not possible: write a number from 0 to 1024", "@bad");
	write_file("bad", "-fv\n-rZf");
	REFUSED("bad:2: there is no option -Z; nbdring --help shows all there are", "@bad");
	write_file("bad", "\n-fvt");
	REFUSED("bad:2: -t needs a value: write -t NUMBER or --threads=NUMBER", "@bad");
	/* Not in a file. */
	REFUSED("there is no option -Z; nbdring --help shows all there are", "@good", "-Z");
	REFUSED("@none: No such file or directory", "@none");
	write_file("bad", "@none");
	REFUSED("bad:1: @none: No such file or directory", "@bad");
	write_file("bad", "@bad");
	REFUSED("@bad: files name files more than 8 deep; does one name itself?", "@bad");
	REFUSED("@/dev/zero has more than 1048576 bytes", "@/dev/zero");
	REFUSED("@.: Is a directory", "@.");

	file = fopen("bad", "w");
	assert_non_null(file);
	assert_int_equal(fwrite("a\0b", 1, 3, file), 3);
	assert_int_equal(fclose(file), 0);
	REFUSED("@bad is no text: there is a NUL in it", "@bad");

	file = fopen("bad", "w");
	assert_non_null(file);
	for (int i = 0; i < NR_ARGUMENTS_WORDS_MAX; i++)
		fputs("x ", file);
	assert_int_equal(fclose(file), 0);
	REFUSED("there are more than 16384 words", "@bad");
#undef REFUSED
	unlink("good");
	unlink("bad");
	unlink("outer");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_a_line_means),
		cmocka_unit_test(where_words_go),
		cmocka_unit_test(other_uses_of_at),
		cmocka_unit_test(faults),
	};

	return cmocka_run_group_tests(tests, enter_folder, remove_folder);
}
