/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Driving layers from tests: open a stack from a line of text, and send it
 * requests as the server would.
 *
 *	struct layer_test *t = layer_test_open(NULL, "offset offset=4k | memory 1M");
 *	struct layer_client *c = layer_client(t, 0);
 *
 *	assert_int_equal(layer_write(c, 0, 5, "hello", 0), 0);
 *	assert_string_equal(layer_map(c, 0, 8192), "4096:data 4096:hole,zero");
 *	layer_test_close(t);
 *
 * A plan names the layers from the client's side down, with `|` between them and
 * parameters as on the command line; a bare word goes to the main parameter.
 * Words that hold spaces or `|` are quoted, as in twin='memory 1M'.
 *
 * A client is one worker and its thread: any thread may use one, one thread at
 * a time.  Several clients use the stack at once, as workers do.
 *
 * Data to be written is copied to memory of exactly its size, aligned as the
 * stack asks for and no more, and freed when the request ends: a layer that
 * reads past the end or too late is found by the address sanitizer.
 *
 * What must not happen (a request that ends twice, a plan that should open and
 * does not) ends the process with a message, so all of this works in threads
 * other than cmocka's as well.  Errors of requests are returned.
 */
#ifndef TESTS_UNIT_LAYER_TEST_H
#define TESTS_UNIT_LAYER_TEST_H

#undef NDEBUG

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "nbdring/layer.h"
#include "src/stack/stack.h"
#include "src/stack/worker.h"

/* For tests that run in threads, where cmocka's asserts may not be used. */
#define LAYER_CHECK(condition)                                                                    \
	do {                                                                                      \
		if (!(condition)) {                                                               \
			fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__, #condition); \
			abort();                                                                  \
		}                                                                                 \
	} while (0)

struct layer_client;
struct layer_test;

/* All of it may be left out. */
struct layer_options {
	unsigned workers;                    /* 0: 1 */
	bool ring;                           /* each worker has a ring, for layers that do I/O */
	bool read_only;                      /* as -r */
	bool takes_pipes;                    /* reads may be answered out of pipes */
	uint64_t slots_max;                  /* requests of a worker, 0: no limit */
	uint64_t segment_bytes;              /* writes come in segments of this many, 0: one */
	const char *export_name;             /* NULL: "" */
	const struct nr_layer_type *aligner; /* see struct nr_plan */
	const struct nr_surroundings *surroundings;
	/*
	 * Another stack of the same plan, as that of another export of the server; it is
	 * closed last.
	 */
	struct layer_test *beside;
	const struct nr_layer_type *const *types; /* known besides the built-in ones; NULL-ended */
};

/* Open PLAN (printf).  OPTIONS may be NULL. */
struct layer_test *layer_test_open(const struct layer_options *options, const char *plan, ...)
	__attribute__((format(printf, 2, 3)));

/* Open PLAN if it can be: NULL, and why not in ERROR. */
struct layer_test *layer_test_try(const struct layer_options *options, struct nr_error *error,
				  const char *plan, ...) __attribute__((format(printf, 3, 4)));

/* PLAN must not open: the error, whose text is in ERROR. */
int layer_test_refused(const struct layer_options *options, struct nr_error *error,
		       const char *plan, ...) __attribute__((format(printf, 3, 4)));

/* All requests must have been ended. */
void layer_test_close(struct layer_test *t);

struct nr_stack *layer_test_stack(struct layer_test *t);
const struct nr_traits *layer_test_traits(struct layer_test *t);
uint64_t layer_test_size(struct layer_test *t);
struct layer_client *layer_client(struct layer_test *t, unsigned worker);
struct nr_worker *layer_client_worker(struct layer_client *c);
struct layer_test *layer_client_test(struct layer_client *c);

/*
 * One request after the other: 0 or negative errno.  Reads and writes longer
 * than the stack's block_max go in pieces, as the server sends them.
 */
int layer_read(struct layer_client *c, uint64_t offset, uint64_t length, void *data);
int layer_write(struct layer_client *c, uint64_t offset, uint64_t length, const void *data,
		uint32_t flags);
int layer_trim(struct layer_client *c, uint64_t offset, uint64_t length, uint32_t flags);
int layer_zero(struct layer_client *c, uint64_t offset, uint64_t length, uint32_t flags);
int layer_cache(struct layer_client *c, uint64_t offset, uint64_t length);
int layer_flush(struct layer_client *c);
int layer_resize(struct layer_client *c, uint64_t size);

/* One NR_EXTENTS: fills LIST, for which the caller gives `extent` and `capacity`. */
int layer_extents(struct layer_client *c, uint64_t offset, uint64_t length, uint32_t flags,
		  struct nr_extents *list);

/*
 * The map of a range, asked for until it is complete, as text:
 * "65536:data 983040:hole,zero".  The client's memory, until the next call.
 */
const char *layer_map(struct layer_client *c, uint64_t offset, uint64_t length);

/* Shorthand: one byte value, written to or expected in all of a range. */
int layer_fill(struct layer_client *c, uint64_t offset, uint64_t length, uint8_t byte);
bool layer_is(struct layer_client *c, uint64_t offset, uint64_t length, uint8_t byte);

/*
 * Several requests at a time: start, wait, look (req->error, the segments), end.
 * DATA is for writes, LIST for NR_EXTENTS (set up by this call), else NULL.
 */
struct nr_request *layer_start(struct layer_client *c, enum nr_operation operation, uint32_t flags,
			       uint64_t offset, uint64_t length, const void *data,
			       struct nr_extents *list);
bool layer_finished(const struct nr_request *req);
/* Let the client's worker work once; do not wait. */
void layer_turn(struct layer_client *c);
/* Until REQ is finished: its error. */
int layer_wait(struct layer_client *c, struct nr_request *req);
/* Give it back, and the buffers of its answer with it. */
void layer_end(struct layer_client *c, struct nr_request *req);

/* Pseudo-random numbers: the same ones for the same seed. */
uint64_t layer_random(uint64_t *state);
/* From 0 to LIMIT - 1. */
uint64_t layer_random_below(uint64_t *state, uint64_t limit);
/* FALLBACK, or NBDRING_TEST_SEED from the environment; says which, to be seen on failure. */
uint64_t layer_seed(uint64_t fallback);

/*
 * Where choices come from: a seed, or bytes that somebody else chose (a fuzzer), which
 * last until they are used up; from then on every choice is 0.
 */
struct layer_choices {
	uint64_t seed;
	const uint8_t *bytes; /* NULL: the seed counts */
	size_t count;         /* bytes left */
};

/* From 0 to LIMIT - 1. */
uint64_t layer_choose(struct layer_choices *choices, uint64_t limit);
/* Are there bytes, and none left? */
bool layer_choices_over(const struct layer_choices *choices);

/*
 * A property test: random requests, each compared with plain memory.  The
 * stack's size should be small (it is mirrored in memory).
 */
struct layer_model {
	uint64_t seed;
	struct layer_choices *choices; /* to take the requests from; NULL: the seed */
	unsigned requests;             /* how many; fewer when the choices are over */
	uint64_t length_max;           /* of one request, bytes; 0: 64 KiB */
	bool trim_zeroes;              /* trimmed bytes must read as zeroes; else anything stable */
	bool check_extents;            /* what the map calls zero must be zero */
};

void layer_model_run(struct layer_client *c, const struct layer_model *model);

#endif
