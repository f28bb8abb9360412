/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The filter `partition`: where partitions lie by all kinds of tables, and tables
 * that lie.  Tables are made here, byte by byte, on a disk of 16 MiB.
 */
#include "layer-test.h"

#include <endian.h>
#include <errno.h>
#include <setjmp.h>

#include <cmocka.h>

#include "filters/filters.h"
#include "filters/partition-table.h"

#define DISK_BYTES ((size_t)16 << 20)

static uint8_t image[DISK_BYTES];
static struct nr_partition_disk disk;
static struct nr_error error;
static unsigned reads;

static int read_image(void *context, uint64_t offset, uint64_t length, void *data,
		      struct nr_error *err)
{
	LAYER_CHECK(offset <= disk.size && length <= disk.size - offset);
	memcpy(data, image + offset, length);
	reads++;
	return 0;
}

static void put32(size_t at, uint32_t n)
{
	n = htole32(n);
	memcpy(image + at, &n, sizeof(n));
}

static void put64(size_t at, uint64_t n)
{
	n = htole64(n);
	memcpy(image + at, &n, sizeof(n));
}

static void new_disk(uint32_t sector)
{
	memset(image, 0, sizeof(image));
	memset(&error, 0, sizeof(error));
	reads = 0;
	disk = (struct nr_partition_disk){ DISK_BYTES, sector, read_image, NULL };
}

static void put_mbr(uint64_t sector, unsigned slot, uint8_t type, uint32_t first, uint32_t sectors)
{
	size_t at = sector * disk.sector;

	image[at + 510] = 0x55;
	image[at + 511] = 0xaa;
	image[at + 446 + slot * 16 + 4] = type;
	put32(at + 446 + slot * 16 + 8, first);
	put32(at + 446 + slot * 16 + 12, sectors);
}

/* Where the table in sector LBA has its entries: 128 of 128 bytes. */
static size_t entries_of(uint64_t lba)
{
	return lba == 1 ? 2 * disk.sector : DISK_BYTES - disk.sector - 16384;
}

static void put_gpt(uint64_t lba)
{
	uint64_t sectors = DISK_BYTES / disk.sector, room = 16384 / disk.sector;
	size_t at = lba * disk.sector;

	for (unsigned i = 0; i < 8; i++)
		image[at + i] = (uint8_t) "EFI PART"[i];
	put32(at + 8, 0x10000);
	put32(at + 12, 92);
	put64(at + 24, lba);
	put64(at + 40, 2 + room);
	put64(at + 48, sectors - 2 - room);
	put64(at + 72, entries_of(lba) / disk.sector);
	put32(at + 80, 128);
	put32(at + 84, 128);
}

static void put_entry(uint64_t lba, unsigned number, uint64_t first, uint64_t last)
{
	size_t at = entries_of(lba) + (number - 1) * 128;

	image[at] = 1;
	put64(at + 32, first);
	put64(at + 40, last);
}

static void seal_gpt(uint64_t lba)
{
	size_t at = lba * disk.sector;

	put32(at + 88, nr_partition_crc32(image + entries_of(lba), 16384));
	put32(at + 16, 0);
	put32(at + 16, nr_partition_crc32(image + at, 92));
}

static uint64_t last_lba(void)
{
	return DISK_BYTES / disk.sector - 1;
}

static void new_gpt_disk(uint32_t sector)
{
	new_disk(sector);
	put_mbr(0, 0, 0xee, 1, UINT32_MAX);
	for (uint64_t lba = 1; lba; lba = lba == 1 ? last_lba() : 0) {
		put_gpt(lba);
		put_entry(lba, 1, 100, 199);
		put_entry(lba, 5, 300, 300);
		seal_gpt(lba);
	}
}

static void expect(uint64_t number, uint64_t first, uint64_t sectors)
{
	struct nr_partition p;

	if (nr_partition_find(&disk, number, &p, &error))
		fail_msg("partition %u: %s", (unsigned)number, error.text);
	assert_int_equal(p.offset, first * disk.sector);
	assert_int_equal(p.length, sectors * disk.sector);
}

static void expect_refused(uint64_t number, const char *word)
{
	struct nr_partition p;
	int err = nr_partition_find(&disk, number, &p, &error);

	assert_true(err < 0);
	assert_int_equal(error.code, err);
	if (!strstr(error.text, word))
		fail_msg("'%s' is not in: %s", word, error.text);
}

static void test_primary_partitions(void **state)
{
	for (uint32_t sector = 512; sector <= 4096; sector *= 8) {
		new_disk(sector);
		put_mbr(0, 0, 0x83, 63, 100);
		put_mbr(0, 3, 0x07, 200, 10);
		expect(1, 63, 100);
		expect(4, 200, 10);
		expect_refused(2, "no partition 2");
		expect_refused(5, "no partition 5");
		expect_refused(0, "no partition 0");
	}
}

/* Extended from sector 1000, 5000 long; chain 1000, 3000, 2000. */
static void new_logical_disk(void)
{
	new_disk(512);
	put_mbr(0, 0, 0x83, 1, 999);
	put_mbr(0, 1, 0x0f, 1000, 5000);
	put_mbr(1000, 0, 0x83, 10, 100);
	put_mbr(1000, 1, 0x05, 2000, 1000);
	put_mbr(3000, 0, 0x83, 1, 999);
	put_mbr(3000, 1, 0x05, 1000, 1000);
	put_mbr(2000, 0, 0x83, 1, 500);
}

static void test_logical_partitions_in_the_order_of_their_chain(void **state)
{
	new_logical_disk();
	expect(1, 1, 999);
	expect(5, 1010, 100);
	expect(6, 3001, 999);
	expect(7, 2001, 500);
	expect_refused(8, "no partition 8");
	expect_refused(2, "extended");
}

static void test_a_link_without_a_partition_has_no_number(void **state)
{
	new_logical_disk();
	put_mbr(1000, 0, 0, 0, 0);
	expect(5, 3001, 999);
}

static void test_chains_that_lie(void **state)
{
	new_logical_disk();
	put_mbr(2000, 1, 0x05, 0, 1000);
	expect_refused(1, "comes back to sector 1000");
	new_logical_disk();
	put_mbr(2000, 1, 0x05, 1000, 1000);
	expect_refused(5, "comes back to sector 2000");
	new_logical_disk();
	put_mbr(2000, 1, 0x05, 5000, 1000);
	expect_refused(5, "leaves the extended partition");
	new_logical_disk();
	put_mbr(2000, 1, 0x05, UINT32_MAX, UINT32_MAX);
	expect_refused(5, "leaves the extended partition");
	new_logical_disk();
	put_mbr(2000, 0, 0x83, 1, 4500);
	expect_refused(5, "beyond the end of the extended partition");
	new_logical_disk();
	put_mbr(2000, 0, 0x83, UINT32_MAX, UINT32_MAX);
	expect_refused(5, "partition 7");
	new_logical_disk();
	put_mbr(2000, 1, 0x05, 4000, 10); /* nothing there */
	expect_refused(5, "no signature");
	new_logical_disk();
	put_mbr(2000, 0, 0x83, 1, 1000); /* into the sector of another link */
	expect_refused(5, "overlap");
	new_logical_disk();
	put_mbr(0, 0, 0x83, 1, 1000);
	expect_refused(5, "overlap");
	new_disk(512);
	put_mbr(0, 0, 0x05, 0, 5000); /* the chain begins with the MBR itself */
	expect_refused(5, "overlap");
	new_disk(512);
	put_mbr(0, 0, 0x0f, 1000, 1); /* a link that is longer than all of it */
	put_mbr(1000, 0, 0x83, 1, 1);
	expect_refused(5, "beyond the end of the extended partition");
	new_disk(512);
	put_mbr(0, 0, 0x0f, 32767, 1); /* the last sector of the disk, with nothing in it */
	put_mbr(32767, 0, 0, 0, 0);
	expect_refused(5, "no partition 5");
	new_logical_disk();
	put_mbr(0, 2, 0x05, 7000, 1000);
	expect_refused(5, "both extended");
}

static void test_a_chain_has_an_end(void **state)
{
	new_disk(512);
	put_mbr(0, 0, 0x05, 1, 32767);
	for (uint32_t i = 1; i < 1000; i++) {
		put_mbr(i * 2, 0, 0, 0, 0);
		put_mbr(i * 2 - 1, 1, 0x05, i * 2, 1);
		put_mbr(i * 2 + 1, 1, 0x05, i * 2 + 1, 1);
		put_mbr(i * 2, 1, 0x05, i * 2, 1);
	}
	expect_refused(5, "more than 128");
	assert_true(reads < 200);
}

static void test_primaries_that_lie(void **state)
{
	new_disk(512);
	put_mbr(0, 0, 0x83, 100, 100);
	put_mbr(0, 1, 0x83, 199, 100);
	expect_refused(1, "partition 1 and partition 2 overlap");
	new_disk(512);
	put_mbr(0, 0, 0x83, 32768 - 10, 11);
	expect_refused(1, "beyond the end of the disk");
	put_mbr(0, 0, 0x83, 32768 - 10, 10);
	expect(1, 32768 - 10, 10);
	put_mbr(0, 1, 0x83, UINT32_MAX, UINT32_MAX);
	expect_refused(1, "partition 2");
}

static void test_no_table(void **state)
{
	new_disk(512);
	expect_refused(1, "no partition table");
	put_mbr(0, 0, 0x83, 1, 1);
	image[446] = 'F'; /* what a FAT boot sector has there */
	expect_refused(1, "file system");
	disk.size = 1023;
	expect_refused(1, "no room");
}

static void test_gpt(void **state)
{
	for (uint32_t sector = 512; sector <= 4096; sector *= 8) {
		new_gpt_disk(sector);
		expect(1, 100, 100);
		expect(5, 300, 1);
		expect_refused(2, "no partition 2");
		expect_refused(129, "no partition 129");
	}
}

static void test_the_copy_of_a_gpt_is_used(void **state)
{
	struct nr_partition p;

	new_gpt_disk(512);
	image[512 + 100] ^= 1; /* behind what the checksum covers */
	expect(1, 100, 100);
	put_entry(last_lba(), 1, 100, 150);
	seal_gpt(last_lba());
	expect(1, 100, 100);
	assert_int_equal(nr_partition_find(&disk, 1, &p, &error), 0);
	assert_string_equal(p.damage, "");
	image[512 + 40] ^= 1;
	expect(1, 100, 51);
	assert_int_equal(nr_partition_find(&disk, 1, &p, &error), 0);
	assert_non_null(strstr(p.damage, "checksum"));
	new_gpt_disk(512);
	image[1024] ^= 0x80; /* entries that differ from their checksum */
	expect(1, 100, 100);
	image[entries_of(last_lba())] ^= 0x80;
	expect_refused(1, "no better");
}

static void test_a_gpt_for_other_sectors(void **state)
{
	new_gpt_disk(4096);
	disk.sector = 512;
	expect_refused(1, "use partition-sectorsize=4096");
	new_gpt_disk(512);
	disk.sector = 4096;
	expect_refused(1, "use partition-sectorsize=512");
}

/* Whoever writes to such a partition would write over the table. */
static void test_a_partition_over_its_own_table_is_refused(void **state)
{
	static const struct {
		uint64_t first, last;
	} over[] = { { 0, 0 }, { 1, 1 }, { 2, 2 }, { 33, 33 }, { 20, 90 }, { 0, 99 } };

	for (size_t i = 0; i < sizeof(over) / sizeof(over[0]); i++) {
		new_gpt_disk(512);
		put64(512 + 40, 0);
		put_entry(1, 2, over[i].first, over[i].last);
		seal_gpt(1);
		expect_refused(1, "overlap");
	}
	new_gpt_disk(512);
	put64(512 + 40, 0);
	put_entry(1, 2, 34, 40);
	seal_gpt(1);
	expect(2, 34, 7);
	/* The entries are where the header is. */
	new_gpt_disk(512);
	memset(image + DISK_BYTES - 512, 0, 512);
	put64(512 + 72, 1);
	put32(512 + 80, 4);
	for (unsigned i = 0; i < 2; i++) {
		put32(512 + 88, nr_partition_crc32(image + 512, 512));
		put32(512 + 16, 0);
		put32(512 + 16, nr_partition_crc32(image + 512, 92));
	}
	expect_refused(1, "");
}

static void test_gpts_that_lie(void **state)
{
	new_gpt_disk(512);
	put_entry(1, 2, 199, 250);
	seal_gpt(1);
	expect_refused(5, "overlap");
	new_gpt_disk(512);
	put_entry(1, 2, 250, 200);
	seal_gpt(1);
	expect_refused(1, "partition 2 lies in sectors 250 to 200");
	new_gpt_disk(512);
	put_entry(1, 2, 0, UINT64_MAX);
	put64(512 + 40, 0);
	put64(512 + 48, UINT64_MAX);
	seal_gpt(1);
	expect_refused(1, "partition 2");
	put_entry(1, 2, UINT64_MAX / 512, UINT64_MAX - 1);
	seal_gpt(1);
	expect_refused(1, "partition 2");
	put_entry(1, 2, 32000, 32768);
	seal_gpt(1);
	expect_refused(1, "beyond the end of the disk");
}

static void expect_header_refused(size_t at, uint64_t value, unsigned bytes)
{
	new_gpt_disk(512);
	memset(image + DISK_BYTES - 512, 0, 512); /* no copy */
	if (bytes == 8)
		put64(512 + at, value);
	else
		put32(512 + at, (uint32_t)value);
	put32(512 + 16, 0);
	put32(512 + 16, nr_partition_crc32(image + 512, 92));
	expect_refused(1, "");
}

static void test_gpt_headers_that_lie(void **state)
{
	expect_header_refused(12, 0, 4);
	expect_header_refused(12, 91, 4);
	expect_header_refused(12, UINT32_MAX, 4);
	expect_header_refused(24, 2, 8);
	expect_header_refused(72, UINT64_MAX, 8);
	expect_header_refused(72, UINT64_MAX / 512, 8);
	expect_header_refused(72, 32767, 8);
	expect_header_refused(80, 0, 4);
	expect_header_refused(80, UINT32_MAX, 4);
	expect_header_refused(84, 0, 4);
	expect_header_refused(84, 127, 4);
	expect_header_refused(84, UINT32_MAX, 4);
}

/* The filter itself, over the image as a backend. */

static int image_describe(struct nr_layer *layer, struct nr_traits *t, struct nr_error *err)
{
	t->size = DISK_BYTES;
	t->block_min = 512;
	return 0;
}

static void image_submit(struct nr_layer *layer, struct nr_request *req)
{
	int err = 0;

	if (req->operation == NR_READ)
		nr_answer_data(req, image + req->offset, req->length, NULL);
	else if (req->operation == NR_WRITE)
		nr_request_copy_out(req, 0, req->length, image + req->offset);
	else
		err = -EOPNOTSUPP;
	nr_finish(layer, req, err);
}

static const struct nr_layer_type image_type = {
	.abi = NR_LAYER_ABI,
	.name = "image",
	.summary = "the image of this test",
	.kind = NR_BACKEND,
	.describe = image_describe,
	.submit = image_submit,
};

static const struct nr_layer_type *const types[] = { &image_type, NULL };
static const struct layer_options with_image = { .types = types };

static void test_a_partition_is_a_disk(void **state)
{
	struct layer_test *t;
	struct layer_client *c;

	new_gpt_disk(512);
	memset(image + 51200, 7, 51200);
	t = layer_test_open(&with_image, "partition partition=1 | image");
	c = layer_client(t, 0);
	assert_int_equal(layer_test_size(t), 51200);
	assert_true(layer_is(c, 0, 51200, 7));
	assert_int_equal(layer_fill(c, 512, 512, 8), 0);
	assert_int_equal(image[51711], 7);
	assert_int_equal(image[51712], 8);
	assert_int_equal(image[52224], 7);
	assert_int_equal(layer_fill(c, 51200, 512, 8), -ENOSPC);
	layer_test_close(t);
}

static void test_a_partition_in_a_partition(void **state)
{
	struct layer_test *t;

	new_disk(512);
	put_mbr(0, 1, 0x83, 100, 1000);
	put_mbr(100, 2, 0x83, 10, 20);
	image[110 * 512] = 5;
	t = layer_test_open(&with_image, "partition partition=3 | partition partition=2 | image");
	assert_int_equal(layer_test_size(t), 20 * 512);
	assert_true(layer_is(layer_client(t, 0), 0, 512, 0) == false);
	layer_test_close(t);
}

/* The same disk, in blocks of 4096 bytes. */

static int large_describe(struct nr_layer *layer, struct nr_traits *t, struct nr_error *err)
{
	t->block_min = 4096;
	return 0;
}

static const struct nr_layer_type large = {
	.abi = NR_LAYER_ABI,
	.name = "large",
	.summary = "takes blocks of 4096 bytes only",
	.kind = NR_FILTER,
	.describe = large_describe,
};

static void test_a_partition_that_does_not_fit_the_blocks_is_refused(void **state)
{
	static const struct nr_layer_type *const large_types[] = { &image_type, &large,
								   &nr_blocksize_type, NULL };
	const struct layer_options options = { .types = large_types };

	new_disk(512);
	put_mbr(0, 0, 0x83, 63, 8);
	put_mbr(0, 1, 0x83, 128, 8);
	layer_test_refused(&options, &error, "partition partition=1 | large | image");
	assert_non_null(strstr(error.text, "from byte 32256 on"));
	assert_non_null(strstr(error.text, "put --filter=blocksize below"));
	layer_test_close(layer_test_open(&options, "partition partition=2 | large | image"));
	layer_test_close(
		layer_test_open(&options, "partition partition=1 | blocksize | large | image"));
}

static void test_the_filter_says_why_not(void **state)
{
	new_disk(512);
	layer_test_refused(&with_image, &error, "partition partition=1 | image");
	assert_int_equal(strncmp(error.text, "partition: there is no", 22), 0);
	layer_test_refused(&with_image, &error, "partition partition=0 | image");
	layer_test_refused(&with_image, &error, "partition | image");
	layer_test_refused(&with_image, &error,
			   "partition partition=1 partition-sectorsize=1024 | image");
	layer_test_refused(NULL, &error, "partition partition=1 | memory 0");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_primary_partitions),
		cmocka_unit_test(test_logical_partitions_in_the_order_of_their_chain),
		cmocka_unit_test(test_a_link_without_a_partition_has_no_number),
		cmocka_unit_test(test_chains_that_lie),
		cmocka_unit_test(test_a_chain_has_an_end),
		cmocka_unit_test(test_primaries_that_lie),
		cmocka_unit_test(test_no_table),
		cmocka_unit_test(test_gpt),
		cmocka_unit_test(test_the_copy_of_a_gpt_is_used),
		cmocka_unit_test(test_a_gpt_for_other_sectors),
		cmocka_unit_test(test_a_partition_over_its_own_table_is_refused),
		cmocka_unit_test(test_gpts_that_lie),
		cmocka_unit_test(test_gpt_headers_that_lie),
		cmocka_unit_test(test_a_partition_is_a_disk),
		cmocka_unit_test(test_a_partition_in_a_partition),
		cmocka_unit_test(test_a_partition_that_does_not_fit_the_blocks_is_refused),
		cmocka_unit_test(test_the_filter_says_why_not),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
