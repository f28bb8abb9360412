/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The model of a disk's contents.  See model.h.
 *
 * Each unit has what was there in the beginning, or was found after a power cut, and
 * a list of the writes since that its content may come from, oldest first.  Number 0
 * stands for zeroes.
 */
#undef NDEBUG
#include "tests/sim/model.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/world.h"

#define WORDS (SIM_UNIT / 8)
#define MARK UINT64_C(0x5eed0000)
#define ENDLESS UINT64_MAX
#define PRUNE 4u

struct write {
	uint64_t begin, end;
	uint64_t offset, length;
	bool done; /* successfully: it replaced what was there */
	bool zero, maybe, fua;
	uint8_t group;
};

struct unit {
	uint32_t base;
	uint32_t *write;
	uint32_t count, room;
};

struct sim_model {
	uint64_t size, now, oldest_read;
	struct unit *unit;
	struct write *write;
	uint32_t count, room;
	uint64_t flushed[SIM_GROUPS_MAX]; /* writes that ended before are durable … */
	uint64_t given_up;                /* … if they began after this */
};

struct sim_model *sim_model_new(uint64_t size)
{
	struct sim_model *m = sim_alloc(sizeof(*m));

	assert(size % SIM_UNIT == 0);
	m->size = size;
	m->unit = sim_alloc(size / SIM_UNIT * sizeof(*m->unit));
	m->room = 64;
	m->write = sim_alloc(m->room * sizeof(*m->write));
	m->write[0] = (struct write){ .done = true, .zero = true, .fua = true };
	m->count = 1;
	m->now = 1;
	return m;
}

void sim_model_free(struct sim_model *m)
{
	for (uint64_t i = 0; i < m->size / SIM_UNIT; i++)
		free(m->unit[i].write);
	free(m->unit);
	free(m->write);
	free(m);
}

uint64_t sim_model_size(const struct sim_model *m)
{
	return m->size;
}

uint64_t sim_model_now(struct sim_model *m)
{
	return ++m->now;
}

/* ---- patterns ---------------------------------------------------------- */

static uint64_t word(uint32_t write, uint64_t unit, unsigned i)
{
	if (i == 0)
		return MARK << 32 | write;
	return (((uint64_t)write << 24 ^ unit) + i) * UINT64_C(0x9e3779b97f4a7c15);
}

static void fill_unit(uint32_t write, uint64_t unit, uint8_t *data)
{
	for (unsigned i = 0; i < WORDS; i++) {
		uint64_t w = word(write, unit, i);

		memcpy(data + 8 * i, &w, 8);
	}
}

void sim_model_fill(const struct sim_model *m, uint32_t write, uint64_t from, void *data,
		    uint64_t length)
{
	uint64_t offset = m->write[write].offset + from;

	assert(offset % SIM_UNIT == 0);
	assert(length % SIM_UNIT == 0);
	for (uint64_t at = 0; at < length; at += SIM_UNIT)
		fill_unit(write, (offset + at) / SIM_UNIT, (uint8_t *)data + at);
}

#define NOBODY UINT32_MAX

/* Whose content is it?  0 for zeroes. */
static uint32_t whose(const struct sim_model *m, uint64_t unit, const uint8_t *data)
{
	static const uint8_t zeroes[SIM_UNIT];
	uint8_t pattern[SIM_UNIT];
	uint64_t first;

	if (memcmp(data, zeroes, SIM_UNIT) == 0)
		return 0;
	memcpy(&first, data, 8);
	if (first >> 32 == MARK && (uint32_t)first < m->count) {
		fill_unit((uint32_t)first, unit, pattern);
		if (memcmp(data, pattern, SIM_UNIT) == 0)
			return (uint32_t)first;
	}
	return NOBODY;
}

_Noreturn static void fail_nobody(uint64_t unit, const uint8_t *data, const char *who)
{
	uint64_t first;

	memcpy(&first, data, 8);
	sim_fail("offset %" PRIu64 ": %s bytes that nobody wrote there, or may not be there any "
		 "more (%016" PRIx64 ")",
		 unit * SIM_UNIT, who, first);
}

/* ---- what may be there ------------------------------------------------- */

static bool durable(const struct sim_model *m, const struct write *w)
{
	return w->done && (w->fua || (w->end < m->flushed[w->group] && w->begin > m->given_up));
}

/* The latest beginning of those that had replaced everything before them by BY. */
static uint64_t replaced_by(const struct sim_model *m, const struct unit *u, uint64_t by)
{
	uint64_t latest = 0;

	for (uint32_t i = 0; i < u->count; i++) {
		const struct write *w = &m->write[u->write[i]];

		if (w->done && w->end < by && w->begin > latest)
			latest = w->begin;
	}
	return latest;
}

static uint64_t replaced_for_good(const struct sim_model *m, const struct unit *u)
{
	uint64_t latest = 0;

	for (uint32_t i = 0; i < u->count; i++) {
		const struct write *w = &m->write[u->write[i]];

		if (durable(m, w) && w->begin > latest)
			latest = w->begin;
	}
	return latest;
}

/* Is WHICH, or for 0 any write of zeroes, among those that have not ended before SINCE? */
static bool may_be(const struct sim_model *m, const struct unit *u, uint32_t which, uint64_t since)
{
	/* What was there before all of them is there until one has replaced it. */
	if (since == 0 && u->base == which)
		return true;
	for (uint32_t i = 0; i < u->count; i++) {
		const struct write *w = &m->write[u->write[i]];

		if ((which ? u->write[i] == which : w->zero) && w->end >= since)
			return true;
	}
	return false;
}

/* Of writes that a read overlaps with it may have seen any bytes: is each one's of one of them? */
static bool may_be_mixed(const struct sim_model *m, uint64_t unit, const uint8_t *data,
			 uint64_t since)
{
	const struct unit *u = &m->unit[unit];
	uint8_t pattern[SIM_UNIT];
	uint64_t matched = 0;

	static_assert(SIM_UNIT == 64, "a bit for each byte");
	for (uint32_t i = 0; i <= u->count; i++) {
		uint32_t write = i < u->count ? u->write[i] : u->base;

		if (i < u->count ? m->write[write].end < since : since > 0)
			continue;
		memset(pattern, 0, sizeof(pattern));
		if (!m->write[write].zero)
			fill_unit(write, unit, pattern);
		for (unsigned j = 0; j < SIM_UNIT; j++)
			matched |= (uint64_t)(pattern[j] == data[j]) << j;
	}
	return matched == UINT64_MAX;
}

/* Into the trace. */
static void print_write(const struct sim_model *m, uint32_t write)
{
	const struct write *w = &m->write[write];

	if (sim_tracing)
		printf("write %u: %" PRIu64 "+%" PRIu64 ", time %" PRIu64 " to %" PRIu64
		       "%s%s%s%s\n",
		       write, w->offset, w->length, w->begin, w->end, w->done ? ", done" : "",
		       w->zero ? ", zeroes" : "", w->maybe ? ", trim" : "", w->fua ? ", FUA" : "");
}

static void explain(const struct sim_model *m, uint64_t unit, uint32_t found, uint64_t since,
		    const char *who)
{
	const struct unit *u = &m->unit[unit];
	const struct write *f = &m->write[found];
	uint32_t newest = u->count ? u->write[u->count - 1] : u->base;
	const struct write *last = &m->write[newest];

	for (uint32_t i = 0; i < u->count; i++)
		print_write(m, u->write[i]);
	sim_fail("offset %" PRIu64 ": %s write %u (%" PRIu64 "+%" PRIu64 ", time %" PRIu64
		 " to %" PRIu64 "), replaced by one from %" PRIu64
		 " on; the last begun is %u (time %" PRIu64 " to %" PRIu64 "%s%s)",
		 unit * SIM_UNIT, who, found, f->offset, f->length, f->begin, f->end, since, newest,
		 last->begin, last->end, last->done ? ", done" : "", last->fua ? ", FUA" : "");
}

/* ---- writes ------------------------------------------------------------ */

static void prune(const struct sim_model *m, struct unit *u)
{
	uint64_t by = m->oldest_read, latest = 0;
	uint32_t kept = 0;

	/* What neither a read nor a power cut can bring back. */
	for (uint32_t i = 0; i < u->count; i++) {
		const struct write *w = &m->write[u->write[i]];

		if (durable(m, w) && w->end < by && w->begin > latest)
			latest = w->begin;
	}
	for (uint32_t i = 0; i < u->count; i++)
		if (m->write[u->write[i]].end >= latest)
			u->write[kept++] = u->write[i];
	u->count = kept;
}

static void add(const struct sim_model *m, struct unit *u, uint32_t write)
{
	if (u->count >= PRUNE)
		prune(m, u);
	if (u->count == u->room) {
		u->room = u->room ? u->room * 2 : 2;
		u->write = realloc(u->write, u->room * sizeof(*u->write));
		assert(u->write);
	}
	u->write[u->count++] = write;
}

uint32_t sim_model_begin(struct sim_model *m, uint64_t offset, uint64_t length, bool zero,
			 bool maybe, bool fua, unsigned group)
{
	uint32_t number = m->count++;

	assert(offset % SIM_UNIT == 0);
	assert(length % SIM_UNIT == 0);
	assert(length <= m->size);
	assert(offset <= m->size - length);
	assert(group < SIM_GROUPS_MAX);
	if (number == m->room) {
		m->room *= 2;
		m->write = realloc(m->write, m->room * sizeof(*m->write));
		assert(m->write);
	}
	m->write[number] = (struct write){ .begin = sim_model_now(m),
					   .end = ENDLESS,
					   .offset = offset,
					   .length = length,
					   .zero = zero,
					   .maybe = maybe,
					   .fua = fua,
					   .group = (uint8_t)group };
	for (uint64_t i = offset / SIM_UNIT; i < (offset + length) / SIM_UNIT; i++)
		add(m, &m->unit[i], number);
	return number;
}

void sim_model_end(struct sim_model *m, uint32_t write, enum sim_outcome outcome)
{
	struct write *w = &m->write[write];

	if (w->end != ENDLESS)
		return; /* the power went meanwhile */
	w->end = sim_model_now(m);
	w->done = outcome == SIM_DONE && !w->maybe;
}

void sim_model_flushed(struct sim_model *m, uint64_t begun, unsigned group, bool all)
{
	for (unsigned i = 0; i < SIM_GROUPS_MAX; i++)
		if ((all || i == group) && m->flushed[i] < begun)
			m->flushed[i] = begun;
}

void sim_model_give_up(struct sim_model *m)
{
	for (uint32_t i = 0; i < m->count; i++)
		m->write[i].fua = durable(m, &m->write[i]);
	m->given_up = sim_model_now(m);
}

void sim_model_forget(struct sim_model *m, uint64_t begun)
{
	m->oldest_read = begun;
}

/* ---- reads ------------------------------------------------------------- */

void sim_model_check(struct sim_model *m, uint64_t offset, const void *data, uint64_t length,
		     uint64_t begun)
{
	const uint8_t *p = data;

	for (uint64_t i = offset / SIM_UNIT; i < (offset + length) / SIM_UNIT; i++) {
		const struct unit *u = &m->unit[i];
		uint32_t found = whose(m, i, p);
		uint64_t since = replaced_by(m, u, begun);

		if (found == NOBODY && !may_be_mixed(m, i, p, since))
			fail_nobody(i, p, "read");
		if (found != NOBODY && !may_be(m, u, found, since) && !may_be_mixed(m, i, p, since))
			explain(m, i, found, since, "read");
		p += SIM_UNIT;
	}
}

void sim_model_check_zero(struct sim_model *m, uint64_t offset, uint64_t length, uint64_t begun,
			  const char *who)
{
	uint64_t first = (offset + SIM_UNIT - 1) / SIM_UNIT;

	for (uint64_t i = first; i < (offset + length) / SIM_UNIT; i++) {
		const struct unit *u = &m->unit[i];
		uint64_t since = replaced_by(m, u, begun);

		if (!may_be(m, u, 0, since))
			explain(m, i, 0, since, who);
	}
}

/* ---- power cuts -------------------------------------------------------- */

void sim_model_cut(struct sim_model *m, bool survives)
{
	for (uint32_t i = 0; i < m->count; i++) {
		if (m->write[i].end == ENDLESS)
			m->write[i].end = sim_model_now(m);
		/* A server that ended in order has flushed everything. */
		if (survives && m->write[i].done && m->write[i].begin > m->given_up)
			m->write[i].fua = true;
	}
}

/* Whose content is at P, unit I?  Only what may be there. */
static uint32_t stable_at(const struct sim_model *m, uint64_t i, const uint8_t *p, const char *who)
{
	const struct unit *u = &m->unit[i];
	uint32_t found = whose(m, i, p);
	uint64_t since = replaced_for_good(m, u);

	if (found == NOBODY)
		fail_nobody(i, p, who);
	if (!may_be(m, u, found, since))
		explain(m, i, found, since, who);
	return found;
}

void sim_model_check_stable(struct sim_model *m, uint64_t offset, const void *data, uint64_t length,
			    const char *who)
{
	const uint8_t *p = data;

	for (uint64_t i = offset / SIM_UNIT; i < (offset + length) / SIM_UNIT; i++) {
		if (replaced_for_good(m, &m->unit[i]))
			(void)stable_at(m, i, p, who);
		p += SIM_UNIT;
	}
}

void sim_model_found(struct sim_model *m, uint64_t offset, const void *data, uint64_t length)
{
	const uint8_t *p = data;

	for (uint64_t i = offset / SIM_UNIT; i < (offset + length) / SIM_UNIT; i++) {
		struct unit *u = &m->unit[i];

		u->base = stable_at(m, i, p, "after the power cut, there is");
		u->count = 0;
		p += SIM_UNIT;
	}
}
