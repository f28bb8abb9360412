/* SPDX-License-Identifier: BSD-3-Clause */
/* What the tests of the ring share: a ring per test, and an operation that remembers its end. */
#ifndef TESTS_UNIT_TEST_RING_COMMON_H
#define TESTS_UNIT_TEST_RING_COMMON_H

#undef NDEBUG

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "ring/arena.h"
#include "ring/ring.h"

#define MIB ((size_t)1024 * 1024)

/* An operation of a test. */
struct operation {
	struct nr_completion c; /* first: the completion is the operation */
	int64_t result;
	unsigned ended;
};

static inline void operation_done(struct nr_ring *ring, struct nr_completion *c)
{
	struct operation *o = (struct operation *)c;

	(void)ring;
	o->result = c->result;
	o->ended++;
	assert_false(nr_completion_busy(c));
}

static inline void operation_init(struct operation *o)
{
	memset(o, 0, sizeof(*o));
	o->c.done = operation_done;
}

/* Turns until O has ended once more; its result. */
static inline int64_t operation_wait(struct nr_ring *ring, struct operation *o)
{
	while (o->ended == 0)
		nr_ring_turn(ring, true);
	assert_int_equal(o->ended, 1);
	o->ended = 0;
	return o->result;
}

static inline struct nr_ring *ring_new_spinning(unsigned entries, uint32_t spin_ns)
{
	struct nr_ring_options options = {
		.entries = entries,
		.spin_ns = spin_ns,
		.arena_bytes = 16 * MIB,
		.pinned_bytes = 4 * MIB,
	};
	struct nr_error error = { 0 };
	struct nr_ring *ring = NULL;
	int result = nr_ring_create(&ring, &options, &error);

	if (result < 0)
		print_error("%s\n", error.text);
	assert_int_equal(result, 0);
	return ring;
}

static inline struct nr_ring *ring_new(unsigned entries)
{
	return ring_new_spinning(entries, 0);
}

static inline int ring_setup(void **state)
{
	*state = ring_new(64);
	return 0;
}

static inline int ring_teardown(void **state)
{
	struct nr_ring *ring = *state;

	assert_int_equal(nr_ring_in_flight(ring), 0);
	nr_ring_destroy(ring);
	return 0;
}

static inline void make_pair(int pair[2])
{
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
}

static inline void close_both(const int pair[2])
{
	close(pair[0]);
	close(pair[1]);
}

/* Bytes that tell their position, so that a shift or a swap shows. */
static inline void fill_pattern(void *data, size_t length, uint64_t position)
{
	unsigned char *p = data;

	for (size_t i = 0; i < length; i++) {
		uint64_t at = position + i;

		p[i] = (unsigned char)(at ^ (at >> 8) ^ (at >> 16));
	}
}

static inline void check_pattern(const void *data, size_t length, uint64_t position)
{
	const unsigned char *p = data;

	for (size_t i = 0; i < length; i++) {
		uint64_t at = position + i;

		if (p[i] != (unsigned char)(at ^ (at >> 8) ^ (at >> 16)))
			fail_msg("byte %zu of %zu is wrong", i, length);
	}
}

#define ring_test(f) cmocka_unit_test_setup_teardown(f, ring_setup, ring_teardown)

#endif
