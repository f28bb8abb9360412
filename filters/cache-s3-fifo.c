/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * s3-fifo: three queues (Yang et al., "FIFO Queues are All You Need for Cache
 * Eviction", SOSP 2023).
 *
 * What comes waits in a small queue (list 0, a tenth of the slots).  What was used
 * meanwhile goes on into the main queue (list 1), the rest is thrown out and remembered;
 * who comes back while it is remembered goes to the main queue at once.  There, each
 * round costs one use.  Using a slot that is in the cache moves nothing: it is a
 * counter.
 */
#include "filters/cache-policy.h"

#define USES_MAX 3u
#define SMALL_PART 10u
#define STEPS_MAX 256u

static uint8_t uses(const struct nr_policy *p, uint32_t slot)
{
	return p->mark[slot] & (uint8_t)~NR_MARK_SECOND;
}

static void set_uses(struct nr_policy *p, uint32_t slot, unsigned count)
{
	p->mark[slot] = (uint8_t)((p->mark[slot] & NR_MARK_SECOND) | count);
}

static void s3_expect(struct nr_policy *p, uint64_t block)
{
	p->expected = nr_ghost_take(&p->ghosts, block) >= 0;
}

/* The last of the small queue: out, or on into the main queue. */
static uint32_t last_of_small(struct nr_policy *p, nr_policy_may *may, void *context)
{
	uint32_t slot = p->list[0].last;

	if (uses(p, slot) == 0 && may(context, slot))
		return slot;
	nr_policy_take_out(p, slot);
	nr_policy_put_first(p, uses(p, slot) > 0, slot);
	set_uses(p, slot, 0);
	return NR_NO_SLOT;
}

/* The last of the main queue: out, or another round for one of its uses. */
static uint32_t last_of_main(struct nr_policy *p, nr_policy_may *may, void *context)
{
	uint32_t slot = p->list[1].last;

	if (uses(p, slot) == 0 && may(context, slot))
		return slot;
	if (uses(p, slot))
		set_uses(p, slot, uses(p, slot) - 1u);
	nr_policy_take_out(p, slot);
	nr_policy_put_first(p, 1, slot);
	return NR_NO_SLOT;
}

/*
 * Most blocks may have been used, so this can be many steps; each takes a use away.  When
 * it takes too long, the last that may go does.
 */
static uint32_t s3_victim(struct nr_policy *p, nr_policy_may *may, void *context)
{
	uint32_t slot = NR_NO_SLOT;

	for (unsigned i = 0; i < STEPS_MAX && slot == NR_NO_SLOT; i++) {
		if (p->list[0].count == 0 && p->list[1].count == 0)
			break;
		if (p->list[0].count > p->capacity / SMALL_PART || p->list[1].count == 0)
			slot = last_of_small(p, may, context);
		else
			slot = last_of_main(p, may, context);
	}
	for (unsigned list = 0; list < 2 && slot == NR_NO_SLOT; list++)
		slot = nr_policy_last(p, list, may, context);
	return slot;
}

static void s3_insert(struct nr_policy *p, uint32_t slot)
{
	set_uses(p, slot, 0);
	nr_policy_put_first(p, p->expected, slot);
}

static void s3_use(struct nr_policy *p, uint32_t slot)
{
	if (uses(p, slot) < USES_MAX)
		set_uses(p, slot, uses(p, slot) + 1u);
}

static void s3_remove(struct nr_policy *p, uint32_t slot, uint64_t block, bool evicted)
{
	if (evicted && nr_policy_list_of(p, slot) == 0)
		nr_ghost_add(&p->ghosts, block, 0);
	nr_policy_take_out(p, slot);
}

const struct nr_policy_type nr_policy_s3_fifo = {
	.name = "s3-fifo",
	.ghosts = true,
	.expect = s3_expect,
	.victim = s3_victim,
	.insert = s3_insert,
	.use = s3_use,
	.remove = s3_remove,
};
