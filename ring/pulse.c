/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The pulse of a ring: see ring.h.
 *
 * Joining and leaving are a few stores, because they happen with every request.  So the
 * timer is not stopped when the last one leaves: it comes once more and finds nobody.  It
 * is the ring's own, and nr_ring_in_flight does not count it.
 */
#include <assert.h>

#include "ring/front.h"

static void beat(struct nr_ring *ring, struct nr_completion *timer);

static void start_timer(struct nr_ring *ring)
{
	ring->timer.done = beat;
	nr_ring_timeout(ring, &ring->timer, NR_PULSE_NS);
}

static void beat(struct nr_ring *ring, struct nr_completion *timer)
{
	struct nr_pulse *pulse = ring->pulses, *next;

	(void)timer;
	for (; pulse; pulse = next) {
		next = pulse->next;
		pulse->beat(ring, pulse);
	}
	if (ring->pulses)
		start_timer(ring);
}

void nr_ring_pulse_join(struct nr_ring *ring, struct nr_pulse *pulse)
{
	assert(!pulse->link);
	assert(pulse->beat);
	pulse->next = ring->pulses;
	pulse->link = &ring->pulses;
	if (pulse->next)
		pulse->next->link = &pulse->next;
	ring->pulses = pulse;
	if (!nr_completion_busy(&ring->timer))
		start_timer(ring);
}

void nr_ring_pulse_leave(struct nr_pulse *pulse)
{
	assert(pulse->link);
	*pulse->link = pulse->next;
	if (pulse->next)
		pulse->next->link = pulse->link;
	pulse->link = NULL;
}
