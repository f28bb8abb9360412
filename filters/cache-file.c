/* SPDX-License-Identifier: BSD-3-Clause */
/* Bytes to a map and back; no I/O, so that it can be fuzzed. */
#include "filters/cache-file.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "nbdring/checked.h"

#define ENTRY_BYTES 8u
#define SLOTS_MAX (UINT32_C(1) << 30)
#define BLOCK_MIN 4096u
#define BLOCK_MAX (1024u * 1024)
#define NOT_WRITTEN 1u

const struct nr_store_kind nr_cache_kind = { .magic = { 'N', 'B', 'D', 'R', 'c', 'a', 'c', 'h' },
					     .version = 1,
					     .name = "a cache of the filter cache" };

uint64_t nr_cache_file_table_bytes(uint64_t slots)
{
	return nr_round_down(slots * ENTRY_BYTES + NR_STORE_HEAD_BYTES - 1, NR_STORE_HEAD_BYTES);
}

uint64_t nr_cache_file_start(uint64_t slots, uint32_t block)
{
	return nr_round_down(NR_STORE_HEAD_BYTES + nr_cache_file_table_bytes(slots) + block - 1,
			     block);
}

void nr_cache_file_make_head(const struct nr_cache_file *file, uint8_t *head)
{
	memset(head, 0, NR_STORE_HEAD_BYTES);
	nr_store_put_u32(head + 16, file->in_use);
	nr_store_put_u32(head + 20, file->block);
	nr_store_put_u64(head + 24, file->slots);
	nr_store_put_u64(head + 32, file->size);
	nr_store_put_u32(head + 40, file->table_crc);
	head[44] = file->identified;
	if (file->identified)
		memcpy(head + 48, file->identity, sizeof(file->identity));
	nr_store_seal(&nr_cache_kind, head);
}

int nr_cache_file_read_head(const uint8_t *head, uint64_t length, const char *shown,
			    struct nr_cache_file *file, struct nr_error *error)
{
	int err = nr_store_check(&nr_cache_kind, head, shown, error);

	if (err)
		return err;
	*file = (struct nr_cache_file){
		.in_use = nr_store_get_u32(head + 16) != 0,
		.block = nr_store_get_u32(head + 20),
		.slots = nr_store_get_u64(head + 24),
		.size = nr_store_get_u64(head + 32),
		.table_crc = nr_store_get_u32(head + 40),
		.identified = head[44] != 0,
	};
	memcpy(file->identity, head + 48, sizeof(file->identity));
	if (!nr_is_power_of_2(file->block) || file->block < BLOCK_MIN || file->block > BLOCK_MAX ||
	    file->slots == 0 || file->slots > SLOTS_MAX || file->size > NR_SIZE_MAX)
		return nr_error_set(error, -EINVAL, "%s is damaged: its head has impossible sizes",
				    shown);
	if (length != nr_cache_file_start(file->slots, file->block) + file->slots * file->block)
		return nr_error_set(error, -EINVAL,
				    "%s is damaged: it has %" PRIu64 " bytes instead of %" PRIu64,
				    shown, length,
				    nr_cache_file_start(file->slots, file->block) +
					    file->slots * file->block);
	return 0;
}

void nr_cache_file_make_table(const struct nr_cache_map *map, uint8_t *table)
{
	memset(table, 0, nr_cache_file_table_bytes(map->slots));
	for (uint32_t slot = 0; slot < map->fresh; slot++) {
		enum nr_cache_state state = nr_cache_state_of(map, slot);
		uint64_t entry = (nr_cache_block_of(map, slot) + 1) << 1;

		if (state == NR_CACHE_DIRTY)
			entry |= NOT_WRITTEN;
		if (state == NR_CACHE_DIRTY || state == NR_CACHE_CLEAN)
			nr_store_put_u64(table + (size_t)slot * ENTRY_BYTES, entry);
	}
}

int nr_cache_file_read_table(const struct nr_cache_file *file, const uint8_t *table,
			     const char *shown, struct nr_cache_map *map, struct nr_error *error)
{
	uint64_t blocks = file->size / file->block;

	if (nr_store_crc(0, table, nr_cache_file_table_bytes(file->slots)) != file->table_crc)
		return nr_error_set(error, -EINVAL,
				    "%s is damaged: the checksum of its table is wrong", shown);
	for (uint32_t slot = 0; slot < file->slots; slot++) {
		uint64_t entry = nr_store_get_u64(table + (size_t)slot * ENTRY_BYTES);
		uint64_t block = (entry >> 1) - 1;

		if (entry >> 1 == 0 && entry == 0)
			continue;
		if (entry >> 1 == 0 || block >= blocks || nr_cache_find(map, block) != NR_NO_SLOT)
			return nr_error_set(error, -EINVAL,
					    "%s is damaged: slot %u has block %" PRIu64
					    ", which cannot be",
					    shown, slot, block);
		nr_cache_restore(map, slot, block,
				 entry & NOT_WRITTEN ? NR_CACHE_DIRTY : NR_CACHE_CLEAN);
	}
	return 0;
}
