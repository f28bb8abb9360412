/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The filter `cow`: the store, a stack within the stack.
 *
 * A temporary one is memory, or a file without a name: made in a folder, and gone when it
 * is closed, however the server ends.  The file is as long as what may be written, and
 * has holes where nothing was.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "filters/cow.h"
#include "nbdring/checked.h"

#define OWN_MAX 1024u /* overlays of clients' own, if there is room for so many */

/* The file, without a name, from here on only a descriptor. */
static int make_file(const char *folder, struct nr_error *error)
{
	char path[4096];
	int fd = open(folder, O_TMPFILE | O_RDWR | O_CLOEXEC | O_EXCL, 0600);

	if (fd >= 0)
		return fd;
	/* Not every file system makes them: then with a name, for a moment. */
	if (errno == EOPNOTSUPP || errno == EISDIR || errno == ENOENT) {
		if (snprintf(path, sizeof(path), "%s/nbdring-cow-XXXXXX", folder) <
		    (int)sizeof(path))
			fd = mkostemp(path, O_CLOEXEC);
		if (fd >= 0)
			(void)unlink(path);
	}
	if (fd < 0)
		return nr_error_system(error, -errno,
				       "a temporary file in %s (set TMPDIR for another folder, or "
				       "use cow-store=memory)",
				       folder);
	return fd;
}

/* As many stretches of the disk's length as there may be. */
static unsigned stretches_max(const struct cow *c, uint64_t length)
{
	/* One is of those that are no client's. */
	if (!c->private)
		return 1;
	return (unsigned)nr_min(OWN_MAX + 1, NR_SIZE_MAX / length);
}

/* Make FD so long that *COUNT stretches have room, or as many as the file system allows. */
static int set_length(int fd, uint64_t length, unsigned *count, struct nr_error *error)
{
	while (ftruncate(fd, (off_t)(length * *count)) < 0) {
		if ((errno != EFBIG && errno != EINVAL) || *count == 1)
			return nr_error_system(error, -errno,
					       "a temporary file of %" PRIu64
					       " bytes (use cow-store=memory, or set TMPDIR for a "
					       "folder whose file system has such files)",
					       length);
		*count /= 2;
	}
	return 0;
}

int nr_cow_store_open_words(struct nr_layer *layer, const char *words, struct nr_error *error)
{
	struct cow *c = layer->instance;
	const struct nr_traits *t;

	c->store = nr_substack_open(layer, words, error);
	if (!c->store)
		return error && error->code ? error->code : -EIO;
	t = nr_substack_traits(c->store);
	c->store_fast_zero = t->support[NR_CAP_FAST_ZERO] != NR_NONE;
	return 0;
}

static int open_file(struct nr_layer *layer, uint64_t length, unsigned *count,
		     struct nr_error *error)
{
	char words[64];
	int fd, err;

	fd = make_file(nr_scratch_folder(), error);
	if (fd < 0)
		return fd;
	err = set_length(fd, length, count, error);
	if (!err) {
		snprintf(words, sizeof(words), "file fd=%d", fd);
		err = nr_cow_store_open_words(layer, words, error);
	}
	(void)close(fd); /* the stack has its own */
	return err;
}

static int make_own(struct cow *c, uint64_t length, unsigned count, struct nr_error *error)
{
	if (!c->private)
		return 0;
	if (count < 2)
		return nr_error_set(error, -EFBIG,
				    "there is no room for overlays of clients' own over a disk of "
				    "%" PRIu64 " bytes; leave out cow-private",
				    c->size);
	c->own_count = count - 1;
	c->own = calloc(c->own_count, sizeof(*c->own));
	if (!c->own)
		return nr_error_system(error, -ENOMEM, "overlays of clients' own");
	for (unsigned i = 0; i < c->own_count; i++)
		c->own[i].start = length * (i + 1);
	return 0;
}

int nr_cow_store_open(struct nr_layer *layer, struct nr_error *error)
{
	struct cow *c = layer->instance;
	uint64_t length;
	unsigned count;
	char words[64];
	int err;

	/* The last block may end behind the largest size. */
	if (!nr_round_up(nr_max(c->size, 1), c->block, &length) || length > NR_SIZE_MAX)
		length = c->size;
	count = stretches_max(c, length);
	if (c->store_kind == NR_COW_STORE_MEMORY) {
		snprintf(words, sizeof(words), "memory %" PRIu64, length * count);
		err = nr_cow_store_open_words(layer, words, error);
	} else {
		err = open_file(layer, length, &count, error);
	}
	if (err)
		return err;
	err = make_own(c, length, count, error);
	if (err)
		nr_substack_close(c->store);
	return err;
}
