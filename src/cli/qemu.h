/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The server in the place of qemu-nbd: called by that name, it takes qemu-nbd's options
 * and keeps to its habits.
 */
#ifndef SRC_CLI_QEMU_H
#define SRC_CLI_QEMU_H

#include <stdbool.h>
#include <stdio.h>

#include "src/cli/options.h"

/* Was the program called as qemu-nbd? */
bool nr_qemu_is_name(const char *program);

/*
 * Read qemu-nbd's command line, and put into OPTIONS what nbdring would have to be told.
 * As nr_options_parse.
 */
int nr_qemu_parse(struct nr_options *options, int argc, char **argv, struct nr_error *error);

/* --help or --version, whatever OPTIONS->action says. */
void nr_qemu_inform(FILE *to, const struct nr_options *options);

extern const struct nr_option_set nr_qemu_option_set;

#endif
