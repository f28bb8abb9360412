/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Simulated disks.  See disk.h.
 *
 * An operation goes through two moments: it takes effect, and it is done.  Long
 * writes take effect in two halves, so that reads and power cuts meet them torn.
 */
#undef NDEBUG
#include "tests/sim/disk.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>

#include "nbdring/checked.h"
#include "tests/sim/sockets.h"

#define BLOCK 4096u /* of the file system */
#define LONGEST_QUEUE (40 * SIM_SECOND)

struct sim_record {
	struct sim_record *next;
	uint64_t number, sector, count; /* sectors */
	uint8_t data[];
};

/*
 * Buffered writes of regular files begin one after the other, as do those in the kernel
 * whose hash is the same: when one that stalls is done.
 */
static uint64_t queue_moves_at;

void sim_disks_begin(void)
{
	queue_moves_at = 0;
}

/* ---- what is there ----------------------------------------------------- */

/* The sectors that [OFFSET, OFFSET + LENGTH) touches were changed. */
static struct sim_record *remember(struct sim_disk *disk, uint64_t offset, uint64_t length)
{
	uint64_t first = offset / SIM_SECTOR;
	uint64_t count = (offset + length + SIM_SECTOR - 1) / SIM_SECTOR - first;
	struct sim_record *record = sim_alloc(sizeof(*record) + count * SIM_SECTOR);

	record->number = ++disk->records;
	record->sector = first;
	record->count = count;
	memcpy(record->data, disk->current + first * SIM_SECTOR, count * SIM_SECTOR);
	*disk->tail = record;
	disk->tail = &record->next;
	return record;
}

static void keep_sector(struct sim_disk *disk, const struct sim_record *record, uint64_t i)
{
	uint64_t sector = record->sector + i;

	if (record->number <= disk->stable_since[sector])
		return;
	disk->stable_since[sector] = record->number;
	memcpy(disk->stable + sector * SIM_SECTOR, record->data + i * SIM_SECTOR, SIM_SECTOR);
}

static void keep(struct sim_disk *disk, const struct sim_record *record)
{
	for (uint64_t i = 0; i < record->count; i++)
		keep_sector(disk, record, i);
}

/* The records up to NUMBER are stable now, or lost. */
static void settle(struct sim_disk *disk, uint64_t number, bool stable)
{
	while (disk->first && disk->first->number <= number) {
		struct sim_record *record = disk->first;

		if (stable)
			keep(disk, record);
		disk->first = record->next;
		free(record);
	}
	if (!disk->first)
		disk->tail = &disk->first;
	if (stable)
		disk->stable_size = disk->size;
}

static void set_allocated(struct sim_disk *disk, uint64_t offset, uint64_t length, bool whole,
			  bool to)
{
	uint64_t first = whole ? (offset + BLOCK - 1) / BLOCK : offset / BLOCK;
	uint64_t end = whole ? (offset + length) / BLOCK : (offset + length + BLOCK - 1) / BLOCK;

	if (whole && offset + length == disk->size)
		end = (disk->size + BLOCK - 1) / BLOCK;
	for (uint64_t i = first; i < end; i++)
		disk->allocated[i] = to;
}

static bool inside(const struct sim_disk *disk, uint64_t offset, uint64_t length)
{
	return offset <= disk->size && length <= disk->size - offset;
}

/* ---- making ------------------------------------------------------------ */

/* MEMORY of BEFORE bytes with AFTER bytes, the new ones zero. */
static void *stretch(void *memory, uint64_t before, uint64_t after)
{
	void *longer = realloc(memory, after);

	assert(longer);
	memset((uint8_t *)longer + before, 0, after - before);
	return longer;
}

/* Let there be room for SIZE bytes. */
static void make_room(struct sim_disk *disk, uint64_t size)
{
	uint64_t before = disk->room, after = (size / BLOCK + 1) * BLOCK;
	uint64_t each = sizeof(*disk->stable_since);

	if (after <= before)
		return;
	disk->room = after;
	disk->current = stretch(disk->current, before, after);
	disk->stable = stretch(disk->stable, before, after);
	disk->stable_since =
		stretch(disk->stable_since, before / SIM_SECTOR * each, after / SIM_SECTOR * each);
	disk->allocated = stretch(disk->allocated, before / BLOCK, after / BLOCK);
}

static struct sim_disk *blank(uint64_t size)
{
	struct sim_disk *disk = sim_alloc(sizeof(*disk));

	make_room(disk, size);
	disk->size = disk->stable_size = size;
	disk->tail = &disk->first;
	return disk;
}

struct sim_disk *sim_disk_new_file(void)
{
	struct sim_disk *disk = blank(0);

	disk->grows = true;
	disk->sector = sim_one_in(3) ? 4096 : 512;
	disk->knows_dontcache = sim_one_in(2);
	disk->no_allocate = sim_one_in(6);
	disk->forgets_failed = sim_one_in(2);
	disk->in_order = sim_one_in(4);
	return disk;
}

struct sim_disk *sim_disk_new(uint64_t size)
{
	struct sim_disk *disk = blank(size);

	disk->block_device = sim_one_in(3);
	disk->in_memory = !disk->block_device && sim_one_in(12);
	disk->sector = sim_one_in(3) ? 4096 : 512;
	if (size % 4096)
		disk->sector = 512;
	disk->knows_dontcache = sim_one_in(2);
	disk->no_punch = sim_one_in(6);
	disk->no_zero_range = sim_one_in(4);
	disk->no_allocate = sim_one_in(6);
	disk->no_discard = sim_one_in(6);
	disk->forgets_failed = sim_one_in(2);
	disk->in_order = sim_one_in(4);
	return disk;
}

void sim_disk_free(struct sim_disk *disk)
{
	settle(disk, UINT64_MAX, false);
	free(disk->current);
	free(disk->stable);
	free(disk->stable_since);
	free(disk->allocated);
	free(disk);
}

void sim_disk_fill(struct sim_disk *disk, uint64_t offset, const void *data, uint64_t length)
{
	assert(inside(disk, offset, length));
	memcpy(disk->current + offset, data, length);
	memcpy(disk->stable + offset, data, length);
	set_allocated(disk, offset, length, false, true);
}

/* ---- the power --------------------------------------------------------- */

/* Of a write under way, any sectors may have been written. */
static void tear(const struct sim_op *op, struct sim_disk *after)
{
	uint64_t offset, end;

	if (op->operation != NR_RING_WRITE)
		return;
	offset = op->c->offset + op->c->progress + op->moved;
	end = offset + sim_op_left(op);
	for (uint64_t at = offset; at < end;) {
		uint64_t part = nr_min(SIM_SECTOR - at % SIM_SECTOR, end - at);

		if (at + part <= after->room && sim_one_in(2))
			sim_op_peek(op, op->moved + at - offset, after->stable + at, part);
		at += part;
	}
}

/* What AFTER, which is to be found when the power is back, has of DISK's contents. */
static void keep_some(struct sim_disk *disk, struct sim_disk *after)
{
	uint64_t survivors = disk->in_order ? sim_between(0, disk->records) : UINT64_MAX;
	unsigned lost = (unsigned)sim_between(0, 4);

	for (struct sim_record *r = disk->first; r; r = r->next)
		for (uint64_t i = 0; i < r->count; i++)
			if (r->number <= survivors && sim_below(4) >= lost)
				keep_sector(disk, r, i);
	memcpy(after->stable, disk->stable, disk->room);
	if (!disk->dead)
		for (const struct sim_op *op = disk->writing; op; op = op->sibling)
			tear(op, after);
	/* Its length is that of the last flush, or the newer one. */
	if (disk->size != disk->stable_size)
		after->size = sim_one_in(2) ? disk->size : disk->stable_size;
	memset(after->stable + after->size, 0, disk->room - after->size);
	memcpy(after->current, after->stable, disk->room);
	memset(after->allocated, 1, disk->room / BLOCK);
}

struct sim_disk *sim_disk_power_cut(struct sim_disk *disk)
{
	struct sim_disk *after = blank(disk->room - BLOCK);
	struct sim_disk memory = *after;

	*after = *disk;
	after->stable = memory.stable;
	after->current = memory.current;
	after->allocated = memory.allocated;
	after->stable_since = memory.stable_since;
	after->first = NULL;
	after->tail = &after->first;
	after->records = 0;
	after->writing = NULL;
	after->lockers = 0;
	after->out_from = after->out_to = 0; /* it is there again with the power */
	after->dead = false;
	keep_some(disk, after);
	after->stable_size = after->size;
	disk->dead = true;
	return after;
}

/* ---- effects ----------------------------------------------------------- */

/* Make room for a write of LENGTH bytes at OFFSET. */
static int check_space(struct sim_disk *disk, uint64_t offset, uint64_t length)
{
	uint64_t end;

	if (!inside(disk, offset, length) && !disk->grows)
		return disk->block_device ? -ENOSPC : -EFBIG;
	if (sim_one_in(sim_faults.no_space))
		return -ENOSPC;
	if (__builtin_add_overflow(offset, length, &end) || end > SIM_FILE_MAX)
		return -EFBIG;
	make_room(disk, end);
	/* Whoever goes on without power is to notice nothing. */
	disk->size = nr_max(disk->size, end);
	return 0;
}

static int zero_range(struct sim_disk *disk, uint64_t offset, uint64_t length)
{
	if (disk->dead)
		return 0;
	memset(disk->current + offset, 0, length);
	(void)remember(disk, offset, length);
	return 0;
}

int sim_disk_truncate_now(struct sim_disk *disk, uint64_t size)
{
	if (size > SIM_FILE_MAX)
		return -EFBIG;
	make_room(disk, size);
	if (size < disk->size && !disk->dead) {
		(void)zero_range(disk, size, disk->size - size);
		set_allocated(disk, size, disk->size - size, true, false);
	}
	disk->size = size;
	return 0;
}

int sim_disk_fallocate_now(struct sim_disk *disk, int mode, uint64_t offset, uint64_t length)
{
	if (mode & FALLOC_FL_PUNCH_HOLE && disk->no_punch)
		return -EOPNOTSUPP;
	if (mode & FALLOC_FL_ZERO_RANGE && disk->no_zero_range)
		return -EOPNOTSUPP;
	if (mode == FALLOC_FL_KEEP_SIZE && (disk->no_allocate || disk->block_device))
		return -EOPNOTSUPP;
	if (!inside(disk, offset, length))
		return -EINVAL;
	if (disk->block_device && (offset | length) & (disk->sector - 1))
		return -EINVAL;
	if (sim_one_in(sim_faults.disk_error))
		return -EIO;
	if (disk->block_device && sim_one_in(sim_faults.interrupted))
		return -EBUSY;
	if (mode & FALLOC_FL_PUNCH_HOLE) {
		if (!disk->dead)
			set_allocated(disk, offset, length, true, false);
		return zero_range(disk, offset, length);
	}
	if (sim_one_in(sim_faults.no_space))
		return -ENOSPC;
	if (!disk->dead)
		set_allocated(disk, offset, length, false, true);
	return mode & FALLOC_FL_ZERO_RANGE ? zero_range(disk, offset, length) : 0;
}

int sim_disk_sync_now(struct sim_disk *disk)
{
	if (sim_one_in(sim_faults.flush_error)) {
		if (disk->forgets_failed && !disk->dead)
			settle(disk, UINT64_MAX, false);
		return -EIO;
	}
	if (!disk->dead)
		settle(disk, UINT64_MAX, true);
	return 0;
}

int sim_disk_discard_now(struct sim_disk *disk, uint64_t offset, uint64_t length)
{
	if (!disk->block_device || disk->no_discard)
		return -EOPNOTSUPP;
	if (!inside(disk, offset, length) || (offset | length) & (disk->sector - 1))
		return -EINVAL;
	if (sim_one_in(sim_faults.disk_error))
		return -EIO;
	return zero_range(disk, offset, length);
}

static bool is_bad(const struct sim_disk *disk, uint64_t offset, uint64_t length)
{
	return offset < disk->bad_to && offset + length > disk->bad_from;
}

int64_t sim_disk_read_now(struct sim_disk *disk, void *to, uint64_t length, uint64_t offset)
{
	if (offset >= disk->size)
		return 0;
	length = nr_min(length, disk->size - offset);
	memcpy(to, disk->current + offset, length);
	return (int64_t)length;
}

int64_t sim_disk_write_now(struct sim_disk *disk, const void *from, uint64_t length,
			   uint64_t offset)
{
	int error = check_space(disk, offset, length);

	if (error)
		return error;
	if (disk->dead)
		return (int64_t)length;
	memcpy(disk->current + offset, from, length);
	set_allocated(disk, offset, length, false, true);
	(void)remember(disk, offset, length);
	return (int64_t)length;
}

void sim_disk_keep_since(struct sim_disk *disk, uint64_t count)
{
	if (disk->dead)
		return;
	for (const struct sim_record *r = disk->first; r; r = r->next)
		if (r->number > count)
			keep(disk, r);
}

int64_t sim_disk_seek(const struct sim_disk *disk, uint64_t offset, bool data)
{
	if (offset >= disk->size)
		return -ENXIO;
	for (uint64_t i = offset / BLOCK; i * BLOCK < disk->size; i++)
		if (disk->allocated[i] == data)
			return (int64_t)(i * BLOCK < offset ? offset : i * BLOCK);
	return data ? -ENXIO : (int64_t)disk->size;
}

uint64_t sim_disk_blocks(const struct sim_disk *disk)
{
	uint64_t count = 0;

	for (uint64_t i = 0; i * BLOCK < disk->size; i++)
		count += disk->allocated[i];
	return count * (BLOCK / 512);
}

/* ---- operations -------------------------------------------------------- */

/* A disk that was pulled out, or that answers everything by an error, for a while. */
static bool is_out(const struct sim_disk *disk)
{
	return sim_now() >= disk->out_from && sim_now() < disk->out_to;
}

static void finish(struct sim_op *op, int64_t result)
{
	struct sim_disk *disk = op->device;
	struct sim_op **at = &disk->writing;

	while (*at != op)
		at = &(*at)->sibling;
	*at = op->sibling;
	sim_op_done(op, result);
}

static uint64_t place(const struct sim_op *op)
{
	return op->c->offset + op->c->progress + op->moved;
}

static void go_on(struct sim_op *op, void (*fire)(struct sim_event *), const char *name,
		  uint64_t delay)
{
	op->event.fire = fire;
	op->event.name = name;
	sim_schedule(&op->event, delay);
}

static uint64_t latency(void)
{
	if (sim_one_in(sim_faults.stall))
		return sim_between(1, 5) * SIM_SECOND;
	return sim_magnitude(12, sim_one_in(4) ? 23 : 17);
}

static void done_read(struct sim_event *event)
{
	struct sim_op *op = (struct sim_op *)event;

	finish(op, (int64_t)op->moved);
}

static void do_read(struct sim_event *event)
{
	struct sim_op *op = (struct sim_op *)event;
	struct sim_disk *disk = op->device;

	if (is_out(disk) || is_bad(disk, place(op), op->part) ||
	    sim_one_in(sim_faults.disk_error)) {
		finish(op, -EIO);
		return;
	}
	if (op->part)
		sim_op_give(op, disk->current + place(op), op->part);
	go_on(op, done_read, "read done", sim_magnitude(8, 14));
}

/* What was written at OFFSET, and that the file is as long. */
static void make_stable(struct sim_disk *disk, uint64_t offset, uint64_t length)
{
	keep(disk, remember(disk, offset, length));
	disk->stable_size = nr_max(disk->stable_size, offset + length);
}

static void done_write(struct sim_event *event)
{
	struct sim_op *op = (struct sim_op *)event;
	struct sim_disk *disk = op->device;

	if (op->moved && op->c->rw_flags & RWF_DSYNC && !disk->dead)
		make_stable(disk, place(op) - op->moved, op->moved);
	finish(op, (int64_t)op->moved);
}

/* LENGTH more bytes of OP take effect. */
static int apply(struct sim_op *op, uint64_t length)
{
	struct sim_disk *disk = op->device;
	uint64_t offset = place(op);
	int error = check_space(disk, offset, length);

	if (!error && (is_out(disk) || sim_one_in(sim_faults.disk_error)))
		error = -EIO;
	if (error)
		return error;
	if (disk->dead) {
		op->moved += length;
		return 0;
	}
	sim_op_take(op, disk->current + offset, length);
	set_allocated(disk, offset, length, false, true);
	(void)remember(disk, offset, length);
	return 0;
}

static void do_write(struct sim_event *event)
{
	struct sim_op *op = (struct sim_op *)event;
	uint64_t part = op->part - op->moved, half = part / 2 / SIM_SECTOR * SIM_SECTOR;
	int error;

	if (!op->half && half && sim_one_in(2))
		part = half;
	op->half = true;
	error = apply(op, part);
	if (error && !op->moved)
		finish(op, error);
	else if (error || op->moved == op->part)
		go_on(op, done_write, "write done", sim_magnitude(8, 16));
	else
		go_on(op, do_write, "write", latency());
}

static void do_sync(struct sim_event *event)
{
	struct sim_op *op = (struct sim_op *)event;
	struct sim_disk *disk = op->device;

	if (is_out(disk) || sim_one_in(sim_faults.flush_error)) {
		/* The page cache gives up what it could not write; O_DIRECT has none. */
		if (disk->forgets_failed && !op->direct && !disk->dead)
			settle(disk, op->sequence, false);
		finish(op, -EIO);
		return;
	}
	if (!disk->dead)
		settle(disk, op->sequence, true);
	finish(op, 0);
}

static void do_range(struct sim_event *event)
{
	struct sim_op *op = (struct sim_op *)event;
	struct sim_disk *disk = op->device;

	if (is_out(disk))
		finish(op, -EIO);
	else if (op->operation == NR_RING_DISCARD)
		finish(op, sim_disk_discard_now(disk, op->c->offset, op->c->u.range.length));
	else
		finish(op, sim_disk_fallocate_now(disk, op->c->u.range.mode, op->c->offset,
						  op->c->u.range.length));
}

static bool cancel(struct sim_op *op)
{
	struct sim_disk *disk = op->device;
	struct sim_op **at = &disk->writing;

	/* Only while it waits for a thread that carries it out. */
	if (op->begins ? sim_now() >= op->begins : op->moved || op->half || sim_one_in(2))
		return false;
	sim_unschedule(&op->event);
	while (*at != op)
		at = &(*at)->sibling;
	*at = op->sibling;
	return true;
}

/* O_DIRECT: what is not aligned is refused. */
static bool misaligned(const struct sim_op *op, const struct sim_disk *disk)
{
	const struct iovec *v = op->c->u.io.vector ? op->c->u.io.vector : &op->c->u.io.single;
	uintptr_t bits = place(op);

	if (!op->direct)
		return false;
	for (unsigned i = 0; i < op->c->count; i++)
		bits |= (uintptr_t)v[i].iov_base | v[i].iov_len;
	return bits & (disk->sector - 1);
}

bool sim_disk_takes_flags(const struct sim_disk *disk, uint32_t flags)
{
	return !(flags & ~(uint32_t)(RWF_DSYNC | (disk->knows_dontcache ? 0x80u : 0)));
}

/* How much of it this attempt moves. */
static uint64_t choose_part(const struct sim_op *op, const struct sim_disk *disk)
{
	uint64_t left = sim_op_left(op), grain = disk->sector;

	if (op->operation == NR_RING_READ)
		left = place(op) >= disk->size ? 0 : nr_min(left, disk->size - place(op));
	if (left > grain && sim_one_in(sim_faults.short_transfer))
		left = sim_between(1, left / grain) * grain;
	return left;
}

/* How long until it takes effect; it may have to wait in turn. */
static uint64_t write_latency(struct sim_op *op, const struct sim_disk *disk)
{
	uint64_t now = sim_now();

	if (disk->block_device || op->direct || op->c->flags & NR_ATTEMPT_BLOCKING)
		return latency();
	op->begins = queue_moves_at > now ? queue_moves_at : now;
	if (op->begins < now + LONGEST_QUEUE && sim_one_in(sim_faults.stall)) {
		queue_moves_at = op->begins + sim_between(1, 20) * SIM_SECOND;
		return queue_moves_at - now;
	}
	return op->begins - now + sim_magnitude(12, 17);
}

static void start_transfer(struct sim_op *op, struct sim_disk *disk)
{
	if (misaligned(op, disk)) {
		finish(op, -EINVAL);
		return;
	}
	if (!sim_disk_takes_flags(disk, op->c->rw_flags)) {
		finish(op, -EOPNOTSUPP);
		return;
	}
	op->part = choose_part(op, disk);
	if (op->operation == NR_RING_READ)
		go_on(op, do_read, "read", latency());
	else
		go_on(op, do_write, "write", write_latency(op, disk));
}

void sim_disk_start(struct sim_op *op)
{
	int fd = op->c->fd;
	struct sim_disk *disk;

	if (sim_fd_kind(fd) != SIM_FD_DISK)
		sim_fail("operation %u on descriptor %d, which is no open file", op->operation, fd);
	disk = sim_fd_object(fd);
	op->device = disk;
	op->direct = *sim_fd_flags(fd) & O_DIRECT;
	op->sibling = disk->writing;
	disk->writing = op;
	op->cancel = cancel;
	switch (op->operation) {
	case NR_RING_READ:
	case NR_RING_WRITE:
		start_transfer(op, disk);
		break;
	case NR_RING_FSYNC:
		op->sequence = disk->records;
		go_on(op, do_sync, "sync", latency() * sim_between(1, 16));
		break;
	case NR_RING_FALLOCATE:
	case NR_RING_DISCARD:
		go_on(op, do_range, "range", latency());
		break;
	default:
		sim_fail("operation %u on a file", op->operation);
	}
}
