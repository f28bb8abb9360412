/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The loop of a worker thread.
 *
 * Everything that happens on a shard happens in one of four steps of a turn, in
 * this order: completions and messages (they only change state and make
 * connections active), reading (active connections take requests and push them
 * down), moving (requests go up and down until none is ready), writing (active
 * connections gather replies into one send and start to receive).  The kernel is
 * entered once per turn.
 */
#include "src/server/shard.h"

#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "src/log/log.h"
#include "src/server/connection.h"
#include "src/server/limits.h"
#include "src/server/server-internal.h"

/* Memory. */

bool nr_shard_charge(struct nr_shard *s, uint64_t bytes, bool first)
{
	uint64_t most = s->memory_max;

	if (first && bytes <= NR_FIRST_BYTES)
		most += s->memory_reserve;
	if (s->memory_used && s->memory_used + bytes > most)
		return false;
	s->memory_used += bytes;
	return true;
}

static void feed_starved(struct nr_shard *s)
{
	while (s->starved) {
		struct nr_connection *c = s->starved;

		s->starved = c->next_starved;
		c->is_starved = false;
		c->woken = true;
		nr_shard_activate(s, c);
	}
	s->starved_tail = &s->starved;
}

void nr_shard_uncharge(struct nr_shard *s, uint64_t bytes)
{
	assert(s->memory_used >= bytes);
	s->memory_used -= bytes;
	if (s->starved)
		feed_starved(s);
}

void nr_shard_starve(struct nr_shard *s, struct nr_connection *c)
{
	if (c->is_starved)
		return;
	c->is_starved = true;
	c->next_starved = NULL;
	*s->starved_tail = c;
	s->starved_tail = &c->next_starved;
	nr_shard_want_tick(s); /* should nothing else wake it */
}

/* Lists. */

void nr_shard_activate(struct nr_shard *s, struct nr_connection *c)
{
	if (c->is_active)
		return;
	c->is_active = true;
	c->next_active = NULL;
	*s->active_tail = c;
	s->active_tail = &c->next_active;
}

void nr_shard_add(struct nr_shard *s, struct nr_connection *c)
{
	c->next = s->connections;
	if (c->next)
		c->next->link = &c->next;
	c->link = &s->connections;
	s->connections = c;
	nr_shard_want_tick(s);
}

static void unlink_active(struct nr_shard *s, struct nr_connection *c)
{
	struct nr_connection **at = &s->active;

	while (*at != c)
		at = &(*at)->next_active;
	*at = c->next_active;
	if (s->active_tail == &c->next_active)
		s->active_tail = at;
	c->is_active = false;
}

static void unlink_starved(struct nr_shard *s, struct nr_connection *c)
{
	struct nr_connection **at = &s->starved;

	while (*at != c)
		at = &(*at)->next_starved;
	*at = c->next_starved;
	if (s->starved_tail == &c->next_starved)
		s->starved_tail = at;
	c->is_starved = false;
}

void nr_shard_remove(struct nr_shard *s, struct nr_connection *c)
{
	*c->link = c->next;
	if (c->next)
		c->next->link = c->link;
	if (c->is_active)
		unlink_active(s, c);
	if (c->is_starved)
		unlink_starved(s, c);
	atomic_fetch_sub_explicit(&s->connection_count, 1, memory_order_relaxed);
	nr_worker_trim(&s->worker);
}

/* The tick. */

static void tick(struct nr_ring *ring, struct nr_completion *completion)
{
	struct nr_shard *s = nr_ring_context(ring);
	uint64_t now = nr_ring_now(ring);
	bool again = false;

	s->relieved = false;
	for (struct nr_connection *c = s->connections; c; c = c->next)
		again |= nr_connection_sweep(c, now);
	if (s->starved) {
		feed_starved(s);
		again = true;
	}
	if (again)
		nr_shard_want_tick(s);
	nr_worker_trim(&s->worker);
}

void nr_shard_want_tick(struct nr_shard *s)
{
	if (nr_completion_busy(&s->tick))
		return;
	s->tick.done = tick;
	nr_ring_timeout(s->ring, &s->tick, NR_SWEEP_NS);
}

/* Turns. */

/*
 * Connections that become active meanwhile come to the end of the list; those
 * that were read are written when all requests have moved.
 */
static void serve_active(struct nr_shard *s)
{
	struct nr_connection *read = NULL, **read_tail = &read;

	while (s->active) {
		struct nr_connection *c = s->active;

		s->active = c->next_active;
		if (!s->active)
			s->active_tail = &s->active;
		if (!nr_connection_read(c))
			continue;
		c->next_active = NULL;
		*read_tail = c;
		read_tail = &c->next_active;
	}
	nr_worker_run(&s->worker);
	while (read) {
		struct nr_connection *c = read;

		read = c->next_active;
		c->is_active = false;
		if (c->woken) {
			c->woken = false;
			nr_shard_activate(s, c); /* since it was read: once more */
		}
		nr_connection_write(c);
	}
}

void nr_shard_turn(struct nr_shard *s)
{
	/* Writing may have sent requests down: a last flush of an export. */
	nr_ring_turn(s->ring, !s->active && !s->worker.ready);
	nr_worker_run(&s->worker);
	if (s->active)
		serve_active(s);
}

static void *run(void *argument)
{
	struct nr_shard *s = argument;

	while (!s->ended)
		nr_shard_turn(s);
	return NULL;
}

int nr_shard_init(struct nr_shard *s, struct nr_server *server, unsigned index, unsigned count,
		  struct nr_error *error)
{
	/* For the rest, the ring's own choices. */
	struct nr_ring_options options = { .spin_ns = nr_server_spin_ns(server) };
	int err = nr_ring_create(&s->ring, &options, error);

	if (err)
		return err;
	s->server = server;
	s->arena = nr_ring_arena(s->ring);
	s->memory_max = nr_arena_capacity(s->arena) / 8 * 5;
	s->memory_reserve = nr_arena_capacity(s->arena) / 8;
	s->active_tail = &s->active;
	s->starved_tail = &s->starved;
	atomic_init(&s->connection_count, 0);
	nr_ring_set_context(s->ring, s);
	nr_worker_init(&s->worker, s->ring, index, count);
	return 0;
}

int nr_shard_start(struct nr_shard *s, struct nr_error *error)
{
	char name[16];
	int err = pthread_create(&s->thread, NULL, run, s);

	if (err)
		return nr_error_system(error, -err, "cannot start a worker thread");
	snprintf(name, sizeof(name), "worker-%u", s->worker.index);
	pthread_setname_np(s->thread, name);
	return 0;
}

void nr_shard_fini(struct nr_shard *s)
{
	if (!s->ring)
		return;
	assert(!s->connections);
	nr_worker_fini(&s->worker);
	nr_ring_destroy(s->ring);
}
