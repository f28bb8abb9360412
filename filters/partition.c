/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The filter `partition`: one partition of the disk below as a disk of its own.
 *
 * Where it lies is read from the partition table once, when the disk is opened
 * (partition-table.h); after that it is a window like that of `offset`.  Writes to
 * the table through another export do not move it.
 */
#include <errno.h>
#include <inttypes.h>

#include "filters/filters.h"
#include "filters/partition-table.h"
#include "filters/window.h"
#include "nbdring/checked.h"

struct partition {
	uint64_t number;
	unsigned sector; /* index into sector_names */
	struct nr_partition place;
};

static const char *const sector_names[] = { "512", "4096", NULL };
static const uint32_t sector_bytes[] = { 512, 4096 };

static const struct nr_param params[] = {
	{ .name = "partition",
	  .type = NR_PARAM_UINT,
	  .flags = NR_PARAM_REQUIRED,
	  .offset = offsetof(struct partition, number),
	  .min = 1,
	  .max = UINT32_MAX,
	  .value = "NUMBER",
	  .help = "which partition, counted from 1",
	  .manual = "Which partition to serve. Partitions count from 1, as in the names that "
		    "Linux gives them; the logical partitions of an MBR from 5." },
	{ .name = "partition-sectorsize",
	  .type = NR_PARAM_CHOICE,
	  .offset = offsetof(struct partition, sector),
	  .fallback = "512",
	  .choices = sector_names,
	  .value = "BYTES",
	  .help = "bytes of a sector, which partition tables count in",
	  .manual = "The sector size of the disk that the table was made for, in bytes. "
		    "Partition tables count in sectors and do not say how large one is." },
	{ .name = NULL },
};

static int read_below(void *context, uint64_t offset, uint64_t length, void *data,
		      struct nr_error *error)
{
	return nr_read_below(context, offset, length, data, error);
}

static int find_place(struct nr_layer *layer, struct nr_error *error)
{
	struct partition *p = layer->instance;
	const struct nr_partition_disk disk = {
		.size = nr_layer_size(layer->below),
		.sector = sector_bytes[p->sector],
		.read = read_below,
		.context = layer,
	};

	int err = nr_partition_find(&disk, p->number, &p->place, error);

	if (!err && p->place.damage[0])
		nr_layer_log(layer, NR_LAYER_WARNING,
			     "%s; the copy of the table at the end of the disk is used",
			     p->place.damage);
	return err;
}

static int describe(struct nr_layer *layer, struct nr_traits *t, struct nr_error *error)
{
	const struct partition *p = layer->instance;

	if (!nr_in_range(p->place.offset, p->place.length, t->size))
		return nr_error_set(error, -EINVAL,
				    "partition %" PRIu64 " ends at byte %" PRIu64
				    " and the disk below now has %" PRIu64,
				    p->number, p->place.offset + p->place.length, t->size);
	if (!nr_is_aligned(p->place.offset | p->place.length, t->block_min))
		return nr_error_set(error, -EINVAL,
				    "partition %" PRIu64 " has %" PRIu64 " bytes from byte %" PRIu64
				    " on, which does not fit the %u-byte blocks below; put "
				    "--filter=blocksize below",
				    p->number, p->place.length, p->place.offset, t->block_min);
	t->size = p->place.length;
	t->support[NR_CAP_RESIZE] = NR_NONE;
	return 0;
}

static void submit(struct nr_layer *layer, struct nr_request *req)
{
	const struct partition *p = layer->instance;

	nr_window_enter(req, p->place.offset);
	nr_pass(layer, req);
}

static void done(struct nr_layer *layer, struct nr_request *req)
{
	const struct partition *p = layer->instance;

	nr_window_leave(req, p->place.offset);
	nr_finish(layer, req, req->error);
}

const struct nr_layer_type nr_partition_type = {
	.abi = NR_LAYER_ABI,
	.name = "partition",
	.summary = "serves one partition of the disk below",
	.kind = NR_FILTER,
	.placement = NR_SPREAD,
	.needs = NR_NEEDS_READER,
	.params = params,
	.instance_size = sizeof(struct partition),
	.open = find_place,
	.describe = describe,
	.submit = submit,
	.done = done,
	.contexts_pass = true,
	.data_passes = true,
};
