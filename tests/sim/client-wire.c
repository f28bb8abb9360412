/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What a client receives, and whether it may.  See client.h.
 */
#undef NDEBUG
#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/client.h"

#define MEMORY_PATIENCE (29 * SIM_SECOND) /* then layers give up waiting for it */

uint64_t sim_requests_answered;

static uint64_t available(const struct sim_client *c)
{
	return c->in.tail - c->in.head;
}

static const uint8_t *head(const struct sim_client *c)
{
	return c->in.data + c->in.head;
}

/* ---- requests ---------------------------------------------------------- */

static struct sim_request *find(struct sim_client *c, uint64_t cookie)
{
	for (unsigned i = 0; i < SIM_DEPTH_MAX; i++)
		if (c->request[i].used && c->request[i].cookie == cookie)
			return &c->request[i];
	sim_fail("an answer to no request (cookie %016" PRIx64 "): twice, or never asked", cookie);
}

static void retire(struct sim_client *c, struct sim_request *r)
{
	free(r->seen);
	r->seen = NULL;
	r->used = false;
	c->outstanding--;
}

void sim_client_lose(struct sim_client *c)
{
	for (unsigned i = 0; i < SIM_DEPTH_MAX; i++) {
		struct sim_request *r = &c->request[i];

		if (!r->used)
			continue;
		if (r->write)
			sim_model_end(c->model, r->write, SIM_LOST);
		retire(c, r);
	}
}

static bool error_may_be(const struct sim_client *c, const struct sim_request *r, uint32_t error)
{
	if (r->illegal || c->faulty)
		return true;
	/* On the wire what a write has no memory for looks like that. */
	if (error == NBD_ENOMEM || error == NBD_EIO)
		return c->scarce || (c->tight && sim_now() - r->asked >= MEMORY_PATIENCE);
	if (error == NBD_ESHUTDOWN)
		return *c->stopping;
	if (error == NBD_ENOTSUP)
		return r->flags & NBD_CMD_FLAG_FAST_ZERO;
	return false;
}

static void check_error(const struct sim_client *c, const struct sim_request *r, uint32_t error)
{
	if (!error_may_be(c, r, error))
		sim_fail("%s at %" PRIu64 "+%" PRIu64 " was answered by error %u for no reason",
			 nbd_command_name(r->command), r->offset, r->length, error);
}

static void flushed(struct sim_client *c, const struct sim_request *r)
{
	sim_model_flushed(c->model, r->begun, c->group, c->flags & NBD_FLAG_CAN_MULTI_CONN);
}

/* The request is over. */
static void conclude(struct sim_client *c, struct sim_request *r)
{
	sim_requests_answered++;
	if (!r->failed && r->illegal)
		sim_fail("%s at %" PRIu64 "+%" PRIu64 " is illegal and succeeded",
			 nbd_command_name(r->command), r->offset, r->length);
	if (!r->failed && r->command == NBD_CMD_READ && r->answered != r->length)
		sim_fail("a read at %" PRIu64 " of %" PRIu64 " bytes was answered with %" PRIu64,
			 r->offset, r->length, r->answered);
	if (!r->failed && r->command == NBD_CMD_BLOCK_STATUS && r->answered == 0)
		sim_fail("block status succeeded without an extent");
	if (r->write)
		sim_model_end(c->model, r->write, r->failed ? SIM_FAILED : SIM_DONE);
	if (!r->failed && r->command == NBD_CMD_FLUSH)
		flushed(c, r);
	retire(c, r);
}

/* ---- reads ------------------------------------------------------------- */

static void cover(struct sim_request *r, uint64_t offset, uint64_t length)
{
	if (offset < r->offset || length > r->length || offset - r->offset > r->length - length)
		sim_fail("a chunk at %" PRIu64 "+%" PRIu64 " is not inside the read of %" PRIu64
			 "+%" PRIu64,
			 offset, length, r->offset, r->length);
	for (uint64_t i = (offset - r->offset) / SIM_UNIT;
	     i < (offset - r->offset + length + SIM_UNIT - 1) / SIM_UNIT; i++) {
		if (r->seen[i / 8] >> i % 8 & 1)
			sim_fail("byte %" PRIu64 " was answered twice", r->offset + i * SIM_UNIT);
		r->seen[i / 8] |= (uint8_t)(1u << i % 8);
	}
	r->answered += length;
}

static void take_data(struct sim_client *c, struct sim_request *r, uint64_t offset,
		      const uint8_t *data, uint64_t length)
{
	cover(r, offset, length);
	if (offset % SIM_UNIT || length % SIM_UNIT)
		sim_fail("data at %" PRIu64 "+%" PRIu64 " is cut in a way nobody asked for", offset,
			 length);
	if (c->habits.checker) {
		sim_model_found(c->model, offset, data, length);
		c->checked += length;
	} else {
		sim_model_check(c->model, offset, data, length, r->begun);
	}
}

static void take_hole(struct sim_client *c, struct sim_request *r, uint64_t offset, uint64_t length)
{
	uint8_t *zeroes = NULL;

	if (!c->habits.checker) {
		cover(r, offset, length);
		sim_model_check_zero(c->model, offset, length, r->begun, "a hole for");
		return;
	}
	if (length <= r->length)
		zeroes = sim_alloc(length);
	take_data(c, r, offset, zeroes, length);
	free(zeroes);
}

/* ---- block status ------------------------------------------------------ */

static void take_extents(struct sim_client *c, struct sim_request *r, const uint8_t *p,
			 uint64_t length, bool wide)
{
	uint64_t each = wide ? 16 : 8, fixed = wide ? 8 : 4, at = r->offset;
	uint64_t end = r->offset + r->length;

	if (!c->contexts || length < fixed + each || (length - fixed) % each)
		sim_fail("a block status chunk of %" PRIu64 " bytes", length);
	if (nbd_get32(p) != 1)
		sim_fail("a block status chunk for context %u", nbd_get32(p));
	for (uint64_t i = fixed; i < length; i += each) {
		uint64_t bytes = wide ? nbd_get64(p + i) : nbd_get32(p + i);
		uint64_t status = wide ? nbd_get64(p + i + 8) : nbd_get32(p + i + 4);
		uint64_t inside = at >= end ? 0 : bytes < end - at ? bytes : end - at;

		if (bytes == 0 || status & ~UINT64_C(3) || at >= end || bytes > c->size - at)
			sim_fail("an extent of %" PRIu64 " bytes, status %" PRIu64 ", for %" PRIu64
				 "+%" PRIu64,
				 bytes, status, r->offset, r->length);
		if (status & 2)
			sim_model_check_zero(c->model, at, inside, r->begun,
					     "an extent says zero of");
		at += bytes;
		r->answered++;
	}
	if (r->flags & NBD_CMD_FLAG_REQ_ONE && (r->answered != 1 || at > end))
		sim_fail("more than the one extent that was asked for");
}

/* ---- replies ----------------------------------------------------------- */

/* False: more has to come. */
static bool take_simple(struct sim_client *c)
{
	struct sim_request *r;
	uint64_t payload = 0;
	uint32_t error;

	if (available(c) < NBD_SIMPLE_REPLY_BYTES)
		return false;
	error = nbd_get32(head(c) + 4);
	r = find(c, nbd_get64(head(c) + 8));
	if (c->extended || (c->structured && r->command == NBD_CMD_READ))
		sim_fail("a simple reply where it is not allowed");
	if (r->command == NBD_CMD_READ && !error)
		payload = r->length;
	if (available(c) < NBD_SIMPLE_REPLY_BYTES + payload)
		return false;
	if (error) {
		check_error(c, r, error);
		r->failed = true;
	}
	if (payload)
		take_data(c, r, r->offset, head(c) + NBD_SIMPLE_REPLY_BYTES, payload);
	c->in.head += NBD_SIMPLE_REPLY_BYTES + payload;
	conclude(c, r);
	return true;
}

static void take_error(struct sim_client *c, struct sim_request *r, const uint8_t *p,
		       uint64_t length, bool at_offset)
{
	uint64_t text;

	if (length < 6u + (at_offset ? 8u : 0))
		sim_fail("an error chunk of %" PRIu64 " bytes", length);
	text = nbd_get16(p + 4);
	if (length != 6 + text + (at_offset ? 8u : 0) || nbd_get32(p) == 0)
		sim_fail("an error chunk that is not one");
	check_error(c, r, nbd_get32(p));
	if (at_offset && nbd_get64(p + 6 + text) - r->offset >= r->length)
		sim_fail("an error at an offset that was not asked for");
	r->failed = true;
}

static void take_chunk(struct sim_client *c, struct sim_request *r, uint16_t type, const uint8_t *p,
		       uint64_t length)
{
	bool read = r->command == NBD_CMD_READ;

	if (type == NBD_REPLY_TYPE_ERROR || type == NBD_REPLY_TYPE_ERROR_OFFSET)
		take_error(c, r, p, length, type == NBD_REPLY_TYPE_ERROR_OFFSET);
	else if (type == NBD_REPLY_TYPE_OFFSET_DATA && read && length > 8)
		take_data(c, r, nbd_get64(p), p + 8, length - 8);
	else if (type == NBD_REPLY_TYPE_OFFSET_HOLE && read && length == 12)
		take_hole(c, r, nbd_get64(p), nbd_get32(p + 8));
	else if (type == NBD_REPLY_TYPE_BLOCK_STATUS && r->command == NBD_CMD_BLOCK_STATUS &&
		 !c->extended)
		take_extents(c, r, p, length, false);
	else if (type == NBD_REPLY_TYPE_BLOCK_STATUS_EXT && r->command == NBD_CMD_BLOCK_STATUS &&
		 c->extended)
		take_extents(c, r, p, length, true);
	else if (type != NBD_REPLY_TYPE_NONE || length)
		sim_fail("a chunk of type %u and %" PRIu64 " bytes to %s", type, length,
			 nbd_command_name(r->command));
}

static bool take_structured(struct sim_client *c)
{
	uint64_t header = c->extended ? NBD_EXTENDED_REPLY_BYTES : NBD_STRUCTURED_REPLY_BYTES;
	struct sim_request *r;
	uint16_t flags, type;
	uint64_t length;

	if (available(c) < header)
		return false;
	flags = nbd_get16(head(c) + 4);
	type = nbd_get16(head(c) + 6);
	length = c->extended ? nbd_get64(head(c) + 24) : nbd_get32(head(c) + 16);
	r = find(c, nbd_get64(head(c) + 8));
	if (c->extended && nbd_get64(head(c) + 16) != r->offset)
		sim_fail("an answer that repeats another offset");
	if (length > NR_PAYLOAD_BOUND || flags & ~NBD_REPLY_FLAG_DONE)
		sim_fail("a chunk of %" PRIu64 " bytes with flags %u", length, flags);
	if (available(c) < header + length)
		return false;
	if (type == NBD_REPLY_TYPE_NONE && !(flags & NBD_REPLY_FLAG_DONE))
		sim_fail("a chunk that says nothing");
	take_chunk(c, r, type, head(c) + header, length);
	c->in.head += header + length;
	if (flags & NBD_REPLY_FLAG_DONE)
		conclude(c, r);
	else if (r->flags & NBD_CMD_FLAG_DF && !r->failed && r->answered < r->length)
		sim_fail("a read that was not to be cut came in parts");
	return true;
}

static bool take_reply(struct sim_client *c)
{
	uint32_t magic;

	if (available(c) < 4)
		return false;
	magic = nbd_get32(head(c));
	if (magic == NBD_SIMPLE_REPLY_MAGIC)
		return take_simple(c);
	if (magic == NBD_STRUCTURED_REPLY_MAGIC && c->structured && !c->extended)
		return take_structured(c);
	if (magic == NBD_EXTENDED_REPLY_MAGIC && c->extended)
		return take_structured(c);
	sim_fail("bytes that are no reply: %08x", magic);
}

/* ---- negotiation ------------------------------------------------------- */

static void take_info(struct sim_client *c, const uint8_t *p, uint32_t length)
{
	if (length >= 12 && nbd_get16(p) == NBD_INFO_EXPORT) {
		c->size = nbd_get64(p + 2);
		c->flags = nbd_get16(p + 10);
	} else if (length >= 14 && nbd_get16(p) == NBD_INFO_BLOCK_SIZE) {
		c->block_min = nbd_get32(p + 2);
	}
}

/* The last reply to OPTION. */
static void option_ended(struct sim_client *c, uint32_t option, uint32_t type)
{
	bool good = type == NBD_REP_ACK;

	assert(c->options_pending > 0);
	c->options_pending--;
	if (option == NBD_OPT_STRUCTURED_REPLY && good)
		c->structured = true;
	else if (option == NBD_OPT_EXTENDED_HEADERS && good)
		c->extended = c->structured = true;
	if (option != NBD_OPT_GO)
		return;
	if (good)
		c->state = SIM_CLIENT_SERVING;
	else if (!*c->stopping && !c->refusable)
		sim_fail("the export was refused: %08x", type);
	else
		sim_hang_up(c->peer.socket, false);
}

static bool take_option(struct sim_client *c)
{
	uint32_t option, type, length;

	if (available(c) < 20)
		return false;
	if (nbd_get64(head(c)) != NBD_OPTION_REPLY_MAGIC)
		sim_fail("bytes that are no answer to an option");
	option = nbd_get32(head(c) + 8);
	type = nbd_get32(head(c) + 12);
	length = nbd_get32(head(c) + 16);
	if (length > NR_PAYLOAD_BOUND)
		sim_fail("an option's answer of %u bytes", length);
	if (available(c) < 20 + (uint64_t)length)
		return false;
	if (type == NBD_REP_INFO)
		take_info(c, head(c) + 20, length);
	else if (type == NBD_REP_META_CONTEXT && option == NBD_OPT_SET_META_CONTEXT)
		c->contexts = true;
	c->in.head += 20 + length;
	if (type == NBD_REP_ACK || type & NBD_REP_ERR_BIT)
		option_ended(c, option, type);
	return true;
}

static bool take_export(struct sim_client *c)
{
	if (available(c) < 10)
		return false;
	c->size = nbd_get64(head(c));
	c->flags = nbd_get16(head(c) + 8);
	c->in.head += 10;
	c->state = SIM_CLIENT_SERVING;
	return true;
}

static bool take_greeting(struct sim_client *c)
{
	if (available(c) < 18)
		return false;
	if (nbd_get64(head(c)) != NBD_MAGIC || nbd_get64(head(c) + 8) != NBD_IHAVEOPT)
		sim_fail("a greeting that is none");
	c->in.head += 18;
	c->state = SIM_CLIENT_OPTIONS;
	return true;
}

void sim_client_parse(struct sim_client *c)
{
	bool more = true;

	while (more) {
		switch (c->state) {
		case SIM_CLIENT_GREETING:
			more = take_greeting(c);
			break;
		case SIM_CLIENT_OPTIONS:
			/* Of EXPORT_NAME only success has an answer, without a header. */
			more = c->habits.old_way && !c->options_pending && c->asked
				       ? take_export(c)
				       : take_option(c);
			break;
		case SIM_CLIENT_SERVING:
			more = take_reply(c);
			break;
		case SIM_CLIENT_WAITS:
		case SIM_CLIENT_OVER:
			more = false;
		}
	}
}
