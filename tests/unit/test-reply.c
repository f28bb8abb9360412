/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Encoding of replies, byte by byte, and the strings they carry.  Each test
 * names the requirement it checks ("C11", …: docs/protocol.md).
 */
#undef NDEBUG
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "src/protocol/reply.h"
#include "src/protocol/session.h"
#include "src/protocol/text.h"

#define OFFSET UINT64_C(0x0102030405060708)

static const uint8_t cookie[8] = { 0xc0, 0x0c, 0x1e, 0xff, 0x00, 0x7f, 0x80, 0x01 };

static struct nr_reply_to reply_to(enum nr_reply_style style)
{
	struct nr_reply_to to = { .offset = OFFSET, .style = (uint8_t)style };

	memcpy(&to.cookie, cookie, sizeof(cookie));
	return to;
}

/* Check a chunk of N bytes' header; returns its payload, of LENGTH bytes. */
static const uint8_t *chunk(const uint8_t *p, size_t n, enum nr_reply_style style, uint16_t type,
			    uint16_t flags, uint64_t length)
{
	bool extended = style == NR_REPLY_EXTENDED;
	size_t header = extended ? 32 : 20;

	assert_true(n >= header);
	assert_int_equal(nbd_get32(p), extended ? 0x6e8a278c : 0x668e33ef);
	assert_int_equal(nbd_get16(p + 4), flags);
	assert_int_equal(nbd_get16(p + 6), type);
	assert_memory_equal(p + 8, cookie, 8);
	if (extended)
		assert_true(nbd_get64(p + 16) == OFFSET);
	assert_true((extended ? nbd_get64(p + 24) : nbd_get32(p + 16)) == length);
	return p + header;
}

/* X4 */
static void simple_replies_carry_the_cookie_as_it_came(void **state)
{
	struct nr_reply_to to = reply_to(NR_REPLY_SIMPLE);
	uint8_t out[16];

	(void)state;
	assert_int_equal(nr_reply_simple(out, to.cookie, NBD_ENOSPC), 16);
	assert_int_equal(nbd_get32(out), 0x67446698);
	assert_int_equal(nbd_get32(out + 4), 28);
	assert_memory_equal(out + 8, cookie, 8);

	assert_int_equal(nr_reply_ok(out, &to), 16);
	assert_int_equal(nbd_get32(out + 4), 0);

	/* X15: an error for READ is a header and nothing else. */
	assert_int_equal(nr_reply_error(out, &to, NBD_EIO, "text"), 16);
	assert_int_equal(nbd_get32(out + 4), 5);
}

/* X5, X6: NONE has DONE and no payload; E2: the request's offset in every chunk. */
static void success_is_a_none_chunk(void **state)
{
	uint8_t out[NR_REPLY_HEADER_MAX];

	(void)state;
	for (enum nr_reply_style style = NR_REPLY_STRUCTURED; style <= NR_REPLY_EXTENDED; style++) {
		struct nr_reply_to to = reply_to(style);
		size_t n = nr_reply_ok(out, &to);

		assert_int_equal(n, style == NR_REPLY_EXTENDED ? 32 : 20);
		chunk(out, n, style, NBD_REPLY_TYPE_NONE, NBD_REPLY_FLAG_DONE, 0);
	}
}

/* C1, E2 */
static void data_and_holes_say_where_they_are(void **state)
{
	uint8_t out[NR_REPLY_HEADER_MAX];

	(void)state;
	for (enum nr_reply_style style = NR_REPLY_STRUCTURED; style <= NR_REPLY_EXTENDED; style++) {
		struct nr_reply_to to = reply_to(style);
		size_t header = style == NR_REPLY_EXTENDED ? 32 : 20, n;
		const uint8_t *p;

		for (unsigned done = 0; done < 2; done++) {
			n = nr_reply_data(out, &to, OFFSET + 512, 1u << 25, done);
			assert_int_equal(n, header + 8);
			p = chunk(out, n, style, NBD_REPLY_TYPE_OFFSET_DATA, (uint16_t)done,
				  8 + (1u << 25));
			assert_true(nbd_get64(p) == OFFSET + 512);

			n = nr_reply_hole(out, &to, OFFSET + 1024, UINT32_MAX, done);
			assert_int_equal(n, header + 12);
			assert_true(n <= NR_REPLY_HEADER_MAX);
			p = chunk(out, n, style, NBD_REPLY_TYPE_OFFSET_HOLE, (uint16_t)done, 12);
			assert_true(nbd_get64(p) == OFFSET + 1024);
			assert_int_equal(nbd_get32(p + 8), UINT32_MAX);
		}
		n = nr_reply_data(out, &to, 0, 1, false);
		chunk(out, n, style, NBD_REPLY_TYPE_OFFSET_DATA, 0, 9);
	}
}

/* X7 */
static void errors_carry_text(void **state)
{
	uint8_t out[NR_REPLY_ERROR_MAX];

	(void)state;
	for (enum nr_reply_style style = NR_REPLY_STRUCTURED; style <= NR_REPLY_EXTENDED; style++) {
		struct nr_reply_to to = reply_to(style);
		size_t header = style == NR_REPLY_EXTENDED ? 32 : 20;
		size_t n = nr_reply_error(out, &to, NBD_EINVAL, "why");
		const uint8_t *p = chunk(out, n, style, 0x8001, NBD_REPLY_FLAG_DONE, 9);

		assert_int_equal(n, header + 9);
		assert_int_equal(nbd_get32(p), NBD_EINVAL);
		assert_int_equal(nbd_get16(p + 4), 3);
		assert_memory_equal(p + 6, "why", 3);

		n = nr_reply_error(out, &to, NBD_EIO, NULL);
		p = chunk(out, n, style, 0x8001, NBD_REPLY_FLAG_DONE, 6);
		assert_int_equal(nbd_get16(p + 4), 0);

		n = nr_reply_error_at(out, &to, NBD_EIO, OFFSET + 7, "there");
		p = chunk(out, n, style, 0x8002, NBD_REPLY_FLAG_DONE, 19);
		assert_int_equal(n, header + 19);
		assert_int_equal(nbd_get16(p + 4), 5);
		assert_memory_equal(p + 6, "there", 5);
		assert_true(nbd_get64(p + 11) == OFFSET + 7);
	}
}

/* X7, H8: cut at a character, and never sent when it is no UTF-8. */
static void error_text_is_cut_at_a_character(void **state)
{
	struct nr_reply_to to = reply_to(NR_REPLY_EXTENDED);
	uint8_t out[NR_REPLY_ERROR_MAX];
	char text[1000];
	size_t n;

	(void)state;
	for (size_t lead = 0; lead < 4; lead++) {
		size_t expected = lead + (NR_REPLY_ERROR_TEXT_MAX - lead) / 4 * 4;

		memset(text, 'x', lead);
		for (size_t i = lead; i + 4 < sizeof(text); i += 4)
			memcpy(text + i, "\xf0\x9f\x92\xbe", 5);
		n = nr_reply_error_at(out, &to, NBD_EIO, 0, text);
		assert_true(n <= NR_REPLY_ERROR_MAX);
		assert_int_equal(nbd_get16(out + 36), expected);
		assert_int_equal(n, 32 + 6 + expected + 8);
		assert_true(nbd_text_ok(out + 38, expected));
	}
	n = nr_reply_error(out, &to, NBD_EIO, "disk \xe9.img");
	assert_int_equal(n, 32 + 6);
}

/* ---- extents ---- */

struct decoded {
	uint32_t context;
	unsigned count;
	struct {
		uint64_t length, status;
	} extent[8];
};

/* Encode into memory of exactly the size announced, and decode. */
static struct decoded extents(enum nr_reply_style style, const struct nr_extent *list,
			      uint32_t count, uint64_t length, bool req_one, uint32_t align)
{
	struct nr_extents all = { .count = count,
				  .capacity = count,
				  .extent = (struct nr_extent *)list };
	struct nr_reply_to to = reply_to(style);
	size_t room = nr_reply_extents_bytes(&to, &all), n;
	uint8_t *out = malloc(room);
	bool extended = style == NR_REPLY_EXTENDED;
	size_t header = extended ? 32 : 20, fixed = extended ? 8 : 4, each = extended ? 16 : 8;
	struct decoded d = { 0 };
	const uint8_t *p;

	n = nr_reply_extents(out, &to, 7, &all, length, req_one, align, true);
	assert_true(n <= room);
	p = chunk(out, n, style, extended ? 6 : 5, NBD_REPLY_FLAG_DONE, n - header);
	d.context = nbd_get32(p);
	assert_int_equal(d.context, 7);
	assert_int_equal((n - header - fixed) % each, 0);
	d.count = (unsigned)((n - header - fixed) / each);
	assert_true(d.count >= 1 && d.count <= 8);
	if (extended)
		assert_int_equal(nbd_get32(p + 4), d.count);
	p += fixed;
	for (unsigned i = 0; i < d.count; i++, p += each) {
		d.extent[i].length = extended ? nbd_get64(p) : nbd_get32(p);
		d.extent[i].status = extended ? nbd_get64(p + 8) : nbd_get32(p + 4);
		assert_true(d.extent[i].length > 0);
	}
	free(out);
	return d;
}

/* C11, E5 */
static void extents_end_with_the_one_that_reaches_the_end(void **state)
{
	static const struct nr_extent list[] = {
		{ 4096, 0 }, { 8192, 3 }, { 1 << 20, 1 }, { 512, 0 }
	};

	(void)state;
	for (enum nr_reply_style style = NR_REPLY_STRUCTURED; style <= NR_REPLY_EXTENDED; style++) {
		static const struct {
			uint64_t length;
			unsigned count;
		} cases[] = {
			{ 1, 1 },       { 4096, 1 },  { 4097, 2 },
			{ 12288, 2 },   { 12289, 3 }, { 12288 + (1 << 20), 3 },
			{ 1 << 30, 4 },
		};

		for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
			struct decoded d = extents(style, list, 4, cases[i].length, false, 512);

			assert_int_equal(d.count, cases[i].count);
			for (unsigned j = 0; j < d.count; j++) {
				assert_true(d.extent[j].length == list[j].length);
				assert_true(d.extent[j].status == list[j].status);
			}
		}
	}
}

/* C12 */
static void req_one_gives_one_extent_not_longer_than_asked(void **state)
{
	static const struct nr_extent list[] = { { 8192, 3 }, { 4096, 0 } };

	(void)state;
	for (enum nr_reply_style style = NR_REPLY_STRUCTURED; style <= NR_REPLY_EXTENDED; style++) {
		struct decoded d = extents(style, list, 2, 4096, true, 1);

		assert_int_equal(d.count, 1);
		assert_true(d.extent[0].length == 4096);
		assert_true(d.extent[0].status == 3);
		d = extents(style, list, 2, 10000, true, 1);
		assert_int_equal(d.count, 1);
		assert_true(d.extent[0].length == 8192);
	}
}

/* C11, C13, E5: 32 bits are cut so that the answer stays true; 64 bits are not. */
static void an_extent_over_4_gib_is_cut_in_the_compact_form(void **state)
{
	static const struct nr_extent list[] = { { 4096, 0 },
						 { UINT64_C(5) << 30, 3 },
						 { 4096, 0 } };
	static const uint32_t aligns[] = { 1, 512, 65536 };
	struct decoded d;

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		d = extents(NR_REPLY_STRUCTURED, list, 3, UINT32_MAX, false, aligns[i]);
		assert_int_equal(d.count, 2);
		assert_true(d.extent[1].length == UINT32_MAX - (aligns[i] - 1));
		assert_true(d.extent[1].length % aligns[i] == 0);
		assert_true(d.extent[1].status == 3);
	}
	d = extents(NR_REPLY_STRUCTURED, list + 1, 2, UINT32_MAX - 65535, true, 65536);
	assert_int_equal(d.count, 1);
	assert_true(d.extent[0].length == UINT32_MAX - 65535);

	d = extents(NR_REPLY_EXTENDED, list, 3, UINT64_C(1) << 40, false, 65536);
	assert_int_equal(d.count, 3);
	assert_true(d.extent[1].length == UINT64_C(5) << 30);
	d = extents(NR_REPLY_EXTENDED, (const struct nr_extent[]){ { UINT64_MAX, 1 }, { 1, 0 } }, 2,
		    UINT64_MAX, false, 1);
	assert_int_equal(d.count, 1);
}

/* C11: no more than 2^20 extents in a chunk, so that 16 MiB is the largest. */
static void a_chunk_has_at_most_a_million_extents(void **state)
{
	const uint32_t count = NBD_EXTENTS_MAX + 5;
	struct nr_extent *list = malloc(count * sizeof(*list));
	struct nr_extents all = { .count = count, .capacity = count, .extent = list };
	struct nr_reply_to to = reply_to(NR_REPLY_EXTENDED);
	size_t room = nr_reply_extents_bytes(&to, &all);
	uint8_t *out = malloc(room);

	(void)state;
	for (uint32_t i = 0; i < count; i++)
		list[i] = (struct nr_extent){ 512, i % 2 };
	assert_int_equal(room, 32 + 8 + 16 * (size_t)NBD_EXTENTS_MAX);
	assert_int_equal(nr_reply_extents(out, &to, 1, &all, UINT64_MAX, false, 1, false), room);
	assert_int_equal(nbd_get32(out + 36), NBD_EXTENTS_MAX);
	assert_int_equal(nbd_get16(out + 4), 0);
	free(out);
	free(list);
}

/* ---- strings ---- */

/* H8 */
static void strings_are_utf8_without_nul(void **state)
{
	static const char *const good[] = { "",
					    "a",
					    "\x7f",
					    "\xc2\x80",
					    "\xdf\xbf",
					    "\xe0\xa0\x80",
					    "\xed\x9f\xbf",
					    "\xee\x80\x80",
					    "\xef\xbf\xbf",
					    "\xf0\x90\x80\x80",
					    "\xf4\x8f\xbf\xbf",
					    "x\xc3\xa9y" };
	static const char *const bad[] = { "\x80",
					   "\xbf",
					   "\xc0\x80",
					   "\xc1\xbf",
					   "\xc2",
					   "\xc2\x7f",
					   "\xc2\xc0",
					   "\xe0\x9f\xbf",
					   "\xe1\x80",
					   "\xe1\x80\x7f",
					   "\xed\xa0\x80",
					   "\xed\xbf\xbf",
					   "\xf0\x80\x80\x80",
					   "\xf0\x8f\xbf\xbf",
					   "\xf1\x80\x80",
					   "\xf4\x90\x80\x80",
					   "\xf5\x80\x80\x80",
					   "\xff",
					   "a\xfe" };

	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		assert_true(nbd_text_ok((const uint8_t *)good[i], strlen(good[i])));
		assert_int_equal(nbd_text_cut(good[i], 100), strlen(good[i]));
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_false(nbd_text_ok((const uint8_t *)bad[i], strlen(bad[i])));
		assert_int_equal(nbd_text_cut(bad[i], 100), 0);
	}
	assert_false(nbd_text_ok((const uint8_t *)"a\0b", 3));
	/* A character that the length cuts through, although its rest is there in memory. */
	assert_false(nbd_text_ok((const uint8_t *)"\xc2\x80", 1));
	assert_false(nbd_text_ok((const uint8_t *)"\xe1\x80\x80", 2));
	assert_false(nbd_text_ok((const uint8_t *)"\xf1\x80\x80\x80", 3));
	assert_int_equal(nbd_text_cut(NULL, 100), 0);
	assert_int_equal(nbd_text_cut("abc", 2), 2);
	assert_int_equal(nbd_text_cut("abc", 0), 0);
	assert_int_equal(nbd_text_cut("a\xc3\xa9", 2), 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(simple_replies_carry_the_cookie_as_it_came),
		cmocka_unit_test(success_is_a_none_chunk),
		cmocka_unit_test(data_and_holes_say_where_they_are),
		cmocka_unit_test(errors_carry_text),
		cmocka_unit_test(error_text_is_cut_at_a_character),
		cmocka_unit_test(extents_end_with_the_one_that_reaches_the_end),
		cmocka_unit_test(req_one_gives_one_extent_not_longer_than_asked),
		cmocka_unit_test(an_extent_over_4_gib_is_cut_in_the_compact_form),
		cmocka_unit_test(a_chunk_has_at_most_a_million_extents),
		cmocka_unit_test(strings_are_utf8_without_nul),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
