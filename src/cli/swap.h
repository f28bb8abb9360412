/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * --swap: a server whose disk this machine swaps to.
 */
#ifndef SRC_CLI_SWAP_H
#define SRC_CLI_SWAP_H

#include <stdbool.h>

#include "nbdring/error.h"

/*
 * Keep all memory of the process where it is, now and later: what is swapped out could not
 * be brought back by a server that waits for it.  While the rights of the start are there;
 * OTHER_USER: they will be given up.
 */
int nr_swap_lock_memory(bool other_user, struct nr_error *error);

#endif
