/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The filter `gzip`: the disk that the gzip file below unpacks to (blocks.h).
 *
 * A span begins at a state of the index (gzip-index.h), in the middle of a member or
 * with one, and may go on in the members behind.  In the middle it is raw deflate up to
 * the member's end, whose eight bytes of checksum are passed by: they were right when
 * the index was made.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "filters/blocks.h"
#include "filters/filters.h"
#include "filters/gzip-index.h"
#include "nbdring/checked.h"

#define TRAILER 8u
#define WHOLE_MAX ((uint64_t)16 << 20)

struct gzip {
	const char *path;
	uint64_t cache, max_size;
	struct nr_index index;
	struct nr_blocks blocks;
};

enum where { PRIME, RAW, IN_TRAILER, BETWEEN, MEMBER };

struct decoder {
	z_stream z;
	enum where where;
	uint32_t bits;
	uint32_t trailer; /* bytes of it that are over */
};

static const struct nr_param params[] = {
	{ .name = "gzip-index",
	  .type = NR_PARAM_PATH,
	  .flags = NR_PARAM_WRITTEN | NR_PARAM_MADE | NR_PARAM_AGAIN,
	  .offset = offsetof(struct gzip, path),
	  .value = "PATH",
	  .help = "a file that the index is kept in",
	  .manual = "A file that the index is kept in. If it is there and is that of the gzip "
		    "file (its size and a sample of its bytes are compared), the disk is open "
		    "at once; else the index is made and written there." },
	{ .name = "gzip-cache",
	  .type = NR_PARAM_SIZE,
	  .offset = offsetof(struct gzip, cache),
	  .fallback = "128M",
	  .min = 4 * WHOLE_MAX,
	  .max = (uint64_t)1 << 50,
	  .value = "SIZE",
	  .help = "memory for what has been unpacked" },
	{ .name = "gzip-max-size",
	  .type = NR_PARAM_SIZE,
	  .offset = offsetof(struct gzip, max_size),
	  .fallback = "4T",
	  .min = 1,
	  .value = "SIZE",
	  .help = "refuse files that unpack to more than this",
	  .manual = "Refuse files that unpack to more than this. A gzip file does not say how "
		    "large it is, and may be a thousand times larger than it looks; all of it "
		    "has to be unpacked once to know." },
	{ .name = NULL },
};

/* A span. */

static int set_window(struct decoder *d, const struct nr_index_state *state)
{
	uint8_t window[NR_GZIP_WINDOW];

	if (state->length > sizeof(window) || nr_index_window(state, window))
		return -EIO;
	return inflateSetDictionary(&d->z, window, state->length) == Z_OK ? 0 : -EIO;
}

static void end_span(void *decoder)
{
	struct decoder *d = decoder;

	(void)inflateEnd(&d->z);
	free(d);
}

static void *begin_span(const void *context, const struct nr_span *span, int *error)
{
	const struct gzip *g = context;
	const struct nr_index_state *state = &g->index.state[span->extra];
	struct decoder *d = calloc(1, sizeof(*d));

	*error = -ENOMEM;
	if (!d)
		return NULL;
	d->bits = state->bits;
	d->where = !state->length ? BETWEEN : state->bits ? PRIME : RAW;
	if (inflateInit2(&d->z, state->length ? -15 : 15 + 16) != Z_OK) {
		free(d);
		return NULL;
	}
	*error = 0;
	/* Bits have to go first, and need a byte of the file. */
	if (d->where == RAW)
		*error = set_window(d, state);
	else if (d->where == PRIME && set_window(d, state))
		*error = -EIO;
	if (!*error)
		return d;
	end_span(d);
	return NULL;
}

static int step_inflate(struct decoder *d, struct nr_codec_io *io)
{
	int ret;

	d->z.next_in = (z_const Bytef *)io->in;
	d->z.avail_in = (uInt)io->in_left;
	d->z.next_out = io->out;
	d->z.avail_out = (uInt)io->out_left;
	ret = inflate(&d->z, Z_NO_FLUSH);
	io->in = d->z.next_in;
	io->in_left = d->z.avail_in;
	io->out = d->z.next_out;
	io->out_left = d->z.avail_out;
	if (ret == Z_STREAM_END) {
		d->where = d->where == RAW ? IN_TRAILER : BETWEEN;
		return 0;
	}
	return ret == Z_OK || ret == Z_BUF_ERROR ? 0 : ret == Z_MEM_ERROR ? -ENOMEM : -EIO;
}

static void take(struct nr_codec_io *io)
{
	io->in++;
	io->in_left--;
}

static int step_span(void *decoder, struct nr_codec_io *io)
{
	struct decoder *d = decoder;

	switch (d->where) {
	case PRIME:
		if (io->in_left == 0)
			return NR_CODEC_MORE;
		if (inflatePrime(&d->z, (int)d->bits, *io->in >> (8 - d->bits)) != Z_OK)
			return -EIO;
		take(io);
		d->where = RAW;
		return NR_CODEC_MORE;
	case IN_TRAILER:
		for (; io->in_left > 0 && d->trailer < TRAILER; d->trailer++)
			take(io);
		if (d->trailer == TRAILER)
			d->where = BETWEEN;
		return NR_CODEC_MORE;
	case BETWEEN:
		while (io->in_left > 0 && *io->in == 0)
			take(io);
		if (io->in_left > 0 && inflateReset2(&d->z, 15 + 16) != Z_OK)
			return -ENOMEM;
		if (io->in_left > 0)
			d->where = MEMBER;
		return io->in_left > 0 ? step_inflate(d, io) : NR_CODEC_MORE;
	case RAW:
	case MEMBER:
		break;
	}
	return step_inflate(d, io);
}

static const struct nr_codec gzip_codec = {
	.begin = begin_span,
	.step = step_span,
	.end = end_span,
};

/* The filter. */

static const struct nr_index_kind kind = {
	.magic = "NBDRGZI2",
	.format = "gzip",
	.window_max = NR_GZIP_WINDOW,
	.bits_max = 7,
};

static int make_index(struct nr_layer *layer, struct nr_error *error)
{
	struct gzip *g = layer->instance;

	return nr_gzip_index_make(layer, &g->index, &g->blocks, g->max_size, error);
}

static void gzip_close(struct nr_layer *layer)
{
	struct gzip *g = layer->instance;

	nr_blocks_free(&g->blocks);
	nr_index_free(&g->index);
}

static int gzip_open(struct nr_layer *layer, struct nr_error *error)
{
	struct gzip *g = layer->instance;
	int err;

	g->blocks.codec = &gzip_codec;
	g->blocks.context = g;
	g->blocks.whole_max = WHOLE_MAX;
	g->blocks.cache_max = g->cache;
	err = nr_index_open(layer, &kind, &g->index, &g->blocks, g->path, make_index, error);
	if (!err)
		err = nr_blocks_start(&g->blocks, error);
	if (err)
		gzip_close(layer);
	else
		nr_layer_log(layer, NR_LAYER_DEBUG,
			     "%zu states of %" PRIu64 " bytes in all for %" PRIu64 " bytes",
			     g->index.count, g->index.bytes + g->index.count * NR_INDEX_STATE_BYTES,
			     g->blocks.size);
	return err;
}

static int gzip_describe(struct nr_layer *layer, struct nr_traits *t, struct nr_error *error)
{
	const struct gzip *g = layer->instance;

	nr_blocks_describe(&g->blocks, t);
	return 0;
}

static void gzip_submit(struct nr_layer *layer, struct nr_request *req)
{
	struct gzip *g = layer->instance;

	nr_blocks_submit(layer, &g->blocks, req);
}

static void gzip_child_done(struct nr_layer *layer, struct nr_request *child)
{
	struct gzip *g = layer->instance;

	nr_blocks_child_done(layer, &g->blocks, child);
}

static void gzip_resume(struct nr_layer *layer, struct nr_request *req)
{
	struct gzip *g = layer->instance;

	nr_blocks_resume(layer, &g->blocks, req);
}

const struct nr_layer_type nr_gzip_type = {
	.abi = NR_LAYER_ABI,
	.name = "gzip",
	.summary = "serves what the gzip file below unpacks to",
	.kind = NR_FILTER,
	.placement = NR_HOME,
	.needs = NR_NEEDS_READER,
	.params = params,
	.instance_size = sizeof(struct gzip),
	.request_size = sizeof(struct nr_blocks_state),
	.open = gzip_open,
	.describe = gzip_describe,
	.submit = gzip_submit,
	.computes = true,
	.child_done = gzip_child_done,
	.resume = gzip_resume,
	.close = gzip_close,
};
