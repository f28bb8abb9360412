/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Files put together to a disk: how it is opened and closed, what it says about
 * itself, and which function takes which request.
 *
 * A disk of one file and a disk of many are the same thing; the only place that
 * tells them apart is nr_disk_locate, which has nothing to search where there
 * is one.  A request that touches several files is carried out one file after
 * the other, in the order of offsets, by the step functions of the operations:
 * each looks where it is (op->at), starts what can be done there at once, and
 * comes back when that is done.
 *
 * O_DIRECT needs every file's size, and so every file's start, to be a multiple
 * of the alignment.  Where one is not, the disk is served through the page
 * cache instead (docs/decisions/0012): all of it, at any offset, correctly.
 *
 * Threads: opening and closing may block; nr_disk_submit runs on workers.
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>

#include "backends/blocking.h"
#include "backends/file-stuck.h"
#include "backends/file.h"
#include "nbdring/checked.h"

const char *const nr_file_cache_names[] = { "writeback", "none", "dontcache", "default", NULL };
const char *const nr_file_advice_names[] = { "normal", "random", "sequential", NULL };

const char nr_file_cache_manual[] =
	"How the page cache of the kernel is used.\n\n"
	"C<writeback>: reads and writes go through it. Best where clients read the same data "
	"again, and where several read the same image. C<default> means the same.\n\n"
	"C<none>: past it, straight between the disk and the server's own buffers (O_DIRECT). "
	"Best where clients have a cache of their own, as virtual machines do. Requests must then "
	"be multiples of the device's block size, which clients are told; the server puts right "
	"what those send that do not care. If the size of the file is no such multiple, it is "
	"served as with C<dontcache> where that is possible, else as with C<writeback>. On tmpfs, "
	"where the page cache is the file, C<none> and C<dontcache> change nothing.\n\n"
	"C<dontcache>: through the page cache, but what was read or written does not stay there. "
	"Best for copying once, at any alignment. Needs Linux 6.14 and a file system that takes "
	"part (ext4 and XFS do).";

const char nr_file_advice_manual[] =
	"What to tell the kernel about the order of reads, see L<posix_fadvise(2)>: C<sequential> "
	"doubles its read-ahead, C<random> turns it off. Without effect with C<cache=none>.";

/* ---- opening ----------------------------------------------------------- */

/* Where each file begins, and how long all are together. */
static int lay_out(struct nr_disk *disk, struct nr_error *error)
{
	disk->size = 0;
	for (unsigned i = 0; i < disk->count; i++) {
		struct nr_file *file = &disk->file[i];

		file->start = disk->size;
		if (!nr_add(disk->size, file->size, &disk->size) || disk->size > NR_SIZE_MAX)
			return nr_error_set(error, -EFBIG,
					    "%s makes the disk longer than 2^63-1 bytes",
					    file->shown);
	}
	return 0;
}

static bool all_take_dontcache(const struct nr_disk *disk, const struct nr_file **culprit)
{
	for (unsigned i = 0; i < disk->count; i++) {
		*culprit = &disk->file[i];
		if (!disk->file[i].in_memory && !nr_file_takes_dontcache(*culprit))
			return false;
	}
	return true;
}

static void look_over(struct nr_disk *disk)
{
	disk->volatile_memory = true;
	for (unsigned i = 0; i < disk->count; i++) {
		if (!disk->file[i].in_memory)
			disk->volatile_memory = false;
		if (!disk->file[i].block_device)
			disk->has_map = true;
		disk->file[i].hashed = !disk->file[i].block_device && !disk->file[i].in_memory;
		if (!disk->file[i].writable)
			disk->read_only = true;
	}
}

static int go_direct(struct nr_disk *disk, struct nr_error *error)
{
	const struct nr_file *culprit;
	uint32_t align = 1, memory = 1;
	uint64_t sizes = 0;

	for (unsigned i = 0; i < disk->count; i++) {
		struct nr_file *file = &disk->file[i];
		int err = file->in_memory ? 0 : nr_file_set_direct(file, error);

		if (err)
			return err;
		align = (uint32_t)nr_max(align, file->io_align);
		memory = (uint32_t)nr_max(memory, file->memory_align);
		sizes |= file->size;
	}
	if (nr_is_aligned(sizes, align)) {
		disk->direct = true;
		disk->block_min = align;
		disk->memory_align = memory;
		return 0;
	}
	for (unsigned i = 0; i < disk->count; i++)
		nr_file_clear_direct(&disk->file[i]);
	if (all_take_dontcache(disk, &culprit))
		disk->rw_flags = RWF_DONTCACHE;
	return 0;
}

static int choose_cache(struct nr_disk *disk, const struct nr_file_settings *settings,
			struct nr_error *error)
{
	const struct nr_file *culprit;

	disk->block_min = 1;
	disk->memory_align = 1;
	if (disk->volatile_memory)
		return 0;
	switch ((enum nr_file_cache)settings->cache) {
	case NR_FILE_WRITEBACK:
	case NR_FILE_DEFAULT:
		return 0;
	case NR_FILE_NONE:
		return go_direct(disk, error);
	case NR_FILE_DONTCACHE:
		if (!all_take_dontcache(disk, &culprit))
			return nr_error_set(error, -EOPNOTSUPP,
					    "%s: cache=dontcache is not possible, it needs Linux "
					    "6.14 and a file system that takes part, such as ext4 "
					    "or XFS; use cache=writeback or cache=none",
					    culprit->shown);
		disk->rw_flags = RWF_DONTCACHE;
	}
	return 0;
}

static void advise(const struct nr_disk *disk, unsigned advice)
{
	static const int values[] = { [NR_FILE_NORMAL] = POSIX_FADV_NORMAL,
				      [NR_FILE_RANDOM] = POSIX_FADV_RANDOM,
				      [NR_FILE_SEQUENTIAL] = POSIX_FADV_SEQUENTIAL };

	assert(advice < sizeof(values) / sizeof(values[0]));
	for (unsigned i = 0; i < disk->count; i++)
		(void)posix_fadvise(disk->file[i].fd, 0, 0, values[advice]);
}

static void close_files(struct nr_disk *disk)
{
	for (unsigned i = 0; i < disk->count; i++) {
		nr_holes_close(&disk->file[i]);
		nr_file_close(&disk->file[i]);
	}
	free(disk->file);
	disk->file = NULL;
}

static int prepare(struct nr_disk *disk, const struct nr_file_settings *settings,
		   struct nr_error *error)
{
	int err = lay_out(disk, error);

	look_over(disk);
	if (!err)
		err = choose_cache(disk, settings, error);
	if (err)
		return err;
	advise(disk, settings->advice);
	for (unsigned i = 0; i < disk->count && !err; i++)
		err = nr_holes_open(&disk->file[i]);
	if (err)
		return nr_error_system(error, err, "%s", disk->file[0].shown);
	return 0;
}

/* What workers and threads need. */
static int get_ready(struct nr_disk *disk, struct nr_error *error)
{
	int err = nr_sync_open(disk);

	if (err)
		return nr_error_system(error, err, "%s", disk->file[0].shown);
	err = nr_stuck_open(disk);
	if (err) {
		nr_sync_close(disk);
		return nr_error_system(error, err, "%s", disk->file[0].shown);
	}
	err = nr_blocking_acquire(error);
	if (err) {
		nr_stuck_close(disk);
		nr_sync_close(disk);
	}
	return err;
}

int nr_disk_open(struct nr_disk *disk, struct nr_layer *layer, struct nr_file *file, unsigned count,
		 const struct nr_file_settings *settings, struct nr_error *error)
{
	int err;

	assert(count > 0);
	*disk = (struct nr_disk){ .layer = layer,
				  .file = file,
				  .count = count,
				  .worker_count = layer->worker_count ? layer->worker_count : 1 };
	err = prepare(disk, settings, error);
	if (!err)
		err = get_ready(disk, error);
	if (err)
		close_files(disk);
	return err;
}

void nr_disk_close(struct nr_disk *disk)
{
	nr_blocking_release();
	nr_stuck_close(disk);
	nr_sync_close(disk);
	close_files(disk);
}

/* ---- what it is -------------------------------------------------------- */

static void describe_support(const struct nr_disk *disk, struct nr_traits *traits)
{
	bool fast_zero = true;

	for (unsigned i = 0; i < disk->count; i++)
		fast_zero &= disk->file[i].fast_zero;
	traits->support[NR_CAP_FLUSH] = NR_NATIVE;
	traits->support[NR_CAP_CACHE] = disk->direct ? NR_NONE : NR_NATIVE;
	traits->support[NR_CAP_EXTENTS] = NR_NATIVE;
	if (disk->read_only)
		return;
	traits->support[NR_CAP_FUA] = NR_NATIVE;
	traits->support[NR_CAP_TRIM] = NR_NATIVE;
	traits->support[NR_CAP_ZERO] = NR_NATIVE;
	traits->support[NR_CAP_FAST_ZERO] = fast_zero ? NR_NATIVE : NR_NONE;
}

void nr_disk_describe(const struct nr_disk *disk, struct nr_traits *traits)
{
	uint32_t preferred = NR_BLOCK_PREFERRED_DEFAULT;

	for (unsigned i = 0; i < disk->count; i++) {
		preferred = (uint32_t)nr_max(preferred, disk->file[i].preferred);
		traits->rotational |= disk->file[i].rotational;
	}
	traits->size = disk->size;
	traits->block_min = disk->block_min;
	traits->block_preferred = (uint32_t)nr_max(preferred, disk->block_min);
	traits->block_max = NR_TRANSFER_MAX;
	traits->memory_align = disk->memory_align;
	traits->read_only = disk->read_only;
	traits->multi_conn = true;
	describe_support(disk, traits);
}

/* ---- requests ---------------------------------------------------------- */

static struct nr_file *find_file(const struct nr_disk *disk, uint64_t offset)
{
	unsigned low = 0, high = disk->count;

	/* The last file that starts at or before OFFSET: empty ones before it do too. */
	while (high - low > 1) {
		unsigned middle = low + (high - low) / 2;

		if (disk->file[middle].start <= offset)
			low = middle;
		else
			high = middle;
	}
	return &disk->file[low];
}

uint64_t nr_disk_locate(const struct nr_disk *disk, uint64_t offset, uint64_t length,
			struct nr_file **file, uint64_t *within)
{
	/* The one file may grow and shrink; several stay as they were opened. */
	if (disk->count == 1) {
		*file = disk->file;
		*within = offset;
		return length;
	}
	*file = find_file(disk, offset);
	*within = offset - (*file)->start;
	assert(*within < (*file)->size);
	return nr_min(length, (*file)->size - *within);
}

void nr_file_op_changes(struct nr_file_op *op)
{
	struct nr_disk_worker *worker = nr_disk_worker(op);

	assert(!op->changing);
	op->changing = true;
	atomic_store_explicit(&worker->changing,
			      atomic_load_explicit(&worker->changing, memory_order_relaxed) + 1,
			      memory_order_relaxed);
}

bool nr_disk_being_changed(const struct nr_disk *disk)
{
	for (unsigned i = 0; i < disk->worker_count; i++)
		if (atomic_load_explicit(&disk->worker[i].changing, memory_order_relaxed))
			return true;
	return false;
}

void nr_file_op_finish(struct nr_file_op *op, int error)
{
	struct nr_disk_worker *worker = nr_disk_worker(op);

	if (op->buffer)
		op->buffer->release(op->buffer);
	if (op->changing)
		atomic_store_explicit(
			&worker->changing,
			atomic_load_explicit(&worker->changing, memory_order_relaxed) - 1,
			memory_order_relaxed);
	nr_finish(op->disk->layer, op->req, error);
}

void nr_disk_submit(struct nr_disk *disk, struct nr_request *req)
{
	struct nr_file_op *op = nr_scratch(disk->layer, req);

	assert(nr_worker_index(req->worker) < disk->worker_count);
	memset(op, 0, offsetof(struct nr_file_op, u));
	op->disk = disk;
	op->req = req;
	switch (req->operation) {
	case NR_READ:
		nr_file_read(op);
		return;
	case NR_WRITE:
		nr_file_op_changes(op);
		nr_file_write(op);
		return;
	case NR_FLUSH:
		nr_file_flush(op);
		return;
	case NR_TRIM:
		nr_file_op_changes(op);
		nr_file_trim(op);
		return;
	case NR_ZERO:
		nr_file_op_changes(op);
		nr_file_zero(op);
		return;
	case NR_CACHE:
		nr_file_cache(op);
		return;
	case NR_EXTENTS:
		nr_file_extents(op);
		return;
	case NR_RESIZE:
		nr_file_op_changes(op);
		nr_file_resize(op);
		return;
	case NR_OPERATION_COUNT:
		break;
	}
	nr_file_op_finish(op, -EOPNOTSUPP);
}
