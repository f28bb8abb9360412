/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * nr_background: requests of a layer's own.  They reach the layer that made them and
 * nobody else; the export stays open and the server runs until the last one is back;
 * none is to be had without a client or when the server stops.
 */
#include "layer-test.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "src/protocol/wire.h"
#include "src/server/server.h"

#define SIZE UINT64_C(1048576)

/* A filter that reads ahead for ever, a piece every NAP_NS, and counts. */

#define NAP_NS 200000

static struct {
	atomic_uint made, back, refused, failed, seen_above;
	atomic_uint opened, closed, flushed;
	atomic_bool once;         /* one per request of a client, no more */
	atomic_bool closed_early; /* a stack was closed with a request under way */
} noted;

struct reader {
	atomic_uint under_way;
	atomic_bool running;
};

static int reader_open(struct nr_layer *layer, struct nr_error *error)
{
	atomic_fetch_add(&noted.opened, 1);
	return 0;
}

static void reader_close(struct nr_layer *layer)
{
	struct reader *reader = layer->instance;

	if (atomic_load(&reader->under_way))
		atomic_store(&noted.closed_early, true);
	atomic_fetch_add(&noted.closed, 1);
}

static bool make(struct nr_layer *layer, struct nr_worker *worker)
{
	struct reader *reader = layer->instance;
	struct nr_request *req = nr_background(layer, worker, NR_READ, 4096, 512);

	if (!req) {
		atomic_fetch_add(&noted.refused, 1);
		return false;
	}
	LAYER_CHECK(!req->session && !nr_child_parent(req) && req->worker == worker);
	atomic_fetch_add(&noted.made, 1);
	atomic_fetch_add(&reader->under_way, 1);
	nr_pass(layer, req);
	return true;
}

static void reader_submit(struct nr_layer *layer, struct nr_request *req)
{
	struct reader *reader = layer->instance;
	struct nr_worker *worker = req->worker;
	bool client = req->operation == NR_READ;

	nr_pass(layer, req);
	if (client && !atomic_exchange(&reader->running, true) && !make(layer, worker))
		atomic_store(&reader->running, false);
}

static void reader_child_done(struct nr_layer *layer, struct nr_request *req)
{
	uint8_t data[512];

	if (req->error)
		atomic_fetch_add(&noted.failed, 1);
	else
		nr_request_copy_out(req, 0, 512, data);
	nr_sleep(layer, req, NAP_NS);
}

static void reader_resume(struct nr_layer *layer, struct nr_request *req)
{
	struct reader *reader = layer->instance;

	if (noted.once || !make(layer, req->worker))
		atomic_store(&reader->running, false);
	atomic_fetch_sub(&reader->under_way, 1);
	atomic_fetch_add(&noted.back, 1);
	nr_child_release(req);
}

static const struct nr_layer_type reader_type = {
	.abi = NR_LAYER_ABI,
	.name = "reader",
	.summary = "reads for itself",
	.kind = NR_FILTER,
	.instance_size = sizeof(struct reader),
	.open = reader_open,
	.submit = reader_submit,
	.child_done = reader_child_done,
	.resume = reader_resume,
	.close = reader_close,
};

/* A filter that must not see what others do for themselves, when it is above. */

static void watcher_done(struct nr_layer *layer, struct nr_request *req)
{
	if (req->offset == 4096)
		atomic_fetch_add(&noted.seen_above, 1);
	nr_finish(layer, req, req->error);
}

static const struct nr_layer_type watcher_type = {
	.abi = NR_LAYER_ABI,
	.name = "watcher",
	.summary = "sees what goes by",
	.kind = NR_FILTER,
	.done = watcher_done,
};

static const struct nr_layer_type *const types[] = { &reader_type, &watcher_type, NULL };

static void forget(void)
{
	memset(&noted, 0, sizeof(noted));
}

/* In a stack alone. */

static void run_once(const struct layer_options *options)
{
	struct layer_test *t = layer_test_open(options, "watcher | reader | watcher | pattern 1M");
	struct layer_client *c = layer_client(t, 0);
	uint8_t byte;

	forget();
	noted.once = true;
	assert_int_equal(layer_read(c, 0, 1, &byte), 0);
	while (noted.back < 1)
		layer_turn(c);
	assert_int_equal(noted.made, 1);
	assert_int_equal(noted.failed, 0);
	assert_int_equal(noted.seen_above, 1); /* by the watcher below alone */
	layer_test_close(t);
}

static void test_a_request_comes_back_to_the_layer_that_made_it(void **state)
{
	run_once(&(struct layer_options){ .types = types });
	run_once(&(struct layer_options){ .types = types, .ring = true });
}

static void test_there_is_none_without_memory(void **state)
{
	const struct layer_options options = { .types = types, .slots_max = 1 };
	struct layer_test *t = layer_test_open(&options, "reader | pattern 1M");
	uint8_t byte;

	forget();
	assert_int_equal(layer_read(layer_client(t, 0), 0, 1, &byte), 0);
	assert_int_equal(noted.made, 0);
	assert_int_equal(noted.refused, 1);
	layer_test_close(t);
}

/* A keeper that says no, and counts what it was given back. */

static struct {
	struct nr_keeper keeper;
	unsigned kept, most;
	bool refuses;
} guard;

static bool guard_keep(struct nr_keeper *keeper)
{
	assert_ptr_equal(keeper, &guard.keeper);
	if (guard.refuses)
		return false;
	guard.kept++;
	if (guard.kept > guard.most)
		guard.most = guard.kept;
	return true;
}

static void guard_let_go(struct nr_keeper *keeper, struct nr_worker *worker)
{
	guard.kept--;
}

static void test_the_keeper_is_asked_and_told(void **state)
{
	struct layer_options options = { .types = types };
	struct layer_test *t = layer_test_open(&options, "reader | pattern 1M");
	struct layer_client *c = layer_client(t, 0);
	uint8_t byte;

	forget();
	guard.keeper = (struct nr_keeper){ guard_keep, guard_let_go };
	guard.refuses = true;
	nr_stack_set_keeper(layer_test_stack(t), &guard.keeper);
	assert_int_equal(layer_read(c, 0, 1, &byte), 0);
	assert_int_equal(noted.made, 0);
	guard.refuses = false;
	assert_int_equal(layer_read(c, 0, 1, &byte), 0);
	while (noted.back < 3)
		layer_turn(c);
	assert_int_equal(guard.kept, 1);
	assert_int_equal(guard.most, 2);
	/* Memory that is short is not forgotten to be given back. */
	layer_client_worker(c)->slots_max = 1;
	while (noted.refused < 2)
		layer_turn(c);
	assert_int_equal(guard.kept, 0);
	layer_test_close(t);
}

static void test_a_stack_within_a_stack_asks_the_keeper_of_the_outer_one(void **state)
{
	const struct layer_options options = { .types = types };
	struct layer_test *outer = layer_test_open(&options, "pattern 1M");
	struct layer_test *inner = layer_test_open(&options, "reader | pattern 1M");
	struct layer_client *c = layer_client(inner, 0);
	uint8_t byte;

	forget();
	guard.keeper = (struct nr_keeper){ guard_keep, guard_let_go };
	guard.refuses = false;
	nr_stack_set_outer(layer_test_stack(inner), layer_test_stack(outer));
	nr_stack_set_keeper(layer_test_stack(outer), &guard.keeper);
	assert_int_equal(layer_read(c, 0, 1, &byte), 0);
	while (noted.back < 3)
		layer_turn(c);
	assert_int_equal(guard.kept, 1);
	guard.refuses = true;
	while (noted.refused < 1)
		layer_turn(c);
	assert_int_equal(guard.kept, 0);
	layer_test_close(inner);
	layer_test_close(outer);
}

/* In a server. */

static int noting_describe(struct nr_layer *layer, struct nr_traits *t, struct nr_error *error)
{
	t->size = SIZE;
	t->support[NR_CAP_FLUSH] = NR_NATIVE;
	return 0;
}

static void noting_submit(struct nr_layer *layer, struct nr_request *req)
{
	if (req->operation == NR_READ)
		nr_answer_hole(req, req->length);
	else
		atomic_fetch_add(&noted.flushed, 1);
	nr_finish(layer, req, 0);
}

/* Every name is an export of its own: the last client to leave closes it. */
static int noting_find(struct nr_layer *layer, const char *name, struct nr_error *error)
{
	return 0;
}

static const struct nr_layer_type single_type = {
	.abi = NR_LAYER_ABI,
	.name = "single",
	.summary = "one disk",
	.kind = NR_BACKEND,
	.describe = noting_describe,
	.submit = noting_submit,
};

static const struct nr_layer_type many_type = {
	.abi = NR_LAYER_ABI,
	.name = "many",
	.summary = "many disks",
	.kind = NR_BACKEND,
	.describe = noting_describe,
	.find = noting_find,
	.submit = noting_submit,
};

struct house {
	struct nr_plan_layer layers[2];
	struct nr_plan plan;
	struct nr_server *server;
};

static void start(struct house *house, const struct nr_layer_type *backend)
{
	struct nr_error error = { 0 };

	forget();
	house->layers[0] = (struct nr_plan_layer){ .type = backend };
	house->layers[1] = (struct nr_plan_layer){ .type = &reader_type };
	house->plan = (struct nr_plan){
		.layers = house->layers,
		.layer_count = 2,
		.worker_count = 3,
	};
	struct nr_server_config config = { .plan = &house->plan,
					   .handshake = { .flags_mask = 0xffff },
					   .workers = 3,
					   .grace_seconds = 5 };
	if (nr_server_create(&house->server, &config, &error))
		fail_msg("%s", error.text);
	assert_int_equal(nr_server_start(house->server, &error), 0);
}

/* Connect, read one block, take the answer. */
static int connect_and_read(struct house *house, const char *name)
{
	uint8_t out[128], in[18 + 10 + 16 + 512], *p = out;
	struct nr_error error;
	int fd[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd), 0);
	assert_int_equal(nr_server_serve(house->server, fd[1], &error), 0);
	p = nbd_put32(p, NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES);
	p = nbd_put64(p, NBD_IHAVEOPT);
	p = nbd_put32(p, NBD_OPT_EXPORT_NAME);
	p = nbd_put32(p, (uint32_t)strlen(name));
	memcpy(p, name, strlen(name));
	p += strlen(name);
	p = nbd_put32(p, NBD_REQUEST_MAGIC);
	p = nbd_put16(p, 0);
	p = nbd_put16(p, NBD_CMD_READ);
	p = nbd_put64(p, 1);
	p = nbd_put64(p, 0);
	p = nbd_put32(p, 512);
	assert_int_equal(send(fd[0], out, (size_t)(p - out), MSG_NOSIGNAL), p - out);
	for (size_t done = 0; done < sizeof(in);) {
		ssize_t part = recv(fd[0], in + done, sizeof(in) - done, 0);

		assert_true(part > 0);
		done += (size_t)part;
	}
	return fd[0];
}

static void wait_until_more_than(atomic_uint *counter, unsigned count)
{
	const struct timespec pause = { .tv_nsec = 1000000 };

	for (unsigned i = 0; i < 20000 && atomic_load(counter) <= count; i++)
		nanosleep(&pause, NULL);
	assert_true(atomic_load(counter) > count);
}

static void end(struct house *house)
{
	nr_server_stop(house->server);
	assert_int_equal(nr_server_wait(house->server), 0);
	nr_server_destroy(house->server);
	assert_int_equal(noted.made, noted.back);
	assert_int_equal(noted.opened, noted.closed);
	assert_false(noted.closed_early);
}

static void test_stopping_waits_for_what_is_under_way(void **state)
{
	for (unsigned i = 0; i < 20; i++) {
		struct house house;
		int fd;

		start(&house, i % 2 ? &many_type : &single_type);
		fd = connect_and_read(&house, "");
		wait_until_more_than(&noted.made, i);
		end(&house); /* with the client still there */
		close(fd);
	}
}

static void test_the_last_client_to_leave_ends_it(void **state)
{
	struct house house;
	unsigned made, back;
	int one, two;

	start(&house, &many_type);
	one = connect_and_read(&house, "disk");
	two = connect_and_read(&house, "disk");
	wait_until_more_than(&noted.back, 10);
	close(one);
	back = noted.back;
	wait_until_more_than(&noted.back, back + 10);
	assert_int_equal(noted.closed, 0);
	close(two);
	wait_until_more_than(&noted.closed, 0);
	made = noted.made;
	assert_int_equal(made, noted.back);
	assert_true(noted.flushed >= 1);
	/* And it begins again. */
	one = connect_and_read(&house, "disk");
	wait_until_more_than(&noted.made, made + 10);
	close(one);
	end(&house);
	assert_int_equal(noted.opened, 2);
}

static void test_an_export_that_stays_open_rests_without_clients(void **state)
{
	struct house house;
	unsigned back;
	int fd;

	start(&house, &single_type);
	fd = connect_and_read(&house, "");
	wait_until_more_than(&noted.back, 10);
	close(fd);
	wait_until_more_than(&noted.refused, 0);
	back = noted.back;
	assert_int_equal(noted.closed, 0);
	fd = connect_and_read(&house, "");
	wait_until_more_than(&noted.back, back + 10);
	close(fd);
	end(&house);
}

/* Clients that come and go while the export closes and is taken back. */
static void *come_and_go(void *argument)
{
	struct house *house = argument;

	for (unsigned i = 0; i < 100; i++)
		close(connect_and_read(house, i % 2 ? "odd" : "even"));
	return NULL;
}

static void test_clients_that_come_and_go(void **state)
{
	pthread_t thread[4];
	struct house house;

	start(&house, &many_type);
	for (unsigned i = 0; i < 4; i++)
		pthread_create(&thread[i], NULL, come_and_go, &house);
	for (unsigned i = 0; i < 4; i++)
		pthread_join(thread[i], NULL);
	end(&house);
	assert_true(noted.made > 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_request_comes_back_to_the_layer_that_made_it),
		cmocka_unit_test(test_there_is_none_without_memory),
		cmocka_unit_test(test_the_keeper_is_asked_and_told),
		cmocka_unit_test(test_a_stack_within_a_stack_asks_the_keeper_of_the_outer_one),
		cmocka_unit_test(test_stopping_waits_for_what_is_under_way),
		cmocka_unit_test(test_the_last_client_to_leave_ends_it),
		cmocka_unit_test(test_an_export_that_stays_open_rests_without_clients),
		cmocka_unit_test(test_clients_that_come_and_go),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
