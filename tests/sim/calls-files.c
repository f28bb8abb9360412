/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * System calls on the files that layers keep for themselves: plain ones, in `open` and
 * `close`, which take no time but may be the last ones before the power goes.
 *
 * See calls.c, which has those of disks and sockets.
 */
#undef NDEBUG
#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/types.h>
#include <unistd.h>

#include "tests/sim/calls.h"
#include "tests/sim/files.h"
#include "tests/sim/sockets.h"

/* ---- reading and writing ----------------------------------------------- */

/* Less than was asked for, now and then. */
static size_t some_of(size_t length)
{
	if (length > 1 && sim_one_in(sim_faults.short_transfer))
		return (size_t)sim_between(1, length);
	return length;
}

WRAPPED(ssize_t, pread64, int fd, void *data, size_t length, off_t offset)
{
	struct sim_disk *disk = sim_disk_of(fd);

	if (!disk)
		return __real_pread64(fd, data, length, offset);
	if (sim_one_in(sim_faults.interrupted))
		return (ssize_t)sim_answer(-EINTR);
	return (ssize_t)sim_answer(
		sim_disk_read_now(disk, data, some_of(length), (uint64_t)offset));
}

WRAPPED(ssize_t, pread, int fd, void *data, size_t length, off_t offset)
{
	return __wrap_pread64(fd, data, length, offset);
}

WRAPPED(ssize_t, pwrite64, int fd, const void *data, size_t length, off_t offset)
{
	struct sim_disk *disk = sim_disk_of(fd);
	ssize_t result;

	if (!disk)
		return __real_pwrite64(fd, data, length, offset);
	if (sim_one_in(sim_faults.interrupted))
		return (ssize_t)sim_answer(-EINTR);
	result = (ssize_t)sim_answer(
		sim_disk_write_now(disk, data, some_of(length), (uint64_t)offset));
	sim_files_call();
	return result;
}

WRAPPED(ssize_t, pwrite, int fd, const void *data, size_t length, off_t offset)
{
	return __wrap_pwrite64(fd, data, length, offset);
}

/* ---- how long it is, and what it has room for -------------------------- */

WRAPPED(int, ftruncate64, int fd, off_t size)
{
	struct sim_disk *disk = sim_disk_of(fd);
	int result;

	if (!disk)
		return __real_ftruncate64(fd, size);
	result = sim_disk_truncate_now(disk, (uint64_t)size);
	sim_files_call();
	return (int)sim_answer(result);
}

WRAPPED(int, ftruncate, int fd, off_t size)
{
	return __wrap_ftruncate64(fd, size);
}

WRAPPED(int, fallocate64, int fd, int mode, off_t offset, off_t length)
{
	struct sim_disk *disk = sim_disk_of(fd);
	int result;

	if (!disk)
		return __real_fallocate64(fd, mode, offset, length);
	result = sim_disk_fallocate_now(disk, mode, (uint64_t)offset, (uint64_t)length);
	sim_files_call();
	return (int)sim_answer(result);
}

WRAPPED(int, fallocate, int fd, int mode, off_t offset, off_t length)
{
	return __wrap_fallocate64(fd, mode, offset, length);
}

/* ---- flushing ---------------------------------------------------------- */

WRAPPED(int, fsync, int fd)
{
	struct sim_disk *disk = sim_disk_of(fd);
	int result = 0;

	if (sim_fd_kind(fd) == SIM_FD_NONE)
		return __real_fsync(fd);
	if (disk)
		result = sim_disk_sync_now(disk);
	else
		sim_files_sync_names();
	sim_files_call();
	return (int)sim_answer(result);
}

WRAPPED(int, fdatasync, int fd)
{
	return sim_fd_kind(fd) == SIM_FD_NONE ? __real_fdatasync(fd) : __wrap_fsync(fd);
}

/* ---- names and locks --------------------------------------------------- */

WRAPPED(int, unlink, const char *path)
{
	int result = sim_files_remove(path);

	return result == SIM_NOT_OURS ? __real_unlink(path) : (int)sim_answer(result);
}

WRAPPED(int, flock, int fd, int operation)
{
	if (sim_fd_kind(fd) == SIM_FD_NONE)
		return __real_flock(fd, operation);
	return (int)sim_answer(sim_fd_lock(fd));
}
