/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The reactor on files: positions, ends, short transfers, O_DIRECT through the
 * registered arena, syncing, allocating and discarding.
 */
#include "test-ring-common.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

/* An unnamed file on a disk; tmpfs would not do for O_DIRECT. */
static int temporary(int flags)
{
	char path[] = "/var/tmp/nbdring-test-XXXXXX", by_fd[64];
	int fd = mkstemp(path), again;

	assert_true(fd >= 0);
	(void)snprintf(by_fd, sizeof(by_fd), "/proc/self/fd/%d", fd);
	again = open(by_fd, O_RDWR | O_CLOEXEC | flags);
	unlink(path);
	close(fd);
	return again;
}

static int64_t write_now(struct nr_ring *ring, int fd, const void *data, size_t length,
			 uint64_t offset)
{
	struct operation o;

	operation_init(&o);
	nr_ring_write(ring, &o.c, fd, data, length, offset);
	return operation_wait(ring, &o);
}

static int64_t read_now(struct nr_ring *ring, int fd, void *data, size_t length, uint64_t offset)
{
	struct operation o;

	operation_init(&o);
	nr_ring_read(ring, &o.c, fd, data, length, offset);
	return operation_wait(ring, &o);
}

static void what_is_written_is_read(void **state)
{
	struct nr_ring *ring = *state;
	size_t length = 3 * MIB + 17;
	char *data = malloc(length), *back = malloc(length);
	int fd = temporary(0);

	fill_pattern(data, length, 0);
	assert_int_equal(write_now(ring, fd, data, length, 5), length);
	assert_int_equal(read_now(ring, fd, back, length, 5), length);
	check_pattern(back, length, 0);
	assert_int_equal(read_now(ring, fd, back, 1000, 1000), 1000);
	check_pattern(back, 1000, 995);
	close(fd);
	free(data);
	free(back);
}

static void read_at_the_end_is_short(void **state)
{
	struct nr_ring *ring = *state;
	char data[100];
	int fd = temporary(0);

	assert_int_equal(write_now(ring, fd, "0123456789", 10, 0), 10);
	assert_int_equal(read_now(ring, fd, data, 100, 4), 6);
	assert_memory_equal(data, "456789", 6);
	assert_int_equal(read_now(ring, fd, data, 100, 10), 0);
	assert_int_equal(read_now(ring, fd, data, 100, 1 << 20), 0);
	close(fd);
}

static void vectors_of_files(void **state)
{
	struct nr_ring *ring = *state;
	char a[10], b[1], c[5000], end[16];
	struct iovec parts[] = {
		{ a, sizeof(a) }, { b, sizeof(b) }, { NULL, 0 }, { c, sizeof(c) }
	};
	struct iovec again[] = {
		{ a, sizeof(a) }, { b, sizeof(b) }, { c, sizeof(c) }, { end, 16 }
	};
	struct operation o;
	int fd = temporary(0);

	fill_pattern(a, sizeof(a), 0);
	fill_pattern(b, sizeof(b), 10);
	fill_pattern(c, sizeof(c), 11);
	operation_init(&o);
	nr_ring_write_vec(ring, &o.c, fd, parts, 4, 100);
	assert_int_equal(operation_wait(ring, &o), 5011);
	memset(a, 0, sizeof(a));
	memset(c, 0, sizeof(c));
	nr_ring_read_vec(ring, &o.c, fd, again, 4, 100);
	assert_int_equal(operation_wait(ring, &o), 5011);
	check_pattern(a, sizeof(a), 0);
	check_pattern(c, sizeof(c), 11);
	close(fd);
}

/* A pipe gives what it has: the rest of the read must follow by itself. */
static void short_reads_are_continued(void **state)
{
	struct nr_ring *ring = *state;
	char data[4000], back[4000];
	struct iovec parts[] = { { back, 1500 }, { back + 1500, 2500 } };
	struct operation o;
	int tube[2];

	assert_int_equal(pipe(tube), 0);
	fill_pattern(data, sizeof(data), 0);
	for (int vector = 0; vector < 2; vector++) {
		memset(back, 0, sizeof(back));
		operation_init(&o);
		if (vector)
			nr_ring_read_vec(ring, &o.c, tube[0], parts, 2, 0);
		else
			nr_ring_read(ring, &o.c, tube[0], back, sizeof(back), 0);
		for (size_t at = 0; at < sizeof(data); at += 400) {
			nr_ring_turn(ring, false);
			nr_ring_turn(ring, false);
			assert_int_equal(o.ended, 0);
			assert_int_equal(write(tube[1], data + at, 400), 400);
		}
		assert_int_equal(operation_wait(ring, &o), sizeof(back));
		check_pattern(back, sizeof(back), 0);
	}
	close_both(tube);
}

/* A descriptor that would say EAGAIN to read(2). */
static void reads_of_what_has_nothing_yet_wait(void **state)
{
	struct nr_ring *ring = *state;
	int watch = inotify_init1(IN_NONBLOCK | IN_CLOEXEC), fd = temporary(0);
	struct operation o, pause;
	struct inotify_event event;
	char by_fd[64];

	(void)snprintf(by_fd, sizeof(by_fd), "/proc/self/fd/%d", fd);
	assert_true(inotify_add_watch(watch, by_fd, IN_MODIFY) >= 0);
	operation_init(&o);
	operation_init(&pause);
	nr_ring_read(ring, &o.c, watch, &event, sizeof(event), 0);
	nr_ring_timeout(ring, &pause.c, 20000000);
	(void)operation_wait(ring, &pause);
	assert_int_equal(o.ended, 0);
	assert_int_equal(write(fd, "x", 1), 1);
	assert_int_equal(operation_wait(ring, &o), sizeof(event));
	assert_true(event.mask & IN_MODIFY);

	/* Cancelled while it waits. */
	nr_ring_read(ring, &o.c, watch, &event, sizeof(event), 0);
	nr_ring_timeout(ring, &pause.c, 5000000);
	(void)operation_wait(ring, &pause);
	nr_ring_cancel(ring, &o.c);
	assert_int_equal(operation_wait(ring, &o), -ECANCELED);
	close(watch);
	close(fd);
}

static void errors_of_files(void **state)
{
	struct nr_ring *ring = *state;
	char byte = 0;
	int full = open("/dev/full", O_RDWR | O_CLOEXEC), fd = temporary(0);

	assert_int_equal(write_now(ring, full, &byte, 1, 0), -ENOSPC);
	assert_int_equal(read_now(ring, fd, &byte, 1, (uint64_t)1 << 63), -EINVAL);
	assert_int_equal(read_now(ring, fd, (void *)1, 4096, 0), 0); /* an empty file */
	assert_int_equal(write_now(ring, fd, (void *)1, 4096, 0), -EFAULT);
	close(full);
	close(fd);
}

/* ---- O_DIRECT ---------------------------------------------------------- */

static void direct_through_the_arena(void **state)
{
	struct nr_ring *ring = *state;
	struct nr_arena *arena = nr_ring_arena(ring);
	int fd = temporary(O_DIRECT);
	char *out, *in;

	if (fd < 0)
		skip();
	out = nr_arena_get(arena, MIB, NR_BLOCK_LAYER);
	in = nr_arena_get(arena, MIB, NR_BLOCK_LAYER);
	fill_pattern(out, MIB, 0);
	for (size_t at = 0; at < 8 * MIB; at += MIB)
		assert_int_equal(write_now(ring, fd, out, MIB, at), MIB);
	for (size_t at = 0; at < 8 * MIB; at += MIB) {
		memset(in, 0, MIB);
		assert_int_equal(read_now(ring, fd, in, MIB, at), MIB);
		check_pattern(in, MIB, 0);
	}
	nr_arena_release(arena, in);
	nr_arena_release(arena, out);
	close(fd);
}

static void direct_vectors_through_the_arena(void **state)
{
	struct nr_ring *ring = *state;
	struct nr_arena *arena = nr_ring_arena(ring);
	int fd = temporary(O_DIRECT);
	struct iovec parts[3], again[3];
	struct operation o;
	char *block, *plain;

	if (fd < 0)
		skip();
	block = nr_arena_get(arena, 65536, NR_BLOCK_LAYER);
	assert_int_equal(posix_memalign((void **)&plain, 4096, 16384), 0);
	/* Wholly in the registered part, then partly. */
	for (int mixed = 0; mixed < 2; mixed++) {
		fill_pattern(block, 65536, 0);
		memcpy(plain, block + 8192, 16384);
		parts[0] = (struct iovec){ block, 8192 };
		parts[1] = (struct iovec){ mixed ? plain : block + 8192, 16384 };
		parts[2] = (struct iovec){ block + 24576, 40960 };
		memcpy(again, parts, sizeof(parts));
		operation_init(&o);
		nr_ring_write_vec(ring, &o.c, fd, parts, 3, 65536);
		assert_int_equal(operation_wait(ring, &o), 65536);
		memset(block, 0, 65536);
		memset(plain, 0, 16384);
		nr_ring_read_vec(ring, &o.c, fd, again, 3, 65536);
		assert_int_equal(operation_wait(ring, &o), 65536);
		if (mixed)
			memcpy(block + 8192, plain, 16384);
		check_pattern(block, 65536, 0);
	}
	free(plain);
	nr_arena_release(arena, block);
	close(fd);
}

static void direct_read_of_a_tail_that_is_not_aligned(void **state)
{
	struct nr_ring *ring = *state;
	struct nr_arena *arena = nr_ring_arena(ring);
	int fd = temporary(O_DIRECT);
	char *block;

	if (fd < 0)
		skip();
	block = nr_arena_get(arena, 65536, NR_BLOCK_LAYER);
	fill_pattern(block, 65536, 0);
	assert_int_equal(write_now(ring, fd, block, 65536, 0), 65536);
	assert_int_equal(ftruncate(fd, 5000), 0);
	memset(block, 0, 65536);
	assert_int_equal(read_now(ring, fd, block, 65536, 0), 5000);
	check_pattern(block, 5000, 0);
	assert_int_equal(read_now(ring, fd, block, 4096, 100), -EINVAL);
	nr_arena_release(arena, block);
	close(fd);
}

/* ---- syncing, allocating, discarding ----------------------------------- */

static void flags_of_a_write_last_for_one_operation(void **state)
{
	struct nr_ring *ring = *state;
	struct operation o;
	char data[10] = "abc";
	int fd = temporary(0);

	operation_init(&o);
	nr_completion_set_rw_flags(&o.c, RWF_DSYNC);
	nr_ring_write(ring, &o.c, fd, data, 10, 0);
	assert_int_equal(operation_wait(ring, &o), 10);
	nr_completion_set_rw_flags(&o.c, 0x40000000); /* nothing the kernel knows */
	nr_ring_write(ring, &o.c, fd, data, 10, 0);
	assert_true(operation_wait(ring, &o) < 0);
	nr_ring_write(ring, &o.c, fd, data, 10, 0);
	assert_int_equal(operation_wait(ring, &o), 10);
	close(fd);
}

static void writes_that_are_known_to_block(void **state)
{
	struct nr_ring *ring = *state;
	struct operation o[8];
	char data[sizeof(o) / sizeof(o[0]) * 4096], back[sizeof(data)];
	int fd = temporary(0);

	fill_pattern(data, sizeof(data), 0);
	for (unsigned i = 0; i < sizeof(o) / sizeof(o[0]); i++) {
		operation_init(&o[i]);
		if (i % 2 == 0)
			nr_completion_set_blocking(&o[i].c);
		nr_ring_write(ring, &o[i].c, fd, data + (size_t)4096 * i, 4096, UINT64_C(4096) * i);
	}
	for (unsigned i = 0; i < sizeof(o) / sizeof(o[0]); i++)
		assert_int_equal(operation_wait(ring, &o[i]), 4096);
	assert_int_equal(read_now(ring, fd, back, sizeof(back), 0), sizeof(back));
	check_pattern(back, sizeof(back), 0);
	close(fd);
}

static void sync_and_allocate(void **state)
{
	struct nr_ring *ring = *state;
	struct operation o;
	struct stat status;
	char data[4096], zeroes[4096] = { 0 };
	int fd = temporary(0), tube[2];

	memset(data, 'x', sizeof(data));
	for (uint64_t at = 0; at < 65536; at += sizeof(data))
		assert_int_equal(write_now(ring, fd, data, sizeof(data), at), sizeof(data));
	operation_init(&o);
	nr_ring_fsync(ring, &o.c, fd, true);
	assert_int_equal(operation_wait(ring, &o), 0);
	nr_ring_fsync(ring, &o.c, fd, false);
	assert_int_equal(operation_wait(ring, &o), 0);
	nr_ring_fallocate(ring, &o.c, fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 4096, 8192);
	assert_int_equal(operation_wait(ring, &o), 0);
	assert_int_equal(read_now(ring, fd, data, sizeof(data), 8192), sizeof(data));
	assert_memory_equal(data, zeroes, sizeof(data));
	nr_ring_fallocate(ring, &o.c, fd, 0, 0, 1 << 20);
	assert_int_equal(operation_wait(ring, &o), 0);
	assert_int_equal(fstat(fd, &status), 0);
	assert_int_equal(status.st_size, 1 << 20);
	nr_ring_fallocate(ring, &o.c, fd, 0x4000, 0, 4096);
	assert_int_equal(operation_wait(ring, &o), -EOPNOTSUPP);

	assert_int_equal(pipe(tube), 0);
	nr_ring_fsync(ring, &o.c, tube[0], true);
	assert_int_equal(operation_wait(ring, &o), -EINVAL);
	close_both(tube);
	close(fd);
}

static void discard_of_what_is_no_block_device_is_refused(void **state)
{
	struct nr_ring *ring = *state;
	struct operation o;
	int fd = temporary(0);

	operation_init(&o);
	nr_ring_discard(ring, &o.c, fd, 0, 4096);
	assert_int_equal(operation_wait(ring, &o), -EOPNOTSUPP);
	close(fd);
}

/* A loop device over FD; -1 where this machine gives none. */
static int attach_loop(int fd)
{
	int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC), device = -1, number;
	char path[32];

	for (int tries = 0; control >= 0 && tries < 10 && device < 0; tries++) {
		number = ioctl(control, LOOP_CTL_GET_FREE);
		if (number < 0)
			break;
		(void)snprintf(path, sizeof(path), "/dev/loop%d", number);
		device = open(path, O_RDWR | O_CLOEXEC);
		if (device < 0)
			break;
		/* Another test may have been faster. */
		if (ioctl(device, LOOP_SET_FD, fd) < 0) {
			close(device);
			device = -1;
		}
	}
	if (control >= 0)
		close(control);
	return device;
}

static void discard_on_a_block_device(void **state)
{
	struct nr_ring *ring = *state;
	char data[4096], zeroes[4096] = { 0 };
	struct operation o;
	int fd = temporary(0), device;

	assert_int_equal(ftruncate(fd, 4 * (off_t)MIB), 0);
	device = attach_loop(fd);
	if (device < 0 || !nr_ring_report(ring)->discard) {
		close(fd);
		skip();
	}
	memset(data, 'x', sizeof(data));
	assert_int_equal(write_now(ring, device, data, sizeof(data), 65536), sizeof(data));
	operation_init(&o);
	nr_ring_fsync(ring, &o.c, device, true);
	assert_int_equal(operation_wait(ring, &o), 0);
	nr_ring_discard(ring, &o.c, device, 65536, 65536);
	assert_int_equal(operation_wait(ring, &o), 0);
	assert_int_equal(read_now(ring, fd, data, sizeof(data), 65536), sizeof(data));
	assert_memory_equal(data, zeroes, sizeof(data));
	nr_ring_discard(ring, &o.c, device, 1, 1);
	assert_int_equal(operation_wait(ring, &o), -EINVAL);
	assert_int_equal(ioctl(device, LOOP_CLR_FD), 0);
	close(device);
	close(fd);
}

/* The sum of what was written to the eventfd FD since it was asked last. */
static uint64_t written(int fd)
{
	uint64_t sum = 0;

	return read(fd, &sum, sizeof(sum)) == sizeof(sum) ? sum : 0;
}

static void what_is_hastened_begins_before_the_turn(void **state)
{
	enum { COUNT = 48 };
	struct nr_ring *ring = *state;
	const uint64_t one = 1;
	struct operation o[COUNT];
	int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	unsigned early = 0, ended = 0;

	assert_true(fd >= 0);
	nr_ring_hasten(ring); /* before the ring was ever used: does nothing */
	nr_ring_turn(ring, false);
	for (unsigned i = 0; i < COUNT; i++) {
		operation_init(&o[i]);
		nr_ring_write(ring, &o[i].c, fd, &one, sizeof(one), 0);
		if (i < 2)
			assert_int_equal(written(fd), 0); /* not worth a call */
		nr_ring_hasten(ring);
		early += (unsigned)written(fd);
		ended += o[i].ended;
	}
	assert_true(early > COUNT / 2);
	assert_int_equal(ended, 0); /* only from turns */
	for (unsigned i = 0; i < COUNT; i++)
		assert_int_equal(operation_wait(ring, &o[i]), sizeof(one));
	assert_int_equal(early + written(fd), COUNT);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		ring_test(what_is_written_is_read),
		ring_test(read_at_the_end_is_short),
		ring_test(vectors_of_files),
		ring_test(short_reads_are_continued),
		ring_test(reads_of_what_has_nothing_yet_wait),
		ring_test(errors_of_files),
		ring_test(direct_through_the_arena),
		ring_test(direct_vectors_through_the_arena),
		ring_test(direct_read_of_a_tail_that_is_not_aligned),
		ring_test(flags_of_a_write_last_for_one_operation),
		ring_test(writes_that_are_known_to_block),
		ring_test(sync_and_allocate),
		ring_test(discard_of_what_is_no_block_device_is_refused),
		ring_test(discard_on_a_block_device),
		ring_test(what_is_hastened_begins_before_the_turn),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
