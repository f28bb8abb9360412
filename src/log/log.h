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
 * What a line is about, for logs that keep it apart from the text (the journal).  What is
 * not known is NULL or 0.  The strings may be a client's.
 */
struct nr_log_fields {
	const char *export_name;
	const char *client;
	const char *layer;
	int error; /* errno, positive */
};

/* Where in the source a line comes from. */
struct nr_log_place {
	const char *file, *function;
	int line;
};

/*
 * TARGET: "stderr", "syslog", "journal", "null", a path beginning with '/' to append to, or
 * "default": the journal if standard error leads there, otherwise standard error.  Main
 * thread, before others exist.  Returns 0 or -errno.
 */
int nr_log_open(const char *target, bool verbose);
void nr_log_close(void);

/* Open the log file again (after a rotation). */
void nr_log_reopen(void);

/* May the log have to connect to a local socket again, when its other end was restarted? */
bool nr_log_reconnects(void);

/* Any thread; the line is cut at 1 KiB; control characters are escaped. */
#define nr_log(level, class, ...) nr_log_at(NR_LOG_HERE, level, class, NULL, __VA_ARGS__)

/* The same, about FIELDS (a pointer). */
#define nr_log_about(level, class, fields, ...) \
	nr_log_at(NR_LOG_HERE, level, class, fields, __VA_ARGS__)

#define NR_LOG_HERE \
	(&(const struct nr_log_place){ .file = __FILE__, .function = __func__, .line = __LINE__ })

void nr_log_at(const struct nr_log_place *place, enum nr_log_level level, enum nr_log_class class,
	       const struct nr_log_fields *fields, const char *format, ...)
	__attribute__((format(printf, 5, 6)));

/* Would a debug line be printed (-v)? */
bool nr_log_verbose(void);

#endif
