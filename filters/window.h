/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A window: the disk above is a stretch of the disk below.  Filters that choose the
 * stretch, each in its own way, move requests with these; nothing is kept per
 * request, because what went down by so many bytes comes up by as many.
 */
#ifndef FILTERS_WINDOW_H
#define FILTERS_WINDOW_H

#include "nbdring/layer.h"

/* Move the list of NR_EXTENTS by BYTES, which may stand for a negative number. */
static inline void nr_window_move_extents(struct nr_extents *list, uint64_t bytes)
{
	list->start += bytes;
	list->next += bytes;
	list->end += bytes;
}

/* REQ, whose range begins at 0 above, begins at START below; and back. */
static inline void nr_window_enter(struct nr_request *req, uint64_t start)
{
	if (req->operation == NR_FLUSH || req->operation == NR_RESIZE)
		return;
	req->offset += start;
	if (req->operation == NR_EXTENTS)
		nr_window_move_extents(req->extents, start);
}

static inline void nr_window_leave(struct nr_request *req, uint64_t start)
{
	if (req->operation == NR_FLUSH || req->operation == NR_RESIZE)
		return;
	req->offset -= start;
	if (req->operation == NR_EXTENTS)
		nr_window_move_extents(req->extents, -start);
}

#endif
