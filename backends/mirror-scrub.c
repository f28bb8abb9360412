/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Looking whether the legs of a mirror are the same: scrub.
 *
 * All of the disk is read from all legs that are IN, piece by piece.  A piece holds its
 * range like a write does.  Where legs differ in one, or one cannot be read, it is gone
 * through again in blocks, each of which is voted on: what more than half of the legs have
 * that could be read is right, and is written to the others.  Where no content has so many,
 * nobody knows, and nothing is changed unless the person who runs the mirror has said that
 * the first leg is right then.
 *
 * Before a block is written its region is intended, as before any write.
 */
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "backends/mirror.h"
#include "nbdring/checked.h"

#define BLOCK_BYTES 4096u
#define LINES_MAX 20u /* of a scrub in the log, about single blocks */

/* ---- comparing --------------------------------------------------------- */

static uint8_t byte_at(const struct nr_segment *segment, uint64_t at)
{
	return segment->data ? segment->data[at] : 0;
}

/* How many bytes from the beginning on are the same in A and B. */
static uint64_t equal_bytes(const struct nr_request *a, const struct nr_request *b)
{
	const struct nr_segment *x = a->segments, *y = b->segments;
	uint64_t from_x = 0, from_y = 0, done = 0;

	while (done < a->length) {
		uint64_t part = nr_min(x->length - from_x, y->length - from_y);

		if ((x->data || y->data) &&
		    !(x->data && y->data && memcmp(x->data + from_x, y->data + from_y, part) == 0))
			for (uint64_t i = 0; i < part; i++)
				if (byte_at(x, from_x + i) != byte_at(y, from_y + i))
					return done + i;
		done += part;
		from_x += part;
		from_y += part;
		if (from_x == x->length) {
			x++;
			from_x = 0;
		}
		if (from_y == y->length) {
			y++;
			from_y = 0;
		}
	}
	return done;
}

static bool is_same(const struct nr_request *a, const struct nr_request *b)
{
	return equal_bytes(a, b) == a->length;
}

/* Forget what has been read of the window. */
static void drop(struct nr_mirror_op *op)
{
	struct nr_mirror_piece *piece = op->piece;

	while (piece->kinds)
		nr_child_release(piece->kind[--piece->kinds]);
	piece->unread = 0;
	op->sent = op->bad = 0;
	if (op->buffer)
		op->buffer->release(op->buffer);
	op->buffer = NULL;
}

/* LEG has read CHILD. */
static void take_vote(struct nr_mirror_piece *piece, const struct nr_mirror_leg *leg,
		      struct nr_request *child)
{
	uint32_t bit = 1u << leg->index;

	for (unsigned i = 0; i < piece->kinds; i++) {
		if (!is_same(piece->kind[i], child))
			continue;
		piece->voters[i] |= bit;
		nr_child_release(child);
		return;
	}
	piece->kind[piece->kinds] = child;
	piece->voters[piece->kinds++] = bit;
}

/* The kind that is right; -1: nobody knows. */
static int elect(const struct nr_mirror *m, const struct nr_mirror_piece *piece)
{
	int voters = 0;

	for (unsigned i = 0; i < piece->kinds; i++)
		voters += __builtin_popcount(piece->voters[i]);
	for (unsigned i = 0; i < piece->kinds; i++)
		if (2 * __builtin_popcount(piece->voters[i]) > voters)
			return (int)i;
	/* Legs are read in order, so the first of them that could be has the first kind. */
	return m->scrub_repair == NR_SCRUB_FIRST && piece->kinds ? 0 : -1;
}

/* ---- the log ----------------------------------------------------------- */

static void list_legs(uint32_t legs, char *text, size_t room)
{
	size_t used = 0;

	for (unsigned i = 0; legs; i++, legs >>= 1)
		if (legs & 1 && used < room)
			used += (size_t)snprintf(text + used, room - used, "%s%u", used ? ", " : "",
						 i + 1);
}

/* Of a piece in which something was found. */
static void say(struct nr_mirror *m, const struct nr_mirror_piece *piece)
{
	char legs[64] = "";

	if (!piece->differing || m->scrub.lines++ >= LINES_MAX)
		return;
	list_legs(piece->repaired_legs, legs, sizeof(legs));
	if (piece->repaired_legs)
		nr_layer_log(m->layer, NR_LAYER_WARNING,
			     "scrub: %" PRIu64 " blocks from %" PRIu64
			     " on differ; leg %s got what %s",
			     piece->differing, piece->first, legs,
			     m->scrub_repair == NR_SCRUB_FIRST ? "most, or the first, have"
							       : "most have");
	if (piece->undecided)
		nr_layer_log(m->layer, NR_LAYER_ERROR,
			     "scrub: %" PRIu64 " blocks from %" PRIu64
			     " on differ, and are left as they are: %s",
			     piece->undecided, piece->first,
			     m->scrub_repair == NR_SCRUB_NEVER
				     ? "scrub-repair=never"
				     : "no content is that of most legs, so nobody knows which is "
				       "right; see scrub-repair=");
	if (m->scrub.lines == LINES_MAX)
		nr_layer_log(m->layer, NR_LAYER_WARNING, "scrub: no more is said of single blocks");
}

/* ---- pieces ------------------------------------------------------------ */

static void scrub_on(struct nr_mirror *m, struct nr_worker *worker);
static void next_leg(struct nr_mirror *m, struct nr_mirror_op *op);

static void say_if_over(struct nr_mirror *m)
{
	struct nr_mirror_scrub *scrub = &m->scrub;

	if (!scrub->active || scrub->under_way || scrub->next < m->size)
		return;
	scrub->active = false;
	scrub->runs++;
	nr_layer_log(m->layer, scrub->differences ? NR_LAYER_WARNING : NR_LAYER_INFO,
		     "scrub: all %" PRIu64 " bytes were compared; %" PRIu64
		     " blocks differed, of %" PRIu64 " it is not known what is right",
		     m->size, scrub->differences, scrub->undecided);
}

static void piece_over(struct nr_mirror *m, struct nr_mirror_op *op)
{
	struct nr_mirror_scrub *scrub = &m->scrub;
	struct nr_mirror_piece *piece = op->piece;

	drop(op);
	nr_mirror_unlock(m, op);
	scrub->differences += piece->differing;
	scrub->undecided += piece->undecided;
	say(m, piece);
	piece->active = false;
	scrub->under_way--;
	scrub_on(m, op->req->worker);
	say_if_over(m);
	nr_mirror_wake(m, op->req->worker);
	nr_child_release(op->req);
}

static uint64_t block_bytes(const struct nr_mirror *m)
{
	return nr_max(BLOCK_BYTES, m->layer->traits.block_min);
}

/* The window was looked at: the next block of the piece, if it is gone through in blocks. */
static void next_window(struct nr_mirror *m, struct nr_mirror_op *op)
{
	drop(op);
	if (op->end == op->piece->limit) {
		piece_over(m, op);
		return;
	}
	op->at = op->end;
	op->end = nr_min(op->at + block_bytes(m), op->piece->limit);
	next_leg(m, op);
}

/* ---- writing what is right --------------------------------------------- */

/* The writes are back, or there were none. */
static void repaired(struct nr_mirror *m, struct nr_mirror_op *op)
{
	nr_intent_end(m, op->at, op->end);
	next_window(m, op);
}

static void write_winner(struct nr_mirror *m, struct nr_mirror_op *op)
{
	struct nr_mirror_piece *piece = op->piece;
	uint64_t length = op->end - op->at;
	uint8_t *data;

	op->step = NR_STEP_LEGS;
	op->buffer = nr_buffer_get(op->req->worker, length, &data);
	if (op->buffer)
		nr_request_copy_out(piece->kind[piece->winner], 0, length, data);
	for (unsigned i = 0; op->buffer && i < m->legs.count; i++) {
		struct nr_mirror_leg *leg = &m->leg[i];
		struct nr_request *child;

		if (!(piece->targets >> i & 1) || leg->state != NR_LEG_IN)
			continue;
		child = nr_mirror_child(m, leg, op->req, NR_WRITE, op->at, length);
		if (!child)
			continue;
		child->segments[0] = (struct nr_segment){ data, length, NULL };
		child->segment_count = 1;
		op->under_way++;
		nr_mirror_enter(leg, child);
	}
	if (!op->under_way) {
		piece->undecided += piece->kinds > 1;
		repaired(m, op);
	}
}

static void wait_for_intent(struct nr_mirror *m, struct nr_mirror_op *op)
{
	op->step = NR_STEP_INTENT;
	if (nr_intent_is_durable(m, op->at, op->end))
		write_winner(m, op);
	else
		nr_intent_wait(m, op);
}

static void written(struct nr_mirror *m, struct nr_mirror_op *op, struct nr_mirror_leg *leg,
		    int error)
{
	if (!error)
		op->piece->repaired_legs |= 1u << leg->index;
	else if (leg->state == NR_LEG_IN && nr_mirror_in_count(m) > 1)
		nr_mirror_leg_out(m, leg, "writing it again failed", error, op->req->worker);
	if (--op->under_way == 0)
		repaired(m, op);
}

/* ---- reading and deciding ---------------------------------------------- */

/* All legs have answered for a block in which something is wrong. */
static void decide(struct nr_mirror *m, struct nr_mirror_op *op)
{
	struct nr_mirror_piece *piece = op->piece;
	bool differs = piece->kinds > 1;

	if (differs && !piece->differing++)
		piece->first = op->at;
	piece->winner = elect(m, piece);
	if (m->scrub_repair == NR_SCRUB_NEVER || piece->winner < 0) {
		piece->undecided += differs;
		next_window(m, op);
		return;
	}
	piece->targets = op->sent & ~piece->voters[piece->winner];
	nr_intent_begin(m, op->at, op->end);
	wait_for_intent(m, op);
}

static void all_answered(struct nr_mirror *m, struct nr_mirror_op *op)
{
	struct nr_mirror_piece *piece = op->piece;

	if (piece->kinds == 0 && !piece->unread) {
		piece_over(m, op); /* no leg is IN here */
	} else if (piece->kinds < 2 && !piece->unread) {
		next_window(m, op);
	} else if (!piece->in_blocks) {
		piece->in_blocks = true;
		op->end = op->at;
		next_window(m, op);
	} else {
		decide(m, op);
	}
}

/* Is LEG one that has all of [AT, END)? */
static bool may_vote(const struct nr_mirror *m, const struct nr_mirror_leg *leg, uint64_t at,
		     uint64_t end)
{
	uint64_t last = nr_mirror_last_region(m, end);

	if (leg->state != NR_LEG_IN)
		return false;
	for (uint64_t r = nr_mirror_first_region(m, at); r <= last; r++)
		if (nr_bit(leg->stale, r))
			return false;
	return true;
}

/* The next leg, in the order of their numbers, that has something to say. */
static void next_leg(struct nr_mirror *m, struct nr_mirror_op *op)
{
	op->step = NR_STEP_LEGS;
	for (unsigned i = 0; i < m->legs.count; i++) {
		struct nr_mirror_leg *leg = &m->leg[i];
		struct nr_request *child;

		if (op->sent >> i & 1 || !may_vote(m, leg, op->at, op->end))
			continue;
		child = nr_mirror_child(m, leg, op->req, NR_READ, op->at, op->end - op->at);
		if (!child) {
			/* Memory is short: it goes on where it is when there is some. */
			op->step = NR_STEP_SLEEP;
			nr_sleep(m->layer, op->req, NR_MIRROR_TICK_NS);
			return;
		}
		op->sent |= 1u << i;
		nr_mirror_enter(leg, child);
		return;
	}
	all_answered(m, op);
}

static void begin_piece(struct nr_mirror *m, struct nr_mirror_op *op)
{
	if (nr_mirror_may_move(m, op, (op->end - op->at) * m->legs.count) &&
	    nr_mirror_lock(m, op, op->at, op->end))
		next_leg(m, op);
}

void nr_mirror_scrub_go_on(struct nr_mirror *m, struct nr_mirror_op *op)
{
	if (op->step == NR_STEP_SLEEP && !op->in_table) {
		begin_piece(m, op);
	} else if (op->step != NR_STEP_INTENT) {
		next_leg(m, op);
	} else if (m->intent.failed) {
		op->piece->undecided += op->piece->kinds > 1;
		repaired(m, op);
	} else {
		wait_for_intent(m, op);
	}
}

void nr_mirror_scrub_child(struct nr_mirror *m, struct nr_mirror_op *op, struct nr_request *child)
{
	struct nr_mirror_leg *leg = nr_mirror_child_back(m, child);
	int error = child->error;

	if (child->operation == NR_WRITE) {
		nr_child_release(child);
		written(m, op, leg, error);
		return;
	}
	if (error) {
		if (m->scrub.lines++ < LINES_MAX)
			nr_layer_log(m->layer, NR_LAYER_WARNING,
				     "scrub: leg %u: a read at %" PRIu64 " failed: %s",
				     leg->index + 1, op->at, strerror(-error));
		op->piece->unread |= 1u << leg->index;
		nr_child_release(child);
	} else {
		take_vote(op->piece, leg, child);
	}
	next_leg(m, op);
}

static struct nr_mirror_piece *free_piece(struct nr_mirror *m)
{
	for (unsigned i = 0; i < NR_MIRROR_SCRUBS; i++)
		if (!m->scrub.piece[i].active)
			return &m->scrub.piece[i];
	return NULL;
}

static void scrub_on(struct nr_mirror *m, struct nr_worker *worker)
{
	struct nr_mirror_scrub *scrub = &m->scrub;
	struct nr_mirror_piece *piece = free_piece(m);
	struct nr_mirror_op *op;

	if (!scrub->active || scrub->next >= m->size || !piece)
		return;
	op = nr_mirror_background(m, worker, NR_JOB_SCRUB);
	if (!op)
		return;
	op->at = scrub->next;
	op->end = nr_mirror_piece_end(m, op->at, m->size);
	*piece = (struct nr_mirror_piece){ .active = true, .limit = op->end };
	op->piece = piece;
	scrub->next = op->end;
	scrub->under_way++;
	begin_piece(m, op);
}

void nr_mirror_start_scrub(struct nr_mirror *m, struct nr_worker *worker)
{
	struct nr_mirror_scrub *scrub = &m->scrub;

	if (scrub->wanted && !scrub->active && nr_mirror_in_count(m) > 1 &&
	    !nr_mirror_stale_total(m) && m->size) {
		nr_layer_log(m->layer, NR_LAYER_INFO, "scrub: comparing all legs");
		scrub->wanted = false;
		scrub->active = true;
		scrub->next = 0;
		scrub->lines = 0;
		scrub->differences = scrub->undecided = 0;
	}
	for (unsigned i = scrub->under_way; i < NR_MIRROR_SCRUBS; i++)
		scrub_on(m, worker);
}
