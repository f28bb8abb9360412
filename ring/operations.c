/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Starting operations: each function describes one in a completion and launches
 * it.  Nothing is decided here that depends on an engine or on an outcome.
 *
 * What can be answered without an engine (an empty transfer, a discard where
 * there is none) still ends in a later turn, never inside the start.
 *
 * Threads: the ring's owner.
 */
#include "ring/front.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>

#define KEPT_FLAGS (NR_ATTEMPT_KEPT_A | NR_ATTEMPT_KEPT_B | NR_ATTEMPT_BLOCKING)
#define NANOSECONDS_A_SECOND 1000000000u

static inline void describe(struct nr_ring *ring, struct nr_completion *c,
			    enum nr_ring_operation operation, int fd)
{
	assert(c->state == IDLE);
	assert(c->done);
	c->operation = (uint8_t)operation;
	c->fd = fd;
	c->progress = 0;
	c->flags &= KEPT_FLAGS;
	c->tries = 0;
	ring->in_flight++;
}

/* A vector of one is a plain buffer: cheaper in every engine. */
static inline void describe_vector(struct nr_completion *c, struct iovec *vector, unsigned count)
{
	assert(count <= IOV_MAX);
	if (count == 1) {
		c->u.io.vector = NULL;
		c->u.io.single = *vector;
	} else {
		c->u.io.vector = vector;
	}
	c->count = count;
}

static inline void describe_single(struct nr_completion *c, const void *data, size_t length)
{
	c->u.io.vector = NULL;
	c->u.io.single.iov_base = (void *)data;
	c->u.io.single.iov_len = length;
	c->count = 1;
}

static inline void launch_transfer(struct nr_ring *ring, struct nr_completion *c)
{
	if (unlikely(c->count == 0 || (!c->u.io.vector && c->u.io.single.iov_len == 0)))
		nr_front_ready(ring, c, 0);
	else
		nr_front_launch(ring, c);
}

void nr_ring_recv(struct nr_ring *ring, struct nr_completion *c, int fd, void *data, size_t length)
{
	assert(length > 0);
	describe(ring, c, NR_RING_RECV, fd);
	describe_single(c, data, length);
	nr_front_launch(ring, c);
}

void nr_ring_recv_vec(struct nr_ring *ring, struct nr_completion *c, int fd, struct iovec *vector,
		      unsigned count)
{
	assert(count > 0);
	describe(ring, c, NR_RING_RECV, fd);
	describe_vector(c, vector, count);
	nr_front_launch(ring, c);
}

void nr_ring_send_vec(struct nr_ring *ring, struct nr_completion *c, int fd, struct iovec *vector,
		      unsigned count)
{
	describe(ring, c, NR_RING_SEND, fd);
	describe_vector(c, vector, count);
	launch_transfer(ring, c);
}

void nr_ring_send_shared(struct nr_ring *ring, struct nr_completion *c, int fd,
			 struct iovec *vector, const uint8_t *kinds, unsigned count)
{
	assert(count <= IOV_MAX);
	describe(ring, c, NR_RING_SHARE, fd);
	c->u.io.vector = vector;
	c->u.io.more.share.kinds = kinds;
	c->count = count;
	launch_transfer(ring, c);
}

void nr_ring_accept(struct nr_ring *ring, struct nr_completion *c, int fd)
{
	describe(ring, c, NR_RING_ACCEPT, fd);
	nr_front_launch(ring, c);
}

void nr_ring_connect(struct nr_ring *ring, struct nr_completion *c, int fd,
		     const struct sockaddr *address, socklen_t length)
{
	describe(ring, c, NR_RING_CONNECT, fd);
	c->u.connect.address = address;
	c->u.connect.length = length;
	nr_front_launch(ring, c);
}

void nr_ring_read(struct nr_ring *ring, struct nr_completion *c, int fd, void *data, size_t length,
		  uint64_t offset)
{
	describe(ring, c, NR_RING_READ, fd);
	describe_single(c, data, length);
	c->offset = offset;
	launch_transfer(ring, c);
}

void nr_ring_write(struct nr_ring *ring, struct nr_completion *c, int fd, const void *data,
		   size_t length, uint64_t offset)
{
	describe(ring, c, NR_RING_WRITE, fd);
	describe_single(c, data, length);
	c->offset = offset;
	launch_transfer(ring, c);
}

void nr_ring_read_vec(struct nr_ring *ring, struct nr_completion *c, int fd, struct iovec *vector,
		      unsigned count, uint64_t offset)
{
	describe(ring, c, NR_RING_READ, fd);
	describe_vector(c, vector, count);
	c->offset = offset;
	launch_transfer(ring, c);
}

void nr_ring_write_vec(struct nr_ring *ring, struct nr_completion *c, int fd, struct iovec *vector,
		       unsigned count, uint64_t offset)
{
	describe(ring, c, NR_RING_WRITE, fd);
	describe_vector(c, vector, count);
	c->offset = offset;
	launch_transfer(ring, c);
}

void nr_completion_set_rw_flags(struct nr_completion *c, uint32_t rwf)
{
	assert(c->state == IDLE);
	c->rw_flags = rwf;
}

void nr_completion_set_blocking(struct nr_completion *c)
{
	assert(c->state == IDLE);
	c->flags |= NR_ATTEMPT_BLOCKING;
}

void nr_ring_fsync(struct nr_ring *ring, struct nr_completion *c, int fd, bool data_only)
{
	describe(ring, c, NR_RING_FSYNC, fd);
	c->u.range.mode = data_only;
	nr_front_launch(ring, c);
}

void nr_ring_fallocate(struct nr_ring *ring, struct nr_completion *c, int fd, int mode,
		       uint64_t offset, uint64_t length)
{
	describe(ring, c, NR_RING_FALLOCATE, fd);
	c->u.range.mode = mode;
	c->u.range.length = length;
	c->offset = offset;
	nr_front_launch(ring, c);
}

void nr_ring_discard(struct nr_ring *ring, struct nr_completion *c, int fd, uint64_t offset,
		     uint64_t length)
{
	describe(ring, c, NR_RING_DISCARD, fd);
	c->u.range.length = length;
	c->offset = offset;
	if (ring->report.discard)
		nr_front_launch(ring, c);
	else
		nr_front_ready(ring, c, -EOPNOTSUPP);
}

void nr_ring_poll(struct nr_ring *ring, struct nr_completion *c, int fd, unsigned events)
{
	describe(ring, c, NR_RING_POLL, fd);
	c->count = events;
	nr_front_launch(ring, c);
}

void nr_ring_timeout(struct nr_ring *ring, struct nr_completion *c, uint64_t nanoseconds)
{
	describe(ring, c, NR_RING_TIMEOUT, -1);
	c->offset = nanoseconds;
	c->u.time.seconds = (int64_t)(nanoseconds / NANOSECONDS_A_SECOND);
	c->u.time.nanoseconds = (int64_t)(nanoseconds % NANOSECONDS_A_SECOND);
	nr_front_launch(ring, c);
}
