/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Reading from a stack that is being opened, on a thread that may block and has no
 * ring: a small one, with a worker that moves the requests.
 *
 * Of the thread that made it.  A stack keeps one from the first read of a layer's
 * `open` until all its layers are open, because making a ring takes longer than
 * reading.
 */
#ifndef SRC_STACK_READER_H
#define SRC_STACK_READER_H

#include "src/stack/stack.h"

struct nr_reader;

int nr_reader_create(struct nr_reader **reader, unsigned worker_count, struct nr_error *error);
void nr_reader_destroy(struct nr_reader *reader); /* NULL is allowed */

/* Read a range that is inside the layer FROM, of any alignment.  0 or negative errno. */
int nr_reader_read(struct nr_reader *reader, struct nr_layer *from, uint64_t offset,
		   uint64_t length, void *data);

#endif
