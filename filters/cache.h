/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The filter `cache`, for its own files: what one instance and one request are.
 *
 *	cache.c          the table of the layer, and what comes to which of these
 *	cache-read.c     reads, and requests to prefetch
 *	cache-write.c    writes
 *	cache-range.c    what has to wait for other requests for the same blocks
 *	cache-part.c     pieces of a request that go to the store or below
 *	cache-room.c     how much room the store takes
 *	cache-writer.c   writing back: jobs, the background writer, flushes
 *	cache-store.c    opening and closing the store, and what it holds after a restart
 *	cache-map.c      which block is where; cache-policy.c and others: which one goes
 *
 * One worker uses an instance (NR_HOME), so nothing here is locked.  What the worker
 * does is steps: a request goes on (nr_cache_step) until it has children under way, or
 * has to wait for another one, or is finished.  Nobody who waits holds anything that
 * another one could be waiting for: it has no child under way, and no slot READING.
 */
#ifndef FILTERS_CACHE_H
#define FILTERS_CACHE_H

#include <stdatomic.h>

#include "filters/cache-map.h"
#include "nbdring/checked.h"
#include "nbdring/layer.h"

#define NR_CACHE_PARTS 4u                /* of one request, under way at once */
#define NR_CACHE_QUEUES 64u              /* of requests that wait for a block */
#define NR_CACHE_RUN_MAX NR_TRANSFER_MAX /* bytes that are written back at once */
#define NR_CACHE_RETRY_NS 1000000u       /* between two looks for memory … */
#define NR_CACHE_RETRIES 30000u          /* … of which there are so many: 30 s */

enum nr_cache_mode { NR_CACHE_WRITEBACK, NR_CACHE_WRITETHROUGH, NR_CACHE_UNSAFE };

struct nr_cache_lease;
struct nr_cache_leases;

/* A range of blocks that a request below changes: nobody takes a slot in it. */
struct nr_cache_range {
	struct nr_cache_range *next, *previous;
	uint64_t first, last; /* blocks */
};

enum nr_cache_part_kind {
	NR_PART_HIT,    /* read from the store */
	NR_PART_FILL,   /* read from below, write to the store */
	NR_PART_BYPASS, /* read from below */
	NR_PART_STORE,  /* write to the store, slots that are there */
	NR_PART_NEW,    /* the same, slots just taken */
	NR_PART_MERGE,  /* read a block from below, put the client's bytes over it, write it
			 * to the store */
	NR_PART_BELOW,  /* write below */
};

struct nr_cache_part {
	enum nr_cache_part_kind kind;
	bool over;
	bool pinned;                    /* HIT: the slots are */
	bool unread;                    /* what was to be read could not be */
	unsigned under_way;             /* children */
	int error;                      /* the first */
	uint64_t offset, length;        /* of the request, bytes of the disk */
	uint64_t first;                 /* block */
	uint32_t count;                 /* blocks */
	uint32_t slot;                  /* of the first one: HIT, STORE */
	uint32_t becoming;              /* blocks counted in the cache's `becoming` */
	uint64_t read;                  /* FILL, MERGE: bytes asked for below so far */
	const struct nr_request *child; /* under way; NULL: those that write blocks are */
	struct nr_request *answer;      /* the child whose answer is the data */
	struct nr_buffer *buffer;       /* memory of the part's own */
	uint8_t *data;
};

/* What became of an attempt to begin a part. */
enum nr_cache_plan {
	NR_PLAN_GO,    /* begun */
	NR_PLAN_FULL,  /* as many are under way as may be */
	NR_PLAN_WAIT,  /* for s->waits_for */
	NR_PLAN_RETRY, /* no memory now */
	NR_PLAN_BELOW, /* writeback: the rest has to go below */
};

/* What a request is about to do.  See nr_cache_step. */
enum nr_cache_stage {
	NR_STAGE_READ,   /* parts, until all is answered */
	NR_STAGE_STORE,  /* writeback: parts into the store */
	NR_STAGE_SETTLE, /* nobody else changes the range from here on */
	NR_STAGE_BELOW,  /* on its way below, as a child or itself */
	NR_STAGE_UPDATE, /* parts into the store, of what is below now */
	NR_STAGE_DIRTY,  /* flush, FUA: what is dirty is being written back */
	NR_STAGE_FLUSH,  /* the layer below flushes */
	NR_STAGE_JOB,    /* not a client's: see struct nr_cache_job */
	NR_STAGE_ROOM,   /* the same: gives room of the store back */
	NR_STAGE_PASS,   /* nothing to do with the cache */
};

/* A run of blocks being written back.  In the scratch of a request that carries it. */
struct nr_cache_job {
	struct nr_cache_job *next, *previous; /* those under way, oldest first */
	struct nr_request *carrier;           /* parent of the job's children */
	uint64_t number;                      /* counts up */
	uint64_t first;                       /* block */
	uint32_t count;
	unsigned under_way;
	uint64_t written; /* bytes */
	struct nr_buffer *buffer;
	uint8_t *data;
	int error;
};

struct nr_cache_state_of_request {
	enum nr_cache_stage stage;
	bool ranged, drops, has_failed;
	bool by_block; /* SETTLE: the cursor counts blocks, not slots */
	bool stable;   /* FUA: what was written has to be stable at the end */
	unsigned tries, retries;
	uint32_t flags; /* of the request as it came … */
	uint64_t offset, length;
	int error;
	unsigned parts, under_way; /* parts; of them not over */
	uint64_t at, end;          /* READ, STORE, UPDATE: what is not begun, bytes */
	uint64_t from;             /* SETTLE to UPDATE: where it begins, bytes */
	uint64_t cursor;           /* SETTLE, DIRTY: a block, or a slot */
	uint64_t failures, job;    /* DIRTY: the count at the start, the last to wait for */
	struct nr_request *waiter; /* the next that waits for the same */
	uint64_t waits_for;        /* a block */
	struct nr_cache_range range;
	union {
		struct nr_cache_part part[NR_CACHE_PARTS];
		struct nr_cache_job run;
	};
};

/* See the table in cache.c; the map has more of them. */
struct nr_cache_figures {
	nr_count hits, misses;
	nr_count filled, bypassed, stored;
	nr_count written_back, jobs, failed_jobs;
	nr_count store_errors, given_back;
};

struct nr_cache {
	/* parameters */
	unsigned mode; /* enum nr_cache_mode */
	uint64_t block_size, max_size, high, low, dirty_max, dirty_age;
	const char *on_read_text, *directory, *file;
	bool on_write;
	unsigned policy;

	struct nr_layer *layer;
	struct nr_stack *store;
	uint32_t block; /* bytes */
	unsigned shift;
	uint64_t store_start; /* bytes of the store in front of the first slot */
	uint64_t size;        /* of the disk, as the map knows it */
	bool on_read;
	struct nr_flagfile *on_read_flag;  /* NULL: on_read says */
	bool lends;                        /* the store's answers lie in the slots */
	int fd;                            /* of the store's file; -1 */
	uint32_t dirty_limit, dirty_begin; /* slots: never more; beyond, they are written back */
	uint32_t high_slots, low_slots;    /* more than the one: down to the other */
	bool reclaims;
	uint32_t becoming;   /* slots that may be dirty soon */
	uint32_t writing;    /* slots in jobs */
	uint64_t full_until; /* the store's disk is full: until then only replace */
	uint32_t smaller;    /* slots to make do with … */
	uint64_t smaller_until;
	struct nr_request *giver; /* the background request that gives room back */
	uint32_t giving;          /* the slot it is at */

	struct nr_cache_map map;
	struct nr_cache_range *ranges;
	struct nr_request *queue[NR_CACHE_QUEUES];
	struct nr_request *job_queue; /* wait for the end of any job */
	struct nr_cache_lease *free_leases;
	struct nr_cache_leases *leases;

	struct nr_cache_job *oldest, *newest;
	unsigned jobs;
	uint64_t job_number, failures, reported; /* jobs that failed; told to clients */
	bool flush_failed;         /* the last one: what was written below may not stay there */
	int error;                 /* of the last of them */
	uint64_t retry_at;         /* after a failure, nothing before */
	uint64_t writer_failures;  /* the count when the writer began */
	struct nr_request *writer; /* the background request */
	bool writer_sleeps;        /* it is resumed by itself */
	uint32_t hand;             /* the slot it goes on from */
	uint8_t tick;
	uint64_t tick_at;
	atomic_uint clients;
	atomic_bool had_clients;

	struct nr_cache_figures figures;
};

static inline struct nr_cache *nr_cache_of(const struct nr_layer *layer)
{
	return layer->instance;
}

static inline uint64_t nr_cache_slot_offset(const struct nr_cache *c, uint32_t slot)
{
	return c->store_start + ((uint64_t)slot << c->shift);
}

/* Blocks that reach beyond the end of the disk are never cached. */
static inline bool nr_cache_is_whole(const struct nr_cache *c, uint64_t block)
{
	return block < c->size >> c->shift;
}

/* cache.c */

/* Go on with REQ, which is not waiting and has no child under way. */
void nr_cache_step(struct nr_layer *layer, struct nr_request *req);
void nr_cache_finish(struct nr_layer *layer, struct nr_request *req, int error);
/* REQ goes on when there may be memory again; it fails in the end. */
void nr_cache_retry(struct nr_layer *layer, struct nr_request *req);

/* Blocks that are no longer on the disk are no longer cached. */
void nr_cache_check_size(struct nr_layer *layer);

/* cache-range.c */

/* REQ goes on when something has happened to BLOCK. */
void nr_cache_wait(struct nr_layer *layer, struct nr_request *req, uint64_t block);
void nr_cache_wake(struct nr_layer *layer, uint64_t block);
/* A range under way that has one of the blocks FIRST to LAST in it; NULL: none. */
const struct nr_cache_range *nr_cache_overlap(const struct nr_cache *c, uint64_t first,
					      uint64_t last);
void nr_cache_settle(struct nr_layer *layer, struct nr_request *req);
void nr_cache_leave_range(struct nr_layer *layer, struct nr_request *req);

/* cache-part.c */

/* Room for a part of REQ; NULL: as many are under way as may be. */
struct nr_cache_part *nr_cache_part_add(struct nr_cache_state_of_request *s,
					enum nr_cache_part_kind kind, uint64_t offset,
					uint64_t length);
/* Start it.  False: no memory, the part is gone and its slots are. */
bool nr_cache_part_start(struct nr_layer *layer, struct nr_request *req,
			 struct nr_cache_part *part);
/* The part whose child CHILD is. */
struct nr_cache_part *nr_cache_part_of(const struct nr_cache *c,
				       struct nr_cache_state_of_request *s,
				       const struct nr_request *child);
void nr_cache_part_child(struct nr_layer *layer, struct nr_request *req, struct nr_cache_part *part,
			 struct nr_request *child);
/* The part's answer becomes the next bytes of REQ's. */
int nr_cache_part_answer(struct nr_layer *layer, struct nr_request *req,
			 struct nr_cache_part *part);
void nr_cache_part_forget(struct nr_cache *c, struct nr_cache_part *part);

/* All parts of the request are over: forget them. */
void nr_cache_parts_clear(struct nr_cache *c, struct nr_cache_state_of_request *s);
/* After PLAN, when no part is under way: wait for what it says. */
void nr_cache_park(struct nr_layer *layer, struct nr_request *req, enum nr_cache_plan plan);

/* cache-room.c */

/* A slot for BLOCK, READING; NR_NO_SLOT: there is none now. */
uint32_t nr_cache_take_slot(struct nr_layer *layer, struct nr_worker *worker, uint64_t block);
/* Give back the room of slots that are LEFT, if there are any. */
void nr_cache_give_back(struct nr_layer *layer, struct nr_worker *worker);
void nr_cache_room_child(struct nr_layer *layer, struct nr_request *child);
/* A store's write failed with ERROR. */
void nr_cache_store_failed(struct nr_layer *layer, struct nr_worker *worker, int error);

/* cache-read.c */
void nr_cache_read(struct nr_layer *layer, struct nr_request *req);
void nr_cache_read_over(struct nr_layer *layer, struct nr_request *req);

/* cache-write.c */
void nr_cache_write(struct nr_layer *layer, struct nr_request *req);
void nr_cache_write_over(struct nr_layer *layer, struct nr_request *req);
void nr_cache_begin_write(struct nr_layer *layer, struct nr_request *req);
void nr_cache_settled(struct nr_layer *layer, struct nr_request *req);

/* cache-writer.c */

/* A job for the run of dirty blocks around SLOT, which is DIRTY.  False: no memory. */
bool nr_cache_write_back(struct nr_layer *layer, struct nr_request *parent, uint32_t slot);
void nr_cache_wait_for_job(struct nr_layer *layer, struct nr_request *req);
void nr_cache_job_child(struct nr_layer *layer, struct nr_request *child);
/* A job that had no memory tries again. */
void nr_cache_job_go_on(struct nr_layer *layer, struct nr_request *carrier);
void nr_cache_flush(struct nr_layer *layer, struct nr_request *req);
/* Something became dirty. */
void nr_cache_pump(struct nr_layer *layer, struct nr_worker *worker);
void nr_cache_writer_turn(struct nr_layer *layer);
/* A slot became dirty: when. */
void nr_cache_note_dirty(struct nr_cache *c, uint32_t slot);

/* cache-store.c */
int nr_cache_store_open(struct nr_layer *layer, struct nr_error *error);
void nr_cache_store_close(struct nr_layer *layer);

/* Memory of leases: answers that lie in slots. */
struct nr_buffer *nr_cache_lease(struct nr_cache *c, struct nr_buffer *inner, uint32_t slot,
				 uint32_t count);
void nr_cache_free_leases(struct nr_cache *c);

#endif
