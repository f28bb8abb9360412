/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the tests of the backend `mirror` need: files for legs in a folder of their own, what
 * the status file says, and lines of the log.
 */
#ifndef TESTS_UNIT_MIRROR_TEST_H
#define TESTS_UNIT_MIRROR_TEST_H

#include "tests/unit/layer-test.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdatomic.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/unit/filter-table.h"

#define KIB 1024u
#define MIB (1024u * 1024u)

static struct layer_options options;
static char here[64];

/* A line of the log that is waited for. */
static const char *_Atomic awaited;
static atomic_bool said;

static inline void take_line(const struct nr_layer *layer, enum nr_layer_log_level level,
			     const char *line)
{
	const char *text = atomic_load(&awaited);

	if (text && strstr(line, text))
		atomic_store(&said, true);
}

static inline int set_up(void **state)
{
	static struct nr_surroundings surroundings;

	filter_table_options(&options);
	surroundings = *options.surroundings;
	surroundings.log = take_line;
	options.surroundings = &surroundings;
	snprintf(here, sizeof(here), "/var/tmp/test-mirror-XXXXXX");
	return mkdtemp(here) ? 0 : -1;
}

static inline int tear_down(void **state)
{
	char command[128];

	snprintf(command, sizeof(command), "rm -rf %s", here);
	return system(command);
}

static inline const char *path(const char *name)
{
	static char text[8][128];
	static unsigned next;
	char *to = text[next++ % 8];

	snprintf(to, sizeof(text[0]), "%s/%s", here, name);
	return to;
}

static inline void make_file(const char *name, uint64_t size, uint8_t byte)
{
	int fd = open(path(name), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	uint8_t *data = malloc(size + 1);

	assert_true(fd >= 0 && data);
	memset(data, byte, size);
	assert_int_equal(ftruncate(fd, (off_t)size), 0);
	if (byte)
		assert_int_equal(pwrite(fd, data, size, 0), size);
	free(data);
	assert_int_equal(close(fd), 0);
}

static inline uint64_t read_file(const char *name, uint8_t **data)
{
	int fd = open(path(name), O_RDONLY | O_CLOEXEC);
	struct stat st;

	assert_true(fd >= 0);
	assert_int_equal(fstat(fd, &st), 0);
	*data = malloc((size_t)st.st_size + 1);
	assert_non_null(*data);
	assert_int_equal(read(fd, *data, (size_t)st.st_size), st.st_size);
	assert_int_equal(close(fd), 0);
	return (uint64_t)st.st_size;
}

static inline void write_file(const char *name, const uint8_t *data, uint64_t size)
{
	int fd = open(path(name), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, data, size), size);
	assert_int_equal(close(fd), 0);
}

static inline bool same_files(const char *a, const char *b)
{
	uint8_t *x, *y;
	uint64_t size_x = read_file(a, &x), size_y = read_file(b, &y);
	bool same = size_x == size_y && memcmp(x, y, size_x) == 0;

	free(x);
	free(y);
	return same;
}

static inline bool file_is(const char *name, uint64_t offset, uint64_t length, uint8_t byte)
{
	uint8_t *data;
	uint64_t size = read_file(name, &data);
	bool is = true;

	assert_true(offset + length <= size);
	for (uint64_t i = 0; i < length; i++)
		is &= data[offset + i] == byte;
	free(data);
	return is;
}

/* The number behind "KEY": in the status file, the first after the word FROM. */
static inline uint64_t status(const char *from, const char *key)
{
	char word[64];
	uint8_t *data;
	uint64_t size = read_file("status", &data), number;
	char *at;

	data[size] = '\0';
	at = strstr((char *)data, from);
	assert_non_null(at);
	snprintf(word, sizeof(word), "\"%s\": ", key);
	at = strstr(at, word);
	assert_non_null(at);
	number = strtoull(at + strlen(word), NULL, 10);
	free(data);
	return number;
}

/* Let the worker do what it does in the background until the file tells what is wanted. */
static inline void wait_for_status(struct layer_client *c, const char *from, const char *key,
				   uint64_t wanted)
{
	for (unsigned i = 0; i < 20000; i++) {
		struct timespec pause = { 0, 1000000 };

		layer_turn(c);
		nanosleep(&pause, NULL);
		if (i % 100 == 99 && status(from, key) == wanted)
			return;
	}
	fail_msg("%s never is %llu", key, (unsigned long long)wanted);
}

/* The same until the log has a line with TEXT in it. */
static inline void await_line(struct layer_client *c, const char *text)
{
	atomic_store(&said, false);
	atomic_store(&awaited, text);
	for (unsigned i = 0; i < 20000 && !atomic_load(&said); i++) {
		struct timespec pause = { 0, 1000000 };

		layer_turn(c);
		nanosleep(&pause, NULL);
	}
	assert_true(atomic_load(&said));
}

#endif
