/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Parameter tables at work: storing values, and printing help and manual.
 */
#ifndef SRC_STACK_PARAMS_H
#define SRC_STACK_PARAMS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "nbdring/error.h"
#include "nbdring/param.h"
#include "src/stack/stack.h"

/* Strings that belong to an instance; zero it before the first use. */
struct nr_param_memory {
	struct nr_param_block {
		void *at;
		bool secret; /* of nr_secret_alloc */
	} * block;
	size_t count;
};

/*
 * Store defaults and SETTINGS of the layer NAME into INSTANCE by TABLE (NULL: it
 * takes none).  Checks names (with a suggestion), ranges, duplicates and what
 * is required; the error names layer, parameter, value and the legal range.
 */
int nr_params_apply(const struct nr_param *table, const char *name, void *instance,
		    const struct nr_setting *settings, size_t count, struct nr_param_memory *memory,
		    struct nr_error *error);
void nr_param_memory_free(struct nr_param_memory *memory);

/* The row that takes bare words, or NULL. */
const struct nr_param *nr_params_main(const struct nr_param *table);

/* Lines of `nbdring LAYER --help`. */
void nr_params_help(FILE *to, const struct nr_param *table);
/* The PARAMETERS section of the man page, in POD. */
void nr_params_manual(FILE *to, const struct nr_param *table);

/* "4k", "1M", "512", "1.5G", "8E": bytes, 0 to INT64_MAX.  -EINVAL or -ERANGE. */
int nr_parse_size(const char *text, uint64_t *bytes);
int nr_parse_uint(const char *text, uint64_t *value);
int nr_parse_bool(const char *text, bool *value);

/*
 * The name nearest to WRONG (edit distance at most a third of its length, at
 * least 1), or NULL: "did you mean …?".  NEXT is called with 0, 1, 2 … until NULL.
 */
const char *nr_nearest(const char *wrong, const char *(*next)(void *context, size_t index),
		       void *context);

#endif
