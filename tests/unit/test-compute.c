/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * nr_compute: computations run beside the worker, side by side, one for each processor
 * and no more for all stacks together; further ones wait in order; each is resumed once,
 * and an export stays open until its last one is over.
 */
#include "layer-test.h"

#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdatomic.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define PATIENCE 60 /* seconds */
#define REQUESTS_MAX 64u
#define THREADS_MAX 16u /* processors that the tests make use of */

/* A filter that computes for each read, until it may go on. */

static struct {
	pthread_mutex_t lock; /* guards what follows */
	pthread_cond_t changed;
	unsigned started, running, most; /* most: that ever ran at a time */
	unsigned ended;
	unsigned allowed;             /* so many may end */
	uint64_t order[REQUESTS_MAX]; /* offsets, as they were started */
} noted = { .lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER };

static atomic_uint resumed, closed, closed_early;

/* Until *COUNT is LEAST; false: it takes too long.  With the lock. */
static bool wait_for(const unsigned *count, unsigned least)
{
	struct timespec end;
	int err = 0;

	clock_gettime(CLOCK_REALTIME, &end);
	end.tv_sec += PATIENCE;
	while (*count < least && !err)
		err = pthread_cond_timedwait(&noted.changed, &noted.lock, &end);
	return *count >= least;
}

static bool have_started(unsigned least)
{
	bool have;

	(void)pthread_mutex_lock(&noted.lock);
	have = wait_for(&noted.started, least);
	(void)pthread_mutex_unlock(&noted.lock);
	return have;
}

static void allow(unsigned count)
{
	(void)pthread_mutex_lock(&noted.lock);
	noted.allowed = count;
	(void)pthread_cond_broadcast(&noted.changed);
	(void)pthread_mutex_unlock(&noted.lock);
}

static void compute(struct nr_layer *layer, struct nr_request *req)
{
	unsigned mine;

	(void)pthread_mutex_lock(&noted.lock);
	mine = noted.started++;
	noted.order[mine % REQUESTS_MAX] = req->offset;
	if (++noted.running > noted.most)
		noted.most = noted.running;
	(void)pthread_cond_broadcast(&noted.changed);
	LAYER_CHECK(wait_for(&noted.allowed, mine + 1));
	noted.running--;
	noted.ended++;
	(void)pthread_mutex_unlock(&noted.lock);
	*(uint64_t *)nr_scratch(layer, req) = req->offset;
}

static void computer_submit(struct nr_layer *layer, struct nr_request *req)
{
	struct nr_request *own;

	if (req->operation != NR_READ) {
		nr_pass(layer, req);
		return;
	}
	/* An odd one is computed for when nobody waits any more. */
	if (req->offset % 2 == 0) {
		nr_compute(layer, req, compute);
		return;
	}
	own = nr_background(layer, req->worker, NR_READ, req->offset, req->length);
	LAYER_CHECK(own);
	nr_pass(layer, own);
	nr_pass(layer, req);
}

static void computer_child_done(struct nr_layer *layer, struct nr_request *child)
{
	nr_compute(layer, child, compute);
}

static void computer_resume(struct nr_layer *layer, struct nr_request *req)
{
	/* What the computation left in the scratch is there. */
	LAYER_CHECK(*(uint64_t *)nr_scratch(layer, req) == req->offset);
	atomic_fetch_add(&resumed, 1);
	if (!req->session && req->offset % 2)
		nr_child_release(req);
	else
		nr_pass(layer, req);
}

static void computer_close(struct nr_layer *layer)
{
	(void)pthread_mutex_lock(&noted.lock);
	if (noted.running || noted.ended != atomic_load(&resumed))
		atomic_store(&closed_early, 1);
	(void)pthread_mutex_unlock(&noted.lock);
	atomic_fetch_add(&closed, 1);
}

static const struct nr_layer_type computer_type = {
	.abi = NR_LAYER_ABI,
	.name = "computer",
	.summary = "computes",
	.kind = NR_FILTER,
	.request_size = sizeof(uint64_t),
	.submit = computer_submit,
	.child_done = computer_child_done,
	.resume = computer_resume,
	.computes = true,
	.close = computer_close,
};

static const struct nr_layer_type *const types[] = { &computer_type, NULL };
static const struct layer_options options = { .types = types };

static int forget(void **state)
{
	noted.started = noted.running = noted.most = noted.ended = noted.allowed = 0;
	atomic_store(&resumed, 0);
	atomic_store(&closed, 0);
	atomic_store(&closed_early, 0);
	return 0;
}

/* Fewer than there are make no difference here, and bound what is begun. */
static unsigned use_processors(unsigned most)
{
	cpu_set_t set, fewer;
	unsigned count = 0;

	CPU_ZERO(&fewer);
	assert_int_equal(sched_getaffinity(0, sizeof(set), &set), 0);
	for (unsigned i = 0; i < CPU_SETSIZE && count < most; i++)
		if (CPU_ISSET(i, &set)) {
			CPU_SET(i, &fewer);
			count++;
		}
	assert_int_equal(sched_setaffinity(0, sizeof(fewer), &fewer), 0);
	return count;
}

static void end_all(struct layer_client *c, struct nr_request **reqs, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		assert_int_equal(layer_wait(c, reqs[i]), 0);
		layer_end(c, reqs[i]);
	}
}

static unsigned threads_now(void)
{
	DIR *tasks = opendir("/proc/self/task");
	unsigned count = 0;

	assert_non_null(tasks);
	for (struct dirent *task; (task = readdir(tasks));)
		count += task->d_name[0] != '.';
	closedir(tasks);
	return count;
}

static void one_for_each_processor_and_no_more(void **state)
{
	unsigned processors = use_processors(THREADS_MAX), count = 3 * processors;
	struct layer_test *t = layer_test_open(&options, "computer | memory 1M");
	struct layer_client *c = layer_client(t, 0);
	struct nr_request *reqs[REQUESTS_MAX], *other;

	for (unsigned i = 0; i < count; i++)
		reqs[i] = layer_start(c, NR_READ, 0, 1024 * i, 512, NULL, NULL);
	/* So many run side by side: none may end before all of them have begun. */
	assert_true(have_started(processors));
	/* The worker does other things meanwhile. */
	other = layer_start(c, NR_TRIM, 0, 0, 512, NULL, NULL);
	assert_int_equal(layer_wait(c, other), 0);
	layer_end(c, other);
	for (unsigned i = 0; i < count; i++)
		assert_false(layer_finished(reqs[i]));
	assert_int_equal(atomic_load(&resumed), 0);
	allow(count);
	end_all(c, reqs, count);
	assert_int_equal(noted.started, count);
	assert_int_equal(noted.most, processors);
	assert_int_equal(atomic_load(&resumed), count);
	layer_test_close(t);
	assert_int_equal(atomic_load(&closed_early), 0);
}

static void all_stacks_share_the_threads_which_end_with_the_last(void **state)
{
	unsigned before = threads_now(), processors = use_processors(THREADS_MAX);
	struct layer_test *a = layer_test_open(&options, "computer | computer | memory 1M");
	struct layer_test *b = layer_test_open(&options, "computer | memory 1M");
	struct nr_request *of_a[THREADS_MAX], *of_b[THREADS_MAX];

	assert_int_equal(threads_now(), before);
	for (unsigned i = 0; i < processors; i++) {
		of_a[i] = layer_start(layer_client(a, 0), NR_READ, 0, 1024 * i, 512, NULL, NULL);
		of_b[i] = layer_start(layer_client(b, 0), NR_READ, 0, 1024 * i, 512, NULL, NULL);
	}
	assert_true(have_started(processors));
	allow(3 * processors); /* two for a request of the first */
	end_all(layer_client(a, 0), of_a, processors);
	end_all(layer_client(b, 0), of_b, processors);
	assert_int_equal(noted.started, 3 * processors);
	assert_int_equal(noted.most, processors);
	layer_test_close(a);
	layer_test_close(b);
	/* One that has ended may be listed for a moment more. */
	for (unsigned i = 0; threads_now() > before && i < PATIENCE * 1000; i++)
		usleep(1000);
	assert_int_equal(threads_now(), before);
}

static void further_ones_wait_in_order(void **state)
{
	struct nr_request *reqs[REQUESTS_MAX];
	struct layer_client *c;
	struct layer_test *t;
	cpu_set_t all;

	assert_int_equal(sched_getaffinity(0, sizeof(all), &all), 0);
	assert_int_equal(use_processors(1), 1);
	t = layer_test_open(&options, "computer | memory 1M");
	c = layer_client(t, 0);
	for (unsigned i = 0; i < REQUESTS_MAX; i++)
		reqs[i] =
			layer_start(c, NR_READ, 0, 1024 * (i * 37 % REQUESTS_MAX), 512, NULL, NULL);
	assert_true(have_started(1));
	allow(REQUESTS_MAX);
	end_all(c, reqs, REQUESTS_MAX);
	assert_int_equal(noted.most, 1);
	for (unsigned i = 0; i < REQUESTS_MAX; i++)
		assert_int_equal(noted.order[i], 1024 * (i * 37 % REQUESTS_MAX));
	layer_test_close(t);
	assert_int_equal(sched_setaffinity(0, sizeof(all), &all), 0);
}

static void *allow_later(void *count)
{
	LAYER_CHECK(have_started(1));
	/* The test is about to close by now, or does so while these end. */
	for (unsigned i = 1; i <= *(unsigned *)count; i++) {
		usleep(1000);
		allow(i);
	}
	return NULL;
}

static void an_export_is_not_closed_before_they_are_over(void **state)
{
	unsigned count = 2 * use_processors(THREADS_MAX);
	struct layer_test *t = layer_test_open(&options, "computer | memory 1M");
	struct layer_client *c = layer_client(t, 0);
	struct nr_request *reqs[REQUESTS_MAX];
	pthread_t thread;

	for (unsigned i = 0; i < count; i++)
		reqs[i] = layer_start(c, NR_READ, 0, 1024 * i + 1, 512, NULL, NULL);
	end_all(c, reqs, count);
	assert_int_equal(atomic_load(&resumed), 0);
	assert_int_equal(pthread_create(&thread, NULL, allow_later, &count), 0);
	layer_test_close(t);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(atomic_load(&closed), 1);
	assert_int_equal(atomic_load(&closed_early), 0);
	assert_int_equal(atomic_load(&resumed), count);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(one_for_each_processor_and_no_more, forget),
		cmocka_unit_test_setup(all_stacks_share_the_threads_which_end_with_the_last,
				       forget),
		cmocka_unit_test_setup(further_ones_wait_in_order, forget),
		cmocka_unit_test_setup(an_export_is_not_closed_before_they_are_over, forget),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
