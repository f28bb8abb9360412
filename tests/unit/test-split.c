/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The backend `split`: what is special where one file ends and the next begins.
 * What files do as such is tested with `file`.
 */
#include "tests/unit/layer-test.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "ring/ring.h"

#define KIB 1024u
#define MIB (1024u * 1024u)

static const struct layer_options with_ring = { .ring = true };

static char here[64], shm[64];

static int set_up(void **state)
{
	snprintf(here, sizeof(here), "test-split-XXXXXX");
	snprintf(shm, sizeof(shm), "/dev/shm/test-split-XXXXXX");
	return mkdtemp(here) && mkdtemp(shm) ? 0 : -1;
}

static int tear_down(void **state)
{
	char command[256];

	snprintf(command, sizeof(command), "rm -rf %s %s", here, shm);
	return system(command);
}

static void make_file(const char *folder, const char *name, uint64_t size, uint8_t byte)
{
	char path[256];
	void *data = malloc(size + 1);
	int fd;

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	assert_true(fd >= 0 && data);
	assert_int_equal(ftruncate(fd, (off_t)size), 0);
	memset(data, byte, size);
	if (byte)
		assert_int_equal(pwrite(fd, data, size, 0), size);
	free(data);
	assert_int_equal(close(fd), 0);
}

static off_t size_of(const char *folder, const char *name)
{
	char path[256];
	struct stat st;

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	assert_int_equal(stat(path, &st), 0);
	return st.st_size;
}

static bool is_direct_possible(void)
{
	char path[256];
	int fd;

	make_file(here, "direct", 4096, 0);
	snprintf(path, sizeof(path), "%s/direct", here);
	fd = open(path, O_RDONLY | O_DIRECT | O_CLOEXEC);
	if (fd >= 0)
		(void)close(fd);
	return fd >= 0;
}

/* Odd lengths, empty parts at the beginning, in the middle and at the end. */
static struct layer_test *odd_parts(const struct layer_options *options)
{
	make_file(here, "0", 0, 0);
	make_file(here, "1", 100 * KIB + 1, 0);
	make_file(here, "2", 1, 0);
	make_file(here, "3", 0, 0);
	make_file(here, "4", 0, 0);
	make_file(here, "5", 700 * KIB + 7, 0);
	make_file(here, "6", 200 * KIB, 0);
	make_file(here, "7", 0, 0);
	return layer_test_open(options, "split %s/0 %s/1 %s/2 %s/3 %s/4 %s/5 %s/6 %s/7", here, here,
			       here, here, here, here, here, here);
}

static void test_size_is_the_sum(void **state)
{
	struct layer_test *t = odd_parts(&with_ring);

	assert_int_equal(layer_test_size(t), 1000 * KIB + 9);
	assert_int_equal(layer_test_traits(t)->block_min, 1);
	assert_int_equal(layer_test_traits(t)->support[NR_CAP_RESIZE], NR_NONE);
	assert_true(layer_test_traits(t)->multi_conn);
	layer_test_close(t);
}

static void test_random_requests_over_odd_parts(void **state)
{
	static const uint64_t segments[] = { 0, 3000 };

	for (unsigned i = 0; i < 2; i++) {
		struct layer_options options = { .ring = true, .segment_bytes = segments[i] };
		struct layer_model model = {
			.seed = layer_seed(11 + i),
			.requests = 2000,
			.length_max = 400 * KIB,
			.check_extents = true,
		};
		struct layer_test *t = odd_parts(&options);

		layer_model_run(layer_client(t, 0), &model);
		layer_test_close(t);
	}
	assert_int_equal(size_of(here, "0"), 0);
	assert_int_equal(size_of(here, "1"), 100 * KIB + 1);
	assert_int_equal(size_of(here, "2"), 1);
	assert_int_equal(size_of(here, "5"), 700 * KIB + 7);
	assert_int_equal(size_of(here, "6"), 200 * KIB);
	assert_int_equal(size_of(here, "7"), 0);
}

static void test_random_requests_with_direct(void **state)
{
	struct layer_model model = {
		.seed = layer_seed(5),
		.requests = 1000,
		.length_max = 400 * KIB,
		.check_extents = true,
	};
	struct layer_test *t;

	if (!is_direct_possible())
		skip();
	make_file(here, "a", 256 * KIB, 0);
	make_file(here, "b", 0, 0);
	make_file(here, "c", 64 * KIB, 0);
	make_file(here, "d", 512 * KIB, 0);
	t = layer_test_open(&with_ring, "split %s/a %s/b %s/c %s/d cache=none", here, here, here,
			    here);
	assert_true(layer_test_traits(t)->block_min >= 512);
	layer_model_run(layer_client(t, 0), &model);
	layer_test_close(t);
	/* One odd length, and everything after it would be off the grain. */
	make_file(here, "b", 100, 0);
	t = layer_test_open(&with_ring, "split %s/a %s/b %s/c %s/d cache=none", here, here, here,
			    here);
	assert_int_equal(layer_test_traits(t)->block_min, 1);
	layer_model_run(layer_client(t, 0), &model);
	layer_test_close(t);
}

static void test_parts_on_different_file_systems(void **state)
{
	static const char *const modes[] = { "writeback", "none" };

	for (unsigned i = 0; i < 2; i++) {
		struct layer_model model = {
			.seed = layer_seed(9),
			.requests = 1000,
			.length_max = 200 * KIB,
			.check_extents = true,
		};
		struct layer_test *t;

		make_file(here, "a", 128 * KIB, 0);
		make_file(shm, "b", 128 * KIB, 0);
		make_file(here, "c", 128 * KIB, 0);
		t = layer_test_open(&with_ring, "split %s/a %s/b %s/c cache=%s", here, shm, here,
				    modes[i]);
		layer_model_run(layer_client(t, 0), &model);
		assert_int_equal(layer_flush(layer_client(t, 0)), 0);
		layer_test_close(t);
	}
}

static void test_request_across_parts(void **state)
{
	struct layer_test *t;
	struct layer_client *c;
	uint8_t data[3];

	make_file(here, "a", 64 * KIB, 1);
	make_file(here, "b", 1, 2);
	make_file(here, "c", 64 * KIB, 3);
	t = layer_test_open(&with_ring, "split %s/a %s/b %s/c", here, here, here);
	c = layer_client(t, 0);
	assert_int_equal(layer_read(c, 64 * KIB - 1, 3, data), 0);
	assert_memory_equal(data, "\1\2\3", 3);
	assert_int_equal(layer_write(c, 64 * KIB - 1, 3, "\7\10\11", NR_FUA), 0);
	assert_true(layer_is(c, 0, 64 * KIB - 1, 1) && layer_is(c, 64 * KIB - 1, 1, 7));
	assert_true(layer_is(c, 64 * KIB, 1, 8));
	assert_true(layer_is(c, 64 * KIB + 1, 1, 9));
	assert_true(layer_is(c, 64 * KIB + 2, 64 * KIB - 1, 3));
	assert_int_equal(layer_zero(c, 32 * KIB, 64 * KIB, NR_FUA), 0);
	assert_true(layer_is(c, 32 * KIB, 64 * KIB, 0));
	/* Fast, or not at all: half of it cannot be taken back. */
	assert_int_equal(layer_fill(c, 0, 128 * KIB, 5), 0);
	assert_int_equal(layer_zero(c, 32 * KIB, 64 * KIB, NR_FAST_ZERO), -ENOTSUP);
	assert_true(layer_is(c, 0, 128 * KIB, 5));
	assert_int_equal(layer_zero(c, 0, 64 * KIB, NR_FAST_ZERO), 0);
	assert_true(layer_is(c, 0, 64 * KIB, 0));
	assert_int_equal(layer_cache(c, 0, 128 * KIB), 0);
	layer_test_close(t);
}

static void test_holes_and_data_of_neighbours_join(void **state)
{
	const char *map;
	struct layer_test *t;

	make_file(here, "a", MIB, 0);
	make_file(here, "b", MIB, 0);
	make_file(here, "c", MIB, 3);
	make_file(here, "d", MIB, 4);
	t = layer_test_open(&with_ring, "split %s/a %s/b %s/c %s/d", here, here, here, here);
	map = layer_map(layer_client(t, 0), 0, 4 * MIB);
	if (strcmp(map, "4194304:data") != 0) /* no holes on this file system */
		assert_string_equal(map, "2097152:hole,zero 2097152:data");
	layer_test_close(t);
}

/* One round of a flush is an fsync of each part, all at once. */
static void test_flush_is_of_all_parts(void **state)
{
	struct layer_test *t;
	struct layer_client *c;
	struct nr_request *first, *second;
	struct nr_ring *ring;

	make_file(here, "a", MIB, 1);
	make_file(here, "b", MIB, 2);
	make_file(here, "c", MIB, 3);
	t = layer_test_open(&with_ring, "split %s/a %s/b %s/c", here, here, here);
	c = layer_client(t, 0);
	ring = layer_client_worker(c)->ring;
	first = layer_start(c, NR_FLUSH, 0, 0, 0, NULL, NULL);
	assert_int_equal(nr_ring_in_flight(ring), 3);
	second = layer_start(c, NR_FLUSH, 0, 0, 0, NULL, NULL);
	assert_int_equal(nr_ring_in_flight(ring), 3);
	assert_int_equal(layer_wait(c, first), 0);
	assert_int_equal(layer_wait(c, second), 0);
	layer_end(c, first);
	layer_end(c, second);
	layer_test_close(t);
}

static void test_part_cut_off_under_us_fails_reads(void **state)
{
	char path[256];
	struct layer_test *t;
	uint8_t data[8192];

	make_file(here, "a", MIB, 1);
	make_file(here, "b", MIB, 2);
	t = layer_test_open(&with_ring, "split %s/a %s/b", here, here);
	snprintf(path, sizeof(path), "%s/a", here);
	assert_int_equal(truncate(path, 4096), 0);
	assert_int_equal(layer_read(layer_client(t, 0), MIB - 4096, 8192, data), -EIO);
	assert_int_equal(layer_read(layer_client(t, 0), MIB, 8192, data), 0);
	layer_test_close(t);
}

static void test_refusals_say_what(void **state)
{
	struct layer_options read_only = { .ring = true, .read_only = true };
	struct nr_error error;
	struct layer_test *t;

	make_file(here, "a", MIB, 1);
	assert_int_equal(layer_test_refused(&with_ring, &error, "split %s/a %s/none", here, here),
			 -ENOENT);
	assert_non_null(strstr(error.text, "/none: No such file or directory"));
	assert_int_equal(layer_test_refused(&with_ring, &error, "split %s/a %s", here, here),
			 -EISDIR);
	assert_int_equal(layer_test_refused(&with_ring, &error, "split"), -EINVAL);
	assert_non_null(strstr(error.text, "file"));
	t = layer_test_open(&read_only, "split %s/a", here);
	assert_true(layer_test_traits(t)->read_only);
	layer_test_close(t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_size_is_the_sum),
		cmocka_unit_test(test_random_requests_over_odd_parts),
		cmocka_unit_test(test_random_requests_with_direct),
		cmocka_unit_test(test_parts_on_different_file_systems),
		cmocka_unit_test(test_request_across_parts),
		cmocka_unit_test(test_holes_and_data_of_neighbours_join),
		cmocka_unit_test(test_flush_is_of_all_parts),
		cmocka_unit_test(test_part_cut_off_under_us_fails_reads),
		cmocka_unit_test(test_refusals_say_what),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
