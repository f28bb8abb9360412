/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * --run: a shell command that the server exists for.
 */
#ifndef SRC_CLI_RUN_H
#define SRC_CLI_RUN_H

#include <sys/types.h>

#include "nbdring/error.h"
#include "src/cli/listen.h"

/* The process that becomes the command. */
struct nr_run {
	pid_t pid; /* 0: none */
	int go;    /* where it waits for the word; valid while PID is not 0 and it was not given */
};

/*
 * Make the process for COMMAND, a shell's, with variables that say how to reach LISTENERS
 * (TLS: encrypted), no signal blocked, and OPEN_FILES as its limit of open files (0: as it is).  It waits
 * for nr_run_go, and ends if this process does so before.  It keeps the rights that the
 * server is about to give up.  Before there are threads.
 */
int nr_run_prepare(struct nr_run *run, const char *command, const struct nr_sockets *listeners,
		   const char *export_name, bool tls, unsigned long open_files,
		   struct nr_error *error);
/* Run the command now. */
int nr_run_go(struct nr_run *run, struct nr_error *error);
/* End a process that has not been given the word; else nothing happens. */
void nr_run_forget(struct nr_run *run);

/* wait(2)'s STATUS as a shell would report it: 128 and the signal's number. */
int nr_run_exit_status(int status);

/* TEXT in single quotes, for a shell.  The caller frees it; NULL: no memory. */
char *nr_run_quote(const char *text);

#endif
