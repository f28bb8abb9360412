/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The front of the reactor on an engine that does as the test says: every
 * outcome a kernel may come to, also those that are hard to get from a real one.
 *
 * Defining nr_engine_uring here keeps the real one out of this program.
 */
#include "test-ring-common.h"

#include <errno.h>

#include "nbdring/error.h"
#include "ring/engine.h"

/* What the engine was asked for, in order. */
struct attempt {
	struct nr_completion *c;
	uint8_t flags;
	uint64_t position;
	size_t left;
};

#define ATTEMPTS_MAX 1024

struct nr_engine {
	struct nr_ring *ring;
	struct attempt attempts[ATTEMPTS_MAX];
	unsigned count; /* attempts made */
	unsigned answered;
	unsigned room; /* attempts and cancellations still taken */
	unsigned cancels;
	unsigned waits; /* turns that would have slept */
	unsigned wakes;
	/* To report in the next turn: the outcome of attempts not answered, in order. */
	int64_t outcomes[ATTEMPTS_MAX];
	unsigned outcome_count;
	struct nr_completion *missed; /* report this cancellation as missed */
};

static struct nr_engine *engine;

static int fake_create(struct nr_engine **e, struct nr_ring *ring,
		       const struct nr_ring_options *options, struct nr_ring_report *report,
		       struct nr_error *error)
{
	(void)options;
	(void)error;
	engine = calloc(1, sizeof(*engine));
	engine->ring = ring;
	engine->room = ATTEMPTS_MAX;
	report->flags = "";
	*e = engine;
	return 0;
}

static void fake_destroy(struct nr_engine *e)
{
	free(e);
	engine = NULL;
}

static size_t fake_pin(struct nr_engine *e, void *memory, size_t bytes)
{
	(void)e;
	(void)memory;
	(void)bytes;
	return 0;
}

static bool fake_start(struct nr_engine *e, struct nr_completion *c)
{
	struct attempt *a = &e->attempts[e->count];

	if (e->room == 0)
		return false;
	e->room--;
	e->count++;
	a->c = c;
	a->flags = c->flags;
	a->position = c->offset + c->progress;
	a->left = 0;
	if (!c->u.io.vector)
		a->left = c->u.io.single.iov_len;
	else
		for (unsigned i = 0; i < c->count; i++)
			a->left += c->u.io.vector[i].iov_len;
	return true;
}

static bool fake_cancel(struct nr_engine *e, struct nr_completion *c)
{
	(void)c;
	if (e->room == 0)
		return false;
	e->room--;
	e->cancels++;
	return true;
}

static void fake_turn(struct nr_engine *e, bool wait)
{
	unsigned count = e->outcome_count;
	struct nr_completion *missed = e->missed;

	e->waits += wait;
	e->outcome_count = 0;
	e->missed = NULL;
	if (missed)
		nr_ring_cancel_missed(e->ring, missed);
	for (unsigned i = 0; i < count; i++)
		nr_ring_attempt_done(e->ring, e->attempts[e->answered++].c, e->outcomes[i]);
}

static void fake_hasten(struct nr_engine *e)
{
	(void)e;
}

static void fake_wake(struct nr_engine *e)
{
	e->wakes++;
}

static void fake_fd(struct nr_engine *e, int fd)
{
	(void)e;
	(void)fd;
}

static uint64_t fake_now(struct nr_engine *e)
{
	(void)e;
	return 42;
}

const struct nr_engine_type nr_engine_uring = {
	.name = "uring",
	.create = fake_create,
	.destroy = fake_destroy,
	.pin = fake_pin,
	.start = fake_start,
	.cancel = fake_cancel,
	.hasten = fake_hasten,
	.turn = fake_turn,
	.wake = fake_wake,
	.adopt = fake_fd,
	.forget = fake_fd,
	.now = fake_now,
};

/* One turn in which the oldest attempt not answered comes to RESULT. */
static const struct attempt *answer(struct nr_ring *ring, int64_t result)
{
	assert_true(engine->answered < engine->count);
	engine->outcomes[engine->outcome_count++] = result;
	nr_ring_turn(ring, false);
	return engine->count > engine->answered ? &engine->attempts[engine->count - 1] : NULL;
}

/* ---- transfers --------------------------------------------------------- */

static void short_transfers_go_on_where_they_stopped(void **state)
{
	struct nr_ring *ring = *state;
	struct operation o;
	char data[100];
	const struct attempt *a;

	operation_init(&o);
	nr_ring_read(ring, &o.c, 3, data, 100, 1000);
	a = answer(ring, 30);
	assert_int_equal(a->position, 1030);
	assert_int_equal(a->left, 70);
	a = answer(ring, -EINTR);
	assert_int_equal(a->position, 1030);
	a = answer(ring, 69);
	assert_int_equal(a->left, 1);
	assert_null(answer(ring, 0));
	assert_int_equal(operation_wait(ring, &o), 99);

	nr_ring_write(ring, &o.c, 3, data, 100, 0);
	(void)answer(ring, 99);
	assert_null(answer(ring, 0)); /* a write that writes nothing would go on for ever */
	assert_int_equal(operation_wait(ring, &o), -EIO);

	nr_ring_write(ring, &o.c, 3, data, 100, 0);
	(void)answer(ring, 99);
	assert_null(answer(ring, -ENOSPC));
	assert_int_equal(operation_wait(ring, &o), -ENOSPC);
}

static void vectors_move_on_over_any_boundary(void **state)
{
	struct nr_ring *ring = *state;
	char data[64];

	/* Every way to cut 3 parts of 5, 0 and 7 bytes in two. */
	for (int64_t cut = 1; cut < 12; cut++) {
		struct iovec parts[] = { { data, 5 }, { data + 5, 0 }, { data + 5, 7 } };
		struct operation o;
		const struct attempt *a;

		operation_init(&o);
		nr_ring_send_vec(ring, &o.c, 3, parts, 3);
		a = answer(ring, cut);
		assert_int_equal(a->left, 12 - cut);
		assert_ptr_equal(o.c.u.io.vector->iov_base, data + cut);
		assert_null(answer(ring, 12 - cut));
		assert_int_equal(operation_wait(ring, &o), 12);
	}
}

static void receives_are_not_continued(void **state)
{
	struct nr_ring *ring = *state;
	struct operation o;
	char data[100];

	operation_init(&o);
	nr_ring_recv(ring, &o.c, 3, data, 100);
	assert_null(answer(ring, 1));
	assert_int_equal(operation_wait(ring, &o), 1);
}

static void the_unaligned_end_of_a_direct_file(void **state)
{
	struct nr_ring *ring = *state;
	struct operation o;
	char data[8192];

	operation_init(&o);
	nr_ring_read(ring, &o.c, 3, data, 8192, 0);
	(void)answer(ring, 5000);
	assert_null(answer(ring, -EINVAL));
	assert_int_equal(operation_wait(ring, &o), 5000);

	nr_ring_read(ring, &o.c, 3, data, 8192, 0);
	(void)answer(ring, 4096);
	assert_null(answer(ring, -EINVAL));
	assert_int_equal(operation_wait(ring, &o), -EINVAL);
}

/* ---- trying again ------------------------------------------------------ */

static void eagain_of_a_socket_waits_until_it_is_ready(void **state)
{
	struct nr_ring *ring = *state;
	struct operation o;
	char byte;
	const struct attempt *a;

	operation_init(&o);
	nr_ring_recv(ring, &o.c, 3, &byte, 1);
	for (int i = 0; i < 400; i++) {
		a = answer(ring, -EAGAIN);
		assert_true(a->flags & NR_ATTEMPT_WAIT);
		a = answer(ring, 1 /* POLLIN */);
		assert_false(a->flags & NR_ATTEMPT_WAIT);
	}
	assert_null(answer(ring, 1));
	assert_int_equal(operation_wait(ring, &o), 1);

	nr_ring_recv(ring, &o.c, 3, &byte, 1);
	(void)answer(ring, -EAGAIN);
	assert_null(answer(ring, -EBADF));
	assert_int_equal(operation_wait(ring, &o), -EBADF);
}

static void eagain_of_a_file_blocks_then_pauses_then_ends(void **state)
{
	struct nr_ring *ring = *state;
	struct operation o;
	char data[10];
	const struct attempt *a;
	unsigned pauses = 0;

	operation_init(&o);
	nr_ring_read(ring, &o.c, 3, data, 10, 0);
	a = answer(ring, -EAGAIN);
	assert_int_equal(a->flags, NR_ATTEMPT_BLOCKING);
	a = answer(ring, -EAGAIN);
	assert_true(a->flags & NR_ATTEMPT_WAIT);
	a = answer(ring, -ETIME);
	assert_int_equal(a->flags, NR_ATTEMPT_BLOCKING);
	a = answer(ring, 4);
	assert_int_equal(a->flags, 0); /* it goes well again */
	while ((a = answer(ring, -EAGAIN)))
		if (a->flags & NR_ATTEMPT_WAIT) {
			pauses++;
			(void)answer(ring, -ETIME);
		}
	assert_true(pauses > 100);
	assert_int_equal(operation_wait(ring, &o), -EAGAIN);

	nr_completion_set_rw_flags(&o.c, RWF_NOWAIT);
	nr_ring_read(ring, &o.c, 3, data, 10, 0);
	assert_null(answer(ring, -EAGAIN));
	assert_int_equal(operation_wait(ring, &o), -EAGAIN);
}

static void accept_outlives_a_peer_that_gave_up(void **state)
{
	struct nr_ring *ring = *state;
	struct operation o;

	operation_init(&o);
	nr_ring_accept(ring, &o.c, 3);
	assert_non_null(answer(ring, -ECONNABORTED));
	assert_non_null(answer(ring, -EINTR));
	assert_null(answer(ring, 9));
	assert_int_equal(operation_wait(ring, &o), 9);
}

static void an_interrupted_connect_is_not_an_error(void **state)
{
	struct nr_ring *ring = *state;
	struct sockaddr address = { .sa_family = AF_UNSPEC };
	struct operation o;
	const struct attempt *a;

	operation_init(&o);
	nr_ring_connect(ring, &o.c, 3, &address, sizeof(address));
	(void)answer(ring, -EINTR);
	a = answer(ring, -EALREADY);
	assert_true(a->flags & NR_ATTEMPT_WAIT);
	a = answer(ring, 4 /* POLLOUT */);
	assert_false(a->flags & NR_ATTEMPT_WAIT);
	assert_null(answer(ring, -EISCONN));
	assert_int_equal(operation_wait(ring, &o), 0);

	nr_ring_connect(ring, &o.c, 3, &address, sizeof(address));
	assert_null(answer(ring, -EISCONN));
	assert_int_equal(operation_wait(ring, &o), -EISCONN);
}

/* ---- cancelling -------------------------------------------------------- */

static void a_cancelled_operation_does_not_start_again(void **state)
{
	static const int64_t outcomes[] = { -EINTR, -EAGAIN, -ECANCELED, 5 };
	struct nr_ring *ring = *state;
	struct operation o;
	char data[10];

	operation_init(&o);
	for (size_t i = 0; i < sizeof(outcomes) / sizeof(outcomes[0]); i++) {
		nr_ring_write(ring, &o.c, 3, data, 10, 0);
		nr_ring_cancel(ring, &o.c);
		assert_null(answer(ring, outcomes[i]));
		assert_int_equal(operation_wait(ring, &o), -ECANCELED);
	}
	/* Its own result was faster. */
	nr_ring_write(ring, &o.c, 3, data, 10, 0);
	nr_ring_cancel(ring, &o.c);
	assert_null(answer(ring, 10));
	assert_int_equal(operation_wait(ring, &o), 10);

	nr_ring_recv(ring, &o.c, 3, data, 10);
	(void)answer(ring, -EAGAIN);
	nr_ring_cancel(ring, &o.c);
	assert_null(answer(ring, 1));
	assert_int_equal(operation_wait(ring, &o), -ECANCELED);
}

static void a_cancellation_that_missed_is_repeated(void **state)
{
	struct nr_ring *ring = *state;
	struct operation o, other;
	char byte;

	operation_init(&o);
	operation_init(&other);
	nr_ring_recv(ring, &o.c, 3, &byte, 1);
	nr_ring_recv(ring, &other.c, 3, &byte, 1);
	nr_ring_cancel(ring, &o.c);
	assert_int_equal(engine->cancels, 1);
	engine->missed = &o.c;
	nr_ring_turn(ring, false);
	nr_ring_turn(ring, false);
	assert_int_equal(engine->cancels, 2);
	/* Of something that was not cancelled, or is long gone. */
	engine->missed = &other.c;
	nr_ring_turn(ring, false);
	engine->missed = (struct nr_completion *)8;
	nr_ring_turn(ring, false);
	nr_ring_turn(ring, false);
	assert_int_equal(engine->cancels, 2);
	/* Not for ever. */
	for (int i = 0; i < 1000; i++) {
		engine->missed = &o.c;
		nr_ring_turn(ring, false);
	}
	assert_true(engine->cancels > 100 && engine->cancels < 300);
	assert_non_null(answer(ring, -ECANCELED));
	assert_int_equal(operation_wait(ring, &o), -ECANCELED);
	assert_null(answer(ring, 1));
}

static void a_cancellation_waits_for_room(void **state)
{
	struct nr_ring *ring = *state;
	struct operation o, p;
	char byte;

	operation_init(&o);
	operation_init(&p);
	nr_ring_recv(ring, &o.c, 3, &byte, 1);
	nr_ring_recv(ring, &p.c, 3, &byte, 1);
	engine->room = 0;
	nr_ring_cancel(ring, &o.c);
	nr_ring_cancel(ring, &p.c);
	nr_ring_turn(ring, true);
	assert_int_equal(engine->cancels, 0);
	assert_int_equal(engine->waits, 0); /* there is work left: no sleep */
	/* One ends while its cancellation still waits. */
	assert_non_null(answer(ring, 1));
	engine->room = 10;
	nr_ring_turn(ring, true);
	assert_int_equal(engine->cancels, 1);
	assert_int_equal(engine->waits, 1);
	assert_null(answer(ring, -ECANCELED));
	assert_int_equal(operation_wait(ring, &o), 1);
	assert_int_equal(operation_wait(ring, &p), -ECANCELED);
}

/* ---- held back --------------------------------------------------------- */

static void a_full_engine_holds_back_in_order(void **state)
{
	enum { count = 10 };
	struct nr_ring *ring = *state;
	struct operation o[count];
	char byte;

	engine->room = 3;
	for (int i = 0; i < count; i++) {
		operation_init(&o[i]);
		nr_ring_recv(ring, &o[i].c, 3, &byte, 1);
	}
	assert_int_equal(engine->count, 3);
	assert_int_equal(nr_ring_in_flight(ring), count);
	engine->room = 2;
	nr_ring_turn(ring, true);
	assert_int_equal(engine->count, 5);
	assert_int_equal(engine->waits, 0);
	nr_ring_cancel(ring, &o[6].c);
	assert_int_equal(engine->cancels, 0);
	assert_int_equal(o[6].ended, 0);
	nr_ring_turn(ring, false);
	assert_int_equal(operation_wait(ring, &o[6]), -ECANCELED);
	/* A newcomer does not overtake. */
	engine->room = 100;
	nr_ring_recv(ring, &o[6].c, 3, &byte, 1);
	nr_ring_turn(ring, false);
	assert_int_equal(engine->count, count);
	for (int i = 0; i < count; i++) {
		static const int order[count] = { 0, 1, 2, 3, 4, 5, 7, 8, 9, 6 };

		assert_ptr_equal(engine->attempts[i].c, &o[order[i]].c);
		engine->outcomes[engine->outcome_count++] = 1;
	}
	nr_ring_turn(ring, false);
	for (int i = 0; i < count; i++)
		assert_int_equal(o[i].result, 1);
}

/* ---- sleeping ---------------------------------------------------------- */

static void deliver_nothing(struct nr_ring *ring, struct nr_message *m)
{
	(void)ring;
	(void)m;
}

static void a_ring_that_has_something_does_not_sleep(void **state)
{
	struct nr_ring *ring = *state;
	struct nr_message m = { .deliver = deliver_nothing };
	struct operation o;

	nr_ring_turn(ring, true);
	assert_int_equal(engine->waits, 1);
	nr_ring_post(ring, &m);
	assert_int_equal(engine->wakes, 0); /* it is awake */
	nr_ring_turn(ring, true);
	assert_int_equal(engine->waits, 1);
	operation_init(&o);
	nr_ring_send_vec(ring, &o.c, 3, NULL, 0);
	nr_ring_turn(ring, true);
	assert_int_equal(engine->waits, 1);
	assert_int_equal(o.ended, 1);
	nr_ring_discard(ring, &o.c, 3, 0, 4096);
	nr_ring_turn(ring, true);
	assert_int_equal(engine->waits, 1);
	assert_int_equal(o.result, -EOPNOTSUPP);
	nr_ring_turn(ring, true);
	assert_int_equal(engine->waits, 2);
	assert_int_equal(nr_ring_now(ring), 42);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		ring_test(short_transfers_go_on_where_they_stopped),
		ring_test(vectors_move_on_over_any_boundary),
		ring_test(receives_are_not_continued),
		ring_test(the_unaligned_end_of_a_direct_file),
		ring_test(eagain_of_a_socket_waits_until_it_is_ready),
		ring_test(eagain_of_a_file_blocks_then_pauses_then_ends),
		ring_test(accept_outlives_a_peer_that_gave_up),
		ring_test(an_interrupted_connect_is_not_an_error),
		ring_test(a_cancelled_operation_does_not_start_again),
		ring_test(a_cancellation_that_missed_is_repeated),
		ring_test(a_cancellation_waits_for_room),
		ring_test(a_full_engine_holds_back_in_order),
		ring_test(a_ring_that_has_something_does_not_sleep),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
