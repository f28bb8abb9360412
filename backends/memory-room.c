/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A RAM disk that is full should say so (ENOSPC) instead of being killed.
 *
 * Linux promises memory it does not have, and who touches the last page is shot
 * by the OOM killer.  So before the disk takes another large piece it looks at
 * what the kernel itself reckons to be available, in the system and in the
 * version 2 control groups around this process.  The answer is a snapshot that
 * others change at any time, so it is a courtesy, not a guarantee: a reserve is
 * kept back for them.
 *
 * No state: the files are opened each time, which is rare (once for many
 * megabytes).  Where they cannot be read, nothing is refused.
 */
#include "backends/memory-room.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include "nbdring/checked.h"

#define KIB 1024u
#define RESERVE_MIN (32u * 1024 * 1024) /* bytes left alone on the smallest machine … */
#define RESERVE_SHARE 64                /* … or this part of a large one, or of a group's limit */
#define TEXT_MAX 8192                   /* of a /proc or /sys file; what is wanted comes early */
#define PATH_BYTES 4096

/* The start of a file as a string; false when there is no such file. */
static bool read_text(const char *path, char *text, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t got;

	if (fd < 0)
		return false;
	got = read(fd, text, size - 1);
	close(fd);
	if (got < 0)
		return false;
	text[got] = '\0';
	return true;
}

/* The number behind the word KEY at the start of a line. */
static bool find_number(const char *text, const char *key, uint64_t *number)
{
	size_t length = strlen(key);

	for (const char *line = text; line; line = strchr(line, '\n')) {
		if (*line == '\n')
			line++;
		if (strncmp(line, key, length) == 0) {
			*number = strtoull(line + length, NULL, 10);
			return true;
		}
	}
	return false;
}

/* What GROUP (a folder of the cgroup2 file system) allows beyond what it uses. */
static uint64_t group_room(const char *group)
{
	char path[PATH_BYTES + 32], text[TEXT_MAX];
	uint64_t max, current, cache = 0, part;

	snprintf(path, sizeof(path), "%s/memory.max", group);
	if (!read_text(path, text, sizeof(text)) || strncmp(text, "max", 3) == 0)
		return UINT64_MAX;
	max = strtoull(text, NULL, 10);
	snprintf(path, sizeof(path), "%s/memory.current", group);
	if (!read_text(path, text, sizeof(text)))
		return UINT64_MAX;
	current = strtoull(text, NULL, 10);
	/* Cached files count as used but make way. */
	snprintf(path, sizeof(path), "%s/memory.stat", group);
	if (read_text(path, text, sizeof(text))) {
		if (find_number(text, "inactive_file ", &part))
			cache += part;
		if (find_number(text, "active_file ", &part))
			cache += part;
	}
	current -= nr_min(cache, current);
	max -= max / RESERVE_SHARE;
	return max - nr_min(current, max);
}

/* The tightest of the groups this process is in, from its own up to the root. */
static uint64_t groups_room(void)
{
	static const char root[] = "/sys/fs/cgroup";
	char text[TEXT_MAX], group[PATH_BYTES];
	uint64_t room = UINT64_MAX;
	char *own, *slash;

	if (!read_text("/proc/self/cgroup", text, sizeof(text)))
		return room;
	own = strncmp(text, "0::", 3) == 0 ? text : strstr(text, "\n0::");
	if (!own)
		return room;
	own = strchr(own, '/');
	if (!own)
		return room;
	own[strcspn(own, "\n")] = '\0';
	if ((size_t)snprintf(group, sizeof(group), "%s%s", root, own) >= sizeof(group))
		return room;
	while (strlen(group) >= strlen(root)) {
		room = nr_min(room, group_room(group));
		slash = strrchr(group, '/');
		*slash = '\0';
	}
	return room;
}

uint64_t nr_memory_total(void)
{
	struct sysinfo info;

	if (sysinfo(&info) != 0)
		return UINT64_MAX;
	return ((uint64_t)info.totalram + info.totalswap) * info.mem_unit;
}

uint64_t nr_memory_room(void)
{
	uint64_t available, swap = 0, total = 0, reserve;
	char text[TEXT_MAX];

	if (!read_text("/proc/meminfo", text, sizeof(text)) ||
	    !find_number(text, "MemAvailable:", &available))
		return UINT64_MAX;
	find_number(text, "SwapFree:", &swap);
	find_number(text, "MemTotal:", &total);
	available = (available + swap) * KIB;
	reserve = nr_max(RESERVE_MIN, total * KIB / RESERVE_SHARE);
	return nr_min(available - nr_min(reserve, available), groups_room());
}
