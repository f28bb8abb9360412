/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A request on its way down a stack and up again.
 *
 * A request belongs to one worker thread from its first submit to its release;
 * only that thread touches it, except between a layer's parking it and
 * nr_resume(), when whoever the layer handed it to may.
 *
 * What a layer may rely on when it is given a request: offset and length lie
 * inside the layer's size, reads and writes are aligned to its block_min and
 * not longer than its block_max, flags and operation are ones its traits offer
 * (stack/choke point).  Length 0 never arrives for read, write, trim, zero,
 * cache and extents.
 */
#ifndef NBDRING_REQUEST_H
#define NBDRING_REQUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "nbdring/extent.h"

#pragma GCC visibility push(default) /* what modules call */

struct nr_layer;
struct nr_ring;
struct nr_session;
struct nr_stack;
struct nr_worker;

enum nr_operation {
	NR_READ,    /* fill in segments that cover [offset, offset+length) */
	NR_WRITE,   /* segments hold exactly `length` bytes */
	NR_FLUSH,   /* everything finished before is stable after; offset = length = 0 */
	NR_TRIM,    /* contents may be dropped; later reads return anything */
	NR_ZERO,    /* later reads return zeroes */
	NR_CACHE,   /* a hint: this will be read soon */
	NR_EXTENTS, /* fill in req->extents */
	NR_RESIZE,  /* the disk gets `offset` bytes; length = 0 */
	NR_OPERATION_COUNT
};

/* Flags of a request. */
#define NR_FUA (1u << 0)       /* write, trim, zero: finish when stable (protocol: FUA) */
#define NR_NO_HOLE (1u << 1)   /* zero: keep the range allocated (protocol: NO_HOLE) */
#define NR_FAST_ZERO (1u << 2) /* zero: -ENOTSUP unless faster than writing (protocol: FAST_ZERO) */
#define NR_REQ_ONE (1u << 3)   /* extents: one extent is enough (protocol: REQ_ONE) */

/* What a buffer is, and so what may be done with its bytes. */
enum nr_buffer_kind {
	NR_BUFFER_PLAIN, /* memory, the owner's again after `release` */
	/*
	 * Memory whose pages are never given to other data, only dropped (munmap,
	 * MADV_DONTNEED).  It may be sent by reference: clients may read it after
	 * `release`, and may see what is written to that range of the disk meanwhile,
	 * as in any read that a write overlaps.
	 */
	NR_BUFFER_LASTING,
	NR_BUFFER_PIPE, /* no memory: the bytes are in a pipe; see nr_answer_pipe */
};

/*
 * The owner of memory that segments point to.  Each segment of an answer holds
 * one reference; `release` gives one back and is called on the request's
 * worker once the bytes have left (after the send, not before).
 */
struct nr_buffer {
	void (*release)(struct nr_buffer *buffer);
	uint8_t kind; /* enum nr_buffer_kind */
	int pipe;     /* NR_BUFFER_PIPE: the end to read from */
};

/*
 * A run of bytes, or of nothing.  `data` NULL: a hole, reads as zeroes, carries
 * no memory and no owner.  Length is never 0.  In a write `owner` is unused: the
 * memory stays valid until the request is finished, and is not to be written to.
 */
struct nr_segment {
	uint8_t *data;
	uint64_t length; /* bytes */
	struct nr_buffer *owner;
};

#define NR_SEGMENTS_INLINE 2
#define NR_SEGMENTS_MAX 512

struct nr_request {
	enum nr_operation operation;
	uint32_t flags;  /* NR_FUA … */
	uint64_t offset; /* bytes */
	uint64_t length; /* bytes */
	int error;       /* 0 or negative errno; meaningful on the way up */
	uint32_t segment_count;
	struct nr_segment *segments; /* write: the data, read: the answer so far */
	struct nr_extents *extents;  /* NR_EXTENTS only; NULL elsewhere */
	uint32_t metadata; /* NR_EXTENTS: 0: base:allocation; N: the Nth of traits.contexts,
				      * counted from 1 */
	struct nr_session *session; /* the client; NULL for requests of the server itself */
	struct nr_worker *worker;   /* the thread this request lives on */
	void *context;              /* of a child: its maker's, who may keep anything there */

	/* The core's own; layers keep their hands off. */
	struct {
		struct nr_layer *at;       /* where the request is: who finishes or parks it */
		struct nr_request *next;   /* in the done-queue, a pool, an inbox */
		struct nr_request *parent; /* child requests: whose part this is */
		struct nr_layer *owner;    /* child requests: the layer that made it */
		struct nr_stack *stack;
		const struct nr_layer *failed_at; /* the first to finish it with an error */
		struct nr_buffer *segment_memory; /* when the answer outgrew the inline ones */
		void (*finished)(struct nr_request *req); /* top of the stack reached */
		uint64_t answered;                        /* bytes of the answer so far (read) */
		uint32_t segment_room;
		uint16_t slot_class; /* size class of the memory the request lives in */
		uint8_t state;       /* enum nr_request_state (src/stack/worker.h) */
		bool takes_pipe;     /* a read whose answer goes to a socket as it is */
		bool given_back;     /* a child that is released when nothing is lent any more */
		uint32_t lent_count; /* pieces of its answer that are in its parent's */
		struct nr_buffer lent;
		struct nr_segment inline_segment[NR_SEGMENTS_INLINE];
	} internal;
};

/*
 * The answer of a read, in order of offset: LENGTH bytes at DATA, owned by
 * OWNER (one reference of which passes to the request, also on failure).
 * Returns false when memory is short or LENGTH is more than is left to answer; the
 * layer then finishes with an error.  An answer of more than NR_SEGMENTS_MAX pieces is
 * copied together, so few long ones are better.  Only the request's worker may call.
 */
bool nr_answer_data(struct nr_request *req, void *data, uint64_t length, struct nr_buffer *owner);

/* The same for LENGTH bytes that read as zeroes.  Neighbouring holes merge. */
bool nr_answer_hole(struct nr_request *req, uint64_t length);

/*
 * Does the client take the answer of this read out of a pipe?  Only if nothing above
 * the backend looks at the data.  The request's worker.
 */
bool nr_takes_pipe(const struct nr_request *req);

/*
 * A pipe, empty, with room for the pages of LENGTH bytes (1 to NR_TRANSFER_MAX) from
 * OFFSET of a file on; its end to write to, which does not block, goes to *FILL.  For
 * splice(2): the pages reach the client without being copied.  NULL when there is no
 * pipe now, or none that large.  One reference, to be released or to be passed on with
 * nr_answer_pipe.  Only the worker's thread may call.
 */
struct nr_buffer *nr_pipe_get(struct nr_worker *worker, uint64_t offset, uint64_t length,
			      int *fill);

/*
 * nr_answer_data, for LENGTH bytes, which are all there is in PIPE.  They are not copied:
 * an answer with a pipe in it has NR_SEGMENTS_MAX pieces at most.
 */
bool nr_answer_pipe(struct nr_request *req, uint64_t length, struct nr_buffer *pipe);

/*
 * Add LENGTH bytes of the answer of CHILD, a read of REQ's that has come back well, from
 * its byte FROM on, to the answer of REQ, without copying them.  CHILD's buffers live as
 * long as REQ's answer needs them, also when it has been released.  FROM and LENGTH must
 * lie inside its answer.  False as nr_answer_data.
 */
bool nr_answer_part(struct nr_request *req, struct nr_request *child, uint64_t from,
		    uint64_t length);

/*
 * Forget the answer so far and give its buffers back, so that a layer can
 * answer anew.
 */
void nr_answer_clear(struct nr_request *req);

/*
 * Keep LENGTH bytes of a read's answer from byte FROM on, give the rest back: for
 * a filter that asked for more than it was asked for.  In `done`, after setting
 * req->length back; the answer must be that long.
 */
void nr_answer_cut(struct nr_request *req, uint64_t from, uint64_t length);

/*
 * Copy between a write's segments, or a finished read's, and plain memory:
 * bytes [FROM, FROM + LENGTH) counted from the request's first byte.  Holes
 * read as zeroes.  The range must lie inside the request.
 */
void nr_request_copy_out(const struct nr_request *req, uint64_t from, uint64_t length, void *to);

/*
 * Memory for LENGTH bytes (1 to NR_TRANSFER_MAX), aligned to 4096, from the
 * worker's arena.  Returns NULL when there is none.  The caller holds one
 * reference and gives it back with buffer->release, or passes it on with
 * nr_answer_data.  Only the worker's thread may call.
 */
struct nr_buffer *nr_buffer_get(struct nr_worker *worker, uint64_t length, uint8_t **data);

/* One more reference to a buffer that nr_buffer_get returned. */
void nr_buffer_retain(struct nr_buffer *buffer);

/* The ring of the worker, for backends that do I/O. */
struct nr_ring *nr_worker_ring(struct nr_worker *worker);

/* Index of the worker, 0 to nr_worker_count() - 1; for per-worker instance data. */
unsigned nr_worker_index(const struct nr_worker *worker);
unsigned nr_worker_count(const struct nr_worker *worker);

#pragma GCC visibility pop

#endif
