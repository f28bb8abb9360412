/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the command says about itself, to people (help.c) and programs (dump.c).
 */
#ifndef SRC_CLI_HELP_H
#define SRC_CLI_HELP_H

#include <stdio.h>

#include "src/cli/layers.h"
#include "src/cli/options.h"

/*
 * Do what options->action asks for (anything but NR_ACTION_SERVE), on TO.
 * 0, or a negative errno with ERROR set.
 */
int nr_inform(FILE *to, const struct nr_options *options, const struct nr_catalog *catalog,
	      struct nr_error *error);

/* dump.c */
void nr_dump_config(FILE *to, const struct nr_catalog *catalog);
void nr_dump_backend(FILE *to, const struct nr_layer_type *type);

#endif
