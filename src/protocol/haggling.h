/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The inside of a handshake: what its state machine (handshake.c), the options
 * (options.c, metadata.c) and nobody else share.
 *
 * Division of labour: handshake.c owns the phases, the bytes in and the bytes
 * out.  It collects one option, looks at its length, and calls its handler with
 * the whole payload.  A handler answers with nr_haggle_reply() and its kin, or
 * asks the owner something with nr_haggle_ask(); it never looks at input.
 *
 * A handshake whose phase is DROP stays so: functions that answer do nothing
 * then, so a handler need not check after each of them.
 */
#ifndef SRC_PROTOCOL_HAGGLING_H
#define SRC_PROTOCOL_HAGGLING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "src/protocol/handshake.h"
#include "src/protocol/wire.h"

/* Where a handshake stands; beside each, who moves it on. */
enum nr_haggle_phase {
	NR_HAGGLE_FLAGS,    /* the client's 32 bits of flags; the client */
	NR_HAGGLE_HEADER,   /* the header of the next option; the client, and the owner when too
			    * much output waits */
	NR_HAGGLE_KEEP,     /* its payload, to be kept; the client */
	NR_HAGGLE_SKIP,     /* its payload, to be dropped; the client */
	NR_HAGGLE_OPTION,   /* the option is complete; nobody, its handler runs at once */
	NR_HAGGLE_EXPORT,   /* a question about an export; the owner */
	NR_HAGGLE_LIST,     /* the question for all exports; the owner */
	NR_HAGGLE_STARTTLS, /* the ACK of STARTTLS is out; the owner, when TLS is established */
	NR_HAGGLE_READY,    /* the end: transmission */
	NR_HAGGLE_CLOSE,    /* the end: the client took leave */
	NR_HAGGLE_DROP,     /* the end: `reason` */
};

/* A growing buffer: [begin, end) of `at` is in use. */
struct nr_haggle_bytes {
	uint8_t *at;
	size_t begin, end, capacity;
};

/* What the last SET_META_CONTEXT selected, and for which export. */
struct nr_haggle_selection {
	char *export_name; /* NULL: nothing selected */
	uint16_t contexts; /* a bit each, as in struct nr_agreement */
	uint64_t names;    /* a hash of the names that the bits stand for */
};

/* One option the server knows.  An option outside of the lengths never reaches its handler. */
struct nr_haggle_option {
	uint32_t code;
	uint32_t min_length, max_length; /* bytes of payload */
	bool keep;                       /* false: the handler does not look at the payload */
	void (*handle)(struct nr_handshake *h);
	/* The owner's answer to the handler's question about an export. */
	void (*answer)(struct nr_handshake *h, const struct nr_export_answer *answer);
};

struct nr_handshake {
	struct nr_handshake_config config;
	enum nr_haggle_phase phase;
	const char *reason; /* static phrase; phase DROP */
	bool fixed;         /* both sides: fixed newstyle */
	bool no_zeroes;     /* both sides: no padding after EXPORT_NAME */
	bool begun;         /* the client's flags came and were legal */
	bool encrypted;     /* TLS is established */
	bool shutdown;

	/* The option being taken in. */
	uint8_t header[16];
	size_t header_bytes; /* of it that are here */
	uint32_t code, length;
	const struct nr_haggle_option *option; /* NULL: unknown */
	uint32_t refusal;                      /* 0, or what to answer once the payload is gone */
	const char *refusal_text;
	uint32_t skip; /* payload still to be dropped, bytes */
	struct nr_haggle_bytes payload;

	/* The question to the owner. */
	char *wanted;
	enum nr_export_purpose purpose;
	unsigned asked_infos; /* INFO, GO: 1 << NBD_INFO_*, the ones we know */
	size_t list_bytes;    /* LIST: output of this listing so far */

	/* What has been agreed so far. */
	enum nr_reply_style style;
	struct nr_haggle_selection selection;
	struct nr_agreement agreement;

	struct nr_haggle_bytes output;
};

/* handshake.c: ending it, answering an option, asking the owner. */

void nr_haggle_drop(struct nr_handshake *h, const char *reason);
void nr_haggle_ready(struct nr_handshake *h);
void nr_haggle_close(struct nr_handshake *h);

/* LENGTH more bytes of output to be filled in; NULL when memory is short (drops). */
uint8_t *nr_haggle_output(struct nr_handshake *h, size_t length);

/* An option reply of TYPE with LENGTH bytes of payload to be filled in; NULL as above. */
uint8_t *nr_haggle_reply(struct nr_handshake *h, uint32_t type, size_t length);

void nr_haggle_ack(struct nr_handshake *h);

/* The error REFUSAL with TEXT for people (may be NULL). */
void nr_haggle_refuse(struct nr_handshake *h, uint32_t refusal, const char *text);

/* Ask for the export called [NAME, NAME+LENGTH), which is a legal string. */
void nr_haggle_ask(struct nr_handshake *h, enum nr_export_purpose purpose, const uint8_t *name,
		   size_t length);

/* Ask for the list of exports. */
void nr_haggle_ask_list(struct nr_handshake *h);

/* Let the owner begin TLS, and forget what was agreed before. */
void nr_haggle_starttls(struct nr_handshake *h);

/* options.c */

/* The option with CODE, NULL if the server does not know it (or hides it). */
const struct nr_haggle_option *nr_haggle_find_option(const struct nr_handshake *h, uint32_t code);

/* The answer to an oldstyle handshake's question. */
void nr_haggle_answer_oldstyle(struct nr_handshake *h, const struct nr_export_answer *answer);

/* metadata.c */

void nr_haggle_list_contexts(struct nr_handshake *h);
void nr_haggle_set_contexts(struct nr_handshake *h);
void nr_haggle_answer_list_contexts(struct nr_handshake *h, const struct nr_export_answer *answer);
void nr_haggle_answer_set_contexts(struct nr_handshake *h, const struct nr_export_answer *answer);
void nr_haggle_forget_contexts(struct nr_handshake *h);
/* The export that is asked about has what ANSWER says: forget a selection made of other names. */
void nr_haggle_compare_contexts(struct nr_handshake *h, const struct nr_export_answer *answer);

/* The contexts selected for the export called NAME. */
uint16_t nr_haggle_contexts_of(const struct nr_handshake *h, const char *name);

/* LENGTH bytes of DATA (may be NULL when there are none) to P; returns where they end. */
static inline uint8_t *nr_haggle_put(uint8_t *p, const void *data, size_t length)
{
	if (length > 0)
		memcpy(p, data, length);
	return p + length;
}

/* A payload read front to back; each function is false when it does not hold that much. */
struct nr_haggle_reader {
	const uint8_t *at;
	size_t left;
};

static inline struct nr_haggle_reader nr_haggle_read(const struct nr_handshake *h)
{
	const struct nr_haggle_bytes *payload = &h->payload;

	return (struct nr_haggle_reader){ payload->at, payload->end - payload->begin };
}

static inline bool nr_haggle_read16(struct nr_haggle_reader *r, uint16_t *value)
{
	if (r->left < sizeof(*value))
		return false;
	*value = nbd_get16(r->at);
	r->at += sizeof(*value);
	r->left -= sizeof(*value);
	return true;
}

static inline bool nr_haggle_read32(struct nr_haggle_reader *r, uint32_t *value)
{
	if (r->left < sizeof(*value))
		return false;
	*value = nbd_get32(r->at);
	r->at += sizeof(*value);
	r->left -= sizeof(*value);
	return true;
}

/* 32 bits of length, then the string. */
static inline bool nr_haggle_read_string(struct nr_haggle_reader *r, const uint8_t **string,
					 uint32_t *length)
{
	if (!nr_haggle_read32(r, length) || r->left < *length)
		return false;
	*string = r->at;
	r->at += *length;
	r->left -= *length;
	return true;
}

#endif
