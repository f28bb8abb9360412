/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The main function of a fuzz target without a fuzzer: it runs the inputs that were
 * kept, each once.
 *
 *	replay-TARGET PATH...    files, and folders of files
 *
 * Folders are read in the order of names, so every run is the same.  The input under
 * way is named on standard error before it is run: what stands last there is what
 * ended the process.  No input at all is a failure: a corpus that is not there must
 * not look like one without faults.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/fuzz/fuzz.h"

static int complain(const char *path)
{
	fprintf(stderr, "%s: %s\n", path, strerror(errno));
	return -1;
}

static int run_file(int fd, const char *path, size_t size)
{
	uint8_t *data = malloc(size ? size : 1);
	size_t have = 0;
	ssize_t got = 1;

	if (!data)
		return complain(path);
	while (have < size && got > 0) {
		got = read(fd, data + have, size - have);
		have += got > 0 ? (size_t)got : 0;
	}
	if (have < size) {
		free(data);
		return complain(path);
	}
	fprintf(stderr, "%s\n", path);
	(void)LLVMFuzzerTestOneInput(data, size);
	free(data);
	return 1;
}

static int is_visible(const struct dirent *entry)
{
	return entry->d_name[0] != '.';
}

static int run(const char *path);

static int run_folder(const char *path)
{
	struct dirent **entry;
	int count = scandir(path, &entry, is_visible, alphasort), done = 0;

	if (count < 0)
		return complain(path);
	for (int i = 0; i < count; i++) {
		char *inside = NULL;
		int more = -1;

		if (asprintf(&inside, "%s/%s", path, entry[i]->d_name) >= 0)
			more = run(inside);
		done = done < 0 || more < 0 ? -1 : done + more;
		free(inside);
		free(entry[i]);
	}
	free(entry);
	return done;
}

/* How many inputs were run; -1: something could not be read. */
static int run(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC), done;
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		done = complain(path);
	else if (S_ISDIR(st.st_mode))
		done = run_folder(path);
	else
		done = run_file(fd, path, (size_t)st.st_size);
	if (fd >= 0)
		close(fd);
	return done;
}

int main(int argc, char **argv)
{
	int total = 0;

	for (int i = 1; i < argc && total >= 0; i++) {
		int done = run(argv[i]);

		total = done < 0 ? -1 : total + done;
	}
	if (total == 0)
		fprintf(stderr, "there is no input; usage: %s FILE-OR-FOLDER...\n", argv[0]);
	if (total > 0)
		fprintf(stderr, "%d inputs, all well\n", total);
	return total > 0 ? 0 : 1;
}
