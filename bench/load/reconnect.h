/* A connection for each request. See reconnect.c. */
#ifndef BENCH_LOAD_RECONNECT_H
#define BENCH_LOAD_RECONNECT_H

#include "bench/load/client.h"
#include "bench/load/load.h"

/*
 * As load_run, but opens the connections, one after the other. *LAST is what was agreed on
 * the last one, which is closed.
 */
void reconnect_run(const struct options *o, const struct target *t, struct client *last,
		   struct load_result *result);

#endif
