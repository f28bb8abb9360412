/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Where log lines go: standard error, a file, the system log, or nowhere.
 */
#ifndef SRC_LOG_SINK_H
#define SRC_LOG_SINK_H

#include <stdbool.h>
#include <stddef.h>

#include "src/log/log.h"

enum nr_sink_kind { NR_SINK_STDERR, NR_SINK_FILE, NR_SINK_SYSLOG, NR_SINK_NULL };

struct nr_sink {
	enum nr_sink_kind kind;
	int fd;     /* FILE, SYSLOG; -1 otherwise, and while the system log is away */
	char *path; /* FILE, SYSLOG */
};

#define NR_SINK_INIT                                           \
	{                                                      \
		.kind = NR_SINK_STDERR, .fd = -1, .path = NULL \
	}

/* Who writes: for all sinks.  WHO and IN_FILES ("" or what stands before each line in files)
 * stay the caller's. */
void nr_sink_identify(const char *who, const char *in_files);

/* TARGET as for nr_log_open.  Returns 0 or -errno; then SINK is as before. */
int nr_sink_open(struct nr_sink *sink, const char *target);
/* The system log that listens on the Unix datagram socket PATH. */
int nr_sink_open_syslog(struct nr_sink *sink, const char *path);
/* Back to standard error. */
void nr_sink_close(struct nr_sink *sink);

/* FILE: open the path again.  Returns 0 or -errno; then the old file stays. */
int nr_sink_reopen(struct nr_sink *sink);

/*
 * Write TEXT, a clean line of LENGTH bytes without a newline, with what this
 * kind of log has around a line.  One write, which does not block; false when
 * the line could not be taken.
 */
bool nr_sink_write(struct nr_sink *sink, enum nr_log_level level, const char *text, size_t length);

#endif
