/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Trim and zero.
 *
 *   wanted                    regular file                  block device
 *   trim                      punch a hole                  discard
 *   zero, a hole is welcome   punch, zero range, write      punch, zero range, write
 *   zero, keep it allocated   zero range, punch + allocate, write    zero range, write
 *
 * (On a block device "punch" is a zeroing that may unmap; the kernel refuses it
 * where the device cannot do that quickly.)  What a file system does not do
 * shows when it is asked: the answer is remembered and the next way taken.
 * Nothing is tried out at open, because the only calls that would tell change
 * the file's times, or worse.
 *
 * A fast zero must be refused rather than be slow, with nothing changed.  So its
 * first refusal ends it, and what could not be done in one piece of one kind (on
 * a block device a range off its sectors, in a disk of several files one across
 * two) is refused before anything is begun.
 *
 * Ranges are cut into pieces, so that a client that wipes its disk does not keep
 * the inode's lock from its other requests for minutes.  The file never grows:
 * every fallocate has FALLOC_FL_KEEP_SIZE.
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>

#include "backends/file-stuck.h"
#include "backends/file.h"
#include "nbdring/checked.h"

#define PIECE (UINT64_C(1) << 30)

static const int modes[] = {
	[NR_RANGE_PUNCH] = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
	[NR_RANGE_PUNCH_FIRST] = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
	[NR_RANGE_ALLOCATE] = FALLOC_FL_KEEP_SIZE,
	[NR_RANGE_ZERO] = FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE,
};

/* Where the step stands in its file, and how long it can be. */
static uint64_t locate(struct nr_file_op *op)
{
	uint64_t room = nr_disk_locate(op->disk, op->req->offset + op->at, op->req->length - op->at,
				       &op->file, &op->within);

	return nr_min(room, PIECE);
}

static void end(struct nr_file_op *op)
{
	if (op->req->flags & NR_FUA)
		nr_file_flush(op);
	else
		nr_file_op_finish(op, 0);
}

static bool is_set(_Atomic bool *flag)
{
	return atomic_load_explicit(flag, memory_order_relaxed);
}

static void range_done(struct nr_ring *ring, struct nr_completion *c)
{
	struct nr_file_op *op =
		(struct nr_file_op *)((char *)c - offsetof(struct nr_file_op, completion));

	if (!nr_stuck_leaves(op))
		nr_file_range_done(op, c->result);
}

static int64_t change_range_plainly(struct nr_file_op *op)
{
	int result =
		fallocate(op->file->fd, modes[op->method], (off_t)op->within, (off_t)op->length);

	return result < 0 ? -errno : 0;
}

static void start(struct nr_file_op *op)
{
	struct nr_ring *ring = nr_worker_ring(op->req->worker);

	op->completion.done = range_done;
	switch ((enum nr_range_method)op->method) {
	case NR_RANGE_PUNCH:
	case NR_RANGE_PUNCH_FIRST:
	case NR_RANGE_ALLOCATE:
	case NR_RANGE_ZERO:
		if (!nr_stuck_enters(op, change_range_plainly))
			return;
		op->apart = op->watched; /* the kernel never lets them wait in turn */
		nr_ring_fallocate(ring, &op->completion, op->file->fd, modes[op->method],
				  op->within, op->length);
		return;
	case NR_RANGE_WRITE:
		nr_file_write_zeroes(op);
		return;
	case NR_RANGE_DISCARD:
		if (nr_ring_report(ring)->discard)
			nr_ring_discard(ring, &op->completion, op->file->fd, op->within,
					op->length);
		else
			nr_file_discard(op, op->within, op->length);
		return;
	case NR_RANGE_REFUSE:
		nr_file_op_finish(op, -ENOTSUP);
		return;
	}
}

/* ---- trim -------------------------------------------------------------- */

/*
 * Cut [op->within, + LENGTH) inward to whole blocks: parts of a block cannot be
 * given back, only zeroed, which nobody asked for.  False when nothing is left.
 */
static bool whole_blocks(struct nr_file_op *op, uint64_t length)
{
	uint64_t from, to = nr_round_down(op->within + length, op->file->block);

	if (!nr_round_up(op->within, op->file->block, &from) || from >= to)
		return false;
	op->at += from - op->within;
	op->within = from;
	op->length = to - from;
	return true;
}

void nr_file_trim(struct nr_file_op *op)
{
	while (op->at < op->req->length) {
		uint64_t room = locate(op), before = op->at;
		bool refused = is_set(op->file->block_device ? &op->file->no_discard
							     : &op->file->no_punch);

		if (!refused && whole_blocks(op, room)) {
			op->method = op->file->block_device ? NR_RANGE_DISCARD : NR_RANGE_PUNCH;
			start(op);
			return;
		}
		op->at = before + room;
	}
	end(op);
}

/* ---- zero -------------------------------------------------------------- */

static enum nr_range_method choose(struct nr_file *file, uint32_t flags)
{
	bool hole = !(flags & NR_NO_HOLE), fast = flags & NR_FAST_ZERO;

	if (hole && !is_set(&file->no_punch))
		return NR_RANGE_PUNCH;
	/* A block device may carry this out by writing. */
	if (!is_set(&file->no_zero_range) && (file->fast_zero || !fast))
		return NR_RANGE_ZERO;
	if (!hole && !file->block_device && !is_set(&file->no_punch) && !is_set(&file->no_allocate))
		return NR_RANGE_PUNCH_FIRST;
	return fast ? NR_RANGE_REFUSE : NR_RANGE_WRITE;
}

/*
 * How many of ROOM bytes a method can take from op->within on: on block devices
 * fallocate takes whole sectors, and what is beside them is written.
 */
static uint64_t step_length(struct nr_file_op *op, uint64_t room)
{
	uint32_t unit = op->file->unit;
	uint64_t over = op->within & (unit - 1);

	if (over) {
		op->method = NR_RANGE_WRITE;
		return nr_min(room, unit - over);
	}
	if (room < unit) {
		op->method = NR_RANGE_WRITE;
		return room;
	}
	return nr_round_down(room, unit);
}

/* Can one method do all of the request? */
static bool in_one_piece(const struct nr_file_op *op)
{
	const struct nr_request *req = op->req;
	uint64_t within, room;
	struct nr_file *file;

	room = nr_disk_locate(op->disk, req->offset, req->length, &file, &within);
	return room == req->length && nr_is_aligned(within | room, file->unit);
}

void nr_file_zero(struct nr_file_op *op)
{
	const struct nr_request *req = op->req;
	uint64_t room;

	if (op->at == req->length) {
		end(op);
		return;
	}
	room = locate(op);
	op->method = (uint8_t)choose(op->file, req->flags);
	if (req->flags & NR_FAST_ZERO && !in_one_piece(op))
		op->method = NR_RANGE_REFUSE;
	else
		op->length = step_length(op, room);
	start(op);
}

/* ---- both -------------------------------------------------------------- */

/* The file system does not do what op->method is: from now on, do not ask. */
static void remember_refusal(struct nr_file_op *op)
{
	_Atomic bool *flag = NULL;

	switch ((enum nr_range_method)op->method) {
	case NR_RANGE_PUNCH:
	case NR_RANGE_PUNCH_FIRST:
		flag = &op->file->no_punch;
		break;
	case NR_RANGE_ZERO:
		flag = &op->file->no_zero_range;
		break;
	case NR_RANGE_ALLOCATE:
		flag = &op->file->no_allocate;
		break;
	case NR_RANGE_DISCARD:
		flag = &op->file->no_discard;
		break;
	case NR_RANGE_WRITE:
	case NR_RANGE_REFUSE:
		return;
	}
	atomic_store_explicit(flag, true, memory_order_relaxed);
}

static bool refused(const struct nr_file_op *op, int64_t result)
{
	return (result == -EOPNOTSUPP || result == -ENOSYS) && op->method != NR_RANGE_WRITE;
}

/*
 * Cached pages of a block device were in use just now, so the kernel would not drop
 * the range under them.  A trim may do nothing there (protocol, NBD_CMD_TRIM); zeroes
 * are written instead, unless that would be too slow.
 */
static void go_around(struct nr_file_op *op)
{
	if (op->req->operation == NR_TRIM) {
		op->at += op->length;
		nr_file_trim(op);
		return;
	}
	op->method = op->req->flags & NR_FAST_ZERO ? NR_RANGE_REFUSE : NR_RANGE_WRITE;
	start(op);
}

void nr_file_range_done(struct nr_file_op *op, int64_t result)
{
	if (result == -EBUSY && op->file->block_device && op->method != NR_RANGE_WRITE) {
		go_around(op);
		return;
	}
	if (refused(op, result)) {
		remember_refusal(op);
	} else if (result < 0) {
		nr_file_op_finish(op, (int)result);
		return;
	} else if (op->method == NR_RANGE_PUNCH_FIRST) {
		op->method = NR_RANGE_ALLOCATE;
		start(op);
		return;
	} else {
		if (op->method == NR_RANGE_WRITE && (uint64_t)result != op->length) {
			nr_file_op_finish(op, -EIO);
			return;
		}
		if (op->method != NR_RANGE_WRITE)
			nr_holes_made(op->file, op->within, op->length);
		op->at += op->length;
	}
	if (op->req->operation == NR_TRIM)
		nr_file_trim(op);
	else
		nr_file_zero(op);
}
