/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * From words to a plan: which layers, and whose parameter each word is.
 */
#ifndef SRC_CLI_LAYERS_H
#define SRC_CLI_LAYERS_H

#include <stdio.h>

#include "nbdring/error.h"
#include "nbdring/param.h"
#include "src/stack/stack.h"

/* The layers there are; both NULL-terminated. */
struct nr_catalog {
	const struct nr_layer_type *const *backends;
	const struct nr_layer_type *const *filters;
};

/*
 * Fill PLAN's layers from the filters (outermost first) and the words (the
 * backend, then `key=value` and bare words).  PLAN's other fields are the
 * caller's.  To be given back with nr_layers_free in any case.
 */
int nr_layers_plan(struct nr_plan *plan, const struct nr_catalog *catalog,
		   const struct nr_strings *filters, const struct nr_strings *words,
		   struct nr_error *error);
void nr_layers_free(struct nr_plan *plan);

/* The layer called NAME, or NULL and an error that suggests another. */
const struct nr_layer_type *nr_layers_find(const struct nr_catalog *catalog,
					   enum nr_layer_kind kind, const char *name,
					   struct nr_error *error);

/* Is WORD a key=value?  The key's length, or 0. */
size_t nr_layers_key_length(const char *word);

#endif
