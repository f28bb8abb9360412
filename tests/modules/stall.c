/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * stall: opening takes as long as a file is there, as on a disk that does not
 * answer.  For tests of what else goes on meanwhile; the thread blocks, which no
 * other layer does.
 */
#include <time.h>
#include <unistd.h>

#include "nbdring/layer.h"

struct stall {
	const char *gate;
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
	{ .name = NULL },
};

static int open_late(struct nr_layer *layer, struct nr_error *error)
{
	const struct stall *stall = layer->instance;
	const struct timespec pause = { .tv_nsec = 5000000 };

	while (access(stall->gate, F_OK) == 0)
		nanosleep(&pause, NULL);
	return 0;
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
};

__attribute__((visibility("default"))) const struct nr_layer_type *nbdring_layer(void);

const struct nr_layer_type *nbdring_layer(void)
{
	return &stall_type;
}
