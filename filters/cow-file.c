/* SPDX-License-Identifier: BSD-3-Clause */
/* See cow-file.h.  What is read here may be anything. */
#include "filters/cow-file.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "nbdring/checked.h"

#define BLOCK_MIN 4096u
#define BLOCK_MAX (1024u * 1024)
#define DATA_ALIGN (UINT64_C(1) << 20)
#define WORDS_AT 32u
#define CRC_AT 16u

const struct nr_store_kind nr_cow_kind = {
	.magic = { 'n', 'b', 'd', 'r', '-', 'c', 'o', 'w' },
	.version = 1,
	.name = "an overlay of the filter cow",
};

/* The head. */

/* Cannot overflow: a size is at most 2^63 - 1, a block at least 4096. */
void nr_cow_head_fill(struct nr_cow_head *head, uint64_t size, uint32_t block)
{
	uint64_t blocks = size / block + (size % block != 0);

	*head = (struct nr_cow_head){ .size = size, .block = block };
	head->pages = blocks / NR_COW_PAGE_BLOCKS + (blocks % NR_COW_PAGE_BLOCKS != 0);
	head->data = NR_STORE_HEAD_BYTES + head->pages * 2 * NR_COW_PLACE_BYTES;
	head->data = nr_round_down(head->data + DATA_ALIGN - 1, DATA_ALIGN);
}

void nr_cow_head_write(const struct nr_cow_head *head, uint8_t *bytes)
{
	memset(bytes, 0, NR_STORE_HEAD_BYTES);
	nr_store_put_u64(bytes + 16, head->size);
	nr_store_put_u64(bytes + 24, head->pages);
	nr_store_put_u64(bytes + 32, head->data);
	nr_store_put_u32(bytes + 40, head->block);
	nr_store_put_u32(bytes + 44, head->clean);
	nr_store_seal(&nr_cow_kind, bytes);
}

/* What follows from size and block is as it has to be. */
static bool is_consistent(const struct nr_cow_head *head)
{
	struct nr_cow_head right;

	if (head->size > NR_SIZE_MAX || !nr_is_power_of_2(head->block) || head->block < BLOCK_MIN ||
	    head->block > BLOCK_MAX || head->size / head->block >= NR_COW_BLOCKS_MAX)
		return false;
	nr_cow_head_fill(&right, head->size, head->block);
	return head->pages == right.pages && head->data == right.data;
}

int nr_cow_head_read(struct nr_cow_head *head, const uint8_t *bytes, uint64_t length,
		     const char *shown, struct nr_error *error)
{
	int err = nr_store_check(&nr_cow_kind, bytes, shown, error);
	uint32_t clean = nr_store_get_u32(bytes + 44);
	uint64_t needed;

	if (err)
		return err;
	*head = (struct nr_cow_head){ .size = nr_store_get_u64(bytes + 16),
				      .pages = nr_store_get_u64(bytes + 24),
				      .data = nr_store_get_u64(bytes + 32),
				      .block = nr_store_get_u32(bytes + 40),
				      .clean = clean == 1 };
	if (clean > 1 || !is_consistent(head) || !nr_add(head->data, head->size, &needed))
		return nr_error_set(error, -EINVAL, "%s is damaged: its head contradicts itself",
				    shown);
	if (length < needed)
		return nr_error_set(error, -EINVAL,
				    "%s has been cut off: it has %" PRIu64 " bytes and should have "
				    "%" PRIu64,
				    shown, length, needed);
	return 0;
}

/* Pages. */

uint64_t nr_cow_place_at(uint64_t index, uint64_t version)
{
	return NR_STORE_HEAD_BYTES + (2 * index + version % 2) * NR_COW_PLACE_BYTES;
}

static uint32_t place_crc(const uint8_t *place)
{
	static const uint8_t none[4];
	uint32_t crc = nr_store_crc(0, place, CRC_AT);

	crc = nr_store_crc(crc, none, sizeof(none));
	return nr_store_crc(crc, place + CRC_AT + 4, NR_COW_PLACE_BYTES - CRC_AT - 4);
}

void nr_cow_place_write(const struct nr_cow_page *page, uint8_t *place)
{
	memset(place, 0, WORDS_AT);
	nr_store_put_u64(place, page->version + 1);
	nr_store_put_u64(place + 8, page->index);
	for (unsigned i = 0; i < NR_COW_PAGE_WORDS; i++)
		nr_store_put_u64(place + WORDS_AT + 8 * i, page->copy[i]);
	nr_store_put_u32(place + CRC_AT, place_crc(place));
}

static bool is_empty(const uint8_t *place)
{
	return place[0] == 0 && memcmp(place, place + 1, NR_COW_PLACE_BYTES - 1) == 0;
}

/* The version of PLACE, which is place WHICH of page INDEX; 0: it holds none. */
static uint64_t version_of(const uint8_t *place, uint64_t index, unsigned which)
{
	uint64_t version = nr_store_get_u64(place);

	if (version == 0 || version == UINT64_MAX || version % 2 != which ||
	    nr_store_get_u64(place + 8) != index ||
	    nr_store_get_u32(place + CRC_AT) != place_crc(place))
		return 0;
	return version;
}

/* What is behind the last block is nothing. */
static bool ends_in_time(const struct nr_cow_map *map, uint64_t index, const uint8_t *place)
{
	uint64_t blocks = map->blocks - index * NR_COW_PAGE_BLOCKS;

	for (unsigned i = 0; i < NR_COW_PAGE_WORDS; i++) {
		uint64_t word = nr_store_get_u64(place + WORDS_AT + 8 * i);
		uint64_t first = (uint64_t)i * NR_COW_WORD_BLOCKS;

		if (first + NR_COW_WORD_BLOCKS <= blocks)
			continue;
		if (first < blocks)
			word >>= 2 * (blocks - first);
		if (word)
			return false;
	}
	return true;
}

static int damaged(uint64_t index, const char *shown, struct nr_error *error)
{
	return nr_error_set(error, -EINVAL, "%s is damaged: in page %" PRIu64 " of its block map",
			    shown, index);
}

static int take_words(struct nr_cow_map *map, uint64_t index, const uint8_t *place,
		      const char *shown, struct nr_error *error)
{
	struct nr_cow_page *page = nr_cow_map_page(map, index);

	if (!page)
		return nr_error_system(error, -ENOMEM, "the block map of %s", shown);
	page->version = nr_store_get_u64(place);
	for (unsigned i = 0; i < NR_COW_PAGE_WORDS; i++)
		atomic_store_explicit(&page->word[i], nr_store_get_u64(place + WORDS_AT + 8 * i),
				      memory_order_relaxed);
	return 0;
}

int nr_cow_place_read(struct nr_cow_map *map, uint64_t index, const uint8_t *places, bool clean,
		      int *torn, const char *shown, struct nr_error *error)
{
	uint64_t version[2] = { 0, 0 };
	unsigned bad = 0;
	const uint8_t *newest;

	*torn = -1;
	for (unsigned i = 0; i < 2; i++) {
		const uint8_t *place = places + i * NR_COW_PLACE_BYTES;

		if (is_empty(place))
			continue;
		version[i] = version_of(place, index, i);
		if (version[i])
			continue;
		*torn = (int)i;
		bad++;
	}
	/* The first version goes to place 1: nothing was ever valid before that. */
	if (bad > 1 || (bad && (clean || (!version[0] && !version[1] && *torn == 0))))
		return damaged(index, shown, error);
	if (!version[0] && !version[1])
		return 0;
	newest = places + (version[1] > version[0] ? NR_COW_PLACE_BYTES : 0);
	if (!ends_in_time(map, index, newest))
		return damaged(index, shown, error);
	return take_words(map, index, newest, shown, error);
}
