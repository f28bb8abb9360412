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

static int open_special(struct nr_pidfile *file, const char *path)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC | O_NOCTTY);

	if (fd < 0)
		return -errno;
	file->special = fd + 1;
	return 0;
}

static int make_file(struct nr_pidfile *file, const char *path)
{
	struct stat made = { .st_ino = 0 };
	int fd, err;

	if (asprintf(&file->new_path, "%s.XXXXXX", path) < 0) {
		file->new_path = NULL;
		return -ENOMEM;
	}
	fd = mkostemp(file->new_path, O_CLOEXEC);
	if (fd < 0) {
		err = -errno;
		free(file->new_path);
		file->new_path = NULL;
		return err;
	}
	err = write_pid(fd);
	if (!err && (fchmod(fd, 0644) < 0 || fstat(fd, &made) < 0))
		err = -errno;
	close(fd);
	file->device = made.st_dev;
	file->inode = made.st_ino;
	return err;
}

static int refuse(const char *path, int err, struct nr_error *error)
{
	return err ? nr_error_system(error, err, "the pid file %s cannot be written", path) : 0;
}

int nr_pidfile_prepare(struct nr_pidfile *file, const char *path, struct nr_error *error)
{
	struct stat there;
	int err;

	*file = (struct nr_pidfile){ .path = NULL };
	if (!path)
		return 0;
	if (stat(path, &there) == 0 && !S_ISREG(there.st_mode))
		err = S_ISDIR(there.st_mode) ? -EISDIR : open_special(file, path);
	else
		err = make_file(file, path);
	return refuse(path, err, error);
}

int nr_pidfile_publish(struct nr_pidfile *file, const char *path, struct nr_error *error)
{
	int err = 0;

	if (file->special)
		err = write_pid(file->special - 1);
	if (file->new_path && rename(file->new_path, path) < 0)
		err = -errno;
	if (err)
		return refuse(path, err, error);
	if (file->new_path)
		file->path = path;
	free(file->new_path);
	file->new_path = NULL;
	return 0;
}

void nr_pidfile_remove(struct nr_pidfile *file)
{
	struct stat now;

	if (file->path && lstat(file->path, &now) == 0 && now.st_dev == file->device &&
	    now.st_ino == file->inode)
		unlink(file->path);
	file->path = NULL;
	if (file->new_path)
		unlink(file->new_path);
	free(file->new_path);
	file->new_path = NULL;
	if (file->special)
		close(file->special - 1);
	file->special = 0;
}
