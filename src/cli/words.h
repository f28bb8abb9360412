/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Stacks within stacks: a parameter that holds a command line of its own, such as
 * "--filter=delay rdelay=1 memory 1M".
 */
#ifndef SRC_CLI_WORDS_H
#define SRC_CLI_WORDS_H

#include "src/cli/layers.h"

/* What the words below are looked up in; main thread, at start. */
void nr_words_set_catalog(const struct nr_catalog *catalog);

/* The functions of struct nr_surroundings (src/stack/stack.h).  Any thread. */
int nr_words_parse(const char *words, struct nr_plan *plan, struct nr_plan_memory **memory,
		   struct nr_error *error);
void nr_words_forget(struct nr_plan_memory *memory);

#endif
