/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * TLS between a connection and its socket.
 *
 * Blocks: one for input while ciphertext is awaited or not yet decrypted, as large as
 * the plaintext that there is room for; one for output while the connection has a
 * sender, and for long answers a larger one while they are being sent.  When the arena
 * is half used, blocks are small and given back at once, so that there are more of them.
 */
#include "src/server/secure.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "nbdring/checked.h"
#include "src/log/log.h"
#include "src/server/limits.h"
#include "src/server/server-internal.h"

static_assert(NR_CIPHER_OUTPUT_MIN >= NR_TLS_RECORD_MAX + NR_TLS_OVERHEAD_MAX, "a record fits");

/* Under pressure there are many small blocks rather than a few large ones. */
static bool is_under_pressure(const struct nr_connection *c)
{
	const struct nr_arena *arena = c->shard->arena;

	return nr_arena_used(arena) > nr_arena_capacity(arena) / 2;
}

static void release(struct nr_connection *c, uint8_t **block)
{
	if (*block)
		nr_arena_release(c->shard->arena, *block);
	*block = NULL;
}

bool nr_secure_begin(struct nr_connection *c)
{
	struct nr_tls_store *store = nr_server_tls(c->shard->server);
	struct nr_tls_credentials *credentials = nr_tls_store_get(store);
	struct nr_secure *s = calloc(1, sizeof(*s));

	assert(c->receive_state == NR_RECEIVE_NONE);
	assert(!nr_send_busy(c));
	assert(!c->secure);
	if (s) {
		s->connection = c;
		s->session = nr_tls_session_create(credentials, NULL);
	}
	nr_tls_credentials_release(credentials);
	if (!s || !s->session) {
		free(s);
		return false;
	}
	c->secure = s;
	return true;
}

void nr_secure_end(struct nr_connection *c)
{
	struct nr_secure *s = c->secure;

	if (!s)
		return;
	assert(!s->stepping);
	release(c, &s->input);
	nr_secure_release_output(c);
	nr_tls_session_destroy(s->session);
	free(s);
	c->secure = NULL;
}

/* The handshake. */

bool nr_secure_busy(const struct nr_connection *c)
{
	return c->secure && c->secure->stepping;
}

bool nr_secure_waiting(const struct nr_connection *c)
{
	size_t length;

	if (!c->secure || c->secure->stepping)
		return false;
	nr_tls_output(c->secure->session, &length);
	return length > 0;
}

bool nr_secure_wants_input(const struct nr_connection *c)
{
	return c->secure && !c->secure->stepping && !nr_secure_waiting(c) &&
	       nr_tls_state(c->secure->session) == NR_TLS_HANDSHAKING;
}

static struct nr_secure *of_step(struct nr_job *job)
{
	return (struct nr_secure *)((char *)job - offsetof(struct nr_secure, step));
}

/* On a thread of the pool. */
static void step(struct nr_job *job)
{
	struct nr_secure *s = of_step(job);

	nr_tls_handshake(s->session, s->input + s->input_head, s->input_tail - s->input_head);
}

static void step_done(struct nr_job *job)
{
	struct nr_secure *s = of_step(job);
	struct nr_connection *c = s->connection;

	s->stepping = false;
	release(c, &s->input);
	s->input_head = s->input_tail = 0;
	nr_shard_activate(c->shard, c);
}

/*
 * The next step of the handshake: on the threads for it, unless this is the worker's only
 * connection and there is nobody whom the computing would keep waiting.
 */
static void begin_step(struct nr_connection *c)
{
	struct nr_secure *s = c->secure;

	s->step = (struct nr_job){ .run = step, .done = step_done, .home = c->shard->ring };
	s->stepping = true;
	if (atomic_load_explicit(&c->shard->connection_count, memory_order_relaxed) > 1) {
		nr_offload_submit(nr_server_tls_threads(c->shard->server), &s->step);
	} else {
		step(&s->step);
		step_done(&s->step);
		/* Being read just now, it is active already: what comes of it needs a turn more. */
		c->woken = true;
	}
}

static void log_peer(struct nr_connection *c)
{
	const struct nr_tls_session *session = c->secure->session;
	const struct nr_tls_peer *peer = nr_tls_peer(session);
	const char *who = peer->psk_identity ? peer->psk_identity : peer->subject;

	nr_log(NR_LOG_DEBUG, NR_LOG_CLIENT, "client %s: %s%s%s%s", c->peer,
	       nr_tls_description(session), nr_tls_resumed(session) ? ", resumed" : "",
	       who ? ", is " : "", who ? who : "");
}

bool nr_secure_advance(struct nr_connection *c)
{
	struct nr_secure *s = c->secure;

	if (s->stepping)
		return false;
	switch (nr_tls_state(s->session)) {
	case NR_TLS_HANDSHAKING:
		if (s->input_head == s->input_tail)
			return false;
		begin_step(c);
		return false;
	case NR_TLS_FAILED:
		nr_secure_fail(c);
		return false;
	case NR_TLS_OPEN:
	case NR_TLS_CLOSED:
		break;
	}
	log_peer(c);
	c->session.tls = nr_tls_peer(s->session);
	return true;
}

void nr_secure_fail(struct nr_connection *c)
{
	struct nr_tls_session *session = c->secure->session;
	size_t length;
	const uint8_t *alert = nr_tls_output(session, &length);

	/* A plain call, once in a connection's life, and one that does not wait. */
	if (length && !nr_send_busy(c))
		(void)!send(c->fd, alert, length, MSG_DONTWAIT | MSG_NOSIGNAL);
	nr_connection_drop(c, "%s", nr_tls_reason(session));
}

/* Receiving. */

bool nr_secure_receive(struct nr_connection *c, uint64_t room)
{
	struct nr_secure *s = c->secure;
	uint32_t size = NR_ARENA_BLOCK_MIN;

	assert(s->input_head == s->input_tail);
	while (size < room && size < NR_CIPHER_MAX && !is_under_pressure(c))
		size *= 2;
	if (s->input && s->input_size != size)
		release(c, &s->input);
	if (!s->input) {
		nr_shard_want_tick(c->shard);
		s->input = nr_arena_get(c->shard->arena, size, NR_BLOCK_RECEIVE);
		s->input_size = size;
	}
	if (!s->input) {
		nr_shard_starve(c->shard, c);
		return false;
	}
	s->input_head = s->input_tail = 0;
	nr_ring_recv(c->shard->ring, &c->receive, c->fd, s->input, size);
	return true;
}

void nr_secure_received(struct nr_connection *c, uint32_t bytes)
{
	c->secure->input_tail += bytes;
	assert(c->secure->input_tail <= c->secure->input_size);
}

bool nr_secure_pending(const struct nr_connection *c)
{
	const struct nr_secure *s = c->secure;

	return s && (s->input_head < s->input_tail || nr_tls_pending(s->session));
}

size_t nr_secure_decrypt(struct nr_connection *c, const struct iovec *into, unsigned count)
{
	struct nr_secure *s = c->secure;
	const uint8_t *input = s->input ? s->input + s->input_head : NULL;
	size_t used, got;

	got = nr_tls_decrypt(s->session, input, s->input_tail - s->input_head, &used, into, count);
	s->input_head += (uint32_t)used;
	return got;
}

void nr_secure_release_input(struct nr_connection *c)
{
	if (c->secure && c->secure->input_head == c->secure->input_tail)
		release(c, &c->secure->input);
}

bool nr_secure_pack(struct nr_connection *c)
{
	struct nr_secure *s = c->secure;

	if (!s)
		return true;
	if (s->input_head < s->input_tail &&
	    !nr_tls_stash(s->session, s->input + s->input_head, s->input_tail - s->input_head))
		return false;
	s->input_head = s->input_tail = 0;
	release(c, &s->input);
	nr_secure_release_output(c);
	return true;
}

/* Sending. */

bool nr_secure_prepare(struct nr_connection *c)
{
	struct nr_secure *s = c->secure;

	if (!s->output)
		s->output = nr_arena_get(c->shard->arena, NR_CIPHER_OUTPUT_MIN, NR_BLOCK_LAYER);
	if (!s->output)
		nr_shard_starve(c->shard, c);
	return s->output;
}

void nr_secure_release_output(struct nr_connection *c)
{
	if (!c->secure)
		return;
	release(c, &c->secure->output);
	release(c, &c->secure->large);
}

void nr_secure_rewind(struct nr_connection *c)
{
	c->secure->cursor = (struct nr_tls_cursor){ 0, 0 };
}

bool nr_secure_more(const struct nr_connection *c, unsigned count)
{
	return c->secure->cursor.entry < count || nr_secure_waiting(c);
}

bool nr_secure_send(struct nr_connection *c, struct nr_completion *completion,
		    const struct iovec *from, unsigned count, uint64_t bytes)
{
	struct nr_secure *s = c->secure;
	uint8_t *block = s->output;
	size_t size = NR_CIPHER_OUTPUT_MIN, length;

	if (bytes > NR_TLS_RECORD_MAX && !s->large && !is_under_pressure(c))
		s->large = nr_arena_get(c->shard->arena,
					nr_min(bytes + NR_CIPHER_OUTPUT_MIN, NR_CIPHER_MAX),
					NR_BLOCK_LAYER);
	if (s->large) {
		block = s->large;
		size = nr_arena_block_size(c->shard->arena, block);
	}
	length = nr_tls_encrypt(s->session, from, count, &s->cursor, block, size);
	if (!length)
		return false;
	s->sending = (struct iovec){ block, length };
	nr_ring_send_vec(c->shard->ring, completion, c->fd, &s->sending, 1);
	return true;
}

void nr_secure_sent(struct nr_connection *c)
{
	if (!c->secure)
		return;
	release(c, &c->secure->large);
	if (is_under_pressure(c))
		release(c, &c->secure->output);
}

bool nr_secure_bye(struct nr_connection *c)
{
	struct nr_secure *s = c->secure;

	if (!s || s->stepping)
		return false;
	if (!s->said_bye) {
		s->said_bye = true;
		nr_tls_bye(s->session);
		nr_shard_activate(c->shard, c);
	}
	return nr_secure_waiting(c);
}
