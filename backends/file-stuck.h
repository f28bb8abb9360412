/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Writes that wait for those of other files.
 *
 * The kernel hands a write to a thread when it cannot be begun at once, as most file
 * systems cannot with a buffered one.  Those of one file are to go one after the other, so
 * it puts them into one of 64 queues of the worker, by a hash of the file.  Two files may
 * have the same queue: when one stalls (a frozen file system, a server that is gone), what
 * the other wants is not begun for as long (docs/decisions/0038).  Three things help:
 *
 * - A write of a file that has no other in the ring goes to a thread of its own, past the
 *   queues.  A client that waits for each write never meets one.
 *
 * - The others are watched.  When one has not come back after 0.5 to 1 s, it is cancelled,
 *   or the next, which the kernel does with what it has not begun, and with nothing else.
 *   Then it is carried out by a thread of ours, with a call that may block.
 *
 * - If that succeeds while nothing comes out of the queue, all writes of the file go to that
 *   thread, and every ten seconds one tries the ring.
 *
 * So a file that stalls keeps two threads of the kernel on each worker, and one of ours, for
 * which it gets no second one.  Ours are shared by all disks of the process.
 *
 * Not helped is what was put into a queue together with the very write that stalls there: a
 * thread takes out all that has gathered in one go, and the kernel does not find it any
 * more.  It waits as long as that file does.
 *
 *   struct nr_file_op *op          in the hands of
 *     nr_stuck_enters → true         the ring
 *       nr_stuck_leaves → false      its owner again
 *       nr_stuck_leaves → true       a thread; op->completion.done follows once more
 *     nr_stuck_enters → false        a thread; op->completion.done follows
 *
 * Threads: the request's worker, but for opening and closing, and op->plain, which a thread
 * calls that has the operation to itself.
 */
#ifndef BACKENDS_FILE_STUCK_H
#define BACKENDS_FILE_STUCK_H

#include "backends/file.h"

/* Room for what is watched, and a share of the threads; 0, or negative errno.  May block. */
int nr_stuck_open(struct nr_disk *disk);

/* No request is under way.  May block; never on a worker. */
void nr_stuck_close(struct nr_disk *disk);

/* The two below for files that are hashed. */
bool nr_stuck_enter(struct nr_file_op *op, nr_plain_fn *plain);
bool nr_stuck_leave(struct nr_file_op *op);

/*
 * OP's step is about to go to the ring, its completion's `done` is set.  False: a thread
 * does it, by calling PLAIN.
 */
static inline bool nr_stuck_enters(struct nr_file_op *op, nr_plain_fn *plain)
{
	return !op->file->hashed || nr_stuck_enter(op, plain);
}

/*
 * First thing when OP comes back, from wherever.  True: it has not been carried out, and a
 * thread does that now.
 */
static inline bool nr_stuck_leaves(struct nr_file_op *op)
{
	return op->watched && nr_stuck_leave(op);
}

#endif
