/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Closing and opening a backend under a stack that stays open.
 *
 * What a filter asks for (nr_reopen) happens here, just above the backend, and not where
 * the filter is: whatever the layers between have under way, children and background
 * requests too, comes by, and none of them has to be opened again.  They may hold
 * locks of theirs while a request waits here, because nothing that the gate waits for
 * needs them: only the backend's own requests.
 *
 *   open      requests pass; each adds one to those in flight
 *   draining  somebody has asked: new requests wait, those in flight come back
 *   busy      none is in flight: a flush, then a thread that may block closes and opens
 *   down      that has failed: requests fail, until somebody asks again
 *
 * The count of requests in flight and the bit that says "not open" are one word, so that
 * a request looks at and changes one place on its way down, and one on its way up.
 * Whoever takes the count to zero while the gate is draining begins the rest.  Who
 * waits puts itself into a list and then looks at the state once more; who ends the
 * waiting changes the state and then takes the list: one of the two sees the other.  All
 * who wait are parked requests, and so keep the export open until they are resumed; who
 * asked is resumed last, when nothing of the gate is looked at any more.
 *
 * The layers above go on with the traits that they were opened with.  A backend that
 * has lost something of them is not what it was, and is closed again.  Its instance
 * begins each time as its parameters have made it.
 *
 * Before it is closed, what was written and not flushed is flushed.  If that fails, writes
 * may be lost, and each client is told by its next flush.
 */
#include "src/stack/gate.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include "ring/offload.h"
#include "src/stack/stack.h"
#include "src/stack/traits.h"
#include "src/stack/worker.h"

enum gate_state { GATE_OPEN, GATE_DRAINING, GATE_BUSY, GATE_DOWN };

#define NOT_OPEN UINT64_C(1) /* in `word`, beside … */
#define ONE UINT64_C(2)      /* … how many are in flight */

struct gate {
	_Atomic uint64_t word;
	_Atomic unsigned state;               /* enum gate_state */
	_Atomic(struct nr_request *) waiting; /* newest first */
	_Atomic uint64_t attempts;            /* to open it anew that have ended */
	_Atomic uint64_t losses;              /* times that writes may have been lost */
	_Atomic uint64_t server_told;         /* as struct client, for the server's own flushes */
	atomic_bool unflushed;                /* something was written since the last flush */
	atomic_bool read_only;                /* it is to be opened for reading only */
	pthread_mutex_t mutex;                /* who looks at the size, who closes and opens */
	bool is_open;                         /* with the mutex */
	struct nr_offload *thread;
	struct nr_job job;
	struct nr_request *asker; /* who has it opened anew: from draining to the end */
	struct nr_layer *layer;   /* the gate itself */
};

/* Of the losses, those that a client has heard of.  Its worker's. */
struct client {
	uint64_t told;
};

/* Of a flush: was there something to flush? */
struct state {
	bool unflushed;
};

static void reopen(struct nr_job *job);
static void reopened(struct nr_job *job);

static int gate_open(struct nr_layer *layer, struct nr_error *error)
{
	struct gate *g = layer->instance;

	assert(layer->below->internal.image);
	g->layer = layer;
	g->is_open = true;
	g->job.run = reopen;
	g->job.done = reopened;
	g->thread = nr_offload_create(1);
	if (!g->thread)
		return nr_error_system(error, -ENOMEM, "a thread for opening");
	(void)pthread_mutex_init(&g->mutex, NULL);
	return 0;
}

static void gate_close(struct nr_layer *layer)
{
	struct gate *g = layer->instance;

	nr_offload_destroy(g->thread);
	(void)pthread_mutex_destroy(&g->mutex);
}

static int gate_admit(struct nr_layer *layer, struct nr_session *session, struct nr_error *error)
{
	struct gate *g = layer->instance;
	struct client *client = nr_session_data(layer, session);

	client->told = atomic_load(&g->losses);
	return 0;
}

bool nr_gate_hold_open(struct nr_layer *layer)
{
	struct gate *g = layer->instance;
	bool is_open;

	(void)pthread_mutex_lock(&g->mutex);
	is_open = g->is_open;
	if (!is_open)
		(void)pthread_mutex_unlock(&g->mutex);
	return is_open;
}

void nr_gate_let_go(struct nr_layer *layer)
{
	struct gate *g = layer->instance;

	(void)pthread_mutex_unlock(&g->mutex);
}

bool nr_gate_is_down(const struct nr_layer *layer)
{
	const struct gate *g = layer->instance;

	return !g->is_open;
}

/* ---- waiting ----------------------------------------------------------- */

static void resume_all(struct gate *g)
{
	struct nr_request *req = atomic_exchange(&g->waiting, NULL);

	while (req) {
		struct nr_request *next = req->internal.next;

		nr_resume(req->internal.at, req);
		req = next;
	}
}

/* Park REQ, whoever has it, until the gate is open or down. */
static void wait_here(struct gate *g, struct nr_request *req)
{
	struct nr_request *head = atomic_load(&g->waiting);
	unsigned state;

	do {
		req->internal.next = head;
	} while (!atomic_compare_exchange_weak(&g->waiting, &head, req));
	state = atomic_load(&g->state);
	if (state == GATE_OPEN || state == GATE_DOWN)
		resume_all(g);
}

static void close_and_open(struct gate *g, struct nr_worker *worker)
{
	g->job.home = worker->ring;
	if (worker->ring) {
		nr_offload_submit(g->thread, &g->job);
		return;
	}
	/* Tests: nobody else is there to wait for it. */
	g->job.run(&g->job);
	g->job.done(&g->job);
}

static void note_flush(struct gate *g, int err)
{
	atomic_store(&g->unflushed, false);
	if (!err)
		return;
	atomic_fetch_add(&g->losses, 1);
	nr_layer_log(g->layer->below, NR_LAYER_WARNING,
		     "what was written since the last flush may be lost (%s): the next flush of "
		     "each client fails",
		     strerror(-err));
}

static void gate_flushed(struct nr_layer *layer, struct nr_request *flush)
{
	struct gate *g = layer->instance;
	struct nr_worker *worker = flush->worker;

	note_flush(g, flush->error);
	nr_request_release(flush, 0);
	close_and_open(g, worker);
}

/* Nothing is in flight.  The flush is of no client, and not counted. */
static void start(struct gate *g, struct nr_worker *worker)
{
	struct nr_layer *layer = g->layer;
	struct nr_request *flush;

	if (!atomic_load(&g->unflushed) ||
	    layer->below->traits.support[NR_CAP_FLUSH] != NR_NATIVE) {
		note_flush(g, 0);
		close_and_open(g, worker);
		return;
	}
	flush = nr_request_get(worker, layer->internal.stack, 0);
	if (!flush) {
		note_flush(g, -ENOMEM);
		close_and_open(g, worker);
		return;
	}
	flush->operation = NR_FLUSH;
	flush->internal.owner = layer;
	flush->internal.at = layer;
	nr_pass(layer, flush);
}

/* One less is in flight.  The last one out begins what they were waited for. */
static void leave(struct gate *g, struct nr_worker *worker)
{
	unsigned draining = GATE_DRAINING;

	if (atomic_fetch_sub(&g->word, ONE) == (ONE | NOT_OPEN) &&
	    atomic_compare_exchange_strong(&g->state, &draining, GATE_BUSY))
		start(g, worker);
}

/* ---- requests ---------------------------------------------------------- */

/* Is this flush to tell of lost writes? */
static bool tells_of_loss(struct nr_layer *layer, const struct nr_request *req)
{
	struct gate *g = layer->instance;
	uint64_t losses = atomic_load(&g->losses), told;
	struct client *client = nr_session_data(layer, req->session);

	if (client) {
		told = client->told;
		client->told = losses;
	} else {
		told = atomic_exchange(&g->server_told, losses);
	}
	return told != losses;
}

static void pass(struct nr_layer *layer, struct nr_request *req)
{
	struct gate *g = layer->instance;
	struct state *s = nr_scratch(layer, req);

	if (req->operation == NR_FLUSH)
		s->unflushed = atomic_exchange(&g->unflushed, false);
	nr_pass(layer, req);
}

static void gate_submit(struct nr_layer *layer, struct nr_request *req)
{
	struct gate *g = layer->instance;

	if (req->operation == NR_FLUSH && tells_of_loss(layer, req)) {
		nr_finish(layer, req, -EIO);
		return;
	}
	if (!(atomic_fetch_add(&g->word, ONE) & NOT_OPEN)) {
		pass(layer, req);
		return;
	}
	leave(g, req->worker);
	/* What there was to flush has been flushed before it was closed, or told of. */
	if (atomic_load(&g->state) == GATE_DOWN)
		nr_finish(layer, req, req->operation == NR_FLUSH ? 0 : -EIO);
	else
		wait_here(g, req);
}

static bool changes(const struct nr_request *req)
{
	return req->operation == NR_WRITE || req->operation == NR_TRIM ||
	       req->operation == NR_ZERO || req->operation == NR_RESIZE;
}

static void gate_done(struct nr_layer *layer, struct nr_request *req)
{
	struct gate *g = layer->instance;
	const struct state *s = nr_scratch(layer, req);
	bool unflushed = req->operation == NR_FLUSH
				 ? s->unflushed && req->error
				 : changes(req) && !req->error && !(req->flags & NR_FUA);

	/* Mostly it is set already, and the workers need not take it from each other. */
	if (unflushed && !atomic_load_explicit(&g->unflushed, memory_order_relaxed))
		atomic_store(&g->unflushed, true);
	leave(g, req->worker);
	nr_finish(layer, req, req->error);
}

uint64_t nr_reopenings(const struct nr_layer *layer)
{
	const struct nr_layer *gate = nr_stack_gate(layer->internal.stack);
	const struct gate *g = gate ? gate->instance : NULL;

	return g ? atomic_load(&g->attempts) : 0;
}

void nr_reopen(struct nr_layer *layer, struct nr_request *req, uint64_t seen, bool read_only)
{
	struct nr_layer *gate = nr_stack_gate(layer->internal.stack);
	struct gate *g = gate ? gate->instance : NULL;
	unsigned open = GATE_OPEN, down = GATE_DOWN;
	struct nr_worker *worker = req->worker;

	assert(req->internal.at == layer);
	assert(layer->type->reopens);
	assert(layer->type->resume);
	if (!g || atomic_load(&g->attempts) != seen) {
		nr_resume(layer, req);
		return;
	}
	if (read_only)
		atomic_store(&g->read_only, true);
	/* As if in flight: nothing begins before it is known who waits for it. */
	atomic_fetch_add(&g->word, ONE);
	if (atomic_compare_exchange_strong(&g->state, &open, GATE_DRAINING) ||
	    atomic_compare_exchange_strong(&g->state, &down, GATE_DRAINING)) {
		g->asker = req;
		atomic_fetch_or(&g->word, NOT_OPEN);
	} else {
		wait_here(g, req);
	}
	leave(g, worker);
}

/* ---- closing and opening; a thread that may block ---------------------- */

/* Everything that the layers above count on is still there. */
static int check_same(const struct nr_traits *was, const struct nr_traits *is, bool read_only,
		      struct nr_error *error)
{
	if (is->size < was->size)
		return nr_error_set(error, -EINVAL,
				    "the disk is smaller than it was: %" PRIu64
				    " bytes instead of %" PRIu64,
				    is->size, was->size);
	if (is->read_only && !was->read_only && !read_only)
		return nr_error_set(error, -EROFS, "the disk has become read-only");
	if (is->block_min > was->block_min || is->block_max < was->block_max ||
	    is->memory_align > was->memory_align)
		return nr_error_set(error, -EINVAL, "the disk has other block sizes than it had");
	if (was->multi_conn && !is->multi_conn)
		return nr_error_set(error, -EINVAL,
				    "a flush does not cover all connections any more");
	for (unsigned i = 0; i < NR_CAP_COUNT; i++) {
		bool writes = i != NR_CAP_FLUSH && i != NR_CAP_CACHE && i != NR_CAP_EXTENTS;

		if (was->support[i] == NR_NATIVE && is->support[i] != NR_NATIVE &&
		    !(writes && is->read_only))
			return nr_error_set(error, -EINVAL, "the disk has no %s any more",
					    nr_capability_name((enum nr_capability)i));
	}
	return 0;
}

static void close_backend(struct gate *g)
{
	struct nr_layer *backend = g->layer->below;

	if (g->is_open)
		nr_layer_close(backend);
	g->is_open = false;
}

static int open_backend(struct gate *g, struct nr_error *error)
{
	struct nr_layer *backend = g->layer->below;
	bool read_only = atomic_load(&g->read_only);
	struct nr_traits was = g->layer->traits;
	int err;

	was.size = nr_layer_size(backend);
	memcpy(backend->instance, backend->internal.image, backend->type->instance_size);
	if (read_only)
		backend->read_only = true;
	err = nr_layer_open(backend, error);
	if (err)
		return err;
	g->is_open = true;
	err = check_same(&was, &backend->traits, read_only, error);
	if (err) {
		close_backend(g);
		atomic_store(&backend->internal.size, was.size);
	} else if (backend->traits.size != was.size) {
		nr_layer_resized(backend, backend->traits.size);
	}
	return err;
}

static void reopen(struct nr_job *job)
{
	struct gate *g = (struct gate *)((char *)job - offsetof(struct gate, job));
	struct nr_layer *backend = g->layer->below;
	struct nr_error error = { 0 };
	int err;

	(void)pthread_mutex_lock(&g->mutex);
	close_backend(g);
	err = open_backend(g, &error);
	(void)pthread_mutex_unlock(&g->mutex);
	if (err)
		nr_layer_log(backend, NR_LAYER_WARNING, "cannot be opened again: %s", error.text);
	else
		nr_layer_log(backend, NR_LAYER_INFO, "opened again");
}

static void reopened(struct nr_job *job)
{
	struct gate *g = (struct gate *)((char *)job - offsetof(struct gate, job));
	bool is_open = !nr_gate_is_down(g->layer);
	struct nr_request *asker = g->asker;

	atomic_fetch_add(&g->attempts, 1);
	if (is_open)
		atomic_fetch_and(&g->word, ~NOT_OPEN);
	atomic_store(&g->state, is_open ? GATE_OPEN : GATE_DOWN);
	resume_all(g);
	nr_resume(asker->internal.at, asker);
}

const struct nr_layer_type nr_gate_type = {
	.abi = NR_LAYER_ABI,
	.name = "gate",
	.summary = "keeps requests from a backend that is being opened anew",
	.kind = NR_FILTER,
	.placement = NR_SPREAD,
	.instance_size = sizeof(struct gate),
	.request_size = sizeof(struct state),
	.session_size = sizeof(struct client),
	.open = gate_open,
	.admit = gate_admit,
	.submit = gate_submit,
	.done = gate_done,
	.contexts_pass = true,
	.data_passes = true,
	.child_done = gate_flushed,
	.resume = gate_submit,
	.close = gate_close,
};
