/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The system calls of the server, where they concern what is simulated.
 *
 * The programs of this folder are linked with --wrap for each of them (meson.build
 * has the list): a call from the server comes here, looks whether the descriptor or
 * the path is a simulated one, and goes on to the real call if not.  So the server's
 * code is the product's, without a hook in it, down to its backend `file`.
 *
 * Which of the two names of a call is used (lseek or lseek64) depends on the
 * C library: both lead to one function.
 */
#undef NDEBUG
#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

#include "tests/sim/calls.h"
#include "tests/sim/files.h"
#include "tests/sim/sockets.h"

int64_t sim_answer(int64_t result)
{
	if (result >= 0)
		return result;
	errno = (int)-result;
	return -1;
}

struct sim_disk *sim_disk_of(int fd)
{
	enum sim_fd_kind kind = sim_fd_kind(fd);

	return kind == SIM_FD_DISK || kind == SIM_FD_PATH ? sim_fd_object(fd) : NULL;
}

/* ---- locks ------------------------------------------------------------- */

#define LOCKED (1 << 30) /* among the flags of a descriptor: it has a share in a lock */

static void unlock(int fd)
{
	struct sim_disk *disk = sim_fd_object(fd);

	if (*sim_fd_flags(fd) & LOCKED)
		disk->lockers--;
}

int sim_fd_lock(int fd)
{
	struct sim_disk *disk = sim_fd_object(fd);

	if (*sim_fd_flags(fd) & LOCKED)
		return 0;
	if (disk->lockers)
		return -EAGAIN;
	*sim_fd_flags(fd) |= LOCKED;
	disk->lockers = 1;
	return 0;
}

/* A copy has the flags, and its share of the lock. */
static int duplicate(int fd)
{
	struct sim_disk *disk = sim_fd_object(fd);
	int copy = sim_fd_new(sim_fd_kind(fd), disk);

	*sim_fd_flags(copy) = *sim_fd_flags(fd);
	if (*sim_fd_flags(fd) & LOCKED)
		disk->lockers++;
	return copy;
}

/* ---- sockets, and all descriptors -------------------------------------- */

WRAPPED(int, close, int fd)
{
	switch (sim_fd_kind(fd)) {
	case SIM_FD_NONE:
		if (fd >= SIM_FD_BASE)
			sim_fail("descriptor %d is closed and was not open", fd);
		return __real_close(fd);
	case SIM_FD_DISK:
		unlock(fd);
		sim_fd_free(fd);
		return 0;
	case SIM_FD_PATH:
	case SIM_FD_FOLDER:
		sim_fd_free(fd);
		return 0;
	case SIM_FD_SOCKET:
	case SIM_FD_LISTENER:
		break;
	}
	sim_socket_close(fd);
	return 0;
}

WRAPPED(int, shutdown, int fd, int how)
{
	if (sim_fd_kind(fd) != SIM_FD_SOCKET)
		return __real_shutdown(fd, how);
	sim_socket_shutdown(fd, how);
	return 0;
}

WRAPPED(int, setsockopt, int fd, int level, int option, const void *value, socklen_t length)
{
	if (sim_fd_kind(fd) == SIM_FD_NONE)
		return __real_setsockopt(fd, level, option, value, length);
	return 0;
}

WRAPPED(int, getpeername, int fd, struct sockaddr *address, socklen_t *length)
{
	if (sim_fd_kind(fd) != SIM_FD_SOCKET)
		return __real_getpeername(fd, address, length);
	sim_socket_name(fd, address, length);
	return 0;
}

/* ---- the clock --------------------------------------------------------- */

WRAPPED(int, clock_gettime, clockid_t clock, struct timespec *now)
{
	(void)clock;
	now->tv_sec = (time_t)(sim_now() / SIM_SECOND);
	now->tv_nsec = (long)(sim_now() % SIM_SECOND);
	return 0;
}

/* ---- opening files ----------------------------------------------------- */

WRAPPED(int, openat64, int directory, const char *path, int flags, ...)
{
	int fd = sim_files_open(path, flags);

	if (fd == SIM_NOT_OURS)
		return __real_openat64(directory, path, flags, 0);
	return (int)sim_answer(fd);
}

WRAPPED(int, openat, int directory, const char *path, int flags, ...)
{
	return __wrap_openat64(directory, path, flags);
}

WRAPPED(int, open64, const char *path, int flags, ...)
{
	int fd = sim_files_open(path, flags);
	va_list args;
	mode_t mode;

	va_start(args, flags);
	mode = flags & O_CREAT ? va_arg(args, mode_t) : 0;
	va_end(args);
	if (fd == SIM_NOT_OURS)
		return __real_open64(path, flags, mode);
	return (int)sim_answer(fd);
}

WRAPPED(int, open, const char *path, int flags, ...)
{
	return __wrap_open64(path, flags, 0);
}

/* openat2, by which names from clients are opened. */
WRAPPED(long, syscall, long number, ...)
{
	long argument[6];
	va_list args;

	va_start(args, number);
	for (unsigned i = 0; i < 6; i++)
		argument[i] = va_arg(args, long);
	va_end(args);
	if (number == SYS_openat2 && sim_fd_kind((int)argument[0]) == SIM_FD_FOLDER) {
		const struct open_how *how = (const struct open_how *)argument[2];
		const char *name = (const char *)argument[1];
		char path[sizeof(SIM_FOLDER "/") + NAME_MAX];

		snprintf(path, sizeof(path), SIM_FOLDER "/%s", name);
		return sim_answer(sim_files_open(path, (int)how->flags));
	}
	return __real_syscall(number, argument[0], argument[1], argument[2], argument[3],
			      argument[4], argument[5]);
}

/* ---- the folder -------------------------------------------------------- */

/* One is read at a time: jobs do not meet. */
static struct {
	int fd;
	unsigned next;
	struct dirent entry;
} reading;

WRAPPED(DIR *, fdopendir, int fd)
{
	if (sim_fd_kind(fd) != SIM_FD_FOLDER)
		return __real_fdopendir(fd);
	reading.fd = fd;
	reading.next = 0;
	return (DIR *)&reading;
}

WRAPPED(struct dirent *, readdir64, DIR *dir)
{
	if (dir != (DIR *)&reading)
		return __real_readdir64(dir);
	for (; reading.next < SIM_DISKS_MAX; reading.next++) {
		char *name = reading.entry.d_name;

		(void)snprintf(name, sizeof(reading.entry.d_name), SIM_DISK_NAME, reading.next);
		if (sim_disk_named(name)) {
			reading.next++;
			return &reading.entry;
		}
	}
	return NULL;
}

WRAPPED(struct dirent *, readdir, DIR *dir)
{
	return __wrap_readdir64(dir);
}

WRAPPED(int, dirfd, DIR *dir)
{
	return dir == (DIR *)&reading ? reading.fd : __real_dirfd(dir);
}

WRAPPED(int, closedir, DIR *dir)
{
	return dir == (DIR *)&reading ? __wrap_close(reading.fd) : __real_closedir(dir);
}

/* ---- descriptors of files ---------------------------------------------- */

WRAPPED(int, fcntl64, int fd, int command, ...)
{
	va_list args;
	long value;

	va_start(args, command);
	value = va_arg(args, long); /* a number or a pointer */
	va_end(args);
	if (sim_fd_kind(fd) == SIM_FD_NONE)
		return __real_fcntl64(fd, command, value);
	switch (command) {
	case F_GETFL:
		return *sim_fd_flags(fd) & ~LOCKED;
	case F_SETFL:
		*sim_fd_flags(fd) = (int)value | (*sim_fd_flags(fd) & LOCKED);
		return 0;
	case F_DUPFD_CLOEXEC:
		return duplicate(fd);
	case F_OFD_SETLK:
		return (int)sim_answer(sim_fd_lock(fd));
	default:
		sim_fail("fcntl %d on a file", command);
	}
}

WRAPPED(int, fcntl, int fd, int command, ...)
{
	va_list args;
	long value;

	va_start(args, command);
	value = va_arg(args, long);
	va_end(args);
	return __wrap_fcntl64(fd, command, value);
}

/* ---- what a file is ---------------------------------------------------- */

WRAPPED(int, fstat, int fd, struct stat *st)
{
	const struct sim_disk *disk = sim_disk_of(fd);

	if (!disk)
		return __real_fstat(fd, st);
	memset(st, 0, sizeof(*st));
	st->st_mode = disk->block_device ? S_IFBLK : S_IFREG;
	st->st_size = disk->block_device ? 0 : (off_t)disk->size;
	st->st_blksize = 4096;
	st->st_blocks = (blkcnt_t)sim_disk_blocks(disk);
	return 0;
}

/* The same structure where this is built with 64-bit offsets, which it is. */
int __wrap_fstat64(int fd, struct stat *st);
int __wrap_fstat64(int fd, struct stat *st)
{
	return __wrap_fstat(fd, st);
}

WRAPPED(int, fstatfs, int fd, struct statfs *fs)
{
	const struct sim_disk *disk = sim_disk_of(fd);

	if (!disk)
		return __real_fstatfs(fd, fs);
	memset(fs, 0, sizeof(*fs));
	fs->f_type = disk->in_memory ? TMPFS_MAGIC : EXT4_SUPER_MAGIC;
	fs->f_bsize = 4096;
	return 0;
}

int __wrap_fstatfs64(int fd, struct statfs *fs);
int __wrap_fstatfs64(int fd, struct statfs *fs)
{
	return __wrap_fstatfs(fd, fs);
}

WRAPPED(int, statx, int fd, const char *restrict path, int flags, unsigned mask,
	struct statx *restrict stx)
{
	const struct sim_disk *disk = sim_disk_of(fd);

	if (!disk)
		return __real_statx(fd, path, flags, mask, stx);
	memset(stx, 0, sizeof(*stx));
#ifdef STATX_DIOALIGN
	stx->stx_mask = STATX_DIOALIGN;
	stx->stx_dio_offset_align = disk->sector;
	stx->stx_dio_mem_align = disk->sector;
#endif
	return 0;
}

static int device_control(struct sim_disk *disk, unsigned long request, void *argument)
{
	const uint64_t *range = argument;

	switch (request) {
	case BLKGETSIZE64:
		*(uint64_t *)argument = disk->size;
		return 0;
	case BLKSSZGET:
		*(int *)argument = (int)disk->sector;
		return 0;
	case BLKIOOPT:
		*(unsigned *)argument = 0;
		return 0;
	case BLKROGET:
		*(int *)argument = 0;
		return 0;
	case BLKDISCARD:
		return (int)sim_answer(sim_disk_discard_now(disk, range[0], range[1]));
	default:
		return (int)sim_answer(-ENOTTY);
	}
}

WRAPPED(int, ioctl, int fd, unsigned long request, ...)
{
	struct sim_disk *disk = sim_disk_of(fd);
	va_list args;
	void *argument;

	va_start(args, request);
	argument = va_arg(args, void *);
	va_end(args);
	if (!disk)
		return __real_ioctl(fd, request, argument);
	return device_control(disk, request, argument);
}

/* ---- using it ---------------------------------------------------------- */

WRAPPED(off_t, lseek, int fd, off_t offset, int whence)
{
	const struct sim_disk *disk = sim_disk_of(fd);

	if (!disk)
		return __real_lseek(fd, offset, whence);
	if (whence != SEEK_DATA && whence != SEEK_HOLE)
		return (off_t)sim_answer(-EINVAL);
	return (off_t)sim_answer(sim_disk_seek(disk, (uint64_t)offset, whence == SEEK_DATA));
}

off_t __wrap_lseek64(int fd, off_t offset, int whence);
off_t __wrap_lseek64(int fd, off_t offset, int whence)
{
	return __wrap_lseek(fd, offset, whence);
}

/* Plain calls do less than was asked now and then, or are interrupted. */
static ssize_t transfer_now(struct sim_disk *disk, const struct iovec *vector, int count,
			    uint64_t offset, bool write)
{
	uint64_t most = UINT64_MAX;
	ssize_t total = 0;

	if (sim_one_in(sim_faults.interrupted))
		return (ssize_t)sim_answer(-EINTR);
	if (sim_one_in(sim_faults.short_transfer))
		most = sim_between(1, 8192);
	for (int i = 0; i < count && most; i++) {
		uint64_t part = vector[i].iov_len < most ? vector[i].iov_len : most;
		int64_t done = write ? sim_disk_write_now(disk, vector[i].iov_base, part, offset)
				     : sim_disk_read_now(disk, vector[i].iov_base, part, offset);

		if (done < 0)
			return total ? total : (ssize_t)sim_answer(done);
		total += (ssize_t)done;
		most -= (uint64_t)done;
		offset += (uint64_t)done;
		if ((uint64_t)done < part)
			break;
	}
	return total;
}

WRAPPED(ssize_t, preadv64, int fd, const struct iovec *vector, int count, off_t offset)
{
	struct sim_disk *disk = sim_disk_of(fd);

	if (!disk)
		return __real_preadv64(fd, vector, count, offset);
	return transfer_now(disk, vector, count, (uint64_t)offset, false);
}

/* Flags are for files whose writes go through the ring: by a thread, when that is stuck. */
WRAPPED(ssize_t, pwritev64v2, int fd, const struct iovec *vector, int count, off_t offset,
	int flags)
{
	struct sim_disk *disk = sim_disk_of(fd);
	uint64_t first;
	ssize_t done;

	if (!disk)
		return __real_pwritev64v2(fd, vector, count, offset, flags);
	if (!sim_disk_takes_flags(disk, (uint32_t)flags))
		return (ssize_t)sim_answer(-EOPNOTSUPP);
	if (!disk->in_memory && sim_one_in(sim_faults.disk_error))
		return (ssize_t)sim_answer(-EIO);
	first = disk->records;
	done = transfer_now(disk, vector, count, (uint64_t)offset, true);
	if (done > 0 && flags & RWF_DSYNC)
		sim_disk_keep_since(disk, first);
	return done;
}

/* Only to find out whether a flag is known. */
WRAPPED(ssize_t, preadv64v2, int fd, const struct iovec *vector, int count, off_t offset, int flags)
{
	struct sim_disk *disk = sim_disk_of(fd);

	if (!disk)
		return __real_preadv64v2(fd, vector, count, offset, flags);
	if (flags && !disk->knows_dontcache)
		return (ssize_t)sim_answer(-EOPNOTSUPP);
	return sim_disk_read_now(disk, vector[0].iov_base, vector[0].iov_len, (uint64_t)offset);
}

WRAPPED(int, posix_fadvise, int fd, off_t offset, off_t length, int advice)
{
	return sim_disk_of(fd) ? 0 : __real_posix_fadvise(fd, offset, length, advice);
}

int __wrap_posix_fadvise64(int fd, off_t offset, off_t length, int advice);
int __wrap_posix_fadvise64(int fd, off_t offset, off_t length, int advice)
{
	return __wrap_posix_fadvise(fd, offset, length, advice);
}
