/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Patterns for names, as people write them: filters of policy and the server's own
 * rules match with the same function.
 *
 *   *        any characters, also none; a slash is nothing special
 *   ?        one character (of UTF-8)
 *   [a-z_]   one of these; [!a-z_] one other than these; [*] a star
 *
 * Everything else stands for itself, also a backslash, and a [ that nothing closes.
 * The time a match takes is at most the product of the two lengths.
 */
#ifndef NBDRING_PATTERN_H
#define NBDRING_PATTERN_H

#include <stdbool.h>
#include <stddef.h>

#pragma GCC visibility push(default) /* what modules call */

/* Does PATTERN mean the LENGTH bytes at TEXT, all of them?  Any thread. */
bool nr_pattern_matches(const char *pattern, const char *text, size_t length);

/*
 * The same for a distinguished name as RFC 4514 writes it.  The pattern is matched part by
 * part: no star reaches over a comma that separates parts, and a part that is only a
 * star stands for any number of them, also none.  So "CN=backup,*" cannot be met by
 * who puts a comma into the name he has.  Blanks in front of a part of the pattern do
 * not count.
 */
bool nr_pattern_matches_dn(const char *pattern, size_t pattern_length, const char *dn);

/* Does any character of the LENGTH bytes at PATTERN stand for others than itself? */
bool nr_pattern_is_wild(const char *pattern, size_t length);

#pragma GCC visibility pop

#endif
