/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The options of the command line.
 *
 * One table row per option; parsing, --help, --long-options, --short-options and
 * the manual's OPTIONS section are made from the rows, so nothing about an
 * option is written twice.
 */
#ifndef SRC_CLI_OPTIONS_H
#define SRC_CLI_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "nbdring/error.h"
#include "nbdring/param.h"
#include "src/cli/arguments.h"
#include "src/cli/qemu-options.h"

/* What the command is to do. */
enum nr_action {
	NR_ACTION_SERVE,
	NR_ACTION_HELP,
	NR_ACTION_VERSION,
	NR_ACTION_LIST,
	NR_ACTION_DUMP_CONFIG,
	NR_ACTION_DUMP_PLUGIN,
	NR_ACTION_SHORT_OPTIONS,
	NR_ACTION_LONG_OPTIONS,
	NR_ACTION_MANUAL,
};

/*
 * What the command line says, with files that it names by @PATH.  Strings are those
 * of argv, or belong to the struct.  Switches are unsigned so that a row can set any of them to a number.
 */
struct nr_options {
	unsigned action; /* enum nr_action */

	struct nr_strings unix_paths; /* -U; "-" is a private one, "@NAME" an abstract one */
	unsigned has_unix_mode;       /* --unix-mode was given */
	unsigned unix_mode;           /* at most 0777 */
	const char *unix_owner;       /* as nr_owner_find wants it; NULL: not given */
	struct nr_strings ports;      /* -p; numbers or names of services */
	struct nr_strings addresses;  /* -i; none: every address */
	const char *interface;        /* --interface; NULL: any */
	unsigned family;              /* AF_UNSPEC, AF_INET, AF_INET6 */
	struct nr_strings vsocks;     /* --vsock=PORT, --vsock=CID:PORT */
	unsigned ports_are_vsock;     /* --vsock: those of -p, and the default one */
	const char *listen_error;     /* what begins a message about listening; NULL: none */
	unsigned single;              /* -s */
	unsigned print_uri;

	struct nr_strings filters; /* --filter, outermost first */
	unsigned read_only;

	const char *access_file;        /* --access, absolute; NULL: none */
	struct nr_strings access_rules; /* --access-rule */
	unsigned max_connections;       /* 0: no limit, as for the others */
	unsigned max_connections_wait;
	unsigned max_per_export;
	unsigned max_per_peer;
	unsigned max_handshakes;
	unsigned handshake_seconds; /* 0: no limit */
	unsigned keepalive[3];      /* idle, interval, count; idle 0: none */
	unsigned exit_last;
	unsigned exit_idle; /* seconds; 0: never */

	unsigned foreground;
	unsigned exit_with_parent;
	const char *pid_file;    /* absolute; NULL: none */
	const char *run;         /* --run; NULL: none */
	const char *export_name; /* -e; "" by default */
	unsigned workers;        /* -t; 0: one per CPU */
	unsigned spin;           /* --spin, microseconds */
	const char *user;        /* -u; NULL: as whoever started it */
	const char *group;       /* -g */
	unsigned sandbox;        /* enum nr_sandbox_mode */
	unsigned swap;
	const char *selinux_label;
	const char *log;  /* as nr_log_open wants it; NULL: not given */
	const char *name; /* --name; NULL: none */
	unsigned verbose;
	unsigned debug_plan; /* -D nbdring.plan */

	unsigned oldstyle;
	unsigned no_structured;
	unsigned no_contexts;
	unsigned handshake_mask;

	unsigned tls;                 /* enum nr_tls_mode */
	const char *tls_certificates; /* folder, absolute; NULL: where they usually are */
	const char *tls_psk;          /* file, absolute; NULL: none */
	const char *tls_priority;     /* NULL: the default */
	unsigned tls_verify_peer;
	unsigned tls_library_records;

	struct nr_qemu_options qemu; /* where the command is qemu-nbd */

	const char *manual_of;   /* --manual */
	struct nr_strings words; /* the rest: backend, key=value, bare words */
	struct nr_arguments arguments;

	struct nr_strings owned; /* memory of some of the strings above */
};

enum nr_option_group {
	NR_OPTIONS_LISTENING,
	NR_OPTIONS_CLIENTS,
	NR_OPTIONS_TLS,
	NR_OPTIONS_LAYERS,
	NR_OPTIONS_PROCESS,
	NR_OPTIONS_PROTOCOL,
	NR_OPTIONS_INFORMATION,
	NR_OPTIONS_HIDDEN, /* not in --help and the lists */
	NR_OPTION_GROUP_COUNT
};

/* How a row changes the field of struct nr_options at its offset. */
enum nr_option_kind {
	NR_OPTION_SET,  /* unsigned = number */
	NR_OPTION_TEXT, /* const char * = the value */
	NR_OPTION_PATH, /* const char * = the value, made absolute */
	NR_OPTION_LIST, /* struct nr_strings: the value is added */
	NR_OPTION_CALL, /* take() */
};

#define NR_OPTION_ALIASES 3

struct nr_option {
	const char *name;                       /* long name, without dashes; NULL ends the table */
	const char *aliases[NR_OPTION_ALIASES]; /* further long names */
	char letter;                            /* short name; 0: none */
	const char *value;                      /* placeholder; NULL: takes no value */
	bool value_optional;                    /* take() may get NULL; only as --name=VALUE */
	enum nr_option_group group;
	enum nr_option_kind kind;
	size_t offset;
	unsigned number;
	int (*take)(struct nr_options *options, const char *value, struct nr_error *error);
	const char *help;   /* one phrase, no full stop */
	const char *manual; /* paragraphs in POD */
};

/* The options of a command. */
struct nr_option_set {
	const char *program; /* what the command is called */
	const struct nr_option *rows;
};

extern const struct nr_option nr_option_table[];
extern const struct nr_option_set nr_option_set; /* nbdring's: that table */

/*
 * Read the command line into OPTIONS, which need not be initialised and is to be
 * given back with nr_options_free in any case.  Main thread (getopt keeps state).
 */
int nr_options_parse(struct nr_options *options, int argc, char **argv, struct nr_error *error);
/*
 * The same for a command with other options and its own ideas of what goes together:
 * OPTIONS is initialised, files of words are none, and what contradicts what is not
 * looked at.
 */
int nr_options_read(struct nr_options *options, const struct nr_option_set *set, int argc,
		    char **argv, struct nr_error *error);
void nr_options_free(struct nr_options *options);

/* Add TEXT to LIST.  -ENOMEM. */
int nr_strings_add(struct nr_strings *list, const char *text, struct nr_error *error);

void nr_options_help(FILE *to, const struct nr_option_set *set);   /* their part of --help */
void nr_options_manual(FILE *to, const struct nr_option_set *set); /* in POD */
void nr_options_list_long(FILE *to);                               /* --long-options */
void nr_options_list_short(FILE *to);                              /* --short-options */

#endif
