/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Bit rot: reads in which some bits are wrong.
 *
 * Bad bits are far apart, so each step leaps to the next one: the distance between
 * bits that are bad with probability p is distributed geometrically.  Where they are
 * follows from the seed (random.h):
 *
 *   stuck-bits    a sequence for each block of the disk, so that a bit is bad
 *                 wherever a read begins,
 *   stuck-wires   one sequence, counted from the first byte of each read,
 *   cosmic-rays   a new sequence for each read.
 *
 * The bytes of an answer are not the filter's to change (they may be the disk
 * itself).  A segment with a bad bit is copied first; the others stay as they are.
 * Holes have no bits that could rot.
 */
#include <errno.h>
#include <math.h>
#include <stdatomic.h>

#include "filters/filters.h"
#include "filters/random.h"
#include "filters/value.h"
#include "nbdring/checked.h"

#define BLOCK_BYTES UINT64_C(4096) /* one sequence of stuck bits each */
#define LEAP_MAX 0x1p62

enum mode { STUCK_BITS, STUCK_WIRES, COSMIC_RAYS };

struct evil {
	unsigned mode, mode_again; /* the same parameter by two names */
	const char *chance_text, *stuck_text;
	uint64_t seed;
	double chance;   /* of a bit to be bad */
	double stuck;    /* of a bad bit to be read wrong */
	double log_good; /* logarithm of the chance of a bit to be good */
	_Atomic uint64_t drawn;
};

/* Where in an answer we are; bad bits come in ascending order. */
struct cursor {
	struct nr_request *req;
	uint32_t index; /* of the segment */
	uint64_t start; /* of the segment, bytes from the request's first */
	bool own;       /* the segment is a copy of ours */
};

static const char *const modes[] = { "stuck-bits", "stuck-wires", "cosmic-rays", NULL };

static const struct nr_param evil_params[] = {
	{
		.name = "evil",
		.type = NR_PARAM_CHOICE,
		.offset = offsetof(struct evil, mode),
		.choices = modes,
		.value = "MODE",
		.help = "Which kind of bad bits; default stuck-bits",
		.manual = "Which kind of bad bits; see L</DESCRIPTION>.  The default is\n"
			  "C<stuck-bits>.",
	},
	{
		.name = "evil-mode",
		.type = NR_PARAM_CHOICE,
		.offset = offsetof(struct evil, mode_again),
		.choices = modes,
		.value = "MODE",
		.help = "The same as evil",
	},
	{
		.name = "evil-probability",
		.type = NR_PARAM_STRING,
		.offset = offsetof(struct evil, chance_text),
		.value = "RATE",
		.help = "How likely a bit is bad: 0 to 1, N:M, or N%; default 1e-8, or 1e-6 with "
			"stuck-wires",
		.manual =
			"How likely a bit is bad: a number from 0 to 1 (C<1e-6>), one number out\n"
			"of another (C<1:1000000>), or a percentage (C<0.01%>).\n\n"
			"The default is C<1e-8>, one bit in a hundred million; for\n"
			"C<stuck-wires> it is C<1e-6>.",
	},
	{
		.name = "evil-stuck-probability",
		.type = NR_PARAM_STRING,
		.offset = offsetof(struct evil, stuck_text),
		.fallback = "100%",
		.value = "RATE",
		.help = "How likely a stuck bit is read as the stuck value and not the right one",
		.manual =
			"How likely a stuck bit is read as the stuck value, and not as the right\n"
			"one.",
	},
	{
		.name = "evil-seed",
		.type = NR_PARAM_UINT,
		.offset = offsetof(struct evil, seed),
		.fallback = "1",
		.value = "N",
		.help = "Which bits are bad; the same seed gives the same bits",
		.manual = "Where chance begins.  With the same seed the same bits are stuck.",
	},
	{ .name = NULL },
};

static int check(struct nr_layer *layer, struct nr_error *error)
{
	struct evil *e = layer->instance;
	int err = 0;

	if (e->mode && e->mode_again && e->mode != e->mode_again)
		return nr_error_set(error, -EINVAL,
				    "evil and evil-mode are the same; give one of them");
	if (e->mode_again)
		e->mode = e->mode_again;
	e->chance = e->mode == STUCK_WIRES ? 1e-6 : 1e-8;
	if (e->chance_text)
		err = nr_value_probability("evil-probability", e->chance_text, &e->chance, error);
	if (!err)
		err = nr_value_probability("evil-stuck-probability", e->stuck_text, &e->stuck,
					   error);
	e->log_good = log1p(-e->chance);
	return err;
}

/* How many good bits there are before the next bad one. */
static uint64_t leap(const struct evil *e, uint64_t number)
{
	double bits = log(1 - nr_random_unit(number)) / e->log_good;

	return bits < LEAP_MAX ? (uint64_t)bits : (uint64_t)LEAP_MAX;
}

/* Put a copy of ours in place of the segment's bytes. */
static bool make_own(struct cursor *c, struct nr_segment *segment)
{
	struct nr_buffer *buffer;
	uint8_t *data;

	buffer = nr_buffer_get(c->req->worker, segment->length, &data);
	if (!buffer)
		return false;
	nr_request_copy_out(c->req, c->start, segment->length, data);
	if (segment->owner)
		segment->owner->release(segment->owner);
	segment->owner = buffer;
	segment->data = data;
	c->own = true;
	return true;
}

/*
 * The bit BIT of the answer is bad: NUMBER says how.  False when there is no memory
 * to show it.
 */
static bool spoil(struct evil *e, struct cursor *c, uint64_t bit, uint64_t number)
{
	uint64_t at = bit / 8;
	uint8_t mask = (uint8_t)(1u << bit % 8), byte, bad;
	struct nr_segment *segment = &c->req->segments[c->index];

	while (at - c->start >= segment->length) {
		c->start += segment->length;
		c->index++;
		c->own = false;
		segment++;
	}
	if (!segment->data)
		return true;
	byte = segment->data[at - c->start];
	if (e->mode == COSMIC_RAYS)
		bad = byte ^ mask;
	else
		bad = number & 1 ? byte | mask : byte & (uint8_t)~mask;
	if (bad == byte)
		return true;
	if (e->stuck < 1 && e->mode != COSMIC_RAYS &&
	    !nr_random_hit(nr_random_next(~e->seed, &e->drawn), e->stuck))
		return true;
	if (!c->own && !make_own(c, segment))
		return false;
	segment->data[at - c->start] = bad;
	return true;
}

/*
 * Bits [FROM, TO) of the sequence that SEED begins; the answer's first bit is the
 * one with number FIRST in it (or before it, when the answer began earlier: then FROM
 * is 0 and FIRST is negative, as the arithmetic wraps).
 */
static bool walk(struct evil *e, struct cursor *c, uint64_t seed, uint64_t from, uint64_t to,
		 uint64_t first)
{
	uint64_t bit = 0;

	for (uint64_t index = 0;; index += 2) {
		bit += leap(e, nr_random_at(seed, index));
		if (bit >= to)
			return true;
		if (bit >= from && !spoil(e, c, bit - first, nr_random_at(seed, index + 1)))
			return false;
		bit++;
	}
}

static bool walk_blocks(struct evil *e, struct cursor *c)
{
	uint64_t start = c->req->offset, end = start + c->req->length;

	for (uint64_t block = nr_round_down(start, BLOCK_BYTES); block < end;
	     block += BLOCK_BYTES) {
		uint64_t seed = nr_random_at(e->seed, block / BLOCK_BYTES);
		uint64_t from = nr_max(start, block) - block;
		uint64_t to = nr_min(end - block, BLOCK_BYTES);

		if (!walk(e, c, seed, from * 8, to * 8, (start - block) * 8))
			return false;
	}
	return true;
}

static void done(struct nr_layer *layer, struct nr_request *req)
{
	struct evil *e = layer->instance;
	struct cursor cursor = { .req = req };
	bool shown = true;

	if (req->operation == NR_READ && !req->error && e->chance > 0) {
		if (e->mode == STUCK_BITS)
			shown = walk_blocks(e, &cursor);
		else if (e->mode == STUCK_WIRES)
			shown = walk(e, &cursor, e->seed, 0, req->length * 8, 0);
		else
			shown = walk(e, &cursor, nr_random_next(e->seed, &e->drawn), 0,
				     req->length * 8, 0);
	}
	nr_finish(layer, req, shown ? req->error : -ENOMEM);
}

const struct nr_layer_type nr_evil_type = {
	.abi = NR_LAYER_ABI,
	.name = "evil",
	.summary = "corrupts what is read",
	.kind = NR_FILTER,
	.placement = NR_SPREAD,
	.params = evil_params,
	.instance_size = sizeof(struct evil),
	.check = check,
	.done = done,
	.contexts_pass = true,
};
