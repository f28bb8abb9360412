/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The protocol's strings (section "Conventions"): UTF-8 without NUL, at most
 * NBD_STRING_MAX bytes.  Both ends are held to it: what a client sends is
 * checked, and so is what comes from file names and error messages before it
 * is sent.
 */
#ifndef SRC_PROTOCOL_TEXT_H
#define SRC_PROTOCOL_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Is [TEXT, TEXT+LENGTH) well-formed UTF-8, without NUL, not over the limit? */
bool nbd_text_ok(const uint8_t *text, size_t length);

/*
 * How many bytes of TEXT (NUL-terminated) to send, at most MAX: cut where a
 * character begins, and 0 when TEXT is NULL or no UTF-8.
 */
size_t nbd_text_cut(const char *text, size_t max);

#endif
