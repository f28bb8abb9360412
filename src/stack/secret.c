/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * See nbdring/secret.h.  In front of each piece is how long the mapping is.
 *
 * What can be had of locking and leaving out is taken; nothing fails for want of it.  The
 * lock does not go to the child of a fork (mlock(2)).
 */
#include "nbdring/secret.h"

#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

#include "nbdring/checked.h"

#define PAGE 4096u
#define FRONT 16u

void *nr_secret_alloc(size_t size)
{
	uint64_t bytes;
	void *map;

	if (!nr_add(size, FRONT, &bytes) || !nr_round_up(bytes, PAGE, &bytes) || bytes > SIZE_MAX)
		return NULL;
	map = mmap(NULL, (size_t)bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (map == MAP_FAILED)
		return NULL;
	(void)madvise(map, (size_t)bytes, MADV_DONTDUMP);
	(void)mlock(map, (size_t)bytes);
	memcpy(map, &bytes, sizeof(bytes));
	return (char *)map + FRONT;
}

void nr_secret_free(void *secret)
{
	uint64_t bytes;
	char *map;

	if (!secret)
		return;
	map = (char *)secret - FRONT;
	memcpy(&bytes, map, sizeof(bytes));
	explicit_bzero(map, (size_t)bytes);
	munmap(map, (size_t)bytes);
}
