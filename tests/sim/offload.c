/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * In place of ring/offload.c and of liburcu's thread: what other threads do for the
 * server is done as events, at moments that chance decides, one at a time.
 *
 * A job runs from its beginning to its end without anything else of the server
 * happening, but for what it waits for itself (a layer that reads while it is
 * opened).  So two jobs never meet half-way; the locks that jobs take are free.
 *
 * A grace period of RCU is over when the event fires, as readers do not sleep.
 */
#undef NDEBUG
#include <assert.h>
#include <stdlib.h>
#include <urcu/urcu-bp.h>

#include "ring/offload.h"
#include "tests/sim/world.h"

struct nr_offload {
	struct errand *errands;
};

struct errand {
	struct sim_event event;
	struct errand *next, **link;
	struct nr_job *job;
};

struct burial {
	struct sim_event event;
	struct burial *next, **link;
	struct rcu_head *head;
	void (*bury)(struct rcu_head *head);
};

static bool running; /* a job is */
static struct burial *burials;

/* ---- jobs -------------------------------------------------------------- */

static void deliver(struct nr_ring *ring, struct nr_message *message)
{
	struct nr_job *job = (struct nr_job *)((char *)message - offsetof(struct nr_job, message));

	(void)ring;
	job->done(job);
}

static void run(struct errand *errand)
{
	struct nr_job *job = errand->job;
	struct nr_ring *home = job->home;

	*errand->link = errand->next;
	if (errand->next)
		errand->next->link = errand->link;
	sim_unschedule(&errand->event);
	free(errand);
	running = true;
	job->run(job);
	running = false;
	if (!home)
		return;
	job->message.deliver = deliver;
	nr_ring_post(home, &job->message);
}

static void fire(struct sim_event *event)
{
	if (running) /* inside what the other job waits for */
		sim_schedule(event, sim_magnitude(12, 16));
	else
		run((struct errand *)event);
}

struct nr_offload *nr_offload_create(unsigned threads)
{
	(void)threads;
	return sim_alloc(sizeof(struct nr_offload));
}

void nr_offload_destroy(struct nr_offload *pool)
{
	if (!pool)
		return;
	while (pool->errands)
		run(pool->errands);
	free(pool);
}

void nr_offload_submit(struct nr_offload *pool, struct nr_job *job)
{
	struct errand *errand = sim_alloc(sizeof(*errand));

	errand->event.fire = fire;
	errand->event.name = "job";
	errand->job = job;
	errand->next = pool->errands;
	errand->link = &pool->errands;
	if (errand->next)
		errand->next->link = &errand->next;
	pool->errands = errand;
	sim_schedule(&errand->event, sim_one_in(sim_faults.stall) ? sim_between(1, 90) * SIM_SECOND
								  : sim_magnitude(13, 24));
}

/* ---- grace periods ----------------------------------------------------- */

static void bury(struct burial *burial)
{
	struct rcu_head *head = burial->head;
	void (*function)(struct rcu_head *) = burial->bury;

	*burial->link = burial->next;
	if (burial->next)
		burial->next->link = burial->link;
	sim_unschedule(&burial->event);
	free(burial);
	function(head);
}

static void grace_is_over(struct sim_event *event)
{
	bury((struct burial *)event);
}

void __wrap_urcu_bp_call_rcu(struct rcu_head *head, void (*function)(struct rcu_head *head));
void __wrap_urcu_bp_call_rcu(struct rcu_head *head, void (*function)(struct rcu_head *head))
{
	struct burial *burial = sim_alloc(sizeof(*burial));

	burial->event.fire = grace_is_over;
	burial->event.name = "burial";
	burial->head = head;
	burial->bury = function;
	burial->next = burials;
	burial->link = &burials;
	if (burial->next)
		burial->next->link = &burial->next;
	burials = burial;
	sim_schedule(&burial->event, sim_magnitude(14, 24));
}

void __wrap_nr_memory_barrier(void);
void __wrap_nr_memory_barrier(void)
{
	while (burials)
		bury(burials);
}

void __wrap_nr_memory_prepare(void);
void __wrap_nr_memory_prepare(void)
{
}
