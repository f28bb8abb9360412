/* SPDX-License-Identifier: BSD-3-Clause */
/* The pool for blocking calls: every job runs, its answer comes home, threads are few. */
#include "test-ring-common.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "ring/offload.h"

struct task {
	struct nr_job job;
	struct gate *gate;
	pthread_t ran_in;
	bool ran, done;
	unsigned order;
};

/* Where jobs wait until the test lets them through. */
struct gate {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	unsigned inside, open;
	unsigned next;
	unsigned done;
};

static void gate_init(struct gate *gate, unsigned open)
{
	memset(gate, 0, sizeof(*gate));
	pthread_mutex_init(&gate->lock, NULL);
	pthread_cond_init(&gate->changed, NULL);
	gate->open = open;
}

static void gate_open(struct gate *gate)
{
	pthread_mutex_lock(&gate->lock);
	gate->open = 1;
	pthread_cond_broadcast(&gate->changed);
	pthread_mutex_unlock(&gate->lock);
}

static void gate_wait_for(struct gate *gate, unsigned inside)
{
	pthread_mutex_lock(&gate->lock);
	while (gate->inside < inside)
		pthread_cond_wait(&gate->changed, &gate->lock);
	pthread_mutex_unlock(&gate->lock);
}

static void task_run(struct nr_job *job)
{
	struct task *t = (struct task *)job;
	struct gate *gate = t->gate;

	pthread_mutex_lock(&gate->lock);
	t->order = gate->next++;
	gate->inside++;
	pthread_cond_broadcast(&gate->changed);
	while (!gate->open)
		pthread_cond_wait(&gate->changed, &gate->lock);
	gate->inside--;
	pthread_mutex_unlock(&gate->lock);
	t->ran_in = pthread_self();
	t->ran = true;
}

static void task_done(struct nr_job *job)
{
	struct task *t = (struct task *)job;

	assert_true(t->ran);
	assert_false(t->done);
	t->done = true;
	t->gate->done++;
}

static void submit(struct nr_offload *pool, struct nr_ring *ring, struct task *t, struct gate *gate)
{
	memset(t, 0, sizeof(*t));
	t->gate = gate;
	t->job.run = task_run;
	t->job.done = task_done;
	t->job.home = ring;
	nr_offload_submit(pool, &t->job);
}

static void jobs_run_elsewhere_and_answer_at_home(void **state)
{
	enum { count = 1000 };
	struct nr_ring *ring = *state;
	struct nr_offload *pool = nr_offload_create(4);
	struct task *tasks = calloc(count, sizeof(*tasks));
	struct gate gate;

	gate_init(&gate, 1);
	assert_int_equal(nr_offload_threads(pool), 0);
	for (int i = 0; i < count; i++)
		submit(pool, ring, &tasks[i], &gate);
	while (gate.done < count)
		nr_ring_turn(ring, true);
	for (int i = 0; i < count; i++) {
		assert_true(tasks[i].done);
		assert_false(pthread_equal(tasks[i].ran_in, pthread_self()));
	}
	assert_true(nr_offload_threads(pool) >= 1);
	assert_true(nr_offload_threads(pool) <= 4);
	nr_offload_destroy(pool);
	free(tasks);
}

static void threads_are_made_on_demand_up_to_the_limit(void **state)
{
	struct nr_ring *ring = *state;
	struct nr_offload *pool = nr_offload_create(3);
	struct task tasks[6];
	struct gate gate;

	gate_init(&gate, 0);
	for (unsigned i = 0; i < 6; i++) {
		submit(pool, ring, &tasks[i], &gate);
		assert_int_equal(nr_offload_threads(pool), i < 3 ? i + 1 : 3);
		gate_wait_for(&gate, i < 3 ? i + 1 : 3);
	}
	assert_int_equal(gate.done, 0);
	gate_open(&gate);
	while (gate.done < 6)
		nr_ring_turn(ring, true);
	/* Those that had to wait came after the first ones. */
	for (int i = 3; i < 6; i++)
		assert_true(tasks[i].order >= 3);
	/* An idle thread is used again. */
	for (int i = 0; i < 20; i++) {
		gate.done = 0;
		submit(pool, ring, &tasks[0], &gate);
		while (gate.done < 1)
			nr_ring_turn(ring, true);
	}
	assert_true(nr_offload_threads(pool) <= 3);
	nr_offload_destroy(pool);
}

static void jobs_of_a_single_thread_run_in_order(void **state)
{
	struct nr_ring *ring = *state;
	struct nr_offload *pool = nr_offload_create(1);
	struct task tasks[50];
	struct gate gate;

	gate_init(&gate, 0);
	for (int i = 0; i < 50; i++)
		submit(pool, ring, &tasks[i], &gate);
	gate_open(&gate);
	while (gate.done < 50)
		nr_ring_turn(ring, true);
	for (unsigned i = 0; i < 50; i++)
		assert_int_equal(tasks[i].order, i);
	nr_offload_destroy(pool);
}

static void destroy_runs_what_is_queued(void **state)
{
	struct nr_ring *ring = *state;
	struct nr_offload *pool = nr_offload_create(2);
	struct task tasks[20];
	struct gate gate;

	gate_init(&gate, 1);
	for (int i = 0; i < 20; i++)
		submit(pool, ring, &tasks[i], &gate);
	nr_offload_destroy(pool);
	for (int i = 0; i < 20; i++)
		assert_true(tasks[i].ran);
	while (gate.done < 20)
		nr_ring_turn(ring, false);
	nr_offload_destroy(NULL);
}

static void a_pool_never_used_can_be_destroyed(void **state)
{
	(void)state;
	nr_offload_destroy(nr_offload_create(8));
}

static void look_at_signals(struct nr_job *job)
{
	struct task *t = (struct task *)job;
	sigset_t mask;

	pthread_sigmask(SIG_SETMASK, NULL, &mask);
	t->ran = sigismember(&mask, SIGTERM) && sigismember(&mask, SIGUSR1);
}

static void signals_go_to_others(void **state)
{
	struct nr_ring *ring = *state;
	struct nr_offload *pool = nr_offload_create(1);
	struct gate gate;
	struct task t = { .job = { .run = look_at_signals, .done = task_done, .home = ring },
			  .gate = &gate };
	sigset_t mask;

	gate_init(&gate, 1);
	nr_offload_submit(pool, &t.job);
	while (!t.done)
		nr_ring_turn(ring, true);
	pthread_sigmask(SIG_SETMASK, NULL, &mask);
	assert_false(sigismember(&mask, SIGTERM));
	nr_offload_destroy(pool);
}

/* Runs in a child: where no thread can be made, jobs run all the same. */
static int without_threads(void)
{
	struct rlimit none = { 0, 0 };
	struct nr_ring *ring = ring_new(16);
	struct nr_offload *pool = nr_offload_create(4);
	struct task tasks[10];
	struct gate gate;

	gate_init(&gate, 1);
	/* Root is not limited. */
	if (getuid() == 0 && setuid(65534) < 0)
		return 77;
	if (setrlimit(RLIMIT_NPROC, &none) < 0)
		return 77;
	for (int i = 0; i < 10; i++)
		submit(pool, ring, &tasks[i], &gate);
	while (gate.done < 10)
		nr_ring_turn(ring, true);
	nr_offload_destroy(pool);
	nr_ring_destroy(ring);
	return 0;
}

static void jobs_run_where_no_thread_can_be_made(void **state)
{
	pid_t child = fork();
	int status;

	(void)state;
	if (child == 0)
		_exit(without_threads());
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	if (WEXITSTATUS(status) == 77)
		skip();
	assert_int_equal(WEXITSTATUS(status), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		ring_test(jobs_run_elsewhere_and_answer_at_home),
		ring_test(threads_are_made_on_demand_up_to_the_limit),
		ring_test(jobs_of_a_single_thread_run_in_order),
		ring_test(destroy_runs_what_is_queued),
		cmocka_unit_test(a_pool_never_used_can_be_destroyed),
		ring_test(signals_go_to_others),
		cmocka_unit_test(jobs_run_where_no_thread_can_be_made),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
