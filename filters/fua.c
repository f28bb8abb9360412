/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Other ways to make writes stable than the one below: no FUA, FUA by flushes,
 * FUA always, or neither FUA nor flush.
 *
 * The emulation is the core's.  What is left here are flags: added with `force`,
 * taken off with `discard`, and put back on the way up.  With both, a flush has
 * nothing to do and is answered here.
 */
#include <errno.h>
#include <stddef.h>

#include "filters/filters.h"

enum mode { MODE_NONE, MODE_EMULATE, MODE_NATIVE, MODE_FORCE, MODE_PASS, MODE_DISCARD };

struct fua {
	unsigned mode; /* enum mode */
};

/* Per request. */
struct state {
	uint32_t flags; /* as they came */
};

static const char *const modes[] = {
	"none", "emulate", "native", "force", "pass", "discard", NULL
};

static const struct nr_param params[] = {
	{
		.name = "fuamode",
		.type = NR_PARAM_CHOICE,
		.offset = offsetof(struct fua, mode),
		.fallback = "none",
		.choices = modes,
		.value = "MODE",
		.help = "What becomes of FUA and flush",
		.manual =
			"What becomes of FUA (\"force unit access\", a flag of writes) and flush:\n\n"
			"=over 4\n\n"
			"=item B<none>\n\n"
			"FUA is not offered.  Clients have to flush instead, if flush is offered.\n\n"
			"=item B<emulate>\n\n"
			"FUA is offered.  Requests go down without it, and a flush follows.  Refused\n"
			"when the layers below have no flush.\n\n"
			"=item B<native>\n\n"
			"FUA goes down as it is.  Refused when the layers below have no FUA.\n\n"
			"=item B<force>\n\n"
			"Every request that changes the disk goes down with FUA, whether the client\n"
			"asked for it or not: \"write-through\".  A flush has nothing left to do and\n"
			"is answered at once.  Refused when the layers below have no FUA.\n\n"
			"=item B<pass>\n\n"
			"Both go down as they are.  The filter changes nothing.\n\n"
			"=item B<discard>\n\n"
			"Both are offered and have no effect.  This can be much quicker, and loses\n"
			"data when the machine stops unexpectedly.  Use it for data that can be made\n"
			"again.\n\n"
			"=back",
	},
	{ .name = NULL },
};

static int check_below(const struct nr_layer *layer, const struct nr_traits *t,
		       enum nr_capability needed, const char *name, struct nr_error *error)
{
	const struct fua *f = layer->instance;

	/* Of a disk that nobody writes to nothing is needed. */
	if (t->support[needed] != NR_NONE || t->read_only || layer->read_only)
		return 0;
	return nr_error_set(error, -ENOTSUP,
			    "fuamode=%s needs %s, which the layers below do not have; use "
			    "fuamode=none or fuamode=discard",
			    modes[f->mode], name);
}

static int fua_describe(struct nr_layer *layer, struct nr_traits *t, struct nr_error *error)
{
	const struct fua *f = layer->instance;
	int err = 0;

	switch ((enum mode)f->mode) {
	case MODE_NONE:
		t->support[NR_CAP_FUA] = NR_NONE;
		break;
	case MODE_EMULATE:
		err = check_below(layer, t, NR_CAP_FLUSH, "flush", error);
		t->support[NR_CAP_FUA] = t->support[NR_CAP_FLUSH] == NR_NONE ? NR_NONE : NR_EMULATE;
		break;
	case MODE_NATIVE:
		err = check_below(layer, t, NR_CAP_FUA, "FUA", error);
		break;
	case MODE_FORCE:
		err = check_below(layer, t, NR_CAP_FUA, "FUA", error);
		t->support[NR_CAP_FLUSH] = NR_NATIVE;
		break;
	case MODE_PASS:
		break;
	case MODE_DISCARD:
		t->support[NR_CAP_FLUSH] = NR_NATIVE;
		t->support[NR_CAP_FUA] = NR_NATIVE;
		break;
	}
	return err;
}

static void fua_submit(struct nr_layer *layer, struct nr_request *req)
{
	const struct fua *f = layer->instance;
	struct state *s = nr_scratch(layer, req);

	s->flags = req->flags;
	if (f->mode != MODE_FORCE && f->mode != MODE_DISCARD) {
		nr_pass(layer, req);
		return;
	}
	if (req->operation == NR_FLUSH) {
		nr_finish(layer, req, 0);
		return;
	}
	if (f->mode == MODE_DISCARD)
		req->flags &= ~NR_FUA;
	else if (req->operation == NR_WRITE || req->operation == NR_TRIM ||
		 req->operation == NR_ZERO)
		req->flags |= NR_FUA;
	nr_pass(layer, req);
}

static void fua_done(struct nr_layer *layer, struct nr_request *req)
{
	struct state *s = nr_scratch(layer, req);

	req->flags = s->flags;
	nr_finish(layer, req, req->error);
}

const struct nr_layer_type nr_fua_type = {
	.abi = NR_LAYER_ABI,
	.name = "fua",
	.summary = "changes how FUA and flush are done, or leaves them out",
	.kind = NR_FILTER,
	.placement = NR_SPREAD,
	.params = params,
	.instance_size = sizeof(struct fua),
	.request_size = sizeof(struct state),
	.describe = fua_describe,
	.submit = fua_submit,
	.done = fua_done,
	.contexts_pass = true,
	.data_passes = true,
};
