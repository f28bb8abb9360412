/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * One atomic word carries everything.
 *
 * It is a stack that senders push to and the owner takes whole and turns round,
 * which keeps the order of each sender.  The same word says that the owner
 * sleeps: then it points to `asleep`.  The owner falls asleep only from an
 * empty inbox, in one atomic step, and exactly the sender whose push replaces
 * `asleep` sees it.  So no message is ever slept over, and a busy owner costs
 * its senders no system call.
 *
 * The owner alone removes, and removes everything: a sender's compare and
 * exchange cannot be fooled by a message that was taken and posted again, as
 * its own `next` then is right all the same.
 *
 * Threads: push from any; the rest from the owner.
 */
#include "ring/inbox.h"

#include <stddef.h>

/* Never delivered; one for all, as only its address matters. */
static struct nr_message asleep;

void nr_inbox_init(struct nr_inbox *inbox)
{
	atomic_init(&inbox->top, NULL);
}

bool nr_inbox_push(struct nr_inbox *inbox, struct nr_message *m)
{
	struct nr_message *top = atomic_load_explicit(&inbox->top, memory_order_relaxed);

	do {
		m->next = top == &asleep ? NULL : top;
	} while (!atomic_compare_exchange_weak_explicit(&inbox->top, &top, m, memory_order_acq_rel,
							memory_order_relaxed));
	return top == &asleep;
}

struct nr_message *nr_inbox_take(struct nr_inbox *inbox)
{
	struct nr_message *m, *next, *oldest = NULL;

	/* The usual case on a busy ring costs a plain load. */
	if (!atomic_load_explicit(&inbox->top, memory_order_relaxed))
		return NULL;
	m = atomic_exchange_explicit(&inbox->top, NULL, memory_order_acq_rel);
	if (m == &asleep)
		return NULL;
	for (; m; m = next) {
		next = m->next;
		m->next = oldest;
		oldest = m;
	}
	return oldest;
}

bool nr_inbox_sleep(struct nr_inbox *inbox)
{
	struct nr_message *none = NULL;

	return atomic_compare_exchange_strong_explicit(&inbox->top, &none, &asleep,
						       memory_order_acq_rel, memory_order_relaxed);
}
