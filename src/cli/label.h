/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * --selinux-label: what SELinux calls the sockets that are listened on.
 */
#ifndef SRC_CLI_LABEL_H
#define SRC_CLI_LABEL_H

#include <stdbool.h>

#include "nbdring/error.h"

/* Sockets made from now on by this thread get LABEL; NULL: what they get by default. */
int nr_label_sockets(const char *label, struct nr_error *error);

bool nr_label_possible(void); /* with this build */

#endif
