/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Disks for tests of the filter `cache`: they answer when they are told to, in any
 * order, and fail when they are told to.  They have plain memory, and answer reads with
 * pointers into it, as a store in memory does.
 *
 * Two kinds: the backend `held`, and one that takes the place of `memory` in stacks
 * within stacks, for the store (cache_disk_options).  One of each is open at a time.
 */
#ifndef TESTS_UNIT_CACHE_DISK_H
#define TESTS_UNIT_CACHE_DISK_H

#include "layer-test.h"

enum { CACHE_BELOW, CACHE_STORE };

struct cache_disk {
	uint8_t *memory;
	uint64_t size;
	bool holds;                   /* requests wait for cache_disk_let_go */
	int fail[NR_OPERATION_COUNT]; /* 0, or the error of every such request */
	bool trims_nothing;
	uint64_t fail_after; /* so many more go well, then `fail` counts */
	unsigned count[NR_OPERATION_COUNT];
	uint64_t bytes[NR_OPERATION_COUNT];
	unsigned held;
	uint64_t lent; /* answers that are not given back */
	struct nr_layer *layer;
	struct nr_request *queue[4096];
};

extern struct cache_disk cache_disk[2];

/* Let the INDEXth of those held go on; it is finished in its turn. */
void cache_disk_let_go(struct cache_disk *disk, unsigned index);

void cache_disk_options(struct layer_options *options);

#endif
