/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A buddy allocator over one range of address space.
 *
 * Why a buddy: blocks must be powers of two aligned to their own size (what
 * O_DIRECT and registered buffers want), taking and giving back must cost the
 * same however full the arena is, and what has been split must come together
 * again so that large blocks stay possible after days of small ones.
 *
 * The range is cut into chunks of 2 MiB, the size of a huge page.  Inside a
 * chunk, blocks of 4 KiB to 1 MiB split and merge; a chunk that is free as a
 * whole lies in one of the chunk lists.  Everything known about a block stands
 * in a side array with one entry per 4 KiB page, the links of the free lists
 * included: free memory is never touched, so a chunk that was never used, or
 * was given back, costs nothing but address space.
 *
 * Two zones: the pinned chunks at the front (registered with the ring; always
 * preferred, never given back) and the plain ones behind.  A plain chunk that
 * becomes free as a whole is kept for a while, as its pages are there and warm;
 * only when more than KEPT_CHUNKS of them lie idle is the longest idle one
 * given back to the system.  So a load that swings a little never pays for page
 * faults, and a burst does not stay resident.
 *
 * Invariants: only the first page of a block has a state other than INNER; two
 * free buddies of the same order never stand side by side; `used` is the sum
 * of the sizes of all blocks in use.
 *
 * Threads: the ring's own thread only.  No function blocks; the give-back is
 * one madvise per 2 MiB.
 */
#include "ring/arena.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#if defined(__SANITIZE_ADDRESS__)
#define NR_ARENA_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define NR_ARENA_ASAN 1
#endif
#endif

#ifdef NR_ARENA_ASAN
#include <sanitizer/asan_interface.h>
#endif

#define PAGE_BYTES ((size_t)NR_ARENA_BLOCK_MIN)
#define CHUNK_BYTES ((size_t)2 * 1024 * 1024)
#define CHUNK_ORDER 9u /* a chunk is 2^9 pages; blocks have the orders below */
#define CHUNK_PAGES (1u << CHUNK_ORDER)
#define KEPT_CHUNKS 4u
#define NIL UINT32_MAX
#define POISON_BYTE 0xdb

static_assert((PAGE_BYTES << CHUNK_ORDER) == CHUNK_BYTES, "a chunk is a power of two of pages");
static_assert((PAGE_BYTES << (CHUNK_ORDER - 1)) == NR_ARENA_BLOCK_MAX, "the largest block");

enum page_state {
	PAGE_INNER = 0, /* not the first page of any block */
	PAGE_FREE,      /* first page of a block in a free list */
	PAGE_USED,      /* first page of a block in use */
};

struct page {
	uint32_t next, prev; /* free list; page numbers */
	uint32_t references;
	uint8_t state; /* enum page_state */
	uint8_t order; /* of the block that starts here */
	uint8_t owner; /* enum nr_block_owner */
};

/* A list of whole chunks that are free. */
struct chunk_list {
	uint32_t newest, oldest;
	uint32_t length;
};

struct chunk {
	uint32_t newer, older;
};

/* The free blocks smaller than a chunk. */
struct zone {
	uint32_t orders; /* bit n: free[n] is not empty */
	uint32_t free[CHUNK_ORDER];
};

struct nr_arena {
	unsigned char *base;
	size_t bytes;
	size_t used;
	uint32_t pinned_pages;
	struct page *pages;
	struct chunk *chunks;
	struct zone pinned_zone, plain_zone;
	struct chunk_list pinned_chunks;
	struct chunk_list warm_chunks;  /* plain, touched */
	struct chunk_list fresh_chunks; /* plain, not backed by memory */
};

/* ---- poison ------------------------------------------------------------ */

/*
 * A free block must not be read or written by anyone.  The address sanitizer
 * catches every such access; a debug build without it at least makes stale
 * data look like nothing else.
 */
static void poison(void *memory, size_t bytes)
{
#if defined(NR_ARENA_ASAN)
	ASAN_POISON_MEMORY_REGION(memory, bytes);
#elif !defined(__OPTIMIZE__)
	memset(memory, POISON_BYTE, bytes);
#else
	(void)memory;
	(void)bytes;
#endif
}

static void unpoison(void *memory, size_t bytes)
{
#if defined(NR_ARENA_ASAN)
	ASAN_UNPOISON_MEMORY_REGION(memory, bytes);
#else
	(void)memory;
	(void)bytes;
#endif
}

/* ---- lists ------------------------------------------------------------- */

static void free_push(struct nr_arena *a, struct zone *zone, uint32_t page, unsigned order)
{
	struct page *p = &a->pages[page];

	assert(p->state == PAGE_INNER);
	p->state = PAGE_FREE;
	p->order = (uint8_t)order;
	p->prev = NIL;
	p->next = zone->free[order];
	if (p->next != NIL)
		a->pages[p->next].prev = page;
	zone->free[order] = page;
	zone->orders |= 1u << order;
}

static void free_unlink(struct nr_arena *a, struct zone *zone, uint32_t page)
{
	struct page *p = &a->pages[page];

	assert(p->state == PAGE_FREE);
	if (p->next != NIL)
		a->pages[p->next].prev = p->prev;
	if (p->prev != NIL)
		a->pages[p->prev].next = p->next;
	else
		zone->free[p->order] = p->next;
	if (zone->free[p->order] == NIL)
		zone->orders &= ~(1u << p->order);
	p->state = PAGE_INNER;
}

static void chunk_push(struct nr_arena *a, struct chunk_list *list, uint32_t chunk)
{
	a->chunks[chunk].newer = NIL;
	a->chunks[chunk].older = list->newest;
	if (list->newest != NIL)
		a->chunks[list->newest].newer = chunk;
	else
		list->oldest = chunk;
	list->newest = chunk;
	list->length++;
}

static uint32_t chunk_pop_newest(struct nr_arena *a, struct chunk_list *list)
{
	uint32_t chunk = list->newest;

	if (chunk == NIL)
		return NIL;
	list->newest = a->chunks[chunk].older;
	if (list->newest != NIL)
		a->chunks[list->newest].newer = NIL;
	else
		list->oldest = NIL;
	list->length--;
	return chunk;
}

static uint32_t chunk_pop_oldest(struct nr_arena *a, struct chunk_list *list)
{
	uint32_t chunk = list->oldest;

	assert(chunk != NIL);
	list->oldest = a->chunks[chunk].newer;
	if (list->oldest != NIL)
		a->chunks[list->oldest].older = NIL;
	else
		list->newest = NIL;
	list->length--;
	return chunk;
}

static void give_back(struct nr_arena *a, uint32_t chunk)
{
	/* Failure costs memory, not correctness. */
	(void)madvise(a->base + chunk * CHUNK_BYTES, CHUNK_BYTES, MADV_DONTNEED);
	chunk_push(a, &a->fresh_chunks, chunk);
}

/* ---- from and to pointers ---------------------------------------------- */

static uint32_t page_of(const struct nr_arena *a, const void *inside)
{
	size_t offset = (size_t)((const unsigned char *)inside - a->base);

	assert(offset < a->bytes);
	return (uint32_t)(offset / PAGE_BYTES);
}

/* The entry of a block in use, from the pointer nr_arena_get returned. */
static struct page *used_block(const struct nr_arena *a, const void *block)
{
	struct page *p = &a->pages[page_of(a, block)];

	assert(((uintptr_t)block & (PAGE_BYTES - 1)) == 0);
	assert(p->state == PAGE_USED);
	return p;
}

/* ---- making ------------------------------------------------------------ */

/* BYTES of address space aligned to a chunk, backed by nothing yet. */
static unsigned char *reserve(size_t bytes)
{
	unsigned char *raw, *base;
	size_t front, behind;

	raw = mmap(NULL, bytes + CHUNK_BYTES, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (raw == MAP_FAILED)
		return NULL;
	front = (CHUNK_BYTES - (uintptr_t)raw % CHUNK_BYTES) % CHUNK_BYTES;
	behind = CHUNK_BYTES - front;
	base = raw + front;
	if (front > 0)
		(void)munmap(raw, front);
	if (behind > 0)
		(void)munmap(base + bytes, behind);
	/*
	 * Huge pages make registering and DMA cheaper.  A forked child gets no
	 * copy: pages under I/O must not become copy-on-write.  Both are hints:
	 * a kernel without them serves as well.
	 */
	(void)madvise(base, bytes, MADV_HUGEPAGE);
	(void)madvise(base, bytes, MADV_DONTFORK);
	return base;
}

static void reset_lists(struct nr_arena *a)
{
	static const struct chunk_list none = { .newest = NIL, .oldest = NIL };

	for (unsigned order = 0; order < CHUNK_ORDER; order++)
		a->pinned_zone.free[order] = a->plain_zone.free[order] = NIL;
	a->pinned_zone.orders = a->plain_zone.orders = 0;
	a->pinned_chunks = a->warm_chunks = a->fresh_chunks = none;

	/* Backwards, so that the lowest addresses are taken first. */
	for (uint32_t chunk = (uint32_t)(a->bytes / CHUNK_BYTES); chunk-- > 0;) {
		bool pinned = chunk * CHUNK_PAGES < a->pinned_pages;

		chunk_push(a, pinned ? &a->pinned_chunks : &a->fresh_chunks, chunk);
	}
}

struct nr_arena *nr_arena_create(size_t bytes)
{
	struct nr_arena *a;

	assert(bytes > 0);
	assert(bytes % CHUNK_BYTES == 0);
	assert(bytes / PAGE_BYTES < NIL);
	a = calloc(1, sizeof(*a));
	if (!a)
		return NULL;
	a->bytes = bytes;
	/* Large and zero: the system backs it page by page as it is used. */
	a->pages = calloc(bytes / PAGE_BYTES, sizeof(*a->pages));
	a->chunks = calloc(bytes / CHUNK_BYTES, sizeof(*a->chunks));
	a->base = reserve(bytes);
	if (!a->pages || !a->chunks || !a->base) {
		if (a->base)
			(void)munmap(a->base, bytes);
		free(a->chunks);
		free(a->pages);
		free(a);
		return NULL;
	}
	reset_lists(a);
#ifdef NR_ARENA_ASAN
	poison(a->base, bytes);
#endif
	return a;
}

void nr_arena_destroy(struct nr_arena *arena)
{
	if (!arena)
		return;
	assert(arena->used == 0);
	unpoison(arena->base, arena->bytes);
	(void)munmap(arena->base, arena->bytes);
	free(arena->chunks);
	free(arena->pages);
	free(arena);
}

void *nr_arena_base(const struct nr_arena *arena)
{
	return arena->base;
}

void nr_arena_set_pinned(struct nr_arena *arena, size_t bytes)
{
	assert(arena->used == 0);
	assert(bytes <= arena->bytes);
	while (arena->warm_chunks.length > 0)
		give_back(arena, chunk_pop_oldest(arena, &arena->warm_chunks));
	arena->pinned_pages = (uint32_t)(bytes / CHUNK_BYTES * CHUNK_PAGES);
	reset_lists(arena);
}

/* ---- taking ------------------------------------------------------------ */

static unsigned order_for(size_t length)
{
	size_t pages = (length + PAGE_BYTES - 1) / PAGE_BYTES;

	if (pages <= 1)
		return 0;
	return (unsigned)(64 - __builtin_clzll(pages - 1));
}

/*
 * A free block of at least ORDER out of ZONE, else a chunk of WHOLE; its order
 * goes to *FOUND.
 */
static uint32_t take(struct nr_arena *a, struct zone *zone, struct chunk_list *whole,
		     unsigned order, unsigned *found)
{
	uint32_t fitting = zone->orders >> order << order;
	uint32_t page, chunk;

	if (fitting) {
		*found = (unsigned)__builtin_ctz(fitting);
		page = zone->free[*found];
		free_unlink(a, zone, page);
		return page;
	}
	*found = CHUNK_ORDER;
	chunk = chunk_pop_newest(a, whole);
	return chunk == NIL ? NIL : chunk * CHUNK_PAGES;
}

void *nr_arena_get(struct nr_arena *arena, size_t length, enum nr_block_owner owner)
{
	struct zone *zone = &arena->pinned_zone;
	unsigned order, found;
	uint32_t page;
	void *block;

	assert(length > 0);
	assert(length <= NR_ARENA_BLOCK_MAX);
	assert(owner != NR_BLOCK_FREE);
	order = order_for(length);
	page = take(arena, zone, &arena->pinned_chunks, order, &found);
	if (page == NIL) {
		zone = &arena->plain_zone;
		page = take(arena, zone, &arena->warm_chunks, order, &found);
	}
	if (page == NIL)
		page = take(arena, zone, &arena->fresh_chunks, order, &found);
	if (page == NIL)
		return NULL;
	while (found > order) {
		found--;
		free_push(arena, zone, page + (1u << found), found);
	}
	arena->pages[page].state = PAGE_USED;
	arena->pages[page].order = (uint8_t)order;
	arena->pages[page].owner = (uint8_t)owner;
	arena->pages[page].references = 1;
	arena->used += PAGE_BYTES << order;
	block = arena->base + page * PAGE_BYTES;
	unpoison(block, PAGE_BYTES << order);
	return block;
}

/* ---- giving back ------------------------------------------------------- */

static void free_chunk(struct nr_arena *a, uint32_t chunk)
{
	if (chunk * CHUNK_PAGES < a->pinned_pages) {
		chunk_push(a, &a->pinned_chunks, chunk);
		return;
	}
	chunk_push(a, &a->warm_chunks, chunk);
	if (a->warm_chunks.length > KEPT_CHUNKS)
		give_back(a, chunk_pop_oldest(a, &a->warm_chunks));
}

static void free_block(struct nr_arena *a, uint32_t page, unsigned order)
{
	struct zone *zone = page < a->pinned_pages ? &a->pinned_zone : &a->plain_zone;

	a->pages[page].state = PAGE_INNER;
	a->pages[page].owner = NR_BLOCK_FREE;
	while (order < CHUNK_ORDER) {
		uint32_t buddy = page ^ (1u << order);
		const struct page *b = &a->pages[buddy];

		if (b->state != PAGE_FREE || b->order != order)
			break;
		free_unlink(a, zone, buddy);
		page &= ~(1u << order);
		order++;
	}
	if (order == CHUNK_ORDER)
		free_chunk(a, page / CHUNK_PAGES);
	else
		free_push(a, zone, page, order);
}

void nr_arena_retain(struct nr_arena *arena, void *block)
{
	struct page *p = used_block(arena, block);

	assert(p->references > 0);
	assert(p->references < UINT32_MAX);
	p->references++;
}

void nr_arena_release(struct nr_arena *arena, void *block)
{
	struct page *p = used_block(arena, block);
	size_t bytes = PAGE_BYTES << p->order;

	assert(p->references > 0);
	if (--p->references > 0)
		return;
	assert(arena->used >= bytes);
	arena->used -= bytes;
	poison(block, bytes);
	free_block(arena, page_of(arena, block), p->order);
}

void nr_arena_hand_over(struct nr_arena *arena, void *block, enum nr_block_owner from,
			enum nr_block_owner to)
{
	struct page *p = used_block(arena, block);

	assert(p->owner == from);
	assert(to != NR_BLOCK_FREE);
	p->owner = (uint8_t)to;
}

/* ---- asking ------------------------------------------------------------ */

size_t nr_arena_block_size(const struct nr_arena *arena, const void *block)
{
	return PAGE_BYTES << used_block(arena, block)->order;
}

void *nr_arena_block_of(const struct nr_arena *arena, const void *inside)
{
	uint32_t page = page_of(arena, inside);

	/* The first page of a block of order n has its n lowest bits clear. */
	for (unsigned order = 0; order < CHUNK_ORDER; order++) {
		uint32_t first = page & ~((1u << order) - 1);

		if (arena->pages[first].state == PAGE_USED && arena->pages[first].order >= order)
			return arena->base + first * PAGE_BYTES;
	}
	assert(!"the pointer is inside a block in use");
	return NULL;
}

size_t nr_arena_capacity(const struct nr_arena *arena)
{
	return arena->bytes;
}

size_t nr_arena_used(const struct nr_arena *arena)
{
	return arena->used;
}

uint32_t nr_arena_references(const struct nr_arena *arena, const void *block)
{
	return arena->pages[page_of(arena, block)].references;
}
