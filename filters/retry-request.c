/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Failed requests are tried again: for disks that fail now and then.
 *
 * The request itself goes down a second time, after a pause that is a timer of its
 * worker.  A flush does not: what it tells of (writes that were lost) is told once, and
 * a second one that went well would hide it.  Neither do requests that the disk has
 * refused for what they are.
 */
#include <stddef.h>

#include "filters/again.h"
#include "filters/filters.h"
#include "filters/value.h"

struct retry {
	uint64_t times;
	const char *delay_text;
	uint64_t delay; /* nanoseconds */
};

/* Per request. */
struct state {
	uint64_t tries; /* that have failed */
};

static const struct nr_param retry_params[] = {
	{
		.name = "retry-request-retries",
		.type = NR_PARAM_UINT,
		.offset = offsetof(struct retry, times),
		.fallback = "2",
		.max = 1000,
		.value = "N",
		.help = "How often a request is tried again before it fails",
	},
	{
		.name = "retry-request-delay",
		.type = NR_PARAM_STRING,
		.offset = offsetof(struct retry, delay_text),
		.fallback = "2",
		.value = "TIME",
		.help = "The pause before each further try: seconds, or NNms",
	},
	{ .name = NULL },
};

static int retry_check(struct nr_layer *layer, struct nr_error *error)
{
	struct retry *r = layer->instance;

	return nr_value_duration("retry-request-delay", r->delay_text, &r->delay, error);
}

static void retry_submit(struct nr_layer *layer, struct nr_request *req)
{
	struct state *s = nr_scratch(layer, req);

	s->tries = 0;
	nr_pass(layer, req);
}

static void retry_done(struct nr_layer *layer, struct nr_request *req)
{
	const struct retry *r = layer->instance;
	struct state *s = nr_scratch(layer, req);

	if (!req->error || !nr_again_helps(req) || nr_again_in_vain(req) || s->tries == r->times) {
		nr_finish(layer, req, req->error);
		return;
	}
	s->tries++;
	nr_again_prepare(req);
	nr_sleep(layer, req, r->delay);
}

static void retry_resume(struct nr_layer *layer, struct nr_request *req)
{
	nr_pass(layer, req);
}

const struct nr_layer_type nr_retry_request_type = {
	.abi = NR_LAYER_ABI,
	.name = "retry-request",
	.summary = "tries requests that fail again",
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
};
