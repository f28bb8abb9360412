/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The filter `scan`: while there are clients, the disk below is asked to prefetch,
 * piece after piece, so that whoever reads in order finds the bytes close by.
 *
 * The scan belongs to the export, not to a client: one piece at a time is under way,
 * a background request on the worker of the client request that began the scan.
 * Client requests are passed down first, and after each piece the scan lets the
 * worker go through its loop once, so they are never behind more than one piece.
 *
 * `phase` says who may touch what: whoever moves it from RESTING to SCANNING is the
 * scanner and alone writes `next`.  Clients leave what they have to say in `ahead`
 * and `again`, which the scanner takes when it chooses the next piece.  The scan ends
 * by itself when no background request is to be had (the last client left, the server
 * is stopping, memory is short), and goes on with the next client request.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stddef.h>

#include "filters/filters.h"
#include "nbdring/checked.h"

#define PIECE_MAX (UINT64_C(32) << 20)
#define ROUND_NS UINT64_C(1000000000) /* scan-forever: from one round to the next, at least */

enum phase { RESTING, SCANNING, COMPLETE };

struct scan {
	bool scan_ahead, clock, forever;
	uint64_t size; /* of a piece */

	atomic_uint phase;
	atomic_uint_fast64_t next;     /* what lies before it is scanned or skipped */
	atomic_uint_fast64_t not_till; /* no new round before; nanoseconds */
	uint64_t began;                /* this round; the scanner's */
	atomic_uint_fast64_t ahead;    /* a client has read up to here; 0: nothing new */
	atomic_bool again;             /* from the beginning, please */
	atomic_uint clients;
};

static const struct nr_param params[] = {
	{
		.name = "scan-ahead",
		.type = NR_PARAM_BOOL,
		.offset = offsetof(struct scan, scan_ahead),
		.fallback = "true",
		.help = "Skip forward to where clients read",
		.manual =
			"Stay ahead of the clients: when one has read beyond the place that "
			"the scan has reached, go on with the piece in which that read ends. What was "
			"skipped is not scanned in this round. With C<false>, the disk is "
			"scanned from beginning to end, whatever clients read.",
	},
	{
		.name = "scan-clock",
		.type = NR_PARAM_BOOL,
		.offset = offsetof(struct scan, clock),
		.fallback = "true",
		.help = "Go on where the scan was when all clients had left",
		.manual = "When all clients have left and another one comes, go on where the scan "
			  "was, like a clock that was stopped. With C<false>, begin again at the "
			  "beginning of the disk, also when it was scanned completely.",
	},
	{
		.name = "scan-forever",
		.type = NR_PARAM_BOOL,
		.offset = offsetof(struct scan, forever),
		.fallback = "false",
		.help = "Start over at the end of the disk",
		.manual = "When the end of the disk is reached, start over with the next request "
			  "of a client, at most once a second. With C<false>, the disk is scanned "
			  "once.",
	},
	{
		.name = "scan-size",
		.type = NR_PARAM_SIZE,
		.offset = offsetof(struct scan, size),
		.fallback = "2M",
		.min = 512,
		.max = PIECE_MAX,
		.value = "SIZE",
		.help = "Bytes to prefetch at a time, a power of two",
		.manual = "How many bytes to prefetch at a time: a power of two from 512 bytes to "
			  "32 MiB.",
	},
	{ .name = NULL },
};

static int scan_check(struct nr_layer *layer, struct nr_error *error)
{
	const struct scan *scan = layer->instance;
	uint64_t power = 512;

	if (nr_is_power_of_2(scan->size))
		return 0;
	while (power < scan->size)
		power *= 2;
	return nr_error_set(error, -EINVAL,
			    "scan-size=%" PRIu64 " is not a power of two from 512 to 32M; use "
			    "scan-size=%" PRIu64,
			    scan->size, power);
}

static int scan_describe(struct nr_layer *layer, struct nr_traits *t, struct nr_error *error)
{
	const struct scan *scan = layer->instance;

	if (t->support[NR_CAP_CACHE] == NR_NONE)
		return nr_error_set(error, -ENOTSUP,
				    "'%s' below cannot prefetch, so there is nothing to scan with; "
				    "leave out --filter=scan",
				    layer->below->type->name);
	if (scan->size < t->block_min)
		return nr_error_set(error, -EINVAL,
				    "scan-size=%" PRIu64 " is less than the %u-byte blocks below; "
				    "use scan-size=%u",
				    scan->size, t->block_min, t->block_min);
	return 0;
}

static int scan_admit(struct nr_layer *layer, struct nr_session *session, struct nr_error *error)
{
	struct scan *scan = layer->instance;
	unsigned complete = COMPLETE;

	if (atomic_fetch_add(&scan->clients, 1) > 0 || scan->clock)
		return 0;
	atomic_store(&scan->again, true);
	atomic_compare_exchange_strong(&scan->phase, &complete, RESTING);
	return 0;
}

static void scan_leave(struct nr_layer *layer, struct nr_session *session)
{
	struct scan *scan = layer->instance;

	atomic_fetch_sub(&scan->clients, 1);
}

/* The end of the disk. */
static void end_round(struct scan *scan)
{
	unsigned complete = COMPLETE;

	if (scan->forever) {
		atomic_store(&scan->next, 0);
		atomic_store(&scan->not_till, scan->began + ROUND_NS);
		atomic_store(&scan->phase, RESTING);
		return;
	}
	atomic_store(&scan->phase, COMPLETE);
	/* Who asked for it meanwhile did not see that. */
	if (atomic_load(&scan->again))
		atomic_compare_exchange_strong(&scan->phase, &complete, RESTING);
}

/* The scanner's next piece; NULL: it is the scanner no longer. */
static struct nr_request *next_piece(struct nr_layer *layer, struct nr_worker *worker)
{
	struct scan *scan = layer->instance;
	uint64_t size = nr_round_down(nr_layer_size(layer->below), layer->below->traits.block_min);
	uint64_t ahead = atomic_exchange(&scan->ahead, 0);
	uint64_t next = atomic_load(&scan->next), length;
	struct nr_request *piece;

	if (atomic_exchange(&scan->again, false))
		next = 0;
	else
		next = nr_max(next, nr_round_down(ahead, scan->size));
	if (next == 0)
		scan->began = nr_now(worker);
	atomic_store(&scan->next, next);
	if (next >= size) {
		end_round(scan);
		return NULL;
	}
	length = nr_min(scan->size, size - next);
	piece = nr_background(layer, worker, NR_CACHE, next, length);
	if (piece)
		atomic_store(&scan->next, next + length);
	else
		atomic_store(&scan->phase, RESTING);
	return piece;
}

static void begin(struct nr_layer *layer, struct nr_worker *worker)
{
	struct scan *scan = layer->instance;
	unsigned resting = RESTING;
	struct nr_request *piece;

	if (scan->forever && nr_now(worker) < atomic_load(&scan->not_till))
		return;
	if (!atomic_compare_exchange_strong(&scan->phase, &resting, SCANNING))
		return;
	piece = next_piece(layer, worker);
	if (piece)
		nr_pass(layer, piece);
}

static void scan_submit(struct nr_layer *layer, struct nr_request *req)
{
	struct scan *scan = layer->instance;
	struct nr_worker *worker = req->worker;
	unsigned phase = atomic_load_explicit(&scan->phase, memory_order_relaxed);

	/* A hint: that two clients overwrite each other's, or are seen late, is no harm. */
	if (req->operation == NR_READ && scan->scan_ahead && phase != COMPLETE) {
		uint64_t end = req->offset + req->length;

		if (end > atomic_load_explicit(&scan->next, memory_order_relaxed))
			atomic_store_explicit(&scan->ahead, end, memory_order_relaxed);
	}
	nr_pass(layer, req);
	if (phase == RESTING)
		begin(layer, worker);
}

/* A piece that failed is left out: whoever reads it will be told. */
static void scan_child_done(struct nr_layer *layer, struct nr_request *piece)
{
	nr_resume(layer, piece); /* not before the worker has been round its loop */
}

static void scan_resume(struct nr_layer *layer, struct nr_request *piece)
{
	struct nr_request *next = next_piece(layer, piece->worker);

	if (next)
		nr_pass(layer, next);
	nr_child_release(piece);
}

const struct nr_layer_type nr_scan_type = {
	.abi = NR_LAYER_ABI,
	.name = "scan",
	.summary = "prefetches the disk while clients read it",
	.kind = NR_FILTER,
	.placement = NR_SPREAD,
	.params = params,
	.instance_size = sizeof(struct scan),
	.check = scan_check,
	.describe = scan_describe,
	.admit = scan_admit,
	.leave = scan_leave,
	.submit = scan_submit,
	.contexts_pass = true,
	.child_done = scan_child_done,
	.resume = scan_resume,
};
