/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The masking filters that deal with several requests or clients: `noparallel`
 * and `multi-conn`.
 */
#include "tests/unit/masking-test.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdatomic.h>

#include <cmocka.h>

#define WORKERS 4u

/* A request is inside for a turn at least; how many there are, and who came when. */
static atomic_uint inside, most_inside;
static uint64_t order[64];
static unsigned arrived;
static bool keep_order;

static void busy_submit(struct nr_layer *layer, struct nr_request *req)
{
	unsigned now = atomic_fetch_add(&inside, 1) + 1, most = atomic_load(&most_inside);

	while (now > most && !atomic_compare_exchange_weak(&most_inside, &most, now))
		continue;
	if (keep_order)
		order[arrived++ % 64] = req->offset;
	nr_resume(layer, req);
}

static void busy_resume(struct nr_layer *layer, struct nr_request *req)
{
	nr_pass(layer, req);
}

static void busy_done(struct nr_layer *layer, struct nr_request *req)
{
	atomic_fetch_sub(&inside, 1);
	nr_finish(layer, req, req->error);
}

static const struct nr_layer_type busy = {
	.abi = NR_LAYER_ABI,
	.name = "busy",
	.summary = "keeps requests for a turn and counts them",
	.kind = NR_FILTER,
	.submit = busy_submit,
	.done = busy_done,
	.resume = busy_resume,
};

/* Requests come from a client: one per worker, or by parity of their offset. */
static struct nr_session session[WORKERS];
static bool two_clients_of_a_worker;

static void client_submit(struct nr_layer *layer, struct nr_request *req)
{
	req->session = two_clients_of_a_worker ? &session[req->offset % 2]
					       : &session[nr_worker_index(req->worker)];
	nr_pass(layer, req);
}

static const struct nr_layer_type client = {
	.abi = NR_LAYER_ABI,
	.name = "client",
	.summary = "makes requests come from someone",
	.kind = NR_FILTER,
	.submit = client_submit,
};

static const struct nr_layer_type *const types[] = { &tally, &bare, &busy, &client, NULL };

static struct layer_test *open_disk(const char *plan, unsigned workers)
{
	const struct layer_options options = { .types = types, .workers = workers };
	struct layer_test *t = layer_test_open(&options, "%s", plan);
	struct nr_error error;

	for (unsigned i = 0; i < WORKERS; i++) {
		session[i] = (struct nr_session){ .id = i, .export_name = "", .peer = "test" };
		assert_int_equal(nr_stack_admit(layer_test_stack(t), &session[i], &error), 0);
	}
	atomic_store(&inside, 0);
	atomic_store(&most_inside, 0);
	arrived = 0;
	keep_order = false;
	two_clients_of_a_worker = false;
	forget_seen();
	return t;
}

static void close_disk(struct layer_test *t)
{
	for (unsigned i = 0; i < WORKERS; i++)
		nr_stack_leave(layer_test_stack(t), &session[i]);
	layer_test_close(t);
}

/* 64 reads started at once, of bytes 0 to 63. */
static void read_64_at_once(struct layer_client *c)
{
	struct nr_request *req[64];

	for (unsigned i = 0; i < 64; i++)
		req[i] = layer_start(c, NR_READ, 0, i, 1, NULL, NULL);
	for (unsigned i = 0; i < 64; i++) {
		LAYER_CHECK(layer_wait(c, req[i]) == 0);
		layer_end(c, req[i]);
	}
}

static void *read_for_a_while(void *argument)
{
	for (unsigned i = 0; i < 300; i++)
		read_64_at_once(argument);
	return NULL;
}

static void from_all_workers(struct layer_test *t)
{
	pthread_t thread[WORKERS];

	for (unsigned i = 0; i < WORKERS; i++)
		assert_int_equal(
			pthread_create(&thread[i], NULL, read_for_a_while, layer_client(t, i)), 0);
	for (unsigned i = 0; i < WORKERS; i++)
		pthread_join(thread[i], NULL);
}

static void test_noparallel_requests_of_a_client_come_one_by_one(void **state)
{
	struct layer_test *t = open_disk("client | noparallel | busy | memory 1M", 1);

	keep_order = true;
	read_64_at_once(layer_client(t, 0));
	assert_int_equal(atomic_load(&most_inside), 1);
	for (unsigned i = 0; i < 64; i++)
		assert_int_equal(order[i], i);
	close_disk(t);
}

static void test_noparallel_requests_of_clients_do_not_wait_for_each_other(void **state)
{
	struct layer_test *t =
		open_disk("client | noparallel serialize=requests | busy | memory 1M", 1);

	two_clients_of_a_worker = true;
	read_64_at_once(layer_client(t, 0));
	assert_int_equal(atomic_load(&most_inside), 2);
	close_disk(t);
	t = open_disk("client | noparallel | busy | memory 1M", WORKERS);
	from_all_workers(t);
	assert_true(atomic_load(&most_inside) <= WORKERS);
	close_disk(t);
}

static void test_noparallel_all_requests_come_one_by_one(void **state)
{
	struct layer_test *t =
		open_disk("client | noparallel serialize=all-requests | busy | memory 1M", WORKERS);

	from_all_workers(t);
	assert_int_equal(atomic_load(&most_inside), 1);
	close_disk(t);
}

static void test_noparallel_leaves_the_servers_own_requests_alone(void **state)
{
	struct layer_test *t = open_disk("noparallel | busy | memory 1M", 1);

	read_64_at_once(layer_client(t, 0));
	assert_int_equal(atomic_load(&most_inside), 64);
	close_disk(t);
}

static void test_noparallel_connections_lets_one_in(void **state)
{
	struct layer_test *t =
		layer_test_open(NULL, "noparallel serialize=connections | memory 1M");
	struct nr_stack *stack = layer_test_stack(t);
	struct nr_session one = { .id = 1 }, two = { .id = 2 };
	struct nr_error error;

	assert_false(layer_test_traits(t)->multi_conn);
	assert_int_equal(nr_stack_admit(stack, &one, &error), 0);
	assert_int_equal(nr_stack_admit(stack, &two, &error), -EBUSY);
	assert_non_null(strstr(error.text, "another client is connected"));
	nr_stack_leave(stack, &one);
	assert_int_equal(nr_stack_admit(stack, &two, &error), 0);
	nr_stack_leave(stack, &two);
	layer_test_close(t);
}

static void test_noparallel_changes_no_data(void **state)
{
	is_transparent("noparallel serialize=all-requests | noparallel serialize=all-requests | "
		       "memory 1M");
	is_transparent("noparallel serialize=connections | memory 1M");
}

/* multi-conn */

static void promises(const char *plan, bool promised)
{
	struct layer_test *t = layer_test_open(&masking_options, "%s", plan);

	assert_int_equal(layer_test_traits(t)->multi_conn, promised);
	layer_test_close(t);
}

static void test_multi_conn_modes(void **state)
{
	const struct layer_options read_only = { .types = masking_types, .read_only = true };
	struct nr_error error;

	promises("multi-conn | mask mask=multi-conn | memory 1M", true);
	promises("multi-conn | bare | memory 1M", false);
	promises("multi-conn multi-conn-mode=emulate | mask mask=multi-conn | memory 1M", true);
	promises("multi-conn multi-conn-mode=plugin | mask mask=multi-conn | memory 1M", false);
	promises("multi-conn multi-conn-mode=plugin | memory 1M", true);
	promises("multi-conn multi-conn-mode=disable | memory 1M", false);
	promises("multi-conn multi-conn-mode=unsafe | bare | memory 1M", true);
	promises("multi-conn multi-conn-mode=emulate multi-conn-exportname=true | memory 1M", true);
	layer_test_refused(&masking_options, &error,
			   "multi-conn multi-conn-mode=emulate | bare | memory 1M");
	assert_non_null(strstr(error.text, "multi-conn: multi-conn-mode=emulate needs flush"));
	layer_test_close(layer_test_open(&read_only,
					 "multi-conn multi-conn-mode=emulate | bare | memory 1M"));
}

static unsigned flushes(struct layer_client *c)
{
	unsigned before = seen.count[NR_FLUSH];

	assert_int_equal(layer_flush(c), 0);
	return seen.count[NR_FLUSH] - before;
}

static void test_multi_conn_leaves_idle_flushes_out(void **state)
{
	struct layer_test *t = open_disk("multi-conn | tally | memory 1M", 2);
	struct layer_client *one = layer_client(t, 0), *two = layer_client(t, 1);

	assert_int_equal(flushes(one), 1); /* who knows what was before */
	assert_int_equal(flushes(one), 0);
	assert_int_equal(flushes(two), 0);
	assert_int_equal(layer_fill(one, 0, 1, 1), 0);
	assert_int_equal(flushes(two), 1);
	assert_int_equal(flushes(one), 0);
	assert_int_equal(layer_zero(two, 0, 1, 0), 0);
	assert_int_equal(layer_trim(two, 0, 1, 0), 0);
	assert_int_equal(flushes(one), 1);
	assert_int_equal(layer_resize(two, 2048), 0);
	assert_int_equal(flushes(one), 1);
	/* A flush that failed has flushed nothing. */
	assert_int_equal(layer_fill(one, 0, 1, 1), 0);
	seen.flush_fails = true;
	assert_int_equal(layer_flush(one), -EIO);
	seen.flush_fails = false;
	assert_int_equal(flushes(two), 1);
	assert_int_equal(flushes(two), 0);
	close_disk(t);
}

static void test_multi_conn_tracking_off_sends_all(void **state)
{
	struct layer_test *t =
		open_disk("multi-conn multi-conn-track-dirty=off | tally | memory 1M", 1);
	struct layer_client *c = layer_client(t, 0);

	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(flushes(c), 1);
	close_disk(t);
}

/* A flush under way does not cover what was written after it began, nor excuse others. */
static void test_multi_conn_flushes_under_way_excuse_none(void **state)
{
	struct layer_test *t = open_disk("multi-conn | busy | tally | memory 1M", 1);
	struct layer_client *c = layer_client(t, 0);
	struct nr_request *first, *second, *third;

	assert_int_equal(layer_fill(c, 0, 1, 1), 0);
	first = layer_start(c, NR_FLUSH, 0, 0, 0, NULL, NULL);
	second = layer_start(c, NR_FLUSH, 0, 0, 0, NULL, NULL);
	assert_int_equal(atomic_load(&inside), 2);
	third = layer_start(c, NR_WRITE, 0, 0, 1, "x", NULL);
	assert_int_equal(layer_wait(c, first), 0);
	assert_int_equal(layer_wait(c, second), 0);
	assert_int_equal(layer_wait(c, third), 0);
	layer_end(c, first);
	layer_end(c, second);
	layer_end(c, third);
	assert_int_equal(flushes(c), 1);
	assert_int_equal(flushes(c), 0);
	close_disk(t);
}

static void test_multi_conn_changes_no_data(void **state)
{
	is_transparent("multi-conn | multi-conn multi-conn-track-dirty=conn | "
		       "multi-conn multi-conn-track-dirty=fast | memory 1M");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_noparallel_requests_of_a_client_come_one_by_one),
		cmocka_unit_test(test_noparallel_requests_of_clients_do_not_wait_for_each_other),
		cmocka_unit_test(test_noparallel_all_requests_come_one_by_one),
		cmocka_unit_test(test_noparallel_leaves_the_servers_own_requests_alone),
		cmocka_unit_test(test_noparallel_connections_lets_one_in),
		cmocka_unit_test(test_noparallel_changes_no_data),
		cmocka_unit_test(test_multi_conn_modes),
		cmocka_unit_test(test_multi_conn_leaves_idle_flushes_out),
		cmocka_unit_test(test_multi_conn_tracking_off_sends_all),
		cmocka_unit_test(test_multi_conn_flushes_under_way_excuse_none),
		cmocka_unit_test(test_multi_conn_changes_no_data),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
