/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The inbox of a ring: messages of any thread to one owner.  Private to ring/.
 */
#ifndef RING_INBOX_H
#define RING_INBOX_H

#include <stdatomic.h>
#include <stdbool.h>

#include "ring/ring.h"

struct nr_inbox {
	struct nr_message *_Atomic top; /* the newest message, or that the owner sleeps */
};

void nr_inbox_init(struct nr_inbox *inbox);

/* Any thread, lock-free.  True: the owner sleeps, and this caller is to wake it. */
bool nr_inbox_push(struct nr_inbox *inbox, struct nr_message *m);

/* Owner: all messages there are, oldest first, linked by `next`; NULL for none.  Ends sleep. */
struct nr_message *nr_inbox_take(struct nr_inbox *inbox);

/* Owner: about to sleep.  False when a message is there already. */
bool nr_inbox_sleep(struct nr_inbox *inbox);

#endif
