/* One NBD connection up to the transmission phase. See client.c. */
#ifndef BENCH_LOAD_CLIENT_H
#define BENCH_LOAD_CLIENT_H

#include "bench/load/options.h"
#include "bench/load/target.h"
#include "src/protocol/client-reply.h"

#include <stdbool.h>
#include <stdint.h>

struct client {
	int fd;
	struct nr_client_agreement agreement;
};

struct client_error {
	char text[256];
};

/*
 * Connects and goes through the whole handshake; which of --exports it asks for follows from
 * `index`. False: `error` says why, nothing is open.
 */
bool client_open(struct client *c, unsigned index, const struct target *t, const struct options *o,
		 struct client_error *error);

/* One blocking read request and its whole answer; only while no load is running. */
bool client_read_once(struct client *c, uint64_t offset, uint32_t length,
		      struct client_error *error);

/* Says goodbye and closes. */
void client_close(struct client *c);

#endif
