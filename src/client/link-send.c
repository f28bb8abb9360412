/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Sending of a link: all requests that wait, as far as there are slots, become one
 * gather send; the next is gathered while it is under way.
 *
 * Gathering is put off to the end of the worker's turn, so that what several clients
 * ask for in it goes out together.  Headers lie one behind the other, so requests
 * without data merge into one entry; the data of writes is sent from where it lies.
 *
 * A remote can answer before all of a request has left.  The request is kept until the
 * send is done: the kernel may still be reading its data.
 */
#include <assert.h>

#include "src/client/link-internal.h"

static struct nr_link *link_of_send(struct nr_completion *c)
{
	return (struct nr_link *)((char *)c - offsetof(struct nr_link, send));
}

static struct nr_link *link_of_gather(struct nr_deferred *d)
{
	return (struct nr_link *)((char *)d - offsetof(struct nr_link, gather));
}

static void add(struct nr_link *link, void *data, size_t length)
{
	struct iovec *last = link->vectors ? &link->vector[link->vectors - 1] : NULL;

	if (last && (uint8_t *)last->iov_base + last->iov_len == (uint8_t *)data)
		last->iov_len += length;
	else
		link->vector[link->vectors++] = (struct iovec){ data, length };
}

static bool needs_one_place(const struct nr_request *req)
{
	if (req->segment_count > NR_LINK_SEGMENTS_MAX)
		return true;
	for (uint32_t i = 0; i < req->segment_count; i++)
		if (!req->segments[i].data)
			return true;
	return false;
}

/* The data of a write, ready to be sent; false: there is no memory for that now. */
static bool prepare(struct nr_link_op *op)
{
	struct nr_request *req = op->req;

	if (op->wire.command != NBD_CMD_WRITE || op->flat || !needs_one_place(req))
		return true;
	op->flat = nr_buffer_get(req->worker, req->length, &op->flat_data);
	if (!op->flat)
		return false;
	nr_request_copy_out(req, 0, req->length, op->flat_data);
	return true;
}

static void add_data(struct nr_link *link, const struct nr_link_op *op)
{
	const struct nr_request *req = op->req;

	if (op->flat) {
		add(link, op->flat_data, req->length);
		return;
	}
	for (uint32_t i = 0; i < req->segment_count; i++)
		add(link, req->segments[i].data, req->segments[i].length);
}

static void take_slot(struct nr_link *link, struct nr_link_op *op)
{
	op->slot = link->free_slots[--link->free_count];
	assert(!link->slots[op->slot].op);
	link->slots[op->slot].op = op;
	link->slots[op->slot].generation++;
}

/* OP, the first that waits, becomes part of the send. */
static uint64_t put(struct nr_link *link, struct nr_link_op *op)
{
	uint8_t *header = link->headers + link->header_bytes;
	uint64_t cookie, bytes;

	nr_link_remove(&link->waiting, op);
	take_slot(link, op);
	cookie = (uint64_t)link->slots[op->slot].generation << 32 | op->slot;
	nr_client_choose(&link->agreement, &op->wire);
	bytes = nr_client_encode(header, link->agreement.reply_style, cookie, &op->wire);
	link->header_bytes += (unsigned)bytes;
	add(link, header, bytes);
	if (op->wire.command == NBD_CMD_WRITE) {
		add_data(link, op);
		bytes += op->req->length;
	} else if (op->wire.command == NBD_CMD_READ) {
		link->owed_bytes += op->wire.length;
	}
	op->sending = true;
	link->in_send[link->in_send_count++] = op;
	nr_link_append(&link->sent, op);
	link->owed++;
	return bytes;
}

static void gather(struct nr_ring *ring, struct nr_deferred *deferred)
{
	struct nr_link *link = link_of_gather(deferred);
	struct nr_link_op *op;
	uint64_t bytes = 0;

	nr_link_release_held(link);
	if (link->state != NR_LINK_UP || nr_completion_busy(&link->send))
		return;
	if (link->tls && !nr_link_tls_prepare(link)) {
		nr_link_starve(link);
		return;
	}
	link->vectors = link->in_send_count = link->header_bytes = 0;
	while ((op = link->waiting.first) != NULL && link->free_count &&
	       bytes < NR_LINK_SEND_BYTES &&
	       link->vectors + NR_LINK_SEGMENTS_MAX + 1 <= NR_LINK_VECTORS) {
		if (!prepare(op)) {
			nr_link_starve(link);
			break;
		}
		bytes += put(link, op);
	}
	if (!link->in_send_count)
		return;
	if (!link->tls)
		nr_ring_send_vec(ring, &link->send, link->fd, link->vector, link->vectors);
	else
		(void)nr_link_tls_send(link);
	nr_link_watch(link);
	nr_link_receive_arm(link);
	nr_link_settle(link);
}

static void sent(struct nr_ring *ring, struct nr_completion *completion)
{
	struct nr_link *link = link_of_send(completion);
	unsigned count = link->in_send_count;

	/* One gathering is several sends, if its ciphertext is longer than their memory. */
	if (link->tls && completion->result >= 0 && link->state == NR_LINK_UP &&
	    nr_link_tls_send(link))
		return;
	link->in_send_count = 0;
	for (unsigned i = 0; i < count; i++) {
		struct nr_link_op *op = link->in_send[i];

		op->sending = false;
		if (op->answered)
			nr_link_end(link, op, op->error);
	}
	if (completion->result < 0)
		nr_link_break(link, "sending fails");
	nr_link_send_later(link);
	nr_link_settle(link);
}

void nr_link_send_init(struct nr_link *link)
{
	link->send.done = sent;
	link->gather.run = gather;
	for (unsigned i = 0; i < NR_LINK_REQUESTS_MAX; i++)
		link->free_slots[i] = (uint16_t)(NR_LINK_REQUESTS_MAX - 1 - i);
	link->free_count = NR_LINK_REQUESTS_MAX;
}

void nr_link_send_later(struct nr_link *link)
{
	if (link->state == NR_LINK_UP && link->waiting.first && link->free_count &&
	    !nr_completion_busy(&link->send))
		nr_ring_defer(nr_link_ring(link), &link->gather);
}
