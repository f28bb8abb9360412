/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Answers that come late and in another order than they were asked for.
 *
 * Every finished request is held for a random time below the window, so of those
 * that are under way together any may come first.  What is done is done in the order
 * in which it would be without this filter; only the answers move.
 */
#include "filters/filters.h"
#include "filters/random.h"
#include "filters/value.h"

struct short_filter {
	const char *window_text;
	uint64_t window; /* nanoseconds */
	uint64_t seed;
	_Atomic uint64_t held;
};

static const struct nr_param short_params[] = {
	{
		.name = "window",
		.type = NR_PARAM_STRING,
		.offset = offsetof(struct short_filter, window_text),
		.fallback = "10ms",
		.value = "TIME",
		.help = "The longest that an answer is held: seconds, or NNms",
		.manual = "The longest that an answer is held.  Each is held for a random part of\n"
			  "this time, in seconds (C<1>, C<0.2>) or with a unit: C<50ms>,\n"
			  "C<300us>.",
	},
	{
		.name = "seed",
		.type = NR_PARAM_UINT,
		.offset = offsetof(struct short_filter, seed),
		.fallback = "1",
		.value = "N",
		.help = "Which sequence of times; the same one gives the same times",
		.manual =
			"Where chance begins.  With the same seed the first, second, … answer is\n"
			"held for the same time in each run.",
	},
	{ .name = NULL },
};

static int check(struct nr_layer *layer, struct nr_error *error)
{
	struct short_filter *s = layer->instance;

	return nr_value_duration("window", s->window_text, &s->window, error);
}

static void finish(struct nr_layer *layer, struct nr_request *req)
{
	nr_finish(layer, req, req->error);
}

static void done(struct nr_layer *layer, struct nr_request *req)
{
	struct short_filter *s = layer->instance;
	uint64_t wait = nr_random_below(nr_random_next(s->seed, &s->held), s->window);

	if (wait)
		nr_sleep(layer, req, wait);
	else
		finish(layer, req);
}

const struct nr_layer_type nr_short_type = {
	.abi = NR_LAYER_ABI,
	.name = "short",
	.summary = "answers late and out of order",
	.kind = NR_FILTER,
	.placement = NR_SPREAD,
	.params = short_params,
	.instance_size = sizeof(struct short_filter),
	.check = check,
	.done = done,
	.contexts_pass = true,
	.data_passes = true,
	.resume = finish,
};
