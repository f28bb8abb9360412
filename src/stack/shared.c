/* SPDX-License-Identifier: BSD-3-Clause */
/* See shared.h. */
#include "src/stack/shared.h"

#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>

struct nr_shared {
	struct nr_stack *started; /* instances whose layers were started; NULL: none */
	size_t count;
	void *block[]; /* by the layer's index in the plan */
};

static int make_blocks(struct nr_shared *shared, const struct nr_plan *plan, struct nr_error *error)
{
	shared->count = plan->layer_count;
	for (size_t i = 0; i < plan->layer_count; i++) {
		const struct nr_layer_type *type = plan->layers[i].type;

		/* A layer of another version is refused later, with a sentence. */
		if (type->abi != NR_LAYER_ABI || !type->shared_size)
			continue;
		shared->block[i] = calloc(1, type->shared_size);
		if (!shared->block[i])
			return nr_error_system(error, -ENOMEM, "%s", type->name);
	}
	return 0;
}

/* Stop what was started, from LAYER down. */
static void stop_from(struct nr_layer *layer)
{
	for (; layer; layer = layer->below)
		if (layer->type->start && layer->type->stop)
			layer->type->stop(layer);
}

static int start_all(struct nr_stack *prepared, struct nr_error *error)
{
	for (struct nr_layer *layer = nr_stack_bottom(prepared); layer;
	     layer = layer->internal.above) {
		int err = layer->type->start ? layer->type->start(layer, error) : 0;

		if (err) {
			nr_error_prefix(error, "%s", layer->type->name);
			stop_from(layer->below);
			return err;
		}
	}
	return 0;
}

static bool wants_start(const struct nr_plan *plan)
{
	for (size_t i = 0; i < plan->layer_count; i++)
		if (plan->layers[i].type->abi == NR_LAYER_ABI && plan->layers[i].type->start)
			return true;
	return false;
}

static int start(struct nr_shared *shared, const struct nr_plan *plan, struct nr_error *error)
{
	struct nr_plan with_blocks = *plan;
	struct nr_stack *prepared;
	int err;

	with_blocks.shared = shared;
	err = nr_stack_prepare(&prepared, &with_blocks, error);
	if (err)
		return err;
	err = start_all(prepared, error);
	if (err)
		nr_stack_discard(prepared);
	else
		shared->started = prepared;
	return err;
}

int nr_shared_create(struct nr_shared **out, const struct nr_plan *plan, struct nr_error *error)
{
	struct nr_shared *shared =
		calloc(1, sizeof(*shared) + plan->layer_count * sizeof(shared->block[0]));

	int err;

	if (!shared)
		return nr_error_system(error, -ENOMEM, "the layers");
	err = make_blocks(shared, plan, error);
	if (!err && wants_start(plan))
		err = start(shared, plan, error);
	if (err) {
		nr_shared_destroy(shared);
		return err;
	}
	*out = shared;
	return 0;
}

void nr_shared_destroy(struct nr_shared *shared)
{
	if (!shared)
		return;
	if (shared->started)
		stop_from(nr_stack_top(shared->started));
	nr_stack_discard(shared->started);
	for (size_t i = 0; i < shared->count; i++)
		free(shared->block[i]);
	free(shared);
}

void *nr_shared_block(const struct nr_shared *shared, size_t index)
{
	assert(index < shared->count);
	return shared->block[index];
}

void *nr_shared_data(const struct nr_layer *layer)
{
	return layer->internal.shared;
}
