/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the handshake tests share: a client that writes scripts of bytes, an
 * owner that knows a handful of exports, and a reader that takes the server's
 * answers apart and fails on whatever is malformed.
 */
#ifndef TESTS_UNIT_TEST_HANDSHAKE_H
#define TESTS_UNIT_TEST_HANDSHAKE_H

#undef NDEBUG
#include <assert.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "src/protocol/handshake.h"
#include "src/protocol/wire.h"

/* ---- bytes ---- */

struct bytes {
	uint8_t *at;
	size_t length, capacity;
};

static inline uint8_t *bytes_add(struct bytes *b, const void *data, size_t length)
{
	if (b->length + length > b->capacity) {
		b->capacity = (b->length + length) * 2;
		b->at = realloc(b->at, b->capacity);
		assert_non_null(b->at);
	}
	if (length > 0 && length <= b->capacity && data)
		memcpy(b->at + b->length, data, length);
	b->length += length;
	return b->at + b->length - length;
}

static inline void bytes_add16(struct bytes *b, uint16_t v)
{
	uint8_t raw[2];

	nbd_put16(raw, v);
	bytes_add(b, raw, sizeof(raw));
}

static inline void bytes_add32(struct bytes *b, uint32_t v)
{
	uint8_t raw[4];

	nbd_put32(raw, v);
	bytes_add(b, raw, sizeof(raw));
}

static inline void bytes_add64(struct bytes *b, uint64_t v)
{
	uint8_t raw[8];

	nbd_put64(raw, v);
	bytes_add(b, raw, sizeof(raw));
}

static inline void bytes_free(struct bytes *b)
{
	free(b->at);
	*b = (struct bytes){ 0 };
}

/* ---- what a client says ---- */

#define BOTH_FLAGS (NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES)

static inline void say_flags(struct bytes *b, uint32_t flags)
{
	bytes_add32(b, flags);
}

static inline void say_header(struct bytes *b, uint32_t code, uint32_t length)
{
	bytes_add64(b, NBD_IHAVEOPT);
	bytes_add32(b, code);
	bytes_add32(b, length);
}

static inline void say(struct bytes *b, uint32_t code, const void *payload, size_t length)
{
	say_header(b, code, (uint32_t)length);
	bytes_add(b, payload, length);
}

/* INFO or GO for NAME with COUNT information requests. */
static inline void say_info(struct bytes *b, uint32_t code, const char *name, unsigned count, ...)
{
	va_list requests;

	say_header(b, code, (uint32_t)(4 + strlen(name) + 2 + 2 * count));
	bytes_add32(b, (uint32_t)strlen(name));
	bytes_add(b, name, strlen(name));
	bytes_add16(b, (uint16_t)count);
	va_start(requests, count);
	for (unsigned i = 0; i < count; i++)
		bytes_add16(b, (uint16_t)va_arg(requests, int));
	va_end(requests);
}

/* LIST_META_CONTEXT or SET_META_CONTEXT for NAME with COUNT queries. */
static inline void say_meta(struct bytes *b, uint32_t code, const char *name, unsigned count, ...)
{
	size_t header = b->length;
	va_list queries;

	say_header(b, code, 0);
	bytes_add32(b, (uint32_t)strlen(name));
	bytes_add(b, name, strlen(name));
	bytes_add32(b, count);
	va_start(queries, count);
	for (unsigned i = 0; i < count; i++) {
		const char *query = va_arg(queries, const char *);

		bytes_add32(b, (uint32_t)strlen(query));
		bytes_add(b, query, strlen(query));
	}
	va_end(queries);
	nbd_put32(b->at + header + 12, (uint32_t)(b->length - header - 16));
}

/* ---- what the owner knows ---- */

struct known_export {
	const char *name;
	struct nr_export_info info;
	const char *canonical_name, *description;
	unsigned context_count;
};

static const char *const export_contexts[] = { "base:allocation", "qemu:dirty-bitmap:b0",
					       "qemu:allocation-depth" };

/* The last context of every export is gone. */
static bool export_has_changed;

#define DISK_SIZE UINT64_C(0x123456789000)
#define DISK_FLAGS (NBD_FLAG_HAS_FLAGS | NBD_FLAG_SEND_FLUSH | NBD_FLAG_SEND_FUA)

/* "": the default export.  "blocky": sizes that a client should know of. */
static const struct known_export exports[] = {
	{ "", { DISK_SIZE, DISK_FLAGS, 1, 4096, 1u << 25 }, "disk", "the default one", 3 },
	{ "disk", { DISK_SIZE, DISK_FLAGS, 1, 4096, 1u << 25 }, NULL, NULL, 3 },
	{ "blocky", { 1u << 20, DISK_FLAGS, 512, 4096, 1u << 25 }, NULL, "blocks", 1 },
	{ "bare",
	  { 4096, NBD_FLAG_HAS_FLAGS | NBD_FLAG_READ_ONLY, 1, 4096, 1u << 25 },
	  NULL,
	  NULL,
	  0 },
};

static inline const struct known_export *find_export(const char *name)
{
	for (size_t i = 0; i < sizeof(exports) / sizeof(exports[0]); i++) {
		if (strcmp(exports[i].name, name) == 0)
			return &exports[i];
	}
	return NULL;
}

/* Answer the question H asks. */
static inline enum nr_handshake_state answer_export(struct nr_handshake *h)
{
	struct nr_export_answer answer = { .refusal = NBD_REP_ERR_UNKNOWN,
					   .text = "no such export" };
	enum nr_export_purpose purpose;
	const struct known_export *e = find_export(nr_handshake_wanted(h, &purpose));

	if (e) {
		answer = (struct nr_export_answer){
			.info = &e->info,
			.canonical_name = e->canonical_name,
			.description = e->description,
			.contexts = export_contexts,
			.context_count = e->context_count - (export_has_changed ? 1 : 0),
		};
	}
	return nr_handshake_export_is(h, &answer);
}

static inline enum nr_handshake_state answer_list(struct nr_handshake *h)
{
	for (size_t i = 0; i < sizeof(exports) / sizeof(exports[0]); i++)
		nr_handshake_list_entry(h, exports[i].name, exports[i].description);
	return nr_handshake_list_end(h, 0, NULL);
}

/* ---- a conversation ---- */

struct talk {
	struct nr_handshake *h;
	enum nr_handshake_state state;
	size_t used;         /* input consumed so far */
	struct bytes output; /* all that the server said */
	size_t read;         /* of it that a test has looked at */
	unsigned questions;
};

static const struct nr_handshake_config plain_config = { .flags_mask = 0xffff };

static inline void talk_collect(struct talk *t)
{
	size_t length;
	const uint8_t *output = nr_handshake_output(t->h, &length);

	bytes_add(&t->output, output, length);
	nr_handshake_sent(t->h, length);
}

/* Answer whatever is asked, and take the output. */
static inline void talk_settle(struct talk *t)
{
	for (;;) {
		if (t->state == NR_HANDSHAKE_EXPORT)
			t->state = answer_export(t->h);
		else if (t->state == NR_HANDSHAKE_LIST)
			t->state = answer_list(t->h);
		else
			break;
		t->questions++;
	}
	talk_collect(t);
}

static inline struct talk talk_begin(const struct nr_handshake_config *config)
{
	struct talk t = { .h = nr_handshake_create(config) };
	size_t used;

	assert_non_null(t.h);
	t.state = nr_handshake_feed(t.h, NULL, 0, &used);
	assert_int_equal(used, 0);
	talk_settle(&t);
	return t;
}

static inline void talk_end(struct talk *t)
{
	nr_handshake_destroy(t->h);
	bytes_free(&t->output);
}

/* Feed DATA in one piece (more only where the handshake stops by itself). */
static inline void talk_feed(struct talk *t, const uint8_t *data, size_t length)
{
	size_t done = 0, used;

	while (done < length && t->state == NR_HANDSHAKE_MORE) {
		t->state = nr_handshake_feed(t->h, data + done, length - done, &used);
		assert_true(used <= length - done);
		done += used;
		talk_settle(t);
	}
	t->used += done;
}

/* Feed a script and throw it away. */
static inline void talk_say(struct talk *t, struct bytes *script)
{
	talk_feed(t, script->at, script->length);
	bytes_free(script);
}

/* ---- what the server answered ---- */

static inline const uint8_t *hear(struct talk *t, size_t length)
{
	assert_true(t->output.length - t->read >= length);
	t->read += length;
	return t->output.at + t->read - length;
}

static inline void hear_greeting(struct talk *t, uint16_t flags)
{
	const uint8_t *p = hear(t, 18);

	assert_true(nbd_get64(p) == NBD_MAGIC);
	assert_true(nbd_get64(p + 8) == NBD_IHAVEOPT);
	assert_int_equal(nbd_get16(p + 16), flags);
}

/* One option reply; returns its payload. */
static inline const uint8_t *hear_reply(struct talk *t, uint32_t code, uint32_t type,
					uint32_t *length)
{
	const uint8_t *p = hear(t, 20);

	assert_true(nbd_get64(p) == NBD_OPTION_REPLY_MAGIC);
	assert_int_equal(nbd_get32(p + 8), code);
	assert_int_equal(nbd_get32(p + 12), type);
	*length = nbd_get32(p + 16);
	return hear(t, *length);
}

static inline void hear_ack(struct talk *t, uint32_t code)
{
	uint32_t length;

	hear_reply(t, code, NBD_REP_ACK, &length);
	assert_int_equal(length, 0);
}

static inline void hear_error(struct talk *t, uint32_t code, uint32_t type)
{
	uint32_t length;

	hear_reply(t, code, type, &length);
	assert_true(length <= NBD_STRING_MAX);
}

static inline void hear_export(struct talk *t, uint32_t code, uint64_t size, uint16_t flags)
{
	uint32_t length;
	const uint8_t *p = hear_reply(t, code, NBD_REP_INFO, &length);

	assert_int_equal(length, 12);
	assert_int_equal(nbd_get16(p), NBD_INFO_EXPORT);
	assert_true(nbd_get64(p + 2) == size);
	assert_int_equal(nbd_get16(p + 10), flags);
}

static inline void hear_block_size(struct talk *t, uint32_t code, uint32_t min, uint32_t preferred,
				   uint32_t max)
{
	uint32_t length;
	const uint8_t *p = hear_reply(t, code, NBD_REP_INFO, &length);

	assert_int_equal(length, 14);
	assert_int_equal(nbd_get16(p), NBD_INFO_BLOCK_SIZE);
	assert_int_equal(nbd_get32(p + 2), min);
	assert_int_equal(nbd_get32(p + 6), preferred);
	assert_int_equal(nbd_get32(p + 10), max);
}

static inline void hear_string_info(struct talk *t, uint32_t code, uint16_t type,
				    const char *string)
{
	uint32_t length;
	const uint8_t *p = hear_reply(t, code, NBD_REP_INFO, &length);

	assert_int_equal(length, 2 + strlen(string));
	assert_int_equal(nbd_get16(p), type);
	assert_memory_equal(p + 2, string, strlen(string));
}

static inline void hear_context(struct talk *t, uint32_t code, uint32_t id, const char *name)
{
	uint32_t length;
	const uint8_t *p = hear_reply(t, code, NBD_REP_META_CONTEXT, &length);

	assert_int_equal(length, 4 + strlen(name));
	assert_int_equal(nbd_get32(p), id);
	assert_memory_equal(p + 4, name, strlen(name));
}

static inline void hear_nothing(struct talk *t)
{
	assert_int_equal(t->read, t->output.length);
}

/* A conversation in which greeting and flags are over. */
static inline struct talk talk_haggling(const struct nr_handshake_config *config)
{
	struct talk t = talk_begin(config);
	struct bytes script = { 0 };

	hear_greeting(&t, BOTH_FLAGS);
	say_flags(&script, BOTH_FLAGS);
	talk_say(&t, &script);
	assert_int_equal(t.state, NR_HANDSHAKE_MORE);
	return t;
}

/* The conversation goes on: the next option is understood. */
static inline void assert_in_step(struct talk *t)
{
	struct bytes script = { 0 };

	assert_int_equal(t->state, NR_HANDSHAKE_MORE);
	say(&script, NBD_OPT_PEEK_EXPORT, NULL, 0);
	talk_say(t, &script);
	hear_error(t, NBD_OPT_PEEK_EXPORT, NBD_REP_ERR_UNSUP);
	hear_nothing(t);
	assert_int_equal(t->state, NR_HANDSHAKE_MORE);
}

/* Say one option without payload, expect ACK. */
static inline void agree_on(struct talk *t, uint32_t code)
{
	struct bytes script = { 0 };

	say(&script, code, NULL, 0);
	talk_say(t, &script);
	hear_ack(t, code);
}

#endif
