/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The native protocol of the journal, as systemd documents it: fields one behind the
 * other, each NAME=VALUE and a newline; where a value has a newline itself, NAME, a
 * newline, the length as eight bytes, the lowest first, the value and a newline.
 *
 * Values are the true ones: names that clients chose are not escaped, as they are in the
 * text, so that they can be looked for.  One that is too long is cut.
 *
 * Pure; any thread.
 */
#include "src/log/journal.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define VALUE_MAX 4096u
#define ENVELOPE_MAX 64u /* of a field: its name, the length, two newlines */

struct entry {
	char *bytes;
	size_t used;
};

static void put(struct entry *entry, const void *bytes, size_t length)
{
	memcpy(entry->bytes + entry->used, bytes, length);
	entry->used += length;
}

static void put_length(struct entry *entry, uint64_t length)
{
	for (int i = 0; i < 8; i++)
		entry->bytes[entry->used++] = (char)(length >> 8 * i & 0xff);
}

static void put_value(struct entry *entry, const char *name, const char *value, size_t length)
{
	if (length > VALUE_MAX)
		length = VALUE_MAX;
	/* So much there always is: see NR_JOURNAL_BYTES. */
	if (entry->used + length + ENVELOPE_MAX > NR_JOURNAL_BYTES)
		return;
	put(entry, name, strlen(name));
	if (memchr(value, '\n', length)) {
		put(entry, "\n", 1);
		put_length(entry, length);
	} else {
		put(entry, "=", 1);
	}
	put(entry, value, length);
	put(entry, "\n", 1);
}

static void put_text(struct entry *entry, const char *name, const char *value)
{
	if (value)
		put_value(entry, name, value, strlen(value));
}

static void put_number(struct entry *entry, const char *name, int number)
{
	char text[16];

	snprintf(text, sizeof(text), "%d", number);
	put_text(entry, name, text);
}

size_t nr_journal_entry(char bytes[NR_JOURNAL_BYTES], const char *who,
			const struct nr_sink_line *line, int priority)
{
	struct entry entry = { .bytes = bytes };

	put_number(&entry, "PRIORITY", priority);
	put_text(&entry, "SYSLOG_IDENTIFIER", who);
	put_value(&entry, "MESSAGE", line->text, line->length);
	if (line->place) {
		put_text(&entry, "CODE_FILE", line->place->file);
		put_number(&entry, "CODE_LINE", line->place->line);
		put_text(&entry, "CODE_FUNC", line->place->function);
	}
	if (line->fields) {
		put_text(&entry, "EXPORT", line->fields->export_name);
		put_text(&entry, "CLIENT", line->fields->client);
		put_text(&entry, "LAYER", line->fields->layer);
		if (line->fields->error)
			put_number(&entry, "ERRNO", line->fields->error);
	}
	return entry.used;
}
