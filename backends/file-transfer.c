/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Reads and writes.
 *
 * Each is a loop of steps.  A step begins at op->at, is as long as one file, one
 * kind of content (data or hole) and one buffer allow, and is usually the whole
 * request.  It is one operation of the ring, whose completion takes up the loop
 * again.
 *
 * On tmpfs the ring has nothing to offer: every operation there is handed to a
 * kernel thread, which costs as much as the copy itself, while a plain call is
 * a copy between two pieces of memory and does not wait for anything
 * (docs/decisions/0010).  So there a step is a plain call, on the worker.
 * Everywhere else a plain call may wait (for a disk, for the inode's lock, for
 * dirty pages to become fewer), and is never made here.
 *
 * A read that comes back short means that the file was cut off meanwhile.  The
 * rest of the buffer holds bytes of other requests and is never shown: the
 * request fails.
 *
 * Memory for reads is the worker's arena.  When that has no block of the wanted
 * size, smaller steps are taken; when it has none at all, the request waits for
 * others to give theirs back, looking now and then, and fails only after long.
 */
#include <assert.h>
#include <errno.h>
#include <stddef.h>
#include <sys/uio.h>
#include <unistd.h>

#include "backends/file-stuck.h"
#include "backends/file.h"
#include "nbdring/checked.h"

#define MEMORY_WAIT_NS 1000000u /* between two looks … */
#define MEMORY_TRIES 30000u     /* … of which there are so many: 30 s */
#define PIECE_MIN 4096u         /* a smaller buffer is not asked for */
#define ZERO_BYTES (256u * 1024)
#define GATHER_MIN (128u * 1024) /* fewer bytes in NR_FILE_VECTORS places: too many places */

/* Never written to: the kernel backs it with its page of zeroes. */
static uint8_t zeroes[ZERO_BYTES] __attribute__((aligned(4096)));

static struct nr_file_op *op_of(struct nr_completion *c)
{
	return (struct nr_file_op *)((char *)c - offsetof(struct nr_file_op, completion));
}

static struct nr_ring *ring_of(const struct nr_file_op *op)
{
	return nr_worker_ring(op->req->worker);
}

/* ---- memory ------------------------------------------------------------ */

/* A buffer for up to LENGTH bytes; sets op->length to what it is for. */
static bool get_buffer(struct nr_file_op *op, uint64_t length)
{
	uint64_t least = nr_max(PIECE_MIN, op->disk->block_min);

	op->buffer = nr_buffer_get(op->req->worker, length, &op->data);
	while (!op->buffer && length > least) {
		/* Half of it, and a power of two, so that it stays aligned. */
		uint64_t half = least;

		while (half * 2 < length)
			half *= 2;
		length = half;
		op->buffer = nr_buffer_get(op->req->worker, length, &op->data);
	}
	op->length = length;
	return op->buffer != NULL;
}

static void drop_buffer(struct nr_file_op *op)
{
	if (op->buffer)
		op->buffer->release(op->buffer);
	op->buffer = NULL;
}

static void waited_for_memory(struct nr_ring *ring, struct nr_completion *c)
{
	struct nr_file_op *op = op_of(c);

	if (op->req->operation == NR_READ)
		nr_file_read(op);
	else
		nr_file_write(op);
}

static void wait_for_memory(struct nr_file_op *op)
{
	if (op->tries++ >= MEMORY_TRIES) {
		nr_file_op_finish(op, -ENOMEM);
		return;
	}
	op->completion.done = waited_for_memory;
	nr_ring_timeout(ring_of(op), &op->completion, MEMORY_WAIT_NS);
}

/* ---- plain calls ------------------------------------------------------- */

/*
 * op->length bytes between op->u.vector and the file, at op->within: 0, or negative
 * errno.  FLAGS are for writes.
 */
static int transfer_now(struct nr_file_op *op, unsigned count, uint32_t flags, bool write)
{
	struct iovec *vector = op->u.vector;
	uint64_t left = op->length, within = op->within;

	while (left) {
		ssize_t done = write ? pwritev2(op->file->fd, vector, (int)count, (off_t)within,
						(int)flags)
				     : preadv(op->file->fd, vector, (int)count, (off_t)within);

		if (done < 0 && errno == EINTR)
			continue;
		if (done <= 0)
			return done < 0 ? -errno : -EIO;
		left -= (uint64_t)done;
		within += (uint64_t)done;
		while (count && (size_t)done >= vector->iov_len) {
			done -= (ssize_t)vector->iov_len;
			vector++;
			count--;
		}
		if (count) {
			vector->iov_base = (char *)vector->iov_base + done;
			vector->iov_len -= (size_t)done;
		}
	}
	return 0;
}

/*
 * The step was started: the device may as well begin.  Not when it goes on where the
 * last one ended: the block layer makes one request of those, as long as none has left.
 */
static void hasten(struct nr_file_op *op)
{
	struct nr_disk_worker *worker = nr_disk_worker(op);
	uint64_t offset = op->req->offset + op->at;
	bool follows = worker->follows == offset;

	worker->follows = offset + op->length;
	if (op->disk->direct && !follows)
		nr_ring_hasten(ring_of(op));
}

/* ---- reads ------------------------------------------------------------- */

/* The step's data is there, or it failed: RESULT is bytes or negative errno. */
static int take_data(struct nr_file_op *op, int64_t result)
{
	struct nr_buffer *buffer = op->buffer;

	if (result < 0)
		return (int)result;
	if ((uint64_t)result != op->length)
		return -EIO;
	op->buffer = NULL;
	if (!nr_answer_data(op->req, op->data, op->length, buffer))
		return -EIO;
	op->at += op->length;
	return 0;
}

static void read_done(struct nr_ring *ring, struct nr_completion *c)
{
	struct nr_file_op *op = op_of(c);
	int error = take_data(op, c->result);

	if (error || op->at == op->req->length)
		nr_file_op_finish(op, error);
	else
		nr_file_read(op);
}

static int read_now(struct nr_file_op *op)
{
	int error;

	op->u.vector[0] = (struct iovec){ op->data, op->length };
	error = transfer_now(op, 1, 0, false);
	return take_data(op, error ? error : (int64_t)op->length);
}

void nr_file_read(struct nr_file_op *op)
{
	struct nr_request *req = op->req;

	while (op->at < req->length) {
		uint64_t within, run;
		bool hole;
		int error = 0;

		run = nr_disk_locate(op->disk, req->offset + op->at, req->length - op->at,
				     &op->file, &within);
		run = nr_holes_run(op->disk, op->file, within, run, &hole);
		if (hole) {
			if (!nr_answer_hole(req, run))
				error = -EIO;
			op->at += run;
		} else if (nr_file_read_pages(op, within, run)) {
			op->at += run;
		} else if (!get_buffer(op, run)) {
			wait_for_memory(op);
			return;
		} else if (op->file->in_memory) {
			op->within = within;
			error = read_now(op);
		} else {
			op->completion.done = read_done;
			nr_completion_set_rw_flags(&op->completion, op->disk->rw_flags);
			nr_ring_read(ring_of(op), &op->completion, op->file->fd, op->data,
				     op->length, within);
			hasten(op);
			return;
		}
		if (error) {
			nr_file_op_finish(op, error);
			return;
		}
	}
	nr_file_op_finish(op, 0);
}

/* ---- writes ------------------------------------------------------------ */

/*
 * Point op->u.vector at the request's bytes from op->at on, at most LENGTH;
 * op->length is how many that are.  Returns how many vectors, 0 when the bytes
 * cannot be used where they are (a hole, not aligned for O_DIRECT, or in too many
 * places).
 */
static unsigned gather(struct nr_file_op *op, uint64_t length)
{
	const struct nr_request *req = op->req;
	uint64_t skip = op->segment_at, addresses = 0, lengths = 0;
	unsigned count = 0;

	op->length = 0;
	for (uint32_t i = op->segment; count < NR_FILE_VECTORS && op->length < length; i++) {
		const struct nr_segment *segment = &req->segments[i];
		uint64_t part = nr_min(segment->length - skip, length - op->length);

		assert(i < req->segment_count);
		if (!segment->data)
			return 0;
		op->u.vector[count++] = (struct iovec){ segment->data + skip, part };
		addresses |= (uintptr_t)(segment->data + skip);
		lengths |= part;
		op->length += part;
		skip = 0;
	}
	if (!nr_is_aligned(addresses, op->disk->memory_align) ||
	    !nr_is_aligned(lengths, op->disk->block_min))
		return 0;
	/* Many small ones: copying them is quicker than going so often. */
	if (op->length < length && op->length < GATHER_MIN)
		return 0;
	return count;
}

static void advance(struct nr_file_op *op)
{
	uint64_t left = op->length;

	op->at += op->length;
	while (left) {
		const struct nr_segment *segment = &op->req->segments[op->segment];
		uint64_t part = nr_min(segment->length - op->segment_at, left);

		left -= part;
		op->segment_at += part;
		if (op->segment_at == segment->length) {
			op->segment++;
			op->segment_at = 0;
		}
	}
	drop_buffer(op);
}

static int write_error(struct nr_file_op *op, int64_t result)
{
	/*
	 * A write with RWF_DSYNC that fails may be telling of earlier writes, and
	 * the kernel tells only once.
	 */
	if (result == -EIO && op->req->flags & NR_FUA)
		nr_disk_lost(op->disk, -EIO);
	if (result < 0)
		return (int)result;
	return (uint64_t)result == op->length ? 0 : -EIO;
}

static void write_done(struct nr_ring *ring, struct nr_completion *c)
{
	struct nr_file_op *op = op_of(c);
	int error;

	if (nr_stuck_leaves(op))
		return;
	error = write_error(op, c->result);
	if (!error)
		advance(op);
	if (error || op->at == op->req->length)
		nr_file_op_finish(op, error);
	else
		nr_file_write(op);
}

static uint32_t write_flags(const struct nr_file_op *op)
{
	return op->disk->rw_flags | (op->req->flags & NR_FUA ? RWF_DSYNC : 0);
}

/* The ring has moved the vector on, so it is filled in anew. */
static int64_t write_plainly(struct nr_file_op *op)
{
	unsigned count = 1;
	int error;

	if (op->buffer)
		op->u.vector[0] = (struct iovec){ op->data, op->length };
	else
		count = gather(op, op->length);
	error = transfer_now(op, count, write_flags(op), true);
	return error ? error : (int64_t)op->length;
}

static void write_by_ring(struct nr_file_op *op, unsigned count)
{
	op->completion.done = write_done;
	if (!nr_stuck_enters(op, write_plainly))
		return;
	if (op->apart)
		nr_completion_set_blocking(&op->completion);
	nr_completion_set_rw_flags(&op->completion, write_flags(op));
	if (count == 1)
		nr_ring_write(ring_of(op), &op->completion, op->file->fd, op->u.vector[0].iov_base,
			      op->u.vector[0].iov_len, op->within);
	else
		nr_ring_write_vec(ring_of(op), &op->completion, op->file->fd, op->u.vector, count,
				  op->within);
	hasten(op);
}

void nr_file_write(struct nr_file_op *op)
{
	struct nr_request *req = op->req;

	while (op->at < req->length) {
		uint64_t room;
		unsigned count;
		int error;

		room = nr_disk_locate(op->disk, req->offset + op->at, req->length - op->at,
				      &op->file, &op->within);
		count = gather(op, room);
		if (count == 0) {
			if (!get_buffer(op, room)) {
				wait_for_memory(op);
				return;
			}
			nr_request_copy_out(req, op->at, op->length, op->data);
			op->u.vector[0] = (struct iovec){ op->data, op->length };
			count = 1;
		}
		if (!op->file->in_memory) {
			write_by_ring(op, count);
			return;
		}
		error = transfer_now(op, count, 0, true);
		if (error) {
			nr_file_op_finish(op, error);
			return;
		}
		advance(op);
	}
	nr_file_op_finish(op, 0);
}

static int64_t write_zeroes_plainly(struct nr_file_op *op)
{
	int error;

	op->u.vector[0] = (struct iovec){ zeroes, op->length };
	error = transfer_now(op, 1, op->disk->rw_flags, true);
	return error ? error : (int64_t)op->length;
}

void nr_file_write_zeroes(struct nr_file_op *op)
{
	op->length = nr_min(op->length, ZERO_BYTES);
	if (!nr_stuck_enters(op, write_zeroes_plainly))
		return;
	if (op->apart)
		nr_completion_set_blocking(&op->completion);
	nr_completion_set_rw_flags(&op->completion, op->disk->rw_flags);
	nr_ring_write(ring_of(op), &op->completion, op->file->fd, zeroes, op->length, op->within);
}
