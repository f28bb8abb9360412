/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Efficient zeroing taken away: not offered, done by writing zeroes, or without
 * making holes; and the promise of being fast (fast zero) separately.
 *
 * Zeroes are written here and not by the core's emulation, because fast zero can
 * be offered beside them, which the core rightly does not do.  The request itself
 * is used for one piece after the other: what it was is put away in the scratch
 * and put back before it goes up.
 */
#include <errno.h>
#include <stddef.h>

#include "filters/filters.h"
#include "nbdring/checked.h"

enum zero_mode { ZERO_NONE, ZERO_EMULATE, ZERO_NOTRIM, ZERO_PLUGIN };
enum fast_mode { FAST_DEFAULT, FAST_NONE, FAST_SLOW, FAST_IGNORE };

struct nozero {
	unsigned zero_mode; /* enum zero_mode */
	unsigned fast_mode; /* enum fast_mode */
};

/* Per request. */
struct state {
	bool pieces; /* written piece by piece */
	enum nr_operation operation;
	uint32_t flags; /* as they came, as are offset and length */
	uint64_t offset, length;
	uint64_t next; /* where the next piece begins */
};

/* Never written to, so it is the kernel's page of zeroes many times over. */
static uint8_t zeroes[NR_TRANSFER_MAX] __attribute__((aligned(4096)));

static const char *const zero_modes[] = { "none", "emulate", "notrim", "plugin", NULL };
static const char *const fast_modes[] = { "default", "none", "slow", "ignore", NULL };

static const struct nr_param params[] = {
	{
		.name = "zeromode",
		.type = NR_PARAM_CHOICE,
		.offset = offsetof(struct nozero, zero_mode),
		.fallback = "none",
		.choices = zero_modes,
		.value = "MODE",
		.help = "What becomes of requests to zero",
		.manual =
			"What becomes of requests to zero:\n\n"
			"=over 4\n\n"
			"=item B<none>\n\n"
			"Clients are not offered the command, and have to send zeroes.\n\n"
			"=item B<emulate>\n\n"
			"Zeroes are written, also where the layers below could do better.\n\n"
			"=item B<notrim>\n\n"
			"Requests go down, but never make a hole.  Refused when the layers below\n"
			"have no zeroing.\n\n"
			"=item B<plugin>\n\n"
			"Requests go down as they are; for use with B<fastzeromode>.  Refused when\n"
			"the layers below have no zeroing.\n\n"
			"=back",
	},
	{
		.name = "fastzeromode",
		.type = NR_PARAM_CHOICE,
		.offset = offsetof(struct nozero, fast_mode),
		.fallback = "default",
		.choices = fast_modes,
		.value = "MODE",
		.help = "What becomes of requests to zero fast or not at all",
		.manual =
			"What becomes of requests to zero that shall fail unless they are faster\n"
			"than writing.  Without effect when zeroing is not offered.\n\n"
			"=over 4\n\n"
			"=item B<default>\n\n"
			"With C<zeromode=emulate> the same as B<slow>, otherwise as below.\n\n"
			"=item B<none>\n\nClients are not offered such requests.\n\n"
			"=item B<slow>\n\nThey are offered, and always refused with ENOTSUP.\n\n"
			"=item B<ignore>\n\n"
			"They are offered, and done like others, however slow.  This breaks the\n"
			"protocol's promise.\n\n"
			"=back",
	},
	{ .name = NULL },
};

static enum fast_mode fast_mode(const struct nozero *n)
{
	if (n->fast_mode == FAST_DEFAULT && n->zero_mode == ZERO_EMULATE)
		return FAST_SLOW;
	return n->fast_mode;
}

static int nozero_describe(struct nr_layer *layer, struct nr_traits *t, struct nr_error *error)
{
	const struct nozero *n = layer->instance;

	if (n->zero_mode == ZERO_NONE)
		t->support[NR_CAP_ZERO] = NR_NONE;
	else if (n->zero_mode == ZERO_EMULATE)
		t->support[NR_CAP_ZERO] = NR_NATIVE;
	else if (t->support[NR_CAP_ZERO] == NR_NONE && !t->read_only && !layer->read_only)
		return nr_error_set(error, -ENOTSUP,
				    "zeromode=%s needs zeroing, which the layers below do not "
				    "have; use zeromode=none or zeromode=emulate",
				    zero_modes[n->zero_mode]);
	if (t->support[NR_CAP_ZERO] == NR_NONE || fast_mode(n) == FAST_NONE)
		t->support[NR_CAP_FAST_ZERO] = NR_NONE;
	else if (fast_mode(n) != FAST_DEFAULT)
		t->support[NR_CAP_FAST_ZERO] = NR_NATIVE;
	return 0;
}

static void next_piece(struct nr_layer *layer, struct nr_request *req, struct state *s)
{
	uint64_t left = s->length - (s->next - s->offset);

	req->operation = NR_WRITE;
	req->flags = s->flags & NR_FUA;
	req->offset = s->next;
	req->length = nr_min(left, layer->below->traits.block_max);
	req->segments[0] = (struct nr_segment){ zeroes, req->length, NULL };
	req->segment_count = 1;
	s->next += req->length;
	nr_pass(layer, req);
}

static void nozero_submit(struct nr_layer *layer, struct nr_request *req)
{
	const struct nozero *n = layer->instance;
	struct state *s = nr_scratch(layer, req);

	s->pieces = false;
	s->operation = req->operation;
	s->flags = req->flags;
	if (req->operation != NR_ZERO) {
		nr_pass(layer, req);
		return;
	}
	if ((req->flags & NR_FAST_ZERO) && fast_mode(n) == FAST_SLOW) {
		nr_finish(layer, req, -ENOTSUP);
		return;
	}
	if (fast_mode(n) == FAST_IGNORE)
		req->flags &= ~NR_FAST_ZERO;
	if (n->zero_mode == ZERO_NOTRIM)
		req->flags |= NR_NO_HOLE;
	if (n->zero_mode != ZERO_EMULATE) {
		nr_pass(layer, req);
		return;
	}
	s->pieces = true;
	s->offset = s->next = req->offset;
	s->length = req->length;
	next_piece(layer, req, s);
}

static void nozero_done(struct nr_layer *layer, struct nr_request *req)
{
	struct state *s = nr_scratch(layer, req);

	if (s->pieces && !req->error && s->next - s->offset < s->length) {
		next_piece(layer, req, s);
		return;
	}
	req->flags = s->flags;
	if (s->pieces) {
		req->operation = s->operation;
		req->offset = s->offset;
		req->length = s->length;
		req->segment_count = 0;
	}
	nr_finish(layer, req, req->error);
}

const struct nr_layer_type nr_nozero_type = {
	.abi = NR_LAYER_ABI,
	.name = "nozero",
	.summary = "takes efficient zeroing away, or parts of it",
	.kind = NR_FILTER,
	.placement = NR_SPREAD,
	.params = params,
	.instance_size = sizeof(struct nozero),
	.request_size = sizeof(struct state),
	.describe = nozero_describe,
	.submit = nozero_submit,
	.done = nozero_done,
	.contexts_pass = true,
	.data_passes = true,
};
