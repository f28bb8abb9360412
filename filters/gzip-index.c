/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * See gzip-index.h: making the index.
 *
 * A state costs 32 KiB at most for 4 MiB of output, which is 0.8 % of a file that does
 * not compress, and of one that does, too, as long as its windows compress as well.
 * Where they do not there are fewer states (nr_index_has_room).
 */
#include "filters/gzip-index.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "nbdring/checked.h"

#define PIECE ((uint64_t)256 << 10)

/* Making it. */

struct maker {
	struct nr_layer *layer;
	struct nr_index *index;
	struct nr_blocks *blocks;
	uint64_t size; /* of the file, bytes */
	uint64_t max;
	uint64_t read; /* so far */
	uint64_t out;
	uint64_t span_in, span_out; /* where the span that is not over begins */
	size_t state;               /* of it */
	bool between;               /* members: before the first, or behind one */
	uint64_t said;              /* when progress was logged */
	z_stream z;
	struct nr_error *error;
	uint8_t in[PIECE];
	uint8_t output[NR_GZIP_WINDOW];
};

static uint64_t used(const struct maker *m)
{
	return m->read - m->z.avail_in;
}

static int fill(struct maker *m)
{
	uint64_t length = nr_min(PIECE, m->size - m->read);
	int err = nr_read_below(m->layer, m->read, length, m->in, m->error);

	if (err)
		return err;
	m->z.next_in = m->in;
	m->z.avail_in = (uInt)length;
	m->read += length;
	nr_index_progress(m->layer, &m->said, m->read, m->size);
	return 0;
}

/* The span that began at m->span_out is over. */
static int end_span(struct maker *m, uint64_t in)
{
	int err = nr_blocks_add(m->blocks, m->out - m->span_out, m->span_in, in - m->span_in,
				m->state);

	return err ? nr_error_system(m->error, err, "the index") : 0;
}

/* A new one begins here, in a member (BITS of the byte before are its own) or with one. */
static int begin_span(struct maker *m, bool member, uint32_t bits)
{
	uint8_t window[NR_GZIP_WINDOW];
	uInt length = 0;
	int err;

	if (!member && !nr_index_has_room(m->index, NR_GZIP_WINDOW, used(m)))
		return 0;
	if (!member && inflateGetDictionary(&m->z, window, &length) != Z_OK)
		return nr_error_system(m->error, -EINVAL, "the index");
	/* The span before has that byte, too. */
	err = end_span(m, used(m));
	if (!err && nr_index_add(m->index, window, length, bits, &m->state))
		err = nr_error_system(m->error, -ENOMEM, "the index");
	m->span_out = m->out;
	m->span_in = used(m) - (bits ? 1 : 0);
	return err;
}

static int no_gzip(struct maker *m)
{
	if (m->blocks->size == 0 && m->out == 0)
		return nr_error_set(m->error, -EINVAL, "this is no gzip file");
	return nr_error_set(m->error, -EINVAL, "the file is damaged at byte %" PRIu64, used(m));
}

/* Padding of zeroes, or what else is no member, is left out.  False: nothing follows. */
static bool begin_member(struct maker *m, int *err)
{
	while (m->z.avail_in > 0 && *m->z.next_in == 0 && used(m) > 0) {
		m->z.next_in++;
		m->z.avail_in--;
	}
	if (m->z.avail_in == 0)
		return true;
	if (*m->z.next_in != 0x1f && used(m) > 0) {
		nr_layer_log(m->layer, NR_LAYER_WARNING,
			     "what comes behind byte %" PRIu64 " is left out: it is no gzip",
			     used(m));
		return false;
	}
	if (m->out - m->span_out >= NR_GZIP_SPAN)
		*err = begin_span(m, true, 0);
	if (!*err && inflateReset2(&m->z, 15 + 16) != Z_OK)
		*err = nr_error_system(m->error, -ENOMEM, "the index");
	m->between = false;
	return true;
}

/* One call of inflate, and what it means. */
static int inflate_some(struct maker *m)
{
	int ret;

	m->z.next_out = m->output;
	m->z.avail_out = sizeof(m->output);
	ret = inflate(&m->z, Z_BLOCK);
	m->out += sizeof(m->output) - m->z.avail_out;
	if (m->out > m->max)
		return nr_error_set(m->error, -EFBIG,
				    "the file unpacks to more than %" PRIu64
				    " bytes; if that is right, raise gzip-max-size=",
				    m->max);
	if (ret == Z_STREAM_END) {
		m->between = true;
		return 0;
	}
	if (ret == Z_MEM_ERROR)
		return nr_error_system(m->error, -ENOMEM, "the index");
	if (ret != Z_OK && ret != Z_BUF_ERROR)
		return no_gzip(m);
	/* The end of a block that is not the last one. */
	if ((m->z.data_type & 0xc0) == 0x80 && m->out - m->span_out >= NR_GZIP_SPAN)
		return begin_span(m, false, (uint32_t)m->z.data_type & 7);
	return 0;
}

static int inflate_all(struct maker *m)
{
	int err = 0;

	while (!err) {
		if (m->z.avail_in == 0 && m->read < m->size) {
			err = fill(m);
			continue;
		}
		if (m->z.avail_in == 0 && m->between)
			break;
		if (m->between) {
			if (!begin_member(m, &err))
				break;
			continue;
		}
		if (m->z.avail_in == 0 && m->z.avail_out > 0)
			return nr_error_set(m->error, -EINVAL, "the file is cut off");
		err = inflate_some(m);
	}
	if (!err && m->index->count == 1 && m->read == 0)
		return no_gzip(m);
	return err ? err : end_span(m, m->size);
}

int nr_gzip_index_make(struct nr_layer *layer, struct nr_index *index, struct nr_blocks *blocks,
		       uint64_t max, struct nr_error *error)
{
	struct maker *m = calloc(1, sizeof(*m));
	int err;

	if (!m || inflateInit2(&m->z, 15 + 16) != Z_OK) {
		free(m);
		return nr_error_system(error, -ENOMEM, "the index");
	}
	m->layer = layer;
	m->index = index;
	m->blocks = blocks;
	m->size = nr_layer_size(layer->below);
	m->max = max;
	m->between = true;
	m->error = error;
	err = nr_index_add(index, NULL, 0, 0, &m->state);
	err = err ? nr_error_system(error, err, "the index") : inflate_all(m);
	(void)inflateEnd(&m->z);
	free(m);
	return err;
}
