/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * See cells.h.
 *
 * Each cell is a mapping of its own, which is dropped and never given other data: so
 * answers may be sent by reference (NR_BUFFER_LASTING), and what is not needed goes back
 * to the system at once.
 *
 * Answers hold no more than a quarter of the cache: a client that does not read what it
 * has asked for must not keep others from being served.  Beyond that they are copies, in
 * memory that the connection is charged for.
 */
#include "filters/cells.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "filters/zeroes.h"
#include "nbdring/checked.h"

#define PAGE 4096u

static struct nr_cell **bucket_of(struct nr_cells *cells, uint64_t start)
{
	return &cells->bucket[(start >> 12) * UINT64_C(0x9e3779b97f4a7c15) >> 52];
}

struct nr_cell *nr_cells_find(struct nr_cells *cells, uint64_t start)
{
	struct nr_cell *cell = *bucket_of(cells, start);

	while (cell && cell->start != start)
		cell = cell->chain;
	return cell;
}

static void unlink_used(struct nr_cell *cell)
{
	struct nr_cells *cells = cell->cells;

	*(cell->older ? &cell->older->newer : &cells->oldest) = cell->newer;
	*(cell->newer ? &cell->newer->older : &cells->newest) = cell->older;
	cell->older = cell->newer = NULL;
}

static void link_newest(struct nr_cell *cell)
{
	struct nr_cells *cells = cell->cells;

	cell->older = cells->newest;
	cell->newer = NULL;
	*(cells->newest ? &cells->newest->newer : &cells->oldest) = cell;
	cells->newest = cell;
}

static void unmap(struct nr_cell *cell)
{
	if (cell->data)
		(void)munmap(cell->data, cell->mapped);
	cell->data = NULL;
	cell->cells->used -= cell->mapped;
	cell->mapped = 0;
}

/* Out of the table, and away unless an answer holds it. */
static void remove_cell(struct nr_cell *cell)
{
	struct nr_cell **at = bucket_of(cell->cells, cell->start);

	while (*at != cell)
		at = &(*at)->chain;
	*at = cell->chain;
	if (cell->ready)
		unlink_used(cell);
	cell->gone = true;
	if (cell->references)
		return;
	unmap(cell);
	free(cell);
}

static void release(struct nr_buffer *buffer)
{
	struct nr_cell *cell = (struct nr_cell *)buffer;

	assert(cell->references > 0);
	if (--cell->references)
		return;
	cell->cells->pinned -= cell->mapped;
	if (!cell->gone)
		return;
	unmap(cell);
	free(cell);
}

static bool remove_oldest(struct nr_cells *cells)
{
	struct nr_cell *cell = cells->oldest;

	while (cell && cell->references)
		cell = cell->newer;
	if (cell)
		remove_cell(cell);
	return cell != NULL;
}

struct nr_cell *nr_cells_make(struct nr_cells *cells, uint64_t start, uint64_t length)
{
	size_t mapped = (size_t)nr_round_down(length + PAGE - 1, PAGE);
	struct nr_cell *cell;
	void *data;

	while (cells->used + mapped > cells->max)
		if (!remove_oldest(cells))
			return NULL;
	cell = calloc(1, sizeof(*cell));
	if (!cell)
		return NULL;
	do {
		data = mmap(NULL, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
			    0);
	} while (data == MAP_FAILED && remove_oldest(cells));
	if (data == MAP_FAILED) {
		free(cell);
		return NULL;
	}
	*cell = (struct nr_cell){
		.buffer = { .release = release, .kind = NR_BUFFER_LASTING },
		.cells = cells,
		.start = start,
		.length = length,
		.data = data,
		.mapped = mapped,
	};
	cell->grain = NR_GRAIN_BYTES;
	while (cell->grain * NR_CELL_GRAINS < length)
		cell->grain *= 2;
	cells->used += mapped;
	cell->chain = *bucket_of(cells, start);
	*bucket_of(cells, start) = cell;
	return cell;
}

static bool is_zero(const uint8_t *data, uint64_t length)
{
	return data[0] == 0 && memcmp(data, data + 1, length - 1) == 0;
}

void nr_cell_find_zeroes(struct nr_cell *cell)
{
	for (uint64_t at = 0, i = 0; at < cell->length; at += cell->grain, i++)
		if (is_zero(cell->data + at, nr_min(cell->grain, cell->length - at)))
			cell->zero[i / 64] |= UINT64_C(1) << i % 64;
}

bool nr_cell_grain_is_zero(const struct nr_cell *cell, uint64_t grain)
{
	return cell->zero[grain / 64] >> grain % 64 & 1;
}

void nr_cells_publish(struct nr_cell *cell)
{
	bool zero = true;

	for (uint64_t at = 0, i = 0; at < cell->length && zero; at += cell->grain, i++)
		zero = nr_cell_grain_is_zero(cell, i);
	if (zero)
		unmap(cell);
	cell->ready = true;
	link_newest(cell);
}

void nr_cells_drop(struct nr_cell *cell)
{
	assert(!cell->ready);
	remove_cell(cell);
}

void nr_cells_free(struct nr_cells *cells)
{
	for (unsigned i = 0; i < NR_CELL_BUCKETS; i++) {
		for (struct nr_cell *cell = cells->bucket[i], *next; cell; cell = next) {
			next = cell->chain;
			remove_cell(cell);
		}
	}
	assert(cells->used == 0);
}

/* Answers. */

static bool answer_data(struct nr_cell *cell, struct nr_request *req, uint64_t from,
			uint64_t length)
{
	struct nr_cells *cells = cell->cells;
	struct nr_buffer *buffer = &cell->buffer;
	uint8_t *data = cell->data + from;

	if (cell->references == 0 && cells->pinned + cell->mapped > cells->max / 4) {
		buffer = nr_buffer_get(req->worker, length, &data);
		if (!buffer)
			return false;
		memcpy(data, cell->data + from, length);
	} else if (cell->references++ == 0) {
		cells->pinned += cell->mapped;
	}
	return nr_answer_data(req, data, length, buffer);
}

bool nr_cell_answer(struct nr_cell *cell, struct nr_request *req, uint64_t from, uint64_t length)
{
	uint64_t end = from + length;

	unlink_used(cell);
	link_newest(cell);
	while (from < end) {
		bool zero = nr_cell_grain_is_zero(cell, from / cell->grain);
		uint64_t to = from;

		do {
			to = (to / cell->grain + 1) * cell->grain;
		} while (to < end && nr_cell_grain_is_zero(cell, to / cell->grain) == zero);
		to = nr_min(to, end);
		if (!(zero ? nr_answer_hole(req, to - from)
			   : answer_data(cell, req, from, to - from)))
			return false;
		from = to;
	}
	return true;
}
