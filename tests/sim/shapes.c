/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What may lie below the filters.  See scenario.h.
 *
 *   disk      a file or a block device, up to three of them in a folder, or memory
 *   overlay   `cow` with a file, over a disk that nobody may change
 *   cache     `cache` with a file that outlives the server, over a disk
 */
#undef NDEBUG
#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "backends/backends.h"
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
		sim_disk_fill(sim_disk_number(0), offset, data, length);
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

/* ---- which ------------------------------------------------------------- */

static const struct sim_shape shapes[] = {
	{ "disk", 8, some_disks, sim_set_disk, NULL, false },
	{ "overlay", 2, one_disk, set_overlay, check_overlay, true },
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
