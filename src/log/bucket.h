/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A token bucket: how often something may happen.
 *
 * Time is the caller's, in nanoseconds, so that a test can make its own.  One
 * thread at a time.
 */
#ifndef SRC_LOG_BUCKET_H
#define SRC_LOG_BUCKET_H

#include <stdbool.h>
#include <stdint.h>

struct nr_bucket {
	uint64_t burst;     /* tokens when full; 0: no limit */
	uint64_t refill_ns; /* time in which one token comes back */
	uint64_t tokens;
	uint64_t filled_ns; /* the time up to which tokens have been added */
	uint64_t left_out;  /* takes refused since the last that was not */
};

/* Full, at NOW. */
static inline void nr_bucket_init(struct nr_bucket *bucket, uint64_t burst, uint64_t refill_ns,
				  uint64_t now_ns)
{
	*bucket = (struct nr_bucket){
		.burst = burst,
		.refill_ns = refill_ns,
		.tokens = burst,
		.filled_ns = now_ns,
	};
}

/* Take a token at NOW; false, and counted, when there is none. */
static inline bool nr_bucket_take(struct nr_bucket *bucket, uint64_t now_ns)
{
	uint64_t new_tokens;

	if (bucket->burst == 0)
		return true;
	new_tokens = (now_ns - bucket->filled_ns) / bucket->refill_ns;
	if (new_tokens >= bucket->burst - bucket->tokens) {
		bucket->tokens = bucket->burst;
		bucket->filled_ns = now_ns;
	} else {
		bucket->tokens += new_tokens;
		bucket->filled_ns += new_tokens * bucket->refill_ns;
	}
	if (bucket->tokens == 0) {
		bucket->left_out++;
		return false;
	}
	bucket->tokens--;
	return true;
}

#endif
