/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * sim-server: the server in simulated worlds, one per seed.
 *
 *   sim-server --seeds N [--first S]    N worlds, from seed S (1) on
 *   sim-server --minutes M [--first S]  as many as there is time for
 *   sim-server --seed X [--trace]       one world, to see what happened
 *   sim-server --file F                 the seeds in F, one a line behind their shape
 *   sim-server --twice ...              each world twice: is the replay exact?
 *   sim-server --shape NAME ...         only worlds of that kind (shapes.c)
 *
 * Exit status 0: nothing was found.  A finding prints its seed and ends the program.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>

#include "src/log/log.h"
#include "tests/sim/canary.h"
#include "tests/sim/scenario.h"

struct options {
	uint64_t first, seeds, seed, minutes;
	const char *file, *canary;
	bool one, twice;
};

struct tally {
	uint64_t seeds, hash;
	uint64_t begun; /* microseconds */
};

/* The real clock: clock_gettime is the world's. */
static uint64_t real_us(void)
{
	struct timeval now;

	(void)gettimeofday(&now, NULL);
	return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_usec;
}

static int usage(void)
{
	fprintf(stderr, "usage: sim-server [--seeds N | --minutes M | --seed X | --file F] "
			"[--first S] [--shape NAME] [--twice] [--trace]\n");
	return 2;
}

static bool number(const char *text, uint64_t *value)
{
	char *end;

	*value = strtoull(text, &end, 0);
	return *text && !*end;
}

static bool take_option(struct options *o, const char *name, const char *value, bool *used)
{
	*used = false;
	if (strcmp(name, "--trace") == 0) {
		sim_tracing = true;
		return true;
	}
	if (strcmp(name, "--twice") == 0) {
		o->twice = true;
		return true;
	}
	*used = true;
	if (!value)
		return false;
	if (strcmp(name, "--seeds") == 0)
		return number(value, &o->seeds);
	if (strcmp(name, "--first") == 0)
		return number(value, &o->first);
	if (strcmp(name, "--minutes") == 0)
		return number(value, &o->minutes);
	if (strcmp(name, "--seed") == 0) {
		o->one = true;
		return number(value, &o->seed);
	}
	if (strcmp(name, "--file") == 0) {
		o->file = value;
		return true;
	}
	if (strcmp(name, "--shape") == 0)
		return sim_want_shape(value);
	if (strcmp(name, "--canary") == 0)
		return sim_canary_choose(value);
	return false;
}

static void run(struct tally *tally, uint64_t seed, bool twice)
{
	uint64_t hash = sim_run_seed(seed);

	tally->seeds++;
	tally->hash = hash;
	if (twice && sim_run_seed(seed) != hash)
		sim_fail("the second run of this seed was another one");
}

static int run_file(struct tally *tally, const char *path, bool twice)
{
	FILE *file = fopen(path, "r");
	char line[256];

	if (!file) {
		perror(path);
		return 2;
	}
	while (fgets(line, sizeof(line), file)) {
		char shape[32];
		uint64_t seed;

		if (sscanf(line, "%31[a-z] %" SCNu64, shape, &seed) == 2) {
			if (!sim_want_shape(shape))
				sim_fail("%s: there is no shape '%s'", path, shape);
			run(tally, seed, twice);
		}
	}
	(void)fclose(file);
	return 0;
}

static void run_many(struct tally *tally, const struct options *o)
{
	uint64_t until = tally->begun + o->minutes * 60000000;

	for (uint64_t i = 0; o->minutes ? real_us() < until : i < o->seeds; i++)
		run(tally, o->first + i, o->twice);
}

static void print_figures(const struct tally *tally)
{
	uint64_t us = real_us() - tally->begun;

	printf("sim: %" PRIu64 " seeds, %" PRIu64 " requests, %" PRIu64
	       " operations of the ring in %" PRIu64 ".%03" PRIu64 " s: %" PRIu64
	       " requests a second on one core; last hash %016" PRIx64 "\n",
	       tally->seeds, sim_requests_answered, sim_operations, us / 1000000, us / 1000 % 1000,
	       us ? sim_requests_answered * 1000000 / us : 0, tally->hash);
}

int main(int argc, char **argv)
{
	struct options o = { .first = 1, .seeds = 100 };
	struct tally tally = { .begun = real_us() };
	int result = 0;

	for (int i = 1; i < argc; i++) {
		bool used;

		if (!take_option(&o, argv[i], i + 1 < argc ? argv[i + 1] : NULL, &used))
			return usage();
		i += used;
	}
	sim_report.command = argv[0];
	sim_catch_aborts();
	(void)nr_log_open(sim_tracing ? "stderr" : "null", sim_tracing);
	if (o.file)
		result = run_file(&tally, o.file, o.twice);
	else if (o.one)
		run(&tally, o.seed, o.twice);
	else
		run_many(&tally, &o);
	print_figures(&tally);
	/* A planted bug that nobody saw. */
	if (sim_report.wanted) {
		fprintf(stderr, "sim: the planted bug was not found\n");
		return 1;
	}
	return result;
}
