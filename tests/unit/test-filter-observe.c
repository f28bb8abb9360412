/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The filters that watch: what they write is what happened, for every worker and
 * every client, and nobody waits for them.
 */
#include "layer-test.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <setjmp.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "filters/histogram.h"
#include "filters/output.h"

static char folder[64];
static char path[128];

static int set_up(void **state)
{
	snprintf(folder, sizeof(folder), "/tmp/test-observe-XXXXXX");
	assert_non_null(mkdtemp(folder));
	return 0;
}

static int tear_down(void **state)
{
	return rmdir(folder);
}

static int new_file(void **state)
{
	static unsigned number;

	/* The process remembers which files it has begun: one of its own for each test. */
	snprintf(path, sizeof(path), "%s/%u", folder, number++);
	return 0;
}

static int old_file(void **state)
{
	unlink(path);
	return 0;
}

/* The file's text, until the next call. */
static const char *written(void)
{
	static char text[1 << 22];
	int fd = open(path, O_RDONLY);
	size_t used = 0;
	ssize_t n;

	assert_true(fd >= 0);
	while ((n = read(fd, text + used, sizeof(text) - 1 - used)) > 0)
		used += (size_t)n;
	text[used] = '\0';
	close(fd);
	return text;
}

static unsigned count_of(const char *text, const char *part)
{
	unsigned count = 0;

	for (; (text = strstr(text, part)); text += strlen(part))
		count++;
	return count;
}

#define assert_contains(text, part)                                  \
	do {                                                         \
		if (!strstr(text, part))                             \
			fail_msg("'%s' is not in:\n%s", part, text); \
	} while (0)

/* Text. */

static void test_strings_of_strangers_are_quoted(void **state)
{
	struct nr_text text = { 0 };

	nr_text_add_quoted(&text, "a\"b\\c\nd\x1b\xc3\xbc\xff");
	assert_string_equal(text.data, "\"a\\\"b\\\\c\\x0ad\\x1b\xc3\xbc\\xff\"");
	text.used = 0;
	nr_text_add_json(&text, "\"\n\x7f\xed\xa0\x80\xf0\x9f\x98\x80\xc3");
	assert_string_equal(text.data,
			    "\"\\\"\\u000a\\u007f\\u00ed\\u00a0\\u0080\xf0\x9f\x98\x80\\u00c3\"");
	text.used = 0;
	nr_text_add_json(&text, "\xc2\x85\xc3\xbc"); /* the character U+0085, not two of Latin-1 */
	assert_string_equal(text.data, "\"\\u0085\xc3\xbc\"");
	text.used = 0;
	for (unsigned i = 0; i < 100000; i++)
		nr_text_add(&text, "%u,", i % 10);
	assert_int_equal(text.used, 200000);
	assert_false(text.failed);
	nr_text_free(&text);
}

static void test_a_file_is_emptied_once_in_a_process(void **state)
{
	struct nr_error error;
	int fd = open(path, O_WRONLY | O_CREAT, 0600), again;

	assert_int_equal(nr_output_write(fd, "old\n", 4), 0);
	close(fd);
	fd = nr_output_open(path, true, &error);
	assert_int_equal(nr_output_write(fd, "kept\n", 5), 0);
	close(fd);
	assert_string_equal(written(), "old\nkept\n");
	fd = nr_output_open(path, false, &error);
	assert_int_equal(nr_output_write(fd, "one\n", 4), 0);
	again = nr_output_open(path, false, &error);
	assert_int_equal(nr_output_write(again, "two\n", 4), 0);
	assert_int_equal(nr_output_write(fd, "three\n", 6), 0);
	close(fd);
	close(again);
	assert_string_equal(written(), "one\ntwo\nthree\n");
	assert_int_equal(nr_output_open("/proc/no/such/folder", false, &error), -ENOENT);
	assert_contains(error.text, "/proc/no/such/folder");
}

/* The histogram. */

static void test_histogram_slots_are_in_order_and_narrow(void **state)
{
	uint64_t before = 0;

	for (unsigned slot = 0; slot < NR_HISTOGRAM_SLOTS; slot++) {
		uint64_t last = nr_histogram_value(slot);
		uint64_t first = slot ? before + 1 : 0;

		assert_int_equal(nr_histogram_slot(first), slot);
		assert_int_equal(nr_histogram_slot(last), slot);
		assert_true(last - first <= first / 32);
		before = last;
	}
	assert_int_equal(before, (UINT64_C(1) << NR_HISTOGRAM_TOP_BIT) - 1);
	assert_int_equal(nr_histogram_slot(UINT64_MAX), NR_HISTOGRAM_SLOTS - 1);
}

static void test_percentiles(void **state)
{
	struct nr_histogram *h = calloc(1, sizeof(*h));

	assert_int_equal(nr_histogram_at(h, 0, 500), 0);
	for (uint64_t i = 1; i <= 1000; i++)
		nr_histogram_add(h, i * 1000);
	assert_in_range(nr_histogram_at(h, 1000, 500), 500000, 516000);
	assert_in_range(nr_histogram_at(h, 1000, 990), 990000, 1022000);
	assert_in_range(nr_histogram_at(h, 1000, 1000), 1000000, 1033000);
	assert_in_range(nr_histogram_at(h, 1000, 1), 1000, 1033);
	free(h);
}

/* The filters. */

static void admit(struct layer_test *t, struct nr_session *session, uint64_t id, const char *name)
{
	struct nr_error error;

	*session = (struct nr_session){ .id = id, .export_name = name, .peer = "unix:pid=1" };
	assert_int_equal(nr_stack_admit(layer_test_stack(t), session, &error), 0);
}

/* One request of a client. */
static void request_of(struct layer_client *c, struct nr_session *session,
		       enum nr_operation operation, uint64_t offset, uint64_t length)
{
	static uint8_t data[65536];
	struct nr_request *req = layer_start(c, operation, 0, offset, length, data, NULL);

	/* Nothing has moved yet: the filter looks at the session when it is back. */
	req->session = session;
	layer_wait(c, req);
	layer_end(c, req);
}

static void test_log_has_a_line_for_each_request(void **state)
{
	struct layer_test *t = layer_test_open(NULL, "log logfile=%s | memory 1M", path);
	struct layer_client *c = layer_client(t, 0);
	struct nr_session session;
	const char *text;

	admit(t, &session, 7, "a \"name\"");
	request_of(c, &session, NR_WRITE, 0x200, 0x1000);
	request_of(c, &session, NR_READ, 0, 0x400);
	request_of(c, &session, NR_FLUSH, 0, 0);
	request_of(c, &session, NR_ZERO, 0x10, 0x20);
	request_of(c, &session, NR_TRIM, 0x30, 0x40);
	nr_stack_leave(layer_test_stack(t), &session);
	layer_test_close(t);
	text = written();
	assert_contains(text, "connection=7 Connect export=\"a \\\"name\\\"\" peer=\"unix:pid=1\" "
			      "size=0x100000 minsize=0x1 ");
	assert_contains(text, "connection=7 Write offset=0x200 count=0x1000 fua=0 return=0 us=");
	assert_contains(text, "connection=7 Read offset=0x0 count=0x400 return=0 us=");
	assert_contains(text, "connection=7 Flush return=0 us=");
	assert_contains(text, "connection=7 Zero offset=0x10 count=0x20 trim=1 fua=0 fast=0 ");
	assert_contains(text, "connection=7 Trim offset=0x30 count=0x40 fua=0 return=0 us=");
	assert_contains(text, "connection=7 Disconnect transactions=5\n");
	assert_int_equal(count_of(text, "\n"), 7);
	assert_int_equal(strncmp(text, "20", 2), 0);
	assert_true(strstr(text, "Connect") < strstr(text, "Write"));
	assert_true(strstr(text, "Trim") < strstr(text, "Disconnect"));
}

static void test_log_says_how_it_failed(void **state)
{
	struct layer_test *t =
		layer_test_open(NULL, "log logfile=%s log-format=json | full 1M", path);
	struct layer_client *c = layer_client(t, 0);

	assert_int_equal(layer_fill(c, 0, 512, 1), -ENOSPC);
	assert_int_equal(layer_zero(c, 0, 512, NR_NO_HOLE), -ENOSPC);
	layer_test_close(t);
	assert_contains(written(), "\"operation\":\"write\",\"offset\":0,\"length\":512,"
				   "\"flags\":[],\"error\":\"ENOSPC\",\"microseconds\":");
	assert_contains(written(), "\"operation\":\"zero\",\"offset\":0,\"length\":512,"
				   "\"flags\":[\"no_hole\"],\"error\":\"ENOSPC\"");
	assert_int_equal(count_of(written(), "\"event\":\"request\",\"connection\":0"), 2);
	assert_int_equal(written()[0], '{');
}

static void test_two_logs_in_one_stack_and_file(void **state)
{
	struct layer_test *t =
		layer_test_open(NULL, "log logfile=%s | log logfile=%s | memory 1M", path, path);

	assert_int_equal(layer_fill(layer_client(t, 0), 0, 512, 1), 0);
	layer_test_close(t);
	assert_int_equal(count_of(written(), "Write"), 2);
}

struct writer {
	struct layer_test *test;
	unsigned index, requests;
};

static void *write_much(void *argument)
{
	struct writer *w = argument;
	uint8_t byte = 1;

	for (unsigned i = 0; i < w->requests; i++)
		LAYER_CHECK(layer_write(layer_client(w->test, w->index), w->index * 4096, 1, &byte,
					0) == 0);
	return NULL;
}

static void run_writers(struct layer_test *t, unsigned requests)
{
	struct writer writer[4];
	pthread_t thread[4];

	for (unsigned i = 0; i < 4; i++) {
		writer[i] = (struct writer){ t, i, requests };
		assert_int_equal(pthread_create(&thread[i], NULL, write_much, &writer[i]), 0);
	}
	for (unsigned i = 0; i < 4; i++)
		pthread_join(thread[i], NULL);
}

/* Every request is a line, or one of those that are said to be missing. */
static void test_log_loses_nothing_silently(void **state)
{
	const struct layer_options options = { .workers = 4 };
	struct layer_test *t = layer_test_open(&options, "log logfile=%s | memory 1M", path);
	const char *text;
	uint64_t lines;

	run_writers(t, 5000);
	layer_test_close(t);
	text = written();
	lines = count_of(text, " Write ");
	for (const char *at = text; (at = strstr(at, "Dropped lines=")); at++)
		lines += strtoull(at + strlen("Dropped lines="), NULL, 10);
	assert_int_equal(lines, 20000);
}

static void test_a_log_that_cannot_be_written_stops_nobody(void **state)
{
	struct layer_test *t = layer_test_open(NULL, "log logfile=/dev/full | memory 1M");

	for (unsigned i = 0; i < 100; i++)
		assert_int_equal(layer_fill(layer_client(t, 0), 0, 512, 1), 0);
	layer_test_close(t);
}

static void test_a_script_is_told_of_every_line(void **state)
{
	struct layer_test *t = layer_test_open(
		NULL,
		"log 'logscript=echo $type $act $connection $offset $count $return $error $export,"
		"$transactions >>%s' | full 1M",
		path);
	struct nr_session session;

	admit(t, &session, 7, "a name");
	request_of(layer_client(t, 0), &session, NR_READ, 0x200, 0x400);
	request_of(layer_client(t, 0), &session, NR_WRITE, 0, 0x1000);
	nr_stack_leave(layer_test_stack(t), &session);
	/* At the end it would have two seconds, which are not much on a busy machine. */
	for (unsigned i = 0; i < 30000 && (access(path, F_OK) || !strstr(written(), "Dis")); i++)
		usleep(1000);
	layer_test_close(t);
	assert_string_equal(written(), "PRINT Connect 7 a name,\n"
				       "LEAVE Read 7 0x200 0x400 0 ,\n"
				       "LEAVE Write 7 0x0 0x1000 -1 ENOSPC ,\n"
				       "PRINT Disconnect 7 ,2\n");
}

static char last_said[512];

static void hear(const struct nr_layer *layer, enum nr_layer_log_level level, const char *line)
{
	snprintf(last_said, sizeof(last_said), "%s", line);
}

/* The script never ends; the filter does. */
static void test_a_script_that_hangs_keeps_nobody(void **state)
{
	static const struct nr_surroundings surroundings = { .log = hear };
	const struct layer_options options = { .surroundings = &surroundings };
	struct layer_test *t =
		layer_test_open(&options, "log 'logscript=exec sleep 100000' | memory 1M");

	for (unsigned i = 0; i < 20; i++)
		assert_int_equal(layer_fill(layer_client(t, 0), 0, 512, 1), 0);
	layer_test_close(t);
	assert_contains(last_said, "log: logscript: it was not told of ");
}

static void test_a_log_of_nothing_changes_nothing(void **state)
{
	struct layer_test *t = layer_test_open(NULL, "log | log log-format=json | memory 1M");
	struct nr_session session;

	admit(t, &session, 7, "");
	request_of(layer_client(t, 0), &session, NR_READ, 0, 512);
	nr_stack_leave(layer_test_stack(t), &session);
	layer_test_close(t);
}

static void test_log_wants_a_file(void **state)
{
	struct nr_error error;

	layer_test_refused(NULL, &error, "log logfile=/proc/no/such | memory 1M");
	assert_contains(error.text, "log: logfile: /proc/no/such: ");
	layer_test_refused(NULL, &error, "log logfile=%s log-format=xml | memory 1M", path);
	assert_contains(error.text, "log-format");
}

static void test_stats_count_what_all_workers_did(void **state)
{
	const struct layer_options options = { .workers = 4 };
	struct layer_test *t =
		layer_test_open(&options, "stats statsfile=%s stats-format=json | memory 1M", path);
	const char *text;

	run_writers(t, 1000);
	assert_true(layer_is(layer_client(t, 0), 4096, 1, 1));
	assert_int_equal(layer_zero(layer_client(t, 1), 65536, 131072, 0), 0);
	layer_test_close(t);
	text = written();
	assert_contains(text, "{\"export\":\"\",\"seconds\":");
	assert_contains(text, "\"write\":{\"requests\":4000,\"errors\":0,\"bytes\":4000,"
			      "\"latency_ns\":{\"sum\":");
	assert_contains(text, "\"sizes\":[{\"size_bits\":0,\"requests\":4000,\"bytes\":4000,"
			      "\"offset_zero_bits\":{\"12\":2000,\"13\":1000,\"63\":1000}}]");
	assert_contains(text, "\"read\":{\"requests\":1,\"errors\":0,\"bytes\":1,");
	assert_contains(text, "{\"size_bits\":17,\"requests\":1,\"bytes\":131072,"
			      "\"offset_zero_bits\":{\"16\":1}}");
	assert_null(strstr(text, "trim"));
	assert_int_equal(count_of(text, "\n"), 1);
}

static void test_stats_as_text(void **state)
{
	const struct layer_options options = { .export_name = "name" };
	struct layer_test *t = layer_test_open(&options, "stats statsfile=%s | full 1M", path);
	struct layer_client *c = layer_client(t, 0);
	const char *text;

	for (unsigned i = 0; i < 99; i++)
		assert_true(layer_is(c, i * 4096, 4096, 0));
	assert_true(layer_is(c, 0, 65536, 0));
	assert_int_equal(layer_fill(c, 0, 512, 1), -ENOSPC);
	layer_test_close(t);
	text = written();
	assert_contains(text, "export: \"name\"\ntotal: 101 ops, ");
	assert_contains(text, "read: 100 ops, 0 errors, ");
	assert_contains(text, "write: 1 ops, 1 errors, ");
	assert_contains(text, " 0 bytes\n");
	assert_contains(text, "latency in us: mean ");
	assert_contains(text, "    12 bits:  99.0% (99 requests, 396.00 KiB)\n"
			      "      12 bit aligned: 100.0% (99)\n"
			      "      13 bit aligned:  50.5% (50)\n");
	assert_contains(text, "    other sizes: 1.0% (1 requests, 64.00 KiB)\n");
}

static void test_stats_of_nothing(void **state)
{
	struct nr_error error;

	layer_test_close(layer_test_open(NULL, "stats statsfile=%s | memory 1M", path));
	assert_contains(written(), "total: 0 ops, ");
	layer_test_refused(NULL, &error, "stats | memory 1M");
	assert_contains(error.text, "statsfile");
	layer_test_refused(NULL, &error, "stats statsfile=%s statsthreshold=101 | memory 1M", path);
	assert_contains(error.text, "statsthreshold");
}

static void test_count_says_what_went_well(void **state)
{
	const struct layer_options options = { .workers = 4 };
	struct layer_test *t = layer_test_open(&options, "count | memory 1M");
	int before = dup(2), fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	struct layer_client *c = layer_client(t, 0);

	run_writers(t, 100);
	assert_true(layer_is(c, 0, 1, 1));
	assert_int_equal(layer_zero(c, 0, 1000, 0), 0);
	assert_int_equal(layer_trim(c, 0, 2000, 0), 0);
	assert_int_equal(layer_trim(c, 1 << 20, 1, 0), -ENOSPC);
	dup2(fd, 2);
	layer_test_close(t);
	dup2(before, 2);
	close(fd);
	close(before);
	assert_string_equal(written(),
			    "count bytes: read 1, written 400, zeroed 1000, trimmed 2000\n");
}

static void test_watching_changes_nothing(void **state)
{
	const struct layer_model model = {
		.seed = layer_seed(31), .requests = 2000, .trim_zeroes = true, .check_extents = true
	};
	struct layer_test *t =
		layer_test_open(NULL,
				"log logfile=%s | count | stats statsfile=/dev/null | "
				"stats statsfile=/dev/null | count | memory 1M",
				path);

	layer_model_run(layer_client(t, 0), &model);
	layer_test_close(t);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, new_file, old_file)
	const struct CMUnitTest tests[] = {
		TEST(test_strings_of_strangers_are_quoted),
		TEST(test_a_file_is_emptied_once_in_a_process),
		TEST(test_histogram_slots_are_in_order_and_narrow),
		TEST(test_percentiles),
		TEST(test_log_has_a_line_for_each_request),
		TEST(test_log_says_how_it_failed),
		TEST(test_two_logs_in_one_stack_and_file),
		TEST(test_log_loses_nothing_silently),
		TEST(test_a_log_that_cannot_be_written_stops_nobody),
		TEST(test_a_script_is_told_of_every_line),
		TEST(test_a_script_that_hangs_keeps_nobody),
		TEST(test_a_log_of_nothing_changes_nothing),
		TEST(test_log_wants_a_file),
		TEST(test_stats_count_what_all_workers_did),
		TEST(test_stats_as_text),
		TEST(test_stats_of_nothing),
		TEST(test_count_says_what_went_well),
		TEST(test_watching_changes_nothing),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
