/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What becomes of space that clients do not need: whether trimming gives it back, and
 * whether zeroes that they write take any.  The rules are those of qemu's options
 * discard= and detect-zeroes=.
 *
 * A write of zeroes goes down as a request to zero where the layers below do that by
 * themselves; where the core would write zeroes for them, nothing is won, so the write
 * stays one.  The request is changed in place and put back before it goes up: operation,
 * flags and segments are all that differs.
 */
#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "filters/filters.h"

enum discard { DISCARD_IGNORE, DISCARD_UNMAP, DISCARD_OFF, DISCARD_ON };
enum detect { DETECT_OFF, DETECT_ON, DETECT_UNMAP };

struct discard_filter {
	unsigned discard; /* enum discard */
	unsigned detect;  /* enum detect */
};

/* Per request. */
struct state {
	enum nr_operation operation;
	uint32_t flags; /* both as they came */
	uint32_t segment_count;
};

static const char *const discards[] = { "ignore", "unmap", "off", "on", NULL };
static const char *const detects[] = { "off", "on", "unmap", NULL };

static const struct nr_param params[] = {
	{
		.name = "discard",
		.type = NR_PARAM_CHOICE,
		.offset = offsetof(struct discard_filter, discard),
		.fallback = "ignore",
		.choices = discards,
		.value = "MODE",
		.help = "Whether trimming gives space back",
		.manual = "=over 4\n\n"
			  "=item B<ignore>, B<off>\n\n"
			  "Clients may trim, but nothing comes of it, and what they zero stays\n"
			  "allocated.  So a disk keeps the space that it once had.\n\n"
			  "=item B<unmap>, B<on>\n\n"
			  "Both are done as clients ask.\n\n"
			  "=back",
	},
	{
		.name = "detect-zeroes",
		.type = NR_PARAM_CHOICE,
		.offset = offsetof(struct discard_filter, detect),
		.fallback = "off",
		.choices = detects,
		.value = "MODE",
		.help = "Whether writes of zeroes become requests to zero",
		.manual = "=over 4\n\n"
			  "=item B<ignore>, B<off>\n\n"
			  "Clients may trim, but nothing comes of it.  Zeroing makes holes where\n"
			  "clients allow it; the filter B<nozero> can forbid that.\n\n"
			  "=item B<unmap>, B<on>\n\n"
			  "What clients trim is given back.\n\n"
			  "=back",
	},
	{
		.name = "detect-zeroes",
		.type = NR_PARAM_CHOICE,
		.offset = offsetof(struct discard_filter, detect),
		.fallback = "off",
		.choices = detects,
		.value = "MODE",
		.help = "Whether writes of zeroes become requests to zero",
		.manual =
			"=over 4\n\n"
			"=item B<off>\n\nWrites are written, whatever is in them.\n\n"
			"=item B<on>\n\n"
			"A write that holds nothing but zeroes becomes a request to zero that keeps\n"
			"the range allocated.\n\n"
			"=item B<unmap>\n\n"
			"It becomes one that may make a hole.  Needs C<discard=unmap>.\n\n"
			"=back\n\n"
			"Without effect where the layers below cannot zero by themselves.",
	},
	{ .name = NULL },
};

static bool ignores(const struct discard_filter *d)
{
	return d->discard == DISCARD_IGNORE || d->discard == DISCARD_OFF;
}

static int discard_check(struct nr_layer *layer, struct nr_error *error)
{
	const struct discard_filter *d = layer->instance;

	if (d->detect == DETECT_UNMAP && ignores(d))
		return nr_error_set(error, -EINVAL,
				    "detect-zeroes=unmap makes holes, which discard=%s forbids; "
				    "add discard=unmap, or write detect-zeroes=on",
				    discards[d->discard]);
	return 0;
}

static int discard_describe(struct nr_layer *layer, struct nr_traits *t, struct nr_error *error)
{
	/* To do nothing everybody is able. */
	if (ignores(layer->instance))
		t->support[NR_CAP_TRIM] = NR_NATIVE;
	return 0;
}

/* Compares the memory with itself, shifted: as fast as memcmp is. */
static bool is_zero(const uint8_t *data, uint64_t length)
{
	uint64_t head = length < 16 ? length : 16;

	for (uint64_t i = 0; i < head; i++)
		if (data[i])
			return false;
	return memcmp(data, data + head, length - head) == 0;
}

static bool writes_zeroes(const struct nr_request *req)
{
	for (uint32_t i = 0; i < req->segment_count; i++)
		if (req->segments[i].data &&
		    !is_zero(req->segments[i].data, req->segments[i].length))
			return false;
	return true;
}

static void discard_submit(struct nr_layer *layer, struct nr_request *req)
{
	const struct discard_filter *d = layer->instance;
	struct state *s = nr_scratch(layer, req);

	s->operation = req->operation;
	s->flags = req->flags;
	s->segment_count = req->segment_count;
	if (req->operation == NR_TRIM && ignores(d)) {
		nr_finish(layer, req, 0);
		return;
	}
	if (req->operation == NR_WRITE && d->detect != DETECT_OFF &&
	    layer->below->traits.support[NR_CAP_ZERO] == NR_NATIVE && writes_zeroes(req)) {
		req->operation = NR_ZERO;
		req->segment_count = 0;
		if (d->detect == DETECT_ON)
			req->flags |= NR_NO_HOLE;
	}
	nr_pass(layer, req);
}

static void discard_done(struct nr_layer *layer, struct nr_request *req)
{
	struct state *s = nr_scratch(layer, req);

	if (req->operation != s->operation) {
		req->operation = s->operation;
		req->segment_count = s->segment_count;
	}
	req->flags = s->flags;
	nr_finish(layer, req, req->error);
}

const struct nr_layer_type nr_discard_type = {
	.abi = NR_LAYER_ABI,
	.name = "discard",
	.summary = "says whether trimming and zeroes give space back",
	.kind = NR_FILTER,
	.placement = NR_SPREAD,
	.params = params,
	.instance_size = sizeof(struct discard_filter),
	.request_size = sizeof(struct state),
	.check = discard_check,
	.describe = discard_describe,
	.submit = discard_submit,
	.done = discard_done,
	.contexts_pass = true,
	.data_passes = true,
};
