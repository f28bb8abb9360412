/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Requests whose system calls may block and that the ring has no operation for:
 * they run on the threads of blocking.h.
 *
 *   cache    posix_fadvise(WILLNEED) starts the reading of every block, which
 *            waits for a place in the device's queue and, on btrfs, for much
 *            more: 0.2 to 150 ms were measured for 1 to 32 MiB
 *   extents  lseek(SEEK_DATA) reads metadata that is not in memory, and waits for
 *            the inode's lock while somebody writes; what takes a few questions
 *            only is asked on the worker (file-holes.c)
 *   resize   ftruncate waits for all I/O of the file
 *   discard  where the ring has no discard (before Linux 6.12)
 *
 * A job and its request belong to the thread from submit to `done`, which runs
 * on the request's worker again.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "backends/blocking.h"
#include "backends/file.h"
#include "nbdring/checked.h"

/*
 * A client may ask for the whole disk to be prefetched, which would only throw
 * out everything else: this much of a request is, at most.
 */
#define CACHE_BYTES_MAX (32u * 1024 * 1024)

static struct nr_file_op *op_of(struct nr_job *job)
{
	return (struct nr_file_op *)((char *)job - offsetof(struct nr_file_op, u));
}

static void submit(struct nr_file_op *op, void (*run)(struct nr_job *),
		   void (*done)(struct nr_job *))
{
	op->u.job = (struct nr_job){ .run = run,
				     .done = done,
				     .home = nr_worker_ring(op->req->worker) };
	nr_blocking_submit(&op->u.job);
}

static void finish(struct nr_job *job)
{
	struct nr_file_op *op = op_of(job);

	nr_file_op_finish(op, op->result);
}

/* ---- cache ------------------------------------------------------------- */

static void cache_run(struct nr_job *job)
{
	struct nr_file_op *op = op_of(job);
	uint64_t end = nr_min(op->req->length, CACHE_BYTES_MAX);

	while (op->at < end) {
		uint64_t within, length;

		length = nr_disk_locate(op->disk, op->req->offset + op->at, end - op->at, &op->file,
					&within);
		/* A hint: that it could not be followed is no error. */
		(void)posix_fadvise(op->file->fd, (off_t)within, (off_t)length,
				    POSIX_FADV_WILLNEED);
		op->at += length;
	}
	op->result = 0;
}

void nr_file_cache(struct nr_file_op *op)
{
	if (op->disk->volatile_memory)
		nr_file_op_finish(op, 0);
	else
		submit(op, cache_run, finish);
}

/* ---- extents ----------------------------------------------------------- */

static void extents_run(struct nr_job *job)
{
	struct nr_file_op *op = op_of(job);

	nr_holes_extents(op->disk, op->req->extents, op->req->flags & NR_REQ_ONE);
	op->result = 0;
}

void nr_file_extents(struct nr_file_op *op)
{
	bool one = op->req->flags & NR_REQ_ONE;

	if (!op->disk->has_map) {
		(void)nr_extents_add(op->req->extents, op->req->length, 0);
		nr_file_op_finish(op, 0);
	} else if (nr_holes_extents_at_once(op->disk, op->req->extents, one)) {
		nr_file_op_finish(op, 0);
	} else {
		submit(op, extents_run, finish);
	}
}

/* ---- resize ------------------------------------------------------------ */

static void resize_run(struct nr_job *job)
{
	struct nr_file_op *op = op_of(job);

	op->result = ftruncate(op->disk->file->fd, (off_t)op->req->offset) < 0 ? -errno : 0;
}

static void resize_done(struct nr_job *job)
{
	struct nr_file_op *op = op_of(job);

	if (op->result == 0) {
		nr_holes_made(op->disk->file, 0, 0);
		nr_layer_resized(op->disk->layer, op->req->offset);
	}
	finish(job);
}

void nr_file_resize(struct nr_file_op *op)
{
	if (op->req->offset > NR_SIZE_MAX)
		nr_file_op_finish(op, -EFBIG);
	else if (!nr_is_aligned(op->req->offset, op->disk->block_min))
		nr_file_op_finish(op, -EINVAL);
	else
		submit(op, resize_run, resize_done);
}

/* ---- discard ----------------------------------------------------------- */

static void discard_run(struct nr_job *job)
{
	struct nr_file_op *op = op_of(job);
	uint64_t range[2] = { op->within, op->length };

	op->result = ioctl(op->file->fd, BLKDISCARD, range) < 0 ? -errno : 0;
}

static void discard_done(struct nr_job *job)
{
	struct nr_file_op *op = op_of(job);

	nr_file_range_done(op, op->result);
}

void nr_file_discard(struct nr_file_op *op, uint64_t within, uint64_t length)
{
	op->within = within;
	op->length = length;
	submit(op, discard_run, discard_done);
}
