/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Fuzz target: a disk's bytes into the partition table parser.
 *
 * Byte 0 chooses the sector size, where the disk ends, and whether the checksums of a
 * GPT are made right first (else hardly an input gets past them); the rest is the
 * beginning of the disk, which is zeroes behind it.  Whatever is found lies on the
 * disk, in whole sectors, and no two partitions share a byte.
 *
 *   clang -g -fsanitize=fuzzer,address,undefined -I. -Iinclude \
 *           tests/fuzz/fuzz-partition.c filters/partition-table.c src/stack/error.c
 */
#undef NDEBUG
#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "filters/partition-table.h"
#include "nbdring/checked.h"

#define NUMBERS 140u /* partitions that are asked for */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct bytes {
	uint8_t *data;
	size_t size;
	uint64_t disk_size;
};

static int read_bytes(void *context, uint64_t offset, uint64_t length, void *to,
		      struct nr_error *error)
{
	const struct bytes *b = context;
	size_t known;

	assert(length > 0);
	assert(nr_in_range(offset, length, b->disk_size));
	known = offset < b->size ? nr_min(b->size - offset, length) : 0;
	if (known)
		memcpy(to, b->data + offset, known);
	memset((uint8_t *)to + known, 0, length - known);
	return 0;
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

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct nr_partition found[NUMBERS];
	struct bytes b = { NULL, size, 0 };
	struct nr_partition_disk disk = { .read = read_bytes, .context = &b };
	size_t count = 0;
	uint8_t how;

	if (size < 1)
		return 0;
	how = *data++;
	b.size = size - 1;
	b.data = malloc(b.size ? b.size : 1);
	assert(b.data);
	memcpy(b.data, data, b.size);
	disk.sector = how & 1 ? 4096 : 512;
	disk.size = how & 2 ? b.size : how & 4 ? NR_SIZE_MAX : (uint64_t)1 << 30;
	b.disk_size = disk.size;
	if (how & 8)
		seal(&b, disk.sector);
	for (unsigned number = 0; number < NUMBERS; number++) {
		struct nr_partition *p = &found[count];
		struct nr_error error = { 0 };

		if (nr_partition_find(&disk, number, p, &error)) {
			assert(error.code < 0);
			assert(error.text[0]);
			if (number > 0 && count == 0 && error.code != -ENOENT)
				break; /* the table is refused: no need to ask on */
			continue;
		}
		assert(number > 0);
		assert(p->length > 0);
		assert(p->offset % disk.sector == 0);
		assert(p->length % disk.sector == 0);
		assert(nr_in_range(p->offset, p->length, disk.size));
		for (size_t i = 0; i < count; i++)
			assert(p->offset >= found[i].offset + found[i].length ||
			       found[i].offset >= p->offset + p->length);
		count++;
	}
	free(b.data);
	return 0;
}
