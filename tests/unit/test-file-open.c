/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The backend `file`: what can be opened and what it is then; sizes that change;
 * inherited descriptors; the files of a folder.
 */
#include "tests/unit/test-file.h"

#include "backends/backends.h"

static const struct layer_options read_only = { .ring = true, .read_only = true };

/* ---- what is said about the disk --------------------------------------- */

static void test_traits_of_a_regular_file(void **state)
{
	struct layer_test *t =
		layer_test_open(&with_ring, "file %s", make_file(here, "a", 5 * MIB + 1));
	const struct nr_traits *traits = layer_test_traits(t);

	assert_int_equal(layer_test_size(t), 5 * MIB + 1);
	assert_int_equal(traits->block_min, 1);
	assert_int_equal(traits->memory_align, 1);
	assert_int_equal(traits->block_max, NR_TRANSFER_MAX);
	assert_true(traits->block_preferred >= 4096);
	assert_false(traits->read_only);
	assert_true(traits->multi_conn);
	for (unsigned i = 0; i < NR_CAP_COUNT; i++)
		assert_int_equal(traits->support[i], NR_NATIVE);
	layer_test_close(t);
}

static void test_direct_states_its_alignment(void **state)
{
	struct layer_test *t;

	if (!offers_direct(here))
		skip();
	t = layer_test_open(&with_ring, "file %s cache=none", make_file(here, "a", 4 * MIB));
	assert_true(layer_test_traits(t)->block_min >= 512);
	assert_int_equal(layer_test_traits(t)->support[NR_CAP_CACHE], NR_NONE);
	layer_test_close(t);
}

static void test_empty_file(void **state)
{
	static const char *const modes[] = { "writeback", "none", "default" };

	for (unsigned i = 0; i < 3; i++) {
		struct layer_test *t = layer_test_open(&with_ring, "file %s cache=%s",
						       make_file(here, "a", 0), modes[i]);

		assert_int_equal(layer_test_size(t), 0);
		assert_int_equal(layer_flush(layer_client(t, 0)), 0);
		layer_test_close(t);
	}
}

static void test_read_only_is_asked_for(void **state)
{
	const char *path = make_file(here, "a", MIB);
	struct layer_test *t = layer_test_open(&read_only, "file %s", path);
	struct layer_client *c = layer_client(t, 0);

	assert_true(layer_test_traits(t)->read_only);
	assert_int_equal(layer_fill(c, 0, 512, 1), -EROFS);
	assert_int_equal(layer_resize(c, 0), -EROFS);
	assert_true(layer_is(c, 0, 4096, 0));
	assert_int_equal(layer_flush(c), 0);
	layer_test_close(t);
}

/* A stack of `file` with one parameter, without workers. */
static int plan_and(int (*what)(struct nr_stack **stack, const struct nr_plan *plan,
				struct nr_error *error),
		    struct nr_stack **stack, const char *key, const char *value)
{
	struct nr_setting setting = { key, value };
	struct nr_plan_layer layer = { &nr_file_type, &setting, 1 };
	struct nr_plan plan = { .layers = &layer, .layer_count = 1, .worker_count = 1 };
	struct nr_error error;

	return what(stack, &plan, &error);
}

static int open_default(struct nr_stack **stack, const struct nr_plan *plan, struct nr_error *error)
{
	return nr_stack_open(stack, plan, "", error);
}

static void test_file_that_may_not_be_written_is_read_only(void **state)
{
	const char *path = make_file(here, "a", MIB);
	struct nr_stack *stack = NULL;
	bool reachable, root = geteuid() == 0;

	assert_int_equal(chmod(path, 0444), 0);
	assert_int_equal(chmod(here, 0755), 0);
	/* Root may write everything; nobody may not be able to come here. */
	if (root)
		assert_int_equal(seteuid(65534), 0);
	reachable = euidaccess(path, R_OK) == 0;
	if (reachable && plan_and(open_default, &stack, "file", path))
		stack = NULL;
	if (root)
		assert_int_equal(seteuid(0), 0);
	if (!reachable)
		skip();
	assert_non_null(stack);
	assert_true(nr_stack_traits(stack)->read_only);
	nr_stack_close(stack);
}

static void test_odd_size_is_served_to_the_last_byte(void **state)
{
	const char *path = make_file(here, "a", MIB + 1000);
	struct layer_test *t = layer_test_open(&with_ring, "file %s cache=none", path);
	struct layer_client *c = layer_client(t, 0);

	put(path, MIB, 1000, 3);
	assert_int_equal(layer_test_size(t), MIB + 1000);
	assert_int_equal(layer_test_traits(t)->block_min, 1);
	assert_true(layer_is(c, MIB - 10, 10, 0));
	assert_true(layer_is(c, MIB, 1000, 3));
	assert_int_equal(layer_fill(c, MIB + 999, 1, 4), 0);
	assert_true(layer_is(c, MIB + 999, 1, 4));
	layer_test_close(t);
	assert_int_equal(stat_of(path).st_size, MIB + 1000);
}

/* ---- size -------------------------------------------------------------- */

static void test_file_cut_off_under_us_fails_reads(void **state)
{
	static const char *const modes[] = { "writeback", "none", "writeback" };
	static const char *const folders[] = { here, here, shm };

	for (unsigned i = 0; i < 3; i++) {
		const char *path = make_file(folders[i], "a", 4 * MIB);
		struct layer_test *t;
		struct layer_client *c;
		uint8_t data[8192];

		put(path, 0, 3 * MIB, 5);
		t = layer_test_open(&with_ring, "file %s cache=%s", path, modes[i]);
		c = layer_client(t, 0);
		assert_int_equal(truncate(path, 1 * MIB + 4096), 0);
		assert_int_equal(layer_read(c, MIB, 8192, data), -EIO);
		assert_int_equal(layer_read(c, 2 * MIB, 8192, data), -EIO);
		/* What was a hole is gone as well. */
		assert_int_equal(layer_read(c, 3 * MIB + 65536, 8192, data), -EIO);
		assert_int_equal(layer_read(c, MIB - 4096, 8192, data), 0);
		assert_non_null(strstr(layer_map(c, 0, 4 * MIB), "data"));
		layer_test_close(t);
	}
}

static void test_new_size_is_seen_by_new_connections(void **state)
{
	const char *path = make_file(here, "a", MIB);
	struct layer_test *t = layer_test_open(&with_ring, "file %s", path);
	struct layer_client *c = layer_client(t, 0);
	struct nr_error error;

	assert_int_equal(layer_fill(c, 0, MIB, 1), 0);
	assert_int_equal(truncate(path, 8 * MIB), 0);
	put(path, 6 * MIB, 4096, 7);
	assert_int_equal(layer_test_size(t), MIB);
	assert_int_equal(nr_stack_refresh(layer_test_stack(t), &error), 0);
	assert_int_equal(layer_test_size(t), 8 * MIB);
	assert_true(layer_is(c, 6 * MIB, 4096, 7) && layer_is(c, 7 * MIB, MIB, 0));
	if (has_holes(here))
		assert_string_equal(segments_of(c, 7 * MIB, MIB), "1048576:hole");
	assert_int_equal(layer_fill(c, 7 * MIB, MIB, 2), 0);
	assert_true(layer_is(c, 7 * MIB, MIB, 2));
	layer_test_close(t);
}

static void test_resize(void **state)
{
	const char *path = make_file(here, "a", MIB);
	struct layer_test *t = layer_test_open(&with_ring, "file %s", path);
	struct layer_client *c = layer_client(t, 0);

	assert_int_equal(layer_resize(c, 2 * MIB + 1), 0);
	assert_int_equal(layer_test_size(t), 2 * MIB + 1);
	assert_int_equal(stat_of(path).st_size, 2 * MIB + 1);
	assert_true(layer_is(c, MIB, MIB + 1, 0));
	assert_int_equal(layer_resize(c, 100), 0);
	assert_int_equal(stat_of(path).st_size, 100);
	assert_true(layer_resize(c, UINT64_MAX) < 0);
	assert_int_equal(layer_test_size(t), 100);
	layer_test_close(t);

	if (!offers_direct(here))
		return;
	t = layer_test_open(&with_ring, "file %s cache=none", make_file(here, "a", MIB));
	assert_int_equal(layer_resize(layer_client(t, 0), MIB + 1), -EINVAL);
	assert_int_equal(layer_resize(layer_client(t, 0), MIB + 65536), 0);
	assert_int_equal(layer_test_size(t), MIB + 65536);
	layer_test_close(t);
}

/* ---- what cannot be served --------------------------------------------- */

static void refused(int code, const char *words, const char *plan)
{
	struct nr_error error;

	assert_int_equal(layer_test_refused(&with_ring, &error, "%s", plan), code);
	if (!strstr(error.text, words))
		fail_msg("\"%s\" is not in \"%s\"", words, error.text);
}

static void test_refusals_say_what_and_how(void **state)
{
	char plan[512];

	refused(-EINVAL, "give file=PATH, dir=FOLDER or fd=NUMBER", "file");
	refused(-EINVAL, "only one of", "file file=/a dir=/b");
	refused(-EINVAL, "only one of", "file dir=/b fd=3");
	refused(-ENOENT, "/there/is/no/such.img: No such file or directory",
		"file /there/is/no/such.img");
	snprintf(plan, sizeof(plan), "file %s", here);
	refused(-EISDIR, "is a directory; use dir=", plan);
	refused(-EINVAL, "/dev/null is a character device", "file /dev/null");
	assert_int_equal(mkfifo(in(here, "fifo"), 0600), 0);
	snprintf(plan, sizeof(plan), "file %s", in(here, "fifo"));
	refused(-EINVAL, "is a pipe", plan);
	assert_int_equal(mknod(in(here, "socket"), S_IFSOCK | 0600, 0), 0);
	snprintf(plan, sizeof(plan), "file %s", in(here, "socket"));
	refused(-EINVAL, "is a socket", plan);
	refused(-EOPNOTSUPP, "cache=none is not possible", "file /proc/version cache=none");
	refused(-EOPNOTSUPP, "cache=dontcache is not possible",
		"file /proc/version cache=dontcache");
	refused(-EBADF, "fd=999 is not open", "file fd=999");
	refused(-EINVAL, "cache", "file /a cache=sometimes");
	refused(-ENOENT, "dir=/there/is/none", "file dir=/there/is/none");
	snprintf(plan, sizeof(plan), "file dir=%s", make_file(here, "a", 1));
	refused(-ENOTDIR, "is not a directory; use file=", plan);
}

static void test_inherited_descriptor(void **state)
{
	const char *path = make_file(here, "a", MIB);
	struct nr_error error;
	struct layer_test *t;
	int fd = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC);

	t = layer_test_open(&with_ring, "file fd=%d", fd);
	/* The descriptor is the caller's: it can go. */
	assert_int_equal(close(fd), 0);
	assert_int_equal(layer_fill(layer_client(t, 0), 0, MIB, 5), 0);
	assert_true(layer_is(layer_client(t, 0), 0, MIB, 5));
	layer_test_close(t);

	fd = open(path, O_RDONLY | O_CLOEXEC);
	t = layer_test_open(&with_ring, "file fd=%d", fd);
	assert_true(layer_test_traits(t)->read_only);
	layer_test_close(t);
	if (offers_direct(here)) {
		t = layer_test_open(&with_ring, "file fd=%d cache=none", fd);
		assert_true(layer_is(layer_client(t, 0), 0, MIB, 5));
		layer_test_close(t);
		/* Whoever has the descriptor does not find it changed. */
		assert_false(fcntl(fd, F_GETFL) & O_DIRECT);
	}
	assert_int_equal(close(fd), 0);

	fd = open(path, O_RDWR | O_APPEND | O_CLOEXEC);
	assert_int_equal(layer_test_refused(&with_ring, &error, "file fd=%d", fd), -EINVAL);
	assert_int_equal(close(fd), 0);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	assert_int_equal(layer_test_refused(&with_ring, &error, "file fd=%d", fd), -EBADF);
	assert_int_equal(close(fd), 0);
}

/* ---- dir= -------------------------------------------------------------- */

struct names {
	char text[256];
	size_t used;
};

static void add_name(void *context, const char *name, const char *description)
{
	struct names *names = context;

	names->used += (size_t)snprintf(names->text + names->used,
					sizeof(names->text) - names->used, "%s ", name);
	assert_true(names->used < sizeof(names->text));
}

static int open_export(const char *folder, const char *name)
{
	struct layer_options options = { .ring = true, .export_name = name };
	struct nr_error error;

	return layer_test_refused(&options, &error, "file dir=%s", folder);
}

static void test_dir_serves_each_file(void **state)
{
	const char *backend_name;
	struct layer_options options = { .ring = true, .export_name = "b.img" };
	struct names names = { .used = 0 };
	char folder[128];
	struct nr_stack *stack;
	struct layer_test *t;
	struct nr_error error;

	snprintf(folder, sizeof(folder), "%s", in(here, "dir"));
	assert_int_equal(mkdir(folder, 0700), 0);
	assert_int_equal(mkdir(in(folder, "sub"), 0700), 0);
	assert_int_equal(mkfifo(in(folder, "fifo"), 0600), 0);
	(void)make_file(folder, "b.img", MIB);
	(void)make_file(folder, "a.img", 100);
	(void)make_file(folder, "sub/inside", 300);
	(void)make_file(here, "secret", 100);
	assert_int_equal(symlink("a.img", in(folder, "link")), 0);
	assert_int_equal(symlink("../secret", in(folder, "escape")), 0);
	assert_int_equal(symlink("/etc/passwd", in(folder, "absolute")), 0);
	assert_int_equal(symlink("sub/../a.img", in(folder, "round")), 0);

	assert_int_equal(plan_and(nr_stack_prepare, &stack, "dir", folder), 0);
	assert_true(nr_stack_many(stack));
	assert_int_equal(nr_stack_exports(stack, add_name, &names, &error), 0);
	assert_string_equal(names.text, "a.img b.img link round ");
	assert_int_equal(nr_stack_find(stack, "a.img", &backend_name, &error), 0);
	assert_int_equal(nr_stack_find(stack, "link", &backend_name, &error), 0);
	assert_int_equal(nr_stack_find(stack, "none", &backend_name, &error), -ENOENT);
	nr_stack_discard(stack);

	t = layer_test_open(&options, "file dir=%s", folder);
	assert_int_equal(layer_test_size(t), MIB);
	layer_test_close(t);
	options.export_name = "link";
	t = layer_test_open(&options, "file dir=%s", folder);
	assert_int_equal(layer_test_size(t), 100);
	layer_test_close(t);
}

static void test_dir_cannot_be_left(void **state)
{
	const char *backend_name;
	static const char *const names[] = {
		"",
		".",
		"..",
		"../secret",
		"/etc/passwd",
		"sub/inside",
		"sub/../b.img",
		"escape",
		"absolute",
		"sub",
		"sub/",
		"b.img/",
		"./b.img",
		"//b.img",
		"fifo",
		"\xff\xfe",
		"..\\secret",
		"b.img\n",
	};
	struct nr_stack *stack;
	struct nr_error error;
	char folder[128];

	snprintf(folder, sizeof(folder), "%s", in(here, "dir"));
	assert_int_equal(plan_and(nr_stack_prepare, &stack, "dir", folder), 0);
	for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		assert_int_equal(nr_stack_find(stack, names[i], &backend_name, &error), -ENOENT);
		assert_true(open_export(folder, names[i]) < 0);
	}
	nr_stack_discard(stack);
	assert_int_equal(open_export(folder, "escape"), -EXDEV);
	assert_int_equal(open_export(folder, ""), -ENOENT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_traits_of_a_regular_file),
		cmocka_unit_test(test_direct_states_its_alignment),
		cmocka_unit_test(test_empty_file),
		cmocka_unit_test(test_read_only_is_asked_for),
		cmocka_unit_test(test_file_that_may_not_be_written_is_read_only),
		cmocka_unit_test(test_odd_size_is_served_to_the_last_byte),
		cmocka_unit_test(test_file_cut_off_under_us_fails_reads),
		cmocka_unit_test(test_new_size_is_seen_by_new_connections),
		cmocka_unit_test(test_resize),
		cmocka_unit_test(test_refusals_say_what_and_how),
		cmocka_unit_test(test_inherited_descriptor),
		cmocka_unit_test(test_dir_serves_each_file),
		cmocka_unit_test(test_dir_cannot_be_left),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
