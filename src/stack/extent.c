/* SPDX-License-Identifier: BSD-3-Clause */
/* Lists of extents: the one function that adds to them, and so keeps them legal. */
#include "nbdring/extent.h"

#include <assert.h>
#include <stddef.h>

#include "nbdring/checked.h"

bool nr_extents_add(struct nr_extents *list, uint64_t length, uint64_t status)
{
	struct nr_extent *last = list->count ? &list->extent[list->count - 1] : NULL;

	assert(list->start <= list->next);
	assert(list->next <= list->end);
	assert(list->extent);
	length = nr_min(length, list->end - list->next);
	if (length == 0)
		return false;
	if (last && last->status == status) {
		last->length += length;
	} else {
		if (list->count == list->capacity)
			return false;
		list->extent[list->count++] = (struct nr_extent){ length, status };
	}
	list->next += length;
	return list->next < list->end;
}
