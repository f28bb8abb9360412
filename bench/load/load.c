/*
 * The load itself. A worker is a thread with one ring and some connections; it shares
 * nothing while it runs. One turn: enter the kernel once, take what arrived, and for every
 * connection that something happened on send all new requests with one gather send. The
 * client must cost little beside the server it measures: that is the point of everything
 * here.
 *
 * Times are taken twice a turn, when the kernel returns (for answers) and before new
 * requests are written; on a busy server a turn is some tens of microseconds.
 *
 * What is counted is all of it: from the first request to the last answer, with the
 * processor time of the server over exactly that span. Handshakes are outside.
 */
#include "bench/load/load.h"

#include "bench/load/content.h"
#include "bench/load/cpuof.h"
#include "bench/common/clock.h"
#include "bench/common/ringsetup.h"

#include <err.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define TICK_NS 250000000LL
#define STALL_TICKS 120U

enum event { EVENT_RECV, EVENT_SEND, EVENT_TICK };

#define EVENT_MASK 3U

struct worker {
	struct worker_view view;
	struct io_uring ring;
	struct conn *conns;
	unsigned conn_count;
	struct conn *touched;
	uint64_t deadline; /* 0: none */
	struct __kernel_timespec tick;
	uint64_t requests_at_tick;
	unsigned still_ticks;
	uint64_t began, ended;
	pthread_t thread;
};

/* The only place that makes user_data; dispatch() is the only one that reads it. */
static void set_event(struct io_uring_sqe *sqe, void *object, enum event event)
{
	sqe->user_data = (uint64_t)(uintptr_t)object | event;
}

static void touch(struct worker *w, struct conn *c)
{
	if (c->touched)
		return;
	c->touched = true;
	c->next_touched = w->touched;
	w->touched = c;
}

static void arm_tick(struct worker *w)
{
	struct io_uring_sqe *sqe = ring_sqe(&w->ring);

	w->tick = (struct __kernel_timespec){ .tv_nsec = TICK_NS };
	io_uring_prep_timeout(sqe, &w->tick, 0, 0);
	set_event(sqe, w, EVENT_TICK);
}

static void arm_receive(struct worker *w, struct conn *c)
{
	struct io_uring_sqe *sqe = ring_sqe(&w->ring);

	io_uring_prep_recv(sqe, c->fd, c->window + c->have, c->window_size - c->have, 0);
	if (c->drained)
		sqe->ioprio |= IORING_RECVSEND_POLL_FIRST; /* an attempt now would be in vain */
	set_event(sqe, c, EVENT_RECV);
	c->receiving = true;
}

static void start_send(struct worker *w, struct conn *c, struct gather *batch)
{
	struct io_uring_sqe *sqe = ring_sqe(&w->ring);

	gather_prepare(batch, sqe, c->fd);
	set_event(sqe, c, EVENT_SEND);
	c->sending = true;
}

static void on_receive(struct worker *w, struct conn *c, int result)
{
	size_t used;

	c->receiving = false;
	if (result == 0)
		conn_lost(c, "the server closed the connection");
	if (result < 0 && result != -EINTR && result != -EAGAIN)
		conn_lost(c, "receive: %s", strerror(-result));
	if (result > 0) {
		c->drained = (size_t)result < c->window_size - c->have;
		c->have += (size_t)result;
		used = conn_parse(c, c->window, c->have);
		c->have -= used;
		memmove(c->window, c->window + used, c->have);
	}
	touch(w, c);
}

static void on_send(struct worker *w, struct conn *c, int result)
{
	struct gather *batch = &c->batch[!c->filling];

	if (result < 0 && result != -EINTR && result != -EAGAIN)
		conn_lost(c, "send: %s", strerror(-result));
	c->sending = false;
	if (!gather_sent(batch, result > 0 ? (size_t)result : 0))
		start_send(w, c, batch);
	touch(w, c);
}

static void on_tick(struct worker *w)
{
	if (w->view.tally.requests != w->requests_at_tick)
		w->still_ticks = 0;
	else if (++w->still_ticks == STALL_TICKS)
		errx(1, "no answer for %llu seconds with %llu requests in flight",
		     STALL_TICKS * TICK_NS / 1000000000LL, (unsigned long long)w->view.in_flight);
	w->requests_at_tick = w->view.tally.requests;
	arm_tick(w);
}

static void dispatch(struct worker *w, const struct io_uring_cqe *cqe)
{
	void *object = (void *)(uintptr_t)(cqe->user_data & ~(uint64_t)EVENT_MASK);

	switch ((enum event)(cqe->user_data & EVENT_MASK)) {
	case EVENT_RECV:
		on_receive(w, object, cqe->res);
		break;
	case EVENT_SEND:
		on_send(w, object, cqe->res);
		break;
	case EVENT_TICK:
		on_tick(w);
		break;
	}
}

/* After the answers: new requests, one send, and ready to receive again. */
static void serve_touched(struct worker *w)
{
	bool over;

	w->view.now = clock_ns(CLOCK_MONOTONIC);
	over = w->deadline && w->view.now >= w->deadline;
	for (struct conn *c = w->touched; c; c = c->next_touched) {
		c->touched = false;
		if (over)
			conn_stop(c);
		conn_fill(c);
		if (!c->sending && !gather_empty(&c->batch[c->filling])) {
			struct gather *batch = &c->batch[c->filling];

			c->filling = !c->filling;
			start_send(w, c, batch);
			conn_fill(c);
		}
		if (!c->receiving)
			arm_receive(w, c);
	}
	w->touched = NULL;
}

static void take_completions(struct worker *w)
{
	struct io_uring_cqe *cqe;
	unsigned head, seen = 0;

	w->view.now = clock_ns(CLOCK_MONOTONIC);
	io_uring_for_each_cqe(&w->ring, head, cqe)
	{
		dispatch(w, cqe);
		seen++;
	}
	io_uring_cq_advance(&w->ring, seen);
}

static void *worker_main(void *argument)
{
	struct worker *w = argument;
	unsigned entries = w->conn_count < 2000 ? 2 * w->conn_count + 8 : 4096;

	ring_open(&w->ring, entries);
	w->began = clock_ns(CLOCK_MONOTONIC);
	if (w->conns[0].plan->options->seconds > 0)
		w->deadline = w->began + (uint64_t)(w->conns[0].plan->options->seconds * 1e9);
	arm_tick(w);
	for (unsigned i = 0; i < w->conn_count; i++) {
		w->conns[i].drained = true;
		touch(w, &w->conns[i]);
	}
	serve_touched(w);
	while (w->view.in_flight) {
		int ret = io_uring_submit_and_wait(&w->ring, 1);

		if (ret < 0 && ret != -EINTR && ret != -EAGAIN && ret != -EBUSY)
			errx(1, "io_uring enter: %s", strerror(-ret));
		take_completions(w);
		serve_touched(w);
	}
	w->ended = clock_ns(CLOCK_MONOTONIC);
	io_uring_queue_exit(&w->ring);
	return NULL;
}

static void plan_payload(struct plan *plan)
{
	const struct options *o = plan->options;

	if (o->read_percent < 100 && o->verify == VERIFY_NOTHING && o->block_size > 0) {
		plan->payload = malloc(o->block_size);
		if (!plan->payload)
			errx(1, "out of memory for a block of %u bytes", o->block_size);
		content_fill(&o->content, 0, plan->payload, o->block_size);
	}
	if (o->verify == VERIFY_WRITTEN) {
		plan->written = calloc(plan->blocks, 1);
		if (!plan->written)
			errx(1, "out of memory to note which of %llu blocks are written",
			     (unsigned long long)plan->blocks);
	}
}

/* Whether the export can do what is asked, and what that is in blocks. */
static void plan_load(struct plan *plan, const struct options *o, const struct client *c)
{
	const struct nr_export_info *info = &c->agreement.info;
	uint64_t room = info->size > o->range_offset ? info->size - o->range_offset : 0;
	uint64_t range = o->range_size ? o->range_size : room;

	*plan = (struct plan){ .options = o,
			       .agreement = &c->agreement,
			       .range_offset = o->range_offset };
	if (range > room)
		errx(1, "the export has only %llu bytes", (unsigned long long)info->size);
	if (range < o->block_size)
		errx(1, "no block of %u bytes fits: the export has %llu bytes", o->block_size,
		     (unsigned long long)info->size);
	plan->blocks = (range - o->block_size) / o->stride + 1;
	if (info->block_min > 1 &&
	    (o->block_size % info->block_min || o->range_offset % info->block_min ||
	     o->stride % info->block_min))
		errx(1, "the export wants multiples of %u bytes", info->block_min);
	if (o->block_size > info->block_max)
		errx(1, "the export takes at most %u bytes at once", info->block_max);
	if (o->read_percent < 100 && info->flags & NBD_FLAG_READ_ONLY)
		errx(1, "the export is read-only");
	if (o->fua && !(info->flags & NBD_FLAG_SEND_FUA))
		errx(1, "the export does not offer FUA");
	if (o->flush_every && !(info->flags & NBD_FLAG_SEND_FLUSH))
		errx(1, "the export does not offer flush");
	plan->write_flags = o->fua ? NBD_CMD_FLAG_FUA : 0;
	plan_payload(plan);
}

static struct worker *make_workers(const struct options *o, const struct client *clients,
				   struct conn *conns, const struct plan *plan)
{
	struct worker *workers = calloc(o->threads, sizeof(*workers));

	if (!workers)
		errx(1, "out of memory for %u threads", o->threads);
	for (unsigned i = 0; i < o->threads; i++) {
		unsigned first = (unsigned)((uint64_t)o->connections * i / o->threads);
		unsigned end = (unsigned)((uint64_t)o->connections * (i + 1) / o->threads);

		workers[i].conns = conns + first;
		workers[i].conn_count = end - first;
		for (unsigned n = first; n < end; n++)
			conn_open(&conns[n], n, clients[n].fd, &workers[i].view, plan);
	}
	return workers;
}

static void sum_up(struct load_result *result, const struct worker *workers, unsigned count)
{
	struct tally *sum = &result->tally;
	uint64_t began = UINT64_MAX, ended = 0;

	for (unsigned i = 0; i < count; i++) {
		const struct tally *part = &workers[i].view.tally;

		sum->requests += part->requests;
		sum->bytes += part->bytes;
		sum->errors += part->errors;
		sum->mismatches += part->mismatches;
		if (!sum->first_error)
			sum->first_error = part->first_error;
		hist_merge(&sum->latency, &part->latency);
		sum->flushes += part->flushes;
		hist_merge(&sum->flush_latency, &part->flush_latency);
		began = workers[i].began < began ? workers[i].began : began;
		ended = workers[i].ended > ended ? workers[i].ended : ended;
	}
	result->elapsed_ns = ended - began;
}

void load_run(const struct options *o, const struct client *clients, struct load_result *result)
{
	struct conn *conns = calloc(o->connections, sizeof(*conns));
	struct cpuof server = { 0 };
	uint64_t client_before, server_before;
	struct worker *workers;
	struct plan plan;

	if (!conns)
		errx(1, "out of memory for %u connections", o->connections);
	if (o->cpu_of)
		cpuof_open(&server, o->cpu_of);
	plan_load(&plan, o, &clients[0]);
	workers = make_workers(o, clients, conns, &plan);
	memset(result, 0, sizeof(*result));
	client_before = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
	server_before = cpuof_ns(&server);
	for (unsigned i = 0; i < o->threads; i++)
		if (pthread_create(&workers[i].thread, NULL, worker_main, &workers[i]))
			errx(1, "cannot start thread %u", i);
	for (unsigned i = 0; i < o->threads; i++)
		pthread_join(workers[i].thread, NULL);
	result->server_cpu_ns = cpuof_ns(&server) - server_before;
	result->client_cpu_ns = clock_ns(CLOCK_PROCESS_CPUTIME_ID) - client_before;
	sum_up(result, workers, o->threads);
	for (unsigned i = 0; i < o->connections; i++)
		conn_close(&conns[i]);
	cpuof_close(&server);
	free(workers);
	free(conns);
	free(plan.payload);
	free(plan.written);
}
