/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The client's side of transmission, without I/O: requests onto the wire, replies off
 * it, and whether a reply can be an answer to what was asked.
 *
 * The order of work: nr_client_parse finds the next reply (or chunk of one) in what
 * has arrived; the owner looks its request up by the cookie; nr_client_judge holds
 * the two against each other and keeps account of what has been answered.  Then
 * `payload` bytes follow, which are the owner's to take in: data, or extents.
 *
 * Whatever the judge lets through is inside the request's range and adds up: a read
 * that is done has each of its bytes announced once as far as counting can tell
 * (which ones is for whoever puts them together), a block status its one answer.
 */
#ifndef SRC_PROTOCOL_CLIENT_REPLY_H
#define SRC_PROTOCOL_CLIENT_REPLY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "src/protocol/client-handshake.h"
#include "src/protocol/wire.h"

/* A header, or that of a BLOCK_STATUS with the choice of a context behind it. */
#define NR_CLIENT_REQUEST_MAX (NBD_EXTENDED_REQUEST_BYTES + 12)

/* The longest reply header with the fixed part, or the text, behind it. */
#define NR_CLIENT_HEADER_MAX (NBD_EXTENDED_REPLY_BYTES + 6 + NBD_STRING_MAX + 8)

/* One request as it is on the wire, and how far its answer has come. */
struct nr_client_request {
	uint16_t command; /* enum nbd_command */
	uint16_t flags;   /* NBD_CMD_FLAG_* */
	uint64_t offset, length;
	uint64_t answered;  /* READ: bytes of data and holes announced so far */
	int error;          /* negative errno of the first error chunk */
	uint8_t context;    /* BLOCK_STATUS: of the wish's contexts, the one that is of interest */
	bool chosen;        /* BLOCK_STATUS: only that one is asked for … */
	uint32_t chosen_id; /* … by its number on this connection (nr_client_choose) */
	uint16_t status;    /* BLOCK_STATUS: a bit for each whose extents have come */
};

enum nr_client_chunk_kind {
	NR_CHUNK_NONE,   /* nothing but, perhaps, the end */
	NR_CHUNK_DATA,   /* `payload` bytes of data follow, for `offset` */
	NR_CHUNK_HOLE,   /* `length` zeroes at `offset` */
	NR_CHUNK_STATUS, /* `payload` bytes of extents follow, for the context `context` */
	NR_CHUNK_ERROR,  /* `error` */
};

struct nr_client_chunk {
	uint64_t cookie; /* as it was given to nr_client_encode */
	uint8_t kind;    /* enum nr_client_chunk_kind */
	bool done;       /* the last of its request */
	bool simple;
	bool at;           /* ERROR: `offset` is known */
	int error;         /* negative errno */
	uint64_t repeated; /* extended headers: the request's offset */
	uint64_t offset, length, payload;
	uint32_t context;
	uint32_t extents; /* STATUS: how many */
	bool aside;       /* STATUS: of a context that is not of interest */
};

enum nr_client_parsed {
	NR_CLIENT_PARSE_MORE,
	NR_CLIENT_PARSE_CHUNK,
	NR_CLIENT_PARSE_BREACH, /* nothing behind it can be understood: disconnect */
};

/* Bytes of a request under STYLE (enum nr_reply_style), if it chooses no context: 28 or 32. */
size_t nr_client_header_bytes(uint8_t style);

/*
 * Before REQUEST is encoded: where the server takes it, a BLOCK_STATUS says which context is
 * of interest, so that it need not answer for the others ("NBD_FLAG_BLOCK_STATUS_PAYLOAD").
 */
void nr_client_choose(const struct nr_client_agreement *agreement,
		      struct nr_client_request *request);

/*
 * REQUEST onto the wire under STYLE; a WRITE's data is to follow.  Returns the bytes written,
 * NR_CLIENT_REQUEST_MAX at most.
 */
size_t nr_client_encode(uint8_t *out, uint8_t style, uint64_t cookie,
			const struct nr_client_request *request);

/* The farewell, which is not answered. */
size_t nr_client_encode_goodbye(uint8_t *out, uint8_t style);

/* *USED: bytes taken by the header (and an error's text).  *WHY: a phrase, on BREACH. */
enum nr_client_parsed nr_client_parse(uint8_t style, const uint8_t *data, size_t length,
				      struct nr_client_chunk *chunk, size_t *used,
				      const char **why);

/*
 * Is CHUNK an answer to REQUEST?  Fills in what a simple reply leaves open (the data
 * behind it), and accounts for it in REQUEST.  NULL, or a phrase about the breach.
 */
const char *nr_client_judge(const struct nr_client_agreement *agreement,
			    struct nr_client_request *request, struct nr_client_chunk *chunk);

/*
 * Bytes of one extent under STYLE, and its parts.  Lengths are not checked.
 */
size_t nr_client_extent_bytes(uint8_t style);
void nr_client_extent(uint8_t style, const uint8_t *at, uint64_t *length, uint64_t *status);

/* The negative errno for an NBD error. */
int nr_client_errno(uint32_t error);

#endif
