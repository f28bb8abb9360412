/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Fuzz target: the file of a cache (filters/cache-file.h).
 *
 * Byte 0: bit 0 makes the checksum of the head right, bit 1 that of the table, bit 2 the
 * length.  The head's own part follows, then the table.  What is accepted comes out the
 * same when it is written down again, and every block is found where the table said.
 */
#include <errno.h>
#include <string.h>

#include "filters/cache-file.h"
#include "filters/store-file.h"
#include "tests/fuzz/fuzz.h"

#define SLOTS_MAX 64u
#define OWN_BYTES 28u

static uint8_t head[NR_STORE_HEAD_BYTES], table[NR_STORE_HEAD_BYTES], again[NR_STORE_HEAD_BYTES];

static void check_map(const struct nr_cache_map *map)
{
	uint32_t used = 0, dirty = 0;

	for (uint32_t slot = 0; slot < map->slots; slot++) {
		uint64_t entry = nr_store_get_u64(table + slot * 8);

		if (entry == 0)
			continue;
		assert(nr_cache_find(map, (entry >> 1) - 1) == slot);
		used++;
		dirty += entry & 1;
	}
	assert(map->used == used);
	assert(map->dirty == dirty);
	nr_cache_file_make_table(map, again);
	assert(memcmp(table, again, map->slots * 8) == 0);
}

static void try_table(const struct nr_cache_file *file)
{
	struct nr_cache_map map;
	struct nr_error error;

	assert(nr_cache_map_init(&map, &nr_policy_lru, (uint32_t)file->slots));
	if (nr_cache_file_read_table(file, table, "f", &map, &error) == 0) {
		check_map(&map);
		/* And it works: all of it can go, or be written. */
		for (uint64_t block = 0; block < 2 * SLOTS_MAX; block++)
			if (nr_cache_find(&map, block) == NR_NO_SLOT)
				(void)nr_cache_take(&map, block, block & 1);
	} else {
		assert(error.code == -EINVAL);
		assert(error.text[0]);
	}
	nr_cache_map_fini(&map);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct nr_cache_file shape = { .block = 4096, .slots = 8, .size = 65536 };
	struct nr_cache_file file;
	struct nr_error error;
	uint8_t flags = size ? data[0] : 0;
	size_t own = size > OWN_BYTES ? OWN_BYTES : 0,
	       rest = size > OWN_BYTES ? size - OWN_BYTES - 1 : 0;
	uint64_t length;

	nr_cache_file_make_head(&shape, head);
	memcpy(head + NR_STORE_HEAD_OWN, data + 1, own);
	memset(table, 0, sizeof(table));
	memcpy(table, data + size - rest, rest < sizeof(table) ? rest : sizeof(table));
	if (flags & 2)
		nr_store_put_u32(head + 40, nr_store_crc(0, table, sizeof(table)));
	if (flags & 1) {
		nr_store_put_u32(head + 12, 0);
		nr_store_put_u32(head + 12, nr_store_crc(0, head, NR_STORE_HEAD_BYTES));
	}
	length = 49152;
	if ((flags & 4) && nr_store_get_u64(head + 24) <= SLOTS_MAX)
		length = nr_cache_file_start(nr_store_get_u64(head + 24),
					     nr_store_get_u32(head + 20)) +
			 nr_store_get_u64(head + 24) * nr_store_get_u32(head + 20);
	if (nr_cache_file_read_head(head, length, "f", &file, &error)) {
		assert(error.code == -EINVAL);
		assert(error.text[0]);
		return 0;
	}
	assert(file.slots > 0);
	if (file.slots <= SLOTS_MAX)
		try_table(&file);
	return 0;
}
