/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Prefetching taken away: not offered, done by reading, or answered without
 * effect.  The first two are traits; the core does the reading.
 */
#include <stddef.h>

#include "filters/filters.h"

enum mode { MODE_NONE, MODE_EMULATE, MODE_NOP };

struct nocache {
	unsigned mode; /* enum mode */
};

static const char *const modes[] = { "none", "emulate", "nop", NULL };

static const struct nr_param params[] = {
	{
		.name = "cachemode",
		.type = NR_PARAM_CHOICE,
		.offset = offsetof(struct nocache, mode),
		.fallback = "none",
		.choices = modes,
		.value = "MODE",
		.help = "What becomes of requests to prefetch",
		.manual =
			"What becomes of requests to prefetch:\n\n"
			"=over 4\n\n"
			"=item B<none>\n\nClients are not offered the command.\n\n"
			"=item B<emulate>\n\n"
			"The range is read from below and the data dropped, also where the layers\n"
			"below could prefetch better.\n\n"
			"=item B<nop>\n\n"
			"The command is offered, and answered at once without any effect.\n\n"
			"=back",
	},
	{ .name = NULL },
};

static int nocache_describe(struct nr_layer *layer, struct nr_traits *t, struct nr_error *error)
{
	static const uint8_t support[] = {
		[MODE_NONE] = NR_NONE,
		[MODE_EMULATE] = NR_EMULATE,
		[MODE_NOP] = NR_NATIVE,
	};
	struct nocache *n = layer->instance;

	t->support[NR_CAP_CACHE] = support[n->mode];
	return 0;
}

/* Requests to prefetch come as far as this with MODE_NOP only. */
static void nocache_submit(struct nr_layer *layer, struct nr_request *req)
{
	if (req->operation == NR_CACHE)
		nr_finish(layer, req, 0);
	else
		nr_pass(layer, req);
}

const struct nr_layer_type nr_nocache_type = {
	.abi = NR_LAYER_ABI,
	.name = "nocache",
	.summary = "takes prefetching away, or does it by reading",
	.kind = NR_FILTER,
	.placement = NR_SPREAD,
	.params = params,
	.instance_size = sizeof(struct nocache),
	.describe = nocache_describe,
	.submit = nocache_submit,
	.contexts_pass = true,
};
