/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Fuzz target: requests off the wire, judged and answered.
 *
 * Bytes 0..3 choose what was agreed; the rest is what the client sends.  Each
 * request is parsed, judged and, if it has one, its BLOCK_STATUS payload read,
 * as a connection does; what the judge lets through must be legal, what it
 * refuses gets an error reply.
 *
 *   clang -g -fsanitize=fuzzer,address,undefined -I. -Iinclude \
 *           tests/fuzz/fuzz-transmission.c and the .c files of src/protocol
 */
#undef NDEBUG
#include <assert.h>
#include <stdlib.h>

#include "nbdring/checked.h"
#include "nbdring/limits.h"
#include "src/protocol/reply.h"
#include "src/protocol/transmission.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define SIZE (UINT64_C(5) << 32)

/* What was let through keeps its promises. */
static void check_legal(const struct nr_agreement *a, const struct nr_wire_request *r)
{
	uint16_t offered = a->info.flags;

	assert(r->command < NBD_CMD_COUNT);
	if (r->command == NBD_CMD_DISC)
		return;
	assert(!(r->flags & NBD_CMD_FLAG_FUA) || (offered & NBD_FLAG_SEND_FUA));
	assert(!(r->flags & NBD_CMD_FLAG_DF) || (offered & NBD_FLAG_SEND_DF));
	assert(!(r->flags & ~0x3fu));
	if (r->command == NBD_CMD_FLUSH)
		return;
	if (r->command == NBD_CMD_RESIZE) {
		assert(r->length == 0);
		assert(r->offset <= NR_SIZE_MAX);
		return;
	}
	assert(nr_in_range(r->offset, r->length, SIZE));
	if (a->asked_block_size)
		assert(nr_is_aligned(r->offset | r->length, a->info.block_min));
	if (r->command == NBD_CMD_READ)
		assert(r->length <= NR_PAYLOAD_MAX);
	if (offered & NBD_FLAG_READ_ONLY)
		assert(r->command != NBD_CMD_WRITE && r->command != NBD_CMD_TRIM &&
		       r->command != NBD_CMD_WRITE_ZEROES);
	if (r->command == NBD_CMD_WRITE)
		assert(r->payload == r->length);
	else if (r->command != NBD_CMD_BLOCK_STATUS)
		assert(r->payload == 0);
}

/* Extents made of the request's own bytes. */
static void answer_extents(const struct nr_reply_to *to, const struct nr_wire_request *r)
{
	struct nr_extent list[3] = { { r->length, 0 },
				     { (r->offset & 0xffff) + 1, 3 },
				     { UINT64_C(1) << 33, 1 } };
	struct nr_extents extents = { .count = 1 + (uint32_t)(r->offset % 3), .extent = list };
	uint8_t *out;
	size_t room;

	if (r->flags & NBD_CMD_FLAG_REQ_ONE)
		list[0].length += UINT32_MAX;
	room = nr_reply_extents_bytes(to, &extents);
	out = malloc(room);
	assert(out);
	assert(nr_reply_extents(out, to, 1, &extents, r->length, r->flags & NBD_CMD_FLAG_REQ_ONE,
				512, true) <= room);
	free(out);
}

static void answer(const struct nr_agreement *a, const struct nr_wire_request *r, uint32_t error,
		   const char *text)
{
	struct nr_reply_to to = { r->cookie, r->offset, a->reply_style };
	uint8_t out[NR_REPLY_ERROR_MAX];

	if (error) {
		assert(text);
		assert(nr_reply_error(out, &to, error, text) <= sizeof(out));
		return;
	}
	check_legal(a, r);
	if (r->command == NBD_CMD_BLOCK_STATUS)
		answer_extents(&to, r);
	else
		assert(nr_reply_ok(out, &to) <= NR_REPLY_HEADER_MAX);
}

/* One request at DATA; returns how many bytes it took, 0 at the end of the stream. */
static size_t take(const struct nr_agreement *a, const uint8_t *data, size_t size)
{
	size_t header = nr_wire_header_bytes(a);
	struct nr_wire_request r;
	const char *text = NULL, *why = NULL;
	uint16_t contexts = 0;
	uint32_t error;

	switch (nr_wire_parse(a, data, size, &r, &why)) {
	case NR_WIRE_MORE:
		assert(size < header);
		return 0;
	case NR_WIRE_BREACH:
		assert(why);
		return 0;
	case NR_WIRE_REQUEST:
		break;
	}
	assert(r.payload <= NR_PAYLOAD_MAX);
	error = nr_wire_judge(a, &r, SIZE, &text);
	if (r.payload > size - header) {
		answer(a, &r, error ? error : NBD_EIO, text ? text : "cut short");
		return 0;
	}
	if (!error && r.command == NBD_CMD_BLOCK_STATUS && r.payload > 0) {
		uint8_t *payload = malloc(r.payload);

		assert(payload);
		memcpy(payload, data + header, r.payload);
		error = nr_wire_block_status(a, &r, payload, r.payload, &contexts, &text);
		free(payload);
		if (!error) {
			assert(contexts);
			assert(!(contexts & ~a->contexts));
			error = nr_wire_judge(a, &r, SIZE, &text);
		}
	}
	answer(a, &r, error, text);
	return header + r.payload;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct nr_agreement a;
	uint8_t *copy;
	size_t n;

	if (size < 4)
		return 0;
	a = (struct nr_agreement){
		.info = { .size = SIZE,
			  .flags = (uint16_t)(nbd_get16(data) & 0x1fff),
			  .block_min = 1u << (data[2] & 15),
			  .block_preferred = 65536,
			  .block_max = 1u << 25 },
		.reply_style = (data[2] >> 4) % 3,
		.asked_block_size = data[2] & 0x80,
		.contexts = (uint16_t)(data[3] * 0x101),
	};
	if (a.reply_style == NR_REPLY_SIMPLE)
		a.contexts = 0;
	/* Memory of its own size for every request: reading on would be seen. */
	for (data += 4, size -= 4; size > 0; data += n, size -= n) {
		copy = malloc(size);
		assert(copy);
		memcpy(copy, data, size);
		n = take(&a, copy, size);
		free(copy);
		if (n == 0)
			break;
	}
	return 0;
}
