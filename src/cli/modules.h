/* SPDX-License-Identifier: BSD-3-Clause */
/* Layers that are not built in: shared objects named by a path. */
#ifndef SRC_CLI_MODULES_H
#define SRC_CLI_MODULES_H

#include <stdbool.h>

#include "nbdring/layer.h"

/* Is NAME the path of a module ("./mine.so") rather than a name? */
bool nr_module_is_path(const char *name);

/*
 * The layer in the module at PATH, which must be of KIND; NULL and a sentence when it
 * cannot be loaded, is no layer, or was built for another version of the contract.
 * It stays loaded.  Any thread.
 */
const struct nr_layer_type *nr_module_load(const char *path, enum nr_layer_kind kind,
					   struct nr_error *error);

/* The module NAME of the folder where modules are installed; NULL without one. */
const struct nr_layer_type *nr_module_installed(const char *name, enum nr_layer_kind kind,
						struct nr_error *error);

/* Is TYPE a module's, not one that is built in? */
bool nr_module_has(const struct nr_layer_type *type);

#endif
