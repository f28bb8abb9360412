/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The table of options: that it is whole, that parsing does what its rows say,
 * and that what is printed comes from it.
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
#include <sys/socket.h>

#include "src/cli/options.h"

#define ARGUMENTS_MAX 32

/* Parse "nbdring" and the words, which end with NULL. */
static int parse_words(struct nr_options *options, struct nr_error *error, const char *const *words)
{
	char *argv[ARGUMENTS_MAX + 2] = { (char[]){ "nbdring" } };
	int argc = 1;

	for (; *words; words++) {
		assert_true(argc <= ARGUMENTS_MAX);
		argv[argc++] = (char *)*words;
	}
	memset(error, 0, sizeof(*error));
	return nr_options_parse(options, argc, argv, error);
}

#define PARSE(...) parse_words(&options, &error, (const char *const[]){ __VA_ARGS__, NULL })

static void print_help(FILE *to)
{
	nr_options_help(to, &nr_option_set);
}

static void print_manual(FILE *to)
{
	nr_options_manual(to, &nr_option_set);
}

static char *printed(void (*print)(FILE *to))
{
	char *text = NULL;
	size_t length;
	FILE *to = open_memstream(&text, &length);

	assert_non_null(to);
	print(to);
	assert_int_equal(fclose(to), 0);
	return text;
}

static const char *name_of(const struct nr_option *option, unsigned index)
{
	return index == 0 ? option->name : option->aliases[index - 1];
}

/* The table itself. */

static void every_row_is_whole(void **state)
{
	for (const struct nr_option *row = nr_option_table; row->name; row++) {
		print_message("--%s\n", row->name);
		assert_non_null(row->help);
		assert_non_null(row->manual);
		assert_true(strlen(row->help) > 5);
		assert_true(row->help[strlen(row->help) - 1] != '.');
		assert_true(strlen(row->manual) > 20);
		/* A row that changes something says what: by an offset or by a function. */
		assert_int_equal(row->kind == NR_OPTION_CALL, row->take != NULL);
		assert_true(row->group < NR_OPTION_GROUP_COUNT);
		if (row->kind == NR_OPTION_SET)
			assert_null(row->value);
		else
			assert_non_null(row->value);
	}
}

static void names_are_unique(void **state)
{
	for (const struct nr_option *a = nr_option_table; a->name; a++) {
		for (const struct nr_option *b = a + 1; b->name; b++) {
			assert_true(!a->letter || a->letter != b->letter);
			for (unsigned i = 0; i <= NR_OPTION_ALIASES; i++)
				for (unsigned j = 0; j <= NR_OPTION_ALIASES; j++)
					assert_true(!name_of(a, i) || !name_of(b, j) ||
						    strcmp(name_of(a, i), name_of(b, j)) != 0);
		}
	}
}

static void help_mentions_every_row(void **state)
{
	char *text = printed(print_help);
	char wanted[100];

	for (const struct nr_option *row = nr_option_table; row->name; row++) {
		snprintf(wanted, sizeof(wanted), "--%s%s%s%s%s", row->name,
			 row->value_optional ? "[" : "", row->value ? "=" : "",
			 row->value ? row->value : "", row->value_optional ? "]" : "");
		if (row->group == NR_OPTIONS_HIDDEN) {
			assert_null(strstr(text, wanted));
			continue;
		}
		assert_non_null(strstr(text, wanted));
		if (row->letter) {
			snprintf(wanted, sizeof(wanted), "  -%c, --%s", row->letter, row->name);
			assert_non_null(strstr(text, wanted));
		}
	}
	for (char *line = text; *line; line += strcspn(line, "\n") + 1)
		assert_true(strcspn(line, "\n") <= 80);
	free(text);
}

static void manual_has_every_name(void **state)
{
	char *text = printed(print_manual);
	char wanted[100];

	for (const struct nr_option *row = nr_option_table; row->name; row++) {
		for (unsigned i = 0; i <= NR_OPTION_ALIASES; i++) {
			if (!name_of(row, i) || row->group == NR_OPTIONS_HIDDEN)
				continue;
			snprintf(wanted, sizeof(wanted), "=item B<--%s>", name_of(row, i));
			assert_non_null(strstr(text, wanted));
		}
		if (row->group != NR_OPTIONS_HIDDEN)
			assert_non_null(strstr(text, row->manual));
	}
	free(text);
}

static void lists_have_every_name(void **state)
{
	char *names = printed(nr_options_list_long);
	char *letters = printed(nr_options_list_short);
	char wanted[100];

	for (const struct nr_option *row = nr_option_table; row->name; row++) {
		if (row->group == NR_OPTIONS_HIDDEN)
			continue;
		for (unsigned i = 0; i <= NR_OPTION_ALIASES; i++) {
			if (!name_of(row, i))
				continue;
			snprintf(wanted, sizeof(wanted), "--%s\n", name_of(row, i));
			assert_non_null(strstr(names, wanted));
		}
		snprintf(wanted, sizeof(wanted), "-%c\n", row->letter);
		if (row->letter)
			assert_non_null(strstr(letters, wanted));
	}
	assert_null(strstr(names, "--manual\n"));
	free(names);
	free(letters);
}

/* Every name that nbdkit 1.32 has and that is built here. */
static void nbdkit_names(void **state)
{
	static const char *const names[] = {
		"ipv4-only", "ipv6-only",   "debug",      "dump-config", "dump-plugin",
		"export",    "export-name", "exportname", "filter",      "exit-with-parent",
		"no-fork",   "foreground",  "help",       "ip-addr",     "ipaddr",
		"log",       "new-style",   "newstyle",   "no-sr",       "mask-handshake",
		"old-style", "oldstyle",    "pid-file",   "pidfile",     "port",
		"read-only", "readonly",    "run",        "single",      "stdin",
		"threads",   "unix",        "verbose",    "version",
	};
	char *text = printed(nr_options_list_long);
	char *letters = printed(nr_options_list_short);

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		char wanted[100];

		snprintf(wanted, sizeof(wanted), "--%s\n", names[i]);
		assert_non_null(strstr(text, wanted));
	}
	for (const char *letter = "46DefinoPprstUvV"; *letter; letter++)
		assert_non_null(strchr(letters, *letter));
	free(text);
	free(letters);
}

/* Parsing. */

static void nothing_given(void **state)
{
	struct nr_options options;
	struct nr_error error;

	assert_int_equal(PARSE("file", "disk.img"), 0);
	assert_int_equal(options.action, NR_ACTION_SERVE);
	assert_int_equal(options.unix_paths.count, 0);
	assert_int_equal(options.ports.count, 0);
	assert_int_equal(options.filters.count, 0);
	assert_int_equal(options.addresses.count, 0);
	assert_int_equal(options.vsocks.count, 0);
	assert_false(options.has_unix_mode || options.ports_are_vsock || options.interface);
	assert_null(options.pid_file);
	assert_null(options.run);
	assert_null(options.log);
	assert_int_equal(options.family, AF_UNSPEC);
	assert_string_equal(options.export_name, "");
	assert_int_equal(options.handshake_mask, 0xffff);
	assert_int_equal(options.workers, 0);
	assert_false(options.single || options.read_only || options.foreground ||
		     options.oldstyle || options.no_structured || options.no_contexts ||
		     options.verbose || options.print_uri || options.exit_with_parent);
	assert_int_equal(options.words.count, 2);
	nr_options_free(&options);
}

static void everything_given(void **state)
{
	struct nr_options options;
	struct nr_error error;

	assert_int_equal(PARSE("-U", "/a", "--unix=-", "-p", "1", "--port=http", "-i", "::1", "-6",
			       "-r", "-e", "x y", "-fP", "/pid", "-t", "4", "-o", "--run", "true",
			       "--mask-handshake=0x3", "--no-sr", "--no-mc", "--log=/l"),
			 0);
	assert_int_equal(options.unix_paths.count, 2);
	assert_string_equal(options.unix_paths.item[0], "/a");
	assert_string_equal(options.unix_paths.item[1], "-");
	assert_int_equal(options.ports.count, 2);
	assert_string_equal(options.ports.item[1], "http");
	assert_int_equal(options.addresses.count, 1);
	assert_string_equal(options.addresses.item[0], "::1");
	assert_int_equal(options.family, AF_INET6);
	assert_true(options.read_only);
	assert_string_equal(options.export_name, "x y");
	assert_true(options.foreground);
	assert_string_equal(options.pid_file, "/pid");
	assert_int_equal(options.workers, 4);
	assert_true(options.oldstyle);
	assert_string_equal(options.run, "true");
	assert_int_equal(options.handshake_mask, 3);
	assert_true(options.no_structured);
	assert_true(options.no_contexts);
	assert_string_equal(options.log, "/l");
	nr_options_free(&options);

	assert_int_equal(PARSE("--vsock", "--vsock=7", "--vsock=1:8", "-U", "a", "--unix-mode=0640",
			       "--unix-owner=x:y", "-p", "4294967294"),
			 0);
	assert_true(options.ports_are_vsock);
	assert_int_equal(options.vsocks.count, 2);
	assert_string_equal(options.vsocks.item[1], "1:8");
	assert_int_equal(options.unix_mode, 0640);
	assert_string_equal(options.unix_owner, "x:y");
	nr_options_free(&options);

	assert_int_equal(PARSE("-vs", "--exit-with-parent", "--print-uri", "-D", "nbdring.plan=1",
			       "-D", "nbdkit.backend.datapath=0"),
			 0);
	assert_true(options.verbose);
	assert_true(options.single);
	assert_true(options.exit_with_parent);
	assert_true(options.print_uri);
	assert_int_equal(options.debug_plan, 1);
	nr_options_free(&options);
}

static void who_may_come_in(void **state)
{
	struct nr_options options;
	struct nr_error error;

	assert_int_equal(PARSE("memory"), 0);
	assert_null(options.access_file);
	assert_int_equal(options.access_rules.count, 0);
	assert_int_equal(options.handshake_seconds, 60);
	assert_false(options.max_connections || options.max_connections_wait ||
		     options.max_per_export || options.max_per_peer || options.max_handshakes ||
		     options.keepalive[0] || options.exit_last || options.exit_idle);
	nr_options_free(&options);

	assert_int_equal(PARSE("--access=/rules", "--access-rule=allow", "--access-rule", "deny",
			       "--max-connections=7,wait", "--max-connections-per-export=2",
			       "--max-connections-per-peer=3", "--max-handshakes=4",
			       "--handshake-limit=5", "--keepalive=60,10,6", "--exit-last",
			       "--exit-idle=30"),
			 0);
	assert_string_equal(options.access_file, "/rules");
	assert_int_equal(options.access_rules.count, 2);
	assert_int_equal(options.max_connections, 7);
	assert_true(options.max_connections_wait);
	assert_int_equal(options.max_per_export, 2);
	assert_int_equal(options.max_per_peer, 3);
	assert_int_equal(options.max_handshakes, 4);
	assert_int_equal(options.handshake_seconds, 5);
	assert_int_equal(options.keepalive[0], 60);
	assert_int_equal(options.keepalive[1], 10);
	assert_int_equal(options.keepalive[2], 6);
	assert_true(options.exit_last);
	assert_int_equal(options.exit_idle, 30);
	nr_options_free(&options);
}

#define KEEPALIVE(value)                                                                    \
	"--keepalive=" value " is not possible: write the seconds before the first probe, " \
	"those between two (up to 32767) and how many (up to 127), as in --keepalive=60,10,6"

/* Options may follow the backend; "--" ends them; the last of a kind counts. */
static void order(void **state)
{
	struct nr_options options;
	struct nr_error error;

	assert_int_equal(PARSE("--filter=cow", "file", "-r", "disk.img", "--filter", "offset", "-4",
			       "offset=1", "-6", "-on", "--", "-x", "--run"),
			 0);
	assert_int_equal(options.filters.count, 2);
	assert_string_equal(options.filters.item[0], "cow");
	assert_string_equal(options.filters.item[1], "offset");
	assert_true(options.read_only);
	assert_int_equal(options.family, AF_INET6);
	assert_false(options.oldstyle);
	assert_int_equal(options.words.count, 5);
	assert_string_equal(options.words.item[0], "file");
	assert_string_equal(options.words.item[2], "offset=1");
	assert_string_equal(options.words.item[3], "-x");
	assert_string_equal(options.words.item[4], "--run");
	nr_options_free(&options);
}

static void aliases_and_short_forms(void **state)
{
	struct nr_options options;
	struct nr_error error;

	assert_int_equal(PARSE("--read-only", "--no-fork", "--pid-file=/p", "--export-name=e",
			       "--ip-addr=::1", "--old-style", "--verb", "--port=1"),
			 0);
	assert_true(options.read_only);
	assert_true(options.foreground);
	assert_string_equal(options.pid_file, "/p");
	assert_string_equal(options.export_name, "e");
	assert_int_equal(options.addresses.count, 1);
	assert_string_equal(options.addresses.item[0], "::1");
	assert_true(options.oldstyle);
	assert_true(options.verbose);
	nr_options_free(&options);
}

static void actions(void **state)
{
	static const struct {
		const char *word;
		enum nr_action action;
	} cases[] = {
		{ "--help", NR_ACTION_HELP },
		{ "--version", NR_ACTION_VERSION },
		{ "-V", NR_ACTION_VERSION },
		{ "--list", NR_ACTION_LIST },
		{ "--dump-config", NR_ACTION_DUMP_CONFIG },
		{ "--dump-plugin", NR_ACTION_DUMP_PLUGIN },
		{ "--short-options", NR_ACTION_SHORT_OPTIONS },
		{ "--long-options", NR_ACTION_LONG_OPTIONS },
		{ "--manual=file", NR_ACTION_MANUAL },
	};
	struct nr_options options;
	struct nr_error error;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		assert_int_equal(PARSE("file", cases[i].word), 0);
		assert_int_equal(options.action, cases[i].action);
		nr_options_free(&options);
	}
	/* Who only asks may ask with any other options. */
	assert_int_equal(PARSE("-s", "-p", "1", "--help"), 0);
	nr_options_free(&options);
}

#define REFUSED(sentence, ...)                                 \
	do {                                                   \
		assert_int_equal(PARSE(__VA_ARGS__), -EINVAL); \
		assert_string_equal(error.text, sentence);     \
		nr_options_free(&options);                     \
	} while (0)

static void what_cannot_be_said_of_clients(void **state)
{
	struct nr_options options;
	struct nr_error error;

	REFUSED("--max-connections=2,later is not possible: write a number, or a number and ,wait",
		"--max-connections=2,later");
	REFUSED("--max-connections= is not possible: write a number from 0 to 2147483647",
		"--max-connections=,wait");
	REFUSED(KEEPALIVE("60,10"), "--keepalive=60,10");
	REFUSED(KEEPALIVE("60,10,6,"), "--keepalive=60,10,6,");
	REFUSED(KEEPALIVE("60,10,128"), "--keepalive=60,10,128");
	REFUSED(KEEPALIVE("0,10,6"), "--keepalive=0,10,6");
	REFUSED("with --run the server ends when the command does, so --exit-last and --exit-idle "
		"do not go with it",
		"--run", "true", "--exit-last");
}

static void refusals(void **state)
{
	struct nr_options options;
	struct nr_error error;

	REFUSED("there is no option --readnly; did you mean --readonly?", "--readnly");
	REFUSED("there is no option --filtre; did you mean --filter?", "--filtre=cow");
	REFUSED("there is no option --tsl; did you mean --tls?", "--tsl=require");
	REFUSED("--tls=maybe is not possible: write off, on or require", "--tls=maybe");
	REFUSED("there is no option -x; nbdring --help shows all there are", "-fx");
	REFUSED("--no- could be more than one option; write it in full", "--no-");
	REFUSED("-U needs a value: write -U PATH or --unix=PATH", "-U");
	REFUSED("-U needs a value: write -U PATH or --unix=PATH", "--unix");
	REFUSED("--run needs a value: write --run=COMMAND", "--run");
	REFUSED("--readonly takes no value", "--readonly=yes");
	REFUSED("--port=65536 is not possible: write a number from 0 to 65535", "-p", "65536");
	REFUSED("--port=-1 is not possible: write a number from 0 to 65535", "-p", "-1");
	REFUSED("--port= is not possible: write a number from 0 to 65535", "--port=");
	REFUSED("--unix needs a path, or - for a private socket", "-U", "");
	REFUSED("--pidfile needs a path, not an empty value", "-P", "");
	REFUSED("--threads=many is not possible: write a number from 0 to 1024", "-t", "many");
	REFUSED("--threads=1025 is not possible: write a number from 0 to 1024", "-t", "1025");
	REFUSED("--spin=10001 is not possible: write a number from 0 to 10000", "--spin=10001");
	REFUSED("--mask-handshake=65536 is not possible: write a number from 0 to 65535",
		"--mask-handshake=65536");
	REFUSED("--log=here is not possible: write stderr, syslog, journal, null, default, or a path that "
		"begins with /",
		"--log=here");
	REFUSED("--name=a b is not possible: write 1 to 64 letters, digits, dots, dashes, and _ @ "
		"+",
		"--name=a b");
	REFUSED("--name= is not possible: write 1 to 64 letters, digits, dots, dashes, and _ @ +",
		"--name=");
	REFUSED("-D file.zero=1: there is no such debug flag; there are nbdring.plan=N, "
		"nbdkit.backend.controlpath=N and nbdkit.backend.datapath=N",
		"-D", "file.zero=1");
	REFUSED("-D nbdring.plan needs a number: write -D nbdring.plan=1", "-D", "nbdring.plan");
	REFUSED("-s serves one client on standard input and output, so it does not go with -U, -p, "
		"-i, --vsock or --run",
		"-s", "-U", "-");
	REFUSED("-i names an address but no TCP port is served here; add -p PORT or leave -i out",
		"-i", "::1", "-U", "-");
	REFUSED("-i names an address but no TCP port is served here; add -p PORT or leave -i out",
		"-i", "::1", "--vsock");
	REFUSED("--interface is for TCP ports but none is served here; add -p PORT or leave "
		"--interface out",
		"--interface=lo", "--vsock=1");
	REFUSED("--interface=a-name-of-16-byt is no name of a network interface: those have from 1 "
		"to 15 bytes",
		"--interface=a-name-of-16-byt");
	REFUSED("--unix-mode=0668 is not possible: write an octal number up to 0777, such as 0660",
		"--unix-mode=0668");
	REFUSED("--unix-mode=1777 is not possible: write an octal number up to 0777, such as 0660",
		"--unix-mode=1777");
	REFUSED("--unix-mode= is not possible: write an octal number up to 0777, such as 0660",
		"--unix-mode=");
	REFUSED("--unix-mode cannot protect @x: an abstract socket has neither mode nor owner; use "
		"one with a path",
		"--unix-mode=600", "-U", "a", "-U", "@x");
	REFUSED("--unix-owner is for Unix sockets but none is served here; add -U PATH or leave it "
		"out",
		"--unix-owner=root", "-p", "1");
#undef REFUSED
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_row_is_whole),
		cmocka_unit_test(names_are_unique),
		cmocka_unit_test(help_mentions_every_row),
		cmocka_unit_test(manual_has_every_name),
		cmocka_unit_test(lists_have_every_name),
		cmocka_unit_test(nbdkit_names),
		cmocka_unit_test(nothing_given),
		cmocka_unit_test(everything_given),
		cmocka_unit_test(who_may_come_in),
		cmocka_unit_test(what_cannot_be_said_of_clients),
		cmocka_unit_test(order),
		cmocka_unit_test(aliases_and_short_forms),
		cmocka_unit_test(actions),
		cmocka_unit_test(refusals),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
