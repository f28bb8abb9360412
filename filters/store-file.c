/* SPDX-License-Identifier: BSD-3-Clause */
/* See store-file.h.  All of this may block: it is for opening and closing. */
#include "filters/store-file.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define CRC_AT 12u

uint32_t nr_store_crc(uint32_t so_far, const void *data, size_t length)
{
	/* Four bits at a time: the table is small, and heads are, too. */
	static const uint32_t table[16] = {
		0x00000000, 0x105ec76f, 0x20bd8ede, 0x30e349b1, 0x417b1dbc, 0x5125dad3,
		0x61c69362, 0x7198540d, 0x82f63b78, 0x92a8fc17, 0xa24bb5a6, 0xb21572c9,
		0xc38d26c4, 0xd3d3e1ab, 0xe330a81a, 0xf36e6f75,
	};
	const uint8_t *p = data;
	uint32_t crc = ~so_far;

	for (size_t i = 0; i < length; i++) {
		crc = table[(crc ^ p[i]) & 15] ^ crc >> 4;
		crc = table[(crc ^ p[i] >> 4) & 15] ^ crc >> 4;
	}
	return ~crc;
}

uint64_t nr_store_get_u64(const uint8_t *p)
{
	uint64_t value = 0;

	for (unsigned i = 0; i < 8; i++)
		value |= (uint64_t)p[i] << 8 * i;
	return value;
}

uint32_t nr_store_get_u32(const uint8_t *p)
{
	return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

void nr_store_put_u64(uint8_t *p, uint64_t value)
{
	for (unsigned i = 0; i < 8; i++)
		p[i] = (uint8_t)(value >> 8 * i);
}

void nr_store_put_u32(uint8_t *p, uint32_t value)
{
	for (unsigned i = 0; i < 4; i++)
		p[i] = (uint8_t)(value >> 8 * i);
}

static uint32_t head_crc(const uint8_t *head)
{
	static const uint8_t none[4];
	uint32_t crc = nr_store_crc(0, head, CRC_AT);

	crc = nr_store_crc(crc, none, sizeof(none));
	return nr_store_crc(crc, head + CRC_AT + 4, NR_STORE_HEAD_BYTES - CRC_AT - 4);
}

void nr_store_seal(const struct nr_store_kind *kind, uint8_t *head)
{
	memcpy(head, kind->magic, sizeof(kind->magic));
	nr_store_put_u32(head + 8, kind->version);
	nr_store_put_u32(head + CRC_AT, head_crc(head));
}

int nr_store_check(const struct nr_store_kind *kind, const uint8_t *head, const char *shown,
		   struct nr_error *error)
{
	uint32_t version = nr_store_get_u32(head + 8);

	if (memcmp(head, kind->magic, sizeof(kind->magic)) != 0)
		return nr_error_set(error, -EINVAL,
				    "%s is not %s; name another file, or one that does not exist",
				    shown, kind->name);
	if (version != kind->version)
		return nr_error_set(error, -EINVAL,
				    "%s is %s of version %u, and this server has version %u; use "
				    "the server that made it",
				    shown, kind->name, version, kind->version);
	if (nr_store_get_u32(head + CRC_AT) != head_crc(head))
		return nr_error_set(error, -EINVAL,
				    "%s is damaged: the checksum of its head is wrong", shown);
	return 0;
}

static int lock(int fd, bool read_only, const char *path, struct nr_error *error)
{
	struct flock whole = { .l_type = read_only ? F_RDLCK : F_WRLCK, .l_whence = SEEK_SET };

	if (fcntl(fd, F_OFD_SETLK, &whole) == 0)
		return 0;
	if (errno == EAGAIN || errno == EACCES)
		return nr_error_set(
			error, -EBUSY,
			"%s is in use: by another server, or another export of this one", path);
	return nr_error_system(error, -errno, "locking %s", path);
}

int nr_store_open(const char *path, bool read_only, uint64_t *size, struct nr_error *error)
{
	int fd = open(path,
		      (read_only ? O_RDONLY : O_RDWR | O_CREAT) | O_CLOEXEC | O_NONBLOCK | O_NOCTTY,
		      0600);
	struct stat st;
	int err = 0;

	if (fd < 0)
		return nr_error_system(error, -errno, "%s", path);
	if (fstat(fd, &st) < 0)
		err = nr_error_system(error, -errno, "%s", path);
	else if (!S_ISREG(st.st_mode))
		err = nr_error_set(error, -EINVAL, "%s is not a regular file", path);
	if (!err)
		err = lock(fd, read_only, path, error);
	/* Only now: who had the lock may have made it longer. */
	if (!err && fstat(fd, &st) < 0)
		err = nr_error_system(error, -errno, "%s", path);
	if (err) {
		(void)close(fd);
		return err;
	}
	*size = (uint64_t)st.st_size;
	return fd;
}

int nr_store_begin(const struct nr_store_kind *kind, int fd)
{
	uint8_t head[NR_STORE_HEAD_BYTES] = { 0 };
	int err;

	nr_store_seal(kind, head);
	err = nr_store_write(fd, 0, head, sizeof(head));
	return err ? err : fdatasync(fd) < 0 ? -errno : 0;
}

static bool is_zero(const uint8_t *p, size_t length)
{
	return p[0] == 0 && memcmp(p, p + 1, length - 1) == 0;
}

bool nr_store_is_unfinished(const struct nr_store_kind *kind, const uint8_t *head, uint64_t length)
{
	if (length <= NR_STORE_HEAD_BYTES && is_zero(head, NR_STORE_HEAD_BYTES))
		return true;
	return nr_store_check(kind, head, "", NULL) == 0 &&
	       is_zero(head + NR_STORE_HEAD_OWN, NR_STORE_HEAD_BYTES - NR_STORE_HEAD_OWN);
}

int nr_store_read(int fd, uint64_t offset, void *data, size_t length)
{
	for (size_t done = 0; done < length;) {
		ssize_t got = pread(fd, (char *)data + done, length - done, (off_t)(offset + done));

		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return got < 0 ? -errno : -EIO;
		done += (size_t)got;
	}
	return 0;
}

int nr_store_write(int fd, uint64_t offset, const void *data, size_t length)
{
	for (size_t done = 0; done < length;) {
		ssize_t put = pwrite(fd, (const char *)data + done, length - done,
				     (off_t)(offset + done));

		if (put < 0 && errno == EINTR)
			continue;
		if (put <= 0)
			return put < 0 ? -errno : -EIO;
		done += (size_t)put;
	}
	return 0;
}
