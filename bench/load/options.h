/* What the user asked of nbdload. See options.c. */
#ifndef BENCH_LOAD_OPTIONS_H
#define BENCH_LOAD_OPTIONS_H

#include "bench/load/content.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum reply_style { REPLY_BEST, REPLY_SIMPLE, REPLY_STRUCTURED, REPLY_EXTENDED };

enum verify { VERIFY_NOTHING, VERIFY_WRITTEN, VERIFY_ALL };

struct options {
	const char *target;
	const char *export_name; /* NULL: the one in the URI, else "" */
	unsigned exports;        /* >0: the connections take turns among so many, NAME0 and on */
	enum reply_style replies;
	const char *tls; /* GnuTLS priority; NULL: no TLS */

	unsigned connections;
	unsigned depth; /* per connection */
	unsigned threads;

	const char *rw; /* the word given */
	bool random;
	bool mixed;
	unsigned read_percent;  /* 100: reads only */
	unsigned mixed_percent; /* what it is for a mixed load */
	bool fua;
	unsigned flush_every; /* >0: a flush after so many writes of a connection */
	unsigned block_size;
	uint64_t stride; /* from the start of one block to that of the next; 0: block_size */
	uint64_t range_offset;
	uint64_t range_size; /* 0: to the end of the export */

	double seconds;    /* 0: no limit */
	uint64_t requests; /* 0: no limit */
	struct content content;
	enum verify verify;
	unsigned window; /* receive buffer of a connection; 0: chosen from depth and block size */

	unsigned idle; /* >0: hold this many idle connections instead of making load */
	bool idle_warm;
	bool reconnect; /* each request on a connection of its own */

	unsigned cpu_of; /* >0: report the CPU time of this process and its descendants, too */
	bool json;
};

/* Parses the command line; exits with a sentence on standard error if it cannot. */
void options_parse(struct options *o, int argc, char **argv);

/* Of enum nr_reply_style. */
const char *reply_style_name(uint8_t style);

#endif
