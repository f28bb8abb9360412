/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Writes that wait for those of other files.  See file-stuck.h.
 *
 * What is watched of a file is a list, oldest first: writes, and fallocate, which is not
 * known to go through the queues but may on some kernel.  While the oldest does not come
 * back, one after the other is cancelled, in every beat the next, until one that has not
 * been begun comes back so.  Cancelling one that has been begun, or that the kernel does not
 * find, does nothing.  If the file itself stalls, the thread that gets it waits, too, and no
 * other is tried.
 *
 * Some file systems let go of a call that is under way when it is cancelled.  Then a part
 * of it may have been carried out.  All of it is done again: the bytes are the same, and
 * nobody has been told that the first ones are there.
 *
 * While a file goes around the ring (`around`), operations wait in `queue` and are handed
 * to the pool as one job at a time, so a file has one thread.  The first one to come out of
 * the kernel's queue by itself ends that.
 *
 * Cost of the common way: a place in a list, and out of it.  The clock is read only for
 * files that go around the ring.
 */
#include "backends/file-stuck.h"

#include <assert.h>
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "ring/offload-shared.h"

#define BEATS 2u /* of the ring's pulse that the oldest has seen: it is too late */
#define AROUND_NS UINT64_C(10000000000)
#define BATCH 32u        /* operations of one job: they are answered together */
#define PAUSE_NS 1000000 /* before what said EAGAIN is done again, … */
#define TRIES_MAX 250u   /* … as often as the ring would */

/*
 * Files that are helped at a time, on all workers.  Those that stall themselves keep their
 * thread for so long: when 256 do, no other is helped.
 */
#define THREADS_MAX 256

/* Of one file, on one worker. */
struct nr_stuck {
	_Alignas(64) struct nr_file_op *first, **tail; /* in the ring, oldest first */
	struct nr_pulse pulse;                         /* joined while there are some */
	uint8_t seen;                                  /* beats, by the oldest; BEATS: or more */
	bool around;                                   /* the ring is gone around … */
	bool moved;     /* one came back by itself since one was cancelled */
	uint64_t until; /* … until then, or longer */
	struct nr_file_op *queue, **queue_tail; /* for a thread */
	struct nr_file_op *batch;               /* with a thread; NULL: no job is under way */
	struct nr_job job;
};

static struct nr_offload_shared threads = NR_OFFLOAD_SHARED_INIT;

static struct nr_stuck *stuck_of(const struct nr_file_op *op)
{
	return &nr_disk_worker(op)->stuck[op->file - op->disk->file];
}

/* ---- on a thread ------------------------------------------------------- */

/* EINTR and EAGAIN mean again, as in the ring. */
static int64_t carry_out(struct nr_file_op *op)
{
	static const struct timespec pause = { .tv_nsec = PAUSE_NS };
	int64_t result;
	unsigned tries = 0;

	while ((result = op->plain(op)) < 0) {
		if (result == -EAGAIN && tries++ < TRIES_MAX)
			(void)nanosleep(&pause, NULL);
		else if (result != -EINTR)
			break;
	}
	return result;
}

static void run(struct nr_job *job)
{
	struct nr_stuck *s = (struct nr_stuck *)((char *)job - offsetof(struct nr_stuck, job));

	for (struct nr_file_op *op = s->batch; op; op = op->next)
		op->completion.result = carry_out(op);
}

/* ---- to and from it ---------------------------------------------------- */

static void done(struct nr_job *job);

static void begin_job(struct nr_stuck *s, struct nr_ring *ring)
{
	struct nr_file_op **end = &s->queue;

	if (s->batch || !s->queue)
		return;
	for (unsigned i = 0; i < BATCH && *end; i++)
		end = &(*end)->next;
	s->batch = s->queue;
	s->queue = *end;
	*end = NULL;
	if (!s->queue)
		s->queue_tail = &s->queue;
	s->job = (struct nr_job){ .run = run, .done = done, .home = ring };
	nr_offload_submit(threads.pool, &s->job);
}

static void give_to_thread(struct nr_stuck *s, struct nr_file_op *op)
{
	op->next = NULL;
	*s->queue_tail = op;
	s->queue_tail = &op->next;
	begin_job(s, nr_worker_ring(op->req->worker));
}

static void cancel(struct nr_ring *ring, struct nr_file_op *op)
{
	op->cancelled = true;
	nr_ring_cancel(ring, &op->completion);
}

/* The file is well, and the ring does not get to it. */
static void go_around(struct nr_stuck *s, struct nr_ring *ring)
{
	s->around = true;
	s->until = nr_ring_now(ring) + AROUND_NS;
	for (struct nr_file_op *op = s->first; op; op = op->next)
		cancel(ring, op);
}

static void done(struct nr_job *job)
{
	struct nr_stuck *s = (struct nr_stuck *)((char *)job - offsetof(struct nr_stuck, job));
	struct nr_file_op *op = s->batch, *next;
	struct nr_ring *ring = job->home;

	s->batch = NULL;
	if (!s->around && !s->moved)
		go_around(s, ring);
	for (; op; op = next) {
		next = op->next;
		op->completion.done(ring, &op->completion);
	}
	begin_job(s, ring);
}

/* ---- in the ring ------------------------------------------------------- */

static void beat(struct nr_ring *ring, struct nr_pulse *pulse)
{
	struct nr_stuck *s = (struct nr_stuck *)((char *)pulse - offsetof(struct nr_stuck, pulse));
	struct nr_file_op *op = s->first;

	assert(op);
	if (s->seen < BEATS)
		s->seen++;
	/* Who tries the ring for a file that goes around it need not wait for long. */
	if (!s->around && (s->seen < BEATS || s->batch))
		return;
	while (op && op->cancelled)
		op = op->next;
	if (!op)
		return;
	if (s->around)
		s->until = nr_ring_now(ring) + AROUND_NS;
	s->moved = false;
	cancel(ring, op);
}

/* Not for who tries the ring on behalf of those that go around it. */
static bool goes_apart(const struct nr_stuck *s, const struct nr_file_op *op)
{
	return !s->first && !s->around && !op->disk->direct && !op->file->begins_writes;
}

bool nr_stuck_enter(struct nr_file_op *op, nr_plain_fn *plain)
{
	struct nr_ring *ring = nr_worker_ring(op->req->worker);
	struct nr_stuck *s = stuck_of(op);

	op->plain = plain;
	if (s->around && (s->first || nr_ring_now(ring) < s->until)) {
		give_to_thread(s, op);
		return false;
	}
	op->apart = goes_apart(s, op);
	op->watched = true;
	op->cancelled = false;
	op->next = NULL;
	op->link = s->tail;
	*s->tail = op;
	s->tail = &op->next;
	if (op->link == &s->first)
		nr_ring_pulse_join(ring, &s->pulse);
	return true;
}

bool nr_stuck_leave(struct nr_file_op *op)
{
	struct nr_stuck *s = stuck_of(op);

	op->watched = false;
	if (op->link == &s->first)
		s->seen = 0;
	*op->link = op->next;
	if (op->next)
		op->next->link = op->link;
	else
		s->tail = op->link;
	if (!s->first)
		nr_ring_pulse_leave(&s->pulse);
	if (op->cancelled && op->completion.result == -ECANCELED) {
		give_to_thread(s, op);
		return true;
	}
	if (!op->apart) {
		s->moved = true;
		s->around = false;
	}
	return false;
}

/* ---- opening and closing ----------------------------------------------- */

static struct nr_stuck *new_stuck(unsigned files)
{
	struct nr_stuck *s = aligned_alloc(_Alignof(struct nr_stuck), files * sizeof(*s));

	if (!s)
		return NULL;
	memset(s, 0, files * sizeof(*s));
	for (unsigned i = 0; i < files; i++) {
		s[i].tail = &s[i].first;
		s[i].queue_tail = &s[i].queue;
		s[i].pulse.beat = beat;
	}
	return s;
}

static void free_all(struct nr_disk *disk)
{
	for (unsigned i = 0; i < disk->worker_count; i++) {
		free(disk->worker[i].stuck);
		disk->worker[i].stuck = NULL;
	}
}

int nr_stuck_open(struct nr_disk *disk)
{
	for (unsigned i = 0; i < disk->worker_count; i++) {
		disk->worker[i].stuck = new_stuck(disk->count);
		if (!disk->worker[i].stuck) {
			free_all(disk);
			return -ENOMEM;
		}
	}
	if (nr_offload_shared_acquire(&threads, THREADS_MAX))
		return 0;
	free_all(disk);
	return -ENOMEM;
}

void nr_stuck_close(struct nr_disk *disk)
{
	nr_offload_shared_release(&threads);
	free_all(disk);
}
