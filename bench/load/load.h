/* Running the load. See load.c. */
#ifndef BENCH_LOAD_LOAD_H
#define BENCH_LOAD_LOAD_H

#include "bench/load/conn.h"

struct load_result {
	struct tally tally;
	uint64_t elapsed_ns;
	uint64_t client_cpu_ns;
	uint64_t server_cpu_ns; /* 0 without --cpu-of */
};

/* Makes the load on connections that are through their handshake, and waits for its end. */
void load_run(const struct options *o, const struct client *clients, struct load_result *result);

#endif
