/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * See script.h.  posix_spawn, because a process with many threads must not fork: the
 * child runs none of our code.  It gets the signals as a fresh program expects them.
 */
#include "filters/script.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* Is the variable ENTRY of the environment ("key=value") one of VARIABLES? */
static bool is_among(const char *entry, const char *const *variables)
{
	size_t key = strcspn(entry, "=") + 1;

	for (; *variables; variables++)
		if (strncmp(entry, *variables, key) == 0)
			return true;
	return false;
}

/* VARIABLES and the rest of the environment; free() it. */
static char **environment(const char *const *variables)
{
	size_t count = 0, used = 0;
	char **copy;

	for (char **entry = environ; *entry; entry++)
		count++;
	for (size_t i = 0; variables[i]; i++)
		count++;
	copy = calloc(count + 1, sizeof(*copy));
	if (!copy)
		return NULL;
	for (size_t i = 0; variables[i]; i++)
		copy[used++] = (char *)(uintptr_t)variables[i];
	for (char **entry = environ; *entry; entry++)
		if (!is_among(*entry, variables))
			copy[used++] = *entry;
	return copy;
}

static int spawn(pid_t *pid, const char *command, char **variables, int output)
{
	char *arguments[] = { (char *)"sh", (char *)"-c", (char *)command, NULL };
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attributes;
	sigset_t none, all;
	int err;

	sigemptyset(&none);
	sigfillset(&all);
	if (posix_spawn_file_actions_init(&actions))
		return -ENOMEM;
	if (posix_spawnattr_init(&attributes)) {
		posix_spawn_file_actions_destroy(&actions);
		return -ENOMEM;
	}
	err = posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
	if (!err)
		err = posix_spawn_file_actions_adddup2(&actions, output >= 0 ? output : 2, 1);
	posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF |
						      POSIX_SPAWN_SETPGROUP);
	posix_spawnattr_setsigmask(&attributes, &none);
	posix_spawnattr_setsigdefault(&attributes, &all);
	posix_spawnattr_setpgroup(&attributes, 0);
	if (!err)
		err = posix_spawn(pid, "/bin/sh", &actions, &attributes, arguments, variables);
	posix_spawnattr_destroy(&attributes);
	posix_spawn_file_actions_destroy(&actions);
	return -err;
}

int nr_script_start(struct nr_script *script, const char *command, const char *const *variables,
		    int output)
{
	char **all = variables ? environment(variables) : environ;
	int err;

	script->pid = -1;
	if (!all)
		return -ENOMEM;
	err = spawn(&script->pid, command, all, output);
	if (variables)
		free(all);
	if (err)
		return err;
	script->ended = pidfd_open(script->pid, 0);
	if (script->ended < 0) {
		err = -errno;
		nr_script_kill(script);
	}
	return err;
}

int nr_script_wait(struct nr_script *script)
{
	int status = 0;
	pid_t pid;

	do {
		pid = waitpid(script->pid, &status, 0);
	} while (pid < 0 && errno == EINTR);
	if (script->ended >= 0)
		(void)close(script->ended);
	return pid == script->pid && WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

void nr_script_kill(struct nr_script *script)
{
	/* Not waited for yet, so the number is still its own. */
	(void)kill(-script->pid, SIGKILL);
	(void)kill(script->pid, SIGKILL);
	(void)nr_script_wait(script);
}

/* Output. */

static int64_t milliseconds_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* Read until the end; what does not fit is dropped.  False: it took too long. */
static bool collect(int fd, int64_t deadline, char *text, size_t size)
{
	size_t used = 0;
	char dropped[512];

	for (;;) {
		struct pollfd wait = { .fd = fd, .events = POLLIN };
		int64_t left = deadline - milliseconds_now();
		bool full = used == size - 1;
		ssize_t length;

		if (left <= 0)
			return false;
		if (poll(&wait, 1, (int)left) <= 0)
			continue;
		/* cppcheck-suppress legacyUninitvar ; read fills it, and nobody looks at it */
		length = read(fd, full ? dropped : text + used,
			      full ? sizeof(dropped) : size - 1 - used);
		if (length < 0 && errno != EINTR)
			return false;
		if (length == 0)
			break;
		if (length > 0 && !full)
			used += (size_t)length;
	}
	while (used && text[used - 1] == '\n')
		used--;
	text[used] = '\0';
	return true;
}

bool nr_script_output(const char *command, const char *name, int milliseconds, char *text,
		      size_t size)
{
	int64_t deadline = milliseconds_now() + milliseconds;
	struct nr_script script;
	struct pollfd wait;
	const char *variables[] = { NULL, NULL };
	char *variable;
	bool good;
	int ends[2], err;

	if (asprintf(&variable, "name=%s", name) < 0)
		return false;
	if (pipe2(ends, O_CLOEXEC)) {
		free(variable);
		return false;
	}
	variables[0] = variable;
	err = nr_script_start(&script, command, variables, ends[1]);
	free(variable);
	if (err) {
		(void)close(ends[0]);
		(void)close(ends[1]);
		return false;
	}
	(void)close(ends[1]);
	good = collect(ends[0], deadline, text, size);
	(void)close(ends[0]);
	wait = (struct pollfd){ .fd = script.ended, .events = POLLIN };
	while (good && !wait.revents && milliseconds_now() < deadline)
		(void)poll(&wait, 1, 100);
	if (wait.revents)
		return nr_script_wait(&script) == 0;
	nr_script_kill(&script);
	return false;
}
