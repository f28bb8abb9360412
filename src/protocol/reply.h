/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Replies onto the wire: encoders that write into the caller's memory.
 *
 * Each returns how many bytes it wrote.  A chunk encoder writes the chunk's
 * header and the fixed part of its payload; data follows from the caller's
 * gather list.  They know the three styles of reply (session.h); simple replies
 * exist in NR_REPLY_SIMPLE only and, for commands without payload in the answer,
 * in NR_REPLY_STRUCTURED (protocol, "Structured reply chunk message").
 *
 * `cookie` is opaque, in memory order.  `offset` is the request's offset, which
 * extended headers repeat in every chunk.
 */
#ifndef SRC_PROTOCOL_REPLY_H
#define SRC_PROTOCOL_REPLY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "nbdring/extent.h"
#include "src/protocol/wire.h"

/* Room that any of the fixed-size encoders needs. */
#define NR_REPLY_HEADER_MAX 48u
#define NR_REPLY_ERROR_TEXT_MAX 256u /* bytes of text we put into an error chunk */
#define NR_REPLY_ERROR_MAX (NBD_EXTENDED_REPLY_BYTES + 6 + NR_REPLY_ERROR_TEXT_MAX + 8)

/* Who the reply is for. */
struct nr_reply_to {
	uint64_t cookie;
	uint64_t offset;
	uint8_t style; /* enum nr_reply_style */
};

/* Simple reply, success or error, no data included. */
size_t nr_reply_simple(uint8_t *out, uint64_t cookie, uint32_t error);

/* Success of a request that has no data in its answer: simple, or chunk NONE. */
size_t nr_reply_ok(uint8_t *out, const struct nr_reply_to *to);

/* A chunk header alone: TYPE, FLAGS, LENGTH of its payload. */
size_t nr_reply_chunk(uint8_t *out, const struct nr_reply_to *to, uint16_t type, uint16_t flags,
		      uint64_t length);

/* OFFSET_DATA for LENGTH bytes of data at OFFSET, which the caller sends after. */
size_t nr_reply_data(uint8_t *out, const struct nr_reply_to *to, uint64_t offset, uint64_t length,
		     bool done);

/* OFFSET_HOLE: LENGTH (1 to 2^32-1) zeroes at OFFSET. */
size_t nr_reply_hole(uint8_t *out, const struct nr_reply_to *to, uint64_t offset, uint32_t length,
		     bool done);

/*
 * An error, always the last chunk.  TEXT may be NULL; it is cut to
 * NR_REPLY_ERROR_TEXT_MAX at a UTF-8 boundary.  Simple style: the simple reply.
 */
size_t nr_reply_error(uint8_t *out, const struct nr_reply_to *to, uint32_t error, const char *text);

/* ERROR_OFFSET: reading at OFFSET failed; the last chunk.  Not for simple style. */
size_t nr_reply_error_at(uint8_t *out, const struct nr_reply_to *to, uint32_t error,
			 uint64_t offset, const char *text);

/*
 * One BLOCK_STATUS (or _EXT) chunk for the context with wire id CONTEXT.
 * nr_reply_extents_bytes says how much room it takes.  Equal neighbours should
 * be merged already; what a 32-bit extent cannot express is cut so that
 * the answer stays true: an extent longer than 2^32-1 ends the list there
 * (rounded down to ALIGN).  REQUEST_LENGTH as asked; REQ_ONE: one extent, not
 * longer than asked.
 */
size_t nr_reply_extents_bytes(const struct nr_reply_to *to, const struct nr_extents *extents);
size_t nr_reply_extents(uint8_t *out, const struct nr_reply_to *to, uint32_t context,
			const struct nr_extents *extents, uint64_t request_length, bool req_one,
			uint32_t align, bool done);

#endif
