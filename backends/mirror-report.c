/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What a mirror tells the person who runs it, in a file, and the file by which that person
 * asks for a scrub.
 *
 * Both are looked after at ticks, on a thread that may block, by a job that
 * belongs to a background request.  The text is made on the worker, in memory that the job
 * has to itself while it is under way; it replaces the file as a whole.
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "backends/mirror.h"

#define TEXT_MAX 8192u

struct nr_mirror_report {
	struct nr_job job;
	struct nr_mirror *mirror;
	struct nr_mirror_op *op; /* of the job under way */
	char *beside;            /* where the text is put before it takes the file's place */
	char text[TEXT_MAX], written[TEXT_MAX];
	bool found; /* the scrub file */
	int error;
};

static const char *state_of(const struct nr_mirror_leg *leg)
{
	static const char *const states[] = {
		[NR_LEG_IN] = "in",
		[NR_LEG_OUT] = "out",
		[NR_LEG_BACK] = "back",
	};

	return nr_mirror_absent(leg) ? "absent" : states[leg->state];
}

void nr_mirror_count(struct nr_mirror *m)
{
	struct nr_mirror_figures *f = &m->figures;
	uint64_t states[NR_LEG_BACK + 1] = { 0 }, absent = 0, reread = 0;

	for (unsigned i = 0; i < m->legs.count; i++) {
		const struct nr_mirror_leg *leg = &m->leg[i];

		if (nr_mirror_absent(leg))
			absent++;
		else
			states[leg->state]++;
		reread += leg->repaired;
	}
	nr_count_set(&f->legs_in, states[NR_LEG_IN]);
	nr_count_set(&f->legs_back, states[NR_LEG_BACK]);
	nr_count_set(&f->legs_out, states[NR_LEG_OUT]);
	nr_count_set(&f->legs_absent, absent);
	nr_count_set(&f->stale, nr_mirror_stale_total(m));
	nr_count_set(&f->intended, m->intent.count);
	nr_count_set(&f->copied_bytes, m->synced_bytes);
	nr_count_set(&f->copied_regions, m->synced_regions);
	nr_count_set(&f->reread, reread);
	nr_count_set(&f->scrubs, m->scrub.runs);
	nr_count_set(&f->differences, m->scrub.differences);
	nr_count_set(&f->undecided, m->scrub.undecided);
}

static void make_text(struct nr_mirror *m, char *text)
{
	int used = snprintf(text, TEXT_MAX,
			    "{\"size\": %" PRIu64 ", \"region\": %" PRIu64 ", \"regions\": %" PRIu64
			    ",\n \"intended\": %" PRIu64 ", \"copied_bytes\": %" PRIu64
			    ", \"copied_regions\": %" PRIu64 ",\n \"scrub\": {\"active\": %s, "
			    "\"at\": %" PRIu64 ", \"completed\": %" PRIu64
			    ", \"differences\": %" PRIu64 ", \"undecided\": %" PRIu64
			    "},\n \"legs\": [",
			    m->size, m->region, m->regions, m->intent.count, m->synced_bytes,
			    m->synced_regions, m->scrub.active ? "true" : "false", m->scrub.next,
			    m->scrub.runs, m->scrub.differences, m->scrub.undecided);

	for (unsigned i = 0; i < m->legs.count; i++)
		used += snprintf(text + used, TEXT_MAX - (size_t)used,
				 "%s\n  {\"leg\": %u, \"state\": \"%s\", \"stale\": %" PRIu64
				 ", \"reread\": %" PRIu64 "}",
				 i ? "," : "", i + 1, state_of(&m->leg[i]), m->leg[i].stale_count,
				 m->leg[i].repaired);
	/* Sixteen legs of less than 200 bytes. */
	assert((size_t)used + 8 < TEXT_MAX);
	(void)snprintf(text + used, TEXT_MAX - (size_t)used, "]}\n");
}

static int replace_file(const struct nr_mirror_report *report)
{
	size_t length = strlen(report->text);
	int fd = open(report->beside, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	int err = 0;

	if (fd < 0)
		return -errno;
	if (write(fd, report->text, length) != (ssize_t)length)
		err = -EIO;
	(void)close(fd);
	if (!err && rename(report->beside, report->mirror->status_path) != 0)
		err = -errno;
	if (err)
		(void)unlink(report->beside);
	return err;
}

/* On a thread that may block. */
static void run(struct nr_job *job)
{
	struct nr_mirror_report *report = (struct nr_mirror_report *)job;
	const struct nr_mirror *m = report->mirror;

	report->error = 0;
	report->found = m->scrub_path && unlink(m->scrub_path) == 0;
	if (m->status_path && strcmp(report->text, report->written) != 0)
		report->error = replace_file(report);
}

static void adopt(struct nr_mirror_report *report)
{
	struct nr_mirror *m = report->mirror;

	if (report->error)
		nr_layer_log(m->layer, NR_LAYER_WARNING, "status %s: %s", m->status_path,
			     strerror(-report->error));
	/* Also if it failed: that is not tried again until there is something else to say. */
	memcpy(report->written, report->text, sizeof(report->written));
	if (report->found)
		m->scrub.wanted = true;
}

static void done(struct nr_job *job)
{
	struct nr_mirror_report *report = (struct nr_mirror_report *)job;
	struct nr_mirror_op *op = report->op;

	adopt(report);
	report->op = NULL;
	nr_child_release(op->req);
}

void nr_mirror_report_tick(struct nr_mirror *m, struct nr_worker *worker)
{
	struct nr_mirror_report *report = m->report;

	nr_mirror_count(m);
	if (!report || report->op || !nr_worker_ring(worker))
		return;
	make_text(m, report->text);
	if (!(m->scrub_path && m->tick % NR_MIRROR_TICKS_PER_S == 0) &&
	    strcmp(report->text, report->written) == 0)
		return;
	report->op = nr_mirror_background(m, worker, NR_JOB_REPORT);
	if (!report->op)
		return;
	report->job.run = run;
	report->job.done = done;
	report->job.home = nr_worker_ring(worker);
	nr_blocking_submit(&report->job);
}

int nr_mirror_report_open(struct nr_mirror *m, struct nr_error *error)
{
	struct nr_mirror_report *report;
	size_t length = m->status_path ? strlen(m->status_path) + sizeof(".new") : 1;
	int err;

	if (!m->status_path && !m->scrub_path)
		return 0;
	report = calloc(1, sizeof(*report));
	if (report)
		report->beside = malloc(length);
	if (!report || !report->beside) {
		free(report);
		return nr_error_system(error, -ENOMEM, "opening");
	}
	report->mirror = m;
	m->report = report;
	if (!m->status_path)
		return 0;
	(void)snprintf(report->beside, length, "%s.new", m->status_path);
	make_text(m, report->text);
	err = replace_file(report);
	if (err) {
		nr_error_system(error, err, "status %s", m->status_path);
		free(report->beside);
		free(report);
		m->report = NULL;
	}
	return err;
}

void nr_mirror_report_close(struct nr_mirror *m)
{
	struct nr_mirror_report *report = m->report;

	if (!report)
		return;
	assert(!report->op);
	if (m->status_path) {
		make_text(m, report->text);
		report->error = replace_file(report);
		report->found = false;
		adopt(report);
	}
	free(report->beside);
	free(report);
	m->report = NULL;
}
