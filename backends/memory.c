/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The backend `memory`: a sparse RAM disk.
 *
 * A tree (memory-tree.c) leads to blocks of 64 KiB (memory-pool.c), each with a
 * bit per page of 4 KiB that says whether the page holds data.  A page whose bit
 * is clear is a hole and all zeroes in memory.
 *
 * Reading copies nothing: the answer points into the blocks, and each segment
 * holds a reference to its block until its bytes have left.  Reading and
 * overwriting take no lock and allocate nothing.  Several workers are in here at
 * once, on the same bytes if clients so wish; what protects them from each other:
 *
 *   Reader against dropper: the reader takes its reference inside
 *   nr_memory_enter; a dropped block gives up the tree's reference only after a
 *   grace period.
 *
 *   Writer against dropper: the writer copies, then sets the bits of its pages,
 *   and learns in the same step whether the block was dropped meanwhile.  If so
 *   its bytes are lost, and it writes again, into the block that is there now.
 *   So a block may be dropped because all of its pages are erased while someone
 *   writes to one of them.
 *
 *   Writer against eraser in one page: both touch their own bytes only.  Of a
 *   page that it erases wholly, the eraser clears the bit first and the memory
 *   after: a writer that comes between sets the bit again, and no order leaves
 *   bytes behind in a page whose bit is clear.  A page that it erases in part
 *   loses its bit when all of it turns out to be zero and no write has ended
 *   meanwhile; one that ends later sets the bit.
 *
 *   Eraser against eraser of one block: a lock, so that who finds a bit clear
 *   may rely on the zeroes behind it.
 *
 * Overlapping requests that are under way together may end in any order, byte by
 * byte (protocol, "Ordering of messages and writes").
 *
 * No request keeps a worker for long: what may touch much (trim, zero, extents,
 * resize) goes in steps, and other requests are served between them.
 */
#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <string.h>

#include "backends/backends.h"
#include "backends/memory-copy.h"
#include "backends/memory-room.h"
#include "backends/memory-tree.h"
#include "nbdring/checked.h"

#define WRITE_PIECE (256u * 1024)
#define ERASE_LOCKS 16u    /* stripes; block number modulo this */
#define DROP_AT_ONCE 64u   /* blocks dropped under one hold of the lock: 2 us, 10 us uncached */
#define DROP_STEP 1024u    /* blocks dropped before others get their turn */
#define FILL_STEP 16u      /* blocks filled with zeroes before … */
#define EXTENTS_STEP 1024u /* blocks looked at before … */

struct memory {
	uint64_t size;      /* bytes; the parameter, then the running resize's */
	unsigned allocator; /* a parameter of nbdkit's; only one choice */
	struct nr_memory_pool pool;
	struct nr_memory_tree tree;
	pthread_mutex_t erase_lock[ERASE_LOCKS];
	pthread_mutex_t resize_lock;
	bool resizing;             /* with resize_lock: one at a time */
	struct step *resize_first; /* the others wait here, oldest first */
	struct step **resize_last;
};

/* Scratch of a request that may be parked. */
struct step {
	struct nr_memory_waiter waiter;
	struct nr_layer *layer;
	struct nr_request *req;
	struct step *next; /* in the line of resizes */
	bool started;      /* resize: its turn has come */
	uint64_t at, end;  /* what is left to do, bytes */
};

static const char *const allocators[] = { "sparse", NULL };

static const struct nr_param memory_params[] = {
	{
		.name = "size",
		.type = NR_PARAM_SIZE,
		.flags = NR_PARAM_REQUIRED | NR_PARAM_MAIN,
		.offset = offsetof(struct memory, size),
		.max = NR_SIZE_MAX,
		.value = "SIZE",
		.help = "Size of the disk",
		.manual = "The size of the disk that clients see.  Any size up to 2^63-1 bytes\n"
			  "(8 EiB less one byte) is possible, whatever memory there is: only what\n"
			  "is written takes memory.\n\n"
			  "C<size=> may be left out: C<nbdring memory 1G>.",
	},
	{
		.name = "allocator",
		.type = NR_PARAM_CHOICE,
		.offset = offsetof(struct memory, allocator),
		.fallback = "sparse",
		.choices = allocators,
		.value = "sparse",
		.help = "How memory is allocated; for command lines of nbdkit",
		.manual =
			"Accepted so that command lines written for L<nbdkit(1)> work.  There is\n"
			"one allocator, which is sparse.",
	},
	{ .name = NULL },
};

static int memory_open(struct nr_layer *layer, struct nr_error *error)
{
	struct memory *m = layer->instance;

	nr_memory_pool_init(&m->pool);
	nr_memory_tree_init(&m->tree, &m->pool);
	pthread_mutex_init(&m->resize_lock, NULL);
	for (unsigned i = 0; i < ERASE_LOCKS; i++)
		pthread_mutex_init(&m->erase_lock[i], NULL);
	m->resize_last = &m->resize_first;
	return 0;
}

static void memory_close(struct nr_layer *layer)
{
	struct memory *m = layer->instance;

	assert(!m->resizing);
	nr_memory_tree_fini(&m->tree);
	/* A block more would be one that a segment still refers to. */
	assert(nr_memory_pool_used(&m->pool) == m->tree.blocks);
	nr_memory_pool_fini(&m->pool);
	pthread_mutex_destroy(&m->resize_lock);
	for (unsigned i = 0; i < ERASE_LOCKS; i++)
		pthread_mutex_destroy(&m->erase_lock[i]);
}

static int memory_describe(struct nr_layer *layer, struct nr_traits *traits, struct nr_error *error)
{
	struct memory *m = layer->instance;

	traits->size = m->size;
	traits->block_min = 1;
	traits->block_preferred = NR_MEMORY_PAGE_BYTES;
	traits->block_max = NR_TRANSFER_MAX;
	traits->write_piece = WRITE_PIECE;
	traits->memory_align = 1;
	traits->multi_conn = true;
	for (unsigned i = 0; i < NR_CAP_COUNT; i++)
		traits->support[i] = NR_NATIVE;
	return 0;
}

/* Parking. */

static void wake(struct nr_memory_waiter *waiter)
{
	struct step *step = caa_container_of(waiter, struct step, waiter);

	nr_resume(step->layer, step->req);
}

static struct step *begin_step(struct nr_layer *layer, struct nr_request *req)
{
	struct step *step = nr_scratch(layer, req);

	step->waiter.wake = wake;
	step->layer = layer;
	step->req = req;
	step->next = NULL;
	step->started = false;
	step->at = req->offset;
	step->end = req->offset + req->length;
	return step;
}

/* Runs. */

/*
 * How many of the bytes from FROM up to END (inside one block) all lie in pages
 * that hold data, or all in pages that do not (DATA says which).
 */
static uint64_t run_length(uint64_t state, uint64_t from, uint64_t end, bool *data)
{
	uint64_t at = from;

	*data = state & nr_memory_pages(from, 1);
	do
		at = nr_round_down(at, NR_MEMORY_PAGE_BYTES) + NR_MEMORY_PAGE_BYTES;
	while (at < end && !(state & nr_memory_pages(at, 1)) == !*data);
	return nr_min(at, end) - from;
}

static uint64_t in_block(uint64_t offset)
{
	return offset & (NR_MEMORY_BLOCK_BYTES - 1);
}

/* From OFFSET to END or to the end of the block, bytes. */
static uint64_t piece_length(uint64_t offset, uint64_t end)
{
	return nr_min(end - offset, NR_MEMORY_BLOCK_BYTES - in_block(offset));
}

/* Reading. */

static bool answer_block(struct nr_request *req, struct nr_memory_block *block, uint64_t from,
			 uint64_t length)
{
	atomic_fetch_add_explicit(&block->state, NR_MEMORY_REFERENCE, memory_order_relaxed);
	return nr_answer_data(req, block->data + from, length, &block->buffer);
}

static bool answer_mixed(struct nr_request *req, struct nr_memory_block *block, uint64_t state,
			 uint64_t from, uint64_t end)
{
	bool room = true;

	while (room && from < end) {
		bool data;
		uint64_t length = run_length(state, from, end, &data);

		room = data ? answer_block(req, block, from, length) : nr_answer_hole(req, length);
		from += length;
	}
	return room;
}

static bool answer_piece(struct memory *m, struct nr_request *req, uint64_t offset, uint64_t length)
{
	struct nr_memory_block *block =
		nr_memory_tree_find(&m->tree, offset >> NR_MEMORY_BLOCK_SHIFT);
	uint64_t from = in_block(offset), pages, state;

	if (!block)
		return nr_answer_hole(req, length);
	pages = nr_memory_pages(from, length);
	state = atomic_load_explicit(&block->state, memory_order_acquire);
	if ((state & pages) == pages)
		return answer_block(req, block, from, length);
	if (!(state & pages))
		return nr_answer_hole(req, length);
	return answer_mixed(req, block, state, from, from + length);
}

static void memory_read(struct nr_layer *layer, struct nr_request *req)
{
	struct memory *m = layer->instance;
	uint64_t at = req->offset, end = req->offset + req->length;
	bool room = true;

	nr_memory_enter();
	while (room && at < end) {
		uint64_t length = piece_length(at, end);

		room = answer_piece(m, req, at, length);
		at += length;
	}
	nr_memory_leave();
	nr_finish(layer, req, room ? 0 : -ENOMEM);
}

/* Writing, and zeroing that leaves no hole. */

static void fill(const struct nr_request *req, uint64_t offset, uint64_t length, uint8_t *to)
{
	uint64_t skip = offset - req->offset;

	NR_MEMORY_CONTENTS_BEGIN();
	if (req->operation != NR_WRITE)
		memset(to, 0, length);
	else if (req->segment_count == 1 && req->segments[0].data) /* as it comes from a socket */
		nr_memory_copy(to, req->segments[0].data + skip, length);
	else
		nr_request_copy_out(req, skip, length, to);
	NR_MEMORY_CONTENTS_END();
}

/* PAGES have been written to; false: the block had been dropped, all was in vain. */
static bool mark_written(struct nr_memory_block *block, uint64_t pages)
{
	uint64_t state = atomic_load_explicit(&block->state, memory_order_relaxed);

	while (!(state & NR_MEMORY_DROPPED))
		if (atomic_compare_exchange_weak_explicit(
			    &block->state, &state, (state | pages) + NR_MEMORY_WRITTEN,
			    memory_order_acq_rel, memory_order_relaxed))
			return true;
	return false;
}

/*
 * Put the bytes of REQ at OFFSET, LENGTH of them, into their block.  -ENOSPC, or
 * -EAGAIN: to be resumed.
 */
static int store_piece(struct memory *m, struct step *step, const struct nr_request *req,
		       uint64_t offset, uint64_t length)
{
	uint64_t index = offset >> NR_MEMORY_BLOCK_SHIFT, from = in_block(offset);
	struct nr_memory_block *block = nr_memory_tree_find(&m->tree, index);

	for (;;) {
		if (!block) {
			int err = nr_memory_tree_add(&m->tree, index, &step->waiter, &block);

			if (err)
				return err;
		}
		fill(req, offset, length, block->data + from);
		if (mark_written(block, nr_memory_pages(from, length)))
			return 0;
		/* Not by find: the tree's lock waits for the dropper, who is not done. */
		block = NULL;
	}
}

/* Store from step->at on, at most MAX blocks. */
static int store_pieces(struct memory *m, struct step *step, const struct nr_request *req,
			unsigned max)
{
	int err = 0;

	nr_memory_enter();
	while (!err && step->at < step->end && max--) {
		uint64_t length = piece_length(step->at, step->end);

		err = store_piece(m, step, req, step->at, length);
		if (!err)
			step->at += length;
	}
	nr_memory_leave();
	return err;
}

/* A write is at most NR_TRANSFER_MAX: one step. */
static void store_on(struct nr_layer *layer, struct nr_request *req)
{
	struct step *step = nr_scratch(layer, req);
	int err = store_pieces(layer->instance, step, req,
			       req->operation == NR_WRITE ? UINT32_MAX : FILL_STEP);

	if (err == -EAGAIN)
		return;
	if (!err && step->at < step->end)
		nr_resume(layer, req);
	else
		nr_finish(layer, req, err);
}

static void memory_write(struct nr_layer *layer, struct nr_request *req)
{
	begin_step(layer, req);
	store_on(layer, req);
}

/* Erasing: trim, zero, and what a resize leaves behind. */

/*
 * Others may be writing to the page meanwhile.  What is read of their bytes does
 * not matter: release_page finds out that they were there.
 */
__attribute__((noinline, no_sanitize("thread"))) static bool is_zero(const uint8_t *page)
{
	const uint64_t *word = (const uint64_t *)(const void *)page;
	uint64_t any = 0;

	for (unsigned i = 0; i < NR_MEMORY_PAGE_BYTES / sizeof(*word) && !any; i += 8)
		any = word[i] | word[i + 1] | word[i + 2] | word[i + 3] | word[i + 4] |
		      word[i + 5] | word[i + 6] | word[i + 7];
	return !any;
}

/* Let the page around FROM be a hole if nothing is left in it. */
static void release_page(struct nr_memory_block *block, uint64_t from)
{
	const uint8_t *page = block->data + nr_round_down(from, NR_MEMORY_PAGE_BYTES);
	uint64_t bit = nr_memory_pages(from, 1);
	uint64_t state = atomic_load_explicit(&block->state, memory_order_acquire);

	/* Others may be faster any number of times; then the page stays, no harm done. */
	for (unsigned tries = 0; tries < 4 && (state & bit) && is_zero(page); tries++)
		if (atomic_compare_exchange_strong_explicit(&block->state, &state, state & ~bit,
							    memory_order_acq_rel,
							    memory_order_acquire))
			break;
}

/*
 * Nothing of [FROM, END) is to be left of BLOCK, the block INDEX.  With the
 * block's erase_lock, inside nr_memory_enter.
 */
static void erase_locked(struct memory *m, struct nr_memory_block *block, uint64_t index,
			 uint64_t from, uint64_t end)
{
	uint64_t first = nr_round_down(from + NR_MEMORY_PAGE_BYTES - 1, NR_MEMORY_PAGE_BYTES);
	uint64_t last = nr_round_down(end, NR_MEMORY_PAGE_BYTES);
	uint64_t pages = first < last ? nr_memory_pages(first, last - first) : 0;
	uint64_t before = atomic_fetch_and_explicit(&block->state, ~pages, memory_order_acq_rel);

	if ((before & NR_MEMORY_PAGES) && !(before & NR_MEMORY_PAGES & ~pages) &&
	    nr_memory_tree_drop_empty(&m->tree, index, block))
		return;
	NR_MEMORY_CONTENTS_BEGIN();
	for (uint64_t at = from, length; at < end; at += length) {
		bool data;

		length = run_length(before, at, end, &data);
		if (data)
			memset(block->data + at, 0, length);
	}
	NR_MEMORY_CONTENTS_END();
	if (from < first)
		release_page(block, from);
	if (last < end)
		release_page(block, last);
	if (!(atomic_load_explicit(&block->state, memory_order_acquire) & NR_MEMORY_PAGES))
		nr_memory_tree_drop_empty(&m->tree, index, block);
}

/* Erase [FROM, END) of the block INDEX. */
static void erase_in_block(struct memory *m, uint64_t index, uint64_t from, uint64_t end)
{
	pthread_mutex_t *lock = &m->erase_lock[index % ERASE_LOCKS];
	struct nr_memory_block *block;

	nr_memory_enter();
	block = nr_memory_tree_find(&m->tree, index);
	if (block) {
		pthread_mutex_lock(lock);
		erase_locked(m, block, index, from, end);
		pthread_mutex_unlock(lock);
	}
	nr_memory_leave();
}

/* Erase [*AT, END) and move *AT; false: there is more to do, in another step. */
static bool erase(struct memory *m, uint64_t *at, uint64_t end)
{
	unsigned dropped = 0;

	while (*at < end) {
		uint64_t index = *at >> NR_MEMORY_BLOCK_SHIFT, length = piece_length(*at, end);

		if (length < NR_MEMORY_BLOCK_BYTES) {
			erase_in_block(m, index, in_block(*at), in_block(*at) + length);
			*at += length;
			continue;
		}
		if (dropped >= DROP_STEP)
			return false;
		dropped += DROP_AT_ONCE;
		nr_memory_tree_drop(&m->tree, &index, end >> NR_MEMORY_BLOCK_SHIFT, DROP_AT_ONCE);
		*at = index << NR_MEMORY_BLOCK_SHIFT;
	}
	return true;
}

static void erase_on(struct nr_layer *layer, struct nr_request *req)
{
	struct step *step = nr_scratch(layer, req);

	if (erase(layer->instance, &step->at, step->end))
		nr_finish(layer, req, 0);
	else
		nr_resume(layer, req);
}

static void memory_trim(struct nr_layer *layer, struct nr_request *req)
{
	begin_step(layer, req);
	erase_on(layer, req);
}

static void memory_zero(struct nr_layer *layer, struct nr_request *req)
{
	begin_step(layer, req);
	if (!(req->flags & NR_NO_HOLE))
		erase_on(layer, req);
	else if (req->length > nr_memory_total())
		nr_finish(layer, req, -ENOSPC); /* not after filling all there is */
	else
		store_on(layer, req);
}

static void zero_on(struct nr_layer *layer, struct nr_request *req)
{
	if (req->flags & NR_NO_HOLE)
		store_on(layer, req);
	else
		erase_on(layer, req);
}

/* Extents. */

/* False: the list takes no more, or the one extent that was asked for is complete. */
static bool add_extent(const struct nr_request *req, uint64_t length, bool data)
{
	struct nr_extents *list = req->extents;
	uint64_t status = data ? 0 : NR_EXTENT_HOLE | NR_EXTENT_ZERO;

	if ((req->flags & NR_REQ_ONE) && list->count == 1 && list->extent[0].status != status)
		return false;
	return nr_extents_add(list, length, status);
}

static bool add_block_extents(const struct nr_request *req, const struct nr_memory_block *block,
			      uint64_t from, uint64_t end)
{
	uint64_t state = atomic_load_explicit(&block->state, memory_order_acquire);
	bool more = true;

	while (more && from < end) {
		bool data;
		uint64_t length = run_length(state, from, end, &data);

		more = add_extent(req, length, data);
		from += length;
	}
	return more;
}

static void extents_on(struct nr_layer *layer, struct nr_request *req)
{
	struct memory *m = layer->instance;
	struct nr_extents *list = req->extents;
	unsigned looked_at = 0;
	bool more = true;

	nr_memory_enter();
	while (more && looked_at++ < EXTENTS_STEP) {
		uint64_t at = list->next, index = at >> NR_MEMORY_BLOCK_SHIFT;
		uint64_t last = (list->end - 1) >> NR_MEMORY_BLOCK_SHIFT;
		struct nr_memory_block *block = nr_memory_tree_next(&m->tree, &index, last + 1);
		uint64_t start = index << NR_MEMORY_BLOCK_SHIFT;

		if (start > at)
			more = add_extent(req, start - at, false);
		else if (block)
			more = add_block_extents(req, block, in_block(at), NR_MEMORY_BLOCK_BYTES);
	}
	nr_memory_leave();
	if (more)
		nr_resume(layer, req);
	else
		nr_finish(layer, req, 0);
}

/* Resizing: one after the other. */

static void set_size(struct nr_layer *layer, uint64_t size)
{
	struct memory *m = layer->instance;

	m->size = size;
	nr_layer_resized(layer, size);
}

static void end_resize(struct nr_layer *layer, struct nr_request *req)
{
	struct memory *m = layer->instance;
	struct step *next;

	pthread_mutex_lock(&m->resize_lock);
	next = m->resize_first;
	if (next) {
		m->resize_first = next->next;
		if (!m->resize_first)
			m->resize_last = &m->resize_first;
		next->started = true;
	} else {
		m->resizing = false;
	}
	pthread_mutex_unlock(&m->resize_lock);
	if (next)
		nr_resume(next->layer, next->req);
	nr_finish(layer, req, 0);
}

/*
 * What lies between the two sizes is erased, on the way down after the size is
 * set, so that nobody writes there any more, and on the way up before, because a
 * write that was under way when the disk shrank may have left something.
 */
static void resize_on(struct nr_layer *layer, struct nr_request *req)
{
	struct step *step = nr_scratch(layer, req);
	struct memory *m = layer->instance;

	if (step->started) {
		uint64_t old = m->size, size = req->offset, end = nr_max(old, size);

		step->started = false;
		step->at = nr_min(old, size);
		step->end = nr_round_down(end + NR_MEMORY_BLOCK_BYTES - 1, NR_MEMORY_BLOCK_BYTES);
		if (size < old)
			set_size(layer, size);
	}
	if (!erase(m, &step->at, step->end)) {
		nr_resume(layer, req);
		return;
	}
	if (req->offset > m->size)
		set_size(layer, req->offset);
	end_resize(layer, req);
}

static void memory_resize(struct nr_layer *layer, struct nr_request *req)
{
	struct memory *m = layer->instance;
	struct step *step;
	bool first;

	if (req->offset > NR_SIZE_MAX) {
		nr_finish(layer, req, -EFBIG);
		return;
	}
	step = begin_step(layer, req);
	pthread_mutex_lock(&m->resize_lock);
	first = !m->resizing;
	if (first) {
		m->resizing = true;
		step->started = true;
	} else {
		*m->resize_last = step;
		m->resize_last = &step->next;
	}
	pthread_mutex_unlock(&m->resize_lock);
	if (first)
		resize_on(layer, req);
}

/* Nothing to do: memory is as stable, and as near, as it will ever be. */
static void memory_nothing(struct nr_layer *layer, struct nr_request *req)
{
	nr_finish(layer, req, 0);
}

typedef void memory_operation(struct nr_layer *layer, struct nr_request *req);

static memory_operation *const submits[NR_OPERATION_COUNT] = {
	[NR_READ] = memory_read,   [NR_WRITE] = memory_write,   [NR_FLUSH] = memory_nothing,
	[NR_TRIM] = memory_trim,   [NR_ZERO] = memory_zero,     [NR_CACHE] = memory_nothing,
	[NR_EXTENTS] = extents_on, [NR_RESIZE] = memory_resize,
};

/* Only what parks itself is ever resumed. */
static memory_operation *const resumes[NR_OPERATION_COUNT] = {
	[NR_WRITE] = store_on,     [NR_TRIM] = erase_on,    [NR_ZERO] = zero_on,
	[NR_EXTENTS] = extents_on, [NR_RESIZE] = resize_on,
};

static void memory_submit(struct nr_layer *layer, struct nr_request *req)
{
	submits[req->operation](layer, req);
}

static void memory_resume(struct nr_layer *layer, struct nr_request *req)
{
	assert(resumes[req->operation]);
	resumes[req->operation](layer, req);
}

const struct nr_layer_type nr_memory_type = {
	.abi = NR_LAYER_ABI,
	.name = "memory",
	.summary = "RAM disk, sparse, gone when the server ends",
	.kind = NR_BACKEND,
	.placement = NR_SPREAD,
	.params = memory_params,
	.instance_size = sizeof(struct memory),
	.request_size = sizeof(struct step),
	.open = memory_open,
	.describe = memory_describe,
	.submit = memory_submit,
	.resume = memory_resume,
	.close = memory_close,
};
