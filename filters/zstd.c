/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The filter `zstd`: the disk that the zstd file below unpacks to (blocks.h).
 *
 * A frame is a span.  Files in the seekable format have a table of their frames at the
 * end.  In any other, frames are found by going from block header to block header
 * (RFC 8878), and their sizes are in their headers; a frame that does not say how large
 * it is has to be unpacked once to know.
 *
 * Frames have a checksum of what they unpack to, or not, which the library looks at; so
 * may have the entries of the table (the lower half of XXH64), at which we do.
 *
 * A frame: magic number, descriptor, window (unless it is of a single segment),
 * dictionary, size; blocks, each with a header of 3 bytes: last, type, size; checksum.
 */
#include <endian.h>
#include <errno.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#define XXH_STATIC_LINKING_ONLY /* for a state that is a part of ours */
#include <xxhash.h>

#include "filters/blocks.h"
#include "filters/filters.h"
#include "filters/peek.h"
#include "nbdring/checked.h"

#define WINDOW_LOG_MAX 28 /* a decoder takes as much memory: 256 MiB; zstd --ultra has 27 */
#define PIECE 65536u
#define FRAME_MAGIC 0xfd2fb528u
#define SKIPPABLE_MAGIC 0x184d2a50u /* to ...5f */
#define SEEK_TABLE_MAGIC 0x184d2a5eu
#define SEEKABLE_MAGIC 0x8f92eab1u
#define HEADER_MAX 18u /* of a frame, bytes */
#define BLOCK_MAX 131072u
#define HAS_SUM (UINT64_C(1) << 32) /* nr_span.extra: a checksum is in the lower half */

enum verify { ON_READ, AT_OPEN };

struct zstd {
	uint64_t max_block, max_depth, max_size;
	unsigned verify;         /* enum verify */
	struct nr_layer *layer;  /* NULL: it is being opened, and nothing is said */
	_Atomic(uint64_t) *said; /* of which frame it was, last: where it begins */
	_Atomic(uint64_t) last;
	struct nr_blocks blocks;
};

struct decoder {
	ZSTD_DCtx *zstd;
	const struct nr_span *span;
	const struct zstd *filter;
	XXH64_state_t sum; /* if the span has one */
};

static const char *const times[] = { "read", "open", NULL };

static const struct nr_param params[] = {
	{ .name = "zstd-max-block",
	  .type = NR_PARAM_SIZE,
	  .offset = offsetof(struct zstd, max_block),
	  .fallback = "64M",
	  .min = 4096,
	  .max = (uint64_t)1 << 40,
	  .value = "SIZE",
	  .help = "frames up to this size are unpacked as a whole",
	  .manual = "Frames of the file that unpack to this size at most are unpacked as a "
		    "whole, and their checksum, if they have one, is looked at before anything "
		    "of them is given out. Longer ones, such as the only one that B<zstd> makes, "
		    "are unpacked from their beginning up to what is wanted, which makes for "
		    "slow random access; the log says so." },
	{ .name = "zstd-max-depth",
	  .type = NR_PARAM_UINT,
	  .offset = offsetof(struct zstd, max_depth),
	  .fallback = "8",
	  .min = 4,
	  .max = 65536,
	  .value = "N",
	  .help = "how many frames of that size are kept in memory" },
	{ .name = "zstd-max-size",
	  .type = NR_PARAM_SIZE,
	  .offset = offsetof(struct zstd, max_size),
	  .fallback = "4T",
	  .min = 1,
	  .value = "SIZE",
	  .help = "refuse frames of no stated size that unpack to more than this" },
	{ .name = "zstd-verify",
	  .type = NR_PARAM_CHOICE,
	  .offset = offsetof(struct zstd, verify),
	  .fallback = "read",
	  .choices = times,
	  .value = "WHEN",
	  .help = "when frames and their checksums are looked at",
	  .manual = "When it is found out whether a frame is what its checksums say, its own and "
		    "that in the table of the seekable format: B<read>, when somebody reads "
		    "something of it, or B<open>, all of them when the disk is opened, which "
		    "unpacks all of the file and refuses one that is damaged." },
	{ .name = NULL },
};

/* A frame. */

static void *begin_frame(const void *context, const struct nr_span *span, int *error)
{
	const struct zstd *z = context;
	struct decoder *d = calloc(1, sizeof(*d));

	*error = -ENOMEM;
	if (!d)
		return NULL;
	d->zstd = ZSTD_createDCtx();
	if (!d->zstd) {
		free(d);
		return NULL;
	}
	(void)ZSTD_DCtx_setParameter(d->zstd, ZSTD_d_windowLogMax, WINDOW_LOG_MAX);
	d->span = span;
	d->filter = z;
	(void)XXH64_reset(&d->sum, 0);
	return d;
}

static void end_frame(void *decoder)
{
	struct decoder *d = decoder;

	ZSTD_freeDCtx(d->zstd);
	free(d);
}

/* All of the frame has come out. */
static int end_of_frame(const struct decoder *d)
{
	if (!(d->span->extra & HAS_SUM) ||
	    (uint32_t)XXH64_digest(&d->sum) == (uint32_t)d->span->extra)
		return NR_CODEC_END;
	/* Clients try again. */
	if (d->filter->layer && atomic_exchange(d->filter->said, d->span->in) != d->span->in)
		nr_layer_log(d->filter->layer, NR_LAYER_WARNING,
			     "the frame at byte %" PRIu64
			     " of the file does not unpack to what its checksum in the table says",
			     d->span->in);
	return -EIO;
}

static int step_frame(void *decoder, struct nr_codec_io *io)
{
	struct decoder *d = decoder;
	ZSTD_inBuffer in = { io->in, io->in_left, 0 };
	ZSTD_outBuffer out = { io->out, io->out_left, 0 };
	size_t ret = ZSTD_decompressStream(d->zstd, &out, &in);

	if (d->span->extra & HAS_SUM)
		(void)XXH64_update(&d->sum, io->out, out.pos);
	io->in += in.pos;
	io->in_left -= in.pos;
	io->out += out.pos;
	io->out_left -= out.pos;
	if (ZSTD_isError(ret))
		return -EIO;
	return ret == 0 ? end_of_frame(d) : NR_CODEC_MORE;
}

static const struct nr_codec zstd_codec = {
	.begin = begin_frame,
	.step = step_frame,
	.end = end_frame,
	.ends = true,
	.zero_ratio = 2048,
};

/* The frames. */

struct scan {
	struct nr_peek *file;
	struct nr_blocks *blocks;
	uint64_t max_size;
	uint64_t at;
	struct nr_error *error;
};

static uint32_t get32(const uint8_t *p)
{
	uint32_t n;

	memcpy(&n, p, sizeof(n));
	return le32toh(n);
}

static int add_frame(struct scan *s, uint64_t length, uint64_t in, uint64_t in_length,
		     uint64_t extra)
{
	int err = nr_blocks_add(s->blocks, length, in, in_length, extra);

	if (err == -E2BIG)
		return nr_error_set(s->error, err, "the file has over %zu frames", NR_SPANS_MAX);
	return err ? nr_error_system(s->error, err, "the frames of the file") : 0;
}

/* How long the header at BYTES is, by its descriptor; and whether a checksum follows. */
static size_t header_length(const uint8_t *bytes, bool *checksum)
{
	static const uint8_t dictionary[] = { 0, 1, 2, 4 }, content[] = { 0, 2, 4, 8 };
	uint8_t descriptor = bytes[4];
	bool single = descriptor & 0x20;
	size_t length = 5 + !single + dictionary[descriptor & 3] + content[descriptor >> 6];

	if (single && descriptor >> 6 == 0)
		length++;
	*checksum = descriptor & 4;
	return length;
}

/* From block to block of the frame at s->at: where it ends. */
static int find_end(struct scan *s, const uint8_t *bytes, uint64_t *end)
{
	bool checksum, last = false;
	uint64_t at = s->at + header_length(bytes, &checksum);

	while (!last) {
		uint32_t header;
		int err = nr_peek(s->file, at, 3, &bytes);

		if (err)
			return err;
		header = (uint32_t)bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16;
		last = header & 1;
		if ((header >> 1 & 3) == 3 || header >> 3 > BLOCK_MAX)
			return nr_error_set(s->error, -EINVAL,
					    "the file is damaged at byte %" PRIu64, at);
		/* Type 1: one byte that is repeated. */
		at += 3 + ((header >> 1 & 3) == 1 ? 1 : header >> 3);
	}
	*end = at + (checksum ? 4 : 0);
	return *end <= s->file->size ? 0 : nr_peek_cut_off(s->file);
}

/* Unpack the frame from s->at to END to see how long it is. */
static int measure(struct scan *s, uint64_t end, uint64_t *length)
{
	ZSTD_DCtx *d = ZSTD_createDCtx();
	uint8_t *in = malloc(PIECE), *output = malloc(PIECE);
	size_t ret = 1, left = 0;
	int err = d && in && output ? 0 : nr_error_system(s->error, -ENOMEM, "a frame");

	*length = 0;
	if (!err)
		(void)ZSTD_DCtx_setParameter(d, ZSTD_d_windowLogMax, WINDOW_LOG_MAX);
	for (uint64_t at = s->at; !err && at < end; at += left) {
		struct ZSTD_inBuffer_s piece = { in, left = (size_t)nr_min(PIECE, end - at), 0 };
		struct ZSTD_outBuffer_s out = { output, PIECE, PIECE };

		err = nr_read_below(s->file->layer, at, left, in, s->error);
		while (!err && (piece.pos < piece.size || out.pos == PIECE)) {
			size_t before = piece.pos;

			out.pos = 0;
			ret = ZSTD_decompressStream(d, &out, &piece);
			*length += out.pos;
			if (ZSTD_isError(ret))
				err = nr_error_set(s->error, -EINVAL,
						   "the file is damaged: %s after byte %" PRIu64,
						   ZSTD_getErrorName(ret), at);
			else if (*length > s->max_size)
				err = nr_error_set(s->error, -EFBIG,
						   "the file unpacks to more than %" PRIu64
						   " bytes; if that is right, raise zstd-max-size=",
						   s->max_size);
			else if (ret == 0 || (piece.pos == before && out.pos == 0))
				break;
		}
	}
	if (!err && ret != 0)
		err = nr_peek_cut_off(s->file);
	ZSTD_freeDCtx(d);
	free(in);
	free(output);
	return err;
}

/* A frame with data, or one to be skipped, at s->at, which moves behind it. */
static int take_frame(struct scan *s)
{
	const uint8_t *bytes = NULL;
	uint64_t end = s->at, length;
	int err = nr_peek(s->file, s->at, 8, &bytes);

	if (err)
		return err;
	if ((get32(bytes) & ~15u) == SKIPPABLE_MAGIC) {
		s->at += 8 + (uint64_t)get32(bytes + 4);
		return s->at <= s->file->size ? 0 : nr_peek_cut_off(s->file);
	}
	if (get32(bytes) != FRAME_MAGIC)
		return s->at == 0 ? nr_error_set(s->error, -EINVAL, "this is no zstd file")
				  : nr_error_set(s->error, -EINVAL,
						 "the file is damaged at byte %" PRIu64, s->at);
	if (s->file->size - s->at > HEADER_MAX)
		err = nr_peek(s->file, s->at, HEADER_MAX, &bytes);
	if (err)
		return err;
	length = ZSTD_getFrameContentSize(bytes, (size_t)nr_min(HEADER_MAX, s->file->size - s->at));
	err = find_end(s, bytes, &end);
	if (!err && length == ZSTD_CONTENTSIZE_ERROR)
		err = nr_peek_cut_off(s->file);
	if (!err && length == ZSTD_CONTENTSIZE_UNKNOWN)
		err = measure(s, end, &length);
	if (!err)
		err = add_frame(s, length, s->at, end - s->at, 0);
	s->at = end;
	return err;
}

static int damaged_table(struct scan *s)
{
	return nr_error_set(s->error, -EINVAL, "the table of the file's frames is damaged");
}

/* An entry of the table: sizes of the frame at *IN, which moves behind it, and a checksum. */
static int take_entry(struct scan *s, const uint8_t *entry, bool has_sum, uint64_t table,
		      uint64_t *in)
{
	uint64_t packed = get32(entry), length = get32(entry + 4), extra = 0;
	int err;

	if (packed > table - *in || (packed == 0 && length > 0))
		return damaged_table(s);
	if (has_sum)
		extra = HAS_SUM | get32(entry + 8);
	err = add_frame(s, length, *in, packed, extra);
	*in += packed;
	return err;
}

/*
 * The table of the seekable format: a frame to be skipped, which ends with the number of
 * frames, a descriptor (bit 7: entries have checksums) and a magic number.  -ENOENT:
 * there is none.
 */
static int take_table(struct scan *s)
{
	const uint8_t *bytes = NULL;
	uint64_t table, count, in = 0, entry;
	int err;

	if (s->file->size < 17)
		return -ENOENT;
	err = nr_peek(s->file, s->file->size - 9, 9, &bytes);
	if (err)
		return err;
	if (get32(bytes + 5) != SEEKABLE_MAGIC)
		return -ENOENT;
	count = get32(bytes);
	entry = bytes[4] & 0x80 ? 12 : 8;
	if (count * entry + 17 > s->file->size)
		return nr_peek_cut_off(s->file);
	table = s->file->size - 17 - count * entry;
	err = nr_peek(s->file, table, 8, &bytes);
	if (err)
		return err;
	if (get32(bytes) != SEEK_TABLE_MAGIC || get32(bytes + 4) != count * entry + 9)
		return damaged_table(s);
	for (uint64_t i = 0; i < count && !err; i++) {
		err = nr_peek(s->file, table + 8 + i * entry, (size_t)entry, &bytes);
		if (!err)
			err = take_entry(s, bytes, entry == 12, table, &in);
	}
	return err;
}

static int find_frames(struct nr_layer *layer, struct zstd *z, struct nr_error *error)
{
	struct scan s = { .blocks = &z->blocks, .max_size = z->max_size, .error = error };
	int err;

	s.file = nr_peek_create(layer, error);
	if (!s.file)
		return -ENOMEM;
	err = take_table(&s);
	if (err == -ENOENT) {
		err = s.file->size ? 0 : nr_error_set(error, -EINVAL, "this is no zstd file");
		while (!err && s.at < s.file->size)
			err = take_frame(&s);
	}
	free(s.file);
	return err;
}

/* The filter. */

static void zstd_close(struct nr_layer *layer)
{
	struct zstd *z = layer->instance;

	nr_blocks_free(&z->blocks);
}

static int zstd_open(struct nr_layer *layer, struct nr_error *error)
{
	struct zstd *z = layer->instance;
	int err;

	z->said = &z->last;
	z->last = UINT64_MAX;
	z->blocks.codec = &zstd_codec;
	z->blocks.context = z;
	z->blocks.whole_max = z->max_block;
	z->blocks.cache_max = z->max_block * z->max_depth;
	err = find_frames(layer, z, error);
	if (!err)
		err = nr_blocks_start(&z->blocks, error);
	if (!err && z->verify == AT_OPEN)
		err = nr_blocks_check(layer, &z->blocks, error);
	z->layer = layer;
	if (err) {
		zstd_close(layer);
		return err;
	}
	if (z->blocks.longest > z->max_block)
		nr_layer_log(layer, NR_LAYER_WARNING,
			     "the file has a frame of %" PRIu64 " bytes, which has to be unpacked "
			     "from its beginning for every read that is not in order; pzstd, or "
			     "the seekable format, makes files that can be read anywhere",
			     z->blocks.longest);
	return 0;
}

static int zstd_describe(struct nr_layer *layer, struct nr_traits *t, struct nr_error *error)
{
	const struct zstd *z = layer->instance;

	nr_blocks_describe(&z->blocks, t);
	return 0;
}

static void zstd_submit(struct nr_layer *layer, struct nr_request *req)
{
	struct zstd *z = layer->instance;

	nr_blocks_submit(layer, &z->blocks, req);
}

static void zstd_child_done(struct nr_layer *layer, struct nr_request *child)
{
	struct zstd *z = layer->instance;

	nr_blocks_child_done(layer, &z->blocks, child);
}

static void zstd_resume(struct nr_layer *layer, struct nr_request *req)
{
	struct zstd *z = layer->instance;

	nr_blocks_resume(layer, &z->blocks, req);
}

const struct nr_layer_type nr_zstd_type = {
	.abi = NR_LAYER_ABI,
	.name = "zstd",
	.summary = "serves what the zstd file below unpacks to",
	.kind = NR_FILTER,
	.placement = NR_HOME,
	.needs = NR_NEEDS_READER,
	.params = params,
	.instance_size = sizeof(struct zstd),
	.request_size = sizeof(struct nr_blocks_state),
	.open = zstd_open,
	.describe = zstd_describe,
	.submit = zstd_submit,
	.computes = true,
	.child_done = zstd_child_done,
	.resume = zstd_resume,
	.close = zstd_close,
};
