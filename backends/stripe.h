/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * How a striped disk lies on its legs: chunks go to the legs in turn.  What a range of
 * the disk occupies of one leg is one range there.
 */
#ifndef BACKENDS_STRIPE_H
#define BACKENDS_STRIPE_H

#include "backends/legs.h"

struct nr_stripe {
	uint64_t chunk; /* bytes, a power of two */
	unsigned shift; /* its logarithm */
	struct nr_legs legs;
};

/* How much of LEG lies in front of OFFSET of the disk, bytes. */
static inline uint64_t nr_stripe_before(const struct nr_stripe *stripe, unsigned leg,
					uint64_t offset)
{
	uint64_t number = offset >> stripe->shift;
	uint64_t row = (number / stripe->legs.count) << stripe->shift;
	unsigned at = (unsigned)(number % stripe->legs.count);

	if (leg < at)
		return row + stripe->chunk;
	return leg == at ? row + (offset & (stripe->chunk - 1)) : row;
}

/* What is left of the chunk at OFFSET, up to END. */
static inline uint64_t nr_stripe_part(const struct nr_stripe *stripe, uint64_t offset, uint64_t end)
{
	uint64_t left = stripe->chunk - (offset & (stripe->chunk - 1));

	return left < end - offset ? left : end - offset;
}

/* The map of a striped disk from those of its legs; see stripe-map.c. */

/* Give the children of REQ in FAN lists of their own.  False: memory is short. */
bool nr_stripe_map_prepare(struct nr_fan *fan, struct nr_request *req);
/* They are back, each well.  Fills the list of REQ. */
void nr_stripe_map_merge(const struct nr_stripe *stripe, struct nr_fan *fan,
			 struct nr_request *req);

#endif
