/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Tables in words: what a row accepts, as sentences, help and manual say it, and
 * the two-column layout that all help texts share.
 */
#ifndef SRC_STACK_PARAMS_TEXT_H
#define SRC_STACK_PARAMS_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "nbdring/param.h"

/* The row called NAME, or NULL.  TABLE may be NULL. */
const struct nr_param *nr_params_find(const struct nr_param *table, const char *name);

/* May the parameter be given more than once? */
bool nr_param_repeats(const struct nr_param *row);

#define NR_SIZE_TEXT_MAX 24
/* "64K", "1G", "1000": the shortest way to write BYTES exactly. */
const char *nr_size_text(uint64_t bytes, char text[NR_SIZE_TEXT_MAX]);

#define NR_RANGE_TEXT_MAX 64
/* SIZE and UINT: "from 512 to 64K". */
const char *nr_param_range(const struct nr_param *row, char text[NR_RANGE_TEXT_MAX]);
/* CHOICE: "a, b or c".  Cut when ROOM is short. */
void nr_param_choices(const struct nr_param *row, char *text, size_t room);

/* LEFT in a column of its own and TEXT beside it, wrapped to 80 columns. */
void nr_print_help_row(FILE *to, const char *left, const char *text);

/* Plain text as POD: what POD would take for markup is escaped. */
void nr_print_pod_text(FILE *to, const char *text);

#endif
