/* SPDX-License-Identifier: BSD-3-Clause */
#include "backends/legs.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "nbdring/checked.h"

const char nr_legs_manual[] =
	"A disk that this one is made of: a stack written as on the command line but in one\n"
	"word, as in C<leg='--filter=delay memory 1G rdelay=1ms'>.  Give it once for each, in\n"
	"their order; C<leg=> may be left out in front of a leg that has no filters.  Words in it\n"
	"that hold spaces are quoted, so legs may be made of legs.";

/* ---- legs -------------------------------------------------------------- */

void nr_legs_close(struct nr_legs *legs)
{
	while (legs->count)
		nr_substack_close(legs->leg[--legs->count].stack);
	free(legs->leg);
	legs->leg = NULL;
}

int nr_legs_create(struct nr_legs *legs, size_t count, struct nr_error *error)
{
	legs->count = legs->context_count = 0;
	if (count > NR_LEGS_MAX)
		return nr_error_set(error, -E2BIG, "%zu legs are too many, %u are possible", count,
				    NR_LEGS_MAX);
	legs->leg = calloc(count, sizeof(*legs->leg));
	if (!legs->leg)
		return nr_error_system(error, -ENOMEM, "opening");
	legs->count = (unsigned)count;
	return 0;
}

void nr_leg_take(struct nr_leg *leg, struct nr_stack *stack)
{
	leg->stack = stack;
	leg->traits = nr_substack_traits(stack);
	leg->size = leg->traits->size;
}

int nr_legs_open_one(struct nr_legs *legs, unsigned index, struct nr_layer *layer,
		     const char *words, struct nr_error *error)
{
	struct nr_error why = { .code = -EIO };
	struct nr_stack *stack = nr_substack_open(layer, words, &why);

	if (!stack)
		return nr_error_set(error, why.code, "leg %u: %s", index + 1, why.text);
	nr_leg_take(&legs->leg[index], stack);
	return 0;
}

int nr_legs_open(struct nr_legs *legs, struct nr_layer *layer, const struct nr_strings *words,
		 struct nr_error *error)
{
	int err = nr_legs_create(legs, words->count, error);

	if (err)
		return err;
	for (unsigned i = 0; !err && i < legs->count; i++)
		err = nr_legs_open_one(legs, i, layer, words->item[i], error);
	if (err)
		nr_legs_close(legs);
	return err;
}

/* The number of NAME among the contexts of LEG, counted from 1; 0: it has none of that name. */
static uint8_t context_of(const struct nr_leg *leg, const char *name)
{
	for (uint32_t i = 0; i < leg->traits->context_count; i++)
		if (strcmp(leg->traits->contexts[i], name) == 0)
			return (uint8_t)(i + 1);
	return 0;
}

void nr_legs_join_contexts(struct nr_legs *legs)
{
	const struct nr_traits *first = legs->leg[0].traits;

	legs->context_count = 0;
	for (uint32_t c = 0; c < first->context_count; c++) {
		unsigned number = legs->context_count + 1, have = 0;

		for (; have < legs->count; have++) {
			struct nr_leg *leg = &legs->leg[have];

			leg->context[number] = context_of(leg, first->contexts[c]);
			if (!leg->context[number])
				break;
		}
		if (have == legs->count)
			legs->contexts[legs->context_count++] = first->contexts[c];
	}
}

static void narrow_blocks(struct nr_traits *t, const struct nr_traits *leg)
{
	t->block_min = (uint32_t)nr_max(t->block_min, leg->block_min);
	t->memory_align = (uint32_t)nr_max(t->memory_align, leg->memory_align);
	t->block_preferred = (uint32_t)nr_max(t->block_preferred, leg->block_preferred);
	t->block_max = (uint32_t)nr_min(t->block_max, leg->block_max);
	if (leg->advertised_max && (!t->advertised_max || leg->advertised_max < t->advertised_max))
		t->advertised_max = leg->advertised_max;
	t->refuse_unfit |= leg->refuse_unfit;
}

void nr_legs_describe(const struct nr_legs *legs, struct nr_traits *t)
{
	t->multi_conn = true;
	t->contexts = legs->contexts;
	t->context_count = legs->context_count;
	for (unsigned i = 0; i < NR_CAP_COUNT; i++)
		t->support[i] = NR_NATIVE;
	t->support[NR_CAP_RESIZE] = NR_NONE;
	for (unsigned i = 0; i < legs->count; i++) {
		const struct nr_traits *leg = legs->leg[i].traits;

		if (!leg)
			continue;
		narrow_blocks(t, leg);
		t->read_only |= leg->read_only;
		t->rotational |= leg->rotational;
		t->multi_conn &= leg->multi_conn;
		for (unsigned c = 0; c < NR_CAP_COUNT; c++)
			if (leg->support[c] == NR_NONE)
				t->support[c] = NR_NONE;
	}
	if (t->support[NR_CAP_ZERO] == NR_NONE) {
		t->support[NR_CAP_ZERO] = NR_EMULATE;
		t->support[NR_CAP_FAST_ZERO] = NR_NONE;
	}
	if (t->support[NR_CAP_EXTENTS] == NR_NONE)
		t->support[NR_CAP_EXTENTS] = NR_EMULATE;
	/* A part may begin anywhere in what is written. */
	t->block_min = (uint32_t)nr_max(t->block_min, t->memory_align);
	t->block_preferred = (uint32_t)nr_max(t->block_preferred, t->block_min);
	t->block_max = (uint32_t)nr_max(nr_round_down(t->block_max, t->block_min), t->block_min);
}

/* ---- fans -------------------------------------------------------------- */

struct nr_request *nr_fan_add(struct nr_fan *fan, struct nr_layer *layer, struct nr_leg *leg,
			      struct nr_request *req, uint64_t offset, uint64_t length)
{
	struct nr_request *child =
		nr_child_in(layer, leg->stack, req, req->operation, offset, length);

	if (!child)
		return NULL;
	child->flags = req->flags;
	if (req->operation == NR_EXTENTS)
		child->metadata = leg->context[req->metadata];
	if (fan->last)
		fan->last->context = child;
	else
		fan->first = child;
	fan->last = child;
	child->context = fan->first;
	fan->count++;
	return child;
}

void nr_fan_send(struct nr_fan *fan, const struct nr_legs *legs, unsigned first)
{
	struct nr_request *child = fan->first;

	assert(legs->count > 0);
	assert(legs->count > 0);
	/* None comes back before this returns. */
	fan->under_way = fan->count;
	for (unsigned i = 0; i < fan->count; i++, child = nr_fan_next(child))
		nr_enter(legs->leg[(first + i) % legs->count].stack, child);
}

bool nr_fan_returned(struct nr_fan *fan)
{
	assert(fan->under_way > 0);
	return --fan->under_way == 0;
}

int nr_fan_error(const struct nr_fan *fan)
{
	const struct nr_request *child = fan->first;

	for (unsigned i = 0; i < fan->count; i++, child = nr_fan_next(child))
		if (child->error)
			return child->error;
	return 0;
}

void nr_fan_release(struct nr_fan *fan)
{
	struct nr_request *child = fan->first;

	assert(fan->under_way == 0);
	for (unsigned i = 0; i < fan->count; i++) {
		struct nr_request *next = nr_fan_next(child);

		nr_child_release(child);
		child = next;
	}
	if (fan->memory)
		fan->memory->release(fan->memory);
	nr_fan_init(fan);
}

void nr_fan_end(struct nr_fan *fan, struct nr_layer *layer, struct nr_request *req, int error)
{
	nr_fan_release(fan);
	nr_finish(layer, req, error);
}

void nr_fan_flush(struct nr_fan *fan, struct nr_layer *layer, struct nr_legs *legs,
		  struct nr_request *req)
{
	for (unsigned i = 0; i < legs->count; i++) {
		if (!nr_fan_add(fan, layer, &legs->leg[i], req, 0, 0)) {
			nr_fan_end(fan, layer, req, -ENOMEM);
			return;
		}
	}
	nr_fan_send(fan, legs, 0);
}
