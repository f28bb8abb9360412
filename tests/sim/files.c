/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Names of simulated disks.  See files.h.
 */
#undef NDEBUG
#include "tests/sim/files.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "tests/sim/sockets.h"

#define ENTRIES_MAX 16u
#define NAME_MAX_BYTES 48u

/* A file, or one that has lost its name and is still open. */
static struct entry {
	char name[NAME_MAX_BYTES]; /* a path; "": none */
	struct sim_disk *disk;     /* NULL: the entry is free */
	struct sim_disk *after;    /* after the power cut; NULL: it is not there then */
	bool lasting;              /* the name is stable */
} entries[ENTRIES_MAX];

static unsigned calls_left; /* until the power goes; 0: it does not */
static bool cut;
static char folder; /* what a folder is open as */

/* ---- names ------------------------------------------------------------- */

static bool is_in(const char *path, const char *where)
{
	size_t length = strlen(where);

	return strncmp(path, where, length) == 0 && path[length] == '/';
}

static struct entry *find(const char *path)
{
	for (unsigned i = 0; i < ENTRIES_MAX; i++)
		if (entries[i].disk && entries[i].name[0] && strcmp(entries[i].name, path) == 0)
			return &entries[i];
	return NULL;
}

static struct entry *add(const char *path, struct sim_disk *disk, bool lasting)
{
	struct entry *e = entries;

	while (e->disk)
		if (++e == entries + ENTRIES_MAX)
			sim_fail("too many files");
	*e = (struct entry){ .disk = disk, .lasting = lasting };
	assert(snprintf(e->name, sizeof(e->name), "%s", path) < (int)sizeof(e->name));
	return e;
}

void sim_files_add(struct sim_disk *disk, unsigned number)
{
	char path[NAME_MAX_BYTES];

	assert(number < SIM_DISKS_MAX);
	snprintf(path, sizeof(path), SIM_FOLDER "/" SIM_DISK_NAME, number);
	(void)add(path, disk, true);
}

struct sim_disk *sim_disk_named(const char *path)
{
	char whole[NAME_MAX_BYTES];
	struct entry *e;

	if (!strchr(path, '/') &&
	    snprintf(whole, sizeof(whole), SIM_FOLDER "/%s", path) < (int)sizeof(whole))
		path = whole;
	e = find(path);
	return e ? e->disk : NULL;
}

struct sim_disk *sim_disk_number(unsigned number)
{
	char name[16];

	snprintf(name, sizeof(name), SIM_DISK_NAME, number);
	return sim_disk_named(name);
}

/* ---- opening ----------------------------------------------------------- */

static int open_disk(struct sim_disk *disk, int flags)
{
	int fd = sim_fd_new(flags & O_PATH ? SIM_FD_PATH : SIM_FD_DISK, disk);

	*sim_fd_flags(fd) = flags & (O_ACCMODE | O_DIRECT);
	if (flags & O_TRUNC)
		(void)sim_disk_truncate_now(disk, 0);
	return fd;
}

static struct sim_disk *make(const char *path)
{
	struct sim_disk *disk = sim_disk_new_file();

	sim_files_call();
	disk->dead = cut; /* nobody will find it */
	sim_note("file made", 0, 0);
	return add(path, disk, false)->disk;
}

int sim_files_open(const char *path, int flags)
{
	struct sim_disk *disk = sim_disk_named(path);
	int number;
	char end;

	if (sscanf(path, "/proc/self/fd/%d%c", &number, &end) == 1)
		return sim_fd_kind(number) == SIM_FD_DISK ? open_disk(sim_fd_object(number), flags)
							  : SIM_NOT_OURS;
	if (strcmp(path, SIM_FOLDER) == 0)
		return sim_fd_new(SIM_FD_FOLDER, &folder);
	if (strcmp(path, SIM_FILES) == 0)
		return (flags & O_TMPFILE) == O_TMPFILE ? open_disk(make(""), flags)
							: sim_fd_new(SIM_FD_FOLDER, &folder);
	if (!disk && !is_in(path, SIM_FILES) && !is_in(path, SIM_FOLDER))
		return SIM_NOT_OURS;
	if (disk && flags & O_CREAT && flags & O_EXCL)
		return -EEXIST;
	if (!disk && !(flags & O_CREAT))
		return -ENOENT;
	return open_disk(disk ? disk : make(path), flags);
}

int sim_files_remove(const char *path)
{
	struct entry *e = find(path);

	if (!e)
		return is_in(path, SIM_FILES) ? -ENOENT : SIM_NOT_OURS;
	sim_files_call();
	e->name[0] = '\0';
	return 0;
}

void sim_files_forget(void)
{
	for (unsigned i = 0; i < ENTRIES_MAX; i++)
		if (entries[i].disk && !is_in(entries[i].name, SIM_FOLDER)) {
			sim_disk_free(entries[i].disk);
			entries[i].disk = NULL;
		}
}

void sim_files_sync_names(void)
{
	for (unsigned i = 0; i < ENTRIES_MAX && !cut; i++)
		entries[i].lasting = true;
}

/* ---- the power --------------------------------------------------------- */

void sim_files_call(void)
{
	if (calls_left && --calls_left == 0)
		sim_files_cut();
}

void sim_files_cut_after(unsigned calls)
{
	calls_left = calls;
}

void sim_files_cut(void)
{
	calls_left = 0;
	if (cut)
		return;
	cut = true;
	sim_note("power cut", 0, 0);
	for (unsigned i = 0; i < ENTRIES_MAX; i++) {
		struct entry *e = &entries[i];
		bool stays = e->disk && e->name[0] && (e->lasting || sim_one_in(2));

		if (!e->disk)
			continue;
		e->after = stays ? sim_disk_power_cut(e->disk) : NULL;
		e->disk->dead = true;
	}
}

bool sim_files_are_cut(void)
{
	return cut;
}

void sim_files_restore(void)
{
	assert(cut);
	cut = false;
	for (unsigned i = 0; i < ENTRIES_MAX; i++) {
		struct entry *e = &entries[i];

		if (!e->disk)
			continue;
		sim_disk_free(e->disk);
		e->disk = e->after;
		e->after = NULL;
		e->lasting = true;
	}
}

void sim_files_end(void)
{
	for (unsigned i = 0; i < ENTRIES_MAX; i++)
		if (entries[i].disk)
			sim_disk_free(entries[i].disk);
	memset(entries, 0, sizeof(entries));
	calls_left = 0;
	cut = false;
}
