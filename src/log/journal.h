/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A line of the log as an entry of the systemd journal.
 */
#ifndef SRC_LOG_JOURNAL_H
#define SRC_LOG_JOURNAL_H

#include <stddef.h>

#include "src/log/sink.h"

/* An entry's largest size: a line of 1 KiB, names of 4 KiB in two fields, and what is short. */
#define NR_JOURNAL_BYTES 16384u

/*
 * LINE, of the program WHO, as a datagram of the journal's native protocol into ENTRY; its
 * length.  Any thread.
 */
size_t nr_journal_entry(char entry[NR_JOURNAL_BYTES], const char *who,
			const struct nr_sink_line *line, int priority);

#endif
