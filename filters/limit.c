/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * At most N clients at once.
 *
 * A client counts from `admit` to `leave`, which any thread may call, so the count
 * is an atomic that never goes over the limit: a newcomer is in only when its own
 * exchange brought it in.  Requests pass by.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stddef.h>

#include "filters/filters.h"

struct limit {
	uint64_t max;
	_Atomic uint64_t clients;
};

static int limit_admit(struct nr_layer *layer, struct nr_session *session, struct nr_error *error)
{
	struct limit *l = layer->instance;
	uint64_t clients = atomic_load(&l->clients);

	do {
		if (l->max && clients >= l->max)
			return nr_error_set(error, -EPERM,
					    "limit=%" PRIu64 ": so many clients are connected "
					    "already; try again when one has left",
					    l->max);
	} while (!atomic_compare_exchange_weak(&l->clients, &clients, clients + 1));
	return 0;
}

static void limit_leave(struct nr_layer *layer, struct nr_session *session)
{
	struct limit *l = layer->instance;

	atomic_fetch_sub(&l->clients, 1);
}

static const struct nr_param limit_params[] = {
	{
		.name = "limit",
		.type = NR_PARAM_UINT,
		.offset = offsetof(struct limit, max),
		.fallback = "1",
		.value = "N",
		.help = "how many clients may be connected at once; 0: any number",
		.manual = "How many clients may be connected to the export at once.  With 0 "
			  "the filter does nothing.",
	},
	{ 0 },
};

const struct nr_layer_type nr_limit_type = {
	.abi = NR_LAYER_ABI,
	.name = "limit",
	.summary = "lets in a limited number of clients at once",
	.kind = NR_FILTER,
	.placement = NR_SPREAD,
	.params = limit_params,
	.instance_size = sizeof(struct limit),
	.admit = limit_admit,
	.leave = limit_leave,
};
