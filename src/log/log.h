/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the server tells the person who runs it.
 *
 * One line per event, rate-limited per call site's class so that no client can
 * fill a disk: what was left out is counted and said.  Ring and protocol do not
 * log; they return errors.  Layers do by way of their surroundings.  Never called per request on a worker
 * unless something went wrong.
 */
#ifndef SRC_LOG_LOG_H
#define SRC_LOG_LOG_H

#include <stdbool.h>

enum nr_log_level { NR_LOG_ERROR, NR_LOG_WARNING, NR_LOG_INFO, NR_LOG_DEBUG };

/* Classes limited apart from each other. */
enum nr_log_class {
	NR_LOG_SERVER,  /* start, stop, listeners: not limited */
	NR_LOG_CLIENT,  /* connections that come, break rules, vanish */
	NR_LOG_REQUEST, /* requests that failed */
	NR_LOG_LAYER,   /* what layers have to say */
	NR_LOG_CLASS_COUNT
};

/*
 * Lines begin with PROGRAM ("nbdring" if this is not called), and with NAME where one is
 * given, so that one server can be told from another: "nbdring/disk7: …".  In a log file
 * only a name is written.  Together they have at most NR_LOG_WHO_MAX bytes, more is cut.
 * Main thread, before nr_log_open.
 */
#define NR_LOG_WHO_MAX 95
void nr_log_identify(const char *program, const char *name);
/* What the lines begin with. */
const char *nr_log_who(void);

/*
 * TARGET: "default" (stderr), "stderr", "syslog", "null", or a path beginning
 * with '/' to append to.  Main thread, before others exist.  Returns 0 or -errno.
 */
int nr_log_open(const char *target, bool verbose);
void nr_log_close(void);

/* Open the log file again (after a rotation). */
void nr_log_reopen(void);

/* Any thread; the line is cut at 1 KiB; control characters are escaped. */
void nr_log(enum nr_log_level level, enum nr_log_class class, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* Would a debug line be printed (-v)? */
bool nr_log_verbose(void);

#endif
