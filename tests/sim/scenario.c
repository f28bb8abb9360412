/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * One run.  See scenario.h.
 *
 * The scheduler is sim_step: either a shard that has something to do makes a turn, or
 * the next event happens; which, chance decides.  Shards are driven through
 * nr_shard_turn, which is all that their threads do in the product.
 */
#undef NDEBUG
#include "tests/sim/scenario.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "nbdring/checked.h"
#include "src/server/connection.h"
#include "src/server/server-internal.h"

#define PATIENCE (300 * SIM_SECOND)   /* something happens for the clients by then, … */
#define ENDING_MAX (400 * SIM_SECOND) /* … the server has ended, or become idle */
#define CLEAN_EVERY 256u              /* steps */
#define WORKERS_MAX 4u
#define DELAY_MAX (20 * SIM_MILLISECOND)

/* ---- scheduling -------------------------------------------------------- */

static bool has_work(struct nr_shard *shard)
{
	return !shard->ended &&
	       (shard->active || shard->worker.ready || sim_ring_has_work(shard->ring));
}

static void tell_model(struct sim_run *run, struct sim_model *model)
{
	uint64_t oldest = sim_model_now(model);

	for (unsigned i = 0; i < run->client_count; i++)
		if (run->client[i]->model == model)
			oldest = nr_min(oldest, sim_client_oldest_read(run->client[i]));
	sim_model_forget(model, oldest);
}

static void step(struct sim_run *run)
{
	struct nr_shard *ready[WORKERS_MAX];
	unsigned count = 0;

	assert(run->exports > 0);
	if (run->steps++ % CLEAN_EVERY == 0)
		tell_model(run, run->model[run->steps / CLEAN_EVERY % run->exports]);
	for (unsigned i = 0; run->server && i < run->workers; i++) {
		struct nr_shard *shard = nr_server_shard(run->server, i);

		if (has_work(shard))
			ready[count++] = shard;
	}
	/* A worker may have to wait for a CPU, but not for long. */
	if (count && (sim_next_in() > DELAY_MAX || !sim_one_in(4))) {
		struct nr_shard *shard = ready[sim_below(count)];

		sim_note("turn", shard->worker.index, 0);
		nr_shard_turn(shard);
	} else if (!sim_fire_next() && !count) {
		sim_fail("nothing will ever happen any more");
	}
}

/* ---- servers ----------------------------------------------------------- */

static void begin_server(struct sim_run *run, uint64_t slots)
{
	struct nr_server_config config = { .plan = &run->plan,
					   .handshake = { .flags_mask = 0xffff },
					   .workers = run->workers };
	struct nr_error error = { 0 };

	sim_arena_bytes = run->arena_bytes;
	if (nr_server_create(&run->server, &config, &error))
		sim_fail("the server does not start: %s", error.text);
	for (unsigned i = 0; i < run->workers; i++) {
		struct nr_shard *shard = nr_server_shard(run->server, i);

		sim_ring_is_driven(shard->ring);
		shard->worker.slots_max = slots;
	}
	run->listener = sim_listener_new();
	if (nr_server_listen(run->server, run->listener, "simulated", &error))
		sim_fail("the server does not listen: %s", error.text);
	nr_server_accept(run->server);
	run->stopping = false;
}

static bool all_ended(const struct sim_run *run)
{
	for (unsigned i = 0; i < run->workers; i++)
		if (!nr_server_shard(run->server, i)->ended)
			return false;
	return true;
}

/* Of what clients made the server hold, nothing is left. */
static bool is_empty(const struct nr_shard *shard)
{
	return !shard->connections && !shard->memory_used && !shard->worker.slots_used &&
	       nr_arena_used(shard->arena) == 0;
}

static void check_empty(const struct sim_run *run, const char *when)
{
	for (unsigned i = 0; i < run->workers; i++) {
		const struct nr_shard *shard = nr_server_shard(run->server, i);

		if (!is_empty(shard))
			sim_fail("%s shard %u holds %s, %" PRIu64 " charged bytes, %" PRIu64
				 " requests, %zu bytes of its arena",
				 when, i, shard->connections ? "connections" : "no connection",
				 shard->memory_used, shard->worker.slots_used,
				 nr_arena_used(shard->arena));
	}
}

static bool all_empty(const struct sim_run *run)
{
	for (unsigned i = 0; i < run->workers; i++)
		if (!is_empty(nr_server_shard(run->server, i)))
			return false;
	return true;
}

static void end_server(struct sim_run *run)
{
	uint64_t until = sim_now() + ENDING_MAX;
	int error;

	run->stopping = true;
	sim_note("stop", 0, 0);
	nr_server_stop(run->server);
	while (!all_ended(run)) {
		step(run);
		if (sim_now() > until)
			sim_fail("the server does not end");
	}
	check_empty(run, "at the end");
	error = nr_server_wait(run->server);
	if (error && !run->faulty)
		sim_fail("the last flush failed with %d", error);
	nr_server_destroy(run->server);
	run->server = NULL;
	if (sim_fd_count())
		sim_fail("the server has left %u descriptors open", sim_fd_count());
	/* Whether everything was flushed is known by the error alone. */
	for (unsigned i = 0; error && i < run->exports; i++)
		sim_model_give_up(run->model[i]);
	/* Layers with files do not keep in them then what may not be there. */
	if (error && run->shape->has_files)
		run->ending = SIM_ENDS_RESTART;
	for (unsigned i = 0; run->ending == SIM_ENDS_RESTART && i < run->exports; i++)
		sim_model_cut(run->model[i], error == 0);
}

/* ---- clients ----------------------------------------------------------- */

static struct sim_client *new_client(struct sim_run *run, unsigned export)
{
	static char names[SIM_DISKS_MAX][8];
	struct sim_client *c = sim_client_new();

	assert(run->client_count < SIM_CLIENTS_MAX);
	if (run->exports > 1) {
		snprintf(names[export], sizeof(names[export]), SIM_DISK_NAME, export);
		c->export = names[export];
	}
	c->model = run->model[export];
	c->group = run->client_count;
	c->listener = run->listener;
	c->stopping = &run->stopping;
	c->faulty = run->faulty;
	c->scarce = run->scarce;
	/* Layers that copy use twice as much. */
	c->tight = run->arena_bytes < SIM_ARENA_AMPLE || run->shape->has_files;
	c->refusable = run->exclusive;
	run->client[run->client_count++] = c;
	return c;
}

static void free_clients(struct sim_run *run)
{
	for (unsigned i = 0; i < run->client_count; i++) {
		sim_client_abandon(run->client[i]);
		sim_client_free(run->client[i]);
	}
	run->client_count = 0;
}

/* It has nothing more to do, even if it is still there. */
static bool is_done(const struct sim_client *c)
{
	return sim_client_is_over(c) ||
	       (c->habits.leaving == SIM_STAYS && c->state == SIM_CLIENT_SERVING &&
		!c->outstanding && !c->habits.requests);
}

static bool all_done(const struct sim_run *run)
{
	for (unsigned i = 0; i < run->client_count; i++)
		if (!is_done(run->client[i]))
			return false;
	return true;
}

static uint64_t progress(const struct sim_run *run)
{
	uint64_t sum = sim_requests_answered;

	for (unsigned i = 0; i < run->client_count; i++)
		sum += run->client[i]->sent + run->client[i]->received;
	return sum;
}

static void serve_until(struct sim_run *run, uint64_t until)
{
	uint64_t limit = sim_now() + PATIENCE, so_far = progress(run);

	while (!all_done(run) && sim_now() < until) {
		step(run);
		if (sim_now() < limit)
			continue;
		if (progress(run) == so_far)
			sim_fail("clients wait for their answers for ever");
		so_far = progress(run);
		limit = sim_now() + PATIENCE;
	}
}

/* All but those that stay have gone: does the server hold anything for them? */
static void wait_until_empty(struct sim_run *run)
{
	uint64_t until = sim_now() + ENDING_MAX;

	for (unsigned i = 0; i < run->client_count; i++)
		sim_client_abandon(run->client[i]);
	while (!all_empty(run)) {
		if (sim_now() > until)
			check_empty(run, "long after the last client");
		step(run);
	}
}

/* The disk is read as a whole and compared with what must be there. */
static void check_disk(struct sim_run *run, unsigned export)
{
	struct sim_client *c = new_client(run, export);
	bool faulty = run->faulty;

	memset(&sim_faults, 0, sizeof(sim_faults));
	run->faulty = c->faulty = c->scarce = false;
	c->habits = (struct sim_habits){ .style = (enum sim_style)sim_below(3),
					 .leaving = SIM_GOODBYE,
					 .depth = 4,
					 .grain = 512,
					 .longest = sim_one_in(2) ? 65536 : run->longest,
					 .checker = true };
	sim_client_begin(c, 1);
	serve_until(run, UINT64_MAX);
	if (c->checked != c->size || c->size == 0)
		sim_fail("of the disk %" PRIu64 " bytes could be read", c->checked);
	run->faulty = faulty;
}

/* ---- rounds ------------------------------------------------------------ */

static void begin_clients(struct sim_run *run)
{
	for (unsigned i = 0; i < run->clients; i++) {
		struct sim_client *c = new_client(run, (unsigned)sim_below(run->exports));

		sim_choose_habits(run, &c->habits);
		sim_client_begin(c, sim_magnitude(10, sim_one_in(4) ? 29 : 20));
	}
}

static void end_without_power(struct sim_run *run)
{
	for (unsigned i = 0; i < run->exports; i++)
		sim_model_cut(run->model[i], false);
	for (unsigned i = 0; i < run->client_count; i++)
		sim_client_abandon(run->client[i]);
	memset(&sim_faults, 0, sizeof(sim_faults));
	end_server(run);
}

/* No server runs. */
static void check_files(struct sim_run *run)
{
	if (run->shape->check)
		run->shape->check(run);
}

/* A server is started, and the power goes while it opens its files, or closes them. */
static void begin_in_vain(struct sim_run *run)
{
	run->ending = SIM_ENDS_IDLE;
	if (!run->shape->has_files)
		return;
	memset(&sim_faults, 0, sizeof(sim_faults));
	while (sim_one_in(4)) {
		sim_files_cut_after((unsigned)sim_between(1, 8));
		begin_server(run, UINT64_MAX);
		end_server(run);
		sim_files_cut();
		sim_files_restore();
		check_files(run);
	}
}

/* What is left after the power went, or might have gone, are the disks from now on. */
static void lose_power(struct sim_run *run)
{
	sim_files_cut();
	if (run->ending == SIM_ENDS_POWER)
		end_without_power(run);
	free_clients(run);
	sim_files_restore();
	check_files(run);
	/*
	 * Legs may differ now in what nobody made stable.  If the one that is read from fails
	 * before the others have a copy, it is what they have that counts.
	 */
	if (run->legs)
		run->faults.disk_error = run->faults.no_space = run->faults.flush_error = 0;
	begin_in_vain(run);
	begin_server(run, UINT64_MAX);
	for (unsigned i = 0; i < run->exports; i++)
		check_disk(run, i);
	wait_until_empty(run);
	end_server(run);
	free_clients(run);
}

/* Files that layers keep are there when the server starts: else it does not start. */
static void begin_round(struct sim_run *run)
{
	sim_faults = run->faults;
	if (run->shape->has_files)
		sim_faults.disk_error = sim_faults.no_space = sim_faults.flush_error = 0;
	begin_server(run, run->slots);
	sim_faults = run->faults;
	begin_clients(run);
}

static void serve_round(struct sim_run *run)
{
	uint64_t until = UINT64_MAX;

	run->ending = sim_choose_ending(run);
	sim_note("round", run->ending, 0);
	begin_round(run);
	if (run->ending != SIM_ENDS_IDLE)
		until = sim_now() + sim_magnitude(16, 28);
	serve_until(run, until);
	if (run->ending == SIM_ENDS_IDLE)
		wait_until_empty(run);
	/* The power may go while the server closes its files. */
	if (run->ending == SIM_ENDS_RESTART && run->shape->has_files && sim_one_in(2))
		sim_files_cut_after((unsigned)sim_between(1, 8));
	if (run->ending != SIM_ENDS_POWER)
		end_server(run);
	if (run->ending == SIM_ENDS_POWER || run->ending == SIM_ENDS_RESTART)
		lose_power(run);
	free_clients(run);
	check_files(run);
}

static void begin_models(struct sim_run *run)
{
	for (unsigned i = 0; i < run->exports; i++)
		if (!run->model[i])
			run->model[i] = sim_model_new(run->size);
	if (run->preloaded && !run->loaded)
		sim_preload(run);
	run->loaded = true;
}

static void free_models(struct sim_run *run)
{
	for (unsigned i = 0; i < run->exports; i++) {
		sim_model_free(run->model[i]);
		run->model[i] = NULL;
	}
}

uint64_t sim_run_seed(uint64_t seed)
{
	struct sim_run *run = sim_alloc(sizeof(*run));
	uint64_t hash;

	sim_world_begin(seed);
	sim_sockets_begin();
	sim_disks_begin();
	sim_choose_run(run);
	for (unsigned i = 0; i < run->rounds; i++) {
		begin_models(run);
		if (i == 0)
			begin_in_vain(run);
		serve_round(run);
		if (!run->has_disk)
			free_models(run); /* the memory went with the server */
	}
	if (run->has_disk)
		free_models(run);
	sim_files_end();
	hash = sim_hash();
	sim_world_end();
	free(run);
	return hash;
}
