/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Modules.  A module defines one function,
 *
 *	const struct nr_layer_type *nbdring_layer(void);
 *
 * and uses the functions of the contract, which the program exports.  The version
 * in the row is compared before anything else in it is believed.
 */
#include "src/cli/modules.h"

#include <ctype.h>
#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static bool is_name(const char *name)
{
	if (!name || !isalpha((unsigned char)name[0]))
		return false;
	for (; *name; name++)
		if (!isalnum((unsigned char)*name) && !strchr("-_.", *name))
			return false;
	return true;
}

bool nr_module_is_path(const char *name)
{
	size_t length = strlen(name);

	return strchr(name, '/') && length > 3 && strcmp(name + length - 3, ".so") == 0;
}

const struct nr_layer_type *nr_module_installed(const char *name, enum nr_layer_kind kind,
						struct nr_error *error)
{
	char path[PATH_MAX];

	if (!is_name(name) ||
	    snprintf(path, sizeof(path), "%s/%s.so", NR_LAYERDIR, name) >= (int)sizeof(path) ||
	    access(path, F_OK) < 0)
		return NULL;
	return nr_module_load(path, kind, error);
}

static int check(const char *path, const struct nr_layer_type *type, enum nr_layer_kind kind,
		 struct nr_error *error)
{
	if (!type)
		return nr_error_set(error, -EINVAL, "%s offers no layer", path);
	if (type->abi != NR_LAYER_ABI)
		return nr_error_set(error, -EINVAL,
				    "%s was built for version %u of the layer contract, this "
				    "server has version %u; build it again",
				    path, type->abi, NR_LAYER_ABI);
	if (!is_name(type->name) || !type->summary)
		return nr_error_set(error, -EINVAL, "%s: its layer has no proper name", path);
	if (type->kind != kind)
		return nr_error_set(error, -EINVAL,
				    kind == NR_FILTER ? "%s is a backend, not a filter"
						      : "%s is a filter, not a backend; write "
							"--filter= in front of it",
				    path);
	if (type->kind == NR_BACKEND && !type->submit)
		return nr_error_set(error, -EINVAL, "%s: a backend needs a submit function", path);
	return 0;
}

const struct nr_layer_type *nr_module_load(const char *path, enum nr_layer_kind kind,
					   struct nr_error *error)
{
	const struct nr_layer_type *(*layer)(void);
	const struct nr_layer_type *type;
	void *module = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	void *symbol;

	if (!module) {
		nr_error_set(error, -EINVAL, "%s cannot be loaded: %s", path, dlerror());
		return NULL;
	}
	symbol = dlsym(module, "nbdring_layer");
	if (!symbol) {
		nr_error_set(error, -EINVAL, "%s is no layer: it has no function nbdring_layer",
			     path);
		dlclose(module);
		return NULL;
	}
	memcpy(&layer, &symbol, sizeof(layer));
	type = layer();
	if (check(path, type, kind, error)) {
		dlclose(module);
		return NULL;
	}
	return type;
}

bool nr_module_has(const struct nr_layer_type *type)
{
	static const char here;
	Dl_info program, owner;

	/* What is in no object at all was made by a module. */
	return !dladdr(&here, &program) || !dladdr(type, &owner) ||
	       program.dli_fbase != owner.dli_fbase;
}
