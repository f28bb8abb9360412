/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Log lines carry export names, paths and error texts that clients and files
 * chose.  Here they become harmless: printable UTF-8 passes, the rest is shown
 * by its bytes.
 *
 * Pure; any thread.
 */
#include "src/log/line.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

/* A character that begins with LEAD: how many bytes follow, and the least it may encode. */
static unsigned trailing_bytes(unsigned char lead, uint32_t *bits, uint32_t *least)
{
	if (lead >= 0xc0 && lead < 0xe0) {
		*bits = lead & 0x1fu;
		*least = 0x80;
		return 1;
	}
	if (lead >= 0xe0 && lead < 0xf0) {
		*bits = lead & 0x0fu;
		*least = 0x800;
		return 2;
	}
	if (lead >= 0xf0 && lead < 0xf8) {
		*bits = lead & 0x07u;
		*least = 0x10000;
		return 3;
	}
	return 0;
}

/* Bytes of the printable character at TEXT, or 0 when there is none. */
static unsigned printable(const unsigned char *text)
{
	uint32_t code, least;
	unsigned trailing;

	if (text[0] < 0x80)
		return text[0] >= 0x20 && text[0] != 0x7f;
	trailing = trailing_bytes(text[0], &code, &least);
	if (trailing == 0)
		return 0;
	for (unsigned i = 1; i <= trailing; i++) {
		/* The NUL at the end stops this too. */
		if ((text[i] & 0xc0) != 0x80)
			return 0;
		code = code << 6 | (text[i] & 0x3fu);
	}
	/* Overlong, surrogate, too large; terminals obey the controls up to 0x9f. */
	if (code < least || code < 0xa0 || code > 0x10ffff || (code >= 0xd800 && code < 0xe000))
		return 0;
	/* Line and paragraph separators, and what turns the writing direction. */
	if ((code >= 0x2028 && code <= 0x202e) || (code >= 0x2066 && code <= 0x2069))
		return 0;
	return trailing + 1;
}

/* How the byte C is shown when it cannot be printed. */
static size_t escape_byte(char shown[5], unsigned char c)
{
	switch (c) {
	case '\n':
		return (size_t)snprintf(shown, 5, "\\n");
	case '\r':
		return (size_t)snprintf(shown, 5, "\\r");
	case '\t':
		return (size_t)snprintf(shown, 5, "\\t");
	default:
		return (size_t)snprintf(shown, 5, "\\x%02x", c);
	}
}

size_t nr_line_escape(char *out, size_t room, const char *text)
{
	const unsigned char *in = (const unsigned char *)text;
	size_t used = 0;

	while (*in) {
		char shown[5];
		const char *bytes = (const char *)in;
		unsigned taken = printable(in);
		size_t length = taken;

		if (taken == 0) {
			taken = 1;
			length = escape_byte(shown, *in);
			bytes = shown;
		}
		if (used + length >= room)
			break;
		memcpy(out + used, bytes, length);
		used += length;
		in += taken;
	}
	out[used] = '\0';
	return used;
}
