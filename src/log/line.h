/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Text of unknown origin as one clean line.
 */
#ifndef SRC_LOG_LINE_H
#define SRC_LOG_LINE_H

#include <stddef.h>

/*
 * TEXT into OUT (ROOM bytes with the NUL, at least 1): what would move a cursor,
 * end a line or is not UTF-8 becomes \n, \t or \xNN, so that nothing a client
 * calls itself can forge a line or drive a terminal.  Cut at ROOM, never inside
 * a character.  Returns the length.
 */
size_t nr_line_escape(char *out, size_t room, const char *text);

#endif
