/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * One request at a time, of each client or of all, or one client at a time.
 *
 * A gate is one word: FREE, BUSY, or a list of requests that wait, newest first
 * and with BUSY behind the oldest.  Who finds it FREE goes in; others put
 * themselves on the list.  Who comes out lets the oldest in: it alone may take the
 * list, and keeps what it took, turned around, in `queue`, which whoever is inside
 * owns.  No lock, and nobody waits for anybody but those who are parked.
 *
 * The gate is in the instance, or in the state of each client.  Requests of the
 * server itself have no client and are not held up by one.
 */
#include <assert.h>
#include <errno.h>
#include <stdatomic.h>
#include <stddef.h>

#include "filters/filters.h"

enum mode { MODE_REQUESTS, MODE_ALL_REQUESTS, MODE_CONNECTIONS };

/* Scratch of a request. */
struct ticket {
	struct ticket *next;
	struct nr_request *req;
	struct gate *gate; /* that it went through; NULL: none */
};

struct gate {
	_Atomic(struct ticket *) arrived;
	struct ticket *queue; /* oldest first; of whoever is inside */
};

struct noparallel {
	unsigned mode;        /* enum mode */
	struct gate gate;     /* MODE_ALL_REQUESTS */
	atomic_bool occupied; /* MODE_CONNECTIONS: a client is in */
};

#define FREE NULL
static struct ticket busy_marker; /* its address is all that is used */
#define BUSY (&busy_marker)

static const char *const modes[] = { "requests", "all-requests", "connections", NULL };

static const struct nr_param params[] = {
	{
		.name = "serialize",
		.type = NR_PARAM_CHOICE,
		.offset = offsetof(struct noparallel, mode),
		.fallback = "requests",
		.choices = modes,
		.value = "MODE",
		.help = "What happens one after the other",
		.manual =
			"What happens one after the other:\n\n"
			"=over 4\n\n"
			"=item B<requests>\n\n"
			"The requests of each connection, in the order they came.  Several\n"
			"connections are served side by side.\n\n"
			"=item B<all-requests>\n\n"
			"All requests to an export, whatever connection they come from.\n\n"
			"=item B<connections>\n\n"
			"One client at a time: while one is connected to an export, others are\n"
			"refused.  Clients are not told that several connections are possible.\n\n"
			"=back",
	},
	{ .name = NULL },
};

/* True: in.  False: on the list. */
static bool enter(struct gate *gate, struct ticket *ticket)
{
	struct ticket *now = FREE;

	if (atomic_compare_exchange_strong_explicit(&gate->arrived, &now, BUSY,
						    memory_order_acquire, memory_order_relaxed))
		return true;
	for (;;) {
		struct ticket *wanted = BUSY;

		if (now != FREE) {
			ticket->next = now;
			wanted = ticket;
		}
		if (atomic_compare_exchange_weak_explicit(&gate->arrived, &now, wanted,
							  memory_order_acq_rel,
							  memory_order_relaxed))
			return wanted == BUSY;
	}
}

/* Out again: the next one to let in, or NULL. */
static struct ticket *leave(struct gate *gate)
{
	struct ticket *next = gate->queue, *newest = BUSY;

	if (!next) {
		if (atomic_compare_exchange_strong_explicit(&gate->arrived, &newest, FREE,
							    memory_order_release,
							    memory_order_relaxed))
			return NULL;
		newest = atomic_exchange_explicit(&gate->arrived, BUSY, memory_order_acq_rel);
		while (newest != BUSY) {
			struct ticket *older = newest->next;

			newest->next = next;
			next = newest;
			newest = older;
		}
	}
	assert(next); /* who arrived is there: the exchange before failed because of it */
	gate->queue = next->next;
	return next;
}

static struct gate *gate_of(struct nr_layer *layer, const struct nr_request *req)
{
	struct noparallel *n = layer->instance;

	if (n->mode == MODE_ALL_REQUESTS)
		return &n->gate;
	return n->mode == MODE_REQUESTS ? nr_session_data(layer, req->session) : NULL;
}

static int noparallel_describe(struct nr_layer *layer, struct nr_traits *t, struct nr_error *error)
{
	struct noparallel *n = layer->instance;

	if (n->mode == MODE_CONNECTIONS)
		t->multi_conn = false;
	return 0;
}

static int noparallel_admit(struct nr_layer *layer, struct nr_session *session,
			    struct nr_error *error)
{
	struct noparallel *n = layer->instance;

	if (n->mode == MODE_CONNECTIONS && atomic_exchange(&n->occupied, true))
		return nr_error_set(error, -EBUSY,
				    "another client is connected, and this export takes one at a "
				    "time; try again when it has left");
	return 0;
}

static void noparallel_leave(struct nr_layer *layer, struct nr_session *session)
{
	struct noparallel *n = layer->instance;

	atomic_store(&n->occupied, false);
}

static void noparallel_submit(struct nr_layer *layer, struct nr_request *req)
{
	struct ticket *ticket = nr_scratch(layer, req);

	ticket->req = req;
	ticket->gate = gate_of(layer, req);
	if (!ticket->gate || enter(ticket->gate, ticket))
		nr_pass(layer, req);
}

static void noparallel_resume(struct nr_layer *layer, struct nr_request *req)
{
	nr_pass(layer, req);
}

static void noparallel_done(struct nr_layer *layer, struct nr_request *req)
{
	struct ticket *ticket = nr_scratch(layer, req);
	struct ticket *next = ticket->gate ? leave(ticket->gate) : NULL;

	if (next)
		nr_resume(layer, next->req);
	nr_finish(layer, req, req->error);
}

const struct nr_layer_type nr_noparallel_type = {
	.abi = NR_LAYER_ABI,
	.name = "noparallel",
	.summary = "one request or one client at a time",
	.kind = NR_FILTER,
	.placement = NR_SPREAD,
	.params = params,
	.instance_size = sizeof(struct noparallel),
	.request_size = sizeof(struct ticket),
	.session_size = sizeof(struct gate),
	.describe = noparallel_describe,
	.admit = noparallel_admit,
	.leave = noparallel_leave,
	.submit = noparallel_submit,
	.done = noparallel_done,
	.contexts_pass = true,
	.data_passes = true,
	.resume = noparallel_resume,
};
