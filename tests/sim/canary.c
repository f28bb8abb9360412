/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The planted bugs.  See canary.h.
 *
 *   flush    a flush is answered before the disk's flush is done (it is never begun)
 *   buffer   the memory of a read is given back before it has been sent
 *   cancel   bytes that were received when the receive was cancelled are dropped
 *   fua      a write with FUA is answered before it is stable
 *   place    two blocks of a long read have changed places
 *   map      now and then a flush of an overlay leaves out what its map has to say
 *   intent   now and then the bitmap of a mirror forgets what may differ
 *   dirty    now and then a flush of a cache takes what is dirty for written
 *   lock     filters that hold a range of the disk do not wait for each other
 *
 * They are planted where the server's parts call each other (--wrap), so that the
 * product's code has no trace of them.
 */
#undef NDEBUG
#include "tests/sim/canary.h"

#include <assert.h>
#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/uio.h>

#include "backends/mirror-bitmap.h"
#include "filters/cache-map.h"
#include "filters/cow-map.h"
#include "filters/rangelock.h"
#include "nbdring/request.h"
#include "ring/ring.h"
#include "tests/sim/world.h"

#define RECEIVES_MAX 64u
#define LONG_READ 65536u

static enum { NONE, FLUSH, BUFFER, CANCEL, FUA, PLACE, MAP, LOCK, DIRTY, INTENT } planted;

bool sim_canary_choose(const char *name)
{
	static const char *const names[] = { "none",  "flush", "buffer", "cancel", "fua",
					     "place", "map",   "lock",   "dirty",  "intent" };

	for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (strcmp(name, names[i]) == 0) {
			planted = i;
			sim_report.wanted = i != NONE;
			return true;
		}
	return false;
}

/* ---- flush ------------------------------------------------------------- */

void __real_nr_ring_fsync(struct nr_ring *ring, struct nr_completion *c, int fd, bool data_only);
void __wrap_nr_ring_fsync(struct nr_ring *ring, struct nr_completion *c, int fd, bool data_only);
void __wrap_nr_ring_fsync(struct nr_ring *ring, struct nr_completion *c, int fd, bool data_only)
{
	/* A write of nothing is done in the next turn. */
	if (planted == FLUSH)
		nr_ring_write(ring, c, fd, "", 0, 0);
	else
		__real_nr_ring_fsync(ring, c, fd, data_only);
}

/* ---- FUA --------------------------------------------------------------- */

void __real_nr_completion_set_rw_flags(struct nr_completion *c, uint32_t rwf);
void __wrap_nr_completion_set_rw_flags(struct nr_completion *c, uint32_t rwf);
void __wrap_nr_completion_set_rw_flags(struct nr_completion *c, uint32_t rwf)
{
	__real_nr_completion_set_rw_flags(c, planted == FUA ? rwf & ~(uint32_t)RWF_DSYNC : rwf);
}

/* ---- map --------------------------------------------------------------- */

struct nr_cow_page *__real_nr_cow_map_take_changed(struct nr_cow_map *map);
struct nr_cow_page *__wrap_nr_cow_map_take_changed(struct nr_cow_map *map);
struct nr_cow_page *__wrap_nr_cow_map_take_changed(struct nr_cow_map *map)
{
	struct nr_cow_page *pages = __real_nr_cow_map_take_changed(map);

	return planted == MAP && sim_one_in(4) ? NULL : pages;
}

/* ---- lock -------------------------------------------------------------- */

bool __real_nr_rangelock_take(struct nr_rangelock *lock, struct nr_range_ticket *ticket);
bool __wrap_nr_rangelock_take(struct nr_rangelock *lock, struct nr_range_ticket *ticket);
bool __wrap_nr_rangelock_take(struct nr_rangelock *lock, struct nr_range_ticket *ticket)
{
	return planted == LOCK || __real_nr_rangelock_take(lock, ticket);
}

void __real_nr_rangelock_give(struct nr_rangelock *lock, struct nr_range_ticket *ticket);
void __wrap_nr_rangelock_give(struct nr_rangelock *lock, struct nr_range_ticket *ticket);
void __wrap_nr_rangelock_give(struct nr_rangelock *lock, struct nr_range_ticket *ticket)
{
	if (planted != LOCK)
		__real_nr_rangelock_give(lock, ticket);
}

/* ---- dirty ------------------------------------------------------------- */

uint32_t __real_nr_cache_next_dirty(const struct nr_cache_map *map, uint32_t from);
uint32_t __wrap_nr_cache_next_dirty(const struct nr_cache_map *map, uint32_t from);
uint32_t __wrap_nr_cache_next_dirty(const struct nr_cache_map *map, uint32_t from)
{
	if (planted == DIRTY && sim_one_in(8))
		return NR_NO_SLOT;
	return __real_nr_cache_next_dirty(map, from);
}

/* ---- intent ------------------------------------------------------------ */

void __real_nr_bitmap_put_bits(uint8_t *block, uint32_t number,
			       const uint64_t words[NR_BITMAP_WORDS]);
void __wrap_nr_bitmap_put_bits(uint8_t *block, uint32_t number,
			       const uint64_t words[NR_BITMAP_WORDS]);
void __wrap_nr_bitmap_put_bits(uint8_t *block, uint32_t number,
			       const uint64_t words[NR_BITMAP_WORDS])
{
	static const uint64_t none[NR_BITMAP_WORDS];
	bool forgets = planted == INTENT && sim_one_in(4);

	__real_nr_bitmap_put_bits(block, number, forgets ? none : words);
}

/* ---- buffer ------------------------------------------------------------ */

static void release_nothing(struct nr_buffer *buffer)
{
	(void)buffer;
}

static struct nr_buffer nobody = { .release = release_nothing };

bool __real_nr_answer_data(struct nr_request *req, void *data, uint64_t length,
			   struct nr_buffer *owner);
bool __wrap_nr_answer_data(struct nr_request *req, void *data, uint64_t length,
			   struct nr_buffer *owner);
bool __wrap_nr_answer_data(struct nr_request *req, void *data, uint64_t length,
			   struct nr_buffer *owner)
{
	bool taken;

	/* Place: two neighbouring blocks of a long answer change places. */
	if (planted == PLACE && length >= LONG_READ && sim_one_in(8)) {
		uint8_t *bytes = data, half[4096];

		memcpy(half, bytes, sizeof(half));
		memmove(bytes, bytes + sizeof(half), sizeof(half));
		memcpy(bytes + sizeof(half), half, sizeof(half));
	}
	if (planted != BUFFER || !owner)
		return __real_nr_answer_data(req, data, length, owner);
	taken = __real_nr_answer_data(req, data, length, &nobody);
	owner->release(owner);
	return taken;
}

/* ---- cancel ------------------------------------------------------------ */

/* A receive under way, with what it was to call. */
static struct receive {
	struct nr_completion *c;
	nr_completion_fn *done;
	bool cancelled;
} receives[RECEIVES_MAX];

static struct receive *receive_of(const struct nr_completion *c)
{
	for (unsigned i = 0; i < RECEIVES_MAX; i++)
		if (receives[i].c == c)
			return &receives[i];
	return NULL;
}

static void received(struct nr_ring *ring, struct nr_completion *c)
{
	struct receive *r = receive_of(c);

	assert(r);
	r->c = NULL;
	c->done = r->done;
	if (r->cancelled && c->result > 0)
		c->result = -ECANCELED;
	c->done(ring, c);
}

void __real_nr_ring_recv(struct nr_ring *ring, struct nr_completion *c, int fd, void *data,
			 size_t length);
void __wrap_nr_ring_recv(struct nr_ring *ring, struct nr_completion *c, int fd, void *data,
			 size_t length);
void __wrap_nr_ring_recv(struct nr_ring *ring, struct nr_completion *c, int fd, void *data,
			 size_t length)
{
	struct receive *r = planted == CANCEL ? receive_of(NULL) : NULL;

	if (r) {
		*r = (struct receive){ c, c->done, false };
		c->done = received;
	}
	__real_nr_ring_recv(ring, c, fd, data, length);
}

void __real_nr_ring_cancel(struct nr_ring *ring, struct nr_completion *c);
void __wrap_nr_ring_cancel(struct nr_ring *ring, struct nr_completion *c);
void __wrap_nr_ring_cancel(struct nr_ring *ring, struct nr_completion *c)
{
	struct receive *r = receive_of(c);

	if (r)
		r->cancelled = true;
	__real_nr_ring_cancel(ring, c);
}
