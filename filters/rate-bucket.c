/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * See rate-bucket.h.  All sums stop at CEILING instead of wrapping: a rate of one bit
 * per second makes waits of months, and they add up.
 */
#include "filters/rate-bucket.h"

#include "nbdring/checked.h"

#define CEILING (UINT64_MAX / 2)

static uint64_t add(uint64_t a, uint64_t b)
{
	uint64_t sum;

	return nr_add(a, b, &sum) ? nr_min(sum, CEILING) : CEILING;
}

/* How long BITS take at RATE, nanoseconds. */
static uint64_t duration(uint64_t bits, uint64_t rate)
{
	uint64_t product;

	if (nr_mul(bits, 1000000000, &product))
		return product / rate;
	return bits / rate >= CEILING / 1000000000 ? CEILING : bits / rate * 1000000000;
}

uint64_t nr_bucket_rescale(uint64_t time, uint64_t now, uint64_t from, uint64_t to)
{
	double left;

	if (time <= now || from == to)
		return time;
	if (to == 0 || from == 0)
		return now;
	left = (double)(time - now) * ((double)from / (double)to);
	return left >= (double)CEILING / 2 ? CEILING : add(now, (uint64_t)left);
}

/* One of those who see the new rate converts; the others do not wait for that. */
static void change(struct nr_bucket *bucket, uint64_t now, uint64_t from, uint64_t to)
{
	uint64_t full = atomic_load_explicit(&bucket->full_at, memory_order_relaxed), after;

	if (!atomic_compare_exchange_strong(&bucket->rate, &from, to))
		return;
	do {
		after = nr_bucket_rescale(full, now, from, to);
	} while (!atomic_compare_exchange_weak_explicit(
		&bucket->full_at, &full, after, memory_order_relaxed, memory_order_relaxed));
}

uint64_t nr_bucket_take(struct nr_bucket *bucket, uint64_t now, uint64_t bits, uint64_t rate,
			uint64_t burst)
{
	uint64_t length = duration(bits, rate);
	uint64_t from = atomic_load_explicit(&bucket->rate, memory_order_relaxed), full, after;

	if (from != rate)
		change(bucket, now, from, rate);
	full = atomic_load_explicit(&bucket->full_at, memory_order_relaxed);
	do {
		after = add(nr_max(full, now), length);
	} while (!atomic_compare_exchange_weak_explicit(
		&bucket->full_at, &full, after, memory_order_relaxed, memory_order_relaxed));
	return after > burst ? after - burst : 0;
}
