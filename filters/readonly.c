/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * No writing: always, or while a file exists.
 *
 * Without a file this is a trait, and no request costs anything.  With one,
 * clients are told that the disk can be written to, because a connected client
 * cannot be told otherwise later, and what changes the disk is refused while the
 * file is there.
 */
#include <errno.h>
#include <stddef.h>

#include "filters/filters.h"
#include "filters/flagfile.h"

struct readonly {
	const char *file; /* NULL: always */
	struct nr_flagfile *flag;
};

static const struct nr_param params[] = {
	{
		.name = "readonly-file",
		.type = NR_PARAM_PATH,
		.offset = offsetof(struct readonly, file),
		.value = "FILE",
		.help = "Refuse writing only while this file exists",
		.manual =
			"Refuse writing only while this file exists.  It is looked for ten times\n"
			"a second; what it holds does not matter.\n\n"
			"Clients are told that the disk can be written to.  While the file is\n"
			"there, their requests to write, zero, trim and resize fail with EPERM,\n"
			"\"Operation not permitted\".\n\n"
			"Without this parameter the disk is read-only from the beginning, and\n"
			"clients are told so.",
	},
	{ .name = NULL },
};

static int readonly_open(struct nr_layer *layer, struct nr_error *error)
{
	struct readonly *r = layer->instance;

	if (!r->file)
		return 0;
	r->flag = nr_flagfile_watch(r->file, error);
	return r->flag ? 0 : error->code;
}

static void readonly_close(struct nr_layer *layer)
{
	struct readonly *r = layer->instance;

	nr_flagfile_unwatch(r->flag);
}

static int readonly_describe(struct nr_layer *layer, struct nr_traits *t, struct nr_error *error)
{
	struct readonly *r = layer->instance;

	if (!r->file)
		t->read_only = true;
	return 0;
}

static void readonly_submit(struct nr_layer *layer, struct nr_request *req)
{
	struct readonly *r = layer->instance;
	bool changes = req->operation == NR_WRITE || req->operation == NR_ZERO ||
		       req->operation == NR_TRIM || req->operation == NR_RESIZE;

	if (changes && r->flag && nr_flagfile_set(r->flag))
		nr_finish(layer, req, -EROFS);
	else
		nr_pass(layer, req);
}

const struct nr_layer_type nr_readonly_type = {
	.abi = NR_LAYER_ABI,
	.name = "readonly",
	.summary = "no writing, always or while a file exists",
	.kind = NR_FILTER,
	.placement = NR_SPREAD,
	.params = params,
	.instance_size = sizeof(struct readonly),
	.open = readonly_open,
	.describe = readonly_describe,
	.submit = readonly_submit,
	.contexts_pass = true,
	.close = readonly_close,
};
