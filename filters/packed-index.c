/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * See packed-index.h.
 *
 * In a file all numbers are little-endian:
 *
 *	[0..7] the format's magic  [8..15] size of the packed file  [16..23] checksum of
 *	its beginning, middle and end  [24..31] number of spans
 *	for each span: [0..7] bytes that come out  [8..15] where it begins in the file
 *	[16..23] bytes there  [24..27] bytes of the window  [28..31] of the packed window
 *	[32..35] bits  [36..39] 0, and the packed window
 *	[0..7] bytes of what is known of grains, packed, and that: a bit for each grain
 *	that is known, the first the lowest of a byte, and again for each of zeroes
 *	at the end: CRC-32 of all before
 *
 * The file is read with the same distrust as any other: what it says is bounded, and a
 * window or a place that is wrong makes reads fail, no more.
 */
#include "filters/packed-index.h"

#include <endian.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

#include "filters/operations.h"
#include "nbdring/checked.h"

#define SAMPLE 65536u
#define PROGRESS_NS UINT64_C(10000000000)

struct index_header {
	char magic[8];
	uint64_t size, sample, spans;
};

struct index_span {
	uint64_t out, in, in_length;
	uint32_t length, packed, bits, zero;
};

/* A file that is read or written, and the checksum of what was. */
struct summed {
	FILE *file;
	uint32_t sum;
};

/* States without a window that follow each other are one, if their bits are the same. */
static bool is_last(const struct nr_index *index, uint32_t length, uint32_t bits)
{
	const struct nr_index_state *last;

	if (index->count == 0 || length > 0)
		return false;
	last = &index->state[index->count - 1];
	return last->length == 0 && last->bits == bits;
}

/* As nr_index_add; STATE, with a copy of what is packed at PACKED. */
static int add_packed(struct nr_index *index, struct nr_index_state state, const uint8_t *packed,
		      size_t *where)
{
	if (is_last(index, state.length, state.bits)) {
		*where = index->count - 1;
		return 0;
	}
	if (index->count == index->room) {
		size_t room = index->room ? 2 * index->room : 64;
		struct nr_index_state *more = realloc(index->state, room * sizeof(*more));

		if (!more)
			return -ENOMEM;
		index->state = more;
		index->room = room;
	}
	state.window = NULL;
	if (state.length) {
		state.window = malloc(state.packed);
		if (!state.window)
			return -ENOMEM;
		memcpy(state.window, packed, state.packed);
		index->bytes += state.packed;
	}
	*where = index->count;
	index->state[index->count++] = state;
	return 0;
}

int nr_index_add(struct nr_index *index, const uint8_t *window, uint32_t length, uint32_t bits,
		 size_t *where)
{
	struct nr_index_state state = { .length = length, .bits = bits };
	uLongf packed = compressBound(length);
	uint8_t *data = NULL;
	int err = 0;

	if (length) {
		data = malloc(packed);
		if (!data || compress2(data, &packed, window, length, 6) != Z_OK)
			err = -ENOMEM;
		state.packed = (uint32_t)packed;
	}
	if (!err)
		err = add_packed(index, state, data, where);
	free(data);
	return err;
}

bool nr_index_has_room(const struct nr_index *index, uint32_t length, uint64_t used)
{
	return index->bytes + length <= NR_INDEX_FREE + used / 100;
}

int nr_index_window(const struct nr_index_state *state, uint8_t *room)
{
	uLongf length = state->length;

	if (uncompress(room, &length, state->window, state->packed) != Z_OK)
		return -EIO;
	return length == state->length ? 0 : -EIO;
}

void nr_index_free(struct nr_index *index)
{
	for (size_t i = 0; i < index->count; i++)
		free(index->state[i].window);
	free(index->state);
	*index = (struct nr_index){ .state = NULL };
}

/* The file. */

static int sample_of(struct nr_layer *layer, uint64_t *sample, struct nr_error *error)
{
	uint64_t size = nr_layer_size(layer->below), length = nr_min(SAMPLE, size);
	const uint64_t at[] = { 0, (size - length) / 2, size - length };
	uint8_t *data = malloc(SAMPLE);
	uint32_t sum = 0;
	int err = data ? 0 : nr_error_system(error, -ENOMEM, "the index");

	for (unsigned i = 0; i < 3 && !err && length > 0; i++) {
		err = nr_read_below(layer, at[i], length, data, error);
		if (!err)
			sum = (uint32_t)crc32(sum, data, (uInt)length);
	}
	free(data);
	*sample = sum;
	return err;
}

static bool get(struct summed *s, void *data, size_t length)
{
	if (fread(data, 1, length, s->file) != length)
		return false;
	s->sum = (uint32_t)crc32(s->sum, data, (uInt)length);
	return true;
}

static bool put(struct summed *s, const void *data, size_t length)
{
	s->sum = (uint32_t)crc32(s->sum, data, (uInt)length);
	return fwrite(data, 1, length, s->file) == length;
}

/* Loading. */

/* What is being loaded. */
struct loading {
	const struct nr_index_kind *kind;
	uint64_t size, sample; /* of the packed file */
	struct nr_index *index;
	struct nr_blocks *blocks;
	uint8_t *packed, *window; /* room for those of a span */
	size_t packed_max;
};

/* 0, -EINVAL: it is damaged, or -ENOMEM. */
static int get_span(struct summed *s, struct loading *l)
{
	struct nr_index_state state;
	struct index_span span;
	uint32_t length, packed, bits;
	size_t where = 0;
	int err;

	if (!get(s, &span, sizeof(span)))
		return -EINVAL;
	length = le32toh(span.length);
	packed = le32toh(span.packed);
	bits = le32toh(span.bits);
	if (length > l->kind->window_max || packed > l->packed_max || bits > l->kind->bits_max ||
	    !nr_in_range(le64toh(span.in), le64toh(span.in_length), l->size) ||
	    (span.out && !span.in_length) || !get(s, l->packed, packed))
		return -EINVAL;
	state = (struct nr_index_state){ l->packed, packed, length, bits };
	if (length > 0 && nr_index_window(&state, l->window))
		return -EINVAL;
	if (length == 0)
		state.packed = 0;
	err = add_packed(l->index, state, l->packed, &where);
	if (err)
		return err;
	return nr_blocks_add(l->blocks, le64toh(span.out), le64toh(span.in),
			     le64toh(span.in_length), where);
}

/* Grains that are remembered, and the bytes of a bit for each. */
static uint64_t grains_kept(const struct nr_blocks *blocks, uint64_t *bytes)
{
	uint64_t grains = nr_min(blocks->grains, NR_GRAINS_MAX);

	*bytes = grains / 8 + (grains % 8 != 0);
	return grains;
}

static bool bit_at(const uint8_t *bits, uint64_t i)
{
	return bits[i / 8] >> i % 8 & 1;
}

/* As get_span. */
static int get_zeroes(struct summed *s, struct nr_blocks *blocks)
{
	uint64_t packed, bytes, grains = grains_kept(blocks, &bytes);
	uint8_t *from = NULL, *to = NULL;
	uLongf length = 2 * bytes;
	int err = -EINVAL;

	if (!get(s, &packed, sizeof(packed)) || le64toh(packed) > compressBound(2 * bytes))
		return -EINVAL;
	packed = le64toh(packed);
	from = malloc(packed + 1);
	to = malloc(2 * bytes + 1);
	if (!from || !to || !nr_zeroes_reserve(&blocks->zeroes, grains))
		err = -ENOMEM;
	else if (get(s, from, packed) && uncompress(to, &length, from, packed) == Z_OK &&
		 length == 2 * bytes)
		err = 0;
	for (uint64_t i = 0; i < grains && !err; i++)
		if (bit_at(to, i))
			nr_zeroes_set(&blocks->zeroes, i, 1,
				      bit_at(to + bytes, i) ? NR_GRAIN_ZERO : NR_GRAIN_DATA);
	free(from);
	free(to);
	return err;
}

static int load(struct summed *s, struct loading *l, struct nr_error *error)
{
	struct index_header header;
	uint32_t sum, stored;
	int err = 0;

	if (!get(s, &header, sizeof(header)) || memcmp(header.magic, l->kind->magic, 8) != 0)
		return nr_error_set(error, -EINVAL, "it is no index of a file for %s",
				    l->kind->format);
	if (le64toh(header.size) != l->size || le64toh(header.sample) != l->sample)
		return nr_error_set(error, -ESTALE, "it is the index of another file");
	if (le64toh(header.spans) > NR_SPANS_MAX)
		return nr_error_set(error, -EINVAL, "it is damaged");
	for (uint64_t i = 0; i < le64toh(header.spans) && !err; i++)
		err = get_span(s, l);
	if (!err)
		err = get_zeroes(s, l->blocks);
	sum = s->sum;
	if (!err && (!get(s, &stored, sizeof(stored)) || le32toh(stored) != sum))
		err = -EINVAL;
	if (err == -ENOMEM)
		return nr_error_system(error, err, "no room for it");
	return err ? nr_error_set(error, -EINVAL, "it is damaged") : 0;
}

static int load_from(struct nr_layer *layer, struct loading *l, const char *path,
		     struct nr_error *error)
{
	struct summed s = { .file = fopen(path, "re") };
	int err;

	if (!s.file)
		return nr_error_system(error, -errno, "%s", path);
	l->size = nr_layer_size(layer->below);
	l->packed_max = compressBound(l->kind->window_max) + 1;
	l->packed = malloc(l->packed_max);
	l->window = malloc((size_t)l->kind->window_max + 1);
	if (!l->packed || !l->window)
		err = nr_error_system(error, -ENOMEM, "no room for an index");
	else
		err = sample_of(layer, &l->sample, error);
	if (!err) {
		err = load(&s, l, error);
		if (err)
			nr_error_prefix(error, "%s", path);
	}
	fclose(s.file);
	free(l->packed);
	free(l->window);
	if (err) {
		nr_index_free(l->index);
		nr_blocks_free(l->blocks);
		l->blocks->span_count = l->blocks->span_room = 0;
		l->blocks->size = l->blocks->longest = l->blocks->grains = 0;
	}
	return err;
}

/* Saving. */

static bool put_zeroes(struct summed *s, const struct nr_blocks *blocks)
{
	uint64_t bytes, grains = grains_kept(blocks, &bytes), count, packed;
	uLongf length = compressBound(2 * bytes);
	uint8_t *from = calloc(1, 2 * bytes + 1), *to = malloc(length);
	bool ok = from && to;

	for (uint64_t at = 0; at < grains && ok; at += count) {
		enum nr_grain grain = nr_zeroes_run(&blocks->zeroes, at, grains - at, &count);

		for (uint64_t i = at; i < at + count && grain != NR_GRAIN_UNKNOWN; i++) {
			from[i / 8] |= (uint8_t)(1u << i % 8);
			if (grain == NR_GRAIN_ZERO)
				from[bytes + i / 8] |= (uint8_t)(1u << i % 8);
		}
	}
	ok = ok && compress2(to, &length, from, 2 * bytes, 9) == Z_OK;
	packed = htole64(length);
	ok = ok && put(s, &packed, sizeof(packed)) && put(s, to, length);
	free(from);
	free(to);
	return ok;
}

static bool save(struct summed *s, const struct nr_index_kind *kind, uint64_t size, uint64_t sample,
		 const struct nr_index *index, const struct nr_blocks *blocks)
{
	struct index_header header = { .size = htole64(size),
				       .sample = htole64(sample),
				       .spans = htole64(blocks->span_count) };
	uint32_t sum;
	bool ok;

	memcpy(header.magic, kind->magic, 8);
	ok = put(s, &header, sizeof(header));
	for (size_t i = 0; i < blocks->span_count && ok; i++) {
		const struct nr_span *from = &blocks->span[i];
		const struct nr_index_state *state = &index->state[from->extra];
		struct index_span span = { .out = htole64(from[1].out - from->out),
					   .in = htole64(from->in),
					   .in_length = htole64(from->in_length),
					   .length = htole32(state->length),
					   .packed = htole32(state->packed),
					   .bits = htole32(state->bits) };

		ok = put(s, &span, sizeof(span));
		if (ok && state->packed)
			ok = put(s, state->window, state->packed);
	}
	ok = ok && put_zeroes(s, blocks);
	sum = htole32(s->sum);
	return ok && put(s, &sum, sizeof(sum));
}

static int save_to(struct nr_layer *layer, const struct nr_index_kind *kind,
		   const struct nr_index *index, const struct nr_blocks *blocks, const char *path,
		   struct nr_error *error)
{
	struct summed s = { .file = fopen(path, "we") };
	uint64_t sample;
	bool ok;
	int err;

	if (!s.file)
		return nr_error_system(error, -errno, "%s", path);
	err = sample_of(layer, &sample, error);
	errno = EIO;
	ok = !err && save(&s, kind, nr_layer_size(layer->below), sample, index, blocks);
	if (fclose(s.file))
		ok = false;
	if (!ok && !err)
		err = nr_error_system(error, -errno, "%s", path);
	/* Half an index is of no use to anybody. */
	if (err)
		(void)unlink(path);
	return err;
}

int nr_index_open(struct nr_layer *layer, const struct nr_index_kind *kind, struct nr_index *index,
		  struct nr_blocks *blocks, const char *path, nr_index_make *make,
		  struct nr_error *error)
{
	struct loading l = { .kind = kind, .index = index, .blocks = blocks };
	struct nr_error trouble = { 0 };
	int err;

	if (path) {
		err = load_from(layer, &l, path, &trouble);
		if (!err)
			return 0;
		if (err != -ENOENT)
			nr_layer_log(layer, NR_LAYER_WARNING, "%s; the index is made anew",
				     trouble.text);
	}
	err = make(layer, error);
	if (!err && path && save_to(layer, kind, index, blocks, path, &trouble))
		nr_layer_log(layer, NR_LAYER_WARNING, "the index cannot be kept: %s", trouble.text);
	return err;
}

void nr_index_progress(struct nr_layer *layer, uint64_t *said, uint64_t done, uint64_t all)
{
	uint64_t now = nr_precise_now();

	if (*said == 0)
		*said = now;
	if (now - *said <= PROGRESS_NS)
		return;
	*said = now;
	nr_layer_log(layer, NR_LAYER_INFO, "the index is being made: %u %%",
		     (unsigned)(done / (all / 100 + 1)));
}
