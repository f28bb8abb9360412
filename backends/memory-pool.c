/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Where the memory of a RAM disk comes from and goes back to.
 *
 * Blocks of 64 KiB, cut from slabs of 2 MiB.  64 KiB, because smaller ones make
 * more segments of a large read and a deeper tree, and larger ones waste more on
 * a write of 4 KiB into a hole, give memory back later, and put more readers
 * on one reference count.  2 MiB, because that is a huge page: one page
 * fault and one TLB entry instead of 512, which is what filling and sending
 * from a RAM disk spend their time on.
 *
 * The first block written after another lies behind it in memory, so the slab
 * fills up whatever the order on the disk, and the memory a huge page takes too
 * early is at most one slab's.
 *
 * A free block is always zero: it was never touched, or its pages were given
 * back to the system (MADV_DONTNEED) before it became free.  A slab all of whose
 * blocks are free is unmapped, but for one that is kept so that a client at the
 * edge does not map and unmap all the time.
 *
 * Life of a block: nr_memory_pool_get, into the tree; out of the tree and
 * retired; after a grace period the tree's reference is given back; with the
 * last reference (segments may be on their way to a client still) it is free.
 * Dropped blocks wait in limbo for their grace period, milliseconds.  Whoever
 * needs memory meanwhile is told to wait for them rather than that the disk is
 * full, and so that a client that writes and trims in turn cannot fill memory
 * with limbo, no more than LIMBO_MAX blocks may be there when a new one is
 * handed out.
 *
 * Any thread; `lock` is held for short, though once per slab over an mmap.
 */
#include "backends/memory-pool.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "backends/memory-room.h"
#include "nbdring/checked.h"

#define SLAB_BYTES (2u * 1024 * 1024)
#define SLAB_BLOCKS (SLAB_BYTES / NR_MEMORY_BLOCK_BYTES)
#define SLAB_ALIGN 2048u /* of the description, bytes */
#define ALL_FREE UINT32_MAX
#define LIMBO_MAX 4096u                  /* blocks: 256 MiB */
#define GRANT_BYTES (UINT64_C(64) << 20) /* mapped between two looks for room */

static_assert(SLAB_BLOCKS == 32, "the free blocks of a slab are bits of a uint32_t");
static_assert(NR_MEMORY_BLOCK_PAGES == 16, "the pages of a block are 16 bits of its state");
static_assert(sizeof(struct nr_memory_block) == 32, "two blocks share a cache line");

/*
 * Aligned so that the blocks in it need no pointer to it.  What a read needs of
 * a block is kept together and small, because on a large disk fetching it into
 * the cache is most of what a read costs.
 */
struct slab {
	struct nr_memory_block block[SLAB_BLOCKS];
	struct rcu_head rcu[SLAB_BLOCKS]; /* of the first block of a chain */
	struct nr_memory_block *next[SLAB_BLOCKS];
	struct nr_memory_pool *pool;
	uint8_t *base;
	struct cds_list_head all;
	struct cds_list_head roomy; /* listed exactly while `free` is not 0 */
	uint32_t free;              /* bit per block */
} __attribute__((aligned(SLAB_ALIGN)));

static_assert(sizeof(struct slab) == SLAB_ALIGN, "a slab is found by rounding down");

static struct slab *slab_of(const struct nr_memory_block *block)
{
	return (struct slab *)nr_round_down((uintptr_t)block, SLAB_ALIGN);
}

struct nr_memory_block **nr_memory_pool_next(struct nr_memory_block *block)
{
	struct slab *slab = slab_of(block);

	return &slab->next[block - slab->block];
}

void nr_memory_pool_init(struct nr_memory_pool *pool)
{
	pthread_mutexattr_t attributes;

	/* Held for tens of nanoseconds as a rule: spin before sleeping. */
	pthread_mutexattr_init(&attributes);
	pthread_mutexattr_settype(&attributes, PTHREAD_MUTEX_ADAPTIVE_NP);
	pthread_mutex_init(&pool->lock, &attributes);
	pthread_mutexattr_destroy(&attributes);
	CDS_INIT_LIST_HEAD(&pool->slabs);
	CDS_INIT_LIST_HEAD(&pool->roomy);
}

/*
 * 2 MiB of address space, at a multiple of 2 MiB if at all possible: usually
 * the kernel puts a mapping right below the last one and nothing is to be done.
 */
static uint8_t *map_slab(void)
{
	const int protection = PROT_READ | PROT_WRITE;
	const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
	uint8_t *base = mmap(NULL, SLAB_BYTES, protection, flags, -1, 0);
	uint8_t *wide, *aligned;

	if (base == MAP_FAILED)
		return NULL;
	if (!nr_is_aligned((uintptr_t)base, SLAB_BYTES)) {
		wide = mmap(NULL, 2 * SLAB_BYTES, protection, flags, -1, 0);
		if (wide != MAP_FAILED) {
			munmap(base, SLAB_BYTES);
			aligned = wide + (-(uintptr_t)wide & (SLAB_BYTES - 1));
			if (aligned > wide)
				munmap(wide, (size_t)(aligned - wide));
			munmap(aligned + SLAB_BYTES, (size_t)(wide + SLAB_BYTES - aligned));
			base = aligned;
		}
	}
	/* Without huge pages everything works, only slower. */
	madvise(base, SLAB_BYTES, MADV_HUGEPAGE);
	return base;
}

static void unmap_slab(struct slab *slab)
{
	/*
	 * Unmapping the middle of a mapping can fail (vm.max_map_count).  The
	 * address space is lost then, the memory is not.
	 */
	if (munmap(slab->base, SLAB_BYTES) != 0)
		madvise(slab->base, SLAB_BYTES, MADV_DONTNEED);
	free(slab);
}

static void release_reference(struct nr_buffer *buffer)
{
	struct nr_memory_block *block = (struct nr_memory_block *)buffer;
	uint64_t before =
		atomic_fetch_sub_explicit(&block->state, NR_MEMORY_REFERENCE, memory_order_acq_rel);

	assert((before & NR_MEMORY_REFERENCES) > 0);
	if ((before & NR_MEMORY_REFERENCES) == 1) {
		*nr_memory_pool_next(block) = NULL;
		nr_memory_pool_put(slab_of(block)->pool, block);
	}
}

/* May another slab be mapped?  Looks at the system once for many slabs. */
static bool may_grow(struct nr_memory_pool *pool)
{
	uint64_t room;

	if (pool->granted < SLAB_BYTES) {
		room = nr_memory_room();
		/* Others may be taking memory at the same time: not all at once. */
		pool->granted = nr_min(GRANT_BYTES, nr_max(room / 4, SLAB_BYTES));
		if (room < SLAB_BYTES) {
			pool->granted = 0;
			return false;
		}
	}
	pool->granted -= SLAB_BYTES;
	return true;
}

static struct slab *new_slab(struct nr_memory_pool *pool)
{
	struct slab *slab;

	if (!may_grow(pool))
		return NULL;
	slab = aligned_alloc(SLAB_ALIGN, sizeof(*slab));
	if (!slab)
		return NULL;
	slab->base = map_slab();
	if (!slab->base) {
		free(slab);
		return NULL;
	}
	slab->pool = pool;
	slab->free = ALL_FREE;
	for (unsigned i = 0; i < SLAB_BLOCKS; i++) {
		struct nr_memory_block *block = &slab->block[i];

		block->buffer.release = release_reference;
		/* Pages go back to the system before a block is used again. */
		block->buffer.kind = NR_BUFFER_LASTING;
		block->data = slab->base + (size_t)i * NR_MEMORY_BLOCK_BYTES;
		atomic_init(&block->state, 0);
	}
	cds_list_add(&slab->all, &pool->slabs);
	cds_list_add(&slab->roomy, &pool->roomy);
	return slab;
}

static struct slab *roomy_slab(struct nr_memory_pool *pool)
{
	if (pool->limbo >= LIMBO_MAX)
		return NULL;
	if (cds_list_empty(&pool->roomy))
		return new_slab(pool);
	return cds_list_first_entry(&pool->roomy, struct slab, roomy);
}

int nr_memory_pool_get(struct nr_memory_pool *pool, struct nr_memory_waiter *waiter,
		       struct nr_memory_block **out)
{
	struct nr_memory_block *block;
	struct slab *slab;
	int err = 0;

	pthread_mutex_lock(&pool->lock);
	slab = roomy_slab(pool);
	if (slab) {
		block = &slab->block[__builtin_ctz(slab->free)];
		slab->free &= slab->free - 1;
		if (slab->free == 0)
			cds_list_del(&slab->roomy);
		pool->used++;
		assert(atomic_load_explicit(&block->state, memory_order_relaxed) == 0);
		atomic_store_explicit(&block->state, NR_MEMORY_REFERENCE, memory_order_relaxed);
		*out = block;
	} else if (pool->limbo > 0) {
		waiter->next = pool->waiters;
		pool->waiters = waiter;
		err = -EAGAIN;
	} else {
		err = -ENOSPC;
	}
	pthread_mutex_unlock(&pool->lock);
	return err;
}

/* The system gets the pages of the blocks in MASK back; they read as zeroes from now on. */
static void give_back_pages(const struct slab *slab, uint32_t mask)
{
	while (mask) {
		unsigned first = (unsigned)__builtin_ctz(mask);
		uint32_t rest = ~(mask >> first);
		unsigned count = rest ? (unsigned)__builtin_ctz(rest) : SLAB_BLOCKS;
		uint8_t *from = slab->base + (size_t)first * NR_MEMORY_BLOCK_BYTES;
		int err = madvise(from, (size_t)count * NR_MEMORY_BLOCK_BYTES, MADV_DONTNEED);

		/* Private anonymous memory of our own: only locked pages would refuse. */
		if (err)
			memset(from, 0, (size_t)count * NR_MEMORY_BLOCK_BYTES);
		mask &= first + count < 32 ? ~UINT32_C(0) << (first + count) : 0;
	}
}

/* Is a slab worth keeping when all of it is free?  Only as the last one with room. */
static bool spare(struct nr_memory_pool *pool, const struct slab *slab)
{
	return cds_list_empty(&pool->roomy) ||
	       (pool->roomy.next == &slab->roomy && pool->roomy.prev == &slab->roomy);
}

/* The blocks in MASK are not in anyone's hands: clean them and let them be taken again. */
static void free_blocks(struct nr_memory_pool *pool, struct slab *slab, uint32_t mask)
{
	bool unmap;

	pthread_mutex_lock(&pool->lock);
	assert((slab->free & mask) == 0);
	pool->used -= (unsigned)__builtin_popcount(mask);
	unmap = (slab->free | mask) == ALL_FREE && !spare(pool, slab);
	if (!unmap) {
		/* Not free before they are clean, or we would wipe the next owner's data. */
		pthread_mutex_unlock(&pool->lock);
		give_back_pages(slab, mask);
		pthread_mutex_lock(&pool->lock);
		/* Others may have freed the rest meanwhile. */
		unmap = (slab->free | mask) == ALL_FREE && !spare(pool, slab);
	}
	if (unmap) {
		if (slab->free)
			cds_list_del(&slab->roomy);
		cds_list_del(&slab->all);
	} else {
		if (!slab->free)
			cds_list_add_tail(&slab->roomy, &pool->roomy);
		slab->free |= mask;
	}
	pthread_mutex_unlock(&pool->lock);
	if (unmap)
		unmap_slab(slab);
}

void nr_memory_pool_put(struct nr_memory_pool *pool, struct nr_memory_block *chain)
{
	while (chain) {
		struct slab *slab = slab_of(chain);
		uint32_t mask = 0;

		/* Blocks written one after the other lie in one slab and go together. */
		for (; chain && slab_of(chain) == slab; chain = *nr_memory_pool_next(chain)) {
			atomic_store_explicit(&chain->state, 0, memory_order_relaxed);
			mask |= UINT32_C(1) << (chain - slab->block);
		}
		free_blocks(pool, slab, mask);
	}
}

static void wake_waiters(struct nr_memory_pool *pool, uint64_t buried)
{
	struct nr_memory_waiter *waiters;

	pthread_mutex_lock(&pool->lock);
	assert(pool->limbo >= buried);
	pool->limbo -= buried;
	waiters = pool->waiters;
	pool->waiters = NULL;
	pthread_mutex_unlock(&pool->lock);
	while (waiters) {
		struct nr_memory_waiter *waiter = waiters;

		waiters = waiter->next;
		waiter->wake(waiter);
	}
}

/* liburcu's thread, after a grace period: nobody can find these blocks any more. */
static void bury(struct rcu_head *head)
{
	struct slab *slab = (struct slab *)nr_round_down((uintptr_t)head, SLAB_ALIGN);
	struct nr_memory_block *block = &slab->block[head - slab->rcu];
	struct nr_memory_block *unused = NULL, **tail = &unused;
	struct nr_memory_pool *pool;
	uint64_t count = 0;

	NR_MEMORY_AFTER_GRACE();
	pool = slab->pool;
	while (block) {
		struct nr_memory_block *next = *nr_memory_pool_next(block);
		uint64_t before = atomic_fetch_sub_explicit(&block->state, NR_MEMORY_REFERENCE,
							    memory_order_acq_rel);

		/* Otherwise it is freed with the last segment that points into it. */
		if ((before & NR_MEMORY_REFERENCES) == 1) {
			*tail = block;
			tail = nr_memory_pool_next(block);
		}
		block = next;
		count++;
	}
	*tail = NULL;
	nr_memory_pool_put(pool, unused);
	wake_waiters(pool, count);
}

void nr_memory_pool_retire(struct nr_memory_pool *pool, struct nr_memory_block *chain,
			   uint64_t count)
{
	struct slab *slab;

	if (!chain)
		return;
	pthread_mutex_lock(&pool->lock);
	pool->limbo += count;
	pthread_mutex_unlock(&pool->lock);
	slab = slab_of(chain);
	nr_memory_retire(&slab->rcu[chain - slab->block], bury);
}

uint64_t nr_memory_pool_used(struct nr_memory_pool *pool)
{
	uint64_t used;

	pthread_mutex_lock(&pool->lock);
	used = pool->used;
	pthread_mutex_unlock(&pool->lock);
	return used;
}

void nr_memory_pool_fini(struct nr_memory_pool *pool)
{
	assert(pool->limbo == 0);
	assert(!pool->waiters);
	for (struct cds_list_head *at = pool->slabs.next, *next; at != &pool->slabs; at = next) {
		next = at->next;
		unmap_slab(cds_list_entry(at, struct slab, all));
	}
	pthread_mutex_destroy(&pool->lock);
}
