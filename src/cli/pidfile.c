/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Whoever waits for the pid file reads it the moment it appears, so it appears
 * whole: written under another name and then renamed.  That also never follows
 * a link that someone put in the way.  Something that is no plain file (a pipe,
 * /dev/stderr) is written to as it is.
 *
 * Main thread.
 */
#include "src/cli/pidfile.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int write_pid(int fd)
{
	char text[32];
	int length = snprintf(text, sizeof(text), "%d\n", (int)getpid());
	ssize_t written = write(fd, text, (size_t)length);

	if (written < 0)
		return -errno;
	return written == length ? 0 : -ENOSPC;
}

static int write_special(const char *path)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC | O_NOCTTY);
	int err;

	if (fd < 0)
		return -errno;
	err = write_pid(fd);
	close(fd);
	return err;
}

static int write_file(struct nr_pidfile *file, const char *path)
{
	struct stat made = { .st_ino = 0 };
	char *new_path;
	int fd, err;

	if (asprintf(&new_path, "%s.XXXXXX", path) < 0)
		return -ENOMEM;
	fd = mkostemp(new_path, O_CLOEXEC);
	err = fd < 0 ? -errno : 0;
	if (!err)
		err = write_pid(fd);
	if (!err && (fchmod(fd, 0644) < 0 || fstat(fd, &made) < 0))
		err = -errno;
	if (!err && rename(new_path, path) < 0)
		err = -errno;
	if (!err) {
		file->path = path;
		file->device = made.st_dev;
		file->inode = made.st_ino;
	} else if (fd >= 0) {
		unlink(new_path);
	}
	if (fd >= 0)
		close(fd);
	free(new_path);
	return err;
}

int nr_pidfile_write(struct nr_pidfile *file, const char *path, struct nr_error *error)
{
	struct stat there;
	int err;

	file->path = NULL;
	if (stat(path, &there) == 0 && !S_ISREG(there.st_mode))
		err = S_ISDIR(there.st_mode) ? -EISDIR : write_special(path);
	else
		err = write_file(file, path);
	if (err)
		nr_error_system(error, err, "the pid file %s cannot be written", path);
	return err;
}

void nr_pidfile_remove(struct nr_pidfile *file)
{
	struct stat now;

	if (file->path && lstat(file->path, &now) == 0 && now.st_dev == file->device &&
	    now.st_ino == file->inode)
		unlink(file->path);
	file->path = NULL;
}
