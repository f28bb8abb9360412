/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The client's side of negotiation (client-handshake.h).
 *
 * A handshake collects exactly as many bytes as the phase it is in needs, then takes a
 * step.  Options are asked one at a time, in the order of the table below: a row says
 * when the option is worth asking, how, and what its answers mean.  An option that the
 * server refuses is either done without or the end.
 *
 * Invariant: `need` never exceeds the room in `in`; a step either asks for more or
 * moves to another phase, so feeding always ends.
 */
#include "src/protocol/client-handshake.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "nbdring/checked.h"
#include "src/protocol/text.h"
#include "src/protocol/wire.h"

#define OPTION_HEADER 16u /* IHAVEOPT, code, length */
#define REPLY_HEADER 20u  /* magic, option, type, length */
#define OUTPUT_ROOM 16384u
#define PADDING 124u
#define WORDS_MAX 160u /* of the server's text in our reason */

enum phase {
	PHASE_GREETING, /* both magics */
	PHASE_OLDSTYLE, /* size, flags, padding */
	PHASE_FLAGS,    /* the server's handshake flags */
	PHASE_REPLY,    /* the header of a reply to the option asked */
	PHASE_PAYLOAD,  /* its payload */
	PHASE_TLS,      /* the owner makes the connection a secret one */
	PHASE_EXPORT,   /* the answer to EXPORT_NAME, which is no reply */
	PHASE_READY,
	PHASE_LISTED,
	PHASE_FAILED,
};

struct option;

struct nr_client_handshake {
	struct nr_client_wish wish;
	struct nr_client_agreement agreement;
	enum phase phase;
	bool fixed, no_zeroes, secured;
	bool told_export; /* GO: INFO_EXPORT has come */
	unsigned next;    /* row of the option to be looked at next */
	const struct option *option;
	uint32_t type, replies;
	size_t have, need, out_begin, out_end;
	int error;
	char reason[400];
	uint8_t out[OUTPUT_ROOM];
	uint8_t in[REPLY_HEADER + NR_CLIENT_REPLY_MAX];
};

/* One option of ours.  `acknowledged` and `refused` move on, or end it. */
struct option {
	uint32_t code;
	bool (*wanted)(const struct nr_client_handshake *h);
	size_t (*payload)(const struct nr_client_handshake *h, uint8_t *out, size_t room);
	/* A reply with a payload; false: it was not understood. */
	bool (*told)(struct nr_client_handshake *h, const uint8_t *payload, size_t length);
	void (*acknowledged)(struct nr_client_handshake *h);
	void (*refused)(struct nr_client_handshake *h, const uint8_t *text, size_t length);
};

static void ask_next(struct nr_client_handshake *h);

/* ---- the end, and words ------------------------------------------------ */

static void fail(struct nr_client_handshake *h, int error, const char *reason)
{
	h->phase = PHASE_FAILED;
	h->error = error;
	snprintf(h->reason, sizeof(h->reason), "%s", reason);
}

static void wait_for(struct nr_client_handshake *h, enum phase phase, size_t bytes)
{
	assert(bytes <= sizeof(h->in));
	h->phase = phase;
	h->have = 0;
	h->need = bytes;
}

/* The server's words behind ours, if they are fit to be shown. */
static void fail_quoting(struct nr_client_handshake *h, int error, const char *reason,
			 const uint8_t *text, size_t length)
{
	char words[WORDS_MAX + 1];
	size_t n;

	fail(h, error, reason);
	if (length == 0 || length > NBD_STRING_MAX || !nbd_text_ok(text, length))
		return;
	n = length < WORDS_MAX ? length : WORDS_MAX;
	while (n < length && (text[n] & 0xc0) == 0x80)
		n--;
	for (size_t i = 0; i < n; i++)
		words[i] = text[i] < 0x20 || text[i] == 0x7f ? ' ' : (char)text[i];
	words[n] = '\0';
	snprintf(h->reason, sizeof(h->reason), "%s, it says: %s", reason, words);
}

static const struct {
	uint32_t type;
	int error;
	const char *reason;
} refusals[] = {
	{ NBD_REP_ERR_UNSUP, -EOPNOTSUPP, "the server does not know what was asked for" },
	{ NBD_REP_ERR_POLICY, -EACCES, "the server refuses" },
	{ NBD_REP_ERR_INVALID, -EPROTO, "the server calls the question invalid" },
	{ NBD_REP_ERR_PLATFORM, -EOPNOTSUPP, "the server cannot do it" },
	{ NBD_REP_ERR_TLS_REQD, -EACCES, "the server wants TLS: give tls=require" },
	{ NBD_REP_ERR_UNKNOWN, -ENOENT, "the server has no export of that name" },
	{ NBD_REP_ERR_SHUTDOWN, -ESHUTDOWN, "the server is going down" },
	{ NBD_REP_ERR_BLOCK_SIZE_REQD, -EPROTO, "the server wants to be asked for block sizes" },
	{ NBD_REP_ERR_TOO_BIG, -EOPNOTSUPP, "the question is too long for the server" },
	{ NBD_REP_ERR_EXT_HEADER_REQD, -EOPNOTSUPP, "the server wants extended headers" },
};

static void fail_refused(struct nr_client_handshake *h, const uint8_t *text, size_t length)
{
	for (size_t i = 0; i < sizeof(refusals) / sizeof(refusals[0]); i++) {
		if (refusals[i].type == h->type) {
			fail_quoting(h, refusals[i].error, refusals[i].reason, text, length);
			return;
		}
	}
	fail_quoting(h, -EPROTO, "the server refuses with an unknown error", text, length);
}

/* ---- what was learnt of the export ------------------------------------- */

/* Size and flags; false: impossible ones, H has failed. */
static bool learn_export(struct nr_client_handshake *h, uint64_t size, uint16_t flags)
{
	struct nr_export_info *info = &h->agreement.info;

	if (size > NR_SIZE_MAX) {
		fail(h, -EPROTO, "the server says that the disk has over 2^63-1 bytes");
		return false;
	}
	if (!(flags & NBD_FLAG_HAS_FLAGS))
		flags = 0;
	if (!(flags & NBD_FLAG_SEND_WRITE_ZEROES))
		flags &= (uint16_t)~NBD_FLAG_SEND_FAST_ZERO;
	info->size = size;
	info->flags = flags;
	h->told_export = true;
	return true;
}

/* "Size constraints"; false: impossible ones. */
static bool learn_block_sizes(struct nr_client_handshake *h, uint32_t min, uint32_t preferred,
			      uint32_t max)
{
	struct nr_export_info *info = &h->agreement.info;

	if (!nr_is_power_of_2(min) || min > 65536 || !nr_is_power_of_2(preferred) ||
	    preferred < min || max < min || (max != UINT32_MAX && !nr_is_aligned(max, min))) {
		fail(h, -EPROTO, "the server's block sizes are impossible");
		return false;
	}
	info->block_min = min;
	info->block_preferred = preferred < 512 ? 512 : preferred;
	info->block_max = max;
	return true;
}

/* ---- the options ------------------------------------------------------- */

static bool nothing_told(struct nr_client_handshake *h, const uint8_t *payload, size_t length)
{
	return false;
}

static size_t no_payload(const struct nr_client_handshake *h, uint8_t *out, size_t room)
{
	return 0;
}

static void go_without(struct nr_client_handshake *h, const uint8_t *text, size_t length)
{
	ask_next(h);
}

static bool wants_tls(const struct nr_client_handshake *h)
{
	return h->wish.tls != NR_CLIENT_TLS_OFF && !h->secured;
}

static void begin_tls(struct nr_client_handshake *h)
{
	h->phase = PHASE_TLS;
}

static void tls_refused(struct nr_client_handshake *h, const uint8_t *text, size_t length)
{
	if (h->wish.tls == NR_CLIENT_TLS_REQUIRE)
		fail_quoting(h, -EOPNOTSUPP, "TLS is required and the server does not offer it",
			     text, length);
	else
		ask_next(h);
}

static bool wants_extended(const struct nr_client_handshake *h)
{
	return !h->wish.listed && h->wish.best_style >= NR_REPLY_EXTENDED;
}

static void got_extended(struct nr_client_handshake *h)
{
	h->agreement.reply_style = NR_REPLY_EXTENDED;
	ask_next(h);
}

static bool wants_structured(const struct nr_client_handshake *h)
{
	return !h->wish.listed && h->wish.best_style >= NR_REPLY_STRUCTURED &&
	       h->agreement.reply_style == NR_REPLY_SIMPLE;
}

static void got_structured(struct nr_client_handshake *h)
{
	h->agreement.reply_style = NR_REPLY_STRUCTURED;
	ask_next(h);
}

static bool wants_contexts(const struct nr_client_handshake *h)
{
	return !h->wish.listed && h->wish.context_count > 0 &&
	       h->agreement.reply_style != NR_REPLY_SIMPLE;
}

/* A string with its length in front; NULL: no room. */
static uint8_t *put_string(uint8_t *p, const uint8_t *end, const char *string)
{
	size_t length = strlen(string);

	if (length > NBD_STRING_MAX || (size_t)(end - p) < 4 + length)
		return NULL;
	p = nbd_put32(p, (uint32_t)length);
	memcpy(p, string, length); /* NOLINT(bugprone-not-null-terminated-result) */
	return p + length;
}

static size_t contexts_payload(const struct nr_client_handshake *h, uint8_t *out, size_t room)
{
	uint8_t *p = put_string(out, out + room, h->wish.export_name);

	if (!p || (size_t)(out + room - p) < 4)
		return SIZE_MAX;
	p = nbd_put32(p, h->wish.context_count);
	for (unsigned i = 0; i < h->wish.context_count; i++) {
		p = put_string(p, out + room, h->wish.contexts[i]);
		if (!p)
			return SIZE_MAX;
	}
	return (size_t)(p - out);
}

static bool wants_context_list(const struct nr_client_handshake *h)
{
	return wants_contexts(h) && h->wish.found;
}

/* Without queries: all there are. */
static size_t context_list_payload(const struct nr_client_handshake *h, uint8_t *out, size_t room)
{
	uint8_t *p = put_string(out, out + room, h->wish.export_name);

	if (!p || (size_t)(out + room - p) < 4)
		return SIZE_MAX;
	return (size_t)(nbd_put32(p, 0) - out);
}

/* Is NAME wished for already, or is there no room to ask for it? */
static bool is_of_no_use(const struct nr_client_handshake *h, const char *name)
{
	size_t bytes = strlen(h->wish.export_name) + strlen(name) + 3 * sizeof(uint32_t);

	if (h->wish.context_count == NR_CONTEXTS_MAX)
		return true;
	for (unsigned i = 0; i < h->wish.context_count; i++) {
		if (strcmp(h->wish.contexts[i], name) == 0)
			return true;
		bytes += strlen(h->wish.contexts[i]) + sizeof(uint32_t);
	}
	return bytes + OPTION_HEADER > sizeof(h->out);
}

static bool told_of_context(struct nr_client_handshake *h, const uint8_t *payload, size_t length)
{
	char name[NBD_STRING_MAX + 1];

	if (h->type != NBD_REP_META_CONTEXT || length < 4 || !nbd_text_ok(payload + 4, length - 4))
		return false;
	memcpy(name, payload + 4, length - 4);
	name[length - 4] = '\0';
	/* One that it might compute from a query is listed as "NAMESPACE:": not to be asked for. */
	if (strchr(name, ':') && name[length - 5] != ':' && !is_of_no_use(h, name) &&
	    h->wish.found(h->wish.found_context, name))
		h->wish.context_count++;
	return true;
}

static void context_list_refused(struct nr_client_handshake *h, const uint8_t *text, size_t length)
{
	ask_next(h);
}

static bool told_context(struct nr_client_handshake *h, const uint8_t *payload, size_t length)
{
	struct nr_client_agreement *a = &h->agreement;

	if (h->type != NBD_REP_META_CONTEXT || length < 4)
		return false;
	for (unsigned i = 0; i < h->wish.context_count; i++) {
		size_t bytes = strlen(h->wish.contexts[i]);

		if (bytes != length - 4 || memcmp(payload + 4, h->wish.contexts[i], bytes) != 0)
			continue;
		for (unsigned j = 0; j < h->wish.context_count; j++)
			if ((a->contexts & 1u << j) && a->context_id[j] == nbd_get32(payload))
				return false;
		if (a->contexts & 1u << i)
			return false;
		a->contexts |= (uint16_t)(1u << i);
		a->context_id[i] = nbd_get32(payload);
		return true;
	}
	/* One that was not asked for would come in every answer. */
	return false;
}

static void contexts_refused(struct nr_client_handshake *h, const uint8_t *text, size_t length)
{
	h->agreement.contexts = 0;
	ask_next(h);
}

static bool wants_export(const struct nr_client_handshake *h)
{
	return !h->wish.listed;
}

static size_t go_payload(const struct nr_client_handshake *h, uint8_t *out, size_t room)
{
	uint8_t *p = put_string(out, out + room, h->wish.export_name);

	if (!p || (size_t)(out + room - p) < 4)
		return SIZE_MAX;
	p = nbd_put16(p, 1);
	return (size_t)(nbd_put16(p, NBD_INFO_BLOCK_SIZE) - out);
}

static bool told_info(struct nr_client_handshake *h, const uint8_t *payload, size_t length)
{
	if (h->type != NBD_REP_INFO || length < 2)
		return false;
	switch (nbd_get16(payload)) {
	case NBD_INFO_EXPORT:
		if (length != 12)
			return false;
		(void)learn_export(h, nbd_get64(payload + 2), nbd_get16(payload + 10));
		return true;
	case NBD_INFO_BLOCK_SIZE:
		if (length != 14)
			return false;
		(void)learn_block_sizes(h, nbd_get32(payload + 2), nbd_get32(payload + 6),
					nbd_get32(payload + 10));
		return true;
	default: /* names and descriptions, and what there may be in years to come */
		return true;
	}
}

static void begin_transmission(struct nr_client_handshake *h)
{
	if (h->told_export)
		h->phase = PHASE_READY;
	else
		fail(h, -EPROTO, "the server does not say how large the disk is");
}

static void go_refused(struct nr_client_handshake *h, const uint8_t *text, size_t length)
{
	/* Servers from before GO; with extended headers there is no way without it. */
	if (h->type == NBD_REP_ERR_UNSUP && h->agreement.reply_style != NR_REPLY_EXTENDED)
		ask_next(h);
	else
		fail_refused(h, text, length);
}

static size_t name_payload(const struct nr_client_handshake *h, uint8_t *out, size_t room)
{
	size_t length = strlen(h->wish.export_name);

	if (length > NBD_STRING_MAX || length > room)
		return SIZE_MAX;
	memcpy(out, h->wish.export_name, length);
	return length;
}

static bool wants_list(const struct nr_client_handshake *h)
{
	return h->wish.listed != NULL;
}

static bool told_server(struct nr_client_handshake *h, const uint8_t *payload, size_t length)
{
	char name[NBD_STRING_MAX + 1], description[NBD_STRING_MAX + 1];
	size_t bytes, rest;

	if (h->type != NBD_REP_SERVER || length < 4)
		return false;
	bytes = nbd_get32(payload);
	if (bytes > length - 4 || !nbd_text_ok(payload + 4, bytes))
		return false;
	rest = length - 4 - bytes;
	if (!nbd_text_ok(payload + 4 + bytes, rest))
		rest = 0; /* details for people: done without */
	memcpy(name, payload + 4, bytes);
	memcpy(description, payload + 4 + bytes, rest);
	name[bytes] = description[rest] = '\0';
	h->wish.listed(h->wish.listed_context, name, description);
	return true;
}

static void list_complete(struct nr_client_handshake *h)
{
	ask_next(h);
}

static const struct option options[] = {
	{ NBD_OPT_STARTTLS, wants_tls, no_payload, nothing_told, begin_tls, tls_refused },
	{ NBD_OPT_EXTENDED_HEADERS, wants_extended, no_payload, nothing_told, got_extended,
	  go_without },
	{ NBD_OPT_STRUCTURED_REPLY, wants_structured, no_payload, nothing_told, got_structured,
	  go_without },
	{ NBD_OPT_LIST_META_CONTEXT, wants_context_list, context_list_payload, told_of_context,
	  ask_next, context_list_refused },
	{ NBD_OPT_SET_META_CONTEXT, wants_contexts, contexts_payload, told_context, ask_next,
	  contexts_refused },
	{ NBD_OPT_GO, wants_export, go_payload, told_info, begin_transmission, go_refused },
	{ NBD_OPT_EXPORT_NAME, wants_export, name_payload, nothing_told, NULL, NULL },
	{ NBD_OPT_LIST, wants_list, no_payload, told_server, list_complete, fail_refused },
	{ NBD_OPT_ABORT, wants_list, no_payload, nothing_told, NULL, NULL },
};
#define OPTION_COUNT (sizeof(options) / sizeof(options[0]))

/* ---- asking ------------------------------------------------------------ */

static void ask(struct nr_client_handshake *h, const struct option *option)
{
	uint8_t *p;
	size_t length;

	/* One question at a time: what was said before has been sent when it is answered. */
	if (h->out_begin == h->out_end)
		h->out_begin = h->out_end = 0;
	p = h->out + h->out_end;
	if (sizeof(h->out) - h->out_end < OPTION_HEADER) {
		fail(h, -EPROTO, "the server answers before it is asked");
		return;
	}
	length = option->payload(h, p + OPTION_HEADER, sizeof(h->out) - h->out_end - OPTION_HEADER);
	if (length == SIZE_MAX) {
		fail(h, -EINVAL, "the name of the export is longer than 4096 bytes");
		return;
	}
	p = nbd_put64(p, NBD_IHAVEOPT);
	p = nbd_put32(p, option->code);
	(void)nbd_put32(p, (uint32_t)length);
	h->out_end += OPTION_HEADER + length;
	h->option = option;
	h->replies = 0;
	if (option->code == NBD_OPT_EXPORT_NAME)
		wait_for(h, PHASE_EXPORT, 10 + (h->no_zeroes ? 0 : PADDING));
	else if (option->code == NBD_OPT_ABORT)
		h->phase = PHASE_LISTED;
	else
		wait_for(h, PHASE_REPLY, REPLY_HEADER);
}

static void ask_next(struct nr_client_handshake *h)
{
	while (h->next < OPTION_COUNT) {
		const struct option *option = &options[h->next++];

		if (option->wanted(h)) {
			ask(h, option);
			return;
		}
	}
	fail(h, -EPROTO, "the server refuses all that was asked for");
}

/* A server that knows one option only. */
static void ask_unfixed(struct nr_client_handshake *h)
{
	if (h->wish.listed) {
		fail(h, -EOPNOTSUPP, "the server is too old to list its exports");
		return;
	}
	if (h->wish.tls == NR_CLIENT_TLS_REQUIRE) {
		fail(h, -EOPNOTSUPP, "TLS is required and the server is too old for it");
		return;
	}
	for (size_t i = 0; i < OPTION_COUNT; i++)
		if (options[i].code == NBD_OPT_EXPORT_NAME)
			ask(h, &options[i]);
}

/* ---- steps: all bytes that the phase needs are in ---------------------- */

static void greeted(struct nr_client_handshake *h)
{
	if (nbd_get64(h->in) != NBD_MAGIC) {
		fail(h, -EPROTO, "this is no NBD server");
		return;
	}
	switch (nbd_get64(h->in + 8)) {
	case NBD_IHAVEOPT:
		wait_for(h, PHASE_FLAGS, 2);
		return;
	case NBD_OLDSTYLE_MAGIC:
		wait_for(h, PHASE_OLDSTYLE, 8 + 4 + PADDING);
		return;
	default:
		fail(h, -EPROTO, "the server greets in an unknown way");
	}
}

static void told_oldstyle(struct nr_client_handshake *h)
{
	if (h->wish.listed)
		fail(h, -EOPNOTSUPP, "the server is too old to list its exports");
	else if (h->wish.tls == NR_CLIENT_TLS_REQUIRE)
		fail(h, -EOPNOTSUPP, "TLS is required and the server is too old for it");
	else if (h->wish.export_name[0])
		fail(h, -ENOENT, "the server is too old to have exports with names");
	else if (learn_export(h, nbd_get64(h->in), nbd_get16(h->in + 10)))
		h->phase = PHASE_READY;
}

static void told_flags(struct nr_client_handshake *h)
{
	uint16_t flags = nbd_get16(h->in);

	h->fixed = flags & NBD_FLAG_FIXED_NEWSTYLE;
	h->no_zeroes = flags & NBD_FLAG_NO_ZEROES;
	(void)nbd_put32(h->out + h->out_end, (h->fixed ? NBD_FLAG_FIXED_NEWSTYLE : 0) |
						     (h->no_zeroes ? NBD_FLAG_NO_ZEROES : 0));
	h->out_end += 4;
	if (h->fixed)
		ask_next(h);
	else
		ask_unfixed(h);
}

static void replied(struct nr_client_handshake *h)
{
	const uint8_t *payload = h->in + REPLY_HEADER;
	size_t length = h->have - REPLY_HEADER;

	if (h->type & NBD_REP_ERR_BIT) {
		h->option->refused(h, payload, length);
	} else if (h->type == NBD_REP_ACK) {
		if (length > 0)
			fail(h, -EPROTO, "the server acknowledges in too many words");
		else
			h->option->acknowledged(h);
	} else if (!h->option->told(h, payload, length)) {
		fail(h, -EPROTO, "the server's answer makes no sense");
	} else if (h->phase != PHASE_FAILED) {
		if (++h->replies >= NR_CLIENT_REPLIES_MAX)
			fail(h, -EPROTO, "the server's answer does not end");
		else
			wait_for(h, PHASE_REPLY, REPLY_HEADER);
	}
}

static void reply_begun(struct nr_client_handshake *h)
{
	uint32_t length = nbd_get32(h->in + 16);

	if (nbd_get64(h->in) != NBD_OPTION_REPLY_MAGIC || nbd_get32(h->in + 8) != h->option->code) {
		fail(h, -EPROTO, "the server answers something that was not asked");
		return;
	}
	if (length > NR_CLIENT_REPLY_MAX) {
		fail(h, -EPROTO, "the server's answer is too long");
		return;
	}
	h->type = nbd_get32(h->in + 12);
	if (length == 0) {
		replied(h);
		return;
	}
	h->phase = PHASE_PAYLOAD;
	h->need += length;
}

static void told_name(struct nr_client_handshake *h)
{
	if (learn_export(h, nbd_get64(h->in), nbd_get16(h->in + 8)))
		h->phase = PHASE_READY;
}

static void step(struct nr_client_handshake *h)
{
	switch (h->phase) {
	case PHASE_GREETING:
		greeted(h);
		break;
	case PHASE_OLDSTYLE:
		told_oldstyle(h);
		break;
	case PHASE_FLAGS:
		told_flags(h);
		break;
	case PHASE_REPLY:
		reply_begun(h);
		break;
	case PHASE_PAYLOAD:
		replied(h);
		break;
	case PHASE_EXPORT:
		told_name(h);
		break;
	case PHASE_TLS:
	case PHASE_READY:
	case PHASE_LISTED:
	case PHASE_FAILED:
	default:
		break;
	}
}

static enum nr_client_state state(const struct nr_client_handshake *h)
{
	switch (h->phase) {
	case PHASE_TLS:
		return NR_CLIENT_TLS;
	case PHASE_READY:
		return NR_CLIENT_READY;
	case PHASE_LISTED:
		return NR_CLIENT_LISTED;
	case PHASE_FAILED:
		return NR_CLIENT_FAILED;
	case PHASE_GREETING:
	case PHASE_OLDSTYLE:
	case PHASE_FLAGS:
	case PHASE_REPLY:
	case PHASE_PAYLOAD:
	case PHASE_EXPORT:
	default:
		return NR_CLIENT_MORE;
	}
}

/* ---- for the owner ----------------------------------------------------- */

struct nr_client_handshake *nr_client_handshake_create(const struct nr_client_wish *wish)
{
	struct nr_client_handshake *h = calloc(1, sizeof(*h));

	assert(wish->export_name);
	assert(wish->context_count <= NR_CONTEXTS_MAX);
	if (!h)
		return NULL;
	h->wish = *wish;
	/* What a server that says nothing of block sizes takes ("Size constraints"). */
	h->agreement.info.block_min = 1;
	h->agreement.info.block_preferred = 4096;
	h->agreement.info.block_max = 32u * 1024 * 1024;
	wait_for(h, PHASE_GREETING, 16);
	return h;
}

void nr_client_handshake_destroy(struct nr_client_handshake *h)
{
	free(h);
}

enum nr_client_state nr_client_handshake_feed(struct nr_client_handshake *h, const uint8_t *data,
					      size_t length, size_t *used)
{
	*used = 0;
	while (state(h) == NR_CLIENT_MORE && *used < length) {
		size_t part = nr_min(h->need - h->have, length - *used);

		memcpy(h->in + h->have, data + *used, part);
		h->have += part;
		*used += part;
		if (h->have == h->need)
			step(h);
	}
	return state(h);
}

enum nr_client_state nr_client_handshake_secured(struct nr_client_handshake *h)
{
	assert(h->phase == PHASE_TLS);
	h->secured = true;
	ask_next(h);
	return state(h);
}

const uint8_t *nr_client_handshake_output(const struct nr_client_handshake *h, size_t *length)
{
	*length = h->out_end - h->out_begin;
	return h->out + h->out_begin;
}

void nr_client_handshake_sent(struct nr_client_handshake *h, size_t length)
{
	assert(length <= h->out_end - h->out_begin);
	h->out_begin += length;
}

const struct nr_client_agreement *nr_client_handshake_agreement(const struct nr_client_handshake *h)
{
	assert(h->phase == PHASE_READY);
	return &h->agreement;
}

const char *nr_client_handshake_reason(const struct nr_client_handshake *h)
{
	return h->reason;
}

int nr_client_handshake_error(const struct nr_client_handshake *h)
{
	return h->error;
}
