/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The filter `cow`: the file of an overlay that stays, opened and closed.
 *
 * While it is open its head says so.  A file that still says so when it is opened was not
 * closed in order: what had not been flushed may be there or not.  The map in it is that
 * of the last flush, or newer in parts, and says "data" of nothing that is not there; but
 * where it says "hole", something may have been written since, and is taken out.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "filters/cow.h"
#include "nbdring/checked.h"

#define RESERVED_MAX (UINT64_C(16) << 20) /* 2 TiB in blocks of 64 KiB */

static int write_head(struct cow *c, bool clean)
{
	uint8_t bytes[NR_STORE_HEAD_BYTES];
	int err;

	c->head.clean = clean;
	nr_cow_head_write(&c->head, bytes);
	err = nr_store_write(c->fd, 0, bytes, sizeof(bytes));
	if (!err && fdatasync(c->fd) < 0)
		err = -errno;
	return err;
}

/*
 * So that the name is there after a power cut, too.  In the sandbox the folder cannot be
 * opened: then the file alone is made stable, with which the file systems that keep a
 * journal make its name stable as well.
 */
static int sync_name(const struct cow *c)
{
	char *copy = strdup(c->path);
	int err = 0, fd;

	if (!copy)
		return -ENOMEM;
	fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	free(copy);
	if (fsync(fd < 0 ? c->fd : fd) < 0)
		err = -errno;
	if (fd >= 0)
		(void)close(fd);
	return err;
}

/*
 * Let there be room for the map, so that what was written can be flushed when nothing more
 * can be written.  Not for that of a huge disk, most of which is never needed.
 */
static int reserve_map(const struct cow *c)
{
	if (c->head.data > RESERVED_MAX ||
	    fallocate(c->fd, FALLOC_FL_KEEP_SIZE, 0, (off_t)c->head.data) == 0)
		return 0;
	return errno == EOPNOTSUPP ? 0 : -errno;
}

static int make(struct nr_layer *layer, struct nr_error *error)
{
	struct cow *c = layer->instance;
	uint64_t length;
	int err = 0;

	if (layer->read_only)
		return nr_error_set(error, -EINVAL, "%s is empty, and with -r it cannot be made",
				    c->path);
	if (c->size / c->block >= NR_COW_BLOCKS_MAX)
		return nr_error_set(error, -EFBIG,
				    "%s can have up to 2^32 blocks, and the disk has more of %u "
				    "bytes; use a larger cow-block-size",
				    c->path, c->block);
	nr_cow_head_fill(&c->head, c->size, c->block);
	length = c->head.data + nr_round_down(c->size + c->block - 1, c->block);
	if (length > NR_SIZE_MAX)
		err = -EFBIG;
	if (!err)
		err = nr_store_begin(&nr_cow_kind, c->fd);
	if (!err && ftruncate(c->fd, (off_t)length) < 0)
		err = -errno;
	if (!err)
		err = reserve_map(c);
	/* Its length before the head that speaks of it. */
	if (!err && fdatasync(c->fd) < 0)
		err = -errno;
	if (!err)
		err = write_head(c, false);
	if (!err)
		err = sync_name(c);
	if (!err)
		return 0;
	/* Empty, it can be made the next time. */
	(void)!ftruncate(c->fd, 0);
	return nr_error_system(error, err, "%s, which is to have %" PRIu64 " bytes", c->path,
			       length);
}

/* The block map. */

/* The first page from INDEX on with something in one of its places. */
static uint64_t next_page(const struct cow *c, uint64_t index)
{
	off_t at = lseek(c->fd, (off_t)nr_cow_place_at(index, 0), SEEK_DATA);

	if (at < 0)
		return errno == ENXIO ? c->head.pages : index;
	return ((uint64_t)at - NR_STORE_HEAD_BYTES) / (2 * NR_COW_PLACE_BYTES);
}

static int read_page(struct nr_layer *layer, uint64_t index, struct nr_error *error)
{
	uint8_t places[2 * NR_COW_PLACE_BYTES];
	struct cow *c = layer->instance;
	int torn, err = nr_store_read(c->fd, nr_cow_place_at(index, 0), places, sizeof(places));

	if (err)
		return nr_error_system(error, err, "the block map of %s", c->path);
	err = nr_cow_place_read(&c->shared.map, index, places, c->head.clean, &torn, c->path,
				error);
	if (err || torn < 0 || layer->read_only)
		return err;
	/* What is found damaged later is no remainder of today. */
	memset(places, 0, NR_COW_PLACE_BYTES);
	err = nr_store_write(c->fd, nr_cow_place_at(index, (uint64_t)torn), places,
			     NR_COW_PLACE_BYTES);
	return err ? nr_error_system(error, err, "the block map of %s", c->path) : 0;
}

static int read_map(struct nr_layer *layer, struct nr_error *error)
{
	const struct cow *c = layer->instance;
	int err = 0;

	for (uint64_t i = next_page(c, 0); !err && i < c->head.pages; i = next_page(c, i + 1)) {
		err = read_page(layer, i, error);
		if (i + 1 == c->head.pages)
			break;
	}
	return err;
}

/* Where the map says that there is nothing, there is nothing from now on. */
static int clear_holes(struct cow *c, struct nr_error *error)
{
	uint64_t blocks = c->shared.map.blocks, stop;

	for (uint64_t block = 0; block < blocks; block = stop) {
		enum nr_cow_block state = nr_cow_map_run(&c->shared.map, block, blocks, &stop);
		uint64_t from = block << c->shift, length = (stop - block) << c->shift;

		if (state != NR_COW_HOLE && state != NR_COW_ZERO)
			continue;
		if (fallocate(c->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			      (off_t)(c->head.data + from), (off_t)length) < 0)
			return nr_error_system(error, -errno,
					       "%s was not closed in order, and making holes in it",
					       c->path);
	}
	return 0;
}

/* Opening. */

static int fits(const struct nr_layer *layer, struct nr_error *error)
{
	const struct cow *c = layer->instance;
	uint32_t min = layer->below->traits.block_min;

	if (c->head.size != c->size)
		return nr_error_set(error, -EINVAL,
				    "%s was made over a disk of %" PRIu64
				    " bytes, and this one has "
				    "%" PRIu64,
				    c->path, c->head.size, c->size);
	if (c->block_size && c->block_size != c->head.block)
		return nr_error_set(error, -EINVAL,
				    "%s has blocks of %u bytes; leave out cow-block-size=%" PRIu64,
				    c->path, c->head.block, c->block_size);
	if (c->head.block < min)
		return nr_error_set(error, -EINVAL,
				    "%s has blocks of %u bytes, and the disk below ones of %u",
				    c->path, c->head.block, min);
	return 0;
}

/* *NEW: there is nothing in it yet. */
static int read_head(struct nr_layer *layer, uint64_t length, bool *new, struct nr_error *error)
{
	struct cow *c = layer->instance;
	uint8_t bytes[NR_STORE_HEAD_BYTES] = { 0 };
	int err = nr_store_read(c->fd, 0, bytes,
				nr_min(length, sizeof(bytes))); /* shorter: of no kind */

	if (err)
		return nr_error_system(error, err, "%s", c->path);
	*new = nr_store_is_unfinished(&nr_cow_kind, bytes, length);
	if (*new)
		return 0;
	err = nr_cow_head_read(&c->head, bytes, length, c->path, error);
	return err ? err : fits(layer, error);
}

static int read_file(struct nr_layer *layer, struct nr_error *error)
{
	struct cow *c = layer->instance;
	int err = read_map(layer, error);

	if (err || layer->read_only)
		return err;
	if (!c->head.clean)
		nr_layer_log(layer, NR_LAYER_WARNING,
			     "%s was not closed in order; it is as it was flushed last, or newer",
			     c->path);
	if (!c->head.clean)
		err = clear_holes(c, error);
	if (err)
		return err;
	err = write_head(c, false);
	return err ? nr_error_system(error, err, "%s", c->path) : 0;
}

static int open_file(struct nr_layer *layer, struct nr_error *error)
{
	struct cow *c = layer->instance;
	char words[64];
	uint64_t length;
	bool new = false;
	int err;

	c->fd = nr_store_open(c->path, layer->read_only, &length, error);
	if (c->fd < 0)
		return c->fd;
	err = read_head(layer, length, &new, error);
	if (!err && new)
		err = make(layer, error);
	if (err)
		return err;
	c->block = c->head.block;
	c->shift = (unsigned)__builtin_ctz(c->block);
	c->shared.start = c->head.data;
	nr_cow_map_init(&c->shared.map, nr_cow_block_behind(c, c->size), true);
	if (!new)
		err = read_file(layer, error);
	snprintf(words, sizeof(words), "file fd=%d", c->fd);
	return err ? err : nr_cow_store_open_words(layer, words, error);
}

int nr_cow_keep_open(struct nr_layer *layer, struct nr_error *error)
{
	struct cow *c = layer->instance;
	int err = open_file(layer, error);

	if (!err) {
		nr_cow_flushes_init(&c->flushes);
		return 0;
	}
	nr_cow_map_fini(&c->shared.map);
	if (c->fd >= 0)
		(void)close(c->fd);
	return err;
}

/* Closing. */

/* What changed since the last flush, in the same order as in a flush. */
static int save(struct cow *c)
{
	struct nr_cow_page *page = nr_cow_map_take_changed(&c->shared.map);
	uint8_t place[NR_COW_PLACE_BYTES];
	int err = 0;

	if (fdatasync(c->fd) < 0)
		return -errno;
	for (; page && !err; page = page->taken) {
		nr_cow_place_write(page, place);
		err = nr_store_write(c->fd, nr_cow_place_at(page->index, page->version + 1), place,
				     sizeof(place));
	}
	if (!err && fdatasync(c->fd) < 0)
		err = -errno;
	return err ? err : write_head(c, true);
}

void nr_cow_keep_close(struct nr_layer *layer)
{
	struct cow *c = layer->instance;
	int err = 0;

	/* After a flush that failed nobody knows what is there; what was flushed before is. */
	if (!layer->read_only && !atomic_load(&c->flushes.failed))
		err = save(c);
	if (err)
		nr_layer_log(layer, NR_LAYER_ERROR, "%s could not be closed in order: %s", c->path,
			     strerror(-err));
	(void)close(c->fd);
	nr_cow_flushes_fini(&c->flushes);
}
