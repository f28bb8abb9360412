/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Reaching a remote: from an address to a connected descriptor.  Private to
 * src/client/.
 */
#ifndef SRC_CLIENT_REACH_H
#define SRC_CLIENT_REACH_H

#include <stdatomic.h>
#include <stdint.h>
#include <sys/types.h>

#include "src/client/remote.h"

/* When to stop waiting. */
struct nr_patience {
	uint64_t until;          /* CLOCK_MONOTONIC, nanoseconds */
	const atomic_bool *stop; /* NULL: nobody ends it early */
};

/*
 * Wait for EVENTS on FD: 0, or negative errno: -ETIMEDOUT, -ECANCELED when told to stop.
 */
int nr_patience_poll(const struct nr_patience *patience, int fd, short events);

/*
 * *FD is connected, does not block, and closes on exec; *CHILD is the program behind
 * it, or 0.  0, or negative errno with a sentence.
 */
int nr_reach(const struct nr_remote *remote, const struct nr_patience *patience, int *fd,
	     pid_t *child, struct nr_error *error);

#endif
