/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Receiving of a link: a window of the worker's arena, filled by one receive at a time,
 * in which replies are recognised.
 *
 * The data of reads is not copied: segments of the answer point into the window, which
 * lives until the last of them has left.  The window is as large as the data that is
 * owed, up to a block of the arena, so that a long read comes in one or two pieces.
 * What does not fit goes on at the beginning of the next window.  When memory is
 * getting short, small answers are copied out, so that a client that does not fetch
 * its answers holds little more than they are long.
 *
 * A receive is under way only while an answer is owed.
 */
#include <assert.h>
#include <errno.h>
#include <string.h>

#include "nbdring/checked.h"
#include "ring/arena.h"
#include "src/client/link-internal.h"

#define WINDOW_MIN 8192u
#define WINDOW_MAX NR_TRANSFER_MAX
#define ROOM_MIN 4096u   /* less room is none */
#define COPY_MAX 65536u  /* longer answers are as good as their window */
#define ANSWER_BYTES 64u /* of a reply without data, about */

static struct nr_link *link_of(struct nr_completion *c)
{
	return (struct nr_link *)((char *)c - offsetof(struct nr_link, receive));
}

static uint32_t available(const struct nr_link *link)
{
	return link->window.tail - link->window.head;
}

static uint8_t *at_head(const struct nr_link *link)
{
	return link->window.data + link->window.head;
}

static void received(struct nr_ring *ring, struct nr_completion *completion);

/* ---- the window -------------------------------------------------------- */

void nr_link_receive_release(struct nr_link *link)
{
	struct nr_link_window *w = &link->window;

	assert(!nr_completion_busy(&link->receive));
	if (w->buffer)
		w->buffer->release(w->buffer);
	*w = (struct nr_link_window){ .buffer = NULL };
}

static uint32_t window_size(const struct nr_link *link)
{
	uint64_t wanted = link->owed_bytes + (uint64_t)link->owed * ANSWER_BYTES;
	uint32_t size = WINDOW_MIN;

	if (nr_link_splice_header(link))
		wanted = size; /* for headers */

	while (size < wanted && size < WINDOW_MAX)
		size *= 2;
	while (size < 2 * available(link) && size < WINDOW_MAX)
		size *= 2;
	return size;
}

/* A new window, with what is left of the old one carried over. */
static bool renew(struct nr_link *link)
{
	struct nr_link_window *w = &link->window;
	uint32_t size = window_size(link), left = available(link);
	struct nr_buffer *buffer = NULL;
	uint8_t *data = NULL;

	assert(left < size);
	while (!buffer) {
		buffer = nr_buffer_get(link->worker, size, &data);
		if (!buffer && (size == WINDOW_MIN || size / 2 <= left)) {
			nr_link_starve(link);
			return false;
		}
		if (!buffer)
			size /= 2;
	}
	if (left)
		memcpy(data, at_head(link), left);
	nr_link_receive_release(link);
	*w = (struct nr_link_window){ .buffer = buffer, .data = data, .size = size, .tail = left };
	return true;
}

static bool is_pressed(const struct nr_link *link)
{
	const struct nr_arena *arena = nr_ring_arena(nr_link_ring(link));

	return nr_arena_used(arena) > nr_arena_capacity(arena) / 4;
}

/* ---- payloads ---------------------------------------------------------- */

/* LENGTH bytes at the head are OP's, for OFFSET. */
static const char *place(struct nr_link *link, struct nr_link_op *op, uint64_t offset,
			 uint32_t length)
{
	struct nr_buffer *buffer = link->window.buffer, *copy = NULL;
	uint8_t *data = at_head(link);
	int err;

	if (length <= COPY_MAX && length < link->window.size / 2 && is_pressed(link)) {
		copy = nr_buffer_get(link->worker, length, &data);
		if (copy) {
			memcpy(data, at_head(link), length);
			buffer = copy;
		} else {
			data = at_head(link);
		}
	}
	if (!copy && !op->whole)
		link->window.shared = true;
	err = nr_link_answer(op, offset, length, data, buffer);
	if (copy)
		copy->release(copy);
	if (err == -EPROTO)
		return "some bytes of a read came twice";
	if (err && !op->wire.error)
		op->wire.error = err;
	return NULL;
}

/* What is here of the data at hand; with PART false only when it is all of it. */
static const char *take_data(struct nr_link *link, bool part)
{
	struct nr_link_payload *p = &link->payload;
	uint32_t bytes = (uint32_t)nr_min(p->left, available(link));
	const char *why = NULL;

	if (bytes == 0 || (bytes < p->left && !part && !p->op->wire.error))
		return NULL;
	if (!p->op->wire.error)
		why = place(link, p->op, p->at, bytes);
	link->window.head += bytes;
	p->left -= bytes;
	p->at += bytes;
	return why;
}

static const char *take_extents(struct nr_link *link)
{
	struct nr_link_payload *p = &link->payload;
	uint8_t style = link->agreement.reply_style;
	uint32_t each = (uint32_t)nr_client_extent_bytes(style);
	/* The first of the wish is base:allocation. */
	uint64_t known = p->op->wire.context ? UINT64_MAX : NR_EXTENT_HOLE | NR_EXTENT_ZERO;

	while (p->left && available(link) >= each) {
		uint64_t length, status;

		nr_client_extent(style, at_head(link), &length, &status);
		link->window.head += each;
		p->left -= each;
		if (length == 0)
			return "an extent of no bytes";
		if (!p->full)
			p->full = !nr_extents_add(p->op->req->extents, length, status & known);
	}
	return NULL;
}

/* ---- replies ----------------------------------------------------------- */

static void answered(struct nr_link *link, struct nr_link_op *op)
{
	int error = op->wire.error;

	link->slots[op->slot].op = NULL;
	link->free_slots[link->free_count++] = op->slot;
	nr_link_remove(&link->sent, op);
	link->owed--;
	if (op->wire.command == NBD_CMD_READ)
		link->owed_bytes -= op->wire.length;
	if (!error && op->wire.command == NBD_CMD_READ)
		error = nr_link_answer_complete(op);
	link->progress = true;
	op->error = error;
	op->answered = true;
	if (!op->sending)
		nr_link_end(link, op, error);
}

void nr_link_payload_over(struct nr_link *link)
{
	struct nr_link_op *op = link->payload.op;

	link->payload.op = NULL;
	if (link->payload.last)
		answered(link, op);
}

static struct nr_link_op *find(struct nr_link *link, uint64_t cookie)
{
	uint32_t slot = (uint32_t)cookie, generation = (uint32_t)(cookie >> 32);

	if (slot >= NR_LINK_REQUESTS_MAX || link->slots[slot].generation != generation)
		return NULL;
	return link->slots[slot].op;
}

/* A header is off the window. */
static const char *take_chunk(struct nr_link *link, struct nr_client_chunk *chunk)
{
	struct nr_link_op *op = find(link, chunk->cookie);
	const char *why;

	if (!op)
		return "an answer to what was not asked, or a second one";
	why = nr_client_judge(&link->agreement, &op->wire, chunk);
	if (why)
		return why;
	if (op->wire.error == -ESHUTDOWN)
		return "it is shutting down";
	if (chunk->kind == NR_CHUNK_HOLE && !op->wire.error) {
		int err = nr_link_answer(op, chunk->offset, chunk->length, NULL, NULL);

		if (err == -EPROTO)
			return "some bytes of a read came twice";
		if (err)
			op->wire.error = err;
	}
	if (chunk->payload)
		link->payload = (struct nr_link_payload){
			.op = op,
			.left = chunk->payload,
			.at = chunk->offset,
			.last = chunk->done,
			.full = chunk->aside,
		};
	else if (chunk->done)
		answered(link, op);
	return NULL;
}

/* One step; *MORE is false when it needs bytes that are not here.  The breach, or NULL. */
static const char *step(struct nr_link *link, bool *more)
{
	struct nr_link_payload *p = &link->payload;
	struct nr_client_chunk chunk;
	const char *why = NULL;
	size_t used;

	if (p->op) {
		if (p->op->wire.command == NBD_CMD_READ)
			why = take_data(link, false);
		else
			why = take_extents(link);
		if (!why && p->left == 0)
			nr_link_payload_over(link);
		else
			*more = false;
		return why;
	}
	switch (nr_client_parse(link->agreement.reply_style, at_head(link), available(link), &chunk,
				&used, &why)) {
	case NR_CLIENT_PARSE_CHUNK:
		link->window.head += (uint32_t)used;
		return take_chunk(link, &chunk);
	case NR_CLIENT_PARSE_BREACH:
		return why;
	case NR_CLIENT_PARSE_MORE:
	default:
		*more = false;
		return NULL;
	}
}

void nr_link_parse(struct nr_link *link)
{
	const char *why = NULL;
	bool more = true;

	while (more && !why && link->owed && link->state == NR_LINK_UP)
		why = step(link, &more);
	if (!why && !link->owed && available(link))
		why = "an answer to what was not asked";
	if (why)
		nr_link_break(link, why);
}

/* ---- the operation ----------------------------------------------------- */

bool nr_link_make_room(struct nr_link *link)
{
	struct nr_link_window *w = &link->window;
	struct nr_link_payload *p = &link->payload;

	if (!w->buffer)
		return renew(link);
	if (w->head == w->tail && !w->shared)
		w->head = w->tail = 0;
	if (w->size - w->tail >= ROOM_MIN && w->size - w->tail >= w->size / 16)
		return true;
	if (p->op && p->op->wire.command == NBD_CMD_READ) {
		const char *why = take_data(link, true);

		if (why) {
			nr_link_break(link, why);
			return false;
		}
	}
	return renew(link);
}

static bool may_receive(const struct nr_link *link)
{
	return link->state == NR_LINK_UP && link->owed && !nr_completion_busy(&link->receive);
}

void nr_link_receive_arm(struct nr_link *link)
{
	struct nr_link_window *w = &link->window;
	uint32_t room, header;

	/* What can go through a pipe does; the window gets what is left. */
	while (may_receive(link) && nr_link_splice(link, false))
		;
	if (link->tls) {
		while (may_receive(link) && nr_link_tls_take_rest(link))
			;
		if (may_receive(link) && !nr_completion_busy(&link->hungry) &&
		    !nr_link_tls_receive(link))
			nr_link_starve(link);
		return;
	}
	if (!may_receive(link) || !nr_link_make_room(link))
		return;
	room = w->size - w->tail;
	header = link->payload.op ? 0 : nr_link_splice_header(link);
	if (header > available(link))
		room = (uint32_t)nr_min(room, header - available(link));
	link->receive.done = received;
	nr_ring_recv(nr_link_ring(link), &link->receive, link->fd, w->data + w->tail, room);
}

void nr_link_receive_done(struct nr_link *link)
{
	if (link->settings->timeout_ns)
		link->heard_at = nr_ring_now(nr_link_ring(link));
	nr_link_receive_arm(link);
	nr_link_send_later(link);
}

static void received(struct nr_ring *ring, struct nr_completion *completion)
{
	struct nr_link *link = link_of(completion);

	if (link->state == NR_LINK_UP && completion->result > 0) {
		link->window.tail += (uint32_t)completion->result;
		nr_link_parse(link);
		nr_link_receive_done(link);
	} else if (completion->result <= 0) {
		nr_link_break(link, completion->result ? "receiving fails" : "it hung up");
	}
	nr_link_settle(link);
}
