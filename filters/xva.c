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
 * In front of the disks is their metadata, ova.xml (xva-facts.h): how long they are, which
 * chunks tell only of the last one's, and what they are called.
 *
 * Only headers are read, when the disk is opened (tar-member.h); then it is a table of
 * ranges (ranges.h), and what was left out are holes.
 *
 * If checksums are to be verified when somebody reads, the disk is one of blocks.h instead:
 * a chunk is read as a whole, and given out when it is right.  If that is to be done at
 * open it is done in the same way, once, and then it is a table of ranges again.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "filters/filters.h"
#include "filters/output.h"
#include "filters/ranges.h"
#include "filters/tar-member.h"
#include "filters/xva-list.h"
#include "filters/xva-sum.h"
#include "nbdring/checked.h"

#define CHUNK_MAX ((uint64_t)64 << 20)

#define CACHE_MIN ((uint64_t)64 << 20)
#define SUM_FILE_MAX 64u /* bytes */

enum verify { NEVER, ON_READ, AT_OPEN };

struct xva {
	const char *disk;
	unsigned verify; /* enum verify */
	bool metadata;
	uint64_t size;
	struct nr_ranges ranges;
	struct nr_blocks blocks; /* if something is to be verified; without engine: no more */
	struct nr_xva_sums sums;
	_Atomic(uint64_t) said;
};

struct disk {
	struct nr_layer *layer;
	struct xva *xva;
	const struct nr_tar_archive *archive;
	struct nr_xva_facts facts;
	const char *wanted; /* its ref, or a place in the archive; NULL: the only one */
	const struct nr_xva_disk *known; /* of the one that is chosen; NULL: nothing is */
	char name[NR_XVA_REF_MAX];       /* "": none yet */
	size_t begun;                    /* disks so far */
	bool chosen;                     /* it is the one */
	bool over;                       /* it was, and another one has begun */
	uint64_t next;                   /* number of the next chunk */
	bool empty;                      /* the last one is of no length */
	uint64_t chunk;                  /* length of the first one, bytes */
	struct nr_text names;            /* of all disks, for a refusal */
};

static const char *const times[] = { "no", "read", "open", NULL };

static const struct nr_param params[] = {
	{ .name = "xva-disk",
	  .type = NR_PARAM_STRING,
	  .offset = offsetof(struct xva, disk),
	  .value = "REF|UUID|NAME|N",
	  .help = "which disk, as in Ref:10",
	  .manual = "Which disk of the virtual machine to serve: by the name that its folder in "
		    "the archive has, as in C<Ref:10>; or as F<ova.xml> calls it, by its UUID or "
		    "its name (C<name_label>), if no other disk has that name; or by its place, "
		    "from 0, in the order of device numbers, or of the archive where F<ova.xml> "
		    "says nothing. Whatever fits first counts, in this order. Without this it is "
		    "the only disk; if there are several, they are told." },
#ifdef NR_HAVE_EXPAT
	{ .name = "xva-metadata",
	  .type = NR_PARAM_BOOL,
	  .offset = offsetof(struct xva, metadata),
	  .fallback = "yes",
	  .help = "whether ova.xml is looked at",
	  .manual = "Whether F<ova.xml> is looked at, which has the names and sizes of disks. "
		    "Without it a disk ends with its last chunk; for exports whose metadata is "
		    "damaged." },
#endif
	{ .name = "xva-verify",
	  .type = NR_PARAM_CHOICE,
	  .offset = offsetof(struct xva, verify),
	  .fallback = "no",
	  .choices = times,
	  .value = "WHEN",
	  .help = "when the checksums of chunks are looked at",
	  .manual = "When the checksums of the disk's chunks are looked at, SHA-1 or XXH64, as the "
		    "export has them: B<no>, never; B<read>, when somebody reads something of a "
		    "chunk, which then is an error if it is not right; or B<open>, all of them "
		    "when the disk is opened, which reads all of it and refuses an export that is "
		    "damaged. Chunks without a checksum are served; the log says how many they "
		    "are." },
	{ .name = NULL },
};

/*
 * "Ref:10/00000003": how long the first part is, the number, and what is behind it (a
 * checksum's name goes on); 0: it is no chunk.
 */
static size_t parse_name(const char *name, uint64_t *number, const char **suffix)
{
	size_t length = strcspn(name, "/"), digits;

	if (strncmp(name, "Ref:", 4) != 0 || length >= NR_XVA_REF_MAX || !name[length] ||
	    strspn(name + 4, "0123456789") != length - 4)
		return 0;
	digits = strspn(name + length + 1, "0123456789");
	if (digits < 8 || digits > 12)
		return 0;
	*number = strtoull(name + length + 1, NULL, 10);
	*suffix = name + length + 1 + digits;
	return length;
}

/* The disks, for a sentence; the caller frees them. */
static const char *names_of(struct disk *d)
{
	if (d->facts.count > 0) {
		nr_text_free(&d->names);
		nr_xva_facts_list(&d->facts, &d->names);
	}
	return d->names.failed || !d->names.used ? "?" : d->names.data;
}

static bool is_wanted(const struct disk *d)
{
	char place[24];

	if (!d->wanted || strcmp(d->wanted, d->name) == 0)
		return true;
	(void)snprintf(place, sizeof(place), "%zu", d->begun - 1);
	return d->facts.count == 0 && strcmp(d->wanted, place) == 0;
}

static int choose(struct disk *d, struct nr_error *error)
{
	d->known = nr_xva_facts_of(&d->facts, d->name);
	if (d->known && d->known->has_size == NR_XVA_BAD_SIZE)
		return nr_error_set(error, -EINVAL,
				    "ova.xml has a size for %s that no disk can have; "
				    "xva-metadata=no takes that of its chunks",
				    d->name);
	if (d->known && d->known->has_size == NR_XVA_NO_SIZE)
		d->known = NULL;
	return 0;
}

static int begin_disk(struct disk *d, const char *name, size_t length, struct nr_error *error)
{
	d->over |= d->chosen;
	memcpy(d->name, name, length);
	d->name[length] = '\0';
	d->next = d->chunk = 0;
	d->begun++;
	if (d->names.used < 200)
		nr_text_add(&d->names, "%s%s", d->names.used ? ", " : "", d->name);
	d->chosen = !d->over && is_wanted(d);
	if (d->over && !d->wanted)
		return nr_error_set(
			error, -EEXIST,
			"there are several disks (%s); say which by xva-disk=", names_of(d));
	return d->chosen ? choose(d, error) : 0;
}

/* The chunk with what was left out before it, for verifying. */
static int add_blocks(struct xva *x, uint64_t skipped, uint64_t data, uint64_t length)
{
	int err = nr_blocks_add(&x->blocks, skipped, 0, 0, 0);

	if (!err && length > 0)
		err = nr_xva_sums_add(&x->sums);
	if (err || length == 0)
		return err;
	x->blocks.whole_max = nr_max(x->blocks.whole_max, length);
	return nr_blocks_add(&x->blocks, length, data, length, x->sums.count - 1);
}

static int add_chunk(struct disk *d, uint64_t number, uint64_t data, uint64_t length,
		     struct nr_error *error)
{
	struct xva *x = d->xva;
	uint64_t skipped, fits = length;
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
	if (d->known && length > 0 && x->size >= d->known->size)
		return nr_error_set(error, -EINVAL,
				    "%s/%08" PRIu64 ": the disk is of %" PRIu64
				    " bytes by ova.xml, "
				    "but this chunk is behind them; xva-metadata=no ignores that",
				    d->name, number, d->known->size);
	if (d->known && length > 0)
		fits = nr_min(length, d->known->size - x->size);
	err = nr_ranges_add(&x->ranges, x->size, fits, data);
	if (!err && x->verify != NEVER)
		err = add_blocks(x, skipped, data, length);
	if (err)
		return nr_error_system(error, err, "%s/%08" PRIu64, d->name, number);
	x->size += length;
	d->next = number + 1;
	d->empty = length == 0;
	return 0;
}

/* The file of LENGTH bytes at DATA may be the checksum of the last chunk. */
static int add_sum(struct disk *d, const char *suffix, uint64_t data, uint64_t length,
		   struct nr_error *error)
{
	enum nr_xva_sum_kind kind = nr_xva_sum_kind(suffix);
	struct nr_xva_sums *sums = &d->xva->sums;
	char text[SUM_FILE_MAX] = "";
	int err;

	if (kind == NR_XVA_NO_SUM || length == 0 || length >= sizeof(text))
		return 0;
	err = nr_read_below(d->layer, data, length, text, error);
	if (!err && !nr_xva_sum_parse(text, kind, &sums->sum[sums->count - 1]))
		err = nr_error_set(error, -EINVAL, "%s/%08" PRIu64 "%s is no checksum", d->name,
				   d->next - 1, suffix);
	return err;
}

#ifdef NR_HAVE_EXPAT
static int read_metadata(struct disk *d, uint64_t data, uint64_t length, struct nr_error *error)
{
	const struct nr_xva_disk *chosen;
	int err = nr_xva_facts_read(d->archive, data, length, &d->facts, error);

	/* A disk that it does not know may be there. */
	if (err || d->facts.count == 0 || !d->wanted || nr_xva_is_ref(d->wanted))
		return err;
	err = nr_xva_facts_choose(&d->facts, d->wanted, &chosen, error);
	if (!err)
		d->wanted = chosen->ref;
	return err;
}
#endif

static int look_at(void *context, const char *name, uint64_t data, uint64_t length,
		   struct nr_error *error)
{
	struct disk *d = context;
	uint64_t number = 0;
	const char *suffix = "";
	size_t ref = parse_name(name, &number, &suffix);
	bool same = strlen(d->name) == ref && memcmp(d->name, name, ref) == 0;
	int err = 0;

#ifdef NR_HAVE_EXPAT
	if (d->xva->metadata && d->begun == 0 && !d->facts.disk && strcmp(name, "ova.xml") == 0)
		return read_metadata(d, data, length, error);
#endif
	if (ref == 0 || (*suffix && (!same || !d->chosen)))
		return 0;
	if (*suffix)
		return d->xva->verify != NEVER && number + 1 == d->next && !d->empty
			       ? add_sum(d, suffix, data, length, error)
			       : 0;
	if (!same)
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

/* By ova.xml the disk goes on behind its chunks, or ends in the last one. */
static int end_disk(struct disk *d, struct nr_error *error)
{
	struct xva *x = d->xva;
	uint64_t size = d->known ? d->known->size : x->size;
	int err = 0;

	if (x->verify != NEVER && size > x->size)
		err = nr_blocks_add(&x->blocks, size - x->size, 0, 0, 0);
	x->size = size;
	return err ? nr_error_system(error, err, "%s", d->name) : 0;
}

static int find_chunks(struct nr_layer *layer, struct nr_error *error)
{
	struct xva *x = layer->instance;
	const struct nr_tar_archive archive = {
		.size = nr_layer_size(layer->below),
		.read = read_below,
		.context = layer,
	};
	const struct nr_xva_list *list = nr_shared_data(layer);
	struct disk d = { .layer = layer, .xva = x, .archive = &archive, .wanted = x->disk };
	int err;

	if (!d.wanted && nr_xva_list_many(list))
		d.wanted = layer->export_name;
	err = nr_tar_each(&archive, look_at, &d, error);
	if (!err && (d.chosen || d.over))
		err = end_disk(&d, error);
	else if (!err && d.begun > 0)
		err = nr_error_set(error, -ENOENT, "there is no disk %.100s; there are %s",
				   d.wanted, names_of(&d));
	else if (!err)
		err = nr_error_set(error, -ENOENT, "there is no disk in the archive");
	nr_text_free(&d.names);
	nr_xva_facts_free(&d.facts);
	return err;
}

static int begin_to_verify(struct nr_layer *layer, struct nr_error *error)
{
	struct xva *x = layer->instance;
	struct nr_traits below = layer->below->traits;
	size_t without = 0;
	int err = nr_ranges_describe(&x->ranges, x->size, &below, error);

	for (size_t i = 0; i < x->sums.count; i++)
		without += x->sums.sum[i].kind == NR_XVA_NO_SUM;
	if (without)
		nr_layer_log(layer, NR_LAYER_WARNING,
			     "%zu of %zu chunks have no checksum and are not verified", without,
			     x->sums.count);
	x->sums.layer = x->verify == ON_READ ? layer : NULL;
	x->sums.said = &x->said;
	x->blocks.codec = &nr_xva_codec;
	x->blocks.context = &x->sums;
	x->blocks.cache_max = nr_max(CACHE_MIN, 4 * x->blocks.whole_max);
	return err ? err : nr_blocks_start(&x->blocks, error);
}

static void close_xva(struct nr_layer *layer)
{
	struct xva *x = layer->instance;

	nr_ranges_free(&x->ranges);
	nr_blocks_free(&x->blocks);
	nr_xva_sums_free(&x->sums);
}

static int open_xva(struct nr_layer *layer, struct nr_error *error)
{
	struct xva *x = layer->instance;
	int err = find_chunks(layer, error);

	if (!err && x->verify != NEVER)
		err = begin_to_verify(layer, error);
	if (!err && x->verify == ON_READ)
		nr_layer_needs_home(layer);
	if (!err && x->verify == AT_OPEN) {
		err = nr_blocks_check(layer, &x->blocks, error);
		nr_blocks_free(&x->blocks);
	}
	if (err)
		close_xva(layer);
	return err;
}

static int describe(struct nr_layer *layer, struct nr_traits *t, struct nr_error *error)
{
	const struct xva *x = layer->instance;

	if (x->blocks.engine) {
		nr_blocks_describe(&x->blocks, t);
		t->size = x->size;
		return 0;
	}
	return nr_ranges_describe(&x->ranges, x->size, t, error);
}

static void submit(struct nr_layer *layer, struct nr_request *req)
{
	struct xva *x = layer->instance;

	if (x->blocks.engine)
		nr_blocks_submit(layer, &x->blocks, req);
	else
		nr_ranges_submit(layer, &x->ranges, req);
}

static void done(struct nr_layer *layer, struct nr_request *req)
{
	nr_ranges_done(layer, req);
}

static void child_done(struct nr_layer *layer, struct nr_request *child)
{
	struct xva *x = layer->instance;

	if (x->blocks.engine)
		nr_blocks_child_done(layer, &x->blocks, child);
	else
		nr_ranges_child_done(layer, &x->ranges, child);
}

static void resume(struct nr_layer *layer, struct nr_request *req)
{
	struct xva *x = layer->instance;

	nr_blocks_resume(layer, &x->blocks, req);
}

/* Exports. */

static int start(struct nr_layer *layer, struct nr_error *error)
{
	nr_xva_list_init(nr_shared_data(layer));
	return 0;
}

static void stop(struct nr_layer *layer)
{
	nr_xva_list_free(nr_shared_data(layer));
}

/* The layer below that has several disks, each of which is an archive then; or NULL. */
static struct nr_layer *naming_below(struct nr_layer *layer)
{
	struct nr_error ignored;

	do
		layer = layer->below;
	while (layer && !layer->type->find);
	return layer && layer->type->find(layer, "", &ignored) != -ENOSYS ? layer : NULL;
}

/* The disks of the archive, if they are exports; else -ENOSYS, or what went wrong. */
static int list_disks(struct nr_layer *layer, const struct nr_xva_facts **facts,
		      struct nr_error *error)
{
	const struct xva *x = layer->instance;
	struct nr_xva_list *list = nr_shared_data(layer);
	int err = x->disk ? -ENOSYS : nr_xva_list_load(list, layer, x->metadata, error);

	*facts = &list->facts;
	return err ? err : nr_xva_list_many(list) ? 0 : -ENOSYS;
}

static int xva_find(struct nr_layer *layer, const char *name, struct nr_error *error)
{
	struct nr_layer *below = naming_below(layer);
	const struct nr_xva_facts *facts;
	const struct nr_xva_disk *disk;
	struct nr_text names = { 0 };
	int err;

	if (below)
		return below->type->find(below, name, error);
	err = list_disks(layer, &facts, error);
	if (err)
		return err;
	if (name[0])
		return nr_xva_facts_choose(facts, name, &disk, error);
	nr_xva_facts_list(facts, &names);
	nr_error_set(error, -ENOENT, "there are several disks (%s); ask for the export of one",
		     names.failed || !names.used ? "?" : names.data);
	nr_text_free(&names);
	return -ENOENT;
}

static int xva_exports(struct nr_layer *layer, nr_export_fn *each, void *context,
		       struct nr_error *error)
{
	struct nr_layer *below = naming_below(layer);
	const struct nr_xva_facts *facts;
	int err;

	if (below)
		return below->type->exports ? below->type->exports(below, each, context, error)
					    : -ENOSYS;
	err = list_disks(layer, &facts, error);
	for (size_t i = 0; !err && i < facts->count; i++)
		nr_xva_list_tell(nr_shared_data(layer), &facts->disk[i], each, context);
	return err;
}

/* Of an export that is one of the archive's disks; NULL: it is not. */
static const struct nr_xva_disk *disk_called(struct nr_layer *layer, const char *name)
{
	const struct nr_xva_facts *facts;
	const struct nr_xva_disk *disk = NULL;
	struct nr_error ignored;

	if (naming_below(layer) || list_disks(layer, &facts, &ignored) ||
	    nr_xva_facts_choose(facts, name, &disk, &ignored))
		return NULL;
	return disk;
}

static void describe_export(struct nr_layer *layer, const char *name, nr_export_fn *each,
			    void *context)
{
	const struct nr_xva_disk *disk = disk_called(layer, name);
	struct nr_layer *below = disk ? NULL : naming_below(layer);

	if (disk)
		nr_xva_list_tell(nr_shared_data(layer), disk, each, context);
	else if (below && below->type->describe_export)
		below->type->describe_export(below, name, each, context);
	else
		each(context, name, NULL);
}

/* One name for each disk, the one that is listed: rules of access are about that. */
static const char *name_below(struct nr_layer *layer, const char *name)
{
	const struct nr_xva_disk *disk = disk_called(layer, name);

	return disk ? nr_xva_list_name(nr_shared_data(layer), disk) : name;
}

union state {
	struct nr_ranges_state ranges;
	struct nr_blocks_state blocks;
};

const struct nr_layer_type nr_xva_type = {
	.abi = NR_LAYER_ABI,
	.name = "xva",
	.summary = "serves a disk of the XenServer or XCP-ng export below",
	.kind = NR_FILTER,
	.placement = NR_SPREAD,
	.needs = NR_NEEDS_READER,
	.params = params,
	.instance_size = sizeof(struct xva),
	.request_size = sizeof(union state),
	.shared_size = sizeof(struct nr_xva_list),
	.start = start,
	.stop = stop,
	.exports = xva_exports,
	.find = xva_find,
	.describe_export = describe_export,
	.name_below = name_below,
	.open = open_xva,
	.describe = describe,
	.submit = submit,
	.done = done,
	.contexts_pass = true,
	.child_done = child_done,
	.resume = resume,
	.computes = true,
	.data_passes = true,
	.close = close_xva,
};
