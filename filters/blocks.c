/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * See blocks.h.
 *
 * A request answers what it finds in cells, from its beginning on.  At the first cell
 * that is not there it begins *loads* of all cells it will need, as far as there are
 * free ones, and waits; whenever a load ends, all who wait look again.
 *
 * A load makes one cell.  It reads its input with a request of its own, one after the
 * other: a background request, or, when there is none to be had (the disk is being
 * opened, the server stops), a child of the request that began it, which is not finished
 * before.  What has been read is decoded on a thread of nr_compute; that thread alone
 * touches the load meanwhile.
 *
 * In a span of several cells there is one load at a time.  Its decoder goes where it was
 * left off, and the cells on the way are made, too, unless they are very many.
 *
 * Reads that follow each other are noticed per stream, of which some are remembered;
 * then cells ahead are loaded as well, twice as many as there are processors, so that one
 * of them does not wait for another, nor for the reader: whenever a load ends the next
 * one begins.
 *
 * A question for extents is answered from what is known of grains.  If it begins in a
 * cell that is worth decoding for that, it waits for it like a read; if such a cell
 * comes later, the answer ends there, and the client asks again.  Either way it takes no
 * more than NR_BLOCKS_STEPS_MAX steps.
 */
#include "filters/blocks.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "filters/blocks-map.h"
#include "filters/cells.h"
#include "nbdring/checked.h"

#define LOADS_MAX 16u
#define STREAMS 8u
#define STREAM_SLACK ((uint64_t)4 << 20) /* reads of a stream may be this far out of order */
#define SKIP_BYTES 65536u                /* at a time, of what nobody wants */

struct nr_blocks_load {
	struct nr_blocks *blocks;
	struct nr_request *vehicle; /* NULL: the load is free */
	struct nr_request *owner;   /* whose child the vehicle is; NULL: nobody's */
	struct nr_cell *cell;
	size_t span;
	void *decoder;
	uint64_t in;   /* of the file: what lies before is used up */
	uint64_t skip; /* of what the vehicle reads: bytes before `in` */
	uint64_t at;   /* of the disk: what lies before is decoded */
	int status;    /* 1: more input is wanted, 0: the cell is made, or negative errno */
	uint8_t *unwanted;
};

/* A decoder in the middle of a span. */
struct paused {
	void *decoder; /* NULL: none */
	size_t span;
	uint64_t in, at;
	uint64_t used; /* when, by the engine's count */
};

struct stream {
	uint64_t at; /* where the next read is expected to begin */
	uint64_t used;
	bool in_order; /* more than one */
};

struct nr_blocks_engine {
	struct nr_cells cells;
	unsigned load_count, busy;
	struct nr_blocks_load load[LOADS_MAX];
	struct paused paused[NR_PAUSED_MAX];
	struct stream stream[STREAMS];
	uint64_t count; /* of uses */
	struct nr_request *waiting, **waiting_tail;
};

/* Life. */

int nr_blocks_start(struct nr_blocks *b, struct nr_error *error)
{
	struct nr_blocks_engine *e = calloc(1, sizeof(*e));
	cpu_set_t set;

	assert(b->whole_max <= b->cache_max / 4);
	if (!e || !nr_zeroes_reserve(&b->zeroes, b->grains)) {
		free(e);
		return nr_error_system(error, -ENOMEM, "a cache");
	}
	e->cells.max = b->cache_max;
	e->waiting_tail = &e->waiting;
	e->load_count = sched_getaffinity(0, sizeof(set), &set) == 0
				? (unsigned)nr_min((uint64_t)CPU_COUNT(&set), LOADS_MAX)
				: 1;
	b->engine = e;
	for (unsigned i = 0; i < e->load_count; i++)
		e->load[i].blocks = b;
	return 0;
}

void nr_blocks_free(struct nr_blocks *b)
{
	struct nr_blocks_engine *e = b->engine;

	if (e) {
		assert(e->busy == 0);
		for (unsigned i = 0; i < NR_PAUSED_MAX; i++)
			if (e->paused[i].decoder)
				b->codec->end(e->paused[i].decoder);
		nr_cells_free(&e->cells);
		free(e);
	}
	nr_zeroes_free(&b->zeroes);
	free(b->span);
	b->engine = NULL;
	b->span = NULL;
}

void nr_blocks_describe(const struct nr_blocks *b, struct nr_traits *t)
{
	t->size = b->size;
	t->block_min = 1;
	t->block_preferred = 65536;
	t->block_max = NR_TRANSFER_MAX;
	t->memory_align = 1;
	t->read_only = true;
	t->multi_conn = true;
	memset(t->support, NR_NONE, sizeof(t->support));
	t->support[NR_CAP_FLUSH] = NR_EMULATE;
	t->support[NR_CAP_CACHE] = NR_EMULATE;
	t->support[NR_CAP_EXTENTS] = NR_NATIVE;
}

/* Decoding, on a thread of nr_compute. */

/* Room for what comes next: in the cell, or for what lies before it. */
static void set_room(struct nr_blocks_load *load, struct nr_codec_io *io)
{
	struct nr_cell *cell = load->cell;

	if (load->at < cell->start) {
		io->out = load->unwanted;
		io->out_left = (size_t)nr_min(SKIP_BYTES, cell->start - load->at);
	} else {
		io->out = cell->data + (load->at - cell->start);
		io->out_left = (size_t)(cell->start + cell->length - load->at);
	}
}

/* As load->status: one step, and what it means. */
static int decode_step(struct nr_blocks_load *load, struct nr_codec_io *io)
{
	const struct nr_blocks *b = load->blocks;
	uint64_t cell_end = load->cell->start + load->cell->length;
	size_t room, input = io->in_left;
	int verdict;

	set_room(load, io);
	room = io->out_left;
	verdict = b->codec->step(load->decoder, io);
	assert(io->in_left <= input);
	assert(io->out_left <= room);
	load->in += input - io->in_left;
	load->at += room - io->out_left;
	if (verdict < 0)
		return verdict;
	if (verdict == NR_CODEC_END)
		return load->at == nr_blocks_span_end(b, load->span) ? 0 : -EIO;
	if (load->at == cell_end &&
	    !(cell_end == nr_blocks_span_end(b, load->span) && b->codec->ends))
		return 0;
	/* There is more than the table says, or the decoder is stuck. */
	if (input == io->in_left && room == io->out_left && input > 0)
		return -EIO;
	return 1;
}

static int decode_part(struct nr_blocks_load *load, const uint8_t *data, uint64_t length)
{
	struct nr_codec_io io = { .in = data, .in_left = (size_t)length };
	int status = 1;

	/* Also without input: there may be output that had no room before. */
	while (status > 0) {
		uint64_t in = load->in, at = load->at;

		status = decode_step(load, &io);
		if (in == load->in && at == load->at)
			break;
	}
	return status;
}

static int decode(struct nr_blocks_load *load)
{
	static const uint8_t zeroes[65536];
	const struct nr_blocks *b = load->blocks;
	const struct nr_span *span = &b->span[load->span];
	const struct nr_request *read = load->vehicle;
	uint64_t left = nr_min(read->length - load->skip, span->in + span->in_length - load->in);
	uint64_t skip = load->skip;
	int status = 1, error = -ENOMEM;

	if (!load->decoder)
		load->decoder = b->codec->begin(b->context, span, &error);
	if (!load->decoder)
		return error;
	if (load->at < load->cell->start && !load->unwanted)
		load->unwanted = malloc(SKIP_BYTES);
	if (load->at < load->cell->start && !load->unwanted)
		return -ENOMEM;
	if (left == 0)
		return decode_part(load, zeroes, 0);
	for (uint32_t i = 0; i < read->segment_count && left > 0 && status > 0; i++) {
		const struct nr_segment *s = &read->segments[i];
		uint64_t from = nr_min(skip, s->length), part = nr_min(s->length - from, left);

		skip -= from;
		left -= part;
		while (part > 0 && status > 0) {
			uint64_t now = s->data ? part : nr_min(part, sizeof(zeroes));

			status = decode_part(load, s->data ? s->data + from : zeroes, now);
			from += now;
			part -= now;
		}
	}
	return status;
}

static void give_up(struct nr_blocks_load *load)
{
	free(load->unwanted);
	load->unwanted = NULL;
	if (load->decoder)
		load->blocks->codec->end(load->decoder);
	load->decoder = NULL;
}

static void compute(struct nr_layer *layer, struct nr_request *vehicle)
{
	struct nr_blocks_state *s = nr_scratch(layer, vehicle);
	struct nr_blocks_load *load = s->load;
	const struct nr_blocks *b = load->blocks;

	load->status = decode(load);
	if (load->status > 0)
		return;
	if (load->status == 0)
		nr_cell_find_zeroes(load->cell);
	free(load->unwanted);
	load->unwanted = NULL;
	/* The last cell of the span, or damage: it is of no more use. */
	if (load->status < 0 || load->at == nr_blocks_span_end(b, load->span))
		give_up(load);
}

/* Loads. */

/* The decoder of SPAN that is the furthest but not beyond OFFSET; NULL: none. */
static struct paused *find_paused(struct nr_blocks_engine *e, size_t span, uint64_t offset)
{
	struct paused *best = NULL;

	for (unsigned i = 0; i < NR_PAUSED_MAX; i++) {
		struct paused *p = &e->paused[i];

		if (p->decoder && p->span == span && p->at <= offset && (!best || p->at > best->at))
			best = p;
	}
	return best;
}

static void pause_decoder(struct nr_blocks *b, const struct nr_blocks_load *load)
{
	struct nr_blocks_engine *e = b->engine;
	struct paused *oldest = &e->paused[0];

	for (unsigned i = 1; i < NR_PAUSED_MAX && oldest->decoder; i++)
		if (!e->paused[i].decoder || e->paused[i].used < oldest->used)
			oldest = &e->paused[i];
	if (oldest->decoder)
		b->codec->end(oldest->decoder);
	*oldest = (struct paused){ load->decoder, load->span, load->in, load->at, ++e->count };
}

static struct nr_blocks_load *free_load(struct nr_blocks_engine *e, size_t span, bool whole)
{
	struct nr_blocks_load *found = NULL;

	for (unsigned i = 0; i < e->load_count; i++) {
		if (!e->load[i].vehicle)
			found = &e->load[i];
		else if (e->load[i].span == span && !whole)
			return NULL;
	}
	return found;
}

/* The next bytes of the span. */
static void read_on(struct nr_layer *layer, struct nr_blocks_load *load)
{
	const struct nr_span *span = &load->blocks->span[load->span];
	const struct nr_traits *below = &layer->below->traits;
	/* Where all of the span is used up there may be output that had no room before. */
	uint64_t in = nr_min(load->in, span->in + span->in_length - 1), end;
	uint64_t start = nr_round_down(in, below->block_min);
	struct nr_request *vehicle = load->vehicle;

	nr_answer_clear(vehicle);
	if (!nr_round_up(span->in + span->in_length, below->block_min, &end))
		end = UINT64_MAX; /* the choke point refuses it */
	load->skip = load->in - start;
	vehicle->operation = NR_READ;
	vehicle->offset = start;
	vehicle->length = nr_min(end - start, below->block_max);
	nr_pass(layer, vehicle);
}

/* The request that reads for a load: nobody's, or else OWNER's, if that is not NULL. */
static struct nr_request *make_vehicle(struct nr_layer *layer, struct nr_worker *worker,
				       struct nr_request *owner, struct nr_blocks_load *load)
{
	struct nr_request *vehicle = nr_background(layer, worker, NR_READ, 0, 0);

	load->owner = NULL;
	if (!vehicle && owner) {
		struct nr_blocks_state *s = nr_scratch(layer, owner);

		vehicle = nr_child(layer, owner, NR_READ, 0, 0);
		load->owner = owner;
		s->children += vehicle != NULL;
	}
	if (vehicle)
		((struct nr_blocks_state *)nr_scratch(layer, vehicle))->load = load;
	return vehicle;
}

/*
 * Begin to load the cell of OFFSET, or one before it that has to be made first, for
 * OWNER; NULL: for nobody yet.  0, also when somebody else does; -EAGAIN: not before
 * another load has ended; -ENOMEM.
 */
static int begin_load(struct nr_layer *layer, struct nr_blocks *b, struct nr_worker *worker,
		      struct nr_request *owner, uint64_t offset)
{
	struct nr_blocks_engine *e = b->engine;
	size_t span = nr_blocks_span_of(b, offset);
	bool whole = nr_blocks_is_whole(b, span);
	struct nr_blocks_load *load;
	uint64_t end, start = nr_blocks_cell_of(b, span, offset, &end), first = b->span[span].out;
	struct paused *from = NULL;

	if (nr_cells_find(&e->cells, start))
		return 0;
	load = free_load(e, span, whole);
	if (!load)
		return -EAGAIN;
	if (!whole)
		from = find_paused(e, span, start);
	if (from)
		first = from->at;
	if (start - first <= b->cache_max / 8)
		for (start = first; nr_cells_find(&e->cells, start);)
			start = end = nr_min(start + NR_CELL_BYTES, nr_blocks_span_end(b, span));
	start = nr_blocks_cell_of(b, span, start, &end);
	load->cell = nr_cells_make(&e->cells, start, end - start);
	if (!load->cell)
		return e->busy ? -EAGAIN : -ENOMEM;
	load->vehicle = make_vehicle(layer, worker, owner, load);
	if (!load->vehicle) {
		nr_cells_drop(load->cell);
		return e->busy ? -EAGAIN : -ENOMEM;
	}
	load->span = span;
	load->decoder = from ? from->decoder : NULL;
	load->in = from ? from->in : b->span[span].in;
	load->at = first;
	if (from)
		from->decoder = NULL;
	e->busy++;
	read_on(layer, load);
	return 0;
}

/* Requests. */

static void wait(struct nr_layer *layer, struct nr_blocks_engine *e, struct nr_request *req)
{
	struct nr_blocks_state *s = nr_scratch(layer, req);

	s->next = NULL;
	*e->waiting_tail = req;
	e->waiting_tail = &s->next;
}

static void end_request(struct nr_layer *layer, struct nr_request *req, int error)
{
	struct nr_blocks_state *s = nr_scratch(layer, req);

	s->error = error;
	s->over = true;
	if (s->children == 0)
		nr_finish(layer, req, error);
}

/* What is there; 0: all of it, 1: the cell of s->at is missing, or negative errno. */
static int answer_some(struct nr_blocks *b, struct nr_request *req, struct nr_blocks_state *s)
{
	uint64_t end = req->offset + req->length;

	while (s->at < end) {
		uint64_t zeroes = nr_blocks_skip_zeroes(b, s->at, end) - s->at;
		uint64_t cell_end, start, length;
		struct nr_cell *cell;

		if (zeroes) {
			if (!nr_answer_hole(req, zeroes))
				return -ENOMEM;
			s->at += zeroes;
			continue;
		}
		start = nr_blocks_cell_of(b, nr_blocks_span_of(b, s->at), s->at, &cell_end);
		cell = nr_cells_find(&b->engine->cells, start);
		length = nr_min(end, cell_end) - s->at;
		if (!cell || !cell->ready)
			return 1;
		if (!nr_cell_answer(cell, req, s->at - start, length))
			return -ENOMEM;
		s->at += length;
	}
	return 0;
}

/* Answer, or see to it that what is missing comes. */
static void serve_read(struct nr_layer *layer, struct nr_blocks *b, struct nr_request *req)
{
	struct nr_blocks_state *s = nr_scratch(layer, req);
	int err = answer_some(b, req, s), begun = 0;
	uint64_t end = req->offset + req->length;

	if (err <= 0) {
		end_request(layer, req, err);
		return;
	}
	for (uint64_t at = s->at; at < end && !begun; at = nr_blocks_skip_zeroes(b, at, end)) {
		begun = begin_load(layer, b, req->worker, req, at);
		if (begun == -ENOMEM && at == s->at) {
			end_request(layer, req, begun);
			return;
		}
		nr_blocks_cell_of(b, nr_blocks_span_of(b, at), at, &at);
		at = nr_min(at, end);
	}
	wait(layer, b->engine, req);
}

/* True: as far as can be told.  False: its first cell is to be looked at before. */
static bool answer_extents(const struct nr_blocks *b, struct nr_request *req)
{
	struct nr_extents *list = req->extents;
	size_t span = nr_blocks_span_of(b, list->next);

	for (unsigned i = 0; i < NR_BLOCKS_STEPS_MAX && list->next < list->end; i++) {
		uint64_t at = list->next, to;
		enum nr_grain grain = nr_blocks_known_at(b, span, at, list->end, &to);

		if (grain == NR_GRAIN_UNKNOWN && nr_blocks_is_worth_it(b, span))
			return at > req->offset;
		if (!nr_extents_add(list, to - at,
				    grain == NR_GRAIN_ZERO ? NR_EXTENT_HOLE | NR_EXTENT_ZERO : 0) ||
		    ((req->flags & NR_REQ_ONE) && list->count > 1))
			break;
		span += to == nr_blocks_span_end(b, span);
	}
	return true;
}

/* Begin with the cells of a question that are worth it, as many as can be at a time. */
static void look_into(struct nr_layer *layer, struct nr_blocks *b, struct nr_request *req)
{
	uint64_t at = req->offset, end = req->offset + req->length, to;
	size_t span = nr_blocks_span_of(b, at);
	int begun = 0;

	for (unsigned i = 0; i < NR_BLOCKS_STEPS_MAX && at < end && !begun; i++) {
		if (nr_blocks_known_at(b, span, at, end, &to) == NR_GRAIN_UNKNOWN &&
		    nr_blocks_is_worth_it(b, span))
			begun = begin_load(layer, b, req->worker, req, at);
		/* No room for it, and nobody else's to wait for: then it is not known. */
		if (begun == -ENOMEM && at == req->offset) {
			(void)nr_extents_add(req->extents, to - at, 0);
			end_request(layer, req, 0);
			return;
		}
		at = to;
		span += to == nr_blocks_span_end(b, span);
	}
	wait(layer, b->engine, req);
}

static void serve(struct nr_layer *layer, struct nr_blocks *b, struct nr_request *req)
{
	if (req->operation == NR_READ)
		serve_read(layer, b, req);
	else if (answer_extents(b, req))
		end_request(layer, req, 0);
	else
		look_into(layer, b, req);
}

/* Does REQ go on where another one has ended? */
static bool follows(struct nr_blocks_engine *e, const struct nr_request *req)
{
	uint64_t end = req->offset + req->length;
	struct stream *oldest = &e->stream[0];

	for (unsigned i = 0; i < STREAMS; i++) {
		struct stream *s = &e->stream[i];

		if (s->used && s->at + STREAM_SLACK >= req->offset &&
		    s->at <= req->offset + STREAM_SLACK) {
			s->at = nr_max(s->at, end);
			s->used = ++e->count;
			s->in_order = true;
			return true;
		}
		if (s->used < oldest->used)
			oldest = s;
	}
	*oldest = (struct stream){ end, ++e->count, false };
	return false;
}

static void load_ahead(struct nr_layer *layer, struct nr_blocks *b, struct nr_worker *worker,
		       uint64_t offset)
{
	uint64_t end = offset, limit = nr_min(b->size, offset + b->cache_max / 4);

	nr_blocks_cell_of(b, nr_blocks_span_of(b, offset - 1), offset - 1, &end);
	for (unsigned i = 0; i < 2 * b->engine->load_count; i++) {
		end = nr_blocks_skip_zeroes(b, end, limit);
		if (end >= limit || begin_load(layer, b, worker, NULL, end))
			return;
		nr_blocks_cell_of(b, nr_blocks_span_of(b, end), end, &end);
	}
}

/* A load has ended well: if the last one to read did so in order, there may be another. */
static void go_on_ahead(struct nr_layer *layer, struct nr_blocks *b, struct nr_worker *worker)
{
	const struct stream *last = &b->engine->stream[0];

	for (unsigned i = 1; i < STREAMS; i++)
		if (b->engine->stream[i].used > last->used)
			last = &b->engine->stream[i];
	if (last->in_order)
		load_ahead(layer, b, worker, last->at);
}

void nr_blocks_submit(struct nr_layer *layer, struct nr_blocks *b, struct nr_request *req)
{
	struct nr_blocks_state *s = nr_scratch(layer, req);
	struct nr_worker *worker = req->worker;
	uint64_t end = req->offset + req->length;
	bool in_order;

	if (req->operation != NR_READ && req->operation != NR_EXTENTS) {
		nr_finish(layer, req, -EROFS);
		return;
	}
	*s = (struct nr_blocks_state){ .at = req->offset };
	in_order = req->operation == NR_READ && follows(b->engine, req);
	serve(layer, b, req);
	if (in_order)
		load_ahead(layer, b, worker, end);
}

/* The load is over: its cell is there or, if not, those who wait for it are told. */
static void settle(struct nr_layer *layer, struct nr_blocks *b, struct nr_blocks_load *load)
{
	struct nr_blocks_engine *e = b->engine;
	struct nr_request *waiting = e->waiting;
	uint64_t start = load->cell->start, end = start + load->cell->length;
	int status = load->status;

	if (status) {
		nr_blocks_doubt(b, load->span, load->cell);
		nr_cells_drop(load->cell);
	} else {
		nr_blocks_remember(b, load->span, load->cell);
		nr_cells_publish(load->cell);
	}
	if (load->decoder)
		pause_decoder(b, load);
	load->decoder = NULL;
	load->vehicle = NULL;
	e->busy--;
	e->waiting = NULL;
	e->waiting_tail = &e->waiting;
	while (waiting) {
		struct nr_request *req = waiting;
		struct nr_blocks_state *s = nr_scratch(layer, req);

		waiting = s->next;
		/* A span is of no use beyond a place that cannot be decoded. */
		if (status && req->operation == NR_READ && s->at >= start &&
		    s->at < (nr_blocks_is_whole(b, load->span) ? end
							       : nr_blocks_span_end(b, load->span)))
			end_request(layer, req, status);
		else
			serve(layer, b, req);
	}
}

static void end_load(struct nr_layer *layer, struct nr_blocks *b, struct nr_blocks_load *load)
{
	struct nr_request *vehicle = load->vehicle, *owner = load->owner;
	struct nr_worker *worker = vehicle->worker;
	bool well = !load->status;

	if (owner) {
		struct nr_blocks_state *s = nr_scratch(layer, owner);

		nr_child_release(vehicle);
		s->children--;
		if (s->over && s->children == 0)
			nr_finish(layer, owner, s->error);
		settle(layer, b, load);
		if (well)
			go_on_ahead(layer, b, worker);
	} else {
		settle(layer, b, load);
		if (well)
			go_on_ahead(layer, b, worker);
		nr_child_release(vehicle); /* last: the disk may be closed now */
	}
}

void nr_blocks_child_done(struct nr_layer *layer, struct nr_blocks *b, struct nr_request *child)
{
	struct nr_blocks_state *s = nr_scratch(layer, child);
	struct nr_blocks_load *load = s->load;

	if (!child->error) {
		nr_compute(layer, child, compute);
		return;
	}
	load->status = child->error;
	give_up(load);
	end_load(layer, b, load);
}

void nr_blocks_resume(struct nr_layer *layer, struct nr_blocks *b, struct nr_request *req)
{
	struct nr_blocks_state *s = nr_scratch(layer, req);
	struct nr_blocks_load *load = s->load;
	const struct nr_span *span = &b->span[load->span];

	if (load->status > 0 && load->in < span->in + span->in_length) {
		read_on(layer, load);
		return;
	}
	/* All of the span is used up, and it is not complete. */
	if (load->status > 0) {
		load->status = -EIO;
		give_up(load);
	}
	end_load(layer, b, load);
}
