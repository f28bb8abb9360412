/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Fuzz target: the head of an overlay file and pages of its block map.
 *
 * Byte 0 says what is made right before it is read (magic and version, checksums, the
 * fields that follow from others), because hardly an input gets past those; then come the
 * head's own fields, the length of the file, and pages: which one, and for each of its
 * two places a few bytes of it and where they go.
 * What is accepted is written and read again as the same; a map has no block behind its
 * end, and pages of a file that was closed in order are all whole.
 */
#include <errno.h>

#include "filters/cow-file.h"
#include "nbdring/checked.h"
#include "tests/fuzz/fuzz.h"

#define PAGES 4u  /* that are read */
#define PATCH 24u /* bytes of the words of one place that the input has */
#define SEAL_HEAD (1u << 0)
#define RIGHT_HEAD (1u << 1)
#define SEAL_PLACES (1u << 2)
#define CLEAN (1u << 3)

static void take_bytes(struct fuzz_input *input, uint8_t *to, size_t count)
{
	for (size_t i = 0; i < count; i++)
		to[i] = (uint8_t)fuzz_take(input, 1);
}

static int take_head(struct fuzz_input *input, unsigned how, struct nr_cow_head *head)
{
	uint8_t bytes[NR_STORE_HEAD_BYTES] = { 0 };
	struct nr_error error = { 0 };
	uint64_t length;
	int err;

	if (how & RIGHT_HEAD) {
		uint64_t size = fuzz_take(input, 8) >> (1 + fuzz_take(input, 1) % 40);

		nr_cow_head_fill(head, size, 4096u << fuzz_take(input, 1) % 9);
		head->clean = how & CLEAN;
		nr_cow_head_write(head, bytes);
		length = fuzz_take(input, 1) ? UINT64_MAX : fuzz_take(input, 8);
	} else {
		take_bytes(input, bytes, 64);
		length = fuzz_take(input, 8);
	}
	if (how & SEAL_HEAD) {
		static const struct nr_store_kind kind = {
			.magic = { 'n', 'b', 'd', 'r', '-', 'c', 'o', 'w' }, .version = 1
		};

		nr_store_seal(&kind, bytes);
	}
	err = nr_cow_head_read(head, bytes, length, "the file", &error);
	if (err)
		fuzz_check_error(&error);
	return err;
}

/* What was accepted says the same when it is written. */
static void check_head(const struct nr_cow_head *head)
{
	uint8_t bytes[NR_STORE_HEAD_BYTES];
	struct nr_error error = { 0 };
	struct nr_cow_head again;

	assert(head->size <= NR_SIZE_MAX);
	assert(nr_is_power_of_2(head->block));
	assert(head->block >= 4096);
	assert(head->size / head->block < NR_COW_BLOCKS_MAX);
	assert(head->data >= nr_cow_place_at(head->pages, 0));
	nr_cow_head_write(head, bytes);
	assert(nr_cow_head_read(&again, bytes, UINT64_MAX, "it", &error) == 0);
	assert(again.size == head->size);
	assert(again.pages == head->pages);
	assert(again.data == head->data);
	assert(again.block == head->block);
	assert(again.clean == head->clean);
}

static void seal_place(uint8_t *place)
{
	static const uint8_t none[4];
	uint32_t crc = nr_store_crc(nr_store_crc(0, place, 16), none, 4);

	nr_store_put_u32(place + 16, nr_store_crc(crc, place + 20, NR_COW_PLACE_BYTES - 20));
}

static void take_place(struct fuzz_input *input, unsigned how, uint64_t index, uint8_t *place)
{
	unsigned kind = (unsigned)fuzz_take(input, 1);

	memset(place, 0, NR_COW_PLACE_BYTES);
	if (kind % 4 == 0)
		return;
	nr_store_put_u64(place, fuzz_take(input, kind % 4 == 1 ? 1 : 8));
	nr_store_put_u64(place + 8, kind & 4 ? fuzz_take(input, 8) : index);
	take_bytes(input, place + 32 + fuzz_take(input, 2) % (4064 - PATCH), PATCH);
	if (how & SEAL_PLACES)
		seal_place(place);
}

static void check_map(const struct nr_cow_map *map)
{
	uint64_t stop;

	for (uint64_t at = 0; at < map->blocks && at < 8 * NR_COW_PAGE_BLOCKS; at = stop) {
		enum nr_cow_block state = nr_cow_map_run(map, at, map->blocks, &stop);

		assert(state <= NR_COW_HOLE);
		assert(stop > at);
		assert(stop <= map->blocks);
		assert(nr_cow_map_get(map, stop - 1) == state);
	}
}

/* A page that was accepted, written as its next version, is read as the same. */
static void write_again(struct nr_cow_map *map, uint64_t index, uint8_t *places)
{
	struct nr_cow_page *page = nr_cow_map_page(map, index), *other;
	struct nr_error error = { 0 };
	struct nr_cow_map again;
	int torn;

	assert(page);
	nr_cow_map_give_back(map, page);
	assert(nr_cow_map_take_changed(map) == page);
	assert(!page->taken);
	memset(places, 0, 2 * NR_COW_PLACE_BYTES);
	nr_cow_place_write(page, places + (page->version + 1) % 2 * NR_COW_PLACE_BYTES);
	nr_cow_map_init(&again, map->blocks, true);
	assert(nr_cow_place_read(&again, index, places, true, &torn, "it", &error) == 0);
	assert(torn == -1);
	other = nr_cow_map_page(&again, index);
	assert(other);
	assert(other->version == page->version + 1);
	for (unsigned i = 0; i < NR_COW_PAGE_WORDS; i++)
		assert(other->word[i] == page->word[i]);
	nr_cow_map_fini(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input input = { data, size };
	unsigned how = (unsigned)fuzz_take(&input, 1);
	uint8_t places[2 * NR_COW_PLACE_BYTES];
	struct nr_cow_head head;
	struct nr_cow_map map;

	if (take_head(&input, how, &head))
		return 0;
	check_head(&head);
	nr_cow_map_init(&map, head.size / head.block + (head.size % head.block != 0), true);
	assert(map.pages == head.pages);
	for (unsigned i = 0; i < PAGES && map.pages; i++) {
		uint64_t index = fuzz_take(&input, 2) % map.pages;
		struct nr_error error = { 0 };
		int torn, err;

		take_place(&input, how, index, places);
		take_place(&input, how, index, places + NR_COW_PLACE_BYTES);
		err = nr_cow_place_read(&map, index, places, head.clean, &torn, "the file", &error);
		if (err) {
			assert(err == error.code);
			fuzz_check_error(&error);
			continue;
		}
		assert(torn == -1 || !head.clean);
		if (how & SEAL_PLACES)
			write_again(&map, index, places);
	}
	check_map(&map);
	nr_cow_map_fini(&map);
	return 0;
}
