/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Opening a stack: instances, parameters, traits from the bottom up, emulation
 * where a layer asks for it, and the links that let requests skip layers with
 * nothing to do.
 *
 * Each opened stack has instances of its own, so two exports share nothing.
 * After opening, only sizes change (atomics); everything else is read-only and
 * may be used by all workers.
 */
#include "src/stack/stack.h"

#include <assert.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "nbdring/checked.h"
#include "src/stack/compute.h"
#include "src/stack/emulate.h"
#include "src/stack/gate.h"
#include "src/stack/params.h"
#include "src/stack/reader.h"
#include "src/stack/shared.h"
#include "src/stack/traits.h"
#include "src/stack/worker.h"

#define SLOT_BYTES_MAX ((size_t)512 << (NR_SLOT_CLASSES - 1))
#define HEADER_BYTES_MAX 512u /* what a caller of nr_request_get may put in front */

struct nr_stack {
	struct nr_layer *bottom;
	struct nr_layer *top;
	struct nr_layer *advertised; /* the top without the aligner */
	struct nr_layer *gate;       /* above the backend; NULL: it stays open */
	struct nr_traits traits;     /* of `advertised`, and -r */
	struct nr_plan context;      /* the plan without its layers, for layers to look at */
	char *export_name;
	size_t scratch_bytes;
	size_t session_bytes;
	enum nr_placement placement;
	struct nr_keeper *keeper;
	struct nr_stack *outer;       /* of a stack within a stack */
	const struct nr_plan *plan;   /* of one that is prepared */
	struct nr_reader *reader;     /* while it is being opened, and one was needed */
	bool opening;                 /* or read by one thread until it is closed */
	struct nr_shared *own_shared; /* of a plan that shares nothing */
};

/* What struct nr_session's `data` points to; the layers' state follows. */
struct session_block {
	const struct nr_stack *stack;
	void *unused; /* keeps what follows aligned to 16 */
};

static void free_layer(struct nr_layer *layer)
{
	if (!layer)
		return;
	if (layer->internal.parameters) {
		nr_param_memory_free(layer->internal.parameters);
		free(layer->internal.parameters);
	}
	free(layer->internal.image);
	free(layer->instance);
	free(layer);
}

static struct nr_layer *new_layer(const struct nr_layer_type *type, struct nr_error *error)
{
	struct nr_layer *layer = calloc(1, sizeof(*layer));

	if (layer) {
		layer->type = type;
		layer->instance = calloc(1, type->instance_size ? type->instance_size : 1);
		layer->internal.parameters = calloc(1, sizeof(struct nr_param_memory));
	}
	if (!layer || !layer->instance || !layer->internal.parameters) {
		free_layer(layer);
		nr_error_system(error, -ENOMEM, "%s", type->name);
		return NULL;
	}
	return layer;
}

/* Put LAYER on top of what is there; it belongs to the stack from now on. */
static void push(struct nr_stack *stack, struct nr_layer *layer)
{
	layer->below = stack->top;
	layer->internal.stack = stack;
	layer->internal.depth = stack->top ? stack->top->internal.depth + 1 : 0;
	if (layer->type->computes)
		stack->scratch_bytes += nr_compute_bytes();
	layer->internal.scratch_offset = stack->scratch_bytes;
	layer->export_name = stack->export_name;
	stack->scratch_bytes += (layer->type->request_size + 15) & ~(size_t)15;
	layer->internal.session_offset = stack->session_bytes;
	stack->session_bytes += (layer->type->session_size + 15) & ~(size_t)15;
	if (stack->top)
		stack->top->internal.above = layer;
	else
		stack->bottom = layer;
	stack->top = layer;
	if (layer->type->placement == NR_HOME)
		stack->placement = NR_HOME;
}

static int push_new(struct nr_stack *stack, const struct nr_plan *plan,
		    const struct nr_layer_type *type, const struct nr_plan_layer *from,
		    struct nr_error *error)
{
	struct nr_layer *layer;
	int err;

	if (type->abi != NR_LAYER_ABI)
		return nr_error_set(error, -EINVAL,
				    "%s was built for version %u of the layer contract, this "
				    "server has version %u",
				    type->name, type->abi, NR_LAYER_ABI);
	layer = new_layer(type, error);
	if (!layer)
		return -ENOMEM;
	layer->internal.plan = &stack->context;
	layer->read_only = plan->read_only;
	layer->worker_count = plan->worker_count;
	assert(from || !type->shared_size); /* the core's own layers share nothing */
	if (from && stack->context.shared)
		layer->internal.shared =
			nr_shared_block(stack->context.shared, (size_t)(from - plan->layers));
	err = nr_params_apply(type->params, type->name, layer->instance,
			      from ? from->settings : NULL, from ? from->setting_count : 0,
			      layer->internal.parameters, error);
	if (!err && type->check) {
		err = type->check(layer, error);
		if (err)
			nr_error_prefix(error, "%s", type->name);
	}
	if (err) {
		free_layer(layer);
		return err;
	}
	push(stack, layer);
	return 0;
}

static void free_stack(struct nr_stack *stack)
{
	while (stack->top) {
		struct nr_layer *layer = stack->top;

		stack->top = layer->below;
		free_layer(layer);
	}
	nr_shared_destroy(stack->own_shared);
	free(stack->export_name);
	free(stack);
}

static struct nr_stack *new_stack(const struct nr_plan *plan, const char *name,
				  struct nr_error *error)
{
	struct nr_stack *stack = calloc(1, sizeof(*stack));

	if (stack)
		stack->export_name = strdup(name);
	if (!stack || !stack->export_name) {
		free(stack);
		nr_error_system(error, -ENOMEM, "export '%s'", name);
		return NULL;
	}
	stack->context = *plan;
	stack->context.layers = NULL;
	stack->context.layer_count = 0;
	return stack;
}

int nr_stack_prepare(struct nr_stack **out, const struct nr_plan *plan, struct nr_error *error)
{
	struct nr_stack *stack = new_stack(plan, "", error);

	if (!stack)
		return -ENOMEM;
	assert(plan->layer_count > 0);
	assert(plan->layers[0].type->kind == NR_BACKEND);
	for (size_t i = 0; i < plan->layer_count; i++) {
		int err = push_new(stack, plan, plan->layers[i].type, &plan->layers[i], error);

		if (err) {
			free_stack(stack);
			return err;
		}
	}
	stack->plan = plan;
	*out = stack;
	return 0;
}

const struct nr_plan *nr_stack_plan(const struct nr_stack *stack)
{
	return stack->plan;
}

struct nr_layer *nr_stack_bottom(struct nr_stack *stack)
{
	return stack->bottom;
}

struct nr_layer *nr_stack_top(struct nr_stack *stack)
{
	return stack->top;
}

void nr_stack_discard(struct nr_stack *stack)
{
	if (stack)
		free_stack(stack);
}

static void ignore_export(void *context, const char *name, const char *description)
{
}

/*
 * The layer that names exports: the topmost one that does (a filter may rename
 * what a backend has).
 */
static struct nr_layer *naming_layer(const struct nr_stack *stack)
{
	struct nr_layer *layer = stack->top;

	while (layer && !layer->type->find)
		layer = layer->below;
	return layer;
}

bool nr_stack_many(const struct nr_stack *stack)
{
	struct nr_layer *layer = naming_layer(stack);
	struct nr_error error;

	return layer && layer->type->find(layer, "", &error) != -ENOSYS;
}

int nr_stack_exports(struct nr_stack *stack, nr_export_fn *each, void *context,
		     struct nr_error *error)
{
	struct nr_layer *layer = naming_layer(stack);

	if (!each)
		each = ignore_export;
	if (layer && layer->type->exports) {
		int err = layer->type->exports(layer, each, context, error);

		if (err && err != -ENOSYS)
			nr_error_prefix(error, "%s", layer->type->name);
		if (err != -ENOSYS)
			return err;
	}
	each(context, "", NULL);
	return 0;
}

int nr_stack_find(struct nr_stack *stack, const char *name, const char **backend_name,
		  struct nr_error *error)
{
	struct nr_layer *layer = naming_layer(stack);
	int err = layer ? layer->type->find(layer, name, error) : -ENOSYS;

	if (err && err != -ENOSYS) {
		nr_error_prefix(error, "%s", layer->type->name);
		return err;
	}
	*backend_name = nr_stack_backend_name(stack, name);
	return 0;
}

void nr_stack_describe_export(struct nr_stack *stack, const char *name, nr_export_fn *each,
			      void *context)
{
	struct nr_layer *layer = naming_layer(stack);

	if (layer && layer->type->describe_export)
		layer->type->describe_export(layer, name, each, context);
	else
		each(context, name, NULL);
}

const char *nr_stack_backend_name(struct nr_stack *stack, const char *name)
{
	for (struct nr_layer *layer = stack->top; layer->below; layer = layer->below)
		if (layer->type->name_below)
			name = layer->type->name_below(layer, name);
	return nr_stack_many(stack) ? name : "";
}

/* Opening, from the bottom up. */

/* `open` of the type, with what the core has to get for it; and back. */
static int begin_layer(struct nr_layer *layer, struct nr_error *error)
{
	const struct nr_layer_type *type = layer->type;
	int err = type->computes ? nr_compute_acquire(error) : 0;

	if (err || !type->open)
		return err;
	err = type->open(layer, error);
	if (err && type->computes)
		nr_compute_release();
	return err;
}

void nr_layer_close(struct nr_layer *layer)
{
	if (layer->type->close)
		layer->type->close(layer);
	if (layer->type->computes)
		nr_compute_release();
}

int nr_layer_open(struct nr_layer *layer, struct nr_error *error)
{
	const struct nr_layer_type *type = layer->type;
	struct nr_traits traits;
	int err = begin_layer(layer, error);

	if (err)
		return err;
	if (layer->below)
		traits = layer->below->traits;
	else
		nr_traits_init(&traits);
	if (layer->below)
		traits.size = nr_layer_size(layer->below);
	/* Filters see requests as clients made them. */
	if (type->submit || type->done)
		traits.write_piece = 0;
	if (layer->below && (type->submit || type->done) && !type->contexts_pass)
		traits.context_count = 0;
	err = type->describe ? type->describe(layer, &traits, error) : 0;
	if (traits.support[NR_CAP_EXTENTS] == NR_NONE)
		traits.context_count = 0;
	if (!err)
		err = nr_traits_check(&traits, error);
	if (err) {
		nr_layer_close(layer);
		return err;
	}
	layer->traits = traits;
	atomic_store(&layer->internal.size, traits.size);
	return 0;
}

/* The instances stay: what is closed last may want to know their figures. */
static void close_layers(struct nr_stack *stack)
{
	bool is_down = stack->gate && nr_gate_is_down(stack->gate);

	for (struct nr_layer *layer = stack->top; layer; layer = layer->below) {
		bool is_open = layer->below || !is_down;

		if (is_open)
			nr_layer_close(layer);
	}
}

/*
 * Let requests skip layers that have nothing to do in a direction: those from the
 * backend up to TOP.
 */
static void link_slots(struct nr_stack *stack, struct nr_layer *top)
{
	struct nr_layer *layer, *found = NULL;

	for (layer = stack->bottom; layer && layer->below != top; layer = layer->internal.above) {
		layer->internal.submit_to = found;
		if (layer->type->submit)
			found = layer;
	}
	found = NULL;
	for (layer = top; layer; layer = layer->below) {
		layer->internal.done_to = found;
		if (layer->type->done)
			found = layer;
	}
}

static void take_off_top(struct nr_stack *stack)
{
	struct nr_layer *layer = stack->top;

	stack->top = layer->below;
	free_layer(layer);
}

/* The layer just pushed is on top, not open: open it, or take it off again. */
static int open_top(struct nr_stack *stack, struct nr_error *error)
{
	struct nr_layer *layer = stack->top;
	int err;

	assert(layer);
	/* It may read what is below while it is opened. */
	if (layer->below)
		link_slots(stack, layer->below);
	err = nr_layer_open(layer, error);

	if (err) {
		nr_error_prefix(error, "%s", layer->type->name);
		take_off_top(stack);
	}
	return err;
}

/*
 * Keep what the parameters have made of the layer on top, which is not open yet, to open it
 * from again; or take it off.
 */
static int keep_image(struct nr_stack *stack, struct nr_error *error)
{
	struct nr_layer *layer = stack->top;
	size_t bytes;

	assert(layer);
	bytes = layer->type->instance_size;
	layer->internal.image = malloc(bytes ? bytes : 1);
	if (!layer->internal.image) {
		(void)nr_error_system(error, -ENOMEM, "%s", layer->type->name);
		take_off_top(stack);
		return -ENOMEM;
	}
	memcpy(layer->internal.image, layer->instance, bytes);
	return 0;
}

bool nr_plan_reopens(const struct nr_plan *plan)
{
	for (size_t i = 1; i < plan->layer_count; i++)
		if (plan->layers[i].type->reopens)
			return plan->layers[0].type->reopens;
	return false;
}

static int push_gate(struct nr_stack *stack, const struct nr_plan *plan, struct nr_error *error)
{
	int err = push_new(stack, plan, &nr_gate_type, NULL, error);

	if (!err)
		err = open_top(stack, error);
	if (!err)
		stack->gate = stack->top;
	return err;
}

static int push_open(struct nr_stack *stack, const struct nr_plan *plan,
		     const struct nr_layer_type *type, const struct nr_plan_layer *from,
		     struct nr_error *error)
{
	bool gate = type->kind == NR_BACKEND && nr_plan_reopens(plan);
	int err = push_new(stack, plan, type, from, error);

	if (!err && gate)
		err = keep_image(stack, error);
	if (!err)
		err = open_top(stack, error);
	if (!err && gate)
		err = push_gate(stack, plan, error);
	if (!err && nr_traits_need_emulation(&stack->top->traits)) {
		err = push_new(stack, plan, &nr_emulate_type, NULL, error);
		if (!err)
			err = open_top(stack, error);
	}
	return err;
}

static int finish_opening(struct nr_stack *stack, const struct nr_plan *plan,
			  struct nr_error *error)
{
	assert(stack->top);
	stack->advertised = stack->top;
	stack->traits = stack->top->traits;
	if (plan->read_only)
		stack->traits.read_only = true;
	if (plan->aligner && stack->traits.block_min > 1 && !stack->traits.refuse_unfit) {
		int err = push_open(stack, plan, plan->aligner, NULL, error);

		if (err)
			return err;
	}
	if (nr_stack_request_bytes(stack, HEADER_BYTES_MAX) > SLOT_BYTES_MAX)
		return nr_error_set(error, -E2BIG,
				    "the layers of this stack need %zu bytes for each request, at "
				    "most %zu are possible: use fewer filters",
				    stack->scratch_bytes,
				    SLOT_BYTES_MAX - HEADER_BYTES_MAX - sizeof(struct nr_request));
	link_slots(stack, stack->top);
	assert(stack->bottom->type->submit);
	return 0;
}

int nr_stack_open(struct nr_stack **out, const struct nr_plan *plan, const char *name,
		  struct nr_error *error)
{
	struct nr_stack *stack = new_stack(plan, name, error);
	int err = 0;

	if (!stack)
		return -ENOMEM;
	if (!plan->shared) {
		err = nr_shared_create(&stack->own_shared, plan, error);
		stack->context.shared = stack->own_shared;
	}
	stack->opening = true;
	for (size_t i = 0; i < plan->layer_count && !err; i++)
		err = push_open(stack, plan, plan->layers[i].type, &plan->layers[i], error);
	if (!err)
		err = finish_opening(stack, plan, error);
	stack->opening = false;
	nr_reader_destroy(stack->reader);
	stack->reader = NULL;
	if (err) {
		nr_stack_close(stack);
		return err;
	}
	*out = stack;
	return 0;
}

void nr_stack_close(struct nr_stack *stack)
{
	if (!stack)
		return;
	nr_reader_destroy(stack->reader);
	close_layers(stack);
	free_stack(stack);
}

/*
 * The size of a layer from the size below it, by asking `describe` once more: it
 * depends on nothing else (layer.h).
 */
static int resize_above(struct nr_layer *layer, struct nr_error *error)
{
	for (layer = layer->internal.above; layer; layer = layer->internal.above) {
		struct nr_traits traits = layer->below->traits;
		int err;

		traits.size = nr_layer_size(layer->below);
		err = layer->type->describe ? layer->type->describe(layer, &traits, error) : 0;
		if (!err)
			err = nr_traits_check(&traits, error);
		if (err) {
			nr_error_prefix(error, "%s", layer->type->name);
			return err;
		}
		atomic_store(&layer->internal.size, traits.size);
	}
	return 0;
}

static int refresh(struct nr_stack *stack, struct nr_error *error)
{
	struct nr_layer *layer = stack->bottom;
	uint64_t size = nr_layer_size(layer);
	int err;

	if (!layer->type->refresh)
		return 0;
	err = layer->type->refresh(layer, &size, error);
	if (!err && size > NR_SIZE_MAX)
		err = nr_error_set(error, -EFBIG, "the size is over 2^63-1 bytes");
	if (err) {
		nr_error_prefix(error, "%s", layer->type->name);
		return err;
	}
	if (size == nr_layer_size(layer))
		return 0;
	atomic_store(&layer->internal.size, size);
	return resize_above(layer, error);
}

int nr_stack_refresh(struct nr_stack *stack, struct nr_error *error)
{
	int err = 0;

	if (!stack->gate)
		return refresh(stack, error);
	/* One that is closed has the size that it had. */
	if (nr_gate_hold_open(stack->gate)) {
		err = refresh(stack, error);
		nr_gate_let_go(stack->gate);
	}
	return err;
}

struct nr_layer *nr_stack_gate(const struct nr_stack *stack)
{
	return stack->gate;
}

void nr_layer_resized(struct nr_layer *layer, uint64_t size)
{
	assert(size <= NR_SIZE_MAX);
	atomic_store(&layer->internal.size, size);
	/* A layer above that cannot live with the new size keeps its old one. */
	resize_above(layer, NULL);
}

const struct nr_traits *nr_stack_traits(const struct nr_stack *stack)
{
	return &stack->traits;
}

uint64_t nr_stack_size(const struct nr_stack *stack)
{
	return nr_layer_size(stack->advertised);
}

enum nr_placement nr_stack_placement(const struct nr_stack *stack)
{
	return stack->placement;
}

const char *nr_stack_export_name(const struct nr_stack *stack)
{
	return stack->export_name;
}

bool nr_stack_answers_pass(const struct nr_stack *stack)
{
	const struct nr_layer *layer = stack->bottom->internal.done_to;

	while (layer && layer->type->data_passes)
		layer = layer->internal.done_to;
	return !layer;
}

size_t nr_stack_request_bytes(const struct nr_stack *stack, size_t header)
{
	return header + sizeof(struct nr_request) + stack->scratch_bytes;
}

void nr_stack_set_keeper(struct nr_stack *stack, struct nr_keeper *keeper)
{
	stack->keeper = keeper;
}

void nr_stack_set_outer(struct nr_stack *substack, struct nr_stack *outer)
{
	substack->outer = outer;
}

struct nr_keeper *nr_stack_keeper(const struct nr_stack *stack)
{
	while (stack->outer)
		stack = stack->outer;
	return stack->keeper;
}

void nr_stack_keep_reader(struct nr_stack *stack)
{
	stack->opening = true;
}

struct nr_reader **nr_stack_reader(struct nr_stack *stack)
{
	return stack->opening ? &stack->reader : NULL;
}

void nr_stack_needs_home(struct nr_stack *stack)
{
	/* Where this comes late, others look at it: then it has been said before. */
	if (stack->placement != NR_HOME)
		stack->placement = NR_HOME;
}

void nr_layer_needs_home(struct nr_layer *layer)
{
	assert(layer->internal.stack->opening);
	nr_stack_needs_home(layer->internal.stack);
}

void *nr_session_data(const struct nr_layer *layer, const struct nr_session *session)
{
	const struct session_block *block = session ? session->data : NULL;

	/* A stack within a stack sees the client, but was not asked to let it in. */
	if (!block || block->stack != layer->internal.stack)
		return NULL;
	return (char *)session->data + sizeof(*block) + layer->internal.session_offset;
}

int nr_stack_admit(struct nr_stack *stack, struct nr_session *session, struct nr_error *error)
{
	session->admit_after = session->leave_after = 0;
	if (stack->session_bytes) {
		struct session_block *block = calloc(1, sizeof(*block) + stack->session_bytes);

		if (!block)
			return nr_error_system(error, -ENOMEM, "the client's state");
		block->stack = stack;
		session->data = block;
	}
	for (struct nr_layer *layer = stack->top; layer; layer = layer->below) {
		int err = layer->type->admit ? layer->type->admit(layer, session, error) : 0;

		if (!err)
			continue;
		for (layer = layer->internal.above; layer; layer = layer->internal.above)
			if (layer->type->admit && layer->type->leave)
				layer->type->leave(layer, session);
		free(session->data);
		session->data = NULL;
		return err;
	}
	session->admitted = true;
	return 0;
}

void nr_stack_leave(struct nr_stack *stack, struct nr_session *session)
{
	for (struct nr_layer *layer = stack->bottom; layer; layer = layer->internal.above)
		if (layer->type->admit && layer->type->leave)
			layer->type->leave(layer, session);
	free(session->data);
	session->data = NULL;
	session->admitted = false;
}

void nr_stack_submit(struct nr_stack *stack, struct nr_request *req)
{
	nr_stack_enter(stack->top, req);
}
