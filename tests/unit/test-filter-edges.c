/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The edges of the disk are the same through every filter: requests of no bytes, of
 * one, of the last, across the end, beyond it and around 2^63, of every kind, go
 * through each filter of the table, and come back as they do without it.
 */
#include "layer-test.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <setjmp.h>
#include <unistd.h>

#include <cmocka.h>

#include "filter-table.h"
#include "filters/filters.h"
#include "filters/table.h"

#define SIZE UINT64_C(1048576)
#define WRITE_MAX 65536u

/* Where, counted from the size: TIMES * size + OFFSET. */
static const struct {
	unsigned times;
	uint64_t offset, length;
} edges[] = {
	{ 0, 0, 0 },
	{ 0, 1, 0 },
	{ 1, 0, 0 },
	{ 0, 0, 1 },
	{ 0, 1, 1 },
	{ 1, -UINT64_C(1), 1 },
	{ 1, -UINT64_C(2), 2 },
	{ 1, -UINT64_C(1), 2 },
	{ 1, -UINT64_C(512), 512 },
	{ 1, -UINT64_C(512), 513 },
	{ 1, -UINT64_C(5000), 5000 },
	{ 1, -UINT64_C(4096), 8192 },
	{ 1, 0, 1 },
	{ 1, 0, 4096 },
	{ 1, 1, 1 },
	{ 2, 0, 1 },
	{ 0, INT64_MAX, 1 },
	{ 0, INT64_MAX, 2 },
	{ 0, INT64_MAX - 1, 1 },
	{ 0, UINT64_C(1) << 63, 1 },
	{ 0, UINT64_MAX, 1 },
	{ 0, UINT64_MAX, 2 },
	{ 0, UINT64_MAX - 4095, 4096 },
	{ 0, 0, UINT64_C(1) << 63 },
	{ 0, 0, INT64_MAX },
	{ 0, 1, INT64_MAX },
	{ 0, 0, UINT64_MAX },
	{ 0, 1, UINT64_MAX },
	{ 0, UINT64_C(1) << 62, UINT64_C(3) << 62 },
};

/* A row per kind of request. */
static const struct kind {
	const char *name;
	enum nr_operation operation;
	int needs; /* enum nr_capability, -1: none */
	uint32_t flags;
} kinds[] = {
	{ "read", NR_READ, -1, 0 },
	{ "write", NR_WRITE, -1, 0 },
	{ "write fua", NR_WRITE, NR_CAP_FUA, NR_FUA },
	{ "zero", NR_ZERO, NR_CAP_ZERO, 0 },
	{ "zero no-hole", NR_ZERO, NR_CAP_ZERO, NR_NO_HOLE },
	{ "cache", NR_CACHE, NR_CAP_CACHE, 0 },
	{ "extents", NR_EXTENTS, NR_CAP_EXTENTS, 0 },
	{ "one extent", NR_EXTENTS, NR_CAP_EXTENTS, NR_REQ_ONE },
	/* The last two may leave the disks different. */
	{ "fast zero", NR_ZERO, NR_CAP_FAST_ZERO, NR_FAST_ZERO },
	{ "trim", NR_TRIM, NR_CAP_TRIM, 0 },
};

static uint8_t pattern[WRITE_MAX];

static bool offers(struct layer_test *t, const struct kind *kind)
{
	const struct nr_traits *traits = layer_test_traits(t);

	if (traits->read_only && kind->operation != NR_READ && kind->operation != NR_CACHE &&
	    kind->operation != NR_EXTENTS)
		return false;
	return kind->needs < 0 || traits->support[kind->needs] != NR_NONE;
}

static int send_one(struct layer_test *t, const struct kind *kind, uint64_t offset, uint64_t length)
{
	struct layer_client *c = layer_client(t, 0);
	struct nr_extent extent[64];
	struct nr_extents list = { .extent = extent, .capacity = 64 };
	struct nr_request *req = layer_start(c, kind->operation, kind->flags, offset, length,
					     pattern, kind->operation == NR_EXTENTS ? &list : NULL);
	int err = layer_wait(c, req);

	LAYER_CHECK(err <= 0);
	LAYER_CHECK(req->offset == offset && req->length == length);
	LAYER_CHECK(req->operation == kind->operation && req->flags == kind->flags);
	if (!err && kind->operation == NR_EXTENTS)
		LAYER_CHECK(list.count > 0 && list.next > offset && list.next <= offset + length);
	layer_end(c, req);
	return err;
}

static void same_bytes(struct layer_test *a, struct layer_test *b, uint64_t size)
{
	uint8_t *one = malloc(size + 1), *other = malloc(size + 1);

	assert_true(one && other);
	assert_int_equal(layer_read(layer_client(a, 0), 0, size, one), 0);
	assert_int_equal(layer_read(layer_client(b, 0), 0, size, other), 0);
	assert_memory_equal(one, other, size);
	free(one);
	free(other);
}

static void compare(const struct filter_row *row, struct layer_test *filtered,
		    struct layer_test *bare)
{
	const char *name = row->name;
	uint64_t size = layer_test_size(filtered);

	assert_int_equal(layer_test_size(bare), size);
	for (size_t k = 0; k < sizeof(kinds) / sizeof(kinds[0]); k++) {
		const struct kind *kind = &kinds[k];
		/* What only one of them can do would leave them different. */
		bool both = offers(filtered, kind) && offers(bare, kind);

		for (size_t e = 0; e < sizeof(edges) / sizeof(edges[0]); e++) {
			uint64_t offset = edges[e].times * size + edges[e].offset;
			uint64_t length = edges[e].length;
			int with, without;

			/* The server refuses such payloads before it reads them. */
			if (kind->operation == NR_WRITE && length > WRITE_MAX)
				continue;
			/* The server refuses what is not offered. */
			if (!offers(filtered, kind))
				continue;
			with = send_one(filtered, kind, offset, length);
			if (length == 0 && with == 0)
				fail_msg("%s: %s of no bytes went well", name, kind->name);
			if (!both || row->effect == UNTRUTHFUL)
				continue;
			without = send_one(bare, kind, offset, length);
			/* A filter may find that it would not be fast. */
			if (kind->needs == NR_CAP_FAST_ZERO &&
			    (with == -ENOTSUP || without == -ENOTSUP))
				continue;
			if (with != without)
				fail_msg("%s: %s at %" PRIu64 ", %" PRIu64
					 " bytes: error %d, without the filter %d",
					 name, kind->name, offset, length, with, without);
		}
		if (row->effect == TRANSPARENT && both && kind->operation != NR_TRIM &&
		    kind->needs != NR_CAP_FAST_ZERO)
			same_bytes(filtered, bare, size);
	}
}

/* Each filter over BACKEND, against BACKEND alone or, where sizes differ, memory. */
static void each_filter(const struct layer_options *options, const char *prepare(unsigned))
{
	for (const struct nr_layer_type *const *type = nr_filters; *type; type++) {
		const struct filter_row *row = filter_row((*type)->name);
		struct layer_test *filtered, *bare;

		if (row->effect == SKIPPED)
			continue;
		fprintf(stderr, "%s\n", row->name);
		filtered = layer_test_open(options, "%s %s | %s", row->name, row->parameters,
					   prepare(0));
		bare = layer_test_open(options, "%s", prepare(1));
		if (layer_test_size(bare) != layer_test_size(filtered)) {
			layer_test_close(bare);
			bare = layer_test_open(options, "memory %" PRIu64,
					       layer_test_size(filtered));
		}
		compare(row, filtered, bare);
		layer_test_close(filtered);
		layer_test_close(bare);
	}
}

static const char *memory(unsigned which)
{
	return "memory 1M";
}

static void test_every_filter_over_memory(void **state)
{
	const struct layer_options options = { .ring = true, .aligner = &nr_blocksize_type };

	each_filter(&options, memory);
}

static const char *odd_memory(unsigned which)
{
	return "memory 1048577";
}

static void test_every_filter_over_memory_of_an_odd_size(void **state)
{
	const struct layer_options options = { .ring = true, .aligner = &nr_blocksize_type };

	each_filter(&options, odd_memory);
}

static const char *huge_memory(unsigned which)
{
	return "memory 9223372036854775807";
}

/* The size is 2^63-1: offsets that were beyond the end are the end now. */
static void test_every_filter_over_the_largest_disk(void **state)
{
	const struct layer_options options = { .ring = true, .aligner = &nr_blocksize_type };
	static const struct kind kind = { "read", NR_READ, -1, 0 };

	for (const struct nr_layer_type *const *type = nr_filters; *type; type++) {
		const struct filter_row *row = filter_row((*type)->name);
		struct layer_test *t;
		uint64_t size;

		if (row->effect != TRANSPARENT)
			continue;
		fprintf(stderr, "%s\n", row->name);
		t = layer_test_open(&options, "%s %s | %s", row->name, row->parameters,
				    huge_memory(0));
		size = layer_test_size(t);
		assert_true(size > INT64_MAX - 65536);
		assert_int_equal(send_one(t, &kind, size - 1, 1), 0);
		assert_int_equal(send_one(t, &kind, size - 65536, 65536), 0);
		assert_int_equal(send_one(t, &kind, size - 1, 2), -EINVAL);
		assert_int_equal(send_one(t, &kind, size, 1), -EINVAL);
		assert_int_equal(send_one(t, &kind, UINT64_C(1) << 63, 1), -EINVAL);
		for (size_t k = 0; k < sizeof(kinds) / sizeof(kinds[0]); k++) {
			if (!offers(t, &kinds[k]))
				continue;
			/* Not all of it: a filter may be told to cut this. */
			if (kinds[k].operation == NR_TRIM)
				assert_int_equal(send_one(t, &kinds[k], size - (1 << 30), 1 << 30),
						 0);
			if (kinds[k].operation == NR_EXTENTS)
				assert_int_equal(send_one(t, &kinds[k], 1, size - 1), 0);
			if (kinds[k].needs != NR_CAP_FAST_ZERO)
				assert_int_equal(send_one(t, &kinds[k], size - 1, 1), 0);
		}
		layer_test_close(t);
	}
}

static const char *const files[] = { "test-filter-edges.0", "test-filter-edges.1" };

static const char *direct_file(unsigned which)
{
	static char plan[2][64];
	int fd = open(files[which], O_RDWR | O_CREAT | O_TRUNC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, SIZE), 0);
	close(fd);
	snprintf(plan[which], sizeof(plan[which]), "file %s cache=none", files[which]);
	return plan[which];
}

static void test_every_filter_over_a_direct_file(void **state)
{
	const struct layer_options options = { .ring = true, .aligner = &nr_blocksize_type };
	int fd = open(files[0], O_RDWR | O_CREAT | O_DIRECT, 0600);

	if (fd < 0)
		skip();
	close(fd);
	each_filter(&options, direct_file);
	unlink(files[0]);
	unlink(files[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_filter_over_memory),
		cmocka_unit_test(test_every_filter_over_memory_of_an_odd_size),
		cmocka_unit_test(test_every_filter_over_the_largest_disk),
		cmocka_unit_test(test_every_filter_over_a_direct_file),
	};

	memset(pattern, 0x5a, sizeof(pattern));
	return cmocka_run_group_tests(tests, NULL, NULL);
}
