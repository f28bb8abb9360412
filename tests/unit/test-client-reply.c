/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Requests of ours as the server reads them, replies of the server as we read them, and
 * replies that no server should send.
 */
#include "tests/unit/layer-test.h"

#include <errno.h>
#include <setjmp.h>

#include <cmocka.h>

#include "src/protocol/client-reply.h"
#include "src/protocol/reply.h"
#include "src/protocol/transmission.h"

#define COOKIE UINT64_C(0x1122334455667788)

static const uint8_t styles[] = { NR_REPLY_SIMPLE, NR_REPLY_STRUCTURED, NR_REPLY_EXTENDED };

static struct nr_client_agreement agreement(uint8_t style)
{
	return (struct nr_client_agreement){ .reply_style = style,
					     .contexts = 1,
					     .context_id = { 5 } };
}

static void requests_are_read_as_they_were_meant(void **state)
{
	for (unsigned i = 0; i < 3; i++) {
		const struct nr_client_request request = { .command = NBD_CMD_WRITE,
							   .flags = NBD_CMD_FLAG_FUA,
							   .offset = UINT64_C(0x123456789ab),
							   .length = 4096 };
		const struct nr_agreement servers = { .info = { UINT64_C(1) << 50, 0xfffd, 1, 4096,
								1 << 25 },
						      .reply_style = styles[i] };
		uint8_t bytes[NR_CLIENT_REQUEST_MAX];
		size_t length = nr_client_encode(bytes, styles[i], COOKIE, &request);
		struct nr_wire_request read;
		const char *why;

		assert_int_equal(length, nr_client_header_bytes(styles[i]));
		assert_int_equal(nr_wire_parse(&servers, bytes, length, &read, &why),
				 NR_WIRE_REQUEST);
		assert_int_equal(nr_wire_judge(&servers, &read, UINT64_C(1) << 50, &why), 0);
		assert_int_equal(read.command, NBD_CMD_WRITE);
		assert_true(read.flags & NBD_CMD_FLAG_FUA);
		assert_int_equal(read.offset, request.offset);
		assert_int_equal(read.length, 4096);
		assert_int_equal(read.payload, 4096);
		assert_int_equal(read.cookie, COOKIE);
	}
}

/* The first chunk of BYTES; asks for it at every shorter length first. */
static struct nr_client_chunk parse(uint8_t style, const uint8_t *bytes, size_t length,
				    size_t *used)
{
	struct nr_client_chunk chunk;
	enum nr_client_parsed parsed = NR_CLIENT_PARSE_MORE;
	const char *why;

	for (size_t n = 0; n <= length && parsed == NR_CLIENT_PARSE_MORE; n++) {
		uint8_t *copy = malloc(n + 1);

		memcpy(copy, bytes, n);
		parsed = nr_client_parse(style, copy, n, &chunk, used, &why);
		assert_int_not_equal(parsed, NR_CLIENT_PARSE_BREACH);
		free(copy);
	}
	assert_int_equal(parsed, NR_CLIENT_PARSE_CHUNK);
	assert_int_equal(chunk.cookie, COOKIE);
	return chunk;
}

static void data_holes_and_the_end(void **state)
{
	for (unsigned i = 1; i < 3; i++) {
		const struct nr_reply_to to = { COOKIE, 4096, styles[i] };
		const struct nr_client_agreement a = agreement(styles[i]);
		struct nr_client_request request = { .command = NBD_CMD_READ,
						     .offset = 4096,
						     .length = 1000 };
		struct nr_client_chunk chunk;
		uint8_t bytes[64] = { 0 };
		size_t used;

		chunk = parse(styles[i], bytes, nr_reply_hole(bytes, &to, 4596, 500, false), &used);
		assert_int_equal(chunk.kind, NR_CHUNK_HOLE);
		assert_int_equal(chunk.offset, 4596);
		assert_int_equal(chunk.length, 500);
		assert_null(nr_client_judge(&a, &request, &chunk));

		chunk = parse(styles[i], bytes, nr_reply_data(bytes, &to, 4096, 500, true), &used);
		assert_int_equal(chunk.kind, NR_CHUNK_DATA);
		assert_int_equal(chunk.payload, 500);
		assert_true(chunk.done);
		assert_null(nr_client_judge(&a, &request, &chunk));
		assert_int_equal(request.answered, 1000);
	}
}

static void a_simple_reply_to_a_read_has_its_data_behind_it(void **state)
{
	const struct nr_client_agreement a = agreement(NR_REPLY_SIMPLE);
	struct nr_client_request request = { .command = NBD_CMD_READ, .offset = 8, .length = 77 };
	struct nr_client_chunk chunk;
	uint8_t bytes[64] = { 0 };
	size_t used;

	chunk = parse(NR_REPLY_SIMPLE, bytes, nr_reply_simple(bytes, COOKIE, 0), &used);
	assert_null(nr_client_judge(&a, &request, &chunk));
	assert_int_equal(chunk.payload, 77);
	assert_int_equal(chunk.offset, 8);
	assert_true(chunk.done);

	chunk = parse(NR_REPLY_SIMPLE, bytes, nr_reply_simple(bytes, COOKIE, NBD_EIO), &used);
	request = (struct nr_client_request){ .command = NBD_CMD_READ, .length = 77 };
	assert_null(nr_client_judge(&a, &request, &chunk));
	assert_int_equal(chunk.payload, 0);
	assert_int_equal(request.error, -EIO);
}

static void errors_are_understood(void **state)
{
	for (unsigned i = 0; i < 3; i++) {
		const struct nr_reply_to to = { COOKIE, 0, styles[i] };
		const struct nr_client_agreement a = agreement(styles[i]);
		struct nr_client_request request = { .command = NBD_CMD_WRITE, .length = 9 };
		uint8_t bytes[NR_REPLY_ERROR_MAX];
		size_t used, length = nr_reply_error(bytes, &to, NBD_ENOSPC, "the disk is full");
		struct nr_client_chunk chunk = parse(styles[i], bytes, length, &used);

		assert_int_equal(used, length);
		assert_null(nr_client_judge(&a, &request, &chunk));
		assert_int_equal(request.error, -ENOSPC);
		assert_true(chunk.done);
	}
	assert_int_equal(nr_client_errno(4711), -EIO);
}

static void extents_are_understood(void **state)
{
	for (unsigned i = 1; i < 3; i++) {
		const struct nr_reply_to to = { COOKIE, 0, styles[i] };
		const struct nr_client_agreement a = agreement(styles[i]);
		struct nr_extent extent[2] = { { 4096, 0 }, { 8192, 3 } };
		const struct nr_extents list = {
			.end = 12288, .next = 12288, .count = 2, .capacity = 2, .extent = extent
		};
		struct nr_client_request request = { .command = NBD_CMD_BLOCK_STATUS,
						     .length = 12288 };
		uint8_t bytes[128];
		size_t used, length = nr_reply_extents(bytes, &to, 5, &list, 12288, false, 1, true);
		struct nr_client_chunk chunk = parse(styles[i], bytes, length, &used);
		uint64_t extent_length, status;

		assert_int_equal(chunk.kind, NR_CHUNK_STATUS);
		assert_int_equal(chunk.extents, 2);
		assert_int_equal(used + chunk.payload, length);
		assert_null(nr_client_judge(&a, &request, &chunk));
		nr_client_extent(styles[i], bytes + used + nr_client_extent_bytes(styles[i]),
				 &extent_length, &status);
		assert_int_equal(extent_length, 8192);
		assert_int_equal(status, 3);
	}
}

/* ---- what no server should send ---------------------------------------- */

static void content_that_does_not_fit_is_a_breach(void **state)
{
	static const struct nr_client_chunk cases[] = {
		{ .kind = NR_CHUNK_DATA, .offset = 4095, .length = 2, .payload = 2 },
		{ .kind = NR_CHUNK_DATA, .offset = 5095, .length = 2, .payload = 2 },
		{ .kind = NR_CHUNK_HOLE, .offset = 4096, .length = 1001 },
		{ .kind = NR_CHUNK_HOLE, .offset = UINT64_MAX - 1, .length = 100 },
		{ .kind = NR_CHUNK_HOLE, .offset = 4096, .length = UINT32_MAX },
		{ .kind = NR_CHUNK_STATUS, .context = 5, .extents = 1 },
		{ .kind = NR_CHUNK_NONE, .done = true },
		{ .kind = NR_CHUNK_DATA, .offset = 4096, .length = 5, .payload = 5, .done = true },
		{ .kind = NR_CHUNK_NONE, .done = true, .simple = true },
		{ .kind = NR_CHUNK_ERROR, .at = true, .offset = 1, .error = -EIO },
	};
	const struct nr_client_agreement a = agreement(NR_REPLY_STRUCTURED);

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct nr_client_request request = { .command = NBD_CMD_READ,
						     .offset = 4096,
						     .length = 1000 };
		struct nr_client_chunk chunk = cases[i];

		assert_non_null(nr_client_judge(&a, &request, &chunk));
	}
}

static void more_than_was_read_is_a_breach_even_in_range(void **state)
{
	const struct nr_client_agreement a = agreement(NR_REPLY_STRUCTURED);
	struct nr_client_request request = { .command = NBD_CMD_READ, .length = 1000 };
	struct nr_client_chunk chunk = { .kind = NR_CHUNK_HOLE, .length = 600 };

	assert_null(nr_client_judge(&a, &request, &chunk));
	assert_non_null(nr_client_judge(&a, &request, &chunk));
}

static void block_status_is_one_chunk_of_our_context(void **state)
{
	const struct nr_client_agreement a = agreement(NR_REPLY_STRUCTURED);
	struct nr_client_request request = { .command = NBD_CMD_BLOCK_STATUS,
					     .flags = NBD_CMD_FLAG_REQ_ONE,
					     .length = 1000 };
	struct nr_client_chunk chunk = { .kind = NR_CHUNK_STATUS, .context = 4, .extents = 1 };

	assert_non_null(nr_client_judge(&a, &request, &chunk));
	chunk.context = 5;
	chunk.extents = 2;
	assert_non_null(nr_client_judge(&a, &request, &chunk));
	chunk.extents = 1;
	assert_null(nr_client_judge(&a, &request, &chunk));
	assert_non_null(nr_client_judge(&a, &request, &chunk));

	request = (struct nr_client_request){ .command = NBD_CMD_BLOCK_STATUS, .length = 1000 };
	chunk = (struct nr_client_chunk){ .kind = NR_CHUNK_NONE, .done = true };
	assert_non_null(nr_client_judge(&a, &request, &chunk));
}

static void of_several_contexts_one_is_of_interest(void **state)
{
	struct nr_client_agreement a = agreement(NR_REPLY_STRUCTURED);
	struct nr_client_request request = { .command = NBD_CMD_BLOCK_STATUS,
					     .length = 1000,
					     .context = 2 };
	struct nr_client_chunk chunk = { .kind = NR_CHUNK_STATUS, .context = 5, .extents = 1 };
	struct nr_client_chunk end = { .kind = NR_CHUNK_NONE, .done = true };

	a.contexts = 5;
	a.context_id[2] = 1;
	assert_null(nr_client_judge(&a, &request, &chunk));
	assert_true(chunk.aside);
	assert_non_null(nr_client_judge(&a, &request, &end)); /* not the one */
	assert_non_null(nr_client_judge(&a, &request, &chunk));
	chunk.context = 1;
	assert_null(nr_client_judge(&a, &request, &chunk));
	assert_false(chunk.aside);
	assert_null(nr_client_judge(&a, &request, &end));
	chunk.context = 0; /* not selected: its number means nothing */
	assert_non_null(nr_client_judge(&a, &request, &chunk));
}

static void where_the_server_takes_it_the_context_is_chosen(void **state)
{
	struct nr_client_agreement a = agreement(NR_REPLY_EXTENDED);
	struct nr_client_request request = { .command = NBD_CMD_BLOCK_STATUS,
					     .flags = NBD_CMD_FLAG_REQ_ONE,
					     .offset = 512,
					     .length = UINT64_C(1) << 33,
					     .context = 2 };
	const struct nr_agreement servers = {
		.info = { UINT64_C(1) << 50, NBD_FLAG_BLOCK_STATUS_PAYLOAD, 1, 4096, 1 << 25 },
		.reply_style = NR_REPLY_EXTENDED,
		.contexts = 5
	};
	struct nr_client_chunk chunk = { .kind = NR_CHUNK_STATUS, .extents = 1, .repeated = 512 };
	uint8_t bytes[NR_CLIENT_REQUEST_MAX];
	struct nr_wire_request read;
	const char *why;
	uint16_t contexts;

	a.contexts = 5;
	a.context_id[0] = 1; /* as our server numbers them */
	a.context_id[2] = 3;
	/* It has not said that it takes it. */
	nr_client_choose(&a, &request);
	assert_int_equal(nr_client_encode(bytes, NR_REPLY_EXTENDED, COOKIE, &request),
			 nr_client_header_bytes(NR_REPLY_EXTENDED));
	a.info.flags = NBD_FLAG_BLOCK_STATUS_PAYLOAD;
	nr_client_choose(&a, &request);
	assert_int_equal(nr_client_encode(bytes, NR_REPLY_EXTENDED, COOKIE, &request),
			 nr_client_header_bytes(NR_REPLY_EXTENDED) + 12);
	assert_int_equal(nr_wire_parse(&servers, bytes, sizeof(bytes), &read, &why),
			 NR_WIRE_REQUEST);
	assert_int_equal(read.payload, 12);
	assert_int_equal(nr_wire_block_status(&servers, &read,
					      bytes + nr_client_header_bytes(NR_REPLY_EXTENDED), 12,
					      &contexts, &why),
			 0);
	assert_int_equal(nr_wire_judge(&servers, &read, UINT64_C(1) << 50, &why), 0);
	assert_int_equal(contexts, 1u << 2);
	assert_int_equal(read.length, request.length);
	assert_true(read.flags & NBD_CMD_FLAG_REQ_ONE);
	/* Others are not to come then. */
	chunk.context = 1;
	assert_non_null(nr_client_judge(&a, &request, &chunk));
	chunk.context = 3;
	assert_null(nr_client_judge(&a, &request, &chunk));
	/* With one context, and without extended headers, there is nothing to choose. */
	a.contexts = 4;
	nr_client_choose(&a, &request);
	assert_false(request.chosen);
	a.contexts = 5;
	a.reply_style = NR_REPLY_STRUCTURED;
	nr_client_choose(&a, &request);
	assert_false(request.chosen);
}

static void extended_replies_repeat_the_offset(void **state)
{
	const struct nr_client_agreement a = agreement(NR_REPLY_EXTENDED);
	struct nr_client_request request = { .command = NBD_CMD_FLUSH, .offset = 8 };
	struct nr_client_chunk chunk = { .kind = NR_CHUNK_NONE, .done = true, .repeated = 9 };

	assert_non_null(nr_client_judge(&a, &request, &chunk));
	chunk.repeated = 8;
	assert_null(nr_client_judge(&a, &request, &chunk));
}

/* A structured chunk with any header. */
static enum nr_client_parsed parse_header(uint8_t style, uint32_t magic, uint16_t flags,
					  uint16_t type, uint64_t length)
{
	uint8_t bytes[NR_CLIENT_HEADER_MAX] = { 0 }, *p = bytes;
	struct nr_client_chunk chunk;
	const char *why;
	size_t used;

	p = nbd_put32(p, magic);
	p = nbd_put16(p, flags);
	p = nbd_put16(p, type);
	p = nbd_put64(p, COOKIE);
	if (style == NR_REPLY_EXTENDED)
		(void)nbd_put64(nbd_put64(p, 0), length);
	else
		(void)nbd_put32(p, (uint32_t)length);
	return nr_client_parse(style, bytes, sizeof(bytes), &chunk, &used, &why);
}

static void headers_that_make_no_sense_are_a_breach(void **state)
{
	static const struct {
		uint16_t flags, type;
		uint64_t length;
	} cases[] = {
		{ 0, NBD_REPLY_TYPE_NONE, 0 },
		{ 1, NBD_REPLY_TYPE_NONE, 1 },
		{ 1, NBD_REPLY_TYPE_OFFSET_DATA, 8 },
		{ 1, NBD_REPLY_TYPE_OFFSET_DATA, 0 },
		{ 1, NBD_REPLY_TYPE_OFFSET_HOLE, 11 },
		{ 1, NBD_REPLY_TYPE_OFFSET_HOLE, 12 }, /* of no bytes */
		{ 1, NBD_REPLY_TYPE_BLOCK_STATUS, 4 },
		{ 1, NBD_REPLY_TYPE_BLOCK_STATUS, 13 },
		{ 1, NBD_REPLY_TYPE_BLOCK_STATUS, 4 + 8 * (NBD_EXTENTS_MAX + 1) },
		{ 1, NBD_REPLY_TYPE_BLOCK_STATUS_EXT, 24 },
		{ 1, NBD_REPLY_TYPE_ERROR, 5 },
		{ 1, NBD_REPLY_TYPE_ERROR, 6 }, /* without an error */
		{ 1, NBD_REPLY_TYPE_ERROR, 6 + NBD_STRING_MAX + 1 },
		{ 1, NBD_REPLY_TYPE_ERROR_OFFSET, 13 },
		{ 1, 3, 0 },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		assert_int_equal(parse_header(NR_REPLY_STRUCTURED, NBD_STRUCTURED_REPLY_MAGIC,
					      cases[i].flags, cases[i].type, cases[i].length),
				 NR_CLIENT_PARSE_BREACH);
	assert_int_equal(parse_header(NR_REPLY_EXTENDED, NBD_EXTENDED_REPLY_MAGIC, 1,
				      NBD_REPLY_TYPE_BLOCK_STATUS, 12),
			 NR_CLIENT_PARSE_BREACH);
	assert_int_equal(parse_header(NR_REPLY_EXTENDED, NBD_EXTENDED_REPLY_MAGIC, 1,
				      NBD_REPLY_TYPE_OFFSET_HOLE, UINT64_C(0x10000000c)),
			 NR_CLIENT_PARSE_BREACH);
	assert_int_equal(parse_header(NR_REPLY_EXTENDED, NBD_SIMPLE_REPLY_MAGIC, 1, 0, 0),
			 NR_CLIENT_PARSE_BREACH);
	assert_int_equal(parse_header(NR_REPLY_SIMPLE, NBD_STRUCTURED_REPLY_MAGIC, 1, 0, 0),
			 NR_CLIENT_PARSE_BREACH);
	assert_int_equal(parse_header(NR_REPLY_STRUCTURED, NBD_REQUEST_MAGIC, 1, 0, 0),
			 NR_CLIENT_PARSE_BREACH);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(requests_are_read_as_they_were_meant),
		cmocka_unit_test(data_holes_and_the_end),
		cmocka_unit_test(a_simple_reply_to_a_read_has_its_data_behind_it),
		cmocka_unit_test(errors_are_understood),
		cmocka_unit_test(extents_are_understood),
		cmocka_unit_test(content_that_does_not_fit_is_a_breach),
		cmocka_unit_test(more_than_was_read_is_a_breach_even_in_range),
		cmocka_unit_test(block_status_is_one_chunk_of_our_context),
		cmocka_unit_test(of_several_contexts_one_is_of_interest),
		cmocka_unit_test(where_the_server_takes_it_the_context_is_chosen),
		cmocka_unit_test(extended_replies_repeat_the_offset),
		cmocka_unit_test(headers_that_make_no_sense_are_a_breach),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
