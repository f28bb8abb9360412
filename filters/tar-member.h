/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Where a member of a tar archive lies.
 *
 * Pure but for the reading, which the caller does: bytes in, ranges or a sentence out.
 * Old tar, POSIX ustar, GNU (long names, numbers in base 256, sparse members) and pax
 * (names, sizes, sparse members in the three forms that GNU tar has written) are
 * understood.  Only headers are read.
 *
 * Whatever an archive claims, memory is bounded (a header of text 1 MiB, NR_RANGES_MAX
 * ranges) and so is time: no byte is looked at twice, and what is searched ends with
 * the archive, LIMIT, or NR_TAR_MEMBERS_MAX headers.
 */
#ifndef FILTERS_TAR_MEMBER_H
#define FILTERS_TAR_MEMBER_H

#include "filters/ranges.h"
#include "nbdring/error.h"

#define NR_TAR_MEMBERS_MAX 10000000u

struct nr_tar_archive {
	uint64_t size; /* bytes */
	/* Fill in [OFFSET, OFFSET + LENGTH), which lies in the archive; 0 or negative errno. */
	int (*read)(void *context, uint64_t offset, uint64_t length, void *data,
		    struct nr_error *error);
	void *context;
};

struct nr_tar_member {
	uint64_t size;           /* bytes */
	bool sparse;             /* has holes, or may have */
	struct nr_ranges ranges; /* of the archive; one, or none, unless it is sparse */
};

/*
 * The first member called ENTRY ("./" in front does not count); if there is none and
 * ENTRY is a pattern (fnmatch; * also stands for slashes), the only one that it fits.
 * LIMIT: search no further than this, bytes; 0: to the end.  On success the caller
 * frees member->ranges.
 */
int nr_tar_find(const struct nr_tar_archive *archive, const char *entry, uint64_t limit,
		struct nr_tar_member *member, struct nr_error *error);

/*
 * Every file of the archive, in order: EACH is told its name and where its LENGTH bytes
 * begin; sparse ones are left out.  Until it returns other than 0, which is returned.
 */
typedef int nr_tar_each_fn(void *context, const char *name, uint64_t data, uint64_t length,
			   struct nr_error *error);
int nr_tar_each(const struct nr_tar_archive *archive, nr_tar_each_fn *each, void *context,
		struct nr_error *error);

#endif
