/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Failed requests are tried again on a disk that has been opened anew: for disks that go
 * away and come back.
 *
 * Closing and opening is the core's (nr_reopen).  Each request counts its own tries and
 * waits its own time, with a timer of its worker; when that is over, the first asks for
 * the disk to be opened anew, and those that failed like it go down again when it has
 * been, without asking.
 *
 * A flush is not tried again: it tells of writes that may be lost, and tells it once.  Nor
 * is a request with FUA, which may have become a write and such a flush.
 */
#include <stddef.h>

#include "filters/again.h"
#include "filters/filters.h"
#include "filters/value.h"
#include "nbdring/checked.h"

#define LOOK_UP_NS NR_SECOND /* who waits for longer sees after so much that its client is gone */

struct retry {
	uint64_t times;
	const char *delay_text;
	bool exponential;
	bool read_only;
	uint64_t delay; /* nanoseconds */
};

enum stage { STAGE_PAUSE, STAGE_REOPEN };

/* Per request. */
struct state {
	enum stage stage; /* what it waits for */
	uint64_t tries;   /* that have failed */
	uint64_t seen;    /* nr_reopenings, when it went down */
	uint64_t until;   /* the end of its pause */
};

static const struct nr_param retry_params[] = {
	{
		.name = "retries",
		.type = NR_PARAM_UINT,
		.offset = offsetof(struct retry, times),
		.fallback = "5",
		.max = 1000,
		.value = "N",
		.help = "How often a request is tried again before it fails",
	},
	{
		.name = "retry-delay",
		.type = NR_PARAM_STRING,
		.offset = offsetof(struct retry, delay_text),
		.fallback = "2",
		.value = "TIME",
		.help = "The pause before the first further try: seconds, or NNms",
	},
	{
		.name = "retry-exponential",
		.type = NR_PARAM_BOOL,
		.offset = offsetof(struct retry, exponential),
		.fallback = "yes",
		.help = "Whether each pause is twice as long as the one before",
	},
	{
		.name = "retry-readonly",
		.type = NR_PARAM_BOOL,
		.offset = offsetof(struct retry, read_only),
		.fallback = "no",
		.help = "Whether the disk is opened for reading only when it is opened again",
	},
	{ .name = NULL },
};

static int retry_check(struct nr_layer *layer, struct nr_error *error)
{
	struct retry *r = layer->instance;

	return nr_value_duration("retry-delay", r->delay_text, &r->delay, error);
}

static void go_down(struct nr_layer *layer, struct nr_request *req)
{
	struct state *s = nr_scratch(layer, req);

	s->seen = nr_reopenings(layer);
	nr_pass(layer, req);
}

static void retry_submit(struct nr_layer *layer, struct nr_request *req)
{
	struct state *s = nr_scratch(layer, req);

	s->tries = 0;
	go_down(layer, req);
}

/* The pause after so many TRIES that failed, 1 or more. */
static uint64_t pause_after(const struct retry *r, uint64_t tries)
{
	uint64_t pause = r->delay, most = NR_DURATION_MAX_SECONDS * NR_SECOND;

	for (uint64_t i = 1; r->exponential && i < tries && pause < most; i++)
		pause = nr_min(pause * 2, most);
	return pause;
}

static void sleep_on(struct nr_layer *layer, struct nr_request *req, uint64_t now)
{
	const struct state *s = nr_scratch(layer, req);

	nr_sleep(layer, req, nr_min(s->until - now, LOOK_UP_NS));
}

static void retry_done(struct nr_layer *layer, struct nr_request *req)
{
	const struct retry *r = layer->instance;
	struct state *s = nr_scratch(layer, req);
	uint64_t now;

	if (!req->error || !nr_again_helps(req) || (req->flags & NR_FUA) || nr_again_in_vain(req) ||
	    s->tries == r->times) {
		nr_finish(layer, req, req->error);
		return;
	}
	s->tries++;
	s->stage = STAGE_PAUSE;
	nr_again_prepare(req);
	now = nr_now(req->worker);
	s->until = now + pause_after(r, s->tries);
	sleep_on(layer, req, now);
}

static void retry_resume(struct nr_layer *layer, struct nr_request *req)
{
	const struct retry *r = layer->instance;
	struct state *s = nr_scratch(layer, req);
	uint64_t now = nr_now(req->worker);

	if (nr_again_in_vain(req)) {
		nr_finish(layer, req, req->error);
	} else if (s->stage == STAGE_REOPEN) {
		go_down(layer, req);
	} else if (now < s->until) {
		sleep_on(layer, req, now);
	} else {
		s->stage = STAGE_REOPEN;
		nr_reopen(layer, req, s->seen, r->read_only);
	}
}

const struct nr_layer_type nr_retry_type = {
	.abi = NR_LAYER_ABI,
	.name = "retry",
	.summary = "opens a disk that fails anew and tries again",
	.kind = NR_FILTER,
	.placement = NR_SPREAD,
	.params = retry_params,
	.instance_size = sizeof(struct retry),
	.request_size = sizeof(struct state),
	.check = retry_check,
	.submit = retry_submit,
	.done = retry_done,
	.contexts_pass = true,
	.data_passes = true,
	.resume = retry_resume,
	.reopens = true,
};
