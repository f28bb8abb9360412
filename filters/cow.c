/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A disk that can be written to over one that is not: what clients change goes into an
 * overlay, and the layer below is only ever read.
 *
 * Here are the parameters, the opening, the clients, and where requests go first.
 * filters/cow.h says how it works.
 */
#include "filters/cow.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "filters/filters.h"
#include "nbdring/checked.h"

#define MEMORY_WAIT_NS 1000000u /* between two looks for memory … */
#define MEMORY_WAITS 30000u     /* … of which there are so many: 30 s */

static const char *const store_kinds[] = { "file", "memory", NULL };

static const struct nr_param params[] = {
	{
		.name = "cow-block-size",
		.type = NR_PARAM_SIZE,
		.offset = offsetof(struct cow, block_size),
		.min = NR_COW_BLOCK_MIN,
		.max = NR_TRANSFER_MAX,
		.value = "SIZE",
		.help = "How much is copied at a time, a power of two",
		.manual =
			"Size of the blocks in which the overlay is kept, a power of two from 4K\n"
			"to 1M.  A write to a part of a block that is still in the base copies\n"
			"the rest of the block.  Small blocks suit small random writes and cost\n"
			"more memory, two bits each.  Where the disk below has larger blocks, theirs\n"
			"count.  The default is 64K.",
	},
	{
		.name = "cow-on-read",
		.type = NR_PARAM_STRING,
		.offset = offsetof(struct cow, on_read_text),
		.fallback = "false",
		.value = "BOOL|/PATH",
		.help = "Keep what is read in the overlay, too; or: while this file exists",
		.manual =
			"Whether what clients read is copied into the overlay, in whole blocks,\n"
			"so that the base is not asked for it again.  With a path, from C</> on,\n"
			"it is while a file of that name exists, which is looked for ten times a\n"
			"second.  What the base answers with a hole is not copied, and what does\n"
			"not fit is read from the base as before.",
	},
	{
		.name = "cow-on-cache",
		.type = NR_PARAM_BOOL,
		.offset = offsetof(struct cow, on_cache),
		.fallback = "false",
		.value = "BOOL",
		.help = "Let cache requests copy into the overlay",
		.manual = "Whether a client's cache (prefetch) request copies from the base into\n"
			  "the overlay.  Without, such requests go to the base.",
	},
	{
		.name = "cow-file",
		.type = NR_PARAM_PATH,
		.flags = NR_PARAM_WRITTEN | NR_PARAM_MADE,
		.offset = offsetof(struct cow, path),
		.value = "FILE",
		.help = "Keep the overlay in this file, for the next time",
		.manual =
			"Keep the overlay in this file, which is made if it is not there or empty,\n"
			"and goes on where it was if it is.  Without, the overlay is temporary.",
	},
	{
		.name = "cow-store",
		.type = NR_PARAM_CHOICE,
		.offset = offsetof(struct cow, store_kind),
		.choices = store_kinds,
		.fallback = "file",
		.value = "file|memory",
		.help = "Where a temporary overlay is",
		.manual =
			"Where the overlay is: in a file without a name in the folder $TMPDIR, or\n"
			"F</var/tmp> if that is not set; or in memory.",
	},
	{
		.name = "cow-private",
		.type = NR_PARAM_BOOL,
		.offset = offsetof(struct cow, private),
		.fallback = "false",
		.value = "BOOL",
		.help = "Each client has an overlay of its own",
		.manual =
			"Whether each connection has an overlay of its own, which is thrown away\n"
			"when the client leaves.  Otherwise all see the same disk, and what one\n"
			"of them has written stays as long as the export is open.",
	},
	{ .name = NULL },
};

/* Ranges. */

uint64_t nr_cow_block_behind(const struct cow *c, uint64_t end)
{
	return (end >> c->shift) + ((end & (c->block - 1)) != 0);
}

uint64_t nr_cow_start_of(const struct cow *c, uint64_t block)
{
	/* The block behind the last one begins where the disk ends. */
	return block >= nr_cow_block_behind(c, c->size) ? c->size : block << c->shift;
}

bool nr_cow_base_has(const struct nr_layer *layer, uint64_t offset, uint64_t length)
{
	return nr_in_range(offset, length, nr_layer_size(layer->below));
}

int nr_cow_read_error(int error)
{
	return error == -EINVAL ? -EIO : error;
}

/* Opening. */

static int cow_check(struct nr_layer *layer, struct nr_error *error)
{
	const struct cow *c = layer->instance;

	if (c->block_size && !nr_is_power_of_2(c->block_size))
		return nr_error_set(error, -EINVAL,
				    "cow-block-size=%" PRIu64
				    " is not a power of two from 4K to 1M",
				    c->block_size);
	if (c->path && c->private)
		return nr_error_set(error, -EINVAL,
				    "with cow-file there is one overlay, and with cow-private each "
				    "client has one; leave one of them out");
	if (c->path && c->store_kind == NR_COW_STORE_MEMORY)
		return nr_error_set(error, -EINVAL,
				    "cow-store=memory is for temporary overlays; leave out it or "
				    "cow-file");
	return 0;
}

static const struct {
	const char *text;
	bool value;
} words[] = {
	{ "true", true },   { "on", true },   { "yes", true }, { "1", true },
	{ "false", false }, { "off", false }, { "no", false }, { "0", false },
};

static int watch_reads(struct cow *c, struct nr_error *error)
{
	const char *text = c->on_read_text;

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		if (strcmp(text, words[i].text) == 0) {
			c->on_read = words[i].value;
			return 0;
		}
	}
	if (text[0] != '/')
		return nr_error_set(error, -EINVAL,
				    "cow-on-read=%s is neither true or false nor a path from / on",
				    text);
	c->on_read_file = nr_flagfile_watch(text, error);
	return c->on_read_file ? 0 : error->code;
}

/* As was asked for, or what the layer below asks for, if that is more. */
static void choose_block(struct nr_layer *layer)
{
	struct cow *c = layer->instance;
	uint32_t min = layer->below->traits.block_min;
	uint64_t block = c->block_size ? c->block_size : NR_COW_BLOCK_USUAL;

	c->block = (uint32_t)nr_max(block, min);
	c->shift = (unsigned)__builtin_ctz(c->block);
	c->size = nr_round_down(nr_layer_size(layer->below), min);
}

static int cow_open(struct nr_layer *layer, struct nr_error *error)
{
	struct cow *c = layer->instance;
	int err = watch_reads(c, error);

	if (err)
		return err;
	choose_block(layer);
	err = c->path ? nr_cow_keep_open(layer, error) : nr_cow_store_open(layer, error);
	if (err) {
		nr_flagfile_unwatch(c->on_read_file);
		return err;
	}
	nr_rangelock_init(&c->lock);
	if (!c->path)
		nr_cow_map_init(&c->shared.map, nr_cow_block_behind(c, c->size), false);
	return 0;
}

static void cow_close(struct nr_layer *layer)
{
	struct cow *c = layer->instance;

	nr_substack_close(c->store);
	if (c->path)
		nr_cow_keep_close(layer);
	nr_rangelock_fini(&c->lock);
	nr_flagfile_unwatch(c->on_read_file);
	nr_cow_map_fini(&c->shared.map);
	free(c->own); /* their clients have gone */
}

/* The disk is as long as it was: the map and the store are made for that. */
static int cow_describe(struct nr_layer *layer, struct nr_traits *t, struct nr_error *error)
{
	const struct cow *c = layer->instance;
	const struct nr_traits *store = nr_substack_traits(c->store);

	if ((store->read_only && !layer->read_only) || store->block_min > t->block_min)
		return nr_error_set(error, -EINVAL, "the overlay cannot be written to");
	t->size = c->size;
	t->read_only = store->read_only;
	t->memory_align = store->memory_align;
	t->multi_conn = !c->private;
	t->support[NR_CAP_FLUSH] = NR_NATIVE;
	t->support[NR_CAP_FUA] = NR_NATIVE;
	t->support[NR_CAP_TRIM] = NR_NATIVE;
	t->support[NR_CAP_ZERO] = NR_NATIVE;
	t->support[NR_CAP_FAST_ZERO] = c->store_fast_zero ? NR_NATIVE : NR_NONE;
	t->support[NR_CAP_EXTENTS] = NR_NATIVE;
	t->support[NR_CAP_RESIZE] = NR_NONE;
	if (c->on_cache && !layer->read_only)
		t->support[NR_CAP_CACHE] = NR_NATIVE;
	return 0;
}

/* Clients and their overlays. */

/* One in state FROM is USED now; NULL: there is none. */
static struct nr_cow_overlay *claim(struct cow *c, unsigned from)
{
	for (unsigned i = 0; i < c->own_count; i++) {
		unsigned now = from;

		if (atomic_compare_exchange_strong(&c->own[i].use, &now, NR_COW_USED))
			return &c->own[i];
	}
	return NULL;
}

static int cow_admit(struct nr_layer *layer, struct nr_session *session, struct nr_error *error)
{
	struct nr_cow_overlay **mine = nr_session_data(layer, session);
	struct cow *c = layer->instance;
	struct nr_cow_overlay *overlay;

	if (!c->private)
		return 0;
	overlay = claim(c, NR_COW_FREE);
	if (!overlay) {
		overlay = claim(c, NR_COW_LEFT);
		if (overlay)
			atomic_fetch_sub(&c->left, 1);
	}
	if (!overlay)
		return nr_error_set(error, -ENOSPC,
				    "there is room for the overlays of %u clients, and so many are "
				    "connected",
				    c->own_count);
	nr_cow_map_init(&overlay->map, nr_cow_block_behind(c, c->size), false);
	*mine = overlay;
	return 0;
}

static void cow_leave(struct nr_layer *layer, struct nr_session *session)
{
	struct nr_cow_overlay **mine = nr_session_data(layer, session);
	struct cow *c = layer->instance;

	if (!c->private || !*mine)
		return;
	nr_cow_map_fini(&(*mine)->map);
	atomic_store(&(*mine)->use, NR_COW_LEFT);
	atomic_fetch_add(&c->left, 1);
}

/*
 * What clients left behind takes room in the store until somebody else's request comes
 * by: the first one has it taken out.
 */
static void clear_one(struct nr_layer *layer, struct nr_worker *worker)
{
	struct cow *c = layer->instance;
	struct nr_request *req;

	for (unsigned i = 0; i < c->own_count; i++) {
		struct nr_cow_overlay *overlay = &c->own[i];
		struct nr_cow_state *s;
		unsigned now = NR_COW_LEFT;

		if (!atomic_compare_exchange_strong(&overlay->use, &now, NR_COW_CLEARED))
			continue;
		/* It is not sent itself: its child is. */
		req = nr_background(layer, worker, NR_ZERO, 0, c->size);
		if (!req) {
			atomic_store(&overlay->use, NR_COW_LEFT);
			return;
		}
		atomic_fetch_sub(&c->left, 1);
		s = nr_scratch(layer, req);
		s->overlay = overlay;
		nr_cow_clear(layer, req, s);
		return;
	}
}

/* Requests. */

struct nr_request *nr_cow_store_child(struct nr_layer *layer, struct nr_request *req,
				      struct nr_cow_state *s, enum nr_operation operation,
				      uint64_t offset, uint64_t length)
{
	struct cow *c = layer->instance;

	return nr_child_in(layer, c->store, req, operation, s->overlay->start + offset, length);
}

bool nr_cow_wait(struct nr_layer *layer, struct nr_request *req, struct nr_cow_state *s,
		 nr_cow_step *go_on)
{
	if (s->waits >= MEMORY_WAITS)
		return false;
	s->waits++;
	s->go_on = go_on;
	nr_sleep(layer, req, MEMORY_WAIT_NS);
	return true;
}

static struct nr_cow_overlay *overlay_of(struct nr_layer *layer, const struct nr_request *req)
{
	struct cow *c = layer->instance;
	struct nr_cow_overlay **mine = c->private ? nr_session_data(layer, req->session) : NULL;

	return mine ? *mine : &c->shared;
}

static void cached(struct nr_layer *layer, struct nr_request *req, struct nr_cow_state *s)
{
	nr_finish(layer, req, 0);
}

static void cow_cache(struct nr_layer *layer, struct nr_request *req, struct nr_cow_state *s)
{
	const struct cow *c = layer->instance;

	if (c->on_cache && !layer->read_only)
		nr_cow_populate(layer, req, s, cached);
	else if (nr_cow_base_has(layer, req->offset, req->length))
		nr_pass(layer, req);
	else
		nr_finish(layer, req, 0);
}

static bool copies_reads(const struct nr_layer *layer)
{
	const struct cow *c = layer->instance;

	return !layer->read_only &&
	       (c->on_read || (c->on_read_file && nr_flagfile_set(c->on_read_file)));
}

static nr_cow_step *const steps[NR_OPERATION_COUNT] = {
	[NR_READ] = nr_cow_read,       [NR_WRITE] = nr_cow_write, [NR_FLUSH] = nr_cow_flush,
	[NR_TRIM] = nr_cow_write,      [NR_ZERO] = nr_cow_write,  [NR_CACHE] = cow_cache,
	[NR_EXTENTS] = nr_cow_extents,
};

static void cow_submit(struct nr_layer *layer, struct nr_request *req)
{
	struct cow *c = layer->instance;
	struct nr_cow_state *s = nr_scratch(layer, req);
	struct nr_worker *worker = req->worker;

	s->overlay = overlay_of(layer, req);
	s->error = 0;
	s->waits = 0;
	s->locked = false;
	s->fetch.buffer = NULL;
	if (req->operation == NR_READ && copies_reads(layer))
		nr_cow_populate(layer, req, s, nr_cow_read);
	else
		steps[req->operation](layer, req, s);
	if (atomic_load_explicit(&c->left, memory_order_relaxed))
		clear_one(layer, worker);
}

static void cow_child_done(struct nr_layer *layer, struct nr_request *child)
{
	struct nr_request *req = nr_child_parent(child);
	struct nr_cow_state *s = nr_scratch(layer, req);

	s->child_done(layer, req, s, child);
}

static void cow_resume(struct nr_layer *layer, struct nr_request *req)
{
	struct nr_cow_state *s = nr_scratch(layer, req);

	s->go_on(layer, req, s);
}

const struct nr_layer_type nr_cow_type = {
	.abi = NR_LAYER_ABI,
	.name = "cow",
	.summary = "takes writes into an overlay and leaves the disk as it is",
	.kind = NR_FILTER,
	.placement = NR_SPREAD,
	.needs = NR_NEEDS_SCRATCH,
	.params = params,
	.instance_size = sizeof(struct cow),
	.request_size = sizeof(struct nr_cow_state),
	.session_size = sizeof(struct nr_cow_overlay *),
	.check = cow_check,
	.open = cow_open,
	.describe = cow_describe,
	.admit = cow_admit,
	.leave = cow_leave,
	.submit = cow_submit,
	.child_done = cow_child_done,
	.resume = cow_resume,
	.close = cow_close,
};
