/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Simulated disks: a file, or a block device, whose writes are in a cache until they
 * are flushed, and may be lost when the power goes.
 *
 * `current` is what a read sees.  Each write leaves a record of the sectors that it
 * changed, as they were after it; a flush makes the records stable that were there
 * when it began.  When the power goes, any subset of the sectors of the records that
 * are not stable has reached the disk all the same, torn inside a write too, and so
 * has any part of the writes that were under way.
 *
 * The server's own backend `file` runs on these disks, and layers keep their files on
 * them (files.h): ring operations come to sim_disk_start, system calls through calls.c
 * and calls-files.c.
 */
#ifndef TESTS_SIM_DISK_H
#define TESTS_SIM_DISK_H

#include "tests/sim/engine.h"

#define SIM_SECTOR 512u

struct sim_record;

struct sim_disk {
	uint64_t size, stable_size; /* bytes */
	uint64_t room;              /* of what follows, bytes; multiple of SIM_BLOCK */
	uint8_t *current, *stable;
	uint64_t *stable_since; /* per sector: number of the record that made it stable */
	uint8_t *allocated;     /* per SIM_BLOCK, regular files */
	struct sim_record *first, **tail;
	uint64_t records;       /* made so far */
	struct sim_op *writing; /* operations under way, of all kinds */

	bool block_device;
	bool grows;     /* a file that is written to behind its end becomes longer */
	bool dead;      /* the power is gone: nothing has an effect any more */
	bool in_memory; /* as on tmpfs: plain calls, nothing survives */
	bool knows_dontcache;
	bool no_punch, no_zero_range, no_allocate, no_discard;
	bool forgets_failed;       /* what an fsync failed to write is never written later */
	bool in_order;             /* writes reach the disk in order */
	uint32_t sector;           /* logical, bytes: what O_DIRECT and ranges are aligned to */
	uint64_t bad_from, bad_to; /* reads here fail, always */
	unsigned lockers;          /* descriptors that share its lock */
	uint64_t out_from, out_to; /* time: nothing works in between, nanoseconds */
};

/* A world begins. */
void sim_disks_begin(void);

/* A disk of SIZE bytes of zeroes, of a kind that chance decides. */
struct sim_disk *sim_disk_new(uint64_t size);
/* An empty file, which may grow to SIM_FILE_MAX. */
struct sim_disk *sim_disk_new_file(void);
#define SIM_FILE_MAX (UINT64_C(64) << 20)
void sim_disk_free(struct sim_disk *disk);

/*
 * The power goes: DISK becomes dead, and what is returned is the disk that is found
 * when it is back.
 */
struct sim_disk *sim_disk_power_cut(struct sim_disk *disk);

/* It holds DATA, stable, before anything happens to it. */
void sim_disk_fill(struct sim_disk *disk, uint64_t offset, const void *data, uint64_t length);

/* Plain calls (calls.c): bytes or negative errno; they take no time. */
int64_t sim_disk_read_now(struct sim_disk *disk, void *to, uint64_t length, uint64_t offset);
int64_t sim_disk_write_now(struct sim_disk *disk, const void *from, uint64_t length,
			   uint64_t offset);
/* What was written after the first COUNT records is stable now (RWF_DSYNC). */
void sim_disk_keep_since(struct sim_disk *disk, uint64_t count);
bool sim_disk_takes_flags(const struct sim_disk *disk, uint32_t flags); /* RWF_… */
int64_t sim_disk_seek(const struct sim_disk *disk, uint64_t offset, bool data);
int sim_disk_truncate_now(struct sim_disk *disk, uint64_t size);
int sim_disk_fallocate_now(struct sim_disk *disk, int mode, uint64_t offset, uint64_t length);
int sim_disk_sync_now(struct sim_disk *disk);
int sim_disk_discard_now(struct sim_disk *disk, uint64_t offset, uint64_t length);
uint64_t sim_disk_blocks(const struct sim_disk *disk); /* of 512 bytes */

#endif
