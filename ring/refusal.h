/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Why the kernel refuses io_uring, in words.  Private to ring/.
 *
 * Finding out (gather) and wording (explain) are apart, so that every sentence
 * can be tested on a machine where nothing is refused.
 */
#ifndef RING_REFUSAL_H
#define RING_REFUSAL_H

#include <stdint.h>

#include "nbdring/error.h"

#define NR_REFUSAL_UNKNOWN (-1)

struct nr_refusal_facts {
	int disabled;          /* kernel.io_uring_disabled; UNKNOWN where there is no such file */
	int group;             /* kernel.io_uring_group; UNKNOWN or -1: nobody */
	int seccomp;           /* of this process: 0 none, 1 strict, 2 filter; UNKNOWN */
	uint64_t memory_limit; /* RLIMIT_MEMLOCK in bytes; UINT64_MAX: none */
	char kernel[65];       /* release, as of uname(2) */
};

void nr_refusal_gather(struct nr_refusal_facts *facts);

/*
 * One sentence with cause and remedy for io_uring_setup's CODE (negative errno)
 * into ERROR.  Returns CODE.
 */
int nr_refusal_explain(struct nr_error *error, int code, const struct nr_refusal_facts *facts);

/* Both. */
int nr_refusal(struct nr_error *error, int code);

#endif
