/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Sends of pages by reference (docs/decisions/0014).
 *
 * A send copies what it sends into buffers of the socket, and for anything large that
 * is most of what it costs.  Pages that are never given to other data need no copy:
 * vmsplice(2) puts references to them into a pipe, splice(2) moves the references on
 * into the socket, and the peer's receive copies from the pages themselves.  Data that
 * comes in a pipe, as a file's pages do, goes the second half of that way.
 *
 * These are plain calls of the worker, not entries of the ring: the ring's splice always
 * goes to a thread of the kernel, and its zero-copy send does not know Unix sockets.
 * None of them blocks.  There is no flag for that which reaches the socket behind a
 * splice, so O_NONBLOCK is set for as long as the attempt takes; the ring's own
 * operations on the socket are not begun meanwhile, and those under way have looked at
 * the flag already.
 *
 * An attempt goes stretch by stretch, each of entries of one kind, until the socket is
 * full; the front of the ring then continues it like any short send.  What is still in
 * the engine's own pipe is thrown away, and put there again later, so that one pipe
 * serves all sockets of a ring.
 *
 * Threads: the ring's owner.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "ring/uring.h"

#define STRETCH_BYTES ((size_t)256 * 1024) /* a socket takes about so much at once */
#define STRETCH_ENTRIES 64u
#define PIPE_BYTES (2 * (int)STRETCH_BYTES) /* data may lie across pages */
#define SOCKET_FULL NR_ATTEMPT_KEPT_A       /* the last attempt ended because of that */

static void close_all(struct nr_share *share)
{
	for (unsigned i = 0; i < 2; i++)
		if (share->pipe[i] >= 0)
			(void)close(share->pipe[i]);
	if (share->sink >= 0)
		(void)close(share->sink);
	share->pipe[0] = share->pipe[1] = share->sink = -1;
}

void nr_uring_share_fini(struct nr_share *share)
{
	close_all(share);
}

void nr_uring_share_queue(struct nr_share *share, struct nr_completion *c)
{
	c->u.io.more.share.behind = NULL;
	*share->last = c;
	share->last = &c->u.io.more.share.behind;
}

unsigned nr_uring_share_forget(struct nr_share *share)
{
	unsigned count = 0;

	for (; share->queued; share->queued = share->queued->u.io.more.share.behind)
		count++;
	share->last = &share->queued;
	return count;
}

/* ---- the pipe ---------------------------------------------------------- */

/* Perhaps there are too many files just now: then there is none until it is wanted again. */
static void make_pipe(struct nr_share *share)
{
	share->sink = open("/dev/null", O_WRONLY | O_CLOEXEC);
	if (share->sink < 0 || pipe2(share->pipe, O_CLOEXEC | O_NONBLOCK) < 0)
		close_all(share);
	else
		/* A small one works, too. */
		(void)fcntl(share->pipe[1], F_SETPIPE_SZ, PIPE_BYTES);
}

/* So early that the descriptors of a server are all there before it serves anybody. */
void nr_uring_share_init(struct nr_share *share)
{
	*share = (struct nr_share){ .last = &share->queued, .pipe = { -1, -1 }, .sink = -1 };
	make_pipe(share);
}

/* Does a splice of what is in PIPE see that the socket TO takes nothing more? */
static bool sees_full_socket(int pipe, int to)
{
	static const char some[4096];

	while (send(to, some, sizeof(some), MSG_DONTWAIT | MSG_NOSIGNAL) > 0)
		;
	return splice(pipe, NULL, to, NULL, 1, SPLICE_F_NONBLOCK) < 0 && errno == EAGAIN;
}

/*
 * Before Linux 6.5, splice into a Unix socket took a lock that the peer has while it
 * receives: for as long as it likes, if it receives into memory that does not come.
 * That way of the kernel's also puts a page behind what waits in a full socket, which
 * the one that came after it refuses; so it is told by that.
 */
bool nr_uring_share_unix(void)
{
	int pair[2], pipe[2];
	bool waits_for_none = false;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0)
		return false;
	if (pipe2(pipe, O_CLOEXEC | O_NONBLOCK) == 0) {
		waits_for_none = write(pipe[1], "", 1) == 1 && sees_full_socket(pipe[0], pair[0]);
		close(pipe[0]);
		close(pipe[1]);
	}
	close(pair[0]);
	close(pair[1]);
	return waits_for_none;
}

void nr_uring_share_begin(void)
{
	sigset_t set;

	/* splice has no MSG_NOSIGNAL, and sends never raise a signal. */
	sigemptyset(&set);
	sigaddset(&set, SIGPIPE);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
}

/* True when there is a pipe to work with. */
static bool have_pipe(struct nr_share *share)
{
	if (!share->refused && share->pipe[0] < 0)
		make_pipe(share);
	return share->pipe[0] >= 0;
}

/* LEFT bytes are in the pipe that the socket did not take. */
static void empty_pipe(struct nr_share *share, size_t left)
{
	while (left > 0) {
		ssize_t moved =
			splice(share->pipe[0], NULL, share->sink, NULL, left, SPLICE_F_NONBLOCK);

		if (moved <= 0) {
			close_all(share); /* the next attempt makes a new one */
			return;
		}
		left -= (size_t)moved;
	}
}

/* ---- attempts ---------------------------------------------------------- */

/* How far an attempt has come in its vector. */
struct cursor {
	const struct iovec *at;
	const uint8_t *kind;
	size_t taken; /* bytes of *at */
	unsigned left;
};

struct stretch {
	uint8_t kind;
	bool more; /* another one follows: small packets can wait for it */
	unsigned count;
	size_t bytes;
	struct iovec part[STRETCH_ENTRIES];
};

/* What comes next: entries of one kind, of memory not more than a socket takes. */
static void look_ahead(struct cursor ahead, struct stretch *stretch)
{
	*stretch = (struct stretch){ .kind = *ahead.kind };
	while (ahead.left > 0 && stretch->count < STRETCH_ENTRIES &&
	       stretch->bytes < STRETCH_BYTES && *ahead.kind == stretch->kind) {
		size_t length = ahead.at->iov_len - ahead.taken;

		if (length > STRETCH_BYTES - stretch->bytes)
			length = STRETCH_BYTES - stretch->bytes;
		stretch->part[stretch->count++] =
			(struct iovec){ (char *)ahead.at->iov_base +
						(stretch->kind == NR_SEND_PIPE ? 0 : ahead.taken),
					length };
		stretch->bytes += length;
		ahead = (struct cursor){ ahead.at + 1, ahead.kind + 1, 0, ahead.left - 1 };
	}
	stretch->more = ahead.left > 0;
}

static void move_on(struct cursor *cursor, size_t bytes)
{
	while (bytes > 0) {
		size_t rest = cursor->at->iov_len - cursor->taken;

		if (bytes < rest) {
			cursor->taken += bytes;
			return;
		}
		bytes -= rest;
		*cursor = (struct cursor){ cursor->at + 1, cursor->kind + 1, 0, cursor->left - 1 };
	}
}

static ssize_t copy(int fd, struct stretch *stretch)
{
	struct msghdr header = { .msg_iov = stretch->part, .msg_iovlen = stretch->count };
	ssize_t sent =
		sendmsg(fd, &header, MSG_NOSIGNAL | MSG_DONTWAIT | (stretch->more ? MSG_MORE : 0));

	return sent < 0 ? -errno : sent;
}

/* BYTES out of PIPE into the socket; how many went, or the error before any did. */
static ssize_t pour(int pipe, int fd, size_t bytes, bool more)
{
	unsigned flags = SPLICE_F_NONBLOCK | (more ? SPLICE_F_MORE : 0);
	size_t poured = 0;

	while (poured < bytes) {
		ssize_t moved = splice(pipe, NULL, fd, NULL, bytes - poured, flags);

		if (moved <= 0 && poured == 0)
			return moved < 0 ? -errno : -EPIPE;
		if (moved <= 0)
			break;
		poured += (size_t)moved;
	}
	return (ssize_t)poured;
}

static ssize_t refer(struct nr_share *share, int fd, struct stretch *stretch)
{
	ssize_t taken, poured;

	if (!have_pipe(share))
		return copy(fd, stretch);
	taken = vmsplice(share->pipe[1], stretch->part, stretch->count, SPLICE_F_NONBLOCK);
	if (taken <= 0) {
		/* A filter of system calls, memory that has no pages: not tried again. */
		if (taken == 0 || (errno != EINTR && errno != EAGAIN && errno != ENOMEM)) {
			share->refused = true;
			close_all(share);
		}
		return copy(fd, stretch);
	}
	poured = pour(share->pipe[0], fd, (size_t)taken, stretch->more);
	if (poured != taken)
		empty_pipe(share, (size_t)(taken - (poured > 0 ? poured : 0)));
	return poured;
}

static ssize_t pass_on(struct nr_share *share, int fd, struct stretch *stretch)
{
	switch ((enum nr_send_kind)stretch->kind) {
	case NR_SEND_PIPE:
		return pour((int)(intptr_t)stretch->part[0].iov_base, fd, stretch->part[0].iov_len,
			    stretch->more || stretch->count > 1);
	case NR_SEND_SHARE:
		return refer(share, fd, stretch);
	case NR_SEND_COPY:
		break;
	}
	return copy(fd, stretch);
}

/* The outcome of C's attempt: how far it went, or the error before it went anywhere. */
static int64_t attempt(struct nr_share *share, struct nr_completion *c)
{
	struct cursor cursor = { c->u.io.vector, c->u.io.more.share.kinds, 0, c->count };
	int64_t total = 0;

	while (cursor.left > 0) {
		struct stretch stretch;
		ssize_t moved;

		look_ahead(cursor, &stretch);
		if (stretch.bytes == 0)
			break;
		moved = pass_on(share, c->fd, &stretch);
		if (moved == -EAGAIN && total > 0)
			c->flags |= SOCKET_FULL;
		if (moved < 0)
			return total > 0 ? total : moved;
		move_on(&cursor, (size_t)moved);
		total += moved;
	}
	return total;
}

static int64_t attempt_without_blocking(struct nr_share *share, struct nr_completion *c)
{
	int flags = fcntl(c->fd, F_GETFL);
	int64_t result;

	if (flags < 0 || fcntl(c->fd, F_SETFL, flags | O_NONBLOCK) < 0)
		return -errno;
	result = attempt(share, c);
	(void)fcntl(c->fd, F_SETFL, flags);
	return result;
}

void nr_uring_share_attempt(struct nr_share *share)
{
	share->made = share->queued;
	share->queued = NULL;
	share->last = &share->queued;
	for (struct nr_completion *c = share->made; c; c = c->u.io.more.share.behind) {
		/* It was full a moment ago: wait until it is not rather than try again. */
		if (c->flags & SOCKET_FULL)
			c->result = -EAGAIN;
		else
			c->result = attempt_without_blocking(share, c);
		c->flags &= (uint8_t) ~(c->result == -EAGAIN ? SOCKET_FULL : 0);
	}
}
