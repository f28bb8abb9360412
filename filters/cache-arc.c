/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * arc: adaptive replacement (Megiddo and Modha, "ARC: A Self-Tuning, Low Overhead
 * Replacement Cache", FAST 2003).
 *
 * List 0 has what was used once, list 1 what was used again, each with the most recent
 * one first; `target` is how long list 0 should be.  A block that comes back although
 * it was thrown out of list 0 says that this list was too short, one that was thrown
 * out of list 1 says the opposite.  One scan through the disk fills list 0 alone.
 */
#include "filters/cache-policy.h"

#include "nbdring/checked.h"

/* How far one return moves the target: more, the rarer such returns can be. */
static uint32_t step(uint32_t others, uint32_t own)
{
	return (uint32_t)nr_max(others / nr_max(own, 1), 1);
}

static void arc_expect(struct nr_policy *p, uint64_t block)
{
	const uint32_t *gone = p->ghosts.count;
	uint32_t up = step(gone[1], gone[0]), down = step(gone[0], gone[1]);
	int list = nr_ghost_take(&p->ghosts, block);

	p->expected = list >= 0;
	p->was_frequent = list == 1;
	if (list == 0)
		p->target = (uint32_t)nr_min((uint64_t)p->target + up, p->capacity);
	else if (list == 1)
		p->target -= (uint32_t)nr_min(p->target, down);
}

static uint32_t arc_victim(struct nr_policy *p, nr_policy_may *may, void *context)
{
	uint32_t once = p->list[0].count, slot;
	unsigned list = 1;

	if (once > 0 && (once > p->target || (p->was_frequent && once == p->target)))
		list = 0;
	slot = nr_policy_last(p, list, may, context);
	return slot == NR_NO_SLOT ? nr_policy_last(p, !list, may, context) : slot;
}

static void arc_insert(struct nr_policy *p, uint32_t slot)
{
	nr_policy_put_first(p, p->expected, slot);
}

static void arc_use(struct nr_policy *p, uint32_t slot)
{
	if (p->list[1].first == slot)
		return;
	nr_policy_take_out(p, slot);
	nr_policy_put_first(p, 1, slot);
}

static void arc_remove(struct nr_policy *p, uint32_t slot, uint64_t block, bool evicted)
{
	if (evicted)
		nr_ghost_add(&p->ghosts, block, nr_policy_list_of(p, slot));
	nr_policy_take_out(p, slot);
}

const struct nr_policy_type nr_policy_arc = {
	.name = "arc",
	.ghosts = true,
	.expect = arc_expect,
	.victim = arc_victim,
	.insert = arc_insert,
	.use = arc_use,
	.remove = arc_remove,
};
