/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Sentences for people: struct nr_error is filled here and nowhere else.
 *
 * The sentence is cut rather than lost when it does not fit, and never holds
 * control characters: names that came from a client or a file are in it.
 */
#include "nbdring/error.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static void clean(char *text)
{
	for (; *text; text++)
		if (iscntrl((unsigned char)*text))
			*text = '?';
}

static void set_text(struct nr_error *error, int code, const char *format, va_list args)
	__attribute__((format(printf, 3, 0)));

static void set_text(struct nr_error *error, int code, const char *format, va_list args)
{
	error->code = code;
	vsnprintf(error->text, sizeof(error->text), format, args);
	clean(error->text);
}

int nr_error_set(struct nr_error *error, int code, const char *format, ...)
{
	va_list args;

	if (!error)
		return code;
	va_start(args, format);
	set_text(error, code, format, args);
	va_end(args);
	return code;
}

int nr_error_system(struct nr_error *error, int code, const char *format, ...)
{
	char buffer[128];
	va_list args;
	size_t used;

	if (!error)
		return code;
	va_start(args, format);
	set_text(error, code, format, args);
	va_end(args);
	used = strlen(error->text);
	snprintf(error->text + used, sizeof(error->text) - used, ": %s",
		 strerror_r(-code, buffer, sizeof(buffer)));
	return code;
}

int nr_error_prefix(struct nr_error *error, const char *format, ...)
{
	char rest[NR_ERROR_TEXT_MAX];
	va_list args;
	size_t used;

	if (!error)
		return 0;
	memcpy(rest, error->text, sizeof(rest));
	va_start(args, format);
	set_text(error, error->code, format, args);
	va_end(args);
	used = strlen(error->text);
	snprintf(error->text + used, sizeof(error->text) - used, ": %.*s",
		 (int)(sizeof(error->text) - used), rest);
	return error->code;
}
