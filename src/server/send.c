/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Sending: everything that is ready for a client goes into one gather send; the
 * next is collected while it is under way.
 *
 * Headers are encoded into the sender's own memory, one behind the other, so
 * that replies without data merge into one entry; data is sent from where it
 * lies.  Holes become chunks of a few bytes, or, where the client wants plain
 * data, entries that all point to the same megabyte of zeroes.
 *
 * A reply too long for one send stays at the head of the queue with a cursor
 * that says how far it has come.  Commands whose last byte is in a send are
 * released when that send is done.
 *
 * Data that may go by reference does (request.h, enum nr_buffer_kind): large pieces of
 * lasting memory, and what comes in pipes.
 *
 * The sender is one block of the arena, held while a connection has something
 * to say.
 */
#include <assert.h>
#include <errno.h>
#include <string.h>

#include "nbdring/checked.h"
#include "src/server/command.h"
#include "src/server/limits.h"
#include "src/server/secure.h"

struct nr_sender {
	struct nr_completion completion;
	struct nr_connection *connection;
	bool busy;
	struct nr_command *sending; /* released when the send is done */
	struct nr_command **sending_tail;
	size_t handshake_bytes; /* of the handshake's output being sent */
	uint32_t entries, entries_max;
	uint32_t header_used, header_room;
	uint64_t bytes;
	bool shares;                        /* this send has entries that are not copied … */
	uint8_t kinds[NR_SEND_ENTRIES_MAX]; /* … enum nr_send_kind */
	uint8_t *header;                    /* behind the entries */
	struct iovec vector[];
};

/* Never written to: address space, not memory. */
static uint8_t zeroes[NR_TRANSFER_MAX] __attribute__((aligned(4096)));

static void sent(struct nr_ring *ring, struct nr_completion *completion);

static struct nr_sender *sender_of(struct nr_connection *c)
{
	uint32_t bytes = c->handshake ? NR_SENDER_HANDSHAKE_BYTES : NR_SENDER_BYTES;
	struct nr_sender *s = c->sender;

	if (s)
		return s;
	s = nr_arena_get(c->shard->arena, bytes, NR_BLOCK_LAYER);
	if (!s) {
		nr_shard_starve(c->shard, c);
		return NULL;
	}
	memset(s, 0, sizeof(*s));
	/* Some three bytes for entries to two for headers. */
	s->entries_max =
		(uint32_t)nr_min(bytes * 3 / 5 / sizeof(s->vector[0]), NR_SEND_ENTRIES_MAX);
	s->header = (uint8_t *)&s->vector[s->entries_max];
	s->header_room = bytes - (uint32_t)(s->header - (uint8_t *)s);
	s->completion.done = sent;
	s->connection = c;
	s->sending_tail = &s->sending;
	c->sender = s;
	return s;
}

void nr_send_release(struct nr_connection *c)
{
	if (c->sender && !c->sender->busy) {
		assert(!c->sender->sending);
		nr_arena_release(c->shard->arena, c->sender);
		c->sender = NULL;
		nr_secure_release_output(c);
	}
}

bool nr_send_busy(const struct nr_connection *c)
{
	return c->sender && c->sender->busy;
}

bool nr_send_idle(const struct nr_connection *c)
{
	return !c->ready && !nr_send_busy(c);
}

/* Entries. */

static bool room(const struct nr_sender *s)
{
	return s->entries + 2 <= s->entries_max &&
	       s->header_used + NR_REPLY_ERROR_MAX <= s->header_room && s->bytes < NR_SEND_BYTES;
}

static void add(struct nr_sender *s, void *data, size_t length, enum nr_send_kind kind)
{
	s->shares |= kind != NR_SEND_COPY;
	s->kinds[s->entries] = (uint8_t)kind;
	s->vector[s->entries++] = (struct iovec){ data, length };
	s->bytes += length;
}

/* Memory of KIND, LENGTH bytes: by reference, if that is possible and pays. */
static void add_memory(struct nr_sender *s, void *data, size_t length, enum nr_buffer_kind kind)
{
	bool share = kind == NR_BUFFER_LASTING && length >= s->connection->share_min;

	add(s, data, length, share ? NR_SEND_SHARE : NR_SEND_COPY);
}

/* The data of SEGMENT but for its first TAKEN bytes. */
static void add_segment(struct nr_sender *s, const struct nr_segment *segment, uint64_t taken)
{
	const struct nr_buffer *owner = segment->owner;
	enum nr_buffer_kind kind = owner ? owner->kind : NR_BUFFER_PLAIN;

	if (kind == NR_BUFFER_PIPE)
		add(s, (void *)(intptr_t)owner->pipe, segment->length - taken, NR_SEND_PIPE);
	else
		add_memory(s, segment->data + taken, segment->length - taken, kind);
}

/* LENGTH bytes were encoded behind the headers so far. */
static void add_header(struct nr_sender *s, size_t length)
{
	uint8_t *at = s->header + s->header_used;
	struct iovec *last = s->entries ? &s->vector[s->entries - 1] : NULL;

	s->header_used += (uint32_t)length;
	if (last && (uint8_t *)last->iov_base + last->iov_len == at &&
	    s->kinds[s->entries - 1] == NR_SEND_COPY) {
		last->iov_len += length;
		s->bytes += length;
	} else {
		add(s, at, length, NR_SEND_COPY);
	}
}

static uint8_t *header_space(struct nr_sender *s)
{
	return s->header + s->header_used;
}

/* Data of reads. */

static const struct nr_segment *segment_at(const struct nr_reply_cursor *cursor)
{
	return &cursor->piece->request.segments[cursor->segment];
}

/* TAKEN more bytes of the segment at the cursor are out: move on. */
static void advance(struct nr_reply_cursor *cursor, uint64_t taken)
{
	cursor->taken += taken;
	cursor->offset += taken;
	if (cursor->taken < segment_at(cursor)->length)
		return;
	cursor->taken = 0;
	cursor->segment++;
	while (cursor->piece && cursor->segment == cursor->piece->request.segment_count) {
		cursor->piece = cursor->piece->next;
		cursor->segment = 0;
	}
}

static void begin_cursor(struct nr_command *command)
{
	struct nr_reply_cursor *cursor = &command->cursor;

	cursor->begun = true;
	cursor->piece = command->pieces ? command->pieces : command;
	cursor->offset = command->pieces ? command->wire.offset : command->request.offset;
	if (cursor->piece->request.segment_count == 0)
		cursor->piece = NULL;
}

/* Data as it is, holes as zeroes. True when all of it is out. */
static bool put_plain(struct nr_sender *s, struct nr_reply_cursor *cursor)
{
	while (cursor->piece) {
		const struct nr_segment *segment = segment_at(cursor);
		uint64_t left = segment->length - cursor->taken;

		if (!room(s))
			return false;
		if (segment->data) {
			add_segment(s, segment, cursor->taken);
		} else {
			left = nr_min(left, sizeof(zeroes));
			add_memory(s, zeroes, left, NR_BUFFER_LASTING);
		}
		advance(cursor, left);
	}
	return true;
}

/* How many bytes of data follow the cursor without a hole. */
static uint64_t run_length(const struct nr_reply_cursor *cursor)
{
	const struct nr_request *req = &cursor->piece->request;
	uint64_t length = 0;

	for (uint32_t i = cursor->segment; i < req->segment_count && req->segments[i].data; i++)
		length += req->segments[i].length;
	return length;
}

/*
 * Chunks: one for each run of data, one for each hole.  LAST: the chunk that ends
 * the command gets the flag DONE.  True when all of it is out.
 */
static bool put_chunks(struct nr_sender *s, struct nr_command *command,
		       const struct nr_reply_to *to, bool last)
{
	struct nr_reply_cursor *cursor = &command->cursor;
	uint64_t end = command->request.offset + command->request.length;

	while (cursor->piece) {
		const struct nr_segment *segment = segment_at(cursor);
		uint64_t length = segment->length;

		if (!room(s))
			return false;
		if (!segment->data) {
			add_header(s, nr_reply_hole(header_space(s), to, cursor->offset,
						    (uint32_t)length,
						    last && cursor->offset + length == end));
		} else {
			if (!cursor->run) {
				cursor->run = run_length(cursor);
				add_header(s, nr_reply_data(header_space(s), to, cursor->offset,
							    cursor->run,
							    last && cursor->offset + cursor->run ==
									    end));
			}
			add_segment(s, segment, 0);
			cursor->run -= length;
		}
		advance(cursor, length);
	}
	return true;
}

/* Replies. */

static bool put_read(struct nr_sender *s, struct nr_command *command, const struct nr_reply_to *to)
{
	struct nr_reply_cursor *cursor = &command->cursor;

	if (!cursor->begun) {
		begin_cursor(command);
		if (to->style == NR_REPLY_SIMPLE)
			add_header(s, nr_reply_simple(header_space(s), to->cookie, NBD_SUCCESS));
		else if (command->collected)
			add_header(s, nr_reply_data(header_space(s), to, command->wire.offset,
						    command->wire.length, true));
	}
	if (command->collected)
		return put_plain(s, cursor);
	return put_chunks(s, command, to, !command->main);
}

static void put_error(struct nr_sender *s, const struct nr_command *command,
		      const struct nr_reply_to *to)
{
	uint8_t *out = header_space(s);

	if (command->issued && to->style != NR_REPLY_SIMPLE &&
	    command->wire.command == NBD_CMD_READ)
		add_header(s, nr_reply_error_at(out, to, command->error, command->error_offset,
						command->error_text));
	else
		add_header(s, nr_reply_error(out, to, command->error, command->error_text));
}

/* Put the rest of COMMAND's reply into the send; false: it goes on in the next one. */
static bool put(struct nr_sender *s, struct nr_command *command)
{
	struct nr_reply_to to = { command->wire.cookie, command->wire.offset,
				  s->connection->agreement.reply_style };

	if (!room(s))
		return false;
	if (command->error) {
		put_error(s, command, &to);
		return true;
	}
	if (command->wire.command == NBD_CMD_READ &&
	    (command->request.segment_count || command->pieces))
		return put_read(s, command, &to);
	if (command->wire.command == NBD_CMD_BLOCK_STATUS && command->memory) {
		add(s, command->data, command->filled, NR_SEND_COPY);
		return true;
	}
	if (command->wire.command == NBD_CMD_READ && to.style != NR_REPLY_SIMPLE)
		add_header(s, nr_reply_chunk(header_space(s), &to, NBD_REPLY_TYPE_NONE,
					     NBD_REPLY_FLAG_DONE, 0));
	else
		add_header(s, nr_reply_ok(header_space(s), &to));
	return true;
}

static void collect(struct nr_connection *c, struct nr_sender *s)
{
	while (c->ready) {
		struct nr_command *command = c->ready;
		struct nr_command *next = command->next;

		/* The end of a list of pieces is the end of the data; a lone one has no next. */
		command->next = NULL;
		if (!put(s, command)) {
			command->next = next;
			return;
		}
		c->ready = next;
		if (!next)
			c->ready_tail = &c->ready;
		*s->sending_tail = command;
		s->sending_tail = &command->next;
	}
}

static void collect_handshake(struct nr_connection *c, struct nr_sender *s)
{
	size_t length;
	const uint8_t *output = nr_handshake_output(c->handshake, &length);

	if (!length)
		return;
	s->handshake_bytes = length;
	add(s, (void *)(uintptr_t)output, length, NR_SEND_COPY);
}

static void release_list(struct nr_command *command)
{
	while (command) {
		struct nr_command *next = command->next;

		nr_command_release(command);
		command = next;
	}
}

/* All of it has left, or never will: give back what is in it. */
static void finish(struct nr_sender *s)
{
	struct nr_connection *c = s->connection;
	struct nr_command *done = s->sending;

	if (c->handshake && c->state != NR_CONNECTION_DEAD)
		nr_handshake_sent(c->handshake, s->handshake_bytes);
	s->handshake_bytes = 0;
	s->busy = false;
	s->sending = NULL;
	s->sending_tail = &s->sending;
	c->held_up = 0;
	nr_secure_sent(c);
	release_list(done);
	if (c->state == NR_CONNECTION_DEAD)
		nr_send_discard(c);
	nr_shard_activate(c->shard, c);
}

/* The next part of what is in the sender. */
static void send_encrypted(struct nr_sender *s)
{
	struct nr_connection *c = s->connection;

	if (nr_secure_send(c, &s->completion, s->vector, s->entries, s->bytes))
		return;
	nr_secure_fail(c);
	finish(s);
}

void nr_send_flush(struct nr_connection *c)
{
	struct nr_sender *s;
	size_t length = 0;

	if (nr_send_busy(c))
		return;
	if (c->handshake)
		nr_handshake_output(c->handshake, &length);
	if (!c->ready && !length && !nr_secure_waiting(c))
		return;
	s = sender_of(c);
	if (!s || (c->secure && !nr_secure_prepare(c)))
		return;
	s->entries = 0;
	s->header_used = 0;
	s->bytes = 0;
	s->shares = false;
	if (c->handshake)
		collect_handshake(c, s);
	else
		collect(c, s);
	s->busy = true;
	if (c->secure) {
		nr_secure_rewind(c);
		send_encrypted(s);
		return;
	}
	assert(s->entries > 0);
	if (s->shares)
		nr_ring_send_shared(c->shard->ring, &s->completion, c->fd, s->vector, s->kinds,
				    s->entries);
	else
		nr_ring_send_vec(c->shard->ring, &s->completion, c->fd, s->vector, s->entries);
}

static void sent(struct nr_ring *ring, struct nr_completion *completion)
{
	struct nr_sender *s =
		(struct nr_sender *)((char *)completion - offsetof(struct nr_sender, completion));
	struct nr_connection *c = s->connection;

	if (completion->result < 0)
		nr_connection_drop(c, "sending failed: %s", strerror((int)-completion->result));
	if (c->secure && c->state != NR_CONNECTION_DEAD && nr_secure_more(c, s->entries))
		send_encrypted(s);
	else
		finish(s);
}

void nr_send_discard(struct nr_connection *c)
{
	struct nr_command *ready = c->ready;

	/* In order: a main command may only go after its pieces, which may be being sent. */
	if (nr_send_busy(c))
		return;
	c->ready = NULL;
	c->ready_tail = &c->ready;
	release_list(ready);
}
