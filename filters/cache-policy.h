/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Which block of a cache goes when another one comes: replacement policies behind one
 * interface.
 *
 * A policy knows slots (places for a block, by index) and block numbers.  It keeps two
 * lists of slots, a byte per slot, and memory of blocks that are gone (cache-ghost.h);
 * what these mean is its own affair.  Who uses it says what happens:
 *
 *	expect   BLOCK, which is not there, is about to come
 *	victim   a slot to empty for it, among those that may go; or NR_NO_SLOT
 *	insert   the block expected last is in SLOT
 *	use      SLOT was read or written
 *	remove   SLOT is empty; EVICTED: because `victim` chose it
 *
 * Deterministic, no I/O, no locks.  One thread.
 */
#ifndef FILTERS_CACHE_POLICY_H
#define FILTERS_CACHE_POLICY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "filters/cache-ghost.h"

#define NR_NO_SLOT UINT32_MAX
#define NR_VICTIM_STEPS 64u /* slots looked at for one that may go */

struct nr_policy_link {
	uint32_t next, previous; /* slots; towards the end of the list, towards its front */
};

struct nr_policy_list {
	uint32_t first, last; /* slots */
	uint32_t count;
};

struct nr_policy {
	const struct nr_policy_type *type;
	uint32_t capacity; /* slots */
	struct nr_policy_link *link;
	uint8_t *mark; /* per slot: NR_MARK_SECOND, and a number */
	struct nr_policy_list list[2];
	struct nr_ghosts ghosts;
	uint32_t target;   /* arc: slots that list 0 should have */
	uint8_t expected;  /* the list that the next block goes to */
	bool was_frequent; /* arc: it was in list 1 before */
};

#define NR_MARK_SECOND 0x80u /* the slot is in list 1 */

typedef bool nr_policy_may(void *context, uint32_t slot);

struct nr_policy_type {
	const char *name;
	bool ghosts; /* remembers blocks that are gone */
	void (*expect)(struct nr_policy *policy, uint64_t block);
	uint32_t (*victim)(struct nr_policy *policy, nr_policy_may *may, void *context);
	void (*insert)(struct nr_policy *policy, uint32_t slot);
	void (*use)(struct nr_policy *policy, uint32_t slot);
	void (*remove)(struct nr_policy *policy, uint32_t slot, uint64_t block, bool evicted);
};

/* By enum, for parameters; NULL-ended. */
extern const char *const nr_policy_names[];
extern const struct nr_policy_type *const nr_policy_types[];

extern const struct nr_policy_type nr_policy_lru;
extern const struct nr_policy_type nr_policy_arc;
extern const struct nr_policy_type nr_policy_s3_fifo;

/* The memory is reserved, and taken as it is used.  False: there is none. */
bool nr_policy_init(struct nr_policy *policy, const struct nr_policy_type *type, uint32_t capacity);
void nr_policy_fini(struct nr_policy *policy);

/* For policies: the lists. */
void nr_policy_put_first(struct nr_policy *policy, unsigned list, uint32_t slot);
void nr_policy_take_out(struct nr_policy *policy, uint32_t slot);
/* The last of LIST that may go, of the last NR_VICTIM_STEPS; or NR_NO_SLOT. */
uint32_t nr_policy_last(struct nr_policy *policy, unsigned list, nr_policy_may *may, void *context);

static inline unsigned nr_policy_list_of(const struct nr_policy *policy, uint32_t slot)
{
	return policy->mark[slot] & NR_MARK_SECOND ? 1 : 0;
}

/* Bytes of memory per slot, at most. */
#define NR_POLICY_SLOT_BYTES (sizeof(struct nr_policy_link) + 1 + NR_GHOST_BYTES)

#endif
