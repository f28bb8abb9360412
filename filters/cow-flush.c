/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The filter `cow`: flushes of an overlay that stays.
 *
 * A round: note which pages of the map have changed, and what they hold; flush the store,
 * so that all the data these pages speak of is stable; write them; flush again.  So the
 * map in the file never says "data" of what is not there.  Without a changed page, one
 * flush is all.
 *
 * A round covers the requests that were waiting when it began; whoever comes later waits
 * for the next one.  The requests may be on several workers.
 *
 * When a round has failed its pages are as if they had just changed, but the flush of the
 * next one will fail as well (a file's does, once it has), so nothing is promised wrongly.
 */
#include <errno.h>

#include "filters/cow.h"

#define PAGES_UNDER_WAY 8u

static nr_cow_step lead, covered, write_pages;

void nr_cow_flushes_init(struct nr_cow_flushes *flushes)
{
	pthread_mutex_init(&flushes->mutex, NULL);
	flushes->waiting_end = &flushes->waiting;
}

void nr_cow_flushes_fini(struct nr_cow_flushes *flushes)
{
	pthread_mutex_destroy(&flushes->mutex);
}

/* The round is over: its requests are, and the next one that waits leads another. */
static void round_over(struct nr_layer *layer, struct nr_request *req, struct nr_cow_state *s,
		       int error)
{
	struct cow *c = layer->instance;
	struct nr_cow_flushes *f = &c->flushes;
	struct nr_cow_state *done = f->covered, *next;

	while (f->pages && error) {
		struct nr_cow_page *page = f->pages;

		f->pages = page->taken;
		nr_cow_map_give_back(&c->shared.map, page);
	}
	f->pages = NULL;
	f->covered = NULL;
	pthread_mutex_lock(&f->mutex);
	next = f->waiting;
	if (next) {
		f->waiting = next->next;
		if (!f->waiting)
			f->waiting_end = &f->waiting;
	}
	f->busy = next;
	pthread_mutex_unlock(&f->mutex);
	if (next) {
		next->go_on = lead;
		nr_resume(layer, next->req);
	}
	while (done) {
		struct nr_cow_state *of = done;

		done = of->next;
		of->error = error;
		of->go_on = covered;
		nr_resume(layer, of->req);
	}
	nr_finish(layer, req, error);
}

static void covered(struct nr_layer *layer, struct nr_request *req, struct nr_cow_state *s)
{
	nr_finish(layer, req, s->error);
}

/* Flush the store; THEN gets the child. */
static void flush_store(struct nr_layer *layer, struct nr_request *req, struct nr_cow_state *s,
			nr_cow_child_step *then, nr_cow_step *again)
{
	struct cow *c = layer->instance;
	struct nr_request *child = nr_child_in(layer, c->store, req, NR_FLUSH, 0, 0);

	if (!child) {
		if (!nr_cow_wait(layer, req, s, again))
			round_over(layer, req, s, -ENOMEM);
		return;
	}
	s->child_done = then;
	nr_enter(c->store, child);
}

/* What the store's flush did not make stable may be lost, and stays so. */
static void note_failure(struct nr_layer *layer, int error)
{
	struct cow *c = layer->instance;

	if (error)
		atomic_store(&c->flushes.failed, true);
}

static void map_stable(struct nr_layer *layer, struct nr_request *req, struct nr_cow_state *s,
		       struct nr_request *child)
{
	const struct cow *c = layer->instance;
	int error = child->error;

	nr_child_release(child);
	note_failure(layer, error);
	for (struct nr_cow_page *page = c->flushes.pages; page && !error; page = page->taken)
		page->version++;
	round_over(layer, req, s, error);
}

static void flush_map(struct nr_layer *layer, struct nr_request *req, struct nr_cow_state *s)
{
	flush_store(layer, req, s, map_stable, flush_map);
}

static void pages_over(struct nr_layer *layer, struct nr_request *req, struct nr_cow_state *s)
{
	if (s->error)
		round_over(layer, req, s, s->error);
	else
		flush_map(layer, req, s);
}

static void page_written(struct nr_layer *layer, struct nr_request *req, struct nr_cow_state *s,
			 struct nr_request *child)
{
	/* The memory of its place is the child's: see send_page. */
	struct nr_buffer *buffer = child->segments[0].owner;

	if (child->error)
		s->error = child->error;
	buffer->release(buffer);
	nr_child_release(child);
	s->under_way--;
	write_pages(layer, req, s);
}

/* False: no memory. */
static bool send_page(struct nr_layer *layer, struct nr_request *req,
		      const struct nr_cow_page *page)
{
	struct cow *c = layer->instance;
	uint8_t *place;
	struct nr_buffer *buffer = nr_buffer_get(req->worker, NR_COW_PLACE_BYTES, &place);
	struct nr_request *child = NULL;

	if (buffer)
		child = nr_child_in(layer, c->store, req, NR_WRITE,
				    nr_cow_place_at(page->index, page->version + 1),
				    NR_COW_PLACE_BYTES);
	if (!child) {
		if (buffer)
			buffer->release(buffer);
		return false;
	}
	nr_cow_place_write(page, place);
	child->segments[0] = (struct nr_segment){ place, NR_COW_PLACE_BYTES, buffer };
	child->segment_count = 1;
	nr_enter(c->store, child);
	return true;
}

static void write_pages(struct nr_layer *layer, struct nr_request *req, struct nr_cow_state *s)
{
	s->child_done = page_written;
	while (s->page && !s->error && s->under_way < PAGES_UNDER_WAY) {
		if (!send_page(layer, req, s->page)) {
			if (!s->under_way && !nr_cow_wait(layer, req, s, write_pages))
				round_over(layer, req, s, -ENOMEM);
			return;
		}
		s->page = s->page->taken;
		s->under_way++;
	}
	if (!s->under_way)
		pages_over(layer, req, s);
}

static void data_stable(struct nr_layer *layer, struct nr_request *req, struct nr_cow_state *s,
			struct nr_request *child)
{
	const struct cow *c = layer->instance;
	int error = child->error;

	nr_child_release(child);
	note_failure(layer, error);
	s->page = c->flushes.pages;
	s->under_way = 0;
	if (error || !s->page)
		round_over(layer, req, s, error);
	else
		write_pages(layer, req, s);
}

static void flush_data(struct nr_layer *layer, struct nr_request *req, struct nr_cow_state *s)
{
	flush_store(layer, req, s, data_stable, flush_data);
}

/* Begin a round for REQ and all that wait. */
static void lead(struct nr_layer *layer, struct nr_request *req, struct nr_cow_state *s)
{
	struct cow *c = layer->instance;
	struct nr_cow_flushes *f = &c->flushes;

	pthread_mutex_lock(&f->mutex);
	f->covered = f->waiting;
	f->waiting = NULL;
	f->waiting_end = &f->waiting;
	pthread_mutex_unlock(&f->mutex);
	f->pages = nr_cow_map_take_changed(&c->shared.map);
	s->error = 0;
	flush_data(layer, req, s);
}

void nr_cow_flush(struct nr_layer *layer, struct nr_request *req, struct nr_cow_state *s)
{
	struct cow *c = layer->instance;
	struct nr_cow_flushes *f = &c->flushes;
	bool first;

	/* What is temporary does not outlive the server, and who reads only has no changes. */
	if (!c->path || layer->read_only) {
		nr_finish(layer, req, 0);
		return;
	}
	s->req = req;
	s->next = NULL;
	pthread_mutex_lock(&f->mutex);
	first = !f->busy;
	f->busy = true;
	if (!first) {
		*f->waiting_end = s;
		f->waiting_end = &s->next;
	}
	pthread_mutex_unlock(&f->mutex);
	if (first)
		lead(layer, req, s);
}
