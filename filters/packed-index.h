/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Where unpacking a file can begin, if the file itself does not say: a *state* for each
 * span of blocks.h.  A state is what a decoder has to know of what comes before (its
 * window, the last bytes it has put out; packed again) and a few bits of the format's own.
 *
 * An index is made by unpacking all of the file once, which also checks it.  It can be
 * put into a file and had from there, with what was found to be zeroes (nr_blocks_know).
 */
#ifndef FILTERS_PACKED_INDEX_H
#define FILTERS_PACKED_INDEX_H

#include "filters/blocks.h"

#define NR_INDEX_FREE ((uint64_t)128 << 10)

/* What a state takes besides its window, in memory and in a file, bytes. */
#define NR_INDEX_STATE_BYTES (sizeof(struct nr_index_state) + sizeof(struct nr_span))

/* A format's index. */
struct nr_index_kind {
	char magic[9];       /* of its files */
	const char *format;  /* "gzip" */
	uint32_t window_max; /* bytes, unpacked */
	uint32_t bits_max;   /* of nr_index_state.bits */
};

struct nr_index_state {
	uint8_t *window; /* packed; NULL: none is needed */
	uint32_t packed; /* bytes */
	uint32_t length; /* unpacked */
	uint32_t bits;   /* the format's own */
};

/* The state of a span is state[span->extra]. */
struct nr_index {
	struct nr_index_state *state;
	size_t count, room;
	uint64_t bytes; /* of packed windows */
};

/*
 * Add a state (WINDOW is copied, packed; LENGTH 0: none is needed); *WHERE it is in INDEX,
 * which is with the last one if that has no window and the same bits, either.  -ENOMEM.
 */
int nr_index_add(struct nr_index *index, const uint8_t *window, uint32_t length, uint32_t bits,
		 size_t *where);
/*
 * Is there room for a window of LENGTH bytes behind the first USED bytes of the file?
 * An index may have 1 % of these and NR_INDEX_FREE bytes; where windows do not pack as
 * well as the file does there are fewer.
 */
bool nr_index_has_room(const struct nr_index *index, uint32_t length, uint64_t used);
/* The window of STATE, which has one, into ROOM (state->length bytes).  -EIO. */
int nr_index_window(const struct nr_index_state *state, uint8_t *room);
void nr_index_free(struct nr_index *index);

/*
 * INDEX, and the spans into BLOCKS: from the file PATH, if that was saved for the file
 * below, or else by MAKE, and then saved there.  A file that cannot be used, or not be
 * written, is a warning in the log.  PATH may be NULL.
 */
typedef int nr_index_make(struct nr_layer *layer, struct nr_error *error);
int nr_index_open(struct nr_layer *layer, const struct nr_index_kind *kind, struct nr_index *index,
		  struct nr_blocks *blocks, const char *path, nr_index_make *make,
		  struct nr_error *error);

/* While it is made: how far that is goes to the log now and then.  *SAID: 0 at first. */
void nr_index_progress(struct nr_layer *layer, uint64_t *said, uint64_t done, uint64_t all);

#endif
