/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Starting the command of --run.
 *
 * The variables are assignments in front of the command, in the same script: the
 * command sees them, its children only if it exports them, so a variable called
 * "port" does not leak into programs that take it for something else.
 *
 * Runs when the server's threads exist, so posix_spawn rather than fork: between
 * a fork and an exec in a process with threads hardly anything is allowed.
 */
#include "src/cli/run.h"

#include <errno.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

char *nr_run_quote(const char *text)
{
	char *quoted = NULL;
	size_t length;
	FILE *to = open_memstream(&quoted, &length);

	if (!to)
		return NULL;
	fputc('\'', to);
	for (; *text; text++) {
		/* Out of the quotes, a quote, and in again. */
		if (*text == '\'')
			fputs("'\\''", to);
		else
			fputc(*text, to);
	}
	fputc('\'', to);
	if (fclose(to) == 0)
		return quoted;
	free(quoted);
	return NULL;
}

/* A line NAME='VALUE'; false when memory is short.  NULL is an empty value. */
static bool assign(FILE *to, const char *name, const char *value)
{
	char *quoted = nr_run_quote(value ? value : "");

	if (!quoted)
		return false;
	fprintf(to, "%s=%s\n", name, quoted);
	free(quoted);
	return true;
}

/* What a program calls the socket; the caller frees it. */
static char *socket_name(const struct nr_socket *listener)
{
	char *name;

	if (!listener)
		return strdup("");
	return asprintf(&name, "%s%s", listener->abstract ? "@" : "", listener->path) < 0 ? NULL
											  : name;
}

static bool assign_all(FILE *to, const struct nr_sockets *listeners, const char *export_name,
		       bool tls)
{
	const struct nr_socket *local = nr_sockets_first(listeners, NR_SOCKET_UNIX);
	const struct nr_socket *tcp = nr_sockets_first(listeners, NR_SOCKET_TCP);
	const struct nr_socket *numbered = tcp ? tcp : nr_sockets_first(listeners, NR_SOCKET_VSOCK);
	char *uri = nr_socket_uri(local ? local : numbered, export_name, tls);
	char *name = socket_name(local);
	char port[16] = "";
	bool fits;

	if (numbered)
		snprintf(port, sizeof(port), "%u", numbered->port);
	fits = uri && name && assign(to, "uri", uri) && assign(to, "nbd", uri) &&
	       assign(to, "unixsocket", name) && assign(to, "port", port) &&
	       assign(to, "exportname", export_name);
	free(name);
	free(uri);
	return fits;
}

static char *make_script(const char *command, const struct nr_sockets *listeners,
			 const char *export_name, bool tls, unsigned long open_files)
{
	char *script = NULL;
	size_t length;
	FILE *to = open_memstream(&script, &length);
	bool fits;

	if (!to)
		return NULL;
	/* The server has raised its limit; programs that use select(2) must not. */
	if (open_files)
		fprintf(to, "ulimit -S -n %lu\n", open_files);
	fits = assign_all(to, listeners, export_name, tls);
	fprintf(to, "%s\n", command);
	if (fclose(to) == 0 && fits)
		return script;
	free(script);
	return NULL;
}

static int spawn(pid_t *pid, char *script)
{
	char shell[] = "sh", option[] = "-c";
	char *const arguments[] = { shell, option, script, NULL };
	posix_spawnattr_t attributes;
	sigset_t none, ignored;
	int err;

	sigemptyset(&none);
	/* What the server ignores for itself; nohup's SIGHUP stays ignored. */
	sigemptyset(&ignored);
	sigaddset(&ignored, SIGPIPE);
	err = posix_spawnattr_init(&attributes);
	if (err)
		return -err;
	posix_spawnattr_setsigmask(&attributes, &none);
	posix_spawnattr_setsigdefault(&attributes, &ignored);
	posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
	err = posix_spawn(pid, "/bin/sh", NULL, &attributes, arguments, environ);
	posix_spawnattr_destroy(&attributes);
	return -err;
}

int nr_run_start(pid_t *pid, const char *command, const struct nr_sockets *listeners,
		 const char *export_name, bool tls, unsigned long open_files,
		 struct nr_error *error)
{
	char *script = make_script(command, listeners, export_name, tls, open_files);
	int err;

	if (!script)
		return nr_error_system(error, -ENOMEM, "--run");
	err = spawn(pid, script);
	free(script);
	if (err)
		nr_error_system(error, err, "--run: /bin/sh cannot be started");
	return err;
}

int nr_run_exit_status(int status)
{
	if (WIFEXITED(status))
		return WEXITSTATUS(status);
	return 128 + WTERMSIG(status);
}
