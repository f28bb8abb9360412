/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Files that filters keep what they know in, so that it is there the next time.
 *
 * Such a file begins with a head of NR_STORE_HEAD_BYTES: which filter's it is, in which
 * version, a checksum, and what the filter puts there.  It belongs to one server at a
 * time, by a lock that ends with the open file.  A file that is not what it should be
 * is refused, with a sentence, and left as it is.
 *
 *	[0..7]   magic of the kind
 *	[8..11]  version, little-endian as all numbers
 *	[12..15] CRC-32C of the head, with zeroes in this place
 *	[16..]   the filter's own
 */
#ifndef FILTERS_STORE_FILE_H
#define FILTERS_STORE_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "nbdring/error.h"

#define NR_STORE_HEAD_BYTES 4096u
#define NR_STORE_HEAD_OWN 16u /* where the filter's own begins, bytes */

struct nr_store_kind {
	char magic[8];
	uint32_t version;
	const char *name; /* "an overlay of cow" */
};

/* CRC-32C (Castagnoli) of LENGTH bytes at DATA, going on from SO_FAR (0 at first). */
uint32_t nr_store_crc(uint32_t so_far, const void *data, size_t length);

/* Numbers at P. */
uint32_t nr_store_get_u32(const uint8_t *p);
uint64_t nr_store_get_u64(const uint8_t *p);
void nr_store_put_u32(uint8_t *p, uint32_t value);
void nr_store_put_u64(uint8_t *p, uint64_t value);

/* Complete HEAD, in which the filter's own is. */
void nr_store_seal(const struct nr_store_kind *kind, uint8_t *head);

/* Is HEAD one of KIND, whole, and of this version?  SHOWN is what the file is called. */
int nr_store_check(const struct nr_store_kind *kind, const uint8_t *head, const char *shown,
		   struct nr_error *error);

/*
 * Open PATH, which is made if it is not there (unless READ_ONLY), and lock it: for this
 * server alone, or READ_ONLY with others that only read.  *SIZE is its length: 0, a new
 * one.  Returns the descriptor, or negative errno.  May block.
 */
int nr_store_open(const char *path, bool read_only, uint64_t *size, struct nr_error *error);

/*
 * A file is made in steps, and the power may go between them.  First comes a head with
 * nothing in it, stable, which nr_store_is_unfinished knows from everything else that a
 * file may hold: what has it, or is no longer than it and has nothing but zeroes, is
 * made anew.  0 or negative errno; may block.
 */
int nr_store_begin(const struct nr_store_kind *kind, int fd);
/* HEAD is what FD begins with, with zeroes behind its end if that comes earlier. */
bool nr_store_is_unfinished(const struct nr_store_kind *kind, const uint8_t *head, uint64_t length);

/* All LENGTH bytes at OFFSET of FD; 0 or negative errno (-EIO: the file ends before). */
int nr_store_read(int fd, uint64_t offset, void *data, size_t length);
int nr_store_write(int fd, uint64_t offset, const void *data, size_t length);

#endif
