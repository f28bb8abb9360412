/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The life of a connection.
 *
 *   HANDSHAKE --agreed--> SERVING --DISC, end of input, stop--> DRAINING --> freed
 *       |                    |                                     |
 *       +---- rule broken, socket error, patience over ----------> DEAD --> freed
 *
 * set_state is the only writer of the state.  A connection is freed in one
 * place (free_if_over) and only when nothing refers to it: no operation of the
 * ring, no command, no ticket at the export table.
 *
 * Layers may want a client to wait: before the answer of the export table is passed
 * on, as if the table had taken so long; and at the very end of DRAINING, if the client
 * has said goodbye.
 */
#include "src/server/connection.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

#include <linux/vm_sockets.h>

#include "nbdring/checked.h"
#include "src/log/log.h"
#include "src/server/command.h"
#include "src/server/limits.h"
#include "src/server/secure.h"
#include "src/server/server-internal.h"

static void set_state(struct nr_connection *c, enum nr_connection_state state)
{
	c->state = (uint8_t)state;
	nr_shard_activate(c->shard, c);
}

/* Beginning. */

static void describe_peer(struct nr_connection *c)
{
	struct nr_session *session = &c->session;
	struct sockaddr_storage *address = &session->address;
	socklen_t length = sizeof(*address);
	char text[INET6_ADDRSTRLEN] = "?";
	struct ucred credentials;
	socklen_t size = sizeof(credentials);

	address->ss_family = AF_UNSPEC;
	if (getpeername(c->fd, (struct sockaddr *)address, &length) < 0)
		address->ss_family = AF_UNSPEC;
	if (address->ss_family == AF_INET) {
		const struct sockaddr_in *in = (const struct sockaddr_in *)address;

		inet_ntop(AF_INET, &in->sin_addr, text, sizeof(text));
		snprintf(c->peer, sizeof(c->peer), "%s:%u", text, ntohs(in->sin_port));
	} else if (address->ss_family == AF_INET6) {
		const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)address;

		inet_ntop(AF_INET6, &in6->sin6_addr, text, sizeof(text));
		snprintf(c->peer, sizeof(c->peer), "[%s]:%u", text, ntohs(in6->sin6_port));
	} else if (address->ss_family == AF_UNIX &&
		   getsockopt(c->fd, SOL_SOCKET, SO_PEERCRED, &credentials, &size) == 0) {
		session->has_credentials = true;
		session->pid = (uint32_t)credentials.pid;
		session->uid = credentials.uid;
		session->gid = credentials.gid;
		snprintf(c->peer, sizeof(c->peer), "unix:pid=%d,uid=%u", (int)credentials.pid,
			 credentials.uid);
	} else if (address->ss_family == AF_VSOCK) {
		const struct sockaddr_vm *vm = (const struct sockaddr_vm *)address;

		snprintf(c->peer, sizeof(c->peer), "vsock:%u:%u", vm->svm_cid, vm->svm_port);
	} else {
		snprintf(c->peer, sizeof(c->peer), "?");
	}
}

/* Not a TCP socket: no harm done. */
static void set_tcp_options(int fd, const struct nr_keepalive *keepalive)
{
	const struct {
		int option;
		unsigned value;
	} probes[] = {
		{ TCP_KEEPIDLE, keepalive->idle },
		{ TCP_KEEPINTVL, keepalive->interval },
		{ TCP_KEEPCNT, keepalive->count },
	};
	int one = 1;

	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (!keepalive->idle)
		return;
	for (size_t i = 0; i < sizeof(probes) / sizeof(probes[0]); i++) {
		int value = (int)probes[i].value;

		setsockopt(fd, IPPROTO_TCP, probes[i].option, &value, sizeof(value));
	}
	setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(one));
}

/* Is there room for another one of this peer?  That there is not gets its line in the log. */
static bool enter_peer(struct nr_connection *c)
{
	struct nr_gate *gate = nr_server_gate(c->shard->server);

	if (nr_gate_enter_peer(gate, &c->session, &c->counted_as))
		return true;
	nr_log(NR_LOG_WARNING, NR_LOG_CLIENT,
	       "client %s: turned away: it has %u connections, as many as may be "
	       "(--max-connections-per-peer)",
	       c->peer, gate->limits.per_peer);
	return false;
}

static uint64_t handshake_deadline(const struct nr_shard *shard)
{
	unsigned seconds = nr_server_config(shard->server)->handshake_seconds;

	if (seconds == NR_HANDSHAKE_UNLIMITED)
		return 0;
	if (!seconds)
		seconds = NR_HANDSHAKE_SECONDS;
	return nr_ring_now(shard->ring) + seconds * UINT64_C(1000000000);
}

int nr_connection_begin(struct nr_shard *shard, int fd, bool single)
{
	struct nr_connection *c = calloc(1, sizeof(*c));
	size_t used;
	bool is_in;

	if (!c)
		return -ENOMEM;
	c->shard = shard;
	c->fd = fd;
	c->single = single;
	c->ready_tail = &c->ready;
	describe_peer(c);
	is_in = enter_peer(c);
	if (is_in)
		c->handshake = nr_handshake_create(nr_server_handshake_config(shard->server));
	if (!c->handshake) {
		nr_gate_leave_peer(nr_server_gate(shard->server), c->counted_as);
		free(c);
		return is_in ? -ENOMEM : -EUSERS;
	}
	set_tcp_options(fd, &nr_server_config(shard->server)->keepalive);
	c->session.id = nr_server_next_session(shard->server);
	c->session.peer = c->peer;
	c->session.export_name = "";
	c->deadline = handshake_deadline(shard);
	c->handshake_state = nr_handshake_feed(c->handshake, (const uint8_t *)"", 0, &used);
	nr_ring_adopt(shard->ring, fd);
	nr_shard_add(shard, c);
	set_state(c, NR_CONNECTION_HANDSHAKE);
	nr_log_about(NR_LOG_DEBUG, NR_LOG_CLIENT, &(struct nr_log_fields){ .client = c->peer },
		     "client %s: connected", c->peer);
	return 0;
}

/* Ending. */

static void report(struct nr_connection *c, enum nr_log_level level, const char *why)
{
	const struct nr_log_fields about = {
		.export_name = c->session.export_name,
		.client = c->peer,
	};

	if (c->reported)
		return;
	c->reported = true;
	if (c->commands)
		nr_log_about(level, NR_LOG_CLIENT, &about,
			     "client %s (export '%s'): %s, with %u requests in flight", c->peer,
			     c->session.export_name, why, c->commands);
	else
		nr_log_about(level, NR_LOG_CLIENT, &about, "client %s (export '%s'): %s", c->peer,
			     c->session.export_name, why);
}

void nr_connection_drop(struct nr_connection *c, const char *why, ...)
{
	char text[256];
	va_list args;

	if (c->state == NR_CONNECTION_DEAD)
		return;
	va_start(args, why);
	vsnprintf(text, sizeof(text), why, args);
	va_end(args);
	report(c, NR_LOG_WARNING, text);
	set_state(c, NR_CONNECTION_DEAD);
	c->session.gone = true;
	nr_linger_end(c);
	/* Whatever the kernel still does with the socket ends now. */
	shutdown(c->fd, SHUT_RDWR);
	nr_send_discard(c);
}

void nr_connection_drain(struct nr_connection *c)
{
	if (c->state == NR_CONNECTION_DEAD || c->state == NR_CONNECTION_DRAINING)
		return;
	if (c->graceful)
		report(c, NR_LOG_DEBUG, "disconnected");
	set_state(c, NR_CONNECTION_DRAINING);
	c->deadline = nr_ring_now(c->shard->ring) + NR_DRAIN_NS;
	nr_shard_want_tick(c->shard);
	nr_receive_cancel(c);
}

static void free_connection(struct nr_connection *c)
{
	struct nr_shard *shard = c->shard;
	bool single = c->single, had_negotiated = !c->handshake;

	nr_ring_forget(shard->ring, c->fd);
	if (c->graceful)
		shutdown(c->fd, SHUT_WR);
	close(c->fd);
	nr_receive_release_window(c);
	nr_send_release(c);
	nr_handshake_destroy(c->handshake);
	if (c->export)
		nr_export_leave(c->export, &c->session, &shard->worker);
	nr_secure_end(c);
	if (c->session.export_name[0])
		free((char *)(uintptr_t)c->session.export_name);
	free(c->carried);
	nr_gate_leave_peer(nr_server_gate(shard->server), c->counted_as);
	nr_shard_remove(shard, c);
	free(c);
	nr_server_departed(shard->server, had_negotiated, single);
}

/* A layer wants clients that say goodbye to wait, whether or not they look. */
static bool is_kept_waiting(struct nr_connection *c)
{
	uint64_t wait = c->session.leave_after;

	if (c->linger)
		return true;
	if (!wait || !c->export || !c->graceful || c->state == NR_CONNECTION_DEAD ||
	    c->shard->stopping)
		return false;
	c->session.leave_after = 0;
	c->deadline = 0;
	return nr_linger_begin(c, wait, false, NULL);
}

/* True when the connection is no more. */
static bool free_if_over(struct nr_connection *c)
{
	if (c->state != NR_CONNECTION_DRAINING && c->state != NR_CONNECTION_DEAD)
		return false;
	if (c->receive_state != NR_RECEIVE_NONE) {
		nr_receive_cancel(c);
		return false;
	}
	if (c->filling) {
		struct nr_command *filling = c->filling, *piece = c->piece;

		c->filling = c->piece = NULL;
		nr_command_abandon(filling, piece);
	}
	if (c->refused) {
		struct nr_command *refused = c->refused;

		c->refused = NULL;
		nr_command_release(refused);
	}
	if (c->commands || c->asking || nr_secure_busy(c) || !nr_send_idle(c) || is_kept_waiting(c))
		return false;
	if (c->state == NR_CONNECTION_DRAINING && nr_secure_bye(c))
		return false;
	free_connection(c);
	return true;
}

/* Negotiation. */

static void give_answer(struct nr_connection *c, struct nr_ticket *ticket)
{
	struct nr_export_answer answer = {
		.info = ticket->refusal ? NULL : &ticket->info,
		.contexts = (const char *const *)ticket->contexts,
		.context_count = ticket->context_count,
		.description = ticket->description,
		.refusal = ticket->refusal,
		.text = ticket->refusal ? ticket->error.text : NULL,
	};

	c->handshake_state = nr_handshake_export_is(c->handshake, &answer);
	if (ticket->export && c->handshake_state == NR_HANDSHAKE_READY) {
		c->export = ticket->export;
		ticket->export = NULL;
	}
}

static void give_list(struct nr_connection *c, struct nr_ticket *ticket)
{
	for (size_t i = 0; i < ticket->name_count; i++)
		nr_handshake_list_entry(c->handshake, ticket->names[2 * i],
					ticket->names[2 * i + 1]);
	c->handshake_state = nr_handshake_list_end(c->handshake, ticket->refusal,
						   ticket->refusal ? ticket->error.text : NULL);
}

static void take_answer(struct nr_connection *c)
{
	struct nr_ticket *ticket = c->ticket;

	c->asking = false;
	c->ticket = NULL;
	nr_shard_activate(c->shard, c);
	if (c->state == NR_CONNECTION_HANDSHAKE) {
		if (ticket->listing)
			give_list(c, ticket);
		else
			give_answer(c, ticket);
	}
	if (ticket->export)
		nr_export_leave(ticket->export, &c->session, &c->shard->worker);
	nr_ticket_clear(ticket);
	free(ticket);
}

static void answered(struct nr_ticket *ticket)
{
	struct nr_connection *c = (struct nr_connection *)((char *)ticket->session -
							   offsetof(struct nr_connection, session));
	uint64_t wait = ticket->export ? c->session.admit_after : 0;

	/* One that writes no more has nobody to be let in for. */
	if (wait && c->state == NR_CONNECTION_HANDSHAKE && !c->shard->stopping &&
	    nr_linger_begin(c, wait, true, take_answer)) {
		if (c->deadline && !nr_add(c->deadline, wait, &c->deadline))
			c->deadline = UINT64_MAX;
		return;
	}
	take_answer(c);
}

static void remember_name(struct nr_connection *c, const char *name)
{
	char *copy = name[0] ? strdup(name) : NULL;

	if (c->session.export_name[0])
		free((char *)(uintptr_t)c->session.export_name);
	c->session.export_name = copy ? copy : "";
}

static void ask(struct nr_connection *c)
{
	struct nr_ticket *ticket = calloc(1, sizeof(*ticket));

	if (ticket && c->handshake_state == NR_HANDSHAKE_EXPORT) {
		const char *name = nr_handshake_wanted(c->handshake, &ticket->purpose);

		ticket->name = strdup(name);
		ticket->describe = nr_handshake_wants_description(c->handshake);
		remember_name(c, name);
	} else if (ticket) {
		ticket->listing = true;
	}
	if (!ticket || (!ticket->listing && !ticket->name)) {
		free(ticket);
		nr_connection_drop(c, "no memory to look up the export");
		return;
	}
	ticket->answered = answered;
	ticket->shard = c->shard;
	ticket->session = &c->session;
	c->ticket = ticket;
	c->asking = true;
	nr_exports_ask(nr_server_exports(c->shard->server), ticket);
}

/* Moving to the shard an export lives on. */

static void arrive(struct nr_ring *ring, struct nr_message *message)
{
	struct nr_connection *c =
		(struct nr_connection *)((char *)message - offsetof(struct nr_connection, message));
	struct nr_shard *shard = nr_ring_context(ring);

	c->shard = shard;
	c->moving = false;
	nr_ring_adopt(ring, c->fd);
	atomic_fetch_add_explicit(&shard->connection_count, 1, memory_order_relaxed);
	nr_shard_add(shard, c);
	nr_shard_activate(shard, c);
	if (shard->stopping)
		nr_connection_stop(c);
}

/* Pack up and go; nothing of the connection is under way.  True when it has left. */
static bool leave_for(struct nr_connection *c, struct nr_shard *to)
{
	struct nr_window *w = &c->window;

	if (w->tail > w->head) {
		c->carried_bytes = w->tail - w->head;
		c->carried = malloc(c->carried_bytes);
		if (!c->carried) {
			nr_connection_drop(c, "no memory to move to the export's worker");
			return false;
		}
		memcpy(c->carried, w->block + w->head, c->carried_bytes);
	}
	if (!nr_secure_pack(c)) {
		nr_connection_drop(c, "no memory to move to the export's worker");
		return false;
	}
	nr_receive_release_window(c);
	nr_send_release(c);
	nr_ring_forget(c->shard->ring, c->fd);
	c->is_active = false; /* it is being read, so it is in no list of active ones */
	nr_shard_remove(c->shard, c);
	c->moving = true;
	c->message.deliver = arrive;
	nr_ring_post(to->ring, &c->message);
	return true;
}

/* What can be sent by reference, to whom (ring.h, nr_ring_send_shared). */
static void decide_on_sharing(struct nr_connection *c)
{
	c->share_min = UINT32_MAX;
	c->takes_pipes = false;
	if (c->secure)
		return; /* what is encrypted is copied */
	switch (c->session.address.ss_family) {
	case AF_UNIX:
		c->share_min =
			nr_ring_report(c->shard->ring)->share_unix ? NR_RING_SHARE_MIN : UINT32_MAX;
		break;
	case AF_INET:
	case AF_INET6:
		c->share_min = NR_RING_SHARE_TCP_MIN;
		break;
	default:
		break;
	}
	c->takes_pipes = c->share_min != UINT32_MAX && nr_stack_answers_pass(c->stack);
}

/* The handshake is over and its last byte sent.  True when the connection has moved away. */
static bool begin_serving(struct nr_connection *c)
{
	int home = nr_export_home(c->export);
	bool away = home >= 0 && (unsigned)home != c->shard->worker.index;

	if (away && c->receive_state != NR_RECEIVE_NONE) {
		nr_receive_cancel(c); /* it must end first; then we are called again */
		return false;
	}
	c->agreement = *nr_handshake_agreement(c->handshake);
	c->stack = nr_export_stack(c->export);
	if (nr_stack_traits(c->stack)->refuse_unfit)
		c->agreement.asked_block_size = c->agreement.bound_to_maximum = true;
	decide_on_sharing(c);
	nr_handshake_destroy(c->handshake);
	c->handshake = NULL;
	nr_server_negotiated(c->shard->server);
	nr_send_release(c); /* the next one is of another size */
	c->deadline = 0;
	set_state(c, NR_CONNECTION_SERVING);
	nr_log(NR_LOG_DEBUG, NR_LOG_CLIENT, "client %s: serving export '%s'", c->peer,
	       c->session.export_name);
	if (away)
		return leave_for(c, nr_server_shard(c->shard->server, (unsigned)home));
	if (c->shard->stopping)
		nr_connection_stop(c);
	return false;
}

/* The client was told to begin TLS, and may have. */
static void advance_tls(struct nr_connection *c)
{
	if (!c->secure) {
		if (c->receive_state != NR_RECEIVE_NONE) {
			nr_receive_cancel(c); /* then we are called again */
			return;
		}
		/* What came before TLS must not be taken for something that came within. */
		nr_receive_release_window(c);
		if (!nr_secure_begin(c))
			nr_connection_drop(c, "no memory for TLS");
	} else if (nr_secure_advance(c)) {
		c->handshake_state = nr_handshake_encrypted(c->handshake);
	}
}

/* True when the connection is not ours any more. */
static bool advance_handshake(struct nr_connection *c)
{
	size_t length;

	if (!c->handshake)
		return false;
	nr_handshake_output(c->handshake, &length);
	if (length || nr_send_busy(c) || c->asking)
		return false;
	switch ((enum nr_handshake_state)c->handshake_state) {
	case NR_HANDSHAKE_MORE:
		break;
	case NR_HANDSHAKE_EXPORT:
	case NR_HANDSHAKE_LIST:
		ask(c);
		break;
	case NR_HANDSHAKE_STARTTLS:
		advance_tls(c);
		break;
	case NR_HANDSHAKE_READY:
		return begin_serving(c);
	case NR_HANDSHAKE_CLOSE:
		c->graceful = true;
		nr_connection_drain(c);
		break;
	case NR_HANDSHAKE_DROP:
		nr_connection_drop(c, "%s", nr_handshake_reason(c->handshake));
		break;
	}
	return false;
}

/* One turn. */

static void end_of_input(struct nr_connection *c)
{
	bool partial = c->window.tail > c->window.head || c->filling || c->discard;
	size_t output;

	if (c->state == NR_CONNECTION_HANDSHAKE) {
		nr_handshake_output(c->handshake, &output);
		if (c->asking || output)
			return;
		report(c, NR_LOG_DEBUG, "left during the negotiation");
	} else if (c->state == NR_CONNECTION_SERVING) {
		if (c->stalled)
			return;
		report(c, c->commands || partial ? NR_LOG_WARNING : NR_LOG_DEBUG,
		       "left without saying goodbye");
	}
	nr_connection_drain(c);
}

bool nr_connection_read(struct nr_connection *c)
{
	if (c->state != NR_CONNECTION_HANDSHAKE && c->state != NR_CONNECTION_SERVING)
		return true;
	if (c->carried) {
		nr_receive_restore(c);
		if (c->carried)
			return true;
	}
	nr_receive_parse(c);
	if (advance_handshake(c))
		return false;
	/* The first requests may have come together with the last option. */
	if (c->state == NR_CONNECTION_SERVING && c->commands == 0)
		nr_receive_parse(c);
	if (c->end_of_input)
		end_of_input(c);
	return true;
}

void nr_connection_write(struct nr_connection *c)
{
	if (c->state != NR_CONNECTION_DEAD)
		nr_send_flush(c);
	if (!free_if_over(c))
		nr_receive_arm(c);
}

/* Patience. */

/*
 * Memory is short, and this client holds some that only it can set free: by reading
 * its replies, or by sending the data it has announced.
 */
static bool holds_up_others(const struct nr_connection *c)
{
	if (!c->shard->starved || !c->charged)
		return false;
	return nr_send_busy(c) || (c->filling && c->receive_state != NR_RECEIVE_NONE);
}

/* Patience is with clients: it does not wear out while they wait for the disk, or for an export. */
static bool waits_for_us(const struct nr_connection *c)
{
	if (c->shard->stopping)
		return false;
	return c->state == NR_CONNECTION_DRAINING ? !nr_send_busy(c) : c->asking;
}

bool nr_connection_sweep(struct nr_connection *c, uint64_t now)
{
	if (c->deadline && waits_for_us(c))
		c->deadline += NR_SWEEP_NS;
	if (c->deadline && now >= c->deadline) {
		c->deadline = 0;
		if (c->state == NR_CONNECTION_HANDSHAKE)
			nr_connection_drop(c, c->shard->stopping ? "the server stops"
								 : "took too long to negotiate");
		else
			nr_connection_drop(c, "does not take its replies");
		return true;
	}
	if (c->state != NR_CONNECTION_SERVING && c->state != NR_CONNECTION_HANDSHAKE)
		return true;
	if (!holds_up_others(c)) {
		c->held_up = 0;
	} else if (c->held_up < NR_HELD_UP_SECONDS) {
		c->held_up++;
	} else if (!c->shard->relieved) {
		c->shard->relieved = true; /* one at a time: that may be enough */
		nr_connection_drop(c, "holds memory that others wait for");
		return true;
	}
	if (c->commands == 0 && !nr_send_busy(c) && c->idle_candidate) {
		nr_send_release(c);
		if (c->receive_state == NR_RECEIVE_WINDOW || c->receive_state == NR_RECEIVE_SECURE)
			nr_receive_cancel(c);
	}
	c->idle_candidate = true;
	return c->deadline || c->window.block || c->sender || (c->secure && c->secure->input);
}

void nr_connection_stop(struct nr_connection *c)
{
	if (c->state == NR_CONNECTION_HANDSHAKE) {
		nr_handshake_shutdown(c->handshake);
		c->deadline = c->shard->stop_handshake_at;
		nr_shard_want_tick(c->shard);
	} else if (c->state == NR_CONNECTION_SERVING) {
		/* What has arrived is refused, what was begun is finished. */
		nr_receive_parse(c);
		c->graceful = true;
		nr_connection_drain(c);
	}
	if (c->state == NR_CONNECTION_DRAINING)
		c->deadline = c->shard->stop_drain_at;
	nr_linger_end(c);
	nr_shard_activate(c->shard, c);
}
