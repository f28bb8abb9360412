/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Parsing and judging of requests.  Each test names the requirement it checks
 * ("X8", "C3", …: docs/protocol.md).
 */
#undef NDEBUG
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "nbdring/limits.h"
#include "src/protocol/transmission.h"

#define SIZE (UINT64_C(1) << 40)
#define ALL_FLAGS                                                                            \
	(NBD_FLAG_HAS_FLAGS | NBD_FLAG_SEND_FLUSH | NBD_FLAG_SEND_FUA | NBD_FLAG_SEND_TRIM | \
	 NBD_FLAG_SEND_WRITE_ZEROES | NBD_FLAG_SEND_RESIZE | NBD_FLAG_SEND_CACHE |           \
	 NBD_FLAG_SEND_FAST_ZERO)

static const uint8_t cookie[8] = { 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88 };

/* What a handshake agrees on with everything that STYLE permits. */
static struct nr_agreement agreement_of(enum nr_reply_style style)
{
	struct nr_agreement a = {
		.info = { .size = SIZE,
			  .flags = ALL_FLAGS,
			  .block_min = 512,
			  .block_preferred = 4096,
			  .block_max = 1u << 25 },
		.reply_style = (uint8_t)style,
	};

	if (style != NR_REPLY_SIMPLE) {
		a.info.flags |= NBD_FLAG_SEND_DF;
		a.contexts = 1u << 0 | 1u << 2 | 1u << 15;
	}
	if (style == NR_REPLY_EXTENDED)
		a.info.flags |= NBD_FLAG_BLOCK_STATUS_PAYLOAD;
	return a;
}

/* Encode as a client does; returns the length. */
static size_t encode(uint8_t *out, enum nr_reply_style style, uint16_t flags, uint16_t command,
		     uint64_t offset, uint64_t length)
{
	uint8_t *p = out;

	p = nbd_put32(p,
		      style == NR_REPLY_EXTENDED ? NBD_EXTENDED_REQUEST_MAGIC : NBD_REQUEST_MAGIC);
	p = nbd_put16(p, flags);
	p = nbd_put16(p, command);
	memcpy(p, cookie, sizeof(cookie));
	p = nbd_put64(p + sizeof(cookie), offset);
	if (style == NR_REPLY_EXTENDED)
		p = nbd_put64(p, length);
	else
		p = nbd_put32(p, (uint32_t)length);
	return (size_t)(p - out);
}

/* Encode, parse; the header must be whole and legal. */
static struct nr_wire_request parsed(const struct nr_agreement *a, uint16_t flags, uint16_t command,
				     uint64_t offset, uint64_t length)
{
	struct nr_wire_request request;
	uint8_t header[32];
	size_t n = encode(header, a->reply_style, flags, command, offset, length);
	const char *why = NULL;

	assert_int_equal(n, nr_wire_header_bytes(a));
	assert_int_equal(nr_wire_parse(a, header, n, &request, &why), NR_WIRE_REQUEST);
	assert_null(why);
	return request;
}

/* The error owed for a request; checks that errors come with words. */
static uint32_t judged(const struct nr_agreement *a, uint16_t flags, uint16_t command,
		       uint64_t offset, uint64_t length)
{
	struct nr_wire_request request = parsed(a, flags, command, offset, length);
	const char *text = "unset";
	uint32_t error = nr_wire_judge(a, &request, a->info.size, &text);

	if (error)
		assert_non_null(text);
	else
		assert_null(text);
	return error;
}

/* The flag a WRITE needs in this style. */
static uint16_t write_flag(const struct nr_agreement *a)
{
	return a->reply_style == NR_REPLY_EXTENDED ? NBD_CMD_FLAG_PAYLOAD_LEN : 0;
}

#define FOR_EACH_STYLE(style) \
	for (enum nr_reply_style style = NR_REPLY_SIMPLE; style <= NR_REPLY_EXTENDED; style++)

/* ---- parsing ---- */

/* X4, E2 */
static void a_header_is_taken_apart(void **state)
{
	(void)state;
	FOR_EACH_STYLE(style)
	{
		struct nr_agreement a = agreement_of(style);
		uint64_t length =
			style == NR_REPLY_EXTENDED ? UINT64_C(0x1122334455667788) : 0xfedcba98;
		struct nr_wire_request r =
			parsed(&a, 0x8040, 0x1234, UINT64_C(0x99aabbccddeeff00), length);

		assert_int_equal(r.flags, 0x8040);
		assert_int_equal(r.command, 0x1234);
		assert_memory_equal(&r.cookie, cookie, sizeof(cookie)); /* memory order */
		assert_true(r.offset == UINT64_C(0x99aabbccddeeff00));
		assert_true(r.length == length);
		assert_true(r.payload == 0);
	}
}

static void an_incomplete_header_wants_more(void **state)
{
	(void)state;
	FOR_EACH_STYLE(style)
	{
		struct nr_agreement a = agreement_of(style);
		struct nr_wire_request r;
		uint8_t header[32];
		size_t bytes = encode(header, style, 0, NBD_CMD_READ, 0, 512);

		for (size_t n = 0; n < bytes; n++) {
			/* In memory of its own size: reading further would be seen. */
			uint8_t *part = malloc(n ? n : 1);

			memcpy(part, header, n);
			assert_int_equal(nr_wire_parse(&a, part, n, &r, NULL), NR_WIRE_MORE);
			free(part);
		}
	}
}

/* E2: each style has its own magic. */
static void a_wrong_magic_is_a_breach_as_soon_as_it_is_seen(void **state)
{
	static const uint32_t magics[] = {
		0,          NBD_REQUEST_MAGIC, NBD_EXTENDED_REQUEST_MAGIC, NBD_SIMPLE_REPLY_MAGIC,
		0x12560953, 0x25609514
	};

	(void)state;
	FOR_EACH_STYLE(style)
	{
		struct nr_agreement a = agreement_of(style);
		uint32_t right =
			style == NR_REPLY_EXTENDED ? NBD_EXTENDED_REQUEST_MAGIC : NBD_REQUEST_MAGIC;

		for (size_t i = 0; i < sizeof(magics) / sizeof(magics[0]); i++) {
			struct nr_wire_request r;
			const char *why = NULL;
			uint8_t header[32] = { 0 };

			nbd_put32(header, magics[i]);
			assert_int_equal(nr_wire_parse(&a, header, 4, &r, &why),
					 magics[i] == right ? NR_WIRE_MORE : NR_WIRE_BREACH);
			if (magics[i] == right)
				continue;
			assert_non_null(why);
			assert_int_equal(nr_wire_parse(&a, header, 32, &r, NULL), NR_WIRE_BREACH);
		}
	}
}

/* S8, E3: 32 MiB are fine, one byte more is not. */
static void payload_is_limited_to_32_mib(void **state)
{
	(void)state;
	FOR_EACH_STYLE(style)
	{
		struct nr_agreement a = agreement_of(style);
		struct nr_wire_request r;
		const char *why = NULL;
		uint8_t header[32];
		size_t n;

		r = parsed(&a, write_flag(&a), NBD_CMD_WRITE, 0, NR_PAYLOAD_MAX);
		assert_true(r.payload == NR_PAYLOAD_MAX);
		assert_true(r.length == NR_PAYLOAD_MAX);
		n = encode(header, style, write_flag(&a), NBD_CMD_WRITE, 0, NR_PAYLOAD_MAX + 1);
		assert_int_equal(nr_wire_parse(&a, header, n, &r, &why), NR_WIRE_BREACH);
		assert_non_null(why);
	}
}

/* E3 */
static void payload_len_decides_what_the_length_is(void **state)
{
	struct nr_agreement a = agreement_of(NR_REPLY_EXTENDED);
	struct nr_wire_request r;
	uint8_t header[32];

	(void)state;
	for (unsigned i = 0; i < 12; i++) {
		uint16_t command = (uint16_t)i;

		if (command != NBD_CMD_WRITE) {
			r = parsed(&a, 0, command, 0, UINT64_MAX);
			assert_true(r.payload == 0);
			assert_true(r.length == UINT64_MAX);
		}
		r = parsed(&a, NBD_CMD_FLAG_PAYLOAD_LEN, command, 0, 1000);
		assert_true(r.payload == 1000);
		assert_true(r.length == (command == NBD_CMD_WRITE ? 1000 : 0));
		encode(header, NR_REPLY_EXTENDED, NBD_CMD_FLAG_PAYLOAD_LEN, command, 0,
		       UINT64_C(1) << 32);
		assert_int_equal(nr_wire_parse(&a, header, 32, &r, NULL), NR_WIRE_BREACH);
	}
}

/* E3: in the compact style only WRITE has a payload, whatever the flags say. */
static void compact_payload_is_for_write_only(void **state)
{
	struct nr_agreement a = agreement_of(NR_REPLY_STRUCTURED);

	(void)state;
	for (uint16_t command = 0; command < 12; command++) {
		struct nr_wire_request r = parsed(&a, 0xffff, command, 0, 1000);

		assert_true(r.payload == (command == NBD_CMD_WRITE ? 1000 : 0));
		assert_true(r.length == 1000);
	}
}

/* ---- judging: commands and flags ---- */

/* X8 */
static void unknown_commands_are_einval(void **state)
{
	(void)state;
	FOR_EACH_STYLE(style)
	{
		struct nr_agreement a = agreement_of(style);

		for (unsigned command = NBD_CMD_COUNT; command <= UINT16_MAX; command++)
			assert_int_equal(judged(&a, 0, (uint16_t)command, 0, 0), NBD_EINVAL);
	}
}

/* The flags each command takes where everything is offered. */
static uint16_t legal_flags(enum nr_reply_style style, uint16_t command)
{
	bool extended = style == NR_REPLY_EXTENDED, chunked = style != NR_REPLY_SIMPLE;

	switch (command) {
	case NBD_CMD_READ:
		return NBD_CMD_FLAG_FUA | (chunked ? NBD_CMD_FLAG_DF : 0);
	case NBD_CMD_WRITE:
		return NBD_CMD_FLAG_FUA | (extended ? NBD_CMD_FLAG_PAYLOAD_LEN : 0);
	case NBD_CMD_WRITE_ZEROES:
		return NBD_CMD_FLAG_FUA | NBD_CMD_FLAG_NO_HOLE | NBD_CMD_FLAG_FAST_ZERO;
	case NBD_CMD_BLOCK_STATUS:
		return NBD_CMD_FLAG_FUA | NBD_CMD_FLAG_REQ_ONE;
	default:
		return NBD_CMD_FLAG_FUA;
	}
}

/* X8, C3, C10, E3: each flag alone, on each command, in each style. */
static void a_flag_is_legal_only_where_it_is_documented(void **state)
{
	(void)state;
	FOR_EACH_STYLE(style)
	{
		struct nr_agreement a = agreement_of(style);

		for (unsigned command = 0; command < NBD_CMD_COUNT; command++) {
			uint64_t length = command == NBD_CMD_RESIZE ? 0 : 512;

			if (command == NBD_CMD_DISC ||
			    (command == NBD_CMD_BLOCK_STATUS && style == NR_REPLY_SIMPLE))
				continue;
			for (unsigned bit = 0; bit < 16; bit++) {
				uint16_t flag = (uint16_t)(1u << bit), flags = flag;
				bool legal = legal_flags(style, (uint16_t)command) & flag;

				if (command == NBD_CMD_WRITE)
					flags |= write_flag(&a);
				assert_int_equal(judged(&a, flags, (uint16_t)command, 4096, length),
						 legal ? 0 : NBD_EINVAL);
			}
		}
	}
}

/* X8: FUA on everything once offered, on nothing before. */
static void fua_is_accepted_everywhere_once_offered(void **state)
{
	(void)state;
	FOR_EACH_STYLE(style)
	{
		struct nr_agreement a = agreement_of(style), without = a;

		without.info.flags &= (uint16_t)~NBD_FLAG_SEND_FUA;
		for (unsigned command = 0; command < NBD_CMD_COUNT; command++) {
			uint64_t length = command == NBD_CMD_RESIZE ? 0 : 512;
			uint16_t flags = NBD_CMD_FLAG_FUA;

			if (command == NBD_CMD_BLOCK_STATUS && style == NR_REPLY_SIMPLE)
				continue;
			if (command == NBD_CMD_WRITE)
				flags |= write_flag(&a);
			assert_int_equal(judged(&a, flags, (uint16_t)command, 4096, length), 0);
			assert_int_equal(judged(&without, flags, (uint16_t)command, 4096, length),
					 command == NBD_CMD_DISC ? 0 : NBD_EINVAL);
		}
	}
}

/* X1: a command that was not offered; C9: nor FAST_ZERO; C10: but CACHE. */
static void what_was_not_offered_is_einval_except_cache(void **state)
{
	static const struct {
		uint16_t offer, flags, command;
		uint32_t error;
	} cases[] = {
		{ NBD_FLAG_SEND_FLUSH, 0, NBD_CMD_FLUSH, NBD_EINVAL },
		{ NBD_FLAG_SEND_TRIM, 0, NBD_CMD_TRIM, NBD_EINVAL },
		{ NBD_FLAG_SEND_WRITE_ZEROES, 0, NBD_CMD_WRITE_ZEROES, NBD_EINVAL },
		{ NBD_FLAG_SEND_FAST_ZERO, NBD_CMD_FLAG_FAST_ZERO, NBD_CMD_WRITE_ZEROES,
		  NBD_EINVAL },
		{ NBD_FLAG_SEND_RESIZE, 0, NBD_CMD_RESIZE, NBD_EINVAL },
		{ NBD_FLAG_SEND_DF, NBD_CMD_FLAG_DF, NBD_CMD_READ, NBD_EINVAL },
		{ NBD_FLAG_SEND_CACHE, 0, NBD_CMD_CACHE, 0 },
		/* C8: NO_HOLE does not need TRIM */
		{ NBD_FLAG_SEND_TRIM, NBD_CMD_FLAG_NO_HOLE, NBD_CMD_WRITE_ZEROES, 0 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct nr_agreement a = agreement_of(NR_REPLY_STRUCTURED);

		assert_int_equal(judged(&a, cases[i].flags, cases[i].command, 0, 0), 0);
		a.info.flags &= (uint16_t)~cases[i].offer;
		assert_int_equal(judged(&a, cases[i].flags, cases[i].command, 0, 0),
				 cases[i].error);
	}
}

/* X14 */
static void disc_is_never_refused(void **state)
{
	(void)state;
	FOR_EACH_STYLE(style)
	{
		struct nr_agreement a = agreement_of(style);

		assert_int_equal(judged(&a, 0xffdf, NBD_CMD_DISC, UINT64_MAX, UINT64_MAX), 0);
	}
}

/* E3, and what qemu's client does: the data follows a WRITE with or without the flag. */
static void extended_write_has_a_payload_even_without_the_flag(void **state)
{
	struct nr_agreement a = agreement_of(NR_REPLY_EXTENDED);
	struct nr_wire_request r = parsed(&a, 0, NBD_CMD_WRITE, 0, 512);

	(void)state;
	assert_true(r.payload == 512);
	assert_int_equal(judged(&a, 0, NBD_CMD_WRITE, 0, 512), 0);
	assert_int_equal(judged(&a, NBD_CMD_FLAG_PAYLOAD_LEN, NBD_CMD_WRITE, 0, 512), 0);
}

/* ---- judging: ranges ---- */

/* X9: also where the command itself was not offered. */
static void writing_to_a_read_only_export_is_eperm(void **state)
{
	(void)state;
	FOR_EACH_STYLE(style)
	{
		struct nr_agreement a = agreement_of(style);
		uint16_t w = write_flag(&a);

		for (unsigned i = 0; i < 2; i++) {
			a.info.flags = i ? NBD_FLAG_HAS_FLAGS : a.info.flags;
			a.info.flags |= NBD_FLAG_READ_ONLY;
			assert_int_equal(judged(&a, w, NBD_CMD_WRITE, 0, 512), NBD_EPERM);
			assert_int_equal(judged(&a, w, NBD_CMD_WRITE, SIZE, 512), NBD_EPERM);
			assert_int_equal(judged(&a, 0, NBD_CMD_TRIM, 0, 512), NBD_EPERM);
			assert_int_equal(judged(&a, 0, NBD_CMD_WRITE_ZEROES, 0, 512), NBD_EPERM);
			assert_int_equal(judged(&a, 0, NBD_CMD_RESIZE, 512, 0), NBD_EPERM);
			assert_int_equal(judged(&a, 0, NBD_CMD_READ, 0, 512), 0);
			assert_int_equal(judged(&a, 0, NBD_CMD_CACHE, 0, 512), 0);
		}
	}
}

/* X10 */
static void past_the_end_is_enospc_or_einval(void **state)
{
	static const struct {
		uint16_t command;
		uint32_t error;
	} cases[] = {
		{ NBD_CMD_READ, NBD_EINVAL },         { NBD_CMD_WRITE, NBD_ENOSPC },
		{ NBD_CMD_TRIM, NBD_EINVAL },         { NBD_CMD_CACHE, NBD_EINVAL },
		{ NBD_CMD_WRITE_ZEROES, NBD_ENOSPC }, { NBD_CMD_BLOCK_STATUS, NBD_EINVAL },
	};

	(void)state;
	FOR_EACH_STYLE(style)
	{
		struct nr_agreement a = agreement_of(style);

		for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
			uint16_t command = cases[i].command;
			uint16_t flags = command == NBD_CMD_WRITE ? write_flag(&a) : 0;
			uint32_t error = cases[i].error;

			if (command == NBD_CMD_BLOCK_STATUS && style == NR_REPLY_SIMPLE)
				continue;
			assert_int_equal(judged(&a, flags, command, SIZE - 512, 512), 0);
			assert_int_equal(judged(&a, flags, command, SIZE - 512, 513), error);
			assert_int_equal(judged(&a, flags, command, SIZE, 1), error);
			assert_int_equal(judged(&a, flags, command, SIZE + 1, 1), error);
			/* The sum overflows. */
			assert_int_equal(judged(&a, flags, command, UINT64_MAX, 1), error);
			assert_int_equal(judged(&a, flags, command, UINT64_MAX - 511, 512), error);
			if (style == NR_REPLY_EXTENDED && command != NBD_CMD_WRITE) {
				assert_int_equal(judged(&a, flags, command, 512, UINT64_MAX),
						 error);
				assert_int_equal(judged(&a, flags, command, 1, UINT64_MAX), error);
			}
		}
	}
}

/* The size is the one of now, not the one of the handshake. */
static void the_current_size_decides(void **state)
{
	struct nr_agreement a = agreement_of(NR_REPLY_STRUCTURED);
	struct nr_wire_request r = parsed(&a, 0, NBD_CMD_READ, 4096, 4096);
	const char *text;

	(void)state;
	assert_int_equal(nr_wire_judge(&a, &r, 8192, &text), 0);
	assert_int_equal(nr_wire_judge(&a, &r, 8191, &text), NBD_EINVAL);
	assert_int_equal(nr_wire_judge(&a, &r, 0, &text), NBD_EINVAL);
}

/* X12 */
static void zero_length_is_let_through_inside_the_export(void **state)
{
	struct nr_agreement a = agreement_of(NR_REPLY_EXTENDED);

	(void)state;
	for (uint64_t offset = 0; offset <= SIZE; offset += SIZE / 2) {
		assert_int_equal(judged(&a, 0, NBD_CMD_READ, offset, 0), 0);
		assert_int_equal(judged(&a, NBD_CMD_FLAG_PAYLOAD_LEN, NBD_CMD_WRITE, offset, 0), 0);
		assert_int_equal(judged(&a, 0, NBD_CMD_TRIM, offset, 0), 0);
		assert_int_equal(judged(&a, 0, NBD_CMD_CACHE, offset, 0), 0);
		assert_int_equal(judged(&a, 0, NBD_CMD_WRITE_ZEROES, offset, 0), 0);
		/* C11: success would need an extent, and extents are not empty */
		assert_int_equal(judged(&a, 0, NBD_CMD_BLOCK_STATUS, offset, 0), NBD_EINVAL);
	}
	assert_int_equal(judged(&a, 0, NBD_CMD_READ, SIZE + 1, 0), NBD_EINVAL);
	assert_int_equal(judged(&a, 0, NBD_CMD_WRITE_ZEROES, SIZE + 1, 0), NBD_ENOSPC);
}

/* S6, H16 */
static void alignment_binds_only_the_client_that_asked(void **state)
{
	static const uint16_t commands[] = { NBD_CMD_READ,         NBD_CMD_WRITE,
					     NBD_CMD_TRIM,         NBD_CMD_CACHE,
					     NBD_CMD_WRITE_ZEROES, NBD_CMD_BLOCK_STATUS };

	(void)state;
	FOR_EACH_STYLE(style)
	{
		struct nr_agreement a = agreement_of(style), bound = a;

		bound.asked_block_size = true;
		for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
			uint16_t flags = commands[i] == NBD_CMD_WRITE ? write_flag(&a) : 0;

			if (commands[i] == NBD_CMD_BLOCK_STATUS && style == NR_REPLY_SIMPLE)
				continue;
			assert_int_equal(judged(&a, flags, commands[i], 1, 1), 0);
			assert_int_equal(judged(&bound, flags, commands[i], 512, 1024), 0);
			assert_int_equal(judged(&bound, flags, commands[i], 256, 512), NBD_EINVAL);
			assert_int_equal(judged(&bound, flags, commands[i], 512, 256), NBD_EINVAL);
			assert_int_equal(judged(&bound, flags, commands[i], 512, 513), NBD_EINVAL);
		}
		assert_int_equal(judged(&bound, 0, NBD_CMD_FLUSH, 1, 1), 0);
	}
}

/* C6: reserved means not looked at. */
static void flush_ignores_its_offset_and_length(void **state)
{
	struct nr_agreement a = agreement_of(NR_REPLY_EXTENDED);

	(void)state;
	assert_int_equal(judged(&a, 0, NBD_CMD_FLUSH, 0, 0), 0);
	assert_int_equal(judged(&a, 0, NBD_CMD_FLUSH, UINT64_MAX, UINT64_MAX), 0);
}

/* C3, C4 */
static void reads_are_served_up_to_32_mib(void **state)
{
	(void)state;
	FOR_EACH_STYLE(style)
	{
		struct nr_agreement a = agreement_of(style);
		uint32_t error = style == NR_REPLY_SIMPLE ? NBD_EINVAL : NBD_EOVERFLOW;
		uint16_t df = style == NR_REPLY_SIMPLE ? 0 : NBD_CMD_FLAG_DF;

		assert_int_equal(judged(&a, 0, NBD_CMD_READ, 0, NR_PAYLOAD_MAX), 0);
		assert_int_equal(judged(&a, df, NBD_CMD_READ, 0, NR_PAYLOAD_MAX), 0);
		assert_int_equal(judged(&a, 0, NBD_CMD_READ, 0, NR_PAYLOAD_MAX + 1), error);
		assert_int_equal(judged(&a, df, NBD_CMD_READ, 0, UINT32_MAX), error);
	}
}

/* S9, E4 */
static void commands_without_payload_may_be_as_long_as_the_export(void **state)
{
	struct nr_agreement a = agreement_of(NR_REPLY_EXTENDED);

	(void)state;
	assert_int_equal(judged(&a, 0, NBD_CMD_TRIM, 0, SIZE), 0);
	assert_int_equal(judged(&a, 0, NBD_CMD_WRITE_ZEROES, 0, SIZE), 0);
	assert_int_equal(judged(&a, NBD_CMD_FLAG_FAST_ZERO, NBD_CMD_WRITE_ZEROES, 0, SIZE), 0);
	assert_int_equal(judged(&a, 0, NBD_CMD_CACHE, 0, SIZE), 0);
	assert_int_equal(judged(&a, 0, NBD_CMD_BLOCK_STATUS, 0, SIZE), 0);
}

/* R1 */
static void resize_takes_its_size_from_the_offset(void **state)
{
	struct nr_agreement a = agreement_of(NR_REPLY_EXTENDED);

	(void)state;
	assert_int_equal(judged(&a, 0, NBD_CMD_RESIZE, 0, 0), 0);
	assert_int_equal(judged(&a, 0, NBD_CMD_RESIZE, SIZE * 2, 0), 0);
	assert_int_equal(judged(&a, 0, NBD_CMD_RESIZE, INT64_MAX, 0), 0);
	assert_int_equal(judged(&a, 0, NBD_CMD_RESIZE, UINT64_C(1) << 63, 0), NBD_ENOSPC);
	assert_int_equal(judged(&a, 0, NBD_CMD_RESIZE, SIZE, 1), NBD_EINVAL);
}

/* ---- BLOCK_STATUS ---- */

/* H22 */
static void block_status_needs_contexts(void **state)
{
	(void)state;
	FOR_EACH_STYLE(style)
	{
		struct nr_agreement a = agreement_of(style);

		if (style != NR_REPLY_SIMPLE)
			assert_int_equal(judged(&a, 0, NBD_CMD_BLOCK_STATUS, 0, 512), 0);
		a.contexts = 0;
		assert_int_equal(judged(&a, 0, NBD_CMD_BLOCK_STATUS, 0, 512), NBD_EINVAL);
	}
}

/* A BLOCK_STATUS with payload: judged, read, judged again, as a connection does. */
static uint32_t block_status(const struct nr_agreement *a, uint64_t effect, unsigned count,
			     const uint32_t *ids, uint16_t *contexts)
{
	struct nr_wire_request r =
		parsed(a, NBD_CMD_FLAG_PAYLOAD_LEN, NBD_CMD_BLOCK_STATUS, 4096, 8 + 4 * count);
	uint8_t *payload = malloc(8 + 4 * count), *p = nbd_put64(payload, effect);
	const char *text;
	uint32_t error;

	for (unsigned i = 0; i < count; i++)
		p = nbd_put32(p, ids[i]);
	error = nr_wire_judge(a, &r, SIZE, &text);
	if (!error) {
		assert_true(r.payload <= NR_WIRE_BLOCK_STATUS_MAX);
		error = nr_wire_block_status(a, &r, payload, 8 + 4 * count, contexts, &text);
	}
	if (!error) {
		assert_true(r.length == effect);
		error = nr_wire_judge(a, &r, SIZE, &text);
	}
	if (error)
		assert_non_null(text);
	free(payload);
	return error;
}

/* E6 */
static void block_status_payload_selects_contexts(void **state)
{
	struct nr_agreement a = agreement_of(NR_REPLY_EXTENDED);
	uint16_t contexts = 0;

	(void)state;
	assert_int_equal(block_status(&a, 512, 1, (uint32_t[]){ 3 }, &contexts), 0);
	assert_int_equal(contexts, 1u << 2);
	assert_int_equal(
		block_status(&a, UINT64_C(1) << 35, 3, (uint32_t[]){ 16, 1, 3 }, &contexts), 0);
	assert_int_equal(contexts, a.contexts);
}

/* E6 */
static void block_status_payload_that_is_wrong_is_einval(void **state)
{
	static const uint32_t bad_ids[] = { 0, 2, 17, 32, 33, 0xffffffff };
	static const uint32_t many[17] = { 1 };
	struct nr_agreement a = agreement_of(NR_REPLY_EXTENDED);
	uint16_t contexts = 0xbeef;

	(void)state;
	for (size_t i = 0; i < sizeof(bad_ids) / sizeof(bad_ids[0]); i++) {
		uint32_t ids[] = { 1, bad_ids[i] };

		assert_int_equal(block_status(&a, 512, 2, ids, &contexts), NBD_EINVAL);
	}
	assert_int_equal(block_status(&a, 512, 2, (uint32_t[]){ 1, 1 }, &contexts), NBD_EINVAL);
	assert_int_equal(block_status(&a, 512, 0, NULL, &contexts), NBD_EINVAL);
	assert_int_equal(block_status(&a, 512, 17, many, &contexts), NBD_EINVAL);
	assert_int_equal(block_status(&a, 0, 1, (uint32_t[]){ 1 }, &contexts), NBD_EINVAL);
	assert_int_equal(contexts, 0xbeef);
	/* The effect length is judged like any other. */
	assert_int_equal(block_status(&a, SIZE, 1, (uint32_t[]){ 1 }, &contexts), NBD_EINVAL);
	assert_int_equal(block_status(&a, UINT64_MAX, 1, (uint32_t[]){ 1 }, &contexts), NBD_EINVAL);

	for (uint64_t length = 0; length < 200; length++) {
		if (length >= 12 && length <= NR_WIRE_BLOCK_STATUS_MAX && length % 4 == 0)
			continue;
		assert_int_equal(
			judged(&a, NBD_CMD_FLAG_PAYLOAD_LEN, NBD_CMD_BLOCK_STATUS, 0, length),
			NBD_EINVAL);
	}
}

/* E6 */
static void block_status_payload_must_have_been_offered(void **state)
{
	struct nr_agreement a = agreement_of(NR_REPLY_EXTENDED);
	struct nr_wire_request r =
		parsed(&a, NBD_CMD_FLAG_PAYLOAD_LEN, NBD_CMD_BLOCK_STATUS, 0, 12);
	const uint8_t payload[12] = { [6] = 2, [11] = 1 };
	uint16_t contexts;
	const char *text;

	(void)state;
	assert_int_equal(nr_wire_block_status(&a, &r, payload, 12, &contexts, &text), 0);
	assert_int_equal(nr_wire_block_status(&a, &r, payload, 8, &contexts, &text), NBD_EINVAL);
	a.info.flags &= (uint16_t)~NBD_FLAG_BLOCK_STATUS_PAYLOAD;
	assert_int_equal(nr_wire_judge(&a, &r, SIZE, &text), NBD_EINVAL);
	assert_int_equal(nr_wire_block_status(&a, &r, payload, 12, &contexts, &text), NBD_EINVAL);
}

/* ---- errors ---- */

static bool may_be_on_the_wire(uint32_t error)
{
	switch (error) {
	case 0:
	case NBD_EPERM:
	case NBD_EIO:
	case NBD_EINVAL:
	case NBD_ENOSPC:
	case NBD_EOVERFLOW:
	case NBD_ENOTSUP:
	case NBD_ESHUTDOWN:
		return true;
	default: /* ENOMEM is to be avoided */
		return false;
	}
}

/* X11 */
static void errno_becomes_what_the_protocol_knows(void **state)
{
	static const struct {
		int error;
		uint32_t expected;
	} cases[] = {
		{ 0, 0 },
		{ -EPERM, NBD_EPERM },
		{ -EACCES, NBD_EPERM },
		{ -EROFS, NBD_EPERM },
		{ -ENOSPC, NBD_ENOSPC },
		{ -EDQUOT, NBD_ENOSPC },
		{ -EFBIG, NBD_ENOSPC },
		{ -EINVAL, NBD_EINVAL },
		{ -EIO, NBD_EIO },
		{ -ENOMEM, NBD_EIO },
		{ -ENOTSUP, NBD_EINVAL },
		{ -EOVERFLOW, NBD_EINVAL },
		{ -EBADF, NBD_EIO },
		{ -ETIMEDOUT, NBD_EIO },
		{ -ESHUTDOWN, NBD_ESHUTDOWN },
		{ -ECANCELED, NBD_EIO },
		{ -ENODEV, NBD_EIO },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		assert_int_equal(nr_wire_error(cases[i].error, NBD_CMD_WRITE, 0),
				 cases[i].expected);
}

/* X11, C3, C9, S9 */
static void enotsup_and_eoverflow_appear_only_where_allowed(void **state)
{
	(void)state;
	for (uint16_t command = 0; command < 12; command++) {
		for (uint16_t flags = 0; flags < 64; flags++) {
			bool fast =
				command == NBD_CMD_WRITE_ZEROES && (flags & NBD_CMD_FLAG_FAST_ZERO);
			bool df = command == NBD_CMD_READ && (flags & NBD_CMD_FLAG_DF);
			bool lengthy = command >= NBD_CMD_TRIM && command <= NBD_CMD_BLOCK_STATUS;
			uint32_t overflow = nr_wire_error(-EOVERFLOW, command, flags);

			assert_int_equal(nr_wire_error(-EOPNOTSUPP, command, flags),
					 fast ? NBD_ENOTSUP : NBD_EINVAL);
			if (fast)
				assert_int_equal(overflow, NBD_ENOTSUP);
			else
				assert_int_equal(overflow,
						 df || lengthy ? NBD_EOVERFLOW : NBD_EINVAL);
			for (int error = 1; error < 200; error++)
				assert_true(
					may_be_on_the_wire(nr_wire_error(-error, command, flags)));
		}
	}
}

static void names_are_for_people(void **state)
{
	(void)state;
	assert_string_equal(nbd_command_name(NBD_CMD_WRITE_ZEROES), "WRITE_ZEROES");
	assert_string_equal(nbd_option_name(NBD_OPT_GO), "GO");
	for (unsigned i = 0; i <= UINT16_MAX; i++) {
		assert_non_null(nbd_command_name((uint16_t)i));
		assert_non_null(nbd_option_name(i));
	}
	assert_non_null(nbd_option_name(UINT32_MAX));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_header_is_taken_apart),
		cmocka_unit_test(an_incomplete_header_wants_more),
		cmocka_unit_test(a_wrong_magic_is_a_breach_as_soon_as_it_is_seen),
		cmocka_unit_test(payload_is_limited_to_32_mib),
		cmocka_unit_test(payload_len_decides_what_the_length_is),
		cmocka_unit_test(compact_payload_is_for_write_only),
		cmocka_unit_test(unknown_commands_are_einval),
		cmocka_unit_test(a_flag_is_legal_only_where_it_is_documented),
		cmocka_unit_test(fua_is_accepted_everywhere_once_offered),
		cmocka_unit_test(what_was_not_offered_is_einval_except_cache),
		cmocka_unit_test(disc_is_never_refused),
		cmocka_unit_test(extended_write_has_a_payload_even_without_the_flag),
		cmocka_unit_test(writing_to_a_read_only_export_is_eperm),
		cmocka_unit_test(past_the_end_is_enospc_or_einval),
		cmocka_unit_test(the_current_size_decides),
		cmocka_unit_test(zero_length_is_let_through_inside_the_export),
		cmocka_unit_test(alignment_binds_only_the_client_that_asked),
		cmocka_unit_test(flush_ignores_its_offset_and_length),
		cmocka_unit_test(reads_are_served_up_to_32_mib),
		cmocka_unit_test(commands_without_payload_may_be_as_long_as_the_export),
		cmocka_unit_test(resize_takes_its_size_from_the_offset),
		cmocka_unit_test(block_status_needs_contexts),
		cmocka_unit_test(block_status_payload_selects_contexts),
		cmocka_unit_test(block_status_payload_that_is_wrong_is_einval),
		cmocka_unit_test(block_status_payload_must_have_been_offered),
		cmocka_unit_test(errno_becomes_what_the_protocol_knows),
		cmocka_unit_test(enotsup_and_eoverflow_appear_only_where_allowed),
		cmocka_unit_test(names_are_for_people),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
