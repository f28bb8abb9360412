/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Opening one file, and finding out everything about it that later decides how
 * its requests are carried out.  Nothing here is asked again per request.
 *
 * What is looked at first is the kind of file, through a descriptor that cannot
 * do I/O (O_PATH): opening a tape or a pipe for real can have effects or block
 * for ever.
 *
 * A file that may not be written to is opened for reading, and the export is
 * read-only: that is what a person who serves a read-only image expects.
 *
 * Threads: all of this may block and runs where that is allowed.
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "backends/file.h"
#include "nbdring/checked.h"

#ifndef XFS_SUPER_MAGIC
#define XFS_SUPER_MAGIC 0x58465342
#endif

#define PREFERRED_MIN 4096u
#define DIRECT_ALIGN_MIN 512u
#define RESOLVE_TRIES 16

/*
 * What is known of file systems.  Where a worker may look for holes: extents are in
 * memory once they have been looked at, so that asking does not wait
 * (docs/decisions/0011).  And which begin a buffered write without a thread.  Of others
 * (NFS, FUSE, ZFS, overlays of anything) none of it is believed.
 */
static const struct {
	uint32_t magic;
	enum nr_lookup lookup;
	bool in_memory, begins_writes;
} file_systems[] = {
	{ EXT4_SUPER_MAGIC, NR_LOOKUP_BOTH, false, false }, /* ext2 and ext3 too */
	{ XFS_SUPER_MAGIC, NR_LOOKUP_BOTH, false, true },
	{ BTRFS_SUPER_MAGIC, NR_LOOKUP_BOTH, false, true },
	{ F2FS_SUPER_MAGIC, NR_LOOKUP_BOTH, false, false },
	{ TMPFS_MAGIC, NR_LOOKUP_DATA, true, false },
	{ RAMFS_MAGIC, NR_LOOKUP_NONE, true, false },
};

int nr_file_raw_open(int directory, const char *name, bool beneath, int flags)
{
	struct open_how how = { .flags = (uint64_t)(unsigned)(flags | O_CLOEXEC),
				.resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS };
	int fd;

	if (!beneath) {
		fd = openat(directory, name, flags | O_CLOEXEC);
		return fd < 0 ? -errno : fd;
	}
	/* EAGAIN: something was renamed meanwhile, and the kernel could not be sure. */
	for (unsigned i = 0; i < RESOLVE_TRIES; i++) {
		fd = (int)syscall(SYS_openat2, directory, name, &how, sizeof(how));
		if (fd >= 0 || errno != EAGAIN)
			break;
	}
	/* Forbidden in an old container: then links are not followed at all. */
	if (fd < 0 && errno == ENOSYS)
		fd = openat(directory, name, flags | O_CLOEXEC | O_NOFOLLOW);
	return fd < 0 ? -errno : fd;
}

/* ---- what kind of file it is ------------------------------------------- */

static int check_kind(const struct stat *st, const char *shown, struct nr_error *error)
{
	const char *kind;

	switch (st->st_mode & S_IFMT) {
	case S_IFREG:
	case S_IFBLK:
		return 0;
	case S_IFDIR:
		return nr_error_set(error, -EISDIR,
				    "%s is a directory; use dir=%s to serve the files in it", shown,
				    shown);
	case S_IFCHR:
		kind = "a character device";
		break;
	case S_IFIFO:
		kind = "a pipe";
		break;
	case S_IFSOCK:
		kind = "a socket";
		break;
	default:
		kind = "of an unknown kind";
	}
	return nr_error_set(error, -EINVAL,
			    "%s is %s; only regular files and block devices can be served", shown,
			    kind);
}

/* Opening for writing failed with ERR: is the file good for reading perhaps? */
static bool only_writing_refused(int err)
{
	return err == -EACCES || err == -EROFS || err == -EPERM || err == -ETXTBSY;
}

static int open_checked(struct nr_file *file, int directory, const char *name, bool beneath,
			bool read_only, struct nr_error *error)
{
	int fd = nr_file_raw_open(directory, name, beneath, O_PATH);
	struct stat st;
	int err;

	if (fd < 0)
		return nr_error_system(error, fd, "%s", file->shown);
	err = fstat(fd, &st) < 0 ? nr_error_system(error, -errno, "%s", file->shown)
				 : check_kind(&st, file->shown, error);
	(void)close(fd);
	if (err)
		return err;

	fd = -EROFS;
	if (!read_only)
		fd = nr_file_raw_open(directory, name, beneath, O_RDWR | O_NOCTTY);
	file->writable = fd >= 0;
	if (fd < 0 && only_writing_refused(fd))
		fd = nr_file_raw_open(directory, name, beneath, O_RDONLY | O_NOCTTY);
	if (fd < 0)
		return nr_error_system(error, fd, "%s", file->shown);
	file->fd = fd;
	return 0;
}

/* ---- facts about it ---------------------------------------------------- */

/* A number from the queue folder of the disk under DEVICE, a partition's too. */
static bool queue_value(dev_t device, const char *name, uint64_t *value)
{
	static const char *const places[] = { "", "../" };
	char path[128];
	FILE *from = NULL;
	bool good;

	for (unsigned i = 0; i < 2 && !from; i++) {
		snprintf(path, sizeof(path), "/sys/dev/block/%u:%u/%squeue/%s", major(device),
			 minor(device), places[i], name);
		from = fopen(path, "re");
	}
	if (!from)
		return false;
	good = fscanf(from, "%" SCNu64, value) == 1;
	(void)fclose(from);
	return good;
}

/* N as a power of two between LOW and HIGH. */
static uint32_t power_of_2(uint64_t n, uint32_t low, uint32_t high)
{
	uint32_t power = low;

	while (power < high && (uint64_t)power * 2 <= n)
		power *= 2;
	return power;
}

/* What direct I/O would need; stays 0 where the system does not say. */
static int direct_alignment(struct nr_file *file)
{
#ifdef STATX_DIOALIGN
	struct statx stx;

	memset(&stx, 0, sizeof(stx));
	if (statx(file->fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &stx) < 0 ||
	    !(stx.stx_mask & STATX_DIOALIGN))
		return 0;
	if (stx.stx_dio_offset_align == 0)
		return -EOPNOTSUPP;
	file->io_align = stx.stx_dio_offset_align;
	file->memory_align = stx.stx_dio_mem_align;
#endif
	return 0;
}

static int examine_device(struct nr_file *file, const struct stat *st)
{
	uint64_t zeroes = 0;
	unsigned optimal = 0;
	int sector = 512, locked = 0;

	if (nr_file_size_now(file, &file->size) < 0)
		return -errno;
	(void)ioctl(file->fd, BLKSSZGET, &sector);
	(void)ioctl(file->fd, BLKIOOPT, &optimal);
	if (ioctl(file->fd, BLKROGET, &locked) == 0 && locked)
		file->writable = false;
	file->unit = power_of_2((uint64_t)(sector > 0 ? sector : 512), 512, NR_BLOCK_MIN_MAX);
	file->block = file->unit;
	file->preferred = power_of_2(optimal, PREFERRED_MIN, NR_TRANSFER_MAX);
	(void)queue_value(st->st_rdev, "write_zeroes_max_bytes", &zeroes);
	file->fast_zero = zeroes > 0;
	return 0;
}

static int examine_regular(struct nr_file *file, const struct stat *st)
{
	struct statfs fs;

	if (fstatfs(file->fd, &fs) < 0)
		return -errno;
	file->size = (uint64_t)st->st_size;
	file->unit = 1;
	file->block = power_of_2((uint64_t)fs.f_bsize, 512, NR_BLOCK_MIN_MAX);
	file->preferred = power_of_2((uint64_t)st->st_blksize, PREFERRED_MIN, NR_TRANSFER_MAX);
	file->fast_zero = true;
	file->lookup = NR_LOOKUP_NONE;
	for (unsigned i = 0; i < sizeof(file_systems) / sizeof(file_systems[0]); i++) {
		if (file_systems[i].magic != (uint32_t)fs.f_type)
			continue;
		file->lookup = file_systems[i].lookup;
		file->in_memory = file_systems[i].in_memory;
		file->begins_writes = file_systems[i].begins_writes;
	}
	return 0;
}

static int examine(struct nr_file *file, struct nr_error *error)
{
	uint64_t rotational = 0;
	struct stat st;
	int err;

	if (fstat(file->fd, &st) < 0)
		return nr_error_system(error, -errno, "%s", file->shown);
	err = check_kind(&st, file->shown, error);
	if (err)
		return err;
	file->block_device = S_ISBLK(st.st_mode);
	err = file->block_device ? examine_device(file, &st) : examine_regular(file, &st);
	if (err)
		return nr_error_system(error, err, "%s", file->shown);
	if (file->size > NR_SIZE_MAX)
		return nr_error_set(error, -EFBIG, "%s is longer than 2^63-1 bytes", file->shown);
	(void)queue_value(file->block_device ? st.st_rdev : st.st_dev, "rotational", &rotational);
	file->rotational = rotational != 0;
	return 0;
}

int nr_file_size_now(const struct nr_file *file, uint64_t *size)
{
	struct stat st;

	if (file->block_device)
		return ioctl(file->fd, BLKGETSIZE64, size) < 0 ? -errno : 0;
	if (fstat(file->fd, &st) < 0)
		return -errno;
	*size = (uint64_t)st.st_size;
	return 0;
}

/*
 * Which file it is, and when it was written to and changed otherwise.  Writes to a block
 * device leave no trace in its node.
 */
bool nr_file_identify(const struct nr_file *file, uint8_t identity[NR_IDENTITY_BYTES])
{
	uint64_t parts[4];
	struct stat st;

	static_assert(sizeof(parts) == NR_IDENTITY_BYTES, "no more and no less");
	if (file->block_device || fstat(file->fd, &st) < 0)
		return false;
	parts[0] = st.st_dev;
	parts[1] = st.st_ino;
	parts[2] = (uint64_t)st.st_mtim.tv_sec * 1000000000 + (uint64_t)st.st_mtim.tv_nsec;
	parts[3] = (uint64_t)st.st_ctim.tv_sec * 1000000000 + (uint64_t)st.st_ctim.tv_nsec;
	memcpy(identity, parts, sizeof(parts));
	return true;
}

/* ---- opening ----------------------------------------------------------- */

static int finish_opening(struct nr_file *file, struct nr_error *error)
{
	int err = examine(file, error);

	if (err)
		nr_file_close(file);
	return err;
}

int nr_file_open(struct nr_file *file, int directory, const char *name, bool beneath,
		 bool read_only, const char *shown, struct nr_error *error)
{
	int err;

	memset(file, 0, sizeof(*file));
	file->fd = -1;
	file->shown = shown;
	err = open_checked(file, directory, name, beneath, read_only, error);
	return err ? err : finish_opening(file, error);
}

static int check_inherited(int fd, int flags, const char *shown, struct nr_error *error)
{
	if (flags < 0)
		return nr_error_set(error, -EBADF,
				    "%s is not open; the program that starts the server has to "
				    "pass it on",
				    shown);
	if (flags & O_PATH || (flags & O_ACCMODE) == O_WRONLY)
		return nr_error_set(error, -EBADF, "%s is not open for reading", shown);
	/* The kernel would write everything at the end, whatever the offset. */
	if (flags & O_APPEND)
		return nr_error_set(error, -EINVAL,
				    "%s is open for appending only; open it without O_APPEND",
				    shown);
	/* Means nothing for files but makes the ring give up instead of waiting. */
	if (flags & O_NONBLOCK)
		(void)fcntl(fd, F_SETFL, flags & ~O_NONBLOCK);
	return 0;
}

int nr_file_open_inherited(struct nr_file *file, int fd, bool read_only, const char *shown,
			   struct nr_error *error)
{
	int flags = fcntl(fd, F_GETFL);
	int err;

	memset(file, 0, sizeof(*file));
	file->fd = -1;
	file->shown = shown;
	file->inherited = true;
	err = check_inherited(fd, flags, shown, error);
	if (err)
		return err;
	file->writable = !read_only && (flags & O_ACCMODE) == O_RDWR;
	file->fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	if (file->fd < 0)
		return nr_error_system(error, -errno, "%s", shown);
	return finish_opening(file, error);
}

void nr_file_close(struct nr_file *file)
{
	if (file->fd >= 0)
		(void)close(file->fd);
	file->fd = -1;
}

/* ---- direct I/O, and I/O that leaves nothing in the cache -------------- */

bool nr_file_takes_dontcache(const struct nr_file *file)
{
	struct iovec vector;
	uint8_t byte;

	vector = (struct iovec){ &byte, 1 };
	return preadv2(file->fd, &vector, 1, 0, RWF_DONTCACHE) >= 0;
}

static int refuse_direct(const struct nr_file *file, struct nr_error *error)
{
	return nr_error_set(error, -EOPNOTSUPP,
			    "%s: cache=none is not possible, its file system does not offer "
			    "direct I/O; use cache=writeback or cache=dontcache",
			    file->shown);
}

/* An open file of our own, because O_DIRECT would be seen by whom it came from. */
static int reopen(struct nr_file *file, struct nr_error *error)
{
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", file->fd);
	fd = open(path, (file->writable ? O_RDWR : O_RDONLY) | O_CLOEXEC | O_NOCTTY);
	if (fd < 0)
		return nr_error_system(error, -errno, "%s cannot be opened again for cache=none",
				       file->shown);
	(void)close(file->fd);
	file->fd = fd;
	file->inherited = false;
	return 0;
}

/* The least that can be read at once. */
static int try_alignment(struct nr_file *file)
{
	uint32_t align = DIRECT_ALIGN_MIN;
	ssize_t got = -1;
	void *memory;

	if (posix_memalign(&memory, NR_BLOCK_MIN_MAX, NR_BLOCK_MIN_MAX) != 0)
		return -ENOMEM;
	for (; align <= NR_BLOCK_MIN_MAX; align *= 2) {
		got = pread(file->fd, memory, align, 0);
		if (got >= 0 || errno != EINVAL)
			break;
	}
	free(memory);
	if (got < 0)
		return -EOPNOTSUPP;
	/* An empty file says nothing. */
	file->io_align = got > 0 ? align : 4096;
	file->memory_align = (uint32_t)nr_min(file->io_align, 4096);
	return 0;
}

int nr_file_set_direct(struct nr_file *file, struct nr_error *error)
{
	int err = direct_alignment(file);

	if (err)
		return refuse_direct(file, error);
	err = file->inherited ? reopen(file, error) : 0;
	if (err)
		return err;
	if (fcntl(file->fd, F_SETFL, fcntl(file->fd, F_GETFL) | O_DIRECT) < 0)
		return refuse_direct(file, error);
	if (file->io_align == 0 && try_alignment(file) < 0)
		return refuse_direct(file, error);
	if (!nr_is_power_of_2(file->io_align) || file->io_align > NR_BLOCK_MIN_MAX ||
	    !nr_is_power_of_2(file->memory_align) || file->memory_align > 4096)
		return nr_error_set(error, -EOPNOTSUPP,
				    "%s: cache=none is not possible, its direct I/O works in units "
				    "of %u bytes; use cache=writeback or cache=dontcache",
				    file->shown, file->io_align);
	return 0;
}

void nr_file_clear_direct(struct nr_file *file)
{
	(void)fcntl(file->fd, F_SETFL, fcntl(file->fd, F_GETFL) & ~O_DIRECT);
}
