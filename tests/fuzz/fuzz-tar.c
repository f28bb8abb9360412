/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Fuzz target: an archive's bytes into the tar parser.
 *
 * Byte 0 chooses whether the checksums of headers are made right first (else hardly an
 * input gets past them), whether the archive is longer than the input, which name is
 * looked for, and whether and when reading fails; the rest is the archive.  What is found
 * lies in the archive, its ranges are in order and inside the member, and no archive is
 * read more often than its size allows for.
 */
#include <errno.h>
#include <stdio.h>

#include "filters/tar-member.h"
#include "nbdring/checked.h"
#include "tests/fuzz/fuzz.h"

#define BLOCK 512u

struct bytes {
	uint8_t *data;
	size_t size;
	uint64_t archive_size;
	unsigned reads;   /* so far */
	unsigned fail_at; /* that read fails; 0: none */
};

static int read_bytes(void *context, uint64_t offset, uint64_t length, void *to,
		      struct nr_error *error)
{
	struct bytes *b = context;
	size_t known;

	assert(nr_in_range(offset, length, b->archive_size));
	/* A window again and again is what looking back would come to. */
	assert(b->reads <= 4 * (b->size / BLOCK + 4));
	if (++b->reads == b->fail_at)
		return nr_error_set(error, -EIO, "a bad sector");
	known = offset < b->size ? nr_min(b->size - offset, length) : 0;
	if (known)
		memcpy(to, b->data + offset, known);
	memset((uint8_t *)to + known, 0, length - known);
	return 0;
}

/* Every block that is not all text gets the checksum of a header. */
static void seal(struct bytes *b)
{
	for (size_t at = 0; at + BLOCK <= b->size; at += BLOCK) {
		uint8_t *block = b->data + at;
		unsigned sum = 0;

		if (block[156] == 0xff)
			continue;
		memset(block + 148, ' ', 8);
		for (unsigned i = 0; i < BLOCK; i++)
			sum += block[i];
		if (sum != 8 * ' ')
			(void)snprintf((char *)block + 148, 8, "%06o", sum);
		else
			memset(block + 148, 0, 8); /* zeroes stay zeroes */
	}
}

static void check_member(const struct bytes *b, const struct nr_tar_member *m)
{
	uint64_t end = 0;

	assert(m->size <= NR_SIZE_MAX);
	assert(m->sparse || m->ranges.count <= 1);
	for (size_t i = 0; i < m->ranges.count; i++) {
		const struct nr_range *r = &m->ranges.range[i];

		assert(r->length > 0);
		assert(r->offset >= end);
		end = r->offset + r->length;
		assert(end <= m->size);
		assert(nr_in_range(r->below, r->length, b->archive_size));
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char *const entries[] = { "disk", "*", "a/b", "./disk*" };
	struct bytes b = { .data = NULL };
	struct nr_tar_archive archive = { .read = read_bytes, .context = &b };
	struct nr_tar_member member;
	struct nr_error error = { 0 };
	uint8_t how;
	int err;

	if (size < 1)
		return 0;
	how = *data++;
	b.size = size - 1;
	b.data = fuzz_copy(data, b.size);
	archive.size = b.archive_size = how & 2 ? NR_SIZE_MAX : b.size;
	if (how & 1)
		seal(&b);
	b.fail_at = how & 16 ? 1 + (how >> 5) : 0;
	err = nr_tar_find(&archive, entries[how >> 2 & 3], 0, &member, &error);
	if (err) {
		assert(err == error.code);
		fuzz_check_error(&error);
		assert(!member.ranges.range);
	} else {
		check_member(&b, &member);
		nr_ranges_free(&member.ranges);
	}
	free(b.data);
	return 0;
}
