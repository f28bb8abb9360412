/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Simulated sockets.  See sockets.h.
 *
 * A stream is a ring of bytes: `head` is the next to be taken, `arrived` bytes can
 * be taken, `held` are in it, those behind the arrived ones still on their way.
 */
#undef NDEBUG
#include "tests/sim/sockets.h"

#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#define FDS_MAX 4096
#define BACKLOG 64

struct stream {
	struct sim_socket *socket;
	uint8_t *data;
	uint64_t room, head, arrived, held;
	uint64_t last_arrival;
	bool ended; /* the sender has said so */
	bool over;  /* and that has arrived */
	bool cut;   /* nobody will take anything more */
	bool to_server;
};

/* Some bytes, or the end, on their way. */
struct arrival {
	struct sim_event event;
	struct arrival *next, **link;
	struct stream *stream;
	uint64_t bytes; /* 0: the end */
};

struct sim_socket {
	struct stream up, down; /* to the server, to the client */
	struct arrival *arrivals;
	struct sim_peer *peer;
	struct sim_op *receiving, *sending; /* parked: no bytes, no room */
	int fd;                             /* the server's end; -1: closed */
	bool accepted, adopted;
	bool shut;        /* by the server, both ways */
	bool reset;       /* by the client */
	bool client_left; /* closed, in one way or the other */
	unsigned number;  /* for the server: the client's port */
};

struct listener {
	struct sim_socket *waiting[BACKLOG];
	unsigned count;
	struct sim_op *accepting;
	bool adopted;
};

static struct {
	enum sim_fd_kind kind;
	void *object;
	int flags;
} fds[FDS_MAX];
static unsigned fd_count;
static unsigned sockets_made;

/* ---- descriptors ------------------------------------------------------- */

int sim_fd_new(enum sim_fd_kind kind, void *object)
{
	for (int i = 0; i < FDS_MAX; i++)
		if (fds[i].kind == SIM_FD_NONE) {
			fds[i].kind = kind;
			fds[i].object = object;
			fds[i].flags = 0;
			fd_count++;
			return SIM_FD_BASE + i;
		}
	sim_fail("too many descriptors");
}

void sim_sockets_begin(void)
{
	assert(fd_count == 0);
	sockets_made = 0;
}

static bool ours(int fd)
{
	return fd >= SIM_FD_BASE && fd < SIM_FD_BASE + FDS_MAX;
}

enum sim_fd_kind sim_fd_kind(int fd)
{
	return ours(fd) ? fds[fd - SIM_FD_BASE].kind : SIM_FD_NONE;
}

void *sim_fd_object(int fd)
{
	assert(ours(fd));
	return fds[fd - SIM_FD_BASE].object;
}

int *sim_fd_flags(int fd)
{
	assert(ours(fd));
	return &fds[fd - SIM_FD_BASE].flags;
}

void sim_fd_free(int fd)
{
	assert(sim_fd_kind(fd) != SIM_FD_NONE);
	fds[fd - SIM_FD_BASE].kind = SIM_FD_NONE;
	fd_count--;
}

unsigned sim_fd_count(void)
{
	return fd_count;
}

static void set_adopted(int fd, bool adopted)
{
	enum sim_fd_kind kind = sim_fd_kind(fd);
	bool *now = NULL;

	if (kind == SIM_FD_SOCKET)
		now = &((struct sim_socket *)sim_fd_object(fd))->adopted;
	else if (kind == SIM_FD_LISTENER)
		now = &((struct listener *)sim_fd_object(fd))->adopted;
	else
		sim_fail("descriptor %d, which is not open, is adopted or forgotten", fd);
	if (*now == adopted)
		sim_fail("descriptor %d is adopted or forgotten twice", fd);
	*now = adopted;
}

void sim_socket_adopt(struct nr_engine *e, int fd);
void sim_socket_forget(struct nr_engine *e, int fd);

void sim_socket_adopt(struct nr_engine *e, int fd)
{
	(void)e;
	set_adopted(fd, true);
}

void sim_socket_forget(struct nr_engine *e, int fd)
{
	(void)e;
	set_adopted(fd, false);
}

/* ---- streams ----------------------------------------------------------- */

static void serve_receiver(struct sim_socket *s);
static void serve_sender(struct sim_socket *s);

static void tell_client(struct sim_socket *s)
{
	if (s->peer && !s->client_left)
		s->peer->changed(s->peer);
}

static void forget_arrival(struct arrival *a)
{
	*a->link = a->next;
	if (a->next)
		a->next->link = a->link;
	sim_unschedule(&a->event);
	free(a);
}

static void arrive(struct sim_event *event)
{
	struct arrival *a = (struct arrival *)event;
	struct stream *stream = a->stream;
	struct sim_socket *s = stream->socket;

	stream->arrived += a->bytes;
	assert(stream->arrived <= stream->held);
	if (a->bytes == 0)
		stream->over = true;
	forget_arrival(a);
	if (stream->to_server)
		serve_receiver(s);
	else
		tell_client(s);
}

static void expect(struct stream *stream, uint64_t bytes)
{
	struct sim_socket *s = stream->socket;
	struct arrival *a = sim_alloc(sizeof(*a));
	uint64_t at = sim_now() + sim_magnitude(11, 18);

	if (sim_one_in(200))
		at += sim_magnitude(20, 28);
	if (at <= stream->last_arrival)
		at = stream->last_arrival + 1;
	stream->last_arrival = at;
	a->event.fire = arrive;
	a->event.name = stream->to_server ? "to server" : "to client";
	a->stream = stream;
	a->bytes = bytes;
	a->next = s->arrivals;
	a->link = &s->arrivals;
	if (a->next)
		a->next->link = &a->next;
	s->arrivals = a;
	sim_schedule(&a->event, at - sim_now());
}

static uint64_t free_room(const struct stream *stream)
{
	return stream->room - stream->held;
}

/* Where byte AT of the stream lies, and how many lie behind it in one piece. */
static uint8_t *piece(struct stream *stream, uint64_t at, uint64_t *length)
{
	uint64_t place = (stream->head + at) % stream->room;

	if (*length > stream->room - place)
		*length = stream->room - place;
	return stream->data + place;
}

static void end_stream(struct stream *stream)
{
	if (stream->ended)
		return;
	stream->ended = true;
	expect(stream, 0);
}

/* Whatever is in it or on its way is lost. */
static void cut_stream(struct stream *stream)
{
	struct arrival *next;

	for (struct arrival *a = stream->socket->arrivals; a; a = next) {
		next = a->next;
		if (a->stream == stream)
			forget_arrival(a);
	}
	stream->cut = true;
	stream->held = stream->arrived = 0;
}

static void init_stream(struct stream *stream, struct sim_socket *s, bool to_server)
{
	stream->socket = s;
	/* Answers get room enough to be fetched before the server loses patience. */
	stream->room = to_server && sim_one_in(20) ? sim_magnitude(8, 11) : sim_magnitude(13, 18);
	stream->data = sim_alloc(stream->room);
	stream->to_server = to_server;
}

/* ---- operations of the server ------------------------------------------ */

static bool cancel_parked(struct sim_op *op)
{
	struct sim_socket *s = op->device;

	/* Of a send that has begun the kernel says how far it came. */
	if (op->moved)
		return false;
	if (s->receiving == op)
		s->receiving = NULL;
	else if (s->sending == op)
		s->sending = NULL;
	return true;
}

static void finish_receiving(struct sim_socket *s, int64_t result)
{
	struct sim_op *op = s->receiving;

	s->receiving = NULL;
	sim_op_done(op, result);
}

static void serve_receiver(struct sim_socket *s)
{
	struct stream *up = &s->up;
	struct sim_op *op = s->receiving;
	uint64_t most, moved = 0;

	if (!op)
		return;
	if (s->reset) {
		finish_receiving(s, op->operation == NR_RING_POLL || op->waiting ? POLLIN | POLLHUP
										 : -ECONNRESET);
		return;
	}
	if (!up->arrived && !up->over && !s->shut)
		return;
	if (op->operation == NR_RING_POLL || op->waiting) {
		finish_receiving(s, POLLIN);
		return;
	}
	most = sim_op_left(op) < up->arrived ? sim_op_left(op) : up->arrived;
	if (most > 1 && sim_one_in(sim_faults.short_transfer))
		most = sim_between(1, most);
	while (moved < most) {
		uint64_t part = most - moved;
		uint8_t *from = piece(up, 0, &part);

		sim_op_give(op, from, part);
		up->head = (up->head + part) % up->room;
		up->arrived -= part;
		up->held -= part;
		moved += part;
	}
	finish_receiving(s, (int64_t)moved);
	if (moved)
		tell_client(s); /* there is room */
}

static void finish_sending(struct sim_socket *s, int64_t result)
{
	struct sim_op *op = s->sending;

	s->sending = NULL;
	sim_op_done(op, result);
}

/* MSG_WAITALL: goes on until all is taken, or is cut short by chance. */
static void serve_sender(struct sim_socket *s)
{
	struct stream *down = &s->down;
	struct sim_op *op = s->sending;

	if (!op)
		return;
	if (s->shut || s->reset || down->cut) {
		int64_t bad = s->reset ? -ECONNRESET : -EPIPE;

		finish_sending(s, op->waiting ? POLLHUP : op->moved ? (int64_t)op->moved : bad);
		return;
	}
	if (!free_room(down))
		return;
	if (op->waiting) {
		finish_sending(s, POLLOUT);
		return;
	}
	while (free_room(down) && sim_op_left(op)) {
		uint64_t part =
			free_room(down) < sim_op_left(op) ? free_room(down) : sim_op_left(op);
		uint8_t *to;

		if (sim_one_in(8))
			part = sim_between(1, part);
		to = piece(down, down->held, &part);
		sim_op_take(op, to, part);
		down->held += part;
		expect(down, part);
	}
	if (!sim_op_left(op) || sim_one_in(3) || sim_one_in(sim_faults.short_transfer))
		finish_sending(s, (int64_t)op->moved);
}

static void finish_accepting(struct listener *l)
{
	struct sim_op *op = l->accepting;
	struct sim_socket *s;

	if (!op || !l->count)
		return;
	l->accepting = NULL;
	if (op->waiting) {
		sim_op_done(op, POLLIN);
		return;
	}
	if (sim_one_in(sim_faults.accept_error)) {
		sim_op_done(op, sim_one_in(2) ? -EMFILE : -ECONNABORTED);
		return;
	}
	s = l->waiting[0];
	l->count--;
	for (unsigned i = 0; i < l->count; i++)
		l->waiting[i] = l->waiting[i + 1];
	s->accepted = true;
	s->fd = sim_fd_new(SIM_FD_SOCKET, s);
	sim_op_done(op, s->fd);
}

static bool cancel_accept(struct sim_op *op)
{
	struct listener *l = op->device;

	l->accepting = NULL;
	return true;
}

static void start_accept(struct sim_op *op)
{
	struct listener *l = sim_fd_object(op->c->fd);

	assert(!l->accepting);
	l->accepting = op;
	op->device = l;
	op->cancel = cancel_accept;
	finish_accepting(l);
}

/* Pages that a socket may have by reference, it may as well copy. */
static bool is_send(const struct sim_op *op)
{
	return op->operation == NR_RING_SEND || op->operation == NR_RING_SHARE;
}

/* It takes a moment until the kernel looks at the socket. */
static void begin(struct sim_event *event)
{
	struct sim_op *op = (struct sim_op *)event;

	if (is_send(op))
		serve_sender(op->device);
	else
		serve_receiver(op->device);
}

void sim_socket_start(struct sim_op *op)
{
	enum sim_fd_kind kind = sim_fd_kind(op->c->fd);
	struct sim_socket *s;
	struct sim_op **place;

	if (kind == SIM_FD_LISTENER && op->operation == NR_RING_ACCEPT) {
		start_accept(op);
		return;
	}
	if (kind != SIM_FD_SOCKET)
		sim_fail("operation %u on descriptor %d, which is no open socket", op->operation,
			 op->c->fd);
	s = sim_fd_object(op->c->fd);
	place = is_send(op) ? &s->sending : &s->receiving;
	if (*place)
		sim_fail("two operations at once in one direction of a socket");
	*place = op;
	op->device = s;
	op->cancel = cancel_parked;
	op->event.fire = begin;
	begin(&op->event);
}

/* ---- calls of the server ----------------------------------------------- */

int sim_listener_new(void)
{
	return sim_fd_new(SIM_FD_LISTENER, sim_alloc(sizeof(struct listener)));
}

static void close_listener(int fd)
{
	struct listener *l = sim_fd_object(fd);

	if (l->accepting)
		sim_fail("a listener is closed while it accepts");
	for (unsigned i = 0; i < l->count; i++) {
		cut_stream(&l->waiting[i]->up);
		end_stream(&l->waiting[i]->down);
		l->waiting[i]->fd = -1;
		l->waiting[i]->accepted = true;
		l->waiting[i]->peer->closed(l->waiting[i]->peer);
	}
	free(l);
	sim_fd_free(fd);
}

void sim_socket_close(int fd)
{
	struct sim_socket *s;

	if (sim_fd_kind(fd) == SIM_FD_LISTENER) {
		close_listener(fd);
		return;
	}
	s = sim_fd_object(fd);
	if (s->receiving || s->sending)
		sim_fail("a socket is closed while an operation on it is under way");
	if (s->adopted)
		sim_fail("descriptor %d is closed but not forgotten", fd);
	sim_note("server closes", s->number, 0);
	s->fd = -1;
	sim_fd_free(fd);
	s->peer->closed(s->peer);
	if (s->client_left)
		return;
	/* Bytes that nobody took make it a reset, which may overtake what was sent. */
	if (s->up.held && sim_one_in(2))
		cut_stream(&s->down);
	cut_stream(&s->up);
	if (s->down.cut) {
		s->down.over = true;
		s->down.ended = true;
		tell_client(s);
	} else {
		end_stream(&s->down);
	}
	tell_client(s);
}

void sim_socket_shutdown(int fd, int how)
{
	struct sim_socket *s = sim_fd_object(fd);

	if (!s->client_left)
		end_stream(&s->down);
	if (how != SHUT_RDWR)
		return;
	s->shut = true;
	serve_receiver(s);
	serve_sender(s);
}

void sim_socket_name(int fd, struct sockaddr *address, socklen_t *length)
{
	const struct sim_socket *s = sim_fd_object(fd);
	struct sockaddr_in in = { .sin_family = AF_INET };

	in.sin_port = htons((uint16_t)s->number);
	in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	assert(*length >= sizeof(in));
	memcpy(address, &in, sizeof(in));
	*length = sizeof(in);
}

/* ---- the client's side ------------------------------------------------- */

static struct sim_socket *new_socket(struct sim_peer *peer)
{
	struct sim_socket *s = sim_alloc(sizeof(*s));

	init_stream(&s->up, s, true);
	init_stream(&s->down, s, false);
	s->peer = peer;
	s->fd = -1;
	s->number = 1024 + sockets_made++ % 60000;
	peer->socket = s;
	return s;
}

struct sim_socket *sim_connect(int listener, struct sim_peer *peer)
{
	struct listener *l;
	struct sim_socket *s;

	if (sim_fd_kind(listener) != SIM_FD_LISTENER)
		return NULL;
	l = sim_fd_object(listener);
	if (l->count == BACKLOG)
		return NULL;
	s = new_socket(peer);
	l->waiting[l->count++] = s;
	finish_accepting(l);
	return s;
}

struct sim_socket *sim_connected(struct sim_peer *peer, int *fd)
{
	struct sim_socket *s = new_socket(peer);

	s->accepted = true;
	s->fd = *fd = sim_fd_new(SIM_FD_SOCKET, s);
	return s;
}

int64_t sim_send(struct sim_socket *s, const void *data, uint64_t length)
{
	struct stream *up = &s->up;
	uint64_t sent = 0;

	assert(!up->ended);
	if (up->cut || s->shut || s->reset)
		return -1;
	while (sent < length && free_room(up)) {
		uint64_t part = length - sent < free_room(up) ? length - sent : free_room(up);
		uint8_t *to;

		/* Sometimes a byte, sometimes what fits into a packet, sometimes all. */
		if (sim_one_in(4))
			part = sim_one_in(16) ? 1 : sim_between(1, part);
		to = piece(up, up->held, &part);
		memcpy(to, (const uint8_t *)data + sent, part);
		up->held += part;
		sent += part;
		expect(up, part);
	}
	return (int64_t)sent;
}

int64_t sim_receive(struct sim_socket *s, void *data, uint64_t length)
{
	struct stream *down = &s->down;
	uint64_t got = 0;

	while (got < length && down->arrived) {
		uint64_t part = length - got < down->arrived ? length - got : down->arrived;
		const uint8_t *from = piece(down, 0, &part);

		memcpy((uint8_t *)data + got, from, part);
		down->head = (down->head + part) % down->room;
		down->arrived -= part;
		down->held -= part;
		got += part;
	}
	if (got) {
		serve_sender(s);
		return (int64_t)got;
	}
	if (down->cut)
		return -2;
	return down->over ? -1 : 0;
}

void sim_half_close(struct sim_socket *s)
{
	end_stream(&s->up);
}

void sim_hang_up(struct sim_socket *s, bool reset)
{
	if (s->client_left)
		return;
	s->client_left = true;
	cut_stream(&s->down);
	if (reset) {
		cut_stream(&s->up);
		s->reset = true;
	} else if (!s->up.cut) {
		end_stream(&s->up);
	}
	serve_receiver(s);
	serve_sender(s);
}

bool sim_server_has_left(const struct sim_socket *s)
{
	return s->accepted && s->fd < 0;
}

void sim_socket_free(struct sim_socket *s)
{
	assert(sim_server_has_left(s));
	cut_stream(&s->up);
	cut_stream(&s->down);
	free(s->up.data);
	free(s->down.data);
	free(s);
}
