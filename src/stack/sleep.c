/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Requests that wait for a time: a heap of them per worker, earliest first, and
 * one timeout of the ring for the earliest.
 *
 * The heap grows when more requests sleep than ever before and is kept; a request
 * sleeps at most once at a time, so it is never larger than the number of requests.
 * A worker without a ring (tests) looks at the clock in nr_worker_run instead.
 */
#include <assert.h>
#include <stdlib.h>
#include <time.h>

#include "nbdring/checked.h"
#include "src/stack/worker.h"

struct nr_sleeper {
	uint64_t wake_at; /* nanoseconds */
	struct nr_request *req;
};

uint64_t nr_now(struct nr_worker *worker)
{
	struct timespec now;

	if (worker->ring)
		return nr_ring_now(worker->ring);
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* The heap. */

static void move_up(struct nr_sleeper *heap, size_t i)
{
	struct nr_sleeper moving = heap[i];

	while (i > 0 && heap[(i - 1) / 2].wake_at > moving.wake_at) {
		heap[i] = heap[(i - 1) / 2];
		i = (i - 1) / 2;
	}
	heap[i] = moving;
}

static void move_down(struct nr_sleeper *heap, size_t count, size_t i)
{
	struct nr_sleeper moving = heap[i];

	for (size_t child = 2 * i + 1; child < count; child = 2 * i + 1) {
		if (child + 1 < count && heap[child + 1].wake_at < heap[child].wake_at)
			child++;
		if (heap[child].wake_at >= moving.wake_at)
			break;
		heap[i] = heap[child];
		i = child;
	}
	heap[i] = moving;
}

static bool put_in(struct nr_worker *worker, uint64_t wake_at, struct nr_request *req)
{
	if (worker->sleeper_count == worker->sleeper_room) {
		size_t room = worker->sleeper_room ? worker->sleeper_room * 2 : 64;
		struct nr_sleeper *more = realloc(worker->sleepers, room * sizeof(*more));

		if (!more)
			return false;
		worker->sleepers = more;
		worker->sleeper_room = room;
	}
	worker->sleepers[worker->sleeper_count] = (struct nr_sleeper){ wake_at, req };
	move_up(worker->sleepers, worker->sleeper_count++);
	return true;
}

static struct nr_request *take_first(struct nr_worker *worker)
{
	struct nr_request *req = worker->sleepers[0].req;

	worker->sleepers[0] = worker->sleepers[--worker->sleeper_count];
	if (worker->sleeper_count)
		move_down(worker->sleepers, worker->sleeper_count, 0);
	return req;
}

/* Waking. */

static void set_alarm(struct nr_worker *worker);

void nr_worker_wake_sleepers(struct nr_worker *worker)
{
	uint64_t now = nr_now(worker);

	while (worker->sleeper_count && worker->sleepers[0].wake_at <= now) {
		struct nr_request *req = take_first(worker);
		struct nr_layer *layer = req->internal.at;

		layer->type->resume(layer, req);
	}
}

static void alarm_rang(struct nr_ring *ring, struct nr_completion *alarm)
{
	struct nr_worker *worker =
		(struct nr_worker *)((char *)alarm - offsetof(struct nr_worker, alarm));

	nr_worker_wake_sleepers(worker);
	set_alarm(worker);
}

static void set_alarm(struct nr_worker *worker)
{
	uint64_t first, now;

	if (!worker->ring || !worker->sleeper_count)
		return;
	first = worker->sleepers[0].wake_at;
	if (nr_completion_busy(&worker->alarm)) {
		/* An earlier one has come: its end sets the alarm anew. */
		if (first < worker->alarm_at)
			nr_ring_cancel(worker->ring, &worker->alarm);
		return;
	}
	now = nr_now(worker);
	worker->alarm_at = first;
	worker->alarm.done = alarm_rang;
	nr_ring_timeout(worker->ring, &worker->alarm, first > now ? first - now : 1);
}

void nr_sleep(struct nr_layer *layer, struct nr_request *req, uint64_t nanoseconds)
{
	struct nr_worker *worker = req->worker;
	uint64_t wake_at;

	assert(req->internal.at == layer);
	assert(layer->type->resume);
	if (!nr_add(nr_now(worker), nanoseconds, &wake_at))
		wake_at = UINT64_MAX;
	if (put_in(worker, wake_at, req))
		set_alarm(worker);
	else
		nr_resume(layer, req); /* no memory to be late */
}
