/* SPDX-License-Identifier: BSD-3-Clause */
/* What filters have in common that send a request that has failed down again. */
#ifndef FILTERS_AGAIN_H
#define FILTERS_AGAIN_H

#include <errno.h>
#include <stddef.h>

#include "nbdring/layer.h"

/*
 * May REQ, which has failed, go well another time?  A flush tells once of what was lost,
 * and a second one that went well would hide it; what the disk has refused for what it is
 * stays refused.
 */
static inline bool nr_again_helps(const struct nr_request *req)
{
	static const int final[] = { EPERM,  EACCES, EROFS,     EINVAL,    ENOSPC,
				     EDQUOT, EFBIG,  EOVERFLOW, EOPNOTSUPP };

	for (size_t i = 0; i < sizeof(final) / sizeof(final[0]); i++)
		if (req->error == -final[i])
			return false;
	return req->operation != NR_FLUSH;
}

/* Nobody waits for the answer to REQ any more. */
static inline bool nr_again_in_vain(const struct nr_request *req)
{
	return req->session && req->session->gone;
}

/* REQ has failed and goes down again: it has no answer yet. */
static inline void nr_again_prepare(struct nr_request *req)
{
	if (req->extents) {
		req->extents->count = 0;
		req->extents->next = req->extents->start;
	}
}

#endif
