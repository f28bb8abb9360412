/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The filters about the server as a whole: exitlast and exitwhen, which end it, and
 * exportname.
 */
#include "session-test.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "backends/table.h"
#include "filters/filters.h"

static const struct nr_layer_type *const types[] = {
	&nr_limit_type,    &nr_ip_type,       &nr_rate_type,       &nr_time_limit_type,
	&nr_exitlast_type, &nr_exitwhen_type, &nr_exportname_type, NULL,
};
static const struct layer_options options = { .types = types, .workers = 2 };

static const struct nr_layer_type *backend_named(const char *name)
{
	for (unsigned i = 0; nr_backends[i]; i++)
		if (strcmp(nr_backends[i]->name, name) == 0)
			return nr_backends[i];
	fail_msg("there is no backend %s", name);
	return NULL;
}

/* exitlast and exitwhen: a server that only writes down that it shall stop. */

static _Atomic unsigned stops;
static char stop_why[256];

static void stop(const char *why)
{
	snprintf(stop_why, sizeof(stop_why), "%s", why);
	atomic_fetch_add(&stops, 1);
}

static const struct nr_surroundings surroundings = { .stop = stop };

/* What is asked of it is nothing but the choice of a plan. */
static struct nr_stack *open_stack(const struct nr_layer_type *type, struct nr_setting *settings,
				   size_t count)
{
	struct nr_setting size = { "size", "1M" };
	struct nr_plan_layer layers[2] = {
		{ NULL, &size, 1 },
		{ type, settings, count },
	};
	struct nr_plan plan = {
		.layers = layers, .layer_count = 2, .worker_count = 1, .surroundings = &surroundings
	};
	struct nr_stack *stack;
	struct nr_error error = { 0 };

	layers[0].type = backend_named("memory");
	stops = 0; /* it may stop as soon as it is open */
	if (nr_stack_open(&stack, &plan, "", &error))
		fail_msg("%s", error.text);
	return stack;
}

static int come(struct nr_stack *stack, struct nr_session *s)
{
	struct nr_error error;

	return nr_stack_admit(stack, s, &error);
}

static bool stopped_within(double limit)
{
	double start = seconds();

	while (!atomic_load(&stops) && seconds() - start < limit)
		usleep(1000);
	return atomic_load(&stops) > 0;
}

static void exitlast_stops_after_the_last_of_all_exports(void **state)
{
	const struct layer_options first = { .surroundings = &surroundings };
	struct layer_test *a = layer_test_open(&first, "exitlast | exitlast | memory 1M");
	const struct layer_options second = { .surroundings = &surroundings, .beside = a };
	struct layer_test *b = layer_test_open(&second, "exitlast | exitlast | memory 1M");
	struct nr_stack *one = layer_test_stack(a), *two = layer_test_stack(b);
	struct nr_session s[3] = { unix_session(), unix_session(), unix_session() };

	stops = 0;
	assert_int_equal(come(one, &s[0]), 0);
	assert_int_equal(come(one, &s[1]), 0);
	assert_int_equal(come(two, &s[2]), 0);
	nr_stack_leave(one, &s[0]);
	nr_stack_leave(one, &s[1]);
	assert_int_equal(stops, 0);
	nr_stack_leave(two, &s[2]);
	assert_int_equal(stops, 2); /* the filter is there twice */
	assert_non_null(strstr(stop_why, "exitlast"));
	layer_test_close(b);
	layer_test_close(a);
}

/* The last client of one export has left; one of another is still in. */
static void exitwhen_waits_for_the_clients_of_all_exports(void **state)
{
	const struct layer_options first = { .surroundings = &surroundings };
	struct layer_test *a = layer_test_open(
		&first, "exitwhen exit-when-file-created=%s/stop | memory 1M", here);
	const struct layer_options second = { .surroundings = &surroundings, .beside = a };
	struct layer_test *b = layer_test_open(
		&second, "exitwhen exit-when-file-created=%s/stop | memory 1M", here);
	struct nr_session s[3] = { unix_session(), unix_session(), unix_session() };
	double start;
	int err = 0;

	stops = 0;
	assert_int_equal(come(layer_test_stack(a), &s[0]), 0);
	assert_int_equal(come(layer_test_stack(b), &s[1]), 0);
	write_file("stop", "");
	for (start = seconds(); !err && seconds() - start < 5;) {
		err = come(layer_test_stack(b), &s[2]);
		if (!err)
			nr_stack_leave(layer_test_stack(b), &s[2]);
	}
	assert_int_equal(err, -ESHUTDOWN);
	assert_int_equal(come(layer_test_stack(a), &s[2]), -ESHUTDOWN);
	nr_stack_leave(layer_test_stack(a), &s[0]);
	assert_int_equal(stops, 0);
	nr_stack_leave(layer_test_stack(b), &s[1]);
	assert_int_equal(stops, 1);
	layer_test_close(b);
	layer_test_close(a);
	remove_file("stop");
}

static void exitwhen_waits_for_those_who_are_in(void **state)
{
	char path[128];
	struct nr_setting setting = { "exit-when-file-created", path };
	struct nr_session in = unix_session(), late = unix_session();
	struct nr_stack *stack;
	double start;
	int err;

	snprintf(path, sizeof(path), "%s/stop", here);
	stack = open_stack(&nr_exitwhen_type, &setting, 1);
	assert_int_equal(come(stack, &in), 0);
	assert_false(stopped_within(0.1));
	write_file("stop", "");
	for (start = seconds(), err = 0; !err && seconds() - start < 5;) {
		err = come(stack, &late);
		if (!err)
			nr_stack_leave(stack, &late);
	}
	assert_int_equal(err, -ESHUTDOWN);
	assert_int_equal(stops, 0);
	nr_stack_leave(stack, &in);
	assert_int_equal(stops, 1);
	assert_non_null(strstr(stop_why, "exit-when-file-created"));
	nr_stack_close(stack);
	/* It is there already: nobody gets in. */
	stack = open_stack(&nr_exitwhen_type, &setting, 1);
	assert_int_equal(come(stack, &in), -ESHUTDOWN);
	nr_stack_close(stack);
	remove_file("stop");
}

static void exitwhen_sees_a_file_go(void **state)
{
	char path[128];
	struct nr_setting setting = { "exit-when-file-deleted", path };
	struct nr_stack *stack;

	snprintf(path, sizeof(path), "%s/go-on", here);
	write_file("go-on", "");
	stack = open_stack(&nr_exitwhen_type, &setting, 1);
	assert_false(stopped_within(0.1));
	remove_file("go-on");
	assert_true(stopped_within(5));
	nr_stack_close(stack);
}

static void exitwhen_sees_a_pipe_close(void **state)
{
	char number[16];
	struct nr_setting setting = { "exit-when-pipe-closed", number };
	struct nr_stack *stack;
	int ends[2];

	assert_int_equal(pipe(ends), 0);
	snprintf(number, sizeof(number), "%d", ends[0]);
	stack = open_stack(&nr_exitwhen_type, &setting, 1);
	assert_int_equal(write(ends[1], "x", 1), 1);
	assert_false(stopped_within(0.1));
	close(ends[1]);
	assert_true(stopped_within(5));
	nr_stack_close(stack);
	close(ends[0]);
}

static void exitwhen_sees_a_process_end(void **state)
{
	char number[16];
	struct nr_setting setting = { "exit-when-process-exits", number };
	struct nr_stack *stack;
	pid_t child = fork();

	if (child == 0) {
		pause();
		_exit(0);
	}
	assert_true(child > 0);
	snprintf(number, sizeof(number), "%d", (int)child);
	stack = open_stack(&nr_exitwhen_type, &setting, 1);
	assert_false(stopped_within(0.1));
	kill(child, SIGKILL);
	assert_true(stopped_within(5));
	nr_stack_close(stack);
	waitpid(child, NULL, 0);
	/* Gone before it was looked for. */
	stack = open_stack(&nr_exitwhen_type, &setting, 1);
	assert_true(stopped_within(5) || atomic_load(&stops));
	nr_stack_close(stack);
}

static void exitwhen_asks_scripts(void **state)
{
	char command[256];
	struct nr_setting settings[2] = {
		{ "exit-when-script", command },
		{ "exit-when-poll", "0.05" },
	};
	struct nr_stack *stack;

	snprintf(command, sizeof(command), "[ ! -e %s/yes ] || exit 88", here);
	stack = open_stack(&nr_exitwhen_type, settings, 2);
	assert_false(stopped_within(0.3));
	write_file("yes", "");
	assert_true(stopped_within(5));
	nr_stack_close(stack);
	/* One that hangs, and one that fails. */
	settings[0].value = "sleep 1000";
	stack = open_stack(&nr_exitwhen_type, settings, 2);
	assert_false(stopped_within(0.2));
	nr_stack_close(stack);
	settings[0].value = "exit 1";
	stack = open_stack(&nr_exitwhen_type, settings, 2);
	assert_false(stopped_within(0.2));
	nr_stack_close(stack);
	remove_file("yes");
}

static void exitwhen_parameters_that_cannot_be(void **state)
{
	struct nr_error error;

	layer_test_refused(&options, &error, "exitwhen exit-when-poll=0 | memory 1M");
	assert_non_null(strstr(error.text, "exit-when-poll=0"));
	layer_test_refused(&options, &error, "exitwhen exit-when-process-exits=0 | memory 1M");
	layer_test_refused(&options, &error, "exitwhen exit-when-process-exits=x | memory 1M");
	layer_test_refused(&options, &error, "exitwhen exit-when-pipe-closed=-1 | memory 1M");
	layer_test_refused(&options, &error, "exitwhen exit-when-pipe-closed=99999 | memory 1M");
	assert_non_null(strstr(error.text, "99999"));
}

/* exportname */

static char listed[1024];

static void write_down(void *context, const char *name, const char *description)
{
	size_t used = strlen(listed);

	snprintf(listed + used, sizeof(listed) - used, "[%s:%s]", name,
		 description ? description : "-");
}

/* The list of `exportname SETTINGS | BACKEND`, as text. */
static int list(const char *backend, struct nr_setting backend_setting, struct nr_setting *settings,
		size_t count)
{
	struct nr_plan_layer layers[2] = {
		{ backend_named(backend), &backend_setting, 1 },
		{ &nr_exportname_type, settings, count },
	};
	struct nr_plan plan = { .layers = layers, .layer_count = 2, .worker_count = 1 };
	struct nr_stack *stack;
	struct nr_error error = { 0 };
	int err;

	listed[0] = '\0';
	if (nr_stack_prepare(&stack, &plan, &error))
		fail_msg("%s", error.text);
	err = nr_stack_exports(stack, write_down, NULL, &error);
	nr_stack_discard(stack);
	return err;
}

static void lists_of_a_backend_with_one_disk(void **state)
{
	struct nr_setting size = { "size", "1M" };
	struct nr_setting s[] = {
		{ "exportname-list", "keep" },  { "exportname", "a" },     { "exportname", "b" },
		{ "exportdesc", "fixed:disk" }, { "default-export", "b" },
	};

	assert_int_equal(list("memory", size, s, 0), 0);
	assert_string_equal(listed, "[:-]");
	assert_int_equal(list("memory", size, s, 5), 0);
	assert_string_equal(listed, "[:disk]");
	s[0].value = "explicit";
	assert_int_equal(list("memory", size, s, 3), 0);
	assert_string_equal(listed, "[a:-][b:-]");
	s[0].value = "defaultonly";
	assert_int_equal(list("memory", size, s, 5), 0);
	assert_string_equal(listed, "[b:disk]");
	s[0].value = "empty";
	assert_int_equal(list("memory", size, s, 5), 0);
	assert_string_equal(listed, "");
	s[0].value = "error";
	assert_int_equal(list("memory", size, s, 5), -EACCES);
}

static void lists_of_a_folder(void **state)
{
	struct nr_setting dir = { "dir", here };
	struct nr_setting s[] = {
		{ "exportdesc", "script:printf 'about %s' \"$name\"" },
		{ "exportname-list", "keep" },
		{ "exportname", "b c" },
	};

	write_file("a", "a");
	write_file("b c", "b");
	assert_int_equal(list("file", dir, s, 0), 0);
	assert_string_equal(listed, "[a:-][b c:-]");
	assert_int_equal(list("file", dir, s, 3), 0);
	assert_string_equal(listed, "[a:about a][b c:about b c]");
	s[1].value = "explicit";
	assert_int_equal(list("file", dir, s, 3), 0);
	assert_string_equal(listed, "[b c:about b c]");
	s[1].value = "defaultonly";
	assert_int_equal(list("file", dir, s, 3), 0);
	assert_string_equal(listed, "");
	s[0].value = "script:exit 1";
	s[1].value = "keep";
	assert_int_equal(list("file", dir, s, 3), 0);
	assert_string_equal(listed, "[a:-][b c:-]");
	remove_file("a");
	remove_file("b c");
}

static void strict_names(void **state)
{
	const char *backend_name;
	struct nr_setting dir = { "dir", here };
	struct nr_setting s[] = { { "exportname-strict", "true" },
				  { "exportname", "a" },
				  { "default-export", "a" } };
	struct nr_plan_layer layers[2] = { { backend_named("file"), &dir, 1 },
					   { &nr_exportname_type, s, 2 } };
	struct nr_plan plan = { .layers = layers, .layer_count = 2, .worker_count = 1 };
	struct nr_session session = unix_session();
	struct nr_stack *stack;
	struct nr_error error;
	struct layer_test *t;

	write_file("a", "a");
	write_file("b", "b");
	assert_int_equal(nr_stack_prepare(&stack, &plan, &error), 0);
	assert_true(nr_stack_many(stack));
	assert_int_equal(nr_stack_find(stack, "a", &backend_name, &error), 0);
	assert_int_equal(nr_stack_find(stack, "b", &backend_name, &error), -ENOENT);
	assert_int_equal(nr_stack_find(stack, "", &backend_name, &error), -ENOENT);
	nr_stack_discard(stack);
	layers[1].setting_count = 3;
	assert_int_equal(nr_stack_prepare(&stack, &plan, &error), 0);
	assert_int_equal(nr_stack_find(stack, "", &backend_name, &error), 0);
	nr_stack_discard(stack);
	remove_file("a");
	remove_file("b");

	t = layer_test_open(
		&options,
		"exportname exportname-strict=true exportname=x exportname=y | memory 1M");
	assert_int_equal(admit(t, &session), -ENOENT);
	session.export_name = "y";
	assert_int_equal(admit(t, &session), 0);
	leave(t, &session);
	layer_test_close(t);
}

static void exportname_parameters_that_cannot_be(void **state)
{
	struct nr_error error;

	layer_test_refused(&options, &error, "exportname exportname-strict=true | memory 1M");
	assert_non_null(strstr(error.text, "exportname=NAME"));
	layer_test_refused(&options, &error, "exportname exportdesc=short | memory 1M");
	assert_non_null(strstr(error.text, "fixed:TEXT"));
	layer_test_refused(&options, &error, "exportname exportname-list=some | memory 1M");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(exitlast_stops_after_the_last_of_all_exports),
		cmocka_unit_test(exitwhen_waits_for_those_who_are_in),
		cmocka_unit_test(exitwhen_waits_for_the_clients_of_all_exports),
		cmocka_unit_test(exitwhen_sees_a_file_go),
		cmocka_unit_test(exitwhen_sees_a_pipe_close),
		cmocka_unit_test(exitwhen_sees_a_process_end),
		cmocka_unit_test(exitwhen_asks_scripts),
		cmocka_unit_test(exitwhen_parameters_that_cannot_be),
		cmocka_unit_test(lists_of_a_backend_with_one_disk),
		cmocka_unit_test(lists_of_a_folder),
		cmocka_unit_test(strict_names),
		cmocka_unit_test(exportname_parameters_that_cannot_be),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
