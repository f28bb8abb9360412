/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What may lie below the filters.  See scenario.h.
 *
 *   disk      a file or a block device, up to three of them in a folder, or memory
 *   overlay   `cow` with a file, over a disk that nobody may change
 *   cache     `cache` with a file that outlives the server, over a disk
 *   mirror    `mirror` with a bitmap, over two or three disks that come and go
 *   parts     `concat` or `stripe` of two to four disks
 */
#undef NDEBUG
#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "backends/backends.h"
#include "backends/mirror-bitmap.h"
#include "filters/filters.h"
#include "nbdring/checked.h"
#include "tests/sim/scenario.h"

/* ---- disks ------------------------------------------------------------- */

/* COUNT disks; what survives a power cut is asked of all, unless VOLATILE is possible. */
static void add_disks(struct sim_run *run, unsigned count, bool may_be_volatile)
{
	for (unsigned i = 0; i < count; i++) {
		struct sim_disk *disk = sim_disk_new(run->size);

		disk->in_memory = disk->in_memory && may_be_volatile;
		sim_files_add(disk, i);
	}
}

static void some_disks(struct sim_run *run)
{
	run->has_disk = !sim_one_in(4);
	run->exports = run->has_disk && sim_one_in(3) ? (unsigned)sim_between(2, 3) : 1;
	if (run->has_disk)
		add_disks(run, run->exports, run->exports == 1);
}

static void one_disk(struct sim_run *run)
{
	run->has_disk = true;
	add_disks(run, 1, false);
}

/* Something all over the disk, with holes in between, as writes that are long done. */
void sim_preload(struct sim_run *run)
{
	struct sim_model *model = run->model[0];
	unsigned count = (unsigned)sim_between(1, 8);

	for (unsigned i = 0; i < count; i++) {
		uint64_t length = nr_min(sim_magnitude(9, 17) / 512 * 512, run->size);
		uint64_t offset = sim_below((run->size - length) / 512 + 1) * 512;
		uint32_t write = sim_model_begin(model, offset, length, false, false, true, 0);
		uint8_t *data = sim_alloc(length);

		sim_model_fill(model, write, 0, data, length);
		sim_model_end(model, write, SIM_DONE);
		for (unsigned j = 0; j < (run->same_legs ? run->legs : 1); j++)
			sim_disk_fill(sim_disk_number(j), offset, data, length);
		free(data);
	}
}

/* ---- overlay ----------------------------------------------------------- */

#define OVERLAY SIM_FILES "/overlay"

static const char *either(const char *a, const char *b)
{
	return sim_one_in(2) ? a : b;
}

static void set_overlay(struct sim_run *run)
{
	static const char *const blocks[] = { "4k", "16k", "64k" };
	const struct nr_setting setting[] = {
		{ "cow-file", OVERLAY },
		{ "cow-block-size", blocks[sim_below(3)] },
		{ "cow-on-read", either("true", "false") },
		{ "cow-on-cache", either("true", "false") },
	};

	run->preloaded = true;
	sim_set_disk(run);
	sim_set_layer(run, 1, &nr_cow_type, setting, 4);
}

static void check_overlay(struct sim_run *run)
{
	(void)run;
	if (sim_disk_number(0)->records)
		sim_fail("the disk below an overlay was written to");
}

/* ---- cache ------------------------------------------------------------- */

static void set_cache(struct sim_run *run)
{
	static const char *const modes[] = { "writeback", "writeback", "writethrough" };
	static const char *const sizes[] = { "64k", "256k", "1m" };
	static const char *const blocks[] = { "4k", "4k", "16k" };
	const struct nr_setting setting[] = {
		{ "cache-file", SIM_FILES "/cache" },
		{ "cache", modes[sim_below(3)] },
		{ "cache-max-size", sizes[sim_below(3)] },
		{ "cache-min-block-size", blocks[sim_below(3)] },
		{ "cache-on-read", either("true", "false") },
		{ "cache-dirty-age", either("1", "5") },
	};

	run->preloaded = true;
	sim_set_disk(run);
	sim_set_layer(run, 1, &nr_cache_type, setting, 6);
}

/* ---- mirror ------------------------------------------------------------ */

#define BITMAP SIM_FILES "/bitmap"
#define LEGS_MAX 3u

/* What was on the other legs before there was a mirror. */
static void add_garbage(struct sim_disk *disk)
{
	uint64_t length = nr_min(sim_magnitude(12, 18) / 512 * 512, disk->size);
	uint8_t *garbage = sim_alloc(length);

	memset(garbage, 0xa5, length);
	sim_disk_fill(disk, sim_below((disk->size - length) / 512 + 1) * 512, garbage, length);
	free(garbage);
}

/* One never fails; of the others each is out for a while, or not. */
static void some_legs(struct sim_run *run)
{
	unsigned good;

	run->has_disk = true;
	run->legs = (unsigned)sim_between(2, LEGS_MAX);
	add_disks(run, run->legs, false);
	/* Of a new mirror whose legs differ, it is the first one. */
	run->same_legs = sim_one_in(2);
	good = run->same_legs ? (unsigned)sim_below(run->legs) : 0;
	for (unsigned i = 0; i < run->legs; i++) {
		struct sim_disk *disk = sim_disk_number(i);

		if (i && !run->same_legs)
			add_garbage(disk);
		if (i == good || sim_one_in(2))
			continue;
		disk->out_from = sim_now() + sim_magnitude(18, 30);
		disk->out_to = disk->out_from + sim_magnitude(18, 34);
	}
}

static void set_mirror(struct sim_run *run)
{
	static const char *const caches[] = { "writeback", "none", "none" };
	struct nr_setting setting[SIM_SETTINGS_MAX];
	unsigned count = 0;

	run->preloaded = true;
	for (unsigned i = 0; i < run->legs; i++)
		setting[count++] = (struct nr_setting){
			"leg", sim_text(run, "file " SIM_FOLDER "/" SIM_DISK_NAME " cache=%s", i,
					caches[sim_below(3)])
		};
	setting[count++] = (struct nr_setting){ "bitmap", BITMAP };
	setting[count++] = (struct nr_setting){ "region", either("64k", "256k") };
	setting[count++] = (struct nr_setting){ "quiet", either("0", "2") };
	setting[count++] = (struct nr_setting){ "probe", either("1", "5") };
	setting[count++] = (struct nr_setting){ "assume-same", run->same_legs ? "true" : "false" };
	setting[count++] = (struct nr_setting){ "scrub", either("never", "start") };
	sim_set_layer(run, 0, &nr_mirror_type, setting, count);
}

/* Where the bitmap says so, all legs are the same. */
static void compare_region(const struct sim_run *run, uint64_t offset, uint64_t length)
{
	const struct sim_disk *first = sim_disk_number(0);

	for (unsigned i = 1; i < run->legs; i++)
		if (memcmp(first->current + offset, sim_disk_number(i)->current + offset, length) !=
		    0)
			sim_fail("legs 1 and %u differ in %" PRIu64 "+%" PRIu64
				 ", and the bitmap says that they do not",
				 i + 1, offset, length);
}

static void check_mirror(struct sim_run *run)
{
	const struct sim_disk *file = sim_disk_named(BITMAP);
	struct nr_bitmap_header header;
	uint64_t *bits;

	if (!file || nr_bitmap_parse(file->current, file->size, &header, &bits, NULL))
		return; /* it is not made yet */
	for (uint64_t r = 0; r < nr_bitmap_regions(header.size, header.region); r++)
		if (!(bits[r / 64] >> r % 64 & 1))
			compare_region(run, r * header.region,
				       nr_min(header.region, header.size - r * header.region));
	free(bits);
	/* What is durable is on each leg that is in. */
	for (unsigned i = 0; i < run->legs; i++)
		if (!header.out[i])
			sim_model_check_stable(run->model[0], 0, sim_disk_number(i)->current,
					       header.size / SIM_UNIT * SIM_UNIT,
					       "a leg that is in has");
}

/* ---- concat and stripe ------------------------------------------------- */

/* The legs hold more than one disk could; what clients see has the length of all. */
static void some_parts(struct sim_run *run)
{
	run->has_disk = true;
	run->parts = (unsigned)sim_between(2, SIM_DISKS_MAX);
	run->size = run->size / run->parts / 65536 * 65536;
	if (run->size == 0)
		run->size = 65536;
	add_disks(run, run->parts, false);
	/* The model is of all of them. */
	run->size *= run->parts;
}

static const char *part_words(struct sim_run *run, unsigned i)
{
	static const char *const filters[] = { "", "", "--filter=nozero ", "--filter=noextents ",
					       "--filter=blocksize minblock=4096 " };

	return sim_text(run, "%sfile " SIM_FOLDER "/" SIM_DISK_NAME " cache=%s",
			filters[sim_below(5)], i, either("writeback", "none"));
}

static void set_parts(struct sim_run *run)
{
	bool stripe = sim_one_in(2);
	struct nr_setting setting[SIM_SETTINGS_MAX];
	unsigned count = 0;

	for (unsigned i = 0; i < run->parts; i++)
		setting[count++] = (struct nr_setting){ "leg", part_words(run, i) };
	if (stripe)
		setting[count++] = (struct nr_setting){ "chunk", either("4k", "64k") };
	sim_set_layer(run, 0, stripe ? &nr_stripe_type : &nr_concat_type, setting, count);
}

/* ---- which ------------------------------------------------------------- */

static const struct sim_shape shapes[] = {
	{ "disk", 8, some_disks, sim_set_disk, NULL, false },
	{ "overlay", 2, one_disk, set_overlay, check_overlay, true },
	{ "cache", 2, one_disk, set_cache, NULL, true },
	{ "mirror", 2, some_legs, set_mirror, check_mirror, true },
	{ "parts", 2, some_parts, set_parts, NULL, false },
};

#define SHAPES (sizeof(shapes) / sizeof(shapes[0]))

static const struct sim_shape *wanted; /* NULL: any */

bool sim_want_shape(const char *name)
{
	for (unsigned i = 0; i < SHAPES; i++)
		if (strcmp(shapes[i].name, name) == 0)
			wanted = &shapes[i];
	sim_report.shape = name;
	return wanted;
}

const struct sim_shape *sim_choose_shape(void)
{
	uint64_t sum = 0, at;
	unsigned i = 0;

	if (wanted)
		return wanted;
	for (unsigned j = 0; j < SHAPES; j++)
		sum += shapes[j].weight;
	at = sim_below(sum);
	while (at >= shapes[i].weight)
		at -= shapes[i++].weight;
	sim_note(shapes[i].name, 0, 0);
	return &shapes[i];
}
