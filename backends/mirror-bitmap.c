/* SPDX-License-Identifier: BSD-3-Clause */
#include "backends/mirror-bitmap.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "nbdring/checked.h"

#define CHECKED 508u /* bytes of a block in front of its checksum */

static const uint8_t magic[8] = { 'N', 'B', 'D', 'R', 'M', 'I', 'R', '1' };

/* ---- bytes ------------------------------------------------------------- */

static void put(uint8_t *to, uint64_t number, unsigned bytes)
{
	for (unsigned i = 0; i < bytes; i++)
		to[i] = (uint8_t)(number >> 8 * i);
}

static uint64_t get(const uint8_t *from, unsigned bytes)
{
	uint64_t number = 0;

	for (unsigned i = bytes; i-- > 0;)
		number = number << 8 | from[i];
	return number;
}

/* IEEE 802.3, four bits at a time. */
static uint32_t crc32(const uint8_t *data, size_t length)
{
	static const uint32_t table[16] = {
		0x00000000, 0x1db71064, 0x3b6e20c8, 0x26d930ac, 0x76dc4190, 0x6b6b51f4,
		0x4db26158, 0x5005713c, 0xedb88320, 0xf00f9344, 0xd6d6a3e8, 0xcb61b38c,
		0x9b64c2b0, 0x86d3d2d4, 0xa00ae278, 0xbdbdf21c,
	};
	uint32_t crc = UINT32_MAX;

	for (size_t i = 0; i < length; i++) {
		crc ^= data[i];
		crc = table[crc & 15] ^ crc >> 4;
		crc = table[crc & 15] ^ crc >> 4;
	}
	return ~crc;
}

void nr_bitmap_seal(uint8_t *block)
{
	put(block + CHECKED, crc32(block, CHECKED), 4);
}

static bool is_sealed(const uint8_t *block)
{
	return get(block + CHECKED, 4) == crc32(block, CHECKED);
}

/* FNV-1a. */
uint64_t nr_bitmap_hash(const char *words)
{
	uint64_t hash = UINT64_C(0xcbf29ce484222325);

	for (; *words; words++)
		hash = (hash ^ (uint8_t)*words) * UINT64_C(0x100000001b3);
	return hash;
}

uint64_t nr_bitmap_regions(uint64_t size, uint64_t region)
{
	return size / region + (size % region != 0);
}

uint64_t nr_bitmap_blocks(uint64_t regions)
{
	return 1 + (regions + NR_BITMAP_BITS - 1) / NR_BITMAP_BITS;
}

/* ---- writing ----------------------------------------------------------- */

void nr_bitmap_put_header(uint8_t *block, const struct nr_bitmap_header *header)
{
	memset(block, 0, NR_BITMAP_BLOCK);
	memcpy(block, magic, sizeof(magic));
	put(block + 8, header->size, 8);
	put(block + 16, header->region, 8);
	put(block + 24, header->legs, 4);
	for (uint32_t i = 0; i < header->legs; i++) {
		put(block + 32 + 16 * i, header->name[i], 8);
		block[32 + 16 * i + 8] = header->out[i];
	}
	nr_bitmap_seal(block);
}

void nr_bitmap_put_bits(uint8_t *block, uint32_t number, const uint64_t words[NR_BITMAP_WORDS])
{
	for (unsigned i = 0; i < NR_BITMAP_WORDS; i++)
		put(block + (size_t)8 * i, words[i], 8);
	put(block + 504, number, 4);
	nr_bitmap_seal(block);
}

/* ---- reading ----------------------------------------------------------- */

int nr_bitmap_get_header(const uint8_t *block, uint64_t bytes, struct nr_bitmap_header *header,
			 struct nr_error *error)
{
	if (bytes < NR_BITMAP_BLOCK || memcmp(block, magic, sizeof(magic)) != 0)
		return nr_error_set(error, -EINVAL, "it is no bitmap of a mirror");
	if (!is_sealed(block))
		return nr_error_set(error, -EINVAL, "its first block is damaged");
	*header = (struct nr_bitmap_header){ .size = get(block + 8, 8),
					     .region = get(block + 16, 8),
					     .legs = (uint32_t)get(block + 24, 4) };
	if (header->size > NR_SIZE_MAX || !nr_is_power_of_2(header->region) ||
	    header->region < NR_BITMAP_REGION_MIN || header->region > NR_BITMAP_REGION_MAX ||
	    header->legs == 0 || header->legs > NR_MIRROR_LEGS_MAX ||
	    nr_bitmap_regions(header->size, header->region) > NR_BITMAP_REGIONS_MAX)
		return nr_error_set(error, -EINVAL, "its first block makes no sense");
	for (uint32_t i = 0; i < header->legs; i++) {
		header->name[i] = get(block + 32 + 16 * i, 8);
		if (block[32 + 16 * i + 8] > 1)
			return nr_error_set(error, -EINVAL, "its first block makes no sense");
		header->out[i] = block[32 + 16 * i + 8];
	}
	if (bytes !=
	    nr_bitmap_blocks(nr_bitmap_regions(header->size, header->region)) * NR_BITMAP_BLOCK)
		return nr_error_set(
			error, -EINVAL, "it has %" PRIu64 " bytes, not %" PRIu64, bytes,
			nr_bitmap_blocks(nr_bitmap_regions(header->size, header->region)) *
				NR_BITMAP_BLOCK);
	return 0;
}

int nr_bitmap_get_bits(const uint8_t *block, uint32_t number, uint64_t regions,
		       uint64_t words[NR_BITMAP_WORDS], struct nr_error *error)
{
	if (!is_sealed(block) || get(block + 504, 4) != number)
		return nr_error_set(error, -EINVAL, "block %" PRIu32 " of it is damaged", number);
	for (unsigned i = 0; i < NR_BITMAP_WORDS; i++) {
		uint64_t first = (uint64_t)64 * i, beyond = 0;

		words[i] = get(block + (size_t)8 * i, 8);
		if (regions <= first)
			beyond = words[i];
		else if (regions < first + 64)
			beyond = words[i] >> (regions - first);
		if (beyond)
			return nr_error_set(error, -EINVAL,
					    "block %" PRIu32 " of it makes no sense", number);
	}
	return 0;
}

static bool is_zero(const uint8_t *block)
{
	return block[0] == 0 && memcmp(block, block + 1, NR_BITMAP_BLOCK - 1) == 0;
}

bool nr_bitmap_is_unfinished(const uint8_t *data, uint64_t bytes)
{
	if (bytes == 0)
		return true;
	if (bytes % NR_BITMAP_BLOCK || !is_zero(data))
		return false;
	for (uint64_t i = 1; i < bytes / NR_BITMAP_BLOCK; i++) {
		const uint8_t *block = data + i * NR_BITMAP_BLOCK;

		if (!is_zero(block) && (!is_sealed(block) || get(block + 504, 4) != i))
			return false;
	}
	return true;
}

int nr_bitmap_parse(const uint8_t *data, uint64_t bytes, struct nr_bitmap_header *header,
		    uint64_t **out, struct nr_error *error)
{
	uint64_t *bits, blocks, left;
	int err = nr_bitmap_get_header(data, bytes, header, error);

	if (err)
		return err;
	left = nr_bitmap_regions(header->size, header->region);
	blocks = nr_bitmap_blocks(left);
	bits = calloc(blocks, NR_BITMAP_WORDS * sizeof(*bits));
	if (!bits)
		return nr_error_system(error, -ENOMEM, "reading it");
	for (uint32_t i = 1; !err && i < blocks; i++) {
		err = nr_bitmap_get_bits(data + (size_t)i * NR_BITMAP_BLOCK, i, left,
					 bits + (size_t)(i - 1) * NR_BITMAP_WORDS, error);
		left -= nr_min(left, NR_BITMAP_BITS);
	}
	if (err)
		free(bits);
	else
		*out = bits;
	return err;
}
