/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Long answers of a link that are not copied at all: the kernel moves the pages they
 * came in from the socket into a pipe, and the server moves them on from there.
 *
 * That takes a socket whose pages can be taken, a client that can be given a pipe, and
 * nothing of the payload in the window.  So while long answers are owed, the window
 * receives headers only, and the rest stays in the socket.  What is left over, because a
 * pipe is full or there is none, is received into the window as ever.
 *
 * splice(2) is a plain call that does not wait; the ring tells when there is more.
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>

#include "nbdring/checked.h"
#include "src/client/link-internal.h"

static const uint8_t header_bytes[] = {
	[NR_REPLY_SIMPLE] = NBD_SIMPLE_REPLY_BYTES,
	[NR_REPLY_STRUCTURED] = NBD_STRUCTURED_REPLY_BYTES + 8,
	[NR_REPLY_EXTENDED] = NBD_EXTENDED_REPLY_BYTES + 8,
};

void nr_link_splice_init(struct nr_link *link)
{
	int family = 0;
	socklen_t size = sizeof(family);

	link->splices = false;
	if (link->tls || getsockopt(link->fd, SOL_SOCKET, SO_DOMAIN, &family, &size) < 0)
		return;
	link->splices = family == AF_UNIX || family == AF_INET || family == AF_INET6;
	link->waits = family != AF_UNIX;
}

/*
 * As much as has come, up to LENGTH, into the pipe.  A TCP socket does not look at
 * SPLICE_F_NONBLOCK, only at its own flag; that is not left set, because the ring would
 * have to ask again where it can wait.
 */
static ssize_t splice_some(const struct nr_link *link, int fill, uint64_t length)
{
	ssize_t bytes;
	int error;

	if (link->waits)
		(void)fcntl(link->fd, F_SETFL, O_NONBLOCK);
	bytes = splice(link->fd, NULL, fill, NULL, length, SPLICE_F_NONBLOCK | SPLICE_F_MOVE);
	if (link->waits) {
		error = errno;
		(void)fcntl(link->fd, F_SETFL, 0);
		errno = error;
	}
	return bytes;
}

uint32_t nr_link_splice_header(const struct nr_link *link)
{
	if (!link->splices || !link->owed || link->owed_bytes / link->owed < NR_LINK_SPLICE_MIN ||
	    !nr_takes_pipe(link->sent.first->req))
		return 0;
	return header_bytes[link->agreement.reply_style];
}

static bool is_for_a_pipe(const struct nr_link *link)
{
	const struct nr_link_payload *p = &link->payload;
	const struct nr_link_op *op = p->op;

	if (!link->splices || !op || op->wire.command != NBD_CMD_READ || p->copied)
		return false;
	if (link->window.head != link->window.tail || op->wire.error || op->whole)
		return false;
	if (p->pipe)
		return true;
	return p->left >= NR_LINK_SPLICE_MIN && nr_takes_pipe(op->req) &&
	       p->at - op->req->offset == op->placed;
}

/* What is in the pipe becomes part of the answer. */
static void answer(struct nr_link *link)
{
	struct nr_link_payload *p = &link->payload;
	struct nr_link_op *op = p->op;

	if (p->piped == 0) {
		nr_link_splice_forget(link);
	} else {
		op->placed += p->piped;
		if (!nr_answer_pipe(op->req, p->piped, p->pipe))
			op->wire.error = -ENOMEM;
	}
	p->pipe = NULL;
	p->piped = 0;
}

static void readable(struct nr_ring *ring, struct nr_completion *completion)
{
	struct nr_link *link =
		(struct nr_link *)((char *)completion - offsetof(struct nr_link, receive));

	if (completion->result < 0)
		nr_link_break(link, "waiting for answers fails");
	else if (link->state == NR_LINK_UP && nr_link_splice(link, true))
		nr_link_receive_done(link);
	else if (link->state == NR_LINK_UP && !nr_completion_busy(&link->receive))
		nr_link_receive_done(link);
	nr_link_settle(link);
}

/* True: the payload is over, or goes on in the window. */
static bool moved(struct nr_link *link, ssize_t bytes, bool *polled)
{
	struct nr_link_payload *p = &link->payload;

	if (bytes > 0) {
		p->piped += (uint64_t)bytes;
		p->at += (uint64_t)bytes;
		p->left -= (uint64_t)bytes;
		*polled = false;
		if (link->settings->timeout_ns)
			link->heard_at = nr_ring_now(nr_link_ring(link));
		if (p->left)
			return false;
		answer(link);
		nr_link_payload_over(link);
		return true;
	}
	/* There is something, and it does not go in: the pipe is full, or this is no way. */
	answer(link);
	p->copied = true;
	return true;
}

bool nr_link_splice(struct nr_link *link, bool polled)
{
	struct nr_link_payload *p = &link->payload;

	if (!is_for_a_pipe(link))
		return false;
	if (!p->pipe)
		p->pipe = nr_pipe_get(link->worker, p->at, p->left, &p->fill);
	if (!p->pipe) {
		p->copied = true;
		return false;
	}
	for (;;) {
		ssize_t bytes = splice_some(link, p->fill, p->left);

		if (bytes < 0 && errno == EINTR)
			continue;
		if (bytes == 0) {
			nr_link_break(link, "it hung up");
			return false;
		}
		if (bytes < 0 && errno == EAGAIN && !polled) {
			link->receive.done = readable;
			nr_ring_poll(nr_link_ring(link), &link->receive, link->fd, POLLIN);
			return false;
		}
		if (moved(link, bytes, &polled))
			return true;
	}
}

void nr_link_splice_forget(struct nr_link *link)
{
	if (link->payload.pipe)
		link->payload.pipe->release(link->payload.pipe);
	link->payload.pipe = NULL;
}
