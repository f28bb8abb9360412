/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The file system of a world: simulated disks by their names, and the files that layers
 * make for themselves beside them.
 *
 *	/sim/disks/disk0 …   what is served; the folder can be served as well
 *	/sim/files/NAME      made by who opens it, of any name
 *
 * A name that was made is there after a power cut if its folder was flushed, or, by
 * chance, if it was not.  The power goes for all of them at the same moment: what is
 * found afterwards is kept aside, and takes their place when the server, which may go on
 * as long as it likes without an effect, has ended.
 */
#ifndef TESTS_SIM_FILES_H
#define TESTS_SIM_FILES_H

#include "tests/sim/disk.h"

#define SIM_FOLDER "/sim/disks"
#define SIM_DISK_NAME "disk%u"
#define SIM_DISKS_MAX 4u
#define SIM_FILES "/sim/files"

/* DISK is NUMBER in the folder; it belongs to the file system. */
void sim_files_add(struct sim_disk *disk, unsigned number);
/* By its path, or by its name in the folder; NULL: no such file. */
struct sim_disk *sim_disk_named(const char *path);
struct sim_disk *sim_disk_number(unsigned number);

/*
 * Open PATH as open(2) with FLAGS does: a descriptor or negative errno, or
 * SIM_NOT_OURS.
 */
int sim_files_open(const char *path, int flags);
#define SIM_NOT_OURS (-4096)
int sim_files_remove(const char *path);
/* All files that were made are gone.  None is open. */
void sim_files_forget(void);
/* The names in the folder of files are stable. */
void sim_files_sync_names(void);

/* A plain call changes something, or makes it stable. */
void sim_files_call(void);
/* The power goes at the CALLS-th of them from now on; 0: it does not. */
void sim_files_cut_after(unsigned calls);
/* The power goes now, if it has not gone yet. */
void sim_files_cut(void);
bool sim_files_are_cut(void);
/* The power is back.  No descriptor is open. */
void sim_files_restore(void);
/* The world ends: everything goes. */
void sim_files_end(void);

#endif
