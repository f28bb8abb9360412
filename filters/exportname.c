/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What clients see of the names of exports, and which of them they may use.
 *
 * Names are asked for before anything is open (`exports`, `find`), so everything here
 * but `admit` depends on the parameters and the layers below alone.  A backend with
 * one disk has no names of its own: every name leads to it, and is turned away, if it
 * has to be, when the client is let in.
 *
 * All of this runs on threads that may block, except `admit`, which looks at a list.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "filters/filters.h"
#include "filters/script.h"

#define DESCRIPTION_MAX 4096 /* protocol, "String values" */
#define SCRIPT_MS 10000      /* someone is waiting for the list */

enum list_mode { LIST_KEEP, LIST_ERROR, LIST_EMPTY, LIST_DEFAULT_ONLY, LIST_EXPLICIT };
enum description { DESCRIBE_KEEP, DESCRIBE_NONE, DESCRIBE_FIXED, DESCRIBE_SCRIPT };

struct exportname {
	const char *default_export;
	unsigned list_mode; /* enum list_mode */
	bool strict;
	struct nr_strings names;
	const char *description;
	enum description how;
	const char *what; /* the text or the command */
};

/* What is below: the nearest layer that knows names, or NULL. */
static struct nr_layer *naming_below(struct nr_layer *layer)
{
	for (layer = layer->below; layer; layer = layer->below)
		if (layer->type->find)
			return layer;
	return NULL;
}

static int find_below(struct nr_layer *layer, const char *name, struct nr_error *error)
{
	struct nr_layer *below = naming_below(layer);

	return below ? below->type->find(below, name, error) : -ENOSYS;
}

/* -ENOSYS: there is one disk, and no list. */
static int exports_below(struct nr_layer *layer, nr_export_fn *each, void *context,
			 struct nr_error *error)
{
	struct nr_layer *below = naming_below(layer);

	return below && below->type->exports ? below->type->exports(below, each, context, error)
					     : -ENOSYS;
}

/* Names. */

static const char *resolve(const struct exportname *e, const char *name)
{
	return name[0] ? name : e->default_export;
}

static bool is_listed(const struct exportname *e, const char *name)
{
	for (size_t i = 0; i < e->names.count; i++)
		if (strcmp(e->names.item[i], name) == 0)
			return true;
	return false;
}

static int refuse_name(const char *name, struct nr_error *error)
{
	return nr_error_set(error, -ENOENT, "there is no export '%s'", name);
}

static const char *exportname_below(struct nr_layer *layer, const char *name)
{
	return resolve(layer->instance, name);
}

static int exportname_find(struct nr_layer *layer, const char *name, struct nr_error *error)
{
	const struct exportname *e = layer->instance;
	struct nr_error ignored;

	name = resolve(e, name);
	if (e->strict && !is_listed(e, name))
		return find_below(layer, "", &ignored) == -ENOSYS ? -ENOSYS
								  : refuse_name(name, error);
	return find_below(layer, name, error);
}

static int exportname_admit(struct nr_layer *layer, struct nr_session *session,
			    struct nr_error *error)
{
	const struct exportname *e = layer->instance;
	const char *name = resolve(e, session->export_name);

	return e->strict && !is_listed(e, name) ? refuse_name(name, error) : 0;
}

/* Listing. */

struct listing {
	const struct nr_layer *layer;
	const struct exportname *e;
	nr_export_fn *each;
	void *context;
	const char *wanted; /* look_up: the name whose description is looked for */
	char *found;
};

static const char *ask_script(const struct listing *l, const char *name, char *text, size_t size)
{
	if (nr_script_output(l->e->what, name, SCRIPT_MS, text, size))
		return text;
	nr_layer_log(l->layer, NR_LAYER_WARNING,
		     "exportdesc=script:%s has failed for the name '%s', or takes too long; it is "
		     "listed without a description",
		     l->e->what, name);
	return NULL;
}

/* Pass NAME on with the description that the parameters ask for. */
static void pass_on(void *context, const char *name, const char *description)
{
	struct listing *l = context;
	char text[DESCRIPTION_MAX + 1];

	if (l->e->how == DESCRIBE_NONE)
		description = NULL;
	else if (l->e->how == DESCRIBE_FIXED)
		description = l->e->what;
	else if (l->e->how == DESCRIBE_SCRIPT)
		description = ask_script(l, name, text, sizeof(text));
	l->each(l->context, name, description);
}

static void look_up(void *context, const char *name, const char *description)
{
	struct listing *l = context;

	if (!l->found && description && strcmp(name, l->wanted) == 0)
		l->found = strdup(description);
}

/* NAME, with the description that the layer below has for it, if that is wanted. */
static void pass_on_one(struct nr_layer *layer, struct listing *l, const char *name)
{
	struct nr_error ignored;

	l->wanted = name;
	l->found = NULL;
	if (l->e->how == DESCRIBE_KEEP)
		(void)exports_below(layer, look_up, l, &ignored);
	pass_on(l, name, l->found);
	free(l->found);
}

static void exportname_describe(struct nr_layer *layer, const char *name, nr_export_fn *each,
				void *context)
{
	const struct exportname *e = layer->instance;
	struct listing l = { .layer = layer, .e = e, .each = each, .context = context };

	pass_on_one(layer, &l, resolve(e, name));
}

static int exportname_exports(struct nr_layer *layer, nr_export_fn *each, void *context,
			      struct nr_error *error)
{
	const struct exportname *e = layer->instance;
	struct listing l = { .layer = layer, .e = e, .each = each, .context = context };
	struct nr_error ignored;
	int err;

	switch ((enum list_mode)e->list_mode) {
	case LIST_KEEP:
		err = exports_below(layer, pass_on, &l, error);
		if (err != -ENOSYS)
			return err;
		pass_on(&l, "", NULL);
		return 0;
	case LIST_ERROR:
		return nr_error_set(error, -EACCES, "this server does not list its exports");
	case LIST_EMPTY:
		return 0;
	case LIST_DEFAULT_ONLY:
		err = e->default_export[0] ? 0 : find_below(layer, "", &ignored);
		if (!err || err == -ENOSYS)
			pass_on_one(layer, &l, e->default_export);
		return 0;
	case LIST_EXPLICIT:
		for (size_t i = 0; i < e->names.count; i++)
			pass_on_one(layer, &l, e->names.item[i]);
		return 0;
	}
	return 0;
}

/* Parameters. */

static int too_long(const char *parameter, struct nr_error *error)
{
	return nr_error_set(error, -EINVAL, "%s= is too long: it can have %d bytes", parameter,
			    NR_NAME_MAX);
}

static int check_description(struct exportname *e, struct nr_error *error)
{
	const char *text = e->description;

	if (strcmp(text, "keep") == 0) {
		e->how = DESCRIBE_KEEP;
	} else if (strcmp(text, "none") == 0) {
		e->how = DESCRIBE_NONE;
	} else if (strncmp(text, "fixed:", 6) == 0) {
		e->how = DESCRIBE_FIXED;
		e->what = text + 6;
	} else if (strncmp(text, "script:", 7) == 0) {
		e->how = DESCRIBE_SCRIPT;
		e->what = text + 7;
	} else {
		return nr_error_set(error, -EINVAL,
				    "exportdesc=%.64s is not possible: it can be keep, none, "
				    "fixed:TEXT or script:COMMAND",
				    text);
	}
	if (e->how == DESCRIBE_FIXED && strlen(e->what) > DESCRIPTION_MAX)
		return too_long("exportdesc", error);
	return 0;
}

static int exportname_check(struct nr_layer *layer, struct nr_error *error)
{
	struct exportname *e = layer->instance;

	if (strlen(e->default_export) > NR_NAME_MAX)
		return too_long("default-export", error);
	for (size_t i = 0; i < e->names.count; i++)
		if (strlen(e->names.item[i]) > NR_NAME_MAX)
			return too_long("exportname", error);
	if (e->strict && e->names.count == 0)
		return nr_error_set(error, -EINVAL,
				    "exportname-strict=true lets nobody in unless there is at "
				    "least one exportname=NAME");
	return check_description(e, error);
}

static const char *const list_modes[] = {
	"keep", "error", "empty", "defaultonly", "explicit", NULL
};

static const struct nr_param exportname_params[] = {
	{
		.name = "default-export",
		.type = NR_PARAM_STRING,
		.offset = offsetof(struct exportname, default_export),
		.fallback = "",
		.value = "NAME",
		.help = "the export of clients that ask for none by name",
		.manual = "The export of clients that ask for the default one, which has the "
			  "empty name.  If this is empty, too, what is below decides.",
	},
	{
		.name = "exportname-list",
		.type = NR_PARAM_CHOICE,
		.offset = offsetof(struct exportname, list_mode),
		.fallback = "keep",
		.choices = list_modes,
		.value = "MODE",
		.help = "which exports are listed",
		.manual =
			"What clients get that ask for a list of the exports: C<keep>, what is "
			"below says; C<error>, a refusal; C<empty>, a list without names; "
			"C<defaultonly>, the name of the default export; C<explicit>, the names "
			"given with B<exportname=>.  It is only about the list: which exports can "
			"be used is another question.",
	},
	{
		.name = "exportname-strict",
		.type = NR_PARAM_BOOL,
		.offset = offsetof(struct exportname, strict),
		.fallback = "false",
		.help = "refuse every name that is not given with exportname=",
		.manual = "Refuse clients that ask for a name not given with B<exportname=>.",
	},
	{
		.name = "exportname",
		.type = NR_PARAM_LIST,
		.offset = offsetof(struct exportname, names),
		.value = "NAME",
		.help = "one of the names to list or to allow",
		.manual = "One of the names for C<exportname-list=explicit> and "
			  "B<exportname-strict=>.  May be given more than once.",
	},
	{
		.name = "exportdesc",
		.type = NR_PARAM_STRING,
		.flags = NR_PARAM_SCRIPT,
		.offset = offsetof(struct exportname, description),
		.fallback = "keep",
		.value = "HOW",
		.help = "descriptions in the list: keep, none, fixed:TEXT or script:COMMAND",
		.manual =
			"The descriptions in the list: C<keep>, what is below says; C<none>, "
			"none; C<fixed:TEXT>, the same text for all; C<script:COMMAND>, what this "
			"command for the shell prints.  It finds the name in its variable "
			"C<name>.  One that fails, or takes over ten seconds, gives no "
			"description.",
	},
	{ 0 },
};

const struct nr_layer_type nr_exportname_type = {
	.abi = NR_LAYER_ABI,
	.name = "exportname",
	.summary = "changes which export names clients see and may use",
	.kind = NR_FILTER,
	.placement = NR_SPREAD,
	.params = exportname_params,
	.instance_size = sizeof(struct exportname),
	.check = exportname_check,
	.exports = exportname_exports,
	.describe_export = exportname_describe,
	.find = exportname_find,
	.name_below = exportname_below,
	.admit = exportname_admit,
};
