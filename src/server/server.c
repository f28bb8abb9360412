/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The server as a whole: it makes the parts, starts the threads, and ends them
 * in order.
 *
 * Ending: nr_server_stop posts to every shard, which refuses what is new and
 * drains its connections.  The server counts holds (connections, exports being
 * closed, background requests, and itself until the stop); whoever lets go of the last one makes the
 * first shard flush all exports, after which every shard leaves its loop and
 * the main thread closes what is open.
 */
#include "src/server/server.h"

#include <assert.h>
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "src/log/log.h"
#include "src/server/connection.h"
#include "src/server/limits.h"
#include "src/server/listener.h"
#include "src/server/server-internal.h"

struct nr_server {
	struct nr_server_config config;
	struct nr_offload *offload;
	struct nr_offload *tls_threads; /* NULL: TLS is off */
	struct nr_exports *exports;
	struct nr_shard *shards;
	unsigned shard_count;
	unsigned started; /* shards whose threads run */
	struct nr_listener *listeners;
	pthread_mutex_t access_mutex; /* guards the pointer */
	struct nr_access *access;
	atomic_uint_fast64_t sessions;
	atomic_uint holds;
	atomic_uint served; /* connections that have negotiated */
	struct nr_gate gate;
	atomic_bool stopping;
	struct nr_message flush_message;
	struct nr_message *end_messages; /* one per shard */
	int flush_error;
	int ended_fd;
};

/* A descriptor on its way to a shard. */
struct arrival {
	struct nr_message message;
	int fd;
	bool single;
};

const struct nr_server_config *nr_server_config(const struct nr_server *server)
{
	return &server->config;
}

struct nr_gate *nr_server_gate(struct nr_server *server)
{
	return &server->gate;
}

const struct nr_handshake_config *nr_server_handshake_config(const struct nr_server *server)
{
	return &server->config.handshake;
}

struct nr_tls_store *nr_server_tls(const struct nr_server *server)
{
	return server->config.tls;
}

struct nr_offload *nr_server_tls_threads(struct nr_server *server)
{
	return server->tls_threads;
}

uint32_t nr_server_spin_ns(const struct nr_server *server)
{
	return server->config.spin_ns;
}

struct nr_exports *nr_server_exports(struct nr_server *server)
{
	return server->exports;
}

struct nr_access *nr_server_access(struct nr_server *server)
{
	struct nr_access *access;

	pthread_mutex_lock(&server->access_mutex);
	access = nr_access_ref(server->access);
	pthread_mutex_unlock(&server->access_mutex);
	return access;
}

void nr_server_set_access(struct nr_server *server, struct nr_access *access)
{
	struct nr_access *before;

	nr_access_ref(access);
	pthread_mutex_lock(&server->access_mutex);
	before = server->access;
	server->access = access;
	pthread_mutex_unlock(&server->access_mutex);
	nr_access_unref(before);
}

bool nr_server_can_tls(const struct nr_server *server)
{
	return server->config.handshake.tls != NR_TLS_OFF;
}

struct nr_shard *nr_server_shard(struct nr_server *server, unsigned index)
{
	return &server->shards[index];
}

uint64_t nr_server_next_session(struct nr_server *server)
{
	return atomic_fetch_add(&server->sessions, 1) + 1;
}

const struct nr_ring_report *nr_server_ring_report(const struct nr_server *server)
{
	return nr_ring_report(server->shards[0].ring);
}

/* Ending. */

static void end_shard(struct nr_ring *ring, struct nr_message *message)
{
	struct nr_shard *shard = nr_ring_context(ring);

	shard->ended = true;
	nr_ring_cancel(ring, &shard->tick);
}

static void all_flushed(void *context, int error)
{
	struct nr_server *server = context;

	server->flush_error = error;
	for (unsigned i = 0; i < server->shard_count; i++) {
		server->end_messages[i].deliver = end_shard;
		nr_ring_post(server->shards[i].ring, &server->end_messages[i]);
	}
}

static void flush_all(struct nr_ring *ring, struct nr_message *message)
{
	struct nr_shard *shard = nr_ring_context(ring);

	nr_exports_flush(shard->server->exports, &shard->worker, all_flushed, shard->server);
}

void nr_server_hold(struct nr_server *server)
{
	atomic_fetch_add(&server->holds, 1);
}

void nr_server_let_go(struct nr_server *server)
{
	if (atomic_fetch_sub(&server->holds, 1) > 1)
		return;
	server->flush_message.deliver = flush_all;
	nr_ring_post(server->shards[0].ring, &server->flush_message);
}

bool nr_server_is_stopping(const struct nr_server *server)
{
	return atomic_load(&server->stopping);
}

static void stop_shard(struct nr_ring *ring, struct nr_message *message)
{
	struct nr_shard *shard = nr_ring_context(ring);
	struct nr_server *server = shard->server;
	uint64_t now = nr_ring_now(ring);
	uint64_t grace = (uint64_t)server->config.grace_seconds * 1000000000;

	shard->stopping = true;
	shard->stop_handshake_at = now + NR_STOP_HANDSHAKE_NS;
	shard->stop_drain_at = now + grace;
	if (shard->worker.index == 0)
		for (struct nr_listener *l = server->listeners; l; l = l->next)
			nr_listener_stop(l);
	for (struct nr_connection *c = shard->connections; c; c = c->next)
		nr_connection_stop(c);
	nr_server_let_go(server);
}

void nr_server_stop(struct nr_server *server)
{
	if (atomic_exchange(&server->stopping, true))
		return;
	/* The server's own hold becomes one for each shard that has to hear of it. */
	for (unsigned i = 1; i < server->shard_count; i++)
		nr_server_hold(server);
	for (unsigned i = 0; i < server->shard_count; i++) {
		server->shards[i].stop_message.deliver = stop_shard;
		nr_ring_post(server->shards[i].ring, &server->shards[i].stop_message);
	}
}

/* There is nothing more to do: whoever waits on nr_server_ended_fd hears of it. */
static void tell_ended(struct nr_server *server)
{
	uint64_t one = 1;

	if (write(server->ended_fd, &one, sizeof(one)) < 0)
		nr_log(NR_LOG_ERROR, NR_LOG_SERVER, "cannot tell that the client has left: %s",
		       strerror(errno));
}

uint64_t nr_server_empty_ns(const struct nr_server *server)
{
	return nr_gate_empty_ns(&server->gate);
}

int nr_server_ended_fd(const struct nr_server *server)
{
	return server->ended_fd;
}

/* Signs of life. */

static void answer_ping(struct nr_ring *ring, struct nr_message *message)
{
	struct nr_shard *shard = nr_ring_context(ring);

	atomic_store(&shard->ping_owed, false);
}

static uint64_t monotonic_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

bool nr_server_turns(struct nr_server *server, uint64_t patience_ns)
{
	uint64_t now = monotonic_now();
	bool all = true;

	for (unsigned i = 0; i < server->started; i++) {
		struct nr_shard *shard = &server->shards[i];

		if (atomic_load(&shard->ping_owed)) {
			all = all && now - shard->ping_sent <= patience_ns;
			continue;
		}
		shard->ping_sent = now;
		shard->ping_message.deliver = answer_ping;
		atomic_store(&shard->ping_owed, true);
		nr_ring_post(shard->ring, &shard->ping_message);
	}
	return all;
}

unsigned nr_server_count_clients(const struct nr_server *server)
{
	unsigned count = 0;

	for (unsigned i = 0; i < server->shard_count; i++)
		count += atomic_load_explicit(&server->shards[i].connection_count,
					      memory_order_relaxed);
	return count;
}

unsigned nr_server_count_exports(struct nr_server *server)
{
	return nr_exports_count(server->exports);
}

bool nr_server_opens_later(const struct nr_server *server)
{
	return nr_exports_many(server->exports);
}

/* Connections that come and go. */

void nr_server_negotiated(struct nr_server *server)
{
	atomic_fetch_add(&server->served, 1);
	nr_gate_negotiated(&server->gate);
}

void nr_server_departed(struct nr_server *server, bool had_negotiated, bool single)
{
	bool is_last = had_negotiated && atomic_fetch_sub(&server->served, 1) == 1;

	nr_gate_leave(&server->gate, !had_negotiated);
	if (is_last && server->config.exit_last && !nr_server_is_stopping(server)) {
		nr_log(NR_LOG_INFO, NR_LOG_SERVER, "stopping: the last client has left");
		tell_ended(server);
	}
	if (single)
		tell_ended(server);
	nr_server_let_go(server);
}

/* There may be room again: those who wait in the listeners come in. */
static void let_in_waiting(struct nr_ring *ring)
{
	struct nr_shard *shard = nr_ring_context(ring);

	for (struct nr_listener *l = shard->server->listeners; l; l = l->next)
		nr_listener_go_on(l);
}

static void begin_or_close(struct nr_shard *shard, int fd, bool single)
{
	int err = shard->stopping ? -ESHUTDOWN : nr_connection_begin(shard, fd, single);

	if (!err)
		return;
	if (err != -ESHUTDOWN && err != -EUSERS)
		nr_log(NR_LOG_WARNING, NR_LOG_CLIENT, "a client was turned away: %s",
		       strerror(-err));
	close(fd);
	atomic_fetch_sub(&shard->connection_count, 1);
	nr_server_departed(shard->server, false, single);
}

static void arrived(struct nr_ring *ring, struct nr_message *message)
{
	struct arrival *arrival = (struct arrival *)message;
	struct nr_shard *shard = nr_ring_context(ring);

	assert(shard);
	begin_or_close(shard, arrival->fd, arrival->single);
	free(arrival);
}

static struct nr_shard *least_busy(struct nr_server *server)
{
	struct nr_shard *best = &server->shards[0];

	for (unsigned i = 1; i < server->shard_count; i++)
		if (atomic_load_explicit(&server->shards[i].connection_count,
					 memory_order_relaxed) <
		    atomic_load_explicit(&best->connection_count, memory_order_relaxed))
			best = &server->shards[i];
	return best;
}

static int place(struct nr_server *server, struct nr_shard *from, int fd, bool single)
{
	struct nr_shard *to = least_busy(server);
	struct arrival *arrival = NULL;

	assert(to);
	if (to != from) {
		arrival = malloc(sizeof(*arrival));
		if (!arrival)
			return -ENOMEM;
		*arrival = (struct arrival){ { arrived, NULL }, fd, single };
	}
	nr_server_hold(server);
	atomic_fetch_add(&to->connection_count, 1);
	if (arrival)
		nr_ring_post(to->ring, &arrival->message);
	else
		begin_or_close(to, fd, single);
	return 0;
}

void nr_server_place(struct nr_server *server, struct nr_shard *from, int fd)
{
	if (place(server, from, fd, false) < 0) {
		nr_log(NR_LOG_WARNING, NR_LOG_CLIENT, "a client was turned away: no memory");
		close(fd);
		nr_gate_leave(&server->gate, true);
	}
}

int nr_server_serve(struct nr_server *server, int fd, struct nr_error *error)
{
	int err;

	nr_gate_let_in(&server->gate);
	err = place(server, NULL, fd, server->config.single);
	if (err)
		nr_gate_leave(&server->gate, true);
	return err ? nr_error_system(error, err, "cannot serve the connection") : 0;
}

int nr_server_listen(struct nr_server *server, int fd, const char *description,
		     struct nr_error *error)
{
	struct nr_listener *l = calloc(1, sizeof(*l));

	assert(!server->started);
	if (!l)
		return nr_error_system(error, -ENOMEM, "%s", description);
	l->fd = fd;
	l->held = -1;
	l->shard = &server->shards[0];
	snprintf(l->description, sizeof(l->description), "%s", description);
	l->next = server->listeners;
	server->listeners = l;
	return 0;
}

/* Beginning. */

static unsigned cpu_count(void)
{
	cpu_set_t set;

	if (sched_getaffinity(0, sizeof(set), &set) < 0)
		return 1;
	return (unsigned)CPU_COUNT(&set);
}

static int make_shards(struct nr_server *server, struct nr_error *error)
{
	server->shards =
		aligned_alloc(64, (server->shard_count * sizeof(*server->shards) + 63) / 64 * 64);
	server->end_messages = calloc(server->shard_count, sizeof(*server->end_messages));
	if (!server->shards || !server->end_messages)
		return nr_error_system(error, -ENOMEM, "the workers");
	memset(server->shards, 0, server->shard_count * sizeof(*server->shards));
	for (unsigned i = 0; i < server->shard_count; i++) {
		int err = nr_shard_init(&server->shards[i], server, i, server->shard_count, error);

		if (err)
			return err;
	}
	return 0;
}

unsigned nr_server_workers(unsigned wanted)
{
	return wanted ? wanted : cpu_count();
}

int nr_server_create(struct nr_server **out, const struct nr_server_config *config,
		     struct nr_error *error)
{
	struct nr_server *server = calloc(1, sizeof(*server));
	int err;

	if (!server)
		return nr_error_system(error, -ENOMEM, "the server");
	pthread_mutex_init(&server->access_mutex, NULL);
	server->config = *config;
	if (!server->config.grace_seconds)
		server->config.grace_seconds = NR_STOP_GRACE_SECONDS;
	server->shard_count = nr_server_workers(config->workers);
	assert(config->plan->worker_count == server->shard_count);
	atomic_init(&server->holds, 1);
	server->ended_fd = eventfd(0, EFD_CLOEXEC);
	server->offload = nr_offload_create(NR_OFFLOAD_THREADS);
	if (config->handshake.tls != NR_TLS_OFF) {
		assert(config->tls);
		assert(!config->handshake.oldstyle);
		server->tls_threads = nr_offload_create(server->shard_count);
	}
	err = server->ended_fd < 0 || !server->offload || (config->tls && !server->tls_threads)
		      ? nr_error_system(error, -ENOMEM, "the server")
		      : 0;
	if (!err)
		err = make_shards(server, error);
	if (!err && nr_gate_init(&server->gate, &config->limits, server->shards[0].ring,
				 let_in_waiting) < 0)
		err = nr_error_system(error, -ENOMEM, "the server");
	if (!err && config->settle)
		err = config->settle(config->settle_context, error);
	if (!err)
		err = nr_exports_create(&server->exports, server, config->plan, server->offload,
					error);
	if (err) {
		nr_server_destroy(server);
		return err;
	}
	*out = server;
	return 0;
}

void nr_server_accept(struct nr_server *server)
{
	for (struct nr_listener *l = server->listeners; l; l = l->next)
		nr_listener_begin(l);
}

int nr_server_start(struct nr_server *server, struct nr_error *error)
{
	/* Operations may be started by the main thread until the threads run. */
	nr_server_accept(server);
	for (unsigned i = 0; i < server->shard_count; i++) {
		int err = nr_shard_start(&server->shards[i], error);

		if (err)
			return err;
		server->started++;
	}
	return 0;
}

int nr_server_wait(struct nr_server *server)
{
	for (unsigned i = 0; i < server->started; i++)
		pthread_join(server->shards[i].thread, NULL);
	server->started = 0;
	return server->flush_error;
}

void nr_server_destroy(struct nr_server *server)
{
	if (!server)
		return;
	assert(!server->started);
	nr_offload_destroy(server->tls_threads);
	nr_offload_destroy(server->offload);
	nr_exports_destroy(server->exports);
	for (unsigned i = 0; server->shards && i < server->shard_count; i++)
		nr_shard_fini(&server->shards[i]);
	while (server->listeners) {
		struct nr_listener *l = server->listeners;

		server->listeners = l->next;
		close(l->fd);
		if (l->held >= 0)
			close(l->held);
		free(l);
	}
	if (server->ended_fd >= 0)
		close(server->ended_fd);
	nr_gate_fini(&server->gate);
	nr_access_unref(server->access);
	pthread_mutex_destroy(&server->access_mutex);
	free(server->end_messages);
	free(server->shards);
	free(server);
}
