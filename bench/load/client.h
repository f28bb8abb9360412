/* One NBD connection up to the transmission phase. See client.c. */
#ifndef BENCH_LOAD_CLIENT_H
#define BENCH_LOAD_CLIENT_H

#include "bench/load/options.h"
#include "bench/load/target.h"

#include <stdbool.h>
#include <stdint.h>

struct client {
	int fd;
	enum reply_style style; /* what was agreed, never REPLY_BEST */
	uint64_t size;
	uint16_t flags;
	uint32_t block_min;   /* 1 if the server does not say */
	uint32_t payload_max; /* UINT32_MAX if the server does not say */
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

/* Writes a request in the form agreed; returns how long it is. */
size_t client_request(enum reply_style style, uint8_t *to, unsigned command, unsigned flags,
		      uint64_t cookie, uint64_t offset, uint32_t length);

#endif
