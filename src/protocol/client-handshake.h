/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The client's side of NBD negotiation: bytes in, bytes out.
 *
 * Sans-I/O, the twin of handshake.h: the owner connects, feeds what arrived and sends
 * what was produced, until the state is no longer MORE.  The best that the server has
 * is taken: extended headers, else structured replies, else simple ones; the metadata
 * contexts wished for; block sizes; GO, else EXPORT_NAME; and oldstyle, where the
 * server speaks first and offers one disk.
 *
 * The server is a stranger.  What it says is checked before it is believed: lengths,
 * sizes, flags that need each other, names.  What it may send before an option is
 * answered is bounded by NR_CLIENT_REPLY_MAX bytes a reply and NR_CLIENT_REPLIES_MAX
 * replies; how long it may take is the owner's business.
 *
 * One thread at a time.
 */
#ifndef SRC_PROTOCOL_CLIENT_HANDSHAKE_H
#define SRC_PROTOCOL_CLIENT_HANDSHAKE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "src/protocol/session.h"

#define NR_CLIENT_REPLY_MAX 65536u    /* bytes of payload of one option reply */
#define NR_CLIENT_REPLIES_MAX 100000u /* replies to one option: a LIST can be long */

struct nr_client_handshake;

enum nr_client_tls {
	NR_CLIENT_TLS_OFF, /* never asked for */
	NR_CLIENT_TLS_TRY, /* asked for; a server that has none is taken as it is */
	NR_CLIENT_TLS_REQUIRE,
};

/* Called for each export of a LIST; both strings are UTF-8, DESCRIPTION may be empty. */
typedef void nr_client_listed_fn(void *context, const char *name, const char *description);

/*
 * Called for each metadata context that the server lists and that is not wished for; NAME
 * is UTF-8 without NUL, with a colon.  True: it is wished for as well, and stands in the
 * wish's `contexts` behind those that were there.
 */
typedef bool nr_client_found_fn(void *context, const char *name);

/* What is wanted.  Strings stay the owner's and are needed as long as the handshake. */
struct nr_client_wish {
	const char *export_name; /* at most NBD_STRING_MAX bytes */
	uint8_t tls;             /* enum nr_client_tls */
	uint8_t best_style;      /* enum nr_reply_style: nothing better is asked for */
	const char *const *contexts;
	unsigned context_count; /* at most NR_CONTEXTS_MAX */
	/* Not NULL: first ask which contexts there are. */
	nr_client_found_fn *found;
	void *found_context;
	/* Not NULL: only ask which exports there are, then take leave. */
	nr_client_listed_fn *listed;
	void *listed_context;
};

/* What was agreed. */
struct nr_client_agreement {
	struct nr_export_info info;           /* flags as the server sent them */
	uint8_t reply_style;                  /* enum nr_reply_style */
	uint16_t contexts;                    /* bit i: wish.contexts[i] was granted … */
	uint32_t context_id[NR_CONTEXTS_MAX]; /* … under this number */
};

enum nr_client_state {
	NR_CLIENT_MORE,   /* send the output, feed more input */
	NR_CLIENT_TLS,    /* all output is to be sent, then TLS begins; when it is up:
			   * nr_client_handshake_secured */
	NR_CLIENT_READY,  /* transmission begins after the output has been sent */
	NR_CLIENT_LISTED, /* the list is complete: send the output, close */
	NR_CLIENT_FAILED, /* close; nr_client_handshake_reason() says why */
};

/* NULL when memory is short. */
struct nr_client_handshake *nr_client_handshake_create(const struct nr_client_wish *wish);
void nr_client_handshake_destroy(struct nr_client_handshake *h); /* NULL is allowed */

/*
 * Consume up to LENGTH bytes of DATA; *USED says how many.  Bytes behind what ends
 * the handshake, or behind the answer to STARTTLS, are left.
 */
enum nr_client_state nr_client_handshake_feed(struct nr_client_handshake *h, const uint8_t *data,
					      size_t length, size_t *used);

/* State TLS is over: all bytes from now on, in and out, go through it. */
enum nr_client_state nr_client_handshake_secured(struct nr_client_handshake *h);

/* What to send: the pointer holds until the next call that changes H. */
const uint8_t *nr_client_handshake_output(const struct nr_client_handshake *h, size_t *length);
void nr_client_handshake_sent(struct nr_client_handshake *h, size_t length);

const struct nr_client_agreement *nr_client_handshake_agreement(
	const struct nr_client_handshake *h); /* READY */

/*
 * FAILED: a sentence for people, with the server's own words if it had some; and a
 * negative errno: -ENOENT the export is unknown, -EACCES refused, -EPROTO the server
 * breaks the protocol, -EOPNOTSUPP it lacks what is needed, -ESHUTDOWN it is going
 * down, -ENOMEM.
 */
const char *nr_client_handshake_reason(const struct nr_client_handshake *h);
int nr_client_handshake_error(const struct nr_client_handshake *h);

#endif
