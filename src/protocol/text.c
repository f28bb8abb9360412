/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Checking and cutting the protocol's strings.
 *
 * One walk over the characters serves both.  What is a character follows
 * RFC 3629: no overlong forms, no surrogates, nothing above U+10FFFF.
 */
#include "src/protocol/text.h"

#include "src/protocol/wire.h"

/*
 * Bytes of the character at TEXT, of which LEFT >= 1 bytes may be looked at;
 * 0 if there is none.
 *
 *   00..7f                            (NUL is no character of ours)
 *   c2..df  80..bf
 *   e0..ef  80..bf  80..bf            e0: a0..bf   ed: 80..9f
 *   f0..f4  80..bf  80..bf  80..bf    f0: 90..bf   f4: 80..8f
 */
static size_t character_bytes(const uint8_t *text, size_t left)
{
	uint8_t first = text[0], low = 0x80, high = 0xbf;
	size_t bytes;

	if (first == 0)
		return 0;
	if (first < 0x80)
		return 1;
	if (first >= 0xc2 && first <= 0xdf)
		bytes = 2;
	else if (first >= 0xe0 && first <= 0xef)
		bytes = 3;
	else if (first >= 0xf0 && first <= 0xf4)
		bytes = 4;
	else
		return 0;
	if (left < bytes)
		return 0;

	if (first == 0xe0)
		low = 0xa0;
	else if (first == 0xed)
		high = 0x9f;
	else if (first == 0xf0)
		low = 0x90;
	else if (first == 0xf4)
		high = 0x8f;
	if (text[1] < low || text[1] > high)
		return 0;
	for (size_t i = 2; i < bytes; i++) {
		if (text[i] < 0x80 || text[i] > 0xbf)
			return 0;
	}
	return bytes;
}

bool nbd_text_ok(const uint8_t *text, size_t length)
{
	if (length > NBD_STRING_MAX)
		return false;
	for (size_t at = 0; at < length;) {
		size_t bytes = character_bytes(text + at, length - at);

		if (bytes == 0)
			return false;
		at += bytes;
	}
	return true;
}

size_t nbd_text_cut(const char *text, size_t max)
{
	size_t length, at = 0;

	if (!text)
		return 0;
	length = strlen(text);
	while (at < length) {
		size_t bytes = character_bytes((const uint8_t *)text + at, length - at);

		if (bytes == 0)
			return 0;
		if (bytes > max - at)
			break;
		at += bytes;
	}
	return at;
}
