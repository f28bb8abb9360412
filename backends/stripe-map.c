/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The map of a striped disk: what the legs say of their ranges is dealt out chunk by
 * chunk, as the chunks lie on the disk.
 *
 * Where all legs say the same of many chunks, which is what large holes look like, whole
 * rows are taken at once; where they do not, no more than STEPS_MAX chunks are looked at.
 * A map may end early (extent.h), and it does where the list of one leg ends.
 */
#include "backends/stripe.h"
#include "nbdring/checked.h"

#define STEPS_MAX 4096u
#define EXTENTS_MAX 256u /* of one leg */

/* In the memory of a fan, one for each child, in their order. */
struct leg_map {
	struct nr_extents list;
	uint32_t at;   /* the extent that is dealt out */
	uint64_t left; /* of it, bytes */
	struct nr_extent extent[];
};

static size_t map_bytes(uint32_t capacity)
{
	return sizeof(struct leg_map) + capacity * sizeof(struct nr_extent);
}

static uint32_t capacity_of(const struct nr_fan *fan)
{
	uint64_t room = NR_TRANSFER_MAX / 4 / fan->count - sizeof(struct leg_map);

	return (uint32_t)nr_min(room / sizeof(struct nr_extent), EXTENTS_MAX);
}

bool nr_stripe_map_prepare(struct nr_fan *fan, struct nr_request *req)
{
	struct nr_request *child = fan->first;
	uint32_t capacity = capacity_of(fan);
	uint8_t *memory;

	fan->memory = nr_buffer_get(req->worker, fan->count * map_bytes(capacity), &memory);
	if (!fan->memory)
		return false;
	for (unsigned i = 0; i < fan->count; i++, child = nr_fan_next(child)) {
		struct leg_map *map = (struct leg_map *)(void *)memory;

		memory += map_bytes(capacity);
		map->at = 0;
		map->list = (struct nr_extents){ .start = child->offset,
						 .next = child->offset,
						 .end = child->offset + child->length,
						 .capacity = capacity,
						 .extent = map->extent };
		child->extents = &map->list;
		child->flags = 0;
	}
	return true;
}

/* It is the first member. */
static struct leg_map *map_of(const struct nr_request *child)
{
	return (struct leg_map *)child->extents;
}

static void start(struct nr_fan *fan)
{
	struct nr_request *child = fan->first;

	for (unsigned i = 0; i < fan->count; i++, child = nr_fan_next(child)) {
		struct leg_map *map = map_of(child);

		map->left = map->list.count ? map->extent[0].length : 0;
	}
}

static uint64_t status(const struct leg_map *map)
{
	return map->extent[map->at].status;
}

static void deal(struct leg_map *map, uint64_t length)
{
	map->left -= length;
	if (map->left == 0 && ++map->at < map->list.count)
		map->left = map->extent[map->at].length;
}

/* Of LENGTH bytes of one leg.  False: the list of REQ is full, or MAP at its end. */
static bool deal_chunk(struct leg_map *map, struct nr_request *req, uint64_t length)
{
	while (length && map->left) {
		uint64_t part = nr_min(length, map->left);

		if (!nr_extents_add(req->extents, part, status(map)))
			return false;
		deal(map, part);
		length -= part;
	}
	return length == 0;
}

/* How many whole rows from here on all legs say the same of, if it is more than one. */
static uint64_t equal_rows(const struct nr_stripe *stripe, const struct nr_fan *fan,
			   const struct nr_extents *list)
{
	uint64_t rows = ((list->end - list->next) >> stripe->shift) / stripe->legs.count;
	const struct nr_request *child = fan->first;
	uint64_t first = 0;

	if (fan->count != stripe->legs.count || list->next & (stripe->chunk - 1))
		return 0;
	for (unsigned i = 0; i < fan->count && rows > 1; i++, child = nr_fan_next(child)) {
		const struct leg_map *map = map_of(child);

		if (!map->left)
			return 0;
		if (i == 0)
			first = status(map);
		if (status(map) != first)
			return 0;
		rows = nr_min(rows, map->left >> stripe->shift);
	}
	return rows > 1 ? rows : 0;
}

/* False: the list of REQ is full. */
static bool deal_rows(const struct nr_stripe *stripe, struct nr_fan *fan, struct nr_request *req,
		      uint64_t rows)
{
	struct nr_request *child = fan->first;
	uint64_t each = rows << stripe->shift;

	if (!nr_extents_add(req->extents, each * stripe->legs.count, status(map_of(child))))
		return false;
	for (unsigned i = 0; i < fan->count; i++, child = nr_fan_next(child))
		deal(map_of(child), each);
	return true;
}

void nr_stripe_map_merge(const struct nr_stripe *stripe, struct nr_fan *fan, struct nr_request *req)
{
	struct nr_extents *list = req->extents;
	struct nr_request *child = fan->first;
	bool more = true;

	start(fan);
	for (unsigned steps = 0; more && steps < STEPS_MAX; steps++) {
		uint64_t rows = equal_rows(stripe, fan, list);

		if (rows) {
			more = deal_rows(stripe, fan, req, rows);
		} else {
			more = deal_chunk(map_of(child), req,
					  nr_stripe_part(stripe, list->next, list->end));
			child = nr_fan_next(child);
		}
	}
}
