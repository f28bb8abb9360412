/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Traits: what a layer is and can do, as data.
 *
 * Traits are computed once, bottom-up, when a stack is opened.  A backend
 * fills them from nothing; each filter receives what is below it and changes
 * what it changes.  The core checks every answer (nr_traits_check), puts
 * emulation where a value says EMULATE, and derives from the topmost traits
 * the transmission flags and block sizes that clients are told.  Nothing asks
 * a layer for a capability per request.
 *
 * Only `size` may change while a stack is open (nr_layer_type.refresh).
 */
#ifndef NBDRING_LIMITS_H
#define NBDRING_LIMITS_H

#include <stdbool.h>
#include <stdint.h>

/* How a capability is come by. */
enum nr_support {
	NR_NONE = 0,    /* not offered; no request of this kind arrives */
	NR_EMULATE = 1, /* the core builds it from other requests, just above this layer */
	NR_NATIVE = 2,  /* the layer takes such requests itself */
};

/*
 * The capabilities.  Reading needs none; writing is the absence of
 * `read_only`.
 */
enum nr_capability {
	NR_CAP_FLUSH,     /* make completed writes stable; EMULATE: answered at once (nothing
			   * to flush) */
	NR_CAP_FUA,       /* write, trim, zero with NR_FUA; EMULATE: the same, then a flush */
	NR_CAP_TRIM,      /* drop contents; EMULATE: answered at once without effect */
	NR_CAP_ZERO,      /* write zeroes; EMULATE: writes of zeroes in bounded pieces */
	NR_CAP_FAST_ZERO, /* zero that is refused (-ENOTSUP) rather than slow; no EMULATE */
	NR_CAP_CACHE,     /* prefetch; EMULATE: reads whose data is dropped */
	NR_CAP_EXTENTS,   /* allocation map; EMULATE: everything is data */
	NR_CAP_RESIZE,    /* change of size by a client; no EMULATE */
	NR_CAP_COUNT
};

#define NR_BLOCK_MIN_MAX 65536u            /* protocol, "Size constraints": min <= 64 Ki */
#define NR_BLOCK_PREFERRED_DEFAULT 4096u   /* protocol: the default preferred size */
#define NR_PAYLOAD_MAX (32u * 1024 * 1024) /* protocol: portable limit of one payload */
#define NR_TRANSFER_MAX \
	(1024u * 1024) /* most bytes one read or write carries down a
					      * stack; larger client requests arrive in pieces */

#define NR_CONTEXTS_LISTED_MAX 15u /* of a layer, with base:allocation one more */

struct nr_traits {
	uint64_t size;            /* bytes, 0 to NR_SIZE_MAX */
	uint32_t block_min;       /* bytes; power of two, 1 to NR_BLOCK_MIN_MAX: offsets and
				   * lengths of read and write are multiples of it */
	uint32_t block_preferred; /* bytes; power of two, >= block_min and >= 512 */
	uint32_t block_max;       /* bytes; multiple of block_min, the longest read or write the
				   * layer takes; at most NR_TRANSFER_MAX */
	uint32_t write_piece;     /* bytes; power of two, >= block_min: long writes are best carried
				   * down in pieces of so much, because the layer copies them and
				   * finds short pieces in the processor's cache; 0: block_max.
				   * The core sets it to 0 above filters that see requests */
	uint32_t memory_align;    /* bytes; power of two: data of writes starts at a multiple of
				   * it in memory; 1 = anywhere */
	uint32_t advertised_max;  /* bytes; the longest read or write clients are told of, up to
				   * 32 MiB; 0: 32 MiB.  Longer than block_max is fine: the
				   * core cuts */
	bool refuse_unfit;        /* clients that do not keep to the block sizes get EINVAL, also
				   * those that did not ask for them */
	bool read_only;           /* write, trim, zero, resize are refused above this layer */
	bool rotational;          /* a spinning disk: clients may want to sort requests */
	bool multi_conn;          /* a flush on one connection covers the writes of all
				   * (protocol, flag CAN_MULTI_CONN) */
	uint8_t support[NR_CAP_COUNT]; /* enum nr_support, by enum nr_capability */
	/*
	 * Metadata contexts besides base:allocation that NR_EXTENTS can be asked for, by
	 * name, each once: "qemu:dirty-bitmap:b0".  The backend's memory, which stays while
	 * it is open; NR_CONTEXTS_LISTED_MAX at most.  What has no extents has none of them.
	 */
	const char *const *contexts;
	uint32_t context_count;
};

#endif
