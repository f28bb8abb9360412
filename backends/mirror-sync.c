/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Making the legs of a mirror the same again: sync.
 *
 * A region that is stale on a leg is read, piece by piece, from one on which it is
 * not, and written to those on which it is.  A piece holds its range like a write does, so
 * what clients write comes before or after it on all legs.  When all of the region has
 * been copied and nothing of it has become stale meanwhile, it is not stale any more.
 */
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "backends/mirror.h"
#include "nbdring/checked.h"

/* ---- what scrub needs, too --------------------------------------------- */

uint64_t nr_mirror_piece_end(const struct nr_mirror *m, uint64_t at, uint64_t end)
{
	uint64_t piece = nr_min(NR_MIRROR_PIECE, m->layer->traits.block_max);

	/* Pieces begin at multiples of a power of two, so that blocks are whole. */
	while (!nr_is_power_of_2(piece))
		piece &= piece - 1;
	return nr_min(end, nr_round_down(at, piece) + piece);
}

bool nr_mirror_may_move(struct nr_mirror *m, struct nr_mirror_op *op, uint64_t bytes)
{
	if (!m->rate)
		return true;
	if (m->allowance < bytes) {
		op->step = NR_STEP_SLEEP;
		nr_sleep(m->layer, op->req, NR_MIRROR_TICK_NS);
		return false;
	}
	m->allowance -= bytes;
	return true;
}

static void drop(struct nr_mirror_op *op)
{
	if (op->child)
		nr_child_release(op->child);
	op->child = NULL;
	if (op->buffer)
		op->buffer->release(op->buffer);
	op->buffer = NULL;
}

/* ---- sync -------------------------------------------------------------- */

static bool is_being_copied(const struct nr_mirror *m, uint64_t region)
{
	for (unsigned i = 0; i < NR_MIRROR_SYNCS; i++)
		if (m->sync[i].active && m->sync[i].region == region)
			return true;
	return false;
}

/* Stale on a leg that can be written, and not on another that can be read. */
static bool can_be_copied(const struct nr_mirror *m, uint64_t region)
{
	bool stale = false, fresh = false;

	for (unsigned i = 0; i < m->legs.count; i++) {
		if (!nr_mirror_up(&m->leg[i]))
			continue;
		if (nr_bit(m->leg[i].stale, region))
			stale = true;
		else
			fresh = true;
	}
	return stale && fresh && !is_being_copied(m, region);
}

/* The next region from FROM on, up to END; END if there is none. */
static uint64_t find_region(const struct nr_mirror *m, uint64_t from, uint64_t end)
{
	while (from < end) {
		uint64_t word = 0;

		for (unsigned i = 0; i < m->legs.count; i++)
			word |= m->leg[i].stale[from / 64];
		word &= UINT64_MAX << (from % 64);
		if (!word) {
			from = nr_round_down(from, 64) + 64;
			continue;
		}
		from = nr_round_down(from, 64) + (unsigned)__builtin_ctzll(word);
		if (from < end && can_be_copied(m, from))
			return from;
		from++;
	}
	return end;
}

static bool next_region(struct nr_mirror *m, struct nr_mirror_sync *sync)
{
	uint64_t r = find_region(m, m->sync_next, m->regions);

	if (r == m->regions) {
		r = find_region(m, 0, m->sync_next);
		if (r == m->sync_next)
			return false;
	}
	m->sync_next = (r + 1) % m->regions;
	*sync = (struct nr_mirror_sync){
		.active = true, .region = r, .at = r << m->region_shift, .targets = UINT32_MAX
	};
	sync->end = nr_min(sync->at + m->region, m->size);
	return true;
}

static void say_if_done(struct nr_mirror *m)
{
	if (!m->sync_said || nr_mirror_stale_total(m))
		return;
	m->sync_said = false;
	nr_layer_log(m->layer, NR_LAYER_INFO,
		     "all legs are the same again: %" PRIu64 " bytes of %" PRIu64
		     " regions were copied",
		     m->synced_bytes, m->synced_regions);
}

/* All pieces were copied. */
static void region_done(struct nr_mirror *m, struct nr_mirror_sync *sync)
{
	if (!sync->moved_on) {
		m->synced_regions++;
		for (unsigned i = 0; i < m->legs.count; i++)
			if (sync->targets >> i & 1)
				nr_mirror_clear_stale(m, &m->leg[i], sync->region);
	}
	sync->active = false;
	say_if_done(m);
}

static void copy_piece(struct nr_mirror *m, struct nr_mirror_op *op);

/* The next piece, or the next region; or there is no more to do, or nobody to do it for. */
static void sync_on(struct nr_mirror *m, struct nr_mirror_sync *sync, struct nr_worker *worker)
{
	struct nr_mirror_op *op = NULL;

	if (sync->active || next_region(m, sync))
		op = nr_mirror_background(m, worker, NR_JOB_SYNC);
	if (!op) {
		sync->active = false;
		return;
	}
	m->sync_said = true;
	op->sync = sync;
	op->at = sync->at;
	op->end = nr_mirror_piece_end(m, sync->at, sync->end);
	copy_piece(m, op);
}

/* OP is through with its piece, or gives up its region. */
static void piece_over(struct nr_mirror *m, struct nr_mirror_op *op, bool copied)
{
	struct nr_mirror_sync *sync = op->sync;

	drop(op);
	nr_mirror_unlock(m, op);
	if (copied) {
		/* It is not stable yet. */
		nr_intent_touch(m, sync->region);
		m->synced_bytes += op->end - op->at;
		sync->at = op->end;
		if (sync->at == sync->end)
			region_done(m, sync);
		sync_on(m, sync, op->req->worker);
	} else {
		sync->active = false; /* the next tick tries again */
	}
	nr_child_release(op->req);
}

static void read_source(struct nr_mirror *m, struct nr_mirror_op *op)
{
	uint64_t end = op->end;
	struct nr_mirror_leg *leg = nr_mirror_choose(m, op->at, &end, op->tried);
	struct nr_request *child;

	op->step = NR_STEP_LEGS;
	child = leg && end == op->end
			? nr_mirror_child(m, leg, op->req, NR_READ, op->at, end - op->at)
			: NULL;
	if (child)
		nr_mirror_enter(leg, child);
	else
		piece_over(m, op, false);
}

static void copy_piece(struct nr_mirror *m, struct nr_mirror_op *op)
{
	if (nr_mirror_may_move(m, op, op->end - op->at) && nr_mirror_lock(m, op, op->at, op->end))
		read_source(m, op);
}

void nr_mirror_sync_go_on(struct nr_mirror *m, struct nr_mirror_op *op)
{
	if (op->step == NR_STEP_SLEEP)
		copy_piece(m, op);
	else
		read_source(m, op);
}

static bool is_hole(const struct nr_request *read)
{
	return read->segment_count == 1 && !read->segments[0].data;
}

static struct nr_request *target_child(struct nr_mirror *m, struct nr_mirror_op *op,
				       struct nr_mirror_leg *leg, uint8_t *data)
{
	struct nr_request *child = nr_mirror_child(m, leg, op->req, data ? NR_WRITE : NR_ZERO,
						   op->at, op->end - op->at);

	if (child && data) {
		child->segments[0] = (struct nr_segment){ data, op->end - op->at, NULL };
		child->segment_count = 1;
	}
	return child;
}

/* What the source has goes to those who have not. */
static void write_targets(struct nr_mirror *m, struct nr_mirror_op *op)
{
	bool zero = is_hole(op->child) && m->layer->traits.support[NR_CAP_ZERO] == NR_NATIVE;
	uint8_t *data = NULL;

	if (!zero) {
		op->buffer = nr_buffer_get(op->req->worker, op->end - op->at, &data);
		if (!op->buffer) {
			piece_over(m, op, false);
			return;
		}
		nr_request_copy_out(op->child, 0, op->end - op->at, data);
	}
	op->sent = 0;
	for (unsigned i = 0; i < m->legs.count; i++) {
		struct nr_mirror_leg *leg = &m->leg[i];
		struct nr_request *child;

		if (!nr_mirror_up(leg) || !nr_bit(leg->stale, op->sync->region))
			continue;
		child = target_child(m, op, leg, data);
		if (!child)
			continue;
		op->sent |= 1u << i;
		op->under_way++;
		nr_mirror_enter(leg, child);
	}
	op->sync->targets &= op->sent;
	if (!op->under_way)
		piece_over(m, op, false);
}

static void source_answered(struct nr_mirror *m, struct nr_mirror_op *op, struct nr_mirror_leg *leg,
			    struct nr_request *child)
{
	if (!child->error) {
		op->child = child;
		write_targets(m, op);
		return;
	}
	if (nr_mirror_means_gone(child->error) && nr_mirror_in_count(m) > 1)
		nr_mirror_leg_out(m, leg, "a read failed", child->error, op->req->worker);
	op->tried |= 1u << leg->index;
	nr_child_release(child);
	read_source(m, op);
}

void nr_mirror_sync_child(struct nr_mirror *m, struct nr_mirror_op *op, struct nr_request *child)
{
	struct nr_mirror_leg *leg = nr_mirror_child_back(m, child);
	int error = child->error;

	if (child->operation == NR_READ) {
		source_answered(m, op, leg, child);
		return;
	}
	nr_child_release(child);
	if (error) {
		op->bad |= 1u << leg->index;
		op->sync->targets &= ~(1u << leg->index);
		if (leg->state == NR_LEG_BACK || nr_mirror_in_count(m) > 1)
			nr_mirror_leg_out(m, leg, "copying to it failed", error, op->req->worker);
	}
	if (--op->under_way == 0)
		piece_over(m, op, op->sync->targets != 0);
}

void nr_mirror_start_syncs(struct nr_mirror *m, struct nr_worker *worker)
{
	if (!nr_mirror_stale_total(m))
		return;
	for (unsigned i = 0; i < NR_MIRROR_SYNCS; i++)
		if (!m->sync[i].active)
			sync_on(m, &m->sync[i], worker);
}
