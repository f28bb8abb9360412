/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The server stops when the last client has left.
 *
 * There is one server in a process, however many exports it has, and each export has
 * an instance of its own, if it is in use.  So what is counted, the clients of the
 * server, belongs to no instance: it is one number of the process.  A client that
 * meets this filter twice in a stack counts twice, both ways.
 *
 * Clients are admitted from the outermost filter to the innermost.  One that a filter
 * further in refuses has come in and left as far as this one can tell, which is why
 * the manual says where to put it.
 */
#include <stdatomic.h>

#include "filters/filters.h"

static _Atomic uint64_t clients;

static int exitlast_admit(struct nr_layer *layer, struct nr_session *session,
			  struct nr_error *error)
{
	atomic_fetch_add(&clients, 1);
	return 0;
}

static void exitlast_leave(struct nr_layer *layer, struct nr_session *session)
{
	if (atomic_fetch_sub(&clients, 1) == 1 && session->admitted)
		nr_stop_server(layer, "exitlast: the last client has left");
}

const struct nr_layer_type nr_exitlast_type = {
	.abi = NR_LAYER_ABI,
	.name = "exitlast",
	.summary = "stops the server when the last client has left",
	.kind = NR_FILTER,
	.placement = NR_SPREAD,
	.admit = exitlast_admit,
	.leave = exitlast_leave,
};
