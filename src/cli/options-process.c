/* SPDX-License-Identifier: BSD-3-Clause */
/* Values of the options about the process: its log, its name, its sandbox. */
#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "src/cli/options-take.h"
#include "src/cli/sandbox.h"

#define NAME_MAX_BYTES 64 /* of --name */
#define FIELD(name) offsetof(struct nr_options, name)

int nr_take_log(struct nr_options *options, const char *value, struct nr_error *error)
{
	static const struct {
		const char *name, *target;
	} names[] = {
		{ "default", "default" }, { "stderr", "stderr" },    { "syslog", "syslog" },
		{ "journal", "journal" }, { "journald", "journal" }, { "null", "null" },
		{ "none", "null" },
	};

	options->log = value[0] == '/' ? value : NULL;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (strcmp(value, names[i].name) == 0)
			options->log = names[i].target;
	if (!options->log)
		return nr_error_set(
			error, -EINVAL,
			"--log=%s is not possible: write stderr, syslog, journal, null, default, "
			"or a path that begins with /",
			value);
	return 0;
}

int nr_take_name(struct nr_options *options, const char *value, struct nr_error *error)
{
	static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
				      "0123456789._@+-";
	size_t length = strlen(value);

	/* What the system log takes for the end of a name must not be in one. */
	if (length == 0 || length > NAME_MAX_BYTES || value[strspn(value, allowed)] != '\0')
		return nr_error_set(error, -EINVAL,
				    "--name=%s is not possible: write 1 to %d letters, digits, "
				    "dots, dashes, and _ @ +",
				    value, NAME_MAX_BYTES);
	options->name = value;
	return 0;
}

int nr_take_sandbox(struct nr_options *options, const char *value, struct nr_error *error)
{
	static const char *const names[] = {
		[NR_SANDBOX_AUTO] = "auto",
		[NR_SANDBOX_ON] = "on",
		[NR_SANDBOX_OFF] = "off",
	};

	for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (strcmp(value, names[i]) == 0) {
			options->sandbox = i;
			return 0;
		}
	}
	return nr_error_set(error, -EINVAL, "--sandbox=%s is not possible: write auto, on or off",
			    value);
}

static const struct {
	const char *name;
	size_t offset; /* of an unsigned; 0 (the action, which no flag sets): none */
} debug_flags[] = {
	{ "nbdring.plan", FIELD(debug_plan) },
	/* nbdkit's own, in many scripts; what they silence is never said here. */
	{ "nbdkit.backend.controlpath", 0 },
	{ "nbdkit.backend.datapath", 0 },
};

int nr_take_debug(struct nr_options *options, const char *value, struct nr_error *error)
{
	size_t length = strcspn(value, "=");

	for (size_t i = 0; i < sizeof(debug_flags) / sizeof(debug_flags[0]); i++) {
		unsigned number = 0;
		int err;

		if (strlen(debug_flags[i].name) != length ||
		    memcmp(debug_flags[i].name, value, length) != 0)
			continue;
		if (value[length] != '=')
			return nr_error_set(error, -EINVAL, "-D %s needs a number: write -D %s=1",
					    value, value);
		err = nr_take_number(debug_flags[i].name, value + length + 1, INT32_MAX, &number,
				     error);
		if (!err && debug_flags[i].offset)
			*(unsigned *)((char *)options + debug_flags[i].offset) = number;
		return err;
	}
	return nr_error_set(error, -EINVAL,
			    "-D %s: there is no such debug flag; there are %s=N, %s=N and %s=N",
			    value, debug_flags[0].name, debug_flags[1].name, debug_flags[2].name);
}
