/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Requests: from bytes to a struct, and whether they may be carried out.
 *
 * Parsing decides one thing only: where the next request begins.  It fails
 * (a breach) when that cannot be known or is too far away.  Everything else a
 * client may do wrong is the judge's: it answers with an error and the
 * connection lives on.  What each command may look like stands in one table.
 *
 * No allocation, no state.  Nothing here asserts on what a client sent.
 */
#include "src/protocol/transmission.h"

#include <errno.h>

#include "nbdring/checked.h"
#include "nbdring/limits.h"

/* BLOCK_STATUS payload (extension-ext-header): effect length, then the ids. */
#define STATUS_LENGTH_BYTES 8u
#define STATUS_ID_BYTES 4u

static bool is_extended(const struct nr_agreement *agreement)
{
	return agreement->reply_style == NR_REPLY_EXTENDED;
}

size_t nr_wire_header_bytes(const struct nr_agreement *agreement)
{
	return is_extended(agreement) ? NBD_EXTENDED_REQUEST_BYTES : NBD_REQUEST_BYTES;
}

static enum nr_wire_parsed breach(const char **why, const char *phrase)
{
	if (why)
		*why = phrase;
	return NR_WIRE_BREACH;
}

/*
 * "Request message":
 *   [0..3]   magic   [4..5] flags   [6..7] command   [8..15] cookie
 *   [16..23] offset
 *   [24..27] length: of the payload for WRITE, else of the effect
 * Extended (extension-ext-header):
 *   [24..31] length: of the payload with PAYLOAD_LEN, else of the effect
 *
 * A WRITE has its payload also when a client forgets the flag that says so, as
 * qemu's does: data taken for requests would end the connection.
 */
enum nr_wire_parsed nr_wire_parse(const struct nr_agreement *agreement, const uint8_t *data,
				  size_t length, struct nr_wire_request *request, const char **why)
{
	bool extended = is_extended(agreement), has_payload;
	uint32_t magic = extended ? NBD_EXTENDED_REQUEST_MAGIC : NBD_REQUEST_MAGIC;

	/* A wrong magic is told from four bytes: do not wait for more. */
	if (length >= sizeof(magic) && nbd_get32(data) != magic)
		return breach(why, "wrong magic in a request");
	if (length < nr_wire_header_bytes(agreement))
		return NR_WIRE_MORE;

	request->flags = nbd_get16(data + 4);
	request->command = nbd_get16(data + 6);
	memcpy(&request->cookie, data + 8, sizeof(request->cookie));
	request->offset = nbd_get64(data + 16);
	request->length = extended ? nbd_get64(data + 24) : nbd_get32(data + 24);
	request->payload = 0;
	request->contexts = agreement->contexts;

	has_payload = request->command == NBD_CMD_WRITE ||
		      (extended && (request->flags & NBD_CMD_FLAG_PAYLOAD_LEN));
	if (!has_payload)
		return NR_WIRE_REQUEST;

	/* "Size constraints": up to 32 MiB is no denial of service. */
	if (request->length > NR_PAYLOAD_MAX)
		return breach(why, "a request with more than 32 MiB of payload");
	request->payload = request->length;
	if (request->command != NBD_CMD_WRITE)
		request->length = 0; /* the header has no effect length then */
	return NR_WIRE_REQUEST;
}

/* What a command may look like ("Request types"). */
struct rule {
	uint16_t flags;    /* command flags it knows, besides FUA which all do */
	uint16_t needs;    /* transmission flag without which it is not offered, or 0 */
	bool writes;       /* refused with EPERM on a read-only export */
	bool ranged;       /* offset and length name a range of the export */
	uint32_t past_end; /* error if the range is not inside the export */
};

static const struct rule rules[NBD_CMD_COUNT] = {
	[NBD_CMD_READ] = {
		.flags = NBD_CMD_FLAG_DF,
		.ranged = true,
		.past_end = NBD_EINVAL,
	},
	[NBD_CMD_WRITE] = {
		.flags = NBD_CMD_FLAG_PAYLOAD_LEN,
		.writes = true,
		.ranged = true,
		.past_end = NBD_ENOSPC,
	},
	[NBD_CMD_DISC] = { 0 }, /* never judged */
	[NBD_CMD_FLUSH] = {
		.needs = NBD_FLAG_SEND_FLUSH,
	},
	[NBD_CMD_TRIM] = {
		.needs = NBD_FLAG_SEND_TRIM,
		.writes = true,
		.ranged = true,
		.past_end = NBD_EINVAL,
	},
	[NBD_CMD_CACHE] = { /* some clients send it unoffered; it is a hint anyway */
		.ranged = true,
		.past_end = NBD_EINVAL,
	},
	[NBD_CMD_WRITE_ZEROES] = {
		.flags = NBD_CMD_FLAG_NO_HOLE | NBD_CMD_FLAG_FAST_ZERO,
		.needs = NBD_FLAG_SEND_WRITE_ZEROES,
		.writes = true,
		.ranged = true,
		.past_end = NBD_ENOSPC,
	},
	[NBD_CMD_BLOCK_STATUS] = {
		.flags = NBD_CMD_FLAG_REQ_ONE | NBD_CMD_FLAG_PAYLOAD_LEN,
		.ranged = true,
		.past_end = NBD_EINVAL,
	},
	[NBD_CMD_RESIZE] = {
		.needs = NBD_FLAG_SEND_RESIZE,
		.writes = true,
	},
};

/* Flags that must have been offered, by the transmission flag that does. */
static const struct {
	uint16_t command_flag;
	uint16_t offered_by;
	const char *text;
} offers[] = {
	{ NBD_CMD_FLAG_FUA, NBD_FLAG_SEND_FUA, "FUA was not offered" },
	{ NBD_CMD_FLAG_DF, NBD_FLAG_SEND_DF, "DF was not offered" },
	{ NBD_CMD_FLAG_FAST_ZERO, NBD_FLAG_SEND_FAST_ZERO, "FAST_ZERO was not offered" },
};

static uint32_t refuse(uint32_t error, const char **text, const char *sentence)
{
	*text = sentence;
	return error;
}

/* "Command flags": known to this command, and offered to this client. */
static uint32_t judge_flags(const struct nr_agreement *agreement,
			    const struct nr_wire_request *request, const struct rule *rule,
			    const char **text)
{
	uint16_t unknown = request->flags & ~(rule->flags | NBD_CMD_FLAG_FUA);
	bool payload = request->flags & NBD_CMD_FLAG_PAYLOAD_LEN;

	if (payload && !is_extended(agreement))
		return refuse(NBD_EINVAL, text, "PAYLOAD_LEN without extended headers");
	if (unknown & NBD_CMD_FLAG_PAYLOAD_LEN)
		return refuse(NBD_EINVAL, text, "this command takes no payload");
	if (unknown)
		return refuse(NBD_EINVAL, text, "a flag that this command does not know");
	for (size_t i = 0; i < sizeof(offers) / sizeof(offers[0]); i++) {
		if ((request->flags & offers[i].command_flag) &&
		    !(agreement->info.flags & offers[i].offered_by))
			return refuse(NBD_EINVAL, text, offers[i].text);
	}
	return 0;
}

/* "Metadata querying", and the payload form of extension-ext-header. */
static uint32_t judge_block_status(const struct nr_agreement *agreement,
				   const struct nr_wire_request *request, const char **text)
{
	if (agreement->contexts == 0)
		return refuse(NBD_EINVAL, text, "no metadata context was selected");
	if (!(request->flags & NBD_CMD_FLAG_PAYLOAD_LEN)) {
		/* Success must describe at least one byte. */
		if (request->length == 0)
			return refuse(NBD_EINVAL, text, "BLOCK_STATUS of no bytes");
		return 0;
	}
	if (!(agreement->info.flags & NBD_FLAG_BLOCK_STATUS_PAYLOAD))
		return refuse(NBD_EINVAL, text, "BLOCK_STATUS payloads were not offered");
	if (request->payload < STATUS_LENGTH_BYTES + STATUS_ID_BYTES ||
	    request->payload > NR_WIRE_BLOCK_STATUS_MAX || request->payload % STATUS_ID_BYTES != 0)
		return refuse(NBD_EINVAL, text, "a BLOCK_STATUS payload of impossible length");
	return 0;
}

/* Unlike the other commands it carries its new size in `offset` (extension-resize). */
static uint32_t judge_resize(const struct nr_wire_request *request, const char **text)
{
	if (request->length != 0)
		return refuse(NBD_EINVAL, text, "RESIZE has a length; the new size is its offset");
	if (request->offset > NR_SIZE_MAX)
		return refuse(NBD_ENOSPC, text, "RESIZE to more than 2^63-1 bytes");
	return 0;
}

/* "Size constraints" and "Error values": the range of commands that have one. */
static uint32_t judge_range(const struct nr_agreement *agreement,
			    const struct nr_wire_request *request, const struct rule *rule,
			    uint64_t size, const char **text)
{
	uint64_t align = agreement->info.block_min;

	if (agreement->asked_block_size && align > 1 &&
	    !nr_is_aligned(request->offset | request->length, align))
		return refuse(NBD_EINVAL, text, "not aligned to the minimum block size");
	if (!nr_in_range(request->offset, request->length, size))
		return refuse(rule->past_end, text, "past the end of the export");
	if (request->command == NBD_CMD_READ && request->length > NR_PAYLOAD_MAX)
		return refuse(agreement->reply_style == NR_REPLY_SIMPLE ? NBD_EINVAL
									: NBD_EOVERFLOW,
			      text, "a read of more than 32 MiB");
	return 0;
}

uint32_t nr_wire_judge(const struct nr_agreement *agreement, const struct nr_wire_request *request,
		       uint64_t size, const char **text)
{
	const struct rule *rule;
	uint32_t error;

	*text = NULL;
	if (request->command == NBD_CMD_DISC)
		return 0;
	if (request->command >= NBD_CMD_COUNT)
		return refuse(NBD_EINVAL, text, "unknown command");
	rule = &rules[request->command];

	error = judge_flags(agreement, request, rule, text);
	if (error)
		return error;
	if (rule->writes && (agreement->info.flags & NBD_FLAG_READ_ONLY))
		return refuse(NBD_EPERM, text, "the export is read-only");
	if (rule->needs && !(agreement->info.flags & rule->needs))
		return refuse(NBD_EINVAL, text, "this command was not offered");

	if (request->command == NBD_CMD_BLOCK_STATUS)
		error = judge_block_status(agreement, request, text);
	else if (request->command == NBD_CMD_RESIZE)
		error = judge_resize(request, text);
	if (error || !rule->ranged)
		return error;
	if (agreement->bound_to_maximum && request->length > agreement->info.block_max &&
	    (request->command == NBD_CMD_READ || request->command == NBD_CMD_WRITE))
		return refuse(NBD_EINVAL, text, "longer than the maximum block size");
	return judge_range(agreement, request, rule, size, text);
}

/*
 * "NBD_CMD_BLOCK_STATUS" with payload (extension-ext-header):
 *   [0..7] effect length   [8..] context ids, 4 bytes each, each at most once
 */
uint32_t nr_wire_block_status(const struct nr_agreement *agreement, struct nr_wire_request *request,
			      const uint8_t *payload, size_t length, uint16_t *contexts,
			      const char **text)
{
	uint16_t selected = 0;
	uint32_t error;

	*text = NULL;
	error = judge_block_status(agreement, request, text);
	if (error)
		return error;
	if (length != request->payload || !(request->flags & NBD_CMD_FLAG_PAYLOAD_LEN))
		return refuse(NBD_EINVAL, text, "a BLOCK_STATUS payload of impossible length");

	for (size_t at = STATUS_LENGTH_BYTES; at < length; at += STATUS_ID_BYTES) {
		uint32_t id = nbd_get32(payload + at);
		uint16_t bit = id >= 1 && id <= NR_CONTEXTS_MAX ? (uint16_t)(1u << (id - 1)) : 0;

		if (!(agreement->contexts & bit))
			return refuse(NBD_EINVAL, text, "an unknown metadata context");
		if (selected & bit)
			return refuse(NBD_EINVAL, text, "a metadata context named twice");
		selected |= bit;
	}
	if (nbd_get64(payload) == 0)
		return refuse(NBD_EINVAL, text, "BLOCK_STATUS of no bytes");
	request->length = nbd_get64(payload);
	*contexts = selected;
	return 0;
}

/* "Error values": EOVERFLOW is for DF reads and for over-long commands without payload. */
static uint32_t overflow_error(uint16_t command, uint16_t flags)
{
	switch (command) {
	case NBD_CMD_READ:
		return flags & NBD_CMD_FLAG_DF ? NBD_EOVERFLOW : NBD_EINVAL;
	case NBD_CMD_WRITE_ZEROES:
		/* "NBD_CMD_WRITE_ZEROES": a fast zero fails by ENOTSUP only. */
		return flags & NBD_CMD_FLAG_FAST_ZERO ? NBD_ENOTSUP : NBD_EOVERFLOW;
	case NBD_CMD_TRIM:
	case NBD_CMD_CACHE:
	case NBD_CMD_BLOCK_STATUS:
		return NBD_EOVERFLOW;
	default:
		return NBD_EINVAL;
	}
}

uint32_t nr_wire_error(int error, uint16_t command, uint16_t flags)
{
	switch (-error) {
	case 0:
		return NBD_SUCCESS;
	case EPERM:
	case EACCES:
	case EROFS:
		return NBD_EPERM;
	case ENOSPC:
	case EDQUOT:
	case EFBIG:
		return NBD_ENOSPC;
	case EINVAL:
		return NBD_EINVAL;
	case EOPNOTSUPP: /* ENOTSUP is the same number on Linux */
		if (command == NBD_CMD_WRITE_ZEROES && (flags & NBD_CMD_FLAG_FAST_ZERO))
			return NBD_ENOTSUP;
		return NBD_EINVAL;
	case EOVERFLOW:
		return overflow_error(command, flags);
	case ESHUTDOWN:
		return NBD_ESHUTDOWN;
	default: /* also ENOMEM, which is to be avoided on the wire */
		return NBD_EIO;
	}
}
