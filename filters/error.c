/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Errors to order, for testing clients.
 *
 * Each operation has a rule: which error, how often, while which file exists.  A
 * request that a rule could strike is counted, and the count decides by way of the
 * seed (random.h) whether it is struck; a struck request goes no further down.  While
 * the rule's file is missing nothing is counted, so a run that is triggered by a file
 * repeats whenever the file appears.
 */
#include <errno.h>
#include <stdatomic.h>

#include "filters/filters.h"
#include "filters/flagfile.h"
#include "filters/random.h"
#include "filters/value.h"

struct rule {
	/* Parameters; of the row for all operations, and of each. */
	unsigned choice;
	const char *rate;
	const char *path;
	/* What follows from them. */
	int error;
	double chance;
	struct nr_flagfile *file; /* NULL: no file is waited for */
};

struct error_filter {
	struct rule general;
	struct rule rule[NR_OPERATION_COUNT];
	uint64_t after, count, seed;
	struct tally *tally;
};

/* Of all exports, so that one that is closed and opened again goes on where it was. */
struct tally {
	_Atomic uint64_t requests; /* that a rule could strike */
	_Atomic uint64_t struck;
};

static const struct {
	const char *error, *rate; /* names of the parameters */
} names[NR_OPERATION_COUNT] = {
	[NR_READ] = { "error-pread", "error-pread-rate" },
	[NR_WRITE] = { "error-pwrite", "error-pwrite-rate" },
	[NR_FLUSH] = { "error-flush", "error-flush-rate" },
	[NR_TRIM] = { "error-trim", "error-trim-rate" },
	[NR_ZERO] = { "error-zero", "error-zero-rate" },
	[NR_CACHE] = { "error-cache", "error-cache-rate" },
	[NR_EXTENTS] = { "error-extents", "error-extents-rate" },
	[NR_RESIZE] = { "error-resize", "error-resize-rate" },
};

/* The first: as error= says. */
static const char *const choices[] = { "default", "EPERM",     "EIO",     "ENOMEM", "EINVAL",
				       "ENOSPC",  "ESHUTDOWN", "ENOTSUP", NULL };
static const int errors[] = { 0, -EPERM, -EIO, -ENOMEM, -EINVAL, -ENOSPC, -ESHUTDOWN, -ENOTSUP };

#define ERRNO_PLACE "ERRNO"

#define OPERATION_ROWS(operation, index, what)                                              \
	{                                                                                   \
		.name = "error-" operation,                                                 \
		.type = NR_PARAM_CHOICE,                                                    \
		.offset = offsetof(struct error_filter, rule[index].choice),                \
		.fallback = "default",                                                      \
		.choices = choices,                                                         \
		.value = ERRNO_PLACE,                                                       \
		.help = "The error of " what ", if it shall be another",                    \
	},                                                                                  \
		{                                                                           \
			.name = "error-" operation "-rate",                                 \
			.type = NR_PARAM_STRING,                                            \
			.offset = offsetof(struct error_filter, rule[index].rate),          \
			.value = "RATE",                                                    \
			.help = "How often " what " fail, if it shall be another rate",     \
		},                                                                          \
	{                                                                                   \
		.name = "error-" operation "-file", .type = NR_PARAM_PATH,                  \
		.offset = offsetof(struct error_filter, rule[index].path), .value = "PATH", \
		.help = "While which file exists " what " fail, if it shall be another",    \
	}

static const struct nr_param error_params[] = {
	{
		.name = "error",
		.type = NR_PARAM_CHOICE,
		.offset = offsetof(struct error_filter, general.choice),
		.fallback = "EIO",
		.choices = choices + 1,
		.value = ERRNO_PLACE,
		.help = "The error that requests fail with",
		.manual = "The error that requests fail with; one of those that the NBD protocol\n"
			  "has.",
	},
	{
		.name = "error-rate",
		.type = NR_PARAM_STRING,
		.offset = offsetof(struct error_filter, general.rate),
		.value = "RATE",
		.help = "How often requests fail: N%, 0 to 1, or N:M; default 0%, or 100% with "
			"error-after= or error-count=",
		.manual = "How often requests fail: a percentage (C<10%>), a number from 0 to 1\n"
			  "(C<0.1>), or one number out of another (C<1:10>).\n\n"
			  "The default is C<0%>, no errors, unless B<error-after=> or\n"
			  "B<error-count=> is given: then it is C<100%>.",
	},
	{
		.name = "error-file",
		.type = NR_PARAM_PATH,
		.offset = offsetof(struct error_filter, general.path),
		.value = "PATH",
		.help = "Requests fail only while this file exists",
		.manual = "Requests fail only while this file exists.  A rate has to be given,\n"
			  "too.  It may take a moment until the server notices that the file was\n"
			  "made or removed.",
	},
	{
		.name = "error-after",
		.type = NR_PARAM_UINT,
		.offset = offsetof(struct error_filter, after),
		.fallback = "0",
		.value = "N",
		.help = "The first N requests go well",
		.manual =
			"The first N requests go well.  Only requests that could fail count:\n"
			"those of operations with a rate above 0, while the file exists if there\n"
			"is one.",
	},
	{
		.name = "error-count",
		.type = NR_PARAM_UINT,
		.offset = offsetof(struct error_filter, count),
		.min = 1,
		.value = "N",
		.help = "After N errors there are no more; default: no limit",
		.manual = "After N errors there are no more.  Without this, they do not end.",
	},
	{
		.name = "seed",
		.type = NR_PARAM_UINT,
		.offset = offsetof(struct error_filter, seed),
		.fallback = "1",
		.value = "N",
		.help = "Which sequence of chances; the same one gives the same errors",
		.manual =
			"Where chance begins.  With the same seed the same requests fail, counted\n"
			"from the start of the server, in each run.",
	},
	OPERATION_ROWS("pread", NR_READ, "reads"),
	OPERATION_ROWS("pwrite", NR_WRITE, "writes"),
	OPERATION_ROWS("trim", NR_TRIM, "trims"),
	OPERATION_ROWS("zero", NR_ZERO, "zeroes"),
	OPERATION_ROWS("extents", NR_EXTENTS, "requests for the map"),
	OPERATION_ROWS("cache", NR_CACHE, "cache requests"),
	OPERATION_ROWS("flush", NR_FLUSH, "flushes"),
	OPERATION_ROWS("resize", NR_RESIZE, "changes of size"),
	{ .name = NULL },
};

static int check(struct nr_layer *layer, struct nr_error *error)
{
	struct error_filter *e = layer->instance;
	struct rule *general = &e->general;
	int err = 0;

	general->error = errors[general->choice + 1];
	general->chance = e->after || e->count ? 1 : 0;
	if (general->rate)
		err = nr_value_probability("error-rate", general->rate, &general->chance, error);
	for (unsigned i = 0; i < NR_OPERATION_COUNT && !err; i++) {
		struct rule *rule = &e->rule[i];

		rule->error = rule->choice ? errors[rule->choice] : general->error;
		rule->chance = general->chance;
		if (rule->rate)
			err = nr_value_probability(names[i].rate, rule->rate, &rule->chance, error);
		if (!rule->path)
			rule->path = general->path;
		if (!err && i != NR_ZERO && rule->choice && rule->error == -ENOTSUP)
			err = nr_error_set(error, -EINVAL,
					   "%s: ENOTSUP is an answer to fast zeroes only; use it "
					   "with error-zero=",
					   names[i].error);
	}
	return err;
}

static void close_files(struct nr_layer *layer)
{
	struct error_filter *e = layer->instance;

	for (unsigned i = 0; i < NR_OPERATION_COUNT; i++)
		if (e->rule[i].file)
			nr_flagfile_unwatch(e->rule[i].file);
}

static int open_files(struct nr_layer *layer, struct nr_error *error)
{
	struct error_filter *e = layer->instance;

	e->tally = nr_shared_data(layer);
	for (unsigned i = 0; i < NR_OPERATION_COUNT; i++) {
		struct rule *rule = &e->rule[i];

		if (!rule->path || !(rule->chance > 0))
			continue;
		rule->file = nr_flagfile_watch(rule->path, error);
		if (!rule->file) {
			close_files(layer);
			return error && error->code ? error->code : -EIO;
		}
	}
	return 0;
}

static bool strikes(struct error_filter *e, const struct rule *rule)
{
	uint64_t n;

	if (!(rule->chance > 0) || (rule->file && !nr_flagfile_set(rule->file)))
		return false;
	n = atomic_fetch_add_explicit(&e->tally->requests, 1, memory_order_relaxed);
	if (n < e->after || !nr_random_hit(nr_random_at(e->seed, n), rule->chance))
		return false;
	return e->count == 0 ||
	       atomic_fetch_add_explicit(&e->tally->struck, 1, memory_order_relaxed) < e->count;
}

static void submit(struct nr_layer *layer, struct nr_request *req)
{
	struct error_filter *e = layer->instance;
	const struct rule *rule = &e->rule[req->operation];

	if (strikes(e, rule))
		nr_finish(layer, req, rule->error);
	else
		nr_pass(layer, req);
}

const struct nr_layer_type nr_error_type = {
	.abi = NR_LAYER_ABI,
	.name = "error",
	.summary = "makes requests fail, to test clients",
	.kind = NR_FILTER,
	.placement = NR_SPREAD,
	.params = error_params,
	.instance_size = sizeof(struct error_filter),
	.shared_size = sizeof(struct tally),
	.check = check,
	.open = open_files,
	.submit = submit,
	.contexts_pass = true,
	.close = close_files,
};
