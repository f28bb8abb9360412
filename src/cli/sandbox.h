/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The sandbox: from the start on, the server may do what serving takes and no more.
 *
 * Two halves.  Landlock bounds what can be reached: the files that the plan names, those of
 * log, pid file and sockets, no TCP port.  seccomp bounds what can be asked of the kernel:
 * a list of system calls, without those that run programs, make sockets, look into other
 * processes or make rings.  (What rings can do is bounded in ring/uring-restrict.c.)
 *
 * What layers need beyond that, they say (NR_NEEDS_*, NR_PARAM_*).  A layer that runs
 * programs takes the sandbox away, because programs inherit it.
 *
 * Main thread.
 */
#ifndef SRC_CLI_SANDBOX_H
#define SRC_CLI_SANDBOX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "nbdring/error.h"
#include "src/stack/stack.h"

enum nr_sandbox_mode {
	NR_SANDBOX_AUTO, /* as much as kernel and layers allow */
	NR_SANDBOX_ON,   /* all of it, or no start */
	NR_SANDBOX_OFF,
};

/* What may be done with a path, and with all below it if it is a folder. */
#define NR_REACH_READ (1u << 0)
#define NR_REACH_WRITE (1u << 1)  /* open files for writing */
#define NR_REACH_MAKE (1u << 2)   /* make files; with REMOVE: rename them within the folder */
#define NR_REACH_REMOVE (1u << 3) /* remove files and sockets */
#define NR_REACH_SOCKET (1u << 4) /* make sockets */
#define NR_REACH_RMDIR (1u << 5)  /* remove empty folders */
#define NR_REACH_FOLDER (1u << 6) /* all that of the folder the path is in: it may not be there */

struct nr_reach {
	char *path;
	unsigned how; /* NR_REACH_* */
};

struct nr_sandbox {
	enum nr_sandbox_mode mode;
	unsigned needs;           /* NR_NEEDS_* of the plan's layers */
	const char *needy;        /* the first layer that needs something, or NULL */
	struct nr_reach *reaches; /* what the layers' parameters, and others, name */
	size_t reach_count;
	bool commands;         /* the server ends a command that is outside (--run) */
	bool abstract_sockets; /* it talks to one */
	bool local_sockets;    /* it may have to connect to the system log again */
	bool opens_later;      /* exports are opened when their clients come */
	int landlock;          /* ABI that is in force; 0: none */
	bool seccomp;          /* in force */
};

/* What PLAN's layers need, and the paths they name.  To be given back in any case. */
int nr_sandbox_init(struct nr_sandbox *sandbox, enum nr_sandbox_mode mode,
		    const struct nr_plan *plan, struct nr_error *error);
void nr_sandbox_free(struct nr_sandbox *sandbox);

/*
 * PATH may be reached; before nr_sandbox_enter.  For files that are opened later than at
 * the start.  NULL, or a relative path: nothing happens.
 */
int nr_sandbox_add(struct nr_sandbox *sandbox, const char *path, unsigned how,
		   struct nr_error *error);

/* From now on, for this thread and those it makes: only what can be reached. */
int nr_sandbox_enter(struct nr_sandbox *sandbox, struct nr_error *error);

/* From now on, for all threads: only the calls that serving takes. */
int nr_sandbox_seal(struct nr_sandbox *sandbox, struct nr_error *error);

/* For --dump-config: what this build and this kernel can do. */
int nr_sandbox_landlock_abi(void); /* 0: none */
bool nr_sandbox_has_seccomp(void);

/* Private to sandbox.c, which decides, and the two halves. */
int nr_sandbox_restrict_paths(const struct nr_sandbox *sandbox, int abi, struct nr_error *error);
int nr_sandbox_restrict_calls(const struct nr_sandbox *sandbox, struct nr_error *error);

#endif
