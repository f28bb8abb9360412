/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A daemon leaves the folder it was started in, so every path a person types is
 * made absolute while that folder is still the current one.
 *
 * Any thread, as long as no other changes the current folder.
 */
#include "src/stack/params-path.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

char *nr_absolute_path(const char *path)
{
	char *folder, *whole;

	if (path[0] == '/')
		return strdup(path);
	folder = getcwd(NULL, 0);
	if (!folder)
		return NULL;
	if (asprintf(&whole, "%s/%s", strcmp(folder, "/") == 0 ? "" : folder, path) < 0)
		whole = NULL;
	free(folder);
	return whole;
}
