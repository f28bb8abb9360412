/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the core does for layers besides moving requests: sleep, state per client,
 * reading while a stack is opened, stacks within stacks.
 */
#include "layer-test.h"

#include <errno.h>
#include <setjmp.h>

#include <cmocka.h>

#include "backends/table.h"
#include "filters/table.h"
#include "src/cli/words.h"

/* nr_sleep: a filter that delays a request by as many milliseconds as its offset. */

static void nap_submit(struct nr_layer *layer, struct nr_request *req)
{
	nr_sleep(layer, req, req->offset * 1000000);
}

static void nap_resume(struct nr_layer *layer, struct nr_request *req)
{
	nr_pass(layer, req);
}

static const struct nr_layer_type nap = {
	.abi = NR_LAYER_ABI,
	.name = "nap",
	.summary = "delays by the offset",
	.kind = NR_FILTER,
	.submit = nap_submit,
	.resume = nap_resume,
};

/* nr_read_below: a filter that reads while it is opened. */

struct reader {
	uint8_t at_open[20];
};

static int reader_open(struct nr_layer *layer, struct nr_error *error)
{
	struct reader *reader = layer->instance;
	uint8_t past_the_end[16];
	struct nr_error ignored;

	if (nr_read_below(layer, nr_layer_size(layer->below) - 8, 16, past_the_end, &ignored) == 0)
		return nr_error_set(error, -EINVAL, "read past the end");
	return nr_read_below(layer, 1234565, sizeof(reader->at_open), reader->at_open, error);
}

static struct reader seen_at_open;

static void reader_close(struct nr_layer *layer)
{
	seen_at_open = *(struct reader *)layer->instance;
}

static void reader_done(struct nr_layer *layer, struct nr_request *req)
{
	nr_finish(layer, req, req->error);
}

static const struct nr_layer_type reader = {
	.abi = NR_LAYER_ABI,
	.name = "reader",
	.summary = "reads while it is opened",
	.kind = NR_FILTER,
	.instance_size = sizeof(struct reader),
	.open = reader_open,
	.done = reader_done,
	.close = reader_close,
};

static const struct nr_layer_type *const types[] = { &nap, &reader, NULL };

static void sleep_in_order(bool ring)
{
	const struct layer_options options = { .types = types, .ring = ring };
	struct layer_test *t = layer_test_open(&options, "nap | memory 1M");
	struct layer_client *c = layer_client(t, 0);
	static const uint64_t offsets[] = { 60, 20, 40, 0 };
	uint64_t began = nr_now(layer_client_worker(c));
	struct nr_request *req[4];

	for (unsigned i = 0; i < 4; i++)
		req[i] = layer_start(c, NR_TRIM, 0, offsets[i], 1, NULL, NULL);
	assert_int_equal(layer_wait(c, req[1]), 0);
	assert_true(nr_now(layer_client_worker(c)) - began >= 20 * 1000000);
	assert_true(layer_finished(req[3]));
	assert_false(layer_finished(req[0]) && !layer_finished(req[2]));
	assert_int_equal(layer_wait(c, req[0]), 0);
	assert_true(nr_now(layer_client_worker(c)) - began >= 60 * 1000000);
	assert_true(layer_finished(req[2]));
	for (unsigned i = 0; i < 4; i++)
		layer_end(c, req[i]);
	layer_test_close(t);
}

static void test_sleeping_requests_wake_in_order_of_time(void **state)
{
	sleep_in_order(true);
}

static void test_sleeping_works_without_a_ring(void **state)
{
	sleep_in_order(false);
}

/* A backend that counts the rings it meets: a new one has no context yet. */

static unsigned rings_met, reads_met;

static int meeter_describe(struct nr_layer *layer, struct nr_traits *t, struct nr_error *error)
{
	t->size = UINT64_C(1) << 20;
	return 0;
}

static void meeter_submit(struct nr_layer *layer, struct nr_request *req)
{
	struct nr_ring *ring = nr_worker_ring(req->worker);

	reads_met++;
	if (!nr_ring_context(ring)) {
		rings_met++;
		nr_ring_set_context(ring, &rings_met);
	}
	nr_answer_hole(req, req->length);
	nr_finish(layer, req, 0);
}

static const struct nr_layer_type meeter = {
	.abi = NR_LAYER_ABI,
	.name = "meeter",
	.summary = "counts rings",
	.kind = NR_BACKEND,
	.describe = meeter_describe,
	.submit = meeter_submit,
};

/* A filter that reads a lot while it is opened, and once when its traits are asked for. */

static int greedy_open(struct nr_layer *layer, struct nr_error *error)
{
	uint8_t byte;
	int err = 0;

	for (unsigned i = 0; i < 300 && !err; i++)
		err = nr_read_below(layer, i * 3000, 1, &byte, error);
	return err;
}

static int greedy_describe(struct nr_layer *layer, struct nr_traits *t, struct nr_error *error)
{
	uint8_t byte;

	return nr_read_below(layer, 0, 1, &byte, error);
}

static const struct nr_layer_type greedy = {
	.abi = NR_LAYER_ABI,
	.name = "greedy",
	.summary = "reads a lot while it is opened",
	.kind = NR_FILTER,
	.open = greedy_open,
	.describe = greedy_describe,
};

static void test_all_layers_of_a_stack_read_through_one_ring(void **state)
{
	static const struct nr_layer_type *const readers[] = { &meeter, &greedy, NULL };
	const struct layer_options options = { .types = readers };
	struct layer_test *t;

	rings_met = reads_met = 0;
	t = layer_test_open(&options, "greedy | greedy | meeter");
	assert_int_equal(reads_met, 602);
	assert_int_equal(rings_met, 1);
	/* When it is open, there is none to be kept. */
	nr_layer_resized(nr_stack_bottom(layer_test_stack(t)), 1 << 19);
	assert_int_equal(reads_met, 604);
	assert_int_equal(rings_met, 3);
	assert_int_equal(layer_test_size(t), 1 << 19);
	layer_test_close(t);
}

static void test_a_layer_can_read_while_it_is_opened(void **state)
{
	const struct layer_options options = { .types = types, .ring = true };
	struct layer_test *t = layer_test_open(&options, "reader | pattern 2M");
	uint8_t expected[20];

	assert_int_equal(layer_read(layer_client(t, 0), 1234565, 20, expected), 0);
	layer_test_close(t);
	assert_memory_equal(seen_at_open.at_open, expected, 20);
}

/* nr_session_data: a filter that counts the clients that came in, each by itself. */

static int greet(struct nr_layer *layer, struct nr_session *session, struct nr_error *error)
{
	unsigned *visits = nr_session_data(layer, session);

	if (session->id == 13)
		return nr_error_set(error, -EACCES, "not today");
	++*visits;
	return 0;
}

static unsigned farewells;

static void wave(struct nr_layer *layer, struct nr_session *session)
{
	if (*(unsigned *)nr_session_data(layer, session) == 1)
		farewells++;
}

static const struct nr_layer_type door = {
	.abi = NR_LAYER_ABI,
	.name = "door",
	.summary = "knows its clients",
	.kind = NR_FILTER,
	.session_size = sizeof(unsigned),
	.admit = greet,
	.leave = wave,
};

static void test_each_client_has_state_of_its_own_in_each_layer(void **state)
{
	static const struct nr_layer_type *const doors[] = { &door, NULL };
	const struct layer_options options = { .types = doors };
	struct layer_test *t = layer_test_open(&options, "door | door | memory 1M");
	struct nr_session a = { .id = 1 }, b = { .id = 2 }, refused = { .id = 13 };
	struct nr_error error;

	farewells = 0;
	assert_int_equal(nr_stack_admit(layer_test_stack(t), &a, &error), 0);
	assert_int_equal(nr_stack_admit(layer_test_stack(t), &b, &error), 0);
	assert_int_equal(nr_stack_admit(layer_test_stack(t), &refused, &error), -EACCES);
	assert_string_equal(error.text, "not today");
	nr_stack_leave(layer_test_stack(t), &a);
	nr_stack_leave(layer_test_stack(t), &b);
	assert_int_equal(farewells, 4);
	layer_test_close(t);
}

/* nr_substack: a filter that writes everything to a twin as well. */

struct copier {
	const char *to;
	struct nr_stack *twin;
};

static const struct nr_param copier_params[] = {
	{ .name = "to",
	  .type = NR_PARAM_STRING,
	  .flags = NR_PARAM_REQUIRED,
	  .offset = offsetof(struct copier, to),
	  .value = "STACK",
	  .help = "where to" },
	{ .name = NULL },
};

static int copier_open(struct nr_layer *layer, struct nr_error *error)
{
	struct copier *copier = layer->instance;

	copier->twin = nr_substack_open(layer, copier->to, error);
	return copier->twin ? 0 : error->code;
}

static void copier_close(struct nr_layer *layer)
{
	nr_substack_close(((struct copier *)layer->instance)->twin);
}

static void copier_submit(struct nr_layer *layer, struct nr_request *req)
{
	struct copier *copier = layer->instance;
	struct nr_request *child;

	if (req->operation != NR_WRITE) {
		nr_pass(layer, req);
		return;
	}
	child = nr_child_in(layer, copier->twin, req, NR_WRITE, req->offset, req->length);
	if (!child) {
		nr_finish(layer, req, -ENOMEM);
		return;
	}
	child->segments = req->segments;
	child->segment_count = req->segment_count;
	nr_enter(copier->twin, child);
}

static void copier_child_done(struct nr_layer *layer, struct nr_request *child)
{
	struct nr_request *req = nr_child_parent(child);
	int error = child->error;

	nr_child_release(child);
	if (error)
		nr_finish(layer, req, error);
	else
		nr_pass(layer, req);
}

static const struct nr_layer_type copier = {
	.abi = NR_LAYER_ABI,
	.name = "copier",
	.summary = "writes twice",
	.kind = NR_FILTER,
	.params = copier_params,
	.instance_size = sizeof(struct copier),
	.open = copier_open,
	.submit = copier_submit,
	.child_done = copier_child_done,
	.close = copier_close,
};

static const struct nr_layer_type *const with_copier[] = { &copier, NULL };
static const struct nr_catalog catalog = { nr_backends, with_copier };
static const struct nr_surroundings surroundings = { .parse = nr_words_parse,
						     .forget = nr_words_forget };

static int open_words(struct nr_stack **stack, const char *words, struct nr_error *error)
{
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

static void ended(struct nr_request *req)
{
}

static void test_a_layer_can_have_a_stack_of_its_own(void **state)
{
	struct nr_worker worker;
	struct nr_stack *stack = NULL;
	struct nr_error error;
	struct nr_request *req;
	uint8_t data[512] = { 1 };

	/* Twins within twins; the innermost is too small for the second write. */
	if (open_words(&stack,
		       "--filter=copier to=\"--filter=copier to='memory 4k' memory 1M\" memory 1M",
		       &error))
		fail_msg("%s", error.text);
	nr_worker_init(&worker, NULL, 0, 1);
	for (unsigned i = 0; i < 2; i++) {
		req = nr_request_get(&worker, stack, 0);
		req->operation = NR_WRITE;
		req->offset = i * 4096;
		req->length = sizeof(data);
		req->segments[0] = (struct nr_segment){ data, sizeof(data), NULL };
		req->segment_count = 1;
		req->internal.finished = ended;
		nr_stack_submit(stack, req);
		nr_worker_run(&worker);
		assert_int_equal(req->internal.state, NR_REQUEST_IDLE);
		assert_int_equal(req->error, i == 0 ? 0 : -ENOSPC);
		nr_request_release(req, 0);
	}
	assert_int_equal(worker.slots_used, 0);
	nr_worker_fini(&worker);
	nr_stack_close(stack);
}

static void refuse(const char *words, const char *mention)
{
	struct nr_stack *stack;
	struct nr_error error;

	assert_true(open_words(&stack, words, &error) < 0);
	if (!strstr(error.text, mention))
		fail_msg("'%s' does not mention '%s'", error.text, mention);
}

static void test_wrong_words_of_a_stack_within_are_explained(void **state)
{
	refuse("--filter=copier to='memry 1M' memory 1M", "did you mean 'memory'");
	refuse("--filter=copier to='memory \"1M' memory 1M", "quote is not closed");
	refuse("--filter=copier to='--run x memory 1M' memory 1M", "--run");
	refuse("--filter=copier to='' memory 1M", "no backend");
}

/* nr_layer_log */

static char logged[2048];
static enum nr_layer_log_level logged_level;

static void take_line(const struct nr_layer *layer, enum nr_layer_log_level level, const char *line)
{
	logged_level = level;
	snprintf(logged, sizeof(logged), "%s", line);
}

static int talker_open(struct nr_layer *layer, struct nr_error *error)
{
	nr_layer_log(layer, NR_LAYER_INFO, "%s at %d", "open", 7);
	return 0;
}

static void talker_close(struct nr_layer *layer)
{
	char text[3000];

	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	nr_layer_log(layer, NR_LAYER_WARNING, "%s", text);
}

static const struct nr_layer_type talker = {
	.abi = NR_LAYER_ABI,
	.name = "talker",
	.summary = "says something",
	.kind = NR_FILTER,
	.open = talker_open,
	.close = talker_close,
};

static void test_what_a_layer_says_has_its_name_in_front(void **state)
{
	static const struct nr_layer_type *const talkers[] = { &talker, NULL };
	static const struct nr_surroundings listening = { .log = take_line };
	struct layer_options options = { .types = talkers, .surroundings = &listening };
	struct layer_test *t;
	char name[4001];

	layer_test_close(layer_test_open(&options, "memory 1M"));
	assert_string_equal(logged, "");
	t = layer_test_open(&options, "talker | memory 1M");
	assert_string_equal(logged, "talker: open at 7");
	assert_int_equal(logged_level, NR_LAYER_INFO);
	layer_test_close(t);
	assert_int_equal(logged_level, NR_LAYER_WARNING);
	assert_int_equal(strlen(logged), 1023);
	assert_ptr_equal(strstr(logged, "talker: xxx"), logged);
	options.export_name = "a disk";
	layer_test_close(layer_test_open(&options, "talker | memory 1M"));
	assert_ptr_equal(strstr(logged, "export 'a disk': talker: xxx"), logged);
	/* A name of any length leaves room for what is said. */
	memset(name, 'n', sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0';
	options.export_name = name;
	layer_test_close(layer_test_open(&options, "talker | memory 1M"));
	assert_non_null(strstr(logged, "n': talker: xxx"));
	/* Nobody listens. */
	logged[0] = '\0';
	options.surroundings = NULL;
	layer_test_close(layer_test_open(&options, "talker | memory 1M"));
	assert_string_equal(logged, "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sleeping_requests_wake_in_order_of_time),
		cmocka_unit_test(test_sleeping_works_without_a_ring),
		cmocka_unit_test(test_a_layer_can_read_while_it_is_opened),
		cmocka_unit_test(test_all_layers_of_a_stack_read_through_one_ring),
		cmocka_unit_test(test_each_client_has_state_of_its_own_in_each_layer),
		cmocka_unit_test(test_a_layer_can_have_a_stack_of_its_own),
		cmocka_unit_test(test_wrong_words_of_a_stack_within_are_explained),
		cmocka_unit_test(test_what_a_layer_says_has_its_name_in_front),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
