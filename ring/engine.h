/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The seam between the reactor and what carries out its operations.
 *
 * ring.c owns everything that is the same for all engines: completions, the
 * continuing of short results, queues, messages.  An engine starts one attempt
 * of an operation and reports its raw outcome.  The product's engine is
 * engine-uring.c; a deterministic one (seeded, virtual time) is that of the
 * simulation, tests/sim/engine.c; one on epoll would fit behind the same functions.
 */
#ifndef RING_ENGINE_H
#define RING_ENGINE_H

#include "ring/ring.h"

struct nr_engine;

/*
 * Bits of nr_completion.flags that ring.c and an engine share; the upper four
 * are ring.c's own.  The KEPT bits stay from one use of a completion to the
 * next and mean whatever the engine likes.
 */
enum nr_attempt_flag {
	/*
	 * The attempt before met EAGAIN: do not carry the operation out, only wait
	 * until there is a point in trying again: a socket being ready, otherwise
	 * about a millisecond.  Outcome: 0 or more, or -ETIME.
	 */
	NR_ATTEMPT_WAIT = 0x01,
	/* The attempt before met EAGAIN, or the caller wants it: this one may block a thread. */
	NR_ATTEMPT_BLOCKING = 0x02,
	NR_ATTEMPT_KEPT_A = 0x04,
	NR_ATTEMPT_KEPT_B = 0x08,
};

struct nr_engine_type {
	const char *name;

	/* Make an engine; REPORT is filled in.  RING is whom to report to. */
	int (*create)(struct nr_engine **engine, struct nr_ring *ring,
		      const struct nr_ring_options *options, struct nr_ring_report *report,
		      struct nr_error *error);
	void (*destroy)(struct nr_engine *engine);

	/*
	 * Offer the arena's first BYTES for registration; returns how many are
	 * registered (0 is fine).
	 */
	size_t (*pin)(struct nr_engine *engine, void *memory, size_t bytes);

	/*
	 * Start one attempt of what C describes.  Returns false when the queue is
	 * full: the ring keeps C and offers it again after the next turn.
	 */
	bool (*start)(struct nr_engine *engine, struct nr_completion *c);

	/*
	 * Try to end C early; its outcome is reported as ever.  Returns false when
	 * the queue is full.
	 */
	bool (*cancel)(struct nr_engine *engine, struct nr_completion *c);

	/* One more was started that a device could begin with; see nr_ring_hasten. */
	void (*hasten)(struct nr_engine *engine);

	/*
	 * Carry out what was started; when WAIT, sleep until something is there.
	 * Calls nr_ring_attempt_done for each outcome.
	 */
	void (*turn)(struct nr_engine *engine, bool wait);

	/* Make the next or present turn return.  Any thread. */
	void (*wake)(struct nr_engine *engine);

	void (*adopt)(struct nr_engine *engine, int fd);
	void (*forget)(struct nr_engine *engine, int fd);
	uint64_t (*now)(struct nr_engine *engine);
};

extern const struct nr_engine_type nr_engine_uring;

/* The engines of this program, NULL at the end; the first is taken when none is named. */
extern const struct nr_engine_type *const nr_engines[];

/*
 * Engine to ring: the attempt on C came to RESULT (bytes or 0, or negative
 * errno; -EINTR: try again).  Only from inside `turn`.
 */
void nr_ring_attempt_done(struct nr_ring *ring, struct nr_completion *c, int64_t result);

/*
 * Engine to ring: the cancellation of C found no such operation.  C may have
 * ended since, and even be gone.  Only from inside `turn`.
 */
void nr_ring_cancel_missed(struct nr_ring *ring, struct nr_completion *c);

#endif
