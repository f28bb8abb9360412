/* SPDX-License-Identifier: BSD-3-Clause */
/* The rules of access that the command line names.  Main thread. */
#ifndef SRC_CLI_ACCESS_H
#define SRC_CLI_ACCESS_H

#include "src/cli/options.h"
#include "src/server/server.h"

/* A reference to the rules; NULL where none are named: everybody is let in. */
int nr_read_access(struct nr_access **access, const struct nr_options *options,
		   struct nr_error *error);

/*
 * Read them again, for clients that come from now on.  If something is wrong with
 * them, the log says what, and those that are in force stay.
 */
void nr_reload_access(struct nr_server *server, const struct nr_options *options);

#endif
