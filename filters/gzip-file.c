/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * See gzip-index.h: the index in a file.
 *
 * All numbers are little-endian:
 *
 *	[0..7] "NBDRGZI1"  [8..15] size of the gzip file  [16..23] checksum of its
 *	beginning, middle and end  [24..31] number of spans
 *	for each span: [0..7] bytes that come out  [8..15] where it begins in the file
 *	[16..23] bytes there  [24..27] bytes of the window  [28..31] of the packed window
 *	[32..35] bits  [36..39] 0, and the packed window
 *	at the end: CRC-32 of all before
 *
 * The file is read with the same distrust as any other: what it says is bounded, and a
 * window or a place that is wrong makes reads fail, no more.
 */
#include <endian.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

#include "filters/gzip-index.h"
#include "nbdring/checked.h"

#define MAGIC "NBDRGZI1"
#define SAMPLE 65536u
#define WINDOW 32768u

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

/* 0, -EINVAL: it is damaged, or -ENOMEM. */
static int get_span(struct summed *s, uint64_t size, struct nr_gzip_index *index,
		    struct nr_blocks *blocks)
{
	uint8_t window[WINDOW], *packed;
	struct index_span span;
	uLongf length = WINDOW;
	size_t where;
	int err = -EINVAL;

	if (!get(s, &span, sizeof(span)) || le32toh(span.length) > WINDOW ||
	    le32toh(span.packed) > 2 * WINDOW || le32toh(span.bits) > 7 ||
	    !nr_in_range(le64toh(span.in), le64toh(span.in_length), size))
		return -EINVAL;
	packed = malloc(2 * WINDOW);
	if (!packed)
		return -ENOMEM;
	if (get(s, packed, le32toh(span.packed)) &&
	    (span.length == 0 ||
	     (uncompress(window, &length, packed, le32toh(span.packed)) == Z_OK &&
	      length == le32toh(span.length))))
		err = nr_gzip_index_add(index, window, le32toh(span.length), le32toh(span.bits),
					&where);
	free(packed);
	return err ? err
		   : nr_blocks_add(blocks, le64toh(span.out), le64toh(span.in),
				   le64toh(span.in_length), where);
}

static int load(struct summed *s, uint64_t size, uint64_t sample, struct nr_gzip_index *index,
		struct nr_blocks *blocks, struct nr_error *error)
{
	struct index_header header;
	uint32_t sum, stored;
	int err = 0;

	if (!get(s, &header, sizeof(header)) || memcmp(header.magic, MAGIC, 8) != 0)
		return nr_error_set(error, -EINVAL, "it is no index of a gzip file");
	if (le64toh(header.size) != size || le64toh(header.sample) != sample)
		return nr_error_set(error, -ESTALE, "it is the index of another file");
	if (le64toh(header.spans) > NR_SPANS_MAX)
		return nr_error_set(error, -EINVAL, "it is damaged");
	for (uint64_t i = 0; i < le64toh(header.spans) && !err; i++)
		err = get_span(s, size, index, blocks);
	sum = s->sum;
	if (!err && (!get(s, &stored, sizeof(stored)) || le32toh(stored) != sum))
		err = -EINVAL;
	if (err == -ENOMEM)
		return nr_error_system(error, err, "no room for it");
	return err ? nr_error_set(error, -EINVAL, "it is damaged") : 0;
}

int nr_gzip_index_load(struct nr_layer *layer, struct nr_gzip_index *index,
		       struct nr_blocks *blocks, const char *path, struct nr_error *error)
{
	struct summed s = { .file = fopen(path, "re") };
	uint64_t sample;
	int err;

	if (!s.file)
		return nr_error_system(error, -errno, "%s", path);
	err = sample_of(layer, &sample, error);
	if (!err) {
		err = load(&s, nr_layer_size(layer->below), sample, index, blocks, error);
		if (err)
			nr_error_prefix(error, "%s", path);
	}
	fclose(s.file);
	if (err) {
		nr_gzip_index_free(index);
		nr_blocks_free(blocks);
		blocks->span_count = blocks->span_room = 0;
		blocks->size = blocks->longest = 0;
	}
	return err;
}

/* Saving. */

static bool save(struct summed *s, uint64_t size, uint64_t sample,
		 const struct nr_gzip_index *index, const struct nr_blocks *blocks)
{
	struct index_header header = { .size = htole64(size),
				       .sample = htole64(sample),
				       .spans = htole64(blocks->span_count) };
	uint32_t sum;
	bool ok;

	memcpy(header.magic, MAGIC, 8);
	ok = put(s, &header, sizeof(header));
	for (size_t i = 0; i < blocks->span_count && ok; i++) {
		const struct nr_span *from = &blocks->span[i];
		const struct nr_gzip_state *state = &index->state[from->extra];
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
	sum = htole32(s->sum);
	return ok && put(s, &sum, sizeof(sum));
}

int nr_gzip_index_save(struct nr_layer *layer, const struct nr_gzip_index *index,
		       const struct nr_blocks *blocks, const char *path, struct nr_error *error)
{
	struct summed s = { .file = fopen(path, "we") };
	uint64_t sample;
	bool ok;
	int err;

	if (!s.file)
		return nr_error_system(error, -errno, "%s", path);
	err = sample_of(layer, &sample, error);
	errno = EIO;
	ok = !err && save(&s, nr_layer_size(layer->below), sample, index, blocks);
	if (fclose(s.file))
		ok = false;
	if (!ok && !err)
		err = nr_error_system(error, -errno, "%s", path);
	/* Half an index is of no use to anybody. */
	if (err)
		(void)unlink(path);
	return err;
}
