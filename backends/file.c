/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The backend `file`: a file or block device as a disk, or each file of a folder
 * as one.
 *
 * This is the face: parameters, and which file an export is.  What a file can
 * do, and how, is in file-*.c (see file.h).
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

#include "backends/backends.h"
#include "backends/file.h"
#include "nbdring/checked.h"

struct file_instance {
	const char *path;
	const char *folder;
	uint64_t descriptor; /* 0: not given */
	struct nr_file_settings settings;
	char descriptor_name[24];
	struct nr_disk disk;
};

static const struct nr_param params[] = {
	{ .name = "file",
	  .type = NR_PARAM_PATH,
	  .flags = NR_PARAM_MAIN | NR_PARAM_WRITTEN,
	  .offset = offsetof(struct file_instance, path),
	  .value = "PATH",
	  .help = "the file or block device to serve",
	  .manual = "The regular file or block device to serve. The name of the export that "
		    "clients ask for does not matter. If it cannot be opened for writing, clients "
		    "are told that it is read-only." },
	{ .name = "dir",
	  .type = NR_PARAM_PATH,
	  .flags = NR_PARAM_WRITTEN,
	  .offset = offsetof(struct file_instance, folder),
	  .value = "FOLDER",
	  .help = "serve each file in this folder as an export of its name",
	  .manual = "Serve each regular file and block device that lies directly in this folder "
		    "as an export named like the file. Files that come and go are seen at once. "
		    "There is no default export. Symbolic links are followed as long as they stay "
		    "inside the folder; names with a slash, and everything that leads out of it, "
		    "are refused." },
	{ .name = "fd",
	  .type = NR_PARAM_UINT,
	  .flags = NR_PARAM_DESCRIPTOR | NR_PARAM_WRITTEN,
	  .offset = offsetof(struct file_instance, descriptor),
	  .min = 3,
	  .max = INT_MAX,
	  .value = "NUMBER",
	  .help = "serve the file that is open on this descriptor",
	  .manual = "Serve the file that the server inherited open on this descriptor, 3 or "
		    "higher. Whether clients may write depends on how it was opened." },
	{ .name = "cache",
	  .type = NR_PARAM_CHOICE,
	  .offset = offsetof(struct file_instance, settings.cache),
	  .fallback = "writeback",
	  .choices = nr_file_cache_names,
	  .value = "MODE",
	  .help = "how to use the page cache; none is direct I/O",
	  .manual = nr_file_cache_manual },
	{ .name = "fadvise",
	  .type = NR_PARAM_CHOICE,
	  .offset = offsetof(struct file_instance, settings.advice),
	  .fallback = "normal",
	  .choices = nr_file_advice_names,
	  .value = "ORDER",
	  .help = "the order to expect reads in",
	  .manual = nr_file_advice_manual },
	{ .name = NULL },
};

static int file_check(struct nr_layer *layer, struct nr_error *error)
{
	const struct file_instance *self = layer->instance;
	unsigned given = !!self->path + !!self->folder + !!self->descriptor;

	if (given == 1)
		return 0;
	return nr_error_set(error, -EINVAL,
			    given ? "give only one of file=, dir= and fd="
				  : "what to serve is missing: give file=PATH, dir=FOLDER or "
				    "fd=NUMBER");
}

static int open_file(struct file_instance *self, const struct nr_layer *layer, struct nr_file *file,
		     struct nr_error *error)
{
	if (self->folder)
		return nr_file_dir_open(file, self->folder, layer->export_name, layer->read_only,
					error);
	if (self->path)
		return nr_file_open(file, AT_FDCWD, self->path, false, layer->read_only, self->path,
				    error);
	snprintf(self->descriptor_name, sizeof(self->descriptor_name), "fd=%u",
		 (unsigned)self->descriptor);
	return nr_file_open_inherited(file, (int)self->descriptor, layer->read_only,
				      self->descriptor_name, error);
}

static int file_open(struct nr_layer *layer, struct nr_error *error)
{
	struct file_instance *self = layer->instance;
	struct nr_file *file = calloc(1, sizeof(*file));
	int err;

	if (!file)
		return nr_error_system(error, -ENOMEM, "opening");
	err = open_file(self, layer, file, error);
	if (err) {
		free(file);
		return err;
	}
	return nr_disk_open(&self->disk, layer, file, 1, &self->settings, error);
}

static int file_describe(struct nr_layer *layer, struct nr_traits *traits, struct nr_error *error)
{
	const struct file_instance *self = layer->instance;

	nr_disk_describe(&self->disk, traits);
	if (!self->disk.read_only && !self->disk.file->block_device)
		traits->support[NR_CAP_RESIZE] = NR_NATIVE;
	return 0;
}

/* A size that O_DIRECT cannot serve to the end is rounded down. */
static int file_refresh(struct nr_layer *layer, uint64_t *size, struct nr_error *error)
{
	struct file_instance *self = layer->instance;
	struct nr_file *file = self->disk.file;
	int err = nr_file_size_now(file, size);

	if (err)
		return nr_error_system(error, err, "%s", file->shown);
	*size = nr_round_down(*size, self->disk.block_min);
	/* What was added is a hole as like as not. */
	if (*size != nr_layer_size(layer))
		nr_holes_made(file, 0, 0);
	return 0;
}

static bool file_identify(struct nr_layer *layer, uint8_t identity[NR_IDENTITY_BYTES])
{
	const struct file_instance *self = layer->instance;

	return nr_file_identify(self->disk.file, identity);
}

static int file_exports(struct nr_layer *layer, nr_export_fn *each, void *context,
			struct nr_error *error)
{
	const struct file_instance *self = layer->instance;

	return self->folder ? nr_file_dir_exports(self->folder, each, context, error) : -ENOSYS;
}

static int file_find(struct nr_layer *layer, const char *name, struct nr_error *error)
{
	const struct file_instance *self = layer->instance;

	return self->folder ? nr_file_dir_find(self->folder, name, error) : -ENOSYS;
}

static void file_submit(struct nr_layer *layer, struct nr_request *req)
{
	struct file_instance *self = layer->instance;

	nr_disk_submit(&self->disk, req);
}

static void file_close(struct nr_layer *layer)
{
	struct file_instance *self = layer->instance;

	nr_disk_close(&self->disk);
}

const struct nr_layer_type nr_file_type = {
	.abi = NR_LAYER_ABI,
	.name = "file",
	.summary = "serves a file or block device, or each file in a folder",
	.kind = NR_BACKEND,
	.placement = NR_SPREAD,
	.params = params,
	.instance_size = sizeof(struct file_instance),
	.request_size = sizeof(struct nr_file_op),
	.check = file_check,
	.open = file_open,
	.describe = file_describe,
	.refresh = file_refresh,
	.identify = file_identify,
	.exports = file_exports,
	.find = file_find,
	.submit = file_submit,
	.close = file_close,
	.reopens = true,
};
