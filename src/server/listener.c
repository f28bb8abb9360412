/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Accepting.  When descriptors or memory run out, accepting pauses for a moment
 * instead of spinning; clients wait in the backlog, those that are in go on.  The
 * log has a line when that begins, however long it lasts.
 */
#include "src/server/listener.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "src/log/log.h"
#include "src/server/server-internal.h"

#define PAUSE_NS UINT64_C(200000000)

static void completed(struct nr_ring *ring, struct nr_completion *completion);

void nr_listener_begin(struct nr_listener *l)
{
	l->completion.done = completed;
	nr_ring_adopt(l->shard->ring, l->fd);
	nr_ring_accept(l->shard->ring, &l->completion, l->fd);
}

void nr_listener_stop(struct nr_listener *l)
{
	nr_ring_cancel(l->shard->ring, &l->completion);
	nr_ring_forget(l->shard->ring, l->fd);
}

static void pause_accepting(struct nr_listener *l, int error)
{
	if (l->trouble != error)
		nr_log(NR_LOG_WARNING, NR_LOG_CLIENT, "%s: cannot accept: %s; trying again shortly",
		       l->description, strerror(-error));
	l->trouble = error;
	l->pausing = true;
	nr_ring_timeout(l->shard->ring, &l->completion, PAUSE_NS);
}

static void completed(struct nr_ring *ring, struct nr_completion *completion)
{
	struct nr_listener *l = (struct nr_listener *)((char *)completion -
						       offsetof(struct nr_listener, completion));
	bool paused = l->pausing;
	int64_t result = completion->result;

	l->pausing = false;
	if (l->shard->stopping && !paused && result >= 0) {
		close((int)result); /* accepted before the stop was heard of, seen after */
		return;
	}
	if (!paused && result >= 0) {
		l->trouble = 0;
		nr_server_place(l->shard->server, l->shard, (int)result);
	}
	if (l->shard->stopping || result == -ECANCELED)
		return;
	/* A client that was gone before it was accepted is no reason to pause. */
	if (paused || result >= 0 || result == -ECONNABORTED || result == -EPROTO)
		nr_ring_accept(ring, &l->completion, l->fd);
	else
		pause_accepting(l, (int)result);
}
