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

static bool changes(const struct kind *kind)
{
	return kind->operation == NR_WRITE || kind->operation == NR_ZERO ||
	       kind->operation == NR_TRIM;
}

/* One kind of request at every edge, which comes back from both with the same error. */
static void compare_kind(const struct filter_row *row, const struct kind *kind,
			 struct layer_test *filtered, struct layer_test *bare)
{
	uint64_t size = layer_test_size(filtered);
	/* What only one of them can do would leave them different. */
	bool both = offers(filtered, kind) && offers(bare, kind) &&
		    !(row->effect == REFUSES && changes(kind));

	/* The server refuses what is not offered. */
	if (!offers(filtered, kind))
		return;
	for (size_t e = 0; e < sizeof(edges) / sizeof(edges[0]); e++) {
		uint64_t offset = edges[e].times * size + edges[e].offset;
		uint64_t length = edges[e].length;
		int with, without;

		/* The server refuses such payloads before it reads them. */
		if (kind->operation == NR_WRITE && length > WRITE_MAX)
			continue;
		with = send_one(filtered, kind, offset, length);
		if (length == 0 && with == 0)
			fail_msg("%s: %s of no bytes went well", row->name, kind->name);
		if (!both)
			continue;
		without = send_one(bare, kind, offset, length);
		/* A filter may find that it would not be fast. */
		if (kind->needs == NR_CAP_FAST_ZERO && (with == -ENOTSUP || without == -ENOTSUP))
			continue;
		if (with != without)
			fail_msg("%s: %s at %" PRIu64 ", %" PRIu64
				 " bytes: error %d, without the filter %d",
				 row->name, kind->name, offset, length, with, without);
	}
	/* The last two kinds may leave the disks different. */
	if (both && kind->operation != NR_TRIM && kind->needs != NR_CAP_FAST_ZERO)
		same_bytes(filtered, bare, size);
}

static void compare(const struct filter_row *row, struct layer_test *filtered,
		    struct layer_test *bare)
{
	assert_int_equal(layer_test_size(bare), layer_test_size(filtered));
	for (size_t k = 0; k < sizeof(kinds) / sizeof(kinds[0]); k++)
		compare_kind(row, &kinds[k], filtered, bare);
}

/* A disk of SIZE bytes as text; WHICH tells disks apart that are there together. */
typedef const char *make_disk(unsigned which, uint64_t size);

/* Each filter over a disk, against the same kind of disk alone. */
static void each_filter(make_disk *disk, uint64_t size)
{
	struct layer_options options = { 0 };

	filter_table_options(&options);
	for (const struct nr_layer_type *const *type = nr_filters; *type; type++) {
		const struct filter_row *row = filter_row((*type)->name);
		struct layer_test *filtered, *bare;

		if (row->effect == APART)
			continue;
		fprintf(stderr, "%s\n", row->name);
		filtered =
			layer_test_open(&options, "%s | %s", filter_plan(row, size), disk(0, size));
		bare = layer_test_open(&options, "%s", disk(1, layer_test_size(filtered)));
		compare(row, filtered, bare);
		layer_test_close(filtered);
		layer_test_close(bare);
	}
}

static const char *memory(unsigned which, uint64_t size)
{
	static char plan[2][64];

	snprintf(plan[which], sizeof(plan[which]), "memory %" PRIu64, size);
	return plan[which];
}

static void test_every_filter_over_memory(void **state)
{
	each_filter(memory, SIZE);
}

static void test_every_filter_over_memory_of_an_odd_size(void **state)
{
	each_filter(memory, SIZE + 1);
}

/* The size is 2^63-1: offsets that were beyond the end are the end now. */
static void at_the_end_of_all(struct layer_test *t)
{
	static const struct kind kind = { "read", NR_READ, -1, 0 };
	uint64_t size = layer_test_size(t);

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
			assert_int_equal(send_one(t, &kinds[k], size - (1 << 30), 1 << 30), 0);
		if (kinds[k].operation == NR_EXTENTS)
			assert_int_equal(send_one(t, &kinds[k], 1, size - 1), 0);
		if (kinds[k].needs != NR_CAP_FAST_ZERO)
			assert_int_equal(send_one(t, &kinds[k], size - 1, 1), 0);
	}
}

static void test_every_filter_over_the_largest_disk(void **state)
{
	struct layer_options options = { 0 };

	filter_table_options(&options);
	for (const struct nr_layer_type *const *type = nr_filters; *type; type++) {
		const struct filter_row *row = filter_row((*type)->name);
		struct layer_test *t;

		if (row->effect != TRANSPARENT || row->small)
			continue;
		fprintf(stderr, "%s\n", row->name);
		t = layer_test_open(&options, "%s | %s", filter_plan(row, INT64_MAX),
				    memory(0, INT64_MAX));
		at_the_end_of_all(t);
		layer_test_close(t);
	}
}

static char files[2][64];

static const char *direct_file(unsigned which, uint64_t size)
{
	static char plan[2][128];
	int fd = open(files[which], O_RDWR | O_CREAT | O_TRUNC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)size), 0);
	close(fd);
	snprintf(plan[which], sizeof(plan[which]), "file %s cache=none", files[which]);
	return plan[which];
}

static void test_every_filter_over_a_direct_file(void **state)
{
	int fd;

	for (unsigned i = 0; i < 2; i++)
		snprintf(files[i], sizeof(files[i]), "test-filter-edges.%d.%u", (int)getpid(), i);
	fd = open(files[0], O_RDWR | O_CREAT | O_DIRECT, 0600);
	if (fd < 0)
		skip();
	close(fd);
	each_filter(direct_file, SIZE);
	unlink(files[0]);
	unlink(files[1]);
}

/*
 * Each filter twice in one stack, in two stacks of a plan, as two exports are; one of
 * them is closed and the other one goes on.
 */
static void twice(const struct filter_row *row)
{
	struct layer_options options = { 0 }, beside;
	struct layer_model model = { .requests = 200, .length_max = 20000, .seed = layer_seed(1) };
	struct layer_test *a, *b, *bare;
	char one[1500];

	filter_table_options(&options);
	snprintf(one, sizeof(one), "%s | memory %" PRIu64, filter_plan(row, SIZE), SIZE);
	a = layer_test_open(&options, "%s", one);
	snprintf(one, sizeof(one), "%s", filter_plan(row, layer_test_size(a)));
	layer_test_close(a);
	a = layer_test_open(&options, "%s | %s | memory %" PRIu64, one, filter_plan(row, SIZE),
			    SIZE);
	beside = options;
	beside.beside = a;
	beside.export_name = "other";
	b = layer_test_open(&beside, "%s | %s | memory %" PRIu64, one, filter_plan(row, SIZE),
			    SIZE);
	for (unsigned i = 0; i < 2; i++) {
		struct layer_test *t = i ? b : a;

		bare = layer_test_open(&options, "memory %" PRIu64, layer_test_size(t));
		compare(row, t, bare);
		layer_test_close(bare);
		if (row->effect == TRANSPARENT)
			layer_model_run(layer_client(t, 0), &model);
	}
	/* What was done to one is not seen in the other, and outlives it. */
	if (row->effect == TRANSPARENT && !layer_test_traits(a)->read_only) {
		assert_int_equal(layer_fill(layer_client(a, 0), 0, 4096, 0xa5), 0);
		assert_int_equal(layer_fill(layer_client(b, 0), 0, 4096, 0x5a), 0);
		assert_true(layer_is(layer_client(a, 0), 0, 4096, 0xa5));
	}
	layer_test_close(b);
	if (row->effect == TRANSPARENT)
		layer_model_run(layer_client(a, 0), &model);
	layer_test_close(a);
}

static void test_every_filter_twice_in_one_stack_and_on_two_exports(void **state)
{
	for (const struct nr_layer_type *const *type = nr_filters; *type; type++) {
		const struct filter_row *row = filter_row((*type)->name);

		fprintf(stderr, "%s\n", row->name);
		if (row->effect != APART)
			twice(row);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_filter_over_memory),
		cmocka_unit_test(test_every_filter_over_memory_of_an_odd_size),
		cmocka_unit_test(test_every_filter_over_the_largest_disk),
		cmocka_unit_test(test_every_filter_over_a_direct_file),
		cmocka_unit_test(test_every_filter_twice_in_one_stack_and_on_two_exports),
	};

	memset(pattern, 0x5a, sizeof(pattern));
	return cmocka_run_group_tests(tests, NULL, NULL);
}
