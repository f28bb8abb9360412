/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The filter `tar`: a member of the tar archive below as a disk of its own.
 *
 * Where it lies is found out once, when the disk is opened (tar-member.h).  A member
 * that is stored as it is lies in one piece: a window, like that of `offset`, which can
 * be written.  A sparse one is put together from its ranges (ranges.h), read-only.
 */
#include <errno.h>
#include <inttypes.h>

#include "filters/filters.h"
#include "filters/ranges.h"
#include "filters/tar-member.h"
#include "filters/window.h"
#include "nbdring/checked.h"

struct tar {
	const char *entry;
	uint64_t limit;
	uint64_t start; /* of a member in one piece */
	struct nr_tar_member member;
};

static const struct nr_param params[] = {
	{ .name = "tar-entry",
	  .type = NR_PARAM_STRING,
	  .flags = NR_PARAM_REQUIRED,
	  .offset = offsetof(struct tar, entry),
	  .value = "NAME",
	  .help = "which member of the archive, by its name or a pattern",
	  .manual = "Which member of the archive to serve: its name (C<./> in front of it does "
		    "not count), or a pattern of the shell, such as C<*.img>, that fits one "
		    "member and no other. In patterns, C<*> and C<?> stand for slashes, too. If "
		    "there are several members of that name, it is the first one." },
	{ .name = "tar-limit",
	  .type = NR_PARAM_SIZE,
	  .offset = offsetof(struct tar, limit),
	  .min = 1,
	  .value = "SIZE",
	  .help = "how far to search the archive",
	  .manual = "Give up when the member does not begin in so many bytes of the archive. "
		    "Without this all of it is searched. Only headers are read, but where what "
		    "is below has to unpack what lies between them, that takes its time." },
	{ .name = NULL },
};

static int read_below(void *context, uint64_t offset, uint64_t length, void *data,
		      struct nr_error *error)
{
	return nr_read_below(context, offset, length, data, error);
}

static int open_tar(struct nr_layer *layer, struct nr_error *error)
{
	struct tar *t = layer->instance;
	const struct nr_tar_archive archive = {
		.size = nr_layer_size(layer->below),
		.read = read_below,
		.context = layer,
	};
	int err = nr_tar_find(&archive, t->entry, t->limit, &t->member, error);

	if (!err && t->member.ranges.count)
		t->start = t->member.ranges.range[0].below;
	return err;
}

static void close_tar(struct nr_layer *layer)
{
	struct tar *t = layer->instance;

	nr_ranges_free(&t->member.ranges);
}

static int describe(struct nr_layer *layer, struct nr_traits *traits, struct nr_error *error)
{
	const struct tar *t = layer->instance;
	struct nr_traits whole = *traits;
	int err = nr_ranges_describe(&t->member.ranges, t->member.size, &whole, error);

	if (err)
		return nr_error_prefix(error, "%.100s", t->entry);
	if (t->member.sparse) {
		*traits = whole;
		return 0;
	}
	traits->size = t->member.size;
	traits->support[NR_CAP_RESIZE] = NR_NONE;
	return 0;
}

static void submit(struct nr_layer *layer, struct nr_request *req)
{
	const struct tar *t = layer->instance;

	if (t->member.sparse) {
		nr_ranges_submit(layer, &t->member.ranges, req);
		return;
	}
	nr_window_enter(req, t->start);
	nr_pass(layer, req);
}

static void done(struct nr_layer *layer, struct nr_request *req)
{
	const struct tar *t = layer->instance;

	if (t->member.sparse) {
		nr_ranges_done(layer, req);
		return;
	}
	nr_window_leave(req, t->start);
	nr_finish(layer, req, req->error);
}

static void child_done(struct nr_layer *layer, struct nr_request *child)
{
	const struct tar *t = layer->instance;

	nr_ranges_child_done(layer, &t->member.ranges, child);
}

const struct nr_layer_type nr_tar_type = {
	.abi = NR_LAYER_ABI,
	.name = "tar",
	.summary = "serves a file in the tar archive below",
	.kind = NR_FILTER,
	.placement = NR_SPREAD,
	.needs = NR_NEEDS_READER,
	.params = params,
	.instance_size = sizeof(struct tar),
	.request_size = sizeof(struct nr_ranges_state),
	.open = open_tar,
	.describe = describe,
	.submit = submit,
	.done = done,
	.contexts_pass = true,
	.child_done = child_done,
	.data_passes = true,
	.close = close_tar,
};
