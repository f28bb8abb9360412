/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Two stacks that ought to be the same disk: every write goes to both, every read is
 * answered by both and compared.
 *
 * The request itself goes down, a child with the same data goes to the twin, and the
 * later of the two to come back decides.  Overlapping requests that are under way
 * together may end in any order, and not in the same one on both sides, which would
 * look like a difference that is none; so a write holds its range exclusively and a
 * read shared (rangelock.h).
 *
 * A difference is an error for the client, and a line in the log says where it is.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "filters/filters.h"
#include "filters/rangelock.h"
#include "nbdring/checked.h"

struct verify {
	const char *words;
	bool stop;
	struct nr_stack *twin;
	struct nr_rangelock lock;
};

struct state {
	bool both; /* goes to the twin, too */
	bool locked;
	unsigned under_way;      /* of the two */
	struct nr_request *twin; /* the child; NULL until it is back */
	struct nr_range_ticket ticket;
};

static const struct nr_param verify_params[] = {
	{
		.name = "twin",
		.type = NR_PARAM_STRING,
		.flags = NR_PARAM_REQUIRED | NR_PARAM_STACK,
		.offset = offsetof(struct verify, words),
		.value = "'[--filter=FILTER]... BACKEND [KEY=VALUE]...'",
		.help = "The stack to compare with, in one word as on the command line",
		.manual = "The stack to compare with, written as on the command line but in one\n"
			  "word: C<twin='--filter=delay memory 1G rdelay=1ms'>.  It must have the\n"
			  "same size and, at the start, the same content.",
	},
	{
		.name = "verify-stop",
		.type = NR_PARAM_BOOL,
		.offset = offsetof(struct verify, stop),
		.fallback = "false",
		.value = "BOOL",
		.help = "Stop the server at the first difference, saying where it is",
		.manual = "Whether the first difference stops the server.",
	},
	{ .name = NULL },
};

static int open_twin(struct nr_layer *layer, struct nr_error *error)
{
	struct verify *v = layer->instance;

	v->twin = nr_substack_open(layer, v->words, error);
	if (!v->twin) {
		nr_error_prefix(error, "twin");
		return error && error->code ? error->code : -EIO;
	}
	nr_rangelock_init(&v->lock);
	return 0;
}

static void close_twin(struct nr_layer *layer)
{
	struct verify *v = layer->instance;

	nr_rangelock_fini(&v->lock);
	nr_substack_close(v->twin);
}

/* What both can do. */
static int describe(struct nr_layer *layer, struct nr_traits *t, struct nr_error *error)
{
	struct verify *v = layer->instance;
	const struct nr_traits *twin = nr_substack_traits(v->twin);

	if (twin->size != t->size)
		return nr_error_set(error, -EINVAL,
				    "the disk has %" PRIu64 " bytes and its twin %" PRIu64
				    "; they must be the same",
				    t->size, twin->size);
	if (twin->read_only && !t->read_only && !layer->read_only)
		return nr_error_set(error, -EINVAL,
				    "the twin is read-only but the disk is not; serve it with -r "
				    "or give a twin that can be written");
	t->block_min = (uint32_t)nr_max(t->block_min, twin->block_min);
	t->block_preferred = (uint32_t)nr_max(t->block_preferred, twin->block_preferred);
	t->block_max = (uint32_t)nr_min(t->block_max, twin->block_max);
	t->block_max -= t->block_max % t->block_min;
	t->memory_align = (uint32_t)nr_max(t->memory_align, twin->memory_align);
	t->multi_conn = t->multi_conn && twin->multi_conn;
	for (unsigned i = 0; i < NR_CAP_COUNT; i++)
		if (twin->support[i] == NR_NONE && i != NR_CAP_CACHE && i != NR_CAP_EXTENTS)
			t->support[i] = NR_NONE;
	/* One may do it and the other refuse; trimmed bytes may be anything. */
	t->support[NR_CAP_FAST_ZERO] = NR_NONE;
	t->support[NR_CAP_TRIM] = NR_NONE;
	t->support[NR_CAP_RESIZE] = NR_NONE;
	return 0;
}

/* Comparing. */

static void say(struct nr_layer *layer, const struct nr_request *req, const char *text)
{
	static const char *const names[NR_OPERATION_COUNT] = {
		[NR_READ] = "read",
		[NR_WRITE] = "write",
		[NR_FLUSH] = "flush",
		[NR_ZERO] = "zero",
	};
	struct verify *v = layer->instance;
	char why[256];

	nr_layer_log(layer, NR_LAYER_ERROR, "%s of %" PRIu64 " bytes at %" PRIu64 ": %s",
		     names[req->operation], req->length, req->offset, text);
	if (!v->stop)
		return;
	snprintf(why, sizeof(why), "verify: %s of %" PRIu64 " bytes at %" PRIu64 ": %s",
		 names[req->operation], req->length, req->offset, text);
	nr_stop_server(layer, why);
}

static uint8_t byte_at(const struct nr_segment *segment, uint64_t at)
{
	return segment->data ? segment->data[at] : 0;
}

/* Is there a difference in LENGTH bytes?  Then *AT says where the first one is. */
static bool parts_differ(const struct nr_segment *a, uint64_t from_a, const struct nr_segment *b,
			 uint64_t from_b, uint64_t length, uint64_t *at)
{
	if (!a->data && !b->data)
		return false;
	if (a->data && b->data && memcmp(a->data + from_a, b->data + from_b, length) == 0)
		return false;
	for (*at = 0; *at < length; ++*at)
		if (byte_at(a, from_a + *at) != byte_at(b, from_b + *at))
			return true;
	return false;
}

static int compare(struct nr_layer *layer, const struct nr_request *req,
		   const struct nr_request *twin)
{
	const struct nr_segment *a = req->segments, *b = twin->segments;
	uint64_t from_a = 0, from_b = 0, done = 0;

	while (done < req->length) {
		uint64_t part = nr_min(a->length - from_a, b->length - from_b), at;

		if (parts_differ(a, from_a, b, from_b, part, &at)) {
			char text[128];

			snprintf(text, sizeof(text),
				 "the byte at %" PRIu64 " is 0x%02x, in the twin it is 0x%02x",
				 req->offset + done + at, byte_at(a, from_a + at),
				 byte_at(b, from_b + at));
			say(layer, req, text);
			return -EIO;
		}
		done += part;
		from_a += part;
		from_b += part;
		if (from_a == a->length) {
			a++;
			from_a = 0;
		}
		if (from_b == b->length) {
			b++;
			from_b = 0;
		}
	}
	return 0;
}

static int judge(struct nr_layer *layer, const struct nr_request *req,
		 const struct nr_request *twin)
{
	if (req->error && !twin->error)
		say(layer, req, "it failed, but not in the twin");
	if (req->error)
		return req->error;
	if (twin->error) {
		say(layer, req, "it failed in the twin only");
		return -EIO;
	}
	return req->operation == NR_READ ? compare(layer, req, twin) : 0;
}

static void unlock(struct nr_layer *layer, struct state *s)
{
	struct verify *v = layer->instance;

	if (s->locked)
		nr_rangelock_give(&v->lock, &s->ticket);
	s->locked = false;
}

/* One of the two is back. */
static void came_back(struct nr_layer *layer, struct nr_request *req, struct state *s)
{
	int error;

	if (--s->under_way)
		return;
	error = judge(layer, req, s->twin);
	nr_child_release(s->twin);
	unlock(layer, s);
	nr_finish(layer, req, error);
}

/* Slots. */

static void send_both(struct nr_layer *layer, struct nr_request *req, struct state *s)
{
	struct verify *v = layer->instance;
	struct nr_request *child =
		nr_child_in(layer, v->twin, req, req->operation, req->offset, req->length);

	if (!child) {
		unlock(layer, s);
		nr_finish(layer, req, -ENOMEM);
		return;
	}
	child->flags = req->flags;
	if (req->operation == NR_WRITE) {
		child->segments = req->segments;
		child->segment_count = req->segment_count;
	}
	s->under_way = 2;
	nr_enter(v->twin, child);
	nr_pass(layer, req);
}

static void take_lock(struct nr_layer *layer, struct nr_request *req)
{
	struct verify *v = layer->instance;
	struct state *s = nr_scratch(layer, req);

	if (!nr_rangelock_take(&v->lock, &s->ticket))
		return;
	s->locked = true;
	send_both(layer, req, s);
}

static void submit(struct nr_layer *layer, struct nr_request *req)
{
	struct state *s = nr_scratch(layer, req);

	s->both = req->operation != NR_CACHE && req->operation != NR_EXTENTS;
	s->locked = false;
	if (!s->both) {
		nr_pass(layer, req);
	} else if (req->operation == NR_FLUSH) {
		send_both(layer, req, s);
	} else {
		nr_range_ticket_init(&s->ticket, layer, req, req->offset, req->length,
				     req->operation != NR_READ);
		take_lock(layer, req);
	}
}

static void done(struct nr_layer *layer, struct nr_request *req)
{
	struct state *s = nr_scratch(layer, req);

	if (s->both)
		came_back(layer, req, s);
	else
		nr_finish(layer, req, req->error);
}

static void child_done(struct nr_layer *layer, struct nr_request *child)
{
	struct nr_request *req = nr_child_parent(child);
	struct state *s = nr_scratch(layer, req);

	s->twin = child;
	came_back(layer, req, s);
}

const struct nr_layer_type nr_verify_type = {
	.abi = NR_LAYER_ABI,
	.name = "verify",
	.summary = "compares a disk with a twin",
	.kind = NR_FILTER,
	.placement = NR_SPREAD,
	.params = verify_params,
	.instance_size = sizeof(struct verify),
	.request_size = sizeof(struct state),
	.open = open_twin,
	.describe = describe,
	.submit = submit,
	.done = done,
	.contexts_pass = true,
	.child_done = child_done,
	.resume = take_lock,
	.close = close_twin,
};
