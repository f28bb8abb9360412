/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Messages between threads: none lost, each sender's in order, a sleeping ring
 * woken, a busy one left alone.
 */
#include "test-ring-common.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

#define SENDERS 4
#define MESSAGES 50000

struct letter {
	struct nr_message m;
	unsigned sender, number;
};

struct post_office {
	struct nr_ring *ring;
	struct letter *letters[SENDERS];
	unsigned next[SENDERS]; /* number expected from each */
	unsigned got;
};

struct sender {
	struct post_office *office;
	unsigned index;
	unsigned pause; /* every so many messages, sleep so that the ring does too */
};

static void receive_letter(struct nr_ring *ring, struct nr_message *m)
{
	struct post_office *office = nr_ring_context(ring);
	struct letter *letter = (struct letter *)m;

	assert_int_equal(letter->number, office->next[letter->sender]);
	office->next[letter->sender]++;
	office->got++;
}

static void *send_letters(void *argument)
{
	struct sender *s = argument;

	for (unsigned i = 0; i < MESSAGES; i++) {
		struct letter *letter = &s->office->letters[s->index][i];

		letter->m.deliver = receive_letter;
		letter->sender = s->index;
		letter->number = i;
		nr_ring_post(s->office->ring, &letter->m);
		if (s->pause && i % s->pause == 0)
			usleep(100);
	}
	return NULL;
}

static void flood(struct nr_ring *ring, unsigned pause)
{
	struct post_office office = { .ring = ring };
	struct sender senders[SENDERS];
	pthread_t threads[SENDERS];

	nr_ring_set_context(ring, &office);
	for (unsigned i = 0; i < SENDERS; i++) {
		office.letters[i] = calloc(MESSAGES, sizeof(struct letter));
		senders[i] = (struct sender){ &office, i, pause };
		assert_int_equal(pthread_create(&threads[i], NULL, send_letters, &senders[i]), 0);
	}
	while (office.got < SENDERS * MESSAGES)
		nr_ring_turn(ring, true);
	for (unsigned i = 0; i < SENDERS; i++) {
		assert_int_equal(pthread_join(threads[i], NULL), 0);
		assert_int_equal(office.next[i], MESSAGES);
		free(office.letters[i]);
	}
}

static void no_message_is_lost_and_order_is_kept(void **state)
{
	flood(*state, 0);
}

static void messages_wake_a_ring_that_sleeps_now_and_then(void **state)
{
	flood(*state, 97);
}

/* ---- one message ------------------------------------------------------- */

struct flag {
	struct nr_message m;
	struct nr_ring *ring;
	unsigned delivered;
};

/* Looking first must lose nothing, and end when there is nothing for long. */
static void a_ring_that_looks_before_it_sleeps(void **state)
{
	struct nr_ring_options options = { .entries = 64, .spin_ns = 20000 };
	struct operation timer;
	struct nr_error error;
	struct timespec before, after;
	struct nr_ring *ring;

	assert_int_equal(nr_ring_create(&ring, &options, &error), 0);
	flood(ring, 50);
	operation_init(&timer);
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &before);
	nr_ring_timeout(ring, &timer.c, 200000000);
	assert_int_equal(operation_wait(ring, &timer), -ETIME);
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &after);
	after.tv_sec -= before.tv_sec;
	assert_true(after.tv_sec * 1000000000 + after.tv_nsec - before.tv_nsec < 100000000);
	nr_ring_destroy(ring);
}

static void raise_flag(struct nr_ring *ring, struct nr_message *m)
{
	struct flag *flag = (struct flag *)m;

	(void)ring;
	flag->delivered++;
}

static void *post_later(void *argument)
{
	struct flag *flag = argument;

	usleep(20000);
	nr_ring_post(flag->ring, &flag->m);
	return NULL;
}

static void a_message_ends_sleep(void **state)
{
	struct nr_ring *ring = *state;
	struct flag flag = { .m.deliver = raise_flag, .ring = ring };
	pthread_t thread;

	for (unsigned i = 1; i <= 3; i++) {
		assert_int_equal(pthread_create(&thread, NULL, post_later, &flag), 0);
		while (flag.delivered < i)
			nr_ring_turn(ring, true);
		assert_int_equal(pthread_join(thread, NULL), 0);
	}
}

static void post_again(struct nr_ring *ring, struct nr_message *m)
{
	struct flag *flag = (struct flag *)m;

	if (++flag->delivered < 10)
		nr_ring_post(ring, m);
}

static void the_owner_may_post_to_itself(void **state)
{
	struct nr_ring *ring = *state;
	struct flag flag = { .m.deliver = post_again };

	nr_ring_post(ring, &flag.m); /* before the first turn */
	while (flag.delivered < 10)
		nr_ring_turn(ring, true); /* must not sleep */
	nr_ring_turn(ring, false);
	assert_int_equal(flag.delivered, 10);
}

/* ---- two rings --------------------------------------------------------- */

struct ball {
	struct nr_message m;
	struct nr_ring *rings[2];
	unsigned hits;
	atomic_bool over;
};

#define HITS 2000

static void hit(struct nr_ring *ring, struct nr_message *m)
{
	struct ball *ball = (struct ball *)m;

	ball->hits++;
	if (ball->hits > HITS)
		atomic_store(&ball->over, true);
	/* One more each, so that the other one ends as well. */
	if (ball->hits <= HITS + 1)
		nr_ring_post(ball->rings[ring == ball->rings[0]], m);
}

static void *play(void *argument)
{
	struct ball *ball = argument;

	while (!atomic_load(&ball->over))
		nr_ring_turn(ball->rings[1], true);
	return NULL;
}

/* Made here, run there: the way a server starts its workers. */
struct later {
	struct nr_deferred deferred;
	struct nr_completion timeout;
	struct nr_deferred *other; /* put off from inside `run` */
	unsigned runs, rings;
};

static void later_rang(struct nr_ring *ring, struct nr_completion *c)
{
	((struct later *)((char *)c - offsetof(struct later, timeout)))->rings++;
}

static void later_runs(struct nr_ring *ring, struct nr_deferred *d)
{
	struct later *later = (struct later *)d;

	later->runs++;
	assert_false(d->waiting);
	if (later->other)
		nr_ring_defer(ring, later->other);
	nr_ring_timeout(ring, &later->timeout, 1000);
}

static void what_is_put_off_is_done_before_the_kernel_is_entered(void **state)
{
	struct nr_ring *ring = ring_new(0);
	struct later first = { .deferred.run = later_runs, .timeout.done = later_rang };
	struct later second = first;

	first.other = &second.deferred;
	nr_ring_defer(ring, &first.deferred);
	nr_ring_defer(ring, &first.deferred);
	assert_true(first.deferred.waiting);
	assert_int_equal(first.runs, 0);
	/* Nothing else is under way: a turn that waited for something would not end. */
	nr_ring_turn(ring, true);
	assert_int_equal(first.runs, 1);
	assert_int_equal(second.runs, 0);
	first.other = NULL;
	while (first.rings + second.rings < 2)
		nr_ring_turn(ring, true);
	assert_int_equal(first.runs, 1);
	assert_int_equal(second.runs, 1);
	nr_ring_destroy(ring);
}

static void two_rings_in_two_threads(void **state)
{
	struct ball ball = { .m.deliver = hit, .rings = { ring_new(16), ring_new(16) } };
	pthread_t thread;

	(void)state;
	nr_ring_post(ball.rings[1], &ball.m);
	assert_int_equal(pthread_create(&thread, NULL, play, &ball), 0);
	while (!atomic_load(&ball.over))
		nr_ring_turn(ball.rings[0], true);
	assert_int_equal(pthread_join(thread, NULL), 0);
	nr_ring_destroy(ball.rings[1]); /* its owner is gone */
	nr_ring_destroy(ball.rings[0]);
}

struct worker {
	struct nr_ring *ring;
	int fd;
	struct operation in;
	char byte;
};

static void *work(void *argument)
{
	struct worker *w = argument;

	assert_int_equal(operation_wait(w->ring, &w->in), 1);
	nr_ring_forget(w->ring, w->fd);
	nr_ring_recv(w->ring, &w->in.c, w->fd, &w->byte, 1);
	nr_ring_turn(w->ring, false);
	return NULL; /* with an operation under way */
}

static void operations_may_be_started_before_the_owner_takes_over(void **state)
{
	struct worker w = { .ring = ring_new(16) };
	pthread_t thread;
	int pair[2];

	(void)state;
	make_pair(pair);
	w.fd = pair[0];
	nr_ring_adopt(w.ring, w.fd);
	operation_init(&w.in);
	nr_ring_recv(w.ring, &w.in.c, w.fd, &w.byte, 1);
	assert_int_equal(pthread_create(&thread, NULL, work, &w), 0);
	assert_int_equal(write(pair[1], "x", 1), 1);
	assert_int_equal(pthread_join(thread, NULL), 0);
	nr_ring_destroy(w.ring);
	/* Nobody takes what comes now. */
	assert_int_equal(write(pair[1], "y", 1), 1);
	assert_int_equal(recv(pair[0], &w.byte, 1, 0), 1);
	close_both(pair);
}

/* Destroying the ring of another thread must not disturb one's own. */
static void rings_of_other_threads_can_be_destroyed(void **state)
{
	struct nr_ring *ring = *state;
	struct worker w = { .ring = ring_new(16) };
	struct operation o;
	pthread_t thread;
	int pair[2];

	nr_ring_turn(ring, false);
	make_pair(pair);
	w.fd = pair[0];
	operation_init(&w.in);
	nr_ring_recv(w.ring, &w.in.c, w.fd, &w.byte, 1);
	assert_int_equal(write(pair[1], "x", 1), 1);
	assert_int_equal(pthread_create(&thread, NULL, work, &w), 0);
	assert_int_equal(pthread_join(thread, NULL), 0);
	nr_ring_destroy(w.ring);
	operation_init(&o);
	nr_ring_timeout(ring, &o.c, 1000000);
	assert_int_equal(operation_wait(ring, &o), -ETIME);
	close_both(pair);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		ring_test(no_message_is_lost_and_order_is_kept),
		ring_test(messages_wake_a_ring_that_sleeps_now_and_then),
		cmocka_unit_test(a_ring_that_looks_before_it_sleeps),
		ring_test(a_message_ends_sleep),
		ring_test(the_owner_may_post_to_itself),
		cmocka_unit_test(what_is_put_off_is_done_before_the_kernel_is_entered),
		cmocka_unit_test(two_rings_in_two_threads),
		cmocka_unit_test(operations_may_be_started_before_the_owner_takes_over),
		ring_test(rings_of_other_threads_can_be_destroyed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
