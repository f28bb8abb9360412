/* SPDX-License-Identifier: BSD-3-Clause */
/* The rules of access: those of the command line, then those of the file. */
#include "src/cli/access.h"

#include <errno.h>

#include "src/log/log.h"
#include "src/server/access-parse.h"

int nr_read_access(struct nr_access **out, const struct nr_options *options, struct nr_error *error)
{
	struct nr_access *access;
	int err = 0;

	*out = NULL;
	if (!options->access_file && !options->access_rules.count)
		return 0;
	access = nr_access_new();
	if (!access)
		return nr_error_system(error, -ENOMEM, "the rules of access");
	for (size_t i = 0; !err && i < options->access_rules.count; i++)
		err = nr_access_add_rule(access, options->access_rules.item[i], error);
	if (!err && options->access_file)
		err = nr_access_add_file(access, options->access_file, error);
	if (err)
		nr_access_unref(access);
	else
		*out = access;
	return err;
}

void nr_reload_access(struct nr_server *server, const struct nr_options *options)
{
	struct nr_access *access;
	struct nr_error error;

	if (!options->access_file)
		return;
	if (nr_read_access(&access, options, &error) < 0) {
		nr_log(NR_LOG_ERROR, NR_LOG_SERVER,
		       "the rules of access that were in force stay: %s", error.text);
		return;
	}
	nr_log(NR_LOG_INFO, NR_LOG_SERVER, "%zu rules of access are in force from now on",
	       access->rule_count);
	nr_server_set_access(server, access);
	nr_access_unref(access);
}
