/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What inflating needs of a window: of the 32 KiB before a place in the middle of a
 * deflate stream, the bytes that what follows copies.  They are mostly few, none before
 * data that does not compress, and with the others made zeroes a window packs to a
 * fraction.
 *
 * It is found out by inflating the first 32 KiB behind the place three times, with
 * windows made of the low bytes of their indices, of the high ones, and of the low ones
 * inverted: what differs between the first and the last comes from the window, and the
 * first two say from where.  What lies further behind cannot reach the window.
 */
#ifndef FILTERS_GZIP_WINDOW_H
#define FILTERS_GZIP_WINDOW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NR_GZIP_WINDOW 32768u

struct nr_gzip_probe;

struct nr_gzip_probe *nr_gzip_probe_new(void); /* NULL: memory is short */
void nr_gzip_probe_free(struct nr_gzip_probe *probe);

/*
 * A place with LENGTH bytes before it, at most NR_GZIP_WINDOW.  BITS of FIRST, the byte
 * before what is fed, belong to what follows.
 */
void nr_gzip_probe_begin(struct nr_gzip_probe *probe, uint32_t length, uint32_t bits,
			 uint8_t first);
/* The input behind the place, in order.  To be given all that there is costs little. */
void nr_gzip_probe_feed(struct nr_gzip_probe *probe, const uint8_t *in, size_t length);
/* Make zeroes in WINDOW of what is not needed; if that is not known, of nothing. */
void nr_gzip_probe_end(struct nr_gzip_probe *probe, uint8_t *window);

#endif
