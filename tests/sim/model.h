/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the contents of a disk may be, as far as its clients can know.
 *
 * The disk is seen as units of SIM_UNIT bytes.  Every write fills its units with a
 * pattern that says which write it was; so what is read says whose it is.  A write
 * begins when the client sends it and ends when the client has the answer, or when
 * the server has closed the connection it was sent on.
 *
 * A read may return what a write left, unless a successful write that began after
 * that one ended had ended itself before the read began.  After a power cut the disk
 * may hold what a write left, unless a *durable* write began after that one ended:
 * successful, and with FUA, or ended before a successful flush began.
 *
 * Failed writes, those nobody answered, and trims may have had an effect or not.
 */
#ifndef TESTS_SIM_MODEL_H
#define TESTS_SIM_MODEL_H

#include <stdbool.h>
#include <stdint.h>

#define SIM_UNIT 64u /* bytes */

struct sim_model;

enum sim_outcome { SIM_DONE, SIM_FAILED, SIM_LOST };

struct sim_model *sim_model_new(uint64_t size);
void sim_model_free(struct sim_model *m);
uint64_t sim_model_size(const struct sim_model *m);

/* The model's own time: goes on with every call. */
uint64_t sim_model_now(struct sim_model *m);

/*
 * A write to [OFFSET, OFFSET + LENGTH) begins, whole units: its number.  ZERO: of
 * zeroes.  MAYBE: even if it succeeds it may have done nothing (a trim).  FUA: it is
 * durable when it succeeds.  GROUP: which flushes cover it.
 */
uint32_t sim_model_begin(struct sim_model *m, uint64_t offset, uint64_t length, bool zero,
			 bool maybe, bool fua, unsigned group);
void sim_model_end(struct sim_model *m, uint32_t write, enum sim_outcome outcome);

/* The pattern of a write, from its byte FROM on. */
void sim_model_fill(const struct sim_model *m, uint32_t write, uint64_t from, void *data,
		    uint64_t length);

/* A flush of GROUP that began at BEGUN has succeeded; ALL: it covers all groups. */
void sim_model_flushed(struct sim_model *m, uint64_t begun, unsigned group, bool all);

/* DATA was read at OFFSET by a read that began at BEGUN.  Fails if it may not be. */
void sim_model_check(struct sim_model *m, uint64_t offset, const void *data, uint64_t length,
		     uint64_t begun);

/* May [OFFSET, OFFSET + LENGTH) read as zeroes?  Else fails: WHO said so. */
void sim_model_check_zero(struct sim_model *m, uint64_t offset, uint64_t length, uint64_t begun,
			  const char *who);

/* The oldest read that has not ended began at BEGUN: nothing from before it is needed. */
void sim_model_forget(struct sim_model *m, uint64_t begun);

/*
 * The server has ended and its last flush has failed: what is not durable by now
 * never will be by a flush of another server.
 */
void sim_model_give_up(struct sim_model *m);

/* The power went: all writes are over.  SURVIVES: what is durable is still there. */
void sim_model_cut(struct sim_model *m, bool survives);
/*
 * No server runs, and DATA is at OFFSET of one of several disks: what was durably
 * written since the last cut has to be there.  Fails if it is not: WHO has what.
 */
void sim_model_check_stable(struct sim_model *m, uint64_t offset, const void *data, uint64_t length,
			    const char *who);
/* After a cut: DATA was found at OFFSET; that is what is there from now on. */
void sim_model_found(struct sim_model *m, uint64_t offset, const void *data, uint64_t length);

#define SIM_GROUPS_MAX 64u

#endif
