/*
 * A gather send per turn is what makes both ends of this benchmark cheap: headers are
 * written one after the other into one buffer, payloads are pointed at, and the whole
 * batch leaves with one operation. Headers that follow each other without a payload
 * between them share one piece, so a batch of reads is a single plain send.
 *
 * Rules: a batch in flight is not added to (the caller keeps two and fills the other);
 * payloads belong to somebody else and must not change until gather_sent() said true.
 */
#include "bench/common/gather.h"

#include <err.h>
#include <liburing.h>
#include <stdlib.h>

void gather_open(struct gather *g, unsigned messages, size_t header_max)
{
	if (messages > GATHER_MAX)
		messages = GATHER_MAX;
	*g = (struct gather){ .limit = messages, .header_max = header_max };
	g->bytes = malloc(messages * header_max);
	g->iov = calloc(2UL * messages, sizeof(*g->iov));
	if (!g->bytes || !g->iov)
		errx(1, "out of memory for a batch of %u messages", messages);
}

void gather_close(struct gather *g)
{
	free(g->bytes);
	free(g->iov);
	*g = (struct gather){ 0 };
}

static const uint8_t *piece_end(const struct iovec *piece)
{
	return (const uint8_t *)piece->iov_base + piece->iov_len;
}

uint8_t *gather_header(struct gather *g, size_t length)
{
	uint8_t *at = g->bytes + g->bytes_used;

	if (g->iov_used && piece_end(&g->iov[g->iov_used - 1]) == at)
		g->iov[g->iov_used - 1].iov_len += length;
	else
		g->iov[g->iov_used++] = (struct iovec){ .iov_base = at, .iov_len = length };
	g->bytes_used += length;
	g->messages++;
	return at;
}

void gather_payload(struct gather *g, const void *payload, size_t length)
{
	g->iov[g->iov_used++] = (struct iovec){ .iov_base = (void *)payload, .iov_len = length };
}

void gather_prepare(struct gather *g, struct io_uring_sqe *sqe, int fd)
{
	struct iovec *iov = &g->iov[g->iov_first];
	unsigned count = g->iov_used - g->iov_first;

	if (count == 1) {
		io_uring_prep_send(sqe, fd, iov->iov_base, iov->iov_len,
				   MSG_NOSIGNAL | MSG_WAITALL);
		return;
	}
	g->msg = (struct msghdr){ .msg_iov = iov, .msg_iovlen = count };
	io_uring_prep_sendmsg(sqe, fd, &g->msg, MSG_NOSIGNAL | MSG_WAITALL);
}

bool gather_sent(struct gather *g, size_t sent)
{
	while (g->iov_first < g->iov_used && sent >= g->iov[g->iov_first].iov_len)
		sent -= g->iov[g->iov_first++].iov_len;
	if (g->iov_first < g->iov_used) {
		struct iovec *iov = &g->iov[g->iov_first];

		iov->iov_base = (uint8_t *)iov->iov_base + sent;
		iov->iov_len -= sent;
		return false;
	}
	g->bytes_used = 0;
	g->iov_used = 0;
	g->iov_first = 0;
	g->messages = 0;
	return true;
}
