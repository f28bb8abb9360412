/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pause and verify: the gate lets nothing through while it is closed and loses
 * nothing when it opens; a twin that differs is noticed wherever it does.
 */
#include "layer-test.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "backends/table.h"
#include "filters/filters.h"
#include "src/cli/words.h"

/* pause. */

static const char *socket_path(void)
{
	static char path[64];

	snprintf(path, sizeof(path), "/tmp/nbdring-pause-%d", (int)getpid());
	return path;
}

static int control(void)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	snprintf(address.sun_path, sizeof(address.sun_path), "%s", socket_path());
	assert_true(fd >= 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	return fd;
}

static void command(int fd, char letter)
{
	assert_int_equal(send(fd, &letter, 1, MSG_NOSIGNAL), 1);
}

/* The next answer, or 0 when there is none for a while. */
static char answer(int fd, int milliseconds)
{
	struct pollfd p = { fd, POLLIN, 0 };
	char letter;

	if (poll(&p, 1, milliseconds) != 1)
		return 0;
	return recv(fd, &letter, 1, 0) == 1 ? letter : '?';
}

static void test_requests_wait_while_paused(void **state)
{
	struct layer_test *t =
		layer_test_open(NULL, "pause %s%s | memory 64k", "pause-control=", socket_path());
	struct layer_client *c = layer_client(t, 0);
	struct nr_request *req[10];
	int fd = control();

	command(fd, 'p');
	assert_int_equal(answer(fd, 10000), 'P');
	for (unsigned i = 0; i < 10; i++)
		req[i] = layer_start(c, NR_WRITE, 0, i, 1, "x", NULL);
	for (unsigned i = 0; i < 10; i++)
		layer_turn(c);
	for (unsigned i = 0; i < 10; i++)
		assert_false(layer_finished(req[i]));
	command(fd, '!');
	assert_int_equal(answer(fd, 10000), 'X');
	command(fd, 'r');
	assert_int_equal(answer(fd, 10000), 'R');
	for (unsigned i = 0; i < 10; i++) {
		assert_int_equal(layer_wait(c, req[i]), 0);
		layer_end(c, req[i]);
	}
	assert_true(layer_is(c, 0, 10, 'x'));
	close(fd);
	layer_test_close(t);
	assert_int_equal(access(socket_path(), F_OK), -1);
}

static void test_the_answer_waits_for_what_is_under_way(void **state)
{
	const struct layer_options ring = { .ring = true };
	struct layer_test *t = layer_test_open(&ring,
					       "pause pause-control=%s | delay rdelay=100ms | "
					       "memory 64k",
					       socket_path());
	struct layer_client *c = layer_client(t, 0);
	struct nr_request *req = layer_start(c, NR_READ, 0, 0, 1, NULL, NULL);
	int fd = control(), other = control();

	command(fd, 'p');
	assert_int_equal(answer(fd, 50), 0);
	/* Another client ends the pause before it took hold. */
	command(other, 'r');
	assert_int_equal(answer(other, 10000), 'R');
	assert_int_equal(answer(fd, 10000), 'X');
	/* One that leaves without waiting leaves the pause behind. */
	command(other, 'p');
	close(other);
	command(fd, 'p');
	assert_int_equal(answer(fd, 50), 0);
	assert_int_equal(layer_wait(c, req), 0);
	layer_end(c, req);
	assert_int_equal(answer(fd, 10000), 'P');
	close(fd);
	layer_test_close(t);
}

static void test_exports_with_one_socket_are_paused_together(void **state)
{
	struct layer_test *a =
		layer_test_open(NULL, "pause pause-control=%s | memory 64k", socket_path());
	struct layer_test *b = layer_test_open(
		NULL, "pause pause-control=%s | pause pause-control=%s | memory 64k", socket_path(),
		socket_path());
	struct nr_request *in_a, *in_b;
	int fd = control();

	command(fd, 'p');
	assert_int_equal(answer(fd, 10000), 'P');
	in_a = layer_start(layer_client(a, 0), NR_FLUSH, 0, 0, 0, NULL, NULL);
	in_b = layer_start(layer_client(b, 0), NR_FLUSH, 0, 0, 0, NULL, NULL);
	layer_turn(layer_client(a, 0));
	layer_turn(layer_client(b, 0));
	assert_false(layer_finished(in_a) || layer_finished(in_b));
	command(fd, 'r');
	assert_int_equal(answer(fd, 10000), 'R');
	assert_int_equal(layer_wait(layer_client(a, 0), in_a), 0);
	assert_int_equal(layer_wait(layer_client(b, 0), in_b), 0);
	layer_end(layer_client(a, 0), in_a);
	layer_end(layer_client(b, 0), in_b);
	layer_test_close(a);
	/* The other one still has it. */
	command(fd, 'p');
	assert_int_equal(answer(fd, 10000), 'P');
	close(fd);
	layer_test_close(b);
	assert_int_equal(access(socket_path(), F_OK), -1);
}

/* Counts what gets below the gate, and what of it is still there. */
static atomic_uint arrived, there;

static void probe_submit(struct nr_layer *layer, struct nr_request *req)
{
	atomic_fetch_add(&arrived, 1);
	atomic_fetch_add(&there, 1);
	nr_pass(layer, req);
}

static void probe_done(struct nr_layer *layer, struct nr_request *req)
{
	atomic_fetch_sub(&there, 1);
	nr_finish(layer, req, req->error);
}

static const struct nr_layer_type probe = {
	.abi = NR_LAYER_ABI,
	.name = "probe",
	.summary = "counts what passes",
	.kind = NR_FILTER,
	.submit = probe_submit,
	.done = probe_done,
};

struct worker {
	struct layer_client *client;
	uint64_t offset;
	atomic_bool *stop;
};

static void *write_and_read(void *argument)
{
	struct worker *w = argument;
	while (!atomic_load(w->stop))
		LAYER_CHECK(layer_write(w->client, w->offset, 4, "abcd", 0) == 0);
	return NULL;
}

static void test_nothing_moves_while_workers_are_paused(void **state)
{
	static const struct nr_layer_type *const types[] = { &probe, NULL };
	const struct layer_options two = { .workers = 2, .types = types };
	struct layer_test *t =
		layer_test_open(&two, "pause pause-control=%s | probe | memory 64k", socket_path());
	atomic_bool stop = false;
	struct worker worker[2];
	pthread_t thread[2];
	int fd = control();

	for (unsigned i = 0; i < 2; i++) {
		worker[i] = (struct worker){ layer_client(t, i), i * 4096, &stop };
		assert_int_equal(pthread_create(&thread[i], NULL, write_and_read, &worker[i]), 0);
	}
	for (unsigned i = 0; i < 200; i++) {
		unsigned before;

		command(fd, 'p');
		assert_int_equal(answer(fd, 10000), 'P');
		/* No grace: once P is here nothing is below, and nothing gets there. */
		before = atomic_load(&arrived);
		assert_int_equal(atomic_load(&there), 0);
		if (i % 20 == 0)
			usleep(5000);
		assert_int_equal(atomic_load(&arrived), before);
		if (i == 199)
			atomic_store(&stop, true);
		command(fd, 'r');
		assert_int_equal(answer(fd, 10000), 'R');
	}
	for (unsigned i = 0; i < 2; i++)
		pthread_join(thread[i], NULL);
	assert_true(atomic_load(&arrived) > 0);
	close(fd);
	layer_test_close(t);
}

static void test_wrong_sockets_are_refused(void **state)
{
	struct nr_error error;

	layer_test_refused(NULL, &error, "pause | memory 1M");
	assert_non_null(strstr(error.text, "pause-control"));
	assert_int_equal(
		layer_test_refused(NULL, &error, "pause pause-control=/nowhere/s | memory 1M"),
		-ENOENT);
	assert_int_equal(
		layer_test_refused(NULL, &error, "pause pause-control=/tmp/%0200d | memory 1M", 1),
		-ENAMETOOLONG);
	assert_non_null(strstr(error.text, "107"));
}

/* verify. */

static const char *stopped_because;
static char stop_text[256];

static void stop(const char *why)
{
	snprintf(stop_text, sizeof(stop_text), "%s", why);
	stopped_because = stop_text;
}

static char line_text[256];

static void take_line(const struct nr_layer *layer, enum nr_layer_log_level level, const char *line)
{
	snprintf(line_text, sizeof(line_text), "%u %.200s", (unsigned)level, line);
}

static const struct nr_surroundings surroundings = {
	.parse = nr_words_parse, .forget = nr_words_forget, .stop = stop, .log = take_line
};

struct twins {
	struct nr_stack *stack;
	struct nr_worker worker;
};

static int open_words(struct nr_stack **stack, const char *words, struct nr_error *error)
{
	static const struct nr_layer_type *const types[] = { &nr_verify_type, &nr_error_type,
							     &nr_short_type, &nr_evil_type, NULL };
	static const struct nr_catalog catalog = { nr_backends, types };
	struct nr_plan plan = { .worker_count = 1, .surroundings = &surroundings };
	struct nr_plan_memory *memory;
	int err;

	nr_words_set_catalog(&catalog);
	err = nr_words_parse(words, &plan, &memory, error);
	if (!err)
		err = nr_stack_open(stack, &plan, "", error);
	nr_words_forget(memory);
	return err;
}

static void open_twins(struct twins *t, const char *words)
{
	struct nr_error error;

	stopped_because = NULL;
	if (open_words(&t->stack, words, &error))
		fail_msg("%s", error.text);
	nr_worker_init(&t->worker, NULL, 0, 1);
}

static void close_twins(struct twins *t)
{
	assert_int_equal(t->worker.slots_used, 0);
	nr_worker_fini(&t->worker);
	nr_stack_close(t->stack);
}

static void ended(struct nr_request *req)
{
}

static struct nr_request *start(struct twins *t, enum nr_operation operation, uint64_t offset,
				uint64_t length, uint8_t *data)
{
	struct nr_request *req = nr_request_get(&t->worker, t->stack, 0);

	assert_non_null(req);
	req->operation = operation;
	req->offset = offset;
	req->length = length;
	if (operation == NR_WRITE) {
		req->segments[0] = (struct nr_segment){ data, length, NULL };
		req->segment_count = 1;
	}
	req->internal.finished = ended;
	nr_stack_submit(t->stack, req);
	return req;
}

static int finish(struct twins *t, struct nr_request *req, uint8_t *data)
{
	int err;

	do
		nr_worker_run(&t->worker);
	while (req->internal.state != NR_REQUEST_IDLE);
	err = req->error;
	if (!err && req->operation == NR_READ)
		nr_request_copy_out(req, 0, req->length, data);
	nr_request_release(req, 0);
	return err;
}

static int run(struct twins *t, enum nr_operation operation, uint64_t offset, uint64_t length,
	       uint8_t *data)
{
	return finish(t, start(t, operation, offset, length, data), data);
}

static void test_equal_twins_are_one_disk(void **state)
{
	static uint8_t model[65536], data[65536];
	uint64_t random = layer_seed(7);
	struct twins t;

	memset(model, 0, sizeof(model));
	open_twins(&t, "--filter=verify memory 64k twin='--filter=short memory 64k window=50us'");
	assert_int_equal(nr_stack_traits(t.stack)->support[NR_CAP_TRIM], NR_NONE);
	for (unsigned i = 0; i < 2000; i++) {
		uint64_t offset = layer_random_below(&random, 60000);
		uint64_t length = 1 + layer_random_below(&random, 5000);

		switch (layer_random_below(&random, 4)) {
		case 0:
			memset(model + offset, 0, length);
			assert_int_equal(run(&t, NR_ZERO, offset, length, NULL), 0);
			break;
		case 1:
			assert_int_equal(run(&t, NR_FLUSH, 0, 0, NULL), 0);
			assert_int_equal(run(&t, NR_CACHE, offset, length, NULL), 0);
			break;
		case 2:
			for (uint64_t j = 0; j < length; j++)
				model[offset + j] = (uint8_t)layer_random(&random);
			assert_int_equal(run(&t, NR_WRITE, offset, length, model + offset), 0);
			break;
		default:
			assert_int_equal(run(&t, NR_READ, offset, length, data), 0);
			assert_memory_equal(data, model + offset, length);
			break;
		}
	}
	assert_null(stopped_because);
	close_twins(&t);
}

static void test_a_different_byte_is_found(void **state)
{
	static uint8_t data[65536];
	struct twins t;

	memset(data, 0xaa, sizeof(data));
	open_twins(&t, "--filter=verify memory 64k verify-stop=true "
		       "twin='--filter=evil memory 64k evil-probability=0.0001 evil-seed=4'");
	assert_int_equal(run(&t, NR_WRITE, 0, sizeof(data), data), 0);
	assert_int_equal(run(&t, NR_READ, 0, sizeof(data), data), -EIO);
	assert_non_null(stopped_because);
	assert_non_null(strstr(stopped_because, "verify: read of 65536 bytes at 0: the byte at "));
	assert_non_null(strstr(stopped_because, "is 0xaa, in the twin it is 0x"));
	assert_ptr_equal(strstr(line_text, "0 verify: read of 65536 bytes at 0: the byte"),
			 line_text);
	close_twins(&t);
}

static void test_failures_on_either_side(void **state)
{
	uint8_t data[512] = { 0 };
	struct twins t;

	open_twins(&t, "--filter=verify memory 64k verify-stop=1 "
		       "twin='--filter=error memory 64k error=ENOMEM error-rate=1'");
	assert_int_equal(run(&t, NR_WRITE, 0, 512, data), -EIO);
	assert_string_equal(stopped_because,
			    "verify: write of 512 bytes at 0: it failed in the twin only");
	assert_int_equal(run(&t, NR_FLUSH, 0, 0, NULL), -EIO);
	close_twins(&t);
	open_twins(&t, "--filter=verify --filter=error memory 64k error=ENOMEM error-rate=1 "
		       "twin='memory 64k'");
	assert_int_equal(run(&t, NR_READ, 0, 512, data), -ENOMEM);
	assert_int_equal(run(&t, NR_ZERO, 0, 512, NULL), -ENOMEM);
	assert_null(stopped_because);
	close_twins(&t);
}

static void test_overlapping_requests_are_no_difference(void **state)
{
	static uint8_t letters[64][4096];
	uint8_t data[4096];
	struct nr_request *req[64];
	struct twins t;

	open_twins(&t, "--filter=verify --filter=short memory 64k window=300us seed=1 "
		       "twin='--filter=short memory 64k window=300us seed=2'");
	for (unsigned round = 0; round < 20; round++) {
		for (unsigned i = 0; i < 64; i++) {
			memset(letters[i], (int)i, sizeof(letters[i]));
			req[i] = start(&t, i % 3 ? NR_WRITE : NR_READ, i % 5 * 1000, 4096,
				       letters[i]);
		}
		for (unsigned i = 0; i < 64; i++)
			assert_int_equal(finish(&t, req[i], data), 0);
		assert_int_equal(run(&t, NR_READ, 0, 4096, data), 0);
	}
	close_twins(&t);
}

static void test_no_memory_for_the_twins_request(void **state)
{
	uint8_t data[512] = { 0 };
	struct twins t;

	open_twins(&t, "--filter=verify memory 64k twin='memory 64k'");
	t.worker.slots_max = 1;
	assert_int_equal(run(&t, NR_WRITE, 0, 512, data), -ENOMEM);
	t.worker.slots_max = 2;
	assert_int_equal(run(&t, NR_WRITE, 0, 512, data), 0);
	close_twins(&t);
}

static void test_twins_that_do_not_match_are_refused(void **state)
{
	struct nr_stack *stack;
	struct nr_error error;

	assert_int_equal(open_words(&stack, "--filter=verify memory 64k twin='memory 63k'", &error),
			 -EINVAL);
	assert_non_null(strstr(error.text, "65536"));
	assert_non_null(strstr(error.text, "64512"));
	assert_true(open_words(&stack, "--filter=verify memory 64k twin='pattern 64k'", &error) <
		    0);
	assert_non_null(strstr(error.text, "read-only"));
	assert_true(open_words(&stack, "--filter=verify memory 64k twin='memroy 64k'", &error) < 0);
	assert_non_null(strstr(error.text, "twin"));
	assert_true(open_words(&stack, "--filter=verify memory 64k", &error) < 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_requests_wait_while_paused),
		cmocka_unit_test(test_the_answer_waits_for_what_is_under_way),
		cmocka_unit_test(test_exports_with_one_socket_are_paused_together),
		cmocka_unit_test(test_nothing_moves_while_workers_are_paused),
		cmocka_unit_test(test_wrong_sockets_are_refused),
		cmocka_unit_test(test_equal_twins_are_one_disk),
		cmocka_unit_test(test_a_different_byte_is_found),
		cmocka_unit_test(test_failures_on_either_side),
		cmocka_unit_test(test_overlapping_requests_are_no_difference),
		cmocka_unit_test(test_no_memory_for_the_twins_request),
		cmocka_unit_test(test_twins_that_do_not_match_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
