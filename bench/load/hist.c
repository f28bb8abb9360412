/*
 * Log-linear histogram: exact below 64, then 64 equal steps in each power of two. Adding
 * is a shift and an increment; two histograms merge by adding their buckets, so every
 * thread keeps its own and nothing is shared while the load runs.
 */
#include "bench/load/hist.h"

uint64_t hist_low(unsigned index)
{
	unsigned shift;

	if (index < HIST_STEPS)
		return index;
	shift = index / HIST_STEPS - 1;
	return (uint64_t)(HIST_STEPS + index % HIST_STEPS) << shift;
}

uint64_t hist_permille(const struct hist *h, unsigned permille)
{
	uint64_t wanted = (h->count * permille + 999) / 1000;
	uint64_t seen = 0;

	for (unsigned i = 0; i < HIST_BUCKETS; i++) {
		seen += h->bucket[i];
		if (seen >= wanted && h->bucket[i]) {
			unsigned shift = i < HIST_STEPS ? 0 : i / HIST_STEPS - 1;
			uint64_t middle = hist_low(i) + ((1ULL << shift) >> 1);

			return middle < h->max ? middle : h->max;
		}
	}
	return h->max;
}

void hist_merge(struct hist *into, const struct hist *from)
{
	for (unsigned i = 0; i < HIST_BUCKETS; i++)
		into->bucket[i] += from->bucket[i];
	into->count += from->count;
	into->sum += from->sum;
	if (from->max > into->max)
		into->max = from->max;
}
