/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A read-only disk that is unpacked while it is read: what the filters for compressed
 * files have in common.
 *
 * A format says at open where its *spans* are: places of the compressed file at which
 * decoding can begin, and how many bytes come out up to the next one.  For requests,
 * spans are cut into *cells*, which are what is decoded at a time and kept: a span of up
 * to `whole_max` bytes is one cell, and nothing of it is given out before all of it is
 * decoded and its checksum, if the format has one, is right.  A longer span is a row of
 * cells of NR_CELL_BYTES; a decoder that has made one is kept for the next, because
 * anything else begins at the beginning of the span.
 *
 * A cell is decoded once however many wait for it, on the threads of nr_compute, several
 * cells side by side; what is read in order is decoded ahead.  Cells are memory with
 * counted owners, so an answer points into them; when too much of the cache would be
 * held by answers, they are copies.
 *
 * What has been decoded is looked through for zeroes, grain by grain (zeroes.h; a span's
 * grains are counted from its beginning), and that is remembered when the cell is long
 * gone; a format that decodes all of the file at open fills it in there (nr_blocks_know).
 * Grains known to be zeroes are holes: in the map of the disk, and in answers, for which
 * nothing is decoded again.  What is not known is data in the map, but for spans that
 * are so much smaller than what they decode to that they can hardly be anything but
 * zeroes (`zero_ratio`): such a one is decoded when a question begins in it, so that a
 * question has to wait for one cell at most.
 *
 * Memory: `cache_max` bytes of cells, and for each processor (16 at most) and
 * NR_PAUSED_MAX more a decoder and, while it runs, NR_TRANSFER_MAX of input; two bits for
 * each grain.
 *
 * All of it runs on one worker: the layer's placement is NR_HOME.  The layer's type says
 * `computes`, its scratch is struct nr_blocks_state, and its submit, child_done and
 * resume are handed over to the functions of those names.
 */
#ifndef FILTERS_BLOCKS_H
#define FILTERS_BLOCKS_H

#include "filters/zeroes.h"
#include "nbdring/layer.h"

#define NR_CELL_BYTES ((uint64_t)1 << 20)
#define NR_PAUSED_MAX 4u
#define NR_SPANS_MAX ((size_t)1 << 22)

struct nr_span {
	uint64_t out;       /* of the disk: where its bytes begin; they end where the next begins */
	uint64_t in;        /* of the file below: where decoding begins, bytes */
	uint64_t in_length; /* 0: all of it is zeroes, for which nothing is decoded */
	uint64_t extra;     /* the format's own */
	uint64_t grain;     /* number of its first one, of all the spans have; see nr_blocks_know */
};

struct nr_codec_io {
	const uint8_t *in;
	size_t in_left;
	uint8_t *out;
	size_t out_left;
};

enum { NR_CODEC_MORE, NR_CODEC_END };

/* A format.  `begin`, `step` and `end` run on any thread, one at a time per decoder. */
struct nr_codec {
	/* A decoder at the beginning of SPAN; NULL and *ERROR (negative errno) if not. */
	void *(*begin)(const void *context, const struct nr_span *span, int *error);
	/*
	 * Decode until input or room is used up: NR_CODEC_MORE.  NR_CODEC_END: that was the
	 * end, and what is to be checked is right.  Negative errno: the input is damaged.
	 */
	int (*step)(void *decoder, struct nr_codec_io *io);
	void (*end)(void *decoder);
	bool ends; /* a span ends with NR_CODEC_END; else it may just stop */
	/*
	 * Of 64 KiB and more of zeroes no more than one byte for so many is left in the
	 * file, headers aside; and hardly of anything else.  0: nothing can be said.
	 */
	uint32_t zero_ratio;
};

struct nr_blocks_engine;

/* In the layer's instance.  All zeroes to begin with. */
struct nr_blocks {
	const struct nr_codec *codec;
	const void *context; /* for codec->begin */
	uint64_t whole_max;  /* bytes; at most a quarter of cache_max */
	uint64_t cache_max;

	struct nr_span *span; /* and one behind the last, where the disk ends */
	size_t span_count, span_room;
	uint64_t size;    /* of the disk so far, bytes */
	uint64_t longest; /* span, bytes */
	uint64_t grains;  /* of all spans so far */
	struct nr_zeroes zeroes;
	struct nr_blocks_engine *engine;
};

struct nr_blocks_load;

struct nr_blocks_state {
	struct nr_blocks_load *load; /* of a request that reads for a cell */
	struct nr_request *next;     /* in the list of those that wait */
	uint64_t at;                 /* what lies before this offset is answered */
	unsigned children;           /* reads for a cell that are part of this request */
	int error;
	bool over; /* to be finished as soon as there are no children */
};

/* In `open`: the next span, of LENGTH bytes (0: none is made).  -EFBIG, -E2BIG, -ENOMEM. */
int nr_blocks_add(struct nr_blocks *b, uint64_t length, uint64_t in, uint64_t in_length,
		  uint64_t extra);
/*
 * In `open`: the Nth grain of the span that is to be added next is all zeroes, or is not.
 * Where there is no memory for that it is not known.
 */
void nr_blocks_know(struct nr_blocks *b, uint64_t n, bool zero);
/* In `open`, behind the last span. */
int nr_blocks_start(struct nr_blocks *b, struct nr_error *error);
/*
 * In `open`, after that: decode all of the disk, which finds out what of it is zeroes.
 * Negative errno and a sentence if there is something that cannot be decoded.
 */
int nr_blocks_check(struct nr_layer *layer, struct nr_blocks *b, struct nr_error *error);
/* In `close`, or when `open` fails. */
void nr_blocks_free(struct nr_blocks *b);

/* The traits of such a disk. */
void nr_blocks_describe(const struct nr_blocks *b, struct nr_traits *t);

void nr_blocks_submit(struct nr_layer *layer, struct nr_blocks *b, struct nr_request *req);
void nr_blocks_child_done(struct nr_layer *layer, struct nr_blocks *b, struct nr_request *child);
void nr_blocks_resume(struct nr_layer *layer, struct nr_blocks *b, struct nr_request *req);

#endif
