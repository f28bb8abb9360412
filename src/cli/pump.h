/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * -s: standard input and output as one socket for the server.
 */
#ifndef SRC_CLI_PUMP_H
#define SRC_CLI_PUMP_H

#include "nbdring/error.h"

struct nr_pump;

/*
 * *FD is a connected stream socket that leads to standard input and output; the
 * caller owns it.  0 and 1 are /dev/null afterwards.  *PUMP is NULL when standard
 * input was such a socket itself.  Makes threads, so after going to the
 * background and after signals were blocked.
 */
int nr_pump_open(struct nr_pump **pump, int *fd, struct nr_error *error);

/*
 * The server has closed its end: wait until the last replies have gone to
 * standard output, for GRACE_SECONDS at most.  NULL is allowed.
 */
void nr_pump_finish(struct nr_pump *pump, unsigned grace_seconds);

#endif
