/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Serving: from a plan to the end of the process.
 */
#ifndef SRC_CLI_SERVE_H
#define SRC_CLI_SERVE_H

#include "nbdring/error.h"
#include "src/cli/options.h"
#include "src/stack/stack.h"

/*
 * Listen, go to the background if asked to, serve until a signal, the command of
 * --run or the only client ends it, and clean up.  PLAN has the layers; the rest
 * of it is filled in from OPTIONS.  *STATUS is the exit status; when the server
 * could not start, -errno with the reason in ERROR.
 */
int nr_serve(const struct nr_options *options, struct nr_plan *plan, int *status,
	     struct nr_error *error);

#endif
