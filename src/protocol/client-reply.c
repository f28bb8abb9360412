/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Replies off the wire (client-reply.h).  Pure functions; any thread.
 *
 *	simple      [0..3] magic [4..7] error [8..15] cookie
 *	structured  [0..3] magic [4..5] flags [6..7] type [8..15] cookie [16..19] length
 *	extended    [0..3] magic [4..5] flags [6..7] type [8..15] cookie [16..23] offset
 *	            [24..31] length
 */
#include "src/protocol/client-reply.h"

#include <errno.h>

#include "nbdring/checked.h"

#define CHOICE_BYTES 12u

size_t nr_client_header_bytes(uint8_t style)
{
	return style == NR_REPLY_EXTENDED ? NBD_EXTENDED_REQUEST_BYTES : NBD_REQUEST_BYTES;
}

void nr_client_choose(const struct nr_client_agreement *agreement,
		      struct nr_client_request *request)
{
	request->chosen = request->command == NBD_CMD_BLOCK_STATUS &&
			  agreement->reply_style == NR_REPLY_EXTENDED &&
			  agreement->info.flags & NBD_FLAG_BLOCK_STATUS_PAYLOAD &&
			  agreement->contexts & (agreement->contexts - 1);
	request->chosen_id = agreement->context_id[request->context];
}

/*
 * "NBD_CMD_BLOCK_STATUS", payload:
 *   [0..7] length of the range   [8..11] context
 */
static uint8_t *put_choice(uint8_t *p, const struct nr_client_request *request)
{
	p = nbd_put64(p, CHOICE_BYTES);
	p = nbd_put64(p, request->length);
	return nbd_put32(p, request->chosen_id);
}

size_t nr_client_encode(uint8_t *out, uint8_t style, uint64_t cookie,
			const struct nr_client_request *request)
{
	bool extended = style == NR_REPLY_EXTENDED;
	uint16_t flags = request->flags;
	uint8_t *p;

	if (extended && (request->command == NBD_CMD_WRITE || request->chosen))
		flags |= NBD_CMD_FLAG_PAYLOAD_LEN;
	p = nbd_put32(out, extended ? NBD_EXTENDED_REQUEST_MAGIC : NBD_REQUEST_MAGIC);
	p = nbd_put16(p, flags);
	p = nbd_put16(p, request->command);
	memcpy(p, &cookie, sizeof(cookie));
	p = nbd_put64(p + sizeof(cookie), request->offset);
	if (!extended)
		p = nbd_put32(p, (uint32_t)request->length);
	else if (request->chosen)
		p = put_choice(p, request);
	else
		p = nbd_put64(p, request->length);
	return (size_t)(p - out);
}

size_t nr_client_encode_goodbye(uint8_t *out, uint8_t style)
{
	const struct nr_client_request goodbye = { .command = NBD_CMD_DISC };

	return nr_client_encode(out, style, 0, &goodbye);
}

static const struct {
	uint32_t nbd;
	int code;
} errors[] = {
	{ NBD_SUCCESS, 0 },
	{ NBD_EPERM, -EPERM },
	{ NBD_EIO, -EIO },
	{ NBD_ENOMEM, -ENOMEM },
	{ NBD_EINVAL, -EINVAL },
	{ NBD_ENOSPC, -ENOSPC },
	{ NBD_EOVERFLOW, -EOVERFLOW },
	{ NBD_ENOTSUP, -ENOTSUP },
	{ NBD_ESHUTDOWN, -ESHUTDOWN },
};

int nr_client_errno(uint32_t error)
{
	for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++)
		if (errors[i].nbd == error)
			return errors[i].code;
	return -EIO; /* "Error values": an unknown one is treated as EINVAL or EIO */
}

/* ---- parsing ----------------------------------------------------------- */

/* A chunk's payload begins at DATA; LENGTH bytes of it are here. */
struct body {
	const uint8_t *data;
	size_t have;
	uint64_t length;
};

static bool parse_simple(const uint8_t *data, struct nr_client_chunk *chunk)
{
	uint32_t error = nbd_get32(data + 4);

	chunk->simple = chunk->done = true;
	memcpy(&chunk->cookie, data + 8, sizeof(chunk->cookie));
	chunk->kind = error ? NR_CHUNK_ERROR : NR_CHUNK_NONE;
	chunk->error = nr_client_errno(error);
	return true;
}

static const char *parse_data(const struct body *body, struct nr_client_chunk *chunk, size_t *fixed)
{
	*fixed = 8;
	if (body->length <= 8)
		return "a data chunk without data";
	if (body->have < 8)
		return NULL;
	chunk->kind = NR_CHUNK_DATA;
	chunk->offset = nbd_get64(body->data);
	chunk->length = chunk->payload = body->length - 8;
	return NULL;
}

static const char *parse_hole(const struct body *body, struct nr_client_chunk *chunk, size_t *fixed)
{
	*fixed = 12;
	if (body->length != 12)
		return "a hole chunk of a wrong length";
	if (body->have < 12)
		return NULL;
	chunk->kind = NR_CHUNK_HOLE;
	chunk->offset = nbd_get64(body->data);
	chunk->length = nbd_get32(body->data + 8);
	return chunk->length ? NULL : "a hole chunk of no bytes";
}

static const char *parse_status(const struct body *body, bool extended,
				struct nr_client_chunk *chunk, size_t *fixed)
{
	uint64_t each = extended ? 16 : 8, count;

	*fixed = extended ? 8 : 4;
	if (body->length <= *fixed || (body->length - *fixed) % each)
		return "a block status chunk of a wrong length";
	count = (body->length - *fixed) / each;
	if (count > NBD_EXTENTS_MAX)
		return "a block status chunk with too many extents";
	if (body->have < *fixed)
		return NULL;
	if (extended && nbd_get32(body->data + 4) != count && nbd_get32(body->data + 4) != 0)
		return "a block status chunk that counts wrongly";
	chunk->kind = NR_CHUNK_STATUS;
	chunk->context = nbd_get32(body->data);
	chunk->extents = (uint32_t)count;
	chunk->payload = body->length - *fixed;
	return NULL;
}

static const char *parse_error(const struct body *body, bool at, struct nr_client_chunk *chunk,
			       size_t *fixed)
{
	uint64_t least = at ? 14 : 6, text;

	if (body->length < least || body->length > least + NBD_STRING_MAX)
		return "an error chunk of a wrong length";
	*fixed = body->length; /* text and all */
	if (body->have < body->length)
		return NULL;
	text = nbd_get16(body->data + 4);
	if (text > body->length - least || (at && text != body->length - least))
		return "an error chunk whose text is longer than it";
	chunk->kind = NR_CHUNK_ERROR;
	chunk->error = nr_client_errno(nbd_get32(body->data));
	chunk->at = at;
	if (at)
		chunk->offset = nbd_get64(body->data + 6 + text);
	return chunk->error ? NULL : "an error chunk without an error";
}

static const char *parse_body(uint16_t type, const struct body *body, bool extended,
			      struct nr_client_chunk *chunk, size_t *fixed)
{
	switch (type) {
	case NBD_REPLY_TYPE_NONE:
		chunk->kind = NR_CHUNK_NONE;
		*fixed = 0;
		if (body->length || !chunk->done)
			return "a chunk of no type that is not the end";
		return NULL;
	case NBD_REPLY_TYPE_OFFSET_DATA:
		return parse_data(body, chunk, fixed);
	case NBD_REPLY_TYPE_OFFSET_HOLE:
		return parse_hole(body, chunk, fixed);
	case NBD_REPLY_TYPE_BLOCK_STATUS:
		return extended ? "a block status chunk of the wrong type"
				: parse_status(body, false, chunk, fixed);
	case NBD_REPLY_TYPE_BLOCK_STATUS_EXT:
		return extended ? parse_status(body, true, chunk, fixed)
				: "a block status chunk of the wrong type";
	case NBD_REPLY_TYPE_ERROR:
		return parse_error(body, false, chunk, fixed);
	case NBD_REPLY_TYPE_ERROR_OFFSET:
		return parse_error(body, true, chunk, fixed);
	default:
		/* Unknown errors are errors: the first of their payload is as in all of them. */
		return type & 0x8000 ? parse_error(body, false, chunk, fixed)
				     : "a chunk of an unknown type";
	}
}

enum nr_client_parsed nr_client_parse(uint8_t style, const uint8_t *data, size_t length,
				      struct nr_client_chunk *chunk, size_t *used, const char **why)
{
	uint32_t magic;
	bool extended;
	size_t header, fixed = 0;
	struct body body;

	if (length < NBD_SIMPLE_REPLY_BYTES)
		return NR_CLIENT_PARSE_MORE;
	*chunk = (struct nr_client_chunk){ .kind = NR_CHUNK_NONE };
	magic = nbd_get32(data);
	if (magic == NBD_SIMPLE_REPLY_MAGIC && style != NR_REPLY_EXTENDED) {
		parse_simple(data, chunk);
		*used = NBD_SIMPLE_REPLY_BYTES;
		return NR_CLIENT_PARSE_CHUNK;
	}
	extended = style == NR_REPLY_EXTENDED;
	if (style == NR_REPLY_SIMPLE ||
	    magic != (extended ? NBD_EXTENDED_REPLY_MAGIC : NBD_STRUCTURED_REPLY_MAGIC)) {
		*why = "a reply begins with a wrong number";
		return NR_CLIENT_PARSE_BREACH;
	}
	header = extended ? NBD_EXTENDED_REPLY_BYTES : NBD_STRUCTURED_REPLY_BYTES;
	if (length < header)
		return NR_CLIENT_PARSE_MORE;
	chunk->done = nbd_get16(data + 4) & NBD_REPLY_FLAG_DONE;
	memcpy(&chunk->cookie, data + 8, sizeof(chunk->cookie));
	chunk->repeated = extended ? nbd_get64(data + 16) : 0;
	body = (struct body){ data + header, length - header,
			      extended ? nbd_get64(data + 24) : nbd_get32(data + 16) };
	*why = parse_body(nbd_get16(data + 6), &body, extended, chunk, &fixed);
	if (*why)
		return NR_CLIENT_PARSE_BREACH;
	if (body.have < fixed)
		return NR_CLIENT_PARSE_MORE;
	*used = header + fixed;
	return NR_CLIENT_PARSE_CHUNK;
}

/* ---- judging ----------------------------------------------------------- */

static const char *judge_simple(uint8_t style, struct nr_client_request *request,
				struct nr_client_chunk *chunk)
{
	if (request->command != NBD_CMD_READ)
		return NULL;
	if (style != NR_REPLY_SIMPLE)
		return "a simple reply to a read";
	if (chunk->kind == NR_CHUNK_NONE) {
		chunk->kind = NR_CHUNK_DATA;
		chunk->offset = request->offset;
		chunk->length = chunk->payload = request->length;
	}
	return NULL;
}

static const char *judge_content(struct nr_client_request *request, struct nr_client_chunk *chunk)
{
	uint64_t end = request->offset + request->length;

	if (request->command != NBD_CMD_READ)
		return "data for what is no read";
	if (chunk->offset < request->offset || !nr_in_range(chunk->offset, chunk->length, end))
		return "data outside of what was read";
	if (chunk->length > request->length - request->answered)
		return "more data than was read";
	request->answered += chunk->length;
	return NULL;
}

static const char *judge_status(const struct nr_client_agreement *agreement,
				struct nr_client_request *request, struct nr_client_chunk *chunk)
{
	unsigned index = 0;

	if (request->command != NBD_CMD_BLOCK_STATUS)
		return "a block status that nobody asked for";
	while (index < NR_CONTEXTS_MAX && !((agreement->contexts & 1u << index) &&
					    chunk->context == agreement->context_id[index]))
		index++;
	if (index == NR_CONTEXTS_MAX)
		return "a block status of another context";
	if (request->chosen && index != request->context)
		return "a block status of a context that was not chosen";
	if (request->status & 1u << index)
		return "a second answer to one block status";
	if ((request->flags & NBD_CMD_FLAG_REQ_ONE) && chunk->extents != 1)
		return "several extents where one was asked for";
	request->status |= (uint16_t)(1u << index);
	chunk->aside = index != request->context;
	return NULL;
}

static const char *judge_end(struct nr_client_request *request)
{
	if (request->error)
		return NULL;
	if (request->command == NBD_CMD_READ && request->answered != request->length)
		return "a read that ends before all of its data has come";
	if (request->command == NBD_CMD_BLOCK_STATUS && !(request->status & 1u << request->context))
		return "a block status that ends without an extent";
	return NULL;
}

const char *nr_client_judge(const struct nr_client_agreement *agreement,
			    struct nr_client_request *request, struct nr_client_chunk *chunk)
{
	const char *why = NULL;

	if (agreement->reply_style == NR_REPLY_EXTENDED && chunk->repeated != request->offset)
		return "a reply that repeats another offset";
	if (chunk->simple)
		why = judge_simple(agreement->reply_style, request, chunk);
	if (why)
		return why;
	switch (chunk->kind) {
	case NR_CHUNK_DATA:
	case NR_CHUNK_HOLE:
		why = judge_content(request, chunk);
		break;
	case NR_CHUNK_STATUS:
		why = judge_status(agreement, request, chunk);
		break;
	case NR_CHUNK_ERROR:
		if (chunk->at && (chunk->offset < request->offset ||
				  chunk->offset - request->offset > request->length))
			return "an error outside of what was asked";
		if (!request->error)
			request->error = chunk->error;
		break;
	case NR_CHUNK_NONE:
	default:
		break;
	}
	return !why && chunk->done ? judge_end(request) : why;
}

/* ---- extents ----------------------------------------------------------- */

size_t nr_client_extent_bytes(uint8_t style)
{
	return style == NR_REPLY_EXTENDED ? 16 : 8;
}

void nr_client_extent(uint8_t style, const uint8_t *at, uint64_t *length, uint64_t *status)
{
	if (style == NR_REPLY_EXTENDED) {
		*length = nbd_get64(at);
		*status = nbd_get64(at + 8);
	} else {
		*length = nbd_get32(at);
		*status = nbd_get32(at + 4);
	}
}
