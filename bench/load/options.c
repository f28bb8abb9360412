/*
 * The command line of nbdload. Everything the tool can be told is one row of `table`: its
 * name, its help, how the argument is read and where it goes. What needs two options to be
 * judged is in check(). Nothing here opens anything.
 */
#include "bench/load/options.h"

#include "src/protocol/session.h"

#include <ctype.h>
#include <err.h>
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct row {
	const char *name;
	const char *argument; /* NULL: takes none; in brackets: optional */
	void (*set)(struct options *o, const struct row *row, const char *arg);
	size_t field; /* for the plain kinds: where in struct options */
	uint64_t min, max;
	const char *help;
};

static uint64_t number(const struct row *row, const char *text)
{
	static const char units[] = "KMGTPE";
	const char *unit;
	uint64_t value;
	char *end;

	errno = 0;
	value = strtoull(text, &end, 0);
	if (!isdigit((unsigned char)text[0]) || errno)
		errx(2, "--%s: \"%s\" is not a number", row->name, text);
	if (*end && (unit = strchr(units, toupper((unsigned char)*end)))) {
		unsigned shift = 10U * (unsigned)(unit - units + 1);

		if (value > UINT64_MAX >> shift)
			errx(2, "--%s: \"%s\" is too large", row->name, text);
		value <<= shift;
		end++;
	}
	if (*end)
		errx(2, "--%s: \"%s\" is not a number", row->name, text);
	if (value < row->min || value > row->max)
		errx(2, "--%s takes %llu to %llu, not %s", row->name, (unsigned long long)row->min,
		     (unsigned long long)row->max, text);
	return value;
}

static void *field(struct options *o, const struct row *row)
{
	return (char *)o + row->field;
}

static void set_text(struct options *o, const struct row *row, const char *arg)
{
	memcpy(field(o, row), &arg, sizeof(arg));
}

static void set_unsigned(struct options *o, const struct row *row, const char *arg)
{
	*(unsigned *)field(o, row) = (unsigned)number(row, arg);
}

static void set_u64(struct options *o, const struct row *row, const char *arg)
{
	*(uint64_t *)field(o, row) = number(row, arg);
}

static void set_flag(struct options *o, const struct row *row, const char *arg)
{
	(void)arg;
	*(bool *)field(o, row) = true;
}

/* --simple, --structured, --extended: the row's `min` says which. */
static void set_replies(struct options *o, const struct row *row, const char *arg)
{
	(void)arg;
	o->replies = (enum reply_style)row->min;
}

static void set_tls(struct options *o, const struct row *row, const char *arg)
{
	(void)row;
	o->tls = arg ? arg : "NORMAL:-VERS-ALL:+VERS-TLS1.3:-CIPHER-ALL:+AES-128-GCM";
}

static void set_seconds(struct options *o, const struct row *row, const char *arg)
{
	char *end;
	double value = strtod(arg, &end);

	if (end == arg || *end || !(value > 0) || value > 1e9)
		errx(2, "--%s: \"%s\" is not a time in seconds", row->name, arg);
	o->seconds = value;
}

static void set_rw(struct options *o, const struct row *row, const char *arg)
{
	const char *kind = arg;

	o->rw = arg;
	o->random = strncmp(kind, "rand", 4) == 0;
	if (o->random)
		kind += 4;
	o->mixed = strcmp(kind, "rw") == 0;
	if (strcmp(kind, "read") == 0)
		o->read_percent = 100;
	else if (strcmp(kind, "write") == 0)
		o->read_percent = 0;
	else if (!o->mixed)
		errx(2, "--%s takes read, write, rw, randread, randwrite or randrw, not %s",
		     row->name, arg);
}

static void set_verify(struct options *o, const struct row *row, const char *arg)
{
	if (!arg || strcmp(arg, "written") == 0)
		o->verify = VERIFY_WRITTEN;
	else if (strcmp(arg, "all") == 0)
		o->verify = VERIFY_ALL;
	else
		errx(2, "--%s takes written or all, not %s", row->name, arg);
}

static void set_help(struct options *o, const struct row *row, const char *arg);

#define FIELD(name) offsetof(struct options, name)
#define ANY_U64 0, UINT64_MAX

static const struct row table[] = {
	{ "export", "NAME", set_text, FIELD(export_name), ANY_U64,
	  "export to ask for (default: that of the URI, else \"\")" },
	{ "exports", "N", set_unsigned, FIELD(exports), 1, 1000000,
	  "ask for N exports in turn, connection by connection: NAME0, NAME1, ..." },
	{ "connections", "N", set_unsigned, FIELD(connections), 1, 1000000,
	  "connections (default 1)" },
	{ "depth", "N", set_unsigned, FIELD(depth), 1, 65536,
	  "requests in flight on each connection (default 1)" },
	{ "threads", "N", set_unsigned, FIELD(threads), 1, 1024,
	  "threads, each with a ring and its share of the connections (default 1)" },
	{ "block-size", "BYTES", set_unsigned, FIELD(block_size), 1, 64U << 20,
	  "bytes per request (default 4K)" },
	{ "rw", "KIND", set_rw, 0, ANY_U64,
	  "read, write, rw, randread, randwrite or randrw (default randread)" },
	{ "read-percent", "P", set_unsigned, FIELD(mixed_percent), 0, 100,
	  "share of reads in rw and randrw (default 50)" },
	{ "seconds", "S", set_seconds, 0, ANY_U64,
	  "how long (default 5 unless --requests is given)" },
	{ "requests", "N", set_u64, FIELD(requests), 1, UINT64_MAX,
	  "how many requests over all connections" },
	{ "simple", NULL, set_replies, 0, REPLY_SIMPLE, 0, "do not ask for structured replies" },
	{ "structured", NULL, set_replies, 0, REPLY_STRUCTURED, 0,
	  "insist on structured replies (default: taken if offered)" },
	{ "extended", NULL, set_replies, 0, REPLY_EXTENDED, 0, "insist on extended headers" },
	{ "tls", "[=PRIORITY]", set_tls, 0, ANY_U64,
	  "TLS, believing every server; which, as GnuTLS writes it (default: 1.3 with\n"
	  "AES-128-GCM)" },
	{ "offset-range", "BYTES", set_u64, FIELD(range_offset), ANY_U64,
	  "where the part of the export to use begins (default 0)" },
	{ "size", "BYTES", set_u64, FIELD(range_size), 1, UINT64_MAX,
	  "how long that part is (default: to the end)" },
	{ "stride", "BYTES", set_u64, FIELD(stride), 1, UINT64_MAX,
	  "from the start of one block to that of the next (default: a block size),\n"
	  "so that few blocks lie all over a large export" },
	{ "fua", NULL, set_flag, FIELD(fua), ANY_U64, "set FUA on writes" },
	{ "flush-every", "N", set_unsigned, FIELD(flush_every), 1, 1U << 30,
	  "a flush after N writes of a connection, sent when they are answered; what\n"
	  "comes after it waits for its answer, as in a database" },
	{ "seed", "N", set_u64, FIELD(content.seed), ANY_U64,
	  "seed of offsets, read/write choice and content (default 1)" },
	{ "zeroes", "PERCENT", set_unsigned, FIELD(content.zeroes), 0, 100,
	  "how much of what is written, and checked, is zeroes, in pieces of 64K, so\n"
	  "that there can be holes (default 0)" },
	{ "verify", "[=WHAT]", set_verify, 0, ANY_U64,
	  "check what is read: written (by this run, the default) or all (by an\n"
	  "earlier run with --verify that wrote the whole range, same --seed)" },
	{ "window", "BYTES", set_unsigned, FIELD(window), 8192, 1U << 30,
	  "receive buffer of a connection (default: a full depth, 16K to 256K)" },
	{ "idle", "N [SECONDS]", set_unsigned, FIELD(idle), 1, 1000000,
	  "no load: open N connections, say \"ready N\" and hold them until standard\n"
	  "input ends or the time is over" },
	{ "idle-warm", NULL, set_flag, FIELD(idle_warm), ANY_U64,
	  "with --idle: first one read on each connection" },
	{ "reconnect", NULL, set_flag, FIELD(reconnect), ANY_U64,
	  "each request, a read, on a connection of its own, one after the other: what\n"
	  "connecting costs" },
	{ "cpu-of", "PID", set_unsigned, FIELD(cpu_of), 1, 1U << 30,
	  "report the CPU time this process (the server) and its children used\n"
	  "during the load" },
	{ "json", NULL, set_flag, FIELD(json), ANY_U64,
	  "report as one JSON object, with the histogram" },
	{ "help", NULL, set_help, 0, ANY_U64, "this text" },
};

#define ROWS (sizeof(table) / sizeof(table[0]))

static void print_row(const struct row *row)
{
	char left[64];
	const char *help = row->help;
	const char *end;

	snprintf(left, sizeof(left), "--%s%s%s", row->name,
		 row->argument && row->argument[0] != '[' ? " " : "",
		 row->argument ? row->argument : "");
	while ((end = strchr(help, '\n'))) {
		printf("  %-22s %.*s\n", left, (int)(end - help), help);
		left[0] = '\0';
		help = end + 1;
	}
	printf("  %-22s %s\n", left, help);
}

static void set_help(struct options *o, const struct row *row, const char *arg)
{
	(void)o, (void)row, (void)arg;
	printf("usage: nbdload [OPTIONS] TARGET\n\n"
	       "Makes load on an NBD server and reports rate and latency. TARGET is the path of a\n"
	       "Unix socket, HOST[:PORT], nbd://HOST[:PORT]/EXPORT or\n"
	       "nbd+unix:///EXPORT?socket=PATH. Sizes take K, M, G, T.\n\n");
	for (size_t i = 0; i < ROWS; i++)
		print_row(&table[i]);
	printf("\nExit status: 0 fine; 1 the server or a connection failed; 2 wrong usage;\n"
	       "3 requests were answered with errors, or read back what was not written.\n");
	exit(0);
}

static void check(struct options *o)
{
	if (o->mixed)
		o->read_percent = o->mixed_percent;
	if (o->verify == VERIFY_WRITTEN && o->read_percent == 100)
		errx(2,
		     "--verify checks what this run wrote, and it writes nothing: use --rw randrw, "
		     "or --verify=all to check what an earlier run wrote");
	if (o->threads > o->connections)
		errx(2, "%u threads need as many connections: --connections %u", o->threads,
		     o->threads);
	if (o->flush_every && o->read_percent == 100)
		errx(2, "--flush-every counts writes, and this load has none: see --rw");
	if (!o->stride)
		o->stride = o->block_size;
	if (o->stride < o->block_size)
		errx(2, "--stride is less than a block of %u bytes", o->block_size);
	if (o->seconds <= 0 && !o->requests && !o->idle)
		o->seconds = 5;
}

static void make_long_options(struct option *out)
{
	for (size_t i = 0; i < ROWS; i++) {
		const char *argument = table[i].argument;
		int has = required_argument;

		if (!argument)
			has = no_argument;
		else if (argument[0] == '[')
			has = optional_argument;
		out[i] = (struct option){ table[i].name, has, NULL, (int)i };
	}
	out[ROWS] = (struct option){ 0 };
}

void options_parse(struct options *o, int argc, char **argv)
{
	struct option longs[ROWS + 1];
	int row;

	*o = (struct options){ .connections = 1,
			       .depth = 1,
			       .threads = 1,
			       .rw = "randread",
			       .random = true,
			       .read_percent = 100,
			       .mixed_percent = 50,
			       .block_size = 4096,
			       .content = { .seed = 1 } };
	make_long_options(longs);
	while ((row = getopt_long(argc, argv, "+", longs, NULL)) != -1) {
		if (row == '?')
			errx(2, "see nbdload --help");
		table[row].set(o, &table[row], optarg);
		/* --idle N SECONDS: the second number, unless it is the target */
		if (table[row].field == FIELD(idle) && optind + 1 < argc &&
		    isdigit((unsigned char)*argv[optind]))
			set_seconds(o, &table[row], argv[optind++]);
	}
	if (optind + 1 != argc)
		errx(2, "name one TARGET after the options; see nbdload --help");
	o->target = argv[optind];
	check(o);
}

const char *reply_style_name(uint8_t style)
{
	static const char *const names[] = { [NR_REPLY_SIMPLE] = "simple",
					     [NR_REPLY_STRUCTURED] = "structured",
					     [NR_REPLY_EXTENDED] = "extended" };

	return names[style];
}
