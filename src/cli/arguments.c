/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * @PATH: words from files.
 *
 * What a shell would make of the same line is what comes out, as far as quotes,
 * backslashes and comments go; so a command line can be moved into a file and back.
 * There are no variables and no patterns.
 *
 * All words of all files stay in memory until the end, since options and parameters
 * point into them.  Main thread.
 */
#include "src/cli/arguments.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct expansion {
	struct nr_arguments *out;
	bool (*wants_value)(const char *word);
	bool is_value; /* the next word is the value of the last one */
	bool is_over;  /* behind "--" */
	struct nr_error *error;
};

static bool is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r';
}

/* To the next word; false at the end. */
static bool skip_blanks(char **at, unsigned *line)
{
	char *in = *at;

	for (; *in; in++) {
		if (*in == '#')
			in += strcspn(in, "\n");
		if (*in == '\\' && in[1] == '\n')
			in++;
		if (*in == '\n')
			++*line;
		else if (!is_blank(*in))
			break;
	}
	*at = in;
	return *in != '\0';
}

/* Take what QUOTE, which **AT is, encloses.  False when it does not end on the line. */
static bool take_quoted(char **at, char **out, char quote)
{
	char *in = *at + 1;

	for (; *in && *in != '\n' && *in != quote; in++) {
		if (quote == '"' && *in == '\\' && (in[1] == '"' || in[1] == '\\'))
			in++;
		*(*out)++ = *in;
	}
	*at = in + 1;
	return *in == quote;
}

char *nr_arguments_next(char **at, unsigned *line, const char **problem)
{
	char *start, *in, *out, end;

	*problem = NULL;
	if (!skip_blanks(at, line))
		return NULL;
	start = in = out = *at;
	while (*in && *in != '\n' && !is_blank(*in)) {
		if (*in == '\'' || *in == '"') {
			if (!take_quoted(&in, &out, *in)) {
				*problem = "a quote is not closed on this line";
				return NULL;
			}
		} else if (*in == '\\' && in[1] == '\n') {
			++*line;
			in += 2;
		} else {
			if (*in == '\\' && *++in == '\0') {
				*problem = "there is nothing behind the backslash";
				return NULL;
			}
			*out++ = *in++;
		}
	}
	/* The end of the line may be where the NUL is to stand. */
	end = *in;
	if (end)
		in++;
	if (end == '\n')
		++*line;
	*out = '\0';
	*at = in;
	return start;
}

/* Takes over MEMORY, also when it fails. */
static int own(struct expansion *x, void *memory)
{
	struct nr_arguments *out = x->out;
	char **grown = realloc(out->owned, (out->owned_count + 1) * sizeof(*grown));

	if (!memory || !grown) {
		free(memory);
		if (grown)
			out->owned = grown;
		return nr_error_system(x->error, -ENOMEM, "the command line");
	}
	out->owned = grown;
	out->owned[out->owned_count++] = memory;
	return 0;
}

static int add(struct expansion *x, char *word, struct nr_origin origin)
{
	struct nr_arguments *out = x->out;

	if (out->argc >= NR_ARGUMENTS_WORDS_MAX)
		return nr_error_set(x->error, -E2BIG, "there are more than %d words",
				    NR_ARGUMENTS_WORDS_MAX);
	/* Doubled now and then; there is room for a NULL behind the last one. */
	if ((out->argc & (out->argc + 1)) == 0) {
		size_t room = 2 * ((size_t)out->argc + 1) + 1;
		char **argv = realloc(out->argv, room * sizeof(*argv));
		struct nr_origin *origins = realloc(out->origins, room * sizeof(*origins));

		if (argv)
			out->argv = argv;
		if (origins)
			out->origins = origins;
		if (!argv || !origins)
			return nr_error_system(x->error, -ENOMEM, "the command line");
	}
	out->origins[out->argc] = origin;
	out->argv[out->argc++] = word;
	out->argv[out->argc] = NULL;
	return 0;
}

/* All of FD, as a string. */
static int read_all(int fd, char **text, size_t *length)
{
	size_t room = 0, used = 0;

	*text = NULL;
	for (;;) {
		ssize_t got;

		if (used + 1 >= room) {
			char *grown = realloc(*text, room = room ? 2 * room : 4096);

			if (!grown)
				return -ENOMEM;
			*text = grown;
		}
		got = read(fd, *text + used, room - used - 1);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return -errno;
		if (got == 0)
			break;
		used += (size_t)got;
		if (used > NR_ARGUMENTS_BYTES_MAX)
			return -EFBIG;
	}
	(*text)[used] = '\0';
	*length = used;
	return 0;
}

static int read_file(struct expansion *x, const char *path, char **text)
{
	size_t length = 0;
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	int err = fd < 0 ? -errno : read_all(fd, text, &length);

	if (fd >= 0)
		close(fd);
	else
		*text = NULL;
	if (!err && memchr(*text, '\0', length))
		err = -EILSEQ;
	if (!err)
		return own(x, *text);
	free(*text);
	if (err == -EFBIG)
		return nr_error_set(x->error, err, "@%s has more than %u bytes", path,
				    NR_ARGUMENTS_BYTES_MAX);
	if (err == -EILSEQ)
		return nr_error_set(x->error, err, "@%s is no text: there is a NUL in it", path);
	return nr_error_system(x->error, err, "@%s", path);
}

static int take(struct expansion *x, char *word, struct nr_origin origin, unsigned depth);

static int take_file(struct expansion *x, char *path, unsigned depth)
{
	struct nr_origin origin = { .file = path, .line = 1 };
	const char *problem;
	char *text, *word;
	unsigned line = 1;
	int err;

	if (depth == NR_ARGUMENTS_DEPTH_MAX)
		return nr_error_set(x->error, -ELOOP,
				    "@%s: files name files more than %d deep; does one name "
				    "itself?",
				    path, NR_ARGUMENTS_DEPTH_MAX);
	err = read_file(x, path, &text);
	while (!err) {
		/* Where the word begins, not where it ends. */
		if (!skip_blanks(&text, &line))
			break;
		origin.line = line;
		word = nr_arguments_next(&text, &line, &problem);
		if (word)
			err = take(x, word, origin, depth + 1);
		else
			err = nr_error_set(x->error, -EINVAL, "%s:%u: %s", path, line, problem);
	}
	return err;
}

static int take(struct expansion *x, char *word, struct nr_origin origin, unsigned depth)
{
	int err;

	if (word[0] == '@' && word[1] && !x->is_value && !x->is_over) {
		err = take_file(x, word + 1, depth);
		/* Through which files it went; not all of a circle. */
		if (err && err != -ELOOP && origin.file)
			nr_error_prefix(x->error, "%s:%u", origin.file, origin.line);
		return err;
	}
	x->is_over = x->is_over || (!x->is_value && strcmp(word, "--") == 0);
	x->is_value = !x->is_over && !x->is_value && x->wants_value(word);
	return add(x, word, origin);
}

/* argv as it is now, since getopt brings it into another order. */
static int remember(struct expansion *x)
{
	struct nr_arguments *out = x->out;
	size_t bytes = (size_t)out->argc * sizeof(*out->words);

	out->words = malloc(bytes);
	if (!out->words)
		return nr_error_system(x->error, -ENOMEM, "the command line");
	memcpy(out->words, out->argv, bytes);
	return 0;
}

int nr_arguments_expand(struct nr_arguments *arguments, int argc, char **argv,
			bool (*wants_value)(const char *word), struct nr_error *error)
{
	const struct nr_origin here = { .file = NULL };
	struct expansion x = { .out = arguments, .wants_value = wants_value, .error = error };
	int err = 0;

	*arguments = (struct nr_arguments){ .argc = 0 };
	for (int i = 0; !err && i < argc; i++) {
		/* The program's name is what it is. */
		x.is_value = x.is_value || i == 0;
		err = take(&x, argv[i], here, 0);
	}
	return err ? err : remember(&x);
}

void nr_arguments_free(struct nr_arguments *arguments)
{
	for (size_t i = 0; i < arguments->owned_count; i++)
		free(arguments->owned[i]);
	free(arguments->owned);
	free(arguments->argv);
	free(arguments->origins);
	free(arguments->words);
	*arguments = (struct nr_arguments){ .argc = 0 };
}

void nr_arguments_locate(const struct nr_arguments *arguments, const char *word,
			 struct nr_error *error)
{
	for (int i = 0; arguments->words && i < arguments->argc; i++) {
		const struct nr_origin *origin = &arguments->origins[i];

		if (arguments->words[i] != word)
			continue;
		if (origin->file)
			nr_error_prefix(error, "%s:%u", origin->file, origin->line);
		return;
	}
}
