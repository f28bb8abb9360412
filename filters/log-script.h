/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The script of the filter log: run once for each line, with what the line says in
 * shell variables.
 *
 * It runs on the thread that writes the log, which waits for it, so that lines are told
 * in order; nobody else does.  When the log is being closed, there is a last moment
 * (LOG_SCRIPT_END_NS): what is not told by then is counted, and a script that still
 * runs is killed.
 */
#ifndef FILTERS_LOG_SCRIPT_H
#define FILTERS_LOG_SCRIPT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define LOG_SCRIPT_END_NS UINT64_C(2000000000)

struct nr_log_script {
	const char *command;
	const _Atomic bool *closing;
	uint64_t until;  /* nanoseconds; 0: not closing yet */
	uint64_t untold; /* lines */
	bool failing;    /* the last one could not be started */
};

/*
 * Run it.  WORDS are "key=value" with spaces between them, and are changed; words
 * without a '=' are passed over.  FURTHER are up to two such variables that may hold
 * spaces, or NULL.  False: it could not be started, for the first time in a row.
 */
bool nr_log_script_run(struct nr_log_script *script, char *words, const char *const further[2]);

#endif
