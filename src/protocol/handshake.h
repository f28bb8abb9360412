/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The server's side of NBD negotiation: bytes in, bytes and questions out.
 *
 * Sans-I/O: no descriptor, no ring, no layer.  The owner feeds what arrived,
 * sends what was produced, and answers the questions that need the server's
 * knowledge (which exports exist, what they are), which may take time: while a
 * question is open no input is consumed.
 *
 * Fixed newstyle, newstyle and oldstyle.  Options are handled through a table
 * {code, name, shortest and longest payload, handler}.  A payload that no
 * option of ours can need is skipped without being stored, whatever length it
 * announces; what is stored is bounded by NR_HANDSHAKE_PAYLOAD_MAX.
 *
 * Memory: grows while options are haggled over, freed with the handshake.  One
 * thread at a time.
 */
#ifndef SRC_PROTOCOL_HANDSHAKE_H
#define SRC_PROTOCOL_HANDSHAKE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "src/protocol/session.h"

/* The longest option payload that is kept: a name and a few thousand queries. */
#define NR_HANDSHAKE_PAYLOAD_MAX 65536u

/* Bytes of reply waiting to be sent above which no further option is begun. */
#define NR_HANDSHAKE_BACKLOG 65536u

/* Bytes of reply that one LIST may make: the rest is left out and the LIST ends with TOO_BIG. */
#define NR_HANDSHAKE_LIST_MAX (8u * 1024 * 1024)

struct nr_handshake;

/* TLS as the protocol has it: "NOTLS", "SELECTIVETLS" and "FORCEDTLS mode". */
enum nr_tls_mode {
	NR_TLS_OFF,      /* STARTTLS is refused */
	NR_TLS_OFFERED,  /* who asks gets it */
	NR_TLS_REQUIRED, /* nothing goes without */
};

struct nr_handshake_config {
	bool oldstyle; /* offer only the oldstyle greeting (option -o); without TLS */
	enum nr_tls_mode tls;
	uint16_t flags_mask; /* handshake flags offered: NBD_FLAG_* & mask (--mask-handshake) */
	bool no_structured;  /* --no-sr: neither structured replies nor extended headers */
	bool no_contexts;    /* --no-mc */
	bool no_list;        /* LIST is answered by ERR_POLICY */
};

enum nr_handshake_state {
	NR_HANDSHAKE_MORE,     /* feed more input */
	NR_HANDSHAKE_EXPORT,   /* question: nr_handshake_wanted() -> nr_handshake_export_is() */
	NR_HANDSHAKE_LIST,     /* question: nr_handshake_list_entry()* -> nr_handshake_list_end() */
	NR_HANDSHAKE_STARTTLS, /* send the output, drop all input that is here, then begin TLS
				* -> nr_handshake_encrypted() */
	NR_HANDSHAKE_READY,    /* transmission begins after the output has been sent */
	NR_HANDSHAKE_CLOSE,    /* send the output, then close in order (ABORT, …) */
	NR_HANDSHAKE_DROP,     /* close at once; nr_handshake_reason() says why */
};

/* Why a client asks for an export. */
enum nr_export_purpose {
	NR_EXPORT_INFO,     /* only to be told: the export need not stay open */
	NR_EXPORT_GO,       /* to use it: kept if the answer is success */
	NR_EXPORT_CONTEXTS, /* which contexts it offers */
};

/* NULL when memory is short.  The greeting is in the output at once. */
struct nr_handshake *nr_handshake_create(const struct nr_handshake_config *config);
void nr_handshake_destroy(struct nr_handshake *h); /* NULL is allowed */

/*
 * Consume up to LENGTH bytes of DATA; *USED says how many.  Bytes behind the
 * option that led to READY are left (they are the first requests).  Returns
 * the state; call again with the rest after MORE or after answering.  MORE
 * with bytes left over means that more than NR_HANDSHAKE_BACKLOG of output
 * waits: send some first.  LENGTH may be 0 (DATA is not looked at then): the
 * state is returned, which is how the first question of an oldstyle handshake
 * is met.
 */
enum nr_handshake_state nr_handshake_feed(struct nr_handshake *h, const uint8_t *data,
					  size_t length, size_t *used);

/* What to send: the pointer holds until the next call that changes H. */
const uint8_t *nr_handshake_output(const struct nr_handshake *h, size_t *length);
void nr_handshake_sent(struct nr_handshake *h, size_t length); /* drop this much of it */

/* State EXPORT: which one (UTF-8, no NUL inside), and what for. */
const char *nr_handshake_wanted(const struct nr_handshake *h, enum nr_export_purpose *purpose);

/* … and is its description asked for?  Where it is not, none need be looked for. */
bool nr_handshake_wants_description(const struct nr_handshake *h);

/*
 * The answer.  INFO NULL: refused; REFUSAL is then a NBD_REP_ERR_* and TEXT a
 * sentence for the client (may be NULL).  An export that needs TLS is refused by
 * NBD_REP_ERR_TLS_REQD to a client without; where the protocol does not allow this
 * answer, another is sent.  DESCRIPTION and CANONICAL_NAME may be
 * NULL.  CONTEXTS: names of the metadata contexts the export offers, CONTEXT_COUNT
 * of them, at most NR_CONTEXTS_MAX; strings must live as long as H.  Returns the
 * next state; feed again for further input.
 */
struct nr_export_answer {
	const struct nr_export_info *info;
	const char *canonical_name;
	const char *description;
	const char *const *contexts;
	unsigned context_count;
	uint32_t refusal;
	const char *text;
};
enum nr_handshake_state nr_handshake_export_is(struct nr_handshake *h,
					       const struct nr_export_answer *answer);

/* State LIST: one call per export, then the end.  REFUSAL 0, or NBD_REP_ERR_*. */
void nr_handshake_list_entry(struct nr_handshake *h, const char *name, const char *description);
enum nr_handshake_state nr_handshake_list_end(struct nr_handshake *h, uint32_t refusal,
					      const char *text);

/*
 * State STARTTLS: TLS is established, and what is fed from now on came through it.
 * Nothing that was agreed before holds any more.  Returns the next state.
 */
enum nr_handshake_state nr_handshake_encrypted(struct nr_handshake *h);

/*
 * The server is going down: from now on options other than ABORT are answered
 * by NBD_REP_ERR_SHUTDOWN.
 */
void nr_handshake_shutdown(struct nr_handshake *h);

/* State READY: what was agreed. */
const struct nr_agreement *nr_handshake_agreement(const struct nr_handshake *h);

/* State DROP: one phrase for the log. */
const char *nr_handshake_reason(const struct nr_handshake *h);

/* Has the client completed at least its flags?  Port scanners have not. */
bool nr_handshake_begun(const struct nr_handshake *h);

#endif
