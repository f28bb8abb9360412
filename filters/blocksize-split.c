/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The filter `blocksize`: cutting what is longer than the layer below takes.
 *
 * Pieces end at multiples of the limit on the disk, so that each stays within the
 * limit when it is rounded out to whole blocks.  A few of them are under way at a
 * time, however long the request is.  They come back in any order and are taken in
 * that of the disk, so that the answer of a read is put together by moving their
 * segments: no byte is copied, unless the pieces are so small that they would be
 * more segments than an answer can have.
 *
 * After the first error no more pieces are made; the request ends with it when
 * those under way are back.
 */
#include <errno.h>

#include "filters/blocksize.h"
#include "nbdring/checked.h"

/* Each may bring several of the NR_SEGMENTS_MAX segments. */
#define PIECES_MOVED_MAX 64

/*
 * Let PIECE have the part of its parent's data that begins at FROM, as it lies in
 * memory.  False: it lies in too many parts, or not aligned.
 */
static bool share_data(const struct nr_layer *layer, const struct nr_request *parent, uint64_t from,
		       struct nr_request *piece)
{
	uint32_t align = layer->below->traits.memory_align;
	uint64_t left = piece->length;

	for (uint32_t i = 0; left; i++) {
		const struct nr_segment *whole = &parent->segments[i];
		uint64_t part;

		if (from >= whole->length) {
			from -= whole->length;
			continue;
		}
		part = nr_min(whole->length - from, left);
		if (piece->segment_count == NR_SEGMENTS_INLINE ||
		    !nr_is_aligned((uintptr_t)(whole->data + from), align))
			return false;
		piece->segments[piece->segment_count++] =
			(struct nr_segment){ whole->data + from, part, NULL };
		left -= part;
		from = 0;
	}
	return true;
}

/* False: no memory for one. */
static bool make_piece(struct nr_layer *layer, struct nr_request *req, struct split *split)
{
	const struct blocksize *b = layer->instance;
	uint64_t limit = b->limit[req->operation];
	uint64_t length =
		nr_min(limit - split->next % limit, req->offset + req->length - split->next);
	struct nr_request *piece = nr_child(layer, req, req->operation, split->next, length);
	struct state *s;

	if (!piece)
		return false;
	s = nr_scratch(layer, piece);
	s->role = ROLE_PIECE;
	s->over = false;
	s->copy = false;
	piece->flags = req->flags;
	if (req->operation == NR_WRITE &&
	    !share_data(layer, req, split->next - req->offset, piece)) {
		piece->segment_count = 0;
		s->copy = true;
	}
	split->piece[split->issued++ % NR_BLOCKSIZE_PIECES] = piece;
	split->next += length;
	nr_blocksize_fit(layer, piece, s);
	return true;
}

/* Its answer becomes the next part of the whole one. */
static int move_answer(struct nr_request *req, struct split *split, struct nr_request *piece)
{
	bool fits = true;

	if (split->buffer) {
		nr_request_copy_out(piece, 0, piece->length,
				    split->data + (piece->offset - req->offset));
		return 0;
	}

	for (uint32_t i = 0; i < piece->segment_count; i++) {
		const struct nr_segment *segment = &piece->segments[i];

		if (segment->data)
			fits &= nr_answer_data(req, segment->data, segment->length, segment->owner);
		else
			fits &= nr_answer_hole(req, segment->length);
	}
	piece->segment_count = 0; /* their references have been given away */
	return fits ? 0 : -ENOMEM;
}

static void take_piece(struct nr_layer *layer, struct nr_request *req, struct split *split)
{
	struct nr_request *piece = split->piece[split->taken++ % NR_BLOCKSIZE_PIECES];
	const struct state *s = nr_scratch(layer, piece);
	int error = s->error;

	if (!error && !split->error && req->operation == NR_READ)
		error = move_answer(req, split, piece);
	if (!split->error)
		split->error = error;
	nr_child_release(piece);
}

static bool oldest_is_over(struct nr_layer *layer, const struct split *split)
{
	const struct state *s;

	if (split->taken == split->issued)
		return false;
	s = nr_scratch(layer, split->piece[split->taken % NR_BLOCKSIZE_PIECES]);
	return s->over;
}

static void finish(struct nr_layer *layer, struct nr_request *req, struct split *split)
{
	/* The answer takes the buffer over; it has room for this one segment. */
	if (split->buffer && !split->error)
		nr_answer_data(req, split->data, req->length, split->buffer);
	else if (split->buffer)
		split->buffer->release(split->buffer);
	nr_finish(layer, req, split->error);
}

/* Take what is over, make what there is room for.  Pieces may end while they are made. */
static void go_on(struct nr_layer *layer, struct nr_request *req, struct split *split)
{
	uint64_t end = req->offset + req->length;
	bool more = true;

	split->busy = true;
	while (more) {
		more = false;
		if (req->session && req->session->gone && !split->error)
			split->error = -ESHUTDOWN; /* nobody waits for the rest */
		while (oldest_is_over(layer, split))
			take_piece(layer, req, split);
		if (split->next < end && !split->error &&
		    split->issued - split->taken < NR_BLOCKSIZE_PIECES) {
			more = make_piece(layer, req, split);
			/* Without memory it goes on when a piece is back. */
			if (!more && split->issued == split->taken)
				split->error = -ENOMEM;
		}
	}
	split->busy = false;
	if (split->issued == split->taken)
		finish(layer, req, split);
}

void nr_blocksize_split(struct nr_layer *layer, struct nr_request *req, struct state *s)
{
	const struct blocksize *b = layer->instance;

	s->split.issued = s->split.taken = 0;
	s->split.next = req->offset;
	s->split.error = 0;
	s->split.buffer = NULL;
	if (req->operation == NR_READ && req->length / b->limit[NR_READ] >= PIECES_MOVED_MAX) {
		s->split.buffer = nr_buffer_get(req->worker, req->length, &s->split.data);
		if (!s->split.buffer) {
			if (!nr_blocksize_wait(layer, req, s))
				nr_finish(layer, req, -ENOMEM);
			return;
		}
	}
	go_on(layer, req, &s->split);
}

void nr_blocksize_piece_over(struct nr_layer *layer, struct nr_request *piece, int error)
{
	struct nr_request *req = nr_child_parent(piece);
	struct state *s = nr_scratch(layer, piece);
	struct state *whole = nr_scratch(layer, req);

	s->over = true;
	s->error = error;
	if (!whole->split.busy)
		go_on(layer, req, &whole->split);
}
