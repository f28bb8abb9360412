/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * qemu's two ways to write settings, as one list of names and values:
 *
 *	driver=raw,offset=1M,file.driver=file,file.filename=disk,,1.img
 *	{"driver": "raw", "offset": 1048576, "file": {"driver": "file", "filename": "disk,1.img"}}
 *
 * are both driver, offset, file.driver and file.filename.  Numbers are kept as they are
 * written; true and false are "on" and "off"; null is NULL.
 */
#ifndef SRC_CLI_QEMU_SETTINGS_H
#define SRC_CLI_QEMU_SETTINGS_H

#include <stdbool.h>
#include <stddef.h>

#include "nbdring/error.h"

#define NR_QEMU_SETTINGS_MAX 256
#define NR_QEMU_DEPTH_MAX 16

struct nr_qemu_setting {
	char *name;
	char *value; /* NULL: null */
	bool used;   /* nr_qemu_find has been asked for it */
};

struct nr_qemu_settings {
	size_t count;
	struct nr_qemu_setting *item;
};

/* IMPLIED, if not NULL, is the name of a first word without one.  Give back in any case. */
int nr_qemu_read_options(struct nr_qemu_settings *settings, const char *text, const char *implied,
			 struct nr_error *error);
int nr_qemu_read_json(struct nr_qemu_settings *settings, const char *text, struct nr_error *error);
void nr_qemu_settings_free(struct nr_qemu_settings *settings);

/* The setting PREFIX followed by NAME, marked as used; NULL when there is none. */
struct nr_qemu_setting *nr_qemu_find(struct nr_qemu_settings *settings, const char *prefix,
				     const char *name);
/* Is there a setting whose name begins with PREFIX? */
bool nr_qemu_has(const struct nr_qemu_settings *settings, const char *prefix);
/* The first that nobody has asked for, or NULL. */
const struct nr_qemu_setting *nr_qemu_unused(const struct nr_qemu_settings *settings);

/* Add one; for both readers.  LENGTHs in bytes; VALUE NULL: null. */
int nr_qemu_add(struct nr_qemu_settings *settings, const char *name, size_t name_length,
		const char *value, size_t value_length, struct nr_error *error);

#endif
