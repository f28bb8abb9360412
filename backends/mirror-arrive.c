/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Legs of a mirror that are not there yet.
 *
 * A leg that cannot be opened with the mirror is absent.  It is tried again at ticks, after
 * pauses that become longer, on a thread that may block, which belongs to a background
 * request meanwhile.  One that comes has to be able to do what clients have been told that
 * the mirror can, and to take what the mirror sends; one that is not is closed again.
 * Then it is like any leg that is OUT: it is probed, gets what it has missed, and is IN.
 */
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "backends/mirror.h"
#include "nbdring/checked.h"

#define NS_PER_S UINT64_C(1000000000)

/* ---- with the mirror --------------------------------------------------- */

/* Can LEG, which could not be opened, be done without for now?  0, or why not, in ERROR. */
static int bear(struct nr_mirror *m, struct nr_mirror_leg *leg, struct nr_error *error)
{
	struct nr_error why;
	int err = nr_substack_check(m->layer, m->words.item[leg->index], &why);

	if (err)
		return nr_error_set(error, err, "leg %u: %s", leg->index + 1, why.text);
	leg->state = NR_LEG_OUT;
	leg->probe_pause = m->probe_s * NS_PER_S;
	return 0;
}

int nr_mirror_open_legs(struct nr_mirror *m, struct nr_error *error)
{
	const struct nr_mirror_leg *missing = NULL;
	unsigned open = 0;
	int err = nr_legs_create(&m->legs, m->words.count, error);

	if (err)
		return err;
	for (unsigned i = 0; !err && i < m->legs.count; i++) {
		struct nr_mirror_leg *leg = &m->leg[i];

		*leg = (struct nr_mirror_leg){ .leg = &m->legs.leg[i], .index = i, .mirror = m };
		if (nr_legs_open_one(&m->legs, i, m->layer, m->words.item[i], &leg->why) == 0) {
			open++;
			continue;
		}
		missing = missing ? missing : leg;
		err = bear(m, leg, error);
	}
	if (!err && open < m->min_legs) {
		assert(missing);
		*error = missing->why;
		err = error->code ? error->code : -EIO;
	}
	for (unsigned i = 0; !err && i < m->legs.count; i++)
		if (nr_mirror_absent(&m->leg[i]))
			nr_layer_log(m->layer, NR_LAYER_WARNING, "%s; %s", m->leg[i].why.text,
				     m->layer->read_only ? "the mirror starts without it"
							 : "the mirror starts without it, and "
							   "it is tried again");
	if (err)
		nr_legs_close(&m->legs);
	return err;
}

/* ---- later ------------------------------------------------------------- */

/* What the mirror offers and LEG has not; NULL: nothing. */
static const char *lacks(const struct nr_traits *mirror, const struct nr_traits *leg)
{
	static const char *const names[NR_CAP_COUNT] = {
		[NR_CAP_FLUSH] = "flushes", [NR_CAP_FUA] = "FUA",
		[NR_CAP_ZERO] = "zeroing",  [NR_CAP_CACHE] = "cache hints",
		[NR_CAP_EXTENTS] = "a map",
	};

	if (leg->read_only)
		return "writes";
	if (leg->block_min > mirror->block_min && leg->refuse_unfit)
		return "blocks as small as those of the mirror";
	if (leg->block_max < mirror->block_max)
		return "blocks as large as those of the mirror";
	if (leg->memory_align > mirror->memory_align && leg->block_min == 1)
		return "memory that begins anywhere";
	if (mirror->multi_conn && !leg->multi_conn)
		return "flushes that cover all connections";
	for (unsigned i = 0; i < NR_CAP_COUNT; i++)
		if (names[i] && mirror->support[i] == NR_NATIVE && leg->support[i] == NR_NONE)
			return names[i];
	return NULL;
}

static int fits(const struct nr_mirror *m, const struct nr_traits *leg, struct nr_error *error)
{
	const char *missing = lacks(&m->layer->traits, leg);

	if (leg->size < m->size)
		return nr_error_set(error, -EINVAL,
				    "it has %" PRIu64 " bytes, the mirror has %" PRIu64, leg->size,
				    m->size);
	if (missing)
		return nr_error_set(error, -EINVAL, "it lacks what the mirror offers: %s", missing);
	return 0;
}

/* On a thread that may block.  What it reads of the mirror does not change. */
static void open_leg(struct nr_job *job)
{
	struct nr_mirror_leg *leg =
		(struct nr_mirror_leg *)((char *)job - offsetof(struct nr_mirror_leg, arrival));
	struct nr_mirror *m = leg->mirror;
	struct nr_stack *stack = nr_substack_open(m->layer, m->words.item[leg->index], &leg->why);

	if (stack && fits(m, nr_substack_traits(stack), &leg->why)) {
		nr_substack_close(stack);
		stack = NULL;
	}
	leg->arrived = stack;
}

/* The same reason is given once. */
static void say_why(struct nr_mirror *m, struct nr_mirror_leg *leg)
{
	uint64_t what = nr_bitmap_hash(leg->why.text);

	nr_layer_log(m->layer, what == leg->told ? NR_LAYER_DEBUG : NR_LAYER_WARNING,
		     "leg %u is absent: %s", leg->index + 1, leg->why.text);
	leg->told = what;
}

static void opened(struct nr_job *job)
{
	struct nr_mirror_leg *leg =
		(struct nr_mirror_leg *)((char *)job - offsetof(struct nr_mirror_leg, arrival));
	struct nr_mirror *m = leg->mirror;
	struct nr_mirror_op *op = leg->arrival_op;
	uint64_t now = nr_now(op->req->worker);

	leg->arrival_op = NULL;
	leg->probing = false;
	if (leg->arrived) {
		nr_leg_take(leg->leg, leg->arrived);
		leg->probe_pause = m->probe_s * NS_PER_S;
		leg->probe_at = now;
		nr_layer_log(m->layer, NR_LAYER_INFO, "leg %u is there now", leg->index + 1);
	} else {
		say_why(m, leg);
		leg->probe_at = now + leg->probe_pause;
		nr_mirror_wait_longer(leg);
	}
	nr_child_release(op->req);
}

void nr_mirror_start_arrival(struct nr_mirror *m, struct nr_mirror_leg *leg,
			     struct nr_worker *worker)
{
	if (!nr_worker_ring(worker))
		return;
	leg->arrival_op = nr_mirror_background(m, worker, NR_JOB_ARRIVAL);
	if (!leg->arrival_op)
		return;
	leg->probing = true;
	leg->why = (struct nr_error){ .code = -EIO };
	leg->arrival =
		(struct nr_job){ .run = open_leg, .done = opened, .home = nr_worker_ring(worker) };
	nr_blocking_submit(&leg->arrival);
}
