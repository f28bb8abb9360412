/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The backend `flat`: a small disk in one piece of memory that has whatever traits a
 * test asks for, and that trusts nobody.  Requests that the contract forbids end the
 * process.  Answers are copies of their own size, so that who reads them too far or
 * too late is found by the address sanitizer.
 *
 * One worker at a time.
 */
#ifndef TESTS_UNIT_FLAT_DISK_H
#define TESTS_UNIT_FLAT_DISK_H

#include "nbdring/layer.h"

/*
 *	size=BYTES   multiple of min
 *	min=BYTES    block_min
 *	max=BYTES    block_max
 *	cut=BYTES    an answer comes in segments of this many, zeroes as holes; 0: in one
 *	have=NUMBER  base 3, a digit for each capability, the first one lowest: enum
 *	             nr_support.  What cannot be is made possible (flat-disk.c).
 */
extern const struct nr_layer_type flat_disk_type;

#endif
