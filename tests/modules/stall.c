/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * stall: opening takes as long as a file is there, as on a disk that does not
 * answer; so do reads, with another file, and they take the worker with them.  For
 * tests of what else goes on meanwhile; the threads block, which no other layer does.
 */
#include <time.h>
#include <unistd.h>

#include "nbdring/layer.h"

struct stall {
	const char *gate;
	const char *read_gate;
};

static const struct nr_param params[] = {
	{
		.name = "gate",
		.type = NR_PARAM_PATH,
		.offset = offsetof(struct stall, gate),
		.flags = NR_PARAM_REQUIRED,
		.value = "FILE",
		.help = "open nothing while this file exists",
	},
	{
		.name = "read-gate",
		.type = NR_PARAM_PATH,
		.offset = offsetof(struct stall, read_gate),
		.value = "FILE",
		.help = "read nothing while this file exists",
	},
	{ .name = NULL },
};

static void wait_at(const char *gate)
{
	const struct timespec pause = { .tv_nsec = 5000000 };

	while (access(gate, F_OK) == 0)
		nanosleep(&pause, NULL);
}

static int open_late(struct nr_layer *layer, struct nr_error *error)
{
	const struct stall *stall = layer->instance;

	wait_at(stall->gate);
	return 0;
}

static void submit(struct nr_layer *layer, struct nr_request *req)
{
	const struct stall *stall = layer->instance;

	if (req->operation == NR_READ && stall->read_gate)
		wait_at(stall->read_gate);
	nr_pass(layer, req);
}

static const struct nr_layer_type stall_type = {
	.abi = NR_LAYER_ABI,
	.name = "stall",
	.summary = "opens no disk as long as a file exists",
	.kind = NR_FILTER,
	.placement = NR_SPREAD,
	.params = params,
	.instance_size = sizeof(struct stall),
	.open = open_late,
	.submit = submit,
};

__attribute__((visibility("default"))) const struct nr_layer_type *nbdring_layer(void);

const struct nr_layer_type *nbdring_layer(void)
{
	return &stall_type;
}
