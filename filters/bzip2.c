/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The filter `bzip2`: the disk that the bzip2 file below unpacks to (blocks.h).
 *
 * A span is a block (bzip2-index.h), which is unpacked by itself (bzip2-block.h).  Blocks
 * have 900 KB at most, but 46 MB of bytes that are all the same are one, too.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "filters/blocks.h"
#include "filters/bzip2-block.h"
#include "filters/bzip2-index.h"
#include "filters/filters.h"
#include "nbdring/checked.h"

#define WHOLE_MAX ((uint64_t)16 << 20)

struct bzip2 {
	const char *path;
	uint64_t cache, max_size;
	struct nr_index index;
	struct nr_blocks blocks;
};

static const struct nr_param params[] = {
	{ .name = "bzip2-index",
	  .type = NR_PARAM_PATH,
	  .flags = NR_PARAM_WRITTEN | NR_PARAM_MADE | NR_PARAM_AGAIN,
	  .offset = offsetof(struct bzip2, path),
	  .value = "PATH",
	  .help = "a file that the index is kept in",
	  .manual = "A file that the index is kept in. If it is there and is that of the bzip2 "
		    "file (its size and a sample of its bytes are compared), the disk is open "
		    "at once; else the index is made and written there." },
	{ .name = "bzip2-cache",
	  .type = NR_PARAM_SIZE,
	  .offset = offsetof(struct bzip2, cache),
	  .fallback = "128M",
	  .min = 4 * WHOLE_MAX,
	  .max = (uint64_t)1 << 50,
	  .value = "SIZE",
	  .help = "memory for what has been unpacked" },
	{ .name = "bzip2-max-size",
	  .type = NR_PARAM_SIZE,
	  .offset = offsetof(struct bzip2, max_size),
	  .fallback = "4T",
	  .min = 1,
	  .value = "SIZE",
	  .help = "refuse files that unpack to more than this" },
	{ .name = NULL },
};

static void *begin_block(const void *context, const struct nr_span *span, int *error)
{
	const struct bzip2 *b = context;
	uint32_t bits = b->index.state[span->extra].bits;
	uint64_t around = NR_BZIP2_BEFORE(bits) + NR_BZIP2_BEHIND(bits);

	*error = -EIO;
	if (span->in_length > NR_BZIP2_BLOCK_MAX || span->in_length * 8 <= around)
		return NULL;
	*error = -ENOMEM;
	return nr_bzip2_begin(NR_BZIP2_BEFORE(bits), span->in_length * 8 - around);
}

static int step_block(void *decoder, struct nr_codec_io *io)
{
	return nr_bzip2_step(decoder, io);
}

static void end_block(void *decoder)
{
	nr_bzip2_free(decoder);
}

static const struct nr_codec bzip2_codec = {
	.begin = begin_block,
	.step = step_block,
	.end = end_block,
	.ends = true,
};

/* The filter. */

static const struct nr_index_kind kind = {
	.magic = "NBDRBZ21",
	.format = "bzip2",
	.window_max = 0,
	.bits_max = NR_BZIP2_BITS_MAX,
};

static int make_index(struct nr_layer *layer, struct nr_error *error)
{
	struct bzip2 *b = layer->instance;

	return nr_bzip2_index_make(layer, &b->index, &b->blocks, b->max_size, error);
}

static void bzip2_close(struct nr_layer *layer)
{
	struct bzip2 *b = layer->instance;

	nr_blocks_free(&b->blocks);
	nr_index_free(&b->index);
}

static int bzip2_open(struct nr_layer *layer, struct nr_error *error)
{
	struct bzip2 *b = layer->instance;
	int err;

	b->blocks.codec = &bzip2_codec;
	b->blocks.context = b;
	b->blocks.whole_max = WHOLE_MAX;
	b->blocks.cache_max = b->cache;
	err = nr_index_open(layer, &kind, &b->index, &b->blocks, b->path, make_index, error);
	if (!err)
		err = nr_blocks_start(&b->blocks, error);
	if (err)
		bzip2_close(layer);
	return err;
}

static int bzip2_describe(struct nr_layer *layer, struct nr_traits *t, struct nr_error *error)
{
	const struct bzip2 *b = layer->instance;

	nr_blocks_describe(&b->blocks, t);
	return 0;
}

static void bzip2_submit(struct nr_layer *layer, struct nr_request *req)
{
	struct bzip2 *b = layer->instance;

	nr_blocks_submit(layer, &b->blocks, req);
}

static void bzip2_child_done(struct nr_layer *layer, struct nr_request *child)
{
	struct bzip2 *b = layer->instance;

	nr_blocks_child_done(layer, &b->blocks, child);
}

static void bzip2_resume(struct nr_layer *layer, struct nr_request *req)
{
	struct bzip2 *b = layer->instance;

	nr_blocks_resume(layer, &b->blocks, req);
}

const struct nr_layer_type nr_bzip2_type = {
	.abi = NR_LAYER_ABI,
	.name = "bzip2",
	.summary = "serves what the bzip2 file below unpacks to",
	.kind = NR_FILTER,
	.placement = NR_HOME,
	.needs = NR_NEEDS_READER,
	.params = params,
	.instance_size = sizeof(struct bzip2),
	.request_size = sizeof(struct nr_blocks_state),
	.open = bzip2_open,
	.describe = bzip2_describe,
	.submit = bzip2_submit,
	.computes = true,
	.child_done = bzip2_child_done,
	.resume = bzip2_resume,
	.close = bzip2_close,
};
