/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Stacks that nobody thought of: filters drawn by lot, with parameters drawn by
 * lot, over memory, and random requests through all of it, which must do what plain
 * memory does.
 *
 * Each stack has a seed, printed before it is used.  NBDRING_TEST_SEED=that makes
 * the same stack, and the same requests, the first of the run.
 * NBDRING_TEST_SECONDS is how long it goes on (3).
 */
#include "layer-test.h"

#include <inttypes.h>
#include <setjmp.h>
#include <time.h>

#include <cmocka.h>

#include "filter-table.h"
#include "filters/filters.h"
#include "filters/table.h"
#include "nbdring/checked.h"

#define FILTERS_MAX 5
#define TYPES_MAX 128

struct builder {
	uint64_t random;
	char plan[2048];   /* from the client down */
	uint64_t min, max; /* block sizes at the top */
	uint64_t size;     /* of what is there; 0: not known exactly */
};

/* "NAME PARAMETERS | " in front of what is there. */
static void put_on_top(struct builder *b, const char *name, const char *parameters)
{
	char below[sizeof(b->plan)];

	memcpy(below, b->plan, sizeof(below));
	LAYER_CHECK((size_t)snprintf(b->plan, sizeof(b->plan), "%s %s%s%s", name, parameters,
				     below[0] ? " | " : "", below) < sizeof(b->plan));
}

static uint64_t power(struct builder *b, unsigned from, unsigned to)
{
	return UINT64_C(1) << (from + layer_random_below(&b->random, to - from + 1));
}

static void add_blocksize(struct builder *b)
{
	uint64_t block = nr_max(nr_min(power(b, 0, 14), b->max), b->min);
	/* Not a power of two on purpose, and not too many pieces. */
	uint64_t data = block * (1 + layer_random_below(&b->random, 20));
	char text[128];

	data = nr_max(data, nr_round_down(2048 + block - 1, block));
	if (nr_round_down(b->max, block) == 0)
		block = b->min;
	data = nr_round_down(data, block);
	snprintf(text, sizeof(text), "minblock=%" PRIu64 " maxdata=%" PRIu64 " maxlen=%" PRIu64,
		 block, data, block * (1 + layer_random_below(&b->random, 64)));
	put_on_top(b, "blocksize", text);
	b->min = 1;
	b->max = NR_TRANSFER_MAX;
}

static void add_policy(struct builder *b)
{
	uint64_t min = nr_max(power(b, 0, 13), b->min);
	char text[128];

	if (min > b->max)
		min = b->min;
	snprintf(text, sizeof(text),
		 "blocksize-minimum=%" PRIu64 " blocksize-maximum=%" PRIu64
		 " blocksize-preferred=512",
		 min, nr_max(min * 16, 512));
	if (min > 512)
		*strstr(text, " blocksize-preferred") = '\0';
	put_on_top(b, "blocksize-policy", text);
	b->max = nr_round_down(nr_min(b->max, nr_max(min * 16, 512)), min);
	b->min = min;
}

static void add_offset(struct builder *b)
{
	char text[64];

	snprintf(text, sizeof(text), "offset=%" PRIu64,
		 b->min * layer_random_below(&b->random, nr_max(4096 / b->min, 2)));
	put_on_top(b, "offset", text);
}

static void add_filter(struct builder *b, const char *name)
{
	const struct filter_row *row = filter_row(name);

	/* Another one, then, at this place. */
	if (row->exact && !b->size)
		return;
	if (strcmp(name, "blocksize") == 0)
		add_blocksize(b);
	else if (strcmp(name, "blocksize-policy") == 0)
		add_policy(b);
	else if (strcmp(name, "offset") == 0)
		add_offset(b);
	else
		put_on_top(b, filter_plan(row, b->size), "");
	b->size = 0;
}

static void build(struct builder *b)
{
	const char *names[TYPES_MAX];
	char size[32];
	unsigned count = 0, filters;

	for (const struct nr_layer_type *const *type = nr_filters; *type; type++)
		if (filter_row((*type)->name)->effect == TRANSPARENT && count < TYPES_MAX)
			names[count++] = (*type)->name;
	b->size = 131072 + layer_random_below(&b->random, 3) * 65536 +
		  layer_random_below(&b->random, 2) * layer_random_below(&b->random, 65536);
	snprintf(size, sizeof(size), "%" PRIu64, b->size);
	put_on_top(b, "memory", size);
	b->min = 1;
	b->max = NR_TRANSFER_MAX;
	filters = 1 + (unsigned)layer_random_below(&b->random, FILTERS_MAX);
	for (unsigned i = 0; i < filters; i++)
		add_filter(b, names[layer_random_below(&b->random, count)]);
}

static void run_stack(uint64_t seed)
{
	static const uint64_t segment_bytes[] = { 0, 0, 1, 512, 1000, 4096, 5000 };
	struct builder b = { .random = seed };
	struct layer_options options = { 0 };
	struct layer_model model = { .requests = 100, .check_extents = true };
	struct layer_test *t;

	filter_table_options(&options);
	options.ring = false; /* nothing here does I/O, and a ring takes longer than all of this */
	build(&b);
	options.segment_bytes = segment_bytes[layer_random_below(&b.random, 7)];
	model.length_max = power(&b, 9, 17);
	model.seed = layer_random(&b.random);
	fprintf(stderr, "NBDRING_TEST_SEED=%" PRIu64 " %s\n", seed, b.plan);
	t = layer_test_open(&options, "%s", b.plan);
	/* Sizes were rounded down on the way up, perhaps to nothing that fits a request. */
	if (layer_test_size(t) >= 65536)
		layer_model_run(layer_client(t, 0), &model);
	layer_test_close(t);
}

static double seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void test_random_stacks_are_plain_memory(void **state)
{
	const char *text = getenv("NBDRING_TEST_SECONDS");
	double end = seconds() + (text ? strtod(text, NULL) : 3);
	uint64_t seed = layer_seed((uint64_t)time(NULL) * 1000000);

	do {
		run_stack(seed++);
	} while (seconds() < end);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_random_stacks_are_plain_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
