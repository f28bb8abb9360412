/* SPDX-License-Identifier: BSD-3-Clause */
/* The legs of a mirror: their state, what is stale on them, and which one to read from. */
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "backends/mirror.h"
#include "nbdring/checked.h"

#define NS_PER_S UINT64_C(1000000000)
#define PROBE_PAUSE_MAX (60 * NS_PER_S)

/* ---- counting ---------------------------------------------------------- */

unsigned nr_mirror_in_count(const struct nr_mirror *m)
{
	unsigned count = 0;

	for (unsigned i = 0; i < m->legs.count; i++)
		count += m->leg[i].state == NR_LEG_IN;
	return count;
}

struct nr_mirror_leg *nr_mirror_source(struct nr_mirror *m)
{
	for (unsigned i = 0; i < m->legs.count; i++)
		if (m->leg[i].state == NR_LEG_IN)
			return &m->leg[i];
	assert(!"a leg is always in");
	return NULL;
}

bool nr_mirror_stale_anywhere(const struct nr_mirror *m, uint64_t region)
{
	for (unsigned i = 0; i < m->legs.count; i++)
		if (nr_bit(m->leg[i].stale, region))
			return true;
	return false;
}

uint64_t nr_mirror_stale_total(const struct nr_mirror *m)
{
	uint64_t total = 0;

	for (unsigned i = 0; i < m->legs.count; i++)
		total += m->leg[i].stale_count;
	return total;
}

/* ---- what is stale ----------------------------------------------------- */

static void mark_region(struct nr_mirror *m, struct nr_mirror_leg *leg, uint64_t region)
{
	/* A copy that is under way does not cover it. */
	for (unsigned i = 0; i < NR_MIRROR_SYNCS; i++)
		if (m->sync[i].region == region)
			m->sync[i].moved_on = true;
	if (nr_bit(leg->stale, region))
		return;
	leg->stale[region / 64] |= UINT64_C(1) << (region % 64);
	leg->stale_count++;
}

void nr_mirror_mark_stale(struct nr_mirror *m, struct nr_mirror_leg *leg, uint64_t offset,
			  uint64_t end)
{
	uint64_t last = nr_mirror_last_region(m, end);

	for (uint64_t r = nr_mirror_first_region(m, offset); r <= last; r++)
		mark_region(m, leg, r);
}

void nr_mirror_mark_intended_stale(struct nr_mirror *m, struct nr_mirror_leg *leg)
{
	uint64_t words = (m->regions + 63) / 64;

	leg->stale_count = 0;
	for (uint64_t i = 0; i < words; i++) {
		leg->stale[i] |= m->intent.bits[i];
		leg->stale_count += (unsigned)__builtin_popcountll(leg->stale[i]);
	}
	for (unsigned i = 0; i < NR_MIRROR_SYNCS; i++)
		m->sync[i].moved_on = true;
}

void nr_mirror_clear_stale(struct nr_mirror *m, struct nr_mirror_leg *leg, uint64_t region)
{
	if (!nr_bit(leg->stale, region))
		return;
	leg->stale[region / 64] &= ~(UINT64_C(1) << (region % 64));
	leg->stale_count--;
}

/* ---- coming and going -------------------------------------------------- */

bool nr_mirror_means_gone(int error)
{
	switch (-error) {
	case ENOTCONN:
	case ESHUTDOWN:
	case ECONNRESET:
	case ECONNREFUSED:
	case ECONNABORTED:
	case EPIPE:
	case ETIMEDOUT:
	case ENODEV:
	case ENXIO:
	case EHOSTUNREACH:
	case ENETUNREACH:
	case ENETDOWN:
		return true;
	default:
		return false;
	}
}

/*
 * What is stale on a leg that is IN may differ from other legs, but lacks nothing that was
 * acknowledged.  Where no leg that is IN is better, the source is as good as it gets.
 */
static void settle_source(struct nr_mirror *m)
{
	struct nr_mirror_leg *source = nr_mirror_source(m);
	uint64_t words = (m->regions + 63) / 64;

	if (source->stale_count == 0)
		return;
	for (uint64_t w = 0; w < words; w++) {
		uint64_t all = source->stale[w];

		for (unsigned i = 0; i < m->legs.count; i++)
			if (m->leg[i].state == NR_LEG_IN)
				all &= m->leg[i].stale[w];
		source->stale[w] &= ~all;
		source->stale_count -= (unsigned)__builtin_popcountll(all);
	}
}

void nr_mirror_wait_longer(struct nr_mirror_leg *leg)
{
	leg->probe_pause = nr_min(leg->probe_pause * 2, PROBE_PAUSE_MAX);
}

void nr_mirror_leg_out(struct nr_mirror *m, struct nr_mirror_leg *leg, const char *what, int error,
		       struct nr_worker *worker)
{
	if (leg->state == NR_LEG_OUT)
		return;
	assert(leg->state == NR_LEG_BACK || nr_mirror_in_count(m) > 1);
	/* One that was never whole again has failed once more: wait longer. */
	if (leg->state == NR_LEG_IN)
		leg->probe_pause = m->probe_s * NS_PER_S;
	else
		nr_mirror_wait_longer(leg);
	leg->state = NR_LEG_OUT;
	m->outs++;
	leg->probe_at = nr_now(worker) + leg->probe_pause;
	nr_mirror_mark_intended_stale(m, leg);
	settle_source(m);
	nr_intent_header_changed(m);
	nr_mirror_count(m);
	nr_layer_log(m->layer, NR_LAYER_ERROR, "leg %u is out: %s: %s; %u of %u legs are in",
		     leg->index + 1, what, strerror(-error), nr_mirror_in_count(m), m->legs.count);
}

void nr_mirror_leg_back(struct nr_mirror *m, struct nr_mirror_leg *leg)
{
	assert(leg->state == NR_LEG_OUT);
	leg->state = NR_LEG_BACK;
	nr_mirror_count(m);
	nr_layer_log(m->layer, NR_LAYER_INFO,
		     "leg %u is back: %" PRIu64 " of %" PRIu64 " regions are to be copied",
		     leg->index + 1, leg->stale_count, m->regions);
}

void nr_mirror_leg_in(struct nr_mirror *m, struct nr_mirror_leg *leg)
{
	assert(leg->state == NR_LEG_BACK);
	assert(leg->stale_count == 0);
	leg->state = NR_LEG_IN;
	nr_intent_header_changed(m);
	nr_mirror_count(m);
	nr_layer_log(m->layer, NR_LAYER_INFO, "leg %u is in again; %u of %u legs are",
		     leg->index + 1, nr_mirror_in_count(m), m->legs.count);
}

/* ---- reading ----------------------------------------------------------- */

/* Where what LEG has, from OFFSET on, ends; END at most. */
static uint64_t good_until(const struct nr_mirror *m, const struct nr_mirror_leg *leg,
			   uint64_t offset, uint64_t end)
{
	uint64_t last = nr_mirror_last_region(m, end);

	if (leg->stale_count == 0)
		return end;
	for (uint64_t r = nr_mirror_first_region(m, offset); r <= last; r++)
		if (nr_bit(leg->stale, r))
			return nr_max(offset, r << m->region_shift);
	return end;
}

/* Is A to be preferred to B? */
static bool is_better(const struct nr_mirror *m, const struct nr_mirror_leg *a,
		      const struct nr_mirror_leg *b, uint64_t offset)
{
	unsigned count = m->legs.count;

	if (a->load != b->load)
		return a->load < b->load;
	/* What reads on where it ended is served best from one place. */
	if ((a->read_end == offset) != (b->read_end == offset))
		return a->read_end == offset;
	return (a->index + count - m->next_read) % count <
	       (b->index + count - m->next_read) % count;
}

struct nr_mirror_leg *nr_mirror_choose(struct nr_mirror *m, uint64_t offset, uint64_t *end,
				       uint32_t tried)
{
	struct nr_mirror_leg *best = NULL;
	uint64_t best_end = offset;

	for (unsigned i = 0; i < m->legs.count; i++) {
		struct nr_mirror_leg *leg = &m->leg[i];
		uint64_t until;

		if (!nr_mirror_up(leg) || tried & 1u << i)
			continue;
		until = good_until(m, leg, offset, *end);
		if (until == offset || until < best_end)
			continue;
		if (best && until == best_end && !is_better(m, leg, best, offset))
			continue;
		best = leg;
		best_end = until;
	}
	if (!best)
		return NULL;
	*end = best_end;
	best->read_end = best_end;
	m->next_read = (best->index + 1) % m->legs.count;
	return best;
}

/* ---- children ---------------------------------------------------------- */

struct nr_request *nr_mirror_child(struct nr_mirror *m, struct nr_mirror_leg *leg,
				   struct nr_request *req, enum nr_operation operation,
				   uint64_t offset, uint64_t length)
{
	struct nr_request *child =
		nr_child_in(m->layer, leg->leg->stack, req, operation, offset, length);

	if (!child)
		return NULL;
	child->context = leg;
	/* Whether its client is still there must not make a difference between legs. */
	child->session = NULL;
	return child;
}

void nr_mirror_enter(struct nr_mirror_leg *leg, struct nr_request *child)
{
	leg->load++;
	nr_enter(leg->leg->stack, child);
}

struct nr_mirror_leg *nr_mirror_child_back(struct nr_mirror *m, struct nr_request *child)
{
	struct nr_mirror_leg *leg = child->context;

	assert(leg->load > 0);
	leg->load--;
	return leg;
}
