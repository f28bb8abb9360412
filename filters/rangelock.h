/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A lock on ranges of a disk for requests of several workers: shared for those
 * that write whole blocks, exclusive for those that read, change and write back.
 *
 * The disk is cut into regions of 1 MiB, which share 256 stripes.  Taking a free
 * stripe is one atomic addition; only who has to wait takes the mutex.  Stripes
 * are taken in ascending order and kept while waiting for the next, so there is no
 * circle.  A waiter is woken by nr_resume and goes on where it was.
 */
#ifndef FILTERS_RANGELOCK_H
#define FILTERS_RANGELOCK_H

#include <pthread.h>
#include <stdatomic.h>

#include "nbdring/layer.h"

#define NR_RANGELOCK_STRIPES 256u

struct nr_range_ticket;

struct nr_rangelock {
	_Atomic uint32_t stripe[NR_RANGELOCK_STRIPES];
	pthread_mutex_t mutex; /* guards `waiting` */
	struct nr_range_ticket *waiting;
};

/* In the scratch of a request; the lock's while held or waited for. */
struct nr_range_ticket {
	struct nr_layer *layer;
	struct nr_request *req;
	struct nr_range_ticket *next;
	uint16_t first, count; /* stripes: first, first + 1, … */
	uint16_t taken;        /* of them */
	bool exclusive;
};

void nr_rangelock_init(struct nr_rangelock *lock);
void nr_rangelock_fini(struct nr_rangelock *lock);

/* Prepare TICKET for [OFFSET, OFFSET + LENGTH) on behalf of REQ in LAYER. */
void nr_range_ticket_init(struct nr_range_ticket *ticket, struct nr_layer *layer,
			  struct nr_request *req, uint64_t offset, uint64_t length, bool exclusive);

/* True: held.  False: REQ is parked; its `resume` calls this again. */
bool nr_rangelock_take(struct nr_rangelock *lock, struct nr_range_ticket *ticket);
void nr_rangelock_give(struct nr_rangelock *lock, struct nr_range_ticket *ticket);

#endif
