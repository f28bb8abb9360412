/* Latency histogram, log-linear: 64 steps per power of two, so 1.6 % wide. See hist.c. */
#ifndef BENCH_LOAD_HIST_H
#define BENCH_LOAD_HIST_H

#include <stdint.h>

#define HIST_STEP_BITS 6U
#define HIST_STEPS (1U << HIST_STEP_BITS)
#define HIST_BUCKETS (HIST_STEPS * (65U - HIST_STEP_BITS))

struct hist {
	uint64_t count;
	uint64_t sum;
	uint64_t max;
	uint64_t bucket[HIST_BUCKETS];
};

static inline unsigned hist_index(uint64_t value)
{
	unsigned shift;

	if (value < HIST_STEPS)
		return (unsigned)value;
	shift = 63U - (unsigned)__builtin_clzll(value) - HIST_STEP_BITS;
	return HIST_STEPS * (shift + 1) + (unsigned)((value >> shift) & (HIST_STEPS - 1));
}

static inline void hist_add(struct hist *h, uint64_t value)
{
	h->bucket[hist_index(value)]++;
	h->count++;
	h->sum += value;
	if (value > h->max)
		h->max = value;
}

/* The smallest value that falls into the bucket. */
uint64_t hist_low(unsigned index);

/* The value that `permille` tenths of a percent of all values do not exceed (bucket middle). */
uint64_t hist_permille(const struct hist *h, unsigned permille);

void hist_merge(struct hist *into, const struct hist *from);

#endif
