/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Pipes for answers by reference: a worker's own, made when they are wanted and
 * closed when it has nothing to do.
 *
 * A pipe is a row of places for pages, one for each page that data lies in.  How
 * many an ordinary user's pipe may have, and all of the user's pipes together, the
 * system limits (pipe(7)); a pipe that did not get as many as it wanted is used for
 * what fits into it.
 *
 * A pipe in the pool is empty.  One that comes back with something in it, because
 * its client has left, is closed.
 *
 * Threads: the worker's.
 */
#include <assert.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "nbdring/checked.h"
#include "src/stack/worker.h"

#define PIPES_MAX 16u /* of a worker; whoever gets none copies */
#define PAGE_BYTES 4096u
#define PIPE_BYTES (1u << 20) /* what anybody may have */

struct nr_pipe {
	struct nr_buffer buffer; /* first: layers know the pipe by it */
	struct nr_worker *worker;
	struct nr_pipe *next; /* free ones */
	int fill;
	uint32_t places;
};

static void close_pipe(struct nr_pipe *pipe)
{
	assert(pipe->worker->pipe_count > 0);
	pipe->worker->pipe_count--;
	(void)close(pipe->buffer.pipe);
	(void)close(pipe->fill);
	free(pipe);
}

void nr_worker_close_pipes(struct nr_worker *worker)
{
	while (worker->free_pipes) {
		struct nr_pipe *pipe = worker->free_pipes;

		worker->free_pipes = pipe->next;
		close_pipe(pipe);
	}
}

static void release(struct nr_buffer *buffer)
{
	struct nr_pipe *pipe = (struct nr_pipe *)buffer;
	int left = 0;

	if (ioctl(buffer->pipe, FIONREAD, &left) != 0 || left != 0) {
		close_pipe(pipe);
		return;
	}
	pipe->next = pipe->worker->free_pipes;
	pipe->worker->free_pipes = pipe;
}

static struct nr_pipe *new_pipe(struct nr_worker *worker)
{
	struct nr_pipe *pipe = calloc(1, sizeof(*pipe));
	int ends[2], bytes;

	if (!pipe || pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0) {
		free(pipe);
		return NULL;
	}
	(void)fcntl(ends[1], F_SETPIPE_SZ, (int)PIPE_BYTES);
	bytes = fcntl(ends[1], F_GETPIPE_SZ);
	pipe->buffer = (struct nr_buffer){ release, NR_BUFFER_PIPE, ends[0] };
	pipe->worker = worker;
	pipe->fill = ends[1];
	pipe->places = bytes > 0 ? (uint32_t)bytes / PAGE_BYTES : 0;
	worker->pipe_count++;
	return pipe;
}

/* The first free pipe that has as many places. */
static struct nr_pipe *take_free(struct nr_worker *worker, uint64_t places)
{
	struct nr_pipe **at = &worker->free_pipes, *pipe;

	while (*at && (*at)->places < places)
		at = &(*at)->next;
	pipe = *at;
	if (pipe)
		*at = pipe->next;
	return pipe;
}

struct nr_buffer *nr_pipe_get(struct nr_worker *worker, uint64_t offset, uint64_t length, int *fill)
{
	uint64_t places = (offset % PAGE_BYTES + length + PAGE_BYTES - 1) / PAGE_BYTES;
	struct nr_pipe *pipe;

	if (places > PIPE_BYTES / PAGE_BYTES)
		return NULL;
	pipe = take_free(worker, places);
	if (!pipe && worker->pipe_count < PIPES_MAX)
		pipe = new_pipe(worker);
	if (!pipe)
		return NULL;
	if (pipe->places < places) {
		pipe->next = worker->free_pipes;
		worker->free_pipes = pipe;
		return NULL;
	}
	*fill = pipe->fill;
	return &pipe->buffer;
}
