/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Stops requests and lets them go again, as a control socket says.
 *
 * A thread per socket (pause-control.h) listens; filters with the same socket, of
 * several exports, share it and are paused together.  A request is counted while it
 * is below this filter.  It is counted first and looks whether there is a pause
 * after, and who pauses looks at the count after having said so: one of the two sees
 * the other, so nothing slips through.
 */
#include <errno.h>

#include "filters/filters.h"
#include "filters/pause-control.h"

struct pause_filter {
	const char *path;
	struct nr_pause_control *control;
	bool inert; /* a filter above in the same stack does it already */
};

struct state {
	bool counted;
	struct nr_paused paused;
};

static const struct nr_param pause_params[] = {
	{
		.name = "pause-control",
		.type = NR_PARAM_PATH,
		.flags = NR_PARAM_REQUIRED | NR_PARAM_MADE,
		.offset = offsetof(struct pause_filter, path),
		.value = "SOCKET",
		.help = "The Unix socket that takes the commands",
		.manual = "The Unix socket that takes the commands.  It is made when the server\n"
			  "starts and removed when it ends.",
	},
	{ .name = NULL },
};

static int get_control(struct nr_layer *layer, struct nr_error *error)
{
	struct pause_filter *p = layer->instance;

	p->control = nr_pause_control_get(p->path, layer, error);
	return p->control ? 0 : error && error->code ? error->code : -EIO;
}

static int open_control(struct nr_layer *layer, struct nr_error *error)
{
	struct pause_filter *p = layer->instance;
	int err = get_control(layer, error);

	if (err)
		return err;
	/*
	 * Requests that this filter has let through must get through: the same filter
	 * further down would hold them, and they would never end.
	 */
	for (struct nr_layer *below = layer->below; below; below = below->below) {
		struct pause_filter *other = below->instance;

		if (below->type == layer->type && other->control == p->control)
			other->inert = true;
	}
	return 0;
}

static void put_control(struct nr_layer *layer)
{
	struct pause_filter *p = layer->instance;

	nr_pause_control_put(p->control, layer);
}

static void submit(struct nr_layer *layer, struct nr_request *req)
{
	struct pause_filter *p = layer->instance;
	struct state *s = nr_scratch(layer, req);

	s->counted = !p->inert;
	if (p->inert || nr_pause_control_enter(p->control, &s->paused, layer, req))
		nr_pass(layer, req);
}

static void done(struct nr_layer *layer, struct nr_request *req)
{
	struct pause_filter *p = layer->instance;
	struct state *s = nr_scratch(layer, req);

	if (s->counted)
		nr_pause_control_leave(p->control);
	nr_finish(layer, req, req->error);
}

const struct nr_layer_type nr_pause_type = {
	.abi = NR_LAYER_ABI,
	.name = "pause",
	.summary = "stops and resumes all requests on command",
	.kind = NR_FILTER,
	.placement = NR_SPREAD,
	.needs = NR_NEEDS_SOCKETS,
	.params = pause_params,
	.instance_size = sizeof(struct pause_filter),
	.request_size = sizeof(struct state),
	.start = get_control, /* there, and paused or not, while no export is open */
	.stop = put_control,
	.open = open_control,
	.submit = submit,
	.done = done,
	.contexts_pass = true,
	.data_passes = true,
	.resume = submit,
	.close = put_control,
};
