/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Slow disks: each operation waits before it goes on down.
 *
 * The wait is a timer of the request's worker; nothing else waits with it, and
 * requests that came together wait together.  The server keeps the times of coming and
 * going, which are those of all such filters in the stack together.
 */
#include <errno.h>

#include "filters/filters.h"
#include "filters/value.h"
#include "nbdring/checked.h"

/* What has a delay of its own. */
enum delay {
	DELAY_READ,
	DELAY_WRITE,
	DELAY_ZERO,
	DELAY_TRIM,
	DELAY_EXTENTS,
	DELAY_CACHE,
	DELAY_FLUSH,
	DELAY_OPEN,
	DELAY_CLOSE,
	DELAY_COUNT
};

struct delay_filter {
	const char *text[DELAY_COUNT], *rdelay, *wdelay;
	bool fast_zero;
	uint64_t wait[NR_OPERATION_COUNT]; /* nanoseconds */
	uint64_t open, close;
};

static const char *const names[DELAY_COUNT] = {
	[DELAY_READ] = "delay-read",       [DELAY_WRITE] = "delay-write",
	[DELAY_ZERO] = "delay-zero",       [DELAY_TRIM] = "delay-trim",
	[DELAY_EXTENTS] = "delay-extents", [DELAY_CACHE] = "delay-cache",
	[DELAY_FLUSH] = "delay-flush",     [DELAY_OPEN] = "delay-open",
	[DELAY_CLOSE] = "delay-close",
};

#define ROW(row_name, field, words, more)                                                       \
	{                                                                                       \
		.name = row_name, .type = NR_PARAM_STRING,                                      \
		.offset = offsetof(struct delay_filter, field), .value = "TIME", .help = words, \
		.manual = more,                                                                 \
	}

static const struct nr_param delay_params[] = {
	ROW("rdelay", rdelay, "How long reads wait: seconds, or NNms",
	    "How long reads wait.  Times are in seconds (C<2>, C<0.5>) or have a unit:\n"
	    "C<100ms>, C<20us>, C<5ns>."),
	ROW("wdelay", wdelay, "How long writes, zeroes and trims wait",
	    "How long writes, zeroes and trims wait.  B<delay-write=>, B<delay-zero=> and\n"
	    "B<delay-trim=> go before it."),
	ROW("delay-read", text[DELAY_READ], "The same as rdelay", NULL),
	ROW("delay-write", text[DELAY_WRITE], "How long writes wait", NULL),
	ROW("delay-zero", text[DELAY_ZERO], "How long zeroes wait", NULL),
	ROW("delay-trim", text[DELAY_TRIM], "How long trims wait", NULL),
	ROW("delay-extents", text[DELAY_EXTENTS], "How long requests for the map wait", NULL),
	ROW("delay-cache", text[DELAY_CACHE], "How long cache requests wait", NULL),
	ROW("delay-flush", text[DELAY_FLUSH], "How long flushes wait", NULL),
	ROW("delay-open", text[DELAY_OPEN], "How long a client waits to be let in",
	    "How long a client waits for the answer that it is let in.  One that goes away\n"
	    "meanwhile is gone at once."),
	ROW("delay-close", text[DELAY_CLOSE], "How long a client that says goodbye is kept",
	    "How long the connection stays open when a client has said goodbye.  One that\n"
	    "leaves without a word is not kept."),
	{
		.name = "delay-fast-zero",
		.type = NR_PARAM_BOOL,
		.offset = offsetof(struct delay_filter, fast_zero),
		.fallback = "true",
		.value = "BOOL",
		.help = "Fast zeroes wait like others; if not, they are refused at once",
		.manual = "Whether fast zeroes wait as other zeroes do.  With C<false> they are\n"
			  "refused at once, as a slow disk should, and clients write instead.",
	},
	{ .name = NULL },
};

static int parse(const char *name, const char *text, uint64_t *nanoseconds, struct nr_error *error)
{
	return text ? nr_value_duration(name, text, nanoseconds, error) : 0;
}

static int check(struct nr_layer *layer, struct nr_error *error)
{
	static const enum nr_operation operations[] = {
		[DELAY_READ] = NR_READ,   [DELAY_WRITE] = NR_WRITE,     [DELAY_ZERO] = NR_ZERO,
		[DELAY_TRIM] = NR_TRIM,   [DELAY_EXTENTS] = NR_EXTENTS, [DELAY_CACHE] = NR_CACHE,
		[DELAY_FLUSH] = NR_FLUSH,
	};
	struct delay_filter *d = layer->instance;
	int err;

	if (d->rdelay && d->text[DELAY_READ])
		return nr_error_set(error, -EINVAL,
				    "rdelay and delay-read are the same; give one of them");
	err = parse("rdelay", d->rdelay, &d->wait[NR_READ], error);
	if (!err)
		err = parse("wdelay", d->wdelay, &d->wait[NR_WRITE], error);
	d->wait[NR_ZERO] = d->wait[NR_TRIM] = d->wait[NR_WRITE];
	for (unsigned i = 0; i < DELAY_OPEN && !err; i++)
		err = parse(names[i], d->text[i], &d->wait[operations[i]], error);
	if (!err)
		err = parse(names[DELAY_OPEN], d->text[DELAY_OPEN], &d->open, error);
	if (!err)
		err = parse(names[DELAY_CLOSE], d->text[DELAY_CLOSE], &d->close, error);
	return err;
}

static void add(uint64_t *time, uint64_t more)
{
	if (!nr_add(*time, more, time))
		*time = UINT64_MAX;
}

static int admit(struct nr_layer *layer, struct nr_session *session, struct nr_error *error)
{
	const struct delay_filter *d = layer->instance;

	add(&session->admit_after, d->open);
	add(&session->leave_after, d->close);
	return 0;
}

static void submit(struct nr_layer *layer, struct nr_request *req)
{
	struct delay_filter *d = layer->instance;
	uint64_t wait;

	if ((req->flags & NR_FAST_ZERO) && !d->fast_zero) {
		nr_finish(layer, req, -ENOTSUP);
		return;
	}
	wait = d->wait[req->operation];
	if (wait)
		nr_sleep(layer, req, wait);
	else
		nr_pass(layer, req);
}

const struct nr_layer_type nr_delay_type = {
	.abi = NR_LAYER_ABI,
	.name = "delay",
	.summary = "makes requests wait",
	.kind = NR_FILTER,
	.placement = NR_SPREAD,
	.params = delay_params,
	.instance_size = sizeof(struct delay_filter),
	.check = check,
	.admit = admit,
	.submit = submit,
	.contexts_pass = true,
	.resume = nr_pass,
};
