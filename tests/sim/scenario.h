/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * One run: a server made of the product's own code, in a world that a seed decides.
 *
 *   setup.c      what the seed chooses: disk, stack, faults, clients, how it ends
 *   shapes.c     what there is below the filters: a disk, or what is made of several
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
#include "tests/sim/files.h"

#define SIM_CLIENTS_MAX 24u
#define SIM_LAYERS_MAX 7u
#define SIM_SETTINGS_MAX 10u
#define SIM_TEXTS_MAX 8u
#define SIM_ARENA_AMPLE ((size_t)64 << 20)

enum sim_ending {
	SIM_ENDS_IDLE,    /* when the clients have ended */
	SIM_ENDS_BUSY,    /* in the middle, in order */
	SIM_ENDS_RESTART, /* in order, and what was not flushed by then is gone */
	SIM_ENDS_POWER,   /* by a power cut in the middle */
};

struct sim_layer_choice {
	const struct nr_layer_type *type;
	struct nr_setting setting[SIM_SETTINGS_MAX];
	unsigned settings;
};

struct sim_run;

/* What lies below the filters that any world may have. */
struct sim_shape {
	const char *name;
	unsigned weight; /* how often it is chosen, of all the weights */
	void (*add_disks)(struct sim_run *run);
	void (*set_layers)(struct sim_run *run);
	/* Between two servers: is what lies on the disks as it has to be?  May be NULL. */
	void (*check)(struct sim_run *run);
	bool has_files; /* layers keep files of their own */
};

struct sim_run {
	/* From the seed. */
	unsigned workers, clients, rounds;
	uint64_t size;
	bool has_disk;    /* backend file; else memory */
	unsigned legs;    /* disks that one export is made of; 0: it is one disk */
	unsigned parts;   /* the same, of which each holds a part */
	bool same_legs;   /* they hold the same in the beginning */
	unsigned exports; /* over 1: a folder of disks, opened and closed as clients come */
	bool faulty, exclusive;
	bool scarce; /* of memory: filters that need some of their own may get none */
	struct sim_faults faults;
	struct nr_plan_layer layer[SIM_LAYERS_MAX];
	struct nr_setting setting[SIM_LAYERS_MAX][SIM_SETTINGS_MAX];
	char text[SIM_TEXTS_MAX][160]; /* of settings */
	unsigned texts;
	const struct sim_shape *shape;
	bool preloaded; /* the disks hold something in the beginning, which the model knows … */
	bool loaded;    /* … by now */
	struct nr_plan plan;
	size_t arena_bytes;
	uint64_t longest; /* request, bytes */
	uint64_t slots;   /* requests that a worker has memory for */

	/* The round. */
	enum sim_ending ending;
	struct sim_model *model[SIM_DISKS_MAX];
	struct nr_server *server;
	int listener;
	bool stopping;
	struct sim_client *client[SIM_CLIENTS_MAX];
	unsigned client_count;
	uint64_t steps;
};

/* shapes.c */
const struct sim_shape *sim_choose_shape(void);
/* All worlds have the shape NAME from now on; false: there is none of that name. */
bool sim_want_shape(const char *name);
void sim_preload(struct sim_run *run);

/* setup.c, for shapes.c: layer I of the plan, 0 is the backend. */
void sim_set_layer(struct sim_run *run, size_t i, const struct nr_layer_type *type,
		   const struct nr_setting *settings, unsigned count);
/* Room for the value of a setting. */
const char *sim_text(struct sim_run *run, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
/* The backend `file`, or `memory`. */
void sim_set_disk(struct sim_run *run);

/* setup.c */
void sim_choose_run(struct sim_run *run);
enum sim_ending sim_choose_ending(const struct sim_run *run);
void sim_choose_habits(const struct sim_run *run, struct sim_habits *habits);

/* Memory of the rings' arenas from now on. */
extern size_t sim_arena_bytes;

/* scenario.c: one whole run; its trace hash.  Findings end the process. */
uint64_t sim_run_seed(uint64_t seed);

#endif
