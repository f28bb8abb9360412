/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * dir= : every regular file and block device in a folder is an export, named
 * like the file.
 *
 * The name comes from a client, so it is never joined to a path.  It must be
 * one component ('/', "." and ".." are refused), and it is opened relative to
 * the folder's descriptor with RESOLVE_BENEATH: a symbolic link inside the
 * folder may lead to another file inside it, and nowhere else.
 *
 * Threads: all of this may block and runs where that is allowed.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "backends/file.h"

struct names {
	char **item;
	size_t count, room;
};

static int open_folder(const char *path, struct nr_error *error)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd >= 0)
		return fd;
	if (errno == ENOTDIR)
		return nr_error_set(error, -ENOTDIR,
				    "dir=%s is not a directory; use file=%s to serve one file",
				    path, path);
	return nr_error_system(error, -errno, "dir=%s", path);
}

/* Could NAME be that of a file right in the folder? */
static bool one_component(const char *name)
{
	return name[0] != '\0' && !strchr(name, '/') && strcmp(name, ".") != 0 &&
	       strcmp(name, "..") != 0;
}

static bool can_be_served(int folder, const char *name)
{
	struct stat st;
	int fd;
	bool good;

	if (!one_component(name))
		return false;
	fd = nr_file_raw_open(folder, name, true, O_PATH);
	if (fd < 0)
		return false;
	good = fstat(fd, &st) == 0 && (S_ISREG(st.st_mode) || S_ISBLK(st.st_mode));
	(void)close(fd);
	return good;
}

static bool names_add(struct names *names, const char *name)
{
	if (names->count == names->room) {
		size_t room = names->room ? names->room * 2 : 64;
		char **bigger = reallocarray(names->item, room, sizeof(*bigger));

		if (!bigger)
			return false;
		names->item = bigger;
		names->room = room;
	}
	names->item[names->count] = strdup(name);
	return names->item[names->count] && ++names->count;
}

static void names_free(struct names *names)
{
	while (names->count)
		free(names->item[--names->count]);
	free(names->item);
}

static int compare(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static int read_folder(DIR *folder, struct names *names)
{
	struct dirent *entry;

	for (;;) {
		errno = 0;
		entry = readdir(folder);
		if (!entry)
			return -errno;
		if (can_be_served(dirfd(folder), entry->d_name) && !names_add(names, entry->d_name))
			return -ENOMEM;
	}
}

int nr_file_dir_exports(const char *path, nr_export_fn *each, void *context, struct nr_error *error)
{
	struct names names = { 0 };
	int fd = open_folder(path, error), err;
	DIR *folder;

	if (fd < 0)
		return fd;
	folder = fdopendir(fd);
	if (!folder) {
		err = -errno;
		(void)close(fd);
		return nr_error_system(error, err, "dir=%s", path);
	}
	err = read_folder(folder, &names);
	(void)closedir(folder);
	if (err) {
		(void)nr_error_system(error, err, "dir=%s", path);
	} else {
		if (names.count)
			qsort(names.item, names.count, sizeof(*names.item), compare);
		for (size_t i = 0; i < names.count; i++)
			each(context, names.item[i], NULL);
	}
	names_free(&names);
	return err;
}

static int no_such_export(const char *path, const char *name, struct nr_error *error)
{
	if (name[0] == '\0')
		return nr_error_set(error, -ENOENT,
				    "dir=%s has no default export; ask for one of its files by "
				    "name",
				    path);
	return nr_error_set(error, -ENOENT, "dir=%s has no file '%s' that can be served", path,
			    name);
}

int nr_file_dir_find(const char *path, const char *name, struct nr_error *error)
{
	int folder = open_folder(path, error);
	bool there;

	if (folder < 0)
		return folder;
	there = can_be_served(folder, name);
	(void)close(folder);
	return there ? 0 : no_such_export(path, name, error);
}

int nr_file_dir_open(struct nr_file *file, const char *path, const char *name, bool read_only,
		     struct nr_error *error)
{
	int folder = open_folder(path, error), err;

	if (folder < 0)
		return folder;
	err = one_component(name) ? nr_file_open(file, folder, name, true, read_only, name, error)
				  : no_such_export(path, name, error);
	(void)close(folder);
	return err;
}
