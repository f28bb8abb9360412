/* SPDX-License-Identifier: BSD-3-Clause */
/* A listening socket: accepts on one shard, hands connections to all. */
#ifndef SRC_SERVER_LISTENER_H
#define SRC_SERVER_LISTENER_H

#include "src/server/shard.h"

struct nr_listener {
	struct nr_listener *next;
	struct nr_shard *shard;
	struct nr_completion completion; /* accept, or a pause after a failed one */
	int fd;
	int trouble; /* what accepting fails with just now: has been said; or 0 */
	bool pausing;
	int held; /* accepted, waits until there is room for it (gate.h); -1: none */
	char description[128];
};

/* On the shard's thread. */
void nr_listener_begin(struct nr_listener *listener);
/* There may be room for a client that waits. */
void nr_listener_go_on(struct nr_listener *listener);
/* Stop accepting; nr_completion_busy(&listener->completion) until it has. */
void nr_listener_stop(struct nr_listener *listener);

#endif
