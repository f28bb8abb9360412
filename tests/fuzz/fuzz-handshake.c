/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Fuzz target: a client's bytes into a handshake.
 *
 * Bytes 0 and 1 choose the configuration, byte 2 how the input is cut, byte 3 what the
 * exports are; the rest is what the client sends.  The same bytes are fed whole and in
 * pieces while answers leave slowly: answers, end and bytes left over must be the same.
 * No more may wait to be sent, and no more of an option may be kept, than the handshake
 * promises, and what is sent is what a client can take apart.  TLS, where it is begun, is
 * taken to be there at once: what follows came through it.
 */
#include "nbdring/checked.h"
#include "src/protocol/haggling.h"
#include "src/protocol/handshake.h"
#include "src/protocol/text.h"
#include "src/protocol/wire.h"
#include "tests/fuzz/fuzz.h"

#define CHOICE_BYTES 4
#define REPLY_BYTES 20u
#define GREETING_BYTES 18u
#define ZEROES 124u

/* Beside what one option may leave waiting. */
#define WAITING_MAX (NR_HANDSHAKE_BACKLOG + 4 * NBD_STRING_MAX)

static const char *const contexts[NR_CONTEXTS_MAX] = {
	NBD_BASE_ALLOCATION,
	"qemu:dirty-bitmap:b0",
	"qemu:dirty-bitmap:b1",
	"qemu:allocation-depth",
	"x-a:b",
	"x-a:c",
	"x-a:d",
	"x-a:e",
	"x-a:f",
	"x-a:g",
	"x-a:h",
	"x-a:i",
	"x-a:j",
	"x-a:k",
	"x-a:l",
	"x-a:m",
};

/* The owner's side. */
struct owner {
	struct nr_handshake_config config;
	struct nr_export_info info;
	unsigned context_count;
	bool describes;
	unsigned listed;       /* exports in the list */
	uint32_t list_refusal; /* 0, or how a list ends */
	bool stopping;         /* the server is going down */
};

/* What was said and how it ended. */
struct outcome {
	enum nr_handshake_state state;
	size_t used;
	uint8_t *said;
	size_t said_bytes;
	bool slowly;    /* not all is sent that could be */
	bool encrypted; /* what is left of the input came through TLS */
	struct nr_agreement agreement;
};

/* The export "a…" and the default one exist; "r…" is refused by policy, "s…" needs TLS. */
static enum nr_handshake_state answer(const struct owner *owner, struct nr_handshake *h)
{
	struct nr_export_answer a = { .refusal = NBD_REP_ERR_UNKNOWN };
	enum nr_export_purpose purpose;
	const char *name = nr_handshake_wanted(h, &purpose);

	assert(nbd_text_ok((const uint8_t *)name, strlen(name)));
	if (name[0] == 's')
		a.refusal = NBD_REP_ERR_TLS_REQD;
	else if (name[0] == 'r')
		a = (struct nr_export_answer){ .refusal = NBD_REP_ERR_POLICY, .text = "no" };
	else if (name[0] == '\0' || name[0] == 'a')
		a = (struct nr_export_answer){
			.info = &owner->info,
			.canonical_name = name[0] ? NULL : "a",
			.description = owner->describes ? "an export" : NULL,
			.contexts = contexts,
			.context_count = owner->context_count,
		};
	return nr_handshake_export_is(h, &a);
}

static enum nr_handshake_state list(const struct owner *owner, struct nr_handshake *h)
{
	for (unsigned i = 0; i < owner->listed; i++)
		nr_handshake_list_entry(h, i % 2 ? "an export with a name of some length" : "a",
					owner->describes ? "an export" : NULL);
	return nr_handshake_list_end(h, owner->list_refusal,
				     owner->list_refusal ? "not now" : NULL);
}

/* Send what waits, or, as a slow connection does, a part of it. */
static void send_out(struct nr_handshake *h, struct outcome *o, bool slowly)
{
	size_t length;
	const uint8_t *out = nr_handshake_output(h, &length);
	uint8_t *more;

	assert(length <= WAITING_MAX + NR_HANDSHAKE_LIST_MAX);
	if (slowly)
		length -= length / 3;
	if (length == 0)
		return;
	more = realloc(o->said, o->said_bytes + length);
	assert(more);
	memcpy(more + o->said_bytes, out, length);
	o->said = more;
	o->said_bytes += length;
	nr_handshake_sent(h, length);
}

static void settle(const struct owner *owner, struct nr_handshake *h, struct outcome *o)
{
	bool listed = false;
	size_t length;

	while (o->state == NR_HANDSHAKE_EXPORT || o->state == NR_HANDSHAKE_LIST ||
	       o->state == NR_HANDSHAKE_STARTTLS) {
		listed = listed || o->state == NR_HANDSHAKE_LIST;
		if (o->state == NR_HANDSHAKE_STARTTLS) {
			assert(owner->config.tls != NR_TLS_OFF);
			assert(!o->encrypted);
			o->encrypted = true;
			o->state = nr_handshake_encrypted(h);
		} else {
			o->state =
				o->state == NR_HANDSHAKE_EXPORT ? answer(owner, h) : list(owner, h);
		}
	}
	(void)nr_handshake_output(h, &length);
	assert(listed || length <= WAITING_MAX);
	assert(h->payload.end - h->payload.begin <= NR_HANDSHAKE_PAYLOAD_MAX);
	assert(h->payload.capacity <= 2 * NR_HANDSHAKE_PAYLOAD_MAX);
	send_out(h, o, o->slowly);
}

/* Feed DATA in pieces of PIECE bytes, each in memory of its own size. */
static struct outcome talk(const struct owner *owner, const uint8_t *data, size_t size,
			   size_t piece, bool slowly)
{
	struct nr_handshake *h = nr_handshake_create(&owner->config);
	struct outcome o = { .said = NULL, .slowly = slowly };
	size_t used, waiting;

	assert(h);
	if (owner->stopping)
		nr_handshake_shutdown(h);
	o.state = nr_handshake_feed(h, NULL, 0, &used);
	settle(owner, h, &o);
	for (size_t at = 0; at < size && o.state == NR_HANDSHAKE_MORE;) {
		size_t n = nr_min(piece, size - at), done = 0;
		uint8_t *copy = fuzz_copy(data + at, n);

		while (done < n && o.state == NR_HANDSHAKE_MORE) {
			o.state = nr_handshake_feed(h, copy + done, n - done, &used);
			assert(used <= n - done);
			/* Nothing taken means that too much waits to be sent. */
			(void)nr_handshake_output(h, &waiting);
			assert(used > 0 || o.state != NR_HANDSHAKE_MORE ||
			       waiting > NR_HANDSHAKE_BACKLOG);
			done += used;
			settle(owner, h, &o);
		}
		o.used += done;
		at += done;
		free(copy);
	}
	send_out(h, &o, false);
	if (o.state == NR_HANDSHAKE_READY)
		o.agreement = *nr_handshake_agreement(h);
	if (o.state == NR_HANDSHAKE_DROP)
		assert(nr_handshake_reason(h));
	nr_handshake_destroy(h);
	return o;
}

/* The replies as a client reads them; what is behind the last one is the answer to EXPORT_NAME. */
static void check_said(const struct owner *owner, const struct outcome *o)
{
	size_t at = GREETING_BYTES, left;

	if (owner->config.oldstyle) {
		assert(o->said_bytes == 0 || o->said_bytes == 152);
		return;
	}
	assert(o->said_bytes >= GREETING_BYTES);
	assert(nbd_get64(o->said) == NBD_MAGIC);
	assert(nbd_get64(o->said + 8) == NBD_IHAVEOPT);
	assert(!(nbd_get16(o->said + 16) & ~owner->config.flags_mask));
	while (o->said_bytes - at >= REPLY_BYTES &&
	       nbd_get64(o->said + at) == NBD_OPTION_REPLY_MAGIC) {
		uint32_t type = nbd_get32(o->said + at + 12), length = nbd_get32(o->said + at + 16);

		assert((type >= NBD_REP_ACK && type <= NBD_REP_META_CONTEXT) ||
		       (type > NBD_REP_ERR_BIT && type <= NBD_REP_ERR_EXT_HEADER_REQD));
		assert(length <= 2 * NBD_STRING_MAX + 8);
		assert(type != NBD_REP_ACK || length == 0);
		at += REPLY_BYTES;
		assert(length <= o->said_bytes - at);
		if (type & NBD_REP_ERR_BIT)
			assert(nbd_text_ok(o->said + at, length));
		at += length;
	}
	left = o->said_bytes - at;
	if (o->state == NR_HANDSHAKE_READY)
		assert(left == 0 || left == 10 || left == 10 + ZEROES);
	else
		assert(left == 0);
}

static void check_agreement(const struct owner *owner, const struct nr_agreement *a, bool encrypted)
{
	assert(a->info.size == owner->info.size);
	assert(a->info.block_min == owner->info.block_min);
	assert(a->info.flags & NBD_FLAG_HAS_FLAGS);
	assert(a->reply_style <= NR_REPLY_EXTENDED);
	assert(a->reply_style == NR_REPLY_SIMPLE || !owner->config.no_structured);
	assert(a->contexts == 0 || a->reply_style != NR_REPLY_SIMPLE);
	assert(a->contexts == 0 || !owner->config.no_contexts);
	assert(a->contexts >> owner->context_count == 0);
	if (a->info.flags & NBD_FLAG_SEND_DF)
		assert(a->reply_style != NR_REPLY_SIMPLE);
	if (a->info.flags & NBD_FLAG_BLOCK_STATUS_PAYLOAD)
		assert(a->reply_style == NR_REPLY_EXTENDED);
	if (owner->config.oldstyle)
		assert(a->reply_style == NR_REPLY_SIMPLE);
	else
		assert(encrypted || owner->config.tls != NR_TLS_REQUIRED);
}

static bool same_agreement(const struct nr_agreement *a, const struct nr_agreement *b)
{
	return a->info.size == b->info.size && a->info.flags == b->info.flags &&
	       a->info.block_min == b->info.block_min && a->reply_style == b->reply_style &&
	       a->asked_block_size == b->asked_block_size && a->contexts == b->contexts;
}

static struct owner make_owner(const uint8_t *data)
{
	struct owner owner = {
		.config = {
			.oldstyle = (data[0] & 0x81) == 0x81,
			.flags_mask = (uint16_t)((data[0] >> 1 & 3) ^ 3),
			.no_structured = data[0] & 8,
			.no_contexts = data[0] & 16,
			.no_list = data[0] & 32,
			.tls = (enum nr_tls_mode)((data[1] >> 4 & 3) % 3),
		},
		.info = {
			.size = data[3] & 1 ? NR_SIZE_MAX : UINT64_C(1) << 30,
			.flags = (uint16_t)(NBD_FLAG_HAS_FLAGS | (data[3] & 2 ? 0x0f7e : NBD_FLAG_SEND_FUA)),
			.block_min = data[3] & 4 ? 1 : 512,
			.block_preferred = 4096,
			.block_max = data[3] & 8 ? 1u << 20 : 1u << 25,
		},
		.context_count = data[3] >> 4 ? (data[3] >> 4) + 1 : 0,
		.describes = data[1] & 1,
		.listed = data[1] & 2 ? 300 : data[1] >> 6,
		.list_refusal = data[1] & 4 ? NBD_REP_ERR_POLICY : 0,
		.stopping = data[1] & 8,
	};

	return owner;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct owner owner;
	struct outcome whole, cut;

	if (size <= CHOICE_BYTES)
		return 0;
	owner = make_owner(data);
	whole = talk(&owner, data + CHOICE_BYTES, size - CHOICE_BYTES, size, false);
	cut = talk(&owner, data + CHOICE_BYTES, size - CHOICE_BYTES, 1 + data[2] % 143, true);
	check_said(&owner, &whole);
	if (whole.state == NR_HANDSHAKE_READY)
		check_agreement(&owner, &whole.agreement, whole.encrypted);
	assert(whole.state == cut.state);
	assert(whole.used == cut.used);
	assert(whole.encrypted == cut.encrypted);
	assert(whole.said_bytes == cut.said_bytes);
	assert(whole.said_bytes == 0 || memcmp(whole.said, cut.said, whole.said_bytes) == 0);
	assert(same_agreement(&whole.agreement, &cut.agreement));
	free(whole.said);
	free(cut.said);
	return 0;
}
