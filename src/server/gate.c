/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Counting clients.
 *
 * Waking: a listener that waits raises `waited_for` and looks once more; whoever makes
 * room lowers the count first and the flag then, so one of the two sees the other.
 * There is one message.  While it is on its way nobody posts it again: its receiver
 * looks at the counts after it has said that it has come.
 */
#include "src/server/gate.h"

#include <assert.h>
#include <errno.h>
#include <linux/vm_sockets.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "nbdring/network.h"

#define BUCKETS 4096u

/* Who is at the other end, as far as it is counted. */
struct peer_key {
	uint8_t family; /* AF_*; also for IPv4 in IPv6's clothes: AF_INET */
	uint8_t bytes[16];
};

struct nr_peer {
	struct nr_peer *next;
	struct peer_key key;
	unsigned clients;
};

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

int nr_gate_init(struct nr_gate *gate, const struct nr_gate_limits *limits, struct nr_ring *ring,
		 void (*room)(struct nr_ring *ring))
{
	gate->limits = *limits;
	gate->ring = ring;
	gate->room = room;
	atomic_init(&gate->empty_since, now_ns());
	pthread_mutex_init(&gate->mutex, NULL);
	if (!limits->per_peer)
		return 0;
	/* Not to be guessed, so that no client chooses where it is looked for. */
	if (getrandom(&gate->seed, sizeof(gate->seed), 0) < 0)
		gate->seed = now_ns();
	gate->peers = calloc(BUCKETS, sizeof(struct nr_peer *));
	return gate->peers ? 0 : -ENOMEM;
}

void nr_gate_fini(struct nr_gate *gate)
{
	for (unsigned i = 0; gate->peers && i < BUCKETS; i++)
		assert(!gate->peers[i]);
	free(gate->peers);
	if (gate->ring)
		pthread_mutex_destroy(&gate->mutex);
}

/* All clients. */

static bool is_at_limit(atomic_uint *count, unsigned limit)
{
	return limit && atomic_load(count) >= limit;
}

static enum nr_gate_answer look(struct nr_gate *gate)
{
	const struct nr_gate_limits *limits = &gate->limits;

	if (is_at_limit(&gate->clients, limits->clients))
		return limits->clients_wait ? NR_GATE_WAIT : NR_GATE_FULL;
	return is_at_limit(&gate->handshakes, limits->handshakes) ? NR_GATE_WAIT : NR_GATE_OPEN;
}

void nr_gate_let_in(struct nr_gate *gate)
{
	atomic_fetch_add(&gate->clients, 1);
	atomic_fetch_add(&gate->handshakes, 1);
}

enum nr_gate_answer nr_gate_enter(struct nr_gate *gate)
{
	enum nr_gate_answer answer = look(gate);

	if (answer == NR_GATE_OPEN)
		nr_gate_let_in(gate);
	return answer;
}

bool nr_gate_wait(struct nr_gate *gate)
{
	atomic_store(&gate->waited_for, true);
	/* If it is lowered already, somebody has made room and posts. */
	return look(gate) == NR_GATE_WAIT || !atomic_exchange(&gate->waited_for, false);
}

static void deliver(struct nr_ring *ring, struct nr_message *message)
{
	struct nr_gate *gate =
		(struct nr_gate *)((char *)message - offsetof(struct nr_gate, message));

	atomic_store(&gate->posted, false);
	gate->room(ring);
}

static void made_room(struct nr_gate *gate)
{
	if (!atomic_load(&gate->waited_for) || !atomic_exchange(&gate->waited_for, false))
		return;
	if (atomic_exchange(&gate->posted, true))
		return;
	gate->message.deliver = deliver;
	nr_ring_post(gate->ring, &gate->message);
}

void nr_gate_negotiated(struct nr_gate *gate)
{
	atomic_fetch_sub(&gate->handshakes, 1);
	made_room(gate);
}

void nr_gate_leave(struct nr_gate *gate, bool negotiating)
{
	if (negotiating)
		atomic_fetch_sub(&gate->handshakes, 1);
	/* Before the count, so that who sees no client sees since when. */
	atomic_store(&gate->empty_since, now_ns());
	atomic_fetch_sub(&gate->clients, 1);
	made_room(gate);
}

uint64_t nr_gate_empty_ns(const struct nr_gate *gate)
{
	uint64_t since, now;

	if (atomic_load(&gate->clients))
		return 0;
	since = atomic_load(&gate->empty_since);
	now = now_ns();
	return now > since ? now - since : 1;
}

/* Peers. */

static bool make_key(const struct nr_session *session, struct peer_key *key)
{
	struct nr_ip_address address;
	struct sockaddr_vm vm;

	memset(key, 0, sizeof(*key));
	if (nr_ip_address_of(&session->address, &address)) {
		key->family = address.is_v6 ? AF_INET6 : AF_INET;
		memcpy(key->bytes, address.bytes, sizeof(key->bytes));
		return true;
	}
	key->family = (uint8_t)session->address.ss_family;
	if (key->family == AF_UNIX && session->has_credentials) {
		memcpy(key->bytes, &session->uid, sizeof(session->uid));
		return true;
	}
	if (key->family == AF_VSOCK) {
		memcpy(&vm, &session->address, sizeof(vm));
		memcpy(key->bytes, &vm.svm_cid, sizeof(vm.svm_cid));
		return true;
	}
	return false;
}

static struct nr_peer **bucket_of(struct nr_gate *gate, const struct peer_key *key)
{
	uint64_t words[2], hash;

	memcpy(words, key->bytes, sizeof(words));
	hash = (words[0] ^ gate->seed) * UINT64_C(0x9e3779b97f4a7c15);
	hash = (hash ^ (hash >> 32) ^ words[1]) * (gate->seed | 1);
	hash = (hash ^ (hash >> 29)) * UINT64_C(0xbf58476d1ce4e5b9);
	return &gate->peers[(hash >> 40) % BUCKETS];
}

bool nr_gate_enter_peer(struct nr_gate *gate, const struct nr_session *session,
			struct nr_peer **out)
{
	struct peer_key key;
	struct nr_peer **bucket, *peer;
	bool is_in;

	*out = NULL;
	if (!gate->limits.per_peer || !make_key(session, &key))
		return true;
	bucket = bucket_of(gate, &key);
	pthread_mutex_lock(&gate->mutex);
	for (peer = *bucket; peer; peer = peer->next)
		if (memcmp(&peer->key, &key, sizeof(key)) == 0)
			break;
	if (!peer) {
		peer = calloc(1, sizeof(*peer));
		if (peer) {
			peer->key = key;
			peer->next = *bucket;
			*bucket = peer;
		}
	}
	is_in = peer && peer->clients < gate->limits.per_peer;
	if (is_in) {
		peer->clients++;
		*out = peer;
	}
	pthread_mutex_unlock(&gate->mutex);
	return is_in;
}

void nr_gate_leave_peer(struct nr_gate *gate, struct nr_peer *peer)
{
	struct nr_peer **at;

	if (!peer)
		return;
	pthread_mutex_lock(&gate->mutex);
	assert(peer->clients > 0);
	if (--peer->clients == 0) {
		at = bucket_of(gate, &peer->key);
		while (*at != peer)
			at = &(*at)->next;
		*at = peer->next;
		free(peer);
	}
	pthread_mutex_unlock(&gate->mutex);
}
