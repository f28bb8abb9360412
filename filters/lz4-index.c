/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * See lz4-index.h.
 *
 * A file is frames: a header, blocks that each say how long they are in the file, an end
 * mark, a checksum of all the content.  No block says how much it unpacks to.  The last
 * one of a frame may be shorter than the others, but whoever writes may flush at any time,
 * so any may be.  There are two ways to know:
 *
 * - The frame says how long its content is, and its blocks can be unpacked by themselves:
 *   when so many blocks can only just hold that much, and the last one is measured and
 *   has the rest, then all others are full.  Only headers and one block are read.
 * - All of the frame is unpacked once, which also checks it.  That is at the speed at
 *   which disks are read.  Following the sequences of a block without unpacking them
 *   would be little faster and check nothing.
 *
 * Blocks of a legacy frame are full but for the last one, by definition.
 *
 * Where blocks are linked a window is kept every SPAN_LINKED bytes, which is 0.8 % of a
 * file that does not compress (nr_index_has_room).
 */
#include "filters/lz4-index.h"

#include <endian.h>
#include <errno.h>
#include <inttypes.h>
#include <lz4.h>
#include <lz4frame.h>
#include <stdlib.h>
#include <string.h>

#include "filters/peek.h"
#include "nbdring/checked.h"

#define MAGIC 0x184d2204u
#define LEGACY_MAGIC 0x184c2102u
#define SKIPPABLE_MAGIC 0x184d2a50u /* to ...5f */
#define HEADER_MIN 7u               /* of a frame, bytes */
#define HEADER_MAX 19u
#define WORD 4u /* a block's header, or a checksum */
#define STORED 0x80000000u
#define LEGACY_MAX ((uint32_t)LZ4_COMPRESSBOUND(NR_LZ4_LEGACY_BLOCK))
#define SPAN ((uint64_t)1 << 20)        /* output, at least, where there is more */
#define SPAN_LINKED ((uint64_t)8 << 20) /* the same where blocks are linked */
#define SPAN_INPUT ((uint64_t)8 << 20)  /* or as much input, whatever comes out of it */

struct maker {
	struct nr_peek *file;
	struct nr_index *index;
	struct nr_blocks *blocks;
	uint64_t max;
	uint64_t at; /* of the file: what lies before is done */
	uint64_t said;
	struct nr_error *error;
	uint8_t *in, *out; /* room for a block, packed and unpacked */

	/* The frame. */
	uint32_t bits;
	uint32_t block_max;
	bool checked; /* a checksum follows its end */
	uint64_t content;
	LZ4F_dctx *decoder;
	uint8_t window[NR_LZ4_WINDOW];
	uint32_t window_length;

	/* The span that is not over. */
	size_t state;
	uint64_t span_in, span_out; /* where it begins, and what has come out of it */
};

static uint32_t get32(const uint8_t *p)
{
	uint32_t n;

	memcpy(&n, p, sizeof(n));
	return le32toh(n);
}

static int damaged(struct maker *m)
{
	return nr_error_set(m->error, -EINVAL, "the file is damaged at byte %" PRIu64, m->at);
}

static int no_memory(struct maker *m)
{
	return nr_error_system(m->error, -ENOMEM, "the index");
}

/* Spans. */

static int begin_span(struct maker *m, uint64_t in)
{
	m->span_in = in;
	m->span_out = 0;
	if (nr_index_add(m->index, m->window, m->window_length, m->bits, &m->state))
		return no_memory(m);
	return 0;
}

static int end_span(struct maker *m, uint64_t in)
{
	int err = nr_blocks_add(m->blocks, m->span_out, m->span_in, in - m->span_in, m->state);

	if (err == -E2BIG)
		return nr_error_set(m->error, err, "the file has over %zu blocks", NR_SPANS_MAX);
	return err ? nr_error_system(m->error, err, "the index") : 0;
}

/* A block of LENGTH bytes is added to the span; it ends at byte IN of the file. */
static int add_block(struct maker *m, uint64_t length, uint64_t in)
{
	bool linked = m->bits & NR_LZ4_LINKED;
	int err;

	m->span_out += length;
	if (m->span_out > m->max || m->blocks->size > m->max - m->span_out)
		return nr_error_set(m->error, -EFBIG,
				    "the file unpacks to more than %" PRIu64
				    " bytes; if that is right, raise lz4-max-size=",
				    m->max);
	if (m->span_out < (linked ? SPAN_LINKED : SPAN) && in - m->span_in < SPAN_INPUT)
		return 0;
	if (linked && !nr_index_has_room(m->index, NR_LZ4_WINDOW, in))
		return 0;
	err = end_span(m, in);
	return err ? err : begin_span(m, in);
}

/* Blocks. */

/* The header of the block at AT: its LENGTH with what is around it; 0: it is the end mark. */
static int block_length(struct maker *m, uint64_t at, uint64_t *length)
{
	const uint8_t *bytes = NULL;
	int err = nr_peek(m->file, at, WORD, &bytes);
	uint32_t size;

	if (err)
		return err;
	size = get32(bytes) & ~STORED;
	m->at = at;
	if (size > m->block_max)
		return damaged(m);
	*length = 0;
	if (get32(bytes) != 0)
		*length = WORD + (uint64_t)size + (m->bits & NR_LZ4_CHECKED ? WORD : 0);
	if (*length > m->file->size - at)
		return nr_peek_cut_off(m->file);
	return 0;
}

/* The last 64 KiB of what has come out are the window. */
static void keep_window(struct maker *m, size_t length)
{
	uint32_t kept =
		(uint32_t)nr_min(m->window_length, NR_LZ4_WINDOW - nr_min(length, NR_LZ4_WINDOW));
	uint32_t new = (uint32_t)nr_min(length, NR_LZ4_WINDOW);

	memmove(m->window, m->window + m->window_length - kept, kept);
	memcpy(m->window + kept, m->out + length - new, new);
	m->window_length = kept + new;
}

/* LENGTH bytes of m->in go into the decoder, and *OUT bytes come out. */
static int decode(struct maker *m, size_t length, size_t *out, size_t *hint)
{
	size_t used = 0;

	*out = 0;
	while (used < length) {
		size_t in = length - used, got = m->block_max - *out;

		*hint = LZ4F_decompress(m->decoder, m->out + *out, &got, m->in + used, &in, NULL);
		if (LZ4F_isError(*hint))
			return nr_error_set(m->error, -EINVAL,
					    "the file is damaged at byte %" PRIu64 ": %s", m->at,
					    LZ4F_getErrorName(*hint));
		used += in;
		*out += got;
		if (in == 0 && got == 0)
			return damaged(m);
	}
	return 0;
}

static int decode_at(struct maker *m, uint64_t length, size_t *out, size_t *hint)
{
	int err;

	if (!nr_in_range(m->at, length, m->file->size))
		return nr_peek_cut_off(m->file);
	err = nr_read_below(m->file->layer, m->at, length, m->in, m->error);
	return err ? err : decode(m, (size_t)length, out, hint);
}

/* Frames. */

/* All of the frame at m->at, whose header has LENGTH bytes, is unpacked. */
static int unpack_frame(struct maker *m, size_t length)
{
	uint64_t block = length;
	size_t out = 0, hint = 1;
	int err;

	LZ4F_resetDecompressionContext(m->decoder);
	err = decode_at(m, length, &out, &hint);
	m->at += length;
	if (!err)
		err = begin_span(m, m->at);
	while (!err && block > 0) {
		err = block_length(m, m->at, &block);
		if (!err)
			err = decode_at(m, block ? block : WORD, &out, &hint);
		m->at += block ? block : WORD;
		if (!err && m->bits & NR_LZ4_LINKED)
			keep_window(m, out);
		if (!err && block)
			err = add_block(m, out, m->at);
		nr_index_progress(m->file->layer, &m->said, m->at, m->file->size);
	}
	if (!err)
		err = end_span(m, m->at - WORD);
	if (!err && m->checked)
		err = decode_at(m, WORD, &out, &hint);
	if (!err && hint != 0)
		err = damaged(m);
	m->at += m->checked ? WORD : 0;
	return err;
}

/* *OUT is how many bytes the block of LENGTH bytes at AT has, which is by itself. */
static int measure_block(struct maker *m, const uint8_t *header, size_t header_length, uint64_t at,
			 uint64_t length, size_t *out)
{
	size_t hint = 0, none = 0;
	int err;

	LZ4F_resetDecompressionContext(m->decoder);
	memcpy(m->in, header, header_length);
	m->at = at;
	err = decode(m, header_length, &none, &hint);
	return err ? err : decode_at(m, length, out, &hint);
}

/*
 * The same without unpacking it, if its blocks can be found by what headers say.  1: they
 * are, 0: they are not, or negative errno.
 */
static int walk_frame(struct maker *m, const uint8_t *header, size_t length)
{
	uint64_t start = m->at + length, at = start, block = 0, count = 0, last = 0,
		 last_length = 0;
	uint8_t copy[HEADER_MAX];
	size_t out = 0;
	int err;

	memcpy(copy, header, length);
	while (!(err = block_length(m, at, &block)) && block > 0) {
		last = at;
		last_length = block;
		count++;
		at += block;
	}
	if (err)
		return err;
	if (count == 0 || (m->content - 1) / m->block_max != count - 1)
		return 0;
	err = measure_block(m, copy, length, last, last_length, &out);
	if (err || out != m->content - (count - 1) * m->block_max)
		return err;
	err = begin_span(m, start);
	for (at = start; !err && at <= last; at += block) {
		err = block_length(m, at, &block);
		if (!err)
			err = add_block(m, at == last ? out : m->block_max, at + block);
	}
	m->at = at + WORD + (m->checked ? WORD : 0);
	if (!err)
		err = end_span(m, at);
	if (!err && m->at > m->file->size)
		err = nr_peek_cut_off(m->file);
	return err ? err : 1;
}

static int take_header(struct maker *m, const uint8_t *bytes, size_t *length)
{
	LZ4F_frameInfo_t info = LZ4F_INIT_FRAMEINFO;
	size_t ret;

	LZ4F_resetDecompressionContext(m->decoder);
	ret = LZ4F_getFrameInfo(m->decoder, &info, bytes, length);
	if (LZ4F_isError(ret))
		return nr_error_set(m->error, -EINVAL,
				    "the header at byte %" PRIu64 " is damaged: %s", m->at,
				    LZ4F_getErrorName(ret));
	if (info.dictID)
		return nr_error_set(m->error, -ENOTSUP,
				    "the file was made with a dictionary, which is not supported");
	if (info.blockSizeID < LZ4F_max64KB || info.blockSizeID > LZ4F_max4MB)
		return damaged(m);
	m->block_max = 65536u << 2 * (info.blockSizeID - LZ4F_max64KB);
	m->bits = (uint32_t)info.blockSizeID | (info.blockChecksumFlag ? NR_LZ4_CHECKED : 0) |
		  (info.blockMode == LZ4F_blockLinked ? NR_LZ4_LINKED : 0);
	m->checked = info.contentChecksumFlag;
	m->content = info.contentSize;
	m->window_length = 0;
	return 0;
}

static int take_frame(struct maker *m)
{
	size_t length = (size_t)nr_min(HEADER_MAX, m->file->size - m->at);
	const uint8_t *bytes = NULL;
	uint64_t start = m->at;
	int err;

	if (length < HEADER_MIN)
		return nr_peek_cut_off(m->file);
	err = nr_peek(m->file, m->at, length, &bytes);
	if (!err)
		err = take_header(m, bytes, &length);
	if (!err && m->content > 0 && !(m->bits & NR_LZ4_LINKED))
		err = walk_frame(m, bytes, length);
	if (err)
		return err < 0 ? err : 0;
	m->at = start;
	return unpack_frame(m, length);
}

/* One block of a legacy frame, of LENGTH bytes at m->at: only the last one is measured. */
static int take_legacy_block(struct maker *m, uint32_t length, bool last)
{
	int size = NR_LZ4_LEGACY_BLOCK, err = 0;

	if (last) {
		err = nr_read_below(m->file->layer, m->at, length, m->in, m->error);
		if (!err)
			size = LZ4_decompress_safe((const char *)m->in, (char *)m->out, (int)length,
						   (int)NR_LZ4_LEGACY_BLOCK);
		if (!err && size < 0)
			err = damaged(m);
	}
	if (!err)
		err = begin_span(m, m->at);
	m->at += length;
	if (!err)
		err = add_block(m, (uint64_t)size, m->at);
	return err ? err : end_span(m, m->at);
}

/* What follows a block is the size of another, which is small, or else a magic number. */
static int take_legacy(struct maker *m)
{
	const uint8_t *bytes = NULL;
	uint32_t length, next;
	int err;

	m->bits = 0;
	m->window_length = 0;
	m->at += WORD;
	if (m->at == m->file->size)
		return 0;
	err = nr_peek(m->file, m->at, WORD, &bytes);
	if (err)
		return err;
	for (next = get32(bytes); !err && next <= LEGACY_MAX;) {
		length = next;
		m->at += WORD;
		if (length > m->file->size - m->at)
			return nr_peek_cut_off(m->file);
		next = UINT32_MAX;
		if (m->at + length < m->file->size) {
			err = nr_peek(m->file, m->at + length, WORD, &bytes);
			next = err ? 0 : get32(bytes);
		}
		if (!err)
			err = take_legacy_block(m, length, next > LEGACY_MAX);
	}
	return err;
}

/* A frame of any kind at m->at, which moves behind it. */
static int take_any(struct maker *m)
{
	const uint8_t *bytes = NULL;
	uint32_t magic;
	int err = nr_peek(m->file, m->at, WORD, &bytes);

	if (err)
		return err;
	magic = get32(bytes);
	if (magic == MAGIC)
		return take_frame(m);
	if (magic == LEGACY_MAGIC)
		return take_legacy(m);
	if ((magic & ~15u) != SKIPPABLE_MAGIC)
		return m->at ? damaged(m) : nr_error_set(m->error, -EINVAL, "this is no lz4 file");
	err = nr_peek(m->file, m->at, WORD + WORD, &bytes);
	if (err)
		return err;
	m->at += WORD + WORD + (uint64_t)get32(bytes + WORD);
	return m->at <= m->file->size ? 0 : nr_peek_cut_off(m->file);
}

static void free_maker(struct maker *m)
{
	(void)LZ4F_freeDecompressionContext(m->decoder);
	free(m->file);
	free(m->in);
	free(m->out);
	free(m);
}

/* NULL and a sentence: no memory. */
static struct maker *new_maker(struct nr_layer *layer, struct nr_error *error)
{
	struct maker *m = calloc(1, sizeof(*m));

	if (!m) {
		nr_error_system(error, -ENOMEM, "the index");
		return NULL;
	}
	m->error = error;
	m->file = nr_peek_create(layer, error);
	m->in = malloc(LEGACY_MAX);
	m->out = malloc(NR_LZ4_LEGACY_BLOCK);
	if (m->file && m->in && m->out &&
	    !LZ4F_isError(LZ4F_createDecompressionContext(&m->decoder, LZ4F_VERSION)))
		return m;
	nr_error_system(error, -ENOMEM, "the index");
	free_maker(m);
	return NULL;
}

int nr_lz4_index_make(struct nr_layer *layer, struct nr_index *index, struct nr_blocks *blocks,
		      uint64_t max, struct nr_error *error)
{
	struct maker *m = new_maker(layer, error);
	int err = 0;

	if (!m)
		return -ENOMEM;
	m->index = index;
	m->blocks = blocks;
	m->max = max;
	if (m->file->size == 0)
		err = nr_error_set(error, -EINVAL, "this is no lz4 file");
	while (!err && m->at < m->file->size)
		err = take_any(m);
	free_maker(m);
	return err;
}
