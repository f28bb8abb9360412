/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What filters that report something write: files that several instances may
 * share, and text in memory with strings of strangers quoted in it.
 *
 * Nothing here is for workers: it allocates and it writes.
 */
#ifndef FILTERS_OUTPUT_H
#define FILTERS_OUTPUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "nbdring/error.h"

/*
 * Open PATH to put whole lines at its end.  Unless APPEND is set, what was in it
 * when this process first opened it is gone; other exports and other filters of
 * this process that write to the same file keep their lines.  Returns a
 * descriptor, or negative errno with a sentence.
 */
int nr_output_open(const char *path, bool append, struct nr_error *error);

/* All of it, or negative errno. */
int nr_output_write(int fd, const char *data, size_t length);

/* Text that grows; all zeroes is an empty one.  When memory is short, FAILED is set. */
struct nr_text {
	char *data;
	size_t used, room;
	bool failed;
};

void nr_text_add(struct nr_text *text, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
/* In double quotes, so that it is one word of printable characters on one line. */
void nr_text_add_quoted(struct nr_text *text, const char *string);
/* As a string of JSON, also when it is no UTF-8 (its bytes are taken for Latin-1 then). */
void nr_text_add_json(struct nr_text *text, const char *string);
void nr_text_free(struct nr_text *text);

#endif
