/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What one does with an image, and what one does not want others to do, is a byte each
 * that is locked for reading: from 100 on what is done, from 200 on what is not shared.
 * Having locked its own bytes, a program looks whether a byte of the opposite kind is
 * locked by anybody else.  So of two that come at once at least one sees the other.
 *
 * The locks belong to the open file, not to the process, so they outlive the fork to the
 * background.
 */
#include "src/cli/qemu-lock.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>

#define DONE_BASE 100
#define UNSHARED_BASE 200

enum use { USE_READ, USE_WRITE, USE_WRITE_UNCHANGED, USE_RESIZE };

static const char *const names[] = {
	[USE_READ] = "consistent read",
	[USE_WRITE] = "write",
	[USE_WRITE_UNCHANGED] = "write unchanged",
	[USE_RESIZE] = "resize",
};

static struct flock lock_of(short type, int base, enum use use)
{
	return (struct flock){
		.l_type = type, .l_whence = SEEK_SET, .l_start = base + (int)use, .l_len = 1
	};
}

static int take(int fd, int base, enum use use)
{
	struct flock lock = lock_of(F_RDLCK, base, use);

	return fcntl(fd, F_OFD_SETLK, &lock) < 0 ? -errno : 0;
}

/* Has somebody else locked the byte? */
static bool is_taken(int fd, int base, enum use use)
{
	struct flock lock = lock_of(F_WRLCK, base, use);

	return fcntl(fd, F_OFD_GETLK, &lock) == 0 && lock.l_type != F_UNLCK;
}

static int refuse(enum use use, const char *path, struct nr_error *error)
{
	return nr_error_set(error, -EAGAIN,
			    "Failed to get \"%s\" lock. Is another process using the image [%s]?",
			    names[use], path);
}

int nr_qemu_lock(int fd, bool writes, const char *path, struct nr_error *error)
{
	int err = take(fd, DONE_BASE, USE_READ);

	if (!err && writes)
		err = take(fd, DONE_BASE, USE_WRITE);
	if (!err)
		err = take(fd, UNSHARED_BASE, USE_RESIZE);
	/* A file system without locks: QEMU does without as well. */
	if (err && err != -EAGAIN && err != -EACCES)
		return 0;
	if (err || is_taken(fd, UNSHARED_BASE, USE_READ))
		return refuse(USE_READ, path, error);
	if (writes && is_taken(fd, UNSHARED_BASE, USE_WRITE))
		return refuse(USE_WRITE, path, error);
	return is_taken(fd, DONE_BASE, USE_RESIZE) ? refuse(USE_RESIZE, path, error) : 0;
}
