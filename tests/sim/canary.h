/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Bugs planted on purpose, to see that the simulation finds such bugs.  Only the
 * program sim-canary has them (canary.c); in sim-server there are none to choose
 * (canary-none.c).
 */
#ifndef TESTS_SIM_CANARY_H
#define TESTS_SIM_CANARY_H

#include <stdbool.h>

/* Plant the bug NAME; false: there is none of that name here. */
bool sim_canary_choose(const char *name);

#endif
