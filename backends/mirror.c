/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The backend `mirror`: the same on several legs.
 *
 * This is the face: parameters, opening, closing.  How it works is told in mirror.h.
 */
#include "backends/mirror.h"

#include <errno.h>
#include <inttypes.h>

#include "backends/backends.h"
#include "nbdring/checked.h"

#define REGION_DEFAULT (UINT64_C(1) << 20)
#define REGIONS_DEFAULT_MAX (UINT64_C(1) << 20)

#define AT(field) offsetof(struct nr_mirror, field)

static const char *const scrub_modes[] = { "never", "start", NULL };
static const char *const scrub_repairs[] = { "majority", "first", "never", NULL };

static const struct nr_param params[] = {
	NR_LEGS_PARAM(struct nr_mirror, words, NR_PARAM_AGAIN),
	{ .name = "min-legs",
	  .type = NR_PARAM_UINT,
	  .offset = AT(min_legs),
	  .fallback = "1",
	  .min = 1,
	  .max = NR_MIRROR_LEGS_MAX,
	  .value = "N",
	  .help = "How many legs have to be whole for writes to be taken",
	  .manual =
		  "How many legs have to be whole for writes to be taken.  With fewer, writes and\n"
		  "flushes fail with EIO; reads are answered as long as one leg can.  With fewer\n"
		  "that can be opened, the server does not start." },
	{ .name = "bitmap",
	  .type = NR_PARAM_PATH,
	  .flags = NR_PARAM_WRITTEN | NR_PARAM_MADE,
	  .offset = AT(bitmap_path),
	  .value = "PATH",
	  .help = "The file that remembers which regions may differ between the legs",
	  .manual =
		  "The file that remembers, also after a crash, which regions may differ between\n"
		  "the legs and which legs have missed writes.  It is made if it is not there.\n"
		  "Put it where a flush is quick, and not on a leg.  Without it nothing is\n"
		  "remembered when the server ends: all legs are taken to be the same when it\n"
		  "starts." },
	{ .name = "region",
	  .type = NR_PARAM_SIZE,
	  .offset = AT(region_given),
	  .fallback = "0",
	  .max = NR_BITMAP_REGION_MAX,
	  .value = "SIZE",
	  .help = "What is copied as a whole when it may differ; 0: by the size of the disk",
	  .manual = "What is copied as a whole when it may differ: a power of two from 64K.  By\n"
		    "default 1M, and more for disks of over 1T, so that there are no more than a\n"
		    "million regions." },
	{ .name = "assume-same",
	  .type = NR_PARAM_BOOL,
	  .offset = AT(assume_same),
	  .fallback = "false",
	  .value = "BOOL",
	  .help = "Whether the legs are the same already when the bitmap is made",
	  .manual = "Whether the legs are the same already when the bitmap is made.  If not, the\n"
		    "first leg is copied to all others then." },
	{ .name = "quiet",
	  .type = NR_PARAM_UINT,
	  .offset = AT(quiet_s),
	  .fallback = "5",
	  .max = 3600,
	  .value = "SECONDS",
	  .help = "How long a region is not written to before the bitmap forgets it" },
	{ .name = "probe",
	  .type = NR_PARAM_UINT,
	  .offset = AT(probe_s),
	  .fallback = "2",
	  .min = 1,
	  .max = 3600,
	  .value = "SECONDS",
	  .help = "How long after it went out a leg is tried again; longer if that fails" },
	{ .name = "resync-rate",
	  .type = NR_PARAM_SIZE,
	  .offset = AT(rate),
	  .fallback = "0",
	  .value = "SIZE",
	  .help = "How many bytes per second are copied or compared in the background; 0: as "
		  "many as can be" },
	{ .name = "scrub",
	  .type = NR_PARAM_CHOICE,
	  .offset = AT(scrub_mode),
	  .fallback = "never",
	  .choices = scrub_modes,
	  .value = "WHEN",
	  .help = "When all legs are compared with each other",
	  .manual = "C<start>: when the first client has come, all of the disk is read from all\n"
		    "legs and compared.  What is done with differences says C<scrub-repair=>." },
	{ .name = "scrub-repair",
	  .type = NR_PARAM_CHOICE,
	  .offset = AT(scrub_repair),
	  .fallback = "majority",
	  .choices = scrub_repairs,
	  .value = "WHAT",
	  .help = "What is written where legs differ: what most of them have, or else nothing",
	  .manual =
		  "What is done where a scrub finds that legs differ.  C<majority>: a block that\n"
		  "more than half of the legs that could be read agree on is right, and is\n"
		  "written to the others; where there is no such majority, as always between two\n"
		  "legs, the difference is reported and nothing is changed.  C<first>: where there\n"
		  "is no majority, the first leg is right.  C<never>: differences are reported\n"
		  "only." },
	{ .name = "scrub-file",
	  .type = NR_PARAM_PATH,
	  .flags = NR_PARAM_MADE | NR_PARAM_AGAIN,
	  .offset = AT(scrub_path),
	  .value = "PATH",
	  .help = "When a file of this name appears, it is removed and the legs are compared" },
	{ .name = "status",
	  .type = NR_PARAM_PATH,
	  .flags = NR_PARAM_WRITTEN | NR_PARAM_MADE,
	  .offset = AT(status_path),
	  .value = "PATH",
	  .help = "A file that tells, in JSON, how the legs are",
	  .manual =
		  "A file that tells, in JSON, how the legs are and how far copying and comparing\n"
		  "has come.  It is written anew, up to five times a second, when it\n"
		  "has something else to say." },
	{ .name = NULL },
};

#define FIGURE(name_, field, help_)                                       \
	{                                                                 \
		.name = name_, .offset = AT(figures.field), .help = help_ \
	}

static const struct nr_figure figures[] = {
	FIGURE("legs_in", legs_in, "Legs that are whole"),
	FIGURE("legs_back", legs_back, "Legs that have come back and get what they have missed"),
	FIGURE("legs_out", legs_out, "Legs that have failed"),
	FIGURE("legs_absent", legs_absent, "Legs that could not be opened yet"),
	FIGURE("stale_regions", stale, "Regions that legs have missed, of all legs together"),
	FIGURE("intended_regions", intended, "Regions that may differ"),
	{ .name = "copied_bytes",
	  .unit = NR_FIGURE_BYTES,
	  .offset = AT(figures.copied_bytes),
	  .help = "What was copied to legs that had missed it" },
	FIGURE("copied_regions", copied_regions, "The same in regions that were copied to the end"),
	FIGURE("reread", reread, "Reads that failed on one leg and were answered by another"),
	FIGURE("scrubs", scrubs, "Comparisons of all legs that came to the end"),
	FIGURE("differences", differences, "Blocks of 4 KiB that differed in the last of them"),
	FIGURE("undecided", undecided, "Those of them that were left as they are"),
	{ .name = NULL },
};

static int mirror_check(struct nr_layer *layer, struct nr_error *error)
{
	const struct nr_mirror *m = layer->instance;

	if (m->words.count < 2)
		return nr_error_set(error, -EINVAL, "a mirror needs two legs at least");
	if (m->words.count > NR_MIRROR_LEGS_MAX)
		return nr_error_set(error, -EINVAL, "%zu legs are too many, %u are possible",
				    m->words.count, NR_MIRROR_LEGS_MAX);
	if (m->min_legs > m->words.count)
		return nr_error_set(error, -EINVAL, "min-legs=%" PRIu64 " are more than there are",
				    m->min_legs);
	if (m->region_given &&
	    (!nr_is_power_of_2(m->region_given) || m->region_given < NR_BITMAP_REGION_MIN))
		return nr_error_set(error, -EINVAL, "region=%" PRIu64 " is no power of two from %u",
				    m->region_given, NR_BITMAP_REGION_MIN);
	return 0;
}

/* As much of each leg as the smallest has; one that is absent may have been that. */
static uint64_t size_of_legs(const struct nr_mirror *m)
{
	uint64_t size = UINT64_MAX, before = 0;

	for (unsigned i = 0; i < m->legs.count; i++) {
		if (nr_mirror_absent(&m->leg[i]))
			before = nr_intent_size(m);
		else
			size = nr_min(size, m->legs.leg[i].size);
	}
	return before ? nr_min(size, before) : size;
}

static int check_legs(const struct nr_mirror *m, struct nr_error *error)
{
	for (unsigned i = 0; i < m->legs.count; i++) {
		const struct nr_leg *leg = &m->legs.leg[i];

		if (!leg->stack)
			continue;
		if (leg->size > m->size)
			nr_layer_log(m->layer, NR_LAYER_WARNING,
				     "the legs differ in size: of leg %u, which has %" PRIu64
				     " bytes, only the first %" PRIu64 " are used",
				     i + 1, leg->size, m->size);
		if (leg->traits->read_only && !m->layer->read_only)
			return nr_error_set(error, -EROFS,
					    "leg %u is read-only; serve the mirror with -r, or "
					    "without that leg",
					    i + 1);
	}
	return 0;
}

static int lay_out(struct nr_mirror *m, struct nr_error *error)
{
	struct nr_traits traits = { .block_min = 1, .memory_align = 1, .block_max = UINT32_MAX };
	int err;

	m->size = size_of_legs(m);
	err = check_legs(m, error);
	if (err)
		return err;
	nr_legs_describe(&m->legs, &traits);
	m->size = nr_round_down(m->size, traits.block_min);
	m->region = m->region_given ? m->region_given : REGION_DEFAULT;
	while (!m->region_given && nr_bitmap_regions(m->size, m->region) > REGIONS_DEFAULT_MAX)
		m->region *= 2;
	m->region_shift = (unsigned)__builtin_ctzll(m->region);
	m->regions = nr_bitmap_regions(m->size, m->region);
	if (m->regions > NR_BITMAP_REGIONS_MAX)
		return nr_error_set(error, -EINVAL,
				    "region=%" PRIu64 " makes %" PRIu64
				    " regions, which are too many; at most %" PRIu64
				    " are possible",
				    m->region, m->regions, NR_BITMAP_REGIONS_MAX);
	return 0;
}

static int mirror_open(struct nr_layer *layer, struct nr_error *error)
{
	struct nr_mirror *m = layer->instance;
	int err = nr_blocking_acquire(error);

	if (err)
		return err;
	m->layer = layer;
	m->tick = m->epoch = 1;
	m->scrub.wanted = m->scrub_mode == 1;
	err = nr_mirror_open_legs(m, error);
	if (err) {
		nr_blocking_release();
		return err;
	}
	err = lay_out(m, error);
	if (!err)
		err = nr_intent_open(m, error);
	if (!err) {
		err = nr_mirror_report_open(m, error);
		if (err)
			nr_intent_close(m);
		else
			nr_mirror_count(m);
	}
	if (err) {
		nr_legs_close(&m->legs);
		nr_blocking_release();
	}
	return err;
}

static int mirror_describe(struct nr_layer *layer, struct nr_traits *t, struct nr_error *error)
{
	const struct nr_mirror *m = layer->instance;

	nr_legs_describe(&m->legs, t);
	t->size = m->size;
	t->read_only |= layer->read_only;
	/* Trims are zeroes; and half of the legs cannot do what the others refuse. */
	t->support[NR_CAP_TRIM] = t->support[NR_CAP_ZERO] == NR_NATIVE ? NR_NATIVE : NR_NONE;
	t->support[NR_CAP_FAST_ZERO] = NR_NONE;
	return 0;
}

static void mirror_close(struct nr_layer *layer)
{
	struct nr_mirror *m = layer->instance;

	nr_mirror_report_close(m);
	nr_intent_close(m);
	nr_legs_close(&m->legs);
	nr_blocking_release();
}

const struct nr_layer_type nr_mirror_type = {
	.abi = NR_LAYER_ABI,
	.name = "mirror",
	.summary = "serves several disks that hold the same as one",
	.kind = NR_BACKEND,
	.placement = NR_HOME,
	.params = params,
	.instance_size = sizeof(struct nr_mirror),
	.request_size = sizeof(struct nr_mirror_op),
	.figures = figures,
	.check = mirror_check,
	.open = mirror_open,
	.describe = mirror_describe,
	.submit = nr_mirror_submit,
	.child_done = nr_mirror_child_done,
	.resume = nr_mirror_resume,
	.close = mirror_close,
};
