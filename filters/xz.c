/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The filter `xz`: the disk that the xz file below unpacks to (blocks.h).
 *
 * The index of each stream, which stands at its end, says where blocks begin and how
 * long they are: liblzma reads it, from the end of the file to its beginning.  A block
 * is a span.  Its header and its checksum have to agree with the index, or the block
 * cannot be read.
 *
 * Memory that a file may ask for: INDEX_MEMORY while it is opened, DECODER_MEMORY for
 * each decoder (a dictionary of xz -9 has 64 MiB), beside the cache.
 */
#include <errno.h>
#include <inttypes.h>
#include <lzma.h>
#include <stdlib.h>
#include <string.h>

#include "filters/blocks.h"
#include "filters/filters.h"
#include "nbdring/checked.h"

#define INDEX_MEMORY (UINT64_C(128) << 20)
#define DECODER_MEMORY (UINT64_C(256) << 20)
#define PIECE 65536u

struct xz {
	uint64_t max_block, max_depth;
	struct nr_blocks blocks;
};

struct decoder {
	lzma_stream stream;
	lzma_block block;
	lzma_filter filters[LZMA_FILTERS_MAX + 1];
	uint64_t unpadded;
	size_t header_length; /* so far */
	bool begun;           /* the header is over */
	uint8_t header[LZMA_BLOCK_HEADER_SIZE_MAX];
};

static const struct nr_param params[] = {
	{ .name = "xz-max-block",
	  .type = NR_PARAM_SIZE,
	  .offset = offsetof(struct xz, max_block),
	  .fallback = "64M",
	  .min = 4096,
	  .max = (uint64_t)1 << 40,
	  .value = "SIZE",
	  .help = "blocks up to this size are unpacked as a whole",
	  .manual = "Blocks of the file that unpack to this size at most are unpacked as a "
		    "whole, and their checksum is looked at before anything of them is given "
		    "out. Longer ones, such as that of a file that was made without B<-T> and "
		    "B<--block-size>, are unpacked from their beginning up to what is wanted, "
		    "which makes for slow random access; the log says so." },
	{ .name = "xz-max-depth",
	  .type = NR_PARAM_UINT,
	  .offset = offsetof(struct xz, max_depth),
	  .fallback = "8",
	  .min = 4,
	  .max = 65536,
	  .value = "N",
	  .help = "how many blocks of that size are kept in memory",
	  .manual = "How many blocks of the size of B<xz-max-block> the cache has room for. "
		    "Smaller ones are more: what counts is that many bytes, for all clients of "
		    "an export together." },
	{ .name = NULL },
};

/* A block. */

static void *begin_block(const void *context, const struct nr_span *span, int *error)
{
	struct decoder *d = calloc(1, sizeof(*d));

	if (!d) {
		*error = -ENOMEM;
		return NULL;
	}
	d->stream = (lzma_stream)LZMA_STREAM_INIT;
	d->block.check = (lzma_check)(span->extra & 15);
	d->unpadded = span->extra >> 4;
	d->filters[0].id = LZMA_VLI_UNKNOWN;
	return d;
}

static void end_block(void *decoder)
{
	struct decoder *d = decoder;

	lzma_end(&d->stream);
	lzma_filters_free(d->filters, NULL);
	free(d);
}

static int error_of(lzma_ret ret)
{
	return ret == LZMA_MEM_ERROR || ret == LZMA_MEMLIMIT_ERROR ? -ENOMEM : -EIO;
}

static int begin_data(struct decoder *d)
{
	lzma_ret ret;

	d->block.version = 1;
	d->block.filters = d->filters;
	ret = lzma_block_header_decode(&d->block, NULL, d->header);
	if (ret == LZMA_OK)
		ret = lzma_block_compressed_size(&d->block, d->unpadded);
	if (ret == LZMA_OK && lzma_raw_decoder_memusage(d->filters) > DECODER_MEMORY)
		ret = LZMA_MEMLIMIT_ERROR;
	if (ret == LZMA_OK)
		ret = lzma_block_decoder(&d->stream, &d->block);
	d->begun = true;
	return ret == LZMA_OK ? 0 : error_of(ret);
}

/* The header's first byte says how long it is. */
static int take_header(struct decoder *d, struct nr_codec_io *io)
{
	while (io->in_left > 0) {
		d->header[d->header_length++] = *io->in++;
		io->in_left--;
		if (d->header[0] == 0)
			return -EIO; /* an index, not a block */
		d->block.header_size = lzma_block_header_size_decode(d->header[0]);
		if (d->header_length == d->block.header_size)
			return begin_data(d);
	}
	return 0;
}

static int step_block(void *decoder, struct nr_codec_io *io)
{
	struct decoder *d = decoder;
	lzma_ret ret;
	int err;

	if (!d->begun) {
		err = take_header(d, io);
		if (err || !d->begun)
			return err;
	}
	d->stream.next_in = io->in;
	d->stream.avail_in = io->in_left;
	d->stream.next_out = io->out;
	d->stream.avail_out = io->out_left;
	ret = lzma_code(&d->stream, LZMA_RUN);
	io->in = d->stream.next_in;
	io->in_left = d->stream.avail_in;
	io->out = d->stream.next_out;
	io->out_left = d->stream.avail_out;
	if (ret == LZMA_STREAM_END)
		return NR_CODEC_END;
	return ret == LZMA_OK || ret == LZMA_BUF_ERROR ? NR_CODEC_MORE : error_of(ret);
}

static const struct nr_codec xz_codec = {
	.begin = begin_block,
	.step = step_block,
	.end = end_block,
	.ends = true,
	.zero_ratio = 1024,
};

/* The index. */

static int index_error(lzma_ret ret, struct nr_error *error)
{
	switch ((int)ret) {
	case LZMA_FORMAT_ERROR:
		return nr_error_set(error, -EINVAL, "this is no xz file");
	case LZMA_MEM_ERROR:
		return nr_error_system(error, -ENOMEM, "the index of the file");
	case LZMA_MEMLIMIT_ERROR:
		return nr_error_set(error, -E2BIG,
				    "the index of the file needs more than %" PRIu64 " MiB",
				    INDEX_MEMORY >> 20);
	case LZMA_OPTIONS_ERROR:
		return nr_error_set(error, -ENOTSUP,
				    "the file uses something that liblzma does not know");
	default:
		return nr_error_set(error, -EINVAL, "the file is damaged or cut off");
	}
}

static int read_index(struct nr_layer *layer, lzma_index **index, struct nr_error *error)
{
	uint64_t size = nr_layer_size(layer->below), at = 0;
	lzma_stream stream = LZMA_STREAM_INIT;
	uint8_t *piece = malloc(PIECE);
	lzma_ret ret = LZMA_MEM_ERROR;
	int err = 0;

	if (piece)
		ret = lzma_file_info_decoder(&stream, index, INDEX_MEMORY, size);
	while (!err && (ret == LZMA_OK || ret == LZMA_SEEK_NEEDED)) {
		if (ret == LZMA_SEEK_NEEDED) {
			at = stream.seek_pos;
			stream.avail_in = 0;
		}
		if (stream.avail_in == 0 && at < size) {
			uint64_t length = nr_min(PIECE, size - at);

			err = nr_read_below(layer, at, length, piece, error);
			stream.next_in = piece;
			stream.avail_in = (size_t)length;
			at += length;
		}
		if (!err)
			ret = lzma_code(&stream, at < size ? LZMA_RUN : LZMA_FINISH);
	}
	if (!err && ret != LZMA_STREAM_END)
		err = index_error(ret, error);
	lzma_end(&stream);
	free(piece);
	return err;
}

static int add_blocks(struct nr_layer *layer, const lzma_index *index, struct nr_error *error)
{
	struct xz *x = layer->instance;
	lzma_index_iter iter;
	int err = 0;

	lzma_index_iter_init(&iter, index);
	while (!err && !lzma_index_iter_next(&iter, LZMA_INDEX_ITER_NONEMPTY_BLOCK)) {
		uint64_t check = iter.stream.flags ? (uint64_t)iter.stream.flags->check : 0;

		if (!lzma_check_is_supported((lzma_check)check))
			return nr_error_set(error, -ENOTSUP,
					    "the file has checksums of type %" PRIu64
					    ", which liblzma does not know",
					    check);
		err = nr_blocks_add(&x->blocks, iter.block.uncompressed_size,
				    iter.block.compressed_file_offset, iter.block.total_size,
				    iter.block.unpadded_size << 4 | check);
	}
	if (err == -E2BIG)
		return nr_error_set(error, err, "the file has over %zu blocks", NR_SPANS_MAX);
	return err ? nr_error_system(error, err, "the index of the file") : 0;
}

static int xz_open(struct nr_layer *layer, struct nr_error *error)
{
	struct xz *x = layer->instance;
	lzma_index *index = NULL;
	int err = read_index(layer, &index, error);

	x->blocks.codec = &xz_codec;
	x->blocks.whole_max = x->max_block;
	x->blocks.cache_max = x->max_block * x->max_depth;
	if (!err)
		err = add_blocks(layer, index, error);
	lzma_index_end(index, NULL);
	if (!err)
		err = nr_blocks_start(&x->blocks, error);
	if (err) {
		nr_blocks_free(&x->blocks);
		return err;
	}
	if (x->blocks.longest > x->max_block)
		nr_layer_log(layer, NR_LAYER_WARNING,
			     "the file has a block of %" PRIu64 " bytes, which has to be unpacked "
			     "from its beginning for every read that is not in order; xz "
			     "--block-size=16MiB makes files that can be read anywhere",
			     x->blocks.longest);
	return 0;
}

static void xz_close(struct nr_layer *layer)
{
	struct xz *x = layer->instance;

	nr_blocks_free(&x->blocks);
}

static int xz_describe(struct nr_layer *layer, struct nr_traits *t, struct nr_error *error)
{
	const struct xz *x = layer->instance;

	nr_blocks_describe(&x->blocks, t);
	return 0;
}

static void xz_submit(struct nr_layer *layer, struct nr_request *req)
{
	struct xz *x = layer->instance;

	nr_blocks_submit(layer, &x->blocks, req);
}

static void xz_child_done(struct nr_layer *layer, struct nr_request *child)
{
	struct xz *x = layer->instance;

	nr_blocks_child_done(layer, &x->blocks, child);
}

static void xz_resume(struct nr_layer *layer, struct nr_request *req)
{
	struct xz *x = layer->instance;

	nr_blocks_resume(layer, &x->blocks, req);
}

const struct nr_layer_type nr_xz_type = {
	.abi = NR_LAYER_ABI,
	.name = "xz",
	.summary = "serves what the xz file below unpacks to",
	.kind = NR_FILTER,
	.placement = NR_HOME,
	.needs = NR_NEEDS_READER,
	.params = params,
	.instance_size = sizeof(struct xz),
	.request_size = sizeof(struct nr_blocks_state),
	.open = xz_open,
	.describe = xz_describe,
	.submit = xz_submit,
	.computes = true,
	.child_done = xz_child_done,
	.resume = xz_resume,
	.close = xz_close,
};
