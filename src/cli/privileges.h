/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Being another user than the one who started the server (-u, -g).
 */
#ifndef SRC_CLI_PRIVILEGES_H
#define SRC_CLI_PRIVILEGES_H

#include <stdbool.h>
#include <sys/types.h>

#include "nbdring/error.h"

struct nr_identity {
	bool wanted; /* false: stay who we are, and nothing below counts */
	uid_t user;
	gid_t group;
	gid_t *groups; /* supplementary ones */
	int group_count;
};

/* Look USER and GROUP up, names or numbers, NULL: not given.  Main thread, before others. */
int nr_identity_find(struct nr_identity *identity, const char *user, const char *group,
		     struct nr_error *error);
void nr_identity_free(struct nr_identity *identity);

/*
 * Act as the other user from now on, in what is opened and made, but be able to go back:
 * nr_identity_suspend, for what is still to be done as the first user.
 */
int nr_identity_act(const struct nr_identity *identity, struct nr_error *error);
int nr_identity_suspend(const struct nr_identity *identity, struct nr_error *error);

/* Become the other user for good, all threads; no capability stays.  Acting or suspended. */
int nr_identity_assume(const struct nr_identity *identity, struct nr_error *error);

#endif
