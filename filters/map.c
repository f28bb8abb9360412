/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The filter `map`: ranges of the disk below, put together in another way.
 *
 * A request that lies in one range moves there and back in place.  One that lies in
 * several becomes children, a batch of at most BATCH at a time, side by side; a batch
 * that is back is answered in the order of the disk, and the next one sets out.  A
 * question for extents is answered up to the end of its first range: clients ask on.
 *
 * A child that writes takes its part along in a buffer of its own: parts of the
 * client's memory would not begin where the disk below wants data to begin.
 *
 * The table is made when the disk is opened and never changes.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "filters/filters.h"
#include "filters/map-table.h"
#include "filters/window.h"
#include "nbdring/checked.h"

#define BATCH 8u
#define FILE_MAX ((size_t)64 << 20) /* bytes of a map-file */

struct map {
	struct nr_strings words;
	const char *path;
	uint64_t size; /* bytes; 0: that of the disk below */
	struct nr_map_table table;
};

struct part {
	struct nr_request *child;
	struct nr_buffer *buffer; /* of a write */
};

struct state {
	uint64_t shift;  /* in one range: how far it is moved, modulo 2^64 */
	uint64_t length; /* extents: as asked; what went down may be shorter */
	uint64_t next;   /* in several: what lies before this offset is under way or done */
	uint32_t count;  /* parts in the batch */
	uint32_t left;   /* of them under way */
	int error;       /* the first of a part */
	struct part part[BATCH];
};

static const struct nr_param params[] = {
	{ .name = "map",
	  .type = NR_PARAM_LIST,
	  .offset = offsetof(struct map, words),
	  .value = "RANGE:DEST",
	  .help = "a range and where it is below: START-END:DEST or START+LENGTH:DEST",
	  .manual =
		  "A range of the disk and where its bytes are on the disk below, as "
		  "I<START>B<->I<END>B<:>I<DEST> (I<START> and I<END> are the first and the last "
		  "byte) or I<START>B<+>I<LENGTH>B<:>I<DEST>. Numbers are bytes, with C<K>, C<M>, "
		  "C<G>, C<T>, C<P>, C<E> (powers of 1024) or C<s> (sectors of 512) behind them "
		  "where wanted. Give it once for each range; ranges must not overlap." },
	{ .name = "map-file",
	  .type = NR_PARAM_PATH,
	  .flags = NR_PARAM_AGAIN,
	  .offset = offsetof(struct map, path),
	  .value = "PATH",
	  .help = "a file with such ranges, one per line",
	  .manual = "A file with more ranges, one on each line. Empty lines, spaces around a "
		    "range, and what follows a C<#> do not count." },
	{ .name = "map-size",
	  .type = NR_PARAM_SIZE,
	  .offset = offsetof(struct map, size),
	  .min = 1,
	  .value = "SIZE",
	  .help = "size of the disk; else that of the disk below" },
	{ .name = NULL },
};

static int read_file(struct map *m, struct nr_error *error)
{
	FILE *file = fopen(m->path, "re");
	char *text = NULL;
	size_t length = 0, room = 0, got = 1;
	int err = 0;

	if (!file)
		return nr_error_system(error, -errno, "%s", m->path);
	while (!err && got > 0) {
		if (length == room) {
			char *more = realloc(text, room = room ? 2 * room : 4096);

			if (!more) {
				err = nr_error_system(error, -ENOMEM, "%s", m->path);
				break;
			}
			text = more;
		}
		got = fread(text + length, 1, room - length, file);
		length += got;
		if (length > FILE_MAX)
			err = nr_error_set(error, -EFBIG, "%s: the file is over %zu bytes", m->path,
					   FILE_MAX);
	}
	if (!err && ferror(file))
		err = nr_error_system(error, -EIO, "%s", m->path);
	fclose(file);
	if (!err) {
		err = nr_map_table_add_lines(&m->table, text, length, error);
		if (err)
			nr_error_prefix(error, "%s", m->path);
	}
	free(text);
	return err;
}

static int open_map(struct nr_layer *layer, struct nr_error *error)
{
	struct map *m = layer->instance;
	int err = 0;

	for (size_t i = 0; i < m->words.count && !err; i++)
		err = nr_map_table_add(&m->table, m->words.item[i], strlen(m->words.item[i]),
				       error);
	if (!err && m->path)
		err = read_file(m, error);
	if (!err)
		err = nr_map_table_sort(&m->table, error);
	if (err)
		nr_map_table_free(&m->table);
	return err;
}

static void close_map(struct nr_layer *layer)
{
	struct map *m = layer->instance;

	nr_map_table_free(&m->table);
}

static int describe(struct nr_layer *layer, struct nr_traits *t, struct nr_error *error)
{
	const struct map *m = layer->instance;
	uint64_t size = m->size ? m->size : t->size;
	int err = nr_map_table_check(&m->table, size, t->size, t->block_min, error);

	if (err)
		return err;
	if (m->size && !nr_is_aligned(size, t->block_min))
		return nr_error_set(error, -EINVAL,
				    "map-size=%" PRIu64 " is not a multiple of the %u-byte blocks "
				    "below; use map-size=%" PRIu64 " or put --filter=blocksize "
				    "below",
				    size, t->block_min,
				    nr_max(nr_round_down(size, t->block_min), t->block_min));
	t->size = size;
	t->support[NR_CAP_RESIZE] = NR_NONE;
	return 0;
}

/* In several ranges. */

/* The part from s->next on sets out; negative errno when there is no memory for it. */
static int start_part(struct nr_layer *layer, struct nr_request *req, struct state *s)
{
	const struct map *m = layer->instance;
	struct part *part = &s->part[s->count];
	uint64_t run, from = s->next - req->offset;
	uint64_t dest = nr_map_table_find(&m->table, s->next, &run);
	struct nr_request *child;
	uint8_t *data;

	run = nr_min(run, req->length - from);
	child = nr_child(layer, req, req->operation, dest, run);
	if (!child)
		return -ENOMEM;
	part->child = child;
	part->buffer = NULL;
	child->flags = req->flags;
	if (req->operation == NR_WRITE) {
		part->buffer = nr_buffer_get(req->worker, run, &data);
		if (!part->buffer) {
			nr_child_release(child);
			return -ENOMEM;
		}
		nr_request_copy_out(req, from, run, data);
		child->segments[0] = (struct nr_segment){ data, run, NULL };
		child->segment_count = 1;
	}
	s->next += run;
	s->count++;
	s->left++;
	nr_pass(layer, child);
	return 0;
}

static void start_batch(struct nr_layer *layer, struct nr_request *req, struct state *s)
{
	int err = 0;

	s->count = s->left = 0;
	while (s->count < BATCH && s->next < req->offset + req->length && !err)
		err = start_part(layer, req, s);
	/* What did set out comes back and makes room for the rest. */
	if (s->count == 0)
		nr_finish(layer, req, err);
}

/* What a child has read becomes the parent's. */
static int take_answer(struct nr_request *req, struct nr_request *child)
{
	int err = 0;

	for (uint32_t i = 0; i < child->segment_count && !err; i++) {
		struct nr_segment *s = &child->segments[i];
		bool taken = s->data ? nr_answer_data(req, s->data, s->length, s->owner)
				     : nr_answer_hole(req, s->length);

		s->owner = NULL;
		if (!taken)
			err = -EIO;
	}
	return err;
}

static void end_batch(struct nr_layer *layer, struct nr_request *req, struct state *s)
{
	for (uint32_t i = 0; i < s->count; i++) {
		struct part *part = &s->part[i];

		if (req->operation == NR_READ && !s->error)
			s->error = take_answer(req, part->child);
		nr_child_release(part->child);
		if (part->buffer)
			part->buffer->release(part->buffer);
	}
	if (s->error || s->next == req->offset + req->length)
		nr_finish(layer, req, s->error);
	else
		start_batch(layer, req, s);
}

static void child_done(struct nr_layer *layer, struct nr_request *child)
{
	struct nr_request *req = nr_child_parent(child);
	struct state *s = nr_scratch(layer, req);

	if (child->error && !s->error)
		s->error = child->error;
	if (--s->left == 0)
		end_batch(layer, req, s);
}

/* In one range. */

static void submit_moved(struct nr_layer *layer, struct nr_request *req, struct state *s,
			 uint64_t dest, uint64_t run)
{
	s->shift = dest - req->offset;
	s->length = req->length;
	if (req->operation == NR_EXTENTS) {
		req->length = nr_min(req->length, run);
		req->extents->end = req->offset + req->length;
	}
	nr_window_enter(req, s->shift);
	nr_pass(layer, req);
}

static void submit(struct nr_layer *layer, struct nr_request *req)
{
	const struct map *m = layer->instance;
	struct state *s = nr_scratch(layer, req);
	uint64_t dest, run;

	if (req->operation == NR_FLUSH) {
		nr_pass(layer, req);
		return;
	}
	dest = nr_map_table_find(&m->table, req->offset, &run);
	if (run >= req->length || req->operation == NR_EXTENTS) {
		submit_moved(layer, req, s, dest, run);
		return;
	}
	if (req->flags & NR_FAST_ZERO) {
		nr_finish(layer, req, -ENOTSUP); /* a part could be refused after others */
		return;
	}
	s->error = 0;
	s->next = req->offset;
	start_batch(layer, req, s);
}

static void done(struct nr_layer *layer, struct nr_request *req)
{
	const struct state *s = nr_scratch(layer, req);

	if (req->operation != NR_FLUSH) {
		nr_window_leave(req, s->shift);
		req->length = s->length;
		if (req->operation == NR_EXTENTS)
			req->extents->end = req->offset + req->length;
	}
	nr_finish(layer, req, req->error);
}

const struct nr_layer_type nr_map_type = {
	.abi = NR_LAYER_ABI,
	.name = "map",
	.summary = "puts ranges of the disk below together in another way",
	.kind = NR_FILTER,
	.placement = NR_SPREAD,
	.params = params,
	.instance_size = sizeof(struct map),
	.request_size = sizeof(struct state),
	.open = open_map,
	.describe = describe,
	.submit = submit,
	.done = done,
	.contexts_pass = true,
	.data_passes = true,
	.child_done = child_done,
	.close = close_map,
};
