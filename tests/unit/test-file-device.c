/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The backend `file` on what takes root to have: loop block devices, and file
 * systems that cannot punch holes or are full.  Skipped for others.
 */
#include "tests/unit/test-file.h"

#include <linux/loop.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mount.h>

/*
 * A loop device on FILE, or -1; it is gone with the last descriptor.  Other tests
 * may snatch the free one away: then another is tried.
 */
static int make_loop(const char *file, uint32_t sector, uint32_t flags, char path[64])
{
	int backing = open(file, O_RDWR | O_CLOEXEC);
	int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
	struct loop_config config = {
		.fd = (uint32_t)backing,
		.block_size = sector,
		.info.lo_flags = LO_FLAGS_AUTOCLEAR | flags,
	};
	int loop = -1;

	for (unsigned i = 0; i < 32 && control >= 0 && loop < 0; i++) {
		snprintf(path, 64, "/dev/loop%d", ioctl(control, LOOP_CTL_GET_FREE));
		loop = open(path, O_RDWR | O_CLOEXEC);
		if (loop >= 0 && ioctl(loop, LOOP_CONFIGURE, &config) < 0) {
			(void)close(loop);
			loop = -1;
		}
	}
	if (control >= 0)
		(void)close(control);
	(void)close(backing);
	return loop;
}

static bool mount_here(const char *folder, const char *type, const char *options)
{
	return geteuid() == 0 && unshare(CLONE_NEWNS) == 0 &&
	       mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
	       mkdir(folder, 0700) == 0 && mount("none", folder, type, 0, options) == 0;
}

/*
 * What the kernel could not write back it tells once; the flushes after that
 * must not say that all is well.
 */
static void test_failed_flush_is_not_forgotten(void **state)
{
	struct layer_test *t;
	struct layer_client *c;
	char path[64], folder[256];
	uint8_t data[4096] = { 1 };
	int loop;

	snprintf(folder, sizeof(folder), "%s", in(here, "small"));
	if (!mount_here(folder, "tmpfs", "size=1m"))
		skip();
	loop = make_loop(make_file(folder, "disk", 4 * MIB), 512, 0, path);
	if (loop < 0)
		skip();
	t = layer_test_open(&with_ring, "file %s", path);
	c = layer_client(t, 0);
	assert_int_equal(layer_flush(c), 0);
	assert_int_equal(layer_fill(c, 0, 4 * MIB, 5), 0);
	assert_true(layer_flush(c) < 0);
	assert_true(layer_flush(c) < 0);
	assert_true(layer_write(c, 0, 4096, data, NR_FUA) <= 0);
	assert_true(layer_flush(c) < 0);
	layer_test_close(t);
	/* Opened anew, it is as good as it is. */
	t = layer_test_open(&with_ring, "file %s", path);
	assert_int_equal(layer_flush(layer_client(t, 0)), 0);
	layer_test_close(t);
	assert_int_equal(close(loop), 0);
	assert_int_equal(umount2(folder, MNT_DETACH), 0);
}

static void check_device(const char *path, const char *cache, uint32_t sector)
{
	struct layer_model model = {
		.seed = layer_seed(3),
		.requests = 500,
		.length_max = 300 * KIB,
		.check_extents = true,
	};
	struct layer_test *t = layer_test_open(&with_ring, "file %s cache=%s", path, cache);
	struct layer_client *c = layer_client(t, 0);
	const struct nr_traits *traits = layer_test_traits(t);

	assert_int_equal(layer_test_size(t), 4 * MIB);
	assert_int_equal(traits->support[NR_CAP_RESIZE], NR_NONE);
	assert_int_equal(traits->block_min, strcmp(cache, "none") == 0 ? sector : 1);
	assert_string_equal(layer_map(c, 0, 4 * MIB), "4194304:data");
	layer_model_run(c, &model);
	assert_int_equal(layer_fill(c, 0, MIB, 5), 0);
	if (traits->block_min == 1) {
		/* Off the sectors: refused when it has to be fast, else done. */
		if (traits->support[NR_CAP_FAST_ZERO] == NR_NATIVE)
			assert_int_equal(layer_zero(c, 100, 65536, NR_FAST_ZERO), -ENOTSUP);
		assert_true(layer_is(c, 0, MIB, 5));
		assert_int_equal(layer_zero(c, 100, 65536, 0), 0);
		assert_int_equal(layer_zero(c, 100 * KIB + 1, 3, 0), 0);
		assert_true(layer_is(c, 100 * KIB + 1, 3, 0));
		assert_int_equal(layer_trim(c, 100, 65536, 0), 0);
		assert_true(layer_is(c, 0, 100, 5) && layer_is(c, 65636, 20 * KIB, 5));
	}
	assert_int_equal(layer_zero(c, 0, 4 * MIB, NR_FUA), 0);
	assert_true(layer_is(c, 0, 4 * MIB, 0));
	layer_test_close(t);
}

static void test_block_device(void **state)
{
	static const uint32_t sectors[] = { 512, 4096 };

	for (unsigned i = 0; i < 2; i++) {
		char path[64];
		int loop = make_loop(make_file(here, "disk", 4 * MIB), sectors[i], 0, path);

		if (loop < 0)
			skip();
		check_device(path, "writeback", sectors[i]);
		check_device(path, "none", sectors[i]);
		assert_int_equal(close(loop), 0);
	}
}

static void test_read_only_device(void **state)
{
	struct layer_test *t;
	char path[64];
	int loop = make_loop(make_file(here, "disk", 4 * MIB), 512, LO_FLAGS_READ_ONLY, path);

	if (loop < 0)
		skip();
	t = layer_test_open(&with_ring, "file %s", path);
	assert_true(layer_test_traits(t)->read_only);
	assert_true(layer_is(layer_client(t, 0), 0, 4 * MIB, 0));
	layer_test_close(t);
	assert_int_equal(close(loop), 0);
}

static void test_full_file_system(void **state)
{
	char folder[256];
	struct layer_test *t;
	struct layer_client *c;

	snprintf(folder, sizeof(folder), "%s", in(here, "full"));
	if (!mount_here(folder, "tmpfs", "size=1m"))
		skip();
	t = layer_test_open(&with_ring, "file %s", make_file(folder, "a", 4 * MIB));
	c = layer_client(t, 0);
	assert_int_equal(layer_fill(c, 0, 4 * MIB, 5), -ENOSPC);
	assert_int_equal(layer_zero(c, 0, 4 * MIB, NR_NO_HOLE), -ENOSPC);
	assert_int_equal(layer_zero(c, 0, 4 * MIB, 0), 0);
	assert_true(layer_is(c, 0, 4 * MIB, 0));
	layer_test_close(t);
	assert_int_equal(umount(folder), 0);
}

/* A file system without fallocate: zeroes are written, fast ones refused, trims nothing. */
static void test_file_system_that_cannot_punch(void **state)
{
	char folder[256];
	const char *path;
	struct layer_test *t;
	struct layer_client *c;

	snprintf(folder, sizeof(folder), "%s", in(here, "ramfs"));
	if (!mount_here(folder, "ramfs", NULL))
		skip();
	path = make_file(folder, "a", 3 * MIB);
	t = layer_test_open(&with_ring, "file %s", path);
	c = layer_client(t, 0);
	assert_int_equal(layer_fill(c, 0, 3 * MIB, 5), 0);
	assert_int_equal(layer_zero(c, 0, MIB, NR_FAST_ZERO), -ENOTSUP);
	assert_int_equal(layer_zero(c, 0, MIB, NR_FAST_ZERO | NR_NO_HOLE), -ENOTSUP);
	assert_true(layer_is(c, 0, MIB, 5));
	assert_int_equal(layer_zero(c, 1, 2 * MIB, 0), 0);
	assert_true(layer_is(c, 0, 1, 5) && layer_is(c, 1, 2 * MIB, 0));
	assert_true(layer_is(c, 2 * MIB + 1, MIB - 1, 5));
	assert_int_equal(layer_zero(c, 0, 3 * MIB, NR_NO_HOLE | NR_FUA), 0);
	assert_true(layer_is(c, 0, 3 * MIB, 0));
	assert_int_equal(layer_trim(c, 0, 3 * MIB, NR_FUA), 0);
	layer_test_close(t);
	assert_int_equal(umount(folder), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_block_device),
		cmocka_unit_test(test_read_only_device),
		/* Last: these go into mount namespaces of their own. */
		cmocka_unit_test(test_full_file_system),
		cmocka_unit_test(test_failed_flush_is_not_forgotten),
		cmocka_unit_test(test_file_system_that_cannot_punch),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
