/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The server stops when the last client has left.
 *
 * Each export has an instance of its own, while it is in use.  What is counted, the
 * clients of the server, is in memory that all of them share.
 *
 * Clients are admitted from the outermost filter to the innermost.  One that a filter
 * further in refuses has come in and left as far as this one can tell, which is why
 * the manual says where to put it.
 */
#include <stdatomic.h>

#include "filters/filters.h"

/* Of all exports. */
struct server {
	_Atomic uint64_t clients;
};

static int exitlast_admit(struct nr_layer *layer, struct nr_session *session,
			  struct nr_error *error)
{
	struct server *server = nr_shared_data(layer);

	atomic_fetch_add(&server->clients, 1);
	return 0;
}

static void exitlast_leave(struct nr_layer *layer, struct nr_session *session)
{
	struct server *server = nr_shared_data(layer);

	if (atomic_fetch_sub(&server->clients, 1) == 1 && session->admitted)
		nr_stop_server(layer, "exitlast: the last client has left");
}

const struct nr_layer_type nr_exitlast_type = {
	.abi = NR_LAYER_ABI,
	.name = "exitlast",
	.summary = "stops the server when the last client has left",
	.kind = NR_FILTER,
	.placement = NR_SPREAD,
	.shared_size = sizeof(struct server),
	.admit = exitlast_admit,
	.leave = exitlast_leave,
};
