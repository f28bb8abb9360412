/*
 * Some servers fork a process for each connection, and then the one that was started does
 * nothing. So the descendants count, too: those that exist when all connections are open.
 * They are looked for once, before the measured time, and only their clocks are read at its
 * two ends. One that ends in between would take its time with it, so that is an error.
 */
#include "bench/load/cpuof.h"

#include <dirent.h>
#include <err.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct pids {
	unsigned *pid;
	unsigned count;
};

static void add_pid(struct pids *pids, unsigned pid)
{
	/* Grows at powers of two. */
	if ((pids->count & (pids->count - 1)) == 0) {
		size_t room = pids->count ? 2UL * pids->count : 1;

		pids->pid = realloc(pids->pid, room * sizeof(*pids->pid));
		if (!pids->pid)
			errx(1, "out of memory for %zu processes", room);
	}
	pids->pid[pids->count++] = pid;
}

/* The children that one thread has; one that is gone has none. */
static void add_children_of_thread(struct pids *pids, unsigned pid, const char *thread)
{
	char path[80];
	unsigned child;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%u/task/%.20s/children", pid, thread);
	file = fopen(path, "re");
	if (!file)
		return;
	while (fscanf(file, "%u", &child) == 1)
		add_pid(pids, child);
	fclose(file);
}

static void add_children(struct pids *pids, unsigned pid)
{
	const struct dirent *entry;
	char path[40];
	DIR *threads;

	snprintf(path, sizeof(path), "/proc/%u/task", pid);
	threads = opendir(path);
	if (!threads)
		return;
	while ((entry = readdir(threads)))
		if (entry->d_name[0] != '.')
			add_children_of_thread(pids, pid, entry->d_name);
	closedir(threads);
}

void cpuof_open(struct cpuof *c, unsigned pid)
{
	struct pids pids = { 0 };

	add_pid(&pids, pid);
	for (unsigned i = 0; i < pids.count; i++)
		add_children(&pids, pids.pid[i]);
	*c = (struct cpuof){ .clocks = calloc(pids.count, sizeof(*c->clocks)) };
	if (!c->clocks)
		errx(1, "out of memory for %u processes", pids.count);
	for (unsigned i = 0; i < pids.count; i++) {
		int ret = clock_getcpuclockid((pid_t)pids.pid[i], &c->clocks[c->count]);

		if (ret == 0)
			c->count++;
		else if (i == 0)
			errx(1, "process %u: %s", pid, strerror(ret));
	}
	free(pids.pid);
}

void cpuof_close(struct cpuof *c)
{
	free(c->clocks);
	*c = (struct cpuof){ 0 };
}

uint64_t cpuof_ns(const struct cpuof *c)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < c->count; i++) {
		struct timespec t;

		if (clock_gettime(c->clocks[i], &t) < 0)
			err(1, "a process of the server ended during the load");
		sum += (uint64_t)t.tv_sec * 1000000000ULL + (uint64_t)t.tv_nsec;
	}
	return sum;
}
