/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Metadata contexts while haggling: LIST_META_CONTEXT and SET_META_CONTEXT.
 *
 * Both carry an export's name and queries (protocol, "Metadata querying").  The
 * whole payload is checked before anything is asked or answered; it stays where
 * it is while the owner looks up the export, and the queries are read from it
 * again to match them against the contexts that the export has.
 *
 * Queries for contexts or namespaces we do not know are ignored, also one
 * without a colon: it belongs to no namespace.
 */
#include <assert.h>
#include <stdlib.h>

#include "src/protocol/haggling.h"
#include "src/protocol/text.h"

/*
 * The payload of both options:
 *   [0..3] length n of the export's name   [4..] name   [4+n..] count of queries (4 bytes)
 *   then the queries: length (4 bytes), query
 *
 * Reads up to the first query.
 */
static bool read_head(struct nr_haggle_reader *r, const uint8_t **name, uint32_t *length,
		      uint32_t *count)
{
	return nr_haggle_read_string(r, name, length) && nr_haggle_read32(r, count);
}

/* NULL, or what is wrong with the payload. */
static const char *check_payload(const struct nr_handshake *h)
{
	struct nr_haggle_reader r = nr_haggle_read(h);
	const uint8_t *string;
	uint32_t length, count;

	if (!read_head(&r, &string, &length, &count))
		return "the lengths do not add up";
	if (!nbd_text_ok(string, length))
		return "the name is not UTF-8, has a NUL, or is over 4096 bytes";
	for (uint32_t i = 0; i < count; i++) {
		if (!nr_haggle_read_string(&r, &string, &length))
			return "the lengths do not add up";
		if (!nbd_text_ok(string, length))
			return "a query is not UTF-8, has a NUL, or is over 4096 bytes";
	}
	return r.left > 0 ? "the lengths do not add up" : NULL;
}

static void ask_for_contexts(struct nr_handshake *h)
{
	struct nr_haggle_reader r = nr_haggle_read(h);
	const char *fault = check_payload(h);
	const uint8_t *name;
	uint32_t length;

	if (fault || !nr_haggle_read_string(&r, &name, &length)) {
		nr_haggle_refuse(h, NBD_REP_ERR_INVALID, fault);
		return;
	}
	nr_haggle_ask(h, NR_EXPORT_CONTEXTS, name, length);
}

/* "NBD_OPT_LIST_META_CONTEXT"; served also to clients without structured replies. */
void nr_haggle_list_contexts(struct nr_handshake *h)
{
	ask_for_contexts(h);
}

/* "NBD_OPT_SET_META_CONTEXT"; the previous selection is forgotten already. */
void nr_haggle_set_contexts(struct nr_handshake *h)
{
	assert(!h->selection.export_name);
	if (h->style == NR_REPLY_SIMPLE) {
		nr_haggle_refuse(h, NBD_REP_ERR_INVALID,
				 "negotiate structured replies or extended headers first");
		return;
	}
	ask_for_contexts(h);
}

/*
 * Does QUERY select CONTEXT?  By its full name; when listing also by its
 * namespace and colon ("The base: metadata namespace").
 */
static bool matches(const uint8_t *query, size_t length, const char *context, bool listing)
{
	const char *colon = strchr(context, ':');
	size_t name_length = strlen(context);

	if (length == name_length && memcmp(query, context, length) == 0)
		return true;
	return listing && colon && length == (size_t)(colon - context) + 1 &&
	       memcmp(query, context, length) == 0;
}

/* Is CONTEXT among what the client asked for? */
static bool asked_for(const struct nr_handshake *h, const char *context, bool listing)
{
	struct nr_haggle_reader r = nr_haggle_read(h);
	const uint8_t *string;
	uint32_t length, count;

	if (!read_head(&r, &string, &length, &count))
		return false;
	if (listing && count == 0)
		return true;
	for (uint32_t i = 0; i < count; i++) {
		if (!nr_haggle_read_string(&r, &string, &length))
			return false;
		if (matches(string, length, context, listing))
			return true;
	}
	return false;
}

/*
 * "NBD_REP_META_CONTEXT":
 *   [0..3] id   [4..] name
 */
static void send_context(struct nr_handshake *h, uint32_t id, const char *name)
{
	size_t length = strlen(name);
	uint8_t *p = nr_haggle_reply(h, NBD_REP_META_CONTEXT, sizeof(id) + length);

	if (!p)
		return;
	p = nbd_put32(p, id);
	nr_haggle_put(p, name, length);
}

void nr_haggle_answer_list_contexts(struct nr_handshake *h, const struct nr_export_answer *answer)
{
	if (!answer->info) {
		nr_haggle_refuse(h, answer->refusal, answer->text);
		return;
	}
	for (unsigned i = 0; i < answer->context_count; i++) {
		if (asked_for(h, answer->contexts[i], true))
			send_context(h, 0, answer->contexts[i]);
	}
	nr_haggle_ack(h);
}

/* FNV-1a, 64 bits: no defence, the names are the server's own. */
static uint64_t hash_names(const struct nr_export_answer *answer)
{
	uint64_t hash = UINT64_C(0xcbf29ce484222325);

	for (unsigned i = 0; i < answer->context_count; i++)
		for (const char *p = answer->contexts[i];; p++) {
			hash = (hash ^ (uint8_t)*p) * UINT64_C(0x100000001b3);
			if (!*p)
				break;
		}
	return hash;
}

void nr_haggle_answer_set_contexts(struct nr_handshake *h, const struct nr_export_answer *answer)
{
	uint16_t selected = 0;

	if (!answer->info) {
		nr_haggle_refuse(h, answer->refusal, answer->text);
		return;
	}
	for (unsigned i = 0; i < answer->context_count; i++) {
		if (!asked_for(h, answer->contexts[i], false))
			continue;
		send_context(h, i + 1, answer->contexts[i]);
		selected |= (uint16_t)(1u << i);
	}
	nr_haggle_ack(h);

	h->selection.contexts = selected;
	h->selection.names = hash_names(answer);
	h->selection.export_name = h->wanted;
	h->wanted = NULL;
}

void nr_haggle_forget_contexts(struct nr_handshake *h)
{
	free(h->selection.export_name);
	h->selection.export_name = NULL;
	h->selection.contexts = 0;
}

/*
 * The export may have been closed and opened since the contexts were selected, and have
 * others now: what the bits stood for is gone then.
 */
void nr_haggle_compare_contexts(struct nr_handshake *h, const struct nr_export_answer *answer)
{
	if (answer->info && h->wanted && nr_haggle_contexts_of(h, h->wanted) &&
	    h->selection.names != hash_names(answer))
		nr_haggle_forget_contexts(h);
}

/* "Metadata querying": usable only with the export that was named when selecting. */
uint16_t nr_haggle_contexts_of(const struct nr_handshake *h, const char *name)
{
	if (!h->selection.export_name || strcmp(h->selection.export_name, name) != 0)
		return 0;
	return h->selection.contexts;
}
