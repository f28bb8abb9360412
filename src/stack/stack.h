/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A stack: filters over a backend, opened for one export.
 *
 * A plan is what the command line says: which layers, with which parameters.
 * It is checked once at start and opened any number of times, once per export
 * (file dir=… has many).  A stack is opened on a thread that may block, used by
 * workers, and closed when nothing of it is in flight any more.
 */
#ifndef SRC_STACK_STACK_H
#define SRC_STACK_STACK_H

#include <stdbool.h>
#include <stddef.h>

#include "nbdring/layer.h"

/* One `key=value` of the command line; strings are the caller's. */
struct nr_setting {
	const char *name;
	const char *value;
};

struct nr_plan_layer {
	const struct nr_layer_type *type;
	struct nr_setting *settings;
	size_t setting_count;
};

struct nr_shared; /* shared.h */

/* layers[0] is the backend, the last one is next to the client. */
struct nr_plan {
	struct nr_plan_layer *layers;
	size_t layer_count;
	bool read_only;        /* -r */
	unsigned worker_count; /* of the server, at least 1 */
	/*
	 * Put on top of a stack whose block_min is over 1, so that clients that
	 * never heard of block sizes are served; NULL: none.  What is advertised
	 * stays the true minimum.
	 */
	const struct nr_layer_type *aligner;

	/* What layers may ask of their surroundings; all may be NULL. */
	const struct nr_surroundings *surroundings;

	/* What the stacks of this plan share; NULL: each has its own. */
	struct nr_shared *shared;
};

/* May the backend be closed and opened anew under an open stack (nr_reopen)? */
bool nr_plan_reopens(const struct nr_plan *plan);

struct nr_plan_memory; /* of a plan made from words */

struct nr_surroundings {
	/* Words to a plan, for stacks within stacks. */
	int (*parse)(const char *words, struct nr_plan *plan, struct nr_plan_memory **memory,
		     struct nr_error *error);
	void (*forget)(struct nr_plan_memory *memory);
	/* Secrets into a plan made from words, which is about to be opened. */
	int (*fetch)(struct nr_plan *plan, struct nr_error *error);
	/* The server shall stop.  Any thread. */
	void (*stop)(const char *why);
	/* LAYER's line for the log.  Any thread; may not block. */
	void (*log)(const struct nr_layer *layer, enum nr_layer_log_level level, const char *line);
};

struct nr_stack;

/*
 * Fill an instance per layer with its parameters, without opening anything:
 * what is wrong in the plan shows here.  The result can answer
 * nr_stack_exports and nr_stack_find while there is the plan, and is given back with
 * nr_stack_discard.
 */
int nr_stack_prepare(struct nr_stack **stack, const struct nr_plan *plan, struct nr_error *error);
void nr_stack_discard(struct nr_stack *stack); /* NULL is allowed */

/* What a stack that is prepared was made from; NULL for one that is opened. */
const struct nr_plan *nr_stack_plan(const struct nr_stack *stack);

/* The layers: from the bottom by internal.above, from the top by `below`. */
struct nr_layer *nr_stack_bottom(struct nr_stack *stack);
struct nr_layer *nr_stack_top(struct nr_stack *stack);

/* Does a layer serve several disks by name?  May block. */
bool nr_stack_many(const struct nr_stack *prepared);
/* EACH for every export; one call with "" where there is only one.  May block. */
int nr_stack_exports(struct nr_stack *prepared, nr_export_fn *each, void *context,
		     struct nr_error *error);
/*
 * 0 when NAME is an export, -ENOENT when it is not.  *BACKEND_NAME gets the name that
 * the backend knows it by ("" where it has one disk): what to open.  May block.
 */
int nr_stack_find(struct nr_stack *prepared, const char *name, const char **backend_name,
		  struct nr_error *error);
/* EACH once for NAME, which is an export, with the description that layers have for it. */
void nr_stack_describe_export(struct nr_stack *prepared, const char *name, nr_export_fn *each,
			      void *context);
/* The backend's name for a NAME that is known to be an export: one that was listed. */
const char *nr_stack_backend_name(struct nr_stack *prepared, const char *name);

/* Open PLAN for the export NAME.  May block. */
int nr_stack_open(struct nr_stack **stack, const struct nr_plan *plan, const char *name,
		  struct nr_error *error);
/* Look again at the size.  May block; other threads may be using the stack. */
int nr_stack_refresh(struct nr_stack *stack, struct nr_error *error);
/* Nothing in flight any more.  May block.  NULL is allowed. */
void nr_stack_close(struct nr_stack *stack);

/*
 * Of the topmost layer that was asked for (an aligner is left out): what clients
 * are told.  Constant but for the size, which nr_stack_size tells.
 */
const struct nr_traits *nr_stack_traits(const struct nr_stack *stack);
uint64_t nr_stack_size(const struct nr_stack *stack);
enum nr_placement nr_stack_placement(const struct nr_stack *stack);
const char *nr_stack_export_name(const struct nr_stack *stack);

/* The gate above its backend (gate.h); NULL: it has none. */
struct nr_layer *nr_stack_gate(const struct nr_stack *stack);

/* Does nothing above the backend look at what a read brings? */
bool nr_stack_answers_pass(const struct nr_stack *stack);

/* Bytes of a request's memory with room for every layer's scratch, after HEADER bytes. */
size_t nr_stack_request_bytes(const struct nr_stack *stack, size_t header);

int nr_stack_admit(struct nr_stack *stack, struct nr_session *session, struct nr_error *error);
void nr_stack_leave(struct nr_stack *stack, struct nr_session *session);

/*
 * Send REQ down from the top; req->internal.finished is called on the worker
 * when it is back, never from inside this call.  Range, alignment and flags are
 * the caller's duty; the choke point refuses (-EINVAL) what is not legal.
 */
void nr_stack_submit(struct nr_stack *stack, struct nr_request *req);

/*
 * Who keeps the export of a stack open while layers have background requests
 * (nr_background).  Workers' threads.
 */
struct nr_keeper {
	bool (*keep)(struct nr_keeper *keeper); /* false: no background request now */
	void (*let_go)(struct nr_keeper *keeper, struct nr_worker *worker);
};

/* Before the stack is used; KEEPER stays the caller's.  Without one, nobody minds. */
void nr_stack_set_keeper(struct nr_stack *stack, struct nr_keeper *keeper);
/* SUBSTACK is a layer's of OUTER, whose keeper is asked for both. */
void nr_stack_set_outer(struct nr_stack *substack, struct nr_stack *outer);
/* NULL: none. */
struct nr_keeper *nr_stack_keeper(const struct nr_stack *stack);

/* A layer of STACK has found out, in `open`, that one worker has to do it all. */
void nr_stack_needs_home(struct nr_stack *stack);

/*
 * While STACK is being opened: where it keeps what its layers read with (reader.h),
 * NULL at first.  NULL when it is open.
 */
struct nr_reader **nr_stack_reader(struct nr_stack *stack);
/* STACK, which is open, has it from now on until it is closed: one thread alone reads it. */
void nr_stack_keep_reader(struct nr_stack *stack);

/* LAYER is closed and the one below is open: open it and ask it for its traits (gate.c). */
int nr_layer_open(struct nr_layer *layer, struct nr_error *error);
/* The counterpart; nothing is in flight in LAYER. */
void nr_layer_close(struct nr_layer *layer);

/* For nr_stack_submit and nr_read_below alone (request.c). */
void nr_stack_enter(struct nr_layer *top, struct nr_request *req);

#endif
