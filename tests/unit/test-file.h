/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the tests of the backend `file` share: files to serve, on the file system
 * of the folder the tests run in and on tmpfs.  Each test program has folders of
 * its own.
 */
#ifndef TESTS_UNIT_TEST_FILE_H
#define TESTS_UNIT_TEST_FILE_H

#include "tests/unit/layer-test.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cmocka.h>

#include "ring/ring.h"

#define KIB 1024u
#define MIB (1024u * 1024u)

static const struct layer_options with_ring = { .ring = true };

/* A folder of the test's own: here, or on tmpfs. */
static char here[64], shm[64];

static inline int set_up(void **state)
{
	snprintf(here, sizeof(here), "test-file-XXXXXX");
	snprintf(shm, sizeof(shm), "/dev/shm/test-file-XXXXXX");
	return mkdtemp(here) && mkdtemp(shm) ? 0 : -1;
}

static inline int tear_down(void **state)
{
	char command[256];

	snprintf(command, sizeof(command), "rm -rf %s %s", here, shm);
	return system(command);
}

/* A path that stays good until the next but three calls. */
static inline const char *in(const char *folder, const char *name)
{
	static char path[4][512];
	static unsigned next;
	char *is = path[next++ % 4];

	assert_in_range(snprintf(is, sizeof(path[0]), "%s/%s", folder, name), 1, sizeof(path[0]));
	return is;
}

static inline const char *make_file(const char *folder, const char *name, uint64_t size)
{
	const char *path = in(folder, name);
	int fd;

	(void)unlink(path);
	fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)size), 0);
	assert_int_equal(close(fd), 0);
	return path;
}

static inline void put(const char *path, uint64_t offset, uint64_t length, uint8_t byte)
{
	int fd = open(path, O_RDWR | O_CLOEXEC);
	void *data = malloc(length);

	assert_true(fd >= 0 && data);
	memset(data, byte, length);
	assert_int_equal(pwrite(fd, data, length, (off_t)offset), length);
	free(data);
	assert_int_equal(close(fd), 0);
}

static inline struct stat stat_of(const char *path)
{
	struct stat st;

	assert_int_equal(stat(path, &st), 0);
	return st;
}

static inline bool offers_direct(const char *folder)
{
	int fd = open(make_file(folder, "direct", 4096), O_RDONLY | O_DIRECT | O_CLOEXEC);

	if (fd >= 0)
		(void)close(fd);
	return fd >= 0;
}

/* Holes are found in units of the file system's blocks: skip where those are odd. */
static inline bool has_holes(const char *folder)
{
	const char *path = make_file(folder, "holes", MIB);
	int fd = open(path, O_RDWR | O_CLOEXEC);
	off_t data;

	put(path, 512 * KIB, 4096, 1);
	data = lseek(fd, 0, SEEK_DATA);
	(void)close(fd);
	return data == 512 * KIB;
}

/* Random requests against FOLDER, compared with memory. */
static inline void run_model(const char *folder, const char *cache, uint64_t segment_bytes)
{
	struct layer_options options = { .ring = true, .segment_bytes = segment_bytes };
	struct layer_model model = {
		.seed = layer_seed(20),
		.requests = 1500,
		.length_max = 300 * KIB,
		.check_extents = true,
	};
	const char *path = make_file(folder, "model", 3 * MIB);
	struct layer_test *t = layer_test_open(&options, "file %s cache=%s", path, cache);

	layer_model_run(layer_client(t, 0), &model);
	layer_test_close(t);
	assert_int_equal(stat_of(path).st_size, 3 * MIB);
}

/* "4096:data 8192:hole": the segments a read came in. */
static inline const char *segments_of(struct layer_client *c, uint64_t offset, uint64_t length)
{
	static char text[256];
	struct nr_request *req = layer_start(c, NR_READ, 0, offset, length, NULL, NULL);
	size_t used = 0;

	text[0] = '\0';
	assert_int_equal(layer_wait(c, req), 0);
	for (uint32_t i = 0; i < req->segment_count && used < sizeof(text); i++)
		used += (size_t)snprintf(text + used, sizeof(text) - used, "%s%llu:%s",
					 i ? " " : "", (unsigned long long)req->segments[i].length,
					 req->segments[i].data ? "data" : "hole");
	layer_end(c, req);
	return text;
}

#endif
