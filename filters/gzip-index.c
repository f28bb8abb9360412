/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * See gzip-index.h: making the index.
 *
 * A span is as short as the index may be for it.  The shorter spans are, the sooner is a
 * read in one answered, so there is a state every NR_GZIP_SPAN, as long as all of them
 * take no more than 0.5 % of what has been read of the file; beyond LONG_SPAN they may
 * take 0.8 %.  A window costs little where what follows does not compress, as hardly
 * anything of it is needed, and where it compresses well, because so does the window.
 * Where spans have to be longer still, the file is many times smaller than what it
 * unpacks to, and that is fast.  NR_INDEX_FREE is for files that are small.
 */
#include "filters/gzip-index.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "nbdring/checked.h"

#define WINDOW NR_GZIP_WINDOW
#define LONG_SPAN (4 * NR_GZIP_SPAN)
#define FIRST_GUESS 8192u /* of what a state takes, bytes */
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
	bool no_window;             /* it is not added yet: what is needed is being found out */
	uint32_t length, bits;      /* of it, then */
	uint64_t cost;              /* of the last state, bytes */
	uint64_t looked;            /* bytes of the span that were looked at for zeroes */
	bool zero;                  /* its last grain is, so far */
	uint8_t last;               /* byte of the file that was used */
	bool between;               /* members: before the first, or behind one */
	uint64_t said;              /* when progress was logged */
	z_stream z;
	struct nr_error *error;
	struct nr_gzip_probe *probe;
	uint8_t in[PIECE];
	uint8_t output[WINDOW];
	uint8_t window[WINDOW];
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

/* The LENGTH bytes at DATA are the next ones of the span: grains of zeroes are noted. */
static void look_at(struct maker *m, const uint8_t *data, uint64_t length)
{
	while (length > 0) {
		uint64_t now = nr_min(length, NR_GRAIN_BYTES - m->looked % NR_GRAIN_BYTES);

		if (m->looked % NR_GRAIN_BYTES == 0)
			m->zero = true;
		m->zero = m->zero && data[0] == 0 && memcmp(data, data + 1, now - 1) == 0;
		m->looked += now;
		data += now;
		length -= now;
		if (m->looked % NR_GRAIN_BYTES == 0)
			nr_blocks_know(m->blocks, m->looked / NR_GRAIN_BYTES - 1, m->zero);
	}
}

/* What is needed of the span's window is known by now. */
static int set_window(struct maker *m)
{
	uint64_t before = m->index->bytes;

	if (!m->no_window)
		return 0;
	m->no_window = false;
	nr_gzip_probe_end(m->probe, m->window);
	if (nr_index_add(m->index, m->window, m->length, m->bits, &m->state))
		return nr_error_system(m->error, -ENOMEM, "the index");
	m->cost = m->index->bytes - before + NR_INDEX_STATE_BYTES;
	return 0;
}

/* The span that began at m->span_out is over. */
static int end_span(struct maker *m, uint64_t in)
{
	int err;

	if (m->looked % NR_GRAIN_BYTES)
		nr_blocks_know(m->blocks, m->looked / NR_GRAIN_BYTES, m->zero);
	m->looked = 0;
	err = set_window(m);
	if (err)
		return err;
	err = nr_blocks_add(m->blocks, m->out - m->span_out, m->span_in, in - m->span_in, m->state);
	return err ? nr_error_system(m->error, err, "the index") : 0;
}

/* May there be one more state? */
static bool can_afford(const struct maker *m, uint64_t cost)
{
	uint64_t spent = m->index->bytes + m->index->count * NR_INDEX_STATE_BYTES;
	uint64_t share = m->out - m->span_out < LONG_SPAN ? 200 : 125;

	return m->out - m->span_out >= NR_GZIP_SPAN &&
	       spent + cost + WINDOW <= NR_INDEX_FREE + used(m) / share;
}

/* In a member, whose next block begins here; BITS of the byte before belong to it. */
static int begin_state(struct maker *m, uint32_t bits)
{
	uInt length = 0;
	int err;

	if (m->no_window && m->looked >= 2 * (uint64_t)WINDOW && set_window(m))
		return -ENOMEM;
	if (!can_afford(m, m->cost))
		return 0;
	assert(!m->no_window); /* so long a span has it */
	if (inflateGetDictionary(&m->z, m->window, &length) != Z_OK)
		return nr_error_system(m->error, -EINVAL, "the index");
	/* Nothing has come out of the member: then it is as well to begin later. */
	if (length == 0)
		return 0;
	/* The span before has that byte, too. */
	err = end_span(m, used(m));
	if (err)
		return err;
	m->length = length;
	m->bits = bits;
	m->span_out = m->out;
	m->span_in = used(m) - (bits ? 1 : 0);
	m->no_window = true;
	nr_gzip_probe_begin(m->probe, length, bits, m->last);
	return 0;
}

/* With a member, which begins here. */
static int begin_span(struct maker *m)
{
	int err;

	if (!can_afford(m, 0))
		return 0;
	err = end_span(m, used(m));
	if (!err && nr_index_add(m->index, NULL, 0, 0, &m->state))
		err = nr_error_system(m->error, -ENOMEM, "the index");
	m->span_out = m->out;
	m->span_in = used(m);
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
	*err = begin_span(m);
	if (!*err && inflateReset2(&m->z, 15 + 16) != Z_OK)
		*err = nr_error_system(m->error, -ENOMEM, "the index");
	m->between = false;
	return true;
}

/* One call of inflate, and what it means. */
static int inflate_some(struct maker *m)
{
	const uint8_t *in = m->z.next_in;
	int ret;

	m->z.next_out = m->output;
	m->z.avail_out = sizeof(m->output);
	ret = inflate(&m->z, Z_BLOCK);
	m->out += sizeof(m->output) - m->z.avail_out;
	look_at(m, m->output, sizeof(m->output) - m->z.avail_out);
	if (m->no_window)
		nr_gzip_probe_feed(m->probe, in, (size_t)(m->z.next_in - in));
	if (m->z.next_in > in)
		m->last = m->z.next_in[-1];
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
	if ((m->z.data_type & 0xc0) == 0x80)
		return begin_state(m, (uint32_t)m->z.data_type & 7);
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

	if (m)
		m->probe = nr_gzip_probe_new();
	if (!m || !m->probe || inflateInit2(&m->z, 15 + 16) != Z_OK) {
		nr_gzip_probe_free(m ? m->probe : NULL);
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
	m->cost = FIRST_GUESS;
	err = nr_index_add(index, NULL, 0, 0, &m->state);
	err = err ? nr_error_system(error, err, "the index") : inflate_all(m);
	(void)inflateEnd(&m->z);
	nr_gzip_probe_free(m->probe);
	free(m);
	return err;
}
