/*
 * The receiving half of a connection: bytes in, answered requests out. What may come is
 * for src/protocol/client-reply.h to say; a server that answers a request twice, with the
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
	uint64_t block = (slot->wire.offset - plan->range_offset) / plan->options->stride;

	atomic_store_explicit((_Atomic uint8_t *)&plan->written[block], 1, memory_order_release);
}

static void finish_slot(struct conn *c, struct slot *slot)
{
	struct tally *tally = &c->view->tally;
	bool flush = slot->wire.command == NBD_CMD_FLUSH;

	tally->requests++;
	if (flush) {
		tally->flushes++;
		c->flushing = false;
	}
	if (slot->wire.error) {
		tally->errors++;
		if (!tally->first_error)
			tally->first_error = -slot->wire.error;
	} else if (flush) {
		hist_add(&tally->flush_latency, c->view->now - slot->started);
	} else {
		tally->bytes += c->plan->options->block_size;
		tally->mismatches += slot->wrong;
		hist_add(&tally->latency, c->view->now - slot->started);
		if (slot->wire.command == NBD_CMD_WRITE && c->plan->written)
			note_written(c, slot);
	}
	slot->cookie = 0;
	c->free_slots[c->free_count++] = (unsigned)(slot - c->slots);
	c->view->in_flight--;
}

static void take_payload(struct conn *c, const uint8_t *data, size_t length)
{
	struct chunk *chunk = &c->chunk;

	if (chunk->slot->check &&
	    !content_matches(&c->plan->options->content, chunk->offset, data, length))
		chunk->slot->wrong = true;
	chunk->offset += length;
	chunk->left -= length;
}

/* Takes one header, which sets up c->chunk; 0: it is not all there yet. */
static size_t take_header(struct conn *c, const uint8_t *data, size_t have)
{
	const struct nr_client_agreement *agreement = c->plan->agreement;
	struct nr_client_chunk chunk;
	const char *why = NULL;
	struct slot *slot;
	size_t used = 0;

	switch (nr_client_parse(agreement->reply_style, data, have, &chunk, &used, &why)) {
	case NR_CLIENT_PARSE_MORE:
		return 0;
	case NR_CLIENT_PARSE_BREACH:
		conn_lost(c, "%s", why);
	case NR_CLIENT_PARSE_CHUNK:
	default:
		break;
	}
	slot = find_slot(c, chunk.cookie);
	why = nr_client_judge(agreement, &slot->wire, &chunk);
	if (why)
		conn_lost(c, "%s", why);
	c->chunk = (struct chunk){
		.slot = slot, .left = chunk.payload, .offset = chunk.offset, .last = chunk.done
	};
	if (chunk.kind == NR_CHUNK_HOLE && slot->check &&
	    !content_is_zero(&c->plan->options->content, chunk.offset, chunk.length))
		slot->wrong = true;
	return used;
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
