/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the backends `file` and `split` share: files as parts of a disk.
 *
 * A struct nr_file is one regular file or block device that is open, with
 * everything about it that was found out at open.  A struct nr_disk is what one
 * export shows: one file, or several in a row.  A struct nr_file_op is the
 * state of one request on its way (the layer's scratch).
 *
 *   file-open.c    opening one file, and finding out what it is
 *   file-dir.c     the files of a folder, by name, and never outside it
 *   file-disk.c    putting files together to a disk: traits, life, dispatch
 *   file-transfer.c  reads and writes
 *   file-pages.c   reads by reference out of the page cache
 *   file-holes.c   where holes are: for reads, and as extents
 *   file-range.c   trim and zero
 *   file-sync.c    flush, and FUA of trim and zero
 *   file-slow.c    calls that may block, on threads
 *   file-stuck.c   what the kernel does not begin, because another file stalls
 *   file.c, split.c  the two layer types
 *
 * Threads: a disk is opened and closed on threads that may block and used by
 * all workers at once.  After opening, everything is read-only except what is
 * atomic or in struct nr_disk_worker, of which each worker has its own.
 */
#ifndef BACKENDS_FILE_H
#define BACKENDS_FILE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "nbdring/layer.h"
#include "ring/offload.h"
#include "ring/ring.h"

#ifndef RWF_DONTCACHE
#define RWF_DONTCACHE 0x80 /* Linux 6.14 */
#endif

enum nr_file_cache {
	NR_FILE_WRITEBACK, /* through the page cache */
	NR_FILE_NONE,      /* past it: O_DIRECT */
	NR_FILE_DONTCACHE, /* through it, but not kept there: RWF_DONTCACHE */
	NR_FILE_DEFAULT,   /* nbdkit's name for NR_FILE_WRITEBACK */
};

enum nr_file_advice { NR_FILE_NORMAL, NR_FILE_RANDOM, NR_FILE_SEQUENTIAL };

/* The parameters both backends take. */
struct nr_file_settings {
	unsigned cache;  /* enum nr_file_cache */
	unsigned advice; /* enum nr_file_advice */
};

/* Values of the two, for the parameter tables. */
extern const char *const nr_file_cache_names[];
extern const char *const nr_file_advice_names[];
extern const char nr_file_cache_manual[];
extern const char nr_file_advice_manual[];

/* How much may be asked about holes from a worker; see file-holes.c. */
enum nr_lookup {
	NR_LOOKUP_NONE, /* nothing: the answer may have to come over a network */
	NR_LOOKUP_DATA, /* SEEK_DATA is quick, SEEK_HOLE is not (tmpfs) */
	NR_LOOKUP_BOTH,
};

/* A stretch of data that was come across; half of one and half of another does no harm. */
struct nr_stretch {
	_Atomic uint64_t from, to;
};

/*
 * Where data is known to be: one bit per granule, set when all of it is data; and, in
 * files so large that granules are coarse, stretches that were come across lately.
 */
struct nr_known {
	_Atomic uint64_t *word;
	uint64_t granules;
	unsigned shift;            /* a granule is 1 << shift bytes */
	struct nr_stretch *recent; /* by where they were met; NULL: granules are fine enough */
};

struct nr_file {
	int fd;
	const char *shown; /* what error messages call it; the caller's memory */
	bool inherited;    /* fd= : others may use the same open file */
	bool writable;
	bool block_device;
	bool in_memory;     /* tmpfs: plain calls never wait; see file-transfer.c */
	bool hashed;        /* writes may wait for those of other files; see file-stuck.h */
	bool begins_writes; /* without a thread of the kernel, mostly; buffered ones */
	bool rotational;
	bool fast_zero;        /* zeroing a range is quicker than writing it */
	uint8_t lookup;        /* enum nr_lookup */
	uint64_t start;        /* offset of its first byte in the disk */
	uint64_t size;         /* bytes, when it was opened */
	uint32_t block;        /* trims are rounded inward to this, bytes */
	uint32_t unit;         /* ranges for fallocate are multiples of this, bytes */
	uint32_t io_align;     /* O_DIRECT: offsets and lengths, bytes */
	uint32_t memory_align; /* O_DIRECT: addresses, bytes */
	uint32_t preferred;    /* size of a good request, bytes */

	_Atomic bool sparse; /* may have holes */
	struct nr_known known;

	/* What the file system turned out not to do. */
	_Atomic bool no_punch, no_zero_range, no_allocate, no_discard, no_pages;
};

struct nr_file_op;
struct nr_stuck;

/*
 * The step of OP under way, from its beginning, by calls that may block: bytes, 0, or
 * negative errno.
 */
typedef int64_t nr_plain_fn(struct nr_file_op *op);

/* What one worker has of its own; a cache line or more. */
struct nr_disk_worker {
	/* Operations that may hold the inode's lock; only this worker changes it. */
	_Alignas(64) _Atomic uint32_t changing;

	uint64_t follows; /* where in the disk a transfer would go on from the last one */

	/* Flushes: see file-sync.c. */
	uint32_t syncing; /* fsyncs under way */
	int sync_error;
	struct nr_file_op *covered; /* waiting for those */
	struct nr_file_op *next;    /* came later: waiting for the next round */
	struct nr_file_op **next_tail;
	struct nr_sync *sync; /* one per file */

	struct nr_stuck *stuck; /* one per file */
};

struct nr_sync {
	struct nr_completion completion;
	struct nr_disk_worker *of;
	struct nr_disk *disk;
};

struct nr_disk {
	struct nr_layer *layer;
	struct nr_file *file;
	unsigned count; /* files */
	unsigned worker_count;
	struct nr_disk_worker *worker;
	bool read_only;
	bool direct;          /* O_DIRECT is on */
	bool volatile_memory; /* all in memory: nothing can be made stable */
	bool has_map;         /* some file may have holes: not only block devices */
	uint32_t rw_flags;    /* for every read and write */
	uint32_t block_min, memory_align;
	uint64_t size;    /* bytes, when it was opened */
	_Atomic int lost; /* a flush failed: negative errno; see file-sync.c */
};

/* Segments of a write that one operation of the ring takes. */
#define NR_FILE_VECTORS 4

enum nr_range_method {
	NR_RANGE_PUNCH,       /* make a hole */
	NR_RANGE_PUNCH_FIRST, /* the same, and NR_RANGE_ALLOCATE follows */
	NR_RANGE_ALLOCATE,    /* give the hole blocks again */
	NR_RANGE_ZERO,        /* FALLOC_FL_ZERO_RANGE */
	NR_RANGE_WRITE,       /* write zeroes */
	NR_RANGE_DISCARD,     /* block devices */
	NR_RANGE_REFUSE,
};

/* A request on its way: the layer's scratch. */
struct nr_file_op {
	struct nr_completion completion;
	struct nr_disk *disk;
	struct nr_request *req;
	struct nr_file *file;     /* the step under way: where … */
	uint64_t at;              /* … bytes of the request that are done before it */
	uint64_t within;          /* … offset in the file */
	uint64_t length;          /* … bytes it carries */
	struct nr_buffer *buffer; /* … memory it uses, or NULL */
	uint8_t *data;
	uint32_t segment;               /* write: the segment the next byte is in … */
	uint32_t tries;                 /* for memory */
	uint64_t segment_at;            /* … and where in it */
	uint8_t method;                 /* enum nr_range_method */
	bool changing;                  /* counted in nr_disk_worker.changing */
	bool watched, apart, cancelled; /* see file-stuck.c */
	int result;                     /* of a job */
	struct nr_file_op *next;        /* in a list of flushes, or of file-stuck.c … */
	struct nr_file_op **link;       /* … and what points at this one there */
	nr_plain_fn *plain;
	union {
		struct iovec vector[NR_FILE_VECTORS];
		struct nr_job job;
	} u;
};

/* ---- file-open.c ------------------------------------------------------- */

/*
 * Open the file NAME in the folder DIRECTORY (AT_FDCWD: NAME is a path) and fill
 * in FILE.  BENEATH: the folder is not to be left, however links point.  SHOWN
 * is for error messages and stays the caller's.  On failure nothing is open.
 */
int nr_file_open(struct nr_file *file, int directory, const char *name, bool beneath,
		 bool read_only, const char *shown, struct nr_error *error);

/* The same for a descriptor that was inherited; it is duplicated. */
int nr_file_open_inherited(struct nr_file *file, int fd, bool read_only, const char *shown,
			   struct nr_error *error);
void nr_file_close(struct nr_file *file);

/* Turn on O_DIRECT, and find out the alignment where statx did not say it. */
int nr_file_set_direct(struct nr_file *file, struct nr_error *error);

void nr_file_clear_direct(struct nr_file *file);

/* Do the kernel and the file system know RWF_DONTCACHE?  Reads a byte. */
bool nr_file_takes_dontcache(const struct nr_file *file);

/* The size now; negative errno. */
int nr_file_size_now(const struct nr_file *file, uint64_t *size);

/* See `identify` in layer.h. */
bool nr_file_identify(const struct nr_file *file, uint8_t identity[NR_IDENTITY_BYTES]);

/*
 * open(2), or openat2(2) with RESOLVE_BENEATH, close-on-exec: the descriptor or
 * negative errno.
 */
int nr_file_raw_open(int directory, const char *name, bool beneath, int flags);

/* ---- file-dir.c -------------------------------------------------------- */

int nr_file_dir_exports(const char *path, nr_export_fn *each, void *context,
			struct nr_error *error);
int nr_file_dir_find(const char *path, const char *name, struct nr_error *error);
int nr_file_dir_open(struct nr_file *file, const char *path, const char *name, bool read_only,
		     struct nr_error *error);

/* ---- file-disk.c ------------------------------------------------------- */

/*
 * Make DISK of COUNT open FILEs, in that order.  They belong to the disk from
 * now on, also when this fails (then they are closed).  The array is from
 * malloc.
 */
int nr_disk_open(struct nr_disk *disk, struct nr_layer *layer, struct nr_file *file, unsigned count,
		 const struct nr_file_settings *settings, struct nr_error *error);
void nr_disk_close(struct nr_disk *disk);
void nr_disk_describe(const struct nr_disk *disk, struct nr_traits *traits);
void nr_disk_submit(struct nr_disk *disk, struct nr_request *req);

/*
 * The file that byte OFFSET of the disk is in.  *WITHIN gets the offset in that
 * file; the result is how many of LENGTH bytes the file still holds.
 */
uint64_t nr_disk_locate(const struct nr_disk *disk, uint64_t offset, uint64_t length,
			struct nr_file **file, uint64_t *within);

static inline struct nr_disk_worker *nr_disk_worker(const struct nr_file_op *op)
{
	return &op->disk->worker[nr_worker_index(op->req->worker)];
}

/* Count OP among what changes the disk, until it is finished. */
void nr_file_op_changes(struct nr_file_op *op);

/* The end of a request; OP is gone after. */
void nr_file_op_finish(struct nr_file_op *op, int error);

/* Is anything under way, on any worker, that may hold the inode's lock? */
bool nr_disk_being_changed(const struct nr_disk *disk);

/* A write-back error was seen: later flushes must not say that all is well. */
void nr_disk_lost(struct nr_disk *disk, int error);

/* ---- file-transfer.c --------------------------------------------------- */

void nr_file_read(struct nr_file_op *op);
void nr_file_write(struct nr_file_op *op);

/*
 * Write zeroes at op->within; op->completion.done follows.  op->length says how many, and
 * gets how many they are.
 */
void nr_file_write_zeroes(struct nr_file_op *op);

/* ---- file-pages.c ------------------------------------------------------ */

/*
 * Answer the next LENGTH bytes of a read, at WITHIN in op->file, with the pages of the
 * page cache themselves.  False: that cannot be done, or not without waiting.
 */
bool nr_file_read_pages(struct nr_file_op *op, uint64_t within, uint64_t length);

/* ---- file-holes.c ------------------------------------------------------ */

/* Get ready for FILE: room for what is known, and a first look.  May block. */
int nr_holes_open(struct nr_file *file);
void nr_holes_close(struct nr_file *file);

/*
 * What is at WITHIN: the result is how many of LENGTH bytes are of one kind,
 * *HOLE which kind.
 */
uint64_t nr_holes_run(struct nr_disk *disk, struct nr_file *file, uint64_t within, uint64_t length,
		      bool *hole);

/* A hole was made, or may have been. */
void nr_holes_made(struct nr_file *file, uint64_t within, uint64_t length);

/* Fill in the extents of a request, from where the list ends on.  Blocks. */
void nr_holes_extents(struct nr_disk *disk, struct nr_extents *list, bool one);

/*
 * The same as far as a worker may (above), into an empty list.  False: there is more,
 * for nr_holes_extents.
 */
bool nr_holes_extents_at_once(struct nr_disk *disk, struct nr_extents *list, bool one);

/* ---- file-range.c ------------------------------------------------------ */

void nr_file_trim(struct nr_file_op *op);
void nr_file_zero(struct nr_file_op *op);
/* A discard that was a job is done. */
void nr_file_range_done(struct nr_file_op *op, int64_t result);

/* ---- file-sync.c ------------------------------------------------------- */

int nr_sync_open(struct nr_disk *disk);
void nr_sync_close(struct nr_disk *disk);
/* Finish OP once everything that was finished before is stable. */
void nr_file_flush(struct nr_file_op *op);

/* ---- file-slow.c ------------------------------------------------------- */

void nr_file_cache(struct nr_file_op *op);
void nr_file_extents(struct nr_file_op *op);
void nr_file_resize(struct nr_file_op *op);
/* BLKDISCARD; nr_file_range_done follows. */
void nr_file_discard(struct nr_file_op *op, uint64_t within, uint64_t length);

#endif
