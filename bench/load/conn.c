/*
 * What a connection asks for: which block next, read or write, and the request in the
 * outgoing batch. A closed loop: every answer makes room for one new request.
 *
 * Random offsets are drawn per connection from the seed and its index, so a run can be
 * repeated. Sequential load gives each connection its own stripe of the range, which it
 * goes through again and again; --requests is divided the same way, so "as many requests
 * as blocks" covers the range exactly once.
 */
#include "bench/load/conn.h"

#include "bench/load/content.h"

#include <err.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

static void *allocate(size_t count, size_t size)
{
	void *memory = calloc(count, size);

	if (!memory)
		errx(1, "out of memory for %zu x %zu bytes", count, size);
	return memory;
}

static uint64_t share(uint64_t total, unsigned index, unsigned of)
{
	return (uint64_t)((unsigned __int128)total * index / of);
}

static size_t window_size(const struct options *o)
{
	uint64_t full = (uint64_t)o->depth * (o->block_size + NBD_EXTENDED_REPLY_BYTES + 8);

	if (o->window)
		return o->window;
	if (full < 16 << 10)
		return 16 << 10;
	return full < 256 << 10 ? (size_t)full : 256 << 10;
}

void conn_open(struct conn *c, unsigned index, int fd, struct worker_view *view,
	       const struct plan *plan)
{
	const struct options *o = plan->options;

	*c = (struct conn){ .index = index, .fd = fd, .view = view, .plan = plan };
	for (unsigned i = 0; i < 2; i++)
		gather_open(&c->batch[i], o->depth, NR_CLIENT_REQUEST_MAX);
	c->window_size = window_size(o);
	c->window = allocate(1, c->window_size);
	c->slots = allocate(o->depth, sizeof(*c->slots));
	c->free_slots = allocate(o->depth, sizeof(*c->free_slots));
	if (o->verify != VERIFY_NOTHING && o->read_percent < 100)
		c->payloads = allocate(o->depth, o->block_size);
	for (unsigned i = 0; i < o->depth; i++)
		c->free_slots[c->free_count++] = o->depth - 1 - i;

	c->budget = UINT64_MAX;
	if (o->requests)
		c->budget = share(o->requests, index + 1, o->connections) -
			    share(o->requests, index, o->connections);
	c->random = mix64(o->content.seed * 0x9e3779b97f4a7c15ULL + index);
	c->first_block = share(plan->blocks, index, o->connections);
	c->stripe = share(plan->blocks, index + 1, o->connections) - c->first_block;
	if (!c->stripe) {
		c->first_block = 0;
		c->stripe = plan->blocks;
	}
}

void conn_close(struct conn *c)
{
	for (unsigned i = 0; i < 2; i++)
		gather_close(&c->batch[i]);
	free(c->window);
	free(c->slots);
	free(c->free_slots);
	free(c->payloads);
}

static uint64_t draw(struct conn *c)
{
	c->random += 0x9e3779b97f4a7c15ULL;
	return mix64(c->random);
}

static uint64_t next_block(struct conn *c)
{
	uint64_t block;

	if (c->plan->options->random)
		return (uint64_t)(((unsigned __int128)draw(c) * c->plan->blocks) >> 64);
	block = c->first_block + c->position;
	if (++c->position == c->stripe)
		c->position = 0;
	return block;
}

static bool next_is_read(struct conn *c)
{
	unsigned percent = c->plan->options->read_percent;

	if (percent == 0 || percent == 100)
		return percent == 100;
	return (draw(c) >> 32) % 100 < percent;
}

static bool must_check(const struct conn *c, uint64_t block)
{
	const struct plan *plan = c->plan;

	if (plan->options->verify == VERIFY_ALL)
		return true;
	return plan->written &&
	       atomic_load_explicit((_Atomic uint8_t *)&plan->written[block], memory_order_acquire);
}

static const uint8_t *write_payload(struct conn *c, const struct slot *slot)
{
	const struct options *o = c->plan->options;
	uint8_t *own;

	if (!c->payloads)
		return c->plan->payload;
	own = c->payloads + (size_t)(slot - c->slots) * o->block_size;
	content_fill(&o->content, slot->wire.offset, own, o->block_size);
	return own;
}

static struct slot *take_slot(struct conn *c)
{
	struct slot *slot = &c->slots[c->free_slots[--c->free_count]];

	*slot = (struct slot){ .started = c->view->now };
	/* never 0, and an answer to an earlier request of the slot is told apart */
	slot->cookie = (uint64_t)++c->generation << 32 | (uint64_t)(slot - c->slots) | 1ULL << 31;
	c->view->in_flight++;
	return slot;
}

static void add_header(struct conn *c, const struct slot *slot)
{
	uint8_t style = c->plan->agreement->reply_style;
	size_t size = nr_client_header_bytes(style);

	(void)nr_client_encode(gather_header(&c->batch[c->filling], size), style, slot->cookie,
			       &slot->wire);
}

static void add_request(struct conn *c)
{
	const struct plan *plan = c->plan;
	const struct options *o = plan->options;
	struct slot *slot = take_slot(c);
	uint64_t block = next_block(c);

	slot->wire.command = next_is_read(c) ? NBD_CMD_READ : NBD_CMD_WRITE;
	slot->wire.offset = plan->range_offset + block * o->stride;
	slot->wire.length = o->block_size;
	c->budget--;
	if (slot->wire.command == NBD_CMD_READ) {
		slot->check = o->verify != VERIFY_NOTHING && must_check(c, block);
		add_header(c, slot);
		return;
	}
	slot->wire.flags = plan->write_flags;
	add_header(c, slot);
	gather_payload(&c->batch[c->filling], write_payload(c, slot), o->block_size);
	c->unflushed++;
}

static bool flush_is_due(const struct conn *c)
{
	const struct options *o = c->plan->options;

	return o->flush_every && c->unflushed >= o->flush_every;
}

/* A flush covers what was answered before it was sent, so it waits for that. */
static void try_flush(struct conn *c)
{
	struct slot *slot;

	if (c->free_count < c->plan->options->depth)
		return;
	slot = take_slot(c);
	slot->wire.command = NBD_CMD_FLUSH;
	add_header(c, slot);
	c->unflushed = 0;
	c->flushing = true;
}

void conn_fill(struct conn *c)
{
	while (!c->flushing && c->free_count && !gather_full(&c->batch[c->filling])) {
		if (flush_is_due(c)) {
			try_flush(c);
			return;
		}
		if (!c->budget)
			return;
		add_request(c);
	}
}

void conn_stop(struct conn *c)
{
	c->budget = 0;
	c->unflushed = 0;
}

void conn_lost(const struct conn *c, const char *format, ...)
{
	char text[200];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	errx(1, "connection %u: %s", c->index, text);
}
