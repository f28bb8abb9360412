/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Computations that a layer's `open` waits for: each is done once, on other threads, and
 * all of them before it goes on; several disks may be opened at once.
 */
#include "layer-test.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdatomic.h>

#include <cmocka.h>

#define ITEMS 500u
#define OPENERS 4

struct work {
	pthread_t opener;
	atomic_uint times[ITEMS];
};

static void compute(void *context, size_t n)
{
	struct work *w = context;

	LAYER_CHECK(!pthread_equal(pthread_self(), w->opener));
	LAYER_CHECK(n < ITEMS);
	atomic_fetch_add(&w->times[n], 1);
}

static int computes_open(struct nr_layer *layer, struct nr_error *error)
{
	struct work *w = calloc(1, sizeof(*w));

	LAYER_CHECK(w);
	w->opener = pthread_self();
	nr_compute_each(layer, compute, w, 0);
	for (unsigned round = 1; round <= 20; round++) {
		size_t count = round % 2 ? ITEMS : 1;

		nr_compute_each(layer, compute, w, count);
		for (size_t i = 0; i < ITEMS; i++)
			LAYER_CHECK(atomic_load(&w->times[i]) ==
				    (i == 0 ? round : (round + 1) / 2));
	}
	free(w);
	return 0;
}

static const struct nr_layer_type computes = {
	.abi = NR_LAYER_ABI,
	.name = "computes",
	.summary = "computes when it is opened",
	.kind = NR_FILTER,
	.placement = NR_SPREAD,
	.open = computes_open,
	.computes = true,
};

static const struct nr_layer_type *const types[] = { &computes, NULL };

static void *open_one(void *unused)
{
	struct layer_options options = { .types = types };

	layer_test_close(layer_test_open(&options, "computes | computes | null 1M"));
	return NULL;
}

static void each_is_computed_once(void **state)
{
	open_one(NULL);
}

static void several_disks_compute_at_once(void **state)
{
	pthread_t thread[OPENERS];

	for (int i = 0; i < OPENERS; i++)
		assert_int_equal(pthread_create(&thread[i], NULL, open_one, NULL), 0);
	for (int i = 0; i < OPENERS; i++)
		assert_int_equal(pthread_join(thread[i], NULL), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_is_computed_once),
		cmocka_unit_test(several_disks_compute_at_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
