/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * --run: a shell command that the server exists for.
 */
#ifndef SRC_CLI_RUN_H
#define SRC_CLI_RUN_H

#include <sys/types.h>

#include "nbdring/error.h"
#include "src/cli/listen.h"

/*
 * Start COMMAND in a shell, with variables that say how to reach LISTENERS
 * (TLS: encrypted), no signal blocked, and OPEN_FILES as its limit of open files (0: as it is).
 */
int nr_run_start(pid_t *pid, const char *command, const struct nr_sockets *listeners,
		 const char *export_name, bool tls, unsigned long open_files,
		 struct nr_error *error);

/* wait(2)'s STATUS as a shell would report it: 128 and the signal's number. */
int nr_run_exit_status(int status);

/* TEXT in single quotes, for a shell.  The caller frees it; NULL: no memory. */
char *nr_run_quote(const char *text);

#endif
