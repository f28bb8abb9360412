/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The filter `cache`: blocks of the disk below in a faster store, which is a stack of its
 * own (a file or memory), so that they come and go as requests.  cache.h says which part
 * is where.
 *
 * Here: parameters, and what each request does first.
 */
#include "filters/cache.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "filters/filters.h"
#include "filters/flagfile.h"

#define SIZE_DEFAULT (UINT64_C(1) << 30)
#define LOW_BELOW_HIGH 15u /* per cent, the default */
#define SLOTS_MIN 8u
#define SLOTS_MAX (UINT32_C(1) << 30)
#define LOOKS_MAX 4096u /* blocks, for one question for extents */

static const char *const modes[] = { "writeback", "writethrough", "unsafe", NULL };

static const struct nr_param params[] = {
	{ .name = "cache",
	  .type = NR_PARAM_CHOICE,
	  .offset = offsetof(struct nr_cache, mode),
	  .fallback = "writeback",
	  .choices = modes,
	  .value = "MODE",
	  .help = "When writes reach the disk below",
	  .manual = "C<writeback>: a write is done when the store has it.  It reaches the disk\n"
		    "below in the background, and when a client flushes at the latest.\n\n"
		    "C<writethrough>: a write is done when the disk below has it.\n\n"
		    "C<unsafe>: as C<writeback>, but flushes of clients do nothing." },
	{ .name = "cache-min-block-size",
	  .type = NR_PARAM_SIZE,
	  .offset = offsetof(struct nr_cache, block_size),
	  .fallback = "4k",
	  .min = 4096,
	  .max = NR_TRANSFER_MAX,
	  .value = "SIZE",
	  .help = "Bytes of a block, a power of two",
	  .manual = "How large a block is: a power of two from 4K to 1M.  Where the disk below\n"
		    "asks for larger ones, they are as large as that.  Each takes up to 32 bytes\n"
		    "of memory besides its data, so a cache of terabytes wants larger ones." },
	{ .name = "cache-max-size",
	  .type = NR_PARAM_SIZE,
	  .offset = offsetof(struct nr_cache, max_size),
	  .min = 65536,
	  .max = NR_SIZE_MAX,
	  .value = "SIZE",
	  .help = "Bytes of the cache",
	  .manual = "How many bytes of blocks the store has at most.  The default is 1G, or the\n"
		    "size of the disk if that is less." },
	{ .name = "cache-high-threshold",
	  .type = NR_PARAM_UINT,
	  .offset = offsetof(struct nr_cache, high),
	  .fallback = "100",
	  .min = 1,
	  .max = 100,
	  .value = "PERCENT",
	  .help = "How full the cache gets before blocks are thrown out",
	  .manual = "When more than this many per cent of the cache are in use, blocks are thrown\n"
		    "out until it is C<cache-low-threshold>.  With 100, a block is thrown out\n"
		    "for each one that comes." },
	{ .name = "cache-low-threshold",
	  .type = NR_PARAM_UINT,
	  .offset = offsetof(struct nr_cache, low),
	  .min = 1,
	  .max = 99,
	  .value = "PERCENT",
	  .help = "How full the cache is when enough was thrown out",
	  .manual = "See C<cache-high-threshold>, of which it is 15 less by default.  Must be\n"
		    "less than that." },
	{ .name = "cache-on-read",
	  .type = NR_PARAM_STRING,
	  .offset = offsetof(struct nr_cache, on_read_text),
	  .fallback = "false",
	  .value = "BOOL|PATH",
	  .help = "Cache what clients read: always, never, or while a file exists",
	  .manual = "Whether blocks that clients read are cached.  The path of a file (which\n"
		    "begins with C</>) means: while that file exists.  Without this, blocks\n"
		    "come into the cache by writes and by requests to prefetch." },
	{ .name = "cache-on-write",
	  .type = NR_PARAM_BOOL,
	  .offset = offsetof(struct nr_cache, on_write),
	  .fallback = "true",
	  .value = "BOOL",
	  .help = "Cache what clients write",
	  .manual = "Whether blocks that clients write are cached.  With C<false> only those\n"
		    "are written to the cache that are in it already." },
	{ .name = "cache-policy",
	  .type = NR_PARAM_CHOICE,
	  .offset = offsetof(struct nr_cache, policy),
	  .fallback = "s3-fifo",
	  .choices = nr_policy_names,
	  .value = "POLICY",
	  .help = "Which blocks go when others come",
	  .manual = "C<lru> throws out what was not used for longest.  C<arc> and C<s3-fifo>\n"
		    "also see how often it was used, so that reading the whole disk once does\n"
		    "not throw out what is used all the time." },
	{ .name = "cache-dirty-max",
	  .type = NR_PARAM_UINT,
	  .offset = offsetof(struct nr_cache, dirty_max),
	  .fallback = "50",
	  .min = 1,
	  .max = 90,
	  .value = "PERCENT",
	  .help = "How much of the cache may be waiting to be written below",
	  .manual = "How many per cent of the blocks may be waiting to be written below.  From\n"
		    "half of that on they are written at once, and beyond it clients write\n"
		    "past the cache." },
	{ .name = "cache-dirty-age",
	  .type = NR_PARAM_UINT,
	  .offset = offsetof(struct nr_cache, dirty_age),
	  .fallback = "5",
	  .min = 1,
	  .max = 86400,
	  .value = "SECONDS",
	  .help = "How long a block may wait to be written below",
	  .manual = "After how many seconds a block that was written is written below, although\n"
		    "nobody flushes." },
	{ .name = "cache-dir",
	  .type = NR_PARAM_PATH,
	  .flags = NR_PARAM_WRITTEN | NR_PARAM_MADE,
	  .offset = offsetof(struct nr_cache, directory),
	  .value = "DIRECTORY",
	  .help = "Keep the blocks in a file here, without a name",
	  .manual = "The folder for the file that has the blocks.  The file has no name and is\n"
		    "gone when the export is closed.  The default is to keep them in memory." },
	{ .name = "cache-file",
	  .type = NR_PARAM_PATH,
	  .flags = NR_PARAM_WRITTEN | NR_PARAM_MADE,
	  .offset = offsetof(struct nr_cache, file),
	  .value = "PATH",
	  .help = "Keep the blocks in this file, also from one server to the next",
	  .manual = "The file for the blocks, which is made if it does not exist.  When the\n"
		    "export is opened again they are there, if the server ended in order and\n"
		    "the disk is still the same.  One export may use it at a time." },
	{ .name = NULL },
};

static uint64_t hit_ratio(const struct nr_layer *layer)
{
	const struct nr_cache_figures *f = &nr_cache_of(layer)->figures;
	uint64_t hits = nr_count_get(&f->hits);

	return nr_millionths(hits, hits + nr_count_get(&f->misses));
}

static uint64_t used_bytes(const struct nr_layer *layer)
{
	const struct nr_cache *c = nr_cache_of(layer);

	return nr_count_get(&c->map.used_now) << c->shift;
}

static uint64_t dirty_bytes(const struct nr_layer *layer)
{
	const struct nr_cache *c = nr_cache_of(layer);

	return nr_count_get(&c->map.dirty_now) << c->shift;
}

static uint64_t dirty_bytes_most(const struct nr_layer *layer)
{
	const struct nr_cache *c = nr_cache_of(layer);

	return nr_count_get(&c->map.dirty_most) << c->shift;
}

static const struct nr_figure figures[] = {
	{ .name = "hits",
	  .offset = offsetof(struct nr_cache, figures.hits),
	  .help = "Blocks that were to be read and were in the cache" },
	{ .name = "misses",
	  .offset = offsetof(struct nr_cache, figures.misses),
	  .help = "Blocks that were to be read and were not" },
	{ .name = "hit_ratio",
	  .unit = NR_FIGURE_MILLIONTHS,
	  .value = hit_ratio,
	  .help = "The share of the former in both" },
	{ .name = "filled",
	  .offset = offsetof(struct nr_cache, figures.filled),
	  .help = "Misses that were read from below into the cache" },
	{ .name = "bypassed",
	  .offset = offsetof(struct nr_cache, figures.bypassed),
	  .help = "Misses that were read past the cache" },
	{ .name = "stored",
	  .offset = offsetof(struct nr_cache, figures.stored),
	  .help = "Blocks that came into the cache by being written" },
	{ .name = "evictions",
	  .offset = offsetof(struct nr_cache, map.evictions),
	  .help = "Blocks that were thrown out, for others or because the cache was too full" },
	{ .name = "used_bytes",
	  .unit = NR_FIGURE_BYTES,
	  .value = used_bytes,
	  .help = "What is in the cache" },
	{ .name = "dirty_bytes",
	  .unit = NR_FIGURE_BYTES,
	  .value = dirty_bytes,
	  .help = "Of that, what is not written below yet" },
	{ .name = "dirty_bytes_most",
	  .unit = NR_FIGURE_BYTES,
	  .value = dirty_bytes_most,
	  .help = "The most that this ever was" },
	{ .name = "written_back",
	  .offset = offsetof(struct nr_cache, figures.written_back),
	  .help = "Blocks that were written below" },
	{ .name = "write_requests",
	  .offset = offsetof(struct nr_cache, figures.jobs),
	  .help = "Runs of blocks that lie one behind the other, of which these were made up" },
	{ .name = "failed_write_requests",
	  .offset = offsetof(struct nr_cache, figures.failed_jobs),
	  .help = "Runs that could not be written below, each time that it was tried" },
	{ .name = "store_errors",
	  .offset = offsetof(struct nr_cache, figures.store_errors),
	  .help = "Requests that the cache's own file or memory failed" },
	{ .name = "given_back",
	  .offset = offsetof(struct nr_cache, figures.given_back),
	  .help = "Blocks whose room was given back, to the file system or the memory" },
	{ .name = NULL },
};

static int check(struct nr_layer *layer, struct nr_error *error)
{
	const struct nr_cache *c = nr_cache_of(layer);
	const char *text = c->on_read_text;

	if (c->low && c->low >= c->high)
		return nr_error_set(error, -EINVAL,
				    "cache-low-threshold=%" PRIu64
				    " is not less than cache-high-threshold=%" PRIu64,
				    c->low, c->high);
	if (c->directory && c->file)
		return nr_error_set(
			error, -EINVAL,
			"cache-dir and cache-file exclude each other; give one of them");
	if (!nr_is_power_of_2(c->block_size))
		return nr_error_set(error, -EINVAL,
				    "cache-min-block-size: %" PRIu64
				    " is not a power of two from 4K to 1M",
				    c->block_size);
	if (text[0] != '/' && strcmp(text, "true") != 0 && strcmp(text, "false") != 0)
		return nr_error_set(error, -EINVAL,
				    "cache-on-read: '%s' is neither true nor false nor the path of "
				    "a file, which begins with /",
				    text);
	return 0;
}

/* Opening and closing. */

static void set_sizes(struct nr_layer *layer)
{
	struct nr_cache *c = nr_cache_of(layer);
	uint64_t block = nr_max(c->block_size, layer->below->traits.block_min);
	uint64_t max = c->max_size, slots;

	c->layer = layer;
	c->block = (uint32_t)block;
	c->shift = (unsigned)__builtin_ctzll(block);
	c->size = nr_layer_size(layer->below);
	if (!max)
		max = nr_min(SIZE_DEFAULT, c->size);
	slots = nr_min(nr_max(max >> c->shift, SLOTS_MIN), SLOTS_MAX);
	c->map.slots = (uint32_t)slots;
	c->high_slots = (uint32_t)(slots * c->high / 100);
	if (c->low == 0)
		c->low = c->high > LOW_BELOW_HIGH ? c->high - LOW_BELOW_HIGH : 0;
	c->low_slots = (uint32_t)(slots * c->low / 100);
	c->dirty_limit = (uint32_t)nr_max(slots * c->dirty_max / 100, 1);
	c->dirty_begin = c->dirty_limit / 2;
}

static int open_files(struct nr_layer *layer, struct nr_error *error)
{
	struct nr_cache *c = nr_cache_of(layer);

	c->on_read = strcmp(c->on_read_text, "true") == 0;
	if (c->on_read_text[0] == '/') {
		c->on_read_flag = nr_flagfile_watch(c->on_read_text, error);
		if (!c->on_read_flag)
			return error ? error->code : -ENOMEM;
	}
	return 0;
}

static int cache_open(struct nr_layer *layer, struct nr_error *error)
{
	struct nr_cache *c = nr_cache_of(layer);
	int err;

	set_sizes(layer);
	err = open_files(layer, error);
	if (!err && !nr_cache_map_init(&c->map, nr_policy_types[c->policy], c->map.slots))
		err = nr_error_system(error, -ENOMEM, "what is cached where");
	if (err) {
		nr_flagfile_unwatch(c->on_read_flag);
		return err;
	}
	err = nr_cache_store_open(layer, error);
	if (err) {
		nr_cache_map_fini(&c->map);
		nr_flagfile_unwatch(c->on_read_flag);
	}
	return err;
}

static void cache_close(struct nr_layer *layer)
{
	struct nr_cache *c = nr_cache_of(layer);

	nr_cache_store_close(layer);
	nr_cache_map_fini(&c->map);
	nr_cache_free_leases(c);
	nr_flagfile_unwatch(c->on_read_flag);
}

static int describe(struct nr_layer *layer, struct nr_traits *t, struct nr_error *error)
{
	const struct nr_cache *c = nr_cache_of(layer);

	t->memory_align =
		(uint32_t)nr_max(t->memory_align, nr_substack_traits(c->store)->memory_align);
	t->support[NR_CAP_CACHE] = NR_NATIVE;
	if (c->mode == NR_CACHE_WRITETHROUGH)
		return 0;
	/* What is below does not know yet what has been written. */
	t->context_count = 0;
	t->support[NR_CAP_FLUSH] = NR_NATIVE;
	t->support[NR_CAP_FUA] = NR_NATIVE;
	return 0;
}

static int admit(struct nr_layer *layer, struct nr_session *session, struct nr_error *error)
{
	struct nr_cache *c = nr_cache_of(layer);

	atomic_store(&c->had_clients, true);
	atomic_fetch_add(&c->clients, 1);
	return 0;
}

static void leave(struct nr_layer *layer, struct nr_session *session)
{
	atomic_fetch_sub(&nr_cache_of(layer)->clients, 1);
}

/* Requests. */

void nr_cache_check_size(struct nr_layer *layer)
{
	struct nr_cache *c = nr_cache_of(layer);
	uint64_t size = nr_layer_size(layer->below), before = c->size;

	c->size = size;
	if (size >= before)
		return;
	for (uint32_t slot = 0; slot < c->map.fresh; slot++) {
		enum nr_cache_state state = nr_cache_state_of(&c->map, slot);

		/* Those that are in use are dropped by who uses them. */
		if ((state == NR_CACHE_CLEAN || state == NR_CACHE_DIRTY) &&
		    c->map.slot[slot].writers == 0 &&
		    !nr_cache_is_whole(c, nr_cache_block_of(&c->map, slot)))
			nr_cache_drop(&c->map, slot);
	}
}

void nr_cache_finish(struct nr_layer *layer, struct nr_request *req, int error)
{
	nr_cache_leave_range(layer, req);
	nr_finish(layer, req, error);
}

void nr_cache_retry(struct nr_layer *layer, struct nr_request *req)
{
	struct nr_cache_state_of_request *s = nr_scratch(layer, req);

	if (s->retries++ < NR_CACHE_RETRIES)
		nr_sleep(layer, req, NR_CACHE_RETRY_NS);
	else
		nr_cache_finish(layer, req, -ENOMEM);
}

static bool dirty_at(const struct nr_cache *c, uint64_t block)
{
	uint32_t slot = nr_cache_find(&c->map, block);
	enum nr_cache_state state;

	if (slot == NR_NO_SLOT)
		return false;
	state = nr_cache_state_of(&c->map, slot);
	return state == NR_CACHE_DIRTY || state == NR_CACHE_WRITING ||
	       state == NR_CACHE_DIRTY_AGAIN;
}

/*
 * What is dirty is data, whatever is below.  A map may end early: it ends where the one
 * goes over into the other.
 */
static void extents(struct nr_layer *layer, struct nr_request *req)
{
	struct nr_cache *c = nr_cache_of(layer);
	struct nr_extents *list = req->extents;
	uint64_t block = req->offset >> c->shift, end = req->offset + req->length;
	bool dirty = dirty_at(c, block);

	if (c->map.dirty == 0 || req->metadata) {
		nr_pass(layer, req);
		return;
	}
	for (unsigned i = 0; i < LOOKS_MAX && block << c->shift < end; i++)
		if (dirty_at(c, ++block) != dirty)
			break;
	end = nr_min(end, block << c->shift);
	if (dirty) {
		nr_extents_add(list, end - req->offset, 0);
		nr_finish(layer, req, 0);
		return;
	}
	req->length = end - req->offset;
	list->end = end;
	nr_pass(layer, req);
}

static void begin_range(struct nr_layer *layer, struct nr_request *req)
{
	const struct nr_cache *c = nr_cache_of(layer);
	struct nr_cache_state_of_request *s = nr_scratch(layer, req);
	bool fua = (req->flags & NR_FUA) && c->mode != NR_CACHE_UNSAFE;

	s->stage = NR_STAGE_SETTLE;
	s->drops = true;
	s->stable = fua && layer->below->traits.support[NR_CAP_FUA] == NR_NONE;
	s->from = req->offset;
	s->end = req->operation == NR_RESIZE ? UINT64_MAX : req->offset + req->length;
	nr_cache_step(layer, req);
}

static void begin_flush(struct nr_layer *layer, struct nr_request *req)
{
	const struct nr_cache *c = nr_cache_of(layer);
	struct nr_cache_state_of_request *s = nr_scratch(layer, req);

	if (c->mode == NR_CACHE_UNSAFE && req->session) {
		nr_finish(layer, req, 0);
		return;
	}
	s->stage = NR_STAGE_DIRTY;
	s->failures = c->reported;
	nr_cache_step(layer, req);
}

static void submit(struct nr_layer *layer, struct nr_request *req)
{
	struct nr_cache *c = nr_cache_of(layer);
	struct nr_cache_state_of_request *s = nr_scratch(layer, req);

	memset(s, 0, offsetof(struct nr_cache_state_of_request, part));
	s->flags = req->flags;
	s->offset = req->offset;
	s->length = req->length;
	if (c->size != nr_layer_size(layer->below))
		nr_cache_check_size(layer);
	nr_cache_give_back(layer, req->worker);
	switch (req->operation) {
	case NR_READ:
	case NR_CACHE:
		s->stage = NR_STAGE_READ;
		s->at = req->offset;
		s->end = req->offset + req->length;
		nr_cache_read(layer, req);
		break;
	case NR_WRITE:
		nr_cache_begin_write(layer, req);
		break;
	case NR_FLUSH:
		begin_flush(layer, req);
		break;
	case NR_TRIM:
	case NR_ZERO:
	case NR_RESIZE:
		begin_range(layer, req);
		break;
	case NR_EXTENTS:
		s->stage = NR_STAGE_PASS;
		extents(layer, req);
		break;
	case NR_OPERATION_COUNT:
		break;
	}
}

void nr_cache_step(struct nr_layer *layer, struct nr_request *req)
{
	struct nr_cache_state_of_request *s = nr_scratch(layer, req);

	switch (s->stage) {
	case NR_STAGE_READ:
		nr_cache_read(layer, req);
		break;
	case NR_STAGE_STORE:
	case NR_STAGE_UPDATE:
		nr_cache_write(layer, req);
		break;
	case NR_STAGE_SETTLE:
		nr_cache_settle(layer, req);
		break;
	case NR_STAGE_DIRTY:
	case NR_STAGE_FLUSH:
		nr_cache_flush(layer, req);
		break;
	case NR_STAGE_JOB:
		nr_cache_job_go_on(layer, req);
		break;
	case NR_STAGE_BELOW: /* it goes on by itself */
	case NR_STAGE_ROOM:
	case NR_STAGE_PASS:
		break;
	}
}

static void resume(struct nr_layer *layer, struct nr_request *req)
{
	struct nr_cache *c = nr_cache_of(layer);

	if (req == c->writer) {
		c->writer_sleeps = false;
		nr_cache_writer_turn(layer);
	} else {
		nr_cache_step(layer, req);
	}
}

/* Back from below itself: extents; zero, trim and resize. */
static void done(struct nr_layer *layer, struct nr_request *req)
{
	struct nr_cache_state_of_request *s = nr_scratch(layer, req);
	int error = req->error;

	req->flags = s->flags;
	req->offset = s->offset;
	req->length = s->length;
	if (req->operation == NR_RESIZE && !error)
		nr_cache_check_size(layer);
	if (s->stage == NR_STAGE_BELOW && !error && s->stable) {
		s->stage = NR_STAGE_FLUSH;
		nr_cache_step(layer, req);
		return;
	}
	nr_cache_finish(layer, req, error);
}

static void part_child_done(struct nr_layer *layer, struct nr_request *req,
			    struct nr_request *child)
{
	struct nr_cache_state_of_request *s = nr_scratch(layer, req);
	struct nr_cache_part *part = nr_cache_part_of(nr_cache_of(layer), s, child);

	nr_cache_part_child(layer, req, part, child);
	if (s->under_way)
		return;
	if (s->stage == NR_STAGE_READ)
		nr_cache_read_over(layer, req);
	else
		nr_cache_write_over(layer, req);
}

static void child_done(struct nr_layer *layer, struct nr_request *child)
{
	struct nr_request *req = nr_child_parent(child);
	struct nr_cache_state_of_request *s = nr_scratch(layer, req);

	if (s->stage == NR_STAGE_JOB) {
		nr_cache_job_child(layer, child);
	} else if (s->stage == NR_STAGE_ROOM) {
		nr_cache_room_child(layer, child);
	} else if (s->stage == NR_STAGE_FLUSH) {
		int error = child->error;

		nr_child_release(child);
		if (req->operation == NR_FLUSH)
			nr_cache_of(layer)->flush_failed = error != 0;
		nr_cache_finish(layer, req, error);
	} else {
		part_child_done(layer, req, child);
	}
}

const struct nr_layer_type nr_cache_type = {
	.abi = NR_LAYER_ABI,
	.name = "cache",
	.summary = "keeps blocks of a slow disk in memory or in a file",
	.kind = NR_FILTER,
	.placement = NR_HOME,
	.params = params,
	.figures = figures,
	.instance_size = sizeof(struct nr_cache),
	.request_size = sizeof(struct nr_cache_state_of_request),
	.check = check,
	.open = cache_open,
	.describe = describe,
	.admit = admit,
	.leave = leave,
	.submit = submit,
	.done = done,
	.contexts_pass = true,
	.child_done = child_done,
	.resume = resume,
	.close = cache_close,
};
