/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The backend `memory`: a sparse RAM disk that copies nothing on reads, gives
 * memory back, and stays right with several workers in it.
 *
 * The last tests run in threads, one client each.  What they compare is what
 * they alone write; where requests overlap, any of the results is right, and
 * only that it is one of them is checked.
 */
#include "tests/unit/layer-test.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmocka.h>

#include "backends/memory-pool.h"
#include "backends/memory-room.h"
#include "backends/memory-rcu.h"
#include "nbdring/checked.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

#define KIB ((uint64_t)1024)
#define MIB (KIB * 1024)
#define GIB (MIB * 1024)
#define BLOCK NR_MEMORY_BLOCK_BYTES
#define CLIENTS 4
#define HOLE "hole,zero"

/* Memory of this process, bytes. */
static uint64_t process_memory(unsigned field)
{
	char text[256];
	char *at = text;
	FILE *statm = fopen("/proc/self/statm", "re");

	LAYER_CHECK(statm && fgets(text, sizeof(text), statm));
	fclose(statm);
	while (field--)
		at = strchr(at, ' ') + 1;
	return strtoull(at, NULL, 10) * (uint64_t)sysconf(_SC_PAGESIZE);
}

static uint64_t address_space(void)
{
	return process_memory(0);
}

static uint64_t resident(void)
{
	return process_memory(1);
}

/* Sanitizers have memory of their own, and keep what was freed. */
static bool resident_at_most(uint64_t bytes)
{
	return SANITIZED || resident() <= bytes;
}

static void offers_everything(void **state)
{
	struct layer_test *t = layer_test_open(NULL, "memory 1G");
	const struct nr_traits *traits = layer_test_traits(t);

	assert_int_equal(layer_test_size(t), GIB);
	assert_int_equal(traits->block_min, 1);
	assert_int_equal(traits->block_preferred, 4096);
	assert_int_equal(traits->block_max, NR_TRANSFER_MAX);
	assert_int_equal(traits->memory_align, 1);
	assert_true(traits->multi_conn);
	assert_false(traits->read_only);
	for (unsigned i = 0; i < NR_CAP_COUNT; i++)
		assert_int_equal(traits->support[i], NR_NATIVE);
	assert_int_equal(nr_stack_placement(layer_test_stack(t)), NR_SPREAD);
	layer_test_close(t);
}

static void takes_nbdkits_parameters(void **state)
{
	struct nr_error error;

	layer_test_close(layer_test_open(NULL, "memory size=1M allocator=sparse"));
	layer_test_close(layer_test_open(NULL, "memory 0"));
	assert_true(layer_test_refused(NULL, &error, "memory") < 0);
	assert_non_null(strstr(error.text, "size"));
	assert_true(layer_test_refused(NULL, &error, "memory 1M allocator=zstd") < 0);
	assert_true(layer_test_refused(NULL, &error, "memory 9223372036854775808") < 0);
}

static void starts_as_one_hole(void **state)
{
	struct layer_test *t = layer_test_open(NULL, "memory 1G");
	struct layer_client *c = layer_client(t, 0);
	struct nr_request *req = layer_start(c, NR_READ, 0, 12345, NR_TRANSFER_MAX, NULL, NULL);

	assert_int_equal(layer_wait(c, req), 0);
	assert_int_equal(req->segment_count, 1);
	assert_null(req->segments[0].data);
	layer_end(c, req);
	assert_string_equal(layer_map(c, 0, GIB), "1073741824:" HOLE);
	layer_test_close(t);
}

static void reads_point_into_the_disk(void **state)
{
	struct layer_test *t = layer_test_open(NULL, "memory 1M");
	struct layer_client *c = layer_client(t, 0);
	struct nr_request *a, *b;

	assert_int_equal(layer_fill(c, 0, 2 * BLOCK, 0x11), 0);
	a = layer_start(c, NR_READ, 0, 5000, 4096, NULL, NULL);
	b = layer_start(c, NR_READ, 0, 4096, 2 * BLOCK - 4096, NULL, NULL);
	assert_int_equal(layer_wait(c, a), 0);
	assert_int_equal(layer_wait(c, b), 0);
	/* One segment per block, however many pages. */
	assert_int_equal(a->segment_count, 1);
	assert_int_equal(b->segment_count, 2);
	assert_ptr_equal(a->segments[0].data, b->segments[0].data + 904);
	assert_int_equal(b->segments[0].length, BLOCK - 4096);
	layer_end(c, a);
	layer_end(c, b);
	layer_test_close(t);
}

static void longest_read_of_every_second_page(void **state)
{
	struct layer_test *t = layer_test_open(NULL, "memory 4M");
	struct layer_client *c = layer_client(t, 0);
	struct nr_request *req;

	for (uint64_t offset = 0; offset < 4 * MIB; offset += 8192)
		assert_int_equal(layer_fill(c, offset, 1, 1), 0);
	req = layer_start(c, NR_READ, 0, 4095, NR_TRANSFER_MAX, NULL, NULL);
	assert_int_equal(layer_wait(c, req), 0);
	assert_int_equal(req->segment_count, 257);
	layer_end(c, req);
	layer_test_close(t);
}

static void holes_are_known_by_page(void **state)
{
	struct layer_test *t = layer_test_open(NULL, "memory 1M");
	struct layer_client *c = layer_client(t, 0);

	assert_int_equal(layer_fill(c, 8192 + 10, 1, 1), 0);
	assert_int_equal(layer_fill(c, BLOCK - 1, 2, 2), 0);
	assert_string_equal(layer_map(c, 0, MIB),
			    "8192:" HOLE " 4096:data 49152:" HOLE " 8192:data 978944:" HOLE);
	assert_true(layer_is(c, 8192, 10, 0));
	assert_true(layer_is(c, 8192 + 10, 1, 1));
	assert_true(layer_is(c, 8192 + 11, BLOCK - 1 - 8192 - 11, 0));
	assert_true(layer_is(c, BLOCK - 1, 2, 2));
	/* Part of a page, then the page; the bytes around stay. */
	assert_int_equal(layer_fill(c, 0, BLOCK, 3), 0);
	assert_int_equal(layer_trim(c, 1000, 10000, 0), 0);
	assert_string_equal(layer_map(c, 0, 16384), "4096:data 4096:" HOLE " 8192:data");
	assert_true(layer_is(c, 0, 1000, 3));
	assert_true(layer_is(c, 1000, 10000, 0));
	assert_true(layer_is(c, 11000, 5384, 3));
	layer_test_close(t);
}

static void zero_without_hole_stays_allocated(void **state)
{
	struct layer_test *t = layer_test_open(NULL, "memory 1T");
	struct layer_client *c = layer_client(t, 0);

	assert_int_equal(layer_zero(c, 4096, 20 * MIB, NR_NO_HOLE | NR_FAST_ZERO), 0);
	assert_string_equal(layer_map(c, 0, 21 * MIB), "4096:" HOLE " 20971520:data 1044480:" HOLE);
	assert_true(layer_is(c, 0, 21 * MIB, 0));
	assert_int_equal(layer_fill(c, 0, MIB, 9), 0);
	assert_int_equal(layer_zero(c, 100, 5000, NR_NO_HOLE), 0);
	assert_true(layer_is(c, 100, 5000, 0));
	assert_true(layer_is(c, 5100, MIB - 5100, 9));
	assert_int_equal(layer_zero(c, 0, 21 * MIB, NR_FUA), 0);
	assert_string_equal(layer_map(c, 0, 21 * MIB), "22020096:" HOLE);
	layer_test_close(t);
}

static void zero_without_hole_beyond_memory_is_refused(void **state)
{
	struct layer_test *t =
		layer_test_open(NULL, "memory %llu", (unsigned long long)NR_SIZE_MAX);

	assert_int_equal(layer_zero(layer_client(t, 0), 1, NR_SIZE_MAX - 1, NR_NO_HOLE), -ENOSPC);
	layer_test_close(t);
}

static void the_last_odd_page_can_be_trimmed(void **state)
{
	struct layer_test *t = layer_test_open(NULL, "memory 100001");
	struct layer_client *c = layer_client(t, 0);

	assert_int_equal(layer_fill(c, 0, 100001, 1), 0);
	assert_int_equal(layer_trim(c, 99000, 1000, 0), 0);
	assert_string_equal(layer_map(c, 0, 100001), "100001:data");
	assert_int_equal(layer_trim(c, 98304, 1697, 0), 0);
	assert_string_equal(layer_map(c, 0, 100001), "98304:data 1697:" HOLE);
	assert_int_equal(layer_trim(c, 0, 100001, 0), 0);
	assert_string_equal(layer_map(c, 0, 100001), "100001:" HOLE);
	layer_test_close(t);
}

static void extents_stop_where_asked(void **state)
{
	struct layer_test *t = layer_test_open(NULL, "memory 1G");
	struct layer_client *c = layer_client(t, 0);
	struct nr_extent extent[2];
	struct nr_extents list = { .extent = extent, .capacity = 2 };

	assert_int_equal(layer_fill(c, 4096, 4096, 1), 0);
	assert_int_equal(layer_fill(c, 16384, 4096, 1), 0);
	assert_int_equal(layer_extents(c, 100, GIB - 100, NR_REQ_ONE, &list), 0);
	assert_int_equal(list.count, 1);
	assert_int_equal(extent[0].length, 3996);
	assert_int_equal(extent[0].status, NR_EXTENT_HOLE | NR_EXTENT_ZERO);
	assert_int_equal(layer_extents(c, 100, GIB - 100, 0, &list), 0);
	assert_int_equal(list.count, 2);
	assert_int_equal(list.next, 8192);
	assert_int_equal(layer_extents(c, 5000, 100, 0, &list), 0);
	assert_int_equal(list.count, 1);
	assert_int_equal(extent[0].length, 100);
	assert_int_equal(extent[0].status, 0);
	/* More blocks than are looked at in one step. */
	assert_int_equal(layer_fill(c, 0, 200 * MIB, 1), 0);
	assert_string_equal(layer_map(c, 0, GIB), "209715200:data 864026624:" HOLE);
	layer_test_close(t);
}

static void the_largest_disk(void **state)
{
	struct layer_test *t =
		layer_test_open(NULL, "memory %llu", (unsigned long long)NR_SIZE_MAX);
	struct layer_client *c = layer_client(t, 0);
	const uint64_t end = NR_SIZE_MAX;

	assert_int_equal(layer_test_size(t), end);
	assert_int_equal(layer_fill(c, end - 5, 5, 7), 0);
	assert_int_equal(layer_fill(c, end / 2, 5, 8), 0);
	assert_int_equal(layer_fill(c, 0, 5, 9), 0);
	assert_true(layer_is(c, end - 5, 5, 7));
	assert_true(layer_is(c, end - 4096, 4091, 0));
	assert_true(layer_is(c, end / 2, 5, 8));
	assert_string_equal(layer_map(c, 0, end),
			    "4096:data 4611686018427379712:" HOLE " 8192:data "
			    "4611686018427379712:" HOLE " 4095:data");
	assert_int_equal(layer_cache(c, 0, end), 0);
	assert_int_equal(layer_zero(c, 1, end - 1, NR_FAST_ZERO), 0);
	assert_string_equal(layer_map(c, 0, end), "4096:data 9223372036854771711:" HOLE);
	assert_int_equal(layer_trim(c, 0, end, 0), 0);
	assert_string_equal(layer_map(c, 0, end), "9223372036854775807:" HOLE);
	assert_true(layer_fill(c, end, 1, 1) < 0);
	layer_test_close(t);
}

static void a_segment_outlives_a_trim(void **state)
{
	struct layer_options two = { .workers = 2 };
	struct layer_test *t = layer_test_open(&two, "memory 1M");
	struct layer_client *c = layer_client(t, 0), *other = layer_client(t, 1);
	struct nr_request *req;
	uint8_t data[4096], old[4096];

	memset(old, 1, sizeof(old));
	assert_int_equal(layer_fill(c, 0, MIB, 1), 0);
	req = layer_start(c, NR_READ, 0, 0, MIB, NULL, NULL);
	assert_int_equal(layer_wait(c, req), 0);
	assert_int_equal(layer_trim(other, 0, MIB, 0), 0);
	nr_memory_barrier(); /* what can be freed is freed now */
	assert_int_equal(layer_fill(other, 0, MIB, 2), 0);
	for (uint64_t offset = 0; offset < MIB; offset += sizeof(data)) {
		nr_request_copy_out(req, offset, sizeof(data), data);
		assert_memory_equal(data, old, sizeof(data));
	}
	layer_end(c, req);
	assert_true(layer_is(c, 0, MIB, 2));
	layer_test_close(t);
}

static void shrunk_and_grown_reads_zeroes(void **state)
{
	struct layer_test *t = layer_test_open(NULL, "memory 10M");
	struct layer_client *c = layer_client(t, 0);

	assert_int_equal(layer_fill(c, 0, 10 * MIB, 5), 0);
	assert_int_equal(layer_resize(c, 3 * MIB + 77), 0);
	assert_int_equal(layer_test_size(t), 3 * MIB + 77);
	assert_true(layer_fill(c, 3 * MIB + 77, 1, 1) < 0);
	assert_int_equal(layer_resize(c, 20 * MIB), 0);
	assert_int_equal(layer_test_size(t), 20 * MIB);
	assert_true(layer_is(c, 0, 3 * MIB + 77, 5));
	assert_true(layer_is(c, 3 * MIB + 77, 17 * MIB - 77, 0));
	assert_string_equal(layer_map(c, 0, 20 * MIB), "3149824:data 17821696:" HOLE);
	assert_int_equal(layer_resize(c, 0), 0);
	assert_int_equal(layer_resize(c, NR_SIZE_MAX), 0);
	assert_int_equal(layer_test_size(t), NR_SIZE_MAX);
	assert_string_equal(layer_map(c, 0, NR_SIZE_MAX), "9223372036854775807:" HOLE);
	assert_int_equal(layer_fill(c, NR_SIZE_MAX - 1, 1, 1), 0);
	assert_true(layer_resize(c, NR_SIZE_MAX + UINT64_C(1)) < 0);
	assert_true(layer_resize(c, UINT64_MAX) < 0);
	assert_int_equal(layer_resize(c, NR_SIZE_MAX), 0);
	assert_true(layer_is(c, NR_SIZE_MAX - 1, 1, 1));
	layer_test_close(t);
}

static void resizes_take_their_turn(void **state)
{
	struct layer_options two = { .workers = 2 };
	struct layer_test *t = layer_test_open(&two, "memory 100M");
	struct layer_client *c = layer_client(t, 0), *other = layer_client(t, 1);
	struct nr_request *shrink, *grow, *last;

	assert_int_equal(layer_fill(c, 0, 100 * MIB, 1), 0);
	/* More than one step has, so that the next ones come in between. */
	shrink = layer_start(c, NR_RESIZE, 0, 1 * MIB, 0, NULL, NULL);
	grow = layer_start(other, NR_RESIZE, 0, 50 * MIB, 0, NULL, NULL);
	last = layer_start(c, NR_RESIZE, 0, 2 * MIB, 0, NULL, NULL);
	layer_turn(other);
	assert_false(layer_finished(grow));
	assert_int_equal(layer_wait(c, shrink), 0);
	assert_int_equal(layer_wait(other, grow), 0);
	assert_int_equal(layer_test_size(t), 50 * MIB);
	assert_int_equal(layer_wait(c, last), 0);
	assert_int_equal(layer_test_size(t), 2 * MIB);
	layer_end(c, shrink);
	layer_end(other, grow);
	layer_end(c, last);
	assert_true(layer_is(c, MIB, MIB, 0));
	layer_test_close(t);
}

static void a_long_trim_lets_others_by(void **state)
{
	struct layer_test *t = layer_test_open(NULL, "memory 1G");
	struct layer_client *c = layer_client(t, 0);
	struct nr_request *trim, *read;

	assert_int_equal(layer_fill(c, 0, 300 * MIB, 1), 0);
	trim = layer_start(c, NR_TRIM, 0, 0, GIB, NULL, NULL);
	layer_turn(c);
	read = layer_start(c, NR_READ, 0, 199 * MIB, 4096, NULL, NULL);
	layer_turn(c);
	assert_true(layer_finished(read));
	assert_false(layer_finished(trim));
	assert_int_equal(layer_wait(c, trim), 0);
	layer_end(c, trim);
	layer_end(c, read);
	layer_test_close(t);
}

static void trimmed_memory_goes_back(void **state)
{
	struct layer_test *t = layer_test_open(NULL, "memory 1G");
	struct layer_client *c = layer_client(t, 0);
	uint64_t before = resident();

	assert_int_equal(layer_fill(c, 0, 256 * MIB, 1), 0);
	assert_true(SANITIZED || resident() >= before + 255 * MIB);
	assert_int_equal(layer_trim(c, 0, 192 * MIB, 0), 0);
	nr_memory_barrier();
	assert_true(resident_at_most(before + 80 * MIB));
	/* Page by page, in an order of its own: the block goes with its last page. */
	for (uint64_t i = 0; i < 64 * MIB / 4096; i++)
		assert_int_equal(layer_zero(c, 192 * MIB + (i * 7919 * 4096) % (64 * MIB), 4096, 0),
				 0);
	assert_string_equal(layer_map(c, 0, GIB), "1073741824:" HOLE);
	nr_memory_barrier();
	assert_true(resident_at_most(before + 16 * MIB));
	layer_test_close(t);
}

static void a_full_disk_says_so(void **state)
{
	struct rlimit before, tight;
	struct layer_client *c;
	struct layer_test *t;
	uint64_t end = 0;
	int err;

	if (SANITIZED)
		skip();
	t = layer_test_open(NULL, "memory 1T");
	c = layer_client(t, 0);
	assert_int_equal(layer_fill(c, 0, MIB, 1), 0);
	assert_int_equal(getrlimit(RLIMIT_AS, &before), 0);
	tight = before;
	tight.rlim_cur = address_space() + 64 * MIB;
	assert_int_equal(setrlimit(RLIMIT_AS, &tight), 0);
	while ((err = layer_fill(c, end, 4096, 2)) == 0 && end < 128 * MIB)
		end += BLOCK;
	assert_int_equal(err, -ENOSPC);
	assert_true(end > 32 * MIB);
	assert_true(layer_is(c, end - BLOCK, 4096, 2));
	assert_int_equal(layer_zero(c, 0, GIB, NR_NO_HOLE), -ENOSPC);
	/* Room at once after a trim, although what was dropped is not free yet. */
	for (unsigned i = 0; i < 10; i++) {
		assert_int_equal(layer_trim(c, 0, GIB, 0), 0);
		assert_int_equal(layer_fill(c, i * GIB, 32 * MIB, 3), 0);
		assert_int_equal(layer_trim(c, i * GIB, GIB, 0), 0);
	}
	assert_int_equal(setrlimit(RLIMIT_AS, &before), 0);
	layer_test_close(t);
}

static void room_is_known(void **state)
{
	uint64_t room = nr_memory_room();

	assert_true(nr_memory_total() > 64 * MIB);
	assert_true(room > 0);
	assert_true(room == UINT64_MAX || room < nr_memory_total());
}

/* The tree by itself: any order of adding and dropping leaves no node behind. */
static void agrees_with_plain_memory(void **state)
{
	static const char *const sizes[] = { "1M", "200003", "65536", "4097" };
	uint64_t seed = layer_seed(20);

	for (unsigned i = 0; i < 16; i++) {
		struct layer_options options = { .segment_bytes = i % 3 * 1000 };
		struct layer_test *t = layer_test_open(&options, "memory %s", sizes[i % 4]);
		struct layer_model model = {
			.seed = seed + i,
			.requests = 3000,
			.length_max = i % 2 ? 20000 : 300000,
			.trim_zeroes = true,
			.check_extents = true,
		};

		layer_model_run(layer_client(t, 0), &model);
		layer_test_close(t);
	}
}

/* Threads. */

struct thread {
	struct layer_client *c;
	unsigned number;
	uint64_t seed;
	pthread_t id;
	/* The hand-over of held_across_threads. */
	_Atomic uint64_t *posted, *trimmed;
};

static void run_threads(struct layer_test *t, void *(*body)(void *))
{
	static _Atomic uint64_t posted, trimmed;
	struct thread thread[CLIENTS];
	uint64_t seed = layer_seed(4);

	atomic_store(&posted, 0);
	atomic_store(&trimmed, 0);
	for (unsigned i = 0; i < CLIENTS; i++) {
		thread[i] = (struct thread){ .c = layer_client(t, i),
					     .number = i,
					     .seed = seed * CLIENTS + i,
					     .posted = &posted,
					     .trimmed = &trimmed };
		LAYER_CHECK(pthread_create(&thread[i].id, NULL, body, &thread[i]) == 0);
	}
	for (unsigned i = 0; i < CLIENTS; i++)
		LAYER_CHECK(pthread_join(thread[i].id, NULL) == 0);
}

#define STRIPE 1536u /* shares pages and blocks with the neighbours' */
#define STRIPES 256u /* of each thread */

/* Each thread keeps its own stripes right, while all touch every block. */
static void *own_stripes(void *argument)
{
	struct thread *thread = argument;
	static uint8_t models[CLIENTS][STRIPES * STRIPE];
	uint8_t *model = models[thread->number], data[STRIPE];

	memset(model, 0, sizeof(models[0]));
	for (unsigned i = 0; i < 40000; i++) {
		uint64_t stripe = layer_random_below(&thread->seed, STRIPES);
		uint64_t from = layer_random_below(&thread->seed, STRIPE);
		uint64_t length = 1 + layer_random_below(&thread->seed, STRIPE - from);
		uint64_t offset = (stripe * CLIENTS + thread->number) * STRIPE + from;
		uint8_t *mine = model + stripe * STRIPE + from;

		switch (layer_random_below(&thread->seed, 8)) {
		case 0:
		case 1:
			memset(mine, (int)i, length);
			LAYER_CHECK(layer_write(thread->c, offset, length, mine, 0) == 0);
			break;
		case 2:
		case 3:
			memset(mine, 0, length);
			LAYER_CHECK(layer_trim(thread->c, offset, length, 0) == 0);
			break;
		case 4:
			memset(mine, 0, length);
			LAYER_CHECK(layer_zero(thread->c, offset, length, NR_NO_HOLE) == 0);
			break;
		default:
			LAYER_CHECK(layer_read(thread->c, offset, length, data) == 0);
			LAYER_CHECK(memcmp(data, mine, length) == 0);
			break;
		}
	}
	return NULL;
}

static void threads_keep_their_bytes(void **state)
{
	struct layer_options four = { .workers = CLIENTS };
	struct layer_test *t = layer_test_open(&four, "memory 2M");

	run_threads(t, own_stripes);
	layer_test_close(t);
}

/* Thread 0 holds what it has read, the others trim it: it must not change. */
static void *hold_and_trim(void *argument)
{
	struct thread *thread = argument;
	uint8_t data[256], old[256];

	for (uint64_t i = 1; i <= 1000; i++) {
		uint64_t offset = (i % 7) * GIB + i % 3 * BLOCK;
		struct nr_request *req;

		if (thread->number) {
			while (atomic_load(thread->posted) < i)
				sched_yield();
			LAYER_CHECK(layer_trim(thread->c, offset, BLOCK, 0) == 0);
			atomic_fetch_add(thread->trimmed, 1);
			continue;
		}
		memset(old, (int)i, sizeof(old));
		LAYER_CHECK(layer_fill(thread->c, offset, BLOCK, (uint8_t)i) == 0);
		req = layer_start(thread->c, NR_READ, 0, offset, BLOCK, NULL, NULL);
		LAYER_CHECK(layer_wait(thread->c, req) == 0);
		atomic_store(thread->posted, i);
		for (uint64_t at = 0; at < BLOCK; at += sizeof(data)) {
			nr_request_copy_out(req, at, sizeof(data), data);
			LAYER_CHECK(memcmp(data, old, sizeof(data)) == 0);
		}
		while (atomic_load(thread->trimmed) < i * (CLIENTS - 1))
			sched_yield();
		for (uint64_t at = 0; at < BLOCK; at += sizeof(data)) {
			nr_request_copy_out(req, at, sizeof(data), data);
			LAYER_CHECK(memcmp(data, old, sizeof(data)) == 0);
		}
		layer_end(thread->c, req);
		LAYER_CHECK(layer_is(thread->c, offset, BLOCK, 0));
	}
	return NULL;
}

static void held_across_threads(void **state)
{
	struct layer_options four = { .workers = CLIENTS };
	struct layer_test *t = layer_test_open(&four, "memory 10G");

	run_threads(t, hold_and_trim);
	layer_test_close(t);
}

/*
 * Everybody does everything to the same two MiB, a few reads held back: each
 * byte is zero or the one its offset has.
 */
static void *brawl(void *argument)
{
	struct thread *thread = argument;
	static uint8_t stamp[2 * MIB];
	struct nr_request *held[8] = { NULL };
	uint8_t *data = malloc(2 * MIB);

	LAYER_CHECK(data);
	for (uint64_t i = 0; thread->number == 0 && i < sizeof(stamp); i++)
		stamp[i] = (uint8_t)(i * 31 % 255 + 1);
	atomic_fetch_add(thread->posted, 1);
	while (atomic_load(thread->posted) < CLIENTS)
		sched_yield();
	for (unsigned i = 0; i < 8000; i++) {
		uint64_t offset = layer_random_below(&thread->seed, 2 * MIB);
		uint64_t length =
			nr_min(1 + layer_random_below(&thread->seed, 150000), 2 * MIB - offset);
		struct nr_request **slot = &held[i % 8];

		switch (layer_random_below(&thread->seed, 8)) {
		case 0:
		case 1:
			LAYER_CHECK(layer_write(thread->c, offset, length, stamp + offset, 0) == 0);
			break;
		case 2:
		case 3:
			LAYER_CHECK(layer_trim(thread->c, offset, length, 0) == 0);
			break;
		case 4:
			LAYER_CHECK(layer_zero(thread->c, offset, length, i % 2 ? NR_NO_HOLE : 0) ==
				    0);
			break;
		case 5:
			if (*slot)
				layer_end(thread->c, *slot);
			*slot = layer_start(thread->c, NR_READ, 0, offset, length, NULL, NULL);
			LAYER_CHECK(layer_wait(thread->c, *slot) == 0);
			break;
		default:
			LAYER_CHECK(layer_read(thread->c, offset, length, data) == 0);
			for (uint64_t j = 0; j < length; j++)
				LAYER_CHECK(data[j] == 0 || data[j] == stamp[offset + j]);
			break;
		}
	}
	for (unsigned i = 0; i < 8; i++)
		if (held[i])
			layer_end(thread->c, held[i]);
	free(data);
	return NULL;
}

static void overlapping_requests_leave_one_of_the_results(void **state)
{
	struct layer_options four = { .workers = CLIENTS };
	struct layer_test *t;

#if defined(NR_MEMORY_TSAN)
	skip(); /* overlapping requests are races, by the protocol's leave */
#endif
	t = layer_test_open(&four, "memory 2M");
	run_threads(t, brawl);
	assert_int_equal(layer_trim(layer_client(t, 0), 0, 2 * MIB, 0), 0);
	assert_true(layer_is(layer_client(t, 0), 0, 2 * MIB, 0));
	layer_test_close(t);
}

/* Writing and trimming in turn, everywhere on the largest disk, does not pile up memory. */
static void *scatter(void *argument)
{
	struct thread *thread = argument;

	for (unsigned i = 0; i < 1000; i++) {
		uint64_t offset = layer_random_below(&thread->seed, NR_SIZE_MAX - MIB);

		LAYER_CHECK(layer_fill(thread->c, offset, MIB / 4, 1) == 0);
		LAYER_CHECK(layer_trim(thread->c, offset, MIB / 4, 0) == 0);
	}
	return NULL;
}

static void scattered_writes_do_not_pile_up(void **state)
{
	struct layer_options four = { .workers = CLIENTS };
	struct layer_test *t =
		layer_test_open(&four, "memory %llu", (unsigned long long)NR_SIZE_MAX);
	uint64_t before = resident();

	run_threads(t, scatter);
	assert_string_equal(layer_map(layer_client(t, 0), 0, NR_SIZE_MAX),
			    "9223372036854775807:" HOLE);
	nr_memory_barrier();
	/* A gibibyte went through. */
	assert_true(resident_at_most(before + 64 * MIB));
	layer_test_close(t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(offers_everything),
		cmocka_unit_test(takes_nbdkits_parameters),
		cmocka_unit_test(starts_as_one_hole),
		cmocka_unit_test(reads_point_into_the_disk),
		cmocka_unit_test(longest_read_of_every_second_page),
		cmocka_unit_test(holes_are_known_by_page),
		cmocka_unit_test(zero_without_hole_stays_allocated),
		cmocka_unit_test(zero_without_hole_beyond_memory_is_refused),
		cmocka_unit_test(the_last_odd_page_can_be_trimmed),
		cmocka_unit_test(extents_stop_where_asked),
		cmocka_unit_test(the_largest_disk),
		cmocka_unit_test(a_segment_outlives_a_trim),
		cmocka_unit_test(shrunk_and_grown_reads_zeroes),
		cmocka_unit_test(resizes_take_their_turn),
		cmocka_unit_test(a_long_trim_lets_others_by),
		cmocka_unit_test(trimmed_memory_goes_back),
		cmocka_unit_test(a_full_disk_says_so),
		cmocka_unit_test(room_is_known),
		cmocka_unit_test(agrees_with_plain_memory),
		cmocka_unit_test(threads_keep_their_bytes),
		cmocka_unit_test(held_across_threads),
		cmocka_unit_test(overlapping_requests_leave_one_of_the_results),
		cmocka_unit_test(scattered_writes_do_not_pile_up),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
