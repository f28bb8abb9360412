/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The world that a simulated server lives in: its clock, what is going to happen
 * when, chance, and the record of what happened.
 *
 * A process has one world at a time, and one thread in it.  Everything that could
 * go one way or another asks sim_below and its kin, so one seed decides everything;
 * nothing may depend on addresses, on the real clock or on uninitialised memory.
 * The trace hash takes in every event and every outcome: two runs of a seed with
 * the same hash did the same.
 *
 * Whatever finds something wrong calls sim_fail, which prints how to see it again
 * and ends the process.
 */
#ifndef TESTS_SIM_WORLD_H
#define TESTS_SIM_WORLD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SIM_MICROSECOND UINT64_C(1000)
#define SIM_MILLISECOND UINT64_C(1000000)
#define SIM_SECOND UINT64_C(1000000000)

/* Something that will happen; lives in what it concerns, and is there until it fires. */
struct sim_event {
	void (*fire)(struct sim_event *event);
	const char *name; /* for the trace; static */
	uint64_t at;
	uint64_t order; /* of those at the same time; chance */
	size_t place;   /* in the heap, from 1; 0: not waiting */
};

/* How often what goes wrong: one in N, 0: never.  Chosen per run, asked by the devices. */
struct sim_faults {
	unsigned interrupted;    /* EINTR, EAGAIN */
	unsigned short_transfer; /* sockets and files move less than asked */
	unsigned disk_error;     /* EIO of a read, write or range */
	unsigned flush_error;    /* EIO of an fsync */
	unsigned no_space;       /* ENOSPC of a write or range */
	unsigned stall;          /* an operation takes seconds */
	unsigned accept_error;   /* EMFILE */
	unsigned cancel_lost;    /* a cancellation does not find what it looks for */
};

extern struct sim_faults sim_faults;

/* Begin and end a world.  What is still waiting at the end is forgotten. */
void sim_world_begin(uint64_t seed);
void sim_world_end(void);

uint64_t sim_now(void);    /* nanoseconds */
uint64_t sim_hash(void);   /* of all that happened so far */
uint64_t sim_events(void); /* fired so far */
uint64_t sim_seed(void);

/* Chance. */
uint64_t sim_draw(void);
uint64_t sim_below(uint64_t n);                      /* 0 to N - 1; N > 0 */
uint64_t sim_between(uint64_t low, uint64_t high);   /* both ends included */
bool sim_one_in(unsigned n);                         /* N 0: never */
uint64_t sim_magnitude(unsigned low, unsigned high); /* about 2^low to 2^high, small as likely as
						      * large */

/* EVENT fires after DELAY nanoseconds; it must not be waiting. */
void sim_schedule(struct sim_event *event, uint64_t delay);
void sim_unschedule(struct sim_event *event); /* does nothing when it is not waiting */
static inline bool sim_scheduled(const struct sim_event *event)
{
	return event->place != 0;
}

/* The next event: its time comes, it fires.  False: there is none. */
bool sim_fire_next(void);
uint64_t sim_next_in(void); /* nanoseconds until then; UINT64_MAX: there is none */

/* WHAT (static) happened, with two numbers that describe it: into the hash and the trace. */
void sim_note(const char *what, uint64_t a, uint64_t b);
extern bool sim_tracing; /* print what is noted */

/* How the process says what it found: printed by sim_fail and by whatever ends it else. */
struct sim_report {
	const char *command; /* to see it again, without the seed */
	const char *shape;   /* all worlds have this one; NULL: any */
	bool wanted;         /* a canary: finding something is success */
};
extern struct sim_report sim_report;

_Noreturn void sim_fail(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Asserts of the server and signals are findings, too. */
void sim_catch_aborts(void);

/* A quick hash of memory. */
uint64_t sim_hash_bytes(uint64_t hash, const void *data, size_t length);

/* Memory of the simulation itself; never NULL. */
void *sim_alloc(size_t bytes); /* zeroed */

#endif
