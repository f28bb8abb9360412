/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The pid file: tells whoever started the server that it is ready, and who it is.
 */
#ifndef SRC_CLI_PIDFILE_H
#define SRC_CLI_PIDFILE_H

#include <sys/types.h>

#include "nbdring/error.h"

struct nr_pidfile {
	const char *path; /* where it appeared; NULL: it has not */
	dev_t device;
	ino_t inode;
	char *new_path; /* the file while nobody is to see it; NULL: none */
	int special;    /* what is at PATH instead of a file, opened, and 1 added; 0: none */
};

/*
 * Write this process's id for PATH (absolute; stays the caller's), where it does not
 * appear yet.  Then let it appear, replacing what is there: a rename, no more.  Nothing
 * happens for a PATH of NULL.
 */
int nr_pidfile_prepare(struct nr_pidfile *file, const char *path, struct nr_error *error);
int nr_pidfile_publish(struct nr_pidfile *file, const char *path, struct nr_error *error);
/* Remove it if it is still the file that was written; also one that was only prepared. */
void nr_pidfile_remove(struct nr_pidfile *file);

#endif
