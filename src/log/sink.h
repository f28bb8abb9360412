/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Where log lines go: standard error, a file, the system log, or nowhere.
 */
#ifndef SRC_LOG_SINK_H
#define SRC_LOG_SINK_H

#include <stdbool.h>
#include <stddef.h>

#include "src/log/log.h"

enum nr_sink_kind {
	NR_SINK_STDERR,
	NR_SINK_STREAM, /* standard error, which the journal reads */
	NR_SINK_FILE,
	NR_SINK_SYSLOG,
	NR_SINK_JOURNAL,
	NR_SINK_NULL
};

struct nr_sink {
	enum nr_sink_kind kind;
	int fd;     /* FILE, SYSLOG, JOURNAL; -1 otherwise, and while the system log is away */
	char *path; /* FILE, SYSLOG, JOURNAL */
};

/* A clean line of LENGTH bytes without a newline, and what is known of it. */
struct nr_sink_line {
	enum nr_log_level level;
	const char *text;
	size_t length;
	const struct nr_log_fields *fields; /* NULL: none */
	const struct nr_log_place *place;   /* NULL: unknown */
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
/* The system log, or the journal, that listens on the Unix datagram socket PATH. */
int nr_sink_open_syslog(struct nr_sink *sink, const char *path);
int nr_sink_open_journal(struct nr_sink *sink, const char *path);
/* Does standard error lead to the journal, as JOURNAL_STREAM claims? */
bool nr_sink_is_stream(void);
/* Back to standard error. */
void nr_sink_close(struct nr_sink *sink);

/* FILE: open the path again.  Returns 0 or -errno; then the old file stays. */
int nr_sink_reopen(struct nr_sink *sink);

/*
 * Write LINE with what this kind of log has around a line.  One write, which does not
 * block; false when the line could not be taken.
 */
bool nr_sink_write_line(struct nr_sink *sink, const struct nr_sink_line *line);

/* The same for a line of which nothing is known. */
bool nr_sink_write(struct nr_sink *sink, enum nr_log_level level, const char *text, size_t length);

#endif
