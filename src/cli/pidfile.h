/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The pid file: tells whoever started the server that it is ready, and who it is.
 */
#ifndef SRC_CLI_PIDFILE_H
#define SRC_CLI_PIDFILE_H

#include <sys/types.h>

#include "nbdring/error.h"

struct nr_pidfile {
	const char *path; /* NULL: none was written */
	dev_t device;
	ino_t inode;
};

/* Write this process's id to PATH (absolute; stays the caller's), replacing what is there. */
int nr_pidfile_write(struct nr_pidfile *file, const char *path, struct nr_error *error);
/* Remove it if it is still the file that was written. */
void nr_pidfile_remove(struct nr_pidfile *file);

#endif
