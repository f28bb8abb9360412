/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What clients ask a mirror for.
 *
 * A write takes its range, so that overlapping ones reach all legs in the same order;
 * waits until the file says that its regions may differ; goes to all legs that are not
 * out; and is answered when all of them have answered.  If one has failed and another has
 * not, the one is out, and the answer waits until the file says that, too.  If all have
 * failed, nobody is out: it is the client's to know.
 *
 * A read goes to the leg with the least to do.  If that fails, another one answers, and
 * the region is written again on the one that could not read it.
 *
 * Legs are not trimmed, because they may make different things of that, but zeroed.
 */
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "backends/mirror.h"
#include "nbdring/checked.h"

static struct nr_mirror_op *op_of(struct nr_mirror *m, struct nr_request *req)
{
	return nr_scratch(m->layer, req);
}

/* ---- ranges ------------------------------------------------------------ */

bool nr_mirror_lock(struct nr_mirror *m, struct nr_mirror_op *op, uint64_t start, uint64_t end)
{
	op->range = (struct nr_mirror_range){ .start = start, .end = end, .req = op->req };
	op->step = NR_STEP_RANGE;
	op->in_table = true;
	return nr_mirror_ranges_add(&m->ranges, &op->range);
}

void nr_mirror_unlock(struct nr_mirror *m, struct nr_mirror_op *op)
{
	if (op->in_table)
		nr_mirror_ranges_remove(&m->ranges, &op->range, m->layer);
	op->in_table = false;
}

/* ---- writes and flushes ------------------------------------------------ */

static bool is_flush(const struct nr_mirror_op *op)
{
	return op->req->operation == NR_FLUSH;
}

static void end_write(struct nr_mirror *m, struct nr_mirror_op *op, int error)
{
	struct nr_request *req = op->req;

	if (!is_flush(op)) {
		nr_intent_end(m, req->offset, req->offset + req->length);
		nr_mirror_unlock(m, op);
	}
	nr_mirror_wake(m, req->worker);
	nr_finish(m->layer, req, error);
}

static bool is_enough(const struct nr_mirror *m)
{
	return nr_mirror_in_count(m) >= m->min_legs;
}

/* What is acknowledged has to be known to be missing where it is missing. */
static void record_and_end(struct nr_mirror *m, struct nr_mirror_op *op)
{
	op->step = NR_STEP_RECORD;
	if (nr_intent_is_recorded(m))
		end_write(m, op, op->error ? op->error : is_enough(m) ? 0 : -EIO);
	else
		nr_intent_wait(m, op);
}

/* Nobody has done it: legs may differ now, and one of them is right. */
static void nobody_did(struct nr_mirror *m, struct nr_mirror_op *op)
{
	const struct nr_mirror_leg *source = nr_mirror_source(m);
	const struct nr_request *req = op->req;

	op->error = op->bad & 1u << source->index ? -(int)op->leg_error[source->index] : -EIO;
	for (unsigned i = 0; i < m->legs.count; i++) {
		struct nr_mirror_leg *leg = &m->leg[i];

		if (leg == source)
			continue;
		if (is_flush(op))
			nr_mirror_mark_intended_stale(m, leg);
		else
			nr_mirror_mark_stale(m, leg, req->offset, req->offset + req->length);
	}
}

static const char *name_of(enum nr_operation operation)
{
	switch (operation) {
	case NR_WRITE:
		return "a write failed";
	case NR_FLUSH:
		return "a flush failed";
	case NR_READ:
	case NR_TRIM:
	case NR_ZERO:
	case NR_CACHE:
	case NR_EXTENTS:
	case NR_RESIZE:
	case NR_OPERATION_COUNT:
	default:
		return "zeroing failed";
	}
}

static void judge_write(struct nr_mirror *m, struct nr_mirror_op *op)
{
	uint32_t good = op->sent & ~op->bad;
	bool done = false;

	for (unsigned i = 0; i < m->legs.count; i++)
		done |= good >> i & 1 && m->leg[i].state == NR_LEG_IN;
	for (unsigned i = 0; i < m->legs.count; i++) {
		struct nr_mirror_leg *leg = &m->leg[i];

		if (op->bad >> i & 1 && (done || leg->state == NR_LEG_BACK))
			nr_mirror_leg_out(m, leg, name_of(op->req->operation),
					  -(int)op->leg_error[i], op->req->worker);
	}
	if (!done)
		nobody_did(m, op);
	else if (is_flush(op) && good == (1u << m->legs.count) - 1)
		m->flushed = nr_max(m->flushed, op->started);
	record_and_end(m, op);
}

/* A child for each leg that is not out; all or none. */
static bool make_children(struct nr_mirror *m, struct nr_mirror_op *op,
			  struct nr_request *child[NR_MIRROR_LEGS_MAX])
{
	struct nr_request *req = op->req;
	enum nr_operation operation = req->operation == NR_TRIM ? NR_ZERO : req->operation;

	for (unsigned i = 0; i < m->legs.count; i++) {
		child[i] = NULL;
		if (!nr_mirror_up(&m->leg[i]))
			continue;
		child[i] = nr_mirror_child(m, &m->leg[i], req, operation, req->offset, req->length);
		if (!child[i]) {
			while (i-- > 0)
				if (child[i])
					nr_child_release(child[i]);
			return false;
		}
		child[i]->flags = req->flags;
		if (operation == NR_WRITE) {
			child[i]->segments = req->segments;
			child[i]->segment_count = req->segment_count;
		}
	}
	return true;
}

static void send_to_all(struct nr_mirror *m, struct nr_mirror_op *op)
{
	const struct nr_request *req = op->req;
	struct nr_request *child[NR_MIRROR_LEGS_MAX] = { NULL };

	op->step = NR_STEP_LEGS;
	op->started = is_flush(op) ? ++m->epoch : 0;
	if (!is_enough(m) || !make_children(m, op, child)) {
		end_write(m, op, is_enough(m) ? -ENOMEM : -EIO);
		return;
	}
	for (unsigned i = 0; i < m->legs.count; i++) {
		if (child[i]) {
			op->sent |= 1u << i;
			op->under_way++;
			nr_mirror_enter(&m->leg[i], child[i]);
		} else if (!is_flush(op)) {
			nr_mirror_mark_stale(m, &m->leg[i], req->offset, req->offset + req->length);
		}
	}
}

static void write_go_on(struct nr_mirror *m, struct nr_mirror_op *op)
{
	struct nr_request *req = op->req;
	uint64_t end = req->offset + req->length;

	if (op->step == NR_STEP_RANGE) {
		nr_intent_begin(m, req->offset, end);
		op->step = NR_STEP_INTENT;
	} else if (m->intent.failed) {
		/* The children are back, or were never sent. */
		end_write(m, op, -EIO);
		return;
	}
	if (op->step == NR_STEP_RECORD)
		record_and_end(m, op);
	else if (nr_intent_is_durable(m, req->offset, end))
		send_to_all(m, op);
	else
		nr_intent_wait(m, op);
}

static void write_child_done(struct nr_mirror *m, struct nr_mirror_op *op, struct nr_request *child)
{
	const struct nr_mirror_leg *leg = nr_mirror_child_back(m, child);

	if (child->error) {
		op->bad |= 1u << leg->index;
		op->leg_error[leg->index] = (uint8_t)-child->error;
	}
	nr_child_release(child);
	if (--op->under_way == 0)
		judge_write(m, op);
}

/* ---- reads, maps and hints --------------------------------------------- */

static void ask_leg(struct nr_mirror *m, struct nr_mirror_op *op)
{
	struct nr_request *req = op->req, *child;
	uint64_t end = op->end;
	struct nr_mirror_leg *leg = nr_mirror_choose(m, op->at, &end, op->tried);

	if (!leg) {
		nr_finish(m->layer, req, op->error ? op->error : -EIO);
		return;
	}
	child = nr_mirror_child(m, leg, req, req->operation, op->at, end - op->at);
	if (!child) {
		nr_finish(m->layer, req, -ENOMEM);
		return;
	}
	child->flags = req->flags;
	if (req->operation == NR_EXTENTS) {
		child->extents = req->extents;
		req->extents->end = end;
	}
	nr_mirror_enter(leg, child);
}

/* Another leg has to answer, if there is one; this one is looked after. */
static void read_failed(struct nr_mirror *m, struct nr_mirror_op *op, struct nr_mirror_leg *leg,
			int error)
{
	struct nr_request *req = op->req;
	uint64_t end = op->end;

	op->tried |= 1u << leg->index;
	op->error = error;
	if (req->operation == NR_EXTENTS) {
		req->extents->count = 0;
		req->extents->next = req->extents->start;
	}
	if (req->operation != NR_READ || error == -ENOMEM || !nr_mirror_up(leg) ||
	    !nr_mirror_choose(m, op->at, &end, op->tried)) {
		ask_leg(m, op);
		return;
	}
	if (nr_mirror_means_gone(error) &&
	    (leg->state == NR_LEG_BACK || nr_mirror_in_count(m) > 1)) {
		nr_mirror_leg_out(m, leg, "a read failed", error, req->worker);
	} else if (!m->layer->read_only) {
		nr_layer_log(m->layer, NR_LAYER_WARNING,
			     "leg %u: a read of %" PRIu64 " bytes at %" PRIu64
			     " failed: %s; another leg answers, and it will be written again",
			     leg->index + 1, end - op->at, op->at, strerror(-error));
		nr_mirror_mark_stale(m, leg, op->at, end);
		leg->repaired++;
	}
	nr_mirror_wake(m, req->worker);
	ask_leg(m, op);
}

static void read_child_done(struct nr_mirror *m, struct nr_mirror_op *op, struct nr_request *child)
{
	struct nr_mirror_leg *leg = nr_mirror_child_back(m, child);
	struct nr_request *req = op->req;
	int error = child->error;
	bool answered = true;

	if (req->operation == NR_EXTENTS)
		req->extents->end = op->end;
	if (!error && req->operation == NR_READ)
		answered = nr_answer_part(req, child, 0, child->length);
	if (!error)
		op->at += child->length;
	nr_child_release(child);
	if (error)
		read_failed(m, op, leg, error);
	else if (!answered)
		nr_finish(m->layer, req, -ENOMEM);
	else if (op->at == op->end || req->operation == NR_EXTENTS)
		nr_finish(m->layer, req, 0);
	else
		ask_leg(m, op);
}

/* ---- slots ------------------------------------------------------------- */

void nr_mirror_submit(struct nr_layer *layer, struct nr_request *req)
{
	struct nr_mirror *m = layer->instance;
	struct nr_mirror_op *op = op_of(m, req);

	*op = (struct nr_mirror_op){ .job = NR_JOB_CLIENT, .req = req };
	nr_mirror_wake(m, req->worker);
	switch (req->operation) {
	case NR_WRITE:
	case NR_ZERO:
	case NR_TRIM:
		if (nr_mirror_lock(m, op, req->offset, req->offset + req->length))
			write_go_on(m, op);
		break;
	case NR_FLUSH:
		if (m->lost) {
			nr_finish(layer, req, m->lost);
			m->lost = 0;
		} else {
			send_to_all(m, op);
		}
		break;
	case NR_READ:
	case NR_CACHE:
	case NR_EXTENTS:
		op->at = req->offset;
		op->end = req->offset + req->length;
		ask_leg(m, op);
		break;
	case NR_RESIZE:
	case NR_OPERATION_COUNT:
	default:
		nr_finish(layer, req, -EINVAL);
		break;
	}
}

void nr_mirror_go_on(struct nr_mirror *m, struct nr_mirror_op *op)
{
	if (op->job != NR_JOB_CLIENT)
		nr_mirror_work_go_on(m, op);
	else
		write_go_on(m, op);
}

void nr_mirror_resume(struct nr_layer *layer, struct nr_request *req)
{
	struct nr_mirror *m = layer->instance;

	nr_mirror_go_on(m, op_of(m, req));
}

void nr_mirror_child_done(struct nr_layer *layer, struct nr_request *child)
{
	struct nr_mirror *m = layer->instance;
	struct nr_mirror_op *op = op_of(m, nr_child_parent(child));

	if (op->job != NR_JOB_CLIENT)
		nr_mirror_work_child(m, op, child);
	else if (op->req->operation == NR_READ || op->req->operation == NR_CACHE ||
		 op->req->operation == NR_EXTENTS)
		read_child_done(m, op, child);
	else
		write_child_done(m, op, child);
}
