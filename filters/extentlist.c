/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * An allocation map from a file, for disks that have none of their own.
 *
 * The file is read once, at open.  Questions about extents end here, but for those about
 * other metadata contexts: a binary search, then from extent to extent, with holes in the
 * gaps.  Nothing else is changed, and writes do not change the map.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdlib.h>
#include <unistd.h>

#include "filters/extentlist-parse.h"
#include "filters/filters.h"
#include "nbdring/checked.h"

#define FILE_MAX ((size_t)256 << 20) /* bytes; millions of extents */

struct extentlist {
	const char *file;
	struct nr_extentlist list;
};

static const struct nr_param params[] = {
	{
		.name = "extentlist",
		.type = NR_PARAM_PATH,
		.flags = NR_PARAM_REQUIRED | NR_PARAM_AGAIN,
		.offset = offsetof(struct extentlist, file),
		.value = "FILE",
		.help = "File with the extents, a line each: OFFSET LENGTH [TYPE]",
		.manual =
			"The file with the extents, see L</FORMAT OF THE FILE>.  It is read when the\n"
			"export is opened.",
	},
	{ .name = NULL },
};

/* All of FD at *TEXT, which the caller frees. */
static int read_all(int fd, char **text, size_t *length)
{
	size_t room = 0;

	*text = NULL;
	*length = 0;
	for (;;) {
		ssize_t got;

		if (*length == room) {
			char *grown;

			room = room ? 2 * room : 65536;
			grown = room <= 2 * FILE_MAX ? realloc(*text, room) : NULL;
			if (!grown)
				return room > FILE_MAX ? -EFBIG : -ENOMEM;
			*text = grown;
		}
		got = read(fd, *text + *length, room - *length);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return -errno;
		if (got == 0)
			return *length <= FILE_MAX ? 0 : -EFBIG;
		*length += (size_t)got;
	}
}

static int read_list(struct extentlist *e, struct nr_error *error)
{
	int fd = open(e->file, O_RDONLY | O_CLOEXEC);
	char *text = NULL;
	size_t length;
	int err;

	if (fd < 0)
		return nr_error_system(error, -errno, "%s", e->file);
	err = read_all(fd, &text, &length);
	(void)close(fd);
	if (err) {
		nr_error_system(error, err, "%s", e->file);
	} else {
		err = nr_extentlist_parse(&e->list, text, length, error);
		if (err)
			nr_error_prefix(error, "%s", e->file);
	}
	free(text);
	return err;
}

/* The list has to fit the disk: its end, and the blocks that it is made of. */
static int check_fit(const struct nr_layer *layer, struct nr_error *error)
{
	const struct extentlist *e = layer->instance;
	uint64_t size = nr_layer_size(layer->below), block = layer->below->traits.block_min;

	for (size_t i = 0; i < e->list.count; i++) {
		const struct nr_listed_extent *x = &e->list.extent[i];

		if (!nr_in_range(x->offset, x->length, size))
			return nr_error_set(error, -EINVAL,
					    "%s: the extent of line %u ends at %" PRIu64
					    ", beyond the end of the disk at %" PRIu64 " bytes",
					    e->file, x->line, x->offset + x->length, size);
		if (!nr_is_aligned(x->offset | x->length, block))
			return nr_error_set(error, -EINVAL,
					    "%s: the extent of line %u is not made of the %" PRIu64
					    "-byte blocks below; use multiples of %" PRIu64
					    " or put --filter=blocksize below",
					    e->file, x->line, block, block);
	}
	return 0;
}

static int extentlist_open(struct nr_layer *layer, struct nr_error *error)
{
	struct extentlist *e = layer->instance;
	int err = read_list(e, error);

	if (!err) {
		err = check_fit(layer, error);
		if (err)
			nr_extentlist_free(&e->list);
	}
	return err;
}

static void extentlist_close(struct nr_layer *layer)
{
	struct extentlist *e = layer->instance;

	nr_extentlist_free(&e->list);
}

static int extentlist_describe(struct nr_layer *layer, struct nr_traits *t, struct nr_error *error)
{
	t->support[NR_CAP_EXTENTS] = NR_NATIVE;
	return 0;
}

/* The first extent that does not end before OFFSET. */
static size_t find_extent(const struct nr_extentlist *list, uint64_t offset)
{
	size_t low = 0, high = list->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (list->extent[middle].offset + list->extent[middle].length <= offset)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static void answer(const struct nr_extentlist *list, struct nr_request *req)
{
	uint64_t at = req->offset, end = req->offset + req->length;
	size_t i = find_extent(list, at);
	bool more = true;

	while (more && at < end) {
		const struct nr_listed_extent *x = i < list->count ? &list->extent[i] : NULL;
		uint64_t next, status;

		if (x && x->offset <= at) {
			next = x->offset + x->length;
			status = x->status;
			i++;
		} else {
			next = x ? x->offset : end;
			status = NR_EXTENT_HOLE | NR_EXTENT_ZERO;
		}
		more = nr_extents_add(req->extents, next - at, status);
		if ((req->flags & NR_REQ_ONE) && req->extents->count > 1)
			break;
		at = next;
	}
}

static void extentlist_submit(struct nr_layer *layer, struct nr_request *req)
{
	struct extentlist *e = layer->instance;

	if (req->operation != NR_EXTENTS || req->metadata) {
		nr_pass(layer, req);
		return;
	}
	answer(&e->list, req);
	nr_finish(layer, req, 0);
}

const struct nr_layer_type nr_extentlist_type = {
	.abi = NR_LAYER_ABI,
	.name = "extentlist",
	.summary = "an allocation map from a file",
	.kind = NR_FILTER,
	.placement = NR_SPREAD,
	.params = params,
	.instance_size = sizeof(struct extentlist),
	.open = extentlist_open,
	.describe = extentlist_describe,
	.submit = extentlist_submit,
	.contexts_pass = true,
	.close = extentlist_close,
};
