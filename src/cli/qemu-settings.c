/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The list of settings, and its short form: name=value, parted by commas; two commas
 * are one that belongs to a value.  A name alone is a switch that is on, "noNAME" one
 * that is off.
 */
#include "src/cli/qemu-settings.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static char *copy(const char *from, size_t length)
{
	char *text = malloc(length + 1);

	if (text) {
		if (length)
			memcpy(text, from, length);
		text[length] = '\0';
	}
	return text;
}

int nr_qemu_add(struct nr_qemu_settings *settings, const char *name, size_t name_length,
		const char *value, size_t value_length, struct nr_error *error)
{
	struct nr_qemu_setting *grown, *one;

	if (settings->count == NR_QEMU_SETTINGS_MAX)
		return nr_error_set(error, -E2BIG, "there are more than %d settings",
				    NR_QEMU_SETTINGS_MAX);
	grown = realloc(settings->item, (settings->count + 1) * sizeof(*grown));
	if (!grown)
		return nr_error_system(error, -ENOMEM, "settings");
	settings->item = grown;
	one = &grown[settings->count++];
	*one = (struct nr_qemu_setting){ .name = copy(name, name_length),
					 .value = value ? copy(value, value_length) : NULL };
	if (!one->name || (value && !one->value))
		return nr_error_system(error, -ENOMEM, "settings");
	return 0;
}

void nr_qemu_settings_free(struct nr_qemu_settings *settings)
{
	for (size_t i = 0; i < settings->count; i++) {
		free(settings->item[i].name);
		free(settings->item[i].value);
	}
	free(settings->item);
	*settings = (struct nr_qemu_settings){ .count = 0 };
}

/* The value at *AT into TO, with double commas made single; *AT goes behind its comma. */
static size_t take_value(const char **at, char *to)
{
	const char *from = *at;
	size_t length = 0;

	for (; *from; from++) {
		if (*from == ',' && *++from != ',')
			break;
		to[length++] = *from;
	}
	*at = from;
	return length;
}

/* A word without '=' (LENGTH bytes at WORD): a switch. */
static int add_switch(struct nr_qemu_settings *settings, const char *word, size_t length,
		      struct nr_error *error)
{
	bool off = length > 2 && strncmp(word, "no", 2) == 0;

	if (off)
		return nr_qemu_add(settings, word + 2, length - 2, "off", 3, error);
	return nr_qemu_add(settings, word, length, "on", 2, error);
}

int nr_qemu_read_options(struct nr_qemu_settings *settings, const char *text, const char *implied,
			 struct nr_error *error)
{
	char *value = malloc(strlen(text) + 1);
	bool first = true;
	int err = value ? 0 : nr_error_system(error, -ENOMEM, "settings");

	*settings = (struct nr_qemu_settings){ .count = 0 };
	while (!err && *text) {
		size_t length = strcspn(text, "=,");
		const char *name = text;

		if (text[length] == '=') {
			text += length + 1;
			err = nr_qemu_add(settings, name, length, value, take_value(&text, value),
					  error);
		} else if (first && implied) {
			err = nr_qemu_add(settings, implied, strlen(implied), value,
					  take_value(&text, value), error);
		} else {
			text += length + (text[length] == ',');
			err = add_switch(settings, name, length, error);
		}
		first = false;
	}
	free(value);
	return err;
}

struct nr_qemu_setting *nr_qemu_find(struct nr_qemu_settings *settings, const char *prefix,
				     const char *name)
{
	size_t length = strlen(prefix);

	/* As in qemu, the last one counts. */
	for (size_t i = settings->count; i-- > 0;) {
		struct nr_qemu_setting *one = &settings->item[i];

		if (strncmp(one->name, prefix, length) != 0 ||
		    strcmp(one->name + length, name) != 0)
			continue;
		for (size_t j = 0; j <= i; j++)
			if (strcmp(settings->item[j].name, one->name) == 0)
				settings->item[j].used = true;
		return one;
	}
	return NULL;
}

bool nr_qemu_has(const struct nr_qemu_settings *settings, const char *prefix)
{
	for (size_t i = 0; i < settings->count; i++)
		if (strncmp(settings->item[i].name, prefix, strlen(prefix)) == 0)
			return true;
	return false;
}

const struct nr_qemu_setting *nr_qemu_unused(const struct nr_qemu_settings *settings)
{
	for (size_t i = 0; i < settings->count; i++)
		if (!settings->item[i].used)
			return &settings->item[i];
	return NULL;
}
