/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Commands that a parameter names, run by the shell.  They read nothing, and what
 * they print goes where the caller says, never to a client: with -s the server's own
 * standard input and output are one.
 *
 * Threads that may block.
 */
#ifndef FILTERS_SCRIPT_H
#define FILTERS_SCRIPT_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct nr_script {
	pid_t pid;
	int ended; /* readable when it has ended; the caller may poll it, no more */
};

/*
 * Start COMMAND.  VARIABLES are "key=value", NULL-terminated, and go before those of the
 * server's environment; NULL: there are none.  OUTPUT is its standard output; -1: the
 * server's standard error.  0 or negative errno.
 */
int nr_script_start(struct nr_script *script, const char *command, const char *const *variables,
		    int output);

/* Wait for its end: its exit status, or -1 when a signal ended it. */
int nr_script_wait(struct nr_script *script);

/* End it, and all it has started that did not leave its process group. */
void nr_script_kill(struct nr_script *script);

/*
 * Run COMMAND, with NAME in its variable `name`, and keep what it prints, up to SIZE - 1 bytes, without the last line
 * end.  Returns false, and kills it, when it fails or takes over MILLISECONDS.
 */
bool nr_script_output(const char *command, const char *name, int milliseconds, char *text,
		      size_t size);

#endif
