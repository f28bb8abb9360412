/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The backend `stripe`: chunks go to the legs in turn, so that what is long, and what is
 * asked for by many, is done by all of them at a time.
 *
 * What a request takes of one leg is one range there, however many chunks that is, so a
 * request becomes one child per leg at most.  The data of writes is dealt out to them as
 * segments, what reads bring is put together from parts of their answers; nothing is
 * copied.
 */
#include "backends/stripe.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>

#include "backends/backends.h"
#include "nbdring/checked.h"

#define CHUNK_MIN 512u
#define CHUNK_MAX (UINT64_C(1) << 30)

struct stripe {
	struct nr_strings words;
	struct nr_stripe disk;
	uint64_t each; /* what is used of each leg, bytes */
};

struct state {
	struct nr_fan fan;
	unsigned first; /* the leg of the first child */
};

static const struct nr_param params[] = {
	NR_LEGS_PARAM(struct stripe, words, 0),
	{ .name = "chunk",
	  .type = NR_PARAM_SIZE,
	  .offset = offsetof(struct stripe, disk.chunk),
	  .fallback = "64K",
	  .min = CHUNK_MIN,
	  .max = CHUNK_MAX,
	  .value = "SIZE",
	  .help = "How much of the disk lies on one leg before the next has its turn",
	  .manual =
		  "How much of the disk lies on one leg before the next has its turn: a power of\n"
		  "two from 512 to 1G.  It is part of how the disk is laid out: another size makes\n"
		  "another disk of the same legs." },
	{ .name = NULL },
};

static int stripe_check(struct nr_layer *layer, struct nr_error *error)
{
	struct stripe *self = layer->instance;

	if (!nr_is_power_of_2(self->disk.chunk))
		return nr_error_set(error, -EINVAL, "chunk=%" PRIu64 " is no power of two",
				    self->disk.chunk);
	self->disk.shift = (unsigned)__builtin_ctzll(self->disk.chunk);
	return 0;
}

/* As many whole chunks of each leg as the smallest has. */
static int lay_out(struct nr_layer *layer, struct nr_error *error)
{
	struct stripe *self = layer->instance;
	const struct nr_legs *legs = &self->disk.legs;
	uint64_t total, least = UINT64_MAX, most = 0;

	for (unsigned i = 0; i < legs->count; i++) {
		least = nr_min(least, legs->leg[i].size);
		most = nr_max(most, legs->leg[i].size);
	}
	self->each = nr_round_down(least, self->disk.chunk);
	if (!nr_mul(self->each, legs->count, &total) || total > NR_SIZE_MAX)
		return nr_error_set(error, -EFBIG, "all legs together have over 2^63-1 bytes");
	for (unsigned i = 0; most > least && i < legs->count; i++)
		if (legs->leg[i].size > self->each)
			nr_layer_log(layer, NR_LAYER_WARNING,
				     "the legs differ in size: of leg %u, which has %" PRIu64
				     " bytes, only the first %" PRIu64 " are used",
				     i + 1, legs->leg[i].size, self->each);
	return 0;
}

static int stripe_open(struct nr_layer *layer, struct nr_error *error)
{
	struct stripe *self = layer->instance;
	int err = nr_legs_open(&self->disk.legs, layer, &self->words, error);

	if (err)
		return err;
	nr_legs_join_contexts(&self->disk.legs);
	err = lay_out(layer, error);
	if (err)
		nr_legs_close(&self->disk.legs);
	return err;
}

static int stripe_describe(struct nr_layer *layer, struct nr_traits *traits, struct nr_error *error)
{
	const struct stripe *self = layer->instance;

	nr_legs_describe(&self->disk.legs, traits);
	if (self->disk.chunk < traits->block_min)
		return nr_error_set(error, -EINVAL,
				    "chunk=%" PRIu64
				    " is less than the smallest block of the legs, "
				    "which is %u",
				    self->disk.chunk, traits->block_min);
	traits->size = self->each * self->disk.legs.count;
	return 0;
}

/* ---- down -------------------------------------------------------------- */

/*
 * The data of a write to the children, chunk by chunk.  With FILL the segments are stored,
 * without they are counted.
 */
static void deal_out(const struct stripe *self, const struct nr_request *req, struct nr_fan *fan,
		     bool fill)
{
	struct nr_request *child = fan->first;
	uint64_t at = req->offset;

	for (uint32_t i = 0; i < req->segment_count; i++) {
		uint8_t *data = req->segments[i].data;
		uint64_t end = at + req->segments[i].length;

		while (at < end) {
			uint64_t part = nr_stripe_part(&self->disk, at, end);

			assert(child);
			if (fill)
				child->segments[child->segment_count] =
					(struct nr_segment){ data, part, NULL };
			child->segment_count++;
			data += part;
			at += part;
			if (nr_is_aligned(at, self->disk.chunk))
				child = nr_fan_next(child);
		}
	}
}

static bool share_out(const struct stripe *self, struct nr_request *req, struct nr_fan *fan)
{
	struct nr_request *child = fan->first;
	struct nr_segment *segments;
	uint64_t room = 0;
	uint8_t *memory;

	deal_out(self, req, fan, false);
	for (unsigned i = 0; i < fan->count; i++, child = nr_fan_next(child)) {
		assert(child);
		room += child->segment_count;
	}
	fan->memory = nr_buffer_get(req->worker, room * sizeof(*segments), &memory);
	if (!fan->memory)
		return false;
	segments = (struct nr_segment *)(void *)memory;
	for (unsigned i = 0; i < fan->count; i++, child = nr_fan_next(child)) {
		assert(child);
		child->segments = segments;
		segments += child->segment_count;
		child->segment_count = 0;
	}
	deal_out(self, req, fan, true);
	return true;
}

static bool make_children(struct stripe *self, struct nr_layer *layer, struct nr_request *req,
			  struct state *s)
{
	struct nr_legs *legs = &self->disk.legs;
	uint64_t end = req->offset + req->length;
	uint64_t chunks = ((end - 1) >> self->disk.shift) - (req->offset >> self->disk.shift) + 1;

	s->first = (unsigned)((req->offset >> self->disk.shift) % legs->count);
	for (unsigned i = 0; i < nr_min(chunks, legs->count); i++) {
		unsigned leg = (s->first + i) % legs->count;
		uint64_t from = nr_stripe_before(&self->disk, leg, req->offset);
		uint64_t to = nr_stripe_before(&self->disk, leg, end);

		assert(from < to);
		if (!nr_fan_add(&s->fan, layer, &legs->leg[leg], req, from, to - from))
			return false;
	}
	return true;
}

static int prepare(struct stripe *self, struct nr_layer *layer, struct nr_request *req,
		   struct state *s)
{
	bool room = make_children(self, layer, req, s);

	/* Half of it cannot be taken back. */
	if (room && s->fan.count > 1 && req->flags & NR_FAST_ZERO)
		return -ENOTSUP;
	if (room && req->operation == NR_WRITE && s->fan.count == 1) {
		s->fan.first->segments = req->segments;
		s->fan.first->segment_count = req->segment_count;
	} else if (room && req->operation == NR_WRITE) {
		room = share_out(self, req, &s->fan);
	} else if (room && req->operation == NR_EXTENTS) {
		room = nr_stripe_map_prepare(&s->fan, req);
	}
	return room ? 0 : -ENOMEM;
}

static void stripe_submit(struct nr_layer *layer, struct nr_request *req)
{
	struct stripe *self = layer->instance;
	struct state *s = nr_scratch(layer, req);
	int error;

	nr_fan_init(&s->fan);
	if (req->operation == NR_FLUSH) {
		nr_fan_flush(&s->fan, layer, &self->disk.legs, req);
		return;
	}
	error = prepare(self, layer, req, s);
	if (error)
		nr_fan_end(&s->fan, layer, req, error);
	else
		nr_fan_send(&s->fan, &self->disk.legs, s->first);
}

/* ---- up ---------------------------------------------------------------- */

static bool put_together(const struct stripe *self, struct nr_request *req, const struct state *s)
{
	struct nr_request *child = s->fan.first;
	uint64_t at = req->offset, end = req->offset + req->length;

	for (unsigned leg = s->first; at < end; leg = (leg + 1) % self->disk.legs.count) {
		uint64_t part = nr_stripe_part(&self->disk, at, end);
		uint64_t from = nr_stripe_before(&self->disk, leg, at) - child->offset;

		if (!nr_answer_part(req, child, from, part))
			return false;
		at += part;
		child = nr_fan_next(child);
	}
	return true;
}

static void stripe_child_done(struct nr_layer *layer, struct nr_request *child)
{
	struct stripe *self = layer->instance;
	struct nr_request *req = nr_child_parent(child);
	struct state *s = nr_scratch(layer, req);
	int error;

	if (!nr_fan_returned(&s->fan))
		return;
	error = nr_fan_error(&s->fan);
	if (!error && req->operation == NR_READ && !put_together(self, req, s))
		error = -ENOMEM;
	if (!error && req->operation == NR_EXTENTS)
		nr_stripe_map_merge(&self->disk, &s->fan, req);
	nr_fan_end(&s->fan, layer, req, error);
}

static void stripe_close(struct nr_layer *layer)
{
	struct stripe *self = layer->instance;

	nr_legs_close(&self->disk.legs);
}

const struct nr_layer_type nr_stripe_type = {
	.abi = NR_LAYER_ABI,
	.name = "stripe",
	.summary = "spreads a disk over several others, chunk by chunk",
	.kind = NR_BACKEND,
	.placement = NR_SPREAD,
	.params = params,
	.instance_size = sizeof(struct stripe),
	.request_size = sizeof(struct state),
	.check = stripe_check,
	.open = stripe_open,
	.describe = stripe_describe,
	.submit = stripe_submit,
	.child_done = stripe_child_done,
	.close = stripe_close,
};
