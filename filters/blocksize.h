/* SPDX-License-Identifier: BSD-3-Clause */
/* What the two halves of the filter `blocksize` share: making requests fit, and cutting them. */
#ifndef FILTERS_BLOCKSIZE_H
#define FILTERS_BLOCKSIZE_H

#include "filters/rangelock.h"
#include "nbdring/layer.h"

#define NR_BLOCKSIZE_PIECES 8 /* of one request that exist at a time */

struct blocksize {
	uint64_t minblock, maxdata, maxlen; /* parameters; 0: not given */
	uint32_t block;                     /* what is passed down is made of, bytes */
	uint64_t limit[NR_OPERATION_COUNT]; /* longest request that is passed down */
	struct nr_rangelock lock;
};

enum role {
	ROLE_REQUEST, /* came from above */
	ROLE_PIECE,   /* our child: a part of one that is too long */
	ROLE_READ,    /* our child: reads a block that is to be changed */
};

enum kind {
	KIND_PASS,    /* nothing of ours */
	KIND_LOCKED,  /* whole blocks; holds the lock shared */
	KIND_ROUNDED, /* read, cache, extents rounded out; trim rounded in */
	KIND_WRITE,   /* read the ends, change, write */
	KIND_ZERO,    /* in steps */
	KIND_SPLIT,   /* in pieces */
};

/* Of a request that is cut. */
struct split {
	struct nr_request *piece[NR_BLOCKSIZE_PIECES]; /* piece n at n % PIECES */
	uint64_t issued, taken;                        /* pieces; oldest first */
	uint64_t next;                                 /* offset of the next one */
	struct nr_buffer *buffer; /* read in many small pieces: they are copied here */
	uint8_t *data;
	int error; /* the first */
	bool busy; /* inside `go_on` */
};

struct state {
	enum role role;
	enum kind kind;
	bool locked;
	bool copy;               /* piece of a write: its data cannot be passed as it lies */
	bool over;               /* piece: finished, error in `error` */
	uint8_t reads;           /* children under way */
	uint16_t waits;          /* for memory, so far */
	int error;               /* the first of a child */
	uint64_t offset, length; /* as asked */
	uint64_t position;       /* zero: done up to here */
	enum nr_operation operation;
	uint32_t flags;
	union {
		struct split split;
		struct {
			struct nr_range_ticket ticket;
			struct nr_buffer *buffer; /* whole blocks around what is written */
			uint8_t *data;
			uint64_t from, to;           /* of the disk, what `buffer` covers */
			struct nr_segment *segments; /* of the write, as given */
			uint32_t segment_count;
			struct nr_segment segment; /* of the write, as passed down */
		};
	};
};

/*
 * blocksize.c: there is no memory for REQ now: its resume is called in a moment.  False:
 * it has waited for too long.
 */
bool nr_blocksize_wait(struct nr_layer *layer, struct nr_request *req, struct state *s);

/* blocksize.c: make REQ whole blocks and send it down; it is not too long. */
void nr_blocksize_fit(struct nr_layer *layer, struct nr_request *req, struct state *s);

/* blocksize-split.c: cut REQ. */
void nr_blocksize_split(struct nr_layer *layer, struct nr_request *req, struct state *s);
/* A piece has been through all of it. */
void nr_blocksize_piece_over(struct nr_layer *layer, struct nr_request *piece, int error);

#endif
