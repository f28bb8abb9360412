/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Waits that layers have asked for: before a client is told that it is in, and before
 * one that has said goodbye is let go.
 *
 * A wait is a timer and, where that is asked for, a look at the socket, both of the
 * shard's ring, so that it ends early when there is nobody left to wait for.  Its
 * memory exists while it lasts: most connections never have one.
 */
#include <poll.h>
#include <stdlib.h>

#include "src/server/connection.h"

struct nr_linger {
	struct nr_connection *connection;
	void (*over)(struct nr_connection *c);
	struct nr_completion timer, hangup;
};

static void over(struct nr_linger *l)
{
	struct nr_connection *c = l->connection;
	void (*then)(struct nr_connection *) = l->over;

	if (nr_completion_busy(&l->timer) || nr_completion_busy(&l->hangup)) {
		nr_linger_end(c);
		return;
	}
	c->linger = NULL;
	free(l);
	nr_shard_activate(c->shard, c);
	if (then)
		then(c);
}

static void timer_done(struct nr_ring *ring, struct nr_completion *completion)
{
	over((struct nr_linger *)((char *)completion - offsetof(struct nr_linger, timer)));
}

static void hangup_done(struct nr_ring *ring, struct nr_completion *completion)
{
	over((struct nr_linger *)((char *)completion - offsetof(struct nr_linger, hangup)));
}

bool nr_linger_begin(struct nr_connection *c, uint64_t nanoseconds, bool watch,
		     void (*then)(struct nr_connection *c))
{
	struct nr_linger *l = calloc(1, sizeof(*l));

	if (!l)
		return false;
	l->connection = c;
	l->over = then;
	l->timer.done = timer_done;
	l->hangup.done = hangup_done;
	c->linger = l;
	nr_ring_timeout(c->shard->ring, &l->timer, nanoseconds);
	if (watch)
		nr_ring_poll(c->shard->ring, &l->hangup, c->fd, POLLRDHUP);
	return true;
}

void nr_linger_end(struct nr_connection *c)
{
	if (!c->linger)
		return;
	nr_ring_cancel(c->shard->ring, &c->linger->timer);
	nr_ring_cancel(c->shard->ring, &c->linger->hangup);
}
