/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Fuzz target: requests off the wire, judged and answered.
 *
 * Bytes 0..3 choose what was agreed (the reply style among it: simple, structured or
 * extended headers), byte 4 the size of the export and how the stream is cut; the rest
 * is what the client sends.  Each request is parsed, judged and, if it has one, its
 * BLOCK_STATUS payload read, as a connection does.  What the judge lets through must be
 * legal, and the replies must be what a client can take apart.
 */
#include "nbdring/checked.h"
#include "nbdring/limits.h"
#include "src/protocol/reply.h"
#include "src/protocol/session.h"
#include "src/protocol/text.h"
#include "src/protocol/transmission.h"
#include "tests/fuzz/fuzz.h"

#define CHOICE_BYTES 5

struct connection {
	struct nr_agreement agreement;
	uint64_t size; /* of the export */
	size_t piece;  /* bytes that arrive at a time */
};

/* May WRITE and its kin carry so much? */
static void check_payload(const struct nr_agreement *a, const struct nr_wire_request *r)
{
	assert(r->payload <= NR_PAYLOAD_MAX);
	if (r->command == NBD_CMD_WRITE)
		assert(r->payload == r->length);
	else if (r->command != NBD_CMD_BLOCK_STATUS)
		assert(r->payload == 0);
	else
		assert(r->payload <= NR_WIRE_BLOCK_STATUS_MAX);
	if (a->reply_style != NR_REPLY_EXTENDED && r->command != NBD_CMD_WRITE)
		assert(r->payload == 0);
}

/* What was let through keeps its promises. */
static void check_legal(const struct connection *c, const struct nr_wire_request *r)
{
	const struct nr_agreement *a = &c->agreement;
	uint16_t offered = a->info.flags;

	assert(r->command < NBD_CMD_COUNT);
	if (r->command == NBD_CMD_DISC)
		return;
	assert(!(r->flags & NBD_CMD_FLAG_FUA) || (offered & NBD_FLAG_SEND_FUA));
	assert(!(r->flags & NBD_CMD_FLAG_DF) || (offered & NBD_FLAG_SEND_DF));
	assert(!(r->flags & NBD_CMD_FLAG_FAST_ZERO) || (offered & NBD_FLAG_SEND_FAST_ZERO));
	assert(!(r->flags & NBD_CMD_FLAG_PAYLOAD_LEN) || a->reply_style == NR_REPLY_EXTENDED);
	assert(!(r->flags & ~0x3fu));
	check_payload(a, r);
	if (offered & NBD_FLAG_READ_ONLY)
		assert(r->command != NBD_CMD_WRITE && r->command != NBD_CMD_TRIM &&
		       r->command != NBD_CMD_WRITE_ZEROES && r->command != NBD_CMD_RESIZE);
	if (r->command == NBD_CMD_FLUSH)
		return;
	if (r->command == NBD_CMD_RESIZE) {
		assert(r->length == 0);
		assert(r->offset <= NR_SIZE_MAX);
		return;
	}
	assert(nr_in_range(r->offset, r->length, c->size));
	if (a->asked_block_size)
		assert(nr_is_aligned(r->offset | r->length, a->info.block_min));
	if (r->command == NBD_CMD_READ)
		assert(r->length <= NR_PAYLOAD_MAX);
	if (a->bound_to_maximum && (r->command == NBD_CMD_READ || r->command == NBD_CMD_WRITE))
		assert(r->length <= a->info.block_max);
	if (r->command == NBD_CMD_BLOCK_STATUS)
		assert(a->contexts);
}

/* What may stand in a reply ("Error values"). */
static bool is_wire_error(uint32_t error)
{
	static const uint32_t errors[] = { NBD_EPERM,  NBD_EIO,       NBD_ENOMEM,  NBD_EINVAL,
					   NBD_ENOSPC, NBD_EOVERFLOW, NBD_ENOTSUP, NBD_ESHUTDOWN };

	for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++)
		if (error == errors[i])
			return true;
	return false;
}

/*
 * The reply OUT of LENGTH bytes, of which DATA more would follow, as a client reads it:
 * the chunk's type, 0 for a simple reply.
 */
static uint16_t check_reply(const struct nr_reply_to *to, const uint8_t *out, size_t length,
			    uint64_t data)
{
	bool extended = to->style == NR_REPLY_EXTENDED;
	size_t header = extended ? NBD_EXTENDED_REPLY_BYTES : NBD_STRUCTURED_REPLY_BYTES;

	assert(memcmp(out + 8, &to->cookie, sizeof(to->cookie)) == 0);
	if (nbd_get32(out) == NBD_SIMPLE_REPLY_MAGIC) {
		assert(to->style == NR_REPLY_SIMPLE);
		assert(length == NBD_SIMPLE_REPLY_BYTES);
		return 0;
	}
	assert(nbd_get32(out) ==
	       (extended ? NBD_EXTENDED_REPLY_MAGIC : NBD_STRUCTURED_REPLY_MAGIC));
	assert(length >= header);
	if (extended) {
		assert(nbd_get64(out + 16) == to->offset);
		assert(nbd_get64(out + 24) == length - header + data);
	} else {
		assert(nbd_get32(out + 16) == length - header + data);
	}
	return nbd_get16(out + 6);
}

static void reply_error(const struct nr_reply_to *to, uint32_t error, const char *text)
{
	uint8_t *out = malloc(NR_REPLY_ERROR_MAX);
	size_t length;

	assert(out);
	assert(is_wire_error(error));
	assert(text);
	assert(text[0]);
	assert(nbd_text_ok((const uint8_t *)text, strlen(text)));
	length = nr_reply_error(out, to, error, text);
	assert(length <= NR_REPLY_ERROR_MAX);
	if (check_reply(to, out, length, 0))
		assert(nbd_get16(out + 6) == NBD_REPLY_TYPE_ERROR);
	if (to->style != NR_REPLY_SIMPLE) {
		length = nr_reply_error_at(out, to, error, to->offset, text);
		assert(length <= NR_REPLY_ERROR_MAX);
		assert(check_reply(to, out, length, 0) == NBD_REPLY_TYPE_ERROR_OFFSET);
	}
	free(out);
}

/* Extents made of the request's own bytes. */
static void reply_extents(const struct nr_reply_to *to, const struct nr_wire_request *r)
{
	struct nr_extent list[3] = { { r->length, 0 },
				     { (r->offset & 0xffff) + 1, 3 },
				     { UINT64_C(1) << 33, 1 } };
	struct nr_extents extents = { .count = 1 + (uint32_t)(r->offset % 3), .extent = list };
	bool one = r->flags & NBD_CMD_FLAG_REQ_ONE, extended = to->style == NR_REPLY_EXTENDED;
	size_t room, length, fixed = extended ? 40 : 24, each = extended ? 16 : 8;
	uint64_t covered = 0;
	uint8_t *out;

	if (one)
		list[0].length += UINT32_MAX;
	room = nr_reply_extents_bytes(to, &extents);
	out = malloc(room);
	assert(out);
	length = nr_reply_extents(out, to, 1, &extents, r->length, one, 512, true);
	assert(length <= room);
	assert(check_reply(to, out, length, 0) ==
	       (extended ? NBD_REPLY_TYPE_BLOCK_STATUS_EXT : NBD_REPLY_TYPE_BLOCK_STATUS));
	/* At least one extent; none but the last reaches the end of what was asked. */
	assert(length >= fixed + each);
	assert((length - fixed) % each == 0);
	for (size_t at = fixed; at < length; at += each) {
		uint64_t bytes = extended ? nbd_get64(out + at) : nbd_get32(out + at);

		assert(bytes > 0);
		assert(at == fixed || covered < r->length);
		covered += bytes;
	}
	if (one) {
		assert(covered <= r->length);
		assert(length == fixed + each);
	}
	free(out);
}

static void reply_read(const struct nr_reply_to *to, const struct nr_wire_request *r)
{
	uint8_t *out = malloc(NR_REPLY_HEADER_MAX);
	size_t length;

	assert(out);
	length = nr_reply_data(out, to, r->offset, r->length, false);
	assert(length <= NR_REPLY_HEADER_MAX);
	assert(check_reply(to, out, length, r->length) == NBD_REPLY_TYPE_OFFSET_DATA);
	length = nr_reply_hole(out, to, r->offset, (uint32_t)r->length, true);
	assert(length <= NR_REPLY_HEADER_MAX);
	assert(check_reply(to, out, length, 0) == NBD_REPLY_TYPE_OFFSET_HOLE);
	free(out);
}

static void answer(const struct connection *c, const struct nr_wire_request *r, uint32_t error,
		   const char *text)
{
	struct nr_reply_to to = { r->cookie, r->offset, c->agreement.reply_style };
	uint8_t out[NR_REPLY_HEADER_MAX];

	if (error) {
		reply_error(&to, error, text);
		return;
	}
	check_legal(c, r);
	if (r->command == NBD_CMD_BLOCK_STATUS)
		reply_extents(&to, r);
	else if (r->command == NBD_CMD_READ && r->length && to.style != NR_REPLY_SIMPLE)
		reply_read(&to, r);
	else
		check_reply(&to, out, nr_reply_ok(out, &to), 0);
}

/* Every error a layer may end the request with becomes one of the protocol's. */
static void check_errors(const struct nr_wire_request *r)
{
	for (int number = 1; number < 140; number++) {
		uint32_t error = nr_wire_error(-number, r->command, r->flags);

		assert(is_wire_error(error));
		if (error == NBD_ENOTSUP)
			assert(r->command == NBD_CMD_WRITE_ZEROES &&
			       (r->flags & NBD_CMD_FLAG_FAST_ZERO));
		if (error == NBD_EOVERFLOW && r->command == NBD_CMD_READ)
			assert(r->flags & NBD_CMD_FLAG_DF);
	}
	assert(nr_wire_error(0, r->command, r->flags) == NBD_SUCCESS);
}

/* The contexts that the payload of BLOCK_STATUS selects; then it is judged again. */
static uint32_t read_payload(const struct connection *c, struct nr_wire_request *r,
			     const uint8_t *data, const char **text)
{
	uint8_t *payload = fuzz_copy(data, r->payload);
	uint16_t contexts = 0;
	uint32_t error;

	error = nr_wire_block_status(&c->agreement, r, payload, r->payload, &contexts, text);
	free(payload);
	if (error)
		return error;
	assert(contexts);
	assert(!(contexts & ~c->agreement.contexts));
	/* Each is named once. */
	assert((size_t)__builtin_popcount(contexts) == (r->payload - 8) / 4);
	assert(r->length > 0);
	return nr_wire_judge(&c->agreement, r, c->size, text);
}

/* As the header arrives: piece by piece, until it is whole. */
static enum nr_wire_parsed parse(const struct connection *c, const uint8_t *data, size_t size,
				 struct nr_wire_request *r)
{
	size_t header = nr_wire_header_bytes(&c->agreement);

	for (size_t have = nr_min(c->piece, size);; have = nr_min(have + c->piece, size)) {
		uint8_t *copy = fuzz_copy(data, have);
		const char *why = NULL;
		enum nr_wire_parsed parsed = nr_wire_parse(&c->agreement, copy, have, r, &why);

		free(copy);
		if (parsed == NR_WIRE_BREACH) {
			assert(why);
			assert(why[0]);
		}
		if (parsed == NR_WIRE_REQUEST)
			assert(have >= header);
		if (parsed == NR_WIRE_MORE)
			assert(have < header);
		if (parsed != NR_WIRE_MORE || have == size)
			return parsed;
	}
}

/* One request at DATA; returns how many bytes it took, 0 at the end of the stream. */
static size_t take(const struct connection *c, const uint8_t *data, size_t size)
{
	size_t header = nr_wire_header_bytes(&c->agreement);
	struct nr_wire_request r;
	const char *text = NULL;
	uint32_t error;

	if (parse(c, data, size, &r) != NR_WIRE_REQUEST)
		return 0;
	assert(r.payload <= NR_PAYLOAD_MAX);
	check_errors(&r);
	error = nr_wire_judge(&c->agreement, &r, c->size, &text);
	if (r.payload > size - header) {
		answer(c, &r, error ? error : NBD_EIO, text ? text : "cut short");
		return 0;
	}
	if (!error && r.command == NBD_CMD_BLOCK_STATUS && r.payload > 0)
		error = read_payload(c, &r, data + header, &text);
	answer(c, &r, error, text);
	return header + r.payload;
}

static struct connection make_connection(const uint8_t *data)
{
	static const uint64_t sizes[] = { UINT64_C(5) << 32, 0, 1, 65536, NR_SIZE_MAX, 511 };
	struct connection c = {
		.agreement = {
			.info = { .flags = (uint16_t)(nbd_get16(data) & 0x1fff),
				  .block_min = 1u << (data[2] & 15),
				  .block_preferred = 65536,
				  .block_max = data[4] & 0x80 ? 65536 : 1u << 25 },
			.reply_style = (data[2] >> 4) % 3,
			.asked_block_size = data[2] & 0x80,
			.bound_to_maximum = data[4] & 0x40,
			.contexts = (uint16_t)(data[3] * 0x101),
		},
		.size = sizes[(data[4] & 7) % 6],
		.piece = 1 + (size_t)(data[4] >> 3 & 7) * 9,
	};

	c.agreement.info.size = c.size;
	if (c.agreement.reply_style == NR_REPLY_SIMPLE)
		c.agreement.contexts = 0;
	return c;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct connection c;
	size_t n;

	if (size < CHOICE_BYTES)
		return 0;
	c = make_connection(data);
	for (data += CHOICE_BYTES, size -= CHOICE_BYTES; size > 0; data += n, size -= n) {
		n = take(&c, data, size);
		assert(n <= size);
		if (n == 0)
			break;
	}
	return 0;
}
