/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Decoding all of a disk of blocks.h when it is opened: on the thread that opens it, span
 * after span, with memory for one piece of input and one grain of output.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "filters/blocks-map.h"
#include "nbdring/checked.h"

#define PIECE ((uint64_t)256 << 10)

struct checker {
	struct nr_layer *layer;
	struct nr_blocks *blocks;
	struct nr_error *error;
	const struct nr_span *span;
	uint64_t read;   /* of the span's input */
	uint64_t length; /* of what it decodes to, and how much of that there is */
	uint64_t made;
	struct nr_codec_io io;
	uint8_t in[PIECE];
	uint8_t grain[NR_GRAIN_BYTES];
};

static int fill(struct checker *c)
{
	uint64_t length = nr_min(PIECE, c->span->in_length - c->read);
	int err;

	if (c->io.in_left > 0 || length == 0)
		return 0;
	err = nr_read_below(c->layer, c->span->in + c->read, length, c->in, c->error);
	c->io.in = c->in;
	c->io.in_left = length;
	c->read += length;
	return err;
}

/* Something has come out: is a grain complete? */
static void look_at_grain(struct checker *c)
{
	uint64_t filled = (c->made - 1) % NR_GRAIN_BYTES + 1;
	bool zero;

	if (filled < NR_GRAIN_BYTES && c->made < c->length)
		return;
	zero = c->grain[0] == 0 && memcmp(c->grain, c->grain + 1, filled - 1) == 0;
	nr_zeroes_set(&c->blocks->zeroes, c->span->grain + (c->made - 1) / NR_GRAIN_BYTES, 1,
		      zero ? NR_GRAIN_ZERO : NR_GRAIN_DATA);
}

/* 1: it goes on, 0: that was all, and it is right, or negative errno. */
static int step(struct checker *c, void *decoder)
{
	const struct nr_codec *codec = c->blocks->codec;
	uint64_t filled = c->made % NR_GRAIN_BYTES;
	size_t input = c->io.in_left, room;
	int verdict;

	c->io.out = c->grain + filled;
	c->io.out_left = nr_min(NR_GRAIN_BYTES - filled, c->length - c->made);
	room = c->io.out_left;
	verdict = codec->step(decoder, &c->io);
	c->made += room - c->io.out_left;
	if (room > c->io.out_left)
		look_at_grain(c);
	if (verdict < 0)
		return verdict;
	if (verdict == NR_CODEC_END)
		return c->made == c->length ? 0 : -EIO;
	if (c->made == c->length && !codec->ends)
		return 0;
	/* Stuck, or cut off. */
	if (room == c->io.out_left && input == c->io.in_left &&
	    (input > 0 || c->read == c->span->in_length))
		return -EIO;
	return 1;
}

static int check_span(struct checker *c, size_t span)
{
	const struct nr_blocks *b = c->blocks;
	int status = -ENOMEM, err = 0;
	void *decoder;

	c->span = &b->span[span];
	c->length = nr_blocks_span_end(b, span) - c->span->out;
	c->read = c->made = 0;
	c->io = (struct nr_codec_io){ .in = c->in };
	if (c->span->in_length == 0)
		return 0;
	decoder = b->codec->begin(b->context, c->span, &status);
	for (status = decoder ? 1 : status; status > 0 && !err;) {
		err = fill(c);
		if (!err)
			status = step(c, decoder);
	}
	if (decoder)
		b->codec->end(decoder);
	if (err || !status)
		return err;
	if (status == -ENOMEM)
		return nr_error_system(c->error, status, "unpacking the file");
	return nr_error_set(c->error, -EINVAL,
			    "the file is damaged between bytes %" PRIu64 " and %" PRIu64
			    ": bytes %" PRIu64 " to %" PRIu64 " of the disk cannot be had",
			    c->span->in, c->span->in + c->span->in_length, c->span->out,
			    c->span->out + c->length);
}

int nr_blocks_check(struct nr_layer *layer, struct nr_blocks *b, struct nr_error *error)
{
	struct checker *c = malloc(sizeof(*c));
	int err = 0;

	if (!c)
		return nr_error_system(error, -ENOMEM, "unpacking the file");
	c->layer = layer;
	c->blocks = b;
	c->error = error;
	for (size_t i = 0; i < b->span_count && !err; i++)
		err = check_span(c, i);
	free(c);
	return err;
}
