/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * How many clients may be in: the counts, and what happens at their limits.
 *
 * Clients are counted when they are accepted, when they have negotiated, and when they
 * leave; never for a request.  They are let in by one thread, that of the listeners; the
 * rest is done by any.  At a limit where clients wait, a listener keeps the one it has
 * just accepted and accepts no more: those behind it wait in the kernel's backlog.
 * The gate calls `room` on the listeners' ring when there may be room again.
 */
#ifndef SRC_SERVER_GATE_H
#define SRC_SERVER_GATE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "nbdring/layer.h"
#include "ring/ring.h"

/* 0: no limit. */
struct nr_gate_limits {
	unsigned clients;    /* at a time */
	bool clients_wait;   /* beyond that they wait, instead of being turned away */
	unsigned handshakes; /* negotiating at a time; more wait */
	unsigned per_peer;   /* from one address, or of one user on Unix sockets */
	unsigned per_export;
};

struct nr_peer;

struct nr_gate {
	struct nr_gate_limits limits;
	atomic_uint clients;
	atomic_uint handshakes;       /* of these */
	_Atomic uint64_t empty_since; /* CLOCK_MONOTONIC, ns; while there are no clients */

	/* Waking the listeners. */
	struct nr_ring *ring;
	struct nr_message message;
	void (*room)(struct nr_ring *ring);
	atomic_bool waited_for;
	atomic_bool posted;

	/* Peers; only where they are limited. */
	pthread_mutex_t mutex;
	struct nr_peer **peers;
	uint64_t seed;
};

enum nr_gate_answer { NR_GATE_OPEN, NR_GATE_WAIT, NR_GATE_FULL };

/* -ENOMEM. */
int nr_gate_init(struct nr_gate *gate, const struct nr_gate_limits *limits, struct nr_ring *ring,
		 void (*room)(struct nr_ring *ring));
void nr_gate_fini(struct nr_gate *gate);

/* OPEN: one client more, who negotiates.  One thread at a time. */
enum nr_gate_answer nr_gate_enter(struct nr_gate *gate);
/* The same for one that is let in in any case. */
void nr_gate_let_in(struct nr_gate *gate);

/*
 * After WAIT: `room` shall be called.  False: there is room already, and it will not be.
 */
bool nr_gate_wait(struct nr_gate *gate);

/* A client has negotiated; one has left, who was or was not still at it. */
void nr_gate_negotiated(struct nr_gate *gate);
void nr_gate_leave(struct nr_gate *gate, bool negotiating);

/* For how long there has been no client, ns; 0: there is one. */
uint64_t nr_gate_empty_ns(const struct nr_gate *gate);

/*
 * Count the client of SESSION among those of its peer; *PEER is to be given back with
 * nr_gate_leave_peer (NULL: it is not counted).  False: there are as many as may be, or
 * there is no memory to know.
 */
bool nr_gate_enter_peer(struct nr_gate *gate, const struct nr_session *session,
			struct nr_peer **peer);
void nr_gate_leave_peer(struct nr_gate *gate, struct nr_peer *peer);

#endif
