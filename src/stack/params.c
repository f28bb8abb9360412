/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * From `key=value` to the fields of a layer's instance.
 *
 * The table decides: which names exist, what a value may be, what holds when
 * nothing is given.  Whoever fills a table wrongly (a default out of its own
 * range) gets the same sentence as a user would, so no row is trusted to be
 * right and nothing here asserts on values.
 *
 * Each sentence begins with the layer's name, says which parameter and value
 * was meant, and ends with what would be accepted.
 *
 * Runs on the main thread at start, and wherever a stack is opened: it keeps no
 * state of its own.  Strings are copied, so settings may go after the call.
 */
#include "src/stack/params.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "nbdring/checked.h"
#include "nbdring/secret.h"
#include "src/stack/params-path.h"
#include "src/stack/params-text.h"

/* What a sentence shows of a value: enough to recognise it. */
#define SHOWN_MAX 100

/* One use of a table. */
struct job {
	const struct nr_param *table;
	const char *layer;
	char *instance;
	const struct nr_setting *settings;
	size_t count;
	struct nr_param_memory *memory;
	struct nr_error *error;
};

static void free_block(const struct nr_param_block *block)
{
	if (block->secret)
		nr_secret_free(block->at);
	else
		free(block->at);
}

/* Take BLOCK into the instance's memory; frees it and returns NULL when that fails. */
static void *keep_block(struct nr_param_memory *memory, struct nr_param_block block)
{
	struct nr_param_block *grown;

	if (!block.at)
		return NULL;
	grown = realloc(memory->block, (memory->count + 1) * sizeof(*grown));
	if (!grown) {
		free_block(&block);
		return NULL;
	}
	memory->block = grown;
	memory->block[memory->count++] = block;
	return block.at;
}

static void *keep(struct nr_param_memory *memory, void *block)
{
	return keep_block(memory, (struct nr_param_block){ .at = block });
}

void nr_param_memory_free(struct nr_param_memory *memory)
{
	for (size_t i = 0; i < memory->count; i++)
		free_block(&memory->block[i]);
	free(memory->block);
	memory->block = NULL;
	memory->count = 0;
}

const struct nr_param *nr_params_main(const struct nr_param *table)
{
	for (; table && table->name; table++)
		if (table->flags & NR_PARAM_MAIN)
			return table;
	return NULL;
}

const struct nr_param *nr_params_find(const struct nr_param *table, const char *name)
{
	for (; table && table->name; table++)
		if (strcmp(table->name, name) == 0)
			return table;
	return NULL;
}

bool nr_param_repeats(const struct nr_param *row)
{
	return row->type == NR_PARAM_LIST || row->type == NR_PARAM_PATHS;
}

/* Sentences. */

static int refuse(const struct job *job, const struct nr_param *row, const char *value,
		  const char *wanted)
{
	return nr_error_set(job->error, -EINVAL, "%s: %s=%.*s is not possible: %s", job->layer,
			    row->name, SHOWN_MAX, value, wanted);
}

static int refuse_number(const struct job *job, const struct nr_param *row, const char *value,
			 int why)
{
	char range[NR_RANGE_TEXT_MAX];
	char wanted[NR_RANGE_TEXT_MAX + 128];

	nr_param_range(row, range);
	if (why == -ERANGE)
		snprintf(wanted, sizeof(wanted), "it can be %s", range);
	else
		snprintf(wanted, sizeof(wanted), "write %s, %s",
			 row->type == NR_PARAM_SIZE
				 ? "a number of bytes, or one with K, M, G, T, P or E behind it"
				 : "a number",
			 range);
	return refuse(job, row, value, wanted);
}

static const char *choice_name(void *context, size_t index)
{
	const char *const *choices = context;

	return choices[index];
}

static int refuse_choice(const struct job *job, const struct nr_param *row, const char *value)
{
	const char *nearest = nr_nearest(value, choice_name, (void *)row->choices);
	char choices[NR_ERROR_TEXT_MAX / 2], wanted[NR_ERROR_TEXT_MAX];

	nr_param_choices(row, choices, sizeof(choices));
	if (nearest)
		snprintf(wanted, sizeof(wanted), "it can be %s; did you mean %s?", choices,
			 nearest);
	else
		snprintf(wanted, sizeof(wanted), "it can be %s", choices);
	return refuse(job, row, value, wanted);
}

static const char *row_name(void *context, size_t index)
{
	const struct nr_param *table = context;

	return table[index].name;
}

static int refuse_name(const struct job *job, const char *name)
{
	const char *nearest;
	char known[NR_ERROR_TEXT_MAX];
	size_t used = 0;

	if (!job->table || !job->table->name)
		return nr_error_set(job->error, -EINVAL,
				    "%s: there is no parameter '%.*s', it takes none", job->layer,
				    SHOWN_MAX, name);
	nearest = nr_nearest(name, row_name, (void *)job->table);
	if (nearest)
		return nr_error_set(job->error, -EINVAL,
				    "%s: there is no parameter '%.*s'; did you mean '%s'?",
				    job->layer, SHOWN_MAX, name, nearest);
	known[0] = '\0';
	for (const struct nr_param *row = job->table; row->name && used < sizeof(known); row++)
		used += (size_t)snprintf(known + used, sizeof(known) - used, "%s%s",
					 row == job->table ? "" : ", ", row->name);
	return nr_error_set(job->error, -EINVAL, "%s: there is no parameter '%.*s'; it takes %s",
			    job->layer, SHOWN_MAX, name, known);
}

static int refuse_missing(const struct job *job, const struct nr_param *row)
{
	const char *value = row->value ? row->value : "VALUE";

	if (row->flags & NR_PARAM_MAIN)
		return nr_error_set(job->error, -EINVAL,
				    "%s: its parameter %s is missing; write %s %s, or %s %s=%s",
				    job->layer, row->name, job->layer, value, job->layer, row->name,
				    value);
	return nr_error_set(job->error, -EINVAL, "%s: its parameter %s is missing; write %s=%s",
			    job->layer, row->name, row->name, value);
}

static int no_memory(const struct job *job, const struct nr_param *row)
{
	return nr_error_system(job->error, -ENOMEM, "%s: %s", job->layer, row->name);
}

/* Values.  Each stores one setting of ROW. */

static void *field(const struct job *job, const struct nr_param *row)
{
	return job->instance + row->offset;
}

static int store_number(const struct job *job, const struct nr_param *row, const char *value)
{
	uint64_t number;
	int err;

	err = row->type == NR_PARAM_SIZE ? nr_parse_size(value, &number)
					 : nr_parse_uint(value, &number);
	if (!err && (number < row->min || (row->max && number > row->max)))
		err = -ERANGE;
	if (err)
		return refuse_number(job, row, value, err);
	memcpy(field(job, row), &number, sizeof(number));
	return 0;
}

static int store_bool(const struct job *job, const struct nr_param *row, const char *value)
{
	bool truth;

	if (nr_parse_bool(value, &truth))
		return refuse(job, row, value, "write true or false (or on and off, yes and no)");
	memcpy(field(job, row), &truth, sizeof(truth));
	return 0;
}

static int store_choice(const struct job *job, const struct nr_param *row, const char *value)
{
	for (unsigned i = 0; row->choices[i]; i++) {
		if (strcmp(row->choices[i], value) == 0) {
			memcpy(field(job, row), &i, sizeof(i));
			return 0;
		}
	}
	return refuse_choice(job, row, value);
}

static const char *own_secret(const struct job *job, const struct nr_param *row, const char *value)
{
	size_t length = strlen(value) + 1;
	char *text = nr_secret_alloc(length);

	if (text)
		memcpy(text, value, length);
	text = keep_block(job->memory, (struct nr_param_block){ .at = text, .secret = true });
	if (!text)
		no_memory(job, row);
	return text;
}

/* A copy of VALUE that lives as long as the instance, or NULL with the error set. */
static const char *own_text(const struct job *job, const struct nr_param *row, const char *value)
{
	char *text;

	if (row->flags & NR_PARAM_SECRET)
		return own_secret(job, row, value);
	if (row->type == NR_PARAM_STRING || row->type == NR_PARAM_LIST) {
		text = strdup(value);
	} else if (value[0] == '\0') {
		refuse(job, row, value, "write the path of a file");
		return NULL;
	} else {
		text = nr_absolute_path(value);
		if (!text && errno != ENOMEM) {
			nr_error_system(job->error, -errno,
					"%s: %s=%.*s: the current folder, from which this path "
					"starts, cannot be found",
					job->layer, row->name, SHOWN_MAX, value);
			return NULL;
		}
	}
	text = keep(job->memory, text);
	if (!text)
		no_memory(job, row);
	return text;
}

static int store_text(const struct job *job, const struct nr_param *row, const char *value)
{
	const char *text = own_text(job, row, value);

	if (!text)
		return -EINVAL;
	memcpy(field(job, row), &text, sizeof(text));
	return 0;
}

/* All settings of a row that repeats, in their order; the default if there are none. */
static int store_list(const struct job *job, const struct nr_param *row, size_t given)
{
	struct nr_strings list = { .count = 0, .item = NULL };
	size_t room = given ? given : 1;

	if (!given && !row->fallback)
		return 0;
	list.item = keep(job->memory, calloc(room, sizeof(*list.item)));
	if (!list.item)
		return no_memory(job, row);
	if (!given) {
		list.item[0] = own_text(job, row, row->fallback);
		list.count = 1;
	}
	for (size_t i = 0; i < job->count; i++)
		if (strcmp(job->settings[i].name, row->name) == 0)
			list.item[list.count++] = own_text(job, row, job->settings[i].value);
	for (size_t i = 0; i < list.count; i++)
		if (!list.item[i])
			return -EINVAL;
	memcpy(field(job, row), &list, sizeof(list));
	return 0;
}

static int store_value(const struct job *job, const struct nr_param *row, const char *value)
{
	switch (row->type) {
	case NR_PARAM_SIZE:
	case NR_PARAM_UINT:
		return store_number(job, row, value);
	case NR_PARAM_BOOL:
		return store_bool(job, row, value);
	case NR_PARAM_CHOICE:
		return store_choice(job, row, value);
	case NR_PARAM_STRING:
	case NR_PARAM_PATH:
	case NR_PARAM_LIST:
	case NR_PARAM_PATHS:
		break;
	}
	return store_text(job, row, value);
}

/* One row of the table: what was given for it, or its default, or nothing. */
static int store_row(const struct job *job, const struct nr_param *row)
{
	const char *value = NULL;
	size_t given = 0;

	for (size_t i = 0; i < job->count; i++) {
		if (strcmp(job->settings[i].name, row->name) != 0)
			continue;
		if (given && row->flags & NR_PARAM_SECRET)
			return nr_error_set(job->error, -EINVAL,
					    "%s: %s is given twice; give it once", job->layer,
					    row->name);
		if (given++ && !nr_param_repeats(row))
			return nr_error_set(job->error, -EINVAL,
					    "%s: %s is given twice, as %.*s and as %.*s; give it "
					    "once",
					    job->layer, row->name, SHOWN_MAX, value, SHOWN_MAX,
					    job->settings[i].value);
		value = job->settings[i].value;
	}
	if (!given && (row->flags & NR_PARAM_REQUIRED))
		return refuse_missing(job, row);
	if (nr_param_repeats(row))
		return store_list(job, row, given);
	if (!given)
		value = row->fallback;
	return value ? store_value(job, row, value) : 0;
}

int nr_params_apply(const struct nr_param *table, const char *name, void *instance,
		    const struct nr_setting *settings, size_t count, struct nr_param_memory *memory,
		    struct nr_error *error)
{
	const struct job job = {
		.table = table,
		.layer = name,
		.instance = instance,
		.settings = settings,
		.count = count,
		.memory = memory,
		.error = error,
	};

	for (size_t i = 0; i < count; i++)
		if (!nr_params_find(table, settings[i].name))
			return refuse_name(&job, settings[i].name);
	for (const struct nr_param *row = table; row && row->name; row++) {
		int err = store_row(&job, row);

		if (err)
			return err;
	}
	return 0;
}
