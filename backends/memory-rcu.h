/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Read-copy-update for the RAM disk, in the two words it needs.
 *
 * Between finding a block in the tree and taking a reference to it, the block
 * and the nodes on the way must not go away.  Workers stand inside
 * nr_memory_enter/nr_memory_leave meanwhile; whoever takes something out of the
 * tree hands it to nr_memory_retire, and it is freed on liburcu's thread when
 * every worker that could have seen it has left.  Entering writes to a word of
 * the thread's own: no lock, no shared cache line.
 *
 * The bulletproof flavour registers threads by itself, so any thread may enter.
 *
 * Thread sanitizer does not see through liburcu's barriers; the hooks tell it
 * what a grace period guarantees: everything before a leave, or before a retire,
 * happens before the burial.
 *
 * Nor does it know that what a disk contains belongs to its clients.  Requests that
 * are under way together may meet in the same bytes, in any order, and that is no
 * race of the server's: between NR_MEMORY_CONTENTS_BEGIN and _END a thread writes to
 * such bytes, and thread sanitizer does not look.
 */
#ifndef BACKENDS_MEMORY_RCU_H
#define BACKENDS_MEMORY_RCU_H

#include <urcu/urcu-bp.h>

#if defined(__SANITIZE_THREAD__)
#define NR_MEMORY_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define NR_MEMORY_TSAN 1
#endif
#endif

#ifdef NR_MEMORY_TSAN
#include <sanitizer/tsan_interface.h>
extern char nr_memory_grace; /* stands for all grace periods */
#define NR_MEMORY_BEFORE_GRACE() __tsan_release(&nr_memory_grace)
#define NR_MEMORY_AFTER_GRACE() __tsan_acquire(&nr_memory_grace)
/* Of the sanitizer's library; no header declares them. */
void AnnotateIgnoreWritesBegin(const char *file, int line);
void AnnotateIgnoreWritesEnd(const char *file, int line);
#define NR_MEMORY_CONTENTS_BEGIN() AnnotateIgnoreWritesBegin(__FILE__, __LINE__)
#define NR_MEMORY_CONTENTS_END() AnnotateIgnoreWritesEnd(__FILE__, __LINE__)
#else
#define NR_MEMORY_BEFORE_GRACE() ((void)0)
#define NR_MEMORY_AFTER_GRACE() ((void)0)
#define NR_MEMORY_CONTENTS_BEGIN() ((void)0)
#define NR_MEMORY_CONTENTS_END() ((void)0)
#endif

static inline void nr_memory_enter(void)
{
	urcu_bp_read_lock();
}

static inline void nr_memory_leave(void)
{
	NR_MEMORY_BEFORE_GRACE();
	urcu_bp_read_unlock();
}

/* Call BURY(head) on another thread after a grace period; it begins with NR_MEMORY_AFTER_GRACE. */
static inline void nr_memory_retire(struct rcu_head *head, void (*bury)(struct rcu_head *head))
{
	NR_MEMORY_BEFORE_GRACE();
	urcu_bp_call_rcu(head, bury);
}

/*
 * Wait until everything retired so far has been buried.  Not inside
 * nr_memory_enter.  Blocks for some milliseconds.
 */
void nr_memory_barrier(void);

/*
 * Make the thread that buries, if there is none yet.  liburcu ends the process
 * when that fails, which must not happen for a client's trim: call it at open.
 */
void nr_memory_prepare(void);

#endif
