/* SPDX-License-Identifier: BSD-3-Clause */
#include "cache-disk.h"

#include <errno.h>

#include "filters/filters.h"
#include "filters/table.h"
#include "src/cli/words.h"

struct cache_disk cache_disk[2];

struct instance {
	uint64_t size, min;
};

static const struct nr_param params[] = {
	{ .name = "size",
	  .type = NR_PARAM_SIZE,
	  .flags = NR_PARAM_MAIN,
	  .offset = offsetof(struct instance, size),
	  .value = "SIZE",
	  .help = "size" },
	{ .name = "min",
	  .type = NR_PARAM_UINT,
	  .offset = offsetof(struct instance, min),
	  .fallback = "1",
	  .value = "BYTES",
	  .help = "block_min" },
	{ .name = NULL },
};

static struct cache_disk *disk_of(const struct nr_layer *layer)
{
	return &cache_disk[strcmp(layer->type->name, "held") == 0 ? CACHE_BELOW : CACHE_STORE];
}

static int disk_open(struct nr_layer *layer, struct nr_error *error)
{
	struct instance *i = layer->instance;
	struct cache_disk *disk = disk_of(layer);

	memset(disk, 0, sizeof(*disk));
	disk->layer = layer;
	disk->size = i->size;
	disk->memory = calloc(1, i->size);
	LAYER_CHECK(disk->memory);
	return 0;
}

static void disk_close(struct nr_layer *layer)
{
	struct cache_disk *disk = disk_of(layer);

	LAYER_CHECK(disk->held == 0 && disk->lent == 0);
	free(disk->memory);
}

static int disk_describe(struct nr_layer *layer, struct nr_traits *t, struct nr_error *error)
{
	struct instance *i = layer->instance;

	t->size = i->size;
	t->block_min = (uint32_t)i->min;
	t->block_preferred = 4096;
	t->block_max = NR_TRANSFER_MAX;
	for (unsigned k = 0; k < NR_CAP_COUNT; k++)
		t->support[k] = NR_NATIVE;
	return 0;
}

static void given_back(struct nr_buffer *buffer)
{
	struct cache_disk *disk = &cache_disk[buffer->pipe];

	LAYER_CHECK(disk->lent > 0);
	disk->lent--;
}

static void carry_out(struct nr_layer *layer, struct nr_request *req)
{
	static struct nr_buffer owners[2] = { { .release = given_back, .pipe = 0 },
					      { .release = given_back, .pipe = 1 } };
	struct cache_disk *disk = disk_of(layer);
	uint8_t *at = disk->memory + req->offset;
	int error = disk->fail[req->operation];

	if (error && disk->fail_after) {
		disk->fail_after--;
		error = 0;
	}
	if (error) {
		nr_finish(layer, req, error);
		return;
	}
	disk->count[req->operation]++;
	disk->bytes[req->operation] += req->length;
	if (req->operation == NR_READ) {
		disk->lent++;
		LAYER_CHECK(nr_answer_data(req, at, req->length, &owners[disk - cache_disk]));
	} else if (req->operation == NR_WRITE) {
		nr_request_copy_out(req, 0, req->length, at);
	} else if (req->operation == NR_ZERO ||
		   (req->operation == NR_TRIM && !disk->trims_nothing)) {
		memset(at, 0, req->length);
	} else if (req->operation == NR_EXTENTS) {
		nr_extents_add(req->extents, req->length, NR_EXTENT_HOLE | NR_EXTENT_ZERO);
	} else if (req->operation == NR_RESIZE) {
		LAYER_CHECK(req->offset <= disk->size);
		nr_layer_resized(layer, req->offset);
	}
	nr_finish(layer, req, 0);
}

static void disk_submit(struct nr_layer *layer, struct nr_request *req)
{
	struct cache_disk *disk = disk_of(layer);

	if (!disk->holds) {
		carry_out(layer, req);
		return;
	}
	LAYER_CHECK(disk->held < sizeof(disk->queue) / sizeof(disk->queue[0]));
	disk->queue[disk->held++] = req;
}

void cache_disk_let_go(struct cache_disk *disk, unsigned index)
{
	struct nr_request *req = disk->queue[index];

	LAYER_CHECK(index < disk->held);
	disk->held--;
	memmove(&disk->queue[index], &disk->queue[index + 1],
		(disk->held - index) * sizeof(struct nr_request *));
	nr_resume(disk->layer, req);
}

#define DISK(type_name)                                                                           \
	{                                                                                         \
		.abi = NR_LAYER_ABI, .name = type_name, .summary = "is held", .kind = NR_BACKEND, \
		.placement = NR_SPREAD, .params = params,                                         \
		.instance_size = sizeof(struct instance), .open = disk_open,                      \
		.describe = disk_describe, .submit = disk_submit, .resume = carry_out,            \
		.close = disk_close,                                                              \
	}

static const struct nr_layer_type held_type = DISK("held");
static const struct nr_layer_type store_type = DISK("memory");

void cache_disk_options(struct layer_options *options)
{
	static const struct nr_layer_type *const types[] = { &held_type, NULL };
	static const struct nr_layer_type *const backends[] = { &store_type, NULL };
	static const struct nr_catalog catalog = { backends, nr_filters };
	static const struct nr_surroundings surroundings = { .parse = nr_words_parse,
							     .forget = nr_words_forget };

	nr_words_set_catalog(&catalog);
	options->types = types;
	options->surroundings = &surroundings;
}
