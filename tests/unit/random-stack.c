/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Parameters are drawn so that the stack opens: whoever adds a filter here keeps track
 * of the block sizes that the layers above will see.
 */
#include "tests/unit/random-stack.h"

#include <inttypes.h>

#include "filters/filters.h"
#include "filters/table.h"
#include "nbdring/checked.h"
#include "tests/unit/filter-table.h"
#include "tests/unit/flat-disk.h"

#define FILTERS_MAX 5
#define TYPES_MAX 128
#define OPTION_TYPES_MAX 8

struct builder {
	struct layer_choices *choices;
	const struct layer_options *options;
	char plan[2048];   /* from the client down */
	uint64_t min, max; /* block sizes at the top */
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
	return UINT64_C(1) << (from + layer_choose(b->choices, to - from + 1));
}

static void add_blocksize(struct builder *b)
{
	uint64_t block = nr_max(nr_min(power(b, 0, 14), b->max), b->min);
	/* Not a power of two on purpose, and not too many pieces. */
	uint64_t data = block * (1 + layer_choose(b->choices, 20));
	char text[128];

	data = nr_max(data, nr_round_down(2048 + block - 1, block));
	if (nr_round_down(b->max, block) == 0)
		block = b->min;
	data = nr_round_down(data, block);
	snprintf(text, sizeof(text), "minblock=%" PRIu64 " maxdata=%" PRIu64 " maxlen=%" PRIu64,
		 block, data, block * (1 + layer_choose(b->choices, 64)));
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
		 b->min * layer_choose(b->choices, nr_max(4096 / b->min, 2)));
	put_on_top(b, "offset", text);
}

/* A word has up to 64 bits; whoever swaps the bytes of them all twice has the same disk. */
static void add_swab(struct builder *b)
{
	uint64_t word = power(b, 0, 3);
	char text[32];

	snprintf(text, sizeof(text), "swab-bits=%" PRIu64, 8 * word);
	put_on_top(b, "swab", text);
	b->min = nr_max(b->min, word);
}

/* Of what is there, still all zeroes; 0: it cannot be opened. */
static uint64_t size_so_far(const struct builder *b)
{
	struct nr_error error;
	struct layer_test *t = layer_test_try(b->options, &error, "%s", b->plan);
	uint64_t size = t ? layer_test_size(t) : 0;

	if (t)
		layer_test_close(t);
	return size;
}

/* As the table says, if there is enough below for it. */
static bool add_row(struct builder *b, const struct filter_row *row)
{
	uint64_t size = row->exact || row->size_min ? size_so_far(b) : 0;

	if ((row->exact && !size) || size < row->size_min)
		return false;
	put_on_top(b, filter_plan(row, size), "");
	return true;
}

/* Ranges change places: another disk, but one that keeps what is written. */
static void add_map(struct builder *b, const struct filter_row *row)
{
	uint64_t unit = nr_max(b->min, power(b, 0, 9)), from = 2 * layer_choose(b->choices, 2);
	char text[256];

	/* Halves or, of that much there is of every disk here, little ones. */
	if ((layer_choose(b->choices, 2) && add_row(b, row)) || 4 * unit > 4096)
		return;
	snprintf(text, sizeof(text),
		 "map=%" PRIu64 "+%" PRIu64 ":%" PRIu64 " map=%" PRIu64 "+%" PRIu64 ":%" PRIu64,
		 from * unit, unit, (from + 1) * unit, (from + 1) * unit, unit, from * unit);
	put_on_top(b, "map", text);
}

/* One of its modes. */
static const struct filter_row *choose_row(struct builder *b, const char *name)
{
	const struct filter_row *row, *chosen = filter_row(name);
	unsigned count = 0;

	for (size_t i = 0; (row = filter_row_at(i)); i++)
		count += strcmp(row->name, name) == 0;
	count = (unsigned)layer_choose(b->choices, count);
	for (size_t i = 0; (row = filter_row_at(i)); i++)
		if (strcmp(row->name, name) == 0 && count-- == 0)
			chosen = row;
	return chosen;
}

static void add_filter(struct builder *b, const char *name)
{
	const struct filter_row *row = choose_row(b, name);

	if (strcmp(name, "blocksize") == 0)
		add_blocksize(b);
	else if (strcmp(name, "blocksize-policy") == 0)
		add_policy(b);
	else if (strcmp(name, "offset") == 0)
		add_offset(b);
	else if (strcmp(name, "swab") == 0)
		add_swab(b);
	else if (strcmp(name, "map") == 0)
		add_map(b, row);
	else
		(void)add_row(b, row); /* else there is nothing at this place */
}

/* The same disk, but made of others. */
static void compose_memory(struct builder *b, uint64_t size)
{
	uint64_t chunk = power(b, 9, 15), third = nr_round_down(size / 3, 65536);
	char text[256];

	switch (layer_choose(b->choices, 3)) {
	case 0:
		snprintf(text, sizeof(text),
			 "chunk=%" PRIu64 " leg='memory %" PRIu64
			 "' leg='--filter=short memory %" PRIu64 " window=20us'",
			 chunk, size / 2, size / 2);
		put_on_top(b, "stripe", text);
		break;
	case 1:
		snprintf(text, sizeof(text),
			 "leg='memory %" PRIu64 "' leg='--filter=short memory %" PRIu64
			 " window=20us' leg='memory %" PRIu64 "'",
			 third + 1, third, size - 2 * third - 1);
		put_on_top(b, "concat", text);
		break;
	default:
		snprintf(text, sizeof(text),
			 "leg='memory %" PRIu64 "' leg='--filter=short memory %" PRIu64
			 " window=20us'",
			 size, size);
		put_on_top(b, "mirror", text);
		break;
	}
}

static void add_memory(struct builder *b)
{
	char text[64];
	uint64_t size;

	size = 131072 + layer_choose(b->choices, 3) * 65536 +
	       layer_choose(b->choices, 2) * layer_choose(b->choices, 65536);
	if (size >= 3 * 65536 && layer_choose(b->choices, 3) == 2) {
		compose_memory(b, size);
	} else {
		snprintf(text, sizeof(text), "%" PRIu64, size);
		put_on_top(b, "memory", text);
	}
	b->min = 1;
	b->max = NR_TRANSFER_MAX;
}

/* Mostly small, so that a stack costs little, and of any kind. */
static void add_flat(struct builder *b)
{
	static const uint64_t cuts[] = { 0, 16, 512, 4096 };
	uint64_t size = layer_choose(b->choices, 8) == 1 ? 139264 : 8192;
	char text[128];

	b->min = layer_choose(b->choices, 2) ? 1 : power(b, 0, 12);
	b->max = b->min << layer_choose(b->choices, 21);
	b->max = nr_min(nr_max(b->max, 512), NR_TRANSFER_MAX);
	snprintf(text, sizeof(text),
		 "size=%" PRIu64 " min=%" PRIu64 " max=%" PRIu64 " cut=%" PRIu64 " have=%" PRIu64,
		 nr_round_down(size + layer_choose(b->choices, 16384), b->min), b->min, b->max,
		 cuts[layer_choose(b->choices, 4)], layer_choose(b->choices, 6561));
	put_on_top(b, "flat", text);
}

static void build(struct builder *b, enum random_bottom bottom)
{
	const char *names[TYPES_MAX];
	unsigned count = 0, filters;

	for (const struct nr_layer_type *const *type = nr_filters; *type; type++)
		if (filter_row((*type)->name)->effect == TRANSPARENT && count < TYPES_MAX)
			names[count++] = (*type)->name;
	if (bottom == RANDOM_OVER_MEMORY)
		add_memory(b);
	else
		add_flat(b);
	filters = 1 + (unsigned)layer_choose(b->choices, FILTERS_MAX);
	for (unsigned i = 0; i < filters; i++)
		add_filter(b, names[layer_choose(b->choices, count)]);
}

/* TYPES with the disk that the fuzzer draws, in place of those of OPTIONS. */
static void add_type(struct layer_options *options, const struct nr_layer_type **types)
{
	unsigned count = 0;

	for (; options->types[count]; count++) {
		LAYER_CHECK(count + 2 < OPTION_TYPES_MAX);
		types[count] = options->types[count];
	}
	types[count++] = &flat_disk_type;
	types[count] = NULL;
	options->types = types;
}

void random_stack_run(struct layer_choices *choices, enum random_bottom bottom, FILE *say)
{
	static const uint64_t segment_bytes[] = { 0, 0, 1, 512, 1000, 4096, 5000 };
	const struct nr_layer_type *types[OPTION_TYPES_MAX];
	struct layer_options options = { 0 };
	struct builder b = { .choices = choices, .options = &options };
	struct layer_model model = { .choices = choices, .requests = 100, .check_extents = true };
	struct nr_error error;
	struct layer_test *t;

	filter_table_options(&options);
	options.ring = false; /* nothing here does I/O, and a ring takes longer than all of this */
	add_type(&options, types);
	build(&b, bottom);
	options.segment_bytes = segment_bytes[layer_choose(choices, 7)];
	model.length_max = bottom == RANDOM_OVER_MEMORY ? power(&b, 9, 17) : power(&b, 4, 13);
	if (say)
		fprintf(say, "%s\n", b.plan);
	t = layer_test_try(&options, &error, "%s", b.plan);
	if (!t && (say || bottom == RANDOM_OVER_MEMORY))
		fprintf(stderr, "%s: %s\n", b.plan, error.text);
	/* So little may be left of a small disk that an offset lies behind its end. */
	LAYER_CHECK(t || bottom == RANDOM_OVER_FLAT);
	/* Sizes were rounded down on the way up, perhaps to nothing that fits a request. */
	if (t && layer_test_size(t) >= layer_test_traits(t)->block_min)
		layer_model_run(layer_client(t, 0), &model);
	if (t)
		layer_test_close(t);
	filter_table_clear();
}
