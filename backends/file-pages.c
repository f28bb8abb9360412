/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Reads by reference out of the page cache (docs/decisions/0014).
 *
 * A read through the page cache copies from there into a buffer, and sending copies
 * from the buffer into the socket: for large reads that is nearly all of what they
 * cost.  splice(2) puts references to the cache's pages into a pipe instead, and the
 * pipe's pages go to the client as they are.
 *
 * splice would wait for pages that are not there, so the page cache is asked first
 * (cachestat), and the last page is touched without waiting (RWF_NOWAIT): read-ahead
 * fills pages in order, so when the last one is ready the others are.  Whatever is
 * not all there is read in the ordinary way, which waits for the disk in the kernel
 * and not on the worker.  Between the question and splice the system could take a page
 * away: then the worker waits for one read of the disk.
 *
 * While this server changes the file nothing is tried: some file systems take the
 * inode's lock for splice, and who writes may hold that for long.
 *
 * Threads: workers.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "backends/file.h"
#include "nbdring/checked.h"

#define PAGES_MIN 32768u /* for less, the questions cost what they save */
#define PAGE_BYTES 4096u

/* Linux 6.5; the C library does not know it yet. */
#define CACHESTAT 451

struct cache_range {
	uint64_t offset, length;
};

struct cache_state {
	uint64_t cached, dirty, writeback, evicted, recently_evicted; /* pages */
};

static bool all_cached(struct nr_file *file, uint64_t within, uint64_t length)
{
	uint64_t first = within / PAGE_BYTES, last = (within + length - 1) / PAGE_BYTES;
	struct cache_range range = { within, length };
	struct cache_state state = { 0 };

	if (syscall(CACHESTAT, file->fd, &range, &state, 0) != 0) {
		/* An old kernel, a file that we may only read, a file system without pages. */
		atomic_store_explicit(&file->no_pages, true, memory_order_relaxed);
		return false;
	}
	return state.cached == last - first + 1;
}

/* Is the page that holds byte AT ready to be read? */
static bool ready(struct nr_file *file, uint64_t at)
{
	uint8_t byte;
	struct iovec vector = { &byte, 1 };
	ssize_t got;

	if (file->in_memory)
		return true;
	got = preadv2(file->fd, &vector, 1, (off_t)at, RWF_NOWAIT);
	if (got < 0 && errno != EAGAIN)
		atomic_store_explicit(&file->no_pages, true, memory_order_relaxed);
	return got == 1;
}

/* All of [WITHIN, WITHIN + LENGTH) into the pipe; false: something of it did not go. */
static bool fill(struct nr_file *file, uint64_t within, uint64_t length, int pipe)
{
	off_t at = (off_t)within;

	while (length > 0) {
		ssize_t moved = splice(file->fd, &at, pipe, NULL, length, SPLICE_F_NONBLOCK);

		if (moved <= 0)
			return false;
		length -= (uint64_t)moved;
	}
	return true;
}

static bool worth_trying(const struct nr_file_op *op, uint64_t length)
{
	return length >= PAGES_MIN && nr_takes_pipe(op->req) && !op->disk->direct &&
	       !op->disk->rw_flags &&
	       !atomic_load_explicit(&op->file->no_pages, memory_order_relaxed) &&
	       !nr_disk_being_changed(op->disk);
}

bool nr_file_read_pages(struct nr_file_op *op, uint64_t within, uint64_t length)
{
	struct nr_buffer *pipe;
	int end;

	if (!worth_trying(op, length) || !all_cached(op->file, within, length) ||
	    !ready(op->file, within + length - 1))
		return false;
	pipe = nr_pipe_get(op->req->worker, within, length, &end);
	if (!pipe)
		return false;
	/* What a pipe that was not filled holds is thrown away with it. */
	if (!fill(op->file, within, length, end)) {
		pipe->release(pipe);
		return false;
	}
	return nr_answer_pipe(op->req, length, pipe);
}
