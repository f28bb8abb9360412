/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Encoding of replies.
 *
 * Every function writes front to back into the caller's memory and returns how
 * far it came; none allocates or keeps anything.  All chunk headers come from
 * nr_reply_chunk(), all error payloads from error_payload().
 *
 * Success without data is a chunk NONE in both chunked styles, although the
 * structured one would permit a simple reply: the chunk is right for READ too,
 * where a simple reply is forbidden, and costs four bytes.
 */
#include "src/protocol/reply.h"

#include <assert.h>

#include "nbdring/checked.h"
#include "nbdring/limits.h"
#include "src/protocol/session.h"
#include "src/protocol/text.h"

/* Fixed parts of chunk payloads, "Structured reply types". */
#define OFFSET_BYTES 8u
#define HOLE_BYTES 12u
#define ERROR_BYTES 6u
#define STATUS_BYTES 4u
#define STATUS_EXT_BYTES 8u
#define EXTENT_BYTES 8u
#define EXTENT_EXT_BYTES 16u

/* The cookie is opaque: it goes back as the bytes that came. */
static uint8_t *put_cookie(uint8_t *p, uint64_t cookie)
{
	memcpy(p, &cookie, sizeof(cookie));
	return p + sizeof(cookie);
}

static bool is_error(uint32_t error)
{
	return error == NBD_EPERM || error == NBD_EIO || error == NBD_ENOMEM ||
	       error == NBD_EINVAL || error == NBD_ENOSPC || error == NBD_EOVERFLOW ||
	       error == NBD_ENOTSUP || error == NBD_ESHUTDOWN;
}

/*
 * "Simple reply message":
 *   [0..3]  magic   [4..7] error   [8..15] cookie
 */
size_t nr_reply_simple(uint8_t *out, uint64_t cookie, uint32_t error)
{
	uint8_t *p = out;

	assert(error == NBD_SUCCESS || is_error(error)); /* "Error values" */
	p = nbd_put32(p, NBD_SIMPLE_REPLY_MAGIC);
	p = nbd_put32(p, error);
	p = put_cookie(p, cookie);
	return (size_t)(p - out);
}

size_t nr_reply_ok(uint8_t *out, const struct nr_reply_to *to)
{
	if (to->style == NR_REPLY_SIMPLE)
		return nr_reply_simple(out, to->cookie, NBD_SUCCESS);
	return nr_reply_chunk(out, to, NBD_REPLY_TYPE_NONE, NBD_REPLY_FLAG_DONE, 0);
}

/*
 * "Structured reply chunk message":
 *   [0..3]  magic   [4..5] flags   [6..7] type   [8..15] cookie   [16..19] length
 * "Extended reply chunk message" (extension-ext-header):
 *   [0..3]  magic   [4..5] flags   [6..7] type   [8..15] cookie
 *   [16..23] offset of the request, whatever the chunk is about
 *   [24..31] length
 */
size_t nr_reply_chunk(uint8_t *out, const struct nr_reply_to *to, uint16_t type, uint16_t flags,
		      uint64_t length)
{
	bool extended = to->style == NR_REPLY_EXTENDED;
	uint8_t *p = out;

	assert(to->style != NR_REPLY_SIMPLE);
	assert(extended || length <= UINT32_MAX);
	p = nbd_put32(p, extended ? NBD_EXTENDED_REPLY_MAGIC : NBD_STRUCTURED_REPLY_MAGIC);
	p = nbd_put16(p, flags);
	p = nbd_put16(p, type);
	p = put_cookie(p, to->cookie);
	if (extended) {
		p = nbd_put64(p, to->offset);
		p = nbd_put64(p, length);
	} else {
		p = nbd_put32(p, (uint32_t)length);
	}
	return (size_t)(p - out);
}

static uint16_t done_flag(bool done)
{
	return done ? NBD_REPLY_FLAG_DONE : 0;
}

/*
 * "NBD_REPLY_TYPE_OFFSET_DATA":
 *   [0..7] offset   [8..] data, at least one byte
 */
size_t nr_reply_data(uint8_t *out, const struct nr_reply_to *to, uint64_t offset, uint64_t length,
		     bool done)
{
	uint8_t *p = out;

	assert(length > 0);
	p += nr_reply_chunk(p, to, NBD_REPLY_TYPE_OFFSET_DATA, done_flag(done),
			    OFFSET_BYTES + length);
	p = nbd_put64(p, offset);
	return (size_t)(p - out);
}

/*
 * "NBD_REPLY_TYPE_OFFSET_HOLE":
 *   [0..7] offset   [8..11] size of the hole, not 0
 */
size_t nr_reply_hole(uint8_t *out, const struct nr_reply_to *to, uint64_t offset, uint32_t length,
		     bool done)
{
	uint8_t *p = out;

	assert(length > 0);
	p += nr_reply_chunk(p, to, NBD_REPLY_TYPE_OFFSET_HOLE, done_flag(done), HOLE_BYTES);
	p = nbd_put64(p, offset);
	p = nbd_put32(p, length);
	return (size_t)(p - out);
}

/*
 * What all error chunks begin with, "NBD_REPLY_TYPE_ERROR":
 *   [0..3] error, not 0   [4..5] bytes of text   [6..] text
 */
static uint8_t *error_payload(uint8_t *p, uint32_t error, const char *text, size_t text_bytes)
{
	p = nbd_put32(p, error);
	p = nbd_put16(p, (uint16_t)text_bytes);
	if (text_bytes > 0)
		memcpy(p, text, text_bytes);
	return p + text_bytes;
}

size_t nr_reply_error(uint8_t *out, const struct nr_reply_to *to, uint32_t error, const char *text)
{
	size_t text_bytes = nbd_text_cut(text, NR_REPLY_ERROR_TEXT_MAX);
	uint8_t *p = out;

	assert(is_error(error));
	if (to->style == NR_REPLY_SIMPLE)
		return nr_reply_simple(out, to->cookie, error);
	p += nr_reply_chunk(p, to, NBD_REPLY_TYPE_ERROR, NBD_REPLY_FLAG_DONE,
			    ERROR_BYTES + text_bytes);
	p = error_payload(p, error, text, text_bytes);
	return (size_t)(p - out);
}

/*
 * "NBD_REPLY_TYPE_ERROR_OFFSET": as ERROR, and behind the text
 *   [0..7] offset, inside the request
 */
size_t nr_reply_error_at(uint8_t *out, const struct nr_reply_to *to, uint32_t error,
			 uint64_t offset, const char *text)
{
	size_t text_bytes = nbd_text_cut(text, NR_REPLY_ERROR_TEXT_MAX);
	uint8_t *p = out;

	assert(is_error(error));
	p += nr_reply_chunk(p, to, NBD_REPLY_TYPE_ERROR_OFFSET, NBD_REPLY_FLAG_DONE,
			    ERROR_BYTES + text_bytes + OFFSET_BYTES);
	p = error_payload(p, error, text, text_bytes);
	p = nbd_put64(p, offset);
	return (size_t)(p - out);
}

size_t nr_reply_extents_bytes(const struct nr_reply_to *to, const struct nr_extents *extents)
{
	size_t count = (size_t)nr_min(extents->count, NBD_EXTENTS_MAX);

	if (to->style == NR_REPLY_EXTENDED)
		return NBD_EXTENDED_REPLY_BYTES + STATUS_EXT_BYTES + count * EXTENT_EXT_BYTES;
	return NBD_STRUCTURED_REPLY_BYTES + STATUS_BYTES + count * EXTENT_BYTES;
}

/*
 * The descriptors, "NBD_REPLY_TYPE_BLOCK_STATUS": all but the last lie inside
 * the request, so the one that reaches its end is the last.
 *   compact:  [0..3] length   [4..7] status
 *   extended: [0..7] length   [8..15] status
 */
static uint8_t *extent_list(uint8_t *p, bool extended, const struct nr_extents *extents,
			    uint64_t request_length, bool req_one, uint32_t align)
{
	uint32_t most = req_one ? 1 : NBD_EXTENTS_MAX;
	uint64_t covered = 0;

	for (uint32_t i = 0; i < extents->count && i < most && covered < request_length; i++) {
		uint64_t length = extents->extent[i].length;
		bool cut = false;

		assert(length > 0);
		if (req_one)
			length = nr_min(length, request_length);
		if (extended) {
			p = nbd_put64(p, length);
			p = nbd_put64(p, extents->extent[i].status);
		} else {
			if (length > UINT32_MAX) {
				length = nr_round_down(UINT32_MAX, align);
				cut = true;
			}
			p = nbd_put32(p, (uint32_t)length);
			p = nbd_put32(p, (uint32_t)extents->extent[i].status);
		}
		if (cut || !nr_add(covered, length, &covered))
			break;
	}
	return p;
}

/*
 * "NBD_REPLY_TYPE_BLOCK_STATUS":
 *   [0..3] context   [4..] descriptors of 8 bytes
 * "NBD_REPLY_TYPE_BLOCK_STATUS_EXT" (extension-ext-header):
 *   [0..3] context   [4..7] count of descriptors   [8..] descriptors of 16 bytes
 */
size_t nr_reply_extents(uint8_t *out, const struct nr_reply_to *to, uint32_t context,
			const struct nr_extents *extents, uint64_t request_length, bool req_one,
			uint32_t align, bool done)
{
	bool extended = to->style == NR_REPLY_EXTENDED;
	uint16_t type = extended ? NBD_REPLY_TYPE_BLOCK_STATUS_EXT : NBD_REPLY_TYPE_BLOCK_STATUS;
	size_t header = extended ? NBD_EXTENDED_REPLY_BYTES : NBD_STRUCTURED_REPLY_BYTES;
	size_t fixed = extended ? STATUS_EXT_BYTES : STATUS_BYTES;
	uint8_t *list = out + header + fixed, *end, *p;

	assert(extents->count > 0);
	assert(request_length > 0);
	assert(nr_is_power_of_2(align));
	assert(align <= NR_BLOCK_MIN_MAX);

	/* The list decides the length in the header, so it is written first. */
	end = extent_list(list, extended, extents, request_length, req_one, align);
	p = out + nr_reply_chunk(out, to, type, done_flag(done), (uint64_t)(end - out) - header);
	p = nbd_put32(p, context);
	if (extended)
		nbd_put32(p, (uint32_t)((size_t)(end - list) / EXTENT_EXT_BYTES));
	return (size_t)(end - out);
}
