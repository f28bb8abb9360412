/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Paths that outlive the folder they were typed in.
 */
#ifndef SRC_STACK_PARAMS_PATH_H
#define SRC_STACK_PARAMS_PATH_H

/*
 * PATH from the root: as it is when it begins with '/', else behind the current
 * folder.  Nothing is looked up, so links and ".." stay as written.  The caller
 * frees it.  NULL and errno when memory is short or the current folder is gone.
 */
char *nr_absolute_path(const char *path);

#endif
