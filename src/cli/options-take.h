/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What takes the values of options: the functions that rows of the table (options-table.c)
 * name and that do not stand beside it.  Main thread.
 */
#ifndef SRC_CLI_OPTIONS_TAKE_H
#define SRC_CLI_OPTIONS_TAKE_H

#include "src/cli/options.h"

/* A number from 0 to MAX for OPTION ("--threads"), into *FIELD. */
int nr_take_number(const char *option, const char *value, uint64_t max, unsigned *field,
		   struct nr_error *error);

/* options-clients.c */
int nr_take_connections(struct nr_options *options, const char *value, struct nr_error *error);
int nr_take_per_export(struct nr_options *options, const char *value, struct nr_error *error);
int nr_take_per_peer(struct nr_options *options, const char *value, struct nr_error *error);
int nr_take_handshakes(struct nr_options *options, const char *value, struct nr_error *error);
int nr_take_handshake_timeout(struct nr_options *options, const char *value,
			      struct nr_error *error);
int nr_take_idle(struct nr_options *options, const char *value, struct nr_error *error);
int nr_take_keepalive(struct nr_options *options, const char *value, struct nr_error *error);

/* options-process.c */
int nr_take_log(struct nr_options *options, const char *value, struct nr_error *error);
int nr_take_name(struct nr_options *options, const char *value, struct nr_error *error);
int nr_take_sandbox(struct nr_options *options, const char *value, struct nr_error *error);
int nr_take_debug(struct nr_options *options, const char *value, struct nr_error *error);

#endif
