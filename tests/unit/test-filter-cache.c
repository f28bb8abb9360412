/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The filter `cache`: what reaches the disk below and when, what is read from where, what
 * happens when one of the two fails, and that under any order of events the disk is what
 * was written to it.
 */
#include "layer-test.h"

#include <errno.h>
#include <inttypes.h>
#include <setjmp.h>

#include <cmocka.h>

#include "cache-disk.h"
#include "nbdring/checked.h"

#define BLOCK 4096u
#define SIZE (256u * BLOCK)

static struct cache_disk *const below = &cache_disk[CACHE_BELOW];
static struct cache_disk *const store = &cache_disk[CACHE_STORE];

static struct layer_test *open_cache(const char *parameters)
{
	struct layer_options options = { 0 };

	cache_disk_options(&options);
	return layer_test_open(&options, "cache cache-max-size=256k %s | held %u", parameters,
			       SIZE);
}

/* Requests and disks go on until nothing moves. */
static void turns(struct layer_client *c, unsigned count)
{
	while (count--)
		layer_turn(c);
}

static void let_all_go(struct layer_client *c)
{
	for (unsigned idle = 0; idle < 20; idle++) {
		for (unsigned i = 0; i < 2; i++)
			while (cache_disk[i].held) {
				cache_disk_let_go(&cache_disk[i], 0);
				idle = 0;
			}
		layer_turn(c);
	}
}

static void test_a_write_stays_in_the_store_until_a_flush(void **state)
{
	struct layer_test *t = open_cache("");
	struct layer_client *c = layer_client(t, 0);

	assert_int_equal(layer_fill(c, 0, 3 * BLOCK, 7), 0);
	assert_int_equal(below->count[NR_WRITE], 0);
	assert_true(layer_is(c, 0, 3 * BLOCK, 7));
	assert_int_equal(below->count[NR_READ], 0);
	assert_int_equal(layer_flush(c), 0);
	assert_int_equal(below->count[NR_WRITE], 1); /* neighbours in one */
	assert_int_equal(below->bytes[NR_WRITE], 3 * BLOCK);
	assert_int_equal(below->count[NR_FLUSH], 1);
	assert_int_equal(below->memory[3 * BLOCK - 1], 7);
	assert_int_equal(layer_flush(c), 0);
	assert_int_equal(below->count[NR_WRITE], 1);
	layer_test_close(t);
}

static void test_writethrough_is_below_at_once_and_read_from_the_store(void **state)
{
	struct layer_test *t = open_cache("cache=writethrough");
	struct layer_client *c = layer_client(t, 0);

	assert_int_equal(layer_fill(c, 0, BLOCK, 7), 0);
	assert_int_equal(below->memory[0], 7);
	assert_true(layer_is(c, 0, BLOCK, 7));
	assert_int_equal(below->count[NR_READ], 0);
	/* Part of a cached block. */
	assert_int_equal(layer_fill(c, 100, 200, 8), 0);
	assert_int_equal(below->memory[299], 8);
	assert_true(layer_is(c, 100, 200, 8));
	assert_int_equal(below->count[NR_READ], 0);
	layer_test_close(t);
}

static bool flushed;

static void flush_is_over(struct nr_request *req)
{
	assert_int_equal(req->error, 0);
	nr_request_release(req, 0);
	flushed = true;
}

static void test_unsafe_ignores_the_flushes_of_clients_only(void **state)
{
	struct layer_test *t = open_cache("cache=unsafe");
	struct layer_client *c = layer_client(t, 0);
	struct nr_session session = { .id = 1 };
	struct nr_request *req = nr_request_get(layer_client_worker(c), layer_test_stack(t), 0);

	assert_int_equal(layer_fill(c, 0, BLOCK, 7), 0);
	assert_non_null(req);
	req->operation = NR_FLUSH;
	req->session = &session;
	req->internal.finished = flush_is_over;
	nr_stack_submit(layer_test_stack(t), req);
	turns(c, 5);
	assert_true(flushed);
	assert_int_equal(below->count[NR_WRITE], 0);
	assert_int_equal(layer_flush(c), 0); /* the server's own */
	assert_int_equal(below->count[NR_WRITE], 1);
	layer_test_close(t);
}

static void test_fua_is_below_and_flushed(void **state)
{
	struct layer_test *t = open_cache("");
	struct layer_client *c = layer_client(t, 0);
	uint8_t data[BLOCK];

	memset(data, 9, sizeof(data));
	assert_int_equal(layer_fill(c, 8 * BLOCK, BLOCK, 5), 0);
	assert_int_equal(layer_write(c, 0, BLOCK, data, NR_FUA), 0);
	assert_int_equal(below->memory[0], 9);
	assert_int_equal(below->count[NR_FLUSH], 1);
	assert_int_equal(below->memory[8 * BLOCK], 0); /* others wait on */
	layer_test_close(t);
}

static void test_reads_fill_the_cache_if_they_are_to(void **state)
{
	struct layer_test *t = open_cache("cache-on-read=true");
	struct layer_client *c = layer_client(t, 0);

	memset(below->memory, 3, SIZE);
	assert_true(layer_is(c, 10, BLOCK, 3));
	assert_int_equal(below->bytes[NR_READ], 2 * BLOCK);
	assert_true(layer_is(c, 0, 2 * BLOCK, 3));
	assert_int_equal(below->bytes[NR_READ], 2 * BLOCK);
	layer_test_close(t);

	t = open_cache("");
	c = layer_client(t, 0);
	assert_true(layer_is(c, 0, BLOCK, 0));
	assert_true(layer_is(c, 0, BLOCK, 0));
	assert_int_equal(below->count[NR_READ], 2);
	assert_int_equal(store->count[NR_WRITE], 0);
	/* A request to prefetch does, too. */
	assert_int_equal(layer_cache(c, 0, 4 * BLOCK), 0);
	assert_int_equal(below->count[NR_READ], 3);
	assert_true(layer_is(c, 0, 4 * BLOCK, 0));
	assert_int_equal(below->count[NR_READ], 3);
	layer_test_close(t);
}

static void test_misses_of_one_block_at_once_read_it_once(void **state)
{
	struct layer_test *t = open_cache("cache-on-read=true");
	struct layer_client *c = layer_client(t, 0);
	struct nr_request *req[20];

	below->holds = true;
	for (unsigned i = 0; i < 20; i++)
		req[i] = layer_start(c, NR_READ, 0, i * 100, 100, NULL, NULL);
	turns(c, 5);
	assert_int_equal(below->held, 1);
	let_all_go(c);
	for (unsigned i = 0; i < 20; i++) {
		assert_true(layer_finished(req[i]));
		assert_int_equal(req[i]->error, 0);
		layer_end(c, req[i]);
	}
	assert_int_equal(below->count[NR_READ], 1);
	layer_test_close(t);
}

static void test_a_block_written_during_write_back_is_written_again(void **state)
{
	struct layer_test *t = open_cache("");
	struct layer_client *c = layer_client(t, 0);
	struct nr_request *flush;

	assert_int_equal(layer_fill(c, 0, BLOCK, 1), 0);
	below->holds = true;
	flush = layer_start(c, NR_FLUSH, 0, 0, 0, NULL, NULL);
	turns(c, 5);
	assert_int_equal(below->held, 1);
	/* The write does not wait for what is below. */
	assert_int_equal(layer_fill(c, 0, BLOCK, 2), 0);
	let_all_go(c);
	assert_true(layer_finished(flush));
	layer_end(c, flush);
	assert_int_equal(below->memory[0], 1);
	below->holds = false;
	assert_int_equal(layer_flush(c), 0);
	assert_int_equal(below->memory[0], 2);
	layer_test_close(t);
}

static void test_the_dirty_limit_holds(void **state)
{
	/* 64 slots, 16 of them may be dirty. */
	struct layer_test *t = open_cache("cache-dirty-max=25");
	struct layer_client *c = layer_client(t, 0);

	for (unsigned i = 0; i < 64; i++)
		assert_int_equal(layer_fill(c, 2 * i * BLOCK, BLOCK, (uint8_t)(i + 1)), 0);
	for (unsigned i = 0, on_disk = 0; i < 64; i++) {
		on_disk += below->memory[2 * i * BLOCK] != 0;
		if (i == 63)
			assert_true(on_disk >= 48);
	}
	for (unsigned i = 0; i < 64; i++)
		assert_true(layer_is(c, 2 * i * BLOCK, BLOCK, (uint8_t)(i + 1)));
	layer_test_close(t);
}

static void test_a_failed_write_back_is_told_to_one_flush_and_tried_again(void **state)
{
	struct layer_test *t = open_cache("");
	struct layer_client *c = layer_client(t, 0);

	assert_int_equal(layer_fill(c, 0, BLOCK, 7), 0);
	below->fail[NR_WRITE] = -EIO;
	assert_int_equal(layer_flush(c), -EIO);
	assert_true(layer_is(c, 0, BLOCK, 7));
	assert_int_equal(layer_flush(c), -EIO); /* still so */
	below->fail[NR_WRITE] = 0;
	assert_int_equal(layer_flush(c), 0);
	assert_int_equal(below->memory[0], 7);
	layer_test_close(t);
}

static void test_two_flushes_that_wait_for_one_failure_both_fail(void **state)
{
	struct layer_test *t = open_cache("");
	struct layer_client *c = layer_client(t, 0);
	struct nr_request *flush[2];

	assert_int_equal(layer_fill(c, 0, BLOCK, 7), 0);
	below->holds = true;
	for (unsigned i = 0; i < 2; i++)
		flush[i] = layer_start(c, NR_FLUSH, 0, 0, 0, NULL, NULL);
	turns(c, 5);
	below->fail[NR_WRITE] = -EIO;
	let_all_go(c);
	for (unsigned i = 0; i < 2; i++) {
		assert_true(layer_finished(flush[i]));
		assert_int_equal(flush[i]->error, -EIO);
		layer_end(c, flush[i]);
	}
	below->fail[NR_WRITE] = 0;
	below->holds = false;
	assert_int_equal(layer_flush(c), 0);
	layer_test_close(t);
}

static void test_a_full_store_is_passed_by(void **state)
{
	struct layer_test *t = open_cache("cache-on-read=true");
	struct layer_client *c = layer_client(t, 0);

	store->fail[NR_WRITE] = -ENOSPC;
	store->fail_after = 10;
	for (unsigned i = 0; i < 64; i++)
		assert_int_equal(layer_fill(c, i * BLOCK + 100, BLOCK, (uint8_t)(i + 1)), 0);
	for (unsigned i = 0; i < 63; i++) {
		assert_true(layer_is(c, i * BLOCK + 100, BLOCK, (uint8_t)(i + 1)));
		assert_true(layer_is(c, i * BLOCK + 100, 100, (uint8_t)(i + 1)));
	}
	assert_int_equal(layer_flush(c), 0);
	for (unsigned i = 0; i < 64; i++)
		assert_int_equal(below->memory[i * BLOCK + 100], i + 1);
	layer_test_close(t);
}

static void test_a_store_that_cannot_be_read_is_passed_by_when_it_is_clean(void **state)
{
	struct layer_test *t = open_cache("cache-on-read=true");
	struct layer_client *c = layer_client(t, 0);
	uint8_t data[BLOCK];

	assert_int_equal(layer_fill(c, 0, 4 * BLOCK, 7), 0);
	assert_int_equal(layer_flush(c), 0);
	assert_int_equal(layer_fill(c, 4 * BLOCK, BLOCK, 8), 0);
	store->fail[NR_READ] = -EIO;
	assert_true(layer_is(c, 0, 4 * BLOCK, 7));
	assert_int_equal(layer_read(c, 4 * BLOCK, BLOCK, data), -EIO); /* it is nowhere else */
	store->fail[NR_READ] = 0;
	assert_true(layer_is(c, 4 * BLOCK, BLOCK, 8));
	layer_test_close(t);
}

static void test_extents_show_what_is_dirty_as_data(void **state)
{
	struct layer_test *t = open_cache("");
	struct layer_client *c = layer_client(t, 0);

	assert_string_equal(layer_map(c, 0, SIZE), "1048576:hole,zero");
	assert_int_equal(layer_fill(c, 2 * BLOCK, BLOCK, 1), 0);
	assert_int_equal(layer_fill(c, 4 * BLOCK, 10, 1), 0);
	assert_string_equal(layer_map(c, 0, SIZE),
			    "8192:hole,zero 4096:data 4096:hole,zero 4096:data 1028096:hole,zero");
	layer_test_close(t);
}

static void test_zeroes_keep_their_neighbours_that_are_dirty(void **state)
{
	struct layer_test *t = open_cache("");
	struct layer_client *c = layer_client(t, 0);

	assert_int_equal(layer_fill(c, 0, 8 * BLOCK, 7), 0);
	assert_int_equal(layer_zero(c, BLOCK + 100, 4 * BLOCK, 0), 0);
	assert_true(layer_is(c, 0, BLOCK + 100, 7));
	assert_true(layer_is(c, BLOCK + 100, 4 * BLOCK, 0));
	assert_true(layer_is(c, 5 * BLOCK + 100, 3 * BLOCK - 100, 7));
	assert_int_equal(layer_flush(c), 0);
	for (unsigned i = 0; i < 8 * BLOCK; i++)
		assert_int_equal(below->memory[i], i >= BLOCK + 100 && i < 5 * BLOCK + 100 ? 0 : 7);
	layer_test_close(t);
}

/* What is dirty is not lost with a zero that is refused, or a trim that does nothing. */
static void test_a_refused_zero_changes_nothing(void **state)
{
	struct layer_test *t = open_cache("");
	struct layer_client *c = layer_client(t, 0);

	assert_int_equal(layer_fill(c, 0, 8 * BLOCK, 7), 0);
	below->fail[NR_ZERO] = -ENOTSUP;
	assert_int_equal(layer_zero(c, 0, 4 * BLOCK, NR_FAST_ZERO), -ENOTSUP);
	assert_true(layer_is(c, 0, 8 * BLOCK, 7));
	below->trims_nothing = true;
	assert_int_equal(layer_trim(c, 4 * BLOCK, 4 * BLOCK, 0), 0);
	assert_true(layer_is(c, 0, 8 * BLOCK, 7));
	layer_test_close(t);
}

static void test_a_disk_that_shrinks_and_grows_has_no_old_blocks(void **state)
{
	struct layer_test *t = open_cache("");
	struct layer_client *c = layer_client(t, 0);

	assert_int_equal(layer_fill(c, 0, 8 * BLOCK, 7), 0);
	assert_int_equal(layer_resize(c, 3 * BLOCK + 512), 0);
	assert_int_equal(layer_test_size(t), 3 * BLOCK + 512);
	assert_true(layer_is(c, 0, 3 * BLOCK + 512, 7));
	assert_int_equal(layer_flush(c), 0);
	memset(below->memory + 3 * BLOCK + 512, 0, SIZE - 3 * BLOCK - 512);
	assert_int_equal(layer_resize(c, SIZE), 0);
	assert_true(layer_is(c, 0, 3 * BLOCK + 512, 7));
	assert_true(layer_is(c, 3 * BLOCK + 512, SIZE - 3 * BLOCK - 512, 0));
	layer_test_close(t);
}

/* What was read stays what it was while the client has not taken it. */
static void test_a_slot_is_not_another_blocks_while_an_answer_lies_in_it(void **state)
{
	struct layer_test *t = open_cache("cache-on-read=true cache-policy=lru");
	struct layer_client *c = layer_client(t, 0);
	struct nr_request *req;
	uint8_t data[BLOCK];

	for (unsigned i = 0; i < SIZE / BLOCK; i++)
		memset(below->memory + i * BLOCK, (int)(i + 1), BLOCK);
	assert_true(layer_is(c, 0, BLOCK, 1));
	req = layer_start(c, NR_READ, 0, 0, BLOCK, NULL, NULL);
	assert_int_equal(layer_wait(c, req), 0);
	for (unsigned i = 1; i < SIZE / BLOCK; i++)
		assert_true(layer_is(c, i * BLOCK, BLOCK, (uint8_t)(i + 1)));
	nr_request_copy_out(req, 0, BLOCK, data);
	assert_int_equal(data[0], 1);
	assert_int_equal(data[BLOCK - 1], 1);
	layer_end(c, req);
	/* And it may go afterwards. */
	for (unsigned i = 1; i < SIZE / BLOCK; i++)
		assert_true(layer_is(c, i * BLOCK, BLOCK, (uint8_t)(i + 1)));
	layer_test_close(t);
}

static void test_the_thresholds_hold(void **state)
{
	struct layer_test *t = open_cache("cache-on-read=true cache-policy=lru "
					  "cache-high-threshold=50 cache-low-threshold=25");
	struct layer_client *c = layer_client(t, 0);
	unsigned before;

	/* Of 64 slots, 32 and 16. */
	for (unsigned i = 0; i < 40; i++)
		assert_true(layer_is(c, i * BLOCK, BLOCK, 0));
	before = below->count[NR_READ];
	assert_int_equal(before, 40);
	/* What came last is there, and so much of it. */
	for (unsigned i = 40; i-- > 24;)
		assert_true(layer_is(c, i * BLOCK, BLOCK, 0));
	assert_int_equal(below->count[NR_READ], before);
	for (unsigned i = 0; i < 8; i++)
		assert_true(layer_is(c, i * BLOCK, BLOCK, 0));
	assert_int_equal(below->count[NR_READ], before + 8);
	layer_test_close(t);
}

static void test_parameters_that_cannot_be(void **state)
{
	static const char *const wrong[] = { "cache-min-block-size=5000", "cache-min-block-size=2k",
					     "cache-on-read=perhaps",     "cache=sometimes",
					     "cache-policy=mru",          "cache-dirty-max=0",
					     "cache-dir=/does/not/exist" };
	struct layer_options options = { 0 };
	struct nr_error error;

	cache_disk_options(&options);
	for (unsigned i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		layer_test_refused(&options, &error, "cache %s | held %u", wrong[i], SIZE);
}

/*
 * Many requests at once, in any order, with both disks failing now and then.  Each
 * sector has at most one write under way; a read sees what was written last, or is not
 * asked about sectors that changed meanwhile.
 */

#define SECTOR 512u
#define SECTORS (SIZE / SECTOR)
#define FLYING 24u

struct flying {
	struct nr_request *req;
	uint64_t began;
	uint8_t *data; /* what was written */
};

struct storm {
	struct layer_test *t;
	struct layer_client *c;
	uint64_t random, turn;
	uint8_t *model;
	uint64_t changed[SECTORS]; /* turn of the last change's end */
	bool busy[SECTORS];
	bool lost[SECTORS]; /* a write failed: anything may be there */
	struct flying flying[FLYING];
	bool faults;
};

static uint64_t chance(struct storm *s, uint64_t limit)
{
	return layer_random_below(&s->random, limit);
}

static void launch(struct storm *s, struct flying *f)
{
	unsigned kind = (unsigned)chance(s, 32);
	uint64_t first = chance(s, SECTORS), count = 1 + chance(s, chance(s, 4) ? 12 : 100);
	enum nr_operation operation = kind < 14   ? NR_READ
				      : kind < 26 ? NR_WRITE
				      : kind < 28 ? NR_ZERO
				      : kind < 29 ? NR_CACHE
						  : NR_FLUSH;
	bool changes = operation == NR_WRITE || operation == NR_ZERO;
	uint32_t flags = changes && chance(s, 8) == 0 ? NR_FUA : 0;

	count = nr_min(count, SECTORS - first);
	for (uint64_t i = first; changes && i < first + count; i++)
		if (s->busy[i])
			return;
	f->began = s->turn;
	f->data = NULL;
	if (operation == NR_WRITE) {
		f->data = malloc(count * SECTOR);
		assert_non_null(f->data);
		for (uint64_t i = 0; i < count * SECTOR; i += 8) {
			uint64_t bytes = layer_random(&s->random);

			memcpy(f->data + i, &bytes, 8);
		}
	}
	for (uint64_t i = first; changes && i < first + count; i++)
		s->busy[i] = true;
	if (operation == NR_FLUSH)
		f->req = layer_start(s->c, NR_FLUSH, 0, 0, 0, NULL, NULL);
	else
		f->req = layer_start(s->c, operation, flags, first * SECTOR, count * SECTOR,
				     f->data, NULL);
}

static void compare(struct storm *s, const struct flying *f)
{
	uint64_t first = f->req->offset / SECTOR, count = f->req->length / SECTOR;
	uint8_t sector[SECTOR];

	for (uint64_t i = 0; i < count; i++) {
		uint64_t at = first + i;

		if (s->busy[at] || s->lost[at] || s->changed[at] >= f->began)
			continue;
		nr_request_copy_out(f->req, i * SECTOR, SECTOR, sector);
		if (memcmp(sector, s->model + at * SECTOR, SECTOR) != 0)
			fail_msg("sector %" PRIu64 " is not what was written", at);
	}
}

static void land(struct storm *s, struct flying *f)
{
	struct nr_request *req = f->req;
	uint64_t first = req->offset / SECTOR, count = req->length / SECTOR;
	bool changes = req->operation == NR_WRITE || req->operation == NR_ZERO;

	if (req->error && !s->faults)
		fail_msg("operation %d: error %d", req->operation, req->error);
	if (req->operation == NR_READ && !req->error)
		compare(s, f);
	for (uint64_t i = 0; changes && i < count; i++) {
		s->busy[first + i] = false;
		s->changed[first + i] = s->turn;
		s->lost[first + i] = req->error != 0;
		if (f->data)
			memcpy(s->model + (first + i) * SECTOR, f->data + i * SECTOR, SECTOR);
		else
			memset(s->model + (first + i) * SECTOR, 0, SECTOR);
	}
	layer_end(s->c, req);
	free(f->data);
	f->req = NULL;
}

static void one_turn(struct storm *s, bool more)
{
	s->turn++;
	for (unsigned i = 0; i < FLYING; i++) {
		struct flying *f = &s->flying[i];

		if (f->req && layer_finished(f->req) && chance(s, 2))
			land(s, f);
		else if (!f->req && more && chance(s, 3) == 0)
			launch(s, f);
	}
	for (unsigned i = 0; i < 2; i++) {
		struct cache_disk *disk = &cache_disk[i];

		for (unsigned k = disk->held; k > 0 && chance(s, 3) == 0; k--)
			cache_disk_let_go(disk, (unsigned)chance(s, disk->held));
		if (!s->faults || chance(s, 30))
			continue;
		/* Below any; the store: no room, and reads of what is clean only by luck. */
		disk->fail[NR_WRITE] = chance(s, 3) ? 0 : i == CACHE_STORE ? -ENOSPC : -EIO;
		if (i == CACHE_BELOW)
			disk->fail[NR_READ] = chance(s, 3) ? 0 : -EIO;
	}
	layer_turn(s->c);
}

static bool in_flight(const struct storm *s)
{
	for (unsigned i = 0; i < FLYING; i++)
		if (s->flying[i].req)
			return true;
	return false;
}

static void storm(const char *parameters, bool faults, uint64_t seed)
{
	struct storm *s = calloc(1, sizeof(*s));
	uint8_t *after = malloc(SIZE);

	assert_non_null(s);
	assert_non_null(after);
	s->random = seed;
	s->faults = faults;
	s->t = open_cache(parameters);
	s->c = layer_client(s->t, 0);
	s->model = calloc(1, SIZE);
	assert_non_null(s->model);
	below->holds = store->holds = true;
	for (unsigned i = 0; i < 4000; i++)
		one_turn(s, true);
	for (unsigned i = 0; i < 2; i++)
		memset(cache_disk[i].fail, 0, sizeof(cache_disk[i].fail));
	s->faults = false;
	for (unsigned i = 0; in_flight(s) && i < 100000; i++) {
		s->faults = faults; /* what failed before may come back late */
		one_turn(s, false);
		for (unsigned k = 0; k < 2; k++)
			memset(cache_disk[k].fail, 0, sizeof(cache_disk[k].fail));
	}
	assert_false(in_flight(s));
	let_all_go(s->c);
	below->holds = store->holds = false;
	/* An error that no flush has heard of yet; then all is below. */
	(void)layer_flush(s->c);
	assert_int_equal(layer_flush(s->c), 0);
	assert_int_equal(layer_read(s->c, 0, SIZE, after), 0);
	for (unsigned i = 0; i < SECTORS; i++) {
		if (s->lost[i])
			continue;
		if (memcmp(after + i * SECTOR, s->model + i * SECTOR, SECTOR) != 0)
			fail_msg("sector %u is not what was written", i);
		if (memcmp(below->memory + i * SECTOR, s->model + i * SECTOR, SECTOR) != 0)
			fail_msg("sector %u below is not what was written", i);
	}
	layer_test_close(s->t);
	free(s->model);
	free(after);
	free(s);
}

static const char *const storms[] = {
	"cache-on-read=true cache-policy=lru cache-high-threshold=60 cache-low-threshold=30",
	"cache-on-read=true cache-policy=arc cache-dirty-max=10",
	"cache-on-read=true cache-policy=s3-fifo cache-min-block-size=16k cache-dirty-max=80",
	"cache=writethrough cache-on-read=true",
	"cache=writethrough cache-on-write=false cache-on-read=true",
	"cache-on-write=false cache-on-read=true",
	"cache=unsafe",
};

static void test_any_order_of_events(void **state)
{
	uint64_t seed = layer_seed(1);

	for (unsigned i = 0; i < sizeof(storms) / sizeof(storms[0]); i++) {
		fprintf(stderr, "%s\n", storms[i]);
		storm(storms[i], false, seed + i);
	}
}

static void test_any_order_of_events_with_failing_disks(void **state)
{
	uint64_t seed = layer_seed(1);

	for (unsigned i = 0; i < sizeof(storms) / sizeof(storms[0]); i++) {
		fprintf(stderr, "%s\n", storms[i]);
		storm(storms[i], true, seed + i);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_write_stays_in_the_store_until_a_flush),
		cmocka_unit_test(test_writethrough_is_below_at_once_and_read_from_the_store),
		cmocka_unit_test(test_unsafe_ignores_the_flushes_of_clients_only),
		cmocka_unit_test(test_fua_is_below_and_flushed),
		cmocka_unit_test(test_reads_fill_the_cache_if_they_are_to),
		cmocka_unit_test(test_misses_of_one_block_at_once_read_it_once),
		cmocka_unit_test(test_a_block_written_during_write_back_is_written_again),
		cmocka_unit_test(test_the_dirty_limit_holds),
		cmocka_unit_test(test_a_failed_write_back_is_told_to_one_flush_and_tried_again),
		cmocka_unit_test(test_two_flushes_that_wait_for_one_failure_both_fail),
		cmocka_unit_test(test_a_full_store_is_passed_by),
		cmocka_unit_test(test_a_store_that_cannot_be_read_is_passed_by_when_it_is_clean),
		cmocka_unit_test(test_extents_show_what_is_dirty_as_data),
		cmocka_unit_test(test_zeroes_keep_their_neighbours_that_are_dirty),
		cmocka_unit_test(test_a_refused_zero_changes_nothing),
		cmocka_unit_test(test_a_disk_that_shrinks_and_grows_has_no_old_blocks),
		cmocka_unit_test(test_a_slot_is_not_another_blocks_while_an_answer_lies_in_it),
		cmocka_unit_test(test_the_thresholds_hold),
		cmocka_unit_test(test_parameters_that_cannot_be),
		cmocka_unit_test(test_any_order_of_events),
		cmocka_unit_test(test_any_order_of_events_with_failing_disks),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
