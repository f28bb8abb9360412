/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Reading partition tables that may say anything.
 *
 * Every partition (and, with an MBR, every sector that holds a part of the chain of
 * logical partitions) becomes an item of one list; each kind of table adds its own,
 * which checks that it lies inside the disk.  Then the list is sorted and neighbours
 * must not overlap.  Sizes are checked before they are used: a number from the disk
 * multiplies, adds or allocates nothing before it is known to fit.
 */
#include "filters/partition-table.h"

#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "nbdring/checked.h"

#define MBR_BYTES 512u /* of its sector, whatever that has */
#define MBR_ENTRIES 446u
#define MBR_ENTRY 16u
#define LOGICAL_MAX 128u /* logical partitions of one disk */

#define GPT_HEADER 92u              /* bytes of it that are defined */
#define GPT_ENTRY 128u              /* bytes of an entry that are defined */
#define GPT_ARRAY_MAX (1024 * 1024) /* bytes; the usual is 16384 */
#define GPT_PROTECTIVE 0xee

struct item {
	uint64_t offset, length; /* bytes */
	uint32_t number;         /* of the partition; 0: part of the table itself */
};

struct table {
	const struct nr_partition_disk *disk;
	struct nr_error *error;
	struct item *items;
	size_t count, room;
};

/* Numbers on disk are little-endian and anywhere. */

static uint32_t get32(const uint8_t *p)
{
	uint32_t n;

	memcpy(&n, p, sizeof(n));
	return le32toh(n);
}

static uint64_t get64(const uint8_t *p)
{
	uint64_t n;

	memcpy(&n, p, sizeof(n));
	return le64toh(n);
}

uint32_t nr_partition_crc32(const void *data, size_t length)
{
	static const uint32_t nibble[16] = {
		0x00000000, 0x1db71064, 0x3b6e20c8, 0x26d930ac, 0x76dc4190, 0x6b6b51f4,
		0x4db26158, 0x5005713c, 0xedb88320, 0xf00f9344, 0xd6d6a3e8, 0xcb61b38c,
		0x9b64c2b0, 0x86d3d2d4, 0xa00ae278, 0xbdbdf21c,
	};
	const uint8_t *p = data;
	uint32_t crc = UINT32_MAX;

	while (length--) {
		crc ^= *p++;
		crc = crc >> 4 ^ nibble[crc & 15];
		crc = crc >> 4 ^ nibble[crc & 15];
	}
	return ~crc;
}

static int read_disk(const struct table *t, uint64_t offset, uint64_t length, void *data)
{
	if (!nr_in_range(offset, length, t->disk->size))
		return nr_error_set(t->error, -EINVAL,
				    "the disk has %" PRIu64 " bytes and the table points to byte "
				    "%" PRIu64,
				    t->disk->size, offset);
	return t->disk->read(t->disk->context, offset, length, data, t->error);
}

static int add_item(struct table *t, uint32_t number, uint64_t offset, uint64_t length)
{
	if (t->count == t->room) {
		size_t room = t->room ? t->room * 2 : 64;
		struct item *more = realloc(t->items, room * sizeof(*more));

		if (!more)
			return nr_error_system(t->error, -ENOMEM, "reading the partition table");
		t->items = more;
		t->room = room;
	}
	t->items[t->count++] = (struct item){ offset, length, number };
	return 0;
}

/* SECTORS from sector FIRST on, as partition NUMBER; inside [0, LIMIT) bytes. */
static int add_sectors(struct table *t, uint32_t number, uint64_t first, uint64_t sectors,
		       uint64_t limit, const char *limited_by)
{
	uint64_t offset, length;

	if (!nr_mul(first, t->disk->sector, &offset) ||
	    !nr_mul(sectors, t->disk->sector, &length) || !nr_in_range(offset, length, limit))
		return nr_error_set(t->error, -EINVAL,
				    "partition %" PRIu32 " (%" PRIu64 " sectors of %" PRIu32
				    " bytes from sector %" PRIu64
				    " on) reaches beyond the end of %s; is partition-sectorsize= "
				    "right?",
				    number, sectors, t->disk->sector, first, limited_by);
	return add_item(t, number, offset, length);
}

static int by_offset(const void *a, const void *b)
{
	const struct item *x = a, *y = b;

	return (x->offset > y->offset) - (x->offset < y->offset);
}

static const char *item_name(const struct item *item, char text[32])
{
	if (item->number)
		snprintf(text, 32, "partition %" PRIu32, item->number);
	else
		snprintf(text, 32, "the partition table");
	return text;
}

/* Sorts the items.  None has length 0, and all ends fit. */
static int check_overlap(struct table *t)
{
	char one[32], other[32];

	if (t->count)
		qsort(t->items, t->count, sizeof(*t->items), by_offset);
	for (size_t i = 1; i < t->count; i++) {
		const struct item *a = &t->items[i - 1], *b = &t->items[i];

		if (a->offset + a->length > b->offset)
			return nr_error_set(t->error, -EINVAL,
					    "%s and %s overlap at byte %" PRIu64
					    "; to serve one of them all the same use "
					    "--filter=offset with offset= and range=",
					    item_name(a, one), item_name(b, other), b->offset);
	}
	return 0;
}

/* MBR. */

struct mbr_entry {
	uint8_t status, type;
	uint64_t first, sectors;
};

static struct mbr_entry mbr_entry(const uint8_t *sector, unsigned slot)
{
	const uint8_t *p = sector + MBR_ENTRIES + (size_t)slot * MBR_ENTRY;

	assert(sector);
	return (struct mbr_entry){ p[0], p[4], get32(p + 8), get32(p + 12) };
}

static bool is_used(const struct mbr_entry *e)
{
	return e->type != 0 && e->sectors != 0;
}

static bool is_extended(const struct mbr_entry *e)
{
	return is_used(e) && (e->type == 0x05 || e->type == 0x0f || e->type == 0x85);
}

static bool has_signature(const uint8_t *sector)
{
	return sector[510] == 0x55 && sector[511] == 0xaa;
}

/* The chain came to SECTOR: a new link, inside the extended partition. */
static int check_link(const struct table *t, const struct mbr_entry *extended, uint64_t sector)
{
	uint64_t offset = sector * t->disk->sector;

	if (sector - extended->first >= extended->sectors)
		return nr_error_set(t->error, -EINVAL,
				    "the chain of logical partitions leaves the extended partition "
				    "for sector %" PRIu64,
				    sector);
	for (size_t i = 0; i < t->count; i++)
		if (t->items[i].number == 0 && t->items[i].offset == offset)
			return nr_error_set(t->error, -ELOOP,
					    "the chain of logical partitions comes back to sector "
					    "%" PRIu64,
					    sector);
	return 0;
}

static int add_logicals(struct table *t, const struct mbr_entry *extended)
{
	uint64_t end = (extended->first + extended->sectors) * t->disk->sector;
	uint64_t at = extended->first; /* cannot overflow: sums of few 32-bit numbers */
	uint32_t number = 5;

	for (unsigned links = 0; links < LOGICAL_MAX; links++) {
		uint8_t sector[MBR_BYTES] = { 0 };
		struct mbr_entry logical, next;
		int err = check_link(t, extended, at);

		if (!err)
			err = read_disk(t, at * t->disk->sector, MBR_BYTES, sector);
		if (err)
			return err;
		if (!has_signature(sector))
			return nr_error_set(t->error, -EINVAL,
					    "sector %" PRIu64 " should hold the next logical "
					    "partition and has no signature",
					    at);
		logical = mbr_entry(sector, 0);
		next = mbr_entry(sector, 1);
		err = add_item(t, 0, at * t->disk->sector, t->disk->sector);
		if (!err && is_used(&logical))
			err = add_sectors(t, number++, at + logical.first, logical.sectors, end,
					  "the extended partition");
		if (err)
			return err;
		if (!is_extended(&next))
			return 0;
		at = extended->first + next.first;
	}
	return nr_error_set(t->error, -EINVAL, "there are more than %u logical partitions",
			    LOGICAL_MAX);
}

static int find_mbr(struct table *t, const uint8_t *sector, uint64_t wanted)
{
	struct mbr_entry extended = { 0 };
	unsigned slot_of_extended = 0;
	int err = 0;

	for (unsigned slot = 0; slot < 4 && !err; slot++) {
		struct mbr_entry e = mbr_entry(sector, slot);

		if (e.status & 0x7f)
			return nr_error_set(t->error, -EINVAL,
					    "there is no partition table: sector 0 looks like that "
					    "of a file system");
		if (!is_used(&e))
			continue;
		err = add_sectors(t, slot + 1, e.first, e.sectors, t->disk->size, "the disk");
		if (!is_extended(&e))
			continue;
		if (slot_of_extended)
			return nr_error_set(t->error, -EINVAL,
					    "partitions %u and %u are both extended partitions",
					    slot_of_extended, slot + 1);
		slot_of_extended = slot + 1;
		extended = e;
	}
	if (!err)
		err = check_overlap(t);
	if (err || !slot_of_extended)
		return err;
	if (wanted == slot_of_extended)
		return nr_error_set(t->error, -EINVAL,
				    "partition %u is an extended partition, which holds the "
				    "partitions from 5 on",
				    slot_of_extended);
	/*
	 * It was compared with the primary ones; what it contains takes its place, to be
	 * compared with each other.
	 */
	for (size_t i = 0; i < t->count; i++)
		if (t->items[i].number == slot_of_extended)
			t->items[i] = t->items[--t->count];
	err = add_logicals(t, &extended);
	return err ? err : check_overlap(t);
}

/* GPT. */

struct gpt {
	uint64_t header, entries; /* sectors */
	uint32_t count, entry_size, crc;
	uint64_t first, last; /* sectors partitions may lie in */
};

/*
 * The header in sector LBA, if it is a sound one: 0 and what it says.  Else
 * negative errno and why not.
 */
static int read_header(const struct table *t, uint64_t lba, struct gpt *gpt)
{
	uint8_t header[4096];
	uint32_t bytes, crc;
	int err = read_disk(t, lba * t->disk->sector, t->disk->sector, header);

	if (err)
		return err;
	if (memcmp(header, "EFI PART", 8) != 0)
		return nr_error_set(t->error, -EINVAL, "there is no GPT header in sector %" PRIu64,
				    lba);
	bytes = get32(header + 12);
	if (bytes < GPT_HEADER || bytes > t->disk->sector)
		return nr_error_set(t->error, -EINVAL,
				    "the GPT header in sector %" PRIu64 " has %" PRIu32
				    " bytes, which is not from %u to %" PRIu32,
				    lba, bytes, GPT_HEADER, t->disk->sector);
	crc = get32(header + 16);
	memset(header + 16, 0, 4);
	if (nr_partition_crc32(header, bytes) != crc || get64(header + 24) != lba)
		return nr_error_set(t->error, -EINVAL,
				    "the checksum or place of the GPT header in sector %" PRIu64
				    " is wrong",
				    lba);
	gpt->header = lba;
	gpt->first = get64(header + 40);
	gpt->last = get64(header + 48);
	gpt->entries = get64(header + 72);
	gpt->count = get32(header + 80);
	gpt->entry_size = get32(header + 84);
	gpt->crc = get32(header + 88);
	return 0;
}

/* Read and check the array of entries; *ARRAY is the caller's to free. */
static int read_entries(const struct table *t, const struct gpt *gpt, uint8_t **array)
{
	uint64_t bytes = (uint64_t)gpt->count * gpt->entry_size, offset;
	int err;

	if (gpt->entry_size < GPT_ENTRY || gpt->entry_size % 8 || bytes == 0 ||
	    bytes > GPT_ARRAY_MAX)
		return nr_error_set(t->error, -EINVAL,
				    "a GPT of %" PRIu32 " entries of %" PRIu32
				    " bytes; entries have at least %u bytes, all at most %u",
				    gpt->count, gpt->entry_size, GPT_ENTRY, GPT_ARRAY_MAX);
	if (!nr_mul(gpt->entries, t->disk->sector, &offset))
		offset = UINT64_MAX;
	*array = malloc(bytes);
	if (!*array)
		return nr_error_system(t->error, -ENOMEM, "reading the partition table");
	err = read_disk(t, offset, bytes, *array);
	if (!err && nr_partition_crc32(*array, bytes) != gpt->crc)
		err = nr_error_set(t->error, -EINVAL,
				   "the checksum of the GPT entries in sector %" PRIu64 " is wrong",
				   gpt->entries);
	if (err) {
		free(*array);
		*array = NULL;
	}
	return err;
}

static int add_entry(struct table *t, const struct gpt *gpt, uint32_t number, const uint8_t *entry)
{
	static const uint8_t unused[16];
	uint64_t first = get64(entry + 32), last = get64(entry + 40);

	if (memcmp(entry, unused, sizeof(unused)) == 0)
		return 0;
	if (first > last || first < gpt->first || last > gpt->last)
		return nr_error_set(t->error, -EINVAL,
				    "partition %" PRIu32 " lies in sectors %" PRIu64 " to %" PRIu64
				    ", the table allows %" PRIu64 " to %" PRIu64,
				    number, first, last, gpt->first, gpt->last);
	/* Cannot overflow: last - first is UINT64_MAX only if both are off any disk. */
	if (last - first == UINT64_MAX)
		return nr_error_set(t->error, -EINVAL, "partition %" PRIu32 " has 2^64 sectors",
				    number);
	return add_sectors(t, number, first, last - first + 1, t->disk->size, "the disk");
}

/* Header and entries of the table whose header is in sector LBA, if they are sound. */
static int load_gpt(const struct table *t, uint64_t lba, struct gpt *gpt, uint8_t **array)
{
	int err = read_header(t, lba, gpt);

	return err ? err : read_entries(t, gpt, array);
}

/* Would a header be where the other sector size puts it? */
static bool has_other_sectors(const struct table *t)
{
	uint32_t other = t->disk->sector == 512 ? 4096 : 512;
	struct nr_error ignored;
	uint8_t text[8];

	return nr_in_range(other, sizeof(text), t->disk->size) &&
	       t->disk->read(t->disk->context, other, sizeof(text), text, &ignored) == 0 &&
	       memcmp(text, "EFI PART", 8) == 0;
}

/* Nobody who writes to a partition may change the table. */
static int add_table(struct table *t, const struct gpt *gpt)
{
	uint64_t sector = t->disk->sector, bytes = (uint64_t)gpt->count * gpt->entry_size;
	int err = add_item(t, 0, 0, sector);

	if (!err)
		err = add_item(t, 0, gpt->header * sector, sector);
	/* They have been read, so they lie in the disk. */
	return err ? err : add_item(t, 0, gpt->entries * sector, bytes);
}

static int find_gpt(struct table *t, struct nr_partition *partition)
{
	struct nr_error first = { 0 }, *error = t->error;
	uint8_t *array = NULL;
	struct gpt gpt = { 0 };
	int err;

	t->error = &first;
	err = load_gpt(t, 1, &gpt, &array);
	t->error = error;
	if (err && has_other_sectors(t))
		return nr_error_set(error, err, "%s; use partition-sectorsize=%u", first.text,
				    t->disk->sector == 512 ? 4096 : 512);
	if (err) {
		int err_of_copy;

		/* That is what the copy at the end is for. */
		t->error = NULL;
		err_of_copy = load_gpt(t, t->disk->size / t->disk->sector - 1, &gpt, &array);
		t->error = error;
		if (err_of_copy)
			return nr_error_set(error, err,
					    "%s, and the copy at the end of the disk is no better",
					    first.text);
		memcpy(partition->damage, first.text, sizeof(partition->damage));
	}
	assert(array);
	err = add_table(t, &gpt);
	for (uint32_t i = 0; i < gpt.count && !err; i++)
		err = add_entry(t, &gpt, i + 1, array + (size_t)i * gpt.entry_size);
	free(array);
	return err ? err : check_overlap(t);
}

static int find_any(struct table *t, uint64_t wanted, struct nr_partition *partition)
{
	uint8_t sector[MBR_BYTES] = { 0 };
	int err;

	if (t->disk->size < 2 * (uint64_t)t->disk->sector)
		return nr_error_set(t->error, -EINVAL,
				    "a disk of %" PRIu64 " bytes has no room for a partition table",
				    t->disk->size);
	err = read_disk(t, 0, sizeof(sector), sector);
	if (err)
		return err;
	if (!has_signature(sector))
		return nr_error_set(t->error, -EINVAL,
				    "there is no partition table: sector 0 has no signature");
	for (unsigned slot = 0; slot < 4; slot++)
		if (mbr_entry(sector, slot).type == GPT_PROTECTIVE)
			return find_gpt(t, partition);
	return find_mbr(t, sector, wanted);
}

int nr_partition_find(const struct nr_partition_disk *disk, uint64_t number,
		      struct nr_partition *partition, struct nr_error *error)
{
	struct table t = { .disk = disk, .error = error };
	int err;

	partition->damage[0] = '\0';
	err = find_any(&t, number, partition);
	if (!err) {
		err = -ENOENT;
		for (size_t i = 0; i < t.count && err; i++) {
			if (number == 0 || t.items[i].number != number)
				continue;
			partition->offset = t.items[i].offset;
			partition->length = t.items[i].length;
			err = 0;
		}
		if (err)
			nr_error_set(error, err, "there is no partition %" PRIu64, number);
	}
	free(t.items);
	return err;
}
