/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A stripe is one word: a bit for the exclusive holder, a bit that says someone
 * waits, and the number of shared holders.  The wait bit keeps new shared holders
 * out, so that an exclusive request is not starved by a stream of writes.
 *
 * No wake-up is lost: a waiter sets the wait bit and tries once more under the
 * mutex before it sleeps; who gives a stripe back and finds the bit set takes the
 * mutex, clears the bit and wakes all who wait for that stripe.
 */
#include "filters/rangelock.h"

#include <assert.h>

#include "nbdring/checked.h"

#define REGION_SHIFT 20
#define EXCLUSIVE (UINT32_C(1) << 31)
#define WAITED_FOR (UINT32_C(1) << 30)
#define SHARED_MASK (WAITED_FOR - 1)

void nr_rangelock_init(struct nr_rangelock *lock)
{
	for (unsigned i = 0; i < NR_RANGELOCK_STRIPES; i++)
		atomic_init(&lock->stripe[i], 0);
	pthread_mutex_init(&lock->mutex, NULL);
	lock->waiting = NULL;
}

void nr_rangelock_fini(struct nr_rangelock *lock)
{
	assert(!lock->waiting);
	pthread_mutex_destroy(&lock->mutex);
}

void nr_range_ticket_init(struct nr_range_ticket *ticket, struct nr_layer *layer,
			  struct nr_request *req, uint64_t offset, uint64_t length, bool exclusive)
{
	uint64_t first = offset >> REGION_SHIFT;
	uint64_t last = (offset + length - 1) >> REGION_SHIFT;
	uint64_t from = first % NR_RANGELOCK_STRIPES, to = last % NR_RANGELOCK_STRIPES;

	*ticket = (struct nr_range_ticket){ .layer = layer, .req = req, .exclusive = exclusive };
	if (last - first >= NR_RANGELOCK_STRIPES || from > to) {
		/* All of them, or around the end of the table: all, to keep the order. */
		ticket->first = 0;
		ticket->count = NR_RANGELOCK_STRIPES;
	} else {
		ticket->first = (uint16_t)from;
		ticket->count = (uint16_t)(to - from + 1);
	}
}

/* WAITING: called under the mutex, when the wait bit is our own doing. */
static bool try_stripe(_Atomic uint32_t *stripe, bool exclusive, bool waiting)
{
	uint32_t now = atomic_load_explicit(stripe, memory_order_relaxed);

	for (;;) {
		uint32_t blocked = EXCLUSIVE | (exclusive ? SHARED_MASK : 0);

		if (!waiting)
			blocked |= WAITED_FOR;
		if (now & blocked)
			return false;
		if (atomic_compare_exchange_weak_explicit(
			    stripe, &now, exclusive ? now | EXCLUSIVE : now + 1,
			    memory_order_acquire, memory_order_relaxed))
			return true;
	}
}

static void give_stripe(struct nr_rangelock *lock, unsigned index, bool exclusive)
{
	_Atomic uint32_t *stripe = &lock->stripe[index];
	uint32_t left;
	struct nr_range_ticket **at;

	if (exclusive)
		left = atomic_fetch_and_explicit(stripe, ~EXCLUSIVE, memory_order_acq_rel) &
		       ~EXCLUSIVE;
	else
		left = atomic_fetch_sub_explicit(stripe, 1, memory_order_acq_rel) - 1;
	if (!(left & WAITED_FOR) || (left & SHARED_MASK))
		return;
	pthread_mutex_lock(&lock->mutex);
	atomic_fetch_and(stripe, ~WAITED_FOR);
	at = &lock->waiting;
	while (*at) {
		struct nr_range_ticket *ticket = *at;

		if ((unsigned)ticket->first + ticket->taken != index) {
			at = &ticket->next;
			continue;
		}
		*at = ticket->next;
		nr_resume(ticket->layer, ticket->req);
	}
	pthread_mutex_unlock(&lock->mutex);
}

/* The stripe is busy: take it after all, or join those who wait. */
static bool take_or_wait(struct nr_rangelock *lock, struct nr_range_ticket *ticket)
{
	_Atomic uint32_t *stripe = &lock->stripe[ticket->first + ticket->taken];
	struct nr_range_ticket **at = &lock->waiting;
	bool taken;

	pthread_mutex_lock(&lock->mutex);
	atomic_fetch_or(stripe, WAITED_FOR);
	taken = try_stripe(stripe, ticket->exclusive, true);
	if (!taken) {
		while (*at)
			at = &(*at)->next;
		ticket->next = NULL;
		*at = ticket;
	}
	pthread_mutex_unlock(&lock->mutex);
	return taken;
}

bool nr_rangelock_take(struct nr_rangelock *lock, struct nr_range_ticket *ticket)
{
	while (ticket->taken < ticket->count) {
		if (!try_stripe(&lock->stripe[ticket->first + ticket->taken], ticket->exclusive,
				false) &&
		    !take_or_wait(lock, ticket))
			return false;
		ticket->taken++;
	}
	return true;
}

void nr_rangelock_give(struct nr_rangelock *lock, struct nr_range_ticket *ticket)
{
	while (ticket->taken > 0) {
		ticket->taken--;
		give_stripe(lock, ticket->first + ticket->taken, ticket->exclusive);
	}
}
