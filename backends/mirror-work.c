/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What a mirror does in the background.
 *
 * A tick, five times a second while there is anything to do, starts what is due.  Each
 * job is a background request (layer.h) with children of its own.  There are none while
 * the export has no client: then all of this stands still, and goes on with the first
 * request of the next one.
 */
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "backends/mirror.h"
#include "nbdring/checked.h"

#define PROBE_BYTES 4096u

struct nr_mirror_op *nr_mirror_background(struct nr_mirror *m, struct nr_worker *worker,
					  enum nr_mirror_job job)
{
	struct nr_request *req = nr_background(m->layer, worker, NR_FLUSH, 0, 0);
	struct nr_mirror_op *op;

	if (!req)
		return NULL;
	op = nr_scratch(m->layer, req);
	*op = (struct nr_mirror_op){ .job = (uint8_t)job, .req = req };
	return op;
}

/* The instance may be gone when this returns. */
static void end(struct nr_mirror_op *op)
{
	nr_child_release(op->req);
}

static bool takes_flush(const struct nr_mirror_leg *leg)
{
	return leg->leg->traits->support[NR_CAP_FLUSH] == NR_NATIVE;
}

/* A flush of LEG for OP.  False: it could not be sent. */
static bool flush_leg(struct nr_mirror *m, struct nr_mirror_op *op, struct nr_mirror_leg *leg)
{
	struct nr_request *child = nr_mirror_child(m, leg, op->req, NR_FLUSH, 0, 0);

	if (!child)
		return false;
	op->sent |= 1u << leg->index;
	op->under_way++;
	nr_mirror_enter(leg, child);
	return true;
}

/* ---- probing a leg that is out ----------------------------------------- */

static void probe_over(struct nr_mirror *m, struct nr_mirror_op *op, bool good)
{
	struct nr_mirror_leg *leg = op->leg;

	leg->probing = false;
	leg->probe_at = nr_now(op->req->worker) + leg->probe_pause;
	if (good)
		nr_mirror_leg_back(m, leg);
	end(op);
}

static void start_probe(struct nr_mirror *m, struct nr_mirror_leg *leg, struct nr_worker *worker)
{
	struct nr_mirror_op *op = nr_mirror_background(m, worker, NR_JOB_PROBE);
	uint64_t length = nr_max(PROBE_BYTES, leg->leg->traits->block_min);
	struct nr_request *child;

	if (!op)
		return;
	op->leg = leg;
	leg->probing = true;
	length = nr_min(length, nr_round_down(leg->leg->size, leg->leg->traits->block_min));
	length = nr_min(length, leg->leg->traits->block_max);
	child = length ? nr_mirror_child(m, leg, op->req, NR_READ, 0, length) : NULL;
	if (!child) {
		probe_over(m, op, false);
		return;
	}
	nr_mirror_enter(leg, child);
}

/* A leg that reads is asked to flush, too: it may know that it has lost something. */
static void probe_child(struct nr_mirror *m, struct nr_mirror_op *op, enum nr_operation operation,
			int error)
{
	if (error)
		probe_over(m, op, false);
	else if (operation == NR_FLUSH || !takes_flush(op->leg))
		probe_over(m, op, true);
	else if (!flush_leg(m, op, op->leg))
		probe_over(m, op, false);
}

/* ---- a leg on which nothing is stale any more -------------------------- */

static void settle_over(struct nr_mirror *m, struct nr_mirror_op *op)
{
	op->leg->settling = false;
	nr_mirror_wake(m, op->req->worker);
	end(op);
}

static void settled(struct nr_mirror *m, struct nr_mirror_op *op, int error)
{
	struct nr_mirror_leg *leg = op->leg;

	if (error && leg->state == NR_LEG_BACK)
		nr_mirror_leg_out(m, leg, "a flush failed", error, op->req->worker);
	else if (leg->state == NR_LEG_BACK && leg->stale_count == 0 && m->outs == op->outs)
		nr_mirror_leg_in(m, leg);
	if (nr_intent_is_recorded(m))
		settle_over(m, op);
	else
		nr_intent_wait(m, op);
}

static void start_settling(struct nr_mirror *m, struct nr_mirror_leg *leg, struct nr_worker *worker)
{
	struct nr_mirror_op *op = nr_mirror_background(m, worker, NR_JOB_SETTLE);

	if (!op)
		return;
	op->leg = leg;
	op->outs = m->outs;
	leg->settling = true;
	if (!takes_flush(leg))
		settled(m, op, 0);
	else if (!flush_leg(m, op, leg))
		settle_over(m, op);
}

/* ---- forgetting intents ------------------------------------------------ */

static void clean_over(struct nr_mirror *m, struct nr_mirror_op *op)
{
	m->cleaning = false;
	end(op);
}

static void clean(struct nr_mirror *m, struct nr_mirror_op *op)
{
	nr_intent_clean(m);
	if (nr_intent_is_clean(m))
		clean_over(m, op);
	else
		nr_intent_wait(m, op);
}

/* All legs have flushed, or failed to. */
static void clean_flushed(struct nr_mirror *m, struct nr_mirror_op *op)
{
	const struct nr_mirror_leg *source = nr_mirror_source(m);
	bool some = op->sent & ~op->bad;

	for (unsigned i = 0; some && i < m->legs.count; i++)
		if (op->bad >> i & 1 &&
		    (m->leg[i].state == NR_LEG_BACK || nr_mirror_in_count(m) > 1))
			nr_mirror_leg_out(m, &m->leg[i], "a flush failed", -(int)op->leg_error[i],
					  op->req->worker);
	if (!some) {
		/* Whoever asks for the next flush has to know. */
		m->lost = -EIO;
		for (unsigned i = 0; i < m->legs.count; i++)
			if (&m->leg[i] != source)
				nr_mirror_mark_intended_stale(m, &m->leg[i]);
	} else if (!op->bad && !op->error) {
		m->flushed = nr_max(m->flushed, op->started);
	}
	clean(m, op);
}

static void start_cleaning(struct nr_mirror *m, struct nr_worker *worker)
{
	struct nr_mirror_op *op = nr_mirror_background(m, worker, NR_JOB_CLEAN);

	if (!op)
		return;
	m->cleaning = true;
	op->started = ++m->epoch;
	if (m->last_write >= m->flushed)
		for (unsigned i = 0; i < m->legs.count; i++)
			if (takes_flush(&m->leg[i]) && !flush_leg(m, op, &m->leg[i]))
				op->error = -ENOMEM;
	if (op->under_way)
		return;
	if (!op->error)
		m->flushed = nr_max(m->flushed, op->started);
	clean(m, op);
}

/* ---- ticks ------------------------------------------------------------- */

static bool has_work(const struct nr_mirror *m)
{
	if (m->report)
		return true;
	return !m->layer->read_only &&
	       (m->intent.count || m->scrub.wanted || m->scrub.active ||
		nr_mirror_in_count(m) < m->legs.count || nr_mirror_stale_total(m));
}

void nr_mirror_wake(struct nr_mirror *m, struct nr_worker *worker)
{
	struct nr_mirror_op *op;

	if (m->ticking || !has_work(m))
		return;
	op = nr_mirror_background(m, worker, NR_JOB_TICK);
	if (!op)
		return;
	m->ticking = true;
	nr_sleep(m->layer, op->req, NR_MIRROR_TICK_NS);
}

static bool is_cleaning_due(const struct nr_mirror *m)
{
	uint64_t quiet = m->quiet_s * NR_MIRROR_TICKS_PER_S;

	return !m->cleaning && m->intent.count && nr_mirror_in_count(m) == m->legs.count &&
	       !nr_mirror_stale_total(m) && m->tick % nr_max(quiet, 1) == 0;
}

static void look_after_legs(struct nr_mirror *m, struct nr_worker *worker)
{
	uint64_t now = nr_now(worker);

	for (unsigned i = 0; i < m->legs.count; i++) {
		struct nr_mirror_leg *leg = &m->leg[i];

		if (leg->state == NR_LEG_OUT && !leg->probing && now >= leg->probe_at) {
			if (nr_mirror_absent(leg))
				nr_mirror_start_arrival(m, leg, worker);
			else
				start_probe(m, leg, worker);
		}
		if (leg->state == NR_LEG_BACK && !leg->settling && leg->stale_count == 0)
			start_settling(m, leg, worker);
	}
}

static void tick(struct nr_mirror *m, struct nr_mirror_op *op)
{
	struct nr_worker *worker = op->req->worker;
	struct nr_mirror_op *next;

	m->tick++;
	m->allowance += m->rate / NR_MIRROR_TICKS_PER_S;
	m->allowance = nr_min(m->allowance, nr_max(m->rate, NR_MIRROR_PIECE));
	if (!m->layer->read_only) {
		look_after_legs(m, worker);
		if (is_cleaning_due(m))
			start_cleaning(m, worker);
		nr_mirror_start_syncs(m, worker);
		nr_mirror_start_scrub(m, worker);
	}
	nr_mirror_report_tick(m, worker);
	/* A new request each time, because there is none when there is no client. */
	next = has_work(m) ? nr_mirror_background(m, worker, NR_JOB_TICK) : NULL;
	m->ticking = next != NULL;
	if (next)
		nr_sleep(m->layer, next->req, NR_MIRROR_TICK_NS);
	end(op);
}

/* ---- what comes back --------------------------------------------------- */

void nr_mirror_work_go_on(struct nr_mirror *m, struct nr_mirror_op *op)
{
	switch ((enum nr_mirror_job)op->job) {
	case NR_JOB_TICK:
		tick(m, op);
		break;
	case NR_JOB_SETTLE:
		/* If it could not be recorded, the next one who is recorded does it. */
		if (m->intent.failed || nr_intent_is_recorded(m))
			settle_over(m, op);
		else
			nr_intent_wait(m, op);
		break;
	case NR_JOB_CLEAN:
		if (m->intent.failed || nr_intent_is_clean(m))
			clean_over(m, op);
		else
			nr_intent_wait(m, op);
		break;
	case NR_JOB_SYNC:
		nr_mirror_sync_go_on(m, op);
		break;
	case NR_JOB_SCRUB:
		nr_mirror_scrub_go_on(m, op);
		break;
	case NR_JOB_CLIENT:
	case NR_JOB_PROBE:
	case NR_JOB_REPORT:
	case NR_JOB_ARRIVAL:
	default:
		assert(!"nothing to go on with");
		break;
	}
}

static void flush_child(struct nr_mirror *m, struct nr_mirror_op *op, unsigned leg, int error)
{
	if (error) {
		op->bad |= 1u << leg;
		op->leg_error[leg] = (uint8_t)-error;
	}
	if (--op->under_way == 0)
		clean_flushed(m, op);
}

void nr_mirror_work_child(struct nr_mirror *m, struct nr_mirror_op *op, struct nr_request *child)
{
	enum nr_operation operation = child->operation;
	unsigned leg;
	int error;

	if (op->job == NR_JOB_SYNC) {
		nr_mirror_sync_child(m, op, child);
		return;
	}
	if (op->job == NR_JOB_SCRUB) {
		nr_mirror_scrub_child(m, op, child);
		return;
	}
	leg = nr_mirror_child_back(m, child)->index;
	error = child->error;
	nr_child_release(child);
	if (op->job == NR_JOB_PROBE)
		probe_child(m, op, operation, error);
	else if (op->job == NR_JOB_SETTLE)
		settled(m, op, error);
	else
		flush_child(m, op, leg, error);
}
