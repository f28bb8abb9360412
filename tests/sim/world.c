/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Clock, heap of events, chance, trace.  See world.h.
 */
#undef NDEBUG
#include "tests/sim/world.h"

#include <assert.h>
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/sim/commit.h"
#include "tests/sim/random.h"

struct sim_world {
	uint64_t seed, now, hash, fired;
	struct sim_random random;
	struct sim_event **heap;
	size_t count, room;
};

static struct sim_world world;

struct sim_faults sim_faults;
struct sim_report sim_report = { .command = "sim-server" };
bool sim_tracing;

void *sim_alloc(size_t bytes)
{
	void *memory = calloc(1, bytes ? bytes : 1);

	if (!memory)
		abort();
	return memory;
}

void sim_world_begin(uint64_t seed)
{
	struct sim_event **heap = world.heap;
	size_t room = world.room;

	memset(&world, 0, sizeof(world));
	world.heap = heap;
	world.room = room;
	world.seed = seed;
	world.now = SIM_SECOND;
	sim_random_start(&world.random, seed);
	memset(&sim_faults, 0, sizeof(sim_faults));
}

void sim_world_end(void)
{
	for (size_t i = 0; i < world.count; i++)
		world.heap[i]->place = 0;
	free(world.heap);
	world.heap = NULL;
	world.count = world.room = 0;
}

uint64_t sim_now(void)
{
	return world.now;
}

uint64_t sim_hash(void)
{
	return world.hash;
}

uint64_t sim_events(void)
{
	return world.fired;
}

uint64_t sim_seed(void)
{
	return world.seed;
}

/* ---- chance ------------------------------------------------------------ */

uint64_t sim_draw(void)
{
	return sim_random_next(&world.random);
}

uint64_t sim_below(uint64_t n)
{
	assert(n > 0);
	/* The bias of the remainder is of no interest here. */
	return sim_draw() % n;
}

uint64_t sim_between(uint64_t low, uint64_t high)
{
	assert(low <= high);
	return low + sim_below(high - low + 1);
}

bool sim_one_in(unsigned n)
{
	return n && sim_below(n) == 0;
}

uint64_t sim_magnitude(unsigned low, unsigned high)
{
	uint64_t base = UINT64_C(1) << sim_between(low, high);

	return base + sim_below(base);
}

/* ---- events ------------------------------------------------------------ */

static bool before(const struct sim_event *a, const struct sim_event *b)
{
	return a->at != b->at ? a->at < b->at : a->order < b->order;
}

static void put(size_t place, struct sim_event *event)
{
	world.heap[place - 1] = event;
	event->place = place;
}

static void move_up(size_t place)
{
	struct sim_event *moving = world.heap[place - 1];

	while (place > 1 && before(moving, world.heap[place / 2 - 1])) {
		put(place, world.heap[place / 2 - 1]);
		place /= 2;
	}
	put(place, moving);
}

static void move_down(size_t place)
{
	struct sim_event *moving = world.heap[place - 1];

	for (size_t child = 2 * place; child <= world.count; child = 2 * place) {
		if (child < world.count && before(world.heap[child], world.heap[child - 1]))
			child++;
		if (!before(world.heap[child - 1], moving))
			break;
		put(place, world.heap[child - 1]);
		place = child;
	}
	put(place, moving);
}

void sim_schedule(struct sim_event *event, uint64_t delay)
{
	assert(!event->place);
	assert(event->fire);
	if (world.count == world.room) {
		world.room = world.room ? world.room * 2 : 256;
		world.heap = realloc(world.heap, world.room * sizeof(struct sim_event *));
		assert(world.heap);
	}
	event->at = world.now + delay;
	event->order = sim_draw();
	put(++world.count, event);
	move_up(world.count);
}

void sim_unschedule(struct sim_event *event)
{
	size_t place = event->place;
	struct sim_event *last;

	if (!place)
		return;
	event->place = 0;
	last = world.heap[--world.count];
	if (last == event)
		return;
	put(place, last);
	move_up(place);
	move_down(last->place);
}

uint64_t sim_next_in(void)
{
	return world.count ? world.heap[0]->at - world.now : UINT64_MAX;
}

bool sim_fire_next(void)
{
	struct sim_event *event;

	if (!world.count)
		return false;
	event = world.heap[0];
	assert(event->at >= world.now);
	world.now = event->at;
	sim_unschedule(event);
	world.fired++;
	sim_note(event->name, world.now, 0);
	event->fire(event);
	return true;
}

/* ---- the record -------------------------------------------------------- */

uint64_t sim_hash_bytes(uint64_t hash, const void *data, size_t length)
{
	const uint8_t *p = data;
	uint64_t a = hash ^ length, b = ~hash, word[2];

	/* Two chains side by side: the multiplications overlap. */
	for (; length >= 16; length -= 16, p += 16) {
		memcpy(word, p, 16);
		a = (a ^ word[0]) * UINT64_C(0x9fb21c651e98df25);
		b = (b ^ word[1]) * UINT64_C(0xd6e8feb86659fd93);
		a ^= a >> 32;
		b ^= b >> 29;
	}
	for (; length > 0; length--, p++)
		a = (a ^ *p) * UINT64_C(0x100000001b3);
	a ^= sim_random_rotate(b, 23);
	return (a ^ a >> 31) * UINT64_C(0x94d049bb133111eb);
}

void sim_note(const char *what, uint64_t a, uint64_t b)
{
	uint64_t words[2] = { a, b };

	world.hash = sim_hash_bytes(world.hash, words, sizeof(words));
	world.hash = sim_hash_bytes(world.hash, what, strlen(what));
	if (sim_tracing)
		printf("%12" PRIu64 ".%03" PRIu64 " %-14s %" PRIu64 " %" PRIu64 "\n",
		       world.now / SIM_MICROSECOND, world.now % SIM_MICROSECOND, what, a, b);
}

/* ---- findings ---------------------------------------------------------- */

static void print_replay(void)
{
	fflush(stdout);
	fprintf(stderr, "sim: seed %" PRIu64 ", commit %s, after %" PRIu64 " events\n", world.seed,
		SIM_COMMIT, world.fired);
	fprintf(stderr, "sim: see it again with: %s%s%s --seed %" PRIu64 " --trace\n",
		sim_report.command, sim_report.shape ? " --shape " : "",
		sim_report.shape ? sim_report.shape : "", world.seed);
}

_Noreturn static void leave(void)
{
	print_replay();
	fflush(stderr);
	_exit(sim_report.wanted ? 0 : 1);
}

void sim_fail(const char *format, ...)
{
	va_list args;

	fflush(stdout);
	fprintf(stderr, "sim: ");
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fprintf(stderr, "\n");
	leave();
}

/* The process is lost anyway: what is not safe in a handler can do no more harm. */
static void aborted(int number)
{
	fprintf(stderr, "sim: ended by signal %d\n", number);
	leave();
}

void sim_catch_aborts(void)
{
	signal(SIGABRT, aborted);
	signal(SIGSEGV, aborted);
	signal(SIGBUS, aborted);
}

/* The address sanitizer ends the process its own way, and calls this before. */
void __asan_on_error(void); /* NOLINT(bugprone-reserved-identifier) */
void __asan_on_error(void)  /* NOLINT(bugprone-reserved-identifier) */
{
	print_replay();
}
