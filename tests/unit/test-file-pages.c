/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Reads of the page cache's own pages: who gets them, and that they say the same as
 * an ordinary read.
 */
#include "tests/unit/test-file.h"

#include <sys/syscall.h>

static const struct layer_options takes_pipes = { .ring = true, .takes_pipes = true };

/* Linux 6.5, and a file system with a page cache to ask about. */
static bool can_ask(const char *path)
{
	uint64_t range[2] = { 0, 4096 }, state[5];
	int fd = open(path, O_RDWR | O_CLOEXEC);
	long err = syscall(451, fd, range, state, 0);

	(void)close(fd);
	return err == 0;
}

/* A file of 2 MiB of data that the page cache holds. */
static const char *cached_file(const char *folder)
{
	const char *path = make_file(folder, "cached", 2 * MIB);

	for (unsigned i = 0; i < 32; i++)
		put(path, i * 64 * KIB, 64 * KIB, (uint8_t)(i + 1));
	if (!can_ask(path))
		skip();
	return path;
}

static void uncache(const char *path)
{
	int fd = open(path, O_RDWR | O_CLOEXEC);

	assert_int_equal(fsync(fd), 0);
	assert_int_equal(posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED), 0);
	assert_int_equal(close(fd), 0);
}

/* How many segments of a read are pipes, after checking what they hold. */
static unsigned pipes_of(struct layer_client *c, uint64_t offset, uint64_t length)
{
	struct nr_request *req = layer_start(c, NR_READ, 0, offset, length, NULL, NULL);
	uint8_t *data = malloc(length);
	uint64_t at = offset;
	unsigned pipes = 0;

	assert_int_equal(layer_wait(c, req), 0);
	for (uint32_t i = 0; i < req->segment_count; i++) {
		const struct nr_segment *segment = &req->segments[i];
		bool is_pipe = segment->owner && segment->owner->kind == NR_BUFFER_PIPE;

		pipes += is_pipe;
		if (is_pipe)
			assert_int_equal(read(segment->owner->pipe, data, segment->length),
					 segment->length);
		else
			memcpy(data, segment->data, segment->length);
		for (uint64_t b = 0; b < segment->length; b++, at++)
			assert_int_equal(data[b], at / (64 * KIB) + 1);
	}
	assert_int_equal(at, offset + length);
	layer_end(c, req);
	free(data);
	return pipes;
}

static void large_cached_reads_are_answered_with_pages(void **state)
{
	const char *const folders[] = { here, shm };

	for (unsigned i = 0; i < 2; i++) {
		struct layer_test *t =
			layer_test_open(&takes_pipes, "file %s", cached_file(folders[i]));

		assert_int_equal(pipes_of(layer_client(t, 0), 0, MIB), 1);
		assert_int_equal(pipes_of(layer_client(t, 0), 12345, 100001), 1);
		assert_int_equal(pipes_of(layer_client(t, 0), MIB, MIB), 1);
		layer_test_close(t);
	}
}

static void small_reads_are_copied(void **state)
{
	struct layer_test *t = layer_test_open(&takes_pipes, "file %s", cached_file(here));

	assert_int_equal(pipes_of(layer_client(t, 0), 4096, 4096), 0);
	layer_test_close(t);
}

static void what_is_not_in_the_cache_is_read_by_the_ring(void **state)
{
	const char *path = cached_file(here);
	struct layer_test *t;

	uncache(path);
	t = layer_test_open(&takes_pipes, "file %s", path);
	assert_int_equal(pipes_of(layer_client(t, 0), 0, MIB), 0);
	layer_test_close(t);
}

static void nobody_is_given_pages_who_does_not_take_them(void **state)
{
	struct layer_test *t = layer_test_open(&with_ring, "file %s", cached_file(here));

	assert_int_equal(pipes_of(layer_client(t, 0), 0, MIB), 0);
	layer_test_close(t);
}

static void past_the_cache_means_past_it(void **state)
{
	struct layer_test *t;

	if (!offers_direct(here))
		skip();
	t = layer_test_open(&takes_pipes, "file %s cache=none", cached_file(here));
	assert_int_equal(pipes_of(layer_client(t, 0), 0, MIB), 0);
	layer_test_close(t);
}

/* A pipe that is not emptied, as when its client leaves, is not used again. */
static void a_pipe_left_full_is_not_used_again(void **state)
{
	struct layer_test *t = layer_test_open(&takes_pipes, "file %s", cached_file(here));
	struct layer_client *c = layer_client(t, 0);

	for (unsigned i = 0; i < 40; i++) {
		struct nr_request *req = layer_start(c, NR_READ, 0, 0, MIB, NULL, NULL);

		assert_int_equal(layer_wait(c, req), 0);
		layer_end(c, req);
	}
	assert_int_equal(pipes_of(c, 0, MIB), 1);
	layer_test_close(t);
}

/* There are only so many pipes; who comes when all are in use is served by copying. */
static void more_reads_than_pipes(void **state)
{
	struct layer_test *t = layer_test_open(&takes_pipes, "file %s", cached_file(here));
	struct layer_client *c = layer_client(t, 0);
	struct nr_request *req[40];
	unsigned pipes = 0;

	for (unsigned i = 0; i < 40; i++)
		req[i] = layer_start(c, NR_READ, 0, 0, 64 * KIB, NULL, NULL);
	for (unsigned i = 0; i < 40; i++) {
		assert_int_equal(layer_wait(c, req[i]), 0);
		assert_non_null(req[i]->segments[0].owner);
		pipes += req[i]->segments[0].owner->kind == NR_BUFFER_PIPE;
	}
	assert_in_range(pipes, 1, 39);
	for (unsigned i = 0; i < 40; i++)
		layer_end(c, req[i]);
	layer_test_close(t);
}

static void a_file_that_was_cut_off_fails_the_read(void **state)
{
	const char *path = cached_file(here);
	struct layer_test *t = layer_test_open(&takes_pipes, "file %s", path);
	uint8_t *data = malloc(MIB);

	assert_int_equal(truncate(path, MIB + 100), 0);
	assert_int_equal(layer_read(layer_client(t, 0), MIB, MIB, data), -EIO);
	assert_int_equal(pipes_of(layer_client(t, 0), 0, MIB), 1);
	free(data);
	layer_test_close(t);
}

static void random_requests_against_a_model(void **state)
{
	const char *const folders[] = { here, shm };

	for (unsigned i = 0; i < 2; i++) {
		struct layer_model model = { .seed = layer_seed(31),
					     .requests = 1500,
					     .length_max = 300 * KIB };
		const char *path = make_file(folders[i], "model", 3 * MIB);
		struct layer_test *t = layer_test_open(&takes_pipes, "file %s", path);

		layer_model_run(layer_client(t, 0), &model);
		layer_test_close(t);
	}
}

/* A filter that looks at data is never given a pipe; the server asks the stack. */
static void filters_that_look_are_known(void **state)
{
	struct layer_test *t = layer_test_open(NULL, "offset offset=4096 | memory 1M");

	assert_true(nr_stack_answers_pass(layer_test_stack(t)));
	layer_test_close(t);
	t = layer_test_open(NULL, "swab | memory 1M");
	assert_false(nr_stack_answers_pass(layer_test_stack(t)));
	layer_test_close(t);
}

/* A backend that answers with bytes of one segment each, a pipe, and such bytes again. */
struct mixed {
	uint64_t before, after; /* bytes */
};

#define PIPED 4096u

static const struct nr_param mixed_params[] = {
	{ .name = "before",
	  .type = NR_PARAM_UINT,
	  .offset = offsetof(struct mixed, before),
	  .help = "bytes before the pipe" },
	{ .name = "after",
	  .type = NR_PARAM_UINT,
	  .offset = offsetof(struct mixed, after),
	  .help = "bytes after the pipe" },
	{ .name = NULL },
};

static int mixed_describe(struct nr_layer *layer, struct nr_traits *t, struct nr_error *error)
{
	const struct mixed *m = layer->instance;

	t->size = m->before + PIPED + m->after;
	return 0;
}

static void mixed_submit(struct nr_layer *layer, struct nr_request *req)
{
	static uint8_t byte = 'm', piped[PIPED] = { [0 ... PIPED - 1] = 'p' };
	const struct mixed *m = layer->instance;
	struct nr_buffer *pipe;
	bool fits = true;
	int fill;

	for (uint64_t i = 0; i < m->before; i++)
		fits = fits && nr_answer_data(req, &byte, 1, NULL);
	pipe = nr_pipe_get(req->worker, 0, PIPED, &fill);
	LAYER_CHECK(pipe && write(fill, piped, PIPED) == (ssize_t)PIPED);
	fits = nr_answer_pipe(req, PIPED, pipe) && fits;
	for (uint64_t i = 0; i < m->after; i++)
		fits = fits && nr_answer_data(req, &byte, 1, NULL);
	nr_finish(layer, req, fits ? 0 : -EIO);
}

static const struct nr_layer_type mixed_type = {
	.abi = NR_LAYER_ABI,
	.name = "mixed",
	.summary = "memory and a pipe",
	.kind = NR_BACKEND,
	.placement = NR_SPREAD,
	.params = mixed_params,
	.instance_size = sizeof(struct mixed),
	.describe = mixed_describe,
	.submit = mixed_submit,
};

static int read_mixed(unsigned before, unsigned after)
{
	static const struct nr_layer_type *const types[] = { &mixed_type, NULL };
	const struct layer_options options = { .takes_pipes = true, .types = types };
	struct layer_test *t = layer_test_open(&options, "mixed before=%u after=%u", before, after);
	uint64_t size = layer_test_size(t);
	uint8_t *data = malloc(size);
	int err = layer_read(layer_client(t, 0), 0, size, data);

	for (uint64_t i = 0; !err && i < size; i++)
		assert_int_equal(data[i], i - before < PIPED ? 'p' : 'm');
	free(data);
	layer_test_close(t);
	return err;
}

static void pieces_around_a_pipe_are_never_copied_together_with_it(void **state)
{
	assert_int_equal(read_mixed(1, 1), 0);
	/* What comes before it is one piece then. */
	assert_int_equal(read_mixed(3 * NR_SEGMENTS_MAX, NR_SEGMENTS_MAX - 2), 0);
	/* The list is full, and the pipe must stay what it is. */
	assert_int_equal(read_mixed(NR_SEGMENTS_MAX - 1, 1), -EIO);
	assert_int_equal(read_mixed(3 * NR_SEGMENTS_MAX, NR_SEGMENTS_MAX - 1), -EIO);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(large_cached_reads_are_answered_with_pages),
		cmocka_unit_test(small_reads_are_copied),
		cmocka_unit_test(what_is_not_in_the_cache_is_read_by_the_ring),
		cmocka_unit_test(nobody_is_given_pages_who_does_not_take_them),
		cmocka_unit_test(past_the_cache_means_past_it),
		cmocka_unit_test(a_pipe_left_full_is_not_used_again),
		cmocka_unit_test(more_reads_than_pipes),
		cmocka_unit_test(a_file_that_was_cut_off_fails_the_read),
		cmocka_unit_test(random_requests_against_a_model),
		cmocka_unit_test(filters_that_look_are_known),
		cmocka_unit_test(pieces_around_a_pipe_are_never_copied_together_with_it),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
