/* SPDX-License-Identifier: BSD-3-Clause */
/* Names of operations and the clock, as the filters that observe use them. */
#ifndef FILTERS_OPERATIONS_H
#define FILTERS_OPERATIONS_H

#include <time.h>

#include "nbdring/request.h"

static const char *const nr_operation_names[NR_OPERATION_COUNT] = {
	[NR_READ] = "read", [NR_WRITE] = "write", [NR_FLUSH] = "flush",     [NR_TRIM] = "trim",
	[NR_ZERO] = "zero", [NR_CACHE] = "cache", [NR_EXTENTS] = "extents", [NR_RESIZE] = "resize",
};

/*
 * Nanoseconds of CLOCK_MONOTONIC, now: nr_now may be the time at which the worker's
 * turn began, and requests that memory answers begin and end in one turn.
 */
static inline uint64_t nr_precise_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

#endif
