/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Fuzz target: a disk's bytes into the partition table parser.
 *
 * Byte 0 chooses the sector size, where the disk ends, whether the checksums of a GPT
 * are made right first (else hardly an input gets past them), and whether and when
 * reading fails; the rest is the beginning of the disk, which is zeroes behind it.  Of
 * sectors of 4096 bytes it has the first 512, so that inputs can be short.
 * Whatever is found lies on the disk, in whole sectors, no two partitions share a byte,
 * and the disk is read a bounded number of times.
 */
#include <endian.h>
#include <errno.h>

#include "filters/partition-table.h"
#include "nbdring/checked.h"
#include "tests/fuzz/fuzz.h"

#define NUMBERS 140u    /* partitions that are asked for */
#define FILLED 512u     /* bytes of each sector that the input has */
#define READS_MAX 4096u /* of the disk for one of them */

struct bytes {
	uint8_t *data;
	size_t size;
	uint64_t disk_size;
	unsigned reads;   /* so far */
	unsigned fail_at; /* that read fails; 0: none */
};

static int read_bytes(void *context, uint64_t offset, uint64_t length, void *to,
		      struct nr_error *error)
{
	struct bytes *b = context;
	size_t known;

	assert(length > 0);
	assert(nr_in_range(offset, length, b->disk_size));
	/* A chain that comes back to itself would be read for ever. */
	assert(b->reads < READS_MAX);
	if (++b->reads == b->fail_at)
		return nr_error_set(error, -EIO, "a bad sector");
	known = offset < b->size ? nr_min(b->size - offset, length) : 0;
	if (known)
		memcpy(to, b->data + offset, known);
	memset((uint8_t *)to + known, 0, length - known);
	return 0;
}

static void fill_disk(struct bytes *b, const uint8_t *data, size_t size, uint32_t sector)
{
	size_t last = size % FILLED;

	b->size = size / FILLED * sector + last;
	b->data = calloc(1, b->size ? b->size : 1);
	assert(b->data);
	for (size_t i = 0; i < size; i += FILLED)
		memcpy(b->data + i / FILLED * sector, data + i, nr_min(FILLED, size - i));
}

static uint32_t get32(const uint8_t *p)
{
	uint32_t n;

	memcpy(&n, p, sizeof(n));
	return le32toh(n);
}

static void put32(uint8_t *p, uint32_t n)
{
	n = htole32(n);
	memcpy(p, &n, sizeof(n));
}

/* Make the checksums of the header in sector 1 right, as far as it is there. */
static void seal(struct bytes *b, uint32_t sector)
{
	uint8_t *header = b->data + sector;
	uint64_t entries, bytes;
	uint32_t header_bytes;

	if (b->size < 2 * (size_t)sector)
		return;
	memcpy(&entries, header + 72, sizeof(entries));
	entries = le64toh(entries);
	bytes = (uint64_t)get32(header + 80) * get32(header + 84);
	if (nr_mul(entries, sector, &entries) && nr_in_range(entries, bytes, b->size))
		put32(header + 88, nr_partition_crc32(b->data + entries, bytes));
	header_bytes = get32(header + 12);
	if (header_bytes > sector)
		return;
	put32(header + 16, 0);
	put32(header + 16, nr_partition_crc32(header, header_bytes));
}

/* Partitions share no byte and lie on the disk, in whole sectors. */
static void check_partition(const struct nr_partition_disk *disk, const struct nr_partition *found,
			    size_t count)
{
	const struct nr_partition *p = &found[count];

	assert(p->length > 0);
	assert(p->offset % disk->sector == 0);
	assert(p->length % disk->sector == 0);
	assert(nr_in_range(p->offset, p->length, disk->size));
	for (size_t i = 0; i < count; i++)
		assert(p->offset >= found[i].offset + found[i].length ||
		       found[i].offset >= p->offset + p->length);
}

/* Does the MBR say that there is a GPT? */
static bool is_gpt(const struct bytes *b)
{
	for (unsigned i = 0; i < 4; i++)
		if (b->size > 450 + 16 * i && b->data[450 + 16 * i] == 0xee)
			return true;
	return false;
}

static void find_all(const struct nr_partition_disk *disk, struct bytes *b)
{
	struct nr_partition found[NUMBERS];
	size_t count = 0;

	for (unsigned number = 0; number < NUMBERS; number++) {
		struct nr_error error = { 0 };
		int err;

		b->reads = 0;
		err = nr_partition_find(disk, number, &found[count], &error);
		/* What cannot be read is not passed over, but a GPT has a copy of it. */
		if (b->fail_at && b->reads >= b->fail_at && !(b->fail_at > 1 && is_gpt(b)))
			assert(err == -EIO);
		if (err) {
			assert(err == error.code);
			fuzz_check_error(&error);
			if (number > 0 && count == 0 && err != -ENOENT)
				break; /* the table is refused: no need to ask on */
			continue;
		}
		assert(number > 0);
		check_partition(disk, found, count++);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct bytes b = { .data = NULL };
	struct nr_partition_disk disk = { .read = read_bytes, .context = &b };
	uint8_t how;

	if (size < 1)
		return 0;
	how = *data++;
	disk.sector = how & 1 ? 4096 : 512;
	fill_disk(&b, data, size - 1, disk.sector);
	disk.size = how & 2 ? b.size : how & 4 ? NR_SIZE_MAX : (uint64_t)1 << 30;
	b.disk_size = disk.size;
	if (how & 8)
		seal(&b, disk.sector);
	b.fail_at = how & 16 ? 1 + (how >> 5) : 0;
	find_all(&disk, &b);
	free(b.data);
	return 0;
}
