/*
 * The receiving half of a connection: bytes in, answered requests out. Accepts what the
 * negotiated form allows and nothing else; a server that answers a request twice, with the
 * wrong length or outside of what was asked ends the run, because its figures would be of
 * something else.
 *
 * Payload is not copied: it is looked at in the window (when verifying) and passed over.
 */
#include "bench/load/conn.h"

#include "bench/load/content.h"

#include <stdatomic.h>

static struct slot *find_slot(struct conn *c, uint64_t cookie)
{
	uint32_t index = (uint32_t)cookie & INT32_MAX;

	if (index >= c->plan->options->depth || c->slots[index].cookie != cookie)
		conn_lost(c, "answer to a request that is not in flight (cookie %#llx)",
			  (unsigned long long)cookie);
	return &c->slots[index];
}

static void note_written(struct conn *c, const struct slot *slot)
{
	const struct plan *plan = c->plan;
	uint64_t block = (slot->offset - plan->range_offset) / plan->options->stride;

	atomic_store_explicit((_Atomic uint8_t *)&plan->written[block], 1, memory_order_release);
}

static void finish_slot(struct conn *c, struct slot *slot)
{
	struct tally *tally = &c->view->tally;

	tally->requests++;
	if (slot->flush) {
		tally->flushes++;
		c->flushing = false;
	}
	if (slot->failed) {
		tally->errors++;
	} else if (slot->flush) {
		hist_add(&tally->flush_latency, c->view->now - slot->started);
	} else {
		if (slot->left)
			conn_lost(c, "a read was answered without its last %u bytes", slot->left);
		tally->bytes += c->plan->options->block_size;
		tally->mismatches += slot->wrong;
		hist_add(&tally->latency, c->view->now - slot->started);
		if (!slot->read && c->plan->written)
			note_written(c, slot);
	}
	slot->cookie = 0;
	c->free_slots[c->free_count++] = (unsigned)(slot - c->slots);
	c->view->in_flight--;
}

static void fail_slot(struct conn *c, struct slot *slot, uint32_t error)
{
	slot->failed = true;
	if (!c->view->tally.first_error)
		c->view->tally.first_error = error;
}

/* Takes `length` bytes of the request as answered, beginning at `offset`. */
static void cover(struct conn *c, struct slot *slot, uint64_t offset, uint64_t length)
{
	uint64_t relative = offset - slot->offset;

	if (!slot->read || length > slot->left || relative > c->plan->options->block_size - length)
		conn_lost(c, "a chunk of %llu bytes at offset %llu is outside of what was asked",
			  (unsigned long long)length, (unsigned long long)offset);
	slot->left -= (uint32_t)length;
}

static void take_payload(struct conn *c, const uint8_t *data, size_t length)
{
	struct chunk *chunk = &c->chunk;

	if (chunk->data && chunk->slot->check &&
	    !content_matches(c->plan->options->seed, chunk->offset, data, length))
		chunk->slot->wrong = true;
	chunk->offset += length;
	chunk->left -= length;
}

static size_t take_simple(struct conn *c, const uint8_t *data, size_t have)
{
	uint32_t error;
	struct slot *slot;

	if (have < WIRE_SIMPLE_REPLY_SIZE)
		return 0;
	error = get32(data + 4);
	slot = find_slot(c, get64(data + 8));
	if (slot->read && c->plan->style != REPLY_SIMPLE)
		conn_lost(c, "a read got a simple reply though structured ones were agreed");
	c->chunk = (struct chunk){ .slot = slot, .last = true };
	if (error) {
		fail_slot(c, slot, error);
	} else if (slot->read) {
		c->chunk.data = true;
		c->chunk.offset = slot->offset;
		c->chunk.left = slot->left;
		slot->left = 0;
	}
	return WIRE_SIMPLE_REPLY_SIZE;
}

/* Bytes of a chunk's payload that are its own fields. */
static size_t chunk_fields(unsigned type)
{
	if (type == WIRE_CHUNK_NONE)
		return 0;
	if (type == WIRE_CHUNK_DATA)
		return 8;
	if (type == WIRE_CHUNK_HOLE)
		return 12;
	return 6; /* errors: code and length of the text */
}

static void begin_chunk(struct conn *c, unsigned type, const uint8_t *fields)
{
	struct chunk *chunk = &c->chunk;
	struct slot *slot = chunk->slot;

	if (type == WIRE_CHUNK_DATA) {
		chunk->data = true;
		chunk->offset = get64(fields);
		cover(c, slot, chunk->offset, chunk->left);
	} else if (type == WIRE_CHUNK_HOLE) {
		cover(c, slot, get64(fields), get32(fields + 8));
		if (slot->check &&
		    !content_is_zero(c->plan->options->seed, get64(fields), get32(fields + 8)))
			slot->wrong = true;
	} else if (type & WIRE_CHUNK_ERROR_BIT) {
		fail_slot(c, slot, get32(fields));
	} else if (type != WIRE_CHUNK_NONE) {
		conn_lost(c, "chunk of type %u", type);
	}
}

static size_t take_chunk(struct conn *c, const uint8_t *data, size_t have)
{
	bool extended = c->plan->style == REPLY_EXTENDED;
	size_t header = extended ? WIRE_EXTENDED_REPLY_SIZE : WIRE_STRUCTURED_REPLY_SIZE;
	uint64_t length;
	size_t fields;
	unsigned type;

	if (have < header)
		return 0;
	type = get16(data + 6);
	length = extended ? get64(data + 24) : get32(data + 16);
	fields = chunk_fields(type);
	if (have < header + fields)
		return 0;
	if (length < fields)
		conn_lost(c, "chunk of type %u with only %llu bytes", type,
			  (unsigned long long)length);
	c->chunk = (struct chunk){ .slot = find_slot(c, get64(data + 8)),
				   .last = get16(data + 4) & WIRE_CHUNK_DONE,
				   .left = length - fields };
	begin_chunk(c, type, data + header);
	return header + fields;
}

/* Takes one header, which sets up c->chunk; 0: it is not all there yet. */
static size_t take_header(struct conn *c, const uint8_t *data, size_t have)
{
	uint32_t magic;

	if (have < 4)
		return 0;
	magic = get32(data);
	if (magic == WIRE_SIMPLE_REPLY && c->plan->style != REPLY_EXTENDED)
		return take_simple(c, data, have);
	if ((magic == WIRE_STRUCTURED_REPLY && c->plan->style == REPLY_STRUCTURED) ||
	    (magic == WIRE_EXTENDED_REPLY && c->plan->style == REPLY_EXTENDED))
		return take_chunk(c, data, have);
	conn_lost(c, "reply with magic %#x where %s ones were agreed", magic,
		  reply_style_name(c->plan->style));
}

size_t conn_parse(struct conn *c, const uint8_t *data, size_t have)
{
	size_t used = 0;

	for (;;) {
		if (!c->chunk.slot) {
			size_t n = take_header(c, data + used, have - used);

			if (!n)
				return used;
			used += n;
		}
		if (c->chunk.left) {
			size_t n = have - used;

			if (n > c->chunk.left)
				n = (size_t)c->chunk.left;
			take_payload(c, data + used, n);
			used += n;
			if (c->chunk.left)
				return used;
		}
		if (c->chunk.last)
			finish_slot(c, c->chunk.slot);
		c->chunk.slot = NULL;
	}
}
