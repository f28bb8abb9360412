/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The store of a cache: a stack of one backend, which has the slots.
 *
 * Threads: whoever opens and closes layers; all of this may block.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "filters/cache-file.h"
#include "filters/cache.h"
#include "filters/store-file.h"

#define COMPARED_BLOCKS 64u /* after a restart, to see whether it is the same disk */

static uint64_t store_bytes(const struct nr_cache *c)
{
	return c->store_start + ((uint64_t)c->map.slots << c->shift);
}

static int open_memory(struct nr_layer *layer, struct nr_error *error)
{
	struct nr_cache *c = nr_cache_of(layer);
	char words[64];

	snprintf(words, sizeof(words), "memory %" PRIu64, store_bytes(c));
	c->store = nr_substack_open(layer, words, error);
	c->lends = true;
	return c->store ? 0 : nr_error_prefix(error, "store");
}

/* Past the page cache if that is possible: the blocks are cached already. */
static int open_descriptor(struct nr_layer *layer, struct nr_error *error)
{
	struct nr_cache *c = nr_cache_of(layer);
	char words[64];

	snprintf(words, sizeof(words), "file fd=%d cache=none", c->fd);
	c->store = nr_substack_open(layer, words, error);
	if (!c->store) {
		snprintf(words, sizeof(words), "file fd=%d", c->fd);
		c->store = nr_substack_open(layer, words, error);
	}
	return c->store ? 0 : nr_error_prefix(error, "store");
}

static int make_file(struct nr_layer *layer, struct nr_error *error)
{
	struct nr_cache *c = nr_cache_of(layer);
	int err = 0;

	c->fd = open(c->directory, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (c->fd < 0)
		return nr_error_system(error, -errno, "cache-dir: a file in %s", c->directory);
	if (ftruncate(c->fd, (off_t)store_bytes(c)) < 0)
		err = nr_error_system(error, -errno, "cache-dir: %" PRIu64 " bytes in %s",
				      store_bytes(c), c->directory);
	if (!err)
		err = open_descriptor(layer, error);
	if (err)
		(void)close(c->fd);
	return err;
}

/* A file that outlives the server (cache-file.h). */

static uint8_t *get_pages(uint64_t bytes)
{
	return aligned_alloc(NR_STORE_HEAD_BYTES, bytes);
}

static int write_head(struct nr_layer *layer, bool in_use, uint32_t table_crc)
{
	const struct nr_cache *c = nr_cache_of(layer);
	struct nr_cache_file file = { .in_use = in_use,
				      .block = c->block,
				      .slots = c->map.slots,
				      .size = c->size,
				      .table_crc = table_crc };
	uint8_t *head = get_pages(NR_STORE_HEAD_BYTES);
	int err;

	if (!head)
		return -ENOMEM;
	file.identified = !in_use && nr_identity_below(layer, file.identity);
	nr_cache_file_make_head(&file, head);
	err = nr_store_write(c->fd, 0, head, NR_STORE_HEAD_BYTES);
	if (!err && fdatasync(c->fd) < 0)
		err = -errno;
	free(head);
	return err;
}

/* Is what is in SLOT what is below? */
static int compare_slot(struct nr_layer *layer, uint32_t slot, uint8_t *memory,
			struct nr_error *error)
{
	struct nr_cache *c = nr_cache_of(layer);
	uint64_t offset = nr_cache_block_of(&c->map, slot) << c->shift;
	int err = nr_store_read(c->fd, nr_cache_slot_offset(c, slot), memory, c->block);

	if (err)
		return nr_error_system(error, err, "%s", c->file);
	err = nr_read_below(layer, offset, c->block, memory + c->block, error);
	if (err)
		return err;
	return memcmp(memory, memory + c->block, c->block) ? -ESTALE : 0;
}

/*
 * A few blocks from all over the cache against the disk: 0, -ESTALE when somebody has
 * changed it, or another error.
 */
static int compare_some(struct nr_layer *layer, struct nr_error *error)
{
	struct nr_cache *c = nr_cache_of(layer);
	uint32_t step = c->map.fresh / COMPARED_BLOCKS + 1;
	uint8_t *memory = get_pages(2 * (uint64_t)c->block);
	int err = memory ? 0 : nr_error_system(error, -ENOMEM, "%s", c->file);

	for (uint32_t slot = 0; slot < c->map.fresh && !err; slot += step)
		if (nr_cache_state_of(&c->map, slot) == NR_CACHE_CLEAN)
			err = compare_slot(layer, slot, memory, error);
	free(memory);
	return err;
}

static int begin_empty(struct nr_layer *layer, const char *why, struct nr_error *error)
{
	struct nr_cache *c = nr_cache_of(layer);
	uint32_t slots = c->map.slots;

	nr_layer_log(layer, NR_LAYER_INFO, "%s: %s, the cache begins empty", c->file, why);
	/* If that cannot be done, the room is taken for longer. */
	(void)fallocate(c->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)c->store_start,
			(off_t)((uint64_t)slots << c->shift));
	nr_cache_map_fini(&c->map);
	if (nr_cache_map_init(&c->map, nr_policy_types[c->policy], slots))
		return 0;
	c->map.dirty_bits = NULL;
	return nr_error_system(error, -ENOMEM, "what is cached where");
}

/* Has anybody touched the disk since, as far as its backend can tell? */
static bool was_touched(struct nr_layer *layer, const struct nr_cache_file *file)
{
	uint8_t now[NR_IDENTITY_BYTES];

	return file->identified &&
	       (!nr_identity_below(layer, now) || memcmp(now, file->identity, sizeof(now)) != 0);
}

/*
 * What is below may have changed.  What is not written there yet stays: it is newer, and
 * the same disk it is.
 */
static void drop_clean(struct nr_layer *layer)
{
	struct nr_cache *c = nr_cache_of(layer);

	nr_layer_log(layer, NR_LAYER_WARNING,
		     "%s: the disk has been touched, the cache keeps only the %u blocks that are "
		     "not written below yet",
		     c->file, c->map.dirty);
	for (uint32_t slot = 0; slot < c->map.fresh; slot++)
		if (nr_cache_state_of(&c->map, slot) == NR_CACHE_CLEAN)
			nr_cache_drop(&c->map, slot);
}

static int load_table(struct nr_layer *layer, const struct nr_cache_file *file,
		      struct nr_error *error)
{
	struct nr_cache *c = nr_cache_of(layer);
	uint64_t bytes = nr_cache_file_table_bytes(file->slots);
	uint8_t *table = get_pages(bytes);
	int err = table ? nr_store_read(c->fd, NR_STORE_HEAD_BYTES, table, bytes) : -ENOMEM;

	if (err)
		err = nr_error_system(error, err, "%s", c->file);
	else
		err = nr_cache_file_read_table(file, table, c->file, &c->map, error);
	free(table);
	return err;
}

/* What is there, if it is this disk's, still. */
static int load(struct nr_layer *layer, const struct nr_cache_file *file, struct nr_error *error)
{
	struct nr_cache *c = nr_cache_of(layer);
	bool changed = file->size != c->size;
	int err = load_table(layer, file, error);

	if (err)
		return err;
	if (!changed) {
		err = compare_some(layer, error);
		changed = err == -ESTALE;
		if (err && !changed)
			return err;
	}
	if (changed && c->map.dirty)
		return nr_error_set(error, -ESTALE,
				    "%s has %u blocks that are not written below, but the disk "
				    "below has been changed; remove the file to give them up",
				    c->file, c->map.dirty);
	if (c->map.dirty && (layer->read_only || layer->below->traits.read_only))
		return nr_error_set(error, -EROFS,
				    "%s has %u blocks that are not written below, and the disk is "
				    "read-only",
				    c->file, c->map.dirty);
	if (changed)
		return begin_empty(layer, "the disk has been changed", error);
	if (!was_touched(layer, file))
		return 0;
	if (c->map.dirty == 0)
		return begin_empty(layer, "the disk has been touched", error);
	drop_clean(layer);
	return 0;
}

/* A file of the right length, with a head that says that there is nothing in it yet. */
static int make_named(struct nr_layer *layer, struct nr_error *error)
{
	struct nr_cache *c = nr_cache_of(layer);
	int err = nr_store_begin(&nr_cache_kind, c->fd);

	if (!err && ftruncate(c->fd, (off_t)store_bytes(c)) < 0)
		err = -errno;
	/* Its length before the head that speaks of it. */
	if (!err && fdatasync(c->fd) < 0)
		err = -errno;
	return err ? nr_error_system(error, err, "%s", c->file) : 0;
}

static int look_at_file(struct nr_layer *layer, uint64_t length, struct nr_error *error)
{
	struct nr_cache *c = nr_cache_of(layer);
	uint8_t head[NR_STORE_HEAD_BYTES] = { 0 };
	struct nr_cache_file file;
	int err = nr_store_read(c->fd, 0, head, nr_min(length, sizeof(head)));

	if (err)
		return nr_error_system(error, err, "%s", c->file);
	if (nr_store_is_unfinished(&nr_cache_kind, head, length))
		return make_named(layer, error);
	if (length < NR_STORE_HEAD_BYTES)
		return nr_error_set(error, -EINVAL,
				    "%s is not a cache of the filter cache; name another file, or "
				    "one that does not exist",
				    c->file);
	err = nr_cache_file_read_head(head, length, c->file, &file, error);
	if (err)
		return err;
	if (file.block != c->block || file.slots != c->map.slots)
		return nr_error_set(
			error, -EINVAL,
			"%s has %" PRIu64 " blocks of %u bytes; use "
			"cache-min-block-size=%u cache-max-size=%" PRIu64 ", or remove the file",
			c->file, file.slots, file.block, file.block, file.slots * file.block);
	if (file.in_use)
		return begin_empty(layer, "the server that used it did not end in order", error);
	return load(layer, &file, error);
}

static int open_file(struct nr_layer *layer, struct nr_error *error)
{
	struct nr_cache *c = nr_cache_of(layer);
	uint64_t length;
	int err;

	c->store_start = nr_cache_file_start(c->map.slots, c->block);
	c->fd = nr_store_open(c->file, false, &length, error);
	if (c->fd < 0)
		return nr_error_prefix(error, "cache-file");
	err = look_at_file(layer, length, error);
	/* From here on it is ours, and what it said is no longer so. */
	if (!err) {
		err = write_head(layer, true, 0);
		if (err)
			nr_error_system(error, err, "%s", c->file);
	}
	if (err)
		nr_error_prefix(error, "cache-file");
	else
		err = open_descriptor(layer, error);
	if (err)
		(void)close(c->fd);
	return err;
}

/* What is written below but not stable there may be gone when the next server looks. */
static void drop_unstable(struct nr_cache *c)
{
	for (uint32_t slot = 0; slot < c->map.fresh; slot++)
		if (nr_cache_state_of(&c->map, slot) == NR_CACHE_CLEAN)
			nr_cache_drop(&c->map, slot);
}

/* The table, then the head that says that it counts. */
static void leave_file(struct nr_layer *layer)
{
	struct nr_cache *c = nr_cache_of(layer);
	uint64_t bytes = nr_cache_file_table_bytes(c->map.slots);
	uint8_t *table = get_pages(bytes);
	int err = table ? 0 : -ENOMEM;

	if (c->flush_failed)
		drop_unstable(c);
	if (!err) {
		nr_cache_file_make_table(&c->map, table);
		err = nr_store_write(c->fd, NR_STORE_HEAD_BYTES, table, bytes);
	}
	if (!err && fdatasync(c->fd) < 0)
		err = -errno;
	if (!err)
		err = write_head(layer, false, nr_store_crc(0, table, bytes));
	free(table);
	if (err)
		nr_layer_log(layer, NR_LAYER_ERROR, "%s: %s; it will begin empty", c->file,
			     strerror(-err));
	else if (c->map.dirty)
		nr_layer_log(layer, NR_LAYER_WARNING,
			     "%s: %u blocks could not be written below and are kept", c->file,
			     c->map.dirty);
}

/* Slots. */

int nr_cache_store_open(struct nr_layer *layer, struct nr_error *error)
{
	struct nr_cache *c = nr_cache_of(layer);

	int err;

	c->fd = -1;
	if (c->file)
		err = open_file(layer, error);
	else
		err = c->directory ? make_file(layer, error) : open_memory(layer, error);
	if (!err)
		c->map.gives = nr_substack_traits(c->store)->support[NR_CAP_TRIM] == NR_NATIVE;
	return err;
}

void nr_cache_store_close(struct nr_layer *layer)
{
	struct nr_cache *c = nr_cache_of(layer);

	nr_substack_close(c->store);
	if (c->file)
		leave_file(layer);
	else if (c->map.dirty)
		nr_layer_log(layer, NR_LAYER_ERROR,
			     "%u blocks could not be written below and are lost", c->map.dirty);
	if (c->fd >= 0)
		(void)close(c->fd);
}
