/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * See secrets.h.
 *
 * A secret is read byte by byte into memory for secrets, so that no stream keeps a copy
 * and what follows it in a pipe is left there.  At the terminal nothing is shown, and a
 * signal that would end the program puts the terminal right first.
 */
#include "src/cli/secrets.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#include "nbdring/secret.h"
#include "src/stack/params.h"
#include "src/stack/params-text.h"

#define SECRET_MAX 65536u /* bytes of a line */

bool nr_secret_is(const struct nr_layer_type *type, const char *name)
{
	const struct nr_param *row = nr_params_find(type->params, name);

	return row && row->flags & NR_PARAM_SECRET;
}

char *nr_secret_setting(const char *name, const char *value)
{
	size_t before = strlen(name) + 1, length = strlen(value) + 1;
	char *text = nr_secret_alloc(before + length);

	if (text) {
		memcpy(text, name, before);
		memcpy(text + before, value, length);
	}
	return text;
}

/* Lines. */

/*
 * The next line of FD, without its end, into LINE (SECRET_MAX bytes).  MASK: signals are
 * blocked but for while it waits, when only these are, and one ends it with -EINTR.
 */
static int read_line(int fd, char *line, const sigset_t *mask)
{
	for (size_t at = 0; at < SECRET_MAX;) {
		struct pollfd wait = { .fd = fd, .events = POLLIN };
		ssize_t n;

		if (mask && ppoll(&wait, 1, NULL, mask) < 0)
			return -errno;
		n = read(fd, line + at, 1);
		if (n < 0)
			return -errno;
		if (n == 0 || line[at] == '\n') {
			line[at] = '\0';
			return 0;
		}
		/* It is handed on as text. */
		if (line[at] == '\0')
			return -EILSEQ;
		at++;
	}
	return -E2BIG;
}

static int line_of_file(const char *path, char *line)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC), err;

	if (fd < 0)
		return -errno;
	err = read_line(fd, line, NULL);
	close(fd);
	return err;
}

static int line_of_descriptor(const char *text, char *line)
{
	uint64_t fd;
	int err;

	/* What the three are for is not to be guessed. */
	if (nr_parse_uint(text, &fd) || fd > INT32_MAX || fd <= STDERR_FILENO)
		return -EBADF;
	err = read_line((int)fd, line, NULL);
	close((int)fd);
	return err;
}

/* The terminal. */

static volatile sig_atomic_t interrupted;

static void note_signal(int number)
{
	interrupted = number;
}

static const int ends[] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT };

#define ENDS (sizeof(ends) / sizeof(ends[0]))

static void ask_prompt(int tty, const struct nr_layer_type *type, const char *name)
{
	dprintf(tty, "%s: %s: ", type->name, name);
}

/* With the terminal silent.  -EINTR: `interrupted` is to be raised again. */
static int ask_silently(int tty, const sigset_t *mask, const struct nr_layer_type *type,
			const char *name, char *line)
{
	struct termios before, silent;
	int err;

	if (tcgetattr(tty, &before) < 0)
		return -errno;
	silent = before;
	silent.c_lflag &= ~(tcflag_t)ECHO;
	silent.c_lflag |= ICANON | ECHONL;
	/* What was typed before the question is no answer. */
	if (tcsetattr(tty, TCSAFLUSH, &silent) < 0)
		return -errno;
	ask_prompt(tty, type, name);
	err = read_line(tty, line, mask);
	(void)tcsetattr(tty, TCSAFLUSH, &before);
	return err;
}

static int line_of_terminal(const struct nr_layer_type *type, const char *name, char *line)
{
	const struct sigaction note = { .sa_handler = note_signal };
	struct sigaction before[ENDS];
	sigset_t set, mask;
	int tty = open("/dev/tty", O_RDWR | O_CLOEXEC | O_NOCTTY), err;

	if (tty < 0)
		return -ENOTTY;
	interrupted = 0;
	sigemptyset(&set);
	for (size_t i = 0; i < ENDS; i++)
		sigaddset(&set, ends[i]);
	pthread_sigmask(SIG_BLOCK, &set, &mask);
	for (size_t i = 0; i < ENDS; i++)
		sigaction(ends[i], &note, &before[i]);
	err = ask_silently(tty, &mask, type, name, line);
	/* One that came just now is noted yet. */
	pthread_sigmask(SIG_SETMASK, &mask, NULL);
	for (size_t i = 0; i < ENDS; i++)
		sigaction(ends[i], &before[i], NULL);
	close(tty);
	if (interrupted)
		raise(interrupted);
	return err;
}

/* Settings. */

static int explain(const struct nr_layer_type *type, const struct nr_setting *setting, int err,
		   struct nr_error *error)
{
	const char *source = setting->value;

	if (err == -EBADF)
		return nr_error_set(error, err,
				    "%s: %s=%.20s is not possible: write the number of a "
				    "descriptor, 3 or more, that the server is started with",
				    type->name, setting->name, source);
	if (err == -ENOTTY)
		return nr_error_set(error, err,
				    "%s: %s=- is not possible: there is no terminal to ask on; "
				    "write %s=+FILE, for the first line of a file",
				    type->name, setting->name, setting->name);
	if (err == -EILSEQ || err == -E2BIG)
		return nr_error_set(error, err, "%s: %s=%.100s is not possible: the first line %s",
				    type->name, setting->name, source,
				    err == -E2BIG ? "is too long"
						  : "is no text, it has a NUL in it");
	return nr_error_system(error, err, "%s: %s=%.100s", type->name, setting->name, source);
}

static int fetch_line(const struct nr_layer_type *type, const struct nr_setting *setting,
		      bool within, char *line, struct nr_error *error)
{
	const char *source = setting->value;
	int err;

	if (within && (source[0] == '-' || source[1] != '/'))
		return nr_error_set(error, -EINVAL,
				    "%s: %s=%.20s is not possible in a stack within a stack, which "
				    "may be opened later; write %s=+FILE, with all of the path",
				    type->name, setting->name, source, setting->name);
	if (source[0] == '+')
		err = line_of_file(source + 1, line);
	else if (source[1])
		err = line_of_descriptor(source + 1, line);
	else
		err = line_of_terminal(type, setting->name, line);
	return err ? explain(type, setting, err, error) : 0;
}

/* Replace what says where the secret is by the secret. */
static int fetch(const struct nr_layer_type *type, struct nr_setting *setting, bool within,
		 struct nr_error *error)
{
	char *line, *text = NULL;
	int err;

	if (setting->value[0] != '-' && setting->value[0] != '+')
		return 0;
	line = nr_secret_alloc(SECRET_MAX);
	if (!line)
		return nr_error_system(error, -ENOMEM, "%s: %s", type->name, setting->name);
	err = fetch_line(type, setting, within, line, error);
	if (!err) {
		text = nr_secret_setting(setting->name, line);
		if (!text)
			err = nr_error_system(error, -ENOMEM, "%s: %s", type->name, setting->name);
	}
	nr_secret_free(line);
	if (err)
		return err;
	nr_secret_free((void *)setting->name);
	setting->name = text;
	setting->value = text + strlen(text) + 1;
	return 0;
}

static int fetch_all(struct nr_plan *plan, bool within, struct nr_error *error)
{
	int err = 0;

	for (size_t i = 0; i < plan->layer_count; i++) {
		struct nr_plan_layer *layer = &plan->layers[i];

		for (size_t j = 0; !err && j < layer->setting_count; j++)
			if (nr_secret_is(layer->type, layer->settings[j].name))
				err = fetch(layer->type, &layer->settings[j], within, error);
	}
	return err;
}

int nr_secrets_fetch(struct nr_plan *plan, struct nr_error *error)
{
	return fetch_all(plan, false, error);
}

int nr_secrets_fetch_within(struct nr_plan *plan, struct nr_error *error)
{
	return fetch_all(plan, true, error);
}
