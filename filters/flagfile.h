/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Switches that are files: is there a file of this name?
 *
 * Filters that a person turns on and off while the server runs watch a file.
 * Looking costs a system call that may wait for a slow disk, so requests never
 * look: one thread of the process looks at all watched names ten times a second
 * and keeps an atomic flag for each, which is what requests read.
 */
#ifndef FILTERS_FLAGFILE_H
#define FILTERS_FLAGFILE_H

#include <stdbool.h>

#include "nbdring/error.h"

#define NR_FLAGFILE_INTERVAL_MS 100

struct nr_flagfile;

/*
 * Watch PATH, which is copied.  The flag is right when this returns.  NULL with
 * the error set when memory or a thread cannot be had.  May block; any thread but
 * a worker.
 */
struct nr_flagfile *nr_flagfile_watch(const char *path, struct nr_error *error);

/* Is the switch set: was the file there when last looked?  Any thread; costs one load. */
bool nr_flagfile_set(const struct nr_flagfile *file);

/* The end of a watch.  NULL is allowed.  May block; any thread but a worker. */
void nr_flagfile_unwatch(struct nr_flagfile *file);

#endif
