/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Flush, and the FUA of trim and zero, which is a flush of its own.
 *
 * An fsync covers everything that was finished before it began, so flushes that
 * arrive while one is under way need one more together, not one each.  Each
 * worker goes in rounds: a round is one fsync per file of the disk, all at once;
 * who comes during a round waits for the next.
 *
 * When an fsync fails, the kernel has thrown the pages away and says so once:
 * the next fsync would succeed and the data still be missing.  So a disk that
 * goes through the page cache remembers, and each later flush fails as well,
 * until the export is opened anew.  With O_DIRECT there is nothing that could
 * be lost this way; each failure is one of its own.
 *
 * Threads: each worker has its own rounds; only `lost` is shared.
 */
#include <assert.h>
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "backends/file.h"

static void begin_round(struct nr_disk *disk, struct nr_disk_worker *worker, struct nr_ring *ring);

int nr_sync_open(struct nr_disk *disk)
{
	disk->worker = aligned_alloc(_Alignof(struct nr_disk_worker),
				     disk->worker_count * sizeof(*disk->worker));
	if (!disk->worker)
		return -ENOMEM;
	memset(disk->worker, 0, disk->worker_count * sizeof(*disk->worker));
	for (unsigned i = 0; i < disk->worker_count; i++) {
		struct nr_disk_worker *worker = &disk->worker[i];

		worker->next_tail = &worker->next;
		worker->sync = calloc(disk->count, sizeof(*worker->sync));
		if (!worker->sync) {
			nr_sync_close(disk);
			return -ENOMEM;
		}
		for (unsigned j = 0; j < disk->count; j++) {
			worker->sync[j].of = worker;
			worker->sync[j].disk = disk;
		}
	}
	return 0;
}

void nr_sync_close(struct nr_disk *disk)
{
	for (unsigned i = 0; i < disk->worker_count; i++)
		free(disk->worker[i].sync);
	free(disk->worker);
	disk->worker = NULL;
}

void nr_disk_lost(struct nr_disk *disk, int error)
{
	int none = 0;

	if (!disk->direct)
		(void)atomic_compare_exchange_strong(&disk->lost, &none, error);
}

static void end_round(struct nr_disk *disk, struct nr_disk_worker *worker)
{
	struct nr_file_op *op = worker->covered;
	int error = worker->sync_error;

	if (error)
		nr_disk_lost(disk, error);
	else
		error = atomic_load(&disk->lost);
	worker->covered = NULL;
	while (op) {
		struct nr_file_op *next = op->next;

		nr_file_op_finish(op, error);
		op = next;
	}
}

static void synced(struct nr_ring *ring, struct nr_completion *c)
{
	struct nr_sync *sync = (struct nr_sync *)((char *)c - offsetof(struct nr_sync, completion));
	struct nr_disk_worker *worker = sync->of;

	if (c->result < 0 && !worker->sync_error)
		worker->sync_error = (int)c->result;
	assert(worker->syncing > 0);
	if (--worker->syncing)
		return;
	end_round(sync->disk, worker);
	if (worker->next)
		begin_round(sync->disk, worker, ring);
}

static void begin_round(struct nr_disk *disk, struct nr_disk_worker *worker, struct nr_ring *ring)
{
	assert(worker->syncing == 0);
	assert(!worker->covered);
	worker->covered = worker->next;
	worker->next = NULL;
	worker->next_tail = &worker->next;
	worker->sync_error = 0;
	worker->syncing = disk->count;
	for (unsigned i = 0; i < disk->count; i++) {
		worker->sync[i].completion.done = synced;
		nr_ring_fsync(ring, &worker->sync[i].completion, disk->file[i].fd, true);
	}
}

void nr_file_flush(struct nr_file_op *op)
{
	struct nr_disk_worker *worker = nr_disk_worker(op);
	struct nr_disk *disk = op->disk;

	if (disk->volatile_memory || disk->read_only) {
		nr_file_op_finish(op, 0);
		return;
	}
	op->next = NULL;
	*worker->next_tail = op;
	worker->next_tail = &op->next;
	if (!worker->syncing)
		begin_round(disk, worker, nr_worker_ring(op->req->worker));
}
