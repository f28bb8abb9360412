/* SPDX-License-Identifier: BSD-3-Clause */
/* Stacks within stacks: a layer opens one of its own while it is being opened. */
#include <errno.h>

#include "nbdring/checked.h"
#include "src/stack/reader.h"
#include "src/stack/stack.h"

/* What is made of a plan of WORDS, in which only the layers are its own. */
typedef int make_fn(struct nr_stack **stack, const struct nr_plan *plan, const char *name,
		    struct nr_error *error);

static int make(struct nr_layer *layer, const char *words, make_fn *how, struct nr_stack **stack,
		struct nr_error *error)
{
	const struct nr_plan *outer = layer->internal.plan;
	const struct nr_surroundings *surroundings = outer->surroundings;
	struct nr_plan plan = { .read_only = outer->read_only,
				.worker_count = outer->worker_count,
				.aligner = outer->aligner,
				.surroundings = surroundings };
	struct nr_plan_memory *memory = NULL;
	int err;

	if (!surroundings || !surroundings->parse)
		return nr_error_set(error, -ENOTSUP, "a stack within a stack is not possible here");
	err = surroundings->parse(words, &plan, &memory, error);
	if (!err && surroundings->fetch)
		err = surroundings->fetch(&plan, error);
	if (!err)
		err = how(stack, &plan, layer->export_name, error);
	surroundings->forget(memory);
	return err;
}

static int prepare(struct nr_stack **stack, const struct nr_plan *plan, const char *name,
		   struct nr_error *error)
{
	int err = nr_stack_prepare(stack, plan, error);

	if (!err)
		nr_stack_discard(*stack);
	return err;
}

int nr_substack_check(struct nr_layer *layer, const char *words, struct nr_error *error)
{
	struct nr_stack *stack = NULL;

	return make(layer, words, prepare, &stack, error);
}

struct nr_stack *nr_substack_open(struct nr_layer *layer, const char *words, struct nr_error *error)
{
	struct nr_stack *stack = NULL;

	if (make(layer, words, nr_stack_open, &stack, error))
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

/* What is below a layer that is not open. */

struct nr_stack *nr_below_open(struct nr_layer *layer, struct nr_error *error)
{
	const struct nr_plan *plan = nr_stack_plan(layer->internal.stack);
	struct nr_stack *below = NULL;
	struct nr_plan lower;

	if (!plan) {
		nr_error_set(error, -ENOTSUP, "what is below can be opened for a list only");
		return NULL;
	}
	/* The layers of such a stack are those of its plan, one by one. */
	lower = *plan;
	lower.layer_count = layer->internal.depth;
	lower.aligner = NULL;
	if (nr_stack_open(&below, &lower, "", error))
		return NULL;
	nr_stack_keep_reader(below);
	return below;
}

uint64_t nr_below_size(const struct nr_stack *below)
{
	return nr_stack_size(below);
}

int nr_below_read(struct nr_stack *below, uint64_t offset, uint64_t length, void *data,
		  struct nr_error *error)
{
	struct nr_reader **reader = nr_stack_reader(below);
	struct nr_layer *top = nr_stack_top(below);
	int err = 0;

	if (!nr_in_range(offset, length, nr_layer_size(top)))
		return nr_error_set(error, -EINVAL, "the disk below ends too early");
	if (!*reader)
		err = nr_reader_create(reader, top->worker_count, error);
	if (err)
		return err;
	err = nr_reader_read(*reader, top, offset, length, data);
	if (err)
		nr_error_system(error, err, "the disk below cannot be read");
	return err;
}
