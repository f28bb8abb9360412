/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The way to the background.
 *
 * The child keeps the terminal until it is ready, so its messages about what is
 * wrong appear where the command was typed, and Ctrl-C still reaches it.  A pipe
 * connects the two: one byte means ready, its end without a byte means that the
 * child has failed (and has said why, unless a signal ended it).
 *
 * The one pipe is the process's, as its parent is, hence the state at file scope.
 * Main thread; forks before there are others.
 */
#include "src/cli/daemon.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "src/log/log.h"

static int ready_pipe = -1; /* the child's end; -1: not in the background */

/* The parent: wait for the child's word, and exit with it. */
__attribute__((noreturn)) static void wait_for(pid_t child, int fd)
{
	sigset_t none;
	ssize_t got;
	char byte;
	int status;

	/* Only the server holds signals back. */
	sigemptyset(&none);
	pthread_sigmask(SIG_SETMASK, &none, NULL);
	do
		got = read(fd, &byte, 1);
	while (got < 0 && errno == EINTR);
	if (got == 1)
		_exit(0);
	while (waitpid(child, &status, 0) < 0)
		if (errno != EINTR)
			_exit(1);
	if (WIFSIGNALED(status))
		fprintf(stderr, "%s: the server was ended by signal %d (%s) while starting\n",
			nr_log_who(), WTERMSIG(status), strsignal(WTERMSIG(status)));
	_exit(1);
}

int nr_daemon_fork(struct nr_error *error)
{
	int ends[2];
	pid_t child;

	if (pipe2(ends, O_CLOEXEC) < 0)
		return nr_error_system(error, -errno, "going to the background");
	/* What is buffered would come out twice. */
	fflush(NULL);
	child = fork();
	if (child < 0) {
		int err = -errno;

		close(ends[0]);
		close(ends[1]);
		return nr_error_system(error, err, "going to the background");
	}
	if (child > 0) {
		close(ends[1]);
		wait_for(child, ends[0]);
	}
	close(ends[0]);
	ready_pipe = ends[1];
	return 0;
}

int nr_daemon_null_stdio(bool with_stderr, struct nr_error *error)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	int err = 0;

	if (null < 0)
		return nr_error_system(error, -errno, "/dev/null");
	for (int fd = 0; fd < (with_stderr ? 3 : 2); fd++)
		if (dup2(null, fd) < 0)
			err = -errno;
	if (null > 2)
		close(null);
	return err ? nr_error_system(error, err, "/dev/null") : 0;
}

int nr_daemon_ready(bool keep_stderr, struct nr_error *error)
{
	ssize_t written;
	int err;

	if (ready_pipe < 0)
		return 0;
	if (setsid() < 0 || chdir("/") < 0)
		return nr_error_system(error, -errno, "going to the background");
	err = nr_daemon_null_stdio(!keep_stderr, error);
	if (err)
		return err;
	do
		written = write(ready_pipe, "", 1);
	while (written < 0 && errno == EINTR);
	close(ready_pipe);
	ready_pipe = -1;
	/* A parent that is gone (EPIPE) wanted no answer. */
	return 0;
}
