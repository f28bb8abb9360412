/* SPDX-License-Identifier: BSD-3-Clause */
/* The pulse of a ring: who is called, and until when. */
#include "test-ring-common.h"

struct heart {
	struct nr_pulse pulse;
	unsigned beats, leave_after;
};

static void beat(struct nr_ring *ring, struct nr_pulse *pulse)
{
	struct heart *heart = (struct heart *)pulse;

	(void)ring;
	if (++heart->beats == heart->leave_after)
		nr_ring_pulse_leave(pulse);
}

static void those_that_joined_are_called_until_they_leave(void **state)
{
	struct nr_ring *ring = *state;
	struct heart once = { .pulse.beat = beat, .leave_after = 1 },
		     twice = { .pulse.beat = beat, .leave_after = 2 },
		     left = { .pulse.beat = beat }, never = { .pulse.beat = beat };

	nr_ring_pulse_join(ring, &once.pulse);
	nr_ring_pulse_join(ring, &left.pulse);
	nr_ring_pulse_join(ring, &twice.pulse);
	nr_ring_pulse_leave(&left.pulse);
	assert_int_equal(nr_ring_in_flight(ring), 0);
	while (twice.beats < 2)
		nr_ring_turn(ring, true);
	assert_int_equal(once.beats, 1);
	assert_int_equal(left.beats, 0);
	assert_int_equal(never.beats, 0);
}

static void one_can_join_again(void **state)
{
	struct nr_ring *ring = *state;
	struct heart heart = { .pulse.beat = beat, .leave_after = 3 };

	for (unsigned i = 0; i < 1000; i++) {
		nr_ring_pulse_join(ring, &heart.pulse);
		nr_ring_pulse_leave(&heart.pulse);
	}
	nr_ring_pulse_join(ring, &heart.pulse);
	while (heart.beats < 1)
		nr_ring_turn(ring, true);
	nr_ring_pulse_leave(&heart.pulse);
	heart.leave_after = 2;
	nr_ring_pulse_join(ring, &heart.pulse);
	while (heart.beats < 2)
		nr_ring_turn(ring, true);
	assert_int_equal(nr_ring_in_flight(ring), 0);
}

static void a_ring_ends_while_its_pulse_beats(void **state)
{
	struct nr_ring *ring = ring_new(64);
	struct heart heart = { .pulse.beat = beat };

	(void)state;
	nr_ring_pulse_join(ring, &heart.pulse);
	nr_ring_turn(ring, false);
	nr_ring_pulse_leave(&heart.pulse);
	nr_ring_destroy(ring);
	assert_int_equal(heart.beats, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		ring_test(those_that_joined_are_called_until_they_leave),
		ring_test(one_can_join_again),
		cmocka_unit_test(a_ring_ends_while_its_pulse_beats),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
