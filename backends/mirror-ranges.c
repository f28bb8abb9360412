/* SPDX-License-Identifier: BSD-3-Clause */
#include "backends/mirror-ranges.h"

#include <assert.h>

#define SHIFT 20
#define SHORT_MAX (UINT64_C(1) << SHIFT)
#define LONG NR_MIRROR_BUCKETS

static bool is_long(const struct nr_mirror_range *range)
{
	return range->end - range->start > SHORT_MAX;
}

static unsigned bucket_of(const struct nr_mirror_range *range)
{
	return is_long(range) ? LONG : (unsigned)(range->start >> SHIFT) % NR_MIRROR_BUCKETS;
}

/*
 * The buckets that hold what RANGE may overlap: *FIRST and so many after it, around the
 * end; the long ones besides.
 */
static unsigned buckets(const struct nr_mirror_range *range, unsigned *first)
{
	uint64_t from = range->start >> SHIFT, to = (range->end - 1) >> SHIFT;

	/* What begins in the mebibyte before may reach into this one. */
	from -= from > 0;
	*first = (unsigned)(from % NR_MIRROR_BUCKETS);
	return to - from >= NR_MIRROR_BUCKETS ? NR_MIRROR_BUCKETS : (unsigned)(to - from + 1);
}

static bool overlap(const struct nr_mirror_range *a, const struct nr_mirror_range *b)
{
	return a->start < b->end && b->start < a->end;
}

static unsigned count_in(const struct nr_mirror_range *bucket, const struct nr_mirror_range *range)
{
	unsigned count = 0;

	for (; bucket; bucket = bucket->next)
		count += overlap(bucket, range);
	return count;
}

bool nr_mirror_ranges_add(struct nr_mirror_ranges *ranges, struct nr_mirror_range *range)
{
	unsigned first, count = buckets(range, &first);
	struct nr_mirror_range **bucket = &ranges->bucket[bucket_of(range)];

	assert(range->start < range->end);
	range->waits = count_in(ranges->bucket[LONG], range);
	for (unsigned i = 0; i < count; i++)
		range->waits += count_in(ranges->bucket[(first + i) % NR_MIRROR_BUCKETS], range);
	range->order = ranges->order++;
	range->next = *bucket;
	range->at = bucket;
	if (range->next)
		range->next->at = &range->next;
	*bucket = range;
	ranges->count++;
	return range->waits == 0;
}

static void wake_in(struct nr_mirror_range *bucket, const struct nr_mirror_range *gone,
		    struct nr_layer *layer)
{
	for (; bucket; bucket = bucket->next) {
		if (bucket->order < gone->order || !overlap(bucket, gone))
			continue;
		assert(bucket->waits > 0);
		if (--bucket->waits == 0)
			nr_resume(layer, bucket->req);
	}
}

void nr_mirror_ranges_remove(struct nr_mirror_ranges *ranges, struct nr_mirror_range *range,
			     struct nr_layer *layer)
{
	unsigned first, count = buckets(range, &first);

	assert(range->waits == 0);
	*range->at = range->next;
	if (range->next)
		range->next->at = range->at;
	ranges->count--;
	/* Alone, as it mostly is. */
	if (ranges->count == 0)
		return;
	wake_in(ranges->bucket[LONG], range, layer);
	for (unsigned i = 0; i < count; i++)
		wake_in(ranges->bucket[(first + i) % NR_MIRROR_BUCKETS], range, layer);
}
