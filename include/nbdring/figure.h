/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Figures: what a layer tells of its own work in numbers, for whoever watches the server
 * (the filter `stats`).
 *
 * A row of the type's table describes one, and a field of the instance, an nr_count, has
 * it.  Other threads look at the fields whenever they like, until the instance is gone,
 * which is after `close`.  So the layer changes them with the functions below, which cost
 * what a plain addition costs where one worker does it (NR_HOME).
 *
 * What a backend that `reopens` has counted is gone with each reopening, so it has no table.
 */
#ifndef NBDRING_FIGURE_H
#define NBDRING_FIGURE_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

struct nr_layer;

enum nr_figure_unit {
	NR_FIGURE_NUMBER, /* of whatever the name says */
	NR_FIGURE_BYTES,
	NR_FIGURE_MILLIONTHS, /* a part of a whole, 0 to 1,000,000 */
};

typedef _Atomic uint64_t nr_count;

struct nr_figure {
	const char *name; /* [a-z][a-z0-9_]*; NULL ends the table */
	enum nr_figure_unit unit;
	size_t offset; /* offsetof(struct INSTANCE, field): an nr_count, if `value` is NULL */
	/* What follows from fields of the instance.  Any thread; not on a request's way. */
	uint64_t (*value)(const struct nr_layer *layer);
	const char *help; /* one sentence, no full stop */
};

/* For a field that one thread changes at a time. */
static inline void nr_count_set(nr_count *count, uint64_t value)
{
	atomic_store_explicit(count, value, memory_order_relaxed);
}

static inline uint64_t nr_count_get(const nr_count *count)
{
	return atomic_load_explicit(count, memory_order_relaxed);
}

static inline void nr_count_add(nr_count *count, uint64_t more)
{
	nr_count_set(count, nr_count_get(count) + more);
}

/* For a field that several threads change at once. */
static inline void nr_count_add_shared(nr_count *count, uint64_t more)
{
	atomic_fetch_add_explicit(count, more, memory_order_relaxed);
}

/* PART of WHOLE in millionths; 0 of nothing. */
static inline uint64_t nr_millionths(uint64_t part, uint64_t whole)
{
	return whole ? (uint64_t)((double)part * 1e6 / (double)whole) : 0;
}

#endif
