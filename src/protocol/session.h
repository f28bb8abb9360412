/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What a handshake agreed: all that the transmission phase needs to know.
 *
 * Small on purpose: one of these lives as long as the connection, idle or not.
 */
#ifndef SRC_PROTOCOL_SESSION_H
#define SRC_PROTOCOL_SESSION_H

#include <stdbool.h>
#include <stdint.h>

#define NR_CONTEXTS_MAX 16 /* metadata contexts an export may offer */

/*
 * What a client is told of an export; made by the server from the topmost
 * traits (src/stack/traits.h).
 */
struct nr_export_info {
	uint64_t size;
	uint16_t flags;     /* NBD_FLAG_*, without SEND_DF and BLOCK_STATUS_PAYLOAD, which
				   * the handshake adds when they apply */
	uint32_t block_min; /* bytes; "Size constraints" */
	uint32_t block_preferred;
	uint32_t block_max; /* largest payload */
};

enum nr_reply_style { NR_REPLY_SIMPLE, NR_REPLY_STRUCTURED, NR_REPLY_EXTENDED };

struct nr_agreement {
	struct nr_export_info info; /* `flags` as sent to this client */
	uint8_t reply_style;        /* enum nr_reply_style */
	bool asked_block_size;      /* the client asked for NBD_INFO_BLOCK_SIZE: the minimum
				     * binds it */
	bool bound_to_maximum;      /* by the server's choice: longer reads and writes than
				     * info.block_max are refused */
	uint16_t contexts;          /* selected metadata contexts, a bit each; the wire id of
				     * context i is i + 1 */
};

#endif
