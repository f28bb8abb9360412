/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A command: one request of a client, from the wire down the stack and back to
 * the reply.
 *
 * A command of up to NR_TRANSFER_MAX bytes is one request to the stack, and its
 * memory holds that request.  A longer read or write is a main command, which
 * never enters the stack, and pieces that do, NR_PIECES_MAX at a time.
 *
 * How a read is answered:
 *   streaming  (structured, extended) each piece is sent as it finishes; the
 *              main command follows as the closing chunk
 *   collected  (simple replies, or the flag DF) header and data must leave in
 *              order and the header says how it went: all pieces first
 */
#ifndef SRC_SERVER_COMMAND_H
#define SRC_SERVER_COMMAND_H

#include "src/server/connection.h"

/* How far the reply has been put into sends; send.c. */
struct nr_reply_cursor {
	struct nr_command *piece; /* whose data is next: the command itself, or a collected piece */
	uint32_t segment;         /* the next one of `piece` */
	uint64_t taken;           /* bytes of that segment that are out */
	uint64_t offset;          /* of the disk, there */
	bool begun;               /* the header that stands before all data is out */
	uint64_t run;             /* bytes of the present run of data still to come */
};

struct nr_command {
	struct nr_connection *connection;
	struct nr_command *next;   /* ready, or being sent, or finished pieces by offset */
	struct nr_command *main;   /* a piece: whose */
	struct nr_command *pieces; /* main, collected: those finished, by offset */
	struct nr_wire_request wire;
	uint64_t charge;        /* bytes charged to connection and shard */
	const char *error_text; /* static */
	uint32_t error;         /* NBD error to send; 0 */
	uint64_t error_offset;  /* where a streaming read failed */

	bool is_main;
	bool collected;   /* read: answered in one go */
	bool abandoned;   /* write: its payload will not come; no reply */
	uint64_t issued;  /* main: bytes of the pieces begun */
	uint32_t running; /* main: pieces in the stack */
	uint32_t pending; /* main: pieces that exist */

	void *window_block;        /* write in place: the window it holds on to */
	struct nr_buffer *memory;  /* write: the data; BLOCK_STATUS: the chunks */
	uint8_t *data;             /* in `memory` */
	uint32_t filled;           /* write: bytes received; BLOCK_STATUS: bytes of the chunks */
	struct nr_buffer *list;    /* BLOCK_STATUS: memory of … */
	struct nr_extents extents; /* … the extents of one context after the other */

	struct nr_reply_cursor cursor;
	struct nr_request request __attribute__((aligned(16))); /* last: scratch follows */
};

#define NR_COMMAND_HEADER offsetof(struct nr_command, request)

/*
 * May a command for WIRE begin now?  Yes: *CHARGE is charged.  No: the
 * connection is stalled, and is activated when it may try again.
 */
bool nr_command_admit(struct nr_connection *c, const struct nr_wire_request *wire,
		      uint64_t *charge);

/* Does a read or write go down as one request? */
bool nr_command_is_single(const struct nr_connection *c, const struct nr_wire_request *wire);

/*
 * Begin a command that was judged to be legal and admitted.  All but a write go
 * down at once.  NULL: memory is short; the charge is given back, the connection
 * is stalled.
 */
struct nr_command *nr_command_begin(struct nr_connection *c, const struct nr_wire_request *wire,
				    uint64_t charge);

/*
 * An answer to WIRE without asking the stack: an error with TEXT (static), or success
 * when ERROR is 0.  It is not sent before nr_command_reply: clients that are still
 * sending their data do not expect it yet.  NULL: memory is short; the connection is
 * stalled.
 */
struct nr_command *nr_command_answer(struct nr_connection *c, const struct nr_wire_request *wire,
				     uint32_t error, const char *text);
void nr_command_reply(struct nr_command *command);

/*
 * A write of one piece whose whole payload lies at DATA in the window's BLOCK: sent down
 * from there, if the stack takes memory at that address.  False: it does not, and the
 * payload has to be copied to a piece like one that has not all come.
 */
bool nr_command_write_in_place(struct nr_command *command, void *block, uint8_t *data);

/*
 * Memory for the next part of a write's payload: a piece to fill (`data`,
 * request.length, `filled`), or NULL: none now (the connection is stalled).
 */
struct nr_command *nr_command_next_piece(struct nr_command *command);
/* PIECE has all its bytes: send it down. */
void nr_command_filled(struct nr_command *piece);
/* Has every byte of the payload found a piece? */
bool nr_command_payload_complete(const struct nr_command *command);
/* The rest of the payload will not come: PIECE (or NULL) was being filled. */
void nr_command_abandon(struct nr_command *command, struct nr_command *piece);

/* The reply has been sent, or will never be: give everything back. */
void nr_command_release(struct nr_command *command);

#endif
