/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Reading the command line by the table in options-table.c, and printing what
 * the table holds.
 *
 * getopt_long does the walking, because its users know its habits: options may
 * follow the backend's name, long ones may be shortened.  Its messages are
 * replaced by sentences that say what to write instead.
 *
 * Main thread only: getopt keeps its state in globals.
 */
#include "src/cli/options.h"

#include <assert.h>
#include <errno.h>
#include <getopt.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "src/stack/params-path.h"
#include "src/stack/params-text.h"
#include "src/stack/params.h"

#define LONG_BASE 256 /* getopt's value of row N is LONG_BASE + N */

const struct nr_option_set nr_option_set = { .program = "nbdring", .rows = nr_option_table };

int nr_strings_add(struct nr_strings *list, const char *text, struct nr_error *error)
{
	const char **grown = realloc(list->item, (list->count + 1) * sizeof(*grown));

	if (!grown)
		return nr_error_system(error, -ENOMEM, "the command line");
	list->item = grown;
	list->item[list->count++] = text;
	return 0;
}

void nr_options_free(struct nr_options *options)
{
	for (size_t i = 0; i < options->owned.count; i++)
		free((void *)options->owned.item[i]);
	free(options->owned.item);
	free(options->unix_paths.item);
	free(options->ports.item);
	free(options->addresses.item);
	free(options->vsocks.item);
	free(options->access_rules.item);
	free(options->filters.item);
	free(options->words.item);
	if (options->qemu.lock > 0)
		close(options->qemu.lock);
	free(options->qemu.bitmaps.item);
	free(options->qemu.objects.item);
	free(options->qemu.traces.item);
	nr_arguments_free(&options->arguments);
	memset(options, 0, sizeof(*options));
}

/* The names of a row: 0 is the main one, then the aliases; NULL ends them. */
static const char *option_name(const struct nr_option *option, unsigned index)
{
	if (index == 0)
		return option->name;
	return index <= NR_OPTION_ALIASES ? option->aliases[index - 1] : NULL;
}

/* Taking a value. */

static int take_path(struct nr_options *options, const struct nr_option *option, const char *value,
		     const char **field, struct nr_error *error)
{
	char *path;
	int err;

	if (value[0] == '\0')
		return nr_error_set(error, -EINVAL, "--%s needs a path, not an empty value",
				    option->name);
	path = nr_absolute_path(value);
	if (!path)
		return nr_error_system(error, -errno, "--%s=%s", option->name, value);
	err = nr_strings_add(&options->owned, path, error);
	if (err)
		free(path);
	else
		*field = path;
	return err;
}

static int take(struct nr_options *options, const struct nr_option *option, const char *value,
		struct nr_error *error)
{
	void *field = (char *)options + option->offset;

	switch (option->kind) {
	case NR_OPTION_SET:
		*(unsigned *)field = option->number;
		return 0;
	case NR_OPTION_TEXT:
		*(const char **)field = value;
		return 0;
	case NR_OPTION_PATH:
		return take_path(options, option, value, field, error);
	case NR_OPTION_LIST:
		return nr_strings_add(field, value, error);
	case NR_OPTION_CALL:
		break;
	}
	return option->take(options, value, error);
}

/* What getopt stumbles over, in words. */

struct name_walk {
	const struct nr_option *rows;
	const struct nr_option *option;
	unsigned index;
};

static const char *next_name(void *context, size_t index)
{
	struct name_walk *walk = context;
	const char *name;

	if (index == 0)
		*walk = (struct name_walk){ .rows = walk->rows, .option = walk->rows };
	for (; walk->option->name; walk->option++, walk->index = 0) {
		if (walk->option->group == NR_OPTIONS_HIDDEN)
			continue;
		name = option_name(walk->option, walk->index++);
		if (name)
			return name;
	}
	return NULL;
}

static int unknown_long(const struct nr_option_set *set, const char *argument,
			struct nr_error *error)
{
	struct name_walk walk = { .rows = set->rows };
	char name[64];
	const char *nearest, *candidate;
	size_t length;
	unsigned matches = 0;

	argument += strspn(argument, "-");
	length = strcspn(argument, "=");
	if (length >= sizeof(name))
		length = sizeof(name) - 1;
	memcpy(name, argument, length);
	name[length] = '\0';

	for (size_t i = 0; (candidate = next_name(&walk, i)) != NULL; i++)
		matches += strncmp(candidate, name, length) == 0;
	if (matches > 1)
		return nr_error_set(error, -EINVAL,
				    "--%s could be more than one option; write it in full", name);
	nearest = nr_nearest(name, next_name, &walk);
	if (nearest)
		return nr_error_set(error, -EINVAL, "there is no option --%s; did you mean --%s?",
				    name, nearest);
	return nr_error_set(error, -EINVAL,
			    "there is no option --%s; %s --help shows all there are", name,
			    set->program);
}

/* The row that getopt's value (a letter, or LONG_BASE + index) stands for, or NULL. */
static const struct nr_option *option_of(const struct nr_option_set *set, int value)
{
	if (value >= LONG_BASE)
		return &set->rows[value - LONG_BASE];
	for (const struct nr_option *option = set->rows; option->name; option++)
		if (value != 0 && option->letter == value)
			return option;
	return NULL;
}

static int explain(const struct nr_option_set *set, int verdict, char **argv,
		   struct nr_error *error)
{
	const struct nr_option *option = option_of(set, optopt);

	if (verdict == ':' && option && option->letter)
		return nr_error_set(error, -EINVAL, "-%c needs a value: write -%c %s or --%s=%s",
				    option->letter, option->letter, option->value, option->name,
				    option->value);
	if (verdict == ':' && option)
		return nr_error_set(error, -EINVAL, "--%s needs a value: write --%s=%s",
				    option->name, option->name, option->value);
	if (option)
		return nr_error_set(error, -EINVAL, "--%s takes no value", option->name);
	if (optopt)
		return nr_error_set(error, -EINVAL,
				    "there is no option -%c; %s --help shows all there are", optopt,
				    set->program);
	return unknown_long(set, argv[optind - 1], error);
}

static int argument_of(const struct nr_option *option)
{
	if (!option->value)
		return no_argument;
	return option->value_optional ? optional_argument : required_argument;
}

/* getopt's own tables, made from ours. */
struct getopt_tables {
	struct option *names;
	char letters[2 + 2 * 64];
};

static int make_tables(struct getopt_tables *tables, const struct nr_option_set *set,
		       struct nr_error *error)
{
	size_t rows = 0, count = 0, used = 0;

	while (set->rows[rows].name)
		rows++;
	tables->names = calloc(rows * (1 + NR_OPTION_ALIASES) + 1, sizeof(*tables->names));
	if (!tables->names)
		return nr_error_system(error, -ENOMEM, "the command line");
	/* A colon in front: say "value missing" apart from "unknown". */
	tables->letters[used++] = ':';
	for (size_t i = 0; i < rows; i++) {
		const struct nr_option *option = &set->rows[i];
		const char *name;

		for (unsigned n = 0; (name = option_name(option, n)) != NULL; n++)
			tables->names[count++] = (struct option){
				.name = name,
				.has_arg = argument_of(option),
				.val = LONG_BASE + (int)i,
			};
		if (!option->letter)
			continue;
		assert(used + 3 <= sizeof(tables->letters));
		tables->letters[used++] = option->letter;
		if (option->value)
			tables->letters[used++] = ':';
	}
	tables->letters[used] = '\0';
	return 0;
}

/* What a long option's NAME, which may be shortened, stands for; NULL: nothing, or several. */
static const struct nr_option *long_option(const char *name, size_t length)
{
	const struct nr_option *found = NULL;
	struct name_walk walk = { .rows = nr_option_table };
	const char *candidate;

	for (size_t i = 0; (candidate = next_name(&walk, i)) != NULL; i++) {
		if (strncmp(candidate, name, length) != 0)
			continue;
		if (candidate[length] == '\0')
			return walk.option;
		if (found && found != walk.option)
			return NULL;
		found = walk.option;
	}
	return found;
}

/* Is the word behind WORD its value? */
static bool wants_value(const char *word)
{
	const struct nr_option *option = NULL;

	if (word[0] != '-' || word[1] == '\0' || strchr(word, '='))
		return false;
	if (word[1] == '-') {
		option = long_option(word + 2, strlen(word + 2));
		return option && option->value && !option->value_optional;
	}
	/* Of letters in one word only the last can have its value in the next one. */
	for (word++; *word; word++) {
		option = option_of(&nr_option_set, (unsigned char)*word);
		if (option && option->value)
			return word[1] == '\0';
	}
	return false;
}

/* The word that getopt has just stumbled over. */
static const char *stumbled_over(char **argv, bool in_getopt)
{
	const char *word = argv[optind - 1];
	bool is_letter = in_getopt && optopt > 0 && optopt < LONG_BASE;

	/* In the middle of several letters it has not gone on yet. */
	if (is_letter && !(word[0] == '-' && word[1] != '-' && strchr(word, optopt)) &&
	    argv[optind])
		return argv[optind];
	return word;
}

static int parse(struct nr_options *options, const struct nr_option_set *set,
		 const struct getopt_tables *tables, int argc, char **argv, struct nr_error *error)
{
	int value, err;

	/* Zero makes glibc's getopt begin anew, also when it was left in a cluster. */
	optind = 0;
	opterr = 0;
	while ((value = getopt_long(argc, argv, tables->letters, tables->names, NULL)) != -1) {
		const struct nr_option *option;

		if (value == '?' || value == ':') {
			err = explain(set, value, argv, error);
		} else {
			option = option_of(set, value);
			assert(option);
			err = take(options, option, optarg, error);
		}
		if (err) {
			nr_arguments_locate(&options->arguments,
					    stumbled_over(argv, value == '?' || value == ':'),
					    error);
			return err;
		}
	}
	for (; optind < argc; optind++) {
		err = nr_strings_add(&options->words, argv[optind], error);
		if (err)
			return err;
	}
	return 0;
}

/* Options about TCP ports that there are none of, and the like. */
static int check_listening(const struct nr_options *options, struct nr_error *error)
{
	bool has_ports = options->ports.count > 0, has_tcp;
	uint64_t number;

	/* Without a word about where, it is a TCP port, unless --run makes it a Unix socket. */
	has_tcp = !options->ports_are_vsock &&
		  (has_ports ||
		   !(options->unix_paths.count || options->vsocks.count || options->run));
	if (options->addresses.count && !has_tcp)
		return nr_error_set(error, -EINVAL,
				    "-i names an address but no TCP port is served here; add -p "
				    "PORT or leave -i out");
	if (options->interface && !has_tcp)
		return nr_error_set(error, -EINVAL,
				    "--interface is for TCP ports but none is served here; add -p "
				    "PORT or leave --interface out");
	for (size_t i = 0; has_tcp && i < options->ports.count; i++)
		if (nr_parse_uint(options->ports.item[i], &number) == 0 && number > UINT16_MAX)
			return nr_error_set(error, -EINVAL,
					    "--port=%s is not possible: write a number from 0 to "
					    "%d",
					    options->ports.item[i], UINT16_MAX);
	return 0;
}

static int check_unix(const struct nr_options *options, struct nr_error *error)
{
	const char *option = options->has_unix_mode ? "--unix-mode"
			     : options->unix_owner  ? "--unix-owner"
						    : NULL;

	if (!option)
		return 0;
	/* One that seems to be protected and is not would be worse than none. */
	for (size_t i = 0; i < options->unix_paths.count; i++)
		if (options->unix_paths.item[i][0] == '@')
			return nr_error_set(error, -EINVAL,
					    "%s cannot protect %s: an abstract socket has neither "
					    "mode nor owner; use one with a path",
					    option, options->unix_paths.item[i]);
	if (!options->unix_paths.count && !options->run)
		return nr_error_set(error, -EINVAL,
				    "%s is for Unix sockets but none is served here; add -U PATH "
				    "or leave it out",
				    option);
	return 0;
}

/* Options that contradict each other. */
static int check(const struct nr_options *options, struct nr_error *error)
{
	bool listens = options->unix_paths.count || options->ports.count || options->vsocks.count ||
		       options->ports_are_vsock;
	int err;

	if (options->single && (listens || options->addresses.count || options->run))
		return nr_error_set(error, -EINVAL,
				    "-s serves one client on standard input and output, so it does "
				    "not go with -U, -p, -i, --vsock or --run");
	if (options->run && (options->exit_last || options->exit_idle))
		return nr_error_set(
			error, -EINVAL,
			"with --run the server ends when the command does, so --exit-last "
			"and --exit-idle do not go with it");
	err = check_listening(options, error);
	return err ? err : check_unix(options, error);
}

int nr_options_read(struct nr_options *options, const struct nr_option_set *set, int argc,
		    char **argv, struct nr_error *error)
{
	struct getopt_tables tables;
	int err = make_tables(&tables, set, error);

	if (err)
		return err;
	err = parse(options, set, &tables, argc, argv, error);
	free(tables.names);
	return err;
}

int nr_options_parse(struct nr_options *options, int argc, char **argv, struct nr_error *error)
{
	int err;

	*options = (struct nr_options){
		.action = NR_ACTION_SERVE,
		.family = AF_UNSPEC,
		.export_name = "",
		.handshake_mask = 0xffff,
		.handshake_seconds = 60,
	};
	err = nr_arguments_expand(&options->arguments, argc, argv, wants_value, error);
	if (!err)
		err = nr_options_read(options, &nr_option_set, options->arguments.argc,
				      options->arguments.argv, error);
	if (!err && options->action == NR_ACTION_SERVE)
		err = check(options, error);
	return err;
}

/* Printing the table. */

static const char *group_title(enum nr_option_group group)
{
	static const char *const titles[NR_OPTION_GROUP_COUNT] = {
		[NR_OPTIONS_LISTENING] = "Where to serve", [NR_OPTIONS_CLIENTS] = "Who may come in",
		[NR_OPTIONS_TLS] = "Encryption",           [NR_OPTIONS_LAYERS] = "What to serve",
		[NR_OPTIONS_PROCESS] = "The process",      [NR_OPTIONS_PROTOCOL] = "The protocol",
		[NR_OPTIONS_INFORMATION] = "Information",
	};

	return titles[group];
}

static void help_row(FILE *to, const struct nr_option *option)
{
	char left[80];

	if (option->letter)
		snprintf(left, sizeof(left), "-%c, --%s%s%s", option->letter, option->name,
			 option->value ? "=" : "", option->value ? option->value : "");
	else
		snprintf(left, sizeof(left), "    --%s%s%s%s%s", option->name,
			 option->value_optional ? "[" : "", option->value ? "=" : "",
			 option->value ? option->value : "", option->value_optional ? "]" : "");
	nr_print_help_row(to, left, option->help);
}

static void manual_row(FILE *to, const struct nr_option *option)
{
	const char *name;

	if (option->letter && option->value)
		fprintf(to, "=item B<-%c> I<%s>\n\n", option->letter, option->value);
	else if (option->letter)
		fprintf(to, "=item B<-%c>\n\n", option->letter);
	for (unsigned n = 0; (name = option_name(option, n)) != NULL; n++) {
		if (!option->value || option->value_optional)
			fprintf(to, "=item B<--%s>\n\n", name);
		if (option->value)
			fprintf(to, "=item B<--%s>=I<%s>\n\n", name, option->value);
	}
	fprintf(to, "%s\n\n", option->manual);
}

static bool has_rows(const struct nr_option_set *set, int group)
{
	for (const struct nr_option *option = set->rows; option->name; option++)
		if ((int)option->group == group)
			return true;
	return false;
}

/* Call EACH for the rows group by group, with TITLE in front of each group. */
static void by_group(FILE *to, const struct nr_option_set *set,
		     void (*title)(FILE *to, const char *text, bool first),
		     void (*each)(FILE *to, const struct nr_option *option))
{
	bool first = true;

	for (int group = 0; group < NR_OPTIONS_HIDDEN; group++) {
		if (!has_rows(set, group))
			continue;
		title(to, group_title(group), first);
		first = false;
		for (const struct nr_option *option = set->rows; option->name; option++)
			if ((int)option->group == group)
				each(to, option);
	}
}

static void help_title(FILE *to, const char *text, bool first)
{
	fprintf(to, "%s%s:\n", first ? "" : "\n", text);
}

static void manual_title(FILE *to, const char *text, bool first)
{
	fprintf(to, "%s=head2 %s\n\n=over 4\n\n", first ? "" : "=back\n\n", text);
}

void nr_options_help(FILE *to, const struct nr_option_set *set)
{
	by_group(to, set, help_title, help_row);
}

void nr_options_manual(FILE *to, const struct nr_option_set *set)
{
	by_group(to, set, manual_title, manual_row);
	fprintf(to, "=back\n\n");
}

void nr_options_list_long(FILE *to)
{
	struct name_walk walk = { .rows = nr_option_table };
	const char *name;

	for (size_t i = 0; (name = next_name(&walk, i)) != NULL; i++)
		fprintf(to, "--%s\n", name);
}

void nr_options_list_short(FILE *to)
{
	for (const struct nr_option *option = nr_option_table; option->name; option++)
		if (option->letter && option->group != NR_OPTIONS_HIDDEN)
			fprintf(to, "-%c\n", option->letter);
}
