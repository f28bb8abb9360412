/* SPDX-License-Identifier: BSD-3-Clause */
/* What LUKS headers say, and which of it is borne. */
#undef NDEBUG
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "filters/luks-facts.h"

static const char usual[] =
	"{\"keyslots\":{"
	"\"0\":{\"type\":\"luks2\",\"key_size\":64,"
	"\"af\":{\"type\":\"luks1\",\"stripes\":4000,\"hash\":\"sha256\"},"
	"\"area\":{\"type\":\"raw\",\"offset\":\"32768\",\"size\":\"258048\","
	"\"encryption\":\"aes-xts-plain64\",\"key_size\":64},"
	"\"kdf\":{\"type\":\"argon2id\",\"time\":4,\"memory\":1048576,\"cpus\":4,\"salt\":\"\"}},"
	"\"1\":{\"type\":\"luks2\",\"key_size\":64,\"priority\":0,"
	"\"af\":{\"type\":\"luks1\",\"stripes\":4000,\"hash\":\"sha256\"},"
	"\"area\":{\"type\":\"raw\",\"offset\":\"290816\",\"size\":\"258048\","
	"\"encryption\":\"aes-xts-plain64\",\"key_size\":64},"
	"\"kdf\":{\"type\":\"pbkdf2\",\"hash\":\"sha256\",\"iterations\":9000000,\"salt\":\"\"}},"
	"\"2\":{\"type\":\"luks2\",\"key_size\":32}},"
	"\"tokens\":{},"
	"\"segments\":{\"0\":{\"type\":\"crypt\",\"offset\":\"16777216\",\"size\":\"dynamic\","
	"\"iv_tweak\":\"0\",\"encryption\":\"aes-xts-plain64\",\"sector_size\":4096}},"
	"\"digests\":{\"0\":{\"type\":\"pbkdf2\",\"keyslots\":[\"0\",\"1\"],\"segments\":[\"0\"],"
	"\"hash\":\"sha256\",\"iterations\":100000,\"salt\":\"\",\"digest\":\"\"}},"
	"\"config\":{\"json_size\":\"12288\",\"keyslots_size\":\"16744448\"}}";

static const struct nr_luks_limits limits = { UINT64_C(1) << 30, 120 };

/* The usual text with one part of it replaced by another. */
static int facts_with(const char *part, const char *other, struct nr_luks_facts *facts,
		      struct nr_error *error)
{
	const char *at = strstr(usual, part);
	char *text = NULL;
	int err;

	assert_non_null(at);
	assert_true(asprintf(&text, "%.*s%s%s", (int)(at - usual), usual, other,
			     at + strlen(part)) > 0);
	err = nr_luks_facts_2(text, facts, error);
	free(text);
	return err;
}

static void what_a_usual_header_says(void **state)
{
	struct nr_luks_facts facts;
	struct nr_error error;

	assert_int_equal(nr_luks_facts_2(usual, &facts, &error), 0);
	assert_string_equal(facts.cipher, "aes");
	assert_string_equal(facts.mode, "xts-plain64");
	assert_int_equal(facts.key_bytes, 64);
	assert_int_equal(facts.payload, 16777216);
	assert_int_equal(facts.length, 0);
	assert_int_equal(facts.iv_first, 0);
	assert_int_equal(facts.sector, 4096);
	assert_int_equal(facts.slot[0].area, 32768);
	assert_int_equal(facts.slot[0].memory, UINT64_C(1) << 30);
	assert_int_equal(facts.slot[0].work, 4 << 20);
	assert_int_equal(facts.slot[1].work, 18000000);
	assert_int_equal(facts.check, 200000);

	/* Slot 1 is tried when it is named; slot 2 has another key. */
	assert_true(nr_luks_slot_tried(&facts, NR_LUKS_ANY_SLOT, 0));
	assert_false(nr_luks_slot_tried(&facts, NR_LUKS_ANY_SLOT, 1));
	assert_true(nr_luks_slot_tried(&facts, 1, 1));
	assert_false(nr_luks_slot_tried(&facts, 2, 2));
	assert_int_equal(nr_luks_judge(&facts, NR_LUKS_ANY_SLOT, &limits, &error), 0);
	assert_int_equal(nr_luks_judge(&facts, 2, &limits, &error), -ENOENT);
	assert_string_equal(error.text, "its key slot 2 is not in use");
}

static void a_part_of_the_disk(void **state)
{
	struct nr_luks_facts facts;
	struct nr_error error;

	assert_int_equal(facts_with("\"dynamic\"", "\"1048576\"", &facts, &error), 0);
	assert_int_equal(facts.length, 1048576);
	assert_int_equal(facts_with("\"iv_tweak\":\"0\"", "\"iv_tweak\":\"18446744073709551615\"",
				    &facts, &error),
			 0);
	assert_true(facts.iv_first == UINT64_MAX);
}

static void what_is_damaged_or_not_supported(void **state)
{
	static const struct {
		const char *part, *other, *says;
		int code;
	} rows[] = {
		{ "\"16777216\"", "\"16777216x\"", "where the data is", -EINVAL },
		{ "\"16777216\"", "\"9223372036854775808\"", "where the data is", -EINVAL },
		{ "\"16777216\"", "\"18446744073709551616\"", "where the data is", -EINVAL },
		{ "\"16777216\"", "-1", "where the data is", -EINVAL },
		{ "\"sector_size\":4096", "\"sector_size\":4095", "no sector", -EINVAL },
		{ "\"sector_size\":4096", "\"sector_size\":8192", "no sector", -EINVAL },
		{ "\"sector_size\":4096", "\"sector_size\":0", "no sector", -EINVAL },
		{ "\"dynamic\"", "\"0\"", "how long the data is", -EINVAL },
		{ "\"dynamic\"", "\"513\"", "how long the data is", -EINVAL },
		{ "\"dynamic\"", "7", "how long the data is", -EINVAL },
		{ "\"encryption\":\"aes-xts-plain64\",\"sector",
		  "\"encryption\":\"aes-\\u0007\",\"sector", "how the data is encrypted", -EINVAL },
		{ "\"encryption\":\"aes-xts-plain64\",\"sector", "\"encryption\":\"aes\",\"sector",
		  "how the data is encrypted", -EINVAL },
		{ "\"type\":\"crypt\"", "\"type\":\"linear\"", "as a whole", -ENOTSUP },
		{ "\"iv_tweak\"", "\"integrity\":{},\"iv_tweak\"", "dm-integrity", -ENOTSUP },
		{ "\"segments\":{\"0\"", "\"segments\":{\"1\":{},\"0\"", "anew", -ENOTSUP },
		{ "\"json_size\"", "\"requirements\":{\"mandatory\":[\"x\"]},\"json_size\"", "anew",
		  -ENOTSUP },
		{ "\"segments\":{", "\"segmemts\":{", "where the data is", -EINVAL },
		{ "\"segments\":[\"0\"]", "\"segments\":[0,null,{}]", "no digest", -EINVAL },
		{ "\"segments\":[\"0\"]", "\"segments\":\"0\"", "no digest", -EINVAL },
		{ "\"digests\":{", "\"digests\":[{", "no JSON", -EINVAL },
		{ "\"keyslots\":{", "\"keysluts\":{", "no key slots", -EINVAL },
		{ "\"key_size\":64,\"af\"", "\"key_size\":4194304,\"af\"", "no key", -EINVAL },
		{ "\"key_size\":64,\"af\"", "\"key_size\":0,\"af\"", "no key", -EINVAL },
		{ "\"key_size\":64,\"af\"", "\"key_size\":32,\"af\"", "equally long", -EINVAL },
		{ "\"key_size\":64}", "\"key_size\":4096}", "no key", -EINVAL },
		{ "\"stripes\":4000", "\"stripes\":4000000", "where one can be", -EINVAL },
		{ "\"32768\"", "\"18446744073709551615\"", "where one can be", -EINVAL },
		{ "argon2id", "argon3", "how its key is derived", -EINVAL },
		{ "\"time\":4", "\"time\":-4", "how its key is derived", -EINVAL },
		{ "\"af\":{", "\"ef\":{", "not complete", -EINVAL },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct nr_error error = { .code = 0 };
		struct nr_luks_facts facts;

		assert_int_equal(facts_with(rows[i].part, rows[i].other, &facts, &error),
				 rows[i].code);
		if (!strstr(error.text, rows[i].says))
			fail_msg("\"%s\" is not in: %s", rows[i].says, error.text);
	}
}

static void what_takes_too_much(void **state)
{
	static const struct {
		const char *part, *other, *says;
		int slot;
	} rows[] = {
		{ "\"memory\":1048576", "\"memory\":1048577", "memory", NR_LUKS_ANY_SLOT },
		{ "\"memory\":1048576", "\"memory\":9223372036854775807", "memory", 0 },
		{ "\"cpus\":4", "\"cpus\":17", "threads", NR_LUKS_ANY_SLOT },
		{ "\"cpus\":4", "\"cpus\":\"18446744073709551615\"", "threads", 0 },
		{ "\"time\":4", "\"time\":200", "209 seconds", NR_LUKS_ANY_SLOT },
		{ "\"time\":4", "\"time\":9223372036854775807", "seconds", NR_LUKS_ANY_SLOT },
		{ "\"iterations\":9000000", "\"iterations\":4294967295", "seconds", 1 },
		{ "\"iterations\":100000", "\"iterations\":4294967295", "seconds", 0 },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct nr_error error = { .code = 0 };
		struct nr_luks_facts facts;

		assert_int_equal(facts_with(rows[i].part, rows[i].other, &facts, &error), 0);
		assert_int_equal(nr_luks_judge(&facts, rows[i].slot, &limits, &error), -EFBIG);
		if (!strstr(error.text, rows[i].says))
			fail_msg("\"%s\" is not in: %s", rows[i].says, error.text);
	}
}

/* What is not tried costs nothing. */
static void a_slot_that_is_not_tried_may_ask_for_anything(void **state)
{
	struct nr_luks_facts facts;
	struct nr_error error;

	assert_int_equal(facts_with("\"memory\":1048576", "\"memory\":999999999", &facts, &error),
			 0);
	assert_int_equal(nr_luks_judge(&facts, 1, &limits, &error), 0);
}

/* Work of all slots that will be tried counts together. */
static void many_slots_are_much_work(void **state)
{
	struct nr_luks_facts facts = { .check = 1000000 };
	struct nr_error error;

	for (int i = 0; i < 30; i++)
		facts.slot[i] = (struct nr_luks_slot){ .active = true, .work = 3000000 };
	assert_int_equal(nr_luks_judge(&facts, NR_LUKS_ANY_SLOT, &limits, &error), -EFBIG);
	assert_string_equal(error.text,
			    "trying 30 key slots would take about 120 seconds, by what the header "
			    "asks for; raise luks-max-kdf-time= if that is right, or name the slot "
			    "with luks-key-slot=");
	facts.slot[3].active = false;
	assert_int_equal(nr_luks_judge(&facts, NR_LUKS_ANY_SLOT, &limits, &error), 0);
	memset(facts.slot, 0, sizeof(facts.slot));
	assert_int_equal(nr_luks_judge(&facts, NR_LUKS_ANY_SLOT, &limits, &error), -ENOENT);
}

static void put32(uint8_t *p, uint32_t n)
{
	p[0] = (uint8_t)(n >> 24);
	p[1] = (uint8_t)(n >> 16);
	p[2] = (uint8_t)(n >> 8);
	p[3] = (uint8_t)n;
}

static void the_first_version(void **state)
{
	uint8_t header[NR_LUKS1_HEADER] = { 0 };
	struct nr_luks_facts facts;
	struct nr_error error;

	/* Names that fill their fields have no NUL. */
	memset(header + 8, 'c', 32);
	memset(header + 40, 'm', 32);
	memcpy(header + 72, "sha1", 5);
	put32(header + 104, UINT32_MAX);
	put32(header + 108, 32);
	put32(header + 164, 5000);
	put32(header + 208 + 48, 0x00ac71f3);
	put32(header + 208 + 48 + 4, 1000);
	put32(header + 208 + 48 + 40, 264);
	put32(header + 208 + 48 + 44, 4000);
	assert_int_equal(nr_luks_facts_1(header, &facts, &error), 0);
	assert_int_equal(strlen(facts.cipher), 32);
	assert_int_equal(strlen(facts.mode), 32);
	assert_int_equal(facts.key_bytes, 32);
	assert_true(facts.payload == UINT64_C(512) * UINT32_MAX);
	assert_int_equal(facts.check, 5000);
	assert_false(facts.slot[0].active);
	assert_true(facts.slot[1].active);
	assert_int_equal(facts.slot[1].area, 264 * 512);
	assert_int_equal(facts.slot[1].work, 2000);

	header[9] = '\n';
	assert_int_equal(nr_luks_facts_1(header, &facts, &error), -EINVAL);
	header[9] = 'c';
	put32(header + 208 + 48 + 44, 4001);
	assert_int_equal(nr_luks_facts_1(header, &facts, &error), -EINVAL);
	put32(header + 108, 65);
	assert_int_equal(nr_luks_facts_1(header, &facts, &error), -EINVAL);
	put32(header + 108, 0);
	assert_int_equal(nr_luks_facts_1(header, &facts, &error), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_a_usual_header_says),
		cmocka_unit_test(a_part_of_the_disk),
		cmocka_unit_test(what_is_damaged_or_not_supported),
		cmocka_unit_test(what_takes_too_much),
		cmocka_unit_test(a_slot_that_is_not_tried_may_ask_for_anything),
		cmocka_unit_test(many_slots_are_much_work),
		cmocka_unit_test(the_first_version),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
