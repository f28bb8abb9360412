/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Where partition N of a disk lies, by its MBR (primary and logical) or GPT.
 *
 * Pure but for the reading, which the caller does: bytes in, a range or a sentence
 * out.  All of a table is checked, whichever partition is asked for: one that lies
 * (partitions that overlap or reach beyond the end, or into a GPT itself, a chain of
 * logical partitions that comes back to itself) is refused.
 */
#ifndef FILTERS_PARTITION_TABLE_H
#define FILTERS_PARTITION_TABLE_H

#include <stddef.h>
#include <stdint.h>

#include "nbdring/error.h"

struct nr_partition_disk {
	uint64_t size;   /* bytes */
	uint32_t sector; /* bytes; 512 or 4096 */
	/* Fill in [OFFSET, OFFSET + LENGTH), which lies in the disk; 0 or negative errno. */
	int (*read)(void *context, uint64_t offset, uint64_t length, void *data,
		    struct nr_error *error);
	void *context;
};

struct nr_partition {
	uint64_t offset; /* bytes */
	uint64_t length;
	char damage[NR_ERROR_TEXT_MAX]; /* why the copy of a GPT was used; "": it was not */
};

/* NUMBER counts from 1; logical partitions of an MBR from 5. */
int nr_partition_find(const struct nr_partition_disk *disk, uint64_t number,
		      struct nr_partition *partition, struct nr_error *error);

/* The checksum of GPT; for those who write tables. */
uint32_t nr_partition_crc32(const void *data, size_t length);

#endif
