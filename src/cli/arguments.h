/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The words of the command line, those in files (@PATH) among them.
 */
#ifndef SRC_CLI_ARGUMENTS_H
#define SRC_CLI_ARGUMENTS_H

#include <stdbool.h>
#include <stddef.h>

#include "nbdring/error.h"

#define NR_ARGUMENTS_DEPTH_MAX 8          /* files that name files */
#define NR_ARGUMENTS_BYTES_MAX (1u << 20) /* of one file */
#define NR_ARGUMENTS_WORDS_MAX 16384      /* of all together */

/* Where a word came from. */
struct nr_origin {
	const char *file; /* NULL: the command line itself */
	unsigned line;
};

struct nr_arguments {
	int argc;
	char **argv; /* ends with NULL; whoever reorders it works on this one */
	struct nr_origin *origins;
	const char **words; /* argv as it was, to find origins by */
	char **owned;       /* memory that words and names of files lie in */
	size_t owned_count;
};

/*
 * ARGV with each @PATH replaced by the words in that file.  WANTS_VALUE says of a word
 * whether the next one is its value, which is left as it is; so is all behind "--".
 * Give back with nr_arguments_free in any case.
 */
int nr_arguments_expand(struct nr_arguments *arguments, int argc, char **argv,
			bool (*wants_value)(const char *word), struct nr_error *error);
void nr_arguments_free(struct nr_arguments *arguments);

/* Put the place that WORD, one of argv, came from in front of the sentence, if it is in a file. */
void nr_arguments_locate(const struct nr_arguments *arguments, const char *word,
			 struct nr_error *error);

/*
 * Cut the next word off *AT, in place; *LINE counts on.  Blanks and line ends part
 * words; # at the beginning of one starts a comment; '…' keeps everything, "…" all
 * but backslashes, and a backslash the character behind it.  NULL: no more, or, with
 * *PROBLEM set, something that is no word, at *LINE.
 */
char *nr_arguments_next(char **at, unsigned *line, const char **problem);

#endif
