/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Parameters that are secrets (NR_PARAM_SECRET), and where people keep them.
 *
 * What is on the command line is seen by everybody on the machine, so "-" in the place of a
 * secret asks for it on the terminal, "+FILE" is the first line of a file, and "-FD" that of
 * a descriptor that the server was started with.
 */
#ifndef SRC_CLI_SECRETS_H
#define SRC_CLI_SECRETS_H

#include "src/stack/stack.h"

/* Is the setting NAME of this type of layer a secret? */
bool nr_secret_is(const struct nr_layer_type *type, const char *name);

/* "NAME" and behind its NUL VALUE, for nr_secret_free; NULL: there is no memory. */
char *nr_secret_setting(const char *name, const char *value);

/*
 * Put the secrets themselves into PLAN, for good: what was asked for once is not asked for
 * again.  Main thread, while the terminal is there.
 */
int nr_secrets_fetch(struct nr_plan *plan, struct nr_error *error);

/* The same for a stack within a stack, which may be opened at any time: files only. */
int nr_secrets_fetch_within(struct nr_plan *plan, struct nr_error *error);

#endif
