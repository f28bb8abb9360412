/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The state machine of a handshake: from the greeting to READY, CLOSE or DROP.
 *
 * step() is the machine; it runs until it has to wait for the client or the
 * owner.  Input is consumed byte-exact, so how it was cut makes no difference,
 * and nothing behind the option that ends the haggling is touched.
 *
 * Work and memory: an announced payload of any length up to 2^32-1 keeps the
 * conversation in step.  What cannot be right is dropped as it comes, costs no
 * memory, and is answered by an error once it is through.  No length and no
 * number of options is taken for an attack here: whoever sends for ever is
 * ended by the owner's timer.  Memory is bounded by one kept payload
 * (NR_HANDSHAKE_PAYLOAD_MAX, allocated as it arrives), NR_HANDSHAKE_BACKLOG of
 * output, and the reply to one option (a listing: NR_HANDSHAKE_LIST_MAX).
 */
#include "src/protocol/handshake.h"

#include <assert.h>
#include <stdlib.h>

#include "nbdring/checked.h"
#include "src/protocol/haggling.h"
#include "src/protocol/text.h"

#define CLIENT_FLAGS_BYTES 4u
#define OPTION_HEADER_BYTES 16u
#define OPTION_REPLY_BYTES 20u

static_assert(sizeof(((struct nr_handshake *)0)->header) >= OPTION_HEADER_BYTES, "fits");

/* Bytes that arrived and are not consumed yet; `data` may be NULL when there are none. */
struct input {
	const uint8_t *data;
	size_t left;
};

static void consume(struct input *in, size_t bytes)
{
	if (bytes > 0)
		in->data += bytes;
	in->left -= bytes;
}

/* The only writer of `phase`.  The three ends are final. */
static void set_phase(struct nr_handshake *h, enum nr_haggle_phase phase)
{
	if (h->phase < NR_HAGGLE_READY || phase == NR_HAGGLE_DROP)
		h->phase = phase;
	if (phase == NR_HAGGLE_HEADER)
		h->header_bytes = 0;
}

void nr_haggle_drop(struct nr_handshake *h, const char *reason)
{
	if (h->phase != NR_HAGGLE_DROP)
		h->reason = reason;
	set_phase(h, NR_HAGGLE_DROP);
}

void nr_haggle_ready(struct nr_handshake *h)
{
	set_phase(h, NR_HAGGLE_READY);
}

void nr_haggle_close(struct nr_handshake *h)
{
	set_phase(h, NR_HAGGLE_CLOSE);
}

/* Make room for LENGTH bytes behind `end`; NULL when memory is short. */
static uint8_t *reserve(struct nr_haggle_bytes *b, size_t length)
{
	size_t used = b->end - b->begin, capacity = b->capacity;
	uint8_t *at;

	if (b->begin > 0) {
		memmove(b->at, b->at + b->begin, used);
		b->begin = 0;
		b->end = used;
	}
	if (capacity - used >= length)
		return b->at + b->end;
	capacity = nr_max(capacity * 2, nr_max(used + length, 256));
	at = realloc(b->at, capacity);
	if (!at)
		return NULL;
	b->at = at;
	b->capacity = capacity;
	return b->at + b->end;
}

uint8_t *nr_haggle_output(struct nr_handshake *h, size_t length)
{
	uint8_t *p;

	if (h->phase == NR_HAGGLE_DROP)
		return NULL;
	p = reserve(&h->output, length);
	if (!p) {
		nr_haggle_drop(h, "out of memory");
		return NULL;
	}
	h->output.end += length;
	return p;
}

/*
 * "Fixed newstyle negotiation":
 *   [0..7] magic   [8..11] option   [12..15] type   [16..19] length   [20..] data
 */
uint8_t *nr_haggle_reply(struct nr_handshake *h, uint32_t type, size_t length)
{
	uint8_t *p = nr_haggle_output(h, OPTION_REPLY_BYTES + length);

	assert(length <= UINT32_MAX);
	if (!p)
		return NULL;
	p = nbd_put64(p, NBD_OPTION_REPLY_MAGIC);
	p = nbd_put32(p, h->code);
	p = nbd_put32(p, type);
	return nbd_put32(p, (uint32_t)length);
}

void nr_haggle_ack(struct nr_handshake *h)
{
	(void)nr_haggle_reply(h, NBD_REP_ACK, 0);
}

void nr_haggle_refuse(struct nr_handshake *h, uint32_t refusal, const char *text)
{
	size_t length = nbd_text_cut(text, NBD_STRING_MAX);
	uint8_t *p;

	assert(refusal & NBD_REP_ERR_BIT);
	p = nr_haggle_reply(h, refusal, length);
	if (p)
		nr_haggle_put(p, text, length);
}

void nr_haggle_ask(struct nr_handshake *h, enum nr_export_purpose purpose, const uint8_t *name,
		   size_t length)
{
	char *wanted = malloc(length + 1);

	if (!wanted) {
		nr_haggle_drop(h, "out of memory");
		return;
	}
	nr_haggle_put((uint8_t *)wanted, name, length);
	wanted[length] = '\0';
	free(h->wanted);
	h->wanted = wanted;
	h->purpose = purpose;
	set_phase(h, NR_HAGGLE_EXPORT);
}

void nr_haggle_ask_list(struct nr_handshake *h)
{
	h->list_bytes = 0;
	set_phase(h, NR_HAGGLE_LIST);
}

/*
 * "NBD_OPT_STARTTLS": "… the server MUST NOT preserve any negotiation state (such as
 * NBD_OPT_SET_META_CONTEXT)"
 */
void nr_haggle_starttls(struct nr_handshake *h)
{
	h->style = NR_REPLY_SIMPLE;
	nr_haggle_forget_contexts(h);
	set_phase(h, NR_HAGGLE_STARTTLS);
}

/* Take input until `header` holds BYTES; false when there is not enough. */
static bool collect_header(struct nr_handshake *h, struct input *in, size_t bytes)
{
	size_t n = nr_min(bytes - h->header_bytes, in->left);

	nr_haggle_put(h->header + h->header_bytes, in->data, n);
	h->header_bytes += n;
	consume(in, n);
	return h->header_bytes == bytes;
}

/* Take input until `payload` is complete; false when there is not enough. */
static bool collect_payload(struct nr_handshake *h, struct input *in)
{
	size_t n = nr_min(h->length - h->payload.end, in->left);
	uint8_t *p;

	if (n > 0) {
		p = reserve(&h->payload, n);
		if (!p) {
			nr_haggle_drop(h, "out of memory");
			return false;
		}
		memcpy(p, in->data, n);
		h->payload.end += n;
	}
	consume(in, n);
	return h->payload.end == h->length;
}

/* Drop input until nothing is left to be dropped; false when there is not enough. */
static bool skip_payload(struct nr_handshake *h, struct input *in)
{
	size_t n = nr_min(h->skip, in->left);

	consume(in, n);
	h->skip -= (uint32_t)n;
	return h->skip == 0;
}

/*
 * "Client flags":
 *   [0..3] flags, each of them one that we offered
 */
static void take_flags(struct nr_handshake *h)
{
	uint32_t flags = nbd_get32(h->header);
	uint32_t offered = h->config.flags_mask;

	if (flags & ~offered) {
		nr_haggle_drop(h, "the client set a flag that was not offered");
		return;
	}
	h->fixed = flags & NBD_FLAG_FIXED_NEWSTYLE;
	h->no_zeroes = flags & NBD_FLAG_NO_ZEROES;
	h->begun = true;
	set_phase(h, NR_HAGGLE_HEADER);
}

/* "FORCEDTLS mode": nothing but STARTTLS and ABORT goes before TLS, known or not. */
static bool needs_tls(const struct nr_handshake *h)
{
	return h->config.tls == NR_TLS_REQUIRED && !h->encrypted && h->code != NBD_OPT_STARTTLS &&
	       h->code != NBD_OPT_ABORT;
}

/* What to answer to the option whose header has come, before its payload has: 0 = run it. */
static uint32_t refuse_early(struct nr_handshake *h)
{
	const struct nr_haggle_option *option = h->option;

	h->refusal_text = NULL;
	if (h->shutdown && h->code != NBD_OPT_ABORT) {
		/* "Termination of the session during option haggling" */
		h->refusal_text = "the server is shutting down";
		return NBD_REP_ERR_SHUTDOWN;
	}
	if (needs_tls(h)) {
		h->refusal_text = "this server requires TLS";
		return NBD_REP_ERR_TLS_REQD;
	}
	if (!option)
		return NBD_REP_ERR_UNSUP;
	if (h->length < option->min_length) {
		h->refusal_text = "the option is too short";
		return NBD_REP_ERR_INVALID;
	}
	if (h->length > option->max_length) {
		h->refusal_text =
			option->max_length ? "the option is too long" : "the option takes no data";
		return option->max_length ? NBD_REP_ERR_TOO_BIG : NBD_REP_ERR_INVALID;
	}
	return 0;
}

/*
 * "Newstyle negotiation":
 *   [0..7] magic   [8..11] option   [12..15] length of the data
 */
static void take_header(struct nr_handshake *h)
{
	if (nbd_get64(h->header) != NBD_IHAVEOPT) {
		nr_haggle_drop(h, "wrong magic in an option");
		return;
	}
	h->code = nbd_get32(h->header + 8);
	h->length = nbd_get32(h->header + 12);
	h->option = nr_haggle_find_option(h, h->code);
	h->payload.begin = h->payload.end = 0;

	/* "EXPORT_NAME is the only valid option in nonfixed newstyle negotiation." */
	if (!h->fixed && h->code != NBD_OPT_EXPORT_NAME) {
		nr_haggle_drop(h, "the client did not negotiate fixed newstyle");
		return;
	}
	/* "… replaces all previously-set metadata contexts (including when this command fails)" */
	if (h->code == NBD_OPT_SET_META_CONTEXT)
		nr_haggle_forget_contexts(h);

	h->refusal = refuse_early(h);
	if (h->refusal && h->code == NBD_OPT_EXPORT_NAME) {
		/* It has no error reply: "the server MUST terminate the session". */
		nr_haggle_drop(h, "EXPORT_NAME cannot be granted");
		return;
	}
	h->skip = h->length;
	set_phase(h, h->refusal || !h->option->keep ? NR_HAGGLE_SKIP : NR_HAGGLE_KEEP);
}

/* The option and all of its payload have come. */
static void run_option(struct nr_handshake *h)
{
	set_phase(h, NR_HAGGLE_HEADER);
	if (h->refusal)
		nr_haggle_refuse(h, h->refusal, h->refusal_text);
	else
		h->option->handle(h);
}

/* One step of the machine: true when there may be another, false when it has to wait. */
static bool step(struct nr_handshake *h, struct input *in)
{
	switch (h->phase) {
	case NR_HAGGLE_FLAGS:
		if (!collect_header(h, in, CLIENT_FLAGS_BYTES))
			return false;
		take_flags(h);
		return true;
	case NR_HAGGLE_HEADER:
		if (h->header_bytes == 0 && h->output.end - h->output.begin > NR_HANDSHAKE_BACKLOG)
			return false;
		if (!collect_header(h, in, OPTION_HEADER_BYTES))
			return false;
		take_header(h);
		return true;
	case NR_HAGGLE_KEEP:
		if (!collect_payload(h, in))
			return false;
		set_phase(h, NR_HAGGLE_OPTION);
		return true;
	case NR_HAGGLE_SKIP:
		if (!skip_payload(h, in))
			return false;
		set_phase(h, NR_HAGGLE_OPTION);
		return true;
	case NR_HAGGLE_OPTION:
		run_option(h);
		return true;
	case NR_HAGGLE_EXPORT:
	case NR_HAGGLE_LIST:
	case NR_HAGGLE_STARTTLS:
	case NR_HAGGLE_READY:
	case NR_HAGGLE_CLOSE:
	case NR_HAGGLE_DROP:
		return false;
	}
	return false;
}

static enum nr_handshake_state state_of(const struct nr_handshake *h)
{
	switch (h->phase) {
	case NR_HAGGLE_FLAGS:
	case NR_HAGGLE_HEADER:
	case NR_HAGGLE_KEEP:
	case NR_HAGGLE_SKIP:
	case NR_HAGGLE_OPTION:
		return NR_HANDSHAKE_MORE;
	case NR_HAGGLE_EXPORT:
		return NR_HANDSHAKE_EXPORT;
	case NR_HAGGLE_LIST:
		return NR_HANDSHAKE_LIST;
	case NR_HAGGLE_STARTTLS:
		return NR_HANDSHAKE_STARTTLS;
	case NR_HAGGLE_READY:
		return NR_HANDSHAKE_READY;
	case NR_HAGGLE_CLOSE:
		return NR_HANDSHAKE_CLOSE;
	case NR_HAGGLE_DROP:
		return NR_HANDSHAKE_DROP;
	}
	return NR_HANDSHAKE_DROP;
}

/*
 * "Newstyle negotiation", the greeting:
 *   [0..7] NBDMAGIC   [8..15] IHAVEOPT   [16..17] handshake flags
 */
static void greet(struct nr_handshake *h)
{
	uint8_t *p = nr_haggle_output(h, 18);

	if (!p)
		return;
	p = nbd_put64(p, NBD_MAGIC);
	p = nbd_put64(p, NBD_IHAVEOPT);
	nbd_put16(p, h->config.flags_mask);
}

struct nr_handshake *nr_handshake_create(const struct nr_handshake_config *config)
{
	struct nr_handshake *h = calloc(1, sizeof(*h));

	if (!h)
		return NULL;
	h->config = *config;
	/* "The server MUST NOT set any other flags." */
	h->config.flags_mask &= NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES;
	h->phase = NR_HAGGLE_FLAGS;
	h->style = NR_REPLY_SIMPLE;
	if (config->oldstyle)
		nr_haggle_ask(h, NR_EXPORT_GO, NULL, 0);
	else
		greet(h);
	if (h->phase == NR_HAGGLE_DROP) {
		nr_handshake_destroy(h);
		return NULL;
	}
	return h;
}

void nr_handshake_destroy(struct nr_handshake *h)
{
	if (!h)
		return;
	nr_haggle_forget_contexts(h);
	free(h->wanted);
	free(h->payload.at);
	free(h->output.at);
	free(h);
}

enum nr_handshake_state nr_handshake_feed(struct nr_handshake *h, const uint8_t *data,
					  size_t length, size_t *used)
{
	struct input in = { .data = data, .left = length };

	while (step(h, &in))
		;
	*used = length - in.left;
	return state_of(h);
}

const uint8_t *nr_handshake_output(const struct nr_handshake *h, size_t *length)
{
	*length = h->output.end - h->output.begin;
	return *length ? h->output.at + h->output.begin : NULL;
}

void nr_handshake_sent(struct nr_handshake *h, size_t length)
{
	assert(length <= h->output.end - h->output.begin);
	h->output.begin += length;
	if (h->output.begin < h->output.end)
		return;
	h->output.begin = h->output.end = 0;
	if (h->output.capacity > NR_HANDSHAKE_BACKLOG) { /* after a long listing */
		free(h->output.at);
		h->output.at = NULL;
		h->output.capacity = 0;
	}
}

const char *nr_handshake_wanted(const struct nr_handshake *h, enum nr_export_purpose *purpose)
{
	assert(h->phase == NR_HAGGLE_EXPORT);
	*purpose = h->purpose;
	return h->wanted;
}

bool nr_handshake_wants_description(const struct nr_handshake *h)
{
	assert(h->phase == NR_HAGGLE_EXPORT);
	return h->asked_infos & (1u << NBD_INFO_DESCRIPTION);
}

/*
 * "SELECTIVETLS mode" and "NOTLS mode": TLS_REQD is for INFO and GO, before TLS, of a
 * server that offers it.  EXPORT_NAME has no error reply, so it does not matter there.
 */
static uint32_t permitted_refusal(const struct nr_handshake *h, uint32_t refusal)
{
	if (refusal != NBD_REP_ERR_TLS_REQD)
		return refusal;
	if (h->config.tls == NR_TLS_OFF || h->encrypted ||
	    (h->code != NBD_OPT_INFO && h->code != NBD_OPT_GO))
		return NBD_REP_ERR_POLICY;
	return refusal;
}

enum nr_handshake_state nr_handshake_export_is(struct nr_handshake *h,
					       const struct nr_export_answer *given)
{
	struct nr_export_answer answer = *given;

	assert(h->phase == NR_HAGGLE_EXPORT);
	assert(answer.context_count <= NR_CONTEXTS_MAX);
	answer.refusal = permitted_refusal(h, answer.refusal);
	set_phase(h, NR_HAGGLE_HEADER);
	nr_haggle_compare_contexts(h, &answer);
	if (h->config.oldstyle)
		nr_haggle_answer_oldstyle(h, &answer);
	else
		h->option->answer(h, &answer);
	return state_of(h);
}

/*
 * "NBD_REP_SERVER":
 *   [0..3] length of the name   [4..] name   then the description
 */
void nr_handshake_list_entry(struct nr_handshake *h, const char *name, const char *description)
{
	size_t name_length, description_length, length;
	uint8_t *p;

	if (h->phase == NR_HAGGLE_DROP || h->list_bytes > NR_HANDSHAKE_LIST_MAX)
		return;
	assert(h->phase == NR_HAGGLE_LIST);
	/* A name that is no legal string could not be asked for either. */
	name_length = strlen(name);
	if (!nbd_text_ok((const uint8_t *)name, name_length))
		return;
	description_length = nbd_text_cut(description, NBD_STRING_MAX);
	length = sizeof(uint32_t) + name_length + description_length;
	h->list_bytes += OPTION_REPLY_BYTES + length;
	if (h->list_bytes > NR_HANDSHAKE_LIST_MAX)
		return;
	p = nr_haggle_reply(h, NBD_REP_SERVER, length);
	if (!p)
		return;
	p = nbd_put32(p, (uint32_t)name_length);
	p = nr_haggle_put(p, name, name_length);
	nr_haggle_put(p, description, description_length);
}

enum nr_handshake_state nr_handshake_list_end(struct nr_handshake *h, uint32_t refusal,
					      const char *text)
{
	if (h->phase == NR_HAGGLE_DROP)
		return NR_HANDSHAKE_DROP;
	assert(h->phase == NR_HAGGLE_LIST);
	set_phase(h, NR_HAGGLE_HEADER);
	if (refusal)
		nr_haggle_refuse(h, refusal, text);
	else if (h->list_bytes > NR_HANDSHAKE_LIST_MAX)
		nr_haggle_refuse(h, NBD_REP_ERR_TOO_BIG, "there are too many exports to list");
	else
		nr_haggle_ack(h);
	return state_of(h);
}

enum nr_handshake_state nr_handshake_encrypted(struct nr_handshake *h)
{
	assert(h->phase == NR_HAGGLE_STARTTLS);
	h->encrypted = true;
	set_phase(h, NR_HAGGLE_HEADER);
	return state_of(h);
}

void nr_handshake_shutdown(struct nr_handshake *h)
{
	h->shutdown = true;
}

const struct nr_agreement *nr_handshake_agreement(const struct nr_handshake *h)
{
	assert(h->phase == NR_HAGGLE_READY);
	return &h->agreement;
}

const char *nr_handshake_reason(const struct nr_handshake *h)
{
	assert(h->phase == NR_HAGGLE_DROP);
	return h->reason;
}

bool nr_handshake_begun(const struct nr_handshake *h)
{
	return h->begun;
}
