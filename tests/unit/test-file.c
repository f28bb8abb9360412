/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The backend `file` on regular files: contents, holes, ranges, and many requests
 * at once, on the file system of the folder the tests run in and on tmpfs.
 */
#include "tests/unit/test-file.h"

#include <dirent.h>

#include <pthread.h>

/* ---- contents ---------------------------------------------------------- */

static void test_random_requests_through_the_cache(void **state)
{
	run_model(here, "writeback", 0);
	/* More segments than one operation takes, and very many. */
	run_model(here, "writeback", 50000);
	run_model(here, "writeback", 1000);
}

static void test_random_requests_with_direct(void **state)
{
	if (!offers_direct(here))
		skip();
	run_model(here, "none", 0);
	/* Segments whose lengths are not aligned. */
	run_model(here, "none", 8192 + 512);
}

static void test_random_requests_on_tmpfs(void **state)
{
	run_model(shm, "writeback", 0);
	run_model(shm, "none", 0);
	run_model(shm, "dontcache", 3000);
}

static void test_dontcache_works_or_says_why_not(void **state)
{
	const char *path = make_file(here, "a", MIB);
	struct iovec vector = { &(char){ 0 }, 1 };
	struct nr_error error;
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	bool takes = preadv2(fd, &vector, 1, 0, 0x80) >= 0;

	(void)close(fd);
	if (takes) {
		run_model(here, "dontcache", 0);
		return;
	}
	assert_int_equal(layer_test_refused(&with_ring, &error, "file %s cache=dontcache", path),
			 -EOPNOTSUPP);
	assert_non_null(strstr(error.text, "cache=dontcache is not possible"));
}

static void test_fua_and_flush(void **state)
{
	static const char *const modes[] = { "writeback", "none" };

	for (unsigned i = 0; i < 2; i++) {
		struct layer_test *t = layer_test_open(&with_ring, "file %s cache=%s",
						       make_file(here, "a", 4 * MIB), modes[i]);
		struct layer_client *c = layer_client(t, 0);
		uint8_t data[4096];

		memset(data, 9, sizeof(data));
		assert_int_equal(layer_write(c, 4096, 4096, data, NR_FUA), 0);
		assert_int_equal(layer_trim(c, MIB, MIB, NR_FUA), 0);
		assert_int_equal(layer_zero(c, 2 * MIB, MIB, NR_FUA), 0);
		assert_int_equal(layer_flush(c), 0);
		assert_true(layer_is(c, 4096, 4096, 9));
		layer_test_close(t);
	}
}

/* What arrives while an fsync is under way waits for the next one, together. */
static void test_flushes_are_merged(void **state)
{
	struct layer_test *t =
		layer_test_open(&with_ring, "file %s", make_file(here, "a", 4 * MIB));
	struct layer_client *c = layer_client(t, 0);
	struct nr_ring *ring = layer_client_worker(c)->ring;
	struct nr_request *req[16];

	assert_int_equal(layer_fill(c, 0, MIB, 1), 0);
	for (unsigned i = 0; i < 16; i++) {
		req[i] = layer_start(c, NR_FLUSH, 0, 0, 0, NULL, NULL);
		assert_int_equal(nr_ring_in_flight(ring), 1);
	}
	assert_int_equal(layer_wait(c, req[0]), 0);
	assert_false(layer_finished(req[1]));
	assert_int_equal(nr_ring_in_flight(ring), 1);
	assert_int_equal(layer_wait(c, req[1]), 0);
	for (unsigned i = 1; i < 16; i++)
		assert_true(layer_finished(req[i]));
	assert_int_equal(nr_ring_in_flight(ring), 0);
	for (unsigned i = 0; i < 16; i++)
		layer_end(c, req[i]);
	layer_test_close(t);
}

static void test_cache_is_a_hint(void **state)
{
	const char *path = make_file(here, "a", 4 * MIB);
	struct layer_test *t = layer_test_open(&with_ring, "file %s fadvise=sequential", path);

	assert_int_equal(layer_cache(layer_client(t, 0), 100, 3 * MIB), 0);
	layer_test_close(t);
	t = layer_test_open(&with_ring, "file %s fadvise=random", make_file(shm, "a", MIB));
	assert_int_equal(layer_cache(layer_client(t, 0), 100, 1000), 0);
	layer_test_close(t);
}

/* ---- holes ------------------------------------------------------------- */

static void check_holes(const char *folder, const char *cache)
{
	const char *path = make_file(folder, "a", 4 * MIB);
	struct layer_test *t;
	struct layer_client *c;

	put(path, MIB, 256 * KIB, 5);
	put(path, 3 * MIB, 4096, 6);
	t = layer_test_open(&with_ring, "file %s cache=%s", path, cache);
	c = layer_client(t, 0);
	/* Nothing but a hole, however small; nothing but data. */
	assert_string_equal(segments_of(c, 8192, 4096), "4096:hole");
	assert_string_equal(segments_of(c, MIB + 4096, 4096), "4096:data");
	/* A hole, then data. */
	assert_string_equal(segments_of(c, MIB - 64 * KIB, 128 * KIB), "65536:hole 65536:data");
	/* Small holes are read along. */
	assert_string_equal(segments_of(c, MIB - 8192, 64 * KIB), "65536:data");
	assert_true(layer_is(c, MIB - 8192, 8192, 0));
	assert_true(layer_is(c, MIB, 256 * KIB, 5));
	assert_string_equal(layer_map(c, 0, 4 * MIB), "1048576:hole,zero 262144:data "
						      "1835008:hole,zero 4096:data "
						      "1044480:hole,zero");
	/* A hole that is written to is none any more, at once. */
	assert_int_equal(layer_fill(c, 8192, 4096, 1), 0);
	assert_true(layer_is(c, 8192, 4096, 1));
	assert_string_equal(segments_of(c, 8192, 4096), "4096:data");
	/* Data that is zeroed is a hole, at once. */
	assert_int_equal(layer_zero(c, MIB, 128 * KIB, 0), 0);
	assert_string_equal(segments_of(c, MIB, 64 * KIB), "65536:hole");
	layer_test_close(t);
}

static void test_holes(void **state)
{
	if (!has_holes(here))
		skip();
	check_holes(here, "writeback");
	if (offers_direct(here))
		check_holes(here, "none");
}

static void test_data_then_hole(void **state)
{
	const char *path = make_file(here, "a", 4 * MIB);
	struct layer_test *t;

	if (!has_holes(here))
		skip();
	put(path, 0, 128 * KIB, 5);
	put(path, 512 * KIB, 128 * KIB, 6);
	t = layer_test_open(&with_ring, "file %s", path);
	assert_string_equal(segments_of(layer_client(t, 0), 0, MIB),
			    "131072:data 393216:hole 131072:data 393216:hole");
	layer_test_close(t);
}

static void test_holes_on_tmpfs(void **state)
{
	if (!has_holes(shm))
		skip();
	check_holes(shm, "writeback");
}

/* A read with very many small holes is one operation, and right. */
static void test_many_small_holes(void **state)
{
	const char *path = make_file(here, "a", MIB);
	struct layer_test *t;

	for (unsigned at = 0; at < MIB; at += 16 * KIB)
		put(path, at, 4096, (uint8_t)(1 + at / (16 * KIB)));
	t = layer_test_open(&with_ring, "file %s", path);
	assert_string_equal(segments_of(layer_client(t, 0), 0, MIB), "1048576:data");
	for (unsigned at = 0; at < MIB; at += 16 * KIB) {
		assert_true(layer_is(layer_client(t, 0), at, 4096, (uint8_t)(1 + at / (16 * KIB))));
		assert_true(layer_is(layer_client(t, 0), at + 4096, 4096, 0));
	}
	layer_test_close(t);
}

static void test_one_extent_is_enough(void **state)
{
	const char *path = make_file(here, "a", 4 * MIB);
	struct nr_extent extent[8];
	struct nr_extents list = { .extent = extent, .capacity = 8 };
	struct layer_test *t;

	if (!has_holes(here))
		skip();
	put(path, MIB, MIB, 5);
	t = layer_test_open(&with_ring, "file %s", path);
	assert_int_equal(layer_extents(layer_client(t, 0), 0, 4 * MIB, NR_REQ_ONE, &list), 0);
	assert_int_equal(list.count, 1);
	assert_int_equal(extent[0].length, MIB);
	assert_int_equal(extent[0].status, NR_EXTENT_HOLE | NR_EXTENT_ZERO);
	layer_test_close(t);
}

/* ---- trim and zero ----------------------------------------------------- */

static void check_ranges(const char *folder, const char *cache)
{
	const char *path = make_file(folder, "a", 4 * MIB);
	struct layer_test *t;
	struct layer_client *c;
	blkcnt_t full;

	put(path, 0, 4 * MIB, 5);
	full = stat_of(path).st_blocks;
	t = layer_test_open(&with_ring, "file %s cache=%s", path, cache);
	c = layer_client(t, 0);

	assert_int_equal(layer_trim(c, MIB, MIB, 0), 0);
	assert_true(stat_of(path).st_blocks <= full - 1024);
	assert_int_equal(layer_zero(c, 2 * MIB, MIB, NR_FAST_ZERO), 0);
	assert_true(layer_is(c, 2 * MIB, MIB, 0));
	assert_true(stat_of(path).st_blocks <= full - 2048);

	/* To the end of the file, which does not grow. */
	assert_int_equal(layer_zero(c, 0, 4 * MIB, NR_NO_HOLE), 0);
	assert_true(layer_is(c, 0, 4 * MIB, 0));
	assert_true(stat_of(path).st_blocks >= 8192);
	assert_int_equal(stat_of(path).st_size, 4 * MIB);
	layer_test_close(t);
}

static void test_trim_and_zero(void **state)
{
	if (!has_holes(here))
		skip();
	check_ranges(here, "writeback");
	if (offers_direct(here))
		check_ranges(here, "none");
}

static void test_trim_and_zero_on_tmpfs(void **state)
{
	if (!has_holes(shm))
		skip();
	check_ranges(shm, "writeback");
}

static void test_trim_goes_inward(void **state)
{
	const char *path = make_file(here, "a", MIB);
	struct layer_test *t = layer_test_open(&with_ring, "file %s", path);
	struct layer_client *c = layer_client(t, 0);

	assert_int_equal(layer_fill(c, 0, MIB, 5), 0);
	assert_int_equal(layer_trim(c, 100, 3000, 0), 0);
	assert_true(layer_is(c, 0, 65536, 5));
	assert_int_equal(layer_trim(c, 4095, 65536, 0), 0);
	assert_true(layer_is(c, 0, 4096, 5));
	assert_true(layer_is(c, 4095 + 65536, 4096, 5));
	layer_test_close(t);
}

static void test_zero_of_single_bytes(void **state)
{
	struct layer_test *t = layer_test_open(&with_ring, "file %s", make_file(here, "a", MIB));
	struct layer_client *c = layer_client(t, 0);

	assert_int_equal(layer_fill(c, 0, MIB, 5), 0);
	assert_int_equal(layer_zero(c, 4097, 1, 0), 0);
	assert_int_equal(layer_zero(c, 8191, 2, NR_NO_HOLE), 0);
	assert_true(layer_is(c, 4096, 1, 5) && layer_is(c, 4097, 1, 0) && layer_is(c, 4098, 1, 5));
	assert_true(layer_is(c, 8190, 1, 5) && layer_is(c, 8191, 2, 0) && layer_is(c, 8193, 1, 5));
	layer_test_close(t);
}

static void test_huge_file(void **state)
{
	const uint64_t huge = UINT64_C(4) << 40;
	const char *path = in(here, "huge");
	struct nr_extent extent[2];
	struct nr_extents list = { .extent = extent, .capacity = 2 };
	struct layer_test *t;
	struct layer_client *c;
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	bool possible = ftruncate(fd, (off_t)huge) == 0;

	assert_int_equal(close(fd), 0);
	if (!possible)
		skip();
	t = layer_test_open(&with_ring, "file %s", path);
	c = layer_client(t, 0);
	assert_int_equal(layer_test_size(t), huge);
	assert_int_equal(layer_fill(c, huge - 100, 100, 5), 0);
	assert_true(layer_is(c, huge - 100, 100, 5));
	assert_int_equal(layer_zero(c, 1, huge - 2, 0), 0);
	assert_int_equal(layer_trim(c, 0, huge, 0), 0);
	assert_true(layer_is(c, huge - 100, 99, 0) && layer_is(c, 0, MIB, 0));
	assert_int_equal(layer_extents(c, 0, huge, 0, &list), 0);
	layer_test_close(t);
	assert_int_equal(stat_of(path).st_size, huge);
	assert_int_equal(unlink(path), 0);
}

/* ---- many at once ------------------------------------------------------ */

/* Reads of more memory than there is wait for each other and all succeed. */
static void test_reads_wait_for_memory(void **state)
{
	static const char *const folders[] = { here, shm };

	for (unsigned i = 0; i < 2; i++) {
		const char *path = make_file(folders[i], "a", MIB);
		struct layer_test *t;
		struct layer_client *c;
		struct nr_request *req[48];

		put(path, 0, MIB, 5);
		t = layer_test_open(&with_ring, "file %s", path);
		c = layer_client(t, 0);
		for (unsigned j = 0; j < 48; j++)
			req[j] = layer_start(c, NR_READ, 0, 0, MIB, NULL, NULL);
		for (unsigned j = 0; j < 48; j++) {
			uint8_t last;

			assert_int_equal(layer_wait(c, req[j]), 0);
			nr_request_copy_out(req[j], MIB - 1, 1, &last);
			assert_int_equal(last, 5);
			layer_end(c, req[j]);
		}
		layer_test_close(t);
	}
}

/* So do writes that have to be copied, because their parts are not aligned. */
static void test_writes_wait_for_memory(void **state)
{
	struct layer_options options = { .ring = true, .segment_bytes = 8192 + 512 };
	static uint8_t data[MIB];
	struct layer_test *t;
	struct layer_client *c;
	struct nr_request *read[40], *write;

	if (!offers_direct(here))
		skip();
	t = layer_test_open(&options, "file %s cache=none", make_file(here, "a", 4 * MIB));
	c = layer_client(t, 0);
	assert_int_equal(layer_fill(c, 0, MIB, 5), 0);
	for (unsigned i = 0; i < 40; i++)
		read[i] = layer_start(c, NR_READ, 0, 0, MIB, NULL, NULL);
	memset(data, 6, sizeof(data));
	assert_int_equal(layer_wait(c, read[0]), 0);
	write = layer_start(c, NR_WRITE, 0, 2 * MIB, MIB, data, NULL);
	for (unsigned i = 0; i < 40; i++) {
		assert_int_equal(layer_wait(c, read[i]), 0);
		layer_end(c, read[i]);
	}
	assert_int_equal(layer_wait(c, write), 0);
	layer_end(c, write);
	assert_true(layer_is(c, 2 * MIB, MIB, 6));
	layer_test_close(t);
}

struct busy {
	struct layer_client *c;
	uint64_t from; /* its own MiB */
	uint64_t seed;
};

/* Own part: what was written is read. Others' parts: only read. */
static void *be_busy(void *argument)
{
	struct busy *b = argument;

	for (unsigned i = 0; i < 300; i++) {
		uint64_t at = b->from + layer_random_below(&b->seed, 15) * 65536;
		uint8_t byte = (uint8_t)(1 + layer_random_below(&b->seed, 200));

		switch (layer_random_below(&b->seed, 6)) {
		case 0:
			LAYER_CHECK(layer_zero(b->c, at, 65536, 0) == 0);
			LAYER_CHECK(layer_is(b->c, at, 65536, 0));
			break;
		case 1:
			LAYER_CHECK(layer_trim(b->c, at, 65536, 0) == 0);
			break;
		case 2:
			LAYER_CHECK(layer_flush(b->c) == 0);
			break;
		case 3:
			LAYER_CHECK(strlen(layer_map(b->c, at, 65536)) > 0);
			break;
		default:
			LAYER_CHECK(layer_fill(b->c, at, 65536, byte) == 0);
			LAYER_CHECK(layer_is(b->c, at, 65536, byte));
		}
		LAYER_CHECK(layer_read(b->c, layer_random_below(&b->seed, 60) * 65536, 65536,
				       (uint8_t[65536]){ 0 }) == 0);
	}
	return NULL;
}

static void many_workers(const char *folder, const char *cache)
{
	struct layer_options options = { .ring = true, .workers = 4 };
	struct layer_test *t = layer_test_open(&options, "file %s cache=%s",
					       make_file(folder, "a", 4 * MIB), cache);
	uint64_t seed = layer_seed(7);
	struct busy busy[4];
	pthread_t thread[4];

	for (unsigned i = 0; i < 4; i++) {
		busy[i] = (struct busy){ layer_client(t, i), (uint64_t)i * MIB, seed + i };
		assert_int_equal(pthread_create(&thread[i], NULL, be_busy, &busy[i]), 0);
	}
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(pthread_join(thread[i], NULL), 0);
	layer_test_close(t);
}

static void test_many_workers_at_once(void **state)
{
	many_workers(here, "writeback");
	if (offers_direct(here))
		many_workers(here, "none");
	many_workers(shm, "writeback");
}

static unsigned threads(void)
{
	DIR *tasks = opendir("/proc/self/task");
	unsigned count = 0;

	assert_non_null(tasks);
	while (readdir(tasks))
		count++;
	closedir(tasks);
	return count;
}

/* Asked on the worker; before any other test has made threads. */
static void test_a_short_map_takes_no_thread(void **state)
{
	const char *path = make_file(here, "short-map", 4 * MIB);
	struct nr_extent extent[8];
	struct nr_extents list = { .extent = extent, .capacity = 8 };
	struct layer_test *t;
	unsigned before;

	if (!has_holes(here))
		skip();
	put(path, MIB, MIB, 1);
	put(path, 3 * MIB, MIB / 2, 1);
	t = layer_test_open(&with_ring, "file %s", path);
	before = threads();
	assert_int_equal(layer_extents(layer_client(t, 0), 0, 4 * MIB, 0, &list), 0);
	assert_int_equal(threads(), before);
	assert_int_equal(list.count, 5);
	assert_int_equal(list.extent[1].length, MIB);
	assert_int_equal(list.extent[1].status, 0);
	assert_int_equal(list.extent[4].length, MIB / 2);
	assert_int_equal(list.extent[4].status, NR_EXTENT_HOLE | NR_EXTENT_ZERO);
	layer_test_close(t);
}

/* A map is true even where reads go by what is remembered. */
static void test_holes_that_others_make_show_in_the_map(void **state)
{
	const char *path = make_file(here, "punched", 4 * MIB);
	struct nr_extent extent[8];
	struct nr_extents list = { .extent = extent, .capacity = 8 };
	struct layer_test *t;
	int fd;

	if (!has_holes(here))
		skip();
	put(path, 0, 4 * MIB, 1);
	fd = open(path, O_RDWR | O_CLOEXEC);
	assert_int_equal(fsync(fd), 0);
	t = layer_test_open(&with_ring, "file %s", path);
	assert_int_equal(layer_extents(layer_client(t, 0), 0, 4 * MIB, 0, &list), 0);
	assert_int_equal(list.count, 1);
	assert_int_equal(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, MIB, MIB), 0);
	assert_int_equal(layer_extents(layer_client(t, 0), 0, 4 * MIB, 0, &list), 0);
	assert_int_equal(list.count, 3);
	assert_int_equal(extent[1].status, NR_EXTENT_HOLE | NR_EXTENT_ZERO);
	layer_test_close(t);
	(void)close(fd);
}

/* Where granules are coarse, data is remembered by stretches; a trim is not hidden by that. */
static void test_trims_show_in_a_huge_file(void **state)
{
	const uint64_t at = UINT64_C(1) << 40;
	const char *path = make_file(here, "huge", 2 * at);
	struct nr_extent extent[8];
	struct nr_extents list = { .extent = extent, .capacity = 8 };
	struct layer_client *c;
	struct layer_test *t;
	uint8_t *data = malloc(MIB);

	put(path, at, MIB, 7);
	t = layer_test_open(&with_ring, "file %s", path);
	c = layer_client(t, 0);
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(layer_read(c, at, MIB, data), 0);
		assert_int_equal(data[0] + data[MIB - 1], 14);
	}
	assert_string_equal(segments_of(c, at - MIB, 2 * MIB / 2), "1048576:hole");
	assert_int_equal(layer_trim(c, at + 64 * KIB, 128 * KIB, 0), 0);
	assert_string_equal(segments_of(c, at, 512 * KIB), "65536:data 131072:hole 327680:data");
	assert_int_equal(layer_extents(c, at, 512 * KIB, 0, &list), 0);
	assert_int_equal(list.count, 3);
	assert_int_equal(layer_read(c, at + 64 * KIB, 128 * KIB, data), 0);
	assert_int_equal(data[0] + data[128 * KIB - 1], 0);
	layer_test_close(t);
	free(data);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_short_map_takes_no_thread),
		cmocka_unit_test(test_random_requests_through_the_cache),
		cmocka_unit_test(test_random_requests_with_direct),
		cmocka_unit_test(test_random_requests_on_tmpfs),
		cmocka_unit_test(test_dontcache_works_or_says_why_not),
		cmocka_unit_test(test_fua_and_flush),
		cmocka_unit_test(test_flushes_are_merged),
		cmocka_unit_test(test_cache_is_a_hint),
		cmocka_unit_test(test_holes),
		cmocka_unit_test(test_trims_show_in_a_huge_file),
		cmocka_unit_test(test_holes_that_others_make_show_in_the_map),
		cmocka_unit_test(test_data_then_hole),
		cmocka_unit_test(test_holes_on_tmpfs),
		cmocka_unit_test(test_many_small_holes),
		cmocka_unit_test(test_one_extent_is_enough),
		cmocka_unit_test(test_trim_and_zero),
		cmocka_unit_test(test_trim_and_zero_on_tmpfs),
		cmocka_unit_test(test_trim_goes_inward),
		cmocka_unit_test(test_zero_of_single_bytes),
		cmocka_unit_test(test_huge_file),
		cmocka_unit_test(test_reads_wait_for_memory),
		cmocka_unit_test(test_writes_wait_for_memory),
		cmocka_unit_test(test_many_workers_at_once),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
