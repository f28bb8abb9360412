/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The filter `stats`: per operation how many requests, errors, bytes, how long
 * they took and what they looked like, written to a file when the export is closed.
 *
 * Each worker has counters of its own, pages that become real when they are first
 * counted in; `close` adds them up.  So a request costs two looks at the clock and
 * a few increments, and workers never touch each other's memory.
 *
 * Latency is the time between a request's passing this filter on its way down and
 * on its way up: all that is below, and nothing of the network.
 *
 * Behind that comes what the layers of the stack tell of themselves (figure.h), wherever
 * in it they are.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "filters/filters.h"
#include "filters/histogram.h"
#include "filters/operations.h"
#include "filters/output.h"
#include "nbdring/checked.h"

#define BITS 64

struct operation {
	uint64_t count, errors;
	uint64_t bytes;       /* of those that went well */
	uint64_t nanoseconds; /* all of them together */
	uint64_t longest;
	uint64_t size_count[BITS]; /* by bits of the length */
	uint64_t size_bytes[BITS];
	uint64_t aligned[BITS][BITS]; /* by bits of the length and zero bits of the offset */
	struct nr_histogram latency;
};

struct counters {
	struct operation operation[NR_OPERATION_COUNT];
} __attribute__((aligned(64)));

struct stats {
	const char *file;
	bool append;
	unsigned format;    /* enum format */
	uint64_t threshold; /* per cent */
	struct counters *worker;
	int fd;
	uint64_t opened; /* nanoseconds */
};

struct state {
	uint64_t began;
};

enum format { TEXT, JSON };

static const char *const formats[] = { "text", "json", NULL };

static const struct nr_param stats_params[] = {
	{ .name = "statsfile",
	  .type = NR_PARAM_PATH,
	  .flags = NR_PARAM_REQUIRED | NR_PARAM_WRITTEN | NR_PARAM_MADE,
	  .offset = offsetof(struct stats, file),
	  .value = "FILE",
	  .help = "File that the statistics are written to",
	  .manual = "The file that the statistics are written to when the export is closed, which\n"
		    "is when the server ends at the latest.  Several exports may share it." },
	{ .name = "statsappend",
	  .type = NR_PARAM_BOOL,
	  .offset = offsetof(struct stats, append),
	  .fallback = "false",
	  .value = "BOOL",
	  .help = "Keep what is in the file already",
	  .manual = "Write behind what is in the file already, rather than replace it." },
	{ .name = "stats-format",
	  .type = NR_PARAM_CHOICE,
	  .offset = offsetof(struct stats, format),
	  .fallback = "text",
	  .choices = formats,
	  .value = "FORMAT",
	  .help = "How the statistics are written",
	  .manual = "C<text> is for people, C<json> (one object on one line per export) for\n"
		    "programs." },
	{ .name = "statsthreshold",
	  .type = NR_PARAM_UINT,
	  .offset = offsetof(struct stats, threshold),
	  .fallback = "95",
	  .max = 100,
	  .value = "PERCENT",
	  .help = "How much of the requests the breakdown by size covers",
	  .manual = "In the breakdown of sizes and alignments, the rare ones are left out once\n"
		    "this many per cent of the requests are shown.  0 leaves out the breakdown.\n"
		    "JSON always has all of them." },
	{ .name = NULL },
};

static int stats_open(struct nr_layer *layer, struct nr_error *error)
{
	struct stats *stats = layer->instance;
	void *memory;

	memory = mmap(NULL, layer->worker_count * sizeof(struct counters), PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (memory == MAP_FAILED)
		return nr_error_system(error, -errno, "counters of %u workers",
				       layer->worker_count);
	stats->fd = nr_output_open(stats->file, stats->append, error);
	if (stats->fd < 0) {
		munmap(memory, layer->worker_count * sizeof(struct counters));
		return nr_error_prefix(error, "statsfile");
	}
	stats->worker = memory;
	stats->opened = nr_precise_now();
	return 0;
}

/* On a worker. */

static void stats_submit(struct nr_layer *layer, struct nr_request *req)
{
	struct state *state = nr_scratch(layer, req);

	state->began = nr_precise_now();
	nr_pass(layer, req);
}

static unsigned bits_of(uint64_t n)
{
	return n ? 63u - (unsigned)__builtin_clzll(n) : 0;
}

static void stats_done(struct nr_layer *layer, struct nr_request *req)
{
	const struct stats *stats = layer->instance;
	const struct state *state = nr_scratch(layer, req);
	struct counters *worker = &stats->worker[nr_worker_index(req->worker)];
	struct operation *op = &worker->operation[req->operation];
	uint64_t took = nr_precise_now() - state->began;
	unsigned size = bits_of(req->length);

	op->count++;
	op->nanoseconds += took;
	op->longest = nr_max(op->longest, took);
	nr_histogram_add(&op->latency, took);
	if (req->length) {
		op->size_count[size]++;
		op->size_bytes[size] += req->length;
		op->aligned[size]
			   [req->offset ? (unsigned)__builtin_ctzll(req->offset) : BITS - 1]++;
	}
	if (req->error)
		op->errors++;
	else
		op->bytes += req->length;
	nr_finish(layer, req, req->error);
}

/* At the end. */

static void add_up(struct operation *to, const struct operation *from)
{
	to->count += from->count;
	to->errors += from->errors;
	to->bytes += from->bytes;
	to->nanoseconds += from->nanoseconds;
	to->longest = nr_max(to->longest, from->longest);
	for (unsigned size = 0; size < BITS; size++) {
		if (from->size_count[size] == 0)
			continue;
		to->size_count[size] += from->size_count[size];
		to->size_bytes[size] += from->size_bytes[size];
		for (unsigned align = 0; align < BITS; align++)
			to->aligned[size][align] += from->aligned[size][align];
	}
	nr_histogram_merge(&to->latency, &from->latency);
}

static void add_bytes(struct nr_text *text, uint64_t bytes)
{
	static const char *const units[] = { "bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB" };
	double value = (double)bytes;
	unsigned unit = 0;

	while (value >= 1024 && unit < 6) {
		value /= 1024;
		unit++;
	}
	nr_text_add(text, "%.*f %s", unit ? 2 : 0, value, units[unit]);
}

static double micro(uint64_t nanoseconds)
{
	return (double)nanoseconds / 1000;
}

static uint64_t percentile(const struct operation *op, unsigned per_mille)
{
	return nr_min(nr_histogram_at(&op->latency, op->count, per_mille), op->longest);
}

/* Of requests with SIZE bits: how many start at multiples of 2^n, for each n that differs. */
static void add_alignments(struct nr_text *text, const struct operation *op, unsigned size)
{
	uint64_t left = op->size_count[size];

	for (unsigned align = 0; align < BITS && left; align++) {
		if (op->aligned[size][align] == 0)
			continue;
		nr_text_add(text, "      %2u bit aligned: %5.1f%% (%" PRIu64 ")\n", align,
			    100.0 * (double)left / (double)op->size_count[size], left);
		left -= op->aligned[size][align];
	}
}

static void add_breakdown(struct nr_text *text, const struct operation *op, uint64_t threshold)
{
	uint64_t total = 0, shown = 0, bytes = 0;
	bool was_shown[BITS] = { false };

	for (unsigned size = 0; size < BITS; size++)
		total += op->size_count[size];
	if (total == 0 || threshold == 0)
		return;
	nr_text_add(text, "  size and alignment of requests:\n");
	while (shown < total && (double)shown * 100 < (double)total * (double)threshold) {
		unsigned most = BITS;

		for (unsigned size = 0; size < BITS; size++)
			if (!was_shown[size] && op->size_count[size] &&
			    (most == BITS || op->size_count[size] > op->size_count[most]))
				most = size;
		was_shown[most] = true;
		shown += op->size_count[most];
		nr_text_add(text, "    %2u bits: %5.1f%% (%" PRIu64 " requests, ", most,
			    100.0 * (double)op->size_count[most] / (double)total,
			    op->size_count[most]);
		add_bytes(text, op->size_bytes[most]);
		nr_text_add(text, ")\n");
		add_alignments(text, op, most);
	}
	if (shown == total)
		return;
	for (unsigned size = 0; size < BITS; size++)
		if (!was_shown[size])
			bytes += op->size_bytes[size];
	nr_text_add(text, "    other sizes: %.1f%% (%" PRIu64 " requests, ",
		    100.0 * (double)(total - shown) / (double)total, total - shown);
	add_bytes(text, bytes);
	nr_text_add(text, ")\n");
}

/* What the layers tell. */
struct telling {
	struct nr_text *text;
	const struct nr_layer *layer; /* that told last; NULL: none yet */
};

static void figure_text(void *context, const struct nr_layer *layer, const struct nr_figure *figure,
			uint64_t value)
{
	struct telling *t = context;

	if (t->layer != layer)
		nr_text_add(t->text, "%s:\n", layer->type->name);
	t->layer = layer;
	nr_text_add(t->text, "  %s: ", figure->name);
	switch (figure->unit) {
	case NR_FIGURE_NUMBER:
		nr_text_add(t->text, "%" PRIu64 "\n", value);
		return;
	case NR_FIGURE_BYTES:
		add_bytes(t->text, value);
		nr_text_add(t->text, "\n");
		return;
	case NR_FIGURE_MILLIONTHS:
		nr_text_add(t->text, "%.2f%%\n", (double)value / 1e4);
		return;
	}
}

static void figures_text(struct nr_text *text, const struct nr_layer *layer)
{
	struct telling telling = { .text = text };

	nr_figures(layer, figure_text, &telling);
}

static void figure_json(void *context, const struct nr_layer *layer, const struct nr_figure *figure,
			uint64_t value)
{
	struct telling *t = context;

	if (t->layer != layer)
		nr_text_add(t->text, "%s{\"layer\":\"%s\",\"figures\":{", t->layer ? "}}," : "",
			    layer->type->name);
	nr_text_add(t->text, "%s\"%s\":", t->layer == layer ? "," : "", figure->name);
	t->layer = layer;
	if (figure->unit == NR_FIGURE_MILLIONTHS)
		nr_text_add(t->text, "%.6f", (double)value / 1e6);
	else
		nr_text_add(t->text, "%" PRIu64, value);
}

static void figures_json(struct nr_text *text, const struct nr_layer *layer)
{
	struct telling telling = { .text = text };

	nr_text_add(text, ",\"layers\":[");
	nr_figures(layer, figure_json, &telling);
	nr_text_add(text, telling.layer ? "}}]" : "]");
}

static void add_text(struct nr_text *text, const struct nr_layer *layer, const struct counters *sum,
		     uint64_t elapsed)
{
	const struct stats *stats = layer->instance;
	double seconds = (double)elapsed / 1e9;
	uint64_t count = 0, bytes = 0;

	for (unsigned i = 0; i < NR_OPERATION_COUNT; i++) {
		count += sum->operation[i].count;
		bytes += sum->operation[i].bytes;
	}
	if (*layer->export_name) {
		nr_text_add(text, "export: ");
		nr_text_add_quoted(text, layer->export_name);
		nr_text_add(text, "\n");
	}
	nr_text_add(text, "total: %" PRIu64 " ops, %.6f s, ", count, seconds);
	add_bytes(text, bytes);
	nr_text_add(text, ", ");
	add_bytes(text, (uint64_t)((double)bytes / nr_max(elapsed, 1) * 1e9));
	nr_text_add(text, "/s\n");
	for (unsigned i = 0; i < NR_OPERATION_COUNT; i++) {
		const struct operation *op = &sum->operation[i];

		if (op->count == 0)
			continue;
		nr_text_add(text, "%s: %" PRIu64 " ops, %" PRIu64 " errors, %.6f s, ",
			    nr_operation_names[i], op->count, op->errors,
			    (double)op->nanoseconds / 1e9);
		add_bytes(text, op->bytes);
		nr_text_add(
			text,
			"\n  latency in us: mean %.1f, p50 %.1f, p99 %.1f, p999 %.1f, max %.1f\n",
			micro(op->nanoseconds) / (double)op->count, micro(percentile(op, 500)),
			micro(percentile(op, 990)), micro(percentile(op, 999)), micro(op->longest));
		add_breakdown(text, op, stats->threshold);
	}
	figures_text(text, layer);
	nr_text_add(text, "\n");
}

static void add_json_sizes(struct nr_text *text, const struct operation *op)
{
	const char *comma = "";

	for (unsigned size = 0; size < BITS; size++) {
		const char *inner = "";

		if (op->size_count[size] == 0)
			continue;
		nr_text_add(text,
			    "%s{\"size_bits\":%u,\"requests\":%" PRIu64 ",\"bytes\":%" PRIu64
			    ",\"offset_zero_bits\":{",
			    comma, size, op->size_count[size], op->size_bytes[size]);
		for (unsigned align = 0; align < BITS; align++) {
			if (op->aligned[size][align] == 0)
				continue;
			nr_text_add(text, "%s\"%u\":%" PRIu64, inner, align,
				    op->aligned[size][align]);
			inner = ",";
		}
		nr_text_add(text, "}}");
		comma = ",";
	}
}

static void add_json(struct nr_text *text, const struct nr_layer *layer, const struct counters *sum,
		     uint64_t elapsed)
{
	const char *comma = "";

	nr_text_add(text, "{\"export\":");
	nr_text_add_json(text, layer->export_name);
	nr_text_add(text, ",\"seconds\":%.6f,\"operations\":{", (double)elapsed / 1e9);
	for (unsigned i = 0; i < NR_OPERATION_COUNT; i++) {
		const struct operation *op = &sum->operation[i];

		if (op->count == 0)
			continue;
		nr_text_add(text,
			    "%s\"%s\":{\"requests\":%" PRIu64 ",\"errors\":%" PRIu64
			    ",\"bytes\":%" PRIu64 ",\"latency_ns\":{\"sum\":%" PRIu64
			    ",\"p50\":%" PRIu64 ",\"p99\":%" PRIu64 ",\"p999\":%" PRIu64
			    ",\"max\":%" PRIu64 "},\"sizes\":[",
			    comma, nr_operation_names[i], op->count, op->errors, op->bytes,
			    op->nanoseconds, percentile(op, 500), percentile(op, 990),
			    percentile(op, 999), op->longest);
		add_json_sizes(text, op);
		nr_text_add(text, "]}");
		comma = ",";
	}
	nr_text_add(text, "}");
	figures_json(text, layer);
	nr_text_add(text, "}\n");
}

static void stats_close(struct nr_layer *layer)
{
	struct stats *stats = layer->instance;
	uint64_t elapsed = nr_precise_now() - stats->opened;
	struct counters *sum = &stats->worker[0];
	struct nr_text text = { 0 };
	int err = 0;

	for (unsigned w = 1; w < layer->worker_count; w++)
		for (unsigned i = 0; i < NR_OPERATION_COUNT; i++)
			add_up(&sum->operation[i], &stats->worker[w].operation[i]);
	if (stats->format == JSON)
		add_json(&text, layer, sum, elapsed);
	else
		add_text(&text, layer, sum, elapsed);
	err = text.failed ? -ENOMEM : nr_output_write(stats->fd, text.data, text.used);
	if (err)
		nr_layer_log(layer, NR_LAYER_ERROR, "%s: %s", stats->file, strerror(-err));
	nr_text_free(&text);
	close(stats->fd);
	munmap(stats->worker, layer->worker_count * sizeof(struct counters));
}

const struct nr_layer_type nr_stats_type = {
	.abi = NR_LAYER_ABI,
	.name = "stats",
	.summary = "writes counts, latencies and sizes of requests to a file",
	.kind = NR_FILTER,
	.placement = NR_SPREAD,
	.params = stats_params,
	.instance_size = sizeof(struct stats),
	.request_size = sizeof(struct state),
	.open = stats_open,
	.submit = stats_submit,
	.done = stats_done,
	.contexts_pass = true,
	.data_passes = true,
	.close = stats_close,
};
