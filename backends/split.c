/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The backend `split`: several files as one disk, one after the other.
 *
 * All of the work is that of struct nr_disk (file.h), to which one file is the
 * special case.  Where one file ends and the next begins is settled when the
 * disk is opened: a file that grows later keeps its new bytes to itself, and one
 * that shrinks fails the reads of what is missing.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>

#include "backends/backends.h"
#include "backends/file.h"

struct split_instance {
	struct nr_strings paths;
	struct nr_file_settings settings;
	struct nr_disk disk;
};

static const struct nr_param params[] = {
	{ .name = "file",
	  .type = NR_PARAM_PATHS,
	  .flags = NR_PARAM_MAIN | NR_PARAM_REQUIRED | NR_PARAM_WRITTEN,
	  .offset = offsetof(struct split_instance, paths),
	  .value = "PATH",
	  .help = "a part of the disk; give the parts in their order",
	  .manual = "A regular file or block device that is the next part of the disk. Give it "
		    "once for each part, in their order. Parts may have any length, also 0. If one "
		    "of them cannot be opened for writing, the whole disk is read-only." },
	{ .name = "cache",
	  .type = NR_PARAM_CHOICE,
	  .offset = offsetof(struct split_instance, settings.cache),
	  .fallback = "writeback",
	  .choices = nr_file_cache_names,
	  .value = "MODE",
	  .help = "how to use the page cache; none is direct I/O",
	  .manual = nr_file_cache_manual },
	{ .name = "fadvise",
	  .type = NR_PARAM_CHOICE,
	  .offset = offsetof(struct split_instance, settings.advice),
	  .fallback = "normal",
	  .choices = nr_file_advice_names,
	  .value = "ORDER",
	  .help = "the order to expect reads in",
	  .manual = nr_file_advice_manual },
	{ .name = NULL },
};

static int open_parts(const struct split_instance *self, bool read_only, struct nr_file *file,
		      struct nr_error *error)
{
	for (size_t i = 0; i < self->paths.count; i++) {
		const char *path = self->paths.item[i];
		int err = nr_file_open(&file[i], AT_FDCWD, path, false, read_only, path, error);

		if (!err)
			continue;
		while (i--)
			nr_file_close(&file[i]);
		return err;
	}
	return 0;
}

static int split_open(struct nr_layer *layer, struct nr_error *error)
{
	struct split_instance *self = layer->instance;
	struct nr_file *file;
	int err;

	if (self->paths.count > UINT_MAX)
		return nr_error_set(error, -E2BIG, "too many files");
	file = calloc(self->paths.count, sizeof(*file));
	if (!file)
		return nr_error_system(error, -ENOMEM, "opening");
	err = open_parts(self, layer->read_only, file, error);
	if (err) {
		free(file);
		return err;
	}
	return nr_disk_open(&self->disk, layer, file, (unsigned)self->paths.count, &self->settings,
			    error);
}

static int split_describe(struct nr_layer *layer, struct nr_traits *traits, struct nr_error *error)
{
	const struct split_instance *self = layer->instance;

	nr_disk_describe(&self->disk, traits);
	return 0;
}

static void split_submit(struct nr_layer *layer, struct nr_request *req)
{
	struct split_instance *self = layer->instance;

	nr_disk_submit(&self->disk, req);
}

static void split_close(struct nr_layer *layer)
{
	struct split_instance *self = layer->instance;

	nr_disk_close(&self->disk);
}

const struct nr_layer_type nr_split_type = {
	.abi = NR_LAYER_ABI,
	.name = "split",
	.summary = "serves several files as one disk",
	.kind = NR_BACKEND,
	.placement = NR_SPREAD,
	.params = params,
	.instance_size = sizeof(struct split_instance),
	.request_size = sizeof(struct nr_file_op),
	.open = split_open,
	.describe = split_describe,
	.submit = split_submit,
	.close = split_close,
	.reopens = true,
};
