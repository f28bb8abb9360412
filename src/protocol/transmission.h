/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Requests off the wire: parsing and judging, without I/O.
 *
 * nr_wire_parse turns bytes into a struct nr_wire_request; nr_wire_judge says
 * whether the protocol allows it on this connection, and if not, which error
 * is owed.  What the judge lets through is legal for the export: known
 * command, legal flags, inside the size, aligned where the client is bound.
 */
#ifndef SRC_PROTOCOL_TRANSMISSION_H
#define SRC_PROTOCOL_TRANSMISSION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "src/protocol/session.h"
#include "src/protocol/wire.h"

/* The longest payload of BLOCK_STATUS that can be right: every context named once. */
#define NR_WIRE_BLOCK_STATUS_MAX (8u + 4u * NR_CONTEXTS_MAX) /* bytes */

struct nr_wire_request {
	uint16_t command;  /* enum nbd_command, or anything */
	uint16_t flags;    /* NBD_CMD_FLAG_* */
	uint64_t cookie;   /* opaque: the eight bytes as they came, in memory order */
	uint64_t offset;   /* bytes */
	uint64_t length;   /* effect length, bytes; BLOCK_STATUS with payload: 0 until
			    * nr_wire_block_status has read the payload */
	uint64_t payload;  /* bytes that follow the header */
	uint16_t contexts; /* BLOCK_STATUS: a bit for each that is asked for, as in struct
			    * nr_agreement: those selected, or those the payload names */
};

enum nr_wire_parsed {
	NR_WIRE_MORE,    /* the header is not complete yet */
	NR_WIRE_REQUEST, /* *REQUEST is filled in; the header took *HEADER bytes */
	NR_WIRE_BREACH,  /* wrong magic, or a payload over the limit: disconnect */
};

/* Bytes of a request header under AGREEMENT: 28 or 32. */
size_t nr_wire_header_bytes(const struct nr_agreement *agreement);

/*
 * *WHY (may be NULL) gets a phrase for the log on BREACH.  Payload over
 * NR_PAYLOAD_MAX is a breach; below, it must be read even if judged illegal.
 */
enum nr_wire_parsed nr_wire_parse(const struct nr_agreement *agreement, const uint8_t *data,
				  size_t length, struct nr_wire_request *request, const char **why);

/*
 * 0 if the request may be carried out, else the NBD error owed, with *TEXT a
 * sentence for the client (static).  SIZE is the export's size now.  DISC is
 * always let through.  A zero-length request is let through; the caller answers
 * it with success (checks of flags and offset were made); only BLOCK_STATUS is
 * refused, as its success would need an extent.  CACHE is let through
 * even if it was not offered: the caller may do nothing and report success.
 *
 * May be asked before the payload has arrived, to drain instead of store what
 * is refused.  A BLOCK_STATUS that passes has at most NR_WIRE_BLOCK_STATUS_MAX
 * bytes of payload.
 */
uint32_t nr_wire_judge(const struct nr_agreement *agreement, const struct nr_wire_request *request,
		       uint64_t size, const char **text);

/*
 * The payload of BLOCK_STATUS (extension-ext-header): effect length and the
 * contexts wanted.  Returns 0 and stores the length in request->length and the
 * selection in *CONTEXTS, or the NBD error owed; the caller judges after that.
 */
uint32_t nr_wire_block_status(const struct nr_agreement *agreement, struct nr_wire_request *request,
			      const uint8_t *payload, size_t length, uint16_t *contexts,
			      const char **text);

/*
 * The NBD error for a negative errno of a request of COMMAND with FLAGS: the one
 * place that knows (protocol, "Error values").
 */
uint32_t nr_wire_error(int error, uint16_t command, uint16_t flags);

#endif
