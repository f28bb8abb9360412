/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Ranges of the disk that keep their contents.
 *
 * A write or zero that touches a protected byte is parked while that part of the
 * disk is read and compared; if every protected byte stays what it is, the request
 * goes down as it came, otherwise it fails with EPERM and nothing of it is
 * written.  Nobody can change the bytes between the look and the write, because
 * everybody comes through here.
 *
 * Trimming leaves contents undefined, so it is refused.  What is not near a
 * protected range costs a binary search.
 */
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "filters/filters.h"
#include "nbdring/checked.h"

struct range {
	uint64_t first, last; /* bytes, both ends included */
};

struct protect {
	struct nr_strings texts;
	struct range *range; /* ascending, without overlap */
	size_t count;
};

/* Per request that is being compared. */
struct state {
	size_t index; /* the range that is looked at */
	uint64_t at;  /* where the next piece begins */
};

static const struct nr_param params[] = {
	{
		.name = "protect",
		.type = NR_PARAM_LIST,
		.flags = NR_PARAM_REQUIRED,
		.offset = offsetof(struct protect, texts),
		.value = "[~]START-END",
		.help = "Bytes that keep their contents, both ends included; ~ means all others",
		.manual =
			"The bytes from B<START> to B<END>, both included, keep their contents;\n"
			"with a tilde in front, all others do.  Numbers are decimal, octal with C<0>\n"
			"in front or hexadecimal with C<0x>.  Without B<START> the range begins with\n"
			"the disk, without B<END> it ends with the disk.\n\n"
			"The parameter can be given more than once.",
	},
	{ .name = NULL },
};

/* A number at *TEXT, or FALLBACK when there is none; *TEXT moves behind it. */
static bool parse_number(const char **text, uint64_t fallback, uint64_t *number)
{
	char *end;

	*number = fallback;
	if (!isdigit((unsigned char)**text))
		return true;
	errno = 0;
	*number = strtoull(*text, &end, 0);
	*text = end;
	return errno == 0 && *number <= NR_SIZE_MAX;
}

/* TEXT as at most two ranges at OUT; their number, or negative errno. */
static int parse_range(const char *text, struct range out[2], struct nr_error *error)
{
	const char *p = text;
	bool inverted = *p == '~';
	struct range r;
	int count = 0;

	p += inverted;
	if (!parse_number(&p, 0, &r.first) || *p++ != '-' ||
	    !parse_number(&p, NR_SIZE_MAX, &r.last) || *p != '\0')
		return nr_error_set(
			error, -EINVAL,
			"protect=%.100s is not a range; write START-END in bytes from 0 "
			"to 2^63-1, such as 0-511, or ~0-511 for all but these",
			text);
	if (r.first > r.last)
		return nr_error_set(error, -EINVAL,
				    "protect=%.100s ends before it starts; write %" PRIu64
				    "-%" PRIu64,
				    text, r.last, r.first);
	if (!inverted) {
		out[count++] = r;
		return count;
	}
	if (r.first > 0)
		out[count++] = (struct range){ 0, r.first - 1 };
	if (r.last < NR_SIZE_MAX)
		out[count++] = (struct range){ r.last + 1, NR_SIZE_MAX };
	return count;
}

static int protect_check(struct nr_layer *layer, struct nr_error *error)
{
	const struct protect *p = layer->instance;
	struct range ignored[2];

	for (size_t i = 0; i < p->texts.count; i++)
		if (parse_range(p->texts.item[i], ignored, error) < 0)
			return error->code;
	return 0;
}

static int by_first(const void *a, const void *b)
{
	const struct range *x = a, *y = b;

	return x->first < y->first ? -1 : x->first > y->first;
}

static int protect_open(struct nr_layer *layer, struct nr_error *error)
{
	struct protect *p = layer->instance;
	size_t found = 0;

	p->range = calloc(2 * p->texts.count + 1, sizeof(*p->range));
	if (!p->range)
		return nr_error_system(error, -ENOMEM, "protect");
	for (size_t i = 0; i < p->texts.count; i++) {
		int count = parse_range(p->texts.item[i], &p->range[found], error);

		if (count < 0) {
			free(p->range);
			return count;
		}
		found += (size_t)count;
	}
	qsort(p->range, found, sizeof(*p->range), by_first);
	p->count = 0;
	for (size_t i = 0; i < found; i++) {
		struct range *last = p->count ? &p->range[p->count - 1] : NULL;

		if (last && p->range[i].first <= last->last)
			last->last = nr_max(last->last, p->range[i].last);
		else
			p->range[p->count++] = p->range[i];
	}
	return 0;
}

static void protect_close(struct nr_layer *layer)
{
	struct protect *p = layer->instance;

	free(p->range);
}

/* What is protected may not be cut off. */
static int protect_describe(struct nr_layer *layer, struct nr_traits *t, struct nr_error *error)
{
	t->support[NR_CAP_RESIZE] = NR_NONE;
	return 0;
}

/* The first range that does not end before OFFSET. */
static size_t find_range(const struct protect *p, uint64_t offset)
{
	size_t low = 0, high = p->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (p->range[middle].last < offset)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/* Read the next piece that holds protected bytes of REQ, or let it go down. */
static void next_piece(struct nr_layer *layer, struct nr_request *req, struct state *s)
{
	const struct protect *p = layer->instance;
	const struct nr_traits *below = &layer->below->traits;
	uint64_t end = req->offset + req->length, start, stop;
	const struct range *r = &p->range[s->index];
	struct nr_request *child;

	if (s->index == p->count || r->first >= end) {
		nr_pass(layer, req);
		return;
	}
	start = nr_max(s->at, nr_round_down(r->first, below->block_min));
	stop = nr_round_down(nr_min(r->last, end - 1), below->block_min) + below->block_min;
	child = nr_child(layer, req, NR_READ, start, nr_min(stop - start, below->block_max));
	if (child)
		nr_pass(layer, child);
	else
		nr_finish(layer, req, -ENOMEM);
}

/* Would REQ leave [FROM, END) as it is in CHILD, which was read? */
static bool is_same(const struct nr_request *req, const struct nr_request *child, uint64_t from,
		    uint64_t end)
{
	uint8_t wanted[4096] = { 0 }, found[4096];

	while (from < end) {
		uint64_t length = nr_min(end - from, sizeof(found));

		if (req->operation == NR_WRITE)
			nr_request_copy_out(req, from - req->offset, length, wanted);
		nr_request_copy_out(child, from - child->offset, length, found);
		if (memcmp(wanted, found, length) != 0)
			return false;
		from += length;
	}
	return true;
}

static void protect_child_done(struct nr_layer *layer, struct nr_request *child)
{
	const struct protect *p = layer->instance;
	struct nr_request *req = nr_child_parent(child);
	struct state *s = nr_scratch(layer, req);
	const struct range *r = &p->range[s->index];
	uint64_t piece_end = child->offset + child->length;
	uint64_t end = nr_min(piece_end, r->last + 1);
	int error = child->error;

	if (!error && !is_same(req, child, nr_max(child->offset, r->first), end))
		error = -EPERM;
	nr_child_release(child);
	if (error) {
		nr_finish(layer, req, error);
		return;
	}
	if (r->last < piece_end)
		s->index++;
	else
		s->at = piece_end;
	if (s->at == req->offset + req->length)
		nr_pass(layer, req);
	else
		next_piece(layer, req, s);
}

static void protect_submit(struct nr_layer *layer, struct nr_request *req)
{
	const struct protect *p = layer->instance;
	struct state *s = nr_scratch(layer, req);
	size_t index;

	if (req->operation != NR_WRITE && req->operation != NR_ZERO && req->operation != NR_TRIM) {
		nr_pass(layer, req);
		return;
	}
	index = find_range(p, req->offset);
	if (index == p->count || p->range[index].first >= req->offset + req->length) {
		nr_pass(layer, req);
	} else if (req->operation == NR_TRIM) {
		nr_finish(layer, req, -EPERM);
	} else if (req->flags & NR_FAST_ZERO) {
		nr_finish(layer, req, -ENOTSUP); /* reading first is not faster */
	} else {
		s->index = index;
		s->at = req->offset;
		next_piece(layer, req, s);
	}
}

const struct nr_layer_type nr_protect_type = {
	.abi = NR_LAYER_ABI,
	.name = "protect",
	.summary = "ranges that cannot be changed",
	.kind = NR_FILTER,
	.placement = NR_SPREAD,
	.params = params,
	.instance_size = sizeof(struct protect),
	.request_size = sizeof(struct state),
	.check = protect_check,
	.open = protect_open,
	.describe = protect_describe,
	.submit = protect_submit,
	.contexts_pass = true,
	.child_done = protect_child_done,
	.close = protect_close,
};
