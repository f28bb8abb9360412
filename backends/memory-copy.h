/* SPDX-License-Identifier: BSD-3-Clause */
/* Copying into a RAM disk. */
#ifndef BACKENDS_MEMORY_COPY_H
#define BACKENDS_MEMORY_COPY_H

#include <stddef.h>

/*
 * memcpy for bytes that nobody is about to look at: long ones go past the processor's
 * caches where that is possible.  When it returns they are as visible to other threads
 * as after memcpy.
 */
void nr_memory_copy(void *to, const void *from, size_t length);

#endif
