/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The promise that a flush on one connection covers the writes of all, given or
 * taken away; and flushes that have nothing to do, left out.
 *
 * All connections of an export share one stack, and a flush of a stack covers
 * every request that was finished before, whoever made it.  So nothing has to be
 * sent to each connection, as servers do where each connection opens the disk
 * anew: where there is a flush, the promise can be kept.
 *
 * A flush is left out when nothing was changed since the last one that went well.
 * Each worker counts the changes that finished on it, in a cache line of its own.
 * A flush takes the sum before it goes down and leaves it behind when it comes up
 * in success.  The counters only grow, so the same sum means that each of them is
 * the same: nothing has finished since.  A flush under way excuses none that comes
 * meanwhile.
 */
#include <errno.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "filters/filters.h"

enum mode { MODE_AUTO, MODE_EMULATE, MODE_PLUGIN, MODE_DISABLE, MODE_UNSAFE };
enum track { TRACK_CONNECTION, TRACK_FAST, TRACK_OFF, TRACK_CONN /* the same as the first */ };

struct counter {
	_Atomic uint64_t changes; /* finished on this worker, which alone writes it */
} __attribute__((aligned(64)));

struct multi_conn {
	unsigned mode;   /* enum mode */
	unsigned track;  /* enum track */
	bool exportname; /* a parameter of nbdkit's; makes no difference */
	unsigned worker_count;
	struct counter *counter;  /* by worker; NULL when not tracking */
	_Atomic uint64_t flushed; /* the sum at the last flush, or UINT64_MAX: none yet */
};

/* Per request. */
struct state {
	uint64_t sum; /* flush: the changes that it covers */
};

static const char *const modes[] = { "auto", "emulate", "plugin", "disable", "unsafe", NULL };
static const char *const tracks[] = { "connection", "fast", "off", "conn", NULL };

static const struct nr_param params[] = {
	{
		.name = "multi-conn-mode",
		.type = NR_PARAM_CHOICE,
		.offset = offsetof(struct multi_conn, mode),
		.fallback = "auto",
		.choices = modes,
		.value = "MODE",
		.help = "Whether clients are promised that a flush covers all connections",
		.manual =
			"Whether clients are promised that a flush covers all connections:\n\n"
			"=over 4\n\n"
			"=item B<auto>\n\nWherever it can be kept: where there is a flush, or where the\n"
			"layers below give the promise themselves.\n\n"
			"=item B<emulate>\n\nYes.  Refused when the layers below have no flush.\n\n"
			"=item B<plugin>\n\nWhen the layers below do.\n\n"
			"=item B<disable>\n\nNo.\n\n"
			"=item B<unsafe>\n\nYes, even if it cannot be kept.  Clients that rely on it\n"
			"may read old data.\n\n"
			"=back",
	},
	{
		.name = "multi-conn-track-dirty",
		.type = NR_PARAM_CHOICE,
		.offset = offsetof(struct multi_conn, track),
		.fallback = "connection",
		.choices = tracks,
		.value = "LEVEL",
		.help = "Whether flushes that have nothing to do are left out",
		.manual =
			"With C<off>, every flush goes down.  With C<fast> and C<connection>, which\n"
			"mean the same here, a flush is answered at once when nothing was changed\n"
			"on any connection since the last flush.",
	},
	{
		.name = "multi-conn-exportname",
		.type = NR_PARAM_BOOL,
		.offset = offsetof(struct multi_conn, exportname),
		.fallback = "false",
		.value = "BOOL",
		.help = "For command lines of nbdkit; makes no difference",
		.manual =
			"Accepted so that command lines written for L<nbdkit(1)> work.  Exports never\n"
			"share anything here, so a flush of one never concerns another.",
	},
	{ .name = NULL },
};

static int multi_conn_open(struct nr_layer *layer, struct nr_error *error)
{
	struct multi_conn *m = layer->instance;
	void *memory;

	atomic_init(&m->flushed, UINT64_MAX);
	if (m->track == TRACK_OFF)
		return 0;
	m->worker_count = layer->worker_count;
	if (posix_memalign(&memory, 64, m->worker_count * sizeof(*m->counter)))
		return nr_error_system(error, -ENOMEM, "multi-conn");
	m->counter = memset(memory, 0, m->worker_count * sizeof(*m->counter));
	return 0;
}

static void multi_conn_close(struct nr_layer *layer)
{
	struct multi_conn *m = layer->instance;

	free(m->counter);
}

static int multi_conn_describe(struct nr_layer *layer, struct nr_traits *t, struct nr_error *error)
{
	const struct multi_conn *m = layer->instance;
	/* A disk that nobody writes to looks the same from everywhere. */
	bool can = t->support[NR_CAP_FLUSH] != NR_NONE || t->read_only || layer->read_only;

	switch ((enum mode)m->mode) {
	case MODE_AUTO:
		t->multi_conn = t->multi_conn || can;
		break;
	case MODE_EMULATE:
		if (!can)
			return nr_error_set(
				error, -ENOTSUP,
				"multi-conn-mode=emulate needs flush, which the layers "
				"below do not have; use multi-conn-mode=auto or plugin");
		t->multi_conn = true;
		break;
	case MODE_PLUGIN:
		break;
	case MODE_DISABLE:
		t->multi_conn = false;
		break;
	case MODE_UNSAFE:
		t->multi_conn = true;
		break;
	}
	return 0;
}

static uint64_t changes_so_far(const struct multi_conn *m)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < m->worker_count; i++)
		sum += atomic_load(&m->counter[i].changes);
	return sum;
}

static void multi_conn_submit(struct nr_layer *layer, struct nr_request *req)
{
	struct multi_conn *m = layer->instance;
	struct state *s = nr_scratch(layer, req);

	if (req->operation == NR_FLUSH && m->counter) {
		s->sum = changes_so_far(m);
		if (s->sum == atomic_load(&m->flushed)) {
			nr_finish(layer, req, 0);
			return;
		}
	}
	nr_pass(layer, req);
}

/* Several flushes may end in any order: the one that covers most counts. */
static void note_flush(struct multi_conn *m, uint64_t sum)
{
	uint64_t before = atomic_load(&m->flushed);

	while ((before == UINT64_MAX || before < sum) &&
	       !atomic_compare_exchange_weak(&m->flushed, &before, sum))
		continue;
}

/* A change that failed may have changed something all the same. */
static void multi_conn_done(struct nr_layer *layer, struct nr_request *req)
{
	struct multi_conn *m = layer->instance;
	struct state *s = nr_scratch(layer, req);

	if (!m->counter) {
		nr_finish(layer, req, req->error);
		return;
	}
	if (req->operation == NR_FLUSH) {
		if (!req->error)
			note_flush(m, s->sum);
	} else if (req->operation == NR_WRITE || req->operation == NR_ZERO ||
		   req->operation == NR_TRIM || req->operation == NR_RESIZE) {
		_Atomic uint64_t *changes = &m->counter[nr_worker_index(req->worker)].changes;

		atomic_store_explicit(changes,
				      atomic_load_explicit(changes, memory_order_relaxed) + 1,
				      memory_order_release);
	}
	nr_finish(layer, req, req->error);
}

const struct nr_layer_type nr_multi_conn_type = {
	.abi = NR_LAYER_ABI,
	.name = "multi-conn",
	.summary = "gives or takes away the promise that a flush covers all connections",
	.kind = NR_FILTER,
	.placement = NR_SPREAD,
	.params = params,
	.instance_size = sizeof(struct multi_conn),
	.request_size = sizeof(struct state),
	.open = multi_conn_open,
	.describe = multi_conn_describe,
	.submit = multi_conn_submit,
	.done = multi_conn_done,
	.contexts_pass = true,
	.data_passes = true,
	.close = multi_conn_close,
};
