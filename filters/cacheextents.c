/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The allocation map of a disk that is slow to tell it, remembered.
 *
 * A question that cannot be answered is asked below for more than the client wants to
 * know: more extents, and a longer range.  What comes back is kept by region, of which
 * the disk has up to REGIONS; of each region one stretch is known.  So a client that
 * asks for one extent after the other waits for few of them.
 *
 * Writes take no lock: each region has a counter, which counts every change when it comes
 * and again when it is done, before its client knows.  What is known of a region is good
 * as long as the counter is what it was when the question was asked.  The lock is for
 * questions only.
 *
 * Questions for other metadata contexts than base:allocation are passed on.
 */
#include <errno.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "filters/filters.h"
#include "nbdring/checked.h"

#define REGIONS 4096u
#define REGION_SHIFT_MIN 20
#define LIST_BYTES 16384u /* of the answer to one question below */
#define COUNTERS_BYTES (REGIONS * sizeof(uint32_t))
#define ASK_MIN (UINT64_C(1) << 30)      /* bytes one question is for, if the disk has them */
#define EXTENTS_MAX (UINT32_C(64) << 10) /* all that a worker remembers: 1 MiB */

/* An extent, from where the one before ends. */
struct known {
	uint64_t end; /* bytes */
	uint64_t status;
};

struct region {
	uint32_t stamp; /* the counter when this was asked for */
	uint32_t count, room;
	uint64_t from, to; /* the stretch that is known, bytes */
	struct known *known;
};

/* What a worker remembers. */
struct table {
	uint32_t extents; /* in all regions */
	struct region region[REGIONS];
};

struct cacheextents {
	unsigned shift;            /* a region has 1 << shift bytes, the last one the rest */
	_Atomic uint32_t *changes; /* in each region: the counter */
	unsigned tables;
	struct table **table; /* by worker */
	nr_count answered, asked;
};

/* Of a question that went below. */
struct asked {
	struct nr_buffer *buffer;
	struct nr_extents list;
	uint32_t first;    /* region */
	uint32_t *counter; /* of it and those behind it, before the question went */
};

static uint32_t region_of(const struct cacheextents *c, uint64_t offset)
{
	return (uint32_t)nr_min(offset >> c->shift, REGIONS - 1);
}

/* Where the region behind R begins. */
static uint64_t region_end(const struct cacheextents *c, uint32_t r)
{
	return r == REGIONS - 1 ? UINT64_MAX : (uint64_t)(r + 1) << c->shift;
}

static uint32_t counter(const struct cacheextents *c, uint32_t r)
{
	return atomic_load(&c->changes[r]);
}

/* Remembering. */

static void forget(struct table *t, struct region *region)
{
	t->extents -= region->count;
	region->count = 0;
	region->from = region->to = 0;
}

static void forget_all(struct table *t)
{
	for (uint32_t r = 0; r < REGIONS; r++) {
		struct region *region = &t->region[r];

		forget(t, region);
		free(region->known);
		region->known = NULL;
		region->room = 0;
	}
}

/* False: no memory. */
static bool make_room(struct region *region)
{
	uint32_t room = region->room ? 2 * region->room : 4;
	struct known *grown;

	if (region->count < region->room)
		return true;
	grown = realloc(region->known, room * sizeof(*grown));
	if (!grown)
		return false;
	region->known = grown;
	region->room = room;
	return true;
}

/* LENGTH bytes of STATUS at OFFSET, all in region R, whose counter was STAMP. */
static void remember_part(struct table *t, uint32_t r, uint32_t stamp, uint64_t offset,
			  uint64_t length, uint64_t status)
{
	struct region *region = &t->region[r];

	if (region->count && (region->to != offset || region->stamp != stamp))
		forget(t, region);
	if (t->extents == EXTENTS_MAX)
		forget_all(t);
	if (!region->count) {
		region->from = region->to = offset;
		region->stamp = stamp;
	}
	if (!region->count || region->known[region->count - 1].status != status) {
		if (!make_room(region))
			return; /* the stretch ends here */
		region->known[region->count++].status = status;
		t->extents++;
	}
	region->to += length;
	region->known[region->count - 1].end = region->to;
}

static void remember(const struct cacheextents *c, struct table *t, const struct asked *asked)
{
	const struct nr_extents *list = &asked->list;
	uint64_t at = list->start;

	for (uint32_t i = 0; i < list->count; i++) {
		uint64_t end = at + list->extent[i].length;

		while (at < end) {
			uint32_t r = region_of(c, at);
			uint64_t length = nr_min(end, region_end(c, r)) - at;

			remember_part(t, r, asked->counter[r - asked->first], at, length,
				      list->extent[i].status);
			at += length;
		}
	}
}

/* Answering. */

static struct table *table_of(const struct cacheextents *c, const struct nr_request *req)
{
	return c->table[nr_worker_index(req->worker)];
}

/* Does the answer take one of STATUS? */
static bool takes(const struct nr_request *req, uint64_t status)
{
	const struct nr_extents *list = req->extents;

	return !(req->flags & NR_REQ_ONE) || list->count == 0 ||
	       list->extent[list->count - 1].status == status;
}

/* The extent of REGION that AT lies in. */
static uint32_t find(const struct region *region, uint64_t at)
{
	uint32_t low = 0, high = region->count - 1;

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;

		if (region->known[middle].end > at)
			high = middle;
		else
			low = middle + 1;
	}
	return low;
}

/* What is known of the region at the end of REQ's answer; false: that is the end of it. */
static bool answer_region(const struct cacheextents *c, const struct table *t,
			  const struct nr_request *req)
{
	struct nr_extents *list = req->extents;
	uint32_t r = region_of(c, list->next);
	const struct region *region = &t->region[r];

	if (!region->count || list->next < region->from || list->next >= region->to ||
	    region->stamp != counter(c, r))
		return false;
	for (uint32_t i = find(region, list->next); i < region->count; i++) {
		const struct known *known = &region->known[i];

		if (!takes(req, known->status) ||
		    !nr_extents_add(list, known->end - list->next, known->status))
			return false;
	}
	return list->next < list->end;
}

/* As far as it is known; false: nothing is. */
static bool answer(const struct cacheextents *c, const struct nr_request *req)
{
	const struct table *t = table_of(c, req);

	while (answer_region(c, t, req))
		;
	return req->extents->count > 0;
}

/* Asking. */

static void came_back(struct nr_layer *layer, struct nr_request *req, struct asked *asked,
		      int error)
{
	struct cacheextents *c = layer->instance;
	struct nr_extents *list = &asked->list;

	if (!error)
		remember(c, table_of(c, req), asked);
	for (uint32_t i = 0; !error && i < list->count; i++)
		if (!takes(req, list->extent[i].status) ||
		    !nr_extents_add(req->extents, list->extent[i].length, list->extent[i].status))
			break;
	asked->buffer->release(asked->buffer);
	nr_finish(layer, req, error);
}

static void child_done(struct nr_layer *layer, struct nr_request *child)
{
	struct nr_request *req = nr_child_parent(child);
	int error = child->error;

	nr_child_release(child);
	came_back(layer, req, nr_scratch(layer, req), error);
}

static void ask(struct nr_layer *layer, struct nr_request *req)
{
	struct cacheextents *c = layer->instance;
	struct asked *asked = nr_scratch(layer, req);
	uint64_t size = nr_round_down(nr_layer_size(layer->below), layer->below->traits.block_min);
	uint64_t length = nr_min(nr_max(req->length, ASK_MIN), size - nr_min(size, req->offset));
	struct nr_request *child = NULL;
	uint8_t *data;

	length = nr_max(length, req->length);
	asked->buffer = nr_buffer_get(req->worker, LIST_BYTES + COUNTERS_BYTES, &data);
	if (asked->buffer)
		child = nr_child(layer, req, NR_EXTENTS, req->offset, length);
	if (!child) {
		if (asked->buffer)
			asked->buffer->release(asked->buffer);
		nr_pass(layer, req);
		return;
	}
	asked->list = (struct nr_extents){ .start = req->offset,
					   .next = req->offset,
					   .end = req->offset + length,
					   .capacity = LIST_BYTES / sizeof(struct nr_extent),
					   .extent = (struct nr_extent *)(void *)data };
	asked->first = region_of(c, req->offset);
	asked->counter = (uint32_t *)(void *)(data + LIST_BYTES);
	for (uint32_t r = asked->first; r <= region_of(c, req->offset + length - 1); r++)
		asked->counter[r - asked->first] = counter(c, r);
	child->extents = &asked->list;
	nr_count_add_shared(&c->asked, 1);
	nr_pass(layer, child);
}

/* Changes. */

static bool changes(const struct nr_request *req)
{
	return req->operation == NR_WRITE || req->operation == NR_TRIM ||
	       req->operation == NR_ZERO || req->operation == NR_RESIZE;
}

static void count_change(struct cacheextents *c, const struct nr_request *req)
{
	uint32_t first = 0, last = REGIONS - 1;

	if (req->operation != NR_RESIZE && req->length) {
		first = region_of(c, req->offset);
		last = region_of(c, req->offset + req->length - 1);
	}
	for (uint32_t r = first; r <= last; r++)
		atomic_fetch_add(&c->changes[r], 1);
}

static void answered(struct nr_layer *layer, struct nr_request *req)
{
	struct cacheextents *c = layer->instance;

	nr_count_add_shared(&c->answered, 1);
	nr_finish(layer, req, 0);
}

static void submit(struct nr_layer *layer, struct nr_request *req)
{
	struct cacheextents *c = layer->instance;

	if (changes(req))
		count_change(c, req);
	if (req->operation != NR_EXTENTS || req->metadata)
		nr_pass(layer, req);
	else if (answer(c, req))
		answered(layer, req);
	else
		ask(layer, req);
}

static void done(struct nr_layer *layer, struct nr_request *req)
{
	if (changes(req))
		count_change(layer->instance, req);
	nr_finish(layer, req, req->error);
}

/* Life. */

static void close_layer(struct nr_layer *layer)
{
	struct cacheextents *c = layer->instance;

	for (unsigned i = 0; c->table && i < c->tables; i++) {
		if (c->table[i])
			forget_all(c->table[i]);
		free(c->table[i]);
	}
	free(c->table);
	free(c->changes);
}

static bool make_tables(struct cacheextents *c, unsigned workers)
{
	c->tables = workers;
	c->changes = calloc(REGIONS, sizeof(*c->changes));
	c->table = calloc(workers, sizeof(struct table *));
	for (unsigned i = 0; c->table && i < workers; i++) {
		/* Real memory only when this worker's clients ask. */
		c->table[i] = calloc(1, sizeof(struct table));
		if (!c->table[i])
			return false;
	}
	return c->changes && c->table;
}

static int open_layer(struct nr_layer *layer, struct nr_error *error)
{
	struct cacheextents *c = layer->instance;

	if (!make_tables(c, nr_max(layer->worker_count, 1))) {
		close_layer(layer);
		return nr_error_system(error, -ENOMEM, "remembering the map");
	}
	c->shift = REGION_SHIFT_MIN;
	while (nr_layer_size(layer->below) >> c->shift >= REGIONS)
		c->shift++;
	return 0;
}

static const struct nr_figure figures[] = {
	{ .name = "answered",
	  .offset = offsetof(struct cacheextents, answered),
	  .help = "Questions for the map that were answered from memory" },
	{ .name = "asked",
	  .offset = offsetof(struct cacheextents, asked),
	  .help = "Questions that went below" },
	{ .name = NULL },
};

const struct nr_layer_type nr_cacheextents_type = {
	.abi = NR_LAYER_ABI,
	.name = "cacheextents",
	.summary = "remembers the allocation map of a slow disk",
	.kind = NR_FILTER,
	.placement = NR_SPREAD,
	.instance_size = sizeof(struct cacheextents),
	.figures = figures,
	.request_size = sizeof(struct asked),
	.open = open_layer,
	.submit = submit,
	.done = done,
	.contexts_pass = true,
	.data_passes = true,
	.child_done = child_done,
	.close = close_layer,
};
