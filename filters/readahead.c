/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Reading ahead of clients that read in order, each by itself, into memory.
 *
 * A client that reads on where it stopped for the second time gets a window of pieces in
 * front of it, which doubles as long as it goes on like that.  What it asks for then is
 * there or on its way, and is answered from the pieces.  A client that reads anywhere
 * else is passed on, and its window is forgotten.
 *
 * A piece is memory of its own with a count: of the place it has in its reader, of the
 * background request that fills it, and of each answer that has a part of it.  So neither
 * needs the others to be there still: a client may leave while pieces of it are on their
 * way, and the last one to let go frees the memory, on any thread.  Everything else of
 * a reader is touched by its client's worker only.
 *
 * What clients change: the disk's regions of 1 MiB have 256 counters, which count each
 * write when it comes and again when it is done, before its client knows.  A piece lies in
 * one region and is good as long as the counter is what it was when the piece was asked
 * for.
 */
#include <assert.h>
#include <errno.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>

#include "filters/filters.h"
#include "nbdring/checked.h"

#define PIECE_MAX (256u * 1024)
#define SLOTS 128u /* of one reader: twice the largest window, so that ends fit */
#define WINDOW_MAX (UINT64_C(16) << 20)
#define STREAK 2u /* so many reads went on where the one before stopped */
#define REGION_SHIFT 20
#define REGIONS 256u
#define SWEEP_NS UINT64_C(100000000) /* how often it is looked for readers that rest … */
#define REST_NS UINT64_C(1000000000) /* … for so long: they lose what they have not read */

enum piece_state { COMING, HERE, FAILED };

struct parked;

/* Behind it are the bytes. */
struct piece {
	struct nr_buffer buffer; /* first: answers know the piece by it */
	_Atomic unsigned references;
	_Atomic uint64_t *memory_used; /* of all */
	uint64_t offset, length;
	enum piece_state state;
	bool hole;              /* there are no bytes: all zeroes */
	unsigned counter;       /* of its region, when it was asked for */
	struct parked *waiting; /* reads */
	uint8_t *data;
};

/* One client's; the session and the sweeper hold it. */
struct reader {
	_Atomic unsigned references;
	_Atomic bool gone;
	uint64_t expected; /* where the last read ended */
	unsigned streak;
	uint64_t window;  /* bytes */
	uint64_t ahead;   /* where the last piece ends */
	uint64_t used_at; /* ns */
	bool swept;       /* there is a sweeper */
	/* Pieces in order are at first, first + 1, …; who takes one out of its slot has it. */
	uint64_t first, behind;
	_Atomic(struct piece *) slot[SLOTS];
};

struct readahead {
	uint64_t window, memory;
	uint64_t piece; /* bytes */
	_Atomic unsigned counter[REGIONS];
};

struct session {
	struct reader *reader;
};

/* Of a read that waits for a piece. */
struct parked {
	struct nr_request *req;
	struct parked *next;
};

/* Of a background request: one or the other. */
struct ours {
	struct piece *piece;
	struct reader *reader; /* of which it is the sweeper */
};

union scratch {
	struct parked parked;
	struct ours ours;
};

static const struct nr_param params[] = {
	{
		.name = "readahead-window",
		.type = NR_PARAM_SIZE,
		.offset = offsetof(struct readahead, window),
		.fallback = "8M",
		.min = 2 * PIECE_MAX,
		.max = WINDOW_MAX,
		.value = "SIZE",
		.help = "How far to read ahead of one client at most",
		.manual =
			"How far to read ahead of one client at most, from 512K to 16M.  It begins\n"
			"with 512K and doubles as the client goes on.",
	},
	{
		.name = "readahead-memory",
		.type = NR_PARAM_SIZE,
		.offset = offsetof(struct readahead, memory),
		.fallback = "64M",
		.min = PIECE_MAX,
		.max = NR_SIZE_MAX,
		.value = "SIZE",
		.help = "Memory for what was read ahead, of all clients together",
		.manual = "How much memory may hold what was read ahead, of all clients of all\n"
			  "exports together.  When it is full, nothing more is read ahead.",
	},
	{ .name = NULL },
};

/* Pieces. */

/* Nobody has it any more. */
static void free_piece(struct piece *piece)
{
	atomic_fetch_sub(piece->memory_used, PIECE_MAX);
	free(piece);
}

static void drop_piece(struct piece *piece)
{
	if (atomic_fetch_sub(&piece->references, 1) == 1)
		free_piece(piece);
}

static void release_piece(struct nr_buffer *buffer)
{
	drop_piece((struct piece *)buffer);
}

static _Atomic unsigned *counter_of(struct readahead *r, uint64_t offset)
{
	return &r->counter[(offset >> REGION_SHIFT) % REGIONS];
}

/* For a slot and a request; NULL: there is no memory for it. */
static struct piece *new_piece(struct nr_layer *layer, uint64_t offset, uint64_t length)
{
	struct readahead *r = layer->instance;
	_Atomic uint64_t *used = nr_shared_data(layer);
	struct piece *piece = NULL;
	size_t head = 4096;

	static_assert(sizeof(struct piece) <= 4096, "it fits in front of the data");
	if (atomic_fetch_add(used, PIECE_MAX) + PIECE_MAX <= r->memory)
		piece = aligned_alloc(4096, head + PIECE_MAX);
	if (!piece) {
		atomic_fetch_sub(used, PIECE_MAX);
		return NULL;
	}
	*piece = (struct piece){ .buffer.release = release_piece,
				 .memory_used = used,
				 .offset = offset,
				 .length = length,
				 .counter = atomic_load(counter_of(r, offset)),
				 .data = (uint8_t *)piece + head };
	atomic_init(&piece->references, 2);
	return piece;
}

static bool is_good(struct readahead *r, const struct piece *piece)
{
	return piece->state != FAILED &&
	       atomic_load(counter_of(r, piece->offset)) == piece->counter;
}

/* Readers. */

static _Atomic(struct piece *) *slot_at(struct reader *reader, uint64_t number)
{
	return &reader->slot[number % SLOTS];
}

static void drop_slot(struct reader *reader, uint64_t number)
{
	struct piece *piece = atomic_exchange(slot_at(reader, number), NULL);

	if (piece)
		drop_piece(piece);
}

/* Any thread: whoever has the reader does not mind that slots become empty. */
static void drop_slots(struct reader *reader)
{
	for (unsigned i = 0; i < SLOTS; i++)
		drop_slot(reader, i);
}

static void drop_reader(struct reader *reader)
{
	if (atomic_fetch_sub(&reader->references, 1) > 1)
		return;
	drop_slots(reader);
	free(reader);
}

/* The client reads elsewhere: begin anew behind END. */
static void begin_anew(struct reader *reader, uint64_t end)
{
	for (; reader->first < reader->behind; reader->first++)
		drop_slot(reader, reader->first);
	reader->streak = 0;
	reader->window = 0;
	reader->ahead = end;
}

/*
 * A reader's pieces may be in memory for ever if its client just stays: a background
 * request looks now and then, and ends with the pieces.
 */
static void sweep(struct nr_layer *layer, struct nr_request *req)
{
	struct ours *ours = nr_scratch(layer, req);
	struct reader *reader = ours->reader;
	bool rests = nr_now(req->worker) - reader->used_at > REST_NS;

	if (!atomic_load(&reader->gone) && !rests) {
		nr_sleep(layer, req, SWEEP_NS);
		return;
	}
	if (rests) {
		drop_slots(reader);
		reader->first = reader->behind;
		reader->window = reader->ahead = 0;
	}
	reader->swept = false;
	drop_reader(reader);
	nr_child_release(req);
}

/* False: there is none, and so there must be no pieces. */
static bool have_swept(struct nr_layer *layer, struct nr_worker *worker, struct reader *reader)
{
	struct nr_request *req;
	struct ours *ours;

	if (reader->swept)
		return true;
	req = nr_background(layer, worker, NR_READ, 0, 0);
	if (!req)
		return false;
	ours = nr_scratch(layer, req);
	*ours = (struct ours){ .reader = reader };
	reader->swept = true;
	atomic_fetch_add(&reader->references, 1);
	nr_sleep(layer, req, SWEEP_NS);
	return true;
}

static struct reader *reader_of(struct nr_layer *layer, struct nr_request *req)
{
	struct session *session = nr_session_data(layer, req->session);

	if (!session)
		return NULL;
	if (!session->reader) {
		session->reader = calloc(1, sizeof(*session->reader));
		if (session->reader)
			atomic_init(&session->reader->references, 1);
	}
	return session->reader;
}

/* Reading ahead. */

static bool ask_for_piece(struct nr_layer *layer, struct nr_worker *worker, struct reader *reader,
			  uint64_t length)
{
	struct piece *piece = new_piece(layer, reader->ahead, length);
	struct nr_request *req = NULL;
	struct ours *ours;

	if (piece)
		req = nr_background(layer, worker, NR_READ, reader->ahead, length);
	if (!req) {
		if (piece)
			free_piece(piece);
		return false;
	}
	ours = nr_scratch(layer, req);
	*ours = (struct ours){ .piece = piece };
	atomic_store(slot_at(reader, reader->behind++), piece);
	reader->ahead += length;
	nr_pass(layer, req);
	return true;
}

/* The client has read up to END. */
static void read_ahead(struct nr_layer *layer, struct nr_worker *worker, struct reader *reader,
		       uint64_t end)
{
	const struct readahead *r = layer->instance;
	uint64_t size = nr_round_down(nr_layer_size(layer->below), layer->below->traits.block_min);

	reader->ahead = nr_max(reader->ahead, end);
	/* When half of it is used up, twice as much follows. */
	if (reader->ahead - end > reader->window / 2 || reader->ahead >= size)
		return;
	reader->window = nr_min(nr_max(2 * reader->window, 2 * r->piece), r->window);
	if (!have_swept(layer, worker, reader))
		return;
	while (reader->ahead < size && reader->ahead - end < reader->window &&
	       reader->behind - reader->first < SLOTS) {
		uint64_t stop = nr_round_down(reader->ahead, r->piece) + r->piece;

		if (!ask_for_piece(layer, worker, reader, nr_min(stop, size) - reader->ahead))
			return;
	}
}

/* A piece has come. */
static void piece_back(struct nr_layer *layer, struct nr_request *req, struct piece *piece)
{
	struct parked *parked = piece->waiting;

	piece->state = req->error ? FAILED : HERE;
	piece->hole = !req->error && req->segment_count == 1 && !req->segments[0].data;
	if (!req->error && !piece->hole)
		nr_request_copy_out(req, 0, piece->length, piece->data);
	while (parked) {
		struct parked *next = parked->next;

		nr_resume(layer, parked->req);
		parked = next;
	}
	piece->waiting = NULL;
	drop_piece(piece);
	nr_child_release(req);
}

static void readahead_child_done(struct nr_layer *layer, struct nr_request *req)
{
	struct ours *ours = nr_scratch(layer, req);

	piece_back(layer, req, ours->piece);
}

/* Answering. */

enum outcome { ANSWERED, WAITS, UNKNOWN };

/* Add the part of PIECE from AT to END to the answer; false: no memory. */
static bool answer_part(struct nr_request *req, struct piece *piece, uint64_t at, uint64_t end)
{
	uint64_t length = nr_min(end, piece->offset + piece->length) - at;

	if (piece->hole)
		return nr_answer_hole(req, length);
	atomic_fetch_add(&piece->references, 1);
	return nr_answer_data(req, piece->data + (at - piece->offset), length, &piece->buffer);
}

static void park(struct nr_layer *layer, struct nr_request *req, struct piece *piece)
{
	struct parked *parked = nr_scratch(layer, req);

	*parked = (struct parked){ req, piece->waiting };
	piece->waiting = parked;
}

/* PIECE, taken out of its slot meanwhile, for the part of REQ at *AT. */
static enum outcome use_piece(struct nr_layer *layer, struct nr_request *req, struct piece *piece,
			      uint64_t *at)
{
	uint64_t end = req->offset + req->length;

	if (*at < piece->offset || !is_good(layer->instance, piece))
		return UNKNOWN;
	if (*at >= piece->offset + piece->length)
		return ANSWERED; /* nothing of it */
	if (piece->state == COMING) {
		nr_answer_clear(req);
		park(layer, req, piece);
		return WAITS;
	}
	if (!answer_part(req, piece, *at, end))
		return UNKNOWN;
	*at = nr_min(end, piece->offset + piece->length);
	return ANSWERED;
}

/* All of REQ from pieces, or nothing. */
static enum outcome answer(struct nr_layer *layer, struct nr_request *req, struct reader *reader)
{
	uint64_t end = req->offset + req->length, at = req->offset;
	enum outcome outcome = ANSWERED;

	for (uint64_t i = reader->first; i < reader->behind && at < end; i++) {
		struct piece *piece = atomic_exchange(slot_at(reader, i), NULL);

		if (!piece)
			continue;
		outcome = use_piece(layer, req, piece, &at);
		atomic_store(slot_at(reader, i), piece);
		if (outcome != ANSWERED)
			break;
	}
	if (outcome == ANSWERED && at == end)
		return ANSWERED;
	if (outcome != WAITS)
		nr_answer_clear(req);
	return outcome == WAITS ? WAITS : UNKNOWN;
}

/* Pieces far enough behind FROM are not needed again. */
static void drop_behind(struct nr_layer *layer, struct reader *reader, uint64_t from)
{
	const struct readahead *r = layer->instance;

	while (reader->first < reader->behind) {
		struct piece *piece = atomic_exchange(slot_at(reader, reader->first), NULL);
		bool needed = piece && piece->offset + piece->length + r->piece > from;

		if (needed) {
			atomic_store(slot_at(reader, reader->first), piece);
			return;
		}
		if (piece)
			drop_piece(piece);
		reader->first++;
	}
}

/* Once more for one that has waited: what it waited for may not be good after all. */
static void readahead_resume(struct nr_layer *layer, struct nr_request *req)
{
	struct reader *reader;
	enum outcome outcome;

	if (!req->session) {
		sweep(layer, req);
		return;
	}
	reader = reader_of(layer, req);
	outcome = answer(layer, req, reader);
	if (outcome == ANSWERED)
		nr_finish(layer, req, 0);
	else if (outcome == UNKNOWN)
		nr_pass(layer, req);
}

static void submit_read(struct nr_layer *layer, struct nr_request *req)
{
	struct reader *reader = reader_of(layer, req);
	uint64_t from = req->offset, end = from + req->length;
	struct nr_worker *worker = req->worker;
	enum outcome outcome;
	bool goes_on;

	if (!reader) {
		nr_pass(layer, req);
		return;
	}
	goes_on = from == reader->expected && end > from;
	reader->expected = end;
	reader->used_at = reader->first < reader->behind || goes_on ? nr_now(worker) : 0;
	outcome = answer(layer, req, reader);
	if (outcome == ANSWERED)
		nr_finish(layer, req, 0);
	else if (outcome == UNKNOWN)
		nr_pass(layer, req);
	if (!goes_on && outcome == UNKNOWN) {
		begin_anew(reader, end);
		return;
	}
	reader->streak += goes_on;
	drop_behind(layer, reader, from);
	if (goes_on && reader->streak >= STREAK)
		read_ahead(layer, worker, reader, end);
}

/* Writes. */

static bool changes(const struct nr_request *req)
{
	return req->operation == NR_WRITE || req->operation == NR_TRIM ||
	       req->operation == NR_ZERO || req->operation == NR_RESIZE;
}

/* What was read ahead of what REQ changes is not good any more. */
static void count_change(struct readahead *r, const struct nr_request *req)
{
	uint64_t first = req->offset >> REGION_SHIFT, count = REGIONS;

	if (req->operation != NR_RESIZE && req->length)
		count = ((req->offset + req->length - 1) >> REGION_SHIFT) - first + 1;
	for (uint64_t i = 0; i < nr_min(count, REGIONS); i++)
		atomic_fetch_add(&r->counter[(first + i) % REGIONS], 1);
}

static void readahead_submit(struct nr_layer *layer, struct nr_request *req)
{
	if (req->operation == NR_READ) {
		submit_read(layer, req);
		return;
	}
	if (changes(req))
		count_change(layer->instance, req);
	nr_pass(layer, req);
}

static void readahead_done(struct nr_layer *layer, struct nr_request *req)
{
	if (changes(req))
		count_change(layer->instance, req);
	nr_finish(layer, req, req->error);
}

/* Life. */

static int readahead_open(struct nr_layer *layer, struct nr_error *error)
{
	struct readahead *r = layer->instance;
	const struct nr_traits *t = &layer->below->traits;

	/* A power of two, so that no piece lies in two regions. */
	r->piece = PIECE_MAX;
	while (r->piece > t->block_max && r->piece > t->block_min)
		r->piece /= 2;
	return 0;
}

static int readahead_admit(struct nr_layer *layer, struct nr_session *session,
			   struct nr_error *error)
{
	return 0; /* so that `leave` follows */
}

static void readahead_leave(struct nr_layer *layer, struct nr_session *session)
{
	struct session *mine = nr_session_data(layer, session);

	if (!mine->reader)
		return;
	atomic_store(&mine->reader->gone, true);
	drop_slots(mine->reader);
	drop_reader(mine->reader);
	mine->reader = NULL;
}

const struct nr_layer_type nr_readahead_type = {
	.abi = NR_LAYER_ABI,
	.name = "readahead",
	.summary = "reads ahead of clients that read in order",
	.kind = NR_FILTER,
	.placement = NR_SPREAD,
	.params = params,
	.instance_size = sizeof(struct readahead),
	.request_size = sizeof(union scratch),
	.session_size = sizeof(struct session),
	.shared_size = sizeof(_Atomic uint64_t),
	.open = readahead_open,
	.admit = readahead_admit,
	.leave = readahead_leave,
	.submit = readahead_submit,
	.done = readahead_done,
	.contexts_pass = true,
	.data_passes = true,
	.child_done = readahead_child_done,
	.resume = readahead_resume,
};
