/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A rescued disk as broken as the one it came from: reads of what was not rescued
 * fail, according to a mapfile of GNU ddrescue (ddrescue-map.h).
 *
 * The map of allocation must not say that such a part reads as zeroes, or clients
 * would not read it and never see that it is broken: it is data.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "filters/ddrescue-map.h"
#include "filters/filters.h"
#include "nbdring/checked.h"

#define MAPFILE_MAX (UINT64_C(256) << 20) /* bytes; real ones have kilobytes */

struct ddrescue {
	const char *path;
	struct nr_ddrescue_map map;
};

static const struct nr_param ddrescue_params[] = {
	{
		.name = "ddrescue-mapfile",
		.type = NR_PARAM_PATH,
		.flags = NR_PARAM_REQUIRED | NR_PARAM_AGAIN,
		.offset = offsetof(struct ddrescue, path),
		.value = "PATH",
		.help = "The mapfile that ddrescue wrote for this disk",
		.manual =
			"The mapfile (in old versions: logfile) that L<ddrescue(1)> wrote when it\n"
			"made the image.  It is read when the disk is opened.",
	},
	{ .name = NULL },
};

static int read_all(int fd, char *text, size_t length)
{
	size_t done = 0;

	while (done < length) {
		ssize_t n = pread(fd, text + done, length - done, (off_t)done);

		if (n < 0 && errno != EINTR)
			return -errno;
		if (n == 0)
			return -EIO; /* it became shorter meanwhile */
		if (n > 0)
			done += (size_t)n;
	}
	return 0;
}

static int parse_file(struct ddrescue *d, int fd, struct nr_error *error)
{
	struct stat st;
	char *text;
	int err;

	if (fstat(fd, &st) < 0)
		return nr_error_system(error, -errno, "%s", d->path);
	if (!S_ISREG(st.st_mode))
		return nr_error_set(error, -EINVAL, "%s is not a file", d->path);
	if ((uint64_t)st.st_size > MAPFILE_MAX)
		return nr_error_set(error, -EFBIG,
				    "%s has more than %" PRIu64 " bytes, it is no mapfile", d->path,
				    MAPFILE_MAX);
	text = malloc((size_t)st.st_size + 1);
	err = text ? read_all(fd, text, (size_t)st.st_size) : -ENOMEM;
	if (err) {
		nr_error_system(error, err, "%s", d->path);
	} else {
		err = nr_ddrescue_parse(&d->map, text, (size_t)st.st_size, error);
		if (err)
			nr_error_prefix(error, "%s", d->path);
	}
	free(text);
	return err;
}

static void close_map(struct nr_layer *layer)
{
	struct ddrescue *d = layer->instance;

	nr_ddrescue_free(&d->map);
}

static int open_map(struct nr_layer *layer, struct nr_error *error)
{
	struct ddrescue *d = layer->instance;
	uint64_t size = nr_layer_size(layer->below), end;
	int fd = open(d->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	int err;

	if (fd < 0)
		return nr_error_system(error, -errno, "%s", d->path);
	err = parse_file(d, fd, error);
	close(fd);
	if (err)
		return err;
	end = d->map.count ? d->map.range[d->map.count - 1].end : 0;
	if (end > size) {
		close_map(layer);
		return nr_error_set(error, -EINVAL,
				    "%s: it says that bytes up to %" PRIu64
				    " were rescued, but the disk "
				    "has only %" PRIu64 "; is it the map of another disk?",
				    d->path, end, size);
	}
	return 0;
}

static int describe(struct nr_layer *layer, struct nr_traits *t, struct nr_error *error)
{
	t->read_only = true;
	return 0;
}

static void submit(struct nr_layer *layer, struct nr_request *req)
{
	struct ddrescue *d = layer->instance;
	uint64_t end;

	if ((req->operation == NR_READ || req->operation == NR_CACHE) &&
	    (!nr_ddrescue_rescued(&d->map, req->offset, &end) || end - req->offset < req->length))
		nr_finish(layer, req, -EIO);
	else
		nr_pass(layer, req);
}

/* Keep of the map what lies before the first part that was not rescued. */
static void cut_map(const struct ddrescue *d, struct nr_extents *list)
{
	uint64_t covered = list->next, end;

	if (!nr_ddrescue_rescued(&d->map, list->start, &end)) {
		list->count = 0;
		list->next = list->start;
		nr_extents_add(list, nr_min(end, list->end) - list->start, 0);
		return;
	}
	while (covered > end) {
		struct nr_extent *last = &list->extent[list->count - 1];
		uint64_t over = nr_min(covered - end, last->length);

		last->length -= over;
		covered -= over;
		if (last->length == 0)
			list->count--;
	}
	list->next = covered;
}

static void done(struct nr_layer *layer, struct nr_request *req)
{
	struct ddrescue *d = layer->instance;

	if (req->operation == NR_EXTENTS && !req->metadata && !req->error && req->extents->count)
		cut_map(d, req->extents);
	nr_finish(layer, req, req->error);
}

const struct nr_layer_type nr_ddrescue_type = {
	.abi = NR_LAYER_ABI,
	.name = "ddrescue",
	.summary = "fails where ddrescue could not read",
	.kind = NR_FILTER,
	.placement = NR_SPREAD,
	.params = ddrescue_params,
	.instance_size = sizeof(struct ddrescue),
	.open = open_map,
	.describe = describe,
	.submit = submit,
	.done = done,
	.contexts_pass = true,
	.data_passes = true,
	.close = close_map,
};
