/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Memory for secrets: passwords and keys.
 *
 * It is left out of core dumps, kept out of the swap as far as the limit of locked memory
 * goes, and wiped when it is given back.  Each piece takes a page at least, so it is for
 * few and lasting things.
 */
#ifndef NBDRING_SECRET_H
#define NBDRING_SECRET_H

#include <stddef.h>

#pragma GCC visibility push(default) /* what modules call */

/* SIZE bytes, zeroed, aligned to 16; NULL: there is no memory.  Any thread. */
void *nr_secret_alloc(size_t size);

/* Wipe what nr_secret_alloc returned, and give it back.  NULL is allowed.  Any thread. */
void nr_secret_free(void *secret);

#pragma GCC visibility pop

#endif
