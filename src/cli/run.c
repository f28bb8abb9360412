/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Starting the command of --run.
 *
 * The variables are assignments in front of the command, in the same script: the
 * command sees them, its children only if it exports them, so a variable called
 * "port" does not leak into programs that take it for something else.
 *
 * The command is a user's, and what the server denies itself, rights of root and the
 * sandbox, is inherited.  So its process is forked before all that, and before there are
 * threads, and waits at a pipe until clients can connect.  The pipe's other half tells
 * whether the shell could be started, as in posix_spawn.
 */
#include "src/cli/run.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
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

/* The child: what it hears and what it tells goes over END. */
_Noreturn static void become(char *script, int end)
{
	char shell[] = "sh", option[] = "-c";
	char *const arguments[] = { shell, option, script, NULL };
	sigset_t none;
	ssize_t got;
	char byte;
	int err;

	do
		got = read(end, &byte, 1);
	while (got < 0 && errno == EINTR);
	if (got != 1)
		_exit(0);
	/* What the server ignores for itself; nohup's SIGHUP stays ignored. */
	signal(SIGPIPE, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	execv("/bin/sh", arguments);
	err = errno;
	(void)!write(end, &err, sizeof(err));
	_exit(127);
}

/* A stream socket, one end for each: bytes go both ways, and an end is seen as such. */
static int start(struct nr_run *run, char *script)
{
	int ends[2], err;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0)
		return -errno;
	/* What is buffered would come out twice. */
	fflush(NULL);
	run->pid = fork();
	if (run->pid < 0) {
		err = -errno;
		run->pid = 0;
		close(ends[0]);
		close(ends[1]);
		return err;
	}
	if (run->pid == 0) {
		close(ends[0]);
		become(script, ends[1]);
	}
	close(ends[1]);
	run->go = ends[0];
	return 0;
}

int nr_run_prepare(struct nr_run *run, const char *command, const struct nr_sockets *listeners,
		   const char *export_name, bool tls, unsigned long open_files,
		   struct nr_error *error)
{
	char *script = make_script(command, listeners, export_name, tls, open_files);
	int err;

	*run = (struct nr_run){ .go = -1 };
	if (!script)
		return nr_error_system(error, -ENOMEM, "--run");
	err = start(run, script);
	free(script);
	return err ? nr_error_system(error, err, "--run: no process for the command") : 0;
}

int nr_run_go(struct nr_run *run, struct nr_error *error)
{
	int err = 0;
	ssize_t got;

	if (write(run->go, "", 1) != 1)
		err = errno;
	do
		got = read(run->go, &err, sizeof(err));
	while (got < 0 && errno == EINTR);
	close(run->go);
	run->go = -1;
	if (!err)
		return 0;
	return nr_error_system(error, -err, "--run: /bin/sh cannot be started");
}

void nr_run_forget(struct nr_run *run)
{
	if (run->pid && run->go >= 0) {
		close(run->go);
		waitpid(run->pid, NULL, 0);
		run->pid = 0;
	}
	run->go = -1;
}

int nr_run_exit_status(int status)
{
	if (WIFEXITED(status))
		return WEXITSTATUS(status);
	return 128 + WTERMSIG(status);
}
