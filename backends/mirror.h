/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The backend `mirror`, from inside.  One worker uses an instance (NR_HOME), so nothing
 * here is locked; `open` and `close` run when no request exists.
 *
 * mirror.c           parameters, opening, closing
 * mirror-requests.c  what clients ask for: writes to all legs, reads from one
 * mirror-legs.c      the state of legs, and which parts of them are stale
 * mirror-arrive.c    legs that are not there yet
 * mirror-ranges.c    writes that overlap, one after the other
 * mirror-intent.c    which regions may differ, in memory and in the file
 * mirror-bitmap.c    the bytes of that file
 * mirror-work.c      what is done in the background: probes, forgetting old intents
 * mirror-sync.c      making legs the same again
 * mirror-scrub.c     looking whether they are
 * mirror-report.c    the status file
 *
 * A leg is IN, and holds everything but the regions that are stale on it; or OUT: it has
 * failed and gets no requests; or BACK: it gets writes again, and is IN as soon as nothing
 * of it is stale any more.  What a leg that is not IN has acknowledged counts for nothing.
 * One that could not be opened is OUT and absent: it has no stack.
 *
 * A region is "intended" from before a write to it begins until it is certain that all
 * legs have the same in it: no write under way, none since the last flush of all legs,
 * none of them stale there.  A leg that goes OUT may have lost everything since the last
 * flush, so all intended regions become stale on it.
 */
#ifndef BACKENDS_MIRROR_H
#define BACKENDS_MIRROR_H

#include "backends/blocking.h"
#include "backends/legs.h"
#include "backends/mirror-bitmap.h"
#include "backends/mirror-ranges.h"
#include "ring/ring.h"

#define NR_MIRROR_TICK_NS UINT64_C(200000000)
#define NR_MIRROR_TICKS_PER_S 5u
#define NR_MIRROR_SYNCS 4u            /* regions that are copied at a time */
#define NR_MIRROR_SCRUBS 2u           /* pieces that are compared at a time */
#define NR_MIRROR_PIECE (256u * 1024) /* of a region, copied at a time */
#define NR_MIRROR_BATCH 64u           /* blocks of the bitmap written at a time */

enum nr_mirror_state { NR_LEG_IN, NR_LEG_OUT, NR_LEG_BACK };

struct nr_mirror_leg {
	struct nr_leg *leg;
	unsigned index;
	enum nr_mirror_state state;
	unsigned load;     /* requests under way */
	uint64_t read_end; /* where the last read of it ended */
	uint64_t *stale;   /* a bit for each region */
	uint64_t stale_count;
	uint64_t probe_at, probe_pause; /* nanoseconds */
	bool probing, settling;
	bool is_new;       /* the bitmap did not know it */
	uint64_t repaired; /* regions written again because they could not be read */

	/* While it is absent: opening it, on a thread that may block. */
	struct nr_job arrival;
	struct nr_mirror *mirror;
	struct nr_mirror_op *arrival_op;
	struct nr_stack *arrived; /* NULL: it could not be opened, and … */
	struct nr_error why;      /* … why */
	uint64_t told;            /* a hash of what has been said of that */
};

/* Of a region. */
struct nr_mirror_region {
	uint32_t tick, epoch; /* of the last write's end */
	uint32_t writing;     /* writes under way */
};

/* What a request is about; clients' first. */
enum nr_mirror_job {
	NR_JOB_CLIENT,
	NR_JOB_TICK,
	NR_JOB_PROBE,
	NR_JOB_CLEAN,
	NR_JOB_SETTLE,
	NR_JOB_SYNC,
	NR_JOB_SCRUB,
	NR_JOB_REPORT,
	NR_JOB_ARRIVAL,
};

enum nr_mirror_step {
	NR_STEP_RANGE,  /* waits for its range */
	NR_STEP_INTENT, /* waits until its intent is durable */
	NR_STEP_LEGS,   /* children are under way */
	NR_STEP_RECORD, /* waits until it is durable which legs are out */
	NR_STEP_SLEEP,
};

/* The scratch of a request. */
struct nr_mirror_op {
	uint8_t job, step; /* enum nr_mirror_job, nr_mirror_step */
	bool in_table;     /* its range is */
	struct nr_mirror_range range;
	struct nr_request *req;
	struct nr_mirror_op *next; /* in a list of those who wait */
	uint64_t at, end;          /* reads and syncs: what is left */
	uint64_t started;          /* flushes: the epoch that began with it */
	unsigned under_way;        /* children */
	uint32_t sent, bad;        /* legs, by bits */
	uint32_t tried;            /* reads: legs that failed */
	int error;
	uint8_t leg_error[NR_MIRROR_LEGS_MAX]; /* errno, of those in `bad` */
	struct nr_request *child;              /* sync: what the source has */
	struct nr_buffer *buffer;              /* sync, scrub: what is written */
	struct nr_mirror_sync *sync;           /* sync: of which region */
	struct nr_mirror_piece *piece;         /* scrub: what is known of it */
	struct nr_mirror_leg *leg;             /* probe, settle */
	uint64_t outs; /* settle: how often a leg had gone out when it began */
};

/* The bitmap in memory and its file. */
struct nr_intent {
	uint64_t *bits, *durable; /* a bit for each region; of what the file says */
	uint64_t count;           /* of bits */
	int fd;                   /* -1: no file */
	uint64_t *dirty;          /* a bit for each block behind the header */
	uint64_t blocks;
	uint64_t header_version, header_durable;
	struct nr_mirror_op *waiting;
	bool busy;   /* being written */
	bool failed; /* the last attempt */
	struct nr_completion completion;
	uint8_t *buffer;                       /* NR_MIRROR_BATCH blocks */
	uint64_t (*captured)[NR_BITMAP_WORDS]; /* what their bits are */
	uint32_t batch[NR_MIRROR_BATCH];       /* blocks of the file in it, ascending */
	unsigned batch_count, batch_done;
	uint64_t batch_version; /* of the header */
	struct nr_mirror *mirror;
};

/* A region that is being copied, piece by piece, each by a request of its own. */
struct nr_mirror_sync {
	bool active;
	bool moved_on; /* something became stale meanwhile */
	uint64_t region;
	uint64_t at, end;
	uint32_t targets; /* legs that have got all of it so far */
};

/* What is right where legs differ: what most of them have, and if none is that, … */
enum nr_scrub_repair {
	NR_SCRUB_MAJORITY, /* … nothing is changed */
	NR_SCRUB_FIRST,    /* … what the first one has */
	NR_SCRUB_NEVER,    /* nothing is ever changed */
};

/*
 * A piece that is being compared: all of it, or, when something is wrong with it, one block
 * after the other.  Legs are bits.
 */
struct nr_mirror_piece {
	bool active, in_blocks;
	uint64_t limit;                              /* where it ends */
	struct nr_request *kind[NR_MIRROR_LEGS_MAX]; /* contents that differ … */
	uint32_t voters[NR_MIRROR_LEGS_MAX];         /* … and which legs have each */
	unsigned kinds;
	int winner;         /* the kind that is right … */
	uint32_t targets;   /* … and the legs that get it */
	uint32_t unread;    /* legs that could not read it */
	uint64_t first;     /* where the first difference is */
	uint64_t differing; /* blocks; and of them those of which nobody knows */
	uint64_t undecided;
	uint32_t repaired_legs;
};

struct nr_mirror_scrub {
	bool wanted, active;
	uint64_t next; /* offset */
	unsigned under_way, lines;
	uint64_t differences, undecided; /* blocks */
	uint64_t runs;                   /* completed */
	struct nr_mirror_piece piece[NR_MIRROR_SCRUBS];
};

/* For other threads: as it was at the last tick, or when a leg last came or went. */
struct nr_mirror_figures {
	nr_count legs_in, legs_back, legs_out, legs_absent;
	nr_count stale, intended; /* regions */
	nr_count copied_bytes, copied_regions, reread;
	nr_count scrubs, differences, undecided;
};

struct nr_mirror {
	/* parameters */
	struct nr_strings words;
	const char *bitmap_path, *status_path, *scrub_path;
	uint64_t region_given, min_legs, rate, probe_s, quiet_s;
	bool assume_same;
	unsigned scrub_mode, scrub_repair; /* the latter: enum nr_scrub_repair */

	struct nr_layer *layer;
	struct nr_legs legs;
	struct nr_mirror_leg leg[NR_MIRROR_LEGS_MAX];
	uint64_t size, region; /* bytes */
	unsigned region_shift;
	uint64_t regions;
	struct nr_mirror_region *about; /* each region */
	struct nr_mirror_ranges ranges;
	struct nr_intent intent;
	unsigned next_read; /* the leg whose turn it is */
	uint64_t outs;      /* how often a leg went out */

	bool ticking;
	bool cleaning;
	uint64_t tick;       /* counts; never 0 */
	uint64_t epoch;      /* counts flushes that have begun; never 0 */
	uint64_t flushed;    /* what was written in earlier epochs is stable on all legs */
	uint64_t last_write; /* the epoch of */
	struct nr_mirror_sync sync[NR_MIRROR_SYNCS];
	int lost;           /* a flush in the background failed on all legs: nobody knows yet */
	uint64_t sync_next; /* the region to look at next */
	uint64_t allowance; /* bytes that syncs may still move in this tick */
	uint64_t synced_bytes, synced_regions;
	bool sync_said; /* that it goes on */
	struct nr_mirror_scrub scrub;
	struct nr_mirror_report *report;
	struct nr_mirror_figures figures;
};

/* ---- legs -------------------------------------------------------------- */

static inline bool nr_mirror_up(const struct nr_mirror_leg *leg)
{
	return leg->state != NR_LEG_OUT;
}

static inline bool nr_mirror_absent(const struct nr_mirror_leg *leg)
{
	return !leg->leg->stack;
}

static inline uint64_t nr_mirror_first_region(const struct nr_mirror *m, uint64_t offset)
{
	return offset >> m->region_shift;
}

static inline uint64_t nr_mirror_last_region(const struct nr_mirror *m, uint64_t end)
{
	return (end - 1) >> m->region_shift;
}

static inline bool nr_bit(const uint64_t *bits, uint64_t index)
{
	return bits[index / 64] >> (index % 64) & 1;
}

unsigned nr_mirror_in_count(const struct nr_mirror *m);
/* The one that is right when legs differ: the first that is IN. */
struct nr_mirror_leg *nr_mirror_source(struct nr_mirror *m);
bool nr_mirror_stale_anywhere(const struct nr_mirror *m, uint64_t region);
uint64_t nr_mirror_stale_total(const struct nr_mirror *m);

/* The range [OFFSET, END) is stale on LEG; or all that is intended. */
void nr_mirror_mark_stale(struct nr_mirror *m, struct nr_mirror_leg *leg, uint64_t offset,
			  uint64_t end);
void nr_mirror_mark_intended_stale(struct nr_mirror *m, struct nr_mirror_leg *leg);
void nr_mirror_clear_stale(struct nr_mirror *m, struct nr_mirror_leg *leg, uint64_t region);

/* LEG has failed, another has not.  WHAT failed, for the log. */
void nr_mirror_leg_out(struct nr_mirror *m, struct nr_mirror_leg *leg, const char *what, int error,
		       struct nr_worker *worker);
/* It answers again. */
void nr_mirror_leg_back(struct nr_mirror *m, struct nr_mirror_leg *leg);
/* It has all there is, and that is recorded. */
void nr_mirror_leg_in(struct nr_mirror *m, struct nr_mirror_leg *leg);
/* How long to wait before LEG, which did not answer, is tried again. */
void nr_mirror_wait_longer(struct nr_mirror_leg *leg);
/* Does the error say that the leg has gone, rather than that the request or medium is bad? */
bool nr_mirror_means_gone(int error);

/*
 * The leg to read [OFFSET, *END) from, but none of TRIED; *END becomes smaller if no leg
 * has all of it.  NULL: none.
 */
struct nr_mirror_leg *nr_mirror_choose(struct nr_mirror *m, uint64_t offset, uint64_t *end,
				       uint32_t tried);

/* A child of REQ for LEG, which is counted as its load until nr_mirror_child_back. */
struct nr_request *nr_mirror_child(struct nr_mirror *m, struct nr_mirror_leg *leg,
				   struct nr_request *req, enum nr_operation operation,
				   uint64_t offset, uint64_t length);
void nr_mirror_enter(struct nr_mirror_leg *leg, struct nr_request *child);
/* The leg of a child that is back. */
struct nr_mirror_leg *nr_mirror_child_back(struct nr_mirror *m, struct nr_request *child);

/* ---- legs that are not there yet --------------------------------------- */

/*
 * In `open`: open the legs, of which some may be absent.  An error if too many are, or if
 * one could never be opened.
 */
int nr_mirror_open_legs(struct nr_mirror *m, struct nr_error *error);
/* In a tick: try to open LEG, which is absent. */
void nr_mirror_start_arrival(struct nr_mirror *m, struct nr_mirror_leg *leg,
			     struct nr_worker *worker);

/* ---- intent ------------------------------------------------------------ */

/* How large the disk is by the file; 0: there is no file, or it is none of ours. */
uint64_t nr_intent_size(const struct nr_mirror *m);
int nr_intent_open(struct nr_mirror *m, struct nr_error *error);
void nr_intent_close(struct nr_mirror *m);

/* A write to [OFFSET, END) begins, and ends. */
void nr_intent_begin(struct nr_mirror *m, uint64_t offset, uint64_t end);
void nr_intent_end(struct nr_mirror *m, uint64_t offset, uint64_t end);
/* Something was written to a region, and is not stable yet. */
void nr_intent_touch(struct nr_mirror *m, uint64_t region);
/* Forget old intents. */
void nr_intent_clean(struct nr_mirror *m);
/* Has everything that must be written been written: of this range, of the legs? */
bool nr_intent_is_durable(const struct nr_mirror *m, uint64_t offset, uint64_t end);
bool nr_intent_is_recorded(const struct nr_mirror *m);
bool nr_intent_is_clean(const struct nr_mirror *m);
/* It has become different which legs are out. */
void nr_intent_header_changed(struct nr_mirror *m);
/* OP waits, and goes on (nr_mirror_go_on) each time something was written, or could not be. */
void nr_intent_wait(struct nr_mirror *m, struct nr_mirror_op *op);

/* ---- requests ---------------------------------------------------------- */

void nr_mirror_submit(struct nr_layer *layer, struct nr_request *req);
void nr_mirror_child_done(struct nr_layer *layer, struct nr_request *child);
void nr_mirror_resume(struct nr_layer *layer, struct nr_request *req);
/* What OP waited for may have come. */
void nr_mirror_go_on(struct nr_mirror *m, struct nr_mirror_op *op);
/* Take OP's range.  True: it is held; else OP goes on when it is. */
bool nr_mirror_lock(struct nr_mirror *m, struct nr_mirror_op *op, uint64_t start, uint64_t end);
void nr_mirror_unlock(struct nr_mirror *m, struct nr_mirror_op *op);

/* ---- in the background ------------------------------------------------- */

/* A background request for JOB, or NULL; its op. */
struct nr_mirror_op *nr_mirror_background(struct nr_mirror *m, struct nr_worker *worker,
					  enum nr_mirror_job job);
/* See that there are ticks while there is something to do. */
void nr_mirror_wake(struct nr_mirror *m, struct nr_worker *worker);
void nr_mirror_work_go_on(struct nr_mirror *m, struct nr_mirror_op *op);
void nr_mirror_work_child(struct nr_mirror *m, struct nr_mirror_op *op, struct nr_request *child);

/* In a tick. */
void nr_mirror_start_syncs(struct nr_mirror *m, struct nr_worker *worker);
void nr_mirror_start_scrub(struct nr_mirror *m, struct nr_worker *worker);
/* Where the piece at AT of what ends at END ends. */
uint64_t nr_mirror_piece_end(const struct nr_mirror *m, uint64_t at, uint64_t end);
/* May BYTES be moved now?  If not, OP sleeps for a tick. */
bool nr_mirror_may_move(struct nr_mirror *m, struct nr_mirror_op *op, uint64_t bytes);
void nr_mirror_sync_go_on(struct nr_mirror *m, struct nr_mirror_op *op);
void nr_mirror_sync_child(struct nr_mirror *m, struct nr_mirror_op *op, struct nr_request *child);
void nr_mirror_scrub_go_on(struct nr_mirror *m, struct nr_mirror_op *op);
void nr_mirror_scrub_child(struct nr_mirror *m, struct nr_mirror_op *op, struct nr_request *child);

/* ---- the report -------------------------------------------------------- */

/* The figures are what they are now. */
void nr_mirror_count(struct nr_mirror *m);

int nr_mirror_report_open(struct nr_mirror *m, struct nr_error *error);
/* In a tick: write the status file if it says something else now, look for the scrub file. */
void nr_mirror_report_tick(struct nr_mirror *m, struct nr_worker *worker);
void nr_mirror_report_close(struct nr_mirror *m);

#endif
