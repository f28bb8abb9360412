/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A token bucket for any number of threads, without a lock.
 *
 * It is the time at which the bucket will be full again if nothing more is
 * taken from it.  Taking N bits moves that time N / rate on; whoever finds it more
 * than the burst ahead of now waits for the difference.  So every taker waits once,
 * those who come first go first, and there is nothing to refill.
 *
 * The rate may be another one each time.  The first who comes with a new rate converts
 * what was run up by the old one.
 *
 * Times are nanoseconds of one monotonic clock.
 */
#ifndef FILTERS_RATE_BUCKET_H
#define FILTERS_RATE_BUCKET_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* All zeroes: full. */
struct nr_bucket {
	_Atomic uint64_t full_at;
	_Atomic uint64_t rate; /* by which full_at was worked out; 0: none yet */
};

/*
 * Take BITS at RATE bits per second (not 0) with BURST nanoseconds' worth of room:
 * the time at which the taker may go on, at most NOW when at once.
 */
uint64_t nr_bucket_take(struct nr_bucket *bucket, uint64_t now, uint64_t bits, uint64_t rate,
			uint64_t burst);

/* What is left of a wait for TIME when the rate changes; TO 0: unlimited. */
uint64_t nr_bucket_rescale(uint64_t time, uint64_t now, uint64_t from, uint64_t to);

#endif
