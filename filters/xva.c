/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The filter `xva`: a disk of the XVA below, the export of a virtual machine by XenServer
 * or XCP-ng.
 *
 * An XVA is a tar archive.  A disk is a folder "Ref:N" of chunks with numbers of eight
 * digits for names, of 1 MiB but for the last, each with a checksum beside it.  Chunks of
 * zeroes are left out, but not the first and the last.  Numbers are not places: the
 * exporter writes chunks of no length to keep a connection alive, which use up a number.
 * So k numbers from one chunk to the next mean k - 1 chunks that were left out, of the
 * length of the disk's first one, and then this chunk's own length counts.
 *
 * Only headers are read, when the disk is opened (tar-member.h); then it is a table of
 * ranges (ranges.h), and what was left out are holes.  Checksums are not looked at.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "filters/filters.h"
#include "filters/output.h"
#include "filters/ranges.h"
#include "filters/tar-member.h"
#include "nbdring/checked.h"

#define NAME_MAX_BYTES 32u /* "Ref:" and a number */
#define CHUNK_MAX ((uint64_t)64 << 20)

struct xva {
	const char *disk;
	uint64_t size;
	struct nr_ranges ranges;
};

struct disk {
	struct xva *xva;
	char name[NAME_MAX_BYTES]; /* "": none yet */
	bool chosen;               /* it is the one */
	bool over;                 /* it was, and another one has begun */
	uint64_t next;             /* number of the next chunk */
	uint64_t chunk;            /* length of the first one, bytes */
	struct nr_text names;      /* of all disks, for a refusal */
};

static const struct nr_param params[] = {
	{ .name = "xva-disk",
	  .type = NR_PARAM_STRING,
	  .offset = offsetof(struct xva, disk),
	  .value = "REF",
	  .help = "which disk, as in Ref:10",
	  .manual = "Which disk of the virtual machine to serve, by the name that its folder in "
		    "the archive has, as in C<Ref:10>. Without this it is the only one; if "
		    "there are several, their names are told." },
	{ .name = NULL },
};

/* "Ref:10/00000003": how long the first part is, and the number; 0: it is no chunk. */
static size_t parse_name(const char *name, uint64_t *number)
{
	size_t length = strcspn(name, "/"), digits;

	if (strncmp(name, "Ref:", 4) != 0 || length >= NAME_MAX_BYTES || !name[length] ||
	    strspn(name + 4, "0123456789") != length - 4)
		return 0;
	digits = strspn(name + length + 1, "0123456789");
	if (digits < 8 || digits > 12 || name[length + 1 + digits])
		return 0;
	*number = strtoull(name + length + 1, NULL, 10);
	return length;
}

static int begin_disk(struct disk *d, const char *name, size_t length, struct nr_error *error)
{
	struct xva *x = d->xva;

	d->over |= d->chosen;
	memcpy(d->name, name, length);
	d->name[length] = '\0';
	d->next = d->chunk = 0;
	if (d->names.used < 200)
		nr_text_add(&d->names, "%s%s", d->names.used ? ", " : "", d->name);
	d->chosen = !d->over && (!x->disk || strcmp(x->disk, d->name) == 0);
	if (d->over && !x->disk)
		return nr_error_set(error, -EEXIST,
				    "there are several disks (%s); say which by xva-disk=",
				    d->names.failed ? "?" : d->names.data);
	return 0;
}

static int add_chunk(struct disk *d, uint64_t number, uint64_t data, uint64_t length,
		     struct nr_error *error)
{
	struct xva *x = d->xva;
	uint64_t skipped;
	int err;

	if (number < d->next || length > CHUNK_MAX)
		return nr_error_set(error, -EINVAL, "%s/%08" PRIu64 ": this chunk is out of place",
				    d->name, number);
	if (d->chunk == 0 && number > 0)
		return nr_error_set(error, -EINVAL, "%s/%08" PRIu64 ": the first chunk is missing",
				    d->name, number);
	if (d->next == 0)
		d->chunk = length;
	if (!nr_mul(number - d->next, d->chunk, &skipped) || !nr_add(x->size, skipped, &x->size))
		return nr_error_set(error, -EFBIG, "%s is over 2^63-1 bytes", d->name);
	err = nr_ranges_add(&x->ranges, x->size, length, data);
	if (err)
		return nr_error_system(error, err, "%s/%08" PRIu64, d->name, number);
	x->size += length;
	d->next = number + 1;
	return 0;
}

static int look_at(void *context, const char *name, uint64_t data, uint64_t length,
		   struct nr_error *error)
{
	struct disk *d = context;
	uint64_t number;
	size_t ref = parse_name(name, &number);
	int err = 0;

	if (ref == 0)
		return 0;
	if (strlen(d->name) != ref || memcmp(d->name, name, ref) != 0)
		err = begin_disk(d, name, ref, error);
	if (err || !d->chosen)
		return err;
	return add_chunk(d, number, data, length, error);
}

static int read_below(void *context, uint64_t offset, uint64_t length, void *data,
		      struct nr_error *error)
{
	return nr_read_below(context, offset, length, data, error);
}

static int open_xva(struct nr_layer *layer, struct nr_error *error)
{
	struct xva *x = layer->instance;
	const struct nr_tar_archive archive = {
		.size = nr_layer_size(layer->below),
		.read = read_below,
		.context = layer,
	};
	struct disk d = { .xva = x };
	int err = nr_tar_each(&archive, look_at, &d, error);

	if (!err && !d.chosen && !d.over)
		err = d.names.used && !d.names.failed
			      ? nr_error_set(error, -ENOENT,
					     "there is no disk %.100s; there are %s", x->disk,
					     d.names.data)
			      : nr_error_set(error, -ENOENT, "there is no disk in the archive");
	nr_text_free(&d.names);
	if (err)
		nr_ranges_free(&x->ranges);
	return err;
}

static void close_xva(struct nr_layer *layer)
{
	struct xva *x = layer->instance;

	nr_ranges_free(&x->ranges);
}

static int describe(struct nr_layer *layer, struct nr_traits *t, struct nr_error *error)
{
	const struct xva *x = layer->instance;

	return nr_ranges_describe(&x->ranges, x->size, t, error);
}

static void submit(struct nr_layer *layer, struct nr_request *req)
{
	const struct xva *x = layer->instance;

	nr_ranges_submit(layer, &x->ranges, req);
}

static void done(struct nr_layer *layer, struct nr_request *req)
{
	nr_ranges_done(layer, req);
}

static void child_done(struct nr_layer *layer, struct nr_request *child)
{
	const struct xva *x = layer->instance;

	nr_ranges_child_done(layer, &x->ranges, child);
}

const struct nr_layer_type nr_xva_type = {
	.abi = NR_LAYER_ABI,
	.name = "xva",
	.summary = "serves a disk of the XenServer or XCP-ng export below",
	.kind = NR_FILTER,
	.placement = NR_SPREAD,
	.needs = NR_NEEDS_READER,
	.params = params,
	.instance_size = sizeof(struct xva),
	.request_size = sizeof(struct nr_ranges_state),
	.open = open_xva,
	.describe = describe,
	.submit = submit,
	.done = done,
	.contexts_pass = true,
	.child_done = child_done,
	.data_passes = true,
	.close = close_xva,
};
