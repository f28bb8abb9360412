/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The inside of the reactor's front: what the starting of operations
 * (operations.c) and their further life (ring.c) share.  Private to the two.
 */
#ifndef RING_FRONT_H
#define RING_FRONT_H

#include <stdbool.h>
#include <stddef.h>

#include "ring/engine.h"
#include "ring/inbox.h"
#include "ring/ring.h"

#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

/* Where a completion is; ring.c says how it moves. */
enum nr_completion_state {
	IDLE = 0,
	HELD,
	UNDER_WAY,
	READY,
};

/* Bits of nr_completion.flags that are the front's own. */
enum {
	CANCEL_ASKED = 0x10,
	CANCEL_WANTED = 0x20, /* in ring->wanted */
	CANCEL_GIVEN = 0x40,  /* in ring->given */
	RESTARTED = 0x80,     /* a connect was interrupted before */
};

struct nr_queue {
	struct nr_completion *first, *last;
};

struct nr_ring {
	const struct nr_engine_type *type;
	struct nr_engine *engine;
	struct nr_queue held;
	struct nr_queue ready;
	struct nr_queue wanted;       /* under way, cancellation to be handed to the engine */
	struct nr_queue given;        /* under way, cancellation handed to the engine */
	struct nr_deferred *deferred; /* newest first */
	struct nr_pulse *pulses;
	struct nr_completion timer; /* of the pulse; busy: it will beat */
	unsigned in_flight;
	unsigned held_cancelled; /* completions in `held` with CANCEL_ASKED */
	bool turning;            /* inside nr_ring_turn, which does not nest */
	void *context;
	struct nr_arena *arena;
	struct nr_ring_report report;

	/* Written by other threads: on a cache line of its own. */
	_Alignas(64) struct nr_inbox inbox;
};

static inline void nr_queue_append(struct nr_queue *queue, struct nr_completion *c)
{
	c->next = NULL;
	if (queue->last)
		queue->last->next = c;
	else
		queue->first = c;
	queue->last = c;
}

/* One attempt of what C describes goes to the engine, or waits its turn. */
static inline void nr_front_launch(struct nr_ring *ring, struct nr_completion *c)
{
	c->state = UNDER_WAY;
	if (likely(!ring->held.first) && likely(ring->type->start(ring->engine, c)))
		return;
	c->state = HELD;
	nr_queue_append(&ring->held, c);
}

/* The result is known without the engine: `done` is called in the next turn. */
static inline void nr_front_ready(struct nr_ring *ring, struct nr_completion *c, int64_t result)
{
	c->state = READY;
	c->result = result;
	nr_queue_append(&ring->ready, c);
}

#endif
