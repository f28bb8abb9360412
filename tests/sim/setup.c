/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What a seed chooses.  See scenario.h.
 *
 * Half of the runs are without faults: there every error is a finding.
 */
#undef NDEBUG
#include <assert.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backends/backends.h"
#include "backends/table.h"
#include "filters/filters.h"
#include "filters/table.h"
#include "src/cli/words.h"
#include "tests/sim/scenario.h"

static unsigned frequency(unsigned low, unsigned high)
{
	return (unsigned)sim_magnitude(low, high);
}

static void choose_faults(struct sim_run *run)
{
	struct sim_faults *f = &run->faults;

	/* What is no error: nobody outside may notice. */
	f->interrupted = sim_one_in(3) ? frequency(3, 8) : 0;
	f->short_transfer = sim_one_in(3) ? frequency(1, 6) : 0;
	f->stall = sim_one_in(4) ? frequency(6, 9) : 0;
	f->accept_error = sim_one_in(4) ? frequency(1, 3) : 0;
	f->cancel_lost = sim_one_in(2) ? frequency(1, 3) : 0;
	run->faulty = sim_one_in(3);
	if (!run->faulty)
		return;
	f->disk_error = sim_one_in(2) ? frequency(4, 8) : 0;
	f->no_space = sim_one_in(2) ? frequency(4, 8) : 0;
	/* Exports that are opened anew forget that a flush has failed (decision 13). */
	f->flush_error = run->exports == 1 && sim_one_in(2) ? frequency(1, 5) : 0;
}

/* Queues, arenas and pools much smaller than the product's. */
static void choose_scarcity(struct sim_run *run)
{
	sim_engine_entries = 1u << sim_between(2, 8);
	sim_engine_discard = sim_one_in(2);
	run->arena_bytes = (size_t)1 << (sim_one_in(2) ? sim_between(22, 24) : 26);
	/* The product's ratio: 32 MiB of 256. */
	run->longest = run->arena_bytes / 8;
	run->slots = sim_one_in(6) ? sim_magnitude(5, 9) : UINT64_MAX;
	run->scarce = run->slots != UINT64_MAX;
}

/*
 * In the product, layers that keep state for one worker are modules; this one keeps
 * none, but says so.
 */
static const struct nr_layer_type at_home = {
	.abi = NR_LAYER_ABI,
	.name = "at-home",
	.summary = "has all its connections on one worker",
	.kind = NR_FILTER,
	.placement = NR_HOME,
};

/* Filters that change how requests go, and not what is on the disk. */
static const struct sim_layer_choice choices[] = {
	{ &at_home, { { NULL, NULL } }, 0 },
	{ &nr_noparallel_type, { { "serialize", "requests" } }, 1 },
	{ &nr_noparallel_type, { { "serialize", "all-requests" } }, 1 },
	{ &nr_noparallel_type, { { "serialize", "connections" } }, 1 },
	{ &nr_short_type, { { "window", "5ms" } }, 1 },
	{ &nr_short_type, { { "window", "300ms" }, { "seed", "7" } }, 2 },
	{ &nr_delay_type, { { "delay-read", "2ms" }, { "delay-write", "1ms" } }, 2 },
	{ &nr_blocksize_type, { { "minblock", "512" }, { "maxdata", "65536" } }, 2 },
	{ &nr_blocksize_type, { { "minblock", "4096" } }, 1 },
	{ &nr_blocksize_type, { { "maxdata", "4096" }, { "maxlen", "8192" } }, 2 },
	{ &nr_fua_type, { { "fuamode", "emulate" } }, 1 },
	{ &nr_fua_type, { { "fuamode", "native" } }, 1 },
	{ &nr_fua_type, { { "fuamode", "force" } }, 1 },
	{ &nr_fua_type, { { "fuamode", "none" } }, 1 },
	{ &nr_nozero_type, { { "zeromode", "none" } }, 1 },
	{ &nr_nozero_type, { { "zeromode", "emulate" } }, 1 },
	{ &nr_nozero_type, { { "zeromode", "notrim" } }, 1 },
	{ &nr_multi_conn_type, { { "multi-conn-mode", "emulate" } }, 1 },
	{ &nr_multi_conn_type, { { "multi-conn-mode", "disable" } }, 1 },
	{ &nr_nocache_type, { { "cachemode", "emulate" } }, 1 },
	{ &nr_noextents_type, { { NULL, NULL } }, 0 },
	{ &nr_swab_type, { { "swab-bits", "64" } }, 1 },
	{ &nr_offset_type, { { "offset", "8192" } }, 1 },
	{ &nr_cache_type, { { "cache-max-size", "64k" }, { "cache-on-read", "true" } }, 2 },
	{ &nr_cache_type, { { "cache-max-size", "256k" }, { "cache-dirty-age", "1" } }, 2 },
	{ &nr_cache_type,
	  { { "cache", "writethrough" }, { "cache-max-size", "64k" }, { "cache-on-read", "true" } },
	  3 },
};

#define CHOICES (sizeof(choices) / sizeof(choices[0]))

void sim_set_layer(struct sim_run *run, size_t i, const struct nr_layer_type *type,
		   const struct nr_setting *settings, unsigned count)
{
	assert(i < SIM_LAYERS_MAX);
	memcpy(run->setting[i], settings, count * sizeof(*settings));
	run->layer[i] = (struct nr_plan_layer){ type, run->setting[i], count };
	run->plan.layer_count = i + 1;
}

const char *sim_text(struct sim_run *run, const char *format, ...)
{
	char *text = run->text[run->texts++];
	va_list args;

	assert(run->texts <= SIM_TEXTS_MAX);
	va_start(args, format);
	assert(vsnprintf(text, sizeof(run->text[0]), format, args) < (int)sizeof(run->text[0]));
	va_end(args);
	return text;
}

void sim_set_disk(struct sim_run *run)
{
	static const char *const caches[] = { "writeback", "none", "none" };
	struct nr_setting setting[2];

	if (run->has_disk) {
		setting[0] = (struct nr_setting){ "file",
						  sim_text(run, SIM_FOLDER "/" SIM_DISK_NAME, 0u) };
		if (run->exports > 1)
			setting[0] = (struct nr_setting){ "dir", SIM_FOLDER };
		setting[1] = (struct nr_setting){ "cache", caches[sim_below(3)] };
		if (run->exports == 1 && sim_disk_number(0)->knows_dontcache && sim_one_in(3))
			setting[1].value = "dontcache";
		sim_set_layer(run, 0, &nr_file_type, setting, 2);
	} else {
		setting[0] = (struct nr_setting){ "size", sim_text(run, "%" PRIu64, run->size) };
		sim_set_layer(run, 0, &nr_memory_type, setting, 1);
	}
}

/* Stacks within stacks are written as on the command line. */
static const struct nr_catalog catalog = { nr_backends, nr_filters };

static void log_line(const struct nr_layer *layer, enum nr_layer_log_level level, const char *line)
{
	(void)level;
	if (sim_tracing)
		printf("%s: %s\n", layer->type->name, line);
}

static const struct nr_surroundings surroundings = { .parse = nr_words_parse,
						     .forget = nr_words_forget,
						     .log = log_line };

/*
 * What is acknowledged and not flushed is lost when the disk refuses it to the end: only
 * for disks that do not.
 */
static bool writes_back(const struct sim_layer_choice *choice)
{
	return choice->type == &nr_cache_type && strcmp(choice->setting[0].name, "cache") != 0;
}

/* What is there in the beginning has to be where the clients look for it. */
static bool moves_data(const struct sim_layer_choice *choice)
{
	return choice->type == &nr_swab_type || choice->type == &nr_offset_type;
}

static void choose_filters(struct sim_run *run)
{
	size_t count = sim_one_in(3) ? 0 : sim_between(1, 4), below = run->plan.layer_count;

	for (size_t i = below; i < below + count; i++) {
		const struct sim_layer_choice *choice = &choices[sim_below(CHOICES)];

		if ((writes_back(choice) && run->faulty) || (run->preloaded && moves_data(choice)))
			choice = &choices[0];
		sim_set_layer(run, i, choice->type, choice->setting, choice->settings);
		if (choice->setting[0].value &&
		    strcmp(choice->setting[0].value, "connections") == 0)
			run->exclusive = true;
		if (choice->type == &nr_swab_type)
			run->scarce = true; /* it does not wait for memory */
		sim_note(choice->type->name, i, 0);
	}
}

/* Not all filters go with all others: what was chosen last is left out until they do. */
static void make_possible(struct sim_run *run)
{
	struct nr_stack *stack;
	struct nr_error error;

	sim_arena_bytes = run->arena_bytes;
	nr_words_set_catalog(&catalog);
	while (nr_stack_open(&stack, &run->plan, "disk0", &error))
		if (run->plan.layer_count-- == 1)
			sim_fail("the disk cannot be opened: %s", error.text);
	nr_stack_close(stack);
	/* The files are there already, or yet to be made. */
	if (run->shape->has_files && sim_one_in(2))
		sim_files_forget();
}

void sim_choose_run(struct sim_run *run)
{
	static const uint64_t sizes[] = { 65536,   262144,  1 << 20,        1 << 20,
					  1 << 20, 4 << 20, (1 << 20) + 512 };

	memset(run, 0, sizeof(*run));
	run->shape = sim_choose_shape();
	run->workers = (unsigned)sim_between(1, 3);
	run->clients = (unsigned)sim_between(1, 8);
	run->rounds = (unsigned)sim_between(1, 3);
	run->size = sizes[sim_below(sizeof(sizes) / sizeof(sizes[0]))];
	run->exports = 1;
	run->shape->add_disks(run);
	choose_scarcity(run);
	choose_faults(run);
	run->shape->set_layers(run);
	choose_filters(run);
	run->plan.layers = run->layer;
	run->plan.worker_count = run->workers;
	run->plan.aligner = &nr_blocksize_type;
	run->plan.surroundings = &surroundings;
	make_possible(run);
	sim_note("backend", run->has_disk, run->size);
}

enum sim_ending sim_choose_ending(const struct sim_run *run)
{
	if (!run->has_disk || sim_disk_number(0)->in_memory)
		return sim_one_in(2) ? SIM_ENDS_IDLE : SIM_ENDS_BUSY;
	switch (sim_below(8)) {
	case 0:
	case 1:
		return SIM_ENDS_IDLE;
	case 2:
		return SIM_ENDS_BUSY;
	case 3:
		return SIM_ENDS_RESTART;
	default:
		return SIM_ENDS_POWER;
	}
}

static enum sim_leaving choose_leaving(void)
{
	static const enum sim_leaving ways[] = { SIM_GOODBYE,    SIM_GOODBYE, SIM_GOODBYE_NOW,
						 SIM_HALF_CLOSE, SIM_HANG_UP, SIM_HANG_UP,
						 SIM_RESET,      SIM_STAYS,   SIM_STAYS,
						 SIM_BREACH };

	return ways[sim_below(sizeof(ways) / sizeof(ways[0]))];
}

void sim_choose_habits(const struct sim_run *run, struct sim_habits *h)
{
	static const uint64_t grains[] = { 512, 4096, 4096, SIM_UNIT };

	memset(h, 0, sizeof(*h));
	h->style = (enum sim_style)sim_below(3);
	h->leaving = choose_leaving();
	h->requests = (unsigned)sim_magnitude(0, 8);
	h->depth = (unsigned)sim_between(1, sim_one_in(2) ? 4 : SIM_DEPTH_MAX);
	h->grain = grains[sim_below(4)];
	h->longest = sim_one_in(8) ? run->size : sim_one_in(2) ? 65536 : 8192;
	/* Where memory is short, those who take much of it. */
	if (run->arena_bytes < SIM_ARENA_AMPLE && sim_one_in(2)) {
		h->longest = run->longest;
		h->grain = sim_one_in(2) ? h->grain : SIM_UNIT;
	}
	if (h->longest > run->longest)
		h->longest = run->longest;
	if (h->longest < h->grain)
		h->longest = h->grain;
	h->leaves_after = sim_one_in(3) ? sim_between(1, 200) : sim_magnitude(6, 18);
	h->old_way = h->style != SIM_EXTENDED && sim_one_in(8);
	h->asks_contexts = h->style != SIM_SIMPLE && !h->old_way && sim_one_in(2);
	h->chatters = sim_one_in(4);
	h->aborts = sim_one_in(32);
	h->pipelines = sim_one_in(4);
	h->bound = h->grain >= 4096 && sim_one_in(2);
	h->pauses = sim_one_in(4);
	h->slow = sim_one_in(8);
	h->naughty = sim_one_in(4);
	h->reads_only = sim_one_in(8);
}
