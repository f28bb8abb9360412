/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Fuzz target: a client's bytes into a handshake.
 *
 * Byte 0 chooses the configuration, byte 1 how the input is cut; the rest is
 * what the client sends.  The same bytes are fed whole and in pieces: answers,
 * end and bytes left over must be the same, and no more output may wait than
 * the handshake promises.
 *
 *   clang -g -fsanitize=fuzzer,address,undefined -I. -Iinclude \
 *           tests/fuzz/fuzz-handshake.c and the .c files of src/protocol
 */
#undef NDEBUG
#include <assert.h>
#include <stdlib.h>

#include "src/protocol/handshake.h"
#include "src/protocol/wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *const contexts[] = { NBD_BASE_ALLOCATION, "qemu:dirty-bitmap:b0" };

/* What was said and how it ended. */
struct outcome {
	enum nr_handshake_state state;
	size_t used, said;
	uint64_t hash; /* of all output */
	struct nr_agreement agreement;
};

/* The export "a" and the default one exist; "r" is refused by policy. */
static enum nr_handshake_state answer(struct nr_handshake *h)
{
	static const struct nr_export_info info = { 1u << 30, NBD_FLAG_SEND_FUA, 512, 4096,
						    1u << 25 };
	struct nr_export_answer a = { .refusal = NBD_REP_ERR_UNKNOWN };
	enum nr_export_purpose purpose;
	const char *name = nr_handshake_wanted(h, &purpose);

	if (name[0] == 'r')
		a = (struct nr_export_answer){ .refusal = NBD_REP_ERR_POLICY, .text = "no" };
	else if (name[0] == '\0' || name[0] == 'a')
		a = (struct nr_export_answer){
			.info = &info,
			.canonical_name = name[0] ? NULL : "a",
			.description = "an export",
			.contexts = contexts,
			.context_count = 2,
		};
	return nr_handshake_export_is(h, &a);
}

static void settle(struct nr_handshake *h, struct outcome *o)
{
	const uint8_t *out;
	size_t length;

	while (o->state == NR_HANDSHAKE_EXPORT || o->state == NR_HANDSHAKE_LIST) {
		if (o->state == NR_HANDSHAKE_EXPORT) {
			o->state = answer(h);
			continue;
		}
		nr_handshake_list_entry(h, "a", "an export");
		nr_handshake_list_entry(h, "r", NULL);
		o->state = nr_handshake_list_end(h, 0, NULL);
	}
	out = nr_handshake_output(h, &length);
	assert(length <= NR_HANDSHAKE_BACKLOG + 4 * NBD_STRING_MAX);
	for (size_t i = 0; i < length; i++)
		o->hash = (o->hash ^ out[i]) * UINT64_C(0x100000001b3);
	o->said += length;
	nr_handshake_sent(h, length);
}

/* Feed DATA in pieces of PIECE bytes, each in memory of its own size. */
static struct outcome talk(const struct nr_handshake_config *config, const uint8_t *data,
			   size_t size, size_t piece)
{
	struct nr_handshake *h = nr_handshake_create(config);
	struct outcome o = { .hash = UINT64_C(0xcbf29ce484222325) };
	size_t used;

	assert(h);
	o.state = nr_handshake_feed(h, NULL, 0, &used);
	settle(h, &o);
	for (size_t at = 0; at < size && o.state == NR_HANDSHAKE_MORE; at += piece) {
		size_t n = piece < size - at ? piece : size - at, done = 0;
		uint8_t *copy = malloc(n);

		assert(copy);
		memcpy(copy, data + at, n);
		while (done < n && o.state == NR_HANDSHAKE_MORE) {
			o.state = nr_handshake_feed(h, copy + done, n - done, &used);
			assert(used <= n - done);
			done += used;
			settle(h, &o);
		}
		o.used += done;
		free(copy);
	}
	if (o.state == NR_HANDSHAKE_READY)
		o.agreement = *nr_handshake_agreement(h);
	if (o.state == NR_HANDSHAKE_DROP)
		assert(nr_handshake_reason(h));
	nr_handshake_destroy(h);
	return o;
}

static bool same_agreement(const struct nr_agreement *a, const struct nr_agreement *b)
{
	return a->info.size == b->info.size && a->info.flags == b->info.flags &&
	       a->info.block_min == b->info.block_min && a->reply_style == b->reply_style &&
	       a->asked_block_size == b->asked_block_size && a->contexts == b->contexts;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct nr_handshake_config config;
	struct outcome whole, cut;

	if (size < 3)
		return 0;
	config = (struct nr_handshake_config){
		.oldstyle = (data[0] & 0x81) == 0x81,
		.flags_mask = (uint16_t)((data[0] >> 1 & 3) ^ 3),
		.no_structured = data[0] & 8,
		.no_contexts = data[0] & 16,
		.no_list = data[0] & 32,
	};
	whole = talk(&config, data + 2, size - 2, size);
	cut = talk(&config, data + 2, size - 2, 1 + data[1] % 143);
	assert(whole.state == cut.state);
	assert(whole.used == cut.used);
	assert(whole.said == cut.said);
	assert(whole.hash == cut.hash);
	assert(same_agreement(&whole.agreement, &cut.agreement));
	return 0;
}
