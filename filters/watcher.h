/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A thread of an instance that looks at something now and then, so that no request
 * and no worker ever has to.
 */
#ifndef FILTERS_WATCHER_H
#define FILTERS_WATCHER_H

#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "nbdring/error.h"

struct nr_watcher {
	int wake; /* eventfd: readable when told to look at once, or to end */
	atomic_bool ending;
	pthread_t thread;
	void (*run)(struct nr_watcher *watcher);
};

/* Start a thread that calls RUN, which returns soon after nr_watcher_wait says so. */
int nr_watcher_start(struct nr_watcher *watcher, void (*run)(struct nr_watcher *watcher),
		     struct nr_error *error);

/*
 * For RUN: wait up to MILLISECONDS (-1: for ever) for a wake-up or for one of the
 * COUNT descriptors in FDS, of which FDS[0] is the watcher's own.  False: end.
 */
bool nr_watcher_wait(struct nr_watcher *watcher, struct pollfd *fds, unsigned count,
		     int milliseconds);

/* Let it look at once.  Any thread; never blocks. */
void nr_watcher_wake(struct nr_watcher *watcher);

/* End it and wait for that. */
void nr_watcher_stop(struct nr_watcher *watcher);

#endif
