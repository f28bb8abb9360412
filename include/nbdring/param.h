/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Parameters: what a layer takes on the command line, as a table.
 *
 * One row per parameter.  From the rows the core parses `key=value`, fills in
 * defaults, checks ranges, suggests the nearest name for a wrong one, prints
 * `nbdring LAYER --help` and writes the parameter section of the man page, so
 * none of these can disagree.
 *
 * Values are stored in the layer's instance at `offset`, in the C type that
 * the row's type names below.  Strings belong to the core and live as long as
 * the instance.
 */
#ifndef NBDRING_PARAM_H
#define NBDRING_PARAM_H

#include <stddef.h>
#include <stdint.h>

enum nr_param_type {
	NR_PARAM_STRING, /* const char *; NULL when not given and no default */
	NR_PARAM_PATH,   /* const char *; made absolute when parsed, so that a daemon which
			  * has left its folder still finds it */
	NR_PARAM_SIZE,   /* uint64_t bytes; suffixes b K M G T P E s (512), as qemu and nbdkit */
	NR_PARAM_UINT,   /* uint64_t */
	NR_PARAM_BOOL,   /* bool; true/false, on/off, yes/no, 1/0 */
	NR_PARAM_CHOICE, /* unsigned: the index into `choices` */
	NR_PARAM_LIST,   /* struct nr_strings; may be given more than once */
	NR_PARAM_PATHS,  /* struct nr_strings of absolute paths; may be given more than once */
};

struct nr_strings {
	size_t count;
	const char **item;
};

#define NR_PARAM_REQUIRED (1u << 0) /* must be given */
#define NR_PARAM_MAIN (1u << 1)     /* bare words after the layer's name go here; one row at most */

/*
 * What the layer does with the value, for the sandbox, which lets the server do that and
 * no more.  A path is read, a folder with all that is in it; further:
 */
#define NR_PARAM_WRITTEN \
	(1u << 2)               /* PATH: opened for writing, too, unless the server is read-only */
#define NR_PARAM_MADE (1u << 3) /* PATH: made if it is not there, and removed */
/* PATH: opened again later, when it may be another file.  STACK: may be opened later only. */
#define NR_PARAM_AGAIN (1u << 4)
#define NR_PARAM_COMMAND (1u << 5)    /* STRING, LIST: a command that is run */
#define NR_PARAM_SCRIPT (1u << 6)     /* STRING: a command if it begins with "script:" */
#define NR_PARAM_STACK (1u << 7)      /* STRING: words for nr_substack_open */
#define NR_PARAM_DESCRIPTOR (1u << 8) /* UINT: of a file the server was started with */

/*
 * STRING: a secret.  Whoever starts the server may write, in its place, "-" to be asked for
 * it, "+FILE" for the first line of a file, or "-FD" for that of a descriptor.  The layer is
 * given the secret; it is in memory for secrets (secret.h) and is shown nowhere.
 */
#define NR_PARAM_SECRET (1u << 9)

struct nr_param {
	const char *name; /* [A-Za-z][A-Za-z0-9._-]* ; NULL ends the table */
	enum nr_param_type type;
	unsigned flags;             /* NR_PARAM_* */
	size_t offset;              /* offsetof(struct INSTANCE, field) */
	const char *fallback;       /* the default, as a user would write it; NULL: none */
	uint64_t min, max;          /* SIZE and UINT: range, both ends included; max 0: none */
	const char *const *choices; /* CHOICE: names, NULL-terminated */
	const char *value;          /* placeholder in help: "PATH", "SIZE", … */
	const char *help;           /* one sentence, no full stop */
	const char *manual;         /* paragraphs in POD for the man page; NULL: `help` alone */
};

#endif
