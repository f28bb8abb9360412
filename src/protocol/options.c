/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The options a client may send, one function each, found through one table.
 *
 * A handler runs when the option and its payload are complete and its length is
 * one that the table allows; it answers, or asks the owner for an export.  What
 * the owner says arrives in the option's `answer` function.
 */
#include <assert.h>

#include "nbdring/limits.h"
#include "src/protocol/haggling.h"
#include "src/protocol/text.h"

#define EXPORT_NAME_ZEROES 124u /* reserved bytes at the end of the older answers */

/* What the table calls "any length" and "as much as is kept". */
#define ANY_LENGTH UINT32_MAX
#define KEPT_LENGTH NR_HANDSHAKE_PAYLOAD_MAX

/* "Transmission flags": those of the export, and those that the haggling decides. */
static uint16_t transmission_flags(const struct nr_handshake *h, const struct nr_export_info *info)
{
	unsigned ours = NBD_FLAG_SEND_DF | NBD_FLAG_BLOCK_STATUS_PAYLOAD;
	unsigned flags = (info->flags & ~ours) | NBD_FLAG_HAS_FLAGS;

	if (h->style != NR_REPLY_SIMPLE)
		flags |= NBD_FLAG_SEND_DF;
	/* extension-ext-header: only with extended headers, and with contexts to choose from */
	if (h->style == NR_REPLY_EXTENDED && nr_haggle_contexts_of(h, h->wanted))
		flags |= NBD_FLAG_BLOCK_STATUS_PAYLOAD;
	return (uint16_t)flags;
}

/* Write down what was agreed, and enter transmission. */
static void agree(struct nr_handshake *h, const struct nr_export_info *info)
{
	h->agreement = (struct nr_agreement){
		.info = *info,
		.reply_style = (uint8_t)h->style,
		.asked_block_size = h->asked_infos & (1u << NBD_INFO_BLOCK_SIZE),
		.contexts = nr_haggle_contexts_of(h, h->wanted),
	};
	h->agreement.info.flags = transmission_flags(h, info);
	h->begun = true; /* oldstyle: the client need not say a word */
	nr_haggle_ready(h);
}

/*
 * "Oldstyle negotiation":
 *   [0..7]   NBDMAGIC   [8..15] the oldstyle magic   [16..23] size
 *   [24..27] flags; no handshake flags above the transmission flags
 *   [28..151] zeroes
 */
void nr_haggle_answer_oldstyle(struct nr_handshake *h, const struct nr_export_answer *answer)
{
	const struct nr_export_info *info = answer->info;
	uint8_t *p;

	if (!info) {
		nr_haggle_drop(h, "the default export was refused");
		return;
	}
	p = nr_haggle_output(h, 28 + EXPORT_NAME_ZEROES);
	if (!p)
		return;
	p = nbd_put64(p, NBD_MAGIC);
	p = nbd_put64(p, NBD_OLDSTYLE_MAGIC);
	p = nbd_put64(p, info->size);
	p = nbd_put32(p, transmission_flags(h, info));
	memset(p, 0, EXPORT_NAME_ZEROES);
	agree(h, info);
}

/*
 * "NBD_OPT_EXPORT_NAME":
 *   the whole payload is the name
 */
static void handle_export_name(struct nr_handshake *h)
{
	size_t length = h->payload.end;

	/* extension-ext-header: the client MUST NOT use it then. */
	if (h->style == NR_REPLY_EXTENDED) {
		nr_haggle_drop(h, "EXPORT_NAME after EXTENDED_HEADERS");
		return;
	}
	if (!nbd_text_ok(h->payload.at, length)) {
		nr_haggle_drop(h, "EXPORT_NAME with an illegal name");
		return;
	}
	h->asked_infos = 0;
	nr_haggle_ask(h, NR_EXPORT_GO, h->payload.at, length);
}

/*
 * "Newstyle negotiation", the answer to EXPORT_NAME:
 *   [0..7] size   [8..9] flags   [10..133] zeroes, unless both sides said NO_ZEROES
 */
static void answer_export_name(struct nr_handshake *h, const struct nr_export_answer *answer)
{
	const struct nr_export_info *info = answer->info;
	size_t zeroes = h->no_zeroes ? 0 : EXPORT_NAME_ZEROES;
	uint8_t *p;

	if (!info) {
		nr_haggle_drop(h, "EXPORT_NAME for an export that was refused");
		return;
	}
	p = nr_haggle_output(h, 10 + zeroes);
	if (!p)
		return;
	p = nbd_put64(p, info->size);
	p = nbd_put16(p, transmission_flags(h, info));
	memset(p, 0, zeroes);
	agree(h, info);
}

/* "NBD_OPT_ABORT": whatever came with it is ignored. */
static void handle_abort(struct nr_handshake *h)
{
	nr_haggle_ack(h);
	nr_haggle_close(h);
}

static void handle_list(struct nr_handshake *h)
{
	if (h->config.no_list)
		nr_haggle_refuse(h, NBD_REP_ERR_POLICY, "listing is disabled");
	else
		nr_haggle_ask_list(h);
}

/* "NBD_OPT_STARTTLS" */
static void handle_starttls(struct nr_handshake *h)
{
	if (h->config.tls == NR_TLS_OFF) {
		nr_haggle_refuse(h, NBD_REP_ERR_UNSUP, "this server does not offer TLS");
	} else if (h->encrypted) {
		nr_haggle_refuse(h, NBD_REP_ERR_INVALID, "TLS is in use already");
	} else {
		nr_haggle_ack(h);
		nr_haggle_starttls(h);
	}
}

/*
 * "NBD_OPT_INFO and NBD_OPT_GO":
 *   [0..3] length n of the name   [4..] name   [4+n..] count of requests (2 bytes)
 *   then the requests, 2 bytes each
 */
static void handle_info(struct nr_handshake *h)
{
	struct nr_haggle_reader r = nr_haggle_read(h);
	const uint8_t *name;
	uint32_t length;
	uint16_t count, request;

	if (!nr_haggle_read_string(&r, &name, &length) || !nr_haggle_read16(&r, &count) ||
	    r.left != count * sizeof(request)) {
		nr_haggle_refuse(h, NBD_REP_ERR_INVALID, "the lengths do not add up");
		return;
	}
	if (!nbd_text_ok(name, length)) {
		nr_haggle_refuse(h, NBD_REP_ERR_INVALID,
				 "the name is not UTF-8, has a NUL, or is over 4096 bytes");
		return;
	}
	h->asked_infos = 0;
	while (nr_haggle_read16(&r, &request)) {
		if (request <= NBD_INFO_BLOCK_SIZE)
			h->asked_infos |= 1u << request;
	}
	nr_haggle_ask(h, h->code == NBD_OPT_GO ? NR_EXPORT_GO : NR_EXPORT_INFO, name, length);
}

/*
 * "NBD_INFO_EXPORT":
 *   [0..1] type   [2..9] size   [10..11] flags
 */
static void send_info_export(struct nr_handshake *h, const struct nr_export_info *info)
{
	uint8_t *p = nr_haggle_reply(h, NBD_REP_INFO, 12);

	if (!p)
		return;
	p = nbd_put16(p, NBD_INFO_EXPORT);
	p = nbd_put64(p, info->size);
	nbd_put16(p, transmission_flags(h, info));
}

/*
 * "NBD_INFO_NAME", "NBD_INFO_DESCRIPTION":
 *   [0..1] type   [2..] string
 */
static void send_info_string(struct nr_handshake *h, uint16_t type, const char *string)
{
	size_t length = nbd_text_cut(string, NBD_STRING_MAX);
	uint8_t *p;

	if (!string || (length == 0 && string[0] != '\0'))
		return;
	p = nr_haggle_reply(h, NBD_REP_INFO, sizeof(type) + length);
	if (!p)
		return;
	p = nbd_put16(p, type);
	nr_haggle_put(p, string, length);
}

/*
 * "NBD_INFO_BLOCK_SIZE":
 *   [0..1] type   [2..5] minimum   [6..9] preferred   [10..13] maximum
 */
static void send_info_block_size(struct nr_handshake *h, const struct nr_export_info *info)
{
	uint8_t *p = nr_haggle_reply(h, NBD_REP_INFO, 14);

	if (!p)
		return;
	p = nbd_put16(p, NBD_INFO_BLOCK_SIZE);
	p = nbd_put32(p, info->block_min);
	p = nbd_put32(p, info->block_preferred);
	nbd_put32(p, info->block_max);
}

/* Are these the sizes that a client assumes who is not told any ("Size constraints")? */
static bool default_sizes(const struct nr_export_info *info)
{
	return info->block_min == 1 && info->block_preferred == NR_BLOCK_PREFERRED_DEFAULT &&
	       info->block_max >= NR_PAYLOAD_MAX;
}

/* INFO and GO get the same information; only GO goes on to transmission. */
static void answer_info(struct nr_handshake *h, const struct nr_export_answer *answer)
{
	const struct nr_export_info *info = answer->info;

	if (!info) {
		nr_haggle_refuse(h, answer->refusal, answer->text);
		return;
	}
	send_info_export(h, info);
	if (h->asked_infos & (1u << NBD_INFO_NAME))
		send_info_string(h, NBD_INFO_NAME,
				 answer->canonical_name ? answer->canonical_name : h->wanted);
	if (h->asked_infos & (1u << NBD_INFO_DESCRIPTION))
		send_info_string(h, NBD_INFO_DESCRIPTION, answer->description);
	if ((h->asked_infos & (1u << NBD_INFO_BLOCK_SIZE)) || !default_sizes(info))
		send_info_block_size(h, info);
	nr_haggle_ack(h);
	if (h->code == NBD_OPT_GO)
		agree(h, info);
}

/* "NBD_OPT_STRUCTURED_REPLY"; asking again changes nothing. */
static void handle_structured_reply(struct nr_handshake *h)
{
	if (h->style == NR_REPLY_EXTENDED) {
		nr_haggle_refuse(h, NBD_REP_ERR_EXT_HEADER_REQD,
				 "extended headers are in use already");
		return;
	}
	h->style = NR_REPLY_STRUCTURED;
	nr_haggle_ack(h);
}

/* "NBD_OPT_EXTENDED_HEADERS" (extension-ext-header); structured replies need not come first. */
static void handle_extended_headers(struct nr_handshake *h)
{
	h->style = NR_REPLY_EXTENDED;
	nr_haggle_ack(h);
}

/* Option 4 is withdrawn and stays unknown.  The order is the protocol's. */
static const struct nr_haggle_option options[] = {
	/* code, shortest and longest payload, keep it?, handler, answer */
	{ NBD_OPT_EXPORT_NAME, 0, NBD_STRING_MAX, true, handle_export_name, answer_export_name },
	{ NBD_OPT_ABORT, 0, ANY_LENGTH, false, handle_abort, NULL },
	{ NBD_OPT_LIST, 0, 0, false, handle_list, NULL },
	{ NBD_OPT_STARTTLS, 0, 0, false, handle_starttls, NULL },
	{ NBD_OPT_INFO, 6, KEPT_LENGTH, true, handle_info, answer_info },
	{ NBD_OPT_GO, 6, KEPT_LENGTH, true, handle_info, answer_info },
	{ NBD_OPT_STRUCTURED_REPLY, 0, 0, false, handle_structured_reply, NULL },
	{ NBD_OPT_LIST_META_CONTEXT, 8, KEPT_LENGTH, true, nr_haggle_list_contexts,
	  nr_haggle_answer_list_contexts },
	{ NBD_OPT_SET_META_CONTEXT, 8, KEPT_LENGTH, true, nr_haggle_set_contexts,
	  nr_haggle_answer_set_contexts },
	{ NBD_OPT_EXTENDED_HEADERS, 0, 0, false, handle_extended_headers, NULL },
};

/* Options that the configuration makes unknown. */
static bool hidden(const struct nr_handshake_config *config, uint32_t code)
{
	switch (code) {
	case NBD_OPT_STRUCTURED_REPLY:
	case NBD_OPT_EXTENDED_HEADERS:
		return config->no_structured;
	case NBD_OPT_LIST_META_CONTEXT:
	case NBD_OPT_SET_META_CONTEXT:
		return config->no_contexts;
	default:
		return false;
	}
}

const struct nr_haggle_option *nr_haggle_find_option(const struct nr_handshake *h, uint32_t code)
{
	if (hidden(&h->config, code))
		return NULL;
	for (size_t i = 0; i < sizeof(options) / sizeof(options[0]); i++) {
		if (options[i].code == code)
			return &options[i];
	}
	return NULL;
}
