/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The filter `lz4`: the disk that the lz4 file below unpacks to (blocks.h).
 *
 * The blocks of a span (lz4-index.h) are put into a frame of their own: a header that is
 * made for it and, where blocks refer to what comes before, a block that unpacks to just
 * that.  So liblz4 checks each block's checksum, if there are any.
 *
 * A block of a legacy frame is unpacked at once, when all of it has been read.
 */
#include <errno.h>
#include <inttypes.h>
#include <lz4.h>
#include <lz4frame.h>
#include <stdlib.h>
#include <string.h>

#include "filters/blocks.h"
#include "filters/filters.h"
#include "filters/lz4-index.h"
#include "nbdring/checked.h"

#define WHOLE_MAX ((uint64_t)16 << 20)

struct lz4 {
	const char *path;
	uint64_t cache, max_size;
	struct nr_index index;
	struct nr_blocks blocks;
};

struct decoder {
	uint64_t in_left, out_left; /* of the span */
	LZ4F_dctx *frame;           /* NULL: it is a legacy block */
	size_t length, used;        /* of the legacy block: all, and what is in `block` */
	size_t made, given;         /* of what it unpacks to: all, and what has been given out */
	uint8_t *block, *output;
};

static const struct nr_param params[] = {
	{ .name = "lz4-index",
	  .type = NR_PARAM_PATH,
	  .flags = NR_PARAM_WRITTEN | NR_PARAM_MADE | NR_PARAM_AGAIN,
	  .offset = offsetof(struct lz4, path),
	  .value = "PATH",
	  .help = "a file that the index is kept in",
	  .manual = "A file that the index is kept in. If it is there and is that of the lz4 "
		    "file (its size and a sample of its bytes are compared), the disk is open "
		    "at once; else the index is made and written there." },
	{ .name = "lz4-cache",
	  .type = NR_PARAM_SIZE,
	  .offset = offsetof(struct lz4, cache),
	  .fallback = "128M",
	  .min = 4 * WHOLE_MAX,
	  .max = (uint64_t)1 << 50,
	  .value = "SIZE",
	  .help = "memory for what has been unpacked" },
	{ .name = "lz4-max-size",
	  .type = NR_PARAM_SIZE,
	  .offset = offsetof(struct lz4, max_size),
	  .fallback = "4T",
	  .min = 1,
	  .value = "SIZE",
	  .help = "refuse files that unpack to more than this" },
	{ .name = NULL },
};

/* A span in a frame. */

static void end_span(void *decoder)
{
	struct decoder *d = decoder;

	(void)LZ4F_freeDecompressionContext(d->frame);
	free(d->block);
	free(d->output);
	free(d);
}

/* The decoder takes LENGTH bytes, which unpack to OUT bytes that nobody wants. */
static int take_prefix(struct decoder *d, const uint8_t *data, size_t length, size_t out)
{
	uint8_t unwanted[4096];
	size_t got = 0;

	do {
		size_t in = length, room = sizeof(unwanted);

		if (LZ4F_isError(LZ4F_decompress(d->frame, unwanted, &room, data, &in, NULL)))
			return -EIO;
		if (in == 0 && room == 0)
			break;
		data += in;
		length -= in;
		got += room;
	} while (length > 0 || got < out);
	return length == 0 && got == out ? 0 : -EIO;
}

/* The header of a frame like the one of STATE, and its window as a block, into ROOM. */
static int make_prefix(LZ4F_cctx *packer, const struct nr_index_state *state, uint8_t *window,
		       uint8_t *room, size_t size, size_t *length)
{
	LZ4F_preferences_t how = LZ4F_INIT_PREFERENCES;
	size_t part;

	how.autoFlush = 1;
	how.frameInfo.blockSizeID = (LZ4F_blockSizeID_t)(state->bits & NR_LZ4_SIZE_ID);
	how.frameInfo.blockMode =
		state->bits & NR_LZ4_LINKED ? LZ4F_blockLinked : LZ4F_blockIndependent;
	how.frameInfo.blockChecksumFlag =
		state->bits & NR_LZ4_CHECKED ? LZ4F_blockChecksumEnabled : LZ4F_noBlockChecksum;
	part = LZ4F_compressBegin(packer, room, size, &how);
	if (LZ4F_isError(part))
		return -ENOMEM;
	*length = part;
	if (state->length == 0)
		return 0;
	if (nr_index_window(state, window))
		return -EIO;
	part = LZ4F_compressUpdate(packer, room + *length, size - *length, window, state->length,
				   NULL);
	*length += part;
	return LZ4F_isError(part) ? -ENOMEM : 0;
}

static int begin_frame(struct decoder *d, const struct nr_index_state *state)
{
	size_t size = LZ4F_compressBound(NR_LZ4_WINDOW, NULL) + LZ4F_HEADER_SIZE_MAX, length;
	uint8_t *room = malloc(size + NR_LZ4_WINDOW);
	LZ4F_cctx *packer = NULL;
	int err = -ENOMEM;

	if (state->length > NR_LZ4_WINDOW || (state->bits & NR_LZ4_SIZE_ID) < LZ4F_max64KB)
		err = -EIO;
	else if (room && !LZ4F_isError(LZ4F_createCompressionContext(&packer, LZ4F_VERSION)) &&
		 !LZ4F_isError(LZ4F_createDecompressionContext(&d->frame, LZ4F_VERSION)))
		err = make_prefix(packer, state, room + size, room, size, &length);
	if (!err)
		err = take_prefix(d, room, length, state->length);
	(void)LZ4F_freeCompressionContext(packer);
	free(room);
	return err;
}

static int step_frame(struct decoder *d, struct nr_codec_io *io)
{
	size_t in = io->in_left, out = (size_t)nr_min(io->out_left, d->out_left), none = 0,
	       more = 1;
	uint8_t byte;

	if (LZ4F_isError(LZ4F_decompress(d->frame, io->out, &out, io->in, &in, NULL)))
		return -EIO;
	io->in += in;
	io->in_left -= in;
	io->out += out;
	io->out_left -= out;
	d->in_left -= in;
	d->out_left -= out;
	if (d->in_left > 0 || d->out_left > 0)
		return NR_CODEC_MORE;
	/* There must not be more than the table says. */
	if (LZ4F_isError(LZ4F_decompress(d->frame, &byte, &more, io->in, &none, NULL)))
		return -EIO;
	return more ? -EIO : NR_CODEC_END;
}

/* A legacy block. */

static int begin_legacy(struct decoder *d)
{
	if (d->out_left > NR_LZ4_LEGACY_BLOCK ||
	    d->in_left > (uint64_t)LZ4_COMPRESSBOUND(NR_LZ4_LEGACY_BLOCK))
		return -EIO;
	d->length = (size_t)d->in_left;
	d->block = malloc(d->length + 1);
	return d->block ? 0 : -ENOMEM;
}

/* All of the block is there: into OUT if that is large enough, or else into d->output. */
static int unpack_legacy(struct decoder *d, uint8_t *out, size_t room)
{
	size_t size = (size_t)d->out_left;

	if (room < size) {
		out = d->output = malloc(size);
		if (!out)
			return -ENOMEM;
	}
	if (LZ4_decompress_safe((const char *)d->block, (char *)out, (int)d->length, (int)size) !=
	    (int)size)
		return -EIO;
	d->made = size;
	return 0;
}

static int step_legacy(struct decoder *d, struct nr_codec_io *io)
{
	size_t part = nr_min(io->in_left, d->length - d->used);
	int err;

	if (part > 0)
		memcpy(d->block + d->used, io->in, part);
	d->used += part;
	io->in += part;
	io->in_left -= part;
	if (d->used < d->length)
		return NR_CODEC_MORE;
	if (!d->made) {
		err = unpack_legacy(d, io->out, io->out_left);
		if (err)
			return err;
	}
	part = nr_min(io->out_left, d->made - d->given);
	if (d->output && part > 0)
		memcpy(io->out, d->output + d->given, part);
	d->given += part;
	io->out += part;
	io->out_left -= part;
	return d->given == d->made ? NR_CODEC_END : NR_CODEC_MORE;
}

/* A span. */

static void *begin_span(const void *context, const struct nr_span *span, int *error)
{
	const struct lz4 *z = context;
	const struct nr_index_state *state = &z->index.state[span->extra];
	struct decoder *d = calloc(1, sizeof(*d));

	*error = -ENOMEM;
	if (!d)
		return NULL;
	d->in_left = span->in_length;
	d->out_left = span[1].out - span->out;
	*error = state->bits & NR_LZ4_SIZE_ID ? begin_frame(d, state) : begin_legacy(d);
	if (!*error)
		return d;
	end_span(d);
	return NULL;
}

static int step_span(void *decoder, struct nr_codec_io *io)
{
	struct decoder *d = decoder;

	return d->frame ? step_frame(d, io) : step_legacy(d, io);
}

static const struct nr_codec lz4_codec = {
	.begin = begin_span,
	.step = step_span,
	.end = end_span,
	.ends = true,
	.zero_ratio = 200,
};

/* The filter. */

static const struct nr_index_kind kind = {
	.magic = "NBDRLZ41",
	.format = "lz4",
	.window_max = NR_LZ4_WINDOW,
	.bits_max = NR_LZ4_BITS_MAX,
};

static int make_index(struct nr_layer *layer, struct nr_error *error)
{
	struct lz4 *z = layer->instance;

	return nr_lz4_index_make(layer, &z->index, &z->blocks, z->max_size, error);
}

static void lz4_close(struct nr_layer *layer)
{
	struct lz4 *z = layer->instance;

	nr_blocks_free(&z->blocks);
	nr_index_free(&z->index);
}

static int lz4_open(struct nr_layer *layer, struct nr_error *error)
{
	struct lz4 *z = layer->instance;
	int err;

	z->blocks.codec = &lz4_codec;
	z->blocks.context = z;
	z->blocks.whole_max = WHOLE_MAX;
	z->blocks.cache_max = z->cache;
	err = nr_index_open(layer, &kind, &z->index, &z->blocks, z->path, make_index, error);
	if (!err)
		err = nr_blocks_start(&z->blocks, error);
	if (err)
		lz4_close(layer);
	return err;
}

static int lz4_describe(struct nr_layer *layer, struct nr_traits *t, struct nr_error *error)
{
	const struct lz4 *z = layer->instance;

	nr_blocks_describe(&z->blocks, t);
	return 0;
}

static void lz4_submit(struct nr_layer *layer, struct nr_request *req)
{
	struct lz4 *z = layer->instance;

	nr_blocks_submit(layer, &z->blocks, req);
}

static void lz4_child_done(struct nr_layer *layer, struct nr_request *child)
{
	struct lz4 *z = layer->instance;

	nr_blocks_child_done(layer, &z->blocks, child);
}

static void lz4_resume(struct nr_layer *layer, struct nr_request *req)
{
	struct lz4 *z = layer->instance;

	nr_blocks_resume(layer, &z->blocks, req);
}

const struct nr_layer_type nr_lz4_type = {
	.abi = NR_LAYER_ABI,
	.name = "lz4",
	.summary = "serves what the lz4 file below unpacks to",
	.kind = NR_FILTER,
	.placement = NR_HOME,
	.needs = NR_NEEDS_READER,
	.params = params,
	.instance_size = sizeof(struct lz4),
	.request_size = sizeof(struct nr_blocks_state),
	.open = lz4_open,
	.describe = lz4_describe,
	.submit = lz4_submit,
	.computes = true,
	.child_done = lz4_child_done,
	.resume = lz4_resume,
	.close = lz4_close,
};
