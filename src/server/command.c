/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Commands: see command.h for what they are.
 *
 * Who holds what: a command is the connection's until `finished` has run for it
 * (or for all its pieces), then the reply queue's, then send.c releases it.  A
 * main command is released after its pieces: it enters the reply queue last.
 * Data of a write is given back as soon as the write is finished, data of a
 * read when it has been sent.
 */
#include "src/server/command.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "nbdring/checked.h"
#include "src/log/log.h"
#include "src/server/limits.h"

#define EXTENTS_CHARGE (64u * 1024)

/* DISC never becomes a command. */
static const enum nr_operation operation_of[NBD_CMD_COUNT] = {
	[NBD_CMD_READ] = NR_READ,
	[NBD_CMD_WRITE] = NR_WRITE,
	[NBD_CMD_FLUSH] = NR_FLUSH,
	[NBD_CMD_TRIM] = NR_TRIM,
	[NBD_CMD_CACHE] = NR_CACHE,
	[NBD_CMD_WRITE_ZEROES] = NR_ZERO,
	[NBD_CMD_BLOCK_STATUS] = NR_EXTENTS,
	[NBD_CMD_RESIZE] = NR_RESIZE,
};

/* The most that one request down the stack carries. */
static uint32_t piece_max(const struct nr_connection *c, uint16_t command)
{
	const struct nr_traits *traits = nr_stack_traits(c->stack);

	/* Layers above may have raised the minimum since. */
	if (command == NBD_CMD_WRITE && traits->write_piece >= traits->block_min)
		return (uint32_t)nr_min(traits->write_piece, traits->block_max);
	return traits->block_max;
}

static bool is_collected(const struct nr_connection *c, const struct nr_wire_request *wire)
{
	return c->agreement.reply_style == NR_REPLY_SIMPLE || (wire->flags & NBD_CMD_FLAG_DF);
}

/* Admission. */

/* What a block of the arena for LENGTH bytes takes: a power of two. */
static uint64_t block_bytes(uint64_t length)
{
	if (length <= NR_ARENA_BLOCK_MIN)
		return NR_ARENA_BLOCK_MIN;
	if (length > NR_ARENA_BLOCK_MAX)
		return nr_round_down(length + NR_ARENA_BLOCK_MAX - 1, NR_ARENA_BLOCK_MAX);
	return UINT64_C(1) << (64 - __builtin_clzll(length - 1));
}

static uint64_t charge_of(const struct nr_connection *c, const struct nr_wire_request *wire)
{
	uint64_t most = (uint64_t)NR_PIECES_MAX * NR_TRANSFER_MAX;

	switch (wire->command) {
	case NBD_CMD_READ:
		return is_collected(c, wire) ? block_bytes(wire->length)
					     : nr_min(block_bytes(wire->length), most);
	case NBD_CMD_WRITE:
		return nr_min(block_bytes(wire->length), most);
	case NBD_CMD_BLOCK_STATUS:
		return EXTENTS_CHARGE * (uint64_t)nr_max(__builtin_popcount(wire->contexts), 1);
	default:
		return 0;
	}
}

bool nr_command_admit(struct nr_connection *c, const struct nr_wire_request *wire, uint64_t *charge)
{
	*charge = charge_of(c, wire);
	if (c->commands >= NR_CONNECTION_REQUESTS_MAX ||
	    (c->charged && c->charged + *charge > NR_CONNECTION_BYTES_MAX)) {
		c->stalled = true;
		return false;
	}
	if (!nr_shard_charge(c->shard, *charge, c->charged == 0)) {
		c->stalled = true;
		nr_shard_starve(c->shard, c);
		return false;
	}
	c->charged += *charge;
	return true;
}

static void uncharge(struct nr_connection *c, uint64_t bytes)
{
	c->charged -= bytes;
	nr_shard_uncharge(c->shard, bytes);
	if (c->stalled) {
		c->woken = true;
		nr_shard_activate(c->shard, c);
	}
}

/* Making and releasing. */

static void finished(struct nr_request *req);

static struct nr_command *new_command(struct nr_connection *c, const struct nr_wire_request *wire)
{
	struct nr_request *req = nr_request_get(&c->shard->worker, c->stack, NR_COMMAND_HEADER);
	struct nr_command *command;

	if (!req) {
		c->stalled = true;
		nr_shard_starve(c->shard, c);
		return NULL;
	}
	command = (struct nr_command *)((char *)req - NR_COMMAND_HEADER);
	memset(command, 0, NR_COMMAND_HEADER);
	command->connection = c;
	command->wire = *wire;
	req->session = &c->session;
	req->internal.takes_pipe = c->takes_pipes && wire->command == NBD_CMD_READ;
	req->internal.finished = finished;
	c->commands++;
	return command;
}

static void give_back_data(struct nr_command *command)
{
	if (command->memory) {
		command->memory->release(command->memory);
		command->memory = NULL;
	}
	if (command->list) {
		command->list->release(command->list);
		command->list = NULL;
	}
	if (command->window_block) {
		nr_arena_release(command->connection->shard->arena, command->window_block);
		command->window_block = NULL;
	}
}

static void drop_pieces(struct nr_command *main);
static void issue_reads(struct nr_command *main);
static void main_step(struct nr_command *main);

void nr_command_release(struct nr_command *command)
{
	struct nr_connection *c = command->connection;
	struct nr_command *main = command->main;

	drop_pieces(command);
	assert(command->pending == 0);
	give_back_data(command);
	c->commands--;
	uncharge(c, command->charge);
	nr_request_release(&command->request, NR_COMMAND_HEADER);
	if (main) {
		main->pending--;
		main_step(main);
	}
}

/* The reply may go: into the queue of send.c, or nowhere if nobody listens. */
static void reply(struct nr_command *command)
{
	struct nr_connection *c = command->connection;

	if (c->state == NR_CONNECTION_DEAD || command->abandoned) {
		nr_shard_activate(c->shard, c);
		nr_command_release(command);
		return;
	}
	command->next = NULL;
	*c->ready_tail = command;
	c->ready_tail = &command->next;
	nr_shard_activate(c->shard, c);
}

struct nr_command *nr_command_answer(struct nr_connection *c, const struct nr_wire_request *wire,
				     uint32_t error, const char *text)
{
	struct nr_command *command;

	if (c->commands >= NR_CONNECTION_REQUESTS_MAX) {
		c->stalled = true;
		return NULL;
	}
	command = new_command(c, wire);
	if (!command)
		return NULL;
	command->error = error;
	command->error_text = text;
	command->wire.length = 0;
	return command;
}

void nr_command_reply(struct nr_command *command)
{
	reply(command);
}

/* Outcomes. */

static void log_failure(const struct nr_command *command, int error)
{
	const struct nr_connection *c = command->connection;
	const struct nr_request *req = &command->request;
	const struct nr_layer *layer = req->internal.failed_at;
	const struct nr_log_fields about = {
		.export_name = c->session.export_name,
		.client = c->peer,
		.layer = layer ? layer->type->name : NULL,
		.error = -error,
	};

	nr_log_about(NR_LOG_WARNING, NR_LOG_REQUEST, &about,
		     "export '%s' client %s: %s: %s offset=%" PRIu64 " length=%" PRIu64 ": %s",
		     about.export_name, about.client, about.layer ? about.layer : "server",
		     nbd_command_name(command->wire.command), req->offset, req->length,
		     strerror(-error));
}

static const char *failure_text(int error)
{
	switch (error) {
	case -ENOSPC:
	case -EDQUOT:
		return "no space left on the server";
	case -EROFS:
	case -EPERM:
	case -EACCES:
		return "the disk is read-only";
	case -ENOTSUP:
		return "not faster than writing zeroes";
	case -EIO:
		return "input/output error on the server";
	case -ENOMEM:
		return "the server is short of memory";
	case -ESHUTDOWN:
		return "the server is shutting down";
	default:
		return "the server could not carry out the request";
	}
}

static void set_error(struct nr_command *command, int error)
{
	if (command->error)
		return;
	command->error = nr_wire_error(error, command->wire.command, command->wire.flags);
	command->error_text = failure_text(error);
	command->error_offset = command->request.offset;
}

/*
 * BLOCK_STATUS asks the stack for one context after the other, in the order of their
 * numbers, with one list and the request itself; each list becomes a chunk, and all chunks
 * leave together.  wire.contexts has a bit for each that is still to be asked for.
 */

/* The last of the contexts is under way or over. */
static bool is_last_context(const struct nr_command *command)
{
	return !(command->wire.contexts & (command->wire.contexts - 1));
}

/* Without extended headers a status has 32 bits; what has more cannot be told. */
static void drop_wide_status(struct nr_extents *extents)
{
	uint32_t i = 0;

	while (i < extents->count && extents->extent[i].status <= UINT32_MAX)
		i++;
	extents->count = i;
}

static bool room_for_chunks(struct nr_command *command, const struct nr_reply_to *to)
{
	struct nr_connection *c = command->connection;
	unsigned count = (unsigned)__builtin_popcount(command->wire.contexts);
	struct nr_extents longest = { .count = NR_EXTENTS_ANSWER_MAX };
	size_t bytes = is_last_context(command) ? nr_reply_extents_bytes(to, &command->extents)
						: nr_reply_extents_bytes(to, &longest) * count;

	if (!command->memory)
		command->memory = nr_buffer_get(&c->shard->worker, bytes, &command->data);
	return command->memory;
}

/* The list becomes a chunk. */
static void encode_extents(struct nr_command *command)
{
	struct nr_connection *c = command->connection;
	struct nr_reply_to to = { command->wire.cookie, command->wire.offset,
				  c->agreement.reply_style };

	if (to.style != NR_REPLY_EXTENDED)
		drop_wide_status(&command->extents);
	/* A layer owes one extent at least, but layers come from outside, too. */
	if (!command->extents.count || !room_for_chunks(command, &to)) {
		set_error(command, command->extents.count ? -ENOMEM : -EIO);
		return;
	}
	command->filled += (uint32_t)nr_reply_extents(
		command->data + command->filled, &to, command->request.metadata + 1,
		&command->extents, command->wire.length, command->wire.flags & NBD_CMD_FLAG_REQ_ONE,
		c->agreement.info.block_min, is_last_context(command));
}

/* Ask for the next context.  There is one. */
static void ask_context(struct nr_command *command)
{
	struct nr_extents *list = &command->extents;

	assert(command->wire.contexts);
	list->start = list->next = command->wire.offset;
	list->end = command->wire.offset + command->wire.length;
	list->count = 0;
	command->request.metadata = (uint32_t)__builtin_ctz(command->wire.contexts);
	nr_stack_submit(command->connection->stack, &command->request);
}

/* The answer for one context is there; true: another one is asked for. */
static bool take_context(struct nr_command *command)
{
	encode_extents(command);
	if (command->error || is_last_context(command) ||
	    command->connection->state == NR_CONNECTION_DEAD) {
		command->list->release(command->list);
		command->list = NULL;
		return false;
	}
	command->wire.contexts &= (uint16_t)(command->wire.contexts - 1);
	ask_context(command);
	return true;
}

static void keep_piece(struct nr_command *piece)
{
	struct nr_command **at = &piece->main->pieces;

	while (*at && (*at)->request.offset < piece->request.offset)
		at = &(*at)->next;
	piece->next = *at;
	*at = piece;
}

/* A piece is back from the stack. */
static void piece_finished(struct nr_command *piece, int error)
{
	struct nr_command *main = piece->main;

	main->running--;
	if (error && !main->error) {
		set_error(main, error);
		main->error_offset = piece->request.offset;
	}
	if (error || main->wire.command == NBD_CMD_WRITE) {
		nr_command_release(piece);
	} else if (main->collected) {
		keep_piece(piece);
		main_step(main);
	} else if (piece->connection->state == NR_CONNECTION_DEAD) {
		nr_command_release(piece); /* and perhaps MAIN with it */
	} else {
		reply(piece);
		main_step(main);
	}
}

static void finished(struct nr_request *req)
{
	struct nr_command *command = (struct nr_command *)((char *)req - NR_COMMAND_HEADER);
	int error = req->error;

	/* A fast zero that is not fast is an answer, not a failure. */
	if (error && error != -ENOTSUP)
		log_failure(command, error);
	if (command->wire.command == NBD_CMD_WRITE)
		give_back_data(command);
	if (command->main) {
		piece_finished(command, error);
		return;
	}
	if (error)
		set_error(command, error);
	else if (req->operation == NR_EXTENTS && take_context(command))
		return;
	reply(command);
}

/* Main commands: pieces are issued as far as allowed; the last one back ends it. */

/* Has everything of MAIN happened that has to before its own reply? */
static bool main_over(const struct nr_command *main)
{
	if (main->running)
		return false;
	if (main->connection->state == NR_CONNECTION_DEAD || main->abandoned)
		return main->pending == 0;
	if (main->wire.command == NBD_CMD_WRITE)
		return main->pending == 0 && main->issued == main->wire.length;
	return main->issued == main->wire.length || main->error;
}

static void drop_pieces(struct nr_command *main)
{
	while (main->pieces) {
		struct nr_command *piece = main->pieces;

		main->pieces = piece->next;
		piece->main = NULL;
		main->pending--;
		nr_command_release(piece);
	}
}

static void main_step(struct nr_command *main)
{
	if (!main->is_main)
		return;
	if (main->wire.command == NBD_CMD_READ)
		issue_reads(main);
	nr_shard_activate(main->connection->shard, main->connection);
	if (main->error || main->connection->state == NR_CONNECTION_DEAD)
		drop_pieces(main); /* kept for a reply that will not be */
	if (main_over(main)) {
		main->is_main = false;
		reply(main);
	}
}

/* Pieces end at multiples of the most the stack takes. */
static uint64_t next_piece_length(const struct nr_command *main)
{
	uint64_t most = piece_max(main->connection, main->wire.command);

	if (nr_is_power_of_2(most))
		most -= (main->wire.offset + main->issued) & (most - 1);
	return nr_min(most, main->wire.length - main->issued);
}

bool nr_command_is_single(const struct nr_connection *c, const struct nr_wire_request *wire)
{
	const struct nr_traits *traits = nr_stack_traits(c->stack);
	uint64_t most = piece_max(c, wire->command);

	/* One that is not aligned grows to whole blocks, and must stay a piece then. */
	if (!nr_is_aligned(wire->offset | wire->length, traits->block_min))
		most -= wire->offset & (most - 1);
	return wire->length <= most;
}

static struct nr_command *new_piece(struct nr_command *main)
{
	struct nr_command *piece = new_command(main->connection, &main->wire);
	struct nr_request *req;

	if (!piece)
		return NULL;
	req = &piece->request;
	req->operation = main->request.operation;
	req->flags = main->request.flags;
	req->offset = main->wire.offset + main->issued;
	req->length = next_piece_length(main);
	main->issued += req->length;
	main->pending++;
	piece->main = main;
	piece->collected = main->collected;
	return piece;
}

static void issue_reads(struct nr_command *main)
{
	struct nr_connection *c = main->connection;

	while (main->issued < main->wire.length && !main->error) {
		uint32_t busy = main->collected ? main->running : main->pending;
		struct nr_command *piece;

		if (c->state == NR_CONNECTION_DEAD) {
			set_error(main, -ESHUTDOWN);
			return;
		}
		if (busy >= NR_PIECES_MAX)
			return;
		piece = new_piece(main);
		if (!piece) {
			if (busy == 0) /* nobody would come to try again */
				set_error(main, -ENOMEM);
			return;
		}
		main->running++;
		nr_stack_submit(c->stack, &piece->request);
	}
}

/* Beginning. */

static uint32_t request_flags(const struct nr_wire_request *wire)
{
	uint32_t flags = 0;

	if ((wire->flags & NBD_CMD_FLAG_FUA) &&
	    (wire->command == NBD_CMD_WRITE || wire->command == NBD_CMD_TRIM ||
	     wire->command == NBD_CMD_WRITE_ZEROES))
		flags |= NR_FUA;
	if (wire->command == NBD_CMD_WRITE_ZEROES) {
		if (wire->flags & NBD_CMD_FLAG_NO_HOLE)
			flags |= NR_NO_HOLE;
		if (wire->flags & NBD_CMD_FLAG_FAST_ZERO)
			flags |= NR_FAST_ZERO;
	}
	if (wire->command == NBD_CMD_BLOCK_STATUS && (wire->flags & NBD_CMD_FLAG_REQ_ONE))
		flags |= NR_REQ_ONE;
	return flags;
}

static bool prepare_extents(struct nr_command *command)
{
	struct nr_connection *c = command->connection;
	uint8_t *memory;

	command->list = nr_buffer_get(&c->shard->worker,
				      NR_EXTENTS_ANSWER_MAX * sizeof(struct nr_extent), &memory);
	if (!command->list)
		return false;
	command->extents = (struct nr_extents){
		.capacity = NR_EXTENTS_ANSWER_MAX,
		.extent = (struct nr_extent *)(void *)memory,
	};
	command->request.extents = &command->extents;
	return true;
}

static void send_down(struct nr_command *command)
{
	struct nr_request *req = &command->request;

	switch (command->wire.command) {
	case NBD_CMD_READ:
		if (command->is_main) {
			main_step(command);
			return;
		}
		break;
	case NBD_CMD_BLOCK_STATUS:
		if (!prepare_extents(command)) {
			set_error(command, -ENOMEM);
			reply(command);
			return;
		}
		ask_context(command);
		return;
	case NBD_CMD_FLUSH:
		req->offset = 0;
		req->length = 0;
		break;
	case NBD_CMD_RESIZE:
		req->length = 0;
		break;
	default:
		break;
	}
	nr_stack_submit(command->connection->stack, req);
}

struct nr_command *nr_command_begin(struct nr_connection *c, const struct nr_wire_request *wire,
				    uint64_t charge)
{
	struct nr_command *command = new_command(c, wire);
	struct nr_request *req;

	if (!command) {
		/* It was not used: nobody is woken for it, who would wake us in turn. */
		c->charged -= charge;
		c->shard->memory_used -= charge;
		return NULL;
	}
	command->charge = charge;
	req = &command->request;
	req->operation = operation_of[wire->command];
	req->flags = request_flags(wire);
	req->offset = wire->offset;
	req->length = wire->length;
	if (wire->command == NBD_CMD_READ || wire->command == NBD_CMD_WRITE) {
		command->is_main = !nr_command_is_single(c, wire);
		command->collected = wire->command == NBD_CMD_READ && is_collected(c, wire);
	}
	if (wire->command != NBD_CMD_WRITE)
		send_down(command);
	return command;
}

/* Payload of writes. */

static void submit_write(struct nr_command *command, uint8_t *data)
{
	struct nr_request *req = &command->request;

	req->segments[0] = (struct nr_segment){ data, req->length, NULL };
	req->segment_count = 1;
	if (command->main)
		command->main->running++;
	nr_stack_submit(command->connection->stack, req);
}

bool nr_command_write_in_place(struct nr_command *command, void *block, uint8_t *data)
{
	struct nr_connection *c = command->connection;

	if (!nr_is_aligned((uintptr_t)data, nr_stack_traits(c->stack)->memory_align))
		return false;
	nr_arena_retain(c->shard->arena, block);
	command->window_block = block;
	submit_write(command, data);
	return true;
}

struct nr_command *nr_command_next_piece(struct nr_command *command)
{
	struct nr_connection *c = command->connection;
	struct nr_command *piece = command;
	uint64_t length = command->wire.length;
	struct nr_buffer *memory;
	uint8_t *data;

	if (command->is_main) {
		if (command->pending >= NR_PIECES_MAX)
			return NULL;
		length = next_piece_length(command);
	}
	memory = nr_buffer_get(&c->shard->worker, length, &data);
	if (!memory) {
		c->stalled = true;
		nr_shard_starve(c->shard, c);
		return NULL;
	}
	if (command->is_main)
		piece = new_piece(command);
	if (!piece) {
		memory->release(memory);
		return NULL;
	}
	piece->memory = memory;
	piece->data = data;
	return piece;
}

void nr_command_filled(struct nr_command *piece)
{
	assert(piece->filled == piece->request.length);
	submit_write(piece, piece->data);
}

bool nr_command_payload_complete(const struct nr_command *command)
{
	return command->is_main ? command->issued == command->wire.length : command->memory != NULL;
}

void nr_command_abandon(struct nr_command *command, struct nr_command *piece)
{
	command->abandoned = true;
	if (command->is_main) {
		if (piece)
			nr_command_release(piece);
		else
			main_step(command);
	} else {
		nr_command_release(command);
	}
}
