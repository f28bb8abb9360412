/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * See bzip2-index.h.
 *
 * A file is streams: a header of four bytes, blocks, the mark of the end, a checksum of all
 * blocks' checksums, and zero bits up to a byte.  Nothing says how long a block is.  It
 * begins with a mark of 48 bits, at any bit, and ends where another mark is: that of the
 * next block or of the end.  So the file is searched for marks, and what is between them is
 * unpacked, window by window, each window's blocks side by side.
 *
 * A mark may also come about by chance in the middle of a block, once in some 30 TB.  Then
 * neither part of the block unpacks, as its checksum says, and its end is looked for at the
 * marks behind, of which TRIES are tried: a file that was made of nothing but marks is
 * refused and does not keep anybody busy.
 *
 * Memory: the window, and 40 bytes for each of MARKS_MAX marks.
 */
#include "filters/bzip2-index.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "filters/bzip2-block.h"
#include "nbdring/checked.h"

#define WINDOW ((size_t)32 << 20) /* many blocks, which have 2.5 MiB at most */
#define MARKS_MAX ((size_t)65536)
#define TRIES 16u
#define HEADER 4u
#define SCRATCH 65536u

struct mark {
	uint64_t at; /* bit of the file */
	bool block;  /* of a block, not of a stream's end */

	/* Of a block that ends at the next mark. */
	int status; /* 0: it is one */
	uint32_t sum;
	uint64_t length; /* unpacked, bytes */
};

struct maker {
	struct nr_layer *layer;
	struct nr_index *index;
	struct nr_blocks *blocks;
	uint64_t max, size;
	uint64_t said;
	struct nr_error *error;

	uint64_t at;    /* bit of the file: what lies before is done */
	bool in_stream; /* else a header is expected */
	bool over;      /* what follows is left out */
	bool last;      /* the window has all that is left of the file */
	uint32_t sum;   /* of the stream so far */

	uint64_t start; /* byte of the file where the window begins */
	size_t length;
	uint8_t *window; /* with eight bytes of zeroes behind */
	struct mark *mark;
	size_t count;
};

/* Marks. */

static uint64_t get64(const uint8_t *p)
{
	uint64_t n = 0;

	for (unsigned i = 0; i < 8; i++)
		n = n << 8 | p[i];
	return n;
}

/* The second byte of a mark has one of 16 values: two marks, eight places for a bit. */
static void fill_filter(bool filter[256])
{
	memset(filter, 0, 256);
	for (unsigned shift = 0; shift < 8; shift++) {
		filter[NR_BZIP2_BEGIN >> (32 + shift) & 0xff] = true;
		filter[NR_BZIP2_END >> (32 + shift) & 0xff] = true;
	}
}

/* All marks in the window, in order, as many as there is room for. */
static void find_marks(struct maker *m)
{
	const uint64_t mask = (UINT64_C(1) << NR_BZIP2_MARK_BITS) - 1;
	bool filter[256];

	fill_filter(filter);
	m->count = 0;
	for (size_t i = 0; i < m->length; i++) {
		uint64_t here;

		if (!filter[m->window[i + 1]])
			continue;
		here = get64(m->window + i);
		for (unsigned shift = 0; shift < 8; shift++) {
			uint64_t bits = here >> (64 - NR_BZIP2_MARK_BITS - shift) & mask;

			if (bits != NR_BZIP2_BEGIN && bits != NR_BZIP2_END)
				continue;
			if (m->count == MARKS_MAX)
				return;
			m->mark[m->count++] = (struct mark){
				.at = (m->start + i) * 8 + shift,
				.block = bits == NR_BZIP2_BEGIN,
				.status = -EIO,
			};
		}
	}
}

/* The bits of the file that nr_bzip2_step is to have for a block from bit FROM to bit TO. */
static uint32_t block_bits(uint64_t from, uint64_t to)
{
	return (uint32_t)(from & 7) | (uint32_t)((8 - (to & 7)) & 7) << 3;
}

/* Fill in what the block from MARK to bit TO is. */
static void unpack(const struct maker *m, struct mark *mark, uint64_t to)
{
	struct nr_bzip2_decoder *d = nr_bzip2_begin(mark->at & 7, to - mark->at);
	uint8_t *scratch = malloc(SCRATCH);
	struct nr_codec_io io = {
		.in = m->window + (mark->at / 8 - m->start),
		.in_left = (size_t)((to + 7) / 8 - mark->at / 8),
	};

	mark->length = 0;
	mark->status = d && scratch ? NR_CODEC_MORE : -ENOMEM;
	while (d && mark->status == NR_CODEC_MORE) {
		size_t in = io.in_left;

		io.out = scratch;
		io.out_left = SCRATCH;
		mark->status = nr_bzip2_step(d, &io);
		mark->length += SCRATCH - io.out_left;
		if (mark->status == NR_CODEC_MORE && in == io.in_left && io.out_left == SCRATCH)
			mark->status = -EIO;
	}
	if (mark->status == NR_CODEC_END) {
		mark->status = 0;
		mark->sum = nr_bzip2_sum(d);
	}
	nr_bzip2_free(d);
	free(scratch);
}

/* On a thread of nr_compute: the Nth mark up to the next. */
static void unpack_nth(void *context, size_t n)
{
	struct maker *m = context;
	struct mark *mark = &m->mark[n];

	if (mark->block && mark[1].at - mark->at <= NR_BZIP2_BLOCK_MAX * 8)
		unpack(m, mark, mark[1].at);
}

/* The stream. */

static int damaged(struct maker *m)
{
	return nr_error_set(m->error, -EINVAL, "the file is damaged at byte %" PRIu64, m->at / 8);
}

static int cut_off(struct maker *m)
{
	return nr_error_set(m->error, -EINVAL, "the file is cut off");
}

static int add_block(struct maker *m, const struct mark *mark, uint64_t to)
{
	uint64_t in = mark->at / 8;
	size_t where;
	int err;

	if (mark->length > m->max || m->blocks->size > m->max - mark->length)
		return nr_error_set(m->error, -EFBIG,
				    "the file unpacks to more than %" PRIu64
				    " bytes; if that is right, raise bzip2-max-size=",
				    m->max);
	err = nr_index_add(m->index, NULL, 0, block_bits(mark->at, to), &where);
	if (!err)
		err = nr_blocks_add(m->blocks, mark->length, in, (to + 7) / 8 - in, where);
	if (err)
		return nr_error_system(m->error, err, "the index");
	m->sum = (m->sum << 1 | m->sum >> 31) ^ mark->sum;
	m->at = to;
	return 0;
}

/* A block at the Nth mark.  0, 1: its end may be behind the window, or negative errno. */
static int take_block(struct maker *m, size_t n)
{
	struct mark *mark = &m->mark[n];
	size_t end;

	for (end = n + 1; end < m->count && end <= n + TRIES; end++) {
		uint64_t to = m->mark[end].at;

		if (to - mark->at > NR_BZIP2_BLOCK_MAX * 8)
			return damaged(m);
		if (end > n + 1)
			unpack(m, mark, to);
		if (mark->status == -ENOMEM)
			return nr_error_system(m->error, -ENOMEM, "the index");
		if (mark->status == 0)
			return add_block(m, mark, to);
	}
	/* It is cut off if no mark follows at all. */
	return end > n + TRIES || (m->last && end > n + 1) ? damaged(m) : 1;
}

/* A stream's end at m->at.  1: not all of it is in the window. */
static int take_end(struct maker *m)
{
	uint64_t bits = m->at + NR_BZIP2_MARK_BITS, byte = bits / 8 - m->start;
	uint32_t sum;

	if (byte + 5 > m->length && (byte + 4 > m->length || bits & 7))
		return 1;
	sum = (uint32_t)(get64(m->window + byte) >> (32 - (bits & 7)));
	if (sum != m->sum)
		return damaged(m);
	m->at = (bits + 32 + 7) / 8 * 8;
	m->in_stream = false;
	return 0;
}

/* A stream's header at m->at.  1: not all of it is in the window. */
static int take_header(struct maker *m)
{
	const uint8_t *bytes = m->window + (m->at / 8 - m->start);
	size_t left = m->length - (size_t)(m->at / 8 - m->start);

	if (left == 0)
		return 1;
	if (bytes[0] != 'B' || (left > 1 && bytes[1] != 'Z') || (left > 2 && bytes[2] != 'h') ||
	    (left > 3 && (bytes[3] < '1' || bytes[3] > '9'))) {
		if (m->at == 0)
			return nr_error_set(m->error, -EINVAL, "this is no bzip2 file");
		nr_layer_log(m->layer, NR_LAYER_WARNING,
			     "what comes behind byte %" PRIu64 " is left out: it is no bzip2",
			     m->at / 8);
		m->over = true;
		return 0;
	}
	if (left < HEADER)
		return 1;
	m->at += HEADER * 8;
	m->in_stream = true;
	m->sum = 0;
	return 0;
}

/* One thing at m->at, whose mark, if it has one, is not before the Nth.  As above. */
static int take_next(struct maker *m, size_t *n)
{
	if (!m->in_stream)
		return take_header(m);
	while (*n < m->count && m->mark[*n].at < m->at)
		++*n;
	if (*n == m->count)
		return 1;
	if (m->mark[*n].at > m->at)
		return damaged(m);
	return m->mark[*n].block ? take_block(m, *n) : take_end(m);
}

/* All that is complete in the window that begins at m->at. */
static int take_window(struct maker *m)
{
	uint64_t before = m->at;
	size_t n = 0;
	int err;

	m->start = m->at / 8;
	m->length = (size_t)nr_min(WINDOW, m->size - m->start);
	err = nr_read_below(m->layer, m->start, m->length, m->window, m->error);
	if (err)
		return err;
	memset(m->window + m->length, 0, 8);
	find_marks(m);
	m->last = m->start + m->length == m->size && m->count < MARKS_MAX;
	if (m->count > 1)
		nr_compute_each(m->layer, unpack_nth, m, m->count - 1);
	while (!err && !m->over && m->at < m->size * 8)
		err = take_next(m, &n);
	nr_index_progress(m->layer, &m->said, m->at / 8, m->size);
	if (err <= 0)
		return err;
	if (m->last)
		return cut_off(m);
	/* It is there in a window that begins here, unless this one does. */
	return m->at > before ? 0 : damaged(m);
}

static void free_maker(struct maker *m)
{
	free(m->window);
	free(m->mark);
	free(m);
}

/* NULL: no memory. */
static struct maker *new_maker(uint64_t size)
{
	struct maker *m = calloc(1, sizeof(*m));

	if (!m)
		return NULL;
	m->size = size;
	m->window = malloc((size_t)nr_min(WINDOW, size) + 8);
	m->mark = calloc(MARKS_MAX, sizeof(*m->mark));
	if (m->window && m->mark)
		return m;
	free_maker(m);
	return NULL;
}

int nr_bzip2_index_make(struct nr_layer *layer, struct nr_index *index, struct nr_blocks *blocks,
			uint64_t max, struct nr_error *error)
{
	struct maker *m = new_maker(nr_layer_size(layer->below));
	int err = 0;

	if (!m)
		return nr_error_system(error, -ENOMEM, "the index");
	m->layer = layer;
	m->index = index;
	m->blocks = blocks;
	m->max = max;
	m->error = error;
	if (m->size == 0 || m->size > UINT64_MAX / 8)
		err = nr_error_set(error, -EINVAL, "this is no bzip2 file");
	while (!err && !m->over && m->at < m->size * 8)
		err = take_window(m);
	if (!err && m->in_stream)
		err = cut_off(m);
	free_maker(m);
	return err;
}
