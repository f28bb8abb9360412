/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The engine "sim" from inside: what it shares with the simulated sockets and disks.
 *
 * An operation that ring.c starts becomes a struct sim_op.  It waits in the
 * engine's submission queue until the owner's next turn, as with io_uring; then a
 * device has it, and gives it back with sim_op_done; then it waits to be reported.
 *
 * Memory is watched on the way.  What is sent or written must be the same bytes
 * when it is taken and when the outcome is reported as when it was started; what is
 * received into or read into must not be touched by anybody else meanwhile; and
 * all of it that lies in the arena must be in blocks in use.
 */
#ifndef TESTS_SIM_ENGINE_H
#define TESTS_SIM_ENGINE_H

#include "ring/engine.h"
#include "tests/sim/world.h"

struct sim_op {
	struct sim_event event; /* the device's */
	struct nr_engine *engine;
	struct nr_completion *c;
	struct sim_op *next, **link;       /* of one of the engine's lists */
	void *device;                      /* who has it: a socket or disk */
	struct sim_op *sibling;            /* the device's: a list of its operations */
	bool (*cancel)(struct sim_op *op); /* true: it has let go, without an effect */
	uint64_t moved;                    /* bytes so far */
	uint64_t stamp;                    /* of the memory, see above */
	uint64_t sequence, part, begins;   /* the device's */
	int64_t result;
	uint8_t operation; /* enum nr_ring_operation */
	bool waiting;      /* NR_ATTEMPT_WAIT */
	bool direct, half; /* the device's */
	bool missed;       /* not an operation: a cancellation that found nothing */
};

extern const struct nr_engine_type nr_engine_sim;

/* OP's outcome is RESULT; the device has nothing to do with it any more. */
void sim_op_done(struct sim_op *op, int64_t result);

/* Bytes that OP may still move. */
uint64_t sim_op_left(const struct sim_op *op);

/*
 * LENGTH bytes from OP's memory (a send, a write), or into it (a receive, a read),
 * from where it stands; it moves on.
 */
void sim_op_take(struct sim_op *op, void *to, uint64_t length);
void sim_op_give(struct sim_op *op, const void *from, uint64_t length);
/* Bytes [FROM, FROM + LENGTH) of its memory, without moving on. */
void sim_op_peek(const struct sim_op *op, uint64_t from, void *to, uint64_t length);

/* What devices offer: they start OP, and it is theirs until sim_op_done. */
void sim_socket_start(struct sim_op *op);
void sim_disk_start(struct sim_op *op);

/* Does RING have anything to do in its next turn, apart from what may come? */
bool sim_ring_has_work(struct nr_ring *ring);

/*
 * The owner of RING is driven by the caller: a turn that would sleep returns.  (Other
 * rings, which are waited for inside one call, make the world go on instead.)
 */
void sim_ring_is_driven(struct nr_ring *ring);

/* Of engines made from now on: how large their submission queues are, can they discard. */
extern unsigned sim_engine_entries;
extern bool sim_engine_discard;

/* Operations started in this process; for figures. */
extern uint64_t sim_operations;

#endif
