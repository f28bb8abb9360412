/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Accepting.  When descriptors or memory run out, accepting pauses for a moment
 * instead of spinning; clients wait in the backlog, those that are in go on.  The
 * log has a line when that begins, however long it lasts.
 *
 * At a limit where clients wait (gate.h), the one that was accepted last is held, and
 * none is accepted until there is room for it.
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
	if (l->held >= 0)
		close(l->held);
	l->held = -1;
	nr_ring_cancel(l->shard->ring, &l->completion);
	nr_ring_forget(l->shard->ring, l->fd);
}

/* FD is served, closed or held.  True: the next one may be accepted. */
static bool take(struct nr_listener *l, int fd)
{
	struct nr_server *server = l->shard->server;
	struct nr_gate *gate = nr_server_gate(server);

	for (;;) {
		switch (nr_gate_enter(gate)) {
		case NR_GATE_OPEN:
			nr_server_place(server, l->shard, fd);
			return true;
		case NR_GATE_FULL:
			nr_log(NR_LOG_WARNING, NR_LOG_CLIENT,
			       "%s: a client was turned away: there are %u, as many as may be "
			       "(--max-connections)",
			       l->description, gate->limits.clients);
			close(fd);
			return true;
		case NR_GATE_WAIT:
			if (!nr_gate_wait(gate))
				continue;
			l->held = fd;
			return false;
		}
	}
}

void nr_listener_go_on(struct nr_listener *l)
{
	int fd = l->held;

	if (fd < 0 || l->shard->stopping)
		return;
	l->held = -1;
	if (take(l, fd))
		nr_ring_accept(l->shard->ring, &l->completion, l->fd);
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
	bool paused = l->pausing, goes_on = true;
	int64_t result = completion->result;

	l->pausing = false;
	if (l->shard->stopping && !paused && result >= 0) {
		close((int)result); /* accepted before the stop was heard of, seen after */
		return;
	}
	if (!paused && result >= 0) {
		l->trouble = 0;
		goes_on = take(l, (int)result);
	}
	if (l->shard->stopping || result == -ECANCELED || !goes_on)
		return;
	/* A client that was gone before it was accepted is no reason to pause. */
	if (paused || result >= 0 || result == -ECONNABORTED || result == -EPROTO)
		nr_ring_accept(ring, &l->completion, l->fd);
	else
		pause_accepting(l, (int)result);
}
