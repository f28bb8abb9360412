/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Metadata contexts in the handshake.  Each test names the requirement it
 * checks ("H19", …: docs/protocol.md).
 */
#include "tests/unit/test-handshake.h"

#define LIST_META NBD_OPT_LIST_META_CONTEXT
#define SET_META NBD_OPT_SET_META_CONTEXT

/* H19: zero queries list everything; the id is 0.  H20: structured replies are not needed. */
static void listing_without_queries_lists_everything(void **state)
{
	(void)state;
	for (unsigned structured = 0; structured < 2; structured++) {
		struct talk t = talk_haggling(&plain_config);
		struct bytes script = { 0 };

		if (structured)
			agree_on(&t, NBD_OPT_STRUCTURED_REPLY);
		say_meta(&script, LIST_META, "disk", 0);
		talk_say(&t, &script);
		for (unsigned i = 0; i < 3; i++)
			hear_context(&t, LIST_META, 0, export_contexts[i]);
		hear_ack(&t, LIST_META);
		assert_in_step(&t);
		talk_end(&t);
	}
}

/* H19 */
static void listing_takes_namespaces_as_wildcards(void **state)
{
	struct talk t = talk_haggling(&plain_config);
	struct bytes script = { 0 };

	(void)state;
	say_meta(&script, LIST_META, "disk", 1, "base:");
	talk_say(&t, &script);
	hear_context(&t, LIST_META, 0, "base:allocation");
	hear_ack(&t, LIST_META);

	say_meta(&script, LIST_META, "disk", 1, "qemu:");
	talk_say(&t, &script);
	hear_context(&t, LIST_META, 0, export_contexts[1]);
	hear_context(&t, LIST_META, 0, export_contexts[2]);
	hear_ack(&t, LIST_META);

	/* Several queries for the same context list it once. */
	say_meta(&script, LIST_META, "disk", 3, "base:allocation", "base:", "base:allocation");
	talk_say(&t, &script);
	hear_context(&t, LIST_META, 0, "base:allocation");
	hear_ack(&t, LIST_META);
	assert_in_step(&t);
	talk_end(&t);
}

/* H19: no match is a plain ACK. */
static void unknown_queries_are_ignored(void **state)
{
	static const char *const queries[] = { "base:alloc",
					       "base:allocation2",
					       "BASE:allocation",
					       "x-nosuch:",
					       "x-nosuch:leaf",
					       "nbd-server:",
					       "base",
					       "",
					       ":",
					       "allocation",
					       "qemu:dirty-bitmap:",
					       "q" };

	(void)state;
	for (size_t i = 0; i < sizeof(queries) / sizeof(queries[0]); i++) {
		struct talk t = talk_haggling(&plain_config);
		struct bytes script = { 0 };

		agree_on(&t, NBD_OPT_STRUCTURED_REPLY);
		say_meta(&script, LIST_META, "disk", 1, queries[i]);
		say_meta(&script, SET_META, "disk", 1, queries[i]);
		talk_say(&t, &script);
		hear_ack(&t, LIST_META);
		hear_ack(&t, SET_META);
		assert_in_step(&t);
		talk_end(&t);
	}
}

/* H19, H21, H8 */
static void malformed_queries_are_invalid(void **state)
{
	static const struct {
		const char *payload;
		size_t length;
	} cases[] = {
		{ "", 0 },
		{ "\0\0\0\0\0\0\0", 7 },
		{ "\0\0\0\1\0\0\0\0", 8 }, /* no room for the count */
		{ "\xff\xff\xff\xff\0\0\0\0", 8 },
		{ "\0\0\0\0\0\0\0\1", 8 }, /* a query that is not there */
		{ "\0\0\0\0\xff\xff\xff\xff", 8 },
		{ "\0\0\0\0\0\0\0\1\0\0\0", 11 },
		{ "\0\0\0\0\0\0\0\1\0\0\0\1", 12 },
		{ "\0\0\0\0\0\0\0\1\0\0\0\2a", 13 },
		{ "\0\0\0\0\0\0\0\1\xff\xff\xff\xff"
		  "a",
		  13 },
		{ "\0\0\0\0\0\0\0\0a", 9 }, /* something behind the queries */
		{ "\0\0\0\0\0\0\0\1\0\0\0\1ab", 14 },
		{ "\0\0\0\0\0\0\0\1\0\0\0\1\0", 13 },   /* NUL */
		{ "\0\0\0\0\0\0\0\1\0\0\0\1\x80", 13 }, /* no UTF-8 */
		{ "\0\0\0\1\0\0\0\0\0", 9 },
		{ "\0\0\0\1\xfe\0\0\0\0", 9 },
	};
	struct talk t = talk_haggling(&plain_config);

	(void)state;
	agree_on(&t, NBD_OPT_STRUCTURED_REPLY);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct bytes script = { 0 };

		say(&script, LIST_META, cases[i].payload, cases[i].length);
		say(&script, SET_META, cases[i].payload, cases[i].length);
		talk_say(&t, &script);
		hear_error(&t, LIST_META, NBD_REP_ERR_INVALID);
		hear_error(&t, SET_META, NBD_REP_ERR_INVALID);
		assert_in_step(&t);
	}
	assert_int_equal(t.questions, 0);
	talk_end(&t);
}

/* H8 */
static void names_and_queries_are_limited_to_4096_bytes(void **state)
{
	struct talk t = talk_haggling(&plain_config);
	char *longest = malloc(NBD_STRING_MAX + 2);
	struct bytes script = { 0 };

	(void)state;
	memset(longest, 'q', NBD_STRING_MAX + 1);
	longest[NBD_STRING_MAX] = '\0';
	say_meta(&script, LIST_META, "disk", 1, longest);
	say_meta(&script, LIST_META, longest, 0);
	talk_say(&t, &script);
	hear_ack(&t, LIST_META);
	hear_error(&t, LIST_META, NBD_REP_ERR_UNKNOWN);

	longest[NBD_STRING_MAX] = 'q';
	longest[NBD_STRING_MAX + 1] = '\0';
	say_meta(&script, LIST_META, "disk", 1, longest);
	say_meta(&script, LIST_META, longest, 0);
	talk_say(&t, &script);
	hear_error(&t, LIST_META, NBD_REP_ERR_INVALID);
	hear_error(&t, LIST_META, NBD_REP_ERR_INVALID);
	assert_in_step(&t);
	free(longest);
	talk_end(&t);
}

/* Thousands of queries fit; what does not fit is TOO_BIG and drained. */
static void many_queries_are_served(void **state)
{
	const uint32_t count = (NR_HANDSHAKE_PAYLOAD_MAX - 8 - 19) / 5;
	struct talk t = talk_haggling(&plain_config);
	struct bytes payload = { 0 }, script = { 0 };

	(void)state;
	bytes_add32(&payload, 4);
	bytes_add(&payload, "disk", 4);
	bytes_add32(&payload, count);
	for (uint32_t i = 0; i < count - 1; i++) {
		bytes_add32(&payload, 1);
		bytes_add(&payload, "x", 1);
	}
	bytes_add32(&payload, 15);
	bytes_add(&payload, "base:allocation", 15);
	assert_true(payload.length <= NR_HANDSHAKE_PAYLOAD_MAX);
	say(&script, LIST_META, payload.at, payload.length);
	bytes_add(&payload, NULL, NR_HANDSHAKE_PAYLOAD_MAX + 1 - payload.length);
	say(&script, LIST_META, payload.at, payload.length);
	talk_say(&t, &script);
	hear_context(&t, LIST_META, 0, "base:allocation");
	hear_ack(&t, LIST_META);
	hear_error(&t, LIST_META, NBD_REP_ERR_TOO_BIG);
	assert_in_step(&t);
	bytes_free(&payload);
	talk_end(&t);
}

static void contexts_of_an_unknown_export_are_unknown(void **state)
{
	struct talk t = talk_haggling(&plain_config);
	struct bytes script = { 0 };

	(void)state;
	agree_on(&t, NBD_OPT_EXTENDED_HEADERS);
	say_meta(&script, LIST_META, "nosuch", 0);
	say_meta(&script, SET_META, "nosuch", 1, "base:allocation");
	talk_say(&t, &script);
	hear_error(&t, LIST_META, NBD_REP_ERR_UNKNOWN);
	hear_error(&t, SET_META, NBD_REP_ERR_UNKNOWN);
	assert_in_step(&t);
	talk_end(&t);
}

/* H21 */
static void setting_contexts_needs_structured_replies(void **state)
{
	struct talk t = talk_haggling(&plain_config);
	struct bytes script = { 0 };

	(void)state;
	say_meta(&script, SET_META, "disk", 1, "base:allocation");
	talk_say(&t, &script);
	hear_error(&t, SET_META, NBD_REP_ERR_INVALID);
	assert_int_equal(t.questions, 0);
	assert_in_step(&t);
	talk_end(&t);
}

/* Finish T by GO or EXPORT_NAME for NAME and say which contexts were agreed on. */
static unsigned contexts_after(struct talk *t, uint32_t code, const char *name)
{
	struct bytes script = { 0 };
	unsigned contexts;

	if (code == NBD_OPT_GO)
		say_info(&script, code, name, 0);
	else
		say(&script, code, name, strlen(name));
	talk_say(t, &script);
	assert_int_equal(t->state, NR_HANDSHAKE_READY);
	contexts = nr_handshake_agreement(t->h)->contexts;
	talk_end(t);
	return contexts;
}

static struct talk talk_structured(void)
{
	struct talk t = talk_haggling(&plain_config);

	agree_on(&t, NBD_OPT_STRUCTURED_REPLY);
	return t;
}

/* H21: unique ids; the wildcard selects nothing. */
static void setting_contexts_selects_by_full_name(void **state)
{
	struct talk t = talk_structured();
	struct bytes script = { 0 };

	(void)state;
	say_meta(&script, SET_META, "disk", 5, "qemu:allocation-depth", "base:", "base:allocation",
		 "base:allocation", "qemu:");
	talk_say(&t, &script);
	hear_context(&t, SET_META, 1, "base:allocation");
	hear_context(&t, SET_META, 3, "qemu:allocation-depth");
	hear_ack(&t, SET_META);
	assert_int_equal(contexts_after(&t, NBD_OPT_GO, "disk"), 1u << 0 | 1u << 2);
}

/* H21 */
static void setting_without_queries_selects_none(void **state)
{
	struct talk t = talk_structured();
	struct bytes script = { 0 };

	(void)state;
	say_meta(&script, SET_META, "disk", 1, "base:allocation");
	say_meta(&script, SET_META, "disk", 0);
	talk_say(&t, &script);
	hear_context(&t, SET_META, 1, "base:allocation");
	hear_ack(&t, SET_META);
	hear_ack(&t, SET_META);
	hear_nothing(&t);
	assert_int_equal(contexts_after(&t, NBD_OPT_GO, "disk"), 0);
}

/* H21: whatever way it fails. */
static void a_failed_setting_forgets_the_previous_one(void **state)
{
	uint8_t *junk = calloc(1, 100000);

	(void)state;
	for (unsigned i = 0; i < 5; i++) {
		struct talk t = talk_structured();
		struct bytes script = { 0 };

		say_meta(&script, SET_META, "disk", 1, "base:allocation");
		switch (i) {
		case 0: /* too short for the table */
			say(&script, SET_META, "x", 1);
			break;
		case 1: /* too long */
			say(&script, SET_META, junk, 100000);
			break;
		case 2: /* malformed */
			say(&script, SET_META, "\xff\xff\xff\xff\0\0\0\0", 8);
			break;
		case 3: /* no such export */
			say_meta(&script, SET_META, "nosuch", 1, "base:allocation");
			break;
		case 4: /* nothing selected, for another export */
			say_meta(&script, SET_META, "bare", 1, "base:allocation");
			break;
		}
		talk_say(&t, &script);
		assert_int_equal(contexts_after(&t, NBD_OPT_GO, "disk"), 0);
	}
	free(junk);
}

/* H21 */
static void the_last_setting_counts(void **state)
{
	struct talk t = talk_structured();
	struct bytes script = { 0 };

	(void)state;
	say_meta(&script, SET_META, "disk", 1, "base:allocation");
	say_meta(&script, SET_META, "disk", 1, "qemu:allocation-depth");
	talk_say(&t, &script);
	assert_int_equal(contexts_after(&t, NBD_OPT_GO, "disk"), 1u << 2);
}

/* H22 */
static void contexts_of_another_export_are_not_usable(void **state)
{
	static const struct {
		const char *set, *go;
		unsigned contexts;
	} cases[] = {
		{ "disk", "disk", 1 }, { "blocky", "disk", 0 }, { "disk", "blocky", 0 },
		{ "", "", 1 },         { "", "disk", 0 },       { "disk", "", 0 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		for (unsigned j = 0; j < 2; j++) {
			struct talk t = talk_structured();
			struct bytes script = { 0 };

			say_meta(&script, SET_META, cases[i].set, 1, "base:allocation");
			talk_say(&t, &script);
			assert_int_equal(contexts_after(&t, j ? NBD_OPT_GO : NBD_OPT_EXPORT_NAME,
							cases[i].go),
					 cases[i].contexts);
		}
	}
}

/* Looking around does not disturb what was set. */
static void other_options_leave_the_setting_alone(void **state)
{
	struct talk t = talk_structured();
	struct bytes script = { 0 };

	(void)state;
	say_meta(&script, SET_META, "disk", 1, "base:allocation");
	say_info(&script, NBD_OPT_INFO, "blocky", 0);
	say_info(&script, NBD_OPT_GO, "nosuch", 0);
	say_meta(&script, LIST_META, "bare", 0);
	say_meta(&script, LIST_META, "", 1, "qemu:");
	say(&script, NBD_OPT_LIST, NULL, 0);
	say(&script, NBD_OPT_STRUCTURED_REPLY, NULL, 0);
	say(&script, NBD_OPT_STARTTLS, NULL, 0);
	talk_say(&t, &script);
	assert_int_equal(contexts_after(&t, NBD_OPT_GO, "disk"), 1);
}

/* What its bits stood for is not there any more. */
static void contexts_of_an_export_that_has_changed_are_not_usable(void **state)
{
	struct talk t = talk_structured();
	struct bytes script = { 0 };

	(void)state;
	say_meta(&script, SET_META, "disk", 1, "base:allocation");
	talk_say(&t, &script);
	export_has_changed = true;
	assert_int_equal(contexts_after(&t, NBD_OPT_GO, "disk"), 0);
	export_has_changed = false;
}

/* E6: extended headers, and contexts for this export. */
static void block_status_payload_is_offered_when_it_can_be_used(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 8; i++) {
		struct talk t = talk_haggling(&plain_config);
		struct bytes script = { 0 };
		bool extended = i & 1, set = i & 2, same = i & 4, expected;

		agree_on(&t, extended ? NBD_OPT_EXTENDED_HEADERS : NBD_OPT_STRUCTURED_REPLY);
		if (set)
			say_meta(&script, SET_META, same ? "disk" : "", 1, "base:allocation");
		say_info(&script, NBD_OPT_GO, "disk", 0);
		talk_say(&t, &script);
		expected = extended && set && same;
		assert_int_equal(nr_handshake_agreement(t.h)->info.flags,
				 DISK_FLAGS | NBD_FLAG_SEND_DF |
					 (expected ? NBD_FLAG_BLOCK_STATUS_PAYLOAD : 0));
		talk_end(&t);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(listing_without_queries_lists_everything),
		cmocka_unit_test(listing_takes_namespaces_as_wildcards),
		cmocka_unit_test(unknown_queries_are_ignored),
		cmocka_unit_test(malformed_queries_are_invalid),
		cmocka_unit_test(names_and_queries_are_limited_to_4096_bytes),
		cmocka_unit_test(many_queries_are_served),
		cmocka_unit_test(contexts_of_an_unknown_export_are_unknown),
		cmocka_unit_test(setting_contexts_needs_structured_replies),
		cmocka_unit_test(setting_contexts_selects_by_full_name),
		cmocka_unit_test(setting_without_queries_selects_none),
		cmocka_unit_test(a_failed_setting_forgets_the_previous_one),
		cmocka_unit_test(the_last_setting_counts),
		cmocka_unit_test(contexts_of_another_export_are_not_usable),
		cmocka_unit_test(other_options_leave_the_setting_alone),
		cmocka_unit_test(contexts_of_an_export_that_has_changed_are_not_usable),
		cmocka_unit_test(block_status_payload_is_offered_when_it_can_be_used),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
