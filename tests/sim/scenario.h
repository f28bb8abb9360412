/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * One run: a server made of the product's own code, in a world that a seed decides.
 *
 *   setup.c      what the seed chooses: disk, stack, faults, clients, how it ends
 *   scenario.c   the run: driving the shards, ending, cutting the power, checking
 *
 * A run has rounds.  In each a server serves clients and ends: in order, in the middle
 * of the work, or by a power cut.  After a power cut, and after an end in order that
 * is followed by one, the next round begins with a client that reads the whole disk
 * and compares it with what must be there.
 */
#ifndef TESTS_SIM_SCENARIO_H
#define TESTS_SIM_SCENARIO_H

#include "src/server/server.h"
#include "src/stack/stack.h"
#include "tests/sim/client.h"
#include "tests/sim/disk.h"

#define SIM_CLIENTS_MAX 24u
#define SIM_LAYERS_MAX 6u
#define SIM_ARENA_AMPLE ((size_t)64 << 20)

enum sim_ending {
	SIM_ENDS_IDLE,    /* when the clients have ended */
	SIM_ENDS_BUSY,    /* in the middle, in order */
	SIM_ENDS_RESTART, /* in order, and what was not flushed by then is gone */
	SIM_ENDS_POWER,   /* by a power cut in the middle */
};

struct sim_layer_choice {
	const struct nr_layer_type *type;
	struct nr_setting setting[3];
	unsigned settings;
};

struct sim_run {
	/* From the seed. */
	unsigned workers, clients, rounds;
	uint64_t size;
	bool has_disk;    /* backend file; else memory */
	unsigned exports; /* over 1: a folder of disks, opened and closed as clients come */
	bool faulty, exclusive;
	bool scarce; /* of memory: filters that need some of their own may get none */
	struct sim_faults faults;
	struct nr_plan_layer layer[SIM_LAYERS_MAX];
	struct nr_setting setting[SIM_LAYERS_MAX][3];
	char text[4][64]; /* of settings */
	struct nr_plan plan;
	size_t arena_bytes;
	uint64_t longest; /* request, bytes */
	uint64_t slots;   /* requests that a worker has memory for */

	/* The round. */
	enum sim_ending ending;
	struct sim_disk *disk[SIM_DISKS_MAX];
	struct sim_model *model[SIM_DISKS_MAX];
	struct nr_server *server;
	int listener;
	bool stopping;
	struct sim_client *client[SIM_CLIENTS_MAX];
	unsigned client_count;
	uint64_t steps;
};

/* setup.c */
void sim_choose_run(struct sim_run *run);
enum sim_ending sim_choose_ending(const struct sim_run *run);
void sim_choose_habits(const struct sim_run *run, struct sim_habits *habits);

/* Memory of the rings' arenas from now on. */
extern size_t sim_arena_bytes;

/* scenario.c: one whole run; its trace hash.  Findings end the process. */
uint64_t sim_run_seed(uint64_t seed);

#endif
