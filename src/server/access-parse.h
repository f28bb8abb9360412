/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Rules of access, from text.  One rule is one line:
 *
 *   allow|deny [CONDITION]... [read-only]   # comment
 *
 *   export=PATTERN   tls   plain   psk=PATTERN   subject=PATTERN   issuer=PATTERN
 *   name=PATTERN   net=NETWORK   unix   uid=USER   gid=GROUP
 *
 * Double quotes around (a part of) a word keep blanks and # in it; a doubled one within
 * them is one.  Users and groups are numbers, ranges (1000-1999) or names.  In the
 * pattern of an export %psk, %cn, %uid and %user stand for what the client has proved,
 * and %% for a percent sign.  docs/operations.md explains all of it.
 */
#ifndef SRC_SERVER_ACCESS_PARSE_H
#define SRC_SERVER_ACCESS_PARSE_H

#include "src/server/access.h"

/* The longest file of rules that is read. */
#define NR_ACCESS_FILE_MAX (64u * 1024 * 1024)

/* No rules, one reference: everything is denied.  NULL when memory is short. */
struct nr_access *nr_access_new(void);

/*
 * Add the rules in the LENGTH bytes at TEXT, behind those that are there.  SOURCE (for
 * people) and a line's number, counted from 1, stand in front of what is wrong.  After
 * an error ACCESS is good for nothing but nr_access_unref.  Main thread, as users and
 * groups are looked up by name.
 */
int nr_access_add(struct nr_access *access, const char *source, const char *text, size_t length,
		  struct nr_error *error);

/* The same with the one rule that TEXT is. */
int nr_access_add_rule(struct nr_access *access, const char *text, struct nr_error *error);

/* The same with the file at PATH. */
int nr_access_add_file(struct nr_access *access, const char *path, struct nr_error *error);

#endif
