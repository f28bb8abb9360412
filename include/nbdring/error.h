/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Errors of opening and configuring, in words a person can act on.
 *
 * A layer that cannot be opened, a parameter that is out of range, a ring
 * that the kernel refuses: each fills a struct nr_error with one sentence,
 * without a newline, and every caller on the way up may put its own name in
 * front ("file: disk.img: No such file or directory").  Whoever stands at the
 * top (the command line, the control socket) prints it; nothing below does.
 *
 * Errors of a single request are not of this kind: they are negative errno
 * values in struct nr_request (request.h).
 */
#ifndef NBDRING_ERROR_H
#define NBDRING_ERROR_H

#include <stddef.h>

#pragma GCC visibility push(default) /* what modules call */

#define NR_ERROR_TEXT_MAX 512

struct nr_error {
	int code;                     /* negative errno; 0 while nothing went wrong */
	char text[NR_ERROR_TEXT_MAX]; /* one sentence, NUL-terminated, cut if longer */
};

/*
 * Store CODE (negative errno) and the formatted sentence.  ERROR may be NULL
 * when the caller does not care.  Returns CODE, so that a failing function can
 * end with `return nr_error_set(error, -EINVAL, …)`.  Any thread.
 */
int nr_error_set(struct nr_error *error, int code, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/*
 * The same, with ": " and the system's text for CODE put behind the sentence.
 */
int nr_error_system(struct nr_error *error, int code, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/*
 * Put the formatted words and ": " in front of the sentence that is there.
 * Returns the code that is there.  ERROR may be NULL (returns 0 then).
 */
int nr_error_prefix(struct nr_error *error, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

#pragma GCC visibility pop

#endif
