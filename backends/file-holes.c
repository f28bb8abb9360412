/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Where a file has holes: for reads, which are then answered without reading,
 * and as the allocation map (extents).
 *
 * What is remembered is where data is, never where holes are.  A place that is
 * taken for data and is a hole by now is read, and reads as zeroes; a place that
 * is taken for a hole and holds data by now would be corruption.  So a hole is
 * believed only when lseek has just said so.  Data is remembered as a bitmap of
 * granules; a read of known data costs a test of a bit or two, on any worker,
 * without a lock.
 *
 * What a worker may ask (docs/decisions/0011):
 *   - only file systems that answer from memory, and at most LOOKUPS questions
 *     for one read: what is left then is read as data;
 *   - nothing while this server changes the file, because lseek waits for the
 *     inode's lock, and who writes may hold that for long;
 *   - on tmpfs only for the next data, because the next hole is found there by
 *     walking over every page before it.
 * To have little to ask, the file is looked over once when it is opened, as far
 * as that goes in a second.
 *
 * Holes shorter than HOLE_MIN inside a longer read are read like data: the
 * request stays one operation.
 *
 * Threads: nr_holes_open and nr_holes_extents block; nr_holes_run and
 * nr_holes_made are for workers.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "backends/file.h"
#include "nbdring/checked.h"

#define LOOKUPS 8
#define HOLE_MIN 32768u
#define GRANULE_SHIFT_MIN 16      /* 64 KiB … */
#define GRANULES_MAX (1ull << 20) /* … or more, for at most so many: 128 KiB of bits */
#define RECENT 1024u              /* stretches: 16 KiB … */
#define RECENT_SHIFT 20           /* … one for each MiB, modulo their number … */
#define RECENT_SHIFT_MIN 18       /* … if granules are larger than this */
#define SCAN_EXTENTS 65536u
#define SCAN_NS 1000000000u
#define ANSWER_EXTENTS 8192u /* extents of one answer … */
#define ANSWER_NS 100000000u /* … and the time to find them */

#define BITS 64u

static uint64_t now_ns(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* ---- what is known ----------------------------------------------------- */

static int known_open(struct nr_known *known, uint64_t size)
{
	known->shift = GRANULE_SHIFT_MIN;
	while (size >> known->shift > GRANULES_MAX)
		known->shift++;
	known->granules = size >> known->shift;
	if (size & ((UINT64_C(1) << known->shift) - 1))
		known->granules++;
	known->word = calloc(known->granules / BITS + 1, sizeof(*known->word));
	if (known->shift > RECENT_SHIFT_MIN)
		known->recent = calloc(RECENT, sizeof(*known->recent));
	return known->word ? 0 : -ENOMEM; /* without `recent` more is asked */
}

static struct nr_stretch *recent_at(const struct nr_known *known, uint64_t within)
{
	return &known->recent[(within >> RECENT_SHIFT) % RECENT];
}

static bool recently_met(const struct nr_known *known, uint64_t within, uint64_t length)
{
	const struct nr_stretch *stretch;

	if (!known->recent)
		return false;
	stretch = recent_at(known, within);
	return atomic_load_explicit(&stretch->from, memory_order_relaxed) <= within &&
	       atomic_load_explicit(&stretch->to, memory_order_relaxed) >= within + length;
}

/* There may be a hole in [FROM, TO) now. */
static void forget(const struct nr_known *known, uint64_t from, uint64_t to)
{
	for (unsigned i = 0; known->recent && i < RECENT; i++) {
		struct nr_stretch *stretch = &known->recent[i];

		if (atomic_load_explicit(&stretch->from, memory_order_relaxed) < to &&
		    atomic_load_explicit(&stretch->to, memory_order_relaxed) > from)
			atomic_store_explicit(&stretch->to, 0, memory_order_relaxed);
	}
}

/* Who asked at AT was told of the data in [FROM, TO). */
static void remember(const struct nr_known *known, uint64_t at, uint64_t from, uint64_t to)
{
	struct nr_stretch *stretch;

	if (!known->recent)
		return;
	stretch = recent_at(known, nr_max(at, from));
	atomic_store_explicit(&stretch->from, from, memory_order_relaxed);
	atomic_store_explicit(&stretch->to, to, memory_order_relaxed);
}

static bool known_data(const struct nr_known *known, uint64_t within, uint64_t length)
{
	uint64_t first = within >> known->shift;
	uint64_t last = (within + length - 1) >> known->shift;

	if (last >= known->granules)
		return false;
	if (recently_met(known, within, length))
		return true;
	for (uint64_t i = first; i <= last; i++) {
		uint64_t word = atomic_load_explicit(&known->word[i / BITS], memory_order_relaxed);

		if (!(word >> (i % BITS) & 1))
			return false;
	}
	return true;
}

/* Set or clear the granules from FIRST up to, not including, END. */
static void mark(struct nr_known *known, uint64_t first, uint64_t end, bool data)
{
	end = nr_min(end, known->granules);
	while (first < end) {
		uint64_t bit = first % BITS;
		uint64_t many = nr_min(BITS - bit, end - first);
		uint64_t mask = (many == BITS ? ~UINT64_C(0) : (UINT64_C(1) << many) - 1) << bit;
		_Atomic uint64_t *word = &known->word[first / BITS];

		if (data)
			atomic_fetch_or_explicit(word, mask, memory_order_relaxed);
		else
			atomic_fetch_and_explicit(word, ~mask, memory_order_relaxed);
		first += many;
	}
}

/* [FROM, TO) is data: that is known of the granules wholly inside. */
static void learn(struct nr_file *file, uint64_t from, uint64_t to)
{
	struct nr_known *known = &file->known;
	uint64_t first, end;

	if (!known->word || !nr_round_up(from, UINT64_C(1) << known->shift, &first))
		return;
	first >>= known->shift;
	/* The last granule may be a short one. */
	end = to >= file->size ? known->granules : to >> known->shift;
	mark(known, first, end, true);
}

void nr_holes_made(struct nr_file *file, uint64_t within, uint64_t length)
{
	struct nr_known *known = &file->known;

	if (!known->word)
		return;
	if (length)
		mark(known, within >> known->shift, ((within + length - 1) >> known->shift) + 1,
		     false);
	forget(known, within, within + length);
	atomic_store_explicit(&file->sparse, true, memory_order_relaxed);
}

/* ---- opening ----------------------------------------------------------- */

/*
 * Walk over the file and learn where data is.  What it costs is metadata from
 * the disk, which later questions then find in memory.
 */
static void scan(struct nr_file *file)
{
	uint64_t until = now_ns() + SCAN_NS;
	off_t data = 0, hole = 0;

	for (unsigned i = 0; i < SCAN_EXTENTS && now_ns() < until; i++) {
		data = lseek(file->fd, hole, SEEK_DATA);
		if (data < 0)
			break;
		hole = lseek(file->fd, data, SEEK_HOLE);
		if (hole <= data)
			break;
		learn(file, (uint64_t)data, (uint64_t)hole);
	}
}

int nr_holes_open(struct nr_file *file)
{
	struct stat st;

	if (file->block_device || file->lookup == NR_LOOKUP_NONE)
		return 0;
	if (known_open(&file->known, file->size) < 0)
		return -ENOMEM;
	/* Every byte has a block: no holes until somebody makes one. */
	if (fstat(file->fd, &st) == 0 && (uint64_t)st.st_blocks * 512 >= file->size)
		return 0;
	atomic_store_explicit(&file->sparse, true, memory_order_relaxed);
	scan(file);
	return 0;
}

void nr_holes_close(struct nr_file *file)
{
	free(file->known.word);
	free(file->known.recent);
	file->known.word = NULL;
	file->known.recent = NULL;
}

/* ---- reads ------------------------------------------------------------- */

/*
 * [FROM, TO) is a hole, in a read that goes on to END and may have begun earlier.
 * Cut it to whole blocks; is what is left worth a segment of its own?
 */
static bool worth_it(const struct nr_disk *disk, uint64_t begin, uint64_t end, uint64_t *from,
		     uint64_t *to)
{
	*to = *to < end ? nr_round_down(*to, disk->block_min) : end;
	if (!nr_round_up(*from, disk->block_min, from) || *from >= *to)
		return false;
	return *to - *from >= HOLE_MIN || (*from == begin && *to == end);
}

static bool file_reaches(const struct nr_file *file, uint64_t end)
{
	uint64_t size;

	return nr_file_size_now(file, &size) == 0 && size >= end;
}

/*
 * The first hole worth it in [BEGIN, END) as [*FROM, *TO), or false: then all of
 * it is to be read, be it data or not.
 */
static bool find_hole(struct nr_disk *disk, struct nr_file *file, uint64_t begin, uint64_t end,
		      uint64_t *from, uint64_t *to)
{
	uint64_t at = begin;

	for (unsigned i = 0; i < LOOKUPS / 2; i++) {
		off_t data = lseek(file->fd, (off_t)at, SEEK_DATA), hole;

		/* ENXIO: no data from here on; or no file, which reading will show. */
		if (data < 0 && (errno != ENXIO || !file_reaches(file, end)))
			return false;
		*from = at;
		*to = data < 0 ? end : (uint64_t)data;
		if (worth_it(disk, begin, end, from, to))
			return true;
		if (data < 0 || (uint64_t)data >= end || file->lookup == NR_LOOKUP_DATA)
			return false;
		hole = lseek(file->fd, data, SEEK_HOLE);
		if (hole <= data)
			return false;
		learn(file, (uint64_t)data, (uint64_t)hole);
		remember(&file->known, at, (uint64_t)data, (uint64_t)hole);
		if ((uint64_t)hole >= end)
			return false;
		at = (uint64_t)hole;
	}
	return false;
}

uint64_t nr_holes_run(struct nr_disk *disk, struct nr_file *file, uint64_t within, uint64_t length,
		      bool *hole)
{
	uint64_t from, to;

	*hole = false;
	if (!atomic_load_explicit(&file->sparse, memory_order_relaxed))
		return length;
	if (known_data(&file->known, within, length) || nr_disk_being_changed(disk))
		return length;
	if (!find_hole(disk, file, within, within + length, &from, &to))
		return length;
	if (from > within)
		return from - within;
	*hole = true;
	return to - within;
}

/* ---- extents ----------------------------------------------------------- */

struct map {
	struct nr_extents *list;
	uint64_t until;   /* time is up */
	unsigned lookups; /* left; only a worker counts them */
	bool counts;      /* on a worker */
	bool one;         /* nobody wants a second extent */
};

/* Returns false when no more can be added, or is to be. */
static bool map_add(struct map *map, uint64_t length, uint64_t status)
{
	struct nr_extents *list = map->list;

	if (map->one && list->count && list->extent[0].status != status)
		return false;
	return nr_extents_add(list, length, status) && list->count < ANSWER_EXTENTS &&
	       (map->counts || now_ns() < map->until);
}

/* May two more questions be asked? */
static bool map_may_ask(struct map *map)
{
	if (!map->counts)
		return true;
	if (map->lookups < 2)
		return false;
	map->lookups -= 2;
	return true;
}

/* The map of [AT, END) of FILE; false as map_add. */
static bool map_file(struct map *map, const struct nr_file *file, uint64_t at, uint64_t end)
{
	while (at < end) {
		off_t data, hole;
		uint64_t next;

		if (!map_may_ask(map))
			return false;
		data = lseek(file->fd, (off_t)at, SEEK_DATA);
		/* Not known: "data" is never wrong. */
		if (data < 0 && (errno != ENXIO || !file_reaches(file, end)))
			return map_add(map, end - at, 0);
		next = data < 0 ? end : nr_min((uint64_t)data, end);
		if (next > at && !map_add(map, next - at, NR_EXTENT_HOLE | NR_EXTENT_ZERO))
			return false;
		at = next;
		if (at == end)
			break;
		hole = lseek(file->fd, (off_t)at, SEEK_HOLE);
		next = hole > (off_t)at ? nr_min((uint64_t)hole, end) : end;
		if (!map_add(map, next - at, 0))
			return false;
		at = next;
	}
	return true;
}

static void map_disk(struct nr_disk *disk, struct map *map)
{
	struct nr_extents *list = map->list;
	bool more = true;

	while (more && list->next < list->end) {
		uint64_t within, length;
		struct nr_file *file;

		length = nr_disk_locate(disk, list->next, list->end - list->next, &file, &within);
		more = file->block_device ? map_add(map, length, 0)
					  : map_file(map, file, within, within + length);
	}
}

void nr_holes_extents(struct nr_disk *disk, struct nr_extents *list, bool one)
{
	struct map map = { .list = list, .until = now_ns() + ANSWER_NS, .one = one };

	map_disk(disk, &map);
}

bool nr_holes_extents_at_once(struct nr_disk *disk, struct nr_extents *list, bool one)
{
	struct map map = { .list = list, .lookups = LOOKUPS, .counts = true, .one = one };
	uint64_t length = list->end - list->next, within;
	struct nr_file *file;

	if (nr_disk_locate(disk, list->next, length, &file, &within) < length)
		return false;
	/*
	 * What is known to be data says nothing here: others may have made holes, and a map
	 * is to be true.  In a file without any, the question for the next one is a long one.
	 */
	if (file->lookup != NR_LOOKUP_BOTH || nr_disk_being_changed(disk) ||
	    !atomic_load_explicit(&file->sparse, memory_order_relaxed))
		return false;
	map_disk(disk, &map);
	return list->next == list->end || (one && list->count);
}
