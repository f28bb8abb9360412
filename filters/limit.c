/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * At most N clients at once, of the server and of each export.
 *
 * A client counts from `admit` to `leave`, which any thread may call, so each count
 * is an atomic that never goes over its limit: a newcomer is in only when its own
 * exchange brought it in.  The count of the server is in memory that the instances of
 * all exports share.  Requests pass by.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

#include "filters/filters.h"

struct limit {
	uint64_t max, export_max; /* 0: any number */
	_Atomic uint64_t clients; /* of the export */
};

/* Of all exports. */
struct server {
	_Atomic uint64_t clients;
};

/* A limit that cannot be reached is a mistake. */
static int limit_check(struct nr_layer *layer, struct nr_error *error)
{
	const struct limit *l = layer->instance;

	if (l->max && l->export_max >= l->max)
		return nr_error_set(error, -EINVAL,
				    "export-limit=%" PRIu64 " is never reached with limit=%" PRIu64
				    " for the server%s: write a higher limit=, or limit=0 for none",
				    l->export_max, l->max,
				    l->max == 1 ? ", which is the default" : "");
	return 0;
}

/* False: full. */
static bool count_in(_Atomic uint64_t *clients, uint64_t max)
{
	uint64_t now = atomic_load(clients);

	do {
		if (max && now >= max)
			return false;
	} while (!atomic_compare_exchange_weak(clients, &now, now + 1));
	return true;
}

static int limit_admit(struct nr_layer *layer, struct nr_session *session, struct nr_error *error)
{
	struct limit *l = layer->instance;
	struct server *server = nr_shared_data(layer);

	if (!count_in(&server->clients, l->max))
		return nr_error_set(error, -EPERM,
				    "limit=%" PRIu64 ": so many clients are connected "
				    "already; try again when one has left",
				    l->max);
	if (count_in(&l->clients, l->export_max))
		return 0;
	atomic_fetch_sub(&server->clients, 1);
	return nr_error_set(error, -EPERM,
			    "export-limit=%" PRIu64 ": so many clients use this export already; "
			    "try again when one has left",
			    l->export_max);
}

static void limit_leave(struct nr_layer *layer, struct nr_session *session)
{
	struct limit *l = layer->instance;
	struct server *server = nr_shared_data(layer);

	atomic_fetch_sub(&l->clients, 1);
	atomic_fetch_sub(&server->clients, 1);
}

static const struct nr_param limit_params[] = {
	{
		.name = "limit",
		.type = NR_PARAM_UINT,
		.offset = offsetof(struct limit, max),
		.fallback = "1",
		.value = "N",
		.help = "how many clients may be connected at once; 0: any number",
		.manual = "How many clients may be connected to the server at once, whichever "
			  "exports they use.  0 is any number.",
	},
	{
		.name = "export-limit",
		.type = NR_PARAM_UINT,
		.offset = offsetof(struct limit, export_max),
		.fallback = "0",
		.value = "N",
		.help = "how many clients may use one export at once; 0: any number",
		.manual = "How many clients may use each export at once.  B<limit=> has to be "
			  "higher, or 0.  0 is any number.",
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
	.shared_size = sizeof(struct server),
	.check = limit_check,
	.admit = limit_admit,
	.leave = limit_leave,
};
