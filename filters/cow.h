/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the files of the filter `cow` share.
 *
 *   cow.c        parameters, opening, clients, dispatch
 *   cow-map.c    which blocks are where
 *   cow-read.c   reads and the allocation map
 *   cow-write.c  writes, zeroes, trims
 *   cow-fetch.c  blocks out of the base: for those that are written to in part, and for
 *                cow-on-read and cow-on-cache
 *   cow-store.c  the store of a temporary overlay
 *   cow-keep.c   the file of one that stays: opening and closing it
 *   cow-file.c   what is in it
 *   cow-flush.c  flushes of it
 *
 * The *store* is a stack of the filter's own, a file or memory, as long as the disk: a
 * block of the disk has its place there, at the same offset.  An *overlay* is what one
 * client, or all of them, see in place of the base: a block map and a stretch of the
 * store.  With overlays of clients' own, the store has a stretch for each.
 *
 * What the store holds where the map says "base" is nobody's business: the whole block is
 * written before the map says "data".  Where the map says "zero" or "hole", the store
 * reads as zeroes, so a part of such a block can be written alone.
 *
 * Order: a write holds the blocks it touches with rangelock.h, shared, or, if it has to
 * fill up a block from the base, exclusively: nothing that was acknowledged meanwhile may
 * be undone by what was read before.  Reads hold nothing: the base does not change, and
 * the map says "data" only when the store has it.
 */
#ifndef FILTERS_COW_H
#define FILTERS_COW_H

#include "filters/cow-file.h"
#include "filters/cow-map.h"
#include "filters/flagfile.h"
#include "filters/rangelock.h"
#include "nbdring/layer.h"

#define NR_COW_PARTS 8u           /* parts of one read under way at a time */
#define NR_COW_BLOCK_MIN 4096u    /* smallest block, bytes */
#define NR_COW_BLOCK_USUAL 65536u /* where nothing else is said */

enum nr_cow_store_kind { NR_COW_STORE_FILE, NR_COW_STORE_MEMORY };

enum nr_cow_use {
	NR_COW_FREE,
	NR_COW_USED,
	NR_COW_LEFT,    /* its client has gone, what it wrote is still in the store */
	NR_COW_CLEARED, /* that is being taken out */
};

struct nr_cow_overlay {
	struct nr_cow_map map;
	uint64_t start;       /* of its stretch of the store, bytes */
	_Atomic unsigned use; /* enum nr_cow_use */
};

/*
 * Flushes of an overlay that stays come in rounds, one at a time; one request carries a
 * round out, for all that were there when it began.
 */
struct nr_cow_flushes {
	pthread_mutex_t mutex;                       /* guards what follows, up to `covered` */
	bool busy;                                   /* there is a round */
	struct nr_cow_state *waiting, **waiting_end; /* for the next one */
	/* Of the round: whoever carries it out has it. */
	struct nr_cow_state *covered;
	struct nr_cow_page *pages; /* to be written */
	_Atomic bool failed;       /* once is enough: nobody knows what is missing */
};

struct cow {
	/* Parameters. */
	uint64_t block_size;
	const char *on_read_text;
	bool on_cache, private;
	unsigned store_kind; /* enum nr_cow_store_kind */
	const char *path;    /* of an overlay that stays; NULL: it is temporary */

	uint64_t size;  /* of the disk when it was opened, bytes */
	uint32_t block; /* bytes */
	unsigned shift; /* block is 1 << shift */
	bool on_read;
	struct nr_flagfile *on_read_file; /* NULL: on_read says it */
	struct nr_stack *store;
	bool store_fast_zero;
	struct nr_rangelock lock;
	struct nr_cow_overlay shared;
	struct nr_cow_overlay *own; /* of clients; NULL: all share one */
	unsigned own_count;
	_Atomic unsigned left; /* overlays that nobody has cleared yet */

	/* An overlay that stays. */
	int fd;
	struct nr_cow_head head;
	struct nr_cow_flushes flushes;
};

/* A part of a read: a child, or so many zeroes. */
struct nr_cow_part {
	uint64_t length;
	struct nr_request *child;
};

struct nr_cow_state;

typedef void nr_cow_step(struct nr_layer *layer, struct nr_request *req, struct nr_cow_state *s);
typedef void nr_cow_child_step(struct nr_layer *layer, struct nr_request *req,
			       struct nr_cow_state *s, struct nr_request *child);

/* Of one request. */
struct nr_cow_state {
	struct nr_cow_overlay *overlay;
	nr_cow_step *go_on;            /* after nr_resume or nr_sleep */
	nr_cow_child_step *child_done; /* when a child is back */
	uint64_t at;                   /* where it goes on, bytes */
	uint64_t stop;                 /* where what is under way ends, bytes */
	int error;
	unsigned waits; /* for memory, so far */

	/* What is to be written: a trim is a zero of the whole blocks in its range. */
	enum nr_operation operation;
	uint32_t flags;
	uint64_t begin, end; /* bytes */

	/* Blocks that are held. */
	bool locked;
	struct nr_range_ticket ticket;
	nr_cow_step *then_held;

	uint64_t mark, mark_end; /* blocks whose state is being changed */

	/* Blocks [from, to) that are fetched from the base, bytes. */
	struct {
		uint64_t from, to, at;
		struct nr_buffer *buffer;
		uint8_t *data;
		bool zeroes; /* nothing but a hole so far */
		nr_cow_step *then;
	} fetch;

	nr_cow_step *then; /* after cow-on-read and cow-on-cache */

	/* In a list of flushes. */
	struct nr_request *req;
	struct nr_cow_state *next;
	struct nr_cow_page *page; /* to be written next */

	/* Of reads: parts, in order; of the allocation map: the list of a child. */
	unsigned parts, under_way;
	union {
		struct nr_cow_part part[NR_COW_PARTS];
		struct nr_extents list;
	};
};

/* A child for the store, of [OFFSET, OFFSET + LENGTH) of the disk; NULL: no memory. */
struct nr_request *nr_cow_store_child(struct nr_layer *layer, struct nr_request *req,
				      struct nr_cow_state *s, enum nr_operation operation,
				      uint64_t offset, uint64_t length);

/*
 * Memory was short: step GO_ON follows in a while.  False: it has been short for so long
 * that it is better to give up.
 */
bool nr_cow_wait(struct nr_layer *layer, struct nr_request *req, struct nr_cow_state *s,
		 nr_cow_step *go_on);

/* The block of OFFSET, and the first one behind [.., END). */
uint64_t nr_cow_block_of(const struct cow *c, uint64_t offset);
uint64_t nr_cow_block_behind(const struct cow *c, uint64_t end);
/* Where BLOCK begins; the end of the disk for the one behind the last. */
uint64_t nr_cow_start_of(const struct cow *c, uint64_t block);

/* Is [OFFSET, OFFSET + LENGTH) in the base, which may have become shorter than the disk? */
bool nr_cow_base_has(const struct nr_layer *layer, uint64_t offset, uint64_t length);
/* ERROR of a read below.  What is refused there is no mistake of the client's. */
int nr_cow_read_error(int error);

/* cow-read.c */
nr_cow_step nr_cow_read, nr_cow_extents;

/* cow-write.c */
nr_cow_step nr_cow_write;

/* REQ is a background request: take all of its overlay's stretch out of the store. */
nr_cow_step nr_cow_clear;

/* Give back what REQ holds, and finish it. */
void nr_cow_end(struct nr_layer *layer, struct nr_request *req, struct nr_cow_state *s, int error);

/* Hold [FROM, TO), whole blocks; then GO_ON. */
void nr_cow_lock(struct nr_layer *layer, struct nr_request *req, struct nr_cow_state *s,
		 uint64_t from, uint64_t to, bool exclusive, nr_cow_step *go_on);
void nr_cow_unlock(struct nr_layer *layer, struct nr_cow_state *s);

/* cow-fetch.c: read [FROM, TO) of the base into memory, at most NR_TRANSFER_MAX; then THEN. */
void nr_cow_fetch(struct nr_layer *layer, struct nr_request *req, struct nr_cow_state *s,
		  uint64_t from, uint64_t to, nr_cow_step *then);
void nr_cow_fetch_end(struct nr_cow_state *s);

/* Copy what is in the base of REQ's range into the overlay, as far as that goes; then THEN. */
void nr_cow_populate(struct nr_layer *layer, struct nr_request *req, struct nr_cow_state *s,
		     nr_cow_step *then);

/* cow-store.c: a file without a name, or memory. */
int nr_cow_store_open(struct nr_layer *layer, struct nr_error *error);
int nr_cow_store_open_words(struct nr_layer *layer, const char *words, struct nr_error *error);

/*
 * cow-keep.c: the file named `path`.  Opening fills in the map; closing, when the store is
 * closed, saves what is not in the file yet.
 */
int nr_cow_keep_open(struct nr_layer *layer, struct nr_error *error);
void nr_cow_keep_close(struct nr_layer *layer);

/* cow-flush.c: make all that is finished stable, and finish REQ. */
nr_cow_step nr_cow_flush;
void nr_cow_flushes_init(struct nr_cow_flushes *flushes);
void nr_cow_flushes_fini(struct nr_cow_flushes *flushes);

#endif
