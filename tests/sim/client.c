/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The life of a simulated client.  See client.h.
 *
 * It acts when its event fires: it takes what has come, asks for more, and sends what
 * there is room for.  Whatever changes at its socket makes it fire, a little later.
 */
#undef NDEBUG
#include "tests/sim/client.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define TAKE 65536u
#define UNSENT_MAX 262144u /* with more than that it asks for nothing else */

static void act(struct sim_event *event);

static void wake(struct sim_client *c)
{
	if (sim_scheduled(&c->event) || c->state == SIM_CLIENT_OVER)
		return;
	sim_schedule(&c->event, c->habits.slow ? sim_magnitude(16, 29) : sim_magnitude(7, 14));
}

/* ---- buffers ----------------------------------------------------------- */

static void make_room(struct sim_buffer *b, uint64_t length)
{
	if (b->head == b->tail)
		b->head = b->tail = 0;
	if (b->room - b->tail >= length)
		return;
	if (b->head)
		memmove(b->data, b->data + b->head, b->tail - b->head);
	b->tail -= b->head;
	b->head = 0;
	if (b->room - b->tail >= length)
		return;
	b->room = (b->tail + length) * 2;
	b->data = realloc(b->data, b->room);
	assert(b->data);
}

uint8_t *sim_client_room(struct sim_client *c, uint64_t length)
{
	uint8_t *at;

	make_room(&c->out, length);
	at = c->out.data + c->out.tail;
	c->out.tail += length;
	return at;
}

/* ---- leaving ----------------------------------------------------------- */

static void over(struct sim_client *c)
{
	if (c->state == SIM_CLIENT_OVER)
		return;
	c->state = SIM_CLIENT_OVER;
	sim_unschedule(&c->event);
	if (c->server_closed)
		sim_client_lose(c);
}

static void closed(struct sim_peer *peer)
{
	struct sim_client *c = (struct sim_client *)peer;

	c->server_closed = true;
	if (c->state == SIM_CLIENT_OVER)
		sim_client_lose(c);
}

static void hang_up(struct sim_client *c, bool reset)
{
	sim_note("client leaves", reset, c->outstanding);
	sim_hang_up(c->peer.socket, reset);
	over(c);
}

/* The server ended the connection: may it? */
static void left(struct sim_client *c, bool reset)
{
	/* Where memory is short, those who take none of their answers for long are dropped. */
	bool idle = c->habits.slow || (c->habits.pauses && c->tight);
	bool excused = c->excused || *c->stopping || idle ||
		       (c->refusable && c->state != SIM_CLIENT_SERVING);

	sim_note("client is left", reset, c->outstanding);
	if (!excused && !c->said_goodbye && !c->half_closed)
		sim_fail("the server closed the connection for no reason, with %u requests to "
			 "answer",
			 c->outstanding);
	if (!excused && c->outstanding)
		sim_fail("the server closed the connection and owes %u answers", c->outstanding);
	sim_hang_up(c->peer.socket, false);
	over(c);
}

/* ---- negotiation ------------------------------------------------------- */

static void put_option(struct sim_client *c, uint32_t option, const void *data, uint32_t length)
{
	uint8_t *p = sim_client_room(c, 16 + length);

	p = nbd_put64(p, NBD_IHAVEOPT);
	p = nbd_put32(p, option);
	p = nbd_put32(p, length);
	if (length)
		memcpy(p, data, length);
	if (option != NBD_OPT_EXPORT_NAME)
		c->options_pending++;
}

static void put_contexts(struct sim_client *c)
{
	uint32_t name = (uint32_t)strlen(c->export), context = sizeof(NBD_BASE_ALLOCATION) - 1;
	uint8_t data[512], *p = data;

	p = nbd_put32(p, name);
	memcpy(p, c->export, name);
	p = nbd_put32(p + name, 1);
	p = nbd_put32(p, context);
	memcpy(p, NBD_BASE_ALLOCATION, context);
	put_option(c, NBD_OPT_SET_META_CONTEXT, data, (uint32_t)(p - data) + context);
}

static void put_go(struct sim_client *c, uint32_t option)
{
	uint32_t name = (uint32_t)strlen(c->export);
	uint8_t data[512], *p = data;

	p = nbd_put32(p, name);
	memcpy(p, c->export, name);
	p = nbd_put16(p + name, c->habits.bound ? 1 : 0);
	if (c->habits.bound)
		p = nbd_put16(p, NBD_INFO_BLOCK_SIZE);
	put_option(c, option, data, (uint32_t)(p - data));
}

/* The next option, in the order in which clients send them; false: all are sent. */
static bool put_next_option(struct sim_client *c)
{
	const struct sim_habits *h = &c->habits;

	switch (c->asked++) {
	case 0:
		nbd_put32(sim_client_room(c, 4), NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES);
		return true;
	case 1:
		if (h->chatters)
			put_option(c, 0x7fff, "what?", 5);
		return true;
	case 2:
		if (h->chatters)
			put_option(c, NBD_OPT_LIST, NULL, 0);
		return true;
	case 3:
		if (h->style == SIM_STRUCTURED)
			put_option(c, NBD_OPT_STRUCTURED_REPLY, NULL, 0);
		else if (h->style == SIM_EXTENDED)
			put_option(c, NBD_OPT_EXTENDED_HEADERS, NULL, 0);
		return true;
	case 4:
		if (h->asks_contexts)
			put_contexts(c);
		return true;
	case 5:
		if (h->aborts) {
			put_option(c, NBD_OPT_ABORT, NULL, 0);
			c->said_goodbye = true;
			return false;
		}
		if (h->chatters && !h->old_way)
			put_go(c, NBD_OPT_INFO);
		return true;
	case 6:
		if (h->old_way)
			put_option(c, NBD_OPT_EXPORT_NAME, c->export, (uint32_t)strlen(c->export));
		else
			put_go(c, NBD_OPT_GO);
		return true;
	default:
		return false;
	}
}

static void negotiate(struct sim_client *c)
{
	if (c->state != SIM_CLIENT_OPTIONS && !(c->habits.pipelines && c->asked == 0))
		return;
	if (c->said_goodbye)
		return;
	while ((c->habits.pipelines || !c->options_pending) && put_next_option(c))
		;
}

/* ---- requests ---------------------------------------------------------- */

static struct sim_request *new_request(struct sim_client *c, uint16_t command, uint64_t offset,
				       uint64_t length, uint16_t flags)
{
	struct sim_request *r = c->request;

	while (r->used)
		r++;
	*r = (struct sim_request){ .used = true,
				   .command = command,
				   .flags = flags,
				   .cookie = sim_draw(),
				   .offset = offset,
				   .length = length,
				   .begun = sim_model_now(c->model),
				   .asked = sim_now() };
	c->outstanding++;
	if (command == NBD_CMD_READ)
		r->seen = sim_alloc(length / SIM_UNIT / 8 + 1);
	return r;
}

static void put_request(struct sim_client *c, const struct sim_request *r, uint64_t payload)
{
	uint16_t flags = r->flags;
	uint8_t *p;

	if (c->extended) {
		p = sim_client_room(c, NBD_EXTENDED_REQUEST_BYTES);
		p = nbd_put32(p, NBD_EXTENDED_REQUEST_MAGIC);
		if (payload)
			flags |= NBD_CMD_FLAG_PAYLOAD_LEN;
	} else {
		p = sim_client_room(c, NBD_REQUEST_BYTES);
		p = nbd_put32(p, NBD_REQUEST_MAGIC);
	}
	p = nbd_put16(p, flags);
	p = nbd_put16(p, r->command);
	p = nbd_put64(p, r->cookie);
	p = nbd_put64(p, r->offset);
	if (c->extended)
		nbd_put64(p, r->length);
	else
		nbd_put32(p, (uint32_t)r->length);
}

/* A range of whole grains; half of them in a corner where all clients meet. */
static void choose_range(const struct sim_client *c, uint64_t *offset, uint64_t *length)
{
	uint64_t grain = c->habits.grain, size = c->size / grain * grain;
	uint64_t most = c->habits.longest < size ? c->habits.longest : size;
	unsigned bits = 63 - (unsigned)__builtin_clzll(most / grain);
	uint64_t grains = sim_magnitude(0, bits);

	*length = grains * grain < most ? grains * grain : most;
	*offset = sim_below((size - *length) / grain + 1) * grain;
	if (sim_one_in(2) && size > 65536)
		*offset %= 65536;
	*offset = *offset / grain * grain;
	if (*offset + *length > size)
		*length = size - *offset;
}

static uint16_t maybe_flag(const struct sim_client *c, uint16_t offered, uint16_t flag, unsigned n)
{
	return c->flags & offered && sim_one_in(n) ? flag : 0;
}

static void ask_write(struct sim_client *c, uint64_t offset, uint64_t length)
{
	uint16_t flags = maybe_flag(c, NBD_FLAG_SEND_FUA, NBD_CMD_FLAG_FUA, 4);
	struct sim_request *r = new_request(c, NBD_CMD_WRITE, offset, length, flags);

	r->write = sim_model_begin(c->model, offset, length, false, false, flags & NBD_CMD_FLAG_FUA,
				   c->group);
	put_request(c, r, length);
	sim_model_fill(c->model, r->write, 0, sim_client_room(c, length), length);
}

static void ask_zero(struct sim_client *c, uint64_t offset, uint64_t length, bool trim)
{
	uint16_t flags = maybe_flag(c, NBD_FLAG_SEND_FUA, NBD_CMD_FLAG_FUA, 4);
	struct sim_request *r;

	if (!trim) {
		flags |= sim_one_in(2) ? NBD_CMD_FLAG_NO_HOLE : 0;
		flags |= maybe_flag(c, NBD_FLAG_SEND_FAST_ZERO, NBD_CMD_FLAG_FAST_ZERO, 4);
	}
	r = new_request(c, trim ? NBD_CMD_TRIM : NBD_CMD_WRITE_ZEROES, offset, length, flags);
	r->write = sim_model_begin(c->model, offset, length, true, trim, flags & NBD_CMD_FLAG_FUA,
				   c->group);
	put_request(c, r, 0);
}

static void ask_read(struct sim_client *c, uint64_t offset, uint64_t length)
{
	uint16_t flags = maybe_flag(c, NBD_FLAG_SEND_DF, NBD_CMD_FLAG_DF, 4);

	put_request(c, new_request(c, NBD_CMD_READ, offset, length, flags), 0);
}

/* What a client must not ask. */
static void ask_illegal(struct sim_client *c)
{
	uint64_t length = sim_between(1, 64) * 512;
	struct sim_request *r;

	switch (sim_below(4)) {
	case 0:
		r = new_request(c, NBD_CMD_READ, c->size - 512, length + 512, 0);
		break;
	case 1:
		r = new_request(c, 77, 0, 512, 0);
		break;
	case 2:
		r = new_request(c, NBD_CMD_FLUSH, 0, 0, 1u << 12);
		break;
	default:
		r = new_request(c, NBD_CMD_WRITE, c->size, length, 0);
	}
	r->illegal = true;
	put_request(c, r, r->command == NBD_CMD_WRITE ? length : 0);
	if (r->command == NBD_CMD_WRITE)
		memset(sim_client_room(c, length), 0xee, length);
}

/* Extended headers may name the contexts that are wanted. */
static void ask_status(struct sim_client *c, uint64_t offset, uint64_t length)
{
	uint16_t flags = sim_one_in(3) ? NBD_CMD_FLAG_REQ_ONE : 0;
	struct sim_request *r = new_request(c, NBD_CMD_BLOCK_STATUS, offset, length, flags);

	if (!c->extended || !(c->flags & NBD_FLAG_BLOCK_STATUS_PAYLOAD) || sim_one_in(2)) {
		put_request(c, r, 0);
		return;
	}
	r->length = 8 + 4;
	put_request(c, r, r->length);
	r->length = length;
	nbd_put32(nbd_put64(sim_client_room(c, 8 + 4), length), 1);
}

static void ask(struct sim_client *c)
{
	uint64_t offset, length, what = sim_below(100);

	choose_range(c, &offset, &length);
	if (c->habits.naughty && sim_one_in(24))
		ask_illegal(c);
	else if (c->habits.reads_only || what < 40)
		ask_read(c, offset, length);
	else if (what < 74)
		ask_write(c, offset, length);
	else if (what < 80 && c->flags & NBD_FLAG_SEND_FLUSH)
		put_request(c, new_request(c, NBD_CMD_FLUSH, 0, 0, 0), 0);
	else if (what < 85 && c->flags & NBD_FLAG_SEND_TRIM)
		ask_zero(c, offset, length, true);
	else if (what < 92 && c->flags & NBD_FLAG_SEND_WRITE_ZEROES)
		ask_zero(c, offset, length, false);
	else if (what < 97 && c->contexts)
		ask_status(c, offset, length);
	else if (c->flags & NBD_FLAG_SEND_CACHE)
		put_request(c, new_request(c, NBD_CMD_CACHE, offset, length, 0), 0);
	else
		ask_read(c, offset, length);
}

/* The whole disk, from its beginning to its end. */
static void ask_next_part(struct sim_client *c)
{
	uint64_t offset = c->habits.leaves_after; /* how far it has asked */
	uint64_t length =
		c->size - offset < c->habits.longest ? c->size - offset : c->habits.longest;

	put_request(c, new_request(c, NBD_CMD_READ, offset, length, 0), 0);
	c->habits.leaves_after += length;
}

static bool wants_more(const struct sim_client *c)
{
	if (c->habits.checker)
		return c->habits.leaves_after < c->size;
	return c->habits.requests > 0;
}

/* Often whole seconds: that is when the server looks after those that are silent. */
static uint64_t pause(void)
{
	return sim_one_in(2) ? sim_between(1, 3) * SIM_SECOND
			     : sim_between(1, 3000) * SIM_MILLISECOND;
}

static void ask_all(struct sim_client *c)
{
	while (wants_more(c) && c->outstanding < c->habits.depth &&
	       c->out.tail - c->out.head < UNSENT_MAX) {
		if (c->habits.checker) {
			ask_next_part(c);
			continue;
		}
		c->habits.requests--;
		ask(c);
		if (c->habits.pauses && sim_one_in(16)) {
			c->pause_until = sim_now() + pause();
			return;
		}
	}
}

/* ---- the end ----------------------------------------------------------- */

static void say_goodbye(struct sim_client *c)
{
	struct sim_request r = { .command = NBD_CMD_DISC };

	put_request(c, &r, 0);
	c->said_goodbye = true;
}

static void think_of_leaving(struct sim_client *c)
{
	bool sent_all = c->out.head == c->out.tail;

	if (c->state != SIM_CLIENT_SERVING || wants_more(c) || c->said_goodbye || c->half_closed)
		return;
	switch (c->habits.leaving) {
	case SIM_GOODBYE:
		if (!c->outstanding)
			say_goodbye(c);
		break;
	case SIM_GOODBYE_NOW:
		say_goodbye(c);
		break;
	case SIM_HALF_CLOSE:
		if (sent_all) {
			sim_half_close(c->peer.socket);
			c->half_closed = true;
		}
		break;
	case SIM_BREACH:
		if (!c->excused)
			memset(sim_client_room(c, 64), 'x', 64);
		c->excused = true;
		break;
	case SIM_HANG_UP:
	case SIM_RESET:
		if (!c->outstanding)
			hang_up(c, c->habits.leaving == SIM_RESET);
		break;
	case SIM_STAYS:
		break;
	}
}

/* ---- acting ------------------------------------------------------------ */

static void take(struct sim_client *c)
{
	int64_t got;

	do {
		make_room(&c->in, TAKE);
		got = sim_receive(c->peer.socket, c->in.data + c->in.tail, TAKE);
		if (got > 0) {
			c->in.tail += (uint64_t)got;
			c->received += (uint64_t)got;
			sim_client_parse(c);
		}
	} while (got > 0 && c->state != SIM_CLIENT_OVER);
	if (got < 0 && c->state != SIM_CLIENT_OVER)
		left(c, got == -2);
}

static void push(struct sim_client *c)
{
	uint64_t length = c->out.tail - c->out.head;
	bool leaves = c->habits.leaving == SIM_HANG_UP || c->habits.leaving == SIM_RESET;
	int64_t sent;

	if (c->half_closed)
		return;
	if (leaves && length > c->habits.leaves_after - c->sent)
		length = c->habits.leaves_after - c->sent;
	sent = length ? sim_send(c->peer.socket, c->out.data + c->out.head, length) : 0;
	if (sent < 0) {
		c->out.head = c->out.tail; /* nobody listens; receiving will tell */
		return;
	}
	c->out.head += (uint64_t)sent;
	c->sent += (uint64_t)sent;
	if (leaves && c->sent == c->habits.leaves_after)
		hang_up(c, c->habits.leaving == SIM_RESET);
}

static bool connect_now(struct sim_client *c)
{
	if (!sim_connect(c->listener, &c->peer)) {
		if (*c->stopping)
			c->state = SIM_CLIENT_OVER;
		else
			wake(c);
		return false;
	}
	c->state = SIM_CLIENT_GREETING;
	return true;
}

static void act(struct sim_event *event)
{
	struct sim_client *c =
		(struct sim_client *)((char *)event - offsetof(struct sim_client, event));

	if (c->state == SIM_CLIENT_WAITS && !connect_now(c))
		return;
	if (sim_now() < c->pause_until) {
		sim_schedule(&c->event, c->pause_until - sim_now());
		return;
	}
	take(c);
	if (c->state == SIM_CLIENT_OVER)
		return;
	negotiate(c);
	if (c->state == SIM_CLIENT_SERVING && !c->said_goodbye && !c->half_closed && !c->excused)
		ask_all(c);
	think_of_leaving(c);
	if (c->state == SIM_CLIENT_OVER)
		return;
	push(c);
	if (c->state == SIM_CLIENT_OVER)
		return;
	think_of_leaving(c); /* the half-close waits for all to be sent */
	if (sim_now() < c->pause_until && !sim_scheduled(&c->event))
		sim_schedule(&c->event, c->pause_until - sim_now());
}

/* ---- from outside ------------------------------------------------------ */

static void changed(struct sim_peer *peer)
{
	wake((struct sim_client *)peer);
}

struct sim_client *sim_client_new(void)
{
	struct sim_client *c = sim_alloc(sizeof(*c));

	c->peer.changed = changed;
	c->peer.closed = closed;
	c->event.fire = act;
	c->event.name = "client";
	c->export = "";
	return c;
}

void sim_client_begin(struct sim_client *c, uint64_t delay)
{
	if (c->habits.depth > SIM_DEPTH_MAX)
		c->habits.depth = SIM_DEPTH_MAX;
	sim_schedule(&c->event, delay);
}

void sim_client_abandon(struct sim_client *c)
{
	if (c->state == SIM_CLIENT_OVER)
		return;
	if (c->peer.socket)
		hang_up(c, true);
	else
		over(c);
}

bool sim_client_is_over(const struct sim_client *c)
{
	return c->state == SIM_CLIENT_OVER;
}

uint64_t sim_client_oldest_read(const struct sim_client *c)
{
	uint64_t oldest = UINT64_MAX;

	for (unsigned i = 0; i < SIM_DEPTH_MAX; i++)
		if (c->request[i].used && c->request[i].begun < oldest)
			oldest = c->request[i].begun;
	return oldest;
}

void sim_client_free(struct sim_client *c)
{
	assert(c->state == SIM_CLIENT_OVER);
	sim_client_lose(c);
	if (c->peer.socket)
		sim_socket_free(c->peer.socket);
	free(c->in.data);
	free(c->out.data);
	free(c);
}
