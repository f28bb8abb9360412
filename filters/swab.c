/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The filter `swab`: the bytes of each word in the other order.
 *
 * What is read may be shared (a RAM disk answers with its own memory) and what is
 * written is the client's, so both are swapped in a buffer on their way.  Holes stay
 * holes: zeroes are the same in any order.  Words are the smallest block above, so
 * requests never cut one; what is below may still say that a hole begins inside of
 * one, and then the word counts as data.  In other metadata contexts such a word has all
 * bits of what lies in it.
 */
#include <endian.h>
#include <errno.h>
#include <string.h>

#include "filters/filters.h"
#include "nbdring/checked.h"

struct swab {
	unsigned bits; /* index into bit_names: 1 << bits bytes */
};

struct state {
	struct nr_buffer *buffer; /* write: what goes down, or NULL */
	struct nr_segment *segments;
	uint32_t segment_count;
	struct nr_segment segment;
};

static const char *const bit_names[] = { "8", "16", "32", "64", NULL };

static const struct nr_param params[] = {
	{ .name = "swab-bits",
	  .type = NR_PARAM_CHOICE,
	  .offset = offsetof(struct swab, bits),
	  .fallback = "16",
	  .choices = bit_names,
	  .value = "BITS",
	  .help = "size of a word; 8 changes nothing" },
	{ .name = NULL },
};

static uint32_t word_bytes(const struct nr_layer *layer)
{
	const struct swab *f = layer->instance;

	return UINT32_C(1) << f->bits;
}

static int describe(struct nr_layer *layer, struct nr_traits *t, struct nr_error *error)
{
	uint32_t word = word_bytes(layer);

	t->size = nr_round_down(t->size, word);
	if (t->block_min < word)
		t->block_min = word;
	t->block_max -= t->block_max % t->block_min;
	return 0;
}

/* memcpy is how a word is taken from anywhere; compilers make one instruction of it. */
static void swap_words(uint8_t *data, uint64_t length, uint32_t word)
{
	uint16_t w16;
	uint32_t w32;
	uint64_t w64;

	for (uint64_t at = 0; at < length; at += word) {
		uint8_t *p = data + at;

		if (word == 2) {
			memcpy(&w16, p, sizeof(w16));
			w16 = __builtin_bswap16(w16);
			memcpy(p, &w16, sizeof(w16));
		} else if (word == 4) {
			memcpy(&w32, p, sizeof(w32));
			w32 = __builtin_bswap32(w32);
			memcpy(p, &w32, sizeof(w32));
		} else {
			memcpy(&w64, p, sizeof(w64));
			w64 = __builtin_bswap64(w64);
			memcpy(p, &w64, sizeof(w64));
		}
	}
}

static int swap_write(struct nr_request *req, struct state *s, uint32_t word)
{
	uint8_t *data;

	s->buffer = nr_buffer_get(req->worker, req->length, &data);
	if (!s->buffer)
		return -ENOMEM;
	nr_request_copy_out(req, 0, req->length, data);
	swap_words(data, req->length, word);
	s->segments = req->segments;
	s->segment_count = req->segment_count;
	s->segment = (struct nr_segment){ data, req->length, NULL };
	req->segments = &s->segment;
	req->segment_count = 1;
	return 0;
}

static void submit(struct nr_layer *layer, struct nr_request *req)
{
	struct state *s = nr_scratch(layer, req);
	uint32_t word = word_bytes(layer);
	int error = 0;

	s->buffer = NULL;
	if (req->operation == NR_WRITE && word > 1)
		error = swap_write(req, s, word);
	else if (req->operation == NR_RESIZE && !nr_is_aligned(req->offset, word))
		error = -EINVAL;
	if (error)
		nr_finish(layer, req, error);
	else
		nr_pass(layer, req);
}

/* Bytes of data in an answer; all of it where holes cut words. */
static uint64_t bytes_of_data(const struct nr_request *req, uint32_t word, bool *holes)
{
	uint64_t data = 0;

	*holes = true;
	for (uint32_t i = 0; i < req->segment_count; i++) {
		if (req->segments[i].data)
			data += req->segments[i].length;
		if (!nr_is_aligned(req->segments[i].length, word))
			*holes = false;
	}
	return *holes || data == 0 ? data : req->length;
}

/*
 * Each segment of data gets its bytes in the buffer, and a reference to that instead
 * of what it had.
 */
static void move_segments(struct nr_request *req, struct nr_buffer *buffer, uint8_t *data)
{
	for (uint32_t i = 0; i < req->segment_count; i++) {
		struct nr_segment *s = &req->segments[i];

		if (!s->data)
			continue;
		memcpy(data, s->data, s->length);
		if (s->owner)
			s->owner->release(s->owner);
		nr_buffer_retain(buffer);
		s->owner = buffer;
		s->data = data;
		data += s->length;
	}
}

static int swap_answer(struct nr_request *req, uint32_t word)
{
	struct nr_buffer *buffer;
	uint8_t *data;
	bool holes;
	uint64_t bytes = bytes_of_data(req, word, &holes);

	if (bytes == 0)
		return 0;
	buffer = nr_buffer_get(req->worker, bytes, &data);
	if (!buffer)
		return -ENOMEM;
	if (!holes) {
		nr_request_copy_out(req, 0, bytes, data);
		swap_words(data, bytes, word);
		nr_answer_clear(req);
		return nr_answer_data(req, data, bytes, buffer) ? 0 : -EIO;
	}
	move_segments(req, buffer, data);
	swap_words(data, bytes, word);
	buffer->release(buffer);
	return 0;
}

/* What is said of the first word, which is not all of one kind, in the context METADATA. */
static uint64_t status_of_first(const struct nr_extents *list, uint32_t metadata, uint32_t word)
{
	uint64_t at = 0, status = 0;

	for (uint32_t i = 0; metadata && i < list->count && at < word; i++) {
		status |= list->extent[i].status;
		at += list->extent[i].length;
	}
	return status;
}

/* End the list before the first word that is not all of one kind. */
static void cut_extents(struct nr_extents *list, uint32_t metadata, uint32_t word)
{
	uint64_t first = status_of_first(list, metadata, word);

	for (uint32_t i = 0; i < list->count; i++) {
		uint64_t length = nr_round_down(list->extent[i].length, word);

		if (length == list->extent[i].length)
			continue;
		list->next = list->start;
		list->count = i + (length > 0);
		list->extent[i].length = length;
		for (uint32_t j = 0; j < list->count; j++)
			list->next += list->extent[j].length;
		if (list->count == 0)
			nr_extents_add(list, word, first);
		return;
	}
}

static void done(struct nr_layer *layer, struct nr_request *req)
{
	struct state *s = nr_scratch(layer, req);
	uint32_t word = word_bytes(layer);
	int error = req->error;

	if (s->buffer) {
		req->segments = s->segments;
		req->segment_count = s->segment_count;
		s->buffer->release(s->buffer);
	}
	if (!error && word > 1 && req->operation == NR_READ)
		error = swap_answer(req, word);
	else if (!error && req->operation == NR_EXTENTS)
		cut_extents(req->extents, req->metadata, word);
	nr_finish(layer, req, error);
}

const struct nr_layer_type nr_swab_type = {
	.abi = NR_LAYER_ABI,
	.name = "swab",
	.summary = "swaps the bytes of 16, 32 or 64-bit words",
	.kind = NR_FILTER,
	.placement = NR_SPREAD,
	.params = params,
	.instance_size = sizeof(struct swab),
	.request_size = sizeof(struct state),
	.describe = describe,
	.submit = submit,
	.done = done,
	.contexts_pass = true,
};
