/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The life of a link (link.h): requests come and end, the connection is made, lost and
 * made again.
 *
 *	DOWN --request--> DIALLING --done--> UP --break--> BREAKING --quiet--+
 *	                   ^    |failed                                      |
 *	                   |    v                                            |
 *	                   +- PAUSING      (requests wait: DIALLING) <-------+
 *
 * The last request of a link does not end before everything of the link that is under
 * way has: it is held until then (nr_link_release_held), which is what makes a link
 * without requests quiet.
 */
#include "src/client/link.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "nbdring/checked.h"
#include "src/client/link-internal.h"

#define NS_PER_S UINT64_C(1000000000)

static void begin_dialling(struct nr_link *link);

/* ---- requests end ------------------------------------------------------ */

static void finish(struct nr_link *link, struct nr_link_op *op, int error)
{
	nr_link_answer_clear(op);
	if (op->flat)
		op->flat->release(op->flat);
	op->flat = NULL;
	assert(link->ops > 0);
	link->ops--;
	link->settings->finished(link, op, error);
}

static bool is_quiet(const struct nr_link *link)
{
	return !nr_completion_busy(&link->receive) && !nr_completion_busy(&link->send) &&
	       !nr_completion_busy(&link->timer) && !nr_completion_busy(&link->hungry) &&
	       !link->gather.waiting;
}

void nr_link_release_held(struct nr_link *link)
{
	struct nr_link_op *op = link->held;

	if (!op)
		return;
	if (link->ops == 1) {
		nr_ring_cancel(nr_link_ring(link), &link->timer);
		if (link->state == NR_LINK_BREAKING || !is_quiet(link))
			return;
		nr_link_receive_release(link);
		nr_link_tls_release(link);
	}
	link->held = NULL;
	finish(link, op, op->error);
}

void nr_link_end(struct nr_link *link, struct nr_link_op *op, int error)
{
	op->error = error;
	if (link->ops > 1) {
		finish(link, op, error);
		return;
	}
	/* Whoever calls goes on with the link, and releases what is held at the end. */
	assert(!link->held);
	link->held = op;
}

/* All that waits fails; then the link is as good as unused. */
static void fail_waiting(struct nr_link *link, int error)
{
	struct nr_link_op *op;

	while ((op = link->waiting.first) != NULL) {
		nr_link_remove(&link->waiting, op);
		nr_link_end(link, op, error);
	}
	nr_link_release_held(link);
}

/* Requests whose client is gone do not wait for a remote. */
static void fail_abandoned(struct nr_link *link)
{
	struct nr_link_op *op = link->waiting.first;

	while (op) {
		struct nr_link_op *next = op->next;

		if (op->req->session && op->req->session->gone) {
			nr_link_remove(&link->waiting, op);
			nr_link_end(link, op, -ESHUTDOWN);
		}
		op = next;
	}
}

/* ---- breaking ---------------------------------------------------------- */

void nr_link_break(struct nr_link *link, const char *why)
{
	if (link->state != NR_LINK_UP)
		return;
	link->state = NR_LINK_BREAKING;
	/* What is under way on it ends now. */
	(void)shutdown(link->fd, SHUT_RDWR);
	nr_ring_cancel(nr_link_ring(link), &link->receive);
	nr_ring_cancel(nr_link_ring(link), &link->timer);
	if (!link->lost_at || link->progress) {
		link->lost_at = nr_ring_now(nr_link_ring(link));
		link->pause_ns = 0;
	}
	nr_layer_log(link->layer, NR_LAYER_WARNING, "the connection to %s is lost: %s",
		     link->settings->call.remote->shown, why);
	link->settings->broken(link);
}

/* As if it had never been sent. */
static void rewind_op(struct nr_link_op *op)
{
	nr_answer_clear(op->req);
	nr_link_answer_clear(op);
	op->wire.answered = 0;
	op->wire.error = 0;
	op->wire.status = 0;
	if (op->req->operation == NR_EXTENTS) {
		op->req->extents->count = 0;
		op->req->extents->next = op->req->extents->start;
	}
	op->breaks++;
}

/* What was sent and not answered waits again, in front, in the old order. */
static void take_back(struct nr_link *link)
{
	struct nr_link_op *op;

	while ((op = link->sent.last) != NULL) {
		nr_link_remove(&link->sent, op);
		link->slots[op->slot].op = NULL;
		link->free_slots[link->free_count++] = op->slot;
		rewind_op(op);
		op->prev = NULL;
		op->next = link->waiting.first;
		if (op->next)
			op->next->prev = op;
		else
			link->waiting.last = op;
		link->waiting.first = op;
	}
	link->owed = 0;
	link->owed_bytes = 0;
	nr_link_splice_forget(link);
	link->payload = (struct nr_link_payload){ .op = NULL };
	assert(link->free_count == NR_LINK_REQUESTS_MAX);
}

/* Those that break connections, and those that are of no use on another. */
static void fail_unlucky(struct nr_link *link)
{
	struct nr_link_op *op = link->waiting.first;

	while (op) {
		struct nr_link_op *next = op->next;

		if (op->breaks >= NR_LINK_BREAKS_MAX || !link->settings->again(link, op)) {
			nr_link_remove(&link->waiting, op);
			nr_link_end(link, op, -EIO);
		}
		op = next;
	}
}

void nr_link_settle(struct nr_link *link)
{
	if (link->state == NR_LINK_BREAKING && is_quiet(link)) {
		nr_link_receive_release(link);
		nr_link_tls_release(link);
		close(link->fd);
		link->fd = -1;
		/* The program behind it is waited for where that may take its time. */
		link->dialled = (struct nr_dialled){ .fd = -1, .child = link->child };
		link->child = 0;
		nr_tls_session_destroy(link->tls);
		link->tls = NULL;
		link->state = NR_LINK_DOWN;
		take_back(link);
		fail_unlucky(link);
		fail_abandoned(link);
		if (link->waiting.first && !link->settings->retry_ns)
			fail_waiting(link, -EIO);
		if (link->waiting.first)
			begin_dialling(link);
	}
	nr_link_release_held(link);
}

/* ---- coming back ------------------------------------------------------- */

/* On a thread that may block. */
static void dial(struct nr_job *job)
{
	struct nr_link *link = (struct nr_link *)((char *)job - offsetof(struct nr_link, job));

	nr_dialled_close(&link->dialled);
	link->dial_error.code = 0;
	link->dial_result = nr_dial(&link->settings->call, &link->dialled, &link->dial_error);
}

static void begin_dialling(struct nr_link *link)
{
	if (!link->lost_at)
		link->lost_at = nr_ring_now(nr_link_ring(link));
	link->state = NR_LINK_DIALLING;
	link->job.home = nr_link_ring(link);
	link->settings->submit_job(&link->job);
}

static void give_up(struct nr_link *link)
{
	if (!link->given_up)
		nr_layer_log(link->layer, NR_LAYER_ERROR, "%s; requests fail until it is back",
			     link->dial_error.text);
	link->given_up = true;
	link->state = NR_LINK_DOWN;
	fail_waiting(link, -EIO);
}

static void try_again_later(struct nr_link *link)
{
	const struct nr_link_settings *settings = link->settings;
	uint64_t now = nr_ring_now(nr_link_ring(link)), pause = link->pause_ns;

	fail_abandoned(link);
	if (!link->waiting.first || link->given_up || now - link->lost_at >= settings->retry_ns) {
		give_up(link);
		return;
	}
	nr_layer_log(link->layer, NR_LAYER_DEBUG, "%s", link->dial_error.text);
	pause = pause ? pause : settings->pause_ns;
	link->pause_ns = nr_min(pause * 2, settings->pause_max_ns);
	link->state = NR_LINK_PAUSING;
	nr_ring_timeout(nr_link_ring(link), &link->timer, pause);
}

static void come_up(struct nr_link *link, const struct nr_dialled *dialled)
{
	link->fd = dialled->fd;
	link->child = dialled->child;
	link->tls = dialled->tls;
	link->agreement = dialled->agreement;
	link->progress = false;
	link->state = NR_LINK_UP;
	nr_link_splice_init(link);
}

static void dialled(struct nr_job *job)
{
	struct nr_link *link = (struct nr_link *)((char *)job - offsetof(struct nr_link, job));
	int err = link->dial_result;

	if (!err) {
		err = link->settings->accept(link, &link->dialled.agreement, &link->dial_error);
		/* What is refused is closed by the next attempt, or with the link. */
	}
	if (err) {
		try_again_later(link);
		return;
	}
	if (link->given_up || link->pause_ns)
		nr_layer_log(link->layer, NR_LAYER_INFO, "the connection to %s is back",
			     link->settings->call.remote->shown);
	come_up(link, &link->dialled);
	nr_dialled_init(&link->dialled);
	link->given_up = false;
	nr_link_send_later(link);
}

/* ---- time -------------------------------------------------------------- */

static void timer_rang(struct nr_ring *ring, struct nr_completion *completion)
{
	struct nr_link *link =
		(struct nr_link *)((char *)completion - offsetof(struct nr_link, timer));
	uint64_t silent;

	switch ((enum nr_link_state)link->state) {
	case NR_LINK_PAUSING:
		begin_dialling(link);
		break;
	case NR_LINK_UP:
		silent = nr_ring_now(ring) - link->heard_at;
		if (!link->owed)
			break;
		if (silent >= link->settings->timeout_ns)
			nr_link_break(link, "it owes an answer and is silent");
		else
			nr_ring_timeout(ring, &link->timer, link->settings->timeout_ns - silent);
		break;
	case NR_LINK_DOWN:
	case NR_LINK_DIALLING:
	case NR_LINK_BREAKING:
	default:
		break;
	}
	nr_link_settle(link);
}

void nr_link_watch(struct nr_link *link)
{
	uint64_t timeout = link->settings->timeout_ns;

	if (!timeout || nr_completion_busy(&link->timer))
		return;
	link->heard_at = nr_ring_now(nr_link_ring(link));
	nr_ring_timeout(nr_link_ring(link), &link->timer, timeout);
}

static void looked_again(struct nr_ring *ring, struct nr_completion *completion)
{
	struct nr_link *link =
		(struct nr_link *)((char *)completion - offsetof(struct nr_link, hungry));

	nr_link_receive_arm(link);
	nr_link_send_later(link);
	nr_link_settle(link);
}

void nr_link_starve(struct nr_link *link)
{
	if (!nr_completion_busy(&link->hungry))
		nr_ring_timeout(nr_link_ring(link), &link->hungry, NR_LINK_HUNGRY_NS);
}

/* ---- for the owner ----------------------------------------------------- */

struct nr_link *nr_link_create(struct nr_layer *layer, const struct nr_link_settings *settings)
{
	struct nr_link *link = calloc(1, sizeof(*link));

	if (!link)
		return NULL;
	link->layer = layer;
	link->settings = settings;
	link->fd = -1;
	nr_dialled_init(&link->dialled);
	link->job.run = dial;
	link->job.done = dialled;
	link->timer.done = timer_rang;
	link->hungry.done = looked_again;
	nr_link_send_init(link);
	return link;
}

void nr_link_destroy(struct nr_link *link)
{
	struct nr_dialled rest;

	if (!link)
		return;
	assert(link->ops == 0);
	assert(is_quiet(link));
	rest = (struct nr_dialled){ link->fd, link->child, link->tls, link->agreement };
	nr_dialled_close(&rest);
	nr_dialled_close(&link->dialled);
	free(link);
}

void nr_link_give(struct nr_link *link, const struct nr_dialled *given)
{
	assert(!link->worker);
	assert(link->state == NR_LINK_DOWN);
	come_up(link, given);
}

struct nr_link_account *nr_link_account(struct nr_link *link)
{
	return &link->account;
}

struct nr_layer *nr_link_layer(const struct nr_link *link)
{
	return link->layer;
}

unsigned nr_link_load(const struct nr_link *link)
{
	return link->ops;
}

void nr_link_submit(struct nr_link *link, struct nr_link_op *op, struct nr_request *req,
		    const struct nr_client_request *wire)
{
	assert(!link->worker || link->worker == req->worker);
	link->worker = req->worker;
	*op = (struct nr_link_op){ .req = req, .wire = *wire };
	link->ops++;
	nr_link_append(&link->waiting, op);
	nr_link_release_held(link);
	if (link->state == NR_LINK_DOWN)
		begin_dialling(link);
	else
		nr_link_send_later(link);
}
