/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * How the handshake speaks of exports: LIST, INFO, GO, sizes, reply styles and
 * the oldstyle greeting.  Each test names the requirement it checks ("H15", …:
 * docs/protocol.md).
 */
#include "tests/unit/test-handshake.h"

/* ---- LIST ---- */

/* H12 */
static void list_names_all_exports(void **state)
{
	struct talk t = talk_haggling(&plain_config);
	struct bytes script = { 0 };

	(void)state;
	say(&script, NBD_OPT_LIST, NULL, 0);
	talk_say(&t, &script);
	for (size_t i = 0; i < sizeof(exports) / sizeof(exports[0]); i++) {
		const char *description = exports[i].description ? exports[i].description : "";
		size_t name_length = strlen(exports[i].name);
		uint32_t length;
		const uint8_t *p = hear_reply(&t, NBD_OPT_LIST, NBD_REP_SERVER, &length);

		assert_int_equal(length, 4 + name_length + strlen(description));
		assert_int_equal(nbd_get32(p), name_length);
		assert_memory_equal(p + 4, exports[i].name, name_length);
		assert_memory_equal(p + 4 + name_length, description, strlen(description));
	}
	hear_ack(&t, NBD_OPT_LIST);
	assert_in_step(&t);
	talk_end(&t);
}

/* H12, H18 */
static void list_with_data_is_invalid_and_disabled_is_policy(void **state)
{
	struct nr_handshake_config config = { .flags_mask = 3, .no_list = true };
	struct talk t = talk_haggling(&config);
	struct bytes script = { 0 };

	(void)state;
	say(&script, NBD_OPT_LIST, NULL, 0);
	say(&script, NBD_OPT_LIST, "data", 4);
	talk_say(&t, &script);
	hear_error(&t, NBD_OPT_LIST, NBD_REP_ERR_POLICY);
	hear_error(&t, NBD_OPT_LIST, NBD_REP_ERR_INVALID);
	assert_in_step(&t);
	talk_end(&t);
}

/* H12; and what the owner may answer. */
static void an_empty_list_is_just_an_ack(void **state)
{
	struct talk t = talk_haggling(&plain_config);
	struct bytes script = { 0 };
	size_t used;

	(void)state;
	say(&script, NBD_OPT_LIST, NULL, 0);
	assert_int_equal(nr_handshake_feed(t.h, script.at, script.length, &used),
			 NR_HANDSHAKE_LIST);
	assert_int_equal(nr_handshake_list_end(t.h, 0, NULL), NR_HANDSHAKE_MORE);
	talk_collect(&t);
	hear_ack(&t, NBD_OPT_LIST);

	assert_int_equal(nr_handshake_feed(t.h, script.at, script.length, &used),
			 NR_HANDSHAKE_LIST);
	nr_handshake_list_entry(t.h, "one", NULL);
	assert_int_equal(nr_handshake_list_end(t.h, NBD_REP_ERR_SHUTDOWN, "going down"),
			 NR_HANDSHAKE_MORE);
	talk_collect(&t);
	hear(&t, 20 + 4 + 3);
	hear_error(&t, NBD_OPT_LIST, NBD_REP_ERR_SHUTDOWN);
	assert_in_step(&t);
	bytes_free(&script);
	talk_end(&t);
}

/* H8: what is no legal string is not sent; too many exports end in TOO_BIG. */
static void a_listing_is_legal_and_bounded(void **state)
{
	struct talk t = talk_haggling(&plain_config);
	struct bytes script = { 0 };
	char name[200], *longest = malloc(NBD_STRING_MAX + 2);
	size_t used, length, total = 0;

	(void)state;
	memset(longest, 'a', NBD_STRING_MAX + 1);
	longest[NBD_STRING_MAX + 1] = '\0';
	say(&script, NBD_OPT_LIST, NULL, 0);
	nr_handshake_feed(t.h, script.at, script.length, &used);
	nr_handshake_list_entry(t.h, "caf\xe9", NULL); /* Latin-1, as file names may be */
	nr_handshake_list_entry(t.h, longest, NULL);
	nr_handshake_list_entry(t.h, "good", "bad \xff");
	nr_handshake_list_end(t.h, 0, NULL);
	talk_collect(&t);
	hear_reply(&t, NBD_OPT_LIST, NBD_REP_SERVER, &(uint32_t){ 0 });
	hear_ack(&t, NBD_OPT_LIST);
	hear_nothing(&t);

	memset(name, 'n', sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0';
	nr_handshake_feed(t.h, script.at, script.length, &used);
	for (unsigned i = 0; i < 1000000; i++)
		nr_handshake_list_entry(t.h, name, longest);
	nr_handshake_list_end(t.h, 0, NULL);
	nr_handshake_output(t.h, &length);
	assert_true(length <= NR_HANDSHAKE_LIST_MAX + 20 + NBD_STRING_MAX);
	talk_collect(&t);
	while (total < NR_HANDSHAKE_LIST_MAX - 2 * NBD_STRING_MAX) {
		uint32_t n;

		hear_reply(&t, NBD_OPT_LIST, NBD_REP_SERVER, &n);
		assert_int_equal(n, 4 + sizeof(name) - 1 + NBD_STRING_MAX); /* cut */
		total += 20 + n;
	}
	while (nbd_get32(t.output.at + t.read + 12) == NBD_REP_SERVER)
		hear_reply(&t, NBD_OPT_LIST, NBD_REP_SERVER, &(uint32_t){ 0 });
	hear_error(&t, NBD_OPT_LIST, NBD_REP_ERR_TOO_BIG);
	assert_in_step(&t);
	bytes_free(&script);
	free(longest);
	talk_end(&t);
}

/* ---- INFO and GO ---- */

/* H4, H13 */
static void go_enters_transmission_without_padding(void **state)
{
	struct talk t = talk_begin(&plain_config);
	struct bytes script = { 0 };
	const struct nr_agreement *agreement;
	size_t length;

	(void)state;
	hear_greeting(&t, BOTH_FLAGS);
	say_flags(&script, NBD_FLAG_FIXED_NEWSTYLE);
	say_info(&script, NBD_OPT_GO, "disk", 0);
	length = script.length;
	bytes_add(&script, "first request", 13);
	talk_say(&t, &script);
	assert_int_equal(t.state, NR_HANDSHAKE_READY);
	assert_int_equal(t.used, length);
	hear_export(&t, NBD_OPT_GO, DISK_SIZE, DISK_FLAGS);
	hear_ack(&t, NBD_OPT_GO);
	hear_nothing(&t);
	agreement = nr_handshake_agreement(t.h);
	assert_true(agreement->info.size == DISK_SIZE);
	assert_int_equal(agreement->info.flags, DISK_FLAGS);
	assert_int_equal(agreement->reply_style, NR_REPLY_SIMPLE);
	talk_end(&t);
}

/* H13: lengths must add up exactly. */
static void info_with_wrong_lengths_is_invalid(void **state)
{
	static const struct {
		const char *payload;
		size_t length;
	} cases[] = {
		{ "", 0 },
		{ "\0\0\0\0\0", 5 },
		{ "\0\0\0\1\0\0", 6 }, /* name longer than length - 6 */
		{ "\0\0\0\5disk\0\0", 10 },
		{ "\xff\xff\xff\xff\0\0", 6 },
		{ "\xff\xff\xff\xff\0\0\0\0", 8 },
		{ "\0\0\0\0\0\1", 6 }, /* a request that is not there */
		{ "\0\0\0\0\0\1\0", 7 },
		{ "\0\0\0\0\xff\xff\0\0", 8 },
		{ "\0\0\0\0\0\0\0", 7 }, /* something behind the requests */
		{ "\0\0\0\0\0\1\0\3\0", 9 },
		{ "\0\0\0\1\0\0\0", 7 },   /* NUL */
		{ "\0\0\0\1\xff\0\0", 7 }, /* no UTF-8 */
		{ "\0\0\0\2\xc3\x28\0\0", 8 },
		{ "\0\0\0\3\xed\xa0\x80\0\0", 9 },      /* a surrogate */
		{ "\0\0\0\4\xf4\x90\x80\x80\0\0", 10 }, /* above U+10FFFF */
	};
	struct talk t = talk_haggling(&plain_config);

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct bytes script = { 0 };

		say(&script, NBD_OPT_INFO, cases[i].payload, cases[i].length);
		say(&script, NBD_OPT_GO, cases[i].payload, cases[i].length);
		talk_say(&t, &script);
		hear_error(&t, NBD_OPT_INFO, NBD_REP_ERR_INVALID);
		hear_error(&t, NBD_OPT_GO, NBD_REP_ERR_INVALID);
		assert_in_step(&t);
	}
	assert_int_equal(t.questions, 0);
	talk_end(&t);
}

/* H8: 4096 bytes are legal, one more is not. */
static void names_are_limited_to_4096_bytes(void **state)
{
	struct talk t = talk_haggling(&plain_config);
	char *name = malloc(NBD_STRING_MAX + 2);
	struct bytes script = { 0 };

	(void)state;
	memset(name, 'n', NBD_STRING_MAX + 1);
	name[NBD_STRING_MAX] = '\0';
	say_info(&script, NBD_OPT_INFO, name, 0);
	talk_say(&t, &script);
	hear_error(&t, NBD_OPT_INFO, NBD_REP_ERR_UNKNOWN);
	assert_int_equal(t.questions, 1);

	name[NBD_STRING_MAX] = 'n';
	name[NBD_STRING_MAX + 1] = '\0';
	say_info(&script, NBD_OPT_INFO, name, 0);
	talk_say(&t, &script);
	hear_error(&t, NBD_OPT_INFO, NBD_REP_ERR_INVALID);
	assert_int_equal(t.questions, 1);
	assert_in_step(&t);
	free(name);
	talk_end(&t);
}

/* H13 */
static void info_gives_what_is_asked_and_ignores_the_unknown(void **state)
{
	struct talk t = talk_haggling(&plain_config);
	struct bytes script = { 0 };

	(void)state;
	say_info(&script, NBD_OPT_INFO, "", 6, 4, 0xffff, NBD_INFO_BLOCK_SIZE, NBD_INFO_DESCRIPTION,
		 NBD_INFO_NAME, 77);
	talk_say(&t, &script);
	hear_export(&t, NBD_OPT_INFO, DISK_SIZE, DISK_FLAGS);
	hear_string_info(&t, NBD_OPT_INFO, NBD_INFO_NAME, "disk");
	hear_string_info(&t, NBD_OPT_INFO, NBD_INFO_DESCRIPTION, "the default one");
	hear_block_size(&t, NBD_OPT_INFO, 1, 4096, 1u << 25);
	hear_ack(&t, NBD_OPT_INFO);

	/* No canonical name: the one asked for.  No description: none. */
	say_info(&script, NBD_OPT_INFO, "disk", 2, NBD_INFO_NAME, NBD_INFO_DESCRIPTION);
	talk_say(&t, &script);
	hear_export(&t, NBD_OPT_INFO, DISK_SIZE, DISK_FLAGS);
	hear_string_info(&t, NBD_OPT_INFO, NBD_INFO_NAME, "disk");
	hear_ack(&t, NBD_OPT_INFO);
	assert_in_step(&t);
	talk_end(&t);
}

/* H13, H16: each information once, also when it is asked for twice. */
static void an_info_asked_twice_is_given_once(void **state)
{
	struct talk t = talk_haggling(&plain_config);
	struct bytes script = { 0 };

	(void)state;
	say_info(&script, NBD_OPT_INFO, "disk", 4, NBD_INFO_BLOCK_SIZE, NBD_INFO_EXPORT,
		 NBD_INFO_BLOCK_SIZE, NBD_INFO_EXPORT);
	talk_say(&t, &script);
	hear_export(&t, NBD_OPT_INFO, DISK_SIZE, DISK_FLAGS);
	hear_block_size(&t, NBD_OPT_INFO, 1, 4096, 1u << 25);
	hear_ack(&t, NBD_OPT_INFO);
	assert_in_step(&t);
	talk_end(&t);
}

/* H14 */
static void an_unknown_export_is_told_without_infos(void **state)
{
	struct talk t = talk_haggling(&plain_config);
	struct bytes script = { 0 };

	(void)state;
	say_info(&script, NBD_OPT_INFO, "nosuch", 1, NBD_INFO_BLOCK_SIZE);
	say_info(&script, NBD_OPT_GO, "nosuch", 1, NBD_INFO_BLOCK_SIZE);
	talk_say(&t, &script);
	hear_error(&t, NBD_OPT_INFO, NBD_REP_ERR_UNKNOWN);
	hear_error(&t, NBD_OPT_GO, NBD_REP_ERR_UNKNOWN);
	assert_in_step(&t);
	talk_end(&t);
}

/* Collect the answer to INFO or GO with the option's number blanked out. */
static struct bytes blank_answer(struct talk *t)
{
	struct bytes answer = { 0 };

	while (t->read < t->output.length) {
		uint8_t *reply = t->output.at + t->read;

		nbd_put32(reply + 8, 0);
		bytes_add(&answer, reply, 20 + nbd_get32(reply + 16));
		t->read += 20 + nbd_get32(reply + 16);
	}
	return answer;
}

/* H15: in all styles, with contexts. */
static void info_and_go_say_the_same(void **state)
{
	static const char *const names[] = { "", "disk", "blocky", "bare" };

	(void)state;
	for (unsigned i = 0; i < 3 * 4 * 2; i++) {
		struct talk t = talk_haggling(&plain_config);
		const char *name = names[i % 4];
		struct bytes script = { 0 }, info, go;

		if (i / 4 % 3 == 1)
			agree_on(&t, NBD_OPT_STRUCTURED_REPLY);
		if (i / 4 % 3 == 2)
			agree_on(&t, NBD_OPT_EXTENDED_HEADERS);
		if (i >= 12)
			say_meta(&script, NBD_OPT_SET_META_CONTEXT, name, 1, "base:allocation");
		talk_say(&t, &script);
		t.read = t.output.length;
		say_info(&script, NBD_OPT_INFO, name, 2, NBD_INFO_NAME, NBD_INFO_BLOCK_SIZE);
		talk_say(&t, &script);
		info = blank_answer(&t);
		say_info(&script, NBD_OPT_GO, name, 2, NBD_INFO_NAME, NBD_INFO_BLOCK_SIZE);
		talk_say(&t, &script);
		go = blank_answer(&t);
		assert_int_equal(t.state, NR_HANDSHAKE_READY);
		assert_int_equal(info.length, go.length);
		assert_memory_equal(info.at, go.at, go.length);
		bytes_free(&info);
		bytes_free(&go);
		talk_end(&t);
	}
}

/* H17 */
static void an_empty_name_asks_for_the_default_export(void **state)
{
	struct talk t = talk_haggling(&plain_config);
	struct bytes script = { 0 };
	enum nr_export_purpose purpose;
	size_t used;

	(void)state;
	say_info(&script, NBD_OPT_GO, "", 0);
	assert_int_equal(nr_handshake_feed(t.h, script.at, script.length, &used),
			 NR_HANDSHAKE_EXPORT);
	assert_string_equal(nr_handshake_wanted(t.h, &purpose), "");
	assert_int_equal(purpose, NR_EXPORT_GO);
	bytes_free(&script);
	talk_end(&t);
}

/* ---- sizes ---- */

/* S2, H16: unrequested sizes are told but do not bind. */
static void sizes_bind_only_the_client_that_asked_in_go(void **state)
{
	(void)state;
	for (unsigned asks_info = 0; asks_info < 2; asks_info++) {
		for (unsigned asks_go = 0; asks_go < 2; asks_go++) {
			struct talk t = talk_haggling(&plain_config);
			struct bytes script = { 0 };

			say_info(&script, NBD_OPT_INFO, "blocky", asks_info, NBD_INFO_BLOCK_SIZE);
			say_info(&script, NBD_OPT_GO, "blocky", asks_go, NBD_INFO_BLOCK_SIZE);
			talk_say(&t, &script);
			hear_export(&t, NBD_OPT_INFO, 1u << 20, DISK_FLAGS);
			hear_block_size(&t, NBD_OPT_INFO, 512, 4096, 1u << 25);
			hear_ack(&t, NBD_OPT_INFO);
			hear_export(&t, NBD_OPT_GO, 1u << 20, DISK_FLAGS);
			hear_block_size(&t, NBD_OPT_GO, 512, 4096, 1u << 25);
			hear_ack(&t, NBD_OPT_GO);
			hear_nothing(&t);
			assert_int_equal(nr_handshake_agreement(t.h)->asked_block_size, asks_go);
			assert_int_equal(nr_handshake_agreement(t.h)->info.block_min, 512);
			talk_end(&t);
		}
	}
}

/* What was asked in an option that failed is forgotten. */
static void sizes_asked_before_export_name_do_not_bind(void **state)
{
	struct talk t = talk_haggling(&plain_config);
	struct bytes script = { 0 };

	(void)state;
	say_info(&script, NBD_OPT_GO, "nosuch", 1, NBD_INFO_BLOCK_SIZE);
	say(&script, NBD_OPT_EXPORT_NAME, "blocky", 6);
	talk_say(&t, &script);
	assert_int_equal(t.state, NR_HANDSHAKE_READY);
	assert_false(nr_handshake_agreement(t.h)->asked_block_size);
	talk_end(&t);
}

/* ---- styles; TLS is test-handshake-tls.c's ---- */

/* T2, H18 */
static void starttls_is_not_supported(void **state)
{
	struct talk t = talk_haggling(&plain_config);
	struct bytes script = { 0 };

	(void)state;
	say(&script, NBD_OPT_STARTTLS, NULL, 0);
	say(&script, NBD_OPT_STARTTLS, "data", 4);
	talk_say(&t, &script);
	hear_error(&t, NBD_OPT_STARTTLS, NBD_REP_ERR_UNSUP);
	hear_error(&t, NBD_OPT_STARTTLS, NBD_REP_ERR_INVALID);
	assert_in_step(&t);
	talk_end(&t);
}

/* H18, X1 */
static void structured_replies_bring_the_df_flag(void **state)
{
	struct talk t = talk_haggling(&plain_config);
	struct bytes script = { 0 };

	(void)state;
	say(&script, NBD_OPT_STRUCTURED_REPLY, "x", 1);
	say_info(&script, NBD_OPT_INFO, "disk", 0);
	talk_say(&t, &script);
	hear_error(&t, NBD_OPT_STRUCTURED_REPLY, NBD_REP_ERR_INVALID);
	hear_export(&t, NBD_OPT_INFO, DISK_SIZE, DISK_FLAGS);
	hear_ack(&t, NBD_OPT_INFO);

	agree_on(&t, NBD_OPT_STRUCTURED_REPLY);
	agree_on(&t, NBD_OPT_STRUCTURED_REPLY);
	say_info(&script, NBD_OPT_GO, "disk", 0);
	talk_say(&t, &script);
	hear_export(&t, NBD_OPT_GO, DISK_SIZE, DISK_FLAGS | NBD_FLAG_SEND_DF);
	hear_ack(&t, NBD_OPT_GO);
	assert_int_equal(nr_handshake_agreement(t.h)->reply_style, NR_REPLY_STRUCTURED);
	assert_int_equal(nr_handshake_agreement(t.h)->info.flags, DISK_FLAGS | NBD_FLAG_SEND_DF);
	talk_end(&t);
}

/* E1 */
static void extended_headers_need_no_structured_replies(void **state)
{
	struct talk t = talk_haggling(&plain_config);
	struct bytes script = { 0 };

	(void)state;
	say(&script, NBD_OPT_EXTENDED_HEADERS, "x", 1);
	talk_say(&t, &script);
	hear_error(&t, NBD_OPT_EXTENDED_HEADERS, NBD_REP_ERR_INVALID);
	agree_on(&t, NBD_OPT_EXTENDED_HEADERS);
	say(&script, NBD_OPT_STRUCTURED_REPLY, NULL, 0);
	talk_say(&t, &script);
	hear_error(&t, NBD_OPT_STRUCTURED_REPLY, NBD_REP_ERR_EXT_HEADER_REQD);
	agree_on(&t, NBD_OPT_EXTENDED_HEADERS);
	say_info(&script, NBD_OPT_GO, "disk", 0);
	talk_say(&t, &script);
	hear_export(&t, NBD_OPT_GO, DISK_SIZE, DISK_FLAGS | NBD_FLAG_SEND_DF);
	hear_ack(&t, NBD_OPT_GO);
	assert_int_equal(nr_handshake_agreement(t.h)->reply_style, NR_REPLY_EXTENDED);
	talk_end(&t);
}

/* E1 */
static void extended_headers_take_over_from_structured_replies(void **state)
{
	struct talk t = talk_haggling(&plain_config);
	struct bytes script = { 0 };

	(void)state;
	agree_on(&t, NBD_OPT_STRUCTURED_REPLY);
	agree_on(&t, NBD_OPT_EXTENDED_HEADERS);
	say(&script, NBD_OPT_EXPORT_NAME, "disk", 4);
	talk_say(&t, &script);
	assert_int_equal(t.state, NR_HANDSHAKE_DROP);
	hear_nothing(&t);
	talk_end(&t);
}

/* --no-sr, --no-mc */
static void options_can_be_hidden(void **state)
{
	struct nr_handshake_config no_sr = { .flags_mask = 3, .no_structured = true };
	struct nr_handshake_config no_mc = { .flags_mask = 3, .no_contexts = true };
	struct talk t = talk_haggling(&no_sr);
	struct bytes script = { 0 };

	(void)state;
	say(&script, NBD_OPT_STRUCTURED_REPLY, NULL, 0);
	say(&script, NBD_OPT_EXTENDED_HEADERS, NULL, 0);
	say(&script, NBD_OPT_STRUCTURED_REPLY, "x", 1);
	say_meta(&script, NBD_OPT_SET_META_CONTEXT, "disk", 1, "base:allocation");
	talk_say(&t, &script);
	hear_error(&t, NBD_OPT_STRUCTURED_REPLY, NBD_REP_ERR_UNSUP);
	hear_error(&t, NBD_OPT_EXTENDED_HEADERS, NBD_REP_ERR_UNSUP);
	hear_error(&t, NBD_OPT_STRUCTURED_REPLY, NBD_REP_ERR_UNSUP);
	hear_error(&t, NBD_OPT_SET_META_CONTEXT, NBD_REP_ERR_INVALID);
	assert_in_step(&t);
	talk_end(&t);

	t = talk_haggling(&no_mc);
	agree_on(&t, NBD_OPT_STRUCTURED_REPLY);
	say_meta(&script, NBD_OPT_SET_META_CONTEXT, "disk", 1, "base:allocation");
	say_meta(&script, NBD_OPT_LIST_META_CONTEXT, "disk", 0);
	talk_say(&t, &script);
	hear_error(&t, NBD_OPT_SET_META_CONTEXT, NBD_REP_ERR_UNSUP);
	hear_error(&t, NBD_OPT_LIST_META_CONTEXT, NBD_REP_ERR_UNSUP);
	assert_in_step(&t);
	talk_end(&t);
}

/* The transmission flags that the handshake decides are not taken from the owner. */
static void flags_are_those_that_were_negotiated(void **state)
{
	static const struct nr_export_info info = {
		.size = 1,
		.flags = NBD_FLAG_SEND_DF | NBD_FLAG_BLOCK_STATUS_PAYLOAD | NBD_FLAG_SEND_TRIM,
		.block_min = 1,
		.block_preferred = 4096,
		.block_max = 1u << 25,
	};
	struct nr_export_answer answer = { .info = &info };
	struct talk t = talk_haggling(&plain_config);
	struct bytes script = { 0 };
	size_t used;

	(void)state;
	say_info(&script, NBD_OPT_GO, "x", 0);
	nr_handshake_feed(t.h, script.at, script.length, &used);
	assert_int_equal(nr_handshake_export_is(t.h, &answer), NR_HANDSHAKE_READY);
	assert_int_equal(nr_handshake_agreement(t.h)->info.flags,
			 NBD_FLAG_HAS_FLAGS | NBD_FLAG_SEND_TRIM);
	bytes_free(&script);
	talk_end(&t);
}

/* ---- oldstyle ---- */

static void oldstyle_greets_with_the_default_export(void **state)
{
	struct nr_handshake_config config = { .flags_mask = 3, .oldstyle = true };
	struct nr_handshake *h = nr_handshake_create(&config);
	enum nr_export_purpose purpose;
	struct talk t;
	const uint8_t *p;
	size_t used, length;

	(void)state;
	/* The question comes first: nothing is said before it is answered. */
	assert_null(nr_handshake_output(h, &length));
	assert_int_equal(length, 0);
	assert_int_equal(nr_handshake_feed(h, (const uint8_t *)"x", 1, &used), NR_HANDSHAKE_EXPORT);
	assert_int_equal(used, 0);
	assert_string_equal(nr_handshake_wanted(h, &purpose), "");
	assert_int_equal(purpose, NR_EXPORT_GO);
	nr_handshake_destroy(h);

	t = talk_begin(&config);
	assert_int_equal(t.state, NR_HANDSHAKE_READY);
	assert_true(nr_handshake_begun(t.h));
	p = hear(&t, 152);
	assert_true(nbd_get64(p) == NBD_MAGIC);
	assert_true(nbd_get64(p + 8) == NBD_OLDSTYLE_MAGIC);
	assert_true(nbd_get64(p + 16) == DISK_SIZE);
	assert_int_equal(nbd_get32(p + 24), DISK_FLAGS);
	for (size_t i = 28; i < 152; i++)
		assert_int_equal(p[i], 0);
	hear_nothing(&t);
	assert_int_equal(nr_handshake_agreement(t.h)->reply_style, NR_REPLY_SIMPLE);
	talk_end(&t);
}

static void oldstyle_without_default_export_drops(void **state)
{
	struct nr_handshake_config config = { .oldstyle = true };
	struct nr_handshake *h = nr_handshake_create(&config);
	struct nr_export_answer no = { .refusal = NBD_REP_ERR_UNKNOWN };
	size_t length;

	(void)state;
	assert_int_equal(nr_handshake_export_is(h, &no), NR_HANDSHAKE_DROP);
	nr_handshake_output(h, &length);
	assert_int_equal(length, 0);
	assert_non_null(nr_handshake_reason(h));
	nr_handshake_destroy(h);
	nr_handshake_destroy(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(list_names_all_exports),
		cmocka_unit_test(list_with_data_is_invalid_and_disabled_is_policy),
		cmocka_unit_test(an_empty_list_is_just_an_ack),
		cmocka_unit_test(a_listing_is_legal_and_bounded),
		cmocka_unit_test(go_enters_transmission_without_padding),
		cmocka_unit_test(info_with_wrong_lengths_is_invalid),
		cmocka_unit_test(names_are_limited_to_4096_bytes),
		cmocka_unit_test(info_gives_what_is_asked_and_ignores_the_unknown),
		cmocka_unit_test(an_info_asked_twice_is_given_once),
		cmocka_unit_test(an_unknown_export_is_told_without_infos),
		cmocka_unit_test(info_and_go_say_the_same),
		cmocka_unit_test(an_empty_name_asks_for_the_default_export),
		cmocka_unit_test(sizes_bind_only_the_client_that_asked_in_go),
		cmocka_unit_test(sizes_asked_before_export_name_do_not_bind),
		cmocka_unit_test(starttls_is_not_supported),
		cmocka_unit_test(structured_replies_bring_the_df_flag),
		cmocka_unit_test(extended_headers_need_no_structured_replies),
		cmocka_unit_test(extended_headers_take_over_from_structured_replies),
		cmocka_unit_test(options_can_be_hidden),
		cmocka_unit_test(flags_are_those_that_were_negotiated),
		cmocka_unit_test(oldstyle_greets_with_the_default_export),
		cmocka_unit_test(oldstyle_without_default_export_drops),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
