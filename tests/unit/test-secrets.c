/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Parameters that are secrets: where they come from, what is said when that does not
 * work, and that they are shown nowhere.
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
#include <pty.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>
#include <utmp.h>

#include "nbdring/secret.h"
#include "src/cli/layers.h"
#include "src/cli/secrets.h"
#include "src/stack/params.h"

struct safe {
	const char *password;
};

static const struct nr_param safe_params[] = {
	{ .name = "password",
	  .type = NR_PARAM_STRING,
	  .flags = NR_PARAM_SECRET,
	  .offset = offsetof(struct safe, password),
	  .help = "x" },
	{ .name = "note", .type = NR_PARAM_STRING, .help = "x" },
	{ .name = NULL },
};

static const struct nr_layer_type safe = {
	.name = "safe",
	.kind = NR_BACKEND,
	.params = safe_params,
	.instance_size = sizeof(struct safe),
};

static const struct nr_layer_type *const backends[] = { &safe, NULL };
static const struct nr_layer_type *const filters[] = { NULL };
static const struct nr_catalog catalog = { .backends = backends, .filters = filters };

/* A plan of "safe password=VALUE", given back by the caller. */
static void plan_with(struct nr_plan *plan, const char *value)
{
	char word[4096];
	const char *words[] = { "safe", word };
	const struct nr_strings no_filters = { .count = 0 }, list = { 2, words };
	struct nr_error error = { .code = 0 };

	snprintf(word, sizeof(word), "password=%s", value);
	*plan = (struct nr_plan){ .layer_count = 0 };
	assert_int_equal(nr_layers_plan(plan, &catalog, &no_filters, &list, &error), 0);
}

static void expect(const char *value, const char *secret)
{
	struct nr_error error = { .code = 0 };
	struct nr_plan plan;

	plan_with(&plan, value);
	assert_int_equal(nr_secrets_fetch(&plan, &error), 0);
	assert_string_equal(plan.layers[0].settings[0].name, "password");
	assert_string_equal(plan.layers[0].settings[0].value, secret);
	nr_layers_free(&plan);
}

static void refused(const char *value, int code, const char *text)
{
	struct nr_error error = { .code = 0 };
	struct nr_plan plan;

	plan_with(&plan, value);
	assert_int_equal(nr_secrets_fetch(&plan, &error), code);
	if (text)
		assert_string_equal(error.text, text);
	nr_layers_free(&plan);
}

/* A descriptor of a file with these LENGTH bytes, at its beginning. */
static int file_of(const void *bytes, size_t length)
{
	int fd = memfd_create("secret", MFD_CLOEXEC);

	assert_true(fd > STDERR_FILENO);
	assert_int_equal(write(fd, bytes, length), length);
	assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
	return fd;
}

static void a_secret_may_be_written_as_it_is(void **state)
{
	expect("tr0ub4dor", "tr0ub4dor");
	expect("", "");
	expect("with blanks = and more", "with blanks = and more");
}

static void the_first_line_of_a_file(void **state)
{
	static const struct {
		const char *bytes;
		size_t length;
		const char *secret;
	} files[] = {
		{ "one\ntwo\n", 8, "one" }, { "one", 3, "one" }, { "\n", 1, "" }, { "", 0, "" }
	};
	char value[64];

	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
		int fd = file_of(files[i].bytes, files[i].length);

		snprintf(value, sizeof(value), "+/proc/self/fd/%d", fd);
		expect(value, files[i].secret);
		close(fd);
	}
}

/* What comes behind the line is for somebody else; the descriptor is closed. */
static void the_first_line_of_a_descriptor(void **state)
{
	int fd = file_of("one\ntwo\n", 8), other = dup(fd);
	char value[64], rest[8] = "";

	snprintf(value, sizeof(value), "-%d", fd);
	expect(value, "one");
	assert_int_equal(fcntl(fd, F_GETFD), -1);
	assert_int_equal(read(other, rest, sizeof(rest)), 4);
	assert_string_equal(rest, "two\n");
	close(other);
}

static void where_there_is_no_secret(void **state)
{
	char *large = calloc(1, 100000);
	char value[64];
	int fd;

	refused("+/does/not/exist", -ENOENT,
		"safe: password=+/does/not/exist: No such file or directory");
	refused("-0", -EBADF, NULL);
	refused("-2", -EBADF,
		"safe: password=-2 is not possible: write the number of a descriptor, 3 or more, "
		"that the server is started with");
	refused("-x", -EBADF, NULL);
	refused("-99999999999", -EBADF, NULL);
	refused("-4000", -EBADF, NULL);

	fd = file_of("a\0b\n", 4);
	snprintf(value, sizeof(value), "+/proc/self/fd/%d", fd);
	refused(value, -EILSEQ, NULL);
	close(fd);

	assert_non_null(large);
	memset(large, 'x', 100000);
	fd = file_of(large, 100000);
	snprintf(value, sizeof(value), "+/proc/self/fd/%d", fd);
	refused(value, -E2BIG, NULL);
	close(fd);
	free(large);
}

static void stacks_within_stacks_take_files_only(void **state)
{
	struct nr_error error = { .code = 0 };
	int fd = file_of("one\n", 4);
	struct nr_plan plan;
	char value[64];

	snprintf(value, sizeof(value), "+/proc/self/fd/%d", fd);
	plan_with(&plan, value);
	assert_int_equal(nr_secrets_fetch_within(&plan, &error), 0);
	assert_string_equal(plan.layers[0].settings[0].value, "one");
	nr_layers_free(&plan);

	snprintf(value, sizeof(value), "-%d", fd);
	plan_with(&plan, value);
	assert_int_equal(nr_secrets_fetch_within(&plan, &error), -EINVAL);
	nr_layers_free(&plan);
	plan_with(&plan, "+no/whole/path");
	assert_int_equal(nr_secrets_fetch_within(&plan, &error), -EINVAL);
	nr_layers_free(&plan);
	close(fd);
}

static void two_of_them_are_not_shown(void **state)
{
	const struct nr_setting settings[] = { { "password", "first" }, { "password", "second" } };
	struct nr_param_memory memory = { .count = 0 };
	struct nr_error error = { .code = 0 };
	struct safe instance = { .password = NULL };

	assert_int_equal(
		nr_params_apply(safe_params, "safe", &instance, settings, 2, &memory, &error),
		-EINVAL);
	assert_string_equal(error.text, "safe: password is given twice; give it once");
	nr_param_memory_free(&memory);
	assert_int_equal(
		nr_params_apply(safe_params, "safe", &instance, settings, 1, &memory, &error), 0);
	assert_string_equal(instance.password, "first");
	nr_param_memory_free(&memory);
}

/* VmFlags of the mapping that P is in, from /proc/self/smaps. */
static void flags_of(const void *p, char *flags, size_t room)
{
	FILE *maps = fopen("/proc/self/smaps", "r");
	char line[512];
	bool here = false;

	assert_non_null(maps);
	flags[0] = '\0';
	while (fgets(line, sizeof(line), maps)) {
		unsigned long from, to;

		if (sscanf(line, "%lx-%lx ", &from, &to) == 2)
			here = (uintptr_t)p >= from && (uintptr_t)p < to;
		else if (here && strncmp(line, "VmFlags:", 8) == 0)
			snprintf(flags, room, "%s", line);
	}
	fclose(maps);
}

static void their_memory_is_not_dumped(void **state)
{
	uint8_t *small = nr_secret_alloc(1), *large = nr_secret_alloc(100000);
	char flags[512];

	assert_non_null(small);
	assert_non_null(large);
	assert_int_equal((uintptr_t)small % 16, 0);
	for (size_t i = 0; i < 100000; i++)
		assert_int_equal(large[i], 0);
	memset(large, 1, 100000);
	flags_of(small, flags, sizeof(flags));
	assert_non_null(strstr(flags, " dd"));
	nr_secret_free(small);
	nr_secret_free(large);
	nr_secret_free(NULL);
	assert_null(nr_secret_alloc(SIZE_MAX));
}

/* A child at a terminal of its own that is to fetch password=-; 0: it was TYPED's line. */
static int child_at_terminal(const char *line)
{
	struct nr_error error = { .code = 0 };
	struct nr_plan plan;
	int status;

	plan_with(&plan, "-");
	status = nr_secrets_fetch(&plan, &error) ||
		 strcmp(plan.layers[0].settings[0].value, line) != 0;
	nr_layers_free(&plan);
	return status;
}

/* Type TYPED at the prompt: how the child ends; ECHOED: did the terminal show it? */
static int type_at_prompt(const char *typed, const char *line, bool *echo_after)
{
	static const char prompt[] = "safe: password: ";
	char shown[256];
	size_t count = 0;
	struct termios after;
	int terminal, slave, status;
	ssize_t n;
	pid_t child;

	assert_int_equal(openpty(&terminal, &slave, NULL, NULL, NULL), 0);
	child = fork();
	if (child == 0) {
		/* A shell has its background jobs ignore it. */
		signal(SIGINT, SIG_DFL);
		login_tty(slave);
		_exit(child_at_terminal(line));
	}
	assert_true(child > 0);
	memset(shown, 0, sizeof(shown));
	while (!strstr(shown, prompt)) {
		n = read(terminal, shown + count, sizeof(shown) - 1 - count);
		assert_true(n > 0);
		count += (size_t)n;
	}
	assert_int_equal(write(terminal, typed, strlen(typed)), strlen(typed));
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(tcgetattr(slave, &after), 0);
	*echo_after = after.c_lflag & ECHO;
	fcntl(terminal, F_SETFL, O_NONBLOCK);
	while ((n = read(terminal, shown + count, sizeof(shown) - 1 - count)) > 0)
		count += (size_t)n;
	assert_null(strstr(shown, "opensesame"));
	close(slave);
	close(terminal);
	return status;
}

static void the_terminal_is_asked_and_shows_nothing(void **state)
{
	bool echo;
	int status = type_at_prompt("opensesame\n", "opensesame", &echo);

	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
	assert_true(echo);
}

static void an_interrupted_question_leaves_the_terminal_as_it_was(void **state)
{
	bool echo;
	int status = type_at_prompt("\003", "", &echo);

	assert_true(WIFSIGNALED(status));
	assert_int_equal(WTERMSIG(status), SIGINT);
	assert_true(echo);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_secret_may_be_written_as_it_is),
		cmocka_unit_test(the_first_line_of_a_file),
		cmocka_unit_test(the_first_line_of_a_descriptor),
		cmocka_unit_test(where_there_is_no_secret),
		cmocka_unit_test(stacks_within_stacks_take_files_only),
		cmocka_unit_test(two_of_them_are_not_shown),
		cmocka_unit_test(their_memory_is_not_dumped),
		cmocka_unit_test(the_terminal_is_asked_and_shows_nothing),
		cmocka_unit_test(an_interrupted_question_leaves_the_terminal_as_it_was),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
