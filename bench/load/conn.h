/*
 * One connection under load: its requests in flight, its two outgoing batches, its receive
 * window. Owned by one worker; touched by no other thread.
 */
#ifndef BENCH_LOAD_CONN_H
#define BENCH_LOAD_CONN_H

#include "bench/load/client.h"
#include "bench/load/hist.h"
#include "bench/load/options.h"
#include "bench/common/gather.h"

#include <stdbool.h>
#include <stdint.h>

/* What a worker counts. */
struct tally {
	uint64_t requests; /* answered, well or with an error */
	uint64_t bytes;    /* of those answered well */
	uint64_t errors;
	uint64_t mismatches;
	int first_error;     /* errno */
	struct hist latency; /* of those answered well, but for flushes */
	uint64_t flushes;    /* of the requests */
	struct hist flush_latency;
};

/* What all connections of a run share; constant while it runs, but for `written`. */
struct plan {
	const struct options *options;
	const struct nr_client_agreement *agreement;
	uint16_t write_flags;
	uint64_t range_offset;
	uint64_t blocks;  /* in the range */
	uint8_t *written; /* VERIFY_WRITTEN: one byte per block, set when it was acknowledged */
	uint8_t *payload; /* what is written when nothing is verified */
};

/* A request in flight. */
struct slot {
	uint64_t cookie; /* 0: free */
	uint64_t started;
	struct nr_client_request wire;
	bool check; /* compare what comes with the content written */
	bool wrong; /* answered with other content */
};

/* The chunk whose payload is arriving. */
struct chunk {
	struct slot *slot;
	uint64_t left;
	uint64_t offset; /* of the next byte, in the export */
	bool last;       /* ends the answer */
};

struct worker_view {
	uint64_t now; /* ns; refreshed once or twice a turn */
	uint64_t in_flight;
	struct tally tally;
};

struct conn {
	unsigned index;
	int fd;
	struct worker_view *view;
	const struct plan *plan;

	struct gather batch[2];
	unsigned filling; /* the batch that takes new requests; the other is being sent */
	bool sending;

	uint8_t *window;
	size_t window_size;
	size_t have; /* bytes at the start of the window that are not yet a whole header */
	bool receiving;
	bool drained; /* the last receive took all there was */
	struct chunk chunk;

	struct slot *slots;
	unsigned *free_slots; /* a stack of places in `slots` */
	unsigned free_count;
	uint32_t generation;
	uint8_t *payloads; /* verify: one block per slot */

	uint64_t budget;    /* reads and writes still to send */
	unsigned unflushed; /* writes sent since the last flush */
	bool flushing;      /* a flush is in flight, alone */
	uint64_t random;
	uint64_t first_block, stripe; /* sequential: the connection's part of the range */
	uint64_t position;

	bool touched; /* something happened this turn */
	struct conn *next_touched;
};

void conn_open(struct conn *c, unsigned index, int fd, struct worker_view *view,
	       const struct plan *plan);
void conn_close(struct conn *c);

/* Puts new requests into the filling batch, as many as depth and batch allow. */
void conn_fill(struct conn *c);

/* Nothing new from now on. */
void conn_stop(struct conn *c);

/* Takes answers out of `have` received bytes; returns how many bytes are used up. */
size_t conn_parse(struct conn *c, const uint8_t *data, size_t have);

/* Ends the program: without one connection the figures mean nothing. */
_Noreturn void conn_lost(const struct conn *c, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

#endif
