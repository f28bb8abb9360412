/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The backend `concat`: legs one behind the other.
 *
 * A request becomes a child of each leg that it touches, all at once.  What reads bring
 * is put together in order, without a copy.  A map is asked for from one leg after the
 * other, because each goes on where the last one ended.
 *
 * Where one leg ends and the next begins is settled when they are opened.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "backends/backends.h"
#include "backends/legs.h"
#include "nbdring/checked.h"

struct concat {
	struct nr_strings words;
	struct nr_legs legs;
	uint64_t *start; /* of each leg, bytes; one more: the size */
};

struct state {
	struct nr_fan fan;
	struct nr_extents list; /* of the leg that is asked for its map */
};

static const struct nr_param params[] = {
	NR_LEGS_PARAM(struct concat, words, 0),
	{ .name = NULL },
};

/* Empty legs hold nothing; one is kept if there is no other. */
static void drop_empty(struct concat *self)
{
	struct nr_legs *legs = &self->legs;
	unsigned kept = 0;

	for (unsigned i = 0; i < legs->count; i++) {
		if (legs->leg[i].size == 0 && (kept || i + 1 < legs->count))
			nr_substack_close(legs->leg[i].stack);
		else
			legs->leg[kept++] = legs->leg[i];
	}
	legs->count = kept;
}

static int lay_out(struct concat *self, struct nr_error *error)
{
	self->start = calloc(self->legs.count + 1, sizeof(*self->start));
	if (!self->start)
		return nr_error_system(error, -ENOMEM, "opening");
	for (unsigned i = 0; i < self->legs.count; i++) {
		uint64_t *end = &self->start[i + 1];

		if (!nr_add(self->start[i], self->legs.leg[i].size, end) || *end > NR_SIZE_MAX)
			return nr_error_set(error, -EFBIG,
					    "all legs together have over 2^63-1 bytes");
	}
	return 0;
}

/* A request that is aligned for the whole has to be so for each leg. */
static int check_seams(const struct concat *self, struct nr_error *error)
{
	struct nr_traits traits = { .block_min = 1, .memory_align = 1, .block_max = UINT32_MAX };

	nr_legs_describe(&self->legs, &traits);
	for (unsigned i = 0; i + 1 < self->legs.count; i++)
		if (!nr_is_aligned(self->legs.leg[i].size, traits.block_min))
			return nr_error_set(
				error, -EINVAL,
				"leg %u has %llu bytes, which is no multiple of %u, the "
				"smallest block of all legs; use --filter=truncate for it",
				i + 1, (unsigned long long)self->legs.leg[i].size,
				traits.block_min);
	return 0;
}

static void concat_close(struct nr_layer *layer)
{
	struct concat *self = layer->instance;

	nr_legs_close(&self->legs);
	free(self->start);
}

static int concat_open(struct nr_layer *layer, struct nr_error *error)
{
	struct concat *self = layer->instance;
	int err = nr_legs_open(&self->legs, layer, &self->words, error);

	if (err)
		return err;
	drop_empty(self);
	nr_legs_join_contexts(&self->legs);
	err = lay_out(self, error);
	if (!err)
		err = check_seams(self, error);
	if (err)
		concat_close(layer);
	return err;
}

static int concat_describe(struct nr_layer *layer, struct nr_traits *traits, struct nr_error *error)
{
	const struct concat *self = layer->instance;

	nr_legs_describe(&self->legs, traits);
	traits->size = self->start[self->legs.count];
	return 0;
}

/* The leg that holds the byte at OFFSET, which there is. */
static unsigned leg_at(const struct concat *self, uint64_t offset)
{
	unsigned low = 0, high = self->legs.count;

	while (high - low > 1) {
		unsigned middle = low + (high - low) / 2;

		if (self->start[middle] <= offset)
			low = middle;
		else
			high = middle;
	}
	assert(offset >= self->start[low]);
	assert(offset < self->start[low + 1]);
	return low;
}

/* ---- the map ----------------------------------------------------------- */

/* From where the map of REQ ends so far.  Finishes REQ if that cannot be. */
static void ask_for_map(struct concat *self, struct nr_layer *layer, struct nr_request *req,
			struct state *s)
{
	struct nr_extents *map = req->extents;
	unsigned i = leg_at(self, map->next);
	uint64_t end = nr_min(map->end, self->start[i + 1]), offset = map->next - self->start[i];
	struct nr_request *child =
		nr_fan_add(&s->fan, layer, &self->legs.leg[i], req, offset, end - map->next);

	if (!child) {
		nr_finish(layer, req, -ENOMEM);
		return;
	}
	/* Behind what is there already, where it will be read before it is written over. */
	s->list = (struct nr_extents){ .start = offset,
				       .next = offset,
				       .end = offset + child->length,
				       .capacity = map->capacity - map->count,
				       .extent = map->extent + map->count };
	child->extents = &s->list;
	nr_fan_send(&s->fan, &self->legs, i);
}

static void map_came(struct concat *self, struct nr_layer *layer, struct nr_request *req,
		     struct state *s)
{
	struct nr_extents *map = req->extents;
	bool complete = s->list.next == s->list.end, more = true;
	int error = nr_fan_error(&s->fan);

	nr_fan_release(&s->fan);
	for (uint32_t i = 0; !error && i < s->list.count; i++) {
		struct nr_extent extent = s->list.extent[i];

		more = nr_extents_add(map, extent.length, extent.status);
	}
	/* What there is is an answer, too. */
	if (error || !more || !complete || map->count == map->capacity || req->flags & NR_REQ_ONE)
		nr_finish(layer, req, map->count ? 0 : error);
	else
		ask_for_map(self, layer, req, s);
}

/* ---- requests ---------------------------------------------------------- */

/* Of the segments of REQ, the LENGTH bytes from FROM on, into TO; how many they are. */
static uint32_t cut_segments(const struct nr_request *req, uint64_t from, uint64_t length,
			     struct nr_segment *to)
{
	const struct nr_segment *segment = req->segments;
	uint32_t count = 0;

	for (; from >= segment->length; segment++)
		from -= segment->length;
	for (; length; segment++, count++) {
		uint64_t part = nr_min(segment->length - from, length);

		to[count] = (struct nr_segment){ segment->data + from, part, NULL };
		length -= part;
		from = 0;
	}
	return count;
}

/* The data of a write over several legs.  False: memory is short. */
static bool share_out(struct concat *self, struct nr_request *req, struct nr_fan *fan,
		      unsigned first)
{
	struct nr_request *child = fan->first;
	/* Each seam adds one at most. */
	uint64_t room = req->segment_count + fan->count;
	struct nr_segment *segments;
	uint8_t *data;

	fan->memory = nr_buffer_get(req->worker, room * sizeof(*segments), &data);
	if (!fan->memory)
		return false;
	segments = (struct nr_segment *)(void *)data;
	for (unsigned i = 0; i < fan->count; i++, child = nr_fan_next(child)) {
		uint64_t from = self->start[first + i] + child->offset - req->offset;

		child->segments = segments;
		child->segment_count = cut_segments(req, from, child->length, segments);
		segments += child->segment_count;
	}
	return true;
}

static bool make_children(struct concat *self, struct nr_layer *layer, struct nr_request *req,
			  struct nr_fan *fan, unsigned first)
{
	uint64_t at = req->offset, end = req->offset + req->length;

	for (unsigned i = first; at < end; i++) {
		uint64_t part = nr_min(end, self->start[i + 1]) - at;

		if (!nr_fan_add(fan, layer, &self->legs.leg[i], req, at - self->start[i], part))
			return false;
		at += part;
	}
	return true;
}

static void pass_on(struct concat *self, struct nr_layer *layer, struct nr_request *req,
		    struct state *s)
{
	unsigned first = leg_at(self, req->offset);
	int error = 0;

	if (!make_children(self, layer, req, &s->fan, first)) {
		error = -ENOMEM;
	} else if (s->fan.count > 1 && req->flags & NR_FAST_ZERO) {
		/* Half of it cannot be taken back. */
		error = -ENOTSUP;
	} else if (req->operation == NR_WRITE && s->fan.count == 1) {
		s->fan.first->segments = req->segments;
		s->fan.first->segment_count = req->segment_count;
	} else if (req->operation == NR_WRITE && !share_out(self, req, &s->fan, first)) {
		error = -ENOMEM;
	}
	if (error)
		nr_fan_end(&s->fan, layer, req, error);
	else
		nr_fan_send(&s->fan, &self->legs, first);
}

static void concat_submit(struct nr_layer *layer, struct nr_request *req)
{
	struct concat *self = layer->instance;
	struct state *s = nr_scratch(layer, req);

	nr_fan_init(&s->fan);
	if (req->operation == NR_FLUSH)
		nr_fan_flush(&s->fan, layer, &self->legs, req);
	else if (req->operation == NR_EXTENTS)
		ask_for_map(self, layer, req, s);
	else
		pass_on(self, layer, req, s);
}

static bool put_together(struct nr_request *req, struct nr_fan *fan)
{
	struct nr_request *child = fan->first;

	for (unsigned i = 0; i < fan->count; i++, child = nr_fan_next(child))
		if (!nr_answer_part(req, child, 0, child->length))
			return false;
	return true;
}

static void concat_child_done(struct nr_layer *layer, struct nr_request *child)
{
	struct nr_request *req = nr_child_parent(child);
	struct state *s = nr_scratch(layer, req);
	int error;

	if (!nr_fan_returned(&s->fan))
		return;
	if (req->operation == NR_EXTENTS) {
		map_came(layer->instance, layer, req, s);
		return;
	}
	error = nr_fan_error(&s->fan);
	if (!error && req->operation == NR_READ && !put_together(req, &s->fan))
		error = -ENOMEM;
	nr_fan_end(&s->fan, layer, req, error);
}

const struct nr_layer_type nr_concat_type = {
	.abi = NR_LAYER_ABI,
	.name = "concat",
	.summary = "serves several disks as one, one behind the other",
	.kind = NR_BACKEND,
	.placement = NR_SPREAD,
	.params = params,
	.instance_size = sizeof(struct concat),
	.request_size = sizeof(struct state),
	.open = concat_open,
	.describe = concat_describe,
	.submit = concat_submit,
	.child_done = concat_child_done,
	.close = concat_close,
};
