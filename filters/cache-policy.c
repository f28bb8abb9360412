/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the policies share, and the simplest of them: lru, which throws out what was not
 * used for longest.
 */
#include "filters/cache-policy.h"

#include <assert.h>
#include <sys/mman.h>

const char *const nr_policy_names[] = { "lru", "arc", "s3-fifo", NULL };
const struct nr_policy_type *const nr_policy_types[] = { &nr_policy_lru, &nr_policy_arc,
							 &nr_policy_s3_fifo };

static size_t ghost_bytes(const struct nr_policy *policy)
{
	return policy->type->ghosts ? nr_ghost_room(policy->capacity) * NR_GHOST_BYTES : 0;
}

static size_t bytes_of(const struct nr_policy *policy)
{
	return (sizeof(struct nr_policy_link) + 1) * (size_t)policy->capacity + 4 +
	       ghost_bytes(policy);
}

bool nr_policy_init(struct nr_policy *policy, const struct nr_policy_type *type, uint32_t capacity)
{
	void *memory;
	uint32_t *ghosts;

	*policy = (struct nr_policy){ .type = type, .capacity = capacity };
	memory = mmap(NULL, bytes_of(policy), PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (memory == MAP_FAILED)
		return false;
	policy->link = memory;
	ghosts = (uint32_t *)(void *)(policy->link + capacity);
	policy->mark = (uint8_t *)ghosts + ghost_bytes(policy);
	if (type->ghosts)
		nr_ghosts_init(&policy->ghosts, ghosts, capacity);
	for (unsigned i = 0; i < 2; i++)
		policy->list[i] = (struct nr_policy_list){ NR_NO_SLOT, NR_NO_SLOT, 0 };
	return true;
}

void nr_policy_fini(struct nr_policy *policy)
{
	if (policy->link)
		munmap(policy->link, bytes_of(policy));
	policy->link = NULL;
}

void nr_policy_put_first(struct nr_policy *policy, unsigned list, uint32_t slot)
{
	struct nr_policy_list *to = &policy->list[list];

	policy->link[slot] = (struct nr_policy_link){ to->first, NR_NO_SLOT };
	if (to->first == NR_NO_SLOT)
		to->last = slot;
	else
		policy->link[to->first].previous = slot;
	to->first = slot;
	to->count++;
	policy->mark[slot] &= (uint8_t)~NR_MARK_SECOND;
	if (list)
		policy->mark[slot] |= NR_MARK_SECOND;
}

void nr_policy_take_out(struct nr_policy *policy, uint32_t slot)
{
	struct nr_policy_list *from = &policy->list[nr_policy_list_of(policy, slot)];
	struct nr_policy_link link = policy->link[slot];

	assert(from->count > 0);
	if (link.previous == NR_NO_SLOT)
		from->first = link.next;
	else
		policy->link[link.previous].next = link.next;
	if (link.next == NR_NO_SLOT)
		from->last = link.previous;
	else
		policy->link[link.next].previous = link.previous;
	from->count--;
}

uint32_t nr_policy_last(struct nr_policy *policy, unsigned list, nr_policy_may *may, void *context)
{
	uint32_t slot = policy->list[list].last;

	for (unsigned i = 0; i < NR_VICTIM_STEPS && slot != NR_NO_SLOT; i++) {
		if (may(context, slot))
			return slot;
		slot = policy->link[slot].previous;
	}
	return NR_NO_SLOT;
}

/* lru: one list, the most recently used one first. */

static void lru_expect(struct nr_policy *policy, uint64_t block)
{
}

static uint32_t lru_victim(struct nr_policy *policy, nr_policy_may *may, void *context)
{
	return nr_policy_last(policy, 0, may, context);
}

static void lru_insert(struct nr_policy *policy, uint32_t slot)
{
	nr_policy_put_first(policy, 0, slot);
}

static void lru_use(struct nr_policy *policy, uint32_t slot)
{
	if (policy->list[0].first == slot)
		return;
	nr_policy_take_out(policy, slot);
	nr_policy_put_first(policy, 0, slot);
}

static void lru_remove(struct nr_policy *policy, uint32_t slot, uint64_t block, bool evicted)
{
	nr_policy_take_out(policy, slot);
}

const struct nr_policy_type nr_policy_lru = {
	.name = "lru",
	.expect = lru_expect,
	.victim = lru_victim,
	.insert = lru_insert,
	.use = lru_use,
	.remove = lru_remove,
};
