/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The course of a handshake: flags, EXPORT_NAME, staying in step, leaving.
 * Each test names the requirement it checks ("H7", …: docs/protocol.md).
 */
#include "tests/unit/test-handshake.h"

/* ---- flags and greeting ---- */

/* H1 */
static void greeting_offers_the_two_flags_and_no_others(void **state)
{
	struct nr_handshake_config config = { .flags_mask = 0xffff };

	(void)state;
	for (unsigned mask = 0; mask < 4; mask++) {
		struct talk t;

		config.flags_mask = (uint16_t)(0xfffc | mask);
		t = talk_begin(&config);
		hear_greeting(&t, (uint16_t)mask);
		hear_nothing(&t);
		assert_false(nr_handshake_begun(t.h));
		talk_end(&t);
	}
}

static enum nr_handshake_state state_after_flags(uint16_t mask, uint32_t flags)
{
	struct nr_handshake_config config = { .flags_mask = mask };
	struct talk t = talk_begin(&config);
	struct bytes script = { 0 };
	enum nr_handshake_state result;

	say_flags(&script, flags);
	talk_say(&t, &script);
	result = t.state;
	assert_int_equal(nr_handshake_begun(t.h), result == NR_HANDSHAKE_MORE);
	if (result == NR_HANDSHAKE_DROP)
		assert_non_null(nr_handshake_reason(t.h));
	talk_end(&t);
	return result;
}

/* H2 */
static void a_client_flag_that_was_not_offered_drops(void **state)
{
	(void)state;
	assert_int_equal(state_after_flags(3, 3), NR_HANDSHAKE_MORE);
	assert_int_equal(state_after_flags(3, 1), NR_HANDSHAKE_MORE);
	assert_int_equal(state_after_flags(3, 0), NR_HANDSHAKE_MORE);
	for (unsigned bit = 2; bit < 32; bit++)
		assert_int_equal(state_after_flags(3, 3 | UINT32_C(1) << bit), NR_HANDSHAKE_DROP);
	assert_int_equal(state_after_flags(1, 3), NR_HANDSHAKE_DROP); /* NO_ZEROES */
	assert_int_equal(state_after_flags(2, 3), NR_HANDSHAKE_DROP); /* FIXED_NEWSTYLE */
	assert_int_equal(state_after_flags(0, 1), NR_HANDSHAKE_DROP);
	assert_int_equal(state_after_flags(0, 0), NR_HANDSHAKE_MORE);
}

/* H3 */
static void without_fixed_newstyle_only_export_name_is_valid(void **state)
{
	static const uint32_t codes[] = { 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 77 };

	(void)state;
	for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++) {
		struct talk t = talk_begin(&plain_config);
		struct bytes script = { 0 };

		hear_greeting(&t, BOTH_FLAGS);
		say_flags(&script, NBD_FLAG_NO_ZEROES);
		say(&script, codes[i], NULL, 0);
		talk_say(&t, &script);
		assert_int_equal(t.state, NR_HANDSHAKE_DROP);
		hear_nothing(&t);
		talk_end(&t);
	}
}

/* ---- EXPORT_NAME ---- */

static void expect_export_name(uint16_t mask, uint32_t flags, size_t zeroes)
{
	struct nr_handshake_config config = { .flags_mask = mask };
	struct talk t = talk_begin(&config);
	struct bytes script = { 0 };
	const uint8_t *p;

	hear_greeting(&t, mask);
	say_flags(&script, flags);
	say(&script, NBD_OPT_EXPORT_NAME, "disk", 4);
	bytes_add(&script, "first request", 13);
	talk_say(&t, &script);
	assert_int_equal(t.state, NR_HANDSHAKE_READY);
	assert_int_equal(t.used, 4 + 16 + 4); /* the requests are not the handshake's */

	p = hear(&t, 10 + zeroes);
	assert_true(nbd_get64(p) == DISK_SIZE);
	assert_int_equal(nbd_get16(p + 8), DISK_FLAGS);
	for (size_t i = 0; i < zeroes; i++)
		assert_int_equal(p[10 + i], 0);
	hear_nothing(&t);
	assert_int_equal(nr_handshake_agreement(t.h)->reply_style, NR_REPLY_SIMPLE);
	assert_int_equal(nr_handshake_agreement(t.h)->contexts, 0);
	assert_false(nr_handshake_agreement(t.h)->asked_block_size);
	talk_end(&t);
}

/* H4, H3 */
static void export_name_is_padded_unless_both_said_no_zeroes(void **state)
{
	(void)state;
	expect_export_name(3, 3, 0);
	expect_export_name(3, 1, 124);
	expect_export_name(3, 2, 0);
	expect_export_name(3, 0, 124);
	expect_export_name(1, 1, 124);
	expect_export_name(2, 2, 0);
	expect_export_name(0, 0, 124);
}

/* H5, H8 */
static void export_name_that_cannot_be_granted_drops(void **state)
{
	static uint8_t longest[NBD_STRING_MAX + 1];
	static const struct {
		const void *name;
		size_t length;
	} cases[] = {
		{ "nosuch", 6 },
		{ "di\0sk", 5 },
		{ "\xff", 1 },
		{ "\xc0\x80", 2 },
		{ longest, NBD_STRING_MAX + 1 },
		{ longest, NBD_STRING_MAX },
	};

	(void)state;
	memset(longest, 'a', sizeof(longest));
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct talk t = talk_haggling(&plain_config);
		struct bytes script = { 0 };

		say(&script, NBD_OPT_EXPORT_NAME, cases[i].name, cases[i].length);
		talk_say(&t, &script);
		assert_int_equal(t.state, NR_HANDSHAKE_DROP);
		hear_nothing(&t);
		talk_end(&t);
	}
}

/* ---- staying in step ---- */

/* H6, H23 */
static void unknown_options_are_skipped_and_answered(void **state)
{
	static const uint32_t codes[] = { 0, 4, 12, 0x7fffffff, 0xffffffff };
	static const uint32_t lengths[] = { 0, 1, 16, 65536, 65537, 1 << 20 };
	uint8_t *junk = calloc(1, 1 << 20);

	(void)state;
	for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++) {
		struct talk t = talk_haggling(&plain_config);

		for (size_t j = 0; j < sizeof(lengths) / sizeof(lengths[0]); j++) {
			struct bytes script = { 0 };

			say(&script, codes[i], junk, lengths[j]);
			talk_say(&t, &script);
			hear_error(&t, codes[i], NBD_REP_ERR_UNSUP);
			assert_in_step(&t);
		}
		talk_end(&t);
	}
	free(junk);
}

/* H7, H9: junk of any length behind any option; EXPORT_NAME is the exception. */
static void every_error_drains_the_whole_payload(void **state)
{
	static const uint32_t lengths[] = { 1, 3, 5, 6, 7, 8, 100, 65535, 65536, 65537, 300000 };
	uint8_t *junk = malloc(300000);

	(void)state;
	memset(junk, 0xee, 300000);
	for (uint32_t code = NBD_OPT_LIST; code < 14; code++) {
		struct talk t = talk_haggling(&plain_config);

		for (size_t j = 0; j < sizeof(lengths) / sizeof(lengths[0]); j++) {
			struct bytes script = { 0 };
			const uint8_t *p;

			say(&script, code, junk, lengths[j]);
			talk_say(&t, &script);
			p = hear(&t, 20);
			assert_int_equal(nbd_get32(p + 8), code);
			assert_true(nbd_get32(p + 12) & NBD_REP_ERR_BIT);
			hear(&t, nbd_get32(p + 16));
			assert_in_step(&t);
		}
		assert_int_equal(t.questions, 0);
		talk_end(&t);
	}
	free(junk);
}

/* H6, H7: streaming, not stored: this would not fit. */
static void the_longest_payload_is_skipped(void **state)
{
	const size_t piece = 64 << 20;
	uint8_t *junk = calloc(1, piece);
	struct talk t = talk_haggling(&plain_config);
	uint64_t left = UINT32_MAX;
	struct bytes script = { 0 };

	(void)state;
	say_header(&script, NBD_OPT_GO, UINT32_MAX);
	talk_say(&t, &script);
	while (left > 0) {
		size_t n = left < piece ? (size_t)left : piece;

		hear_nothing(&t);
		talk_feed(&t, junk, n);
		left -= n;
	}
	hear_error(&t, NBD_OPT_GO, NBD_REP_ERR_TOO_BIG);
	assert_in_step(&t);
	talk_end(&t);
	free(junk);
}

static void a_wrong_option_magic_drops(void **state)
{
	struct talk t = talk_haggling(&plain_config);
	struct bytes script = { 0 };

	(void)state;
	bytes_add64(&script, NBD_IHAVEOPT ^ 1);
	bytes_add64(&script, 0);
	talk_say(&t, &script);
	assert_int_equal(t.state, NR_HANDSHAKE_DROP);
	talk_end(&t);
}

/* H9: errors do not add up to a disconnect. */
static void errors_never_end_the_conversation(void **state)
{
	struct talk t = talk_haggling(&plain_config);

	(void)state;
	for (unsigned i = 0; i < 10000; i++) {
		struct bytes script = { 0 };

		say(&script, NBD_OPT_LIST, "x", 1);
		say_info(&script, NBD_OPT_GO, "nosuch", 0);
		talk_say(&t, &script);
		hear_error(&t, NBD_OPT_LIST, NBD_REP_ERR_INVALID);
		hear_error(&t, NBD_OPT_GO, NBD_REP_ERR_UNKNOWN);
	}
	assert_in_step(&t);
	talk_end(&t);
}

/* Pipelining clients cannot make us hoard answers. */
static void no_option_is_begun_above_the_backlog(void **state)
{
	struct talk t = talk_haggling(&plain_config);
	struct bytes script = { 0 };
	const unsigned count = 20000;
	size_t done = 0, used, waiting = 0, most = 0;
	unsigned stops = 0;

	(void)state;
	for (unsigned i = 0; i < count; i++)
		say(&script, 99, NULL, 0);
	while (done < script.length) {
		t.state = nr_handshake_feed(t.h, script.at + done, script.length - done, &used);
		assert_int_equal(t.state, NR_HANDSHAKE_MORE);
		done += used;
		nr_handshake_output(t.h, &waiting);
		most = waiting > most ? waiting : most;
		if (done < script.length) {
			/* Asking again without sending does not help. */
			nr_handshake_feed(t.h, script.at + done, script.length - done, &used);
			assert_int_equal(used, 0);
			stops++;
		}
		talk_collect(&t);
	}
	assert_true(stops > 1);
	assert_true(most <= NR_HANDSHAKE_BACKLOG + 20 + NBD_STRING_MAX);
	for (unsigned i = 0; i < count; i++)
		hear_error(&t, 99, NBD_REP_ERR_UNSUP);
	hear_nothing(&t);
	bytes_free(&script);
	talk_end(&t);
}

/* Partly sent output stays in order. */
static void output_may_leave_in_small_pieces(void **state)
{
	struct talk t = talk_haggling(&plain_config);
	struct bytes script = { 0 };
	size_t length, used;

	(void)state;
	for (unsigned i = 0; i < 100; i++) {
		say(&script, i + 100, NULL, 0);
		nr_handshake_feed(t.h, script.at + i * 16, 16, &used);
		for (unsigned j = 0; j < i % 5; j++) {
			const uint8_t *out = nr_handshake_output(t.h, &length);
			size_t n = length < 7 ? length : 7;

			bytes_add(&t.output, out, n);
			nr_handshake_sent(t.h, n);
		}
	}
	talk_collect(&t);
	for (unsigned i = 0; i < 100; i++)
		hear_error(&t, i + 100, NBD_REP_ERR_UNSUP);
	hear_nothing(&t);
	bytes_free(&script);
	talk_end(&t);
}

/* ---- leaving, shutting down ---- */

/* H11 */
static void abort_is_acknowledged_whatever_it_carries(void **state)
{
	static const uint32_t lengths[] = { 0, 1, 70000 };
	uint8_t *junk = calloc(1, 70000);

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		struct talk t = talk_haggling(&plain_config);
		struct bytes script = { 0 };
		size_t length;

		say(&script, NBD_OPT_ABORT, junk, lengths[i]);
		length = script.length;
		say(&script, NBD_OPT_LIST, NULL, 0); /* is not looked at any more */
		talk_say(&t, &script);
		hear_ack(&t, NBD_OPT_ABORT);
		hear_nothing(&t);
		assert_int_equal(t.state, NR_HANDSHAKE_CLOSE);
		assert_int_equal(t.used, 4 + length);
		talk_end(&t);
	}
	free(junk);
}

/* H10 */
static void shutting_down_refuses_everything_but_abort(void **state)
{
	struct talk t = talk_haggling(&plain_config);
	struct bytes script = { 0 };

	(void)state;
	agree_on(&t, NBD_OPT_STRUCTURED_REPLY);
	nr_handshake_shutdown(t.h);
	for (uint32_t code = NBD_OPT_LIST; code < 14; code++) {
		say(&script, code, "payload", 7);
		say(&script, code, NULL, 0);
	}
	talk_say(&t, &script);
	for (uint32_t code = NBD_OPT_LIST; code < 14; code++) {
		hear_error(&t, code, NBD_REP_ERR_SHUTDOWN);
		hear_error(&t, code, NBD_REP_ERR_SHUTDOWN);
	}
	assert_int_equal(t.questions, 0);
	agree_on(&t, NBD_OPT_ABORT);
	assert_int_equal(t.state, NR_HANDSHAKE_CLOSE);
	talk_end(&t);

	t = talk_haggling(&plain_config);
	nr_handshake_shutdown(t.h);
	say(&script, NBD_OPT_EXPORT_NAME, "disk", 4);
	talk_say(&t, &script);
	assert_int_equal(t.state, NR_HANDSHAKE_DROP);
	hear_nothing(&t);
	talk_end(&t);
}

/* ---- while a question is open ---- */

static void no_input_is_consumed_while_a_question_is_open(void **state)
{
	struct talk t = talk_haggling(&plain_config);
	struct bytes script = { 0 };
	size_t used;

	(void)state;
	say_info(&script, NBD_OPT_INFO, "disk", 0);
	say(&script, NBD_OPT_LIST, NULL, 0);
	assert_int_equal(nr_handshake_feed(t.h, script.at, script.length, &used),
			 NR_HANDSHAKE_EXPORT);
	assert_int_equal(used, script.length - 16);
	assert_int_equal(nr_handshake_feed(t.h, script.at + used, 16, &used), NR_HANDSHAKE_EXPORT);
	assert_int_equal(used, 0);
	assert_int_equal(answer_export(t.h), NR_HANDSHAKE_MORE);
	assert_int_equal(nr_handshake_feed(t.h, script.at + script.length - 16, 16, &used),
			 NR_HANDSHAKE_LIST);
	assert_int_equal(used, 16);
	bytes_free(&script);
	talk_end(&t); /* a client may leave with a question open */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(greeting_offers_the_two_flags_and_no_others),
		cmocka_unit_test(a_client_flag_that_was_not_offered_drops),
		cmocka_unit_test(without_fixed_newstyle_only_export_name_is_valid),
		cmocka_unit_test(export_name_is_padded_unless_both_said_no_zeroes),
		cmocka_unit_test(export_name_that_cannot_be_granted_drops),
		cmocka_unit_test(unknown_options_are_skipped_and_answered),
		cmocka_unit_test(every_error_drains_the_whole_payload),
		cmocka_unit_test(the_longest_payload_is_skipped),
		cmocka_unit_test(a_wrong_option_magic_drops),
		cmocka_unit_test(errors_never_end_the_conversation),
		cmocka_unit_test(no_option_is_begun_above_the_backlog),
		cmocka_unit_test(output_may_leave_in_small_pieces),
		cmocka_unit_test(abort_is_acknowledged_whatever_it_carries),
		cmocka_unit_test(shutting_down_refuses_everything_but_abort),
		cmocka_unit_test(no_input_is_consumed_while_a_question_is_open),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
