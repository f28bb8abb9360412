/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A log-linear histogram: each power of two is cut into 32 equal parts, so a value
 * that is read out is at most 1/32 from one that was put in, over the whole range,
 * at a few instructions per value.  Values below 64 are exact; those of 2^42 (73
 * minutes in nanoseconds) and more share the last slot.
 */
#ifndef FILTERS_HISTOGRAM_H
#define FILTERS_HISTOGRAM_H

#include <stdint.h>

#define NR_HISTOGRAM_PART_BITS 5u
#define NR_HISTOGRAM_PARTS (1u << NR_HISTOGRAM_PART_BITS)
#define NR_HISTOGRAM_TOP_BIT 42u
#define NR_HISTOGRAM_SLOTS \
	((NR_HISTOGRAM_TOP_BIT - NR_HISTOGRAM_PART_BITS + 1) * NR_HISTOGRAM_PARTS)

struct nr_histogram {
	uint64_t slot[NR_HISTOGRAM_SLOTS];
};

static inline unsigned nr_histogram_slot(uint64_t value)
{
	unsigned top, shift;

	if (value >> NR_HISTOGRAM_TOP_BIT)
		return NR_HISTOGRAM_SLOTS - 1;
	if (value < NR_HISTOGRAM_PARTS)
		return (unsigned)value;
	top = 63u - (unsigned)__builtin_clzll(value);
	shift = top - NR_HISTOGRAM_PART_BITS;
	return (shift + 1) * NR_HISTOGRAM_PARTS + (unsigned)(value >> shift) - NR_HISTOGRAM_PARTS;
}

/* The largest value that goes to SLOT (the last one also has all that are larger). */
static inline uint64_t nr_histogram_value(unsigned slot)
{
	unsigned shift = slot / NR_HISTOGRAM_PARTS;
	uint64_t part = slot % NR_HISTOGRAM_PARTS;

	if (shift == 0)
		return part;
	shift--;
	return ((part + NR_HISTOGRAM_PARTS + 1) << shift) - 1;
}

static inline void nr_histogram_add(struct nr_histogram *histogram, uint64_t value)
{
	histogram->slot[nr_histogram_slot(value)]++;
}

static inline void nr_histogram_merge(struct nr_histogram *to, const struct nr_histogram *from)
{
	for (unsigned i = 0; i < NR_HISTOGRAM_SLOTS; i++)
		to->slot[i] += from->slot[i];
}

/*
 * The value that PER_MILLE of 1000 values are not above, of COUNT in all; 0 when
 * there are none.
 */
static inline uint64_t nr_histogram_at(const struct nr_histogram *histogram, uint64_t count,
				       unsigned per_mille)
{
	uint64_t wanted = count / 1000 * per_mille + (count % 1000 * per_mille + 999) / 1000;
	uint64_t seen = 0;

	if (count == 0)
		return 0;
	for (unsigned i = 0; i < NR_HISTOGRAM_SLOTS; i++) {
		seen += histogram->slot[i];
		if (seen >= wanted)
			return nr_histogram_value(i);
	}
	return nr_histogram_value(NR_HISTOGRAM_SLOTS - 1);
}

#endif
