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
#include <string.h>
#include <unistd.h>

#include "filters/cache.h"

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

int nr_cache_store_open(struct nr_layer *layer, struct nr_error *error)
{
	struct nr_cache *c = nr_cache_of(layer);

	c->fd = -1;
	if (c->directory)
		return make_file(layer, error);
	return open_memory(layer, error);
}

void nr_cache_store_close(struct nr_layer *layer)
{
	struct nr_cache *c = nr_cache_of(layer);

	nr_substack_close(c->store);
	if (c->map.dirty)
		nr_layer_log(layer, NR_LAYER_ERROR,
			     "%u blocks could not be written below and are lost", c->map.dirty);
	if (c->fd >= 0)
		(void)close(c->fd);
}
