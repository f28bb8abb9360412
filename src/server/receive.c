/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Receiving: bytes land in a window, requests are recognised there, payloads
 * are used in place, copied, or received straight into memory of their own.
 *
 * The window is a counted block of the arena.  A write that uses its payload in
 * place holds the block until it is finished; the connection meanwhile goes on in
 * the rest of the block or in a new one.  Bytes behind `tail` are only
 * ever written by a receive, bytes before `head` never again.
 *
 * A connection that may not begin its next request (limits, memory) leaves the
 * bytes where they are and stops receiving: TCP slows the client down.  It is
 * never closed for being eager.
 */
#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "nbdring/checked.h"
#include "src/log/log.h"
#include "src/server/command.h"
#include "src/server/limits.h"
#include "src/server/secure.h"

#define LANDING 4096u /* alignment at which the payload of a first write shall land */

static void received(struct nr_ring *ring, struct nr_completion *completion);

/* The window. */

static uint32_t window_room(const struct nr_window *w)
{
	return w->block ? w->size - w->tail : 0;
}

/*
 * Where the first byte goes.  A client that writes gets its next header placed so
 * that the payload behind it is aligned: O_DIRECT can then use it in place.
 */
static uint32_t landing(const struct nr_connection *c, const struct nr_window *w)
{
	if (c->state != NR_CONNECTION_SERVING || !w->last_want || w->size < 4 * LANDING ||
	    nr_stack_traits(c->stack)->memory_align == 1)
		return 0;
	return LANDING - (uint32_t)nr_wire_header_bytes(&c->agreement);
}

static bool window_is_shared(struct nr_connection *c)
{
	return nr_arena_references(c->shard->arena, c->window.block) > 1;
}

void nr_receive_release_window(struct nr_connection *c)
{
	struct nr_window *w = &c->window;

	assert(c->receive_state == NR_RECEIVE_NONE || c->receive_state == NR_RECEIVE_POLL);
	if (w->block)
		nr_arena_release(c->shard->arena, w->block);
	w->block = NULL;
	w->head = w->tail = w->size = 0;
}

/* A new block, with what is left of the old one carried over. */
static bool window_renew(struct nr_connection *c)
{
	struct nr_window *w = &c->window, old = *w;
	uint32_t left = old.tail - old.head;
	uint32_t size = w->next_size ? w->next_size : NR_WINDOW_MIN;
	uint8_t *block;

	/* Under pressure there are many small windows rather than a few large ones. */
	if (nr_arena_used(c->shard->arena) > nr_arena_capacity(c->shard->arena) / 2)
		size = NR_WINDOW_MIN;
	while (size / 2 < left)
		size *= 2;
	nr_shard_want_tick(c->shard); /* to have the window given back when nothing comes */
	block = nr_arena_get(c->shard->arena, size, NR_BLOCK_RECEIVE);
	if (!block) {
		nr_shard_starve(c->shard, c);
		return false;
	}
	w->block = block;
	w->size = size;
	w->head = landing(c, w);
	w->tail = w->head + left;
	if (old.block)
		memcpy(block + w->head, old.block + old.head, left);
	if (old.block)
		nr_arena_release(c->shard->arena, old.block);
	return true;
}

void nr_receive_restore(struct nr_connection *c)
{
	while (c->window.next_size < c->carried_bytes)
		c->window.next_size = c->window.next_size ? c->window.next_size * 2 : NR_WINDOW_MIN;
	if (!window_renew(c))
		return;
	memcpy(c->window.block + c->window.head, c->carried, c->carried_bytes);
	c->window.tail = c->window.head + c->carried_bytes;
	free(c->carried);
	c->carried = NULL;
}

/* Nothing comes: keep what is needed for what is there, a part of a request at most. */
static void shrink_window(struct nr_connection *c)
{
	struct nr_window *w = &c->window;
	uint32_t left = w->tail - w->head;

	if (left == 0) {
		nr_receive_release_window(c);
	} else if (w->size > NR_WINDOW_MIN && w->size / 4 > left) {
		w->next_size = NR_WINDOW_MIN;
		(void)window_renew(c);
	}
}

/* Make room behind `tail` if there is little. */
static bool window_make_room(struct nr_connection *c)
{
	struct nr_window *w = &c->window;
	uint32_t left = w->tail - w->head;

	if (!w->block)
		return window_renew(c);
	if (left == 0 && w->head > 0 && !window_is_shared(c) && w->next_size <= w->size) {
		w->head = w->tail = landing(c, w);
		return true;
	}
	if (window_room(w) >= w->size / 2)
		return true;
	if (!window_is_shared(c) && w->next_size <= w->size && left <= w->size / 2) {
		uint32_t head = landing(c, w);

		memmove(w->block + head, w->block + w->head, left);
		w->head = head;
		w->tail = head + left;
		return true;
	}
	return window_renew(c);
}

/* The next window is sized by what the last receive brought. */
static void window_learn(struct nr_window *w, uint32_t got, uint32_t wanted)
{
	if (got == wanted && w->size < NR_WINDOW_MAX)
		w->next_size = w->size * 2;
	else if (got < w->size / 16 && w->next_size > NR_WINDOW_MIN)
		w->next_size = w->size / 2 > NR_WINDOW_MIN ? w->size / 2 : NR_WINDOW_MIN;
}

/* Requests. */

static uint8_t *at_head(struct nr_connection *c)
{
	return c->window.block + c->window.head;
}

static uint32_t available(const struct nr_connection *c)
{
	return c->window.tail - c->window.head;
}

/* Copy what is here into the piece being filled; send pieces down as they are full. */
static void fill(struct nr_connection *c)
{
	while (c->filling) {
		struct nr_command *piece = c->piece;
		uint32_t part;

		if (!piece) {
			if (!nr_command_payload_complete(c->filling))
				piece = c->piece = nr_command_next_piece(c->filling);
			if (!piece) {
				c->stalled = true;
				return;
			}
		}
		part = (uint32_t)nr_min(piece->request.length - piece->filled, available(c));
		memcpy(piece->data + piece->filled, at_head(c), part);
		piece->filled += part;
		c->window.head += part;
		if (piece->filled < piece->request.length)
			return;
		c->piece = NULL;
		c->held_up = 0;
		if (nr_command_payload_complete(c->filling))
			c->filling = NULL;
		nr_command_filled(piece);
	}
}

/*
 * The payload of WIRE follows its header of HEADER bytes at the head.  False: it
 * has to wait for more bytes or for memory; nothing was consumed then.
 */
static bool take_write(struct nr_connection *c, const struct nr_wire_request *wire, size_t header)
{
	bool single = nr_command_is_single(c, wire);
	bool whole = single && available(c) - header >= wire->payload;
	struct nr_command *command;
	uint64_t charge;

	if (single && !whole && wire->payload <= NR_DIRECT_RECEIVE_MIN)
		return false;
	if (!nr_command_admit(c, wire, &charge))
		return false;
	command = nr_command_begin(c, wire, charge);
	if (!command)
		return false;
	c->window.last_want = (uint32_t)wire->payload;
	c->window.head += (uint32_t)header;
	if (whole && nr_command_write_in_place(command, c->window.block, at_head(c))) {
		c->window.head += (uint32_t)wire->payload;
	} else {
		c->filling = command;
		fill(c);
	}
	return true;
}

/*
 * Skip a payload that nobody wants, as far as it is here; when all of it was, the
 * refusal goes out.
 */
static void skip(struct nr_connection *c)
{
	uint32_t part = (uint32_t)nr_min(c->discard, available(c));
	struct nr_command *refused = c->refused;

	c->discard -= part;
	c->window.head += part;
	if (c->discard == 0 && refused) {
		c->refused = NULL;
		nr_command_reply(refused);
	}
}

/* Answer without the stack; the payload, if any, is skipped first. */
static bool take_answer(struct nr_connection *c, const struct nr_wire_request *wire, size_t header,
			uint32_t error, const char *text)
{
	c->refused = nr_command_answer(c, wire, error, text);
	if (!c->refused)
		return false;
	c->window.head += (uint32_t)header;
	c->discard = wire->payload;
	skip(c);
	return true;
}

/* BLOCK_STATUS with a payload says in it how long it is and for which contexts. */
static bool take_status_payload(struct nr_connection *c, struct nr_wire_request *wire,
				size_t *header, uint32_t *error, const char **text)
{
	if (wire->payload > NR_DIRECT_RECEIVE_MIN) {
		*error = NBD_EINVAL;
		*text = "too many contexts";
		return true;
	}
	if (available(c) - *header < wire->payload)
		return false;
	*error = nr_wire_block_status(&c->agreement, wire, at_head(c) + *header, wire->payload,
				      &wire->contexts, text);
	return true;
}

static bool is_status_payload(const struct nr_wire_request *wire)
{
	return wire->command == NBD_CMD_BLOCK_STATUS && wire->payload > 0 &&
	       (wire->flags & NBD_CMD_FLAG_PAYLOAD_LEN);
}

/*
 * Nothing to ask of the stack: nothing named, or a hint it has no use for.  Some
 * clients send CACHE without having been offered it.
 */
static bool needs_nothing(const struct nr_connection *c, const struct nr_wire_request *wire)
{
	if (wire->command == NBD_CMD_FLUSH || wire->command == NBD_CMD_RESIZE)
		return false;
	if (wire->command == NBD_CMD_CACHE &&
	    nr_stack_traits(c->stack)->support[NR_CAP_CACHE] == NR_NONE)
		return true;
	return wire->length == 0;
}

/* One request at the head, complete but for its payload.  False: not now. */
static bool take(struct nr_connection *c, struct nr_wire_request *wire, size_t header)
{
	const char *text = NULL;
	uint32_t error = 0;
	uint64_t charge;

	if (wire->command == NBD_CMD_DISC) {
		c->window.head = c->window.tail;
		c->graceful = true;
		nr_connection_drain(c);
		return false;
	}
	if (c->shard->stopping) {
		error = NBD_ESHUTDOWN;
		text = "the server is shutting down";
	} else if (is_status_payload(wire)) {
		if (!take_status_payload(c, wire, &header, &error, &text))
			return false;
	}
	if (!error)
		error = nr_wire_judge(&c->agreement, wire, nr_stack_size(c->stack), &text);
	if (error)
		return take_answer(c, wire, header, error, text);
	if (needs_nothing(c, wire))
		return take_answer(c, wire, header, 0, NULL);
	if (wire->command == NBD_CMD_WRITE)
		return take_write(c, wire, header);
	if (!nr_command_admit(c, wire, &charge) || !nr_command_begin(c, wire, charge))
		return false;
	c->window.head += (uint32_t)(header + wire->payload);
	return true;
}

static void parse_requests(struct nr_connection *c)
{
	size_t header = nr_wire_header_bytes(&c->agreement);

	if (c->state != NR_CONNECTION_SERVING || !c->window.block)
		return;
	fill(c);
	skip(c);
	while (c->state == NR_CONNECTION_SERVING && !c->filling && !c->discard) {
		struct nr_wire_request wire;
		const char *why = "";

		switch (nr_wire_parse(&c->agreement, at_head(c), available(c), &wire, &why)) {
		case NR_WIRE_MORE:
			return;
		case NR_WIRE_BREACH:
			nr_connection_drop(c, "%s", why);
			return;
		case NR_WIRE_REQUEST:
			if (!take(c, &wire, header))
				return;
			break;
		}
	}
}

/* The handshake's bytes; while its output is on the way it is not fed. */
static void parse_handshake(struct nr_connection *c)
{
	size_t used, length;

	nr_handshake_output(c->handshake, &length);
	if (length || c->asking || nr_send_busy(c))
		return;
	if (available(c) == 0 || c->handshake_state != NR_HANDSHAKE_MORE)
		return;
	c->handshake_state = nr_handshake_feed(c->handshake, at_head(c), available(c), &used);
	c->window.head += (uint32_t)used;
}

void nr_receive_parse(struct nr_connection *c)
{
	c->stalled = c->woken = false;
	if (c->handshake)
		parse_handshake(c);
	else
		parse_requests(c);
}

/* Arming. */

static bool want_input(const struct nr_connection *c)
{
	size_t output;

	if (c->end_of_input || c->receive_state != NR_RECEIVE_NONE || c->asking || c->moving)
		return false;
	if (c->state == NR_CONNECTION_SERVING)
		return !c->stalled && !c->is_starved;
	if (c->state != NR_CONNECTION_HANDSHAKE)
		return false;
	if (c->handshake_state == NR_HANDSHAKE_STARTTLS)
		return nr_secure_wants_input(c) && !c->is_starved;
	if (c->handshake_state != NR_HANDSHAKE_MORE)
		return false;
	/* Options are not taken while answers wait to leave: they would only pile up. */
	nr_handshake_output(c->handshake, &output);
	return output == 0 && !c->is_starved;
}

/*
 * The rest of a payload goes straight to its memory, what follows into the window, but
 * not more of the payload, which would have to be copied from there.
 */
static void receive_direct(struct nr_connection *c)
{
	struct nr_command *piece = c->piece;
	struct nr_window *w = &c->window;
	bool last = nr_command_payload_complete(c->filling);

	c->receive_vector[0] = (struct iovec){ piece->data + piece->filled,
					       piece->request.length - piece->filled };
	c->receive_vector[1] = (struct iovec){ w->block + w->tail, window_room(w) };
	c->receive_state = NR_RECEIVE_DIRECT;
	nr_ring_recv_vec(c->shard->ring, &c->receive, c->fd, c->receive_vector, last ? 2 : 1);
}

static void accept_bytes(struct nr_connection *c, uint8_t how, uint32_t bytes)
{
	struct nr_window *w = &c->window;

	if (how == NR_RECEIVE_DIRECT) {
		struct nr_command *piece = c->piece;
		uint32_t part = (uint32_t)nr_min(bytes, piece->request.length - piece->filled);

		piece->filled += part;
		w->tail += bytes - part;
	} else {
		window_learn(w, bytes, window_room(w));
		w->tail += bytes;
	}
}

/* Something has arrived as ciphertext: to where it would have been received without. */
static void decrypt(struct nr_connection *c)
{
	struct nr_window *w = &c->window;
	struct nr_command *piece = c->piece;
	struct iovec into[2];
	unsigned count = 0;
	size_t bytes;

	if (piece)
		into[count++] = (struct iovec){ piece->data + piece->filled,
						piece->request.length - piece->filled };
	into[count++] = (struct iovec){ w->block + w->tail, window_room(w) };
	bytes = nr_secure_decrypt(c, into, count);
	if (bytes)
		accept_bytes(c, piece ? NR_RECEIVE_DIRECT : NR_RECEIVE_WINDOW, (uint32_t)bytes);
	switch (nr_tls_state(c->secure->session)) {
	case NR_TLS_FAILED:
		nr_secure_fail(c);
		break;
	case NR_TLS_CLOSED:
		c->end_of_input = true;
		break;
	case NR_TLS_HANDSHAKING:
	case NR_TLS_OPEN:
		break;
	}
}

/* What is here already is used up first: no new input may be coming. */
static void arm_secure(struct nr_connection *c)
{
	uint64_t room = NR_CIPHER_HANDSHAKE;

	if (c->handshake_state != NR_HANDSHAKE_STARTTLS) {
		if (!window_make_room(c) || window_room(&c->window) == 0)
			return;
		if (nr_secure_pending(c)) {
			uint32_t tail = c->window.tail;
			uint32_t filled = c->piece ? c->piece->filled : 0;

			decrypt(c);
			if (c->end_of_input || c->state == NR_CONNECTION_DEAD ||
			    c->window.tail != tail || (c->piece && c->piece->filled != filled)) {
				nr_shard_activate(c->shard, c);
				return;
			}
		}
		room = window_room(&c->window);
		if (c->piece)
			room += c->piece->request.length - c->piece->filled;
	}
	if (nr_secure_receive(c, room))
		c->receive_state = NR_RECEIVE_SECURE;
}

void nr_receive_arm(struct nr_connection *c)
{
	struct nr_window *w = &c->window;

	if (!want_input(c))
		return;
	c->receive.done = received;
	if (c->idle_candidate && c->commands == 0 && !w->block && !nr_secure_pending(c)) {
		nr_secure_release_input(c);
		c->receive_state = NR_RECEIVE_POLL;
		nr_ring_poll(c->shard->ring, &c->receive, c->fd, POLLIN);
		return;
	}
	if (c->secure) {
		arm_secure(c);
		return;
	}
	if (!window_make_room(c) || window_room(w) == 0)
		return;
	if (c->piece) {
		receive_direct(c);
		return;
	}
	c->receive_state = NR_RECEIVE_WINDOW;
	nr_ring_recv(c->shard->ring, &c->receive, c->fd, w->block + w->tail, window_room(w));
}

void nr_receive_cancel(struct nr_connection *c)
{
	if (c->receive_state != NR_RECEIVE_NONE)
		nr_ring_cancel(c->shard->ring, &c->receive);
}

static void received(struct nr_ring *ring, struct nr_completion *completion)
{
	struct nr_connection *c = (struct nr_connection *)((char *)completion -
							   offsetof(struct nr_connection, receive));
	uint8_t how = c->receive_state;
	int64_t result = completion->result;

	c->receive_state = NR_RECEIVE_NONE;
	nr_shard_activate(c->shard, c);
	if (result == -ECANCELED) {
		/* Idle, stopping or ending: who cancelled goes on from here. */
		if (c->idle_candidate && !c->piece)
			shrink_window(c);
		return;
	}
	c->idle_candidate = false;
	if (how == NR_RECEIVE_POLL && result >= 0)
		return;
	if (result > 0 && how == NR_RECEIVE_SECURE) {
		nr_secure_received(c, (uint32_t)result);
		if (c->handshake_state != NR_HANDSHAKE_STARTTLS)
			decrypt(c);
		return;
	}
	if (result > 0) {
		accept_bytes(c, how, (uint32_t)result);
		return;
	}
	c->end_of_input = true;
	if (result < 0)
		nr_connection_drop(c, "receiving failed: %s", strerror((int)-result));
}
