/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A tree of nodes with 512 places each, over pages.  A place holds one of three things:
 * NULL, nothing below has changed; a mark, everything below is a hole; or what is below.
 * It goes from the first to the second or third and from the second to the third, by
 * compare-and-swap, and never back.
 */
#include "filters/cow-map.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "nbdring/checked.h"

#define FANOUT_SHIFT 9
#define FANOUT (1u << FANOUT_SHIFT)
#define PAGES_A_CALL 64u /* about as many as a worker should go through at once */
#define ALL_HOLES UINT64_MAX

struct node {
	_Atomic(void *) place[FANOUT];
};

/* The mark is an address that nothing else has. */
static char hole_mark;

static bool is_mark(const void *place)
{
	return place == &hole_mark;
}

void nr_cow_map_init(struct nr_cow_map *map, uint64_t blocks, bool kept)
{
	uint64_t reach = FANOUT;

	*map = (struct nr_cow_map){ .blocks = blocks, .height = 1, .kept = kept };
	map->pages = blocks / NR_COW_PAGE_BLOCKS + (blocks % NR_COW_PAGE_BLOCKS != 0);
	while (reach < map->pages) {
		reach <<= FANOUT_SHIFT;
		map->height++;
	}
	atomic_init(&map->root, NULL);
	atomic_init(&map->changed, NULL);
}

static void free_below(void *place, unsigned level)
{
	struct node *node = place;

	if (!place || is_mark(place))
		return;
	for (unsigned i = 0; level && i < FANOUT; i++)
		free_below(atomic_load_explicit(&node->place[i], memory_order_relaxed), level - 1);
	free(place);
}

void nr_cow_map_fini(struct nr_cow_map *map)
{
	free_below(atomic_load(&map->root), map->height);
	atomic_store(&map->root, NULL);
	atomic_store(&map->changed, NULL);
}

/* Pages under one place of a node at LEVEL (1: its places are pages). */
static uint64_t place_pages(unsigned level)
{
	return UINT64_C(1) << (FANOUT_SHIFT * (level - 1));
}

static unsigned place_index(uint64_t page, unsigned level)
{
	return (unsigned)(page >> (FANOUT_SHIFT * (level - 1))) & (FANOUT - 1);
}

/*
 * Page INDEX, or NULL or the mark, which then stand for it and all others before *NEXT.
 */
static void *look(const struct nr_cow_map *map, uint64_t index, uint64_t *next)
{
	void *at = atomic_load_explicit(&map->root, memory_order_acquire);
	unsigned level = map->height;

	while (at && !is_mark(at) && level) {
		const struct node *node = at;

		at = atomic_load_explicit(&node->place[place_index(index, level)],
					  memory_order_acquire);
		level--;
	}
	/* A whole tree's worth may not fit 64 bits; the map's end is enough. */
	if (level >= map->height)
		*next = map->pages;
	else
		*next = nr_min(map->pages, nr_round_down(index, place_pages(level + 1)) +
						   place_pages(level + 1));
	return at;
}

/* What blocks are when there is no page for them. */
static enum nr_cow_block without_page(const void *place)
{
	return place ? NR_COW_HOLE : NR_COW_BASE;
}

static bool is_page(const void *place)
{
	return place && !is_mark(place);
}

static enum nr_cow_block state_in(uint64_t word, uint64_t block)
{
	return (enum nr_cow_block)(word >> (2 * (block % NR_COW_WORD_BLOCKS)) & 3);
}

static uint64_t load_word(const struct nr_cow_page *page, uint64_t in_page)
{
	return atomic_load_explicit(&page->word[in_page / NR_COW_WORD_BLOCKS],
				    memory_order_acquire);
}

enum nr_cow_block nr_cow_map_get(const struct nr_cow_map *map, uint64_t block)
{
	uint64_t in_page = block % NR_COW_PAGE_BLOCKS, next;
	const void *place = look(map, block / NR_COW_PAGE_BLOCKS, &next);

	assert(block < map->blocks);
	if (!is_page(place))
		return without_page(place);
	return state_in(load_word(place, in_page), in_page);
}

/* The state in all places of a word. */
static uint64_t word_of(enum nr_cow_block state)
{
	return UINT64_C(0x5555555555555555) * (uint64_t)state;
}

/* Where, from block AT of PAGE to END, one is not STATE; END: nowhere. */
static uint64_t other_in_page(const struct nr_cow_page *page, uint64_t at, uint64_t end,
			      enum nr_cow_block state)
{
	while (at < end) {
		uint64_t word = load_word(page, at) ^ word_of(state);
		uint64_t skip = at % NR_COW_WORD_BLOCKS;

		word >>= 2 * skip;
		if (word)
			return nr_min(end, at + (uint64_t)__builtin_ctzll(word) / 2);
		at += NR_COW_WORD_BLOCKS - skip;
	}
	return end;
}

/* Blocks of the map before page INDEX. */
static uint64_t page_start(const struct nr_cow_map *map, uint64_t index)
{
	return index >= map->pages ? map->blocks : index * NR_COW_PAGE_BLOCKS;
}

enum nr_cow_block nr_cow_map_run(const struct nr_cow_map *map, uint64_t block, uint64_t end,
				 uint64_t *stop)
{
	enum nr_cow_block state = nr_cow_map_get(map, block);
	uint64_t at = block;

	assert(end <= map->blocks);
	for (unsigned looked_at = 0; at < end && looked_at < PAGES_A_CALL; looked_at++) {
		uint64_t index = at / NR_COW_PAGE_BLOCKS, next, page_end, other;
		const void *place = look(map, index, &next);

		if (!is_page(place)) {
			if (without_page(place) != state)
				break;
			at = nr_min(end, page_start(map, next));
			continue;
		}
		page_end = nr_min(end, page_start(map, index + 1));
		other = index * NR_COW_PAGE_BLOCKS +
			other_in_page(place, at % NR_COW_PAGE_BLOCKS,
				      page_end - index * NR_COW_PAGE_BLOCKS, state);
		at = other;
		if (other < page_end)
			break;
	}
	/* It may have changed between two looks. */
	*stop = nr_max(at, block + 1);
	return state;
}

/* Changing. */

static void fill_page(struct nr_cow_page *page, const void *place)
{
	for (unsigned i = 0; is_mark(place) && i < NR_COW_PAGE_WORDS; i++)
		atomic_init(&page->word[i], word_of(NR_COW_HOLE));
}

static void fill_node(struct node *node, void *place)
{
	for (unsigned i = 0; is_mark(place) && i < FANOUT; i++)
		atomic_init(&node->place[i], place);
}

/* What is at PLACE, made if it is not there.  LEVEL: of the thing itself; 0: a page. */
static void *make(const struct nr_cow_map *map, _Atomic(void *) *place, unsigned level,
		  uint64_t index)
{
	void *now = atomic_load_explicit(place, memory_order_acquire);
	size_t bytes = level ? sizeof(struct node) : sizeof(struct nr_cow_page);
	void *made;

	if (is_page(now))
		return now;
	if (!level && map->kept)
		bytes += NR_COW_PAGE_WORDS * sizeof(uint64_t);
	made = calloc(1, bytes);
	if (!made)
		return NULL;
	do {
		if (level) {
			fill_node(made, now);
		} else {
			fill_page(made, now);
			((struct nr_cow_page *)made)->index = index;
		}
		if (atomic_compare_exchange_strong(place, &now, made))
			return made;
	} while (!is_page(now));
	free(made);
	return now;
}

/*
 * On the way to page INDEX: the highest place all of whose pages are in [INDEX, LAST]
 * and that has none yet becomes a hole.  Returns the first page behind it, or 0.
 */
static uint64_t mark_holes(struct nr_cow_map *map, uint64_t index, uint64_t last)
{
	_Atomic(void *) *place = &map->root;

	for (unsigned level = map->height; level; level--) {
		struct node *node = atomic_load_explicit(place, memory_order_acquire);
		uint64_t pages = place_pages(level);
		void *now;

		if (is_mark(node))
			return nr_round_down(index, pages * FANOUT) + pages * FANOUT;
		if (!node)
			node = make(map, place, level, 0);
		if (!node)
			return 0;
		place = &node->place[place_index(index, level)];
		now = atomic_load_explicit(place, memory_order_acquire);
		if (!nr_is_aligned(index, pages) || last - index < pages - 1)
			continue;
		if (!now && atomic_compare_exchange_strong(place, &now, &hole_mark))
			return index + pages;
		if (is_mark(now))
			return index + pages;
	}
	return 0;
}

struct nr_cow_page *nr_cow_map_page(struct nr_cow_map *map, uint64_t index)
{
	_Atomic(void *) *place = &map->root;

	assert(index < map->pages);
	for (unsigned level = map->height; level; level--) {
		struct node *node = make(map, place, level, 0);

		if (!node)
			return NULL;
		place = &node->place[place_index(index, level)];
	}
	return make(map, place, 0, index);
}

void nr_cow_map_give_back(struct nr_cow_map *map, struct nr_cow_page *page)
{
	struct nr_cow_page *head;

	if (atomic_exchange(&page->listed, true))
		return;
	head = atomic_load(&map->changed);
	do {
		page->next = head;
	} while (!atomic_compare_exchange_weak(&map->changed, &head, page));
}

/* Blocks [AT, END) of PAGE. */
static void set_in_page(struct nr_cow_page *page, uint64_t at, uint64_t end,
			enum nr_cow_block state)
{
	while (at < end) {
		_Atomic uint64_t *word = &page->word[at / NR_COW_WORD_BLOCKS];
		uint64_t skip = at % NR_COW_WORD_BLOCKS;
		uint64_t count = nr_min(NR_COW_WORD_BLOCKS - skip, end - at);
		uint64_t mask = UINT64_MAX >> (64 - 2 * count) << (2 * skip);
		uint64_t now = atomic_load_explicit(word, memory_order_relaxed);

		/* One step: nobody sees a block in a third state. */
		while (!atomic_compare_exchange_weak_explicit(
			word, &now, (now & ~mask) | (word_of(state) & mask), memory_order_release,
			memory_order_relaxed))
			;
		at += count;
	}
}

uint64_t nr_cow_map_set(struct nr_cow_map *map, uint64_t from, uint64_t end,
			enum nr_cow_block state, int *error)
{
	assert(end <= map->blocks);
	*error = 0;
	for (unsigned done = 0; from < end && done < PAGES_A_CALL; done++) {
		uint64_t index = from / NR_COW_PAGE_BLOCKS, start = index * NR_COW_PAGE_BLOCKS;
		uint64_t whole_end = end == map->blocks ? map->pages : end / NR_COW_PAGE_BLOCKS;
		uint64_t stop = nr_min(end, page_start(map, index + 1)), behind = 0;
		struct nr_cow_page *page;

		/* A page that is kept in a file has to be there. */
		if (state == NR_COW_HOLE && !map->kept && from == start && index < whole_end)
			behind = mark_holes(map, index, whole_end - 1);
		if (behind) {
			from = nr_min(end, page_start(map, behind));
			continue;
		}
		page = nr_cow_map_page(map, index);
		if (!page) {
			*error = -ENOMEM;
			return from;
		}
		set_in_page(page, from - start, stop - start, state);
		if (map->kept)
			nr_cow_map_give_back(map, page);
		from = stop;
	}
	return from;
}

struct nr_cow_page *nr_cow_map_take_changed(struct nr_cow_map *map)
{
	struct nr_cow_page *first = atomic_exchange(&map->changed, NULL);

	for (struct nr_cow_page *page = first; page; page = page->taken) {
		page->taken = page->next;
		/* Who changes it after this lists it again, which changes `next`. */
		(void)atomic_exchange(&page->listed, false);
		for (unsigned i = 0; i < NR_COW_PAGE_WORDS; i++)
			page->copy[i] = atomic_load_explicit(&page->word[i], memory_order_acquire);
	}
	return first;
}
