/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The part of the command line that says what is served.
 *
 * A word `key=value` belongs to the first layer, seen from the client, that
 * takes such a parameter and has not got it yet.  So keys need no layer's name
 * in front, and where the same filter stands twice its values go to the two in
 * the order of the filters.  A word that is no key=value goes to the parameter
 * that the backend declares as its main one.
 *
 * Only names are looked at here; values are judged when the stack is prepared
 * (src/stack/params.c).  Main thread, at start.
 */
#include "src/cli/layers.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "src/stack/params-text.h"
#include "src/cli/modules.h"
#include "src/cli/secrets.h"
#include "nbdring/secret.h"
#include "src/stack/params.h"

#define SHOWN_MAX 100 /* what a sentence shows of a word */

static const char *kind_name(enum nr_layer_kind kind)
{
	return kind == NR_BACKEND ? "backend" : "filter";
}

static const struct nr_layer_type *const *layers_of(const struct nr_catalog *catalog,
						    enum nr_layer_kind kind)
{
	return kind == NR_BACKEND ? catalog->backends : catalog->filters;
}

static const struct nr_layer_type *look_up(const struct nr_layer_type *const *layers,
					   const char *name)
{
	for (; *layers; layers++)
		if (strcmp((*layers)->name, name) == 0)
			return *layers;
	return NULL;
}

static const char *layer_name(void *context, size_t index)
{
	const struct nr_layer_type *const *layers = context;

	return layers[index] ? layers[index]->name : NULL;
}

static void explain_unknown(const struct nr_catalog *catalog, enum nr_layer_kind kind,
			    const char *name, struct nr_error *error)
{
	enum nr_layer_kind other = kind == NR_BACKEND ? NR_FILTER : NR_BACKEND;
	const struct nr_layer_type *const *layers = layers_of(catalog, kind);
	const char *nearest;

	if (look_up(layers_of(catalog, other), name)) {
		nr_error_set(error, -ENOENT,
			     kind == NR_BACKEND
				     ? "%s is a filter, not a backend; write --filter=%s BACKEND"
				     : "%s is a backend, not a filter; write %s without --filter=",
			     name, name);
		return;
	}
	nearest = nr_nearest(name, layer_name, (void *)layers);
	if (nearest)
		nr_error_set(error, -ENOENT, "there is no %s '%.*s'; did you mean '%s'?",
			     kind_name(kind), SHOWN_MAX, name, nearest);
	else if (kind == NR_BACKEND && access(name, F_OK) == 0)
		nr_error_set(error, -ENOENT,
			     "there is no backend '%.*s'; to serve the file of this name write "
			     "nbdring file %.*s",
			     SHOWN_MAX, name, SHOWN_MAX, name);
	else
		nr_error_set(error, -ENOENT,
			     "there is no %s '%.*s'; nbdring --list shows what there is",
			     kind_name(kind), SHOWN_MAX, name);
}

const struct nr_layer_type *nr_layers_find(const struct nr_catalog *catalog,
					   enum nr_layer_kind kind, const char *name,
					   struct nr_error *error)
{
	const struct nr_layer_type *type = look_up(layers_of(catalog, kind), name);

	if (nr_module_is_path(name))
		return nr_module_load(name, kind, error);
	if (type)
		return type;
	explain_unknown(catalog, kind, name, error);
	/* One that is there but cannot be loaded says why instead. */
	return nr_module_installed(name, kind, error);
}

size_t nr_layers_key_length(const char *word)
{
	size_t length = 0;

	if (!isalpha((unsigned char)word[0]))
		return 0;
	while (isalnum((unsigned char)word[length]) ||
	       (word[length] && strchr("._-", word[length])))
		length++;
	return word[length] == '=' ? length : 0;
}

static bool has_setting(const struct nr_plan_layer *layer, const char *name)
{
	for (size_t i = 0; i < layer->setting_count; i++)
		if (strcmp(layer->settings[i].name, name) == 0)
			return true;
	return false;
}

/* A setting's text is plain memory, or that for secrets. */
static void free_text(const struct nr_plan_layer *layer, char *text)
{
	if (nr_secret_is(layer->type, text))
		nr_secret_free(text);
	else
		free(text);
}

/* TEXT, or what takes its place if it is a secret's.  NULL: there is no memory. */
static char *keep_text(const struct nr_plan_layer *layer, char *text)
{
	char *value = text + strlen(text) + 1, *kept = text;

	if (nr_secret_is(layer->type, text)) {
		kept = nr_secret_setting(text, value);
		explicit_bzero(value, strlen(value));
		free(text);
	}
	return kept;
}

/* Takes over TEXT, "key=value" with a NUL in the place of the '='. */
static int add_setting(struct nr_plan_layer *layer, char *text, struct nr_error *error)
{
	struct nr_setting *grown =
		realloc(layer->settings, (layer->setting_count + 1) * sizeof(*grown));

	if (grown)
		layer->settings = grown;
	text = keep_text(layer, text);
	if (text && !grown)
		free_text(layer, text);
	if (!text || !grown)
		return nr_error_system(error, -ENOMEM, "%s", layer->type->name);
	layer->settings[layer->setting_count++] = (struct nr_setting){
		.name = text,
		.value = text + strlen(text) + 1,
	};
	return 0;
}

/* The layer of PLAN that the parameter NAME is for, or NULL. */
static struct nr_plan_layer *layer_for(struct nr_plan *plan, const char *name)
{
	struct nr_plan_layer *full = NULL;

	for (size_t i = plan->layer_count; i-- > 0;) {
		struct nr_plan_layer *layer = &plan->layers[i];
		const struct nr_param *row = nr_params_find(layer->type->params, name);

		if (row && (nr_param_repeats(row) || !has_setting(layer, name)))
			return layer;
		if (row && !full)
			full = layer;
	}
	/* One too many: nr_params_apply says so, with both values. */
	return full;
}

/* All parameters of all layers of a plan, outermost layer first. */
struct row_walk {
	const struct nr_plan *plan;
	size_t layer; /* layers not yet walked */
	const struct nr_param *row;
};

static const char *next_row(void *context, size_t index)
{
	struct row_walk *walk = context;

	if (index == 0) {
		walk->layer = walk->plan->layer_count;
		walk->row = NULL;
	}
	while (!walk->row || !walk->row->name) {
		if (walk->layer == 0)
			return NULL;
		walk->row = walk->plan->layers[--walk->layer].type->params;
	}
	return walk->row++->name;
}

/* Which layer has the parameter that was suggested? */
static const char *owner_of(const struct nr_plan *plan, const char *name)
{
	for (size_t i = plan->layer_count; i-- > 0;)
		if (nr_params_find(plan->layers[i].type->params, name))
			return plan->layers[i].type->name;
	return "";
}

static int refuse_key(const struct nr_plan *plan, const char *word, const char *name,
		      struct nr_error *error)
{
	const struct nr_layer_type *backend = plan->layers[0].type;
	const char *who = plan->layer_count > 1 ? "no layer here takes a" : "there is no";
	struct row_walk walk = { .plan = plan };
	const char *nearest = nr_nearest(name, next_row, &walk);

	if (nearest)
		return nr_error_set(
			error, -EINVAL, "%s: %s parameter '%.*s'; did you mean '%s' of %s?",
			backend->name, who, SHOWN_MAX, name, nearest, owner_of(plan, nearest));
	if (nr_params_main(backend->params) && access(word, F_OK) == 0)
		return nr_error_set(error, -EINVAL,
				    "%s: %s parameter '%.*s'; for the file of this name write "
				    "./%.*s",
				    backend->name, who, SHOWN_MAX, name, SHOWN_MAX, word);
	return nr_error_set(error, -EINVAL,
			    "%s: %s parameter '%.*s'; add --help to see what there is",
			    backend->name, who, SHOWN_MAX, name);
}

static int place_key(struct nr_plan *plan, const char *word, size_t key_length,
		     struct nr_error *error)
{
	struct nr_plan_layer *layer;
	char *text = strdup(word);
	int err;

	if (!text)
		return nr_error_system(error, -ENOMEM, "the command line");
	text[key_length] = '\0';
	layer = layer_for(plan, text);
	if (layer)
		return add_setting(layer, text, error);
	err = refuse_key(plan, word, text, error);
	free(text);
	return err;
}

static int place_bare(struct nr_plan *plan, const char *word, struct nr_error *error)
{
	struct nr_plan_layer *backend = &plan->layers[0];
	const struct nr_param *row = nr_params_main(backend->type->params);
	char *text;

	if (!row)
		return nr_error_set(error, -EINVAL,
				    "%s: the word '%.*s' means nothing here; parameters are "
				    "written key=value",
				    backend->type->name, SHOWN_MAX, word);
	if (asprintf(&text, "%s=%s", row->name, word) < 0)
		return nr_error_system(error, -ENOMEM, "the command line");
	text[strlen(row->name)] = '\0';
	return add_setting(backend, text, error);
}

static int find_layers(struct nr_plan *plan, const struct nr_catalog *catalog,
		       const struct nr_strings *filters, const struct nr_strings *words,
		       struct nr_error *error)
{
	if (words->count == 0)
		return nr_error_set(error, -EINVAL,
				    "no backend is named; write for example nbdring file disk.img "
				    "(nbdring --list shows what there is)");
	plan->layers = calloc(filters->count + 1, sizeof(*plan->layers));
	if (!plan->layers)
		return nr_error_system(error, -ENOMEM, "the command line");
	plan->layer_count = filters->count + 1;
	for (size_t i = 0; i < plan->layer_count; i++) {
		struct nr_plan_layer *layer = &plan->layers[i];

		/* The last filter named is next to the backend. */
		if (i == 0)
			layer->type = nr_layers_find(catalog, NR_BACKEND, words->item[0], error);
		else
			layer->type = nr_layers_find(catalog, NR_FILTER,
						     filters->item[filters->count - i], error);
		if (!layer->type)
			return -ENOENT;
	}
	return 0;
}

int nr_layers_plan(struct nr_plan *plan, const struct nr_catalog *catalog,
		   const struct nr_strings *filters, const struct nr_strings *words,
		   struct nr_error *error)
{
	int err;

	plan->layers = NULL;
	plan->layer_count = 0;
	err = find_layers(plan, catalog, filters, words, error);
	for (size_t i = 1; !err && i < words->count; i++) {
		size_t key_length = nr_layers_key_length(words->item[i]);

		if (key_length)
			err = place_key(plan, words->item[i], key_length, error);
		else
			err = place_bare(plan, words->item[i], error);
	}
	return err;
}

void nr_layers_free(struct nr_plan *plan)
{
	for (size_t i = 0; i < plan->layer_count; i++) {
		for (size_t j = 0; j < plan->layers[i].setting_count; j++)
			free_text(&plan->layers[i], (char *)plan->layers[i].settings[j].name);
		free(plan->layers[i].settings);
	}
	free(plan->layers);
	plan->layers = NULL;
	plan->layer_count = 0;
}
