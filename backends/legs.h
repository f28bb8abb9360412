/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What backends that are made of other disks have in common: the legs, which are
 * stacks in the grammar of the command line, and a fan, which is one request's
 * children on their way through several legs.
 *
 * Sizes are those that the legs have when they are opened.
 */
#ifndef BACKENDS_LEGS_H
#define BACKENDS_LEGS_H

#include "nbdring/layer.h"

#define NR_LEGS_MAX 1024u

struct nr_leg {
	struct nr_stack *stack; /* NULL: it is not open, and has no traits and no bytes */
	const struct nr_traits *traits;
	uint64_t size;                               /* bytes */
	uint8_t context[NR_CONTEXTS_LISTED_MAX + 1]; /* its number of each of ours, and 0 for 0 */
};

struct nr_legs {
	struct nr_leg *leg;
	unsigned count;
	const char *contexts[NR_CONTEXTS_LISTED_MAX]; /* metadata contexts that are offered */
	unsigned context_count;
};

/* The row of the parameter table; FIELD is a struct nr_strings. */
#define NR_LEGS_PARAM(type_, field, more_flags)                                                 \
	{                                                                                       \
		.name = "leg", .type = NR_PARAM_LIST,                                           \
		.flags = NR_PARAM_MAIN | NR_PARAM_REQUIRED | NR_PARAM_STACK | (more_flags),     \
		.offset = offsetof(type_, field),                                               \
		.value = "'[--filter=FILTER]... BACKEND [KEY=VALUE]...'",                       \
		.help = "A disk that this one is made of, in one word as on the command line; " \
			"give it once for each",                                                \
		.manual = nr_legs_manual                                                        \
	}
extern const char nr_legs_manual[];

/* Room for COUNT legs, none of which is open. */
int nr_legs_create(struct nr_legs *legs, size_t count, struct nr_error *error);
/* Open the leg at INDEX, of WORDS. */
int nr_legs_open_one(struct nr_legs *legs, unsigned index, struct nr_layer *layer,
		     const char *words, struct nr_error *error);
/* STACK, which is open, is LEG. */
void nr_leg_take(struct nr_leg *leg, struct nr_stack *stack);
/* In `open`: a leg for each of WORDS, all open.  On failure nothing stays behind. */
int nr_legs_open(struct nr_legs *legs, struct nr_layer *layer, const struct nr_strings *words,
		 struct nr_error *error);
void nr_legs_close(struct nr_legs *legs);

/*
 * Offer the metadata contexts that all of the legs have: after nr_legs_open, for a disk
 * whose ranges lie on one leg each.
 */
void nr_legs_join_contexts(struct nr_legs *legs);

/*
 * What all of the legs that are open can do, for a disk whose requests become shorter ones of the legs:
 * everything but the size.
 */
void nr_legs_describe(const struct nr_legs *legs, struct nr_traits *traits);

/*
 * In the scratch of a request: its children, in the order in which they were made, linked
 * by their `context` to a circle.
 */
struct nr_fan {
	struct nr_request *first, *last;
	unsigned count;           /* children */
	unsigned under_way;       /* of them */
	struct nr_buffer *memory; /* whoever made them may keep something here; NULL: none */
};

static inline void nr_fan_init(struct nr_fan *fan)
{
	*fan = (struct nr_fan){ .first = NULL };
}

static inline struct nr_request *nr_fan_next(const struct nr_request *child)
{
	return child->context;
}

/*
 * One more child of REQ, for LEG; with REQ's operation, flags and metadata context.  NULL:
 * memory is short.
 */
struct nr_request *nr_fan_add(struct nr_fan *fan, struct nr_layer *layer, struct nr_leg *leg,
			      struct nr_request *req, uint64_t offset, uint64_t length);
/* Send all of them: the first to leg FIRST, each to the leg after that of the one before. */
void nr_fan_send(struct nr_fan *fan, const struct nr_legs *legs, unsigned first);
/* In `child_done`: is this the last one to come back? */
bool nr_fan_returned(struct nr_fan *fan);
/* When all are back: the error of the first that has one. */
int nr_fan_error(const struct nr_fan *fan);
/* Give the children and the memory back; none is under way. */
void nr_fan_release(struct nr_fan *fan);

/*
 * Send REQ, which is a flush, to all legs.  On failure it is finished.  When all are
 * back, nr_fan_end finishes it.
 */
void nr_fan_flush(struct nr_fan *fan, struct nr_layer *layer, struct nr_legs *legs,
		  struct nr_request *req);
/* All are back and any answer is put together: release, and finish REQ. */
void nr_fan_end(struct nr_fan *fan, struct nr_layer *layer, struct nr_request *req, int error);

#endif
