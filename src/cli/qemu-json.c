/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * JSON, as far as names of images need it: an object, whose members become settings
 * with the names of their objects in front ("file.filename"), and the items of a list
 * their numbers.  Strings may stand in single quotes, as qemu has it.
 *
 * The text comes from a command line; it is read once from front to back, and depth and
 * numbers of members are bounded.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "src/cli/qemu-settings.h"

#define NAME_MAX_BYTES 512 /* of a member with those it is in */

struct reader {
	const char *start, *at;
	char *text; /* room for any string of the input */
	char name[NAME_MAX_BYTES];
	struct nr_qemu_settings *settings;
	struct nr_error *error;
};

static int fault(struct reader *r, const char *what)
{
	return nr_error_set(r->error, -EINVAL,
			    "Could not parse the JSON options: JSON parse error, %s at byte %zu",
			    what, (size_t)(r->at - r->start) + 1);
}

static char peek(struct reader *r)
{
	r->at += strspn(r->at, " \t\r\n");
	return *r->at;
}

static bool skip(struct reader *r, char wanted)
{
	if (peek(r) != wanted)
		return false;
	r->at++;
	return true;
}

/* The code of \uXXXX behind AT, or -1. */
static long take_code(const char *at)
{
	char digits[5] = "";

	memcpy(digits, at, strnlen(at, 4));
	return strspn(digits, "0123456789abcdefABCDEF") == 4 ? strtol(digits, NULL, 16) : -1;
}

static char *put_utf8(char *to, unsigned long code)
{
	if (code < 0x80) {
		*to++ = (char)code;
	} else if (code < 0x800) {
		*to++ = (char)(0xc0 | code >> 6);
		*to++ = (char)(0x80 | (code & 0x3f));
	} else if (code < 0x10000) {
		*to++ = (char)(0xe0 | code >> 12);
		*to++ = (char)(0x80 | (code >> 6 & 0x3f));
		*to++ = (char)(0x80 | (code & 0x3f));
	} else {
		*to++ = (char)(0xf0 | code >> 18);
		*to++ = (char)(0x80 | (code >> 12 & 0x3f));
		*to++ = (char)(0x80 | (code >> 6 & 0x3f));
		*to++ = (char)(0x80 | (code & 0x3f));
	}
	return to;
}

/* \uXXXX, and the second half of a pair where it is one.  At the u. */
static int take_unicode(struct reader *r, char **to)
{
	long code = take_code(r->at + 1), low;

	/* No name holds a NUL. */
	if (code <= 0)
		return fault(r, "no character");
	r->at += 5;
	if (code >= 0xd800 && code < 0xe000) {
		low = r->at[0] == '\\' && r->at[1] == 'u' ? take_code(r->at + 2) : -1;
		if (code >= 0xdc00 || low < 0xdc00 || low > 0xdfff)
			return fault(r, "half a character");
		r->at += 6;
		code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
	}
	*to = put_utf8(*to, (unsigned long)code);
	return 0;
}

static int take_escape(struct reader *r, char **to)
{
	static const char names[] = "\"'\\/bfnrt", values[] = "\"'\\/\b\f\n\r\t";
	const char *which;

	r->at++;
	if (*r->at == 'u')
		return take_unicode(r, to);
	which = *r->at ? strchr(names, *r->at) : NULL;
	if (!which)
		return fault(r, "an unknown escape");
	*(*to)++ = values[which - names];
	r->at++;
	return 0;
}

/* A string into r->text. */
static int take_string(struct reader *r)
{
	char quote = peek(r), *to = r->text;
	int err = 0;

	if (quote != '"' && quote != '\'')
		return fault(r, "no string");
	r->at++;
	while (!err && *r->at && *r->at != quote) {
		if (*r->at == '\\')
			err = take_escape(r, &to);
		else
			*to++ = *r->at++;
	}
	if (err)
		return err;
	if (!*r->at)
		return fault(r, "a string without end");
	r->at++;
	*to = '\0';
	return 0;
}

static int add(struct reader *r, const char *value, size_t length)
{
	return nr_qemu_add(r->settings, r->name, strlen(r->name), value, length, r->error);
}

/* A number, or a word. */
static int take_bare(struct reader *r)
{
	size_t length = strcspn(r->at, " \t\r\n,:{}[]\"'");
	const char *word = r->at;

	if (length == 4 && strncmp(word, "true", 4) == 0) {
		r->at += length;
		return add(r, "on", 2);
	}
	if (length == 5 && strncmp(word, "false", 5) == 0) {
		r->at += length;
		return add(r, "off", 3);
	}
	if (length == 4 && strncmp(word, "null", 4) == 0) {
		r->at += length;
		return add(r, NULL, 0);
	}
	if (length == 0 || strspn(word, "+-.0123456789eE") < length)
		return fault(r, "no value");
	r->at += length;
	return add(r, word, length);
}

/* Put ".PART" behind the name, or PART if it is the first.  False when it is too long. */
static bool extend(struct reader *r, const char *part)
{
	size_t used = strlen(r->name);
	int length =
		snprintf(r->name + used, sizeof(r->name) - used, "%s%s", used ? "." : "", part);

	return (size_t)length < sizeof(r->name) - used;
}

static int take_value(struct reader *r, unsigned depth);

/* The members of an object, or the items of a list; behind the bracket. */
static int take_members(struct reader *r, char end, unsigned depth)
{
	size_t used = strlen(r->name);
	unsigned index = 0;
	int err = 0;

	if (depth == NR_QEMU_DEPTH_MAX)
		return fault(r, "too much nesting");
	if (skip(r, end))
		return 0;
	do {
		if (end == '}')
			err = take_string(r);
		else
			snprintf(r->text, 16, "%u", index++);
		if (!err && !extend(r, r->text))
			err = fault(r, "a name that is too long");
		if (!err && end == '}' && !skip(r, ':'))
			err = fault(r, "no colon");
		if (!err)
			err = take_value(r, depth + 1);
		r->name[used] = '\0';
	} while (!err && skip(r, ','));
	if (!err && !skip(r, end))
		err = fault(r, "no end of an object or a list");
	return err;
}

static int take_value(struct reader *r, unsigned depth)
{
	int err;

	switch (peek(r)) {
	case '{':
		r->at++;
		return take_members(r, '}', depth);
	case '[':
		r->at++;
		return take_members(r, ']', depth);
	case '"':
	case '\'':
		err = take_string(r);
		return err ? err : add(r, r->text, strlen(r->text));
	default:
		return take_bare(r);
	}
}

int nr_qemu_read_json(struct nr_qemu_settings *settings, const char *text, struct nr_error *error)
{
	struct reader r = { .start = text, .at = text, .settings = settings, .error = error };
	int err;

	*settings = (struct nr_qemu_settings){ .count = 0 };
	/* A string never grows by being read; a number of a list needs a few bytes. */
	r.text = malloc(strlen(text) + 16);
	if (!r.text)
		return nr_error_system(error, -ENOMEM, "settings");
	if (peek(&r) != '{')
		err = fault(&r, "no object");
	else
		err = take_value(&r, 0);
	if (!err && peek(&r))
		err = fault(&r, "something behind the end");
	free(r.text);
	return err;
}
