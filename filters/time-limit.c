/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * After so long, a client's requests fail.
 *
 * A client's time begins when it is let in.  It is looked at when a request comes:
 * nothing is done to a client that keeps still, and a request that is under way when
 * the time is over ends as if nothing had happened.  The last flush of the server
 * itself belongs to no client and always passes.
 */
#include <errno.h>
#include <stddef.h>
#include <time.h>

#include "filters/filters.h"
#include "filters/policy-text.h"

struct limits {
	const char *text;
	uint64_t nanoseconds; /* 0: none */
};

/* Of a client. */
struct stay {
	uint64_t since; /* nanoseconds of the monotonic clock */
	bool over;      /* and that was said */
};

static int time_check(struct nr_layer *layer, struct nr_error *error)
{
	struct limits *l = layer->instance;

	if (!nr_policy_time(l->text, &l->nanoseconds))
		return nr_error_set(error, -EINVAL,
				    "time-limit=%s is not possible: write seconds (60, 1.5), or a "
				    "number with ms, us or ns behind it, at most %u seconds; 0 is "
				    "no limit",
				    l->text, NR_POLICY_SECONDS_MAX);
	return 0;
}

static int time_admit(struct nr_layer *layer, struct nr_session *session, struct nr_error *error)
{
	struct stay *stay = nr_session_data(layer, session);
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	stay->since = (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
	return 0;
}

static void time_submit(struct nr_layer *layer, struct nr_request *req)
{
	const struct limits *l = layer->instance;
	struct stay *stay = nr_session_data(layer, req->session);
	uint64_t now = nr_now(req->worker);

	/* The worker's clock may be a little behind: it is read once in a while. */
	if (!stay || !l->nanoseconds || now <= stay->since || now - stay->since <= l->nanoseconds) {
		nr_pass(layer, req);
		return;
	}
	if (!stay->over)
		nr_layer_log(
			layer, NR_LAYER_INFO,
			"client %s was served for time-limit=%s: its requests fail from now on",
			req->session->peer, l->text);
	stay->over = true;
	nr_finish(layer, req, -ESHUTDOWN);
}

static const struct nr_param time_params[] = {
	{
		.name = "time-limit",
		.type = NR_PARAM_STRING,
		.offset = offsetof(struct limits, text),
		.fallback = "60",
		.value = "SECONDS",
		.help = "how long a client is served; 0: for ever",
		.manual = "How long a client is served, in seconds, or in another unit that is "
			  "named: C<1.5>, C<500ms>, C<20us>.  0 is no limit.",
	},
	{ 0 },
};

const struct nr_layer_type nr_time_limit_type = {
	.abi = NR_LAYER_ABI,
	.name = "time-limit",
	.summary = "serves each client for a limited time",
	.kind = NR_FILTER,
	.placement = NR_SPREAD,
	.params = time_params,
	.instance_size = sizeof(struct limits),
	.session_size = sizeof(struct stay),
	.check = time_check,
	.admit = time_admit,
	.submit = time_submit,
	.contexts_pass = true,
};
