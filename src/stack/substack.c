/* SPDX-License-Identifier: BSD-3-Clause */
/* Stacks within stacks: a layer opens one of its own while it is being opened. */
#include <errno.h>

#include "src/stack/stack.h"

struct nr_stack *nr_substack_open(struct nr_layer *layer, const char *words, struct nr_error *error)
{
	const struct nr_plan *outer = layer->internal.plan;
	const struct nr_surroundings *surroundings = outer->surroundings;
	struct nr_plan plan = { .read_only = outer->read_only,
				.worker_count = outer->worker_count,
				.aligner = outer->aligner,
				.surroundings = surroundings };
	struct nr_plan_memory *memory = NULL;
	struct nr_stack *stack = NULL;
	int err;

	if (!surroundings || !surroundings->parse) {
		nr_error_set(error, -ENOTSUP, "a stack within a stack is not possible here");
		return NULL;
	}
	err = surroundings->parse(words, &plan, &memory, error);
	if (!err)
		err = nr_stack_open(&stack, &plan, layer->export_name, error);
	surroundings->forget(memory);
	if (err)
		return NULL;
	nr_stack_set_outer(stack, layer->internal.stack);
	if (nr_stack_placement(stack) == NR_HOME)
		nr_stack_needs_home(layer->internal.stack);
	return stack;
}

void nr_substack_close(struct nr_stack *substack)
{
	nr_stack_close(substack);
}

const struct nr_traits *nr_substack_traits(const struct nr_stack *substack)
{
	return nr_stack_traits(substack);
}
