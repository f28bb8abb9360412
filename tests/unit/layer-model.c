/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The chance and the model of layer-test.h: random requests, compared with plain memory.
 */
#include <errno.h>
#include <inttypes.h>

#include "nbdring/checked.h"
#include "tests/unit/layer-test.h"

#define MAP_EXTENTS 64

/* Chance. */

uint64_t layer_random(uint64_t *state)
{
	/* splitmix64: every state is a good one. */
	uint64_t z = (*state += UINT64_C(0x9e3779b97f4a7c15));

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

uint64_t layer_random_below(uint64_t *state, uint64_t limit)
{
	LAYER_CHECK(limit > 0);
	return layer_random(state) % limit;
}

uint64_t layer_seed(uint64_t fallback)
{
	const char *text = getenv("NBDRING_TEST_SEED");
	uint64_t seed = text ? strtoull(text, NULL, 0) : fallback;

	fprintf(stderr, "NBDRING_TEST_SEED=%" PRIu64 "\n", seed);
	return seed;
}

uint64_t layer_choose(struct layer_choices *choices, uint64_t limit)
{
	uint64_t number = 0;

	if (!choices->bytes)
		return layer_random_below(&choices->seed, limit);
	LAYER_CHECK(limit > 0);
	/* As many bytes as such a number needs: one byte changed changes one choice. */
	for (uint64_t room = limit - 1; room && choices->count; room >>= 8) {
		number = number << 8 | *choices->bytes++;
		choices->count--;
	}
	return number % limit;
}

bool layer_choices_over(const struct layer_choices *choices)
{
	return choices->bytes && choices->count == 0;
}

/* The model. */

struct modelled {
	struct layer_client *c;
	const struct layer_model *model;
	uint8_t *memory, *data;
	uint64_t size;
	struct layer_choices *choices;
	uint64_t writes;
};

static uint64_t choose(struct modelled *m, uint64_t limit)
{
	return layer_choose(m->choices, limit);
}

static void model_read(struct modelled *m, uint64_t offset, uint64_t length)
{
	LAYER_CHECK(layer_read(m->c, offset, length, m->data) == 0);
	LAYER_CHECK(memcmp(m->data, m->memory + offset, length) == 0);
}

static void model_write(struct modelled *m, uint64_t offset, uint64_t length, uint32_t flags)
{
	uint64_t random = m->writes++ << 8 | choose(m, 256); /* never the same twice */

	for (uint64_t i = 0; i < length; i += sizeof(uint64_t)) {
		uint64_t bytes = layer_random(&random);

		memcpy(m->data + i, &bytes, nr_min(sizeof(bytes), length - i));
	}
	LAYER_CHECK(layer_write(m->c, offset, length, m->data, flags) == 0);
	memcpy(m->memory + offset, m->data, length);
}

static void model_zero(struct modelled *m, uint64_t offset, uint64_t length, uint32_t flags)
{
	int err;

	if (choose(m, 2))
		flags |= NR_NO_HOLE;
	if (layer_test_traits(layer_client_test(m->c))->support[NR_CAP_FAST_ZERO] != NR_NONE &&
	    choose(m, 4) == 0)
		flags |= NR_FAST_ZERO;
	err = layer_zero(m->c, offset, length, flags);
	if ((flags & NR_FAST_ZERO) && err == -ENOTSUP)
		return;
	LAYER_CHECK(err == 0);
	memset(m->memory + offset, 0, length);
}

static void model_trim(struct modelled *m, uint64_t offset, uint64_t length, uint32_t flags)
{
	LAYER_CHECK(layer_trim(m->c, offset, length, flags) == 0);
	if (m->model->trim_zeroes)
		memset(m->memory + offset, 0, length);
	else
		LAYER_CHECK(layer_read(m->c, offset, length, m->memory + offset) == 0);
}

static void model_extents(struct modelled *m, uint64_t offset, uint64_t length)
{
	struct nr_extent extent[MAP_EXTENTS];
	struct nr_extents list = {
		.extent = extent,
		.capacity = 1 + (uint32_t)choose(m, MAP_EXTENTS),
	};
	uint32_t flags = choose(m, 4) ? 0 : NR_REQ_ONE;

	LAYER_CHECK(layer_extents(m->c, offset, length, flags, &list) == 0);
	for (uint32_t i = 0; i < list.count; i++) {
		const uint8_t *from = m->memory + offset;

		if (m->model->check_extents && (list.extent[i].status & NR_EXTENT_ZERO))
			LAYER_CHECK(from[0] == 0 &&
				    !memcmp(from, from + 1, list.extent[i].length - 1));
		offset += list.extent[i].length;
	}
}

static void model_step(struct modelled *m)
{
	const struct nr_traits *traits = layer_test_traits(layer_client_test(m->c));
	uint64_t max = m->model->length_max ? m->model->length_max : 65536;
	uint64_t offset = choose(m, m->size);
	uint64_t length = 1 + choose(m, max);
	uint32_t flags = 0;

	/* Short requests and round ones find other bugs than the rest. */
	if (choose(m, 4) == 0)
		length = 1 + choose(m, 16);
	if (choose(m, 4) == 0)
		offset = nr_round_down(offset, 4096);
	length = nr_min(length, m->size - offset);
	offset = nr_round_down(offset, traits->block_min);
	length = nr_max(nr_round_down(length, traits->block_min), traits->block_min);
	if (traits->support[NR_CAP_FUA] != NR_NONE && choose(m, 4) == 0)
		flags = NR_FUA;
	switch (choose(m, 16)) {
	case 0:
		if (traits->support[NR_CAP_FLUSH] != NR_NONE)
			LAYER_CHECK(layer_flush(m->c) == 0);
		break;
	case 1:
		if (traits->support[NR_CAP_CACHE] != NR_NONE)
			LAYER_CHECK(layer_cache(m->c, offset, length) == 0);
		break;
	case 2:
	case 3:
		if (traits->support[NR_CAP_EXTENTS] != NR_NONE)
			model_extents(m, offset, length);
		break;
	case 4:
	case 5:
		if (!traits->read_only && traits->support[NR_CAP_TRIM] != NR_NONE)
			model_trim(m, offset, length, flags);
		break;
	case 6:
	case 7:
		if (!traits->read_only && traits->support[NR_CAP_ZERO] != NR_NONE)
			model_zero(m, offset, length, flags);
		break;
	case 8:
	case 9:
	case 10:
	case 11:
		if (!traits->read_only)
			model_write(m, offset, length, flags);
		break;
	default:
		model_read(m, offset, length);
		break;
	}
}

void layer_model_run(struct layer_client *c, const struct layer_model *model)
{
	struct layer_choices seeded = { .seed = model->seed };
	struct modelled m = {
		.c = c,
		.model = model,
		.size = layer_test_size(layer_client_test(c)),
		.choices = model->choices ? model->choices : &seeded,
	};

	m.memory = malloc(m.size);
	m.data = malloc(m.size);
	LAYER_CHECK(m.size > 0 && m.memory && m.data);
	/* What is there at the start is what the model starts from. */
	LAYER_CHECK(layer_read(c, 0, m.size, m.memory) == 0);
	for (unsigned i = 0; i < model->requests && !layer_choices_over(m.choices); i++)
		model_step(&m);
	model_read(&m, 0, m.size);
	free(m.memory);
	free(m.data);
}
