/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * STARTTLS in the negotiation: what is refused before it, what is forgotten by it, and
 * whom an export that needs it is told so.  No TLS is spoken here: the owner only says
 * that it is there.
 */
#include "tests/unit/test-handshake.h"

static const struct nr_handshake_config offered = { .flags_mask = 0xffff, .tls = NR_TLS_OFFERED };
static const struct nr_handshake_config required = { .flags_mask = 0xffff, .tls = NR_TLS_REQUIRED };

/* STARTTLS, its ACK, and TLS. */
static void encrypt(struct talk *t)
{
	agree_on(t, NBD_OPT_STARTTLS);
	assert_int_equal(t->state, NR_HANDSHAKE_STARTTLS);
	t->state = nr_handshake_encrypted(t->h);
	assert_int_equal(t->state, NR_HANDSHAKE_MORE);
	hear_nothing(t);
}

/* T1, T5 */
static void starttls_is_for_once(void **state)
{
	struct talk t = talk_haggling(&offered);
	struct bytes script = { 0 };

	assert_in_step(&t);
	encrypt(&t);
	say(&script, NBD_OPT_STARTTLS, NULL, 0);
	say_info(&script, NBD_OPT_GO, "disk", 0);
	talk_say(&t, &script);
	hear_error(&t, NBD_OPT_STARTTLS, NBD_REP_ERR_INVALID);
	assert_int_equal(t.state, NR_HANDSHAKE_READY);
	talk_end(&t);
}

/* H18 */
static void starttls_with_data_is_invalid_and_begins_nothing(void **state)
{
	struct talk t = talk_haggling(&offered);
	struct bytes script = { 0 };

	say(&script, NBD_OPT_STARTTLS, "data", 4);
	talk_say(&t, &script);
	hear_error(&t, NBD_OPT_STARTTLS, NBD_REP_ERR_INVALID);
	assert_in_step(&t);
	talk_end(&t);
}

/* T7: the owner has to throw it away, so it must not be taken in. */
static void nothing_behind_starttls_is_touched(void **state)
{
	struct talk t = talk_haggling(&offered);
	struct bytes script = { 0 };
	size_t before = t.used;

	say(&script, NBD_OPT_STARTTLS, NULL, 0);
	say(&script, NBD_OPT_STRUCTURED_REPLY, NULL, 0);
	talk_say(&t, &script);
	hear_ack(&t, NBD_OPT_STARTTLS);
	hear_nothing(&t);
	assert_int_equal(t.used - before, 16);
	assert_int_equal(t.state, NR_HANDSHAKE_STARTTLS);
	talk_end(&t);
}

/* T3 */
static void without_required_tls_nothing_is_answered(void **state)
{
	static const uint32_t codes[] = { NBD_OPT_LIST,
					  NBD_OPT_PEEK_EXPORT,
					  NBD_OPT_INFO,
					  NBD_OPT_GO,
					  NBD_OPT_STRUCTURED_REPLY,
					  NBD_OPT_LIST_META_CONTEXT,
					  NBD_OPT_SET_META_CONTEXT,
					  NBD_OPT_EXTENDED_HEADERS,
					  UINT32_MAX };
	static const char long_payload[100000];
	struct talk t = talk_haggling(&required);

	for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++) {
		static const size_t lengths[] = { 0, 1, 8, sizeof(long_payload) };

		for (size_t k = 0; k < sizeof(lengths) / sizeof(lengths[0]); k++) {
			struct bytes script = { 0 };

			say(&script, codes[i], long_payload, lengths[k]);
			talk_say(&t, &script);
			hear_error(&t, codes[i], NBD_REP_ERR_TLS_REQD);
		}
	}
	assert_int_equal(t.questions, 0);
	encrypt(&t);
	assert_in_step(&t);
	talk_end(&t);
}

/* T3, H5 */
static void export_name_without_required_tls_drops(void **state)
{
	static const uint32_t flags[] = { BOTH_FLAGS, 0 };

	for (size_t i = 0; i < sizeof(flags) / sizeof(flags[0]); i++) {
		struct talk t = talk_begin(&required);
		struct bytes script = { 0 };

		hear_greeting(&t, BOTH_FLAGS);
		say_flags(&script, flags[i]);
		say(&script, NBD_OPT_EXPORT_NAME, "disk", 4);
		talk_say(&t, &script);
		assert_int_equal(t.state, NR_HANDSHAKE_DROP);
		hear_nothing(&t);
		talk_end(&t);
	}
}

/* T3 */
static void a_client_may_leave_before_tls(void **state)
{
	struct talk t = talk_haggling(&required);

	agree_on(&t, NBD_OPT_ABORT);
	assert_int_equal(t.state, NR_HANDSHAKE_CLOSE);
	talk_end(&t);
}

/* H10 */
static void a_server_that_ends_begins_no_tls(void **state)
{
	struct talk t = talk_haggling(&required);
	struct bytes script = { 0 };

	nr_handshake_shutdown(t.h);
	say(&script, NBD_OPT_STARTTLS, NULL, 0);
	talk_say(&t, &script);
	hear_error(&t, NBD_OPT_STARTTLS, NBD_REP_ERR_SHUTDOWN);
	talk_end(&t);
}

/* T6: headers and contexts of before do not count. */
static void starttls_forgets_what_was_agreed(void **state)
{
	static const uint32_t headers[] = { NBD_OPT_STRUCTURED_REPLY, NBD_OPT_EXTENDED_HEADERS };

	for (size_t i = 0; i < sizeof(headers) / sizeof(headers[0]); i++) {
		struct talk t = talk_haggling(&offered);
		const struct nr_agreement *agreement;
		struct bytes script = { 0 };

		agree_on(&t, headers[i]);
		say_meta(&script, NBD_OPT_SET_META_CONTEXT, "disk", 1, "base:allocation");
		talk_say(&t, &script);
		hear_context(&t, NBD_OPT_SET_META_CONTEXT, 1, "base:allocation");
		hear_ack(&t, NBD_OPT_SET_META_CONTEXT);
		encrypt(&t);
		say_info(&script, NBD_OPT_GO, "disk", 0);
		talk_say(&t, &script);
		assert_int_equal(t.state, NR_HANDSHAKE_READY);
		agreement = nr_handshake_agreement(t.h);
		assert_int_equal(agreement->reply_style, NR_REPLY_SIMPLE);
		assert_int_equal(agreement->contexts, 0);
		talk_end(&t);
	}
}

/* Ask for "secret", which only is for clients with TLS; what is answered. */
static void ask_for_secret(struct talk *t, uint32_t code)
{
	static const struct nr_export_answer refused = { .refusal = NBD_REP_ERR_TLS_REQD,
							 .text = "only with TLS" };
	struct bytes script = { 0 };
	size_t used;

	if (code == NBD_OPT_EXPORT_NAME)
		say(&script, code, "secret", 6);
	else if (code == NBD_OPT_LIST_META_CONTEXT)
		say_meta(&script, code, "secret", 0);
	else
		say_info(&script, code, "secret", 0);
	t->state = nr_handshake_feed(t->h, script.at, script.length, &used);
	assert_int_equal(used, script.length);
	assert_int_equal(t->state, NR_HANDSHAKE_EXPORT);
	bytes_free(&script);
	t->state = nr_handshake_export_is(t->h, &refused);
	talk_settle(t);
}

/* T8 */
static void an_export_may_need_tls(void **state)
{
	struct talk t = talk_haggling(&offered);

	ask_for_secret(&t, NBD_OPT_INFO);
	hear_error(&t, NBD_OPT_INFO, NBD_REP_ERR_TLS_REQD);
	ask_for_secret(&t, NBD_OPT_GO);
	hear_error(&t, NBD_OPT_GO, NBD_REP_ERR_TLS_REQD);
	ask_for_secret(&t, NBD_OPT_LIST_META_CONTEXT);
	hear_error(&t, NBD_OPT_LIST_META_CONTEXT, NBD_REP_ERR_POLICY);
	assert_in_step(&t);
	ask_for_secret(&t, NBD_OPT_EXPORT_NAME);
	assert_int_equal(t.state, NR_HANDSHAKE_DROP);
	hear_nothing(&t);
	talk_end(&t);
}

/* T2, T5: whatever the owner says. */
static void tls_is_not_required_where_it_cannot_be_had_or_is_there(void **state)
{
	struct talk without = talk_haggling(&plain_config), within = talk_haggling(&offered);

	ask_for_secret(&without, NBD_OPT_GO);
	hear_error(&without, NBD_OPT_GO, NBD_REP_ERR_POLICY);
	encrypt(&within);
	ask_for_secret(&within, NBD_OPT_GO);
	hear_error(&within, NBD_OPT_GO, NBD_REP_ERR_POLICY);
	talk_end(&without);
	talk_end(&within);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(starttls_is_for_once),
		cmocka_unit_test(starttls_with_data_is_invalid_and_begins_nothing),
		cmocka_unit_test(nothing_behind_starttls_is_touched),
		cmocka_unit_test(without_required_tls_nothing_is_answered),
		cmocka_unit_test(export_name_without_required_tls_drops),
		cmocka_unit_test(a_client_may_leave_before_tls),
		cmocka_unit_test(a_server_that_ends_begins_no_tls),
		cmocka_unit_test(starttls_forgets_what_was_agreed),
		cmocka_unit_test(an_export_may_need_tls),
		cmocka_unit_test(tls_is_not_required_where_it_cannot_be_had_or_is_there),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
