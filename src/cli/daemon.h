/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Going to the background, such that the command that was typed says whether it
 * worked.
 */
#ifndef SRC_CLI_DAEMON_H
#define SRC_CLI_DAEMON_H

#include <stdbool.h>

#include "nbdring/error.h"

/*
 * Fork; only the child returns.  The parent waits until the child calls
 * nr_daemon_ready, and then exits with 0; if the child ends before that, the
 * parent exits with 1.  Before threads are made.
 */
int nr_daemon_fork(struct nr_error *error);

/*
 * Ready: leave the session, the current folder and standard input and output;
 * and standard error too unless KEEP_STDERR.  Then let the parent go.
 */
int nr_daemon_ready(bool keep_stderr, struct nr_error *error);

/* Put /dev/null in the place of standard input and output (and error, if WITH_STDERR). */
int nr_daemon_null_stdio(bool with_stderr, struct nr_error *error);

#endif
