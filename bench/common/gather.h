/* One outgoing batch: many messages, one gather send. See gather.c. */
#ifndef BENCH_COMMON_GATHER_H
#define BENCH_COMMON_GATHER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/uio.h>

struct io_uring_sqe;

struct gather {
	uint8_t *bytes; /* copies of the headers, one after the other */
	size_t bytes_used;
	struct iovec *iov;
	unsigned iov_used;
	unsigned iov_first; /* pieces before this one are sent */
	unsigned messages;
	unsigned limit; /* messages that fit */
	size_t header_max;
	struct msghdr msg;
};

/* Makes room for `messages` (at most GATHER_MAX), each with a header of at most header_max. */
#define GATHER_MAX 512U
void gather_open(struct gather *g, unsigned messages, size_t header_max);
void gather_close(struct gather *g);

static inline bool gather_full(const struct gather *g)
{
	return g->messages == g->limit;
}

static inline bool gather_empty(const struct gather *g)
{
	return g->messages == 0;
}

/* Starts a message; the caller fills the returned `length` bytes. The batch must not be full. */
uint8_t *gather_header(struct gather *g, size_t length);

/* Adds the payload of the message just started; it must stay in place until sent. */
void gather_payload(struct gather *g, const void *payload, size_t length);

/* Prepares the send of all that is left. */
void gather_prepare(struct gather *g, struct io_uring_sqe *sqe, int fd);

/* Takes note of `sent` bytes gone; true when the batch is empty and reusable. */
bool gather_sent(struct gather *g, size_t sent);

#endif
