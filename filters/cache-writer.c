/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Writing back.
 *
 * A job takes a dirty block and its dirty neighbours, reads them from the store into one
 * piece of memory (a copy, so that a client may write into the slots meanwhile) and
 * writes them below, in as few requests as the layer there takes.  Its children have a
 * parent of their own, the carrier, which goes nowhere.
 *
 * Who begins jobs:
 *
 *	the writer   a background request that is there while something is dirty.  It
 *	             naps, and begins jobs for what is old enough; for anything while
 *	             more is dirty than half of the limit; for all there is when the
 *	             clients have gone, because the export is only kept open by it then
 *	a flush      for all that is dirty when it comes
 *	FUA, ranges  for their blocks
 *
 * A job that fails leaves its blocks dirty, to be tried again, and is told to the next
 * flush.  Who waits for jobs waits for the end of any, and looks again.
 */
#include <assert.h>
#include <errno.h>
#include <string.h>

#include "filters/cache.h"

#define JOBS_MAX 8u
#define NAP_NS UINT64_C(20000000)
#define AFTER_FAILURE_NS UINT64_C(1000000000)
#define TICKS_PER_AGE 16u
#define LOOKS_MAX 4096u /* at slots, in one go */

/* Waiting. */

void nr_cache_wait_for_job(struct nr_layer *layer, struct nr_request *req)
{
	struct nr_cache *c = nr_cache_of(layer);
	struct nr_cache_state_of_request *s = nr_scratch(layer, req);

	assert(c->jobs > 0);
	s->waiter = c->job_queue;
	c->job_queue = req;
}

static void wake_those_who_wait(struct nr_layer *layer)
{
	struct nr_cache *c = nr_cache_of(layer);
	struct nr_request *req = c->job_queue;

	c->job_queue = NULL;
	while (req) {
		struct nr_cache_state_of_request *s = nr_scratch(layer, req);
		struct nr_request *next = s->waiter;

		nr_resume(layer, req);
		req = next;
	}
}

/* Jobs. */

static struct nr_cache_job *job_of(struct nr_layer *layer, struct nr_request *carrier)
{
	struct nr_cache_state_of_request *s = nr_scratch(layer, carrier);

	assert(s->stage == NR_STAGE_JOB);
	return &s->run;
}

static void put_last(struct nr_cache *c, struct nr_cache_job *job)
{
	job->next = NULL;
	job->previous = c->newest;
	if (c->newest)
		c->newest->next = job;
	else
		c->oldest = job;
	c->newest = job;
	job->number = ++c->job_number;
	c->jobs++;
	c->writing += job->count;
}

static void take_out(struct nr_cache *c, struct nr_cache_job *job)
{
	if (job->previous)
		job->previous->next = job->next;
	else
		c->oldest = job->next;
	if (job->next)
		job->next->previous = job->previous;
	else
		c->newest = job->previous;
	c->jobs--;
	c->writing -= job->count;
}

static bool is_dirty_block(const struct nr_cache *c, uint64_t block)
{
	uint32_t slot = nr_cache_find(&c->map, block);

	return slot != NR_NO_SLOT && nr_cache_state_of(&c->map, slot) == NR_CACHE_DIRTY;
}

/* The dirty neighbours of BLOCK, on both sides. */
static void find_run(const struct nr_layer *layer, struct nr_cache_job *job, uint64_t block)
{
	const struct nr_cache *c = nr_cache_of(layer);
	uint64_t bytes = nr_min(NR_CACHE_RUN_MAX, layer->below->traits.block_max);
	uint32_t most = (uint32_t)nr_max(bytes >> c->shift, 1);

	job->first = block;
	job->count = 1;
	while (job->count < most / 2 && job->first > 0 && is_dirty_block(c, job->first - 1)) {
		job->first--;
		job->count++;
	}
	while (job->count < most && is_dirty_block(c, job->first + job->count))
		job->count++;
	while (job->count < most && job->first > 0 && is_dirty_block(c, job->first - 1)) {
		job->first--;
		job->count++;
	}
}

static void end_of_block(struct nr_cache *c, const struct nr_cache_job *job, uint64_t block)
{
	uint32_t slot = nr_cache_find(&c->map, block);
	enum nr_cache_state state;

	assert(slot != NR_NO_SLOT);
	state = nr_cache_state_of(&c->map, slot);
	if (!nr_cache_is_whole(c, block) && c->map.slot[slot].writers == 0)
		nr_cache_drop(&c->map, slot); /* the disk has become shorter */
	else if (state == NR_CACHE_WRITING && !job->error)
		nr_cache_set(&c->map, slot, NR_CACHE_CLEAN);
	else
		nr_cache_set(&c->map, slot, NR_CACHE_DIRTY);
}

/* The last thing done with the instance: the writer may end. */
static void end_job(struct nr_layer *layer, struct nr_cache_job *job)
{
	struct nr_cache *c = nr_cache_of(layer);
	struct nr_request *carrier = job->carrier;

	take_out(c, job);
	if (job->buffer)
		job->buffer->release(job->buffer);
	for (uint32_t i = 0; i < job->count; i++)
		end_of_block(c, job, job->first + i);
	if (job->error) {
		unsigned long long at = job->first << c->shift;

		if (c->failures == c->reported)
			nr_layer_log(layer, NR_LAYER_ERROR,
				     "writing back %u blocks at %llu: %s; they are kept and "
				     "tried again",
				     job->count, at, strerror(-job->error));
		c->failures++;
		nr_count_set(&c->figures.failed_jobs, c->failures);
		c->error = job->error;
		c->retry_at = nr_now(carrier->worker) + AFTER_FAILURE_NS;
	} else {
		nr_count_add(&c->figures.jobs, 1);
		nr_count_add(&c->figures.written_back, job->count);
	}
	nr_child_release(carrier);
	wake_those_who_wait(layer);
	if (c->writer)
		nr_cache_writer_turn(layer);
}

static void wait_for_memory(struct nr_layer *layer, struct nr_cache_job *job)
{
	struct nr_cache_state_of_request *s = nr_scratch(layer, job->carrier);

	if (s->retries++ < NR_CACHE_RETRIES) {
		nr_sleep(layer, job->carrier, NR_CACHE_RETRY_NS);
		return;
	}
	job->error = -ENOMEM;
	end_job(layer, job);
}

static void write_piece(struct nr_layer *layer, struct nr_cache_job *job)
{
	struct nr_cache *c = nr_cache_of(layer);
	uint64_t length = (uint64_t)job->count << c->shift;
	uint64_t piece = nr_min(length - job->written, layer->below->traits.block_max);
	struct nr_request *child = nr_child(layer, job->carrier, NR_WRITE,
					    (job->first << c->shift) + job->written, piece);

	if (!child) {
		wait_for_memory(layer, job);
		return;
	}
	child->segments[0] = (struct nr_segment){ job->data + job->written, piece, NULL };
	child->segment_count = 1;
	job->written += piece;
	job->under_way = 1;
	nr_pass(layer, child);
}

void nr_cache_job_go_on(struct nr_layer *layer, struct nr_request *carrier)
{
	write_piece(layer, job_of(layer, carrier));
}

/*
 * The slots of the run, a child for each piece that lies in one piece in the store.  The
 * run becomes as short as there is memory for.
 */
static void read_run(struct nr_layer *layer, struct nr_cache_job *job)
{
	struct nr_cache *c = nr_cache_of(layer);
	uint32_t most = nr_substack_traits(c->store)->block_max >> c->shift, i = 0;

	while (i < job->count) {
		uint32_t slot = nr_cache_find(&c->map, job->first + i), count = 1;
		struct nr_request *child;

		while (i + count < job->count && count < most &&
		       nr_cache_find(&c->map, job->first + i + count) == slot + count)
			count++;
		child = nr_child_in(layer, c->store, job->carrier, NR_READ,
				    nr_cache_slot_offset(c, slot), (uint64_t)count << c->shift);
		if (!child) {
			job->count = i;
			return;
		}
		job->under_way++;
		nr_enter(c->store, child);
		i += count;
	}
}

static void set_writing(struct nr_cache *c, const struct nr_cache_job *job)
{
	for (uint32_t i = 0; i < job->count; i++) {
		uint32_t slot = nr_cache_find(&c->map, job->first + i);

		nr_cache_set(&c->map, slot,
			     c->map.slot[slot].writers ? NR_CACHE_DIRTY_AGAIN : NR_CACHE_WRITING);
	}
}

bool nr_cache_write_back(struct nr_layer *layer, struct nr_request *parent, uint32_t slot)
{
	struct nr_cache *c = nr_cache_of(layer);
	struct nr_request *carrier = nr_child(layer, parent, NR_WRITE, 0, 0);
	struct nr_cache_state_of_request *s;
	struct nr_cache_job *job;

	assert(nr_cache_state_of(&c->map, slot) == NR_CACHE_DIRTY);
	if (!carrier)
		return false;
	/* What others have written is not given up when this client goes. */
	carrier->session = NULL;
	s = nr_scratch(layer, carrier);
	s->stage = NR_STAGE_JOB;
	s->retries = 0;
	job = &s->run;
	*job = (struct nr_cache_job){ .carrier = carrier };
	find_run(layer, job, nr_cache_block_of(&c->map, slot));
	job->buffer = nr_buffer_get(carrier->worker, (uint64_t)job->count << c->shift, &job->data);
	if (!job->buffer) {
		nr_child_release(carrier);
		return false;
	}
	read_run(layer, job);
	if (job->under_way == 0) {
		job->buffer->release(job->buffer);
		nr_child_release(carrier);
		return false;
	}
	set_writing(c, job);
	put_last(c, job);
	return true;
}

/* Where in the job the slot at OFFSET of the store belongs, bytes. */
static uint64_t place_of(const struct nr_cache *c, const struct nr_cache_job *job, uint64_t offset)
{
	uint32_t slot = (uint32_t)((offset - c->store_start) >> c->shift);

	return (nr_cache_block_of(&c->map, slot) - job->first) << c->shift;
}

void nr_cache_job_child(struct nr_layer *layer, struct nr_request *child)
{
	struct nr_cache *c = nr_cache_of(layer);
	struct nr_cache_job *job = job_of(layer, nr_child_parent(child));
	uint64_t length = (uint64_t)job->count << c->shift;

	job->under_way--;
	if (child->error && !job->error)
		job->error = child->error;
	if (child->error && child->operation == NR_READ)
		nr_count_add(&c->figures.store_errors, 1);
	else if (!child->error && child->operation == NR_READ)
		nr_request_copy_out(child, 0, child->length,
				    job->data + place_of(c, job, child->offset));
	nr_child_release(child);
	if (job->under_way)
		return;
	if (job->error || job->written == length)
		end_job(layer, job);
	else
		write_piece(layer, job);
}

/* The writer. */

static bool is_alone(const struct nr_cache *c)
{
	return atomic_load_explicit(&c->clients, memory_order_relaxed) == 0;
}

/* Are there clients at all?  Not in a stack within a stack. */
static bool has_seen_clients(const struct nr_cache *c)
{
	return atomic_load_explicit(&c->had_clients, memory_order_relaxed);
}

static void look_at_the_clock(struct nr_cache *c, struct nr_worker *worker)
{
	c->tick =
		(uint8_t)(nr_now(worker) / (c->dirty_age * (UINT64_C(1000000000) / TICKS_PER_AGE)));
}

void nr_cache_note_dirty(struct nr_cache *c, uint32_t slot)
{
	c->map.slot[slot].dirtied = c->tick;
}

/* The next slot from the hand on that is to be written back now. */
static uint32_t next_slot(struct nr_cache *c, bool all)
{
	for (unsigned looks = 0, rounds = 0; looks < LOOKS_MAX; looks++) {
		uint32_t slot = nr_cache_next_dirty(&c->map, c->hand);

		if (slot == NR_NO_SLOT) {
			c->hand = 0;
			if (++rounds > 1)
				break;
			continue;
		}
		c->hand = slot + 1;
		if (nr_cache_state_of(&c->map, slot) == NR_CACHE_DIRTY &&
		    (all || (uint8_t)(c->tick - c->map.slot[slot].dirtied) > TICKS_PER_AGE))
			return slot;
	}
	return NR_NO_SLOT;
}

static void begin_jobs(struct nr_layer *layer)
{
	struct nr_cache *c = nr_cache_of(layer);

	if (c->retry_at && nr_now(c->writer->worker) < c->retry_at)
		return;
	while (c->jobs < JOBS_MAX && c->map.dirty > c->writing) {
		bool all = c->map.dirty - c->writing > c->dirty_begin ||
			   (is_alone(c) && has_seen_clients(c));
		uint32_t slot = next_slot(c, all);

		if (slot == NR_NO_SLOT || !nr_cache_write_back(layer, c->writer, slot))
			break;
	}
}

static void end_writer(struct nr_cache *c)
{
	struct nr_request *writer = c->writer;

	c->writer = NULL;
	nr_child_release(writer); /* the export may be closed from here on */
}

static bool is_over(const struct nr_cache *c)
{
	if (c->jobs)
		return false;
	if (c->map.dirty == 0)
		return true;
	if (!has_seen_clients(c))
		return c->map.dirty <= c->dirty_begin || c->failures > c->writer_failures;
	/* The flush that comes when the export is closed tries once more. */
	return is_alone(c) && c->failures > c->writer_failures;
}

/* It is not asleep, and is so, over, or waiting for the end of a job afterwards. */
void nr_cache_writer_turn(struct nr_layer *layer)
{
	struct nr_cache *c = nr_cache_of(layer);

	if (c->writer_sleeps) {
		begin_jobs(layer);
		return;
	}
	look_at_the_clock(c, c->writer->worker);
	begin_jobs(layer);
	if (is_over(c)) {
		end_writer(c);
		return;
	}
	if (c->jobs && (is_alone(c) || !has_seen_clients(c)))
		return;
	c->writer_sleeps = true;
	nr_sleep(layer, c->writer, c->jobs || has_seen_clients(c) ? NAP_NS : NR_CACHE_RETRY_NS);
}

void nr_cache_pump(struct nr_layer *layer, struct nr_worker *worker)
{
	struct nr_cache *c = nr_cache_of(layer);
	struct nr_cache_state_of_request *s;

	if (c->map.dirty == 0)
		return;
	if (c->writer) {
		if (c->map.dirty - c->writing > c->dirty_begin)
			begin_jobs(layer);
		return;
	}
	if (!has_seen_clients(c) && c->map.dirty <= c->dirty_begin)
		return;
	c->writer = nr_background(layer, worker, NR_FLUSH, 0, 0);
	if (!c->writer)
		return;
	s = nr_scratch(layer, c->writer);
	s->stage = NR_STAGE_PASS;
	c->writer_failures = c->failures;
	c->writer_sleeps = true;
	nr_resume(layer, c->writer);
}

/* Flushes, and FUA. */

/* The slot to look at next: any dirty one, or that of a block of the write. */
static uint32_t next_to_flush(const struct nr_cache *c, const struct nr_request *req,
			      struct nr_cache_state_of_request *s)
{
	uint64_t end = req->operation == NR_WRITE ? (s->end - 1) >> c->shift : 0;
	uint32_t slot = NR_NO_SLOT;

	if (req->operation == NR_FLUSH) {
		slot = nr_cache_next_dirty(&c->map, (uint32_t)s->cursor);
		s->cursor = slot;
		return slot;
	}
	for (; s->cursor <= end; s->cursor++) {
		slot = nr_cache_find(&c->map, s->cursor);
		if (slot != NR_NO_SLOT && nr_cache_state_of(&c->map, slot) >= NR_CACHE_DIRTY &&
		    nr_cache_state_of(&c->map, slot) <= NR_CACHE_DIRTY_AGAIN)
			return slot;
	}
	return NR_NO_SLOT;
}

static void flush_below(struct nr_layer *layer, struct nr_request *req)
{
	struct nr_cache_state_of_request *s = nr_scratch(layer, req);
	struct nr_request *child;

	s->stage = NR_STAGE_FLUSH;
	if (layer->below->traits.support[NR_CAP_FLUSH] == NR_NONE) {
		nr_cache_finish(layer, req, 0);
		return;
	}
	child = nr_child(layer, req, NR_FLUSH, 0, 0);
	if (child)
		nr_pass(layer, child);
	else
		nr_cache_retry(layer, req);
}

/* All jobs that have to be waited for are over. */
static void all_written(struct nr_layer *layer, struct nr_request *req)
{
	struct nr_cache *c = nr_cache_of(layer);
	struct nr_cache_state_of_request *s = nr_scratch(layer, req);

	if (c->failures > s->failures) {
		if (req->operation == NR_FLUSH) {
			c->reported = c->failures;
			c->flush_failed = true;
		}
		nr_cache_finish(layer, req, c->error);
		return;
	}
	flush_below(layer, req);
}

void nr_cache_flush(struct nr_layer *layer, struct nr_request *req)
{
	struct nr_cache *c = nr_cache_of(layer);
	struct nr_cache_state_of_request *s = nr_scratch(layer, req);
	uint32_t slot;

	if (s->stage == NR_STAGE_FLUSH) {
		flush_below(layer, req);
		return;
	}
	while (s->job == 0 && (slot = next_to_flush(c, req, s)) != NR_NO_SLOT) {
		enum nr_cache_state state = nr_cache_state_of(&c->map, slot);

		if (state == NR_CACHE_DIRTY_AGAIN ||
		    (state == NR_CACHE_DIRTY && c->jobs >= JOBS_MAX)) {
			nr_cache_wait_for_job(layer, req);
			return;
		}
		if (state == NR_CACHE_DIRTY && !nr_cache_write_back(layer, req, slot)) {
			nr_cache_retry(layer, req);
			return;
		}
		/* Of a run that became short it may not be part: then it is DIRTY still. */
		if (state == NR_CACHE_WRITING)
			s->cursor++; /* what is written is new enough */
	}
	s->job = nr_max(s->job, c->job_number);
	if (c->oldest && c->oldest->number <= s->job)
		nr_cache_wait_for_job(layer, req);
	else
		all_written(layer, req);
}
