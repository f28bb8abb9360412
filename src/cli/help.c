/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * --help, --list, --version and their like: everything is printed from the
 * tables of options and layers.
 *
 * Main thread; nothing is opened and nothing is started.
 */
#include "src/cli/help.h"

#include <errno.h>
#include <string.h>

#include "src/cli/qemu.h"
#include "src/stack/figures.h"
#include "src/stack/params-text.h"
#include "src/stack/params.h"

static void print_usage(FILE *to)
{
	fputs("usage: nbdring [OPTION]... [--filter=NAME]... BACKEND [KEY=VALUE]...\n"
	      "       nbdring [--filter=NAME]... BACKEND --help\n"
	      "       nbdring --list\n"
	      "\n"
	      "Serve a disk over NBD, for example: nbdring -U /tmp/disk.sock file disk.img\n"
	      "\n",
	      to);
}

static void print_names(FILE *to, const char *title, const struct nr_layer_type *const *layers)
{
	char names[4096] = "";
	size_t used = 0;

	for (; *layers && used < sizeof(names); layers++)
		used += (size_t)snprintf(names + used, sizeof(names) - used, "%s%s",
					 used ? " " : "", (*layers)->name);
	nr_print_help_row(to, title, names);
}

static void print_layers(FILE *to, const struct nr_catalog *catalog)
{
	fputs("\nLayers (--list says what each does):\n", to);
	print_names(to, "backends", catalog->backends);
	print_names(to, "filters", catalog->filters);
}

static void print_parameters(FILE *to, const struct nr_layer_type *type)
{
	if (type->params && type->params->name)
		nr_params_help(to, type->params);
	else
		fputs("  it takes none\n", to);
}

static void layer_help(FILE *to, const struct nr_layer_type *type)
{
	const struct nr_param *row = nr_params_main(type->params);
	const char *more = type->params && type->params->name ? " [KEY=VALUE]..." : "";

	fprintf(to, "%s: %s\n\n", type->name, type->summary);
	if (type->kind == NR_FILTER)
		fprintf(to, "usage: nbdring [OPTION]... --filter=%s BACKEND%s\n", type->name, more);
	else if (row)
		fprintf(to, "usage: nbdring [OPTION]... %s [%s=]%s%s\n", type->name, row->name,
			row->value ? row->value : "VALUE", more);
	else
		fprintf(to, "usage: nbdring [OPTION]... %s%s\n", type->name, more);
	fprintf(to, "\nParameters:\n");
	print_parameters(to, type);
	fprintf(to, "\nMore in the manual: man nbdring-%s\n", type->name);
}

/* Call EACH for the layers that the command line names, the outermost first. */
static int each_named(FILE *to, const struct nr_options *options, const struct nr_catalog *catalog,
		      void (*each)(FILE *to, const struct nr_layer_type *type),
		      struct nr_error *error)
{
	for (size_t i = 0; i <= options->filters.count; i++) {
		const struct nr_layer_type *type;

		if (i < options->filters.count)
			type = nr_layers_find(catalog, NR_FILTER, options->filters.item[i], error);
		else if (options->words.count)
			type = nr_layers_find(catalog, NR_BACKEND, options->words.item[0], error);
		else
			break;
		if (!type)
			return error->code;
		each(to, type);
	}
	return 0;
}

static void layer_help_apart(FILE *to, const struct nr_layer_type *type)
{
	layer_help(to, type);
	fputc('\n', to);
}

static int help(FILE *to, const struct nr_options *options, const struct nr_catalog *catalog,
		struct nr_error *error)
{
	if (options->filters.count)
		return each_named(to, options, catalog, layer_help_apart, error);
	if (options->words.count)
		return each_named(to, options, catalog, layer_help, error);
	print_usage(to);
	nr_options_help(to, &nr_option_set);
	print_layers(to, catalog);
	fputs("\nMore in the manual: man nbdring\n", to);
	return 0;
}

static void layer_version(FILE *to, const struct nr_layer_type *type)
{
	fprintf(to, "%s %s\n", type->name, NR_VERSION);
}

static int version(FILE *to, const struct nr_options *options, const struct nr_catalog *catalog,
		   struct nr_error *error)
{
	fprintf(to, "nbdring %s\n", NR_VERSION);
	return each_named(to, options, catalog, layer_version, error);
}

static void list_kind(FILE *to, const char *title, const struct nr_layer_type *const *layers)
{
	if (!*layers)
		return;
	fprintf(to, "%s:\n", title);
	for (; *layers; layers++)
		nr_print_help_row(to, (*layers)->name, (*layers)->summary);
}

static void list(FILE *to, const struct nr_catalog *catalog)
{
	list_kind(to, "Backends", catalog->backends);
	if (catalog->backends[0] && catalog->filters[0])
		fputc('\n', to);
	list_kind(to, "Filters", catalog->filters);
}

static int dump_plugin(FILE *to, const struct nr_options *options, const struct nr_catalog *catalog,
		       struct nr_error *error)
{
	const struct nr_layer_type *type;

	if (options->words.count == 0)
		return nr_error_set(error, -EINVAL,
				    "--dump-plugin needs a backend: write nbdring BACKEND "
				    "--dump-plugin");
	type = nr_layers_find(catalog, NR_BACKEND, options->words.item[0], error);
	if (!type)
		return error->code;
	nr_dump_backend(to, type);
	return 0;
}

static int manual(FILE *to, const char *name, const struct nr_catalog *catalog,
		  struct nr_error *error)
{
	const struct nr_layer_type *const *both[] = { catalog->backends, catalog->filters };

	if (strcmp(name, "nbdring") == 0 || strcmp(name, "qemu-nbd") == 0) {
		nr_options_manual(to, name[0] == 'n' ? &nr_option_set : &nr_qemu_option_set);
		return 0;
	}
	for (int i = 0; i < 2; i++) {
		for (const struct nr_layer_type *const *layer = both[i]; *layer; layer++) {
			if (strcmp((*layer)->name, name) == 0) {
				nr_params_manual(to, (*layer)->params);
				nr_figures_manual(to, (*layer)->figures);
				return 0;
			}
		}
	}
	return nr_error_set(error, -ENOENT, "there is no layer '%s'", name);
}

int nr_inform(FILE *to, const struct nr_options *options, const struct nr_catalog *catalog,
	      struct nr_error *error)
{
	switch ((enum nr_action)options->action) {
	case NR_ACTION_HELP:
		return help(to, options, catalog, error);
	case NR_ACTION_VERSION:
		return version(to, options, catalog, error);
	case NR_ACTION_LIST:
		list(to, catalog);
		return 0;
	case NR_ACTION_DUMP_CONFIG:
		nr_dump_config(to, catalog);
		return 0;
	case NR_ACTION_DUMP_PLUGIN:
		return dump_plugin(to, options, catalog, error);
	case NR_ACTION_SHORT_OPTIONS:
		nr_options_list_short(to);
		return 0;
	case NR_ACTION_LONG_OPTIONS:
		nr_options_list_long(to);
		return 0;
	case NR_ACTION_MANUAL:
		return manual(to, options->manual_of, catalog, error);
	case NR_ACTION_SERVE:
		break;
	}
	return nr_error_set(error, -EINVAL, "serving is no information");
}
