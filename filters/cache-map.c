/* SPDX-License-Identifier: BSD-3-Clause */
#include "filters/cache-map.h"

#include <assert.h>
#include <string.h>
#include <sys/mman.h>

/* Hash entries per slot: three for two slots, so two thirds are in use at most. */
#define HASH_PER_2_SLOTS 3u

static_assert(sizeof(struct nr_cache_slot) + HASH_PER_2_SLOTS * sizeof(uint32_t) / 2 +
			      NR_POLICY_SLOT_BYTES + 1 <=
		      32,
	      "at most 32 bytes per block; the last one is for two bits");

static size_t bit_words(uint32_t slots)
{
	return ((size_t)slots + 63) / 64;
}

static size_t bytes_of(const struct nr_cache_map *map)
{
	return 2 * bit_words(map->slots) * sizeof(uint64_t) +
	       map->slots * sizeof(struct nr_cache_slot) + map->hash_size * sizeof(uint32_t);
}

bool nr_cache_map_init(struct nr_cache_map *map, const struct nr_policy_type *policy,
		       uint32_t slots)
{
	void *memory;

	assert(slots > 0);
	assert(slots < NR_NO_SLOT / 2);
	*map = (struct nr_cache_map){ .slots = slots, .free = NR_NO_SLOT };
	map->hash_size = (uint32_t)((uint64_t)slots * HASH_PER_2_SLOTS / 2) + 1;
	memory = mmap(NULL, bytes_of(map), PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (memory == MAP_FAILED)
		return false;
	map->dirty_bits = memory;
	map->left_bits = map->dirty_bits + bit_words(slots);
	map->slot = (struct nr_cache_slot *)(map->left_bits + bit_words(slots));
	map->hash = (uint32_t *)(void *)(map->slot + slots);
	if (nr_policy_init(&map->policy, policy, slots))
		return true;
	munmap(memory, bytes_of(map));
	return false;
}

void nr_cache_map_fini(struct nr_cache_map *map)
{
	if (!map->dirty_bits)
		return;
	nr_policy_fini(&map->policy);
	munmap(map->dirty_bits, bytes_of(map));
}

/* The hash. */

static uint32_t home_of(const struct nr_cache_map *map, uint64_t block)
{
	uint64_t hash = (block * UINT64_C(0x9e3779b97f4a7c15)) >> 32;

	return (uint32_t)(hash * map->hash_size >> 32);
}

static uint32_t after(const struct nr_cache_map *map, uint32_t at)
{
	return at + 1 == map->hash_size ? 0 : at + 1;
}

uint32_t nr_cache_find(const struct nr_cache_map *map, uint64_t block)
{
	uint32_t at = home_of(map, block);

	while (map->hash[at]) {
		uint32_t slot = map->hash[at] - 1;

		if (nr_cache_block_of(map, slot) == block)
			return slot;
		at = after(map, at);
	}
	return NR_NO_SLOT;
}

static void put_in(struct nr_cache_map *map, uint64_t block, uint32_t slot)
{
	uint32_t at = home_of(map, block);

	while (map->hash[at])
		at = after(map, at);
	map->hash[at] = slot + 1;
}

/* Those behind move up, so that no search ends too early. */
static void take_out(struct nr_cache_map *map, uint64_t block, uint32_t slot)
{
	uint32_t at = home_of(map, block), next;

	while (map->hash[at] != slot + 1) {
		assert(map->hash[at]);
		at = after(map, at);
	}
	for (next = after(map, at); map->hash[next]; next = after(map, next)) {
		uint32_t home = home_of(map, nr_cache_block_of(map, map->hash[next] - 1));
		bool stays = at < next ? home > at && home <= next : home > at || home <= next;

		if (stays)
			continue;
		map->hash[at] = map->hash[next];
		at = next;
	}
	map->hash[at] = 0;
}

/* Slots. */

static bool may_go(void *context, uint32_t slot)
{
	const struct nr_cache_map *map = context;
	const struct nr_cache_slot *s = &map->slot[slot];

	return s->state == NR_CACHE_CLEAN && s->pins == 0;
}

static void count_used(struct nr_cache_map *map, int more)
{
	map->used += (uint32_t)more;
	nr_count_set(&map->used_now, map->used);
}

static void make_free(struct nr_cache_map *map, uint32_t slot)
{
	map->slot[slot] = (struct nr_cache_slot){ .low = map->free, .state = NR_CACHE_EMPTY };
	map->free = slot;
}

/* No block is in SLOT any more. */
static void leave(struct nr_cache_map *map, uint32_t slot)
{
	count_used(map, -1);
	if (!map->gives) {
		make_free(map, slot);
		return;
	}
	map->slot[slot] = (struct nr_cache_slot){ .state = NR_CACHE_LEFT };
	map->left_bits[slot / 64] |= UINT64_C(1) << (slot % 64);
	map->left++;
}

static uint32_t take_empty(struct nr_cache_map *map)
{
	uint32_t slot = map->free;

	if (slot != NR_NO_SLOT)
		map->free = map->slot[slot].low;
	else if (map->fresh < map->slots)
		slot = map->fresh++;
	else
		return NR_NO_SLOT;
	count_used(map, 1);
	return slot;
}

/* The slot of a block that was thrown out; it counts as used. */
static uint32_t evict(struct nr_cache_map *map)
{
	uint32_t slot = map->policy.type->victim(&map->policy, may_go, map);
	uint64_t block;

	if (slot == NR_NO_SLOT)
		return slot;
	block = nr_cache_block_of(map, slot);
	take_out(map, block, slot);
	map->policy.type->remove(&map->policy, slot, block, true);
	nr_count_add(&map->evictions, 1);
	return slot;
}

static void occupy(struct nr_cache_map *map, uint32_t slot, uint64_t block)
{
	map->slot[slot] = (struct nr_cache_slot){
		.low = (uint32_t)block,
		.high = (uint32_t)(block >> 32) & 0xffffff,
		.state = NR_CACHE_READING,
	};
	put_in(map, block, slot);
	map->policy.type->insert(&map->policy, slot);
}

uint32_t nr_cache_take(struct nr_cache_map *map, uint64_t block, bool only_replace)
{
	uint32_t slot = NR_NO_SLOT;

	assert(block < UINT64_C(1) << 56);
	map->policy.type->expect(&map->policy, block);
	if (!only_replace)
		slot = take_empty(map);
	if (slot == NR_NO_SLOT)
		slot = evict(map);
	if (slot != NR_NO_SLOT)
		occupy(map, slot, block);
	return slot;
}

void nr_cache_restore(struct nr_cache_map *map, uint32_t slot, uint64_t block,
		      enum nr_cache_state state)
{
	assert(slot >= map->fresh);
	assert(slot < map->slots);
	while (map->fresh < slot) {
		make_free(map, map->fresh++);
	}
	map->fresh = slot + 1;
	count_used(map, 1);
	map->policy.type->expect(&map->policy, block);
	occupy(map, slot, block);
	nr_cache_set(map, slot, state);
}

bool nr_cache_evict(struct nr_cache_map *map)
{
	uint32_t slot = evict(map);

	if (slot == NR_NO_SLOT)
		return false;
	leave(map, slot);
	return true;
}

static bool is_dirty(enum nr_cache_state state)
{
	return state == NR_CACHE_DIRTY || state == NR_CACHE_WRITING ||
	       state == NR_CACHE_DIRTY_AGAIN;
}

static void count_dirty(struct nr_cache_map *map, uint32_t slot, bool before, bool now)
{
	uint64_t bit = UINT64_C(1) << (slot % 64);

	if (before == now)
		return;
	map->dirty_bits[slot / 64] ^= bit;
	map->dirty = now ? map->dirty + 1 : map->dirty - 1;
	nr_count_set(&map->dirty_now, map->dirty);
	if (map->dirty > nr_count_get(&map->dirty_most))
		nr_count_set(&map->dirty_most, map->dirty);
}

void nr_cache_set(struct nr_cache_map *map, uint32_t slot, enum nr_cache_state state)
{
	enum nr_cache_state before = nr_cache_state_of(map, slot);

	assert(before != NR_CACHE_EMPTY);
	assert(before != NR_CACHE_EVICTING);
	count_dirty(map, slot, is_dirty(before), is_dirty(state));
	map->slot[slot].state = (uint8_t)state;
}

void nr_cache_drop(struct nr_cache_map *map, uint32_t slot)
{
	uint64_t block = nr_cache_block_of(map, slot);

	nr_cache_set(map, slot, NR_CACHE_EVICTING);
	take_out(map, block, slot);
	map->policy.type->remove(&map->policy, slot, block, false);
	if (map->slot[slot].pins == 0)
		leave(map, slot);
}

void nr_cache_unpin(struct nr_cache_map *map, uint32_t slot)
{
	struct nr_cache_slot *s = &map->slot[slot];

	assert(s->pins > 0);
	if (--s->pins == 0 && s->state == NR_CACHE_EVICTING)
		leave(map, slot);
}

/* The first bit of BITS that is set, from FROM on; or NR_NO_SLOT. */
static uint32_t next_bit(const struct nr_cache_map *map, const uint64_t *bits, uint32_t from)
{
	size_t word = from / 64, words = bit_words(map->slots);
	uint64_t some;

	if (from >= map->slots)
		return NR_NO_SLOT;
	some = bits[word] & UINT64_MAX << (from % 64);
	while (!some && ++word < words)
		some = bits[word];
	return some ? (uint32_t)(word * 64) + (uint32_t)__builtin_ctzll(some) : NR_NO_SLOT;
}

uint32_t nr_cache_next_dirty(const struct nr_cache_map *map, uint32_t from)
{
	return next_bit(map, map->dirty_bits, from);
}

uint32_t nr_cache_next_left(const struct nr_cache_map *map, uint32_t from, uint32_t most,
			    uint32_t *count)
{
	uint32_t slot = next_bit(map, map->left_bits, from);

	*count = 0;
	while (slot != NR_NO_SLOT && *count < most && slot + *count < map->slots &&
	       nr_cache_state_of(map, slot + *count) == NR_CACHE_LEFT)
		++*count;
	return slot;
}

void nr_cache_given_back(struct nr_cache_map *map, uint32_t slot, uint32_t count)
{
	for (; count; slot++, count--) {
		assert(nr_cache_state_of(map, slot) == NR_CACHE_LEFT);
		map->left_bits[slot / 64] &= ~(UINT64_C(1) << (slot % 64));
		map->left--;
		make_free(map, slot);
	}
}
