/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * All backends, in the order of the manual: those that hold a disk, those that are made
 * of other disks, then those for tests.  Listed by hand, so that the order is ours and no constructor runs.
 */
#include "backends/table.h"

#include "backends/backends.h"

const struct nr_layer_type *const nr_backends[] = {
	&nr_file_type,
	&nr_split_type,
	&nr_memory_type,
	&nr_nbd_type,
	&nr_concat_type,
	&nr_stripe_type,
	&nr_mirror_type,
	&nr_null_type,
	&nr_pattern_type,
	&nr_full_type,
	NULL,
};
