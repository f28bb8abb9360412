/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Fuzz target: a compressed file's bytes into the filters that unpack it.
 *
 * Byte 0 chooses the format, byte 1 how the disk below is read (block size, pieces of an
 * answer, a read that fails) and how small the cache is; the rest is the file.  If it
 * opens, reads all over it either give as many bytes as were asked for, the same every
 * time, or fail.  What comes out is bounded by what is asked for, whatever the file says.
 * What the map calls zeroes are zeroes, before it was read and after.
 */
#include <errno.h>
#include <stdio.h>

#include "filters/table.h"
#include "nbdring/checked.h"
#include "tests/fuzz/fuzz.h"
#include "tests/unit/layer-test.h"

#define READS 12u
#define READ_BYTES 100000u

/* The file: what an input has, in a disk of whole blocks. */
struct bytes {
	uint8_t *data;
	size_t size; /* with zeroes behind, up to a multiple of the block size */
	uint32_t block;
	uint32_t piece;   /* bytes of a segment; 0: all */
	unsigned reads;   /* so far */
	unsigned fail_at; /* that read fails; 0: none */
};

static struct bytes file;

static int bytes_describe(struct nr_layer *layer, struct nr_traits *t, struct nr_error *error)
{
	t->size = file.size;
	t->block_min = file.block;
	t->block_preferred = 4096;
	t->read_only = true;
	return 0;
}

static void no_release(struct nr_buffer *buffer)
{
}

static void bytes_submit(struct nr_layer *layer, struct nr_request *req)
{
	static struct nr_buffer owner = { .release = no_release };
	uint64_t step = file.piece ? file.piece : req->length;
	bool ok = true;

	assert(req->operation == NR_READ);
	if (++file.reads == file.fail_at) {
		nr_finish(layer, req, -EIO);
		return;
	}
	for (uint64_t at = 0; at < req->length && ok; at += step)
		ok = nr_answer_data(req, file.data + req->offset + at,
				    nr_min(step, req->length - at), &owner);
	nr_finish(layer, req, ok ? 0 : -ENOMEM);
}

static const struct nr_layer_type bytes_type = {
	.abi = NR_LAYER_ABI,
	.name = "bytes",
	.summary = "has an input",
	.kind = NR_BACKEND,
	.placement = NR_SPREAD,
	.describe = bytes_describe,
	.submit = bytes_submit,
};

static void set_file(uint8_t how, const uint8_t *data, size_t size)
{
	static const uint32_t blocks[] = { 1, 512, 1, 4096 };
	static const uint32_t pieces[] = { 0, 4096, 61, 7 };
	uint64_t whole;

	memset(&file, 0, sizeof(file));
	file.block = blocks[how & 3];
	file.piece = size < 2048 ? pieces[how >> 2 & 3] : 0;
	file.fail_at = how & 16 ? 1 + (how >> 5) : 0;
	if (!nr_round_up(size, file.block, &whole))
		abort();
	file.size = whole;
	file.data = calloc(1, whole ? whole : 1);
	assert(file.data);
	memcpy(file.data, data, size);
}

/* Bytes of [OFFSET, OFFSET + LENGTH) that are zeroes by the map, as a list of them. */
static void ask(struct layer_client *c, uint64_t offset, uint64_t length, struct nr_extents *list)
{
	assert(layer_extents(c, offset, length, 0, list) == 0);
	assert(list->count > 0);
	assert(list->next > offset);
}

static void check_zeroes(const struct nr_extents *list, const uint8_t *data, uint64_t length)
{
	uint64_t at = 0;

	for (uint32_t i = 0; i < list->count; i++) {
		uint64_t end = nr_min(length, at + list->extent[i].length);

		for (; at < end; at++)
			assert(list->extent[i].status == 0 || data[at] == 0);
	}
}

/* Twice the same, also after what lies between has been read. */
static void read_all_over(struct layer_test *t)
{
	static uint8_t first[READ_BYTES], again[READ_BYTES];
	struct layer_client *c = layer_client(t, 0);
	uint64_t size = layer_test_size(t), seed = size;

	for (unsigned i = 0; i < READS && size > 0; i++) {
		uint64_t offset = i == 0 ? 0 : i == 1 ? size - 1 : layer_random_below(&seed, size);
		uint64_t length = nr_min(READ_BYTES, size - offset);
		struct nr_extent extent[2][4];
		struct nr_extents before = { .extent = extent[0], .capacity = 4 };
		struct nr_extents after = { .extent = extent[1], .capacity = 4 };
		int err;

		ask(c, offset, length, &before);
		err = layer_read(c, offset, length, first);
		assert(err == 0 || err == -EIO || err == -ENOMEM);
		ask(c, offset, length, &after);
		if (!err) {
			check_zeroes(&before, first, length);
			check_zeroes(&after, first, length);
		}
		(void)layer_read(c, offset / 2, nr_min(READ_BYTES, size - offset / 2), again);
		if (err || layer_read(c, offset, length, again))
			continue;
		assert(memcmp(first, again, length) == 0);
	}
}

/* What the first word of PLAN names may not be built in. */
static bool is_there(const char *plan)
{
	for (const struct nr_layer_type *const *type = nr_filters; *type; type++)
		if (strncmp((*type)->name, plan, strcspn(plan, " ")) == 0)
			return true;
	return false;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char *const plans[] = {
		"xz xz-max-block=64k xz-max-depth=8 | bytes",
		"gzip gzip-max-size=64M | bytes",
		"zstd zstd-max-block=64k zstd-max-depth=8 zstd-max-size=64M | bytes",
		"lz4 lz4-max-size=64M | bytes",
		"bzip2 bzip2-max-size=64M | bytes",
	};
	static const struct nr_layer_type *const types[] = { &bytes_type, NULL };
	struct layer_options options = { .types = types };
	struct nr_error error = { 0 };
	const char *plan;
	struct layer_test *t;

	if (size < 2)
		return 0;
	plan = plans[data[0] % (sizeof(plans) / sizeof(plans[0]))];
	if (!is_there(plan))
		return 0;
	set_file(data[1], data + 2, size - 2);
	t = layer_test_try(&options, &error, "%s", plan);
	if (t) {
		read_all_over(t);
		layer_test_close(t);
	} else {
		fuzz_check_error(&error);
	}
	free(file.data);
	return 0;
}
