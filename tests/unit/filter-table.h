/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What tests that go through all filters know of each: what to write behind its
 * name, and what it does to the disk.  A filter that is not here is used without
 * parameters and taken for transparent; one that cannot be opened so fails the test,
 * which is the reminder to add it.
 */
#ifndef TESTS_UNIT_FILTER_TABLE_H
#define TESTS_UNIT_FILTER_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

/* What tests may expect of it. */
enum filter_effect {
	TRANSPARENT, /* the disk is what it was; capabilities may be masked */
	UNTRUTHFUL,  /* answers something else on purpose: it must only survive */
	SKIPPED,     /* needs surroundings that these tests do not have */
};

struct filter_row {
	const char *name;
	const char *parameters; /* without spaces around */
	enum filter_effect effect;
};

static const struct filter_row filter_rows[] = {
	/* addresses */
	{ "offset", "offset=0", TRANSPARENT },
	{ "partition", "partition=1", SKIPPED }, /* there is no table */
	{ "truncate", "round-down=512", TRANSPARENT },
	{ "swab", "swab-bits=8", TRANSPARENT },
	{ "map", "map-file=/dev/null", SKIPPED }, /* a map of its own is needed */
	{ "scan", "", SKIPPED },                  /* not over what cannot prefetch */
	/* masking */
	{ "protect", "protect=~0-", TRANSPARENT },
	{ "extentlist", "extentlist=/dev/null", UNTRUTHFUL },
	{ "mask", "mask=fast-zero", TRANSPARENT },
	/* faults, with the faults switched off */
	{ "error", "error-rate=0", TRANSPARENT },
	{ "pause", "pause-control=test-filter-pause.sock", SKIPPED }, /* a socket per use */
	{ "evil", "", UNTRUTHFUL },
	{ "ddrescue", "ddrescue-mapfile=/dev/null", SKIPPED },
	{ "checkwrite", "", UNTRUTHFUL },     /* writes fail on purpose */
	{ "verify", "twin=memory", SKIPPED }, /* a twin is words with spaces */
	/* policy */
	{ "limit", "limit=0", TRANSPARENT },
	/* observation and alignment */
	{ "log", "logfile=/dev/null", TRANSPARENT },
	{ "stats", "statsfile=/dev/null", TRANSPARENT },
	{ "blocksize", "minblock=4k maxdata=64k maxlen=256k", TRANSPARENT },
	{ "blocksize-policy", "blocksize-preferred=64k", TRANSPARENT },
};

static inline const struct filter_row *filter_row(const char *name)
{
	static struct filter_row unknown;

	for (size_t i = 0; i < sizeof(filter_rows) / sizeof(filter_rows[0]); i++)
		if (strcmp(filter_rows[i].name, name) == 0)
			return &filter_rows[i];
	unknown = (struct filter_row){ name, "", TRANSPARENT };
	return &unknown;
}

#endif
