/* SPDX-License-Identifier: BSD-3-Clause */
/* Users and groups as people write them. */
#ifndef SRC_CLI_OWNER_H
#define SRC_CLI_OWNER_H

#include <sys/types.h>

#include "nbdring/error.h"

struct nr_owner {
	uid_t user;  /* (uid_t)-1: as it is */
	gid_t group; /* (gid_t)-1: as it is */
};

/* TEXT is USER, USER:GROUP or :GROUP, names or numbers.  Main thread. */
int nr_owner_find(struct nr_owner *owner, const char *text, struct nr_error *error);

#endif
