/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Properties of the handshake under any input.
 *
 * - How the input is cut makes no difference: the same answers, the same end,
 *   the same bytes left for transmission.
 * - Garbage neither crashes it nor makes it hoard.
 *
 * Random, from a seed that is printed when a property does not hold; set SEED in the
 * environment to try another one.
 */
#include <stdio.h>

#include "tests/unit/test-handshake.h"

/* splitmix64 */
static uint64_t prng;

static uint64_t next_random(void)
{
	uint64_t z = prng += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

static size_t below(size_t n)
{
	return (size_t)(next_random() % n);
}

static bool chance(unsigned percent)
{
	return below(100) < percent;
}

static const char *any_name(void)
{
	static const char *const names[] = { "", "disk", "blocky", "bare", "nosuch", "\xff" };

	return names[below(sizeof(names) / sizeof(names[0]))];
}

static const char *any_query(void)
{
	static const char *const queries[] = { "base:", "base:allocation",
					       "qemu:", "qemu:allocation-depth",
					       "x",     "" };

	return queries[below(sizeof(queries) / sizeof(queries[0]))];
}

/* An option, most of them legal, few of them final. */
static void say_any_option(struct bytes *script)
{
	static const uint16_t infos[] = { 0, 1, 2, 3, 9 };
	static uint8_t junk[3000];
	uint32_t code = 2 + (uint32_t)below(11);

	switch (chance(85) ? code : 0) {
	case NBD_OPT_ABORT:
		if (chance(90))
			code = NBD_OPT_LIST;
		say(script, code, junk, chance(80) ? 0 : below(100));
		break;
	case NBD_OPT_GO:
		if (chance(70))
			code = NBD_OPT_INFO;
		/* fall through */
	case NBD_OPT_INFO:
		say_info(script, code, any_name(), (unsigned)below(4), infos[below(5)],
			 infos[below(5)], infos[below(5)]);
		break;
	case NBD_OPT_LIST_META_CONTEXT:
	case NBD_OPT_SET_META_CONTEXT:
		say_meta(script, code, any_name(), (unsigned)below(4), any_query(), any_query(),
			 any_query());
		break;
	case 0: /* junk behind any code */
		for (size_t i = 0; i < sizeof(junk); i++)
			junk[i] = (uint8_t)next_random();
		say(script, chance(50) ? code : (uint32_t)next_random(), junk,
		    chance(50) ? below(20) : below(sizeof(junk)));
		break;
	default:
		say(script, code, NULL, 0);
	}
}

static struct bytes any_script(void)
{
	struct bytes script = { 0 };
	size_t options = 1 + below(30);

	say_flags(&script, chance(90) ? BOTH_FLAGS : (uint32_t)below(8));
	for (size_t i = 0; i < options; i++)
		say_any_option(&script);
	if (chance(30))
		say(&script, NBD_OPT_EXPORT_NAME, "disk", 4);
	if (chance(30))
		say_info(&script, NBD_OPT_GO, "disk", 0);
	if (chance(10)) /* something in it is broken */
		script.at[below(script.length)] ^= (uint8_t)(1u << below(8));
	if (chance(20)) /* the client leaves half-way */
		script.length = below(script.length);
	bytes_add(&script, "request", 7);
	return script;
}

/* Everything that may not depend on how the input was cut. */
static void assert_same(const struct talk *a, const struct talk *b)
{
	assert_int_equal(a->state, b->state);
	assert_int_equal(a->used, b->used);
	assert_int_equal(a->questions, b->questions);
	assert_int_equal(a->output.length, b->output.length);
	assert_memory_equal(a->output.at, b->output.at, a->output.length);
	if (a->state == NR_HANDSHAKE_READY) {
		const struct nr_agreement *x = nr_handshake_agreement(a->h);
		const struct nr_agreement *y = nr_handshake_agreement(b->h);

		assert_true(x->info.size == y->info.size);
		assert_int_equal(x->info.flags, y->info.flags);
		assert_int_equal(x->info.block_min, y->info.block_min);
		assert_int_equal(x->reply_style, y->reply_style);
		assert_int_equal(x->asked_block_size, y->asked_block_size);
		assert_int_equal(x->contexts, y->contexts);
	}
	if (a->state == NR_HANDSHAKE_DROP)
		assert_string_equal(nr_handshake_reason(a->h), nr_handshake_reason(b->h));
}

/* Feed SCRIPT in pieces of at most MOST bytes, each in memory of its own size. */
static struct talk talk_in_pieces(const struct nr_handshake_config *config,
				  const struct bytes *script, size_t most)
{
	struct talk t = talk_begin(config);

	for (size_t at = 0; at < script->length && t.state == NR_HANDSHAKE_MORE;) {
		size_t n = 1 + below(most);
		uint8_t *piece;

		if (n > script->length - at)
			n = script->length - at;
		piece = malloc(n);
		memcpy(piece, script->at + at, n);
		talk_feed(&t, piece, n);
		free(piece);
		at += n;
	}
	return t;
}

static void cutting_the_input_makes_no_difference(void **state)
{
	(void)state;
	for (unsigned round = 0; round < 3000; round++) {
		const struct nr_handshake_config config = {
			.flags_mask = chance(90) ? 3 : (uint16_t)below(4),
			.no_structured = chance(10),
			.no_contexts = chance(10),
			.no_list = chance(10),
		};
		struct bytes script = any_script();
		struct talk whole = talk_in_pieces(&config, &script, script.length);
		struct talk single = talk_in_pieces(&config, &script, 1);
		struct talk cut = talk_in_pieces(&config, &script, 1 + below(64));

		talk_settle(&whole);
		assert_same(&whole, &single);
		assert_same(&whole, &cut);
		talk_end(&whole);
		talk_end(&single);
		talk_end(&cut);
		bytes_free(&script);
	}
}

/* Well-formed replies only, whatever was said. */
static void assert_output_is_replies(struct talk *t, bool export_name)
{
	hear(t, 18);
	while (t->read < t->output.length) {
		const uint8_t *p;

		if (export_name && t->output.length - t->read <= 134 &&
		    nbd_get64(t->output.at + t->read) != NBD_OPTION_REPLY_MAGIC)
			return;
		p = hear(t, 20);
		assert_true(nbd_get64(p) == NBD_OPTION_REPLY_MAGIC);
		hear(t, nbd_get32(p + 16));
	}
}

static void answers_are_always_well_formed(void **state)
{
	(void)state;
	for (unsigned round = 0; round < 3000; round++) {
		struct bytes script = any_script();
		struct talk t = talk_in_pieces(&plain_config, &script, 1 + below(1000));

		assert_output_is_replies(&t, t.state == NR_HANDSHAKE_READY);
		talk_end(&t);
		bytes_free(&script);
	}
}

/* Garbage from the first byte, and garbage behind something sensible; output is not taken. */
static void garbage_neither_crashes_nor_hoards(void **state)
{
	static uint8_t junk[5000];

	(void)state;
	for (unsigned round = 0; round < 3000; round++) {
		struct talk t =
			chance(20) ? talk_begin(&plain_config) : talk_haggling(&plain_config);
		struct bytes script = { 0 };
		size_t waiting;

		for (unsigned i = 0; i < 20 && t.state == NR_HANDSHAKE_MORE; i++) {
			size_t n = below(sizeof(junk)), used;

			for (size_t j = 0; j < n; j++)
				junk[j] = (uint8_t)next_random();
			if (n >= 16 && chance(90)) { /* let it get beyond the magic */
				nbd_put64(junk, NBD_IHAVEOPT);
				nbd_put32(junk + 8, (uint32_t)below(13));
				nbd_put32(junk + 12,
					  (uint32_t)(chance(90) ? n - 16 : next_random()));
			}
			if (n >= 24 && chance(50)) /* and beyond the name */
				nbd_put32(junk + 16, (uint32_t)below(n));
			t.state = nr_handshake_feed(t.h, junk, n, &used);
			if (t.state == NR_HANDSHAKE_EXPORT)
				t.state = answer_export(t.h);
			else if (t.state == NR_HANDSHAKE_LIST)
				t.state = answer_list(t.h);
		}
		nr_handshake_output(t.h, &waiting);
		assert_true(waiting <= NR_HANDSHAKE_BACKLOG + 2 * NBD_STRING_MAX);
		bytes_free(&script);
		talk_end(&t);
	}
}

static int seed_again(void **state)
{
	const char *seed = getenv("SEED");

	(void)state;
	prng = seed ? strtoull(seed, NULL, 0) : 20240221;
	return 0;
}

static int show_seed(void **state)
{
	const char *seed = getenv("SEED");

	(void)state;
	print_message("seed: %s, state at the end: %llu\n", seed ? seed : "the built-in one",
		      (unsigned long long)prng);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(cutting_the_input_makes_no_difference, seed_again),
		cmocka_unit_test_setup(answers_are_always_well_formed, seed_again),
		cmocka_unit_test_setup(garbage_neither_crashes_nor_hoards, seed_again),
	};

	return cmocka_run_group_tests(tests, NULL, show_seed);
}
