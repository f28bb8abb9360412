/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What inflating needs of a window: with the rest of it made zeroes the same comes out,
 * from every block of a stream on; and the rest is a good part.
 */
#undef NDEBUG

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <zlib.h>

#include "filters/gzip-window.h"

#define BYTES 300000u
#define PLACES 64u

struct place {
	size_t in, out; /* of the stream, and of what comes out */
	uint32_t bits;
	uInt length;
	uint8_t window[NR_GZIP_WINDOW];
};

static uint8_t plain[BYTES], packed[2 * BYTES], again[BYTES];
static struct place places[PLACES];
static size_t packed_bytes, place_count;

/* Words, and lines that come again, and from half on, if asked for, noise. */
static void make_plain(bool noise)
{
	size_t at = 0;

	srand(1);
	while (at < BYTES) {
		size_t length = 1 + (size_t)rand() % 60, from = at ? (size_t)rand() % at : 0;

		for (size_t i = 0; i < length && at < BYTES; i++, at++)
			plain[at] = from && rand() % 8 && !(noise && at > BYTES / 2)
					    ? plain[from + i]
					    : (uint8_t)rand();
	}
}

/* Places: the ends of blocks. */
static void pack(void)
{
	z_stream z = { .next_in = plain, .avail_in = BYTES };
	int ret;

	/* Little memory makes for many blocks. */
	assert_int_equal(deflateInit2(&z, 6, Z_DEFLATED, -15, 5, Z_DEFAULT_STRATEGY), Z_OK);
	z.next_out = packed;
	z.avail_out = sizeof(packed);
	assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
	packed_bytes = z.total_out;
	assert_int_equal(deflateEnd(&z), Z_OK);
	z = (z_stream){ .next_in = packed, .avail_in = (uInt)packed_bytes };
	assert_int_equal(inflateInit2(&z, -15), Z_OK);
	z.next_out = again;
	z.avail_out = BYTES;
	place_count = 0;
	while ((ret = inflate(&z, Z_BLOCK)) == Z_OK) {
		struct place *p = &places[place_count];

		if (!(z.data_type & 0x80) || z.data_type & 0x40 || !z.total_out ||
		    place_count == PLACES)
			continue;
		*p = (struct place){ z.total_in, z.total_out, (uint32_t)z.data_type & 7, 0, { 0 } };
		assert_int_equal(inflateGetDictionary(&z, p->window, &p->length), Z_OK);
		place_count++;
	}
	assert_int_equal(ret, Z_STREAM_END);
	assert_int_equal(inflateEnd(&z), Z_OK);
	assert_true(place_count > 10);
}

static void inflate_from(const struct place *p)
{
	z_stream z = { .next_in = packed + p->in, .avail_in = (uInt)(packed_bytes - p->in) };

	assert_int_equal(inflateInit2(&z, -15), Z_OK);
	if (p->bits)
		inflatePrime(&z, (int)p->bits, packed[p->in - 1] >> (8 - p->bits));
	assert_int_equal(inflateSetDictionary(&z, p->window, p->length), Z_OK);
	z.next_out = again;
	z.avail_out = BYTES;
	assert_int_equal(inflate(&z, Z_FINISH), Z_STREAM_END);
	assert_int_equal(z.total_out, BYTES - p->out);
	assert_memory_equal(again, plain + p->out, BYTES - p->out);
	assert_int_equal(inflateEnd(&z), Z_OK);
}

/* How many bytes in windows were made zeroes, of *ALL, from byte FROM of what comes out. */
static size_t clear_windows(size_t from, size_t *all)
{
	struct nr_gzip_probe *probe = nr_gzip_probe_new();
	uint8_t before[NR_GZIP_WINDOW];
	size_t cleared = 0;

	assert_non_null(probe);
	*all = 0;
	for (struct place *p = places; p < places + place_count; p++) {
		memcpy(before, p->window, sizeof(before));
		nr_gzip_probe_begin(probe, p->length, p->bits, packed[p->in - 1]);
		for (size_t at = p->in, part; at < packed_bytes; at += part) {
			part = 1 + (size_t)rand() % 5000;
			part = part < packed_bytes - at ? part : packed_bytes - at;
			nr_gzip_probe_feed(probe, packed + at, part);
		}
		nr_gzip_probe_end(probe, p->window);
		inflate_from(p);
		for (uInt i = 0; i < p->length && p->out >= from; i++, (*all)++)
			cleared += p->window[i] != before[i];
	}
	nr_gzip_probe_free(probe);
	return cleared;
}

static void what_is_needed_stays(void **state)
{
	size_t all;

	make_plain(false);
	pack();
	assert_true(clear_windows(0, &all) > all / 10);
}

static void noise_needs_next_to_nothing(void **state)
{
	size_t cleared, all;

	make_plain(true);
	pack();
	cleared = clear_windows(BYTES * 2 / 3, &all);
	assert_true(all > 0);
	assert_true(cleared > all * 9 / 10);
}

static void what_was_not_found_out_is_kept(void **state)
{
	struct nr_gzip_probe *probe = nr_gzip_probe_new();
	struct place *p = &places[0];
	uint8_t before[NR_GZIP_WINDOW];

	make_plain(false);
	pack();
	memcpy(before, p->window, sizeof(before));
	/* Too little input to know. */
	nr_gzip_probe_begin(probe, p->length, p->bits, packed[p->in - 1]);
	nr_gzip_probe_feed(probe, packed + p->in, 100);
	nr_gzip_probe_end(probe, p->window);
	assert_memory_equal(p->window, before, sizeof(before));
	/* Damage. */
	memset(packed + p->in, 0xff, packed_bytes - p->in);
	nr_gzip_probe_begin(probe, p->length, 0, 0);
	nr_gzip_probe_feed(probe, packed + p->in, packed_bytes - p->in);
	nr_gzip_probe_end(probe, p->window);
	assert_memory_equal(p->window, before, sizeof(before));
	nr_gzip_probe_free(probe);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_needed_stays),
		cmocka_unit_test(noise_needs_next_to_nothing),
		cmocka_unit_test(what_was_not_found_out_is_kept),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
